/* What the membership core knows, and how inputs change it. Nothing is decided here. */
#include "membership/core/core_facts.h"

#include "membership/core/core_common.h"
#include "membership/core/core_ends.h"
#include "membership/core/core_status.h"

#include <assert.h>
#include <string.h>

/* Who leaves by plan is needed until we switch. */
static void note_left(eepi_core *core, const eepi_view *before, const eepi_view *after)
{
    for (int seat = 0; after->cause == EEPI_VIEW_PLANNED && seat < after->shape.max_ranks; seat++) {
        if (eepi_view_is_member(before, seat) && !eepi_view_is_member(after, seat)) {
            core->peers[seat].left_epoch = after->epoch;
        }
    }
}

/* The store forgot it, and nobody else knows it: its epochs come again, and mean other views. */
static void forget_instance(eepi_core *core, const eepi_view *after)
{
    if (after->epoch < core->view->epoch) {
        core->tried_epoch = 0;
    }
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core->peers[seat].left_epoch = 0;
    }
}

/* Tell observers whom a new document expelled, with what is known against them. */
static void note_expelled(eepi_core *core, const eepi_view *before, const eepi_view *after)
{
    if (after->cause != EEPI_VIEW_FAULT) {
        return;
    }
    for (int seat = 0; seat < before->shape.max_ranks; seat++) {
        uint32_t generation = eepi_view_seat_at(before, seat)->generation;
        eepi_action *action;
        if (!eepi_view_is_member(before, seat) || eepi_view_has(after, seat, generation)) {
            continue;
        }
        action = eepi_core_note(core, EEPI_ACTION_EXPELLED);
        action->view = after;
        action->suspect.seat = seat;
        action->suspect.generation = generation;
        action->suspect.kind = eepi_core_evidence(core, seat) != NO_EVIDENCE
                                   ? eepi_core_evidence(core, seat)
                                   : EEP_FAULT_LEFT_OUT;
    }
}

static int have_other_members(const eepi_view *before, const eepi_view *after)
{
    for (int seat = 0; seat < after->shape.max_ranks; seat++) {
        if (eepi_view_is_member(before, seat) != eepi_view_is_member(after, seat) ||
            eepi_view_seat_at(before, seat)->generation !=
                eepi_view_seat_at(after, seat)->generation) {
            return 1;
        }
    }
    return 0;
}

/* A fault view settles what it was drawn up for: whom it keeps although steps waited for it or its
 * promise came late, it keeps. Else one stuck rank would take along all that waited for it. */
static void settle_evidence(eepi_core *core, const eepi_view *view)
{
    for (int seat = 0; view->cause == EEPI_VIEW_FAULT && seat < view->shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        int is_hearsay =
            peer->evidence == EEP_FAULT_SILENT && peer->evidence_by != core->config.seat;
        if (eepi_view_has(view, seat, peer->evidence_generation) &&
            (peer->evidence == EEP_FAULT_DEADLINE || peer->evidence == EEP_FAULT_LEFT_OUT ||
             is_hearsay)) {
            peer->evidence = NO_EVIDENCE;
        }
    }
}

/* The next store that answers may have lost its memory. What others said stays true, but it no
 * longer shows that nobody went on without us: the register may be made anew from an old document,
 * even by another rank, before one with a newer document is there. Who knows a newer one does not
 * repeat what it said under an older one; all others say it again, or the store still has it. Only
 * then is there anything to be decided on top of ours (S2). */
static void hear_again(eepi_core *core)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        if (seat == core->config.seat) {
            continue;
        }
        peer->report_epoch = 0;
        peer->staged_digest = peer->filled_digest = 0;
        peer->ready = 0; /* said again behind the newest document */
        if (peer->evidence == EEP_FAULT_SILENT && peer->evidence_by != core->config.seat) {
            peer->evidence = NO_EVIDENCE; /* who said so may be gone, and never take it back */
        }
    }
    core->register_was_read = 0;
    core->has_plan = 0;
    core->drain_from_us = core->now_us;
    core->in_doubt += core->has_view && (core->tried_epoch > core->view->epoch ||
                                         core->reported_epoch >= core->view->epoch);
}

/* Who has never been in a view only reads: whatever the register says now is the instance. */
static int only_reads(const eepi_core *core)
{
    return core->status == CORE_OUTSIDE && !core->was_member;
}

/* A committed document. Older or known ones change nothing (S2), but one that is older than ours
 * means that the register lost its memory: we write ours back. */
