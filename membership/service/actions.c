/* What the core asks for, carried out. Service thread. */
#include "membership/context/bank_image.h"
#include "graphs/device/device_ops.h"
#include "membership/context/context.h"
#include "membership/context/wake.h"
#include "membership/process/process.h"
#include "membership/process/seat_file.h"
#include "repair/planner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    STAGE_BOUND_US = 2000000,
    STAGE_PAUSE_US = 20000,
    STAGE_MOST_PAUSE_US = 2000000,
    BEGIN_AGAIN_US = 20000
};

static void put_seat(eep_context *context, const char *prefix, int32_t seat, const void *bytes,
                     size_t size)
{
    char key[EEPI_STORE_KEY_MAX];

    snprintf(key, sizeof key, "%s%d", prefix, seat);
    (void)eepi_store_put(context->store, key, bytes, size, 0);
}

/* A key per kind: a watch that begins anew gets only the newest value of each key. */
static void put_ack(eep_context *context, const eepi_ack *ack)
{
    char key[EEPI_STORE_KEY_MAX];

    snprintf(key, sizeof key, EEPI_KEY_ACK "%d/%d", ack->seat, ack->kind);
    (void)eepi_store_put(context->store, key, ack, sizeof *ack, 0);
}

static void put_end(eep_context *context, const eepi_end *end)
{
    put_seat(context, EEPI_KEY_EXIT, end->seat, end, sizeof *end);
    context->peers[end->seat].end_said = *end;
}

void eepi_say_own_end(eep_context *context)
{
    const eepi_end own = {context->config.rank, context->generation, EEPI_END_STORES};
    int stores_no_more;

    pthread_mutex_lock(&context->lock);
    stores_no_more =
        (context->outcome.ended == EEP_ERR_EVICTED || context->outcome.ended == EEP_ERR_DRAINED) &&
        !context->stepper.in_step;
    pthread_mutex_unlock(&context->lock);
    if (stores_no_more && context->peers[own.seat].end_said.generation != own.generation) {
        put_end(context, &own);
    }
}

static void put_report(eep_context *context, const eepi_report *report)
{
    size_t bytes;
    void *encoded = eepi_report_encode(report, &bytes);

    if (!encoded) {
        return;
    }
    put_seat(context, EEPI_KEY_REPORT, report->seat, encoded, bytes);
    free(context->said_report);
    context->said_report = encoded;
    context->said_report_bytes = bytes;
    context->said_report_epoch = report->epoch;
    eepi_tell_promise(context, report);
    eepi_event(context, EEP_EVENT_WEDGED, context->config.rank, context->generation, report->epoch,
               report->highest_step);
}

void eepi_say_again(eep_context *context)
{
    const eepi_view *view = eepi_core_view(context->core);

    if (!view) {
        return;
    }
    /* a report that never arrived would cost this rank its place in the next view */
    if (context->said_report && context->said_report_epoch == view->epoch) {
        put_seat(context, EEPI_KEY_REPORT, context->config.rank, context->said_report,
                 context->said_report_bytes);
    }
    /* STAGED is not said again: a plan that is not acknowledged is made again */
    for (int kind = EEPI_ACK_FILLED; kind <= EEPI_ACK_FLIPPED; kind++) {
        if (context->said_acks[kind].digest == view->digest) {
            put_ack(context, &context->said_acks[kind]);
        }
    }
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const eepi_end said = context->peers[seat].end_said;
        if (said.generation != 0) {
            put_end(context, &said);
        }
    }
}

/* Rule M2. DRAINED comes with the end of the step in flight. */
static void wedge(eep_context *context)
{
    eepi_tell_without_view(context);
    pthread_mutex_lock(&context->lock);
    if (eepi_stepper_wedge(&context->stepper)) {
        eepi_abort_running(context);
    } else {
        eepi_service_wake(context);
    }
    pthread_mutex_unlock(&context->lock);
    eepi_rank_wake(context);
}

