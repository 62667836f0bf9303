/* SPDX-License-Identifier: Apache-2.0 */
/* Whom a fault view leaves out, and the kills that come before it (rules M4, M5). */
#include "membership/core/core_expel.h"

#include "membership/core/core_common.h"
#include "membership/core/core_turn.h"
#include "membership/hosts/host_cut.h"

#include <string.h>

/* Of those that only missed deadlines it is the one with most root accusers. It is none of them
 * where another one is left out for which they may have waited; so the one that is killed does not
 * take the next along. One that is stuck itself does not report, and is left out at the drain
 * bound. */
static bool is_first_root(const eepi_core *core, int seat)
{
    const int own = eepi_core_root_accusers(core, seat);

    if (eepi_core_is_own_root(core)) {
        return false;
    }
    for (int other = 0; other < core->config.shape.max_ranks; other++) {
        const int kind = eepi_core_evidence(core, other);
        int count;
        if (other == seat || kind == NO_EVIDENCE) {
            continue;
        }
        if (kind != EEP_FAULT_DEADLINE) {
            return false;
        }
        count = eepi_core_root_accusers(core, other);
        if (count > own || (count == own && other < seat)) {
            return false;
        }
    }
    return true;
}

/* ------------------------------------------------------------------ words (rule P11) */

void eepi_core_on_word(eepi_core *core, const eepi_suspect *suspect)
{
    core_peer *peer = &core->peers[suspect->seat];
    const bool is_own = suspect->seat == core->config.seat;

    if (!core->has_view || !eepi_view_has(core->view, suspect->seat, suspect->generation) ||
        (is_own && suspect->kind != EEP_FAULT_DEVICE)) {
        return;
    }
    if (!eepi_core_is_stronger(suspect->kind, eepi_core_own_word(core, suspect->seat))) {
        return;
    }
    if (eepi_core_own_word(core, suspect->seat) == NO_EVIDENCE) {
        peer->said_epoch = 0;
    }
    core->num_said += peer->said == NO_EVIDENCE;
    peer->said = suspect->kind;
    peer->said_generation = suspect->generation;
    peer->kept_epoch = 0;
    eepi_core_note(core, EEPI_ACTION_SUSPECTED)->suspect = *suspect;
}

void eepi_core_hear_word(eepi_core *core, const eepi_report *report, const eepi_suspect *suspect)
{
    core_peer *peer = &core->peers[suspect->seat];

    if (!core->has_view || !eepi_view_has(core->view, suspect->seat, suspect->generation)) {
        return;
    }
    core->peers[report->seat].report_words[suspect->seat / 64] |= 1ull << (suspect->seat % 64);
    if (peer->heard_epoch != report->epoch || peer->heard_generation != suspect->generation) {
        peer->heard = NO_EVIDENCE;
    }
    peer->heard_epoch = report->epoch;
    core->heard_epoch = core->heard_epoch > report->epoch ? core->heard_epoch : report->epoch;
    peer->heard_generation = suspect->generation;
    if (eepi_core_is_stronger(suspect->kind, peer->heard)) {
        peer->heard = suspect->kind;
        eepi_core_note(core, EEPI_ACTION_SUSPECTED)->suspect = *suspect;
    }
}

/* A fault view decides on the words of this rank's first report under the view before: whoever
 * proposes it has heard a report of each member that stays, and this rank's later ones say no less.
 * What was said after that report may not have been heard, and is said again under the new view. */
void eepi_core_settle_words(eepi_core *core, const eepi_view *next)
{
    for (int seat = 0; core->has_view && seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        if (peer->said == NO_EVIDENCE) {
            continue;
        }
        if (!eepi_view_has(next, seat, peer->said_generation)) {
            peer->said = NO_EVIDENCE;
            core->num_said--;
        } else if (next->cause == EEPI_VIEW_FAULT && next->base_digest == core->view->digest &&
                   peer->said_epoch == core->view->epoch) {
            peer->said = NO_EVIDENCE;
            core->num_said--;
            peer->kept_epoch = next->epoch;
        }
    }
}

eepi_verdict eepi_core_verdict(const eepi_core *core, int seat, uint32_t generation)
{
    const core_peer *peer = &core->peers[seat];
    const bool is_of_it = peer->said_generation == generation;

    return (eepi_verdict){
        .is_in = core->has_view && eepi_view_has(core->view, seat, generation),
        .waits = is_of_it && eepi_core_own_word(core, seat) != NO_EVIDENCE,
        .kept_epoch = is_of_it ? peer->kept_epoch : 0,
    };
}