static void take_view(eepi_core *core, const eepi_view *view, uint64_t revision)
{
    if (core->has_view && view->epoch == core->view->epoch && view->digest != core->view->digest &&
        !only_reads(core)) { /* the store forgot ours, and others went on without it */
        eepi_core_set_status(core, CORE_OVER);
        eepi_core_act(core, EEPI_ACTION_EVICTED);
        return;
    }
    if (core->has_view && view->epoch <= core->view->epoch &&
        (!only_reads(core) || view->digest == core->view->digest)) {
        if (revision > core->revision || view->epoch < core->view->epoch) {
            core->revision = revision;
        }
        core->register_lags = view->epoch < core->view->epoch;
        return;
    }
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
        core->examined_layers = 0;
    }
    assert(!core->has_view || view->epoch > core->view->epoch || only_reads(core)); /* S2 */
    memcpy(core->view, view, view->bytes);
    settle_evidence(core, view);
    core->revision = revision;
    core->has_view = 1;
    core->register_lags = 0;
    core->in_doubt = 0;
    core->uncovered = 0;
    core->fill_us = core->now_us;
    if (core->status == CORE_WEDGED) {
        core->wedged_us = core->now_us;
    }
    /* it is this document, or void (rule M4); one on top of it may come before our own flip */
    core->has_plan = 0;
    eepi_core_act(core, EEPI_ACTION_CANCEL)->epoch = view->epoch;
}

static void take_member(eepi_core *core, const eepi_member *member)
{
    const eepi_view_shape *shape = &core->config.shape;
    size_t slots = (size_t)shape->num_layers * (size_t)shape->num_slots;
    core_peer *peer = &core->peers[member->seat];

    if (member->generation < peer->generation) {
        return;
    }
    if (member->generation > peer->generation) {
        peer->plan_after_us = 0;
        core->uncovered = 0; /* it may bring what was missing */
        (void)eepi_core_note_gone(core, member->seat, member->generation - 1); /* M7 */
    }
    peer->generation = member->generation;
    peer->ready = member->ready;
    peer->leaving = member->leaving;
    memcpy(peer->experts, member->experts, slots * sizeof *peer->experts);
    memcpy(peer->checksums, member->checksums, slots * sizeof *peer->checksums);
    memcpy(peer->backup, member->backup, eepi_core_backup_words(shape) * sizeof *peer->backup);
    memset(peer->tensor_bytes, 0, sizeof peer->tensor_bytes);
    if (member->tensor_bytes) {
        memcpy(peer->tensor_bytes, member->tensor_bytes, sizeof peer->tensor_bytes);
    }
}

/* 1 if evidence against that generation is not to replace what is known: it is no stronger, or
 * about a process that is not in the view while the other one is, or about an older one. */
static int is_outweighed(const eepi_core *core, const core_peer *peer, const eepi_suspect *suspect)
{
    uint32_t generation;
    int known_in, new_in;

    if (peer->evidence == NO_EVIDENCE) {
        return 0;
    }
    if (suspect->generation == peer->evidence_generation) {
        return peer->evidence <= suspect->kind;
    }
    generation = core->has_view ? eepi_view_seat_at(core->view, suspect->seat)->generation : 0;
    known_in = peer->evidence_generation == generation;
    new_in = suspect->generation == generation;
    return known_in || (!new_in && suspect->generation < peer->evidence_generation);
}

static void weigh_evidence(eepi_core *core, const eepi_suspect *suspect, int by)
{
    core_peer *peer = &core->peers[suspect->seat];

    if (suspect->seat == core->config.seat) {
        return;
    }
    if (by == core->config.seat && suspect->kind == peer->evidence &&
        suspect->generation == peer->evidence_generation) {
        peer->evidence_by = by;
    }
    if (is_outweighed(core, peer, suspect)) {
        return;
    }
    peer->evidence = suspect->kind;
    peer->evidence_generation = suspect->generation;
    peer->evidence_by = by;
    if (eepi_core_evidence(core, suspect->seat) != NO_EVIDENCE) {
        eepi_core_note(core, EEPI_ACTION_SUSPECTED)->suspect = *suspect;
    }
}

static void take_evidence(eepi_core *core, const eepi_suspect *suspect, int by)
{
    if (suspect->kind == EEP_FAULT_EXIT) {
        eepi_core_take_exit(core, suspect, by);
    }
    weigh_evidence(core, suspect, by);
}

/* Evidence, as the first sign of it is. */
static void take_end(eepi_core *core, const eepi_end *end, int by)
{
    const eepi_suspect suspect = {end->seat, end->generation, EEP_FAULT_EXIT};

    eepi_core_take_end(core, end, by);
    weigh_evidence(core, &suspect, by);
}