static int stage(eep_context *context, const eepi_view *view)
{
    void **windows = calloc((size_t)view->shape.max_ranks, sizeof *windows);
    eep_status status = EEP_ERR_NO_MEMORY;

    if (windows) {
        status = eepi_peers_map(context, view, windows);
    }
    if (status == EEP_OK) {
        eepi_bank_image(&context->shape, view, windows, eepi_tables_image(context->tables));
        status = eepi_tables_stage(context->tables, STAGE_BOUND_US);
    }
    free(windows);
    if (status != EEP_OK) {
        eepi_log(context, EEP_LOG_WARN, "epoch %llu could not be staged: %s %s",
                 (unsigned long long)view->epoch, eep_strerror(status),
                 eepi_device_failure(context->config.device));
    }
    return status == EEP_OK;
}

/* The view as the rank thread needs it; before follow_seats. */
static eepi_live live_of(const eep_context *context, const eepi_view *view)
{
    return eepi_live_of(view, context->config.rank, context->generation, context->seats);
}

static void follow_seats(eep_context *context, const eepi_view *view)
{
    pthread_mutex_lock(&context->lock);
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const eepi_view_seat *s = eepi_view_seat_at(view, seat);
        context->seats[seat] = (eep_seat){(eep_seat_state)s->state, s->generation};
    }
    context->seats_epoch = view->epoch;
    pthread_mutex_unlock(&context->lock);
    /* one that leaves computes with what it holds until it switches */
    if (eepi_view_has(view, context->config.rank, context->generation)) {
        eepi_weights_follow(context, view);
    }
}

/* What could not be staged is tried again: soon, and ever later if that goes on. */
static void stage_later(eep_context *context)
{
    context->stage_pause_us =
        context->stage_pause_us == 0 ? STAGE_PAUSE_US : 2 * context->stage_pause_us;
    if (context->stage_pause_us > STAGE_MOST_PAUSE_US) {
        context->stage_pause_us = STAGE_MOST_PAUSE_US;
    }
    context->stage_again_us = eepi_now_us() + context->stage_pause_us;
}

/* A view that takes effect from the next step on. */
static void install(eep_context *context, const eepi_view *view)
{
    int joining = view->cause == EEPI_VIEW_PLANNED; /* only a rank that is new in it */
    int flips;
    eepi_live live = live_of(context, view);

    pthread_mutex_lock(&context->lock);
    flips = context->stepper.flipping.epoch != 0;
    if (!flips) {
        eepi_stepper_withdraw(&context->stepper);
    }
    pthread_mutex_unlock(&context->lock);
    if (flips) { /* to the bank that would be written: its end wakes this thread */
        context->install_again_digest = view->digest;
        context->stage_again_us = 0;
        return;
    }
    context->install_again_digest = 0;
    if (eepi_tables_staged(context->tables) != view->digest && !stage(context, view)) {
        /* the peer that could not be mapped is dying, and its evidence follows; or the store has
         * forgotten its record, and gets it again */
        context->install_again_digest = view->digest;
        stage_later(context);
        return;
    }
    context->stage_pause_us = 0;
    follow_seats(context, view);
    pthread_mutex_lock(&context->lock);
    eepi_stepper_install(&context->stepper, &live, joining);
    context->outcome.uncovered = false;
    pthread_mutex_unlock(&context->lock);
    eepi_tell_installed(context, view);
    eepi_event(context, EEP_EVENT_INSTALLED, -1, 0, view->epoch, view->first_step);
    eepi_rank_wake(context);
}

void eepi_install_again(eep_context *context)
{
    const eepi_view *view = eepi_core_view(context->core);

    if (context->install_again_digest != 0 && view->digest == context->install_again_digest &&
        eepi_now_us() >= context->stage_again_us && !eepi_core_is_wedged(context->core)) {
        install(context, view);
    }
}

/* Have a planned view in the idle bank, ready for its flip; 0: not now. */
static int stage_live(eep_context *context, const eepi_view *view, const eepi_live *live)
{
    eepi_stage_verdict verdict;

    pthread_mutex_lock(&context->lock);
    verdict = eepi_stepper_stage(&context->stepper, live);
    pthread_mutex_unlock(&context->lock);
    if (verdict != EEPI_STAGE_GO) {
        return verdict == EEPI_STAGE_THERE;
    }
    if (!stage(context, view)) {
        return 0;
    }
    context->stage_pause_us = 0;
    pthread_mutex_lock(&context->lock);
    eepi_stepper_staged(&context->stepper, live);
    pthread_mutex_unlock(&context->lock);
    eepi_log(context, EEP_LOG_DEBUG, "staged epoch %llu in the idle bank",
             (unsigned long long)view->epoch);
    eepi_event(context, EEP_EVENT_STAGED, -1, 0, view->epoch, 0);
    eepi_rank_wake(context); /* what was agreed on in-band may have waited for it */
    return 1;
}