static bool has(const uint64_t *seats, int seat)
{
    return seats[seat / 64] >> (seat % 64) & 1u;
}

/* This rank's own word accuses a pair of hosts (rule N10). */
static bool accuses_pair(const eepi_core *core, int seat)
{
    return eepi_core_is_of_pair(eepi_core_own_word(core, seat)) &&
           !eepi_core_is_local(core, seat) && core->spared_epoch != core->view->epoch;
}

/* The word of the member `by` counts against the seat under the newest view. */
static bool speaks_against(const eepi_core *core, int by, int seat)
{
    if (core->spared_epoch == core->view->epoch && by != seat) {
        return false;
    }
    if (by != core->config.seat) {
        return eepi_core_has_reported(core, by) && has(core->peers[by].report_words, seat);
    }
    return eepi_core_own_word(core, seat) != NO_EVIDENCE && !accuses_pair(core, seat);
}

/* It has ended, is silent or does not answer; or it says itself that it cannot go on. */
static bool is_certain(const eepi_core *core, int seat)
{
    const int kind = eepi_core_seen(core, seat);

    return (kind != NO_EVIDENCE && kind != EEP_FAULT_DEADLINE) ||
           (eepi_view_is_member(core->view, seat) && speaks_against(core, seat, seat));
}

/* With all of its group: a group serves as a whole. */
static void leave_out(const eepi_core *core, uint64_t *out, int seat)
{
    const int seats = eepi_core_group_seats(core), first = seat - seat % seats;

    for (int mate = first; mate < first + seats; mate++) {
        out[mate / 64] |= 1ull << (mate % 64);
    }
}

static bool is_spoken_of(const eepi_core *core, int seat)
{
    return eepi_core_own_word(core, seat) != NO_EVIDENCE ||
           core->peers[seat].heard_epoch == core->view->epoch;
}

/* How many members speak against the seat, without those that are left out themselves: the word of
 * a rank that is at fault is worth nothing. */
static int num_words(const eepi_core *core, const uint64_t *out, int seat)
{
    int num = 0;

    for (int by = 0; is_spoken_of(core, seat) && by < core->config.shape.max_ranks; by++) {
        num += by != seat && eepi_view_is_member(core->view, by) && !has(out, by) &&
               speaks_against(core, by, seat);
    }
    return num;
}

/* Somebody stays, too, where the group of the seat is left out. */
static bool somebody_stays(const eepi_core *core, const uint64_t *out, int without)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        if (eepi_view_is_member(core->view, seat) && !has(out, seat) &&
            !eepi_view_are_mates(&core->config.shape, seat, without)) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ hosts (rule N10) */

static const uint64_t *unheard_by(const void *user, int by)
{
    const eepi_core *core = user;

    if (by == core->config.seat) {
        return core->own_unheard;
    }
    return eepi_core_has_reported(core, by) ? core->peers[by].report_unheard : NULL;
}

static bool can_be_restored(const eepi_core *core, const uint64_t *out, int layer, int expert)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        if (eepi_view_is_member(core->view, seat) && !has(out, seat) &&
            (eepi_view_holds(core->view, layer, seat, expert) ||
             eepi_view_has_backup(core->view, seat, layer, expert) ||
             eepi_view_has_checkpoint(core->view, seat))) {
            return true;
        }
    }
    return false;
}

/* What no slot, backup or file has without these seats, and those that are certain to go. */
static uint64_t num_lost(const void *user, const uint64_t *more)
{
    const eepi_core *core = user;
    const eepi_view_shape *shape = &core->config.shape;
    uint64_t out[EEPK_SEAT_WORDS] = {0}, lost = 0;

    for (int seat = 0; seat < shape->max_ranks; seat++) {
        if (has(more, seat) || is_certain(core, seat)) {
            leave_out(core, out, seat);
        }
    }
    for (int layer = 0; layer < shape->num_layers; layer++) {
        for (int expert = 0; expert < shape->num_experts; expert++) {
            lost += !can_be_restored(core, out, layer, expert);
        }
    }
    return lost;
}

static bool find_own_unheard(eepi_core *core)
{
    bool any = false;

    memset(core->own_unheard, 0, sizeof core->own_unheard);
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        if (eepi_core_is_unheard(core, seat) || accuses_pair(core, seat)) {
            core->own_unheard[seat / 64] |= 1ull << (seat % 64);
            any = true;
        }
    }
    return any;
}

