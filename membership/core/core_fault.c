/* SPDX-License-Identifier: Apache-2.0 */
/* The fault side of the membership core: wedge, report, propose, repair, install (rules M1, M2, M4,
 * M5). All of it is looked at again at every input. */
#include "membership/core/core_fault.h"

#include "membership/core/core_common.h"
#include "membership/core/core_draft.h"
#include "membership/core/core_ends.h"
#include "membership/core/core_expel.h"
#include "membership/core/core_members.h"
#include "membership/core/core_rebalance.h"
#include "membership/core/core_turn.h"
#include "membership/core/core_check.h"
#include "repair/placement.h"
#include "repair/planner/planner.h"

#include <assert.h>
#include <string.h>

enum {
    LEAST_WORD_US = 100000,
    NOBODY_DECIDES = 3,      /* drain bounds: for the reports, for the kills, and one to spare */
    MORE_SUSPECTS_US = 2000, /* a host's ranks fall silent one by one, and are told in one report */
};

/* A member is suspected, or has stopped under this view: no step can complete. */
static bool must_wedge(const eepi_core *core)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        if (eepi_core_evidence(core, seat) != NO_EVIDENCE) {
            return true;
        }
    }
    return eepi_core_own_word(core, core->config.seat) != NO_EVIDENCE ||
           core->reported_epoch >= core->view->epoch || core->sought_epoch == core->view->epoch ||
           eepi_core_is_given_up(core);
}

/* A member has taken back that it can read the checkpoint: its file is cut off, or has other bytes.
 */
static bool has_lost_its_file(const eepi_core *core, int seat)
{
    const core_peer *peer = &core->peers[seat];

    return eepi_view_has_checkpoint(core->view, seat) && !peer->has_checkpoint &&
           peer->generation == eepi_view_seat_at(core->view, seat)->generation;
}

/* A slot of the seat is to be filled from a file that has proved bad. */
static bool fills_from_lost_file(const eepi_core *core, int seat)
{
    const eepi_view_shape *shape = &core->view->shape;

    for (int i = 0; i < shape->num_layers * shape->num_slots; i++) {
        const eepi_view_slot *slot =
            eepi_view_slot_at(core->view, i / shape->num_slots, seat, i % shape->num_slots);
        if (slot->state == EEPI_SLOT_FILLING && eepi_source_is_file(slot->source) &&
            has_lost_its_file(core, eepi_source_seat(slot->source, seat))) {
            return true;
        }
    }
    return false;
}

/* Rule R2: a plan whose fills have lost their source is void, or the pause would have no end. Who
 * has filled its slots needs no source any more: it found another one. */
static bool is_plan_void(const eepi_core *core)
{
    bool any_lost = false;

    for (int seat = 0; seat < core->view->shape.max_ranks; seat++) {
        any_lost |= has_lost_its_file(core, seat);
    }
    if (!any_lost || core->view->phase != EEPI_VIEW_REPAIRING) {
        return false;
    }
    for (int seat = 0; seat < core->view->shape.max_ranks; seat++) {
        if (core->peers[seat].filled_digest != core->view->digest &&
            fills_from_lost_file(core, seat)) {
            return true;
        }
    }
    return false;
}

/* What this rank reports against a seat: its own observations, ends, which stay true, and what its
 * engine says. What it heard from others, they report themselves. Repeated, silence that its
 * observer has taken back would go round for ever, and every hearer would count as one more
 * accuser. */
static int own_evidence(const eepi_core *core, int seat)
{
    const int seen = eepi_core_seen(core, seat), word = eepi_core_own_word(core, seat);

    if (seen == EEP_FAULT_EXIT || word != NO_EVIDENCE) {
        return seen == EEP_FAULT_EXIT ? seen : word;
    }
    if (eepi_core_is_unheard(core, seat)) {
        return EEP_FAULT_SILENT;
    }
    return core->peers[seat].evidence_by == core->config.seat ? seen : NO_EVIDENCE;
}

/* Changes whenever the set of own suspects does. */
static uint64_t suspects_key(const eepi_core *core)
{
    uint64_t key = 0;

    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        int kind = own_evidence(core, seat);
        if (kind != NO_EVIDENCE) {
            key = key * 1000003u + (uint64_t)seat * 16 + (uint64_t)kind + 1;
        }
    }
    return key;
}