/* To be staged later: eepi_stage_held. `for_record`: it could not be; what was missing is likely a
 * peer's record, which a store that forgot gets again a moment later than the plan. It may be
 * something else, such as a descriptor, whose return nobody tells. */
static void hold_plan(eep_context *context, const eepi_view *view, int for_record)
{
    free(context->held_plan);
    context->held_plan = eepi_view_copy(view);
    context->held_for_record = for_record;
    if (for_record) {
        stage_later(context);
    }
}

static void stage_plan(eep_context *context, const eepi_view *view)
{
    eepi_input staged = {.kind = EEPI_INPUT_STAGED, .digest = view->digest};
    eepi_live live = live_of(context, view);
    int busy;

    pthread_mutex_lock(&context->lock);
    busy = eepi_stepper_awaits_flip(&context->stepper);
    pthread_mutex_unlock(&context->lock);
    if (busy) {
        hold_plan(context, view, 0);
    } else if (stage_live(context, view, &live)) {
        eepi_inbox_post(context->inbox, &staged);
    } else {
        hold_plan(context, view, 1); /* or it lapses, and is made again */
    }
}

void eepi_stage_held(eep_context *context)
{
    eepi_view *plan = context->held_plan;
    int busy;

    if (!plan || (context->held_for_record && eepi_now_us() < context->stage_again_us)) {
        return;
    }
    pthread_mutex_lock(&context->lock);
    busy = eepi_stepper_awaits_flip(&context->stepper) || context->stepper.wedged;
    pthread_mutex_unlock(&context->lock);
    if (busy) {
        return;
    }
    context->held_plan = NULL;
    if (plan->base_digest == eepi_core_view(context->core)->digest ||
        plan->digest == eepi_core_view(context->core)->digest) {
        stage_plan(context, plan);
    }
    free(plan);
}

static void announce(eep_context *context, const eepi_view *view)
{
    eepi_live live = live_of(context, view);

    if (!live.leaves && !stage_live(context, view, &live)) {
        hold_plan(context, view, 1);
        eepi_log(context, EEP_LOG_ERROR,
                 "epoch %llu is committed but not staged here: it is tried again",
                 (unsigned long long)view->epoch);
    }
    follow_seats(context, view);
    pthread_mutex_lock(&context->lock);
    eepi_stepper_announce(&context->stepper, &live);
    pthread_mutex_unlock(&context->lock);
    eepi_rank_wake(context);
}

void eepi_fill_again(eep_context *context)
{
    const eepi_view *view = eepi_core_view(context->core);

    if (context->fill_again_us == 0 || eepi_now_us() < context->fill_again_us) {
        return;
    }
    context->fill_again_us = 0;
    if (view->digest != context->fill_again_digest) {
        return; /* another document: our slots may be routed to until we switch to it */
    }
    eepi_bulk_cancel_before(context->bulk, view->epoch + 1); /* the lanes' buffers are used again */
    eepi_executor_start(context->executor, context->bulk, view, eepi_now_us());
}

void eepi_fill_go_on(eep_context *context)
{
    eepi_executor *executor = __atomic_load_n(&context->executor, __ATOMIC_ACQUIRE);

    /* after the promise of rule M2 nothing is placed, but what a REPAIRING view asks for */
    if (executor && !eepi_core_is_wedged(context->core)) {
        eepi_executor_tick(executor, context->bulk, eepi_now_us());
    }
}

static void fill(eep_context *context, const eepi_view *view)
{
    context->fill_again_us = 0;
    if (view->phase == EEPI_VIEW_REPAIRING) {
        eepi_event(context, EEP_EVENT_REPAIRING, -1, 0, view->epoch,
                   (uint64_t)eepi_plan_fills(view, -1, NULL, 0));
    } else {
        eepi_event(context, EEP_EVENT_REBALANCING, context->config.rank, context->generation,
                   view->epoch, (uint64_t)eepi_plan_fills(view, context->config.rank, NULL, 0));
    }
    eepi_executor_start(context->executor, context->bulk, view, eepi_now_us());
}

