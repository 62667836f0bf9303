/* SPDX-License-Identifier: Apache-2.0 */
/* What the membership core knows, and how inputs change it. Nothing is decided here. */
#include "membership/core/core_facts.h"

#include "membership/core/core_common.h"
#include "membership/core/core_rebalance.h"
#include "membership/core/core_turn.h"
#include "membership/core/core_ends.h"
#include "membership/core/core_evidence.h"
#include "membership/core/core_expel.h"
#include "membership/core/core_members.h"
#include "membership/core/core_plan.h"
#include "membership/core/core_draft.h"
#include "membership/core/core_check.h"
#include "membership/view/view_reuse.h"

#include <assert.h>
#include <string.h>

enum { READ_AGAIN_US = 200000 };

/* A seat that leaves by a planned view is needed until this rank has switched to that view. */
static void note_left(eepi_core *core, const eepi_view *before, const eepi_view *after)
{
    for (int seat = 0; after->cause == EEPI_VIEW_PLANNED && seat < after->shape.max_ranks; seat++) {
        if (eepi_view_is_member(before, seat) && !eepi_view_is_member(after, seat)) {
            core->peers[seat].left_epoch = after->epoch;
            eepi_core_note_leaver(core, seat, after);
        }
    }
}

/* The store forgot the instance, and nobody else knows it: its epochs are given again, and then
 * name other views. */
static void forget_instance(eepi_core *core, const eepi_view *after)
{
    core->tried_epoch = after->epoch < core->view->epoch ? 0 : core->tried_epoch;
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core->peers[seat].left_epoch = 0;
    }
}

/* Tell observers whom a new document expelled, with what is known against them, and count what it
 * covers without a byte. */
static void note_expelled(eepi_core *core, const eepi_view *before, const eepi_view *after)
{
    if (after->cause != EEPI_VIEW_FAULT) {
        return;
    }
    core->num_reused += eepi_view_num_reused(before, after, core->config.seat);
    for (int seat = 0; seat < before->shape.max_ranks; seat++) {
        uint32_t generation = eepi_view_seat_at(before, seat)->generation;
        eepi_action *action;
        if (!eepi_view_is_member(before, seat) || eepi_view_has(after, seat, generation)) {
            continue;
        }
        if (eepi_view_seat_at(before, seat)->state == EEP_SEAT_ACTIVE) { /* else it may have left */
            core->peers[seat].expelled_generation = generation;
        }
        action = eepi_core_note(core, EEPI_ACTION_EXPELLED);
        action->view = after;
        action->suspect.seat = seat;
        action->suspect.generation = generation;
        action->suspect.kind = eepi_core_cause(core, seat, generation);
    }
}

static bool have_other_members(const eepi_view *before, const eepi_view *after)
{
    for (int seat = 0; seat < after->shape.max_ranks; seat++) {
        if (eepi_view_is_member(before, seat) != eepi_view_is_member(after, seat) ||
            eepi_view_seat_at(before, seat)->generation !=
                eepi_view_seat_at(after, seat)->generation) {
            return true;
        }
    }
    return false;
}

/* The connection to the store was lost. The store that answers next may have lost its memory. What
 * others said stays true, but it no longer shows that nobody went on without this rank: the
 * register may be written anew from an old document, even by another rank, before a rank with a
 * newer document is there. So reports, acknowledgements and ready records count only once they are
 * heard again. A rank that knows a newer document does not repeat what it said under an older one;
 * every other rank repeats it, or the store still has it. Only then may anything be decided on top
 * of this rank's document (S2: no epoch is committed twice). */
static void forget_unconfirmed(eepi_core *core)
{
    core->register_was_read = core->listens = false;
    if (core->config.store_keeps) { /* N19: what was heard stands there still */
        return;
    }
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        if (seat == core->config.seat) {
            continue;
        }
        peer->report_epoch = peer->wedge_epoch = 0;
        peer->staged_digest = peer->filled_digest = 0;
        peer->heard_epoch = 0; /* reports are heard again, and their words with them */
        peer->ready = 0;       /* published again behind the newest document */
        if (peer->evidence == EEP_FAULT_SILENT && peer->evidence_by != core->config.seat) {
            peer->evidence = NO_EVIDENCE; /* its observer may have ended, and never take it back */
        }
    }
    core->has_plan = false;
    core->drain_from_us = core->now_us;
    core->in_doubt += core->has_view && (core->tried_epoch > core->view->epoch ||
                                         core->reported_epoch >= core->view->epoch);
}

/* A rank that has never been in a view only reads: whatever the register says is the instance. */
static bool only_reads(const eepi_core *core)
{
    return core->status == CORE_OUTSIDE && !core->was_member;
}