void eepi_core_find_cut(eepi_core *core)
{
    uint64_t members[EEPK_SEAT_WORDS] = {0}, certain[EEPK_SEAT_WORDS] = {0}, cut[EEPK_SEAT_WORDS];
    const eepi_host_cut given = {.seats = eepi_view_seat_at(core->view, 0),
                                 .max_ranks = core->config.shape.max_ranks,
                                 .members = members,
                                 .accused = unheard_by,
                                 .num_lost = num_lost,
                                 .user = core};

    memset(core->cut, 0, sizeof core->cut);
    memset(core->unheard, 0, sizeof core->unheard);
    if (!find_own_unheard(core) && core->pairs_epoch < core->view->epoch) {
        return;
    }
    for (int seat = 0; seat < given.max_ranks; seat++) {
        if (is_certain(core, seat)) {
            leave_out(core, certain, seat);
        }
    }
    for (int seat = 0; seat < given.max_ranks; seat++) {
        if (eepi_view_is_member(core->view, seat) && !has(certain, seat)) {
            members[seat / 64] |= 1ull << (seat % 64);
        }
    }
    (void)eepi_host_cut_find(&given, cut, core->unheard);
    for (int seat = 0; seat < given.max_ranks; seat++) {
        if (has(cut, seat)) {
            leave_out(core, core->cut, seat);
        }
    }
}

void eepi_core_spare(eepi_core *core)
{
    core->spared_epoch = core->view->epoch;
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        for (int word = 0; word < EEPK_SEAT_WORDS; word++) {
            core->peers[seat].report_unheard[word] &= ~core->peers[seat].report_resets[word];
        }
    }
}

bool eepi_core_is_cut(const eepi_core *core, int seat)
{
    return has(core->cut, seat);
}

bool eepi_core_is_in_pair(const eepi_core *core, int seat)
{
    return has(core->unheard, seat);
}

/* ------------------------------------------------------------------ who goes */

/* The group from `first` on is left out for more than the words of those who are left out, too: one
 * that accuses the next may itself be accused by more. */
static bool keeps_an_accuser(const eepi_core *core, const uint64_t *out, int first)
{
    for (int seat = first; seat < first + eepi_core_group_seats(core); seat++) {
        if (is_certain(core, seat) || has(core->cut, seat) || num_words(core, out, seat) > 0) {
            return true;
        }
    }
    return false;
}

static void take_back(const eepi_core *core, uint64_t *out, int first)
{
    for (int seat = first; seat < first + eepi_core_group_seats(core); seat++) {
        out[seat / 64] &= ~(1ull << (seat % 64));
    }
}

/* Those that are certain to be left out, then by words the one that most speak against, as long as
 * there is one. Of two that accuse each other one stays. Words never leave out the last. */
static void find_out(const eepi_core *core, uint64_t *out)
{
    int worst;

    memset(out, 0, EEPK_SEAT_WORDS * sizeof *out);
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        if (is_certain(core, seat) || has(core->cut, seat)) {
            leave_out(core, out, seat);
        }
    }
    do {
        int most = 0;
        worst = NOBODY;
        for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
            const int num = eepi_view_is_member(core->view, seat) && !has(out, seat)
                                ? num_words(core, out, seat)
                                : 0;
            if (num > 0 && num >= most && somebody_stays(core, out, seat)) {
                most = num;
                worst = seat;
            }
        }
        if (worst != NOBODY) {
            leave_out(core, out, worst);
        }
    } while (worst != NOBODY);
    for (int seat = 0; seat < core->config.shape.max_ranks; seat += eepi_core_group_seats(core)) {
        if (has(out, seat) && !keeps_an_accuser(core, out, seat)) {
            take_back(core, out, seat);
        }
    }
}

/* That may count under the newest view. */
static bool are_words(const eepi_core *core)
{
    return core->num_said > 0 || core->heard_epoch == core->view->epoch;
}

/* A member that ended or is silent is always left out, then those that words speak against, and
 * one that only missed deadlines where it is none of them, and somebody stays. */
bool eepi_core_is_expelled(const eepi_core *core, int seat)
{
    const int seats = eepi_core_group_seats(core), first = seat - seat % seats;
    uint64_t out[EEPK_SEAT_WORDS] = {0};

    for (int mate = first; mate < first + seats; mate++) {
        if (is_certain(core, mate)) {
            return true;
        }
    }
    if (has(core->cut, seat)) {
        return true;
    }
    if (are_words(core)) {
        find_out(core, out);
        if (has(out, seat)) {
            return true;
        }
    }
    for (int mate = first; mate < first + seats; mate++) {
        if (eepi_core_evidence(core, mate) == EEP_FAULT_DEADLINE && is_first_root(core, mate) &&
            somebody_stays(core, out, mate)) {
            return true;
        }
    }
    return false;
}

