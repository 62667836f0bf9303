/* Whom a fault view leaves out, and the kills that come before it (rules M4, M5). */
#include "membership/core/core_expel.h"

#include "membership/core/core_common.h"

/* Distinct members that accuse the seat of missed deadlines. A seat that itself accuses another
 * was waiting, not stuck: it is no root of the wait-for graph (rule D3). */
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

/* Whom the fault view leaves out: hard evidence and silence always; of those that only missed
 * deadlines the one with most root accusers, and none where somebody is gone for whom they may have
 * waited (so the one that is killed does not take the next along). One that is stuck itself is left
 * out at the drain bound. */
bool eepi_core_is_expelled(const eepi_core *core, int seat)
{
    int kind = eepi_core_evidence(core, seat), mine;

    if (kind == NO_EVIDENCE) {
        return 0;
    }
    if (kind != EEP_FAULT_DEADLINE) {
        return 1;
    }
    mine = root_accusers(core, seat);
    for (int other = 0; other < core->config.shape.max_ranks; other++) {
        int count;
        if (other == seat || eepi_core_evidence(core, other) == NO_EVIDENCE) {
            continue;
        }
        if (eepi_core_evidence(core, other) != EEP_FAULT_DEADLINE) {
            return 0;
        }
        count = root_accusers(core, other);
        if (count > mine || (count == mine && other < seat)) {
            return 0;
        }
    }
    return 1;
}

/* Killing precedes the commit: 1 once all whom we expel are gone, cannot be killed, or did not end
 * within the drain bound (then they are quarantined). */
bool eepi_core_all_killed(eepi_core *core)
{
    int waiting = 0;

    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        uint32_t generation = eepi_view_seat_at(core->view, seat)->generation;
        uint64_t bound_us;
        if (!core->config.kill_fence || !eepi_view_is_member(core->view, seat) ||
            !eepi_core_is_expelled(core, seat) || eepi_core_has_exited(core, seat, generation)) {
            continue;
        }
        if (peer->killed_generation != generation && !eepi_core_has_room(core)) {
            waiting = 1; /* the rest in the next round */
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
            waiting = 1;
            eepi_core_wake_at(core, bound_us);
        }
    }
    return !waiting;
}

/* A kill that was asked for may not have come yet: a victim that is no longer to go is killed only
 * if it is asked for again. */
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

int eepi_core_wants_killed(const eepi_core *core, int seat, uint32_t generation)
{
    const eepi_view_seat *s = eepi_view_seat_at(core->view, seat);

    if (core->peers[seat].killed_generation != generation || s->generation != generation) {
        return 0;
    }
    return eepi_view_is_member(core->view, seat)
               ? eepi_core_is_expelled(core, seat)
               : s->state == EEP_SEAT_QUARANTINED &&
                     !eepi_core_stores_have_ended(core, seat, generation);
}