/* Rule R1. The executor first: what is cancelled is not to be fetched from elsewhere. */
static void cancel(eep_context *context, uint64_t epoch)
{
    eepi_executor *executor = __atomic_load_n(&context->executor, __ATOMIC_ACQUIRE);

    context->fill_again_us = 0;
    if (executor) { /* NULL before eep_join, which makes it */
        eepi_executor_cancel(executor);
    }
    eepi_bulk_cancel_before(context->bulk, epoch);
}

void eepi_refused(eep_context *context, const char *why)
{
    eepi_end_service(context, EEP_ERR_CHECKSUM, why);
}

void eepi_replaced(eep_context *context, const char *difference)
{
    char why[EEPI_ERROR_BYTES / 2];

    snprintf(why, sizeof why,
             "an instance with another configuration has taken this store before this rank was in "
             "a view: %s",
             difference);
    eepi_end_service(context, EEP_ERR_EVICTED, why);
    eepi_claim_give_back(context);
}

static void refuse(eep_context *context, const eepi_action *action)
{
    eepi_refusal refusal = {action->suspect.seat, action->suspect.generation, {0}};

    eepi_log(context, EEP_LOG_ERROR, "refuses rank %d (generation %u): %s", action->suspect.seat,
             action->suspect.generation, action->why);
    snprintf(refusal.why, sizeof refusal.why, "%s", action->why);
    put_seat(context, EEPI_KEY_REFUSED, refusal.seat, &refusal, sizeof refusal);
}

static void note_fault(eep_context *context, const eepi_action *action)
{
    pthread_mutex_lock(&context->lock);
    if (context->num_faults < EEPI_FAULT_QUEUE) {
        context->faults[context->num_faults++] =
            (eep_fault){sizeof(eep_fault),          action->suspect.seat,
                        action->suspect.generation, (eep_fault_kind)action->suspect.kind,
                        action->view->epoch,        eepi_now_ns()};
    }
    pthread_mutex_unlock(&context->lock);
}

/* A process that holds a seat lives, or nobody can tell, and it has not been heard of on this
 * connection to the store: it may know an instance that the store forgot. -1: there is none. */
static int unheard_seat(const eep_context *context, eepi_seat_holder *holder_out)
{
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        const eepi_peer *peer = &context->peers[seat];
        eep_status status = eepi_seat_look(context->store_path, seat, holder_out);
        if (seat == context->config.rank || (status == EEP_OK && holder_out->generation == 0)) {
            continue;
        }
        if (peer->is_heard && peer->record.member.generation >= holder_out->generation) {
            continue;
        }
        if (status != EEP_OK ||
            !eepi_seat_has_ended(context->store_path, seat, context->home, holder_out)) {
            return seat;
        }
    }
    return -1;
}

/* No instance begins before all who live were heard; then the core looks again. */
static int may_begin(eep_context *context)
{
    eepi_seat_holder holder;
    int seat = unheard_seat(context, &holder), before;

    pthread_mutex_lock(&context->lock); /* eep_join says whom it waits for */
    before = context->begin_waits_for;
    context->begin_waits_for = seat < 0 ? 0 : seat + 1;
    pthread_mutex_unlock(&context->lock);
    if (seat < 0) {
        return 1;
    }
    if (before != seat + 1) {
        eepi_log(context, EEP_LOG_WARN,
                 "an instance cannot begin: process %d holds seat %d as generation %u (%s.seat%d), "
                 "and has not reached the store",
                 holder.pid, seat, holder.generation, context->store_path, seat);
    }
    context->begin_again_us = eepi_now_us() + BEGIN_AGAIN_US;
    return 0;
}

void eepi_begin_again(eep_context *context)
{
    const eepi_input again = {.kind = EEPI_INPUT_CAS_UNKNOWN};

    if (context->begin_again_us == 0 || eepi_now_us() < context->begin_again_us) {
        return;
    }
    context->begin_again_us = 0;
    if (context->cas_id == 0) { /* else another one is on its way, and its answer is as good */
        eepi_inbox_post(context->inbox, &again);
    }
}