/* What this rank says against others has changed since its report. */
static bool is_news_due(eepi_core *core, uint64_t key)
{
    if (core->reported_suspects == key) {
        core->news_us = 0;
        return false;
    }
    if (core->news_us == 0) {
        core->news_us = core->now_us;
    }
    if (core->now_us < core->news_us + MORE_SUSPECTS_US) {
        eepi_core_wake_at(core, core->news_us + MORE_SUSPECTS_US);
        return false;
    }
    return true;
}

/* Rule M2: the promise, renewed for each newer document and each change of suspects. */
static void report(eepi_core *core)
{
    uint64_t key = suspects_key(core);
    eepi_action *action;
    int n = 0;

    if (core->reported_epoch == core->view->epoch && !is_news_due(core, key)) {
        return;
    }
    core->news_us = 0;
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        int kind = own_evidence(core, seat);
        if (kind != NO_EVIDENCE) {
            core->suspects[n++] =
                (eepi_suspect){seat, eepi_view_seat_at(core->view, seat)->generation, kind};
        }
        if (core->reported_epoch != core->view->epoch) {
            core->peers[seat].said_epoch = core->view->epoch;
        }
    }
    core->reported_epoch = core->view->epoch;
    core->reported_suspects = key;
    action = eepi_core_act(core, EEPI_ACTION_REPORT);
    action->report = (eepi_report){.seat = core->config.seat,
                                   .generation = core->config.generation,
                                   .epoch = core->view->epoch,
                                   .highest_step = core->highest_step,
                                   .collective = core->collective,
                                   .held = core->held,
                                   .num_suspects = n,
                                   .suspects = core->suspects};
}

/* Until when the promise of a member is waited for. One that lives gives it as soon as its step has
 * ended. So whoever words speak against, and who does not answer, is waited for less long. Of two
 * hosts that do not hear each other one may have ended: if it is the one that would stay, its ranks
 * do not answer either. */
static uint64_t report_bound_us(const eepi_core *core, int seat)
{
    const core_peer *peer = &core->peers[seat];
    const uint64_t bound_us = core->config.drain_bound_us;
    const uint64_t short_us = bound_us / 16 > LEAST_WORD_US ? bound_us / 16 : LEAST_WORD_US;

    if (core->acknowledged_epoch < core->view->epoch) {
        return UINT64_MAX; /* N14: a store that does not take ours does not take theirs */
    }
    if (eepi_core_is_out_by_words(core, seat) ||
        (eepi_core_is_in_pair(core, seat) && !eepi_core_is_cut(core, seat))) {
        return core->drain_from_us + (short_us < bound_us ? short_us : bound_us);
    }
    if (peer->busy_generation == eepi_view_seat_at(core->view, seat)->generation &&
        core->drain_from_us + bound_us < peer->busy_until_us) { /* it said so, and for how long */
        return peer->busy_until_us;
    }
    return core->drain_from_us + bound_us;
}

/* Has every member that stays reported under the view that is to be replaced? A member that has not
 * by the drain bound since this rank listens is suspected as left out (N22). One that has reported
 * under a newer view knows a document which the register has forgotten, and is about to write it
 * back (S2: no epoch is committed twice). */
static bool all_reported(eepi_core *core)
{
    int missing = 0;

    assert(core->listens);
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        uint64_t bound_us;
        if (!eepi_view_is_member(core->view, seat) || seat == core->config.seat ||
            (eepi_core_is_expelled(core, seat) && !eepi_core_is_out_by_words(core, seat)) ||
            (eepi_core_has_reported(core, seat) && peer->report_epoch == core->view->epoch)) {
            continue;
        }
        missing++;
        bound_us = report_bound_us(core, seat);
        if (core->now_us < bound_us) {
            eepi_core_wake_at(core, bound_us);
            continue;
        }
        peer->evidence = EEP_FAULT_LEFT_OUT;
        peer->evidence_by = core->config.seat;
        peer->evidence_generation = eepi_view_seat_at(core->view, seat)->generation;
        eepi_core_note(core, EEPI_ACTION_SUSPECTED)->suspect =
            (eepi_suspect){seat, peer->evidence_generation, EEP_FAULT_LEFT_OUT};
    }
    return missing == 0;
}