/* A fresh heartbeat takes back silence, and nothing stronger. */
static void take_alive(eepi_core *core, const eepi_suspect *alive)
{
    core_peer *peer = &core->peers[alive->seat];

    if (peer->evidence_generation == alive->generation && peer->evidence == EEP_FAULT_SILENT) {
        peer->evidence = NO_EVIDENCE;
    }
}

/* Who says that it is busy is at no fault for what it does not do meanwhile: neither for what was
 * known against it before. */
static void take_busy(eepi_core *core, const eepi_suspect *busy, uint64_t for_us)
{
    core_peer *peer = &core->peers[busy->seat];

    peer->busy_generation = busy->generation;
    peer->busy_until_us = core->now_us + for_us;
    if (peer->evidence_generation == busy->generation &&
        (peer->evidence == EEP_FAULT_SILENT || peer->evidence == EEP_FAULT_DEADLINE ||
         peer->evidence == EEP_FAULT_LEFT_OUT)) {
        peer->evidence = NO_EVIDENCE;
    }
}

/* A report replaces what its sender said before: silence that it took back is no evidence. */
static void forget_silence(eepi_core *core, int by)
{
    for (int seat = 0; seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        if (peer->evidence == EEP_FAULT_SILENT && peer->evidence_by == by) {
            peer->evidence = NO_EVIDENCE;
        }
    }
}

static void take_report(eepi_core *core, const eepi_report *report)
{
    core_peer *peer = &core->peers[report->seat];
    int is_current = core->has_view && report->epoch >= core->view->epoch &&
                     eepi_view_has(core->view, report->seat, report->generation);

    if (report->generation < peer->report_generation ||
        (report->generation == peer->report_generation && report->epoch < peer->report_epoch)) {
        return;
    }
    peer->report_generation = report->generation;
    peer->report_epoch = report->epoch;
    peer->report_step = report->highest_step;
    memset(peer->report_accused, 0, sizeof peer->report_accused);
    if (is_current && peer->evidence == EEP_FAULT_LEFT_OUT &&
        peer->evidence_generation == report->generation) {
        peer->evidence = NO_EVIDENCE; /* late, but nobody has decided without it yet */
    }
    if (report->seat != core->config.seat) {
        forget_silence(core, report->seat);
    }
    for (int i = 0; i < report->num_suspects; i++) {
        const eepi_suspect *suspect = &report->suspects[i];
        if (suspect->kind == EEP_FAULT_DEADLINE) {
            peer->report_accused[suspect->seat / 64] |= 1ull << (suspect->seat % 64);
        }
        if (report->seat == core->config.seat) {
            continue;
        }
        /* that a process ended stays true; the rest counts only from a member, about now */
        if (is_current || suspect->kind == EEP_FAULT_EXIT) {
            take_evidence(core, suspect, report->seat);
        }
        if (is_current && suspect->seat == core->config.seat &&
            suspect->generation == core->config.generation) {
            core->suspected_epoch = report->epoch;
        }
    }
}

static void take_ack(eepi_core *core, const eepi_ack *ack)
{
    core_peer *peer = &core->peers[ack->seat];

    if (ack->generation < peer->generation) {
        return;
    }
    if (ack->kind == EEPI_ACK_STAGED) {
        peer->staged_digest = ack->digest;
    } else if (ack->kind == EEPI_ACK_FILLED) {
        peer->filled_digest = ack->digest;
    } else if (ack->kind == EEPI_ACK_FLIPPED) {
        peer->flipped_digest = ack->digest;
    }
}

static void take_plan(eepi_core *core, const eepi_view *plan)
{
    if (!core->has_view || plan->epoch <= core->view->epoch ||
        plan->base_digest != core->view->digest || plan->cause != EEPI_VIEW_PLANNED) {
        return;
    }
    if (plan->proposer == core->config.seat && core->has_plan &&
        core->plan->digest == plan->digest) {
        return; /* our own; another's that comes again lapsed, and is staged again */
    }
    if (core->flipped_digest == plan->digest) {
        return; /* live already */
    }
    memcpy(core->plan, plan, plan->bytes);
    core->has_plan = 1;
    core->stage_asked = 0;
    core->plan_us = core->now_us;
}

/* Rule M5: the first missed deadline of a living rank is a strike; a second one within the window
 * is evidence. */
static void take_accused(eepi_core *core, const uint64_t *seats, uint64_t step)
{
    for (int seat = 0; core->has_view && seat < core->config.shape.max_ranks; seat++) {
        core_peer *peer = &core->peers[seat];
        eepi_suspect suspect = {seat, eepi_view_seat_at(core->view, seat)->generation,
                                EEP_FAULT_DEADLINE};
        if (!(seats[seat / 64] >> (seat % 64) & 1u) || !eepi_core_needs(core, seat)) {
            continue;
        }
        if (peer->strike_generation == suspect.generation && peer->strike_step != 0 &&
            step - peer->strike_step <= core->config.strike_window_steps) {
            take_evidence(core, &suspect, core->config.seat);
        }
        peer->strike_step = step;
        peer->strike_generation = suspect.generation;
    }
}