static void compare_and_swap(eep_context *context, const eepi_action *action)
{
    const eepi_view *view = action->view, *known = eepi_core_view(context->core);

    if (view->cause == EEPI_VIEW_INITIAL && !(known && known->digest == view->digest) &&
        !may_begin(context)) {
        return;
    }
    eepi_tell_proposal(context, view);
    context->cas_epoch = view->epoch;
    context->cas_phase = view->phase;
    context->cas_id =
        eepi_store_cas(context->store, EEPI_KEY_VIEW, action->revision, view, view->bytes);
}

/* What concerns the store. */
static void perform_store(eep_context *context, const eepi_action *action)
{
    switch (action->kind) {
    case EEPI_ACTION_REPORT:
        put_report(context, &action->report);
        break;
    case EEPI_ACTION_CAS:
        compare_and_swap(context, action);
        break;
    case EEPI_ACTION_READ:
        context->read_id = eepi_store_get(context->store, EEPI_KEY_VIEW);
        break;
    case EEPI_ACTION_PLAN:
        (void)eepi_store_put(context->store, EEPI_KEY_PLAN, action->view, action->view->bytes, 0);
        break;
    case EEPI_ACTION_ACK:
        put_ack(context, &action->ack);
        eepi_tell_ack(context, &action->ack);
        context->said_acks[action->ack.kind] = action->ack;
        break;
    case EEPI_ACTION_EXIT:
        put_end(context, &action->end);
        break;
    default:
        eepi_peer_publish(context); /* EEPI_ACTION_MEMBER */
        break;
    }
}

/* What observers are told. */
static void perform_note(eep_context *context, const eepi_action *action)
{
    switch (action->kind) {
    case EEPI_ACTION_SUSPECTED:
        eepi_tell_suspected(context, &action->suspect);
        eepi_event(context, EEP_EVENT_SUSPECTED, action->suspect.seat, action->suspect.generation,
                   0, (uint64_t)action->suspect.kind);
        break;
    case EEPI_ACTION_EXPELLED:
        eepi_tell_cause(context, &action->suspect);
        note_fault(context, action);
        break;
    default: /* EEPI_ACTION_REFUSED */
        refuse(context, action);
        break;
    }
}

void eepi_perform(eep_context *context, const eepi_action *action)
{
    switch (action->kind) {
    case EEPI_ACTION_WEDGE:
        wedge(context);
        break;
    case EEPI_ACTION_STAGE:
        stage_plan(context, action->view);
        break;
    case EEPI_ACTION_INSTALL:
        install(context, action->view);
        break;
    case EEPI_ACTION_ANNOUNCE:
        announce(context, action->view);
        break;
    case EEPI_ACTION_FILL:
        fill(context, action->view);
        break;
    case EEPI_ACTION_CANCEL:
        cancel(context, action->epoch);
        break;
    case EEPI_ACTION_KILL:
        eepi_kill_suspect(context, &action->suspect);
        break;
    case EEPI_ACTION_EVICTED:
        eepi_event(context, EEP_EVENT_EVICTED, context->config.rank, context->generation, 0, 0);
        eepi_end_service(context, EEP_ERR_EVICTED, "this process was expelled from the view");
        break;
    case EEPI_ACTION_DRAINED:
        if (eepi_core_instance_has_ended(context->core)) {
            eepi_end_service(context, EEP_ERR_DRAINED,
                             "the instance has ended in order: all of its ranks have left");
        } else {
            eepi_end_service(context, EEP_ERR_DRAINED, "this rank has left the view as it asked");
        }
        break;
    case EEPI_ACTION_UNCOVERED:
        eepi_event(context, EEP_EVENT_UNCOVERED, -1, 0, 0, 0);
        eepi_fail_closed(context, action->why);
        break;
    case EEPI_ACTION_SUSPECTED:
    case EEPI_ACTION_EXPELLED:
    case EEPI_ACTION_REFUSED:
        perform_note(context, action);
        break;
    default:
        perform_store(context, action);
        break;
    }
}