/* Rule N19. A store that keeps all and shows an older document than this rank knows, or none, at a
 * later revision is not the one that it was: a snapshot was restored, or another one has its
 * address. It may give generations and epochs again. This rank serves on, and neither commits a
 * view nor lets anybody in until that store shows what this rank knows. An older revision is an
 * event that was late. */
static bool keeps_to_itself(eepi_core *core, bool is_behind, uint64_t revision)
{
    if (!core->config.store_keeps) {
        return false;
    }
    if (is_behind && !only_reads(core) && (revision == 0 || revision > core->revision)) {
        core->store_forgot = core->behind_us != 0;
        core->behind_us = core->now_us;
        eepi_core_act(core,
                      EEPI_ACTION_READ); /* the answer may be older than what this rank knows */
    } else if (!is_behind && revision >= core->revision) {
        core->store_forgot = false;
        core->behind_us = 0;
        core->revision = revision;
    }
    return true;
}

void eepi_core_read_again(eepi_core *core)
{
    const uint64_t at_us = core->behind_us + READ_AGAIN_US;

    if (!core->store_forgot) {
        return;
    }
    if (core->now_us >= at_us) {
        core->behind_us = core->now_us;
        eepi_core_act(core, EEPI_ACTION_READ);
    }
    eepi_core_wake_at(core, core->behind_us + READ_AGAIN_US);
}

/* It changes nothing (S2). An older one: the register lost its memory; ours goes back. */
static void on_known_view(eepi_core *core, const eepi_view *view, uint64_t revision)
{
    if (keeps_to_itself(core, view->epoch < core->view->epoch, revision)) {
        return;
    }
    if (revision > core->revision || view->epoch < core->view->epoch) {
        core->revision = revision;
    }
    core->register_lags = view->epoch < core->view->epoch;
}

/* A committed document that this rank did not know. */
static void on_new_view(eepi_core *core, const eepi_view *view, uint64_t revision)
{
    if (core->has_view) {
        note_expelled(core, core->view, view);
    }
    if (core->has_view && view->epoch <= core->view->epoch) {
        forget_instance(core, view);
    } else if (core->has_view) {
        note_left(core, core->view, view);
    }
    if (!core->has_view || have_other_members(core->view, view)) {
        core->background_after_us = core->now_us + core->config.background_delay_us;
        eepi_core_examine_layers(core);
    }
    if (view->order_digest != core->view->order_digest) {
        eepi_core_examine_layers(core); /* as the rank that took the order into the view */
    }
    /* S2: the epochs that a rank knows only grow, once it has been in a view */
    assert(!core->has_view || view->epoch > core->view->epoch || only_reads(core));
    eepi_core_settle_words(core, view);
    memcpy(core->view, view, view->bytes);
    memset(core->cut, 0, sizeof core->cut); /* it was about the members before */
    memset(core->unheard, 0, sizeof core->unheard);
    eepi_core_judge_all_claims(core, view);
    eepi_core_settle_evidence(core, view);
    core->revision = revision;
    core->has_view = true;
    core->register_lags = false;
    core->in_doubt = 0;
    core->uncovered = false;
    core->fill_us = core->now_us;
    if (core->status == CORE_WEDGED) {
        core->wedged_us = core->now_us;
    }
    /* the plan is this document, or void (M4); one on top of it may come before this rank's flip */
    core->has_plan = false;
    eepi_core_act(core, EEPI_ACTION_CANCEL)->epoch = view->epoch;
}

static void on_view(eepi_core *core, const eepi_view *view, uint64_t revision)
{
    if (core->config.store_keeps && core->has_view && revision < core->revision) {
        return; /* an event that was late */
    }
    if (core->has_view && view->epoch == core->view->epoch && view->digest != core->view->digest &&
        !only_reads(core)) { /* the store forgot this rank's, and others went on without it */
        eepi_core_set_status(core, CORE_OVER);
        eepi_core_act(core, EEPI_ACTION_EVICTED);
        return;
    }
    if (core->has_view && view->epoch <= core->view->epoch &&
        (!only_reads(core) || view->digest == core->view->digest)) {
        on_known_view(core, view, revision);
        return;
    }
    on_new_view(core, view, revision);
}

/* Rule N8. A process has its seat under the lock of the seat's file, which its predecessor held
 * until its end, if that ran on the same host. Another host has another file. There a seat is taken
 * anew as soon as the view says that nothing of the predecessor reaches a member: it may live. So
 * may one that was in no view and whose lease has lapsed (N21). */
static bool shows_end(const eepi_core *core, const eepi_member *member)
{
    const core_peer *peer = &core->peers[member->seat];
    const eepi_view_seat *in_view = eepi_view_seat_at(core->view, member->seat);

    if (member->follows_lapse) {
        return false;
    }
    if (peer->generation == member->generation - 1 && peer->generation != 0) {
        return peer->host == member->host;
    }
    return !core->has_view || in_view->generation != member->generation - 1 ||
           in_view->host == member->host;
}

