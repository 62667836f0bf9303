/* What the core asks for, carried out. Service thread. */
#include "membership/bank_image.h"
#include "membership/context.h"
#include "membership/process.h"
#include "repair/planner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STAGE_BOUND_US = 2000000 };

static void put_seat(eep_context *context, const char *prefix, int32_t seat, const void *bytes,
                     size_t size)
{
    char key[EEPI_STORE_KEY_MAX];

    snprintf(key, sizeof(key), "%s%d", prefix, seat);
    (void)eepi_store_put(context->store, key, bytes, size, 0);
}

static void put_report(eep_context *context, const eepi_report *report)
{
    size_t bytes;
    void *encoded = eepi_report_encode(report, &bytes);

    if (!encoded)
        return;
    put_seat(context, EEPI_KEY_REPORT, report->seat, encoded, bytes);
    free(encoded);
    eepi_event(context, EEP_EVENT_WEDGED, context->config.rank, context->generation, report->epoch,
               report->highest_step);
}

/* Rule M2: end the running step at once. The rank thread says DRAINED when none is in flight. */
static void wedge(eep_context *context)
{
    pthread_mutex_lock(&context->lock);
    context->wedged = 1;
    context->staged = (eepi_live){0};
    context->announced = (eepi_live){0};
    context->pending = (eepi_live){0};
    context->flip_due = 0;
    if (context->in_step) {
        __atomic_store_n(eepi_tables_abort_step(context->tables), context->step, __ATOMIC_RELEASE);
    } else {
        context->mailbox.drained = 1;
        context->mailbox.drained_step = context->step;
        eepi_service_wake(context);
    }
    pthread_mutex_unlock(&context->lock);
    eepi_rank_wake(context);
}

static int stage(eep_context *context, const eepi_view *view)
{
    void **windows = calloc((size_t)view->shape.max_ranks, sizeof(*windows));
    eep_status status = EEP_ERR_NO_MEMORY;

    if (windows)
        status = eepi_peers_map(context, view, windows);
    if (status == EEP_OK) {
        eepi_bank_image(&context->shape, view, windows, eepi_tables_image(context->tables));
        status = eepi_tables_stage(context->tables, STAGE_BOUND_US);
    }
    free(windows);
    if (status != EEP_OK)
        eepi_log(context, EEP_LOG_WARN, "view %llu could not be staged: %s",
                 (unsigned long long)view->epoch, eep_strerror(status));
    return status == EEP_OK;
}

/* The view as the rank thread needs it; who is new in it is told from the seats followed so far,
 * so this comes before follow_seats. */
static eepi_live live_of(const eep_context *context, const eepi_view *view)
{
    eepi_live live = {.epoch = view->epoch,
                      .digest = view->digest,
                      .first_step = view->first_step,
                      .num_active = eepi_view_num_active(view),
                      .planned = view->cause == EEPI_VIEW_PLANNED};

    for (int seat = 0; live.planned && seat < view->shape.max_ranks; seat++) {
        const eep_seat *before = &context->seats[seat];
        int was_there = before->generation == eepi_view_seat_at(view, seat)->generation &&
                        (before->state == EEP_SEAT_ACTIVE || before->state == EEP_SEAT_RETIRING);
        if (eepi_view_is_member(view, seat) && !was_there)
            live.joined[seat / 64] |= 1ull << (seat % 64);
    }
    return live;
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
    eepi_weights_follow(context, view);
}

/* A view that takes effect from the next step on. */
static void install(eep_context *context, const eepi_view *view)
{
    int joining = view->cause == EEPI_VIEW_PLANNED; /* only a rank that is new in it */
    eepi_live live = live_of(context, view);

    if (eepi_tables_staged(context->tables) != view->digest && !stage(context, view))
        return; /* the peer that could not be mapped is dying: its evidence follows */
    follow_seats(context, view);
    pthread_mutex_lock(&context->lock);
    context->pending = live;
    context->must_follow = joining;
    context->staged = (eepi_live){0};
    context->announced = (eepi_live){0};
    context->flip_due = 0;
    context->wedged = 0;
    context->uncovered = 0;
    pthread_mutex_unlock(&context->lock);
    eepi_event(context, EEP_EVENT_INSTALLED, -1, 0, view->epoch, view->first_step);
    eepi_rank_wake(context);
}

static void stage_plan(eep_context *context, const eepi_view *view)
{
    eepi_input staged = {.kind = EEPI_INPUT_STAGED, .digest = view->digest};
    eepi_live live = live_of(context, view);
    int busy;

    pthread_mutex_lock(&context->lock);
    busy = context->pending.epoch != 0; /* the idle bank waits for its own flip */
    pthread_mutex_unlock(&context->lock);
    if (busy || !stage(context, view))
        return; /* the plan lapses and is made again */
    pthread_mutex_lock(&context->lock);
    context->staged = live;
    pthread_mutex_unlock(&context->lock);
    eepi_event(context, EEP_EVENT_STAGED, -1, 0, view->epoch, 0);
    eepi_give(context, &staged);
}

static void announce(eep_context *context, const eepi_view *view)
{
    eepi_live live = live_of(context, view);

    follow_seats(context, view);
    pthread_mutex_lock(&context->lock);
    if (context->live.digest != live.digest) /* else peers told us in-band before the store did */
        context->announced = live;
    pthread_mutex_unlock(&context->lock);
    eepi_rank_wake(context);
}