static void take_local(eepi_core *core, const eepi_input *input)
{
    eepi_ack ack = {core->config.seat, core->config.generation, EEPI_ACK_STAGED, 0, input->digest};

    switch (input->kind) {
    case EEPI_INPUT_DRAINED:
        core->drained = 1;
        core->highest_step = input->step;
        break;
    case EEPI_INPUT_STAGED:
        if (core->has_plan && core->plan->digest == input->digest) {
            ack.epoch = core->plan->epoch;
            core->tried_epoch = ack.epoch > core->tried_epoch ? ack.epoch : core->tried_epoch;
            eepi_core_act(core, EEPI_ACTION_ACK)->ack = ack;
        }
        break;
    case EEPI_INPUT_FILLED:
        if (core->has_view && core->view->digest == input->digest) {
            ack.kind = EEPI_ACK_FILLED;
            ack.epoch = core->view->epoch;
            eepi_core_act(core, EEPI_ACTION_ACK)->ack = ack;
        }
        break;
    case EEPI_INPUT_LEAVE:
        core->leaving |= EEPI_LEAVES | (int)input->step;
        eepi_core_act(core, EEPI_ACTION_MEMBER);
        break;
    default: /* EEPI_INPUT_FLIPPED: that all members agreed in-band shows that it was committed */
        core->flipped_digest = input->digest;
        if (core->has_view && core->plan->digest == input->digest &&
            core->plan->epoch > core->view->epoch) {
            int forgotten = !core->has_plan; /* the store was lost since; it may not have it */
            take_view(core, core->plan, core->revision);
            core->register_lags = forgotten && core->register_was_read;
        }
        break;
    }
}

void eepi_core_take(eepi_core *core, const eepi_input *input)
{
    switch (input->kind) {
    case EEPI_INPUT_TICK:
        break;
    case EEPI_INPUT_VIEW:
        core->cas_in_flight = 0;
        core->register_was_read = 1;
        take_view(core, input->view, input->revision);
        break;
    case EEPI_INPUT_VIEW_MISSING:
        core->cas_in_flight = 0;
        core->register_was_read = 1;
        core->revision = 0;
        core->register_lags = core->has_view && !only_reads(core);
        for (int seat = 0; core->has_view && seat < core->config.shape.max_ranks; seat++) {
            eepi_core_tell_gone(core, seat);
        }
        break;
    case EEPI_INPUT_STORE_LOST:
        hear_again(core);
        break;
    case EEPI_INPUT_CAS_DONE:
        /* a watch may have told first; then the draft may be another one by now */
        if (core->cas_in_flight && input->won) {
            take_view(core, core->draft, input->revision);
        }
        core->cas_in_flight = 0;
        break;
    case EEPI_INPUT_CAS_UNKNOWN:
        eepi_core_act(core, EEPI_ACTION_READ); /* rule M4: read before proposing again */
        break;
    case EEPI_INPUT_MEMBER:
        take_member(core, input->member);
        break;
    case EEPI_INPUT_REPORT:
        take_report(core, input->report);
        break;
    case EEPI_INPUT_ACK:
        take_ack(core, input->ack);
        break;
    case EEPI_INPUT_PLAN:
        take_plan(core, input->view);
        break;
    case EEPI_INPUT_EVIDENCE:
        take_evidence(core, &input->suspect, core->config.seat);
        break;
    case EEPI_INPUT_EXIT:
        take_end(core, &input->end, NOBODY);
        break;
    case EEPI_INPUT_GONE:
        take_end(core,
                 &(eepi_end){input->suspect.seat, input->suspect.generation, EEPI_END_PROCESS},
                 core->config.seat);
        break;
    case EEPI_INPUT_BUSY:
        take_busy(core, &input->suspect, input->step);
        break;
    case EEPI_INPUT_NOT_KILLED:
        core->peers[input->suspect.seat].unkillable_generation = input->suspect.generation;
        break;
    case EEPI_INPUT_ALIVE:
        take_alive(core, &input->suspect);
        break;
    case EEPI_INPUT_ACCUSED:
        take_accused(core, input->seats, input->step);
        break;
    case EEPI_INPUT_DRAINED:
    case EEPI_INPUT_STAGED:
    case EEPI_INPUT_FILLED:
    case EEPI_INPUT_FLIPPED:
    case EEPI_INPUT_LEAVE:
        take_local(core, input);
        break;
    }
}