static void fail_closed(eepi_core *core)
{
    if (!core->uncovered) {
        eepi_core_act(core, EEPI_ACTION_UNCOVERED)->why = core->why;
    }
    core->uncovered = true;
}

static uint64_t newest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Rule P13: what has ended for one of them has ended for all. A rank that is expelled may be the
 * only one that has taken the result. It may not have said so: then all that stay hold it. */
static void name_collective(const eepi_core *core, eepi_view *draft)
{
    uint64_t all_hold = core->held;

    draft->collective = newest(draft->collective, core->collective);
    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        const core_peer *peer = &core->peers[seat];
        const bool has_said = eepi_view_has(core->view, seat, peer->report_generation);
        if (has_said) {
            draft->collective = newest(draft->collective, peer->report_collective);
        }
        if (eepi_view_is_member(draft, seat) && seat != core->config.seat &&
            (!has_said || peer->report_held < all_hold)) {
            all_hold = has_said ? peer->report_held : 0;
        }
    }
    draft->collective = newest(draft->collective, all_hold);
}

/* The next view: without those who are expelled, from a step that none of its members has started,
 * with windows that none of those who are out can name. */
static eepi_view *draft_fault(eepi_core *core)
{
    eepi_view *draft = eepi_core_draft(core, EEPI_VIEW_FAULT);
    uint64_t highest = core->highest_step;
    bool left_alive = false;

    for (int seat = 0; seat < draft->shape.max_ranks; seat++) {
        eepi_view_seat *s = eepi_view_seat_at(draft, seat);
        core_peer *peer = &core->peers[seat];
        if (peer->report_step > highest) { /* an expelled rank may have been the last to step */
            highest = peer->report_step;
        }
        if (peer->left_epoch == core->view->epoch && !eepi_view_is_member(core->view, seat) &&
            peer->flipped_digest != core->view->digest &&
            !eepi_core_stores_no_more(core, seat, s->generation)) {
            s->state = EEP_SEAT_QUARANTINED; /* it may still be in a step of the view before */
            eepi_core_let_go(core, draft, seat);
        }
        if (!eepi_view_is_member(core->view, seat)) {
            continue;
        }
        if (has_lost_its_file(core, seat)) {
            s->flags &= (uint8_t)~EEPI_SEAT_HAS_CHECKPOINT;
        }
        if (eepi_core_is_expelled(core, seat)) {
            s->state = EEP_SEAT_QUARANTINED;
            eepi_core_let_go(core, draft, seat);
            eepi_core_drop_checkpoint(draft, seat);
            /* The first sign is enough (P8). For a moment such a process may still write back what
             * it alone knows: either that or this draft meets a register that has changed, and the
             * register never has two documents of one epoch. */
            left_alive |=
                !core->config.store_keeps && !eepi_core_has_exited(core, seat, s->generation);
        }
    }
    if (left_alive) { /* it may alone know documents that the store has forgotten */
        draft->epoch = eepi_core_fresh_epoch(core, true);
    }
    if (draft->first_step <= highest) {
        draft->first_step = highest + 1;
    }
    eepi_core_free_behind_gates(draft);
    eepi_core_take_colour(core, draft);
    (void)eepi_core_promote_fills(core, draft); /* what a member has filled already is not lost */
    eepi_plan_empty_nonmembers(draft);
    eepi_core_count_backups(core, draft);
    name_collective(core, draft);
    return draft;
}

/* A rank that only missed deadlines, or that only words speak against, and has reported since,
 * lives. Where experts would be lost with it, the evidence against it is retracted, and it stays
 * (pause, do not shed). That is decided before anybody is killed. No word counts any more then:
 * what one outweighed would count anew, perhaps against this rank, which decides. */
static bool retract_evidence(eepi_core *core)
{
    bool any = false;
    int fills;

    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        any |= eepi_view_is_member(core->view, seat) && eepi_core_may_stay(core, seat);
    }
    if (!any || eepi_core_plan_coverage(core, draft_fault(core), &fills) == EEP_OK) {
        return false;
    }
    any = false;
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        if (!eepi_view_is_member(core->view, seat) || !eepi_core_may_stay(core, seat)) {
            continue;
        }
        any = true;
        peer->evidence = peer->evidence == EEP_FAULT_DEADLINE ? NO_EVIDENCE : peer->evidence;
    }
    if (any) {
        eepi_core_spare(core);
    }
    return any;
}