static void fill(eep_context *context, const eepi_view *view)
{
    eepi_event(context, EEP_EVENT_REPAIRING, -1, 0, view->epoch,
               (uint64_t)eepi_plan_fills(view, -1, NULL, 0));
    eepi_executor_start(context->executor, context->bulk, view);
}

static void end_service(eep_context *context, eep_status status, const char *why)
{
    pthread_mutex_lock(&context->lock);
    if (context->ended == EEP_OK) {
        context->ended = status;
        snprintf(context->why_ended, sizeof(context->why_ended), "%s", why);
    }
    if (context->in_step)
        __atomic_store_n(eepi_tables_abort_step(context->tables), context->step, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&context->lock);
    eepi_log(context, EEP_LOG_WARN, "%s", why);
    eepi_rank_wake(context);
}

/* Rule R2: nobody serves until a process brings the missing experts; then a view is installed. */
static void fail_closed(eep_context *context, const char *why)
{
    pthread_mutex_lock(&context->lock);
    context->uncovered = 1;
    snprintf(context->why_ended, sizeof(context->why_ended), "%s", why);
    pthread_mutex_unlock(&context->lock);
    eepi_log(context, EEP_LOG_ERROR, "no rank can serve: %s", why);
    eepi_rank_wake(context);
}

static void note_fault(eep_context *context, const eepi_action *action)
{
    pthread_mutex_lock(&context->lock);
    if (context->num_faults < EEPI_FAULT_QUEUE)
        context->faults[context->num_faults++] =
            (eep_fault){action->suspect.seat, action->suspect.generation,
                        (eep_fault_kind)action->suspect.kind, action->view->epoch, eepi_now_ns()};
    pthread_mutex_unlock(&context->lock);
}

static void kill_suspect(eep_context *context, const eepi_suspect *suspect)
{
    eepi_peer *peer = &context->peers[suspect->seat];

    if (peer->pidfd_generation != suspect->generation || peer->pidfd < 0)
        return;
    eepi_log(context, EEP_LOG_WARN, "killing rank %d.%u (%s) before it is expelled", suspect->seat,
             suspect->generation, eep_fault_kind_name((eep_fault_kind)suspect->kind));
    eepi_process_kill(peer->pidfd);
}

/* What concerns the store. */
static void perform_store(eep_context *context, const eepi_action *action)
{
    switch (action->kind) {
    case EEPI_ACTION_REPORT:
        put_report(context, &action->report);
        break;
    case EEPI_ACTION_CAS:
        context->cas_epoch = action->view->epoch;
        context->cas_phase = action->view->phase;
        context->cas_id = eepi_store_cas(context->store, EEPI_KEY_VIEW, action->revision,
                                         action->view, action->view->bytes);
        break;
    case EEPI_ACTION_READ:
        context->read_id = eepi_store_get(context->store, EEPI_KEY_VIEW);
        break;
    case EEPI_ACTION_PLAN:
        (void)eepi_store_put(context->store, EEPI_KEY_PLAN, action->view, action->view->bytes, 0);
        break;
    case EEPI_ACTION_ACK:
        put_seat(context, EEPI_KEY_ACK, action->ack.seat, &action->ack, sizeof(action->ack));
        break;
    case EEPI_ACTION_EXIT:
        put_seat(context, EEPI_KEY_EXIT, action->suspect.seat, &action->suspect,
                 sizeof(action->suspect));
        break;
    default:
        eepi_peer_publish(context, 1, 1); /* EEPI_ACTION_MEMBER */
        break;
    }
}

/* What observers are told. */
static void perform_note(eep_context *context, const eepi_action *action)
{
    switch (action->kind) {
    case EEPI_ACTION_SUSPECTED:
        eepi_log(context, EEP_LOG_INFO, "suspects rank %d.%u: %s", action->suspect.seat,
                 action->suspect.generation,
                 eep_fault_kind_name((eep_fault_kind)action->suspect.kind));
        eepi_event(context, EEP_EVENT_SUSPECTED, action->suspect.seat, action->suspect.generation,
                   0, (uint64_t)action->suspect.kind);
        break;
    case EEPI_ACTION_EXPELLED:
        note_fault(context, action);
        break;
    default: /* EEPI_ACTION_REFUSED */
        eepi_log(context, EEP_LOG_ERROR, "refuses rank %d: %s", action->suspect.seat, action->why);
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
        if (context->executor)
            eepi_executor_cancel(context->executor);
        eepi_bulk_cancel_before(context->bulk, action->epoch);
        break;
    case EEPI_ACTION_KILL:
        kill_suspect(context, &action->suspect);
        break;
    case EEPI_ACTION_EVICTED:
        eepi_event(context, EEP_EVENT_EVICTED, context->config.rank, context->generation, 0, 0);
        end_service(context, EEP_ERR_EVICTED, "this process was expelled from the view");
        break;
    case EEPI_ACTION_DRAINED:
        end_service(context, EEP_ERR_DRAINED, "this rank has left the view as it asked");
        break;
    case EEPI_ACTION_UNCOVERED:
        eepi_event(context, EEP_EVENT_UNCOVERED, -1, 0, 0, 0);
        fail_closed(context, action->why);
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