static void on_member(eepi_core *core, const eepi_member *member)
{
    const eepi_view_shape *shape = &core->config.shape;
    size_t slots = (size_t)shape->num_layers * (size_t)shape->num_slots;
    core_peer *peer = &core->peers[member->seat];

    if (member->generation < peer->generation) {
        return;
    }
    if (member->generation > peer->generation) {
        peer->plan_after_us = 0;
        core->uncovered = false;       /* it may bring what was missing */
        if (shows_end(core, member)) { /* M7 */
            (void)eepi_core_note_ended(core, member->seat, member->generation - 1);
        }
    }
    peer->generation = member->generation;
    peer->host = member->host;
    peer->ready = member->ready;
    peer->leaving = member->leaving;
    peer->has_checkpoint = member->has_checkpoint;
    peer->follows_lapse = member->follows_lapse;
    peer->order_number = member->order_number;
    peer->order_digest = member->order_digest;
    memcpy(peer->sequence_digest, member->sequence_digest, sizeof peer->sequence_digest);
    memcpy(peer->experts, member->experts, slots * sizeof *peer->experts);
    memcpy(peer->checksums, member->checksums, slots * sizeof *peer->checksums);
    eepi_core_take_claims(core, member);
    memset(peer->tensor_bytes, 0, sizeof peer->tensor_bytes);
    if (member->tensor_bytes) {
        memcpy(peer->tensor_bytes, member->tensor_bytes, sizeof peer->tensor_bytes);
    }
    if (member->rates) {
        eepi_links_set_seat(core->links, member->seat, member->rates);
    } else {
        eepi_links_forget_seat(core->links, member->seat);
    }
}

static void on_ack(eepi_core *core, const eepi_ack *ack)
{
    core_peer *peer = &core->peers[ack->seat];

    if (ack->generation < peer->generation) {
        return;
    }
    if (ack->kind == EEPI_ACK_STAGED) {
        peer->staged_digest = ack->digest;
    } else if (ack->kind == EEPI_ACK_FILLED) {
        peer->filled_digest = ack->digest;
    } else {
        peer->flipped_digest = ack->digest;
        eepi_core_note_leaver(core, ack->seat, core->view);
    }
}

/* All members agreed in-band to switch to the document. That shows that it was committed, whatever
 * the register says. */
static void on_flipped(eepi_core *core, uint64_t digest)
{
    /* the store was lost since; it may not have it */
    const bool forgotten = !core->has_plan && !core->config.store_keeps;

    core->flipped_digest = digest;
    if (core->has_view && core->plan->digest == digest && core->plan->epoch > core->view->epoch) {
        on_view(core, core->plan, core->revision);
        core->register_lags = forgotten && core->register_was_read;
    }
}

/* What the register said, or the connection to it. */
static void on_register(eepi_core *core, const eepi_input *input)
{
    switch (input->kind) {
    case EEPI_INPUT_VIEW:
        core->cas_in_flight = false;
        core->register_was_read = true;
        on_view(core, input->view, input->revision);
        break;
    case EEPI_INPUT_VIEW_MISSING:
        core->cas_in_flight = false;
        core->register_was_read = true;
        if (core->has_view && keeps_to_itself(core, true, 0)) {
            break;
        }
        core->revision = 0;
        core->register_lags = core->has_view && !only_reads(core);
        for (int seat = 0; core->has_view && seat < core->config.shape.max_ranks; seat++) {
            eepi_core_republish_end(core, seat);
        }
        break;
    case EEPI_INPUT_STORE_LOST:
        forget_unconfirmed(core);
        break;
    case EEPI_INPUT_CAS_DONE:
        /* a watch may have told first; then the draft may be another one by now */
        if (core->cas_in_flight && input->won) {
            on_view(core, core->draft, input->revision);
        }
        core->cas_in_flight = false;
        break;
    default: /* EEPI_INPUT_CAS_UNKNOWN; M4: read the register before proposing again */
        eepi_core_act(core, EEPI_ACTION_READ);
        break;
    }
}

/* What other ranks said through the store. */
static void on_record(eepi_core *core, const eepi_input *input)
{
    switch (input->kind) {
    case EEPI_INPUT_MEMBER:
        on_member(core, input->member);
        break;
    case EEPI_INPUT_WEDGE:
        eepi_core_on_wedge(core, &input->wedge);
        break;
    case EEPI_INPUT_REPORT:
        eepi_core_on_report(core, input->report);
        break;
    case EEPI_INPUT_LISTENS:
        eepi_core_on_listens(core);
        break;
    case EEPI_INPUT_ACK:
        on_ack(core, input->ack);
        break;
    case EEPI_INPUT_PLAN:
        eepi_core_on_plan(core, input->view);
        break;
    default: /* EEPI_INPUT_EXIT */
        eepi_core_on_told_end(core, &input->end, NOBODY);
        break;
    }
}