/* Those that are ready, group by group. How many; -1: a group has come in by half, so that the
 * draft is of no use, and the one that does not fit is not ready any more. */
static int admit_joiners(eepi_core *core, eepi_view *draft)
{
    const int seats = eepi_core_group_seats(core);
    int joiners = 0;

    for (int first = 0; first < draft->shape.max_ranks; first += seats) {
        const bool may = eepi_core_may_join(core, draft, first);
        for (int seat = first; may && seat < first + seats; seat++) {
            const bool fits = eepi_core_admit(core, draft, seat);
            joiners += fits;
            if (!fits && seats > 1) {
                eepi_core_refuse(core, seat);
                return -1;
            }
        }
    }
    return joiners;
}

/* Rule R2: without coverage nobody serves. Processes that are ready to join may bring what is
 * missing: then, and only then, a fault view lets them in. */
static void propose_fault(eepi_core *core)
{
    eepi_view *draft = draft_fault(core);
    int fills = 0, joiners = 0;

    if (eepi_core_plan_coverage(core, draft, &fills) != EEP_OK) {
        do { /* a failed plan leaves the draft in pieces */
            draft = draft_fault(core);
            joiners = admit_joiners(core, draft);
        } while (joiners < 0);
        eepi_core_count_backups(core, draft);
        if (!joiners || eepi_core_plan_coverage(core, draft, &fills) != EEP_OK) {
            fail_closed(core);
            return;
        }
    }
    draft->phase = fills ? EEPI_VIEW_REPAIRING : EEPI_VIEW_SERVING;
    eepi_core_commit(core);
}

/* Rule M1: the second compare-and-swap, once all receivers have verified their weights. */
static void propose_repaired(eepi_core *core)
{
    eepi_view *draft;

    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        if (eepi_view_is_member(core->view, seat) &&
            eepi_plan_fills(core->view, seat, NULL, 0) > 0 &&
            core->peers[seat].filled_digest != core->view->digest) {
            return;
        }
    }
    draft = eepi_core_draft(core, EEPI_VIEW_REPAIRED);
    (void)eepi_plan_filled(draft, -1);
    eepi_core_commit(core);
}

/* The end of the instance was asked for, or all want out, after a fault: nobody will use an expert
 * again, so none is waited for. */
static bool propose_end(eepi_core *core)
{
    eepi_view *draft;

    if (!eepi_core_all_leave(core, core->view)) {
        return false;
    }
    draft = draft_fault(core);
    draft->cause = EEPI_VIEW_PLANNED;
    draft->colour = core->view->colour; /* that of no fault view */
    memcpy(draft->serial, core->view->serial, sizeof draft->serial);
    (void)eepi_core_end_instance(core, draft);
    eepi_core_commit(core);
    return true;
}

static void wedge(eepi_core *core)
{
    eepi_core_set_status(core, CORE_WEDGED);
    core->wedged_us = core->now_us;
    core->drained = false;
    eepi_core_act(core, EEPI_ACTION_WEDGE);
}

static void install(eepi_core *core)
{
    eepi_core_set_status(core, CORE_SERVING);
    core->installed_epoch = core->view->epoch;
    eepi_core_act(core, EEPI_ACTION_INSTALL)->view = core->view;
}

/* A committed planned view: switch in-band, or at once for a rank that is new in it. */
static void take_up_planned(eepi_core *core)
{
    if (core->status == CORE_OUTSIDE) {
        install(core);
    } else if (core->announced_digest != core->view->digest) {
        core->announced_digest = core->view->digest;
        eepi_core_act(core, EEPI_ACTION_ANNOUNCE)->view = core->view;
    }
}

/* Fill this rank's slots; that is asked for once per document. */
static void advance_repair(eepi_core *core)
{
    if (core->peers[core->config.seat].filled_digest != core->view->digest &&
        core->announced_digest != core->view->digest) {
        core->announced_digest = core->view->digest;
        eepi_core_act(core, EEPI_ACTION_FILL)->view = core->view;
    }
}

static bool any_is_suspected(const eepi_core *core)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        if (eepi_core_evidence(core, seat) != NO_EVIDENCE) {
            return true;
        }
    }
    return false;
}

