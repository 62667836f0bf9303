/* SPDX-License-Identifier: Apache-2.0 */
/* Whom a fault view leaves out, and the kills that come before it (rules M4, M5). */
#include "membership/core/core_expel.h"

#include "membership/core/core_common.h"

/* How many members accuse the seat of missed deadlines. A seat that itself accuses another one was
 * waiting, not stuck: it is no root of the wait-for graph (D3: an abort names who was waited for).
 */
static int root_accusers(const eepi_core *core, int seat)
{
    const core_peer *accused = &core->peers[seat];
    int accusers = core->peers[seat].evidence == EEP_FAULT_DEADLINE;

    for (int word = 0; word < EEPK_SEAT_WORDS && eepi_core_has_reported(core, seat); word++) {
        if (accused->report_accused[word]) {
            return 0;
        }
    }
    for (int other = 0; other < core->config.shape.max_ranks; other++) {
        if (other != seat && other != core->config.seat && eepi_core_has_reported(core, other)) {
            accusers += core->peers[other].report_accused[seat / 64] >> (seat % 64) & 1u;
        }
    }
    return accusers;
}

/* A member that ended or is silent is always left out. Of those that only missed deadlines it is
 * the one with most root accusers. It is none of them where another one is left out for which they
 * may have waited; so the one that is killed does not take the next along. One that is stuck itself
 * does not report, and is left out at the drain bound. */
bool eepi_core_is_expelled(const eepi_core *core, int seat)
{
    int kind = eepi_core_evidence(core, seat), own;

    if (kind == NO_EVIDENCE) {
        return false;
    }
    if (kind != EEP_FAULT_DEADLINE) {
        return true;
    }
    own = root_accusers(core, seat);
    for (int other = 0; other < core->config.shape.max_ranks; other++) {
        int count;
        if (other == seat || eepi_core_evidence(core, other) == NO_EVIDENCE) {
            continue;
        }
        if (eepi_core_evidence(core, other) != EEP_FAULT_DEADLINE) {
            return false;
        }
        count = root_accusers(core, other);
        if (count > own || (count == own && other < seat)) {
            return false;
        }
    }
    return true;
}

/* Killing precedes the commit. Nobody waits any more for one that has ended, that no kill reaches,
 * or that has not ended within the drain bound; the last two are quarantined. */
bool eepi_core_all_killed(eepi_core *core)
{
    bool waiting = false;

    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        uint32_t generation = eepi_view_seat_at(core->view, seat)->generation;
        uint64_t bound_us;
        if (!core->config.kill_fence || !eepi_view_is_member(core->view, seat) ||
            !eepi_core_is_expelled(core, seat) || eepi_core_has_exited(core, seat, generation)) {
            continue;
        }
        if (peer->killed_generation != generation && !eepi_core_has_room(core)) {
            waiting = true; /* the rest in the next round */
            eepi_core_wake_at(core, core->now_us);
            continue;
        }
        if (peer->killed_generation != generation) {
            peer->killed_generation = generation;
            peer->killed_us = core->now_us;
            eepi_core_act(core, EEPI_ACTION_KILL)->suspect =
                (eepi_suspect){seat, generation, peer->evidence};
        }
        bound_us = peer->killed_us + core->config.drain_bound_us;
        if (core->now_us < bound_us && peer->unkillable_generation != generation) {
            waiting = true;
            eepi_core_wake_at(core, bound_us);
        }
    }
    return !waiting;
}

/* A kill that was asked for may not have been done yet. A member that is not expelled any more is
 * killed only if that is asked for again. */
void eepi_core_retract_kills(eepi_core *core)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        if (peer->killed_generation != 0 &&
            eepi_view_has(core->view, seat, peer->killed_generation) &&
            !eepi_core_is_expelled(core, seat)) {
            peer->killed_generation = 0;
        }
    }
}

bool eepi_core_wants_killed(const eepi_core *core, int seat, uint32_t generation)
{
    const eepi_view_seat *s = eepi_view_seat_at(core->view, seat);

    if (core->peers[seat].killed_generation != generation || s->generation != generation) {
        return false;
    }
    return eepi_view_is_member(core->view, seat)
               ? eepi_core_is_expelled(core, seat)
               : s->state == EEP_SEAT_QUARANTINED &&
                     !eepi_core_process_has_ended(core, seat, generation);
}