bool eepi_core_is_out_by_words(const eepi_core *core, int seat)
{
    const int seats = eepi_core_group_seats(core), first = seat - seat % seats;

    for (int mate = first; mate < first + seats; mate++) {
        if (is_certain(core, mate) || has(core->cut, mate) ||
            eepi_core_seen(core, mate) != NO_EVIDENCE) {
            return false;
        }
    }
    return eepi_core_is_expelled(core, seat);
}

bool eepi_core_is_past_help(const eepi_core *core)
{
    const int seats = eepi_core_group_seats(core);
    const int first = core->config.seat - core->config.seat % seats;

    for (int mate = first; mate < first + seats; mate++) {
        if (eepi_core_seen(core, mate) == EEP_FAULT_EXIT || speaks_against(core, mate, mate)) {
            return true;
        }
    }
    return false;
}

/* A kill that was asked for may still come. One that has not ended within the drain bound, or that
 * no kill reaches, lives on. */
static bool is_being_killed(const eepi_core *core, int seat)
{
    const core_peer *peer = &core->peers[seat];
    const uint32_t generation = eepi_view_seat_at(core->view, seat)->generation;

    return peer->killed_generation == generation && peer->unkillable_generation != generation &&
           core->now_us < peer->killed_us + core->config.drain_bound_us;
}

bool eepi_core_may_stay(const eepi_core *core, int seat)
{
    const int seats = eepi_core_group_seats(core), first = seat - seat % seats;

    for (int mate = first; mate < first + seats; mate++) {
        if (is_certain(core, mate) || !eepi_core_has_reported(core, mate) ||
            (has(core->cut, mate) && core->spared_epoch == core->view->epoch) ||
            is_being_killed(core, mate)) {
            return false;
        }
    }
    return eepi_core_is_expelled(core, seat);
}

/* Rule N13: two that both propose may know different reports, and kill each other. So whoever kills
 * has its own report in the store, and has read those of the others again behind that. */
static bool may_kill(eepi_core *core)
{
    if (core->acknowledged_epoch < core->view->epoch) {
        return false;
    }
    if (core->reread_epoch != core->view->epoch) {
        core->reread_epoch = core->view->epoch;
        core->was_reread = false;
        eepi_core_act(core, EEPI_ACTION_LISTEN);
    }
    return core->was_reread;
}

/* Killing precedes the commit. Nobody waits any more for one that has ended, that no kill reaches,
 * or that has not ended within the drain bound; the last two are quarantined. Of another host none
 * is killed (N13): it is behind gates, and its own host kills it after the commit. */
bool eepi_core_all_killed(eepi_core *core)
{
    bool waiting = false;

    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        uint32_t generation = eepi_view_seat_at(core->view, seat)->generation;
        if (!core->config.kill_fence || seat == core->config.seat ||
            !eepi_view_is_member(core->view, seat) || !eepi_core_is_expelled(core, seat) ||
            eepi_core_has_exited(core, seat, generation) || !eepi_core_is_local(core, seat)) {
            continue;
        }
        if (!may_kill(core)) {
            return false;
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
                (eepi_suspect){seat, generation, eepi_core_cause(core, seat, generation)};
        }
        if (is_being_killed(core, seat)) {
            waiting = true;
            eepi_core_wake_at(core, peer->killed_us + core->config.drain_bound_us);
        }
    }
    return !waiting;
}

/* Rule N13: a rank of another host proposed the view that this one is not in any more. Whoever
 * shares memory with it kills it. One that has left as it asked is quarantined, too, and lives on.
 */
void eepi_core_kill_behind_gates(eepi_core *core)
{
    for (int seat = 0; seat < core->config.shape.max_ranks && core->config.kill_fence; seat++) {
        const eepi_view_seat *s = eepi_view_seat_at(core->view, seat);
        core_peer *peer = &core->peers[seat];
        if (s->state != EEP_SEAT_QUARANTINED || peer->expelled_generation != s->generation ||
            !eepi_core_is_local(core, seat) || core->view->proposer < 0 ||
            eepi_core_is_local(core, core->view->proposer) ||
            peer->killed_generation == s->generation ||
            eepi_core_has_exited(core, seat, s->generation)) {
            continue;
        }
        if (!eepi_core_has_room(core)) {
            eepi_core_wake_at(core, core->now_us);
            return;
        }
        peer->killed_generation = s->generation;
        peer->killed_us = core->now_us;
        eepi_core_act(core, EEPI_ACTION_KILL)->suspect =
            (eepi_suspect){seat, s->generation, EEP_FAULT_SILENT};
    }
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