/* Serving, or outside, and nothing is wrong with the newest view: take it up if it is new. */
static void advance_unwedged(eepi_core *core)
{
    if (core->view->epoch <= core->installed_epoch) {
        return;
    }
    if (core->view->cause == EEPI_VIEW_PLANNED) {
        take_up_planned(core);
    } else if (core->view->phase == EEPI_VIEW_SERVING) {
        install(core);
    } else {
        wedge(core); /* REPAIRING: nobody steps */
    }
}

/* No view can have this rank: another one of its group has ended, or one of them has failed. The
 * view that says so may wait for new processes in just these seats, where experts have no other
 * place. So after a while it ends, as a process does that is killed. */
static bool gives_up(eepi_core *core)
{
    const uint64_t bound_us = core->wedged_us + core->config.drain_bound_us;

    if (!eepi_core_is_past_help(core) || eepi_core_all_leave(core, core->view)) {
        return false;
    }
    if (core->now_us < bound_us || core->num_actions > 0) { /* its promise comes first */
        eepi_core_wake_at(core, core->now_us < bound_us ? bound_us : core->now_us);
        return false;
    }
    eepi_core_set_status(core, CORE_OVER);
    eepi_core_act(core, EEPI_ACTION_EVICTED);
    return true;
}

/* A view without this rank is for others to propose, if it has anybody. The last one has nobody. */
static bool leaves_it_to_others(eepi_core *core)
{
    return eepi_core_is_expelled(core, core->config.seat) && !eepi_core_all_leave(core, core->view);
}

/* No word and no missed deadline of those that live counts any more under this view. */
static void spare_all(eepi_core *core)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        if (eepi_core_has_reported(core, seat) && peer->evidence == EEP_FAULT_DEADLINE) {
            peer->evidence = NO_EVIDENCE;
        }
    }
    eepi_core_spare(core);
}

/* Those that this rank left it to have not decided, though all have promised. They may judge by
 * other reports, or have spared somebody for the sake of experts, and leave it to this rank. So it
 * keeps all who live, as where experts would be lost. */
static bool must_decide(eepi_core *core)
{
    const uint64_t bound_us =
        core->wedged_us + NOBODY_DECIDES * (uint64_t)core->config.drain_bound_us;

    if (core->now_us < bound_us) {
        eepi_core_wake_at(core, bound_us);
        return false;
    }
    spare_all(core);
    return !leaves_it_to_others(core);
}

/* Rule M4: leave the suspects out, once all who stay have promised, and those are killed. */
static void advance_proposal(eepi_core *core)
{
    if (!eepi_core_is_own_turn(core) || !core->listens || !all_reported(core) ||
        (leaves_it_to_others(core) && !must_decide(core))) {
        return;
    }
    if (retract_evidence(core)) {
        eepi_core_wake_at(core, core->now_us);
    } else if (eepi_core_all_killed(core) && !propose_end(core)) {
        propose_fault(core);
    }
}

void eepi_core_advance_fault(eepi_core *core)
{
    bool suspected;

    eepi_core_find_cut(core);
    suspected = must_wedge(core);
    assert(core->status != CORE_LEAVING && core->status != CORE_OVER);
    eepi_core_retract_kills(core);
    eepi_core_kill_behind_gates(core);
    if (core->status != CORE_WEDGED && suspected) {
        wedge(core);
    }
    if (core->status != CORE_WEDGED) {
        advance_unwedged(core);
        return;
    }
    if (suspected) {
        eepi_core_tell_wedge(core);
    }
    if (!core->drained) {
        return;
    }
    if (core->view->epoch > core->installed_epoch && core->view->cause != EEPI_VIEW_PLANNED &&
        !suspected && core->view->phase == EEPI_VIEW_SERVING) {
        install(core);
        return;
    }
    report(core);
    eepi_core_tell_wedge(core); /* the promise may be the only reason by now */
    if (gives_up(core)) {
        return;
    }
    if (core->view->phase == EEPI_VIEW_REPAIRING) {
        advance_repair(core);
        /* all members must say that they know nothing newer */
        if (!any_is_suspected(core) && !is_plan_void(core)) {
            if (eepi_core_is_own_turn(core) && core->listens && all_reported(core) &&
                !propose_end(core)) {
                propose_repaired(core);
            }
            return;
        }
    }
    advance_proposal(core);
}