/* What this rank itself saw of another process. */
static void on_observation(eepi_core *core, const eepi_input *input)
{
    const eepi_suspect *suspect = &input->suspect;
    const eepi_end end = {suspect->seat, suspect->generation, EEPI_END_PROCESS};

    switch (input->kind) {
    case EEPI_INPUT_EVIDENCE:
        if (eepi_core_is_word(suspect->kind)) {
            eepi_core_on_word(core, suspect);
        } else {
            eepi_core_on_own_evidence(core, suspect);
        }
        break;
    case EEPI_INPUT_MEMORY_GONE: /* a first sign; on the host nothing of it stores any more */
        eepi_core_on_evidence(core, suspect, core->config.seat);
        if (core->config.end_is_proof) {
            eepi_core_on_told_end(core, &end, core->config.seat);
        }
        break;
    case EEPI_INPUT_ENDED:
        eepi_core_on_told_end(core, &end, core->config.seat);
        break;
    case EEPI_INPUT_ALIVE:
        eepi_core_on_alive(core, suspect);
        break;
    case EEPI_INPUT_BUSY:
        eepi_core_on_busy(core, suspect, input->step);
        break;
    case EEPI_INPUT_NOT_KILLED:
        core->peers[suspect->seat].unkillable_generation = suspect->generation;
        break;
    case EEPI_INPUT_BLOCKED:
        eepi_core_on_blocked(core, input->seats);
        break;
    default: /* EEPI_INPUT_ACCUSED */
        eepi_core_on_accused(core, input->seats, input->step);
        break;
    }
}

/* How far this rank itself has come. */
static void on_progress(eepi_core *core, const eepi_input *input)
{
    switch (input->kind) {
    case EEPI_INPUT_DRAINED:
        core->drained = true;
        core->highest_step = input->step;
        core->collective = input->collective;
        core->held = input->held;
        break;
    case EEPI_INPUT_REPORTED: /* N14: the others can read it from now on */
        if (input->step > core->acknowledged_epoch) {
            core->acknowledged_epoch = input->step;
            core->drain_from_us = core->now_us;
        }
        break;
    case EEPI_INPUT_STAGED:
        if (core->has_plan && core->plan->digest == input->digest) {
            eepi_core_note_tried(core, core->plan->epoch);
            core->staged_digest = input->digest;
        }
        break;
    case EEPI_INPUT_FILLED:
        if (core->has_view && core->view->digest == input->digest) {
            eepi_core_acknowledge(core, EEPI_ACK_FILLED, core->view);
        }
        break;
    case EEPI_INPUT_FLIPPED:
        on_flipped(core, input->digest);
        break;
    default: /* EEPI_INPUT_LEAVE */
        core->leaving |= (uint8_t)(EEPI_LEAVES | (int)input->step);
        eepi_core_act(core, EEPI_ACTION_MEMBER);
        break;
    }
}

void eepi_core_on_input(eepi_core *core, const eepi_input *input)
{
    switch (input->kind) {
    case EEPI_INPUT_TICK:
        break;
    case EEPI_INPUT_VIEW:
    case EEPI_INPUT_VIEW_MISSING:
    case EEPI_INPUT_STORE_LOST:
    case EEPI_INPUT_CAS_DONE:
    case EEPI_INPUT_CAS_UNKNOWN:
        on_register(core, input);
        break;
    case EEPI_INPUT_MEMBER:
    case EEPI_INPUT_WEDGE:
    case EEPI_INPUT_REPORT:
    case EEPI_INPUT_ACK:
    case EEPI_INPUT_PLAN:
    case EEPI_INPUT_EXIT:
    case EEPI_INPUT_LISTENS:
        on_record(core, input);
        break;
    case EEPI_INPUT_EVIDENCE:
    case EEPI_INPUT_MEMORY_GONE:
    case EEPI_INPUT_ENDED:
    case EEPI_INPUT_ALIVE:
    case EEPI_INPUT_BUSY:
    case EEPI_INPUT_NOT_KILLED:
    case EEPI_INPUT_ACCUSED:
    case EEPI_INPUT_BLOCKED:
        on_observation(core, input);
        break;
    case EEPI_INPUT_DRAINED:
    case EEPI_INPUT_REPORTED:
    case EEPI_INPUT_STAGED:
    case EEPI_INPUT_FILLED:
    case EEPI_INPUT_FLIPPED:
    case EEPI_INPUT_LEAVE:
        on_progress(core, input);
        break;
    case EEPI_INPUT_LOADS:
        eepi_core_take_loads(core, input->loads);
        break;
    case EEPI_INPUT_ORDER:
        eepi_core_on_order(core, input->order, input->won);
        break;
    }
}
