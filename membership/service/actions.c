/* SPDX-License-Identifier: Apache-2.0 */
/* What the core asks for, carried out. Service thread. */
#include "membership/service/actions.h"

#include "eep/control.h"
#include "membership/backup/backups.h"
#include "membership/collective/collective.h"
#include "membership/context/context.h"
#include "membership/context/event.h"
#include "membership/context/log.h"
#include "membership/context/records.h"
#include "membership/process/seat_file.h"
#include "membership/service/fence.h"
#include "membership/service/filling.h"
#include "membership/service/peers.h"
#include "membership/service/staging.h"
#include "membership/service/store_session.h"
#include "membership/service/tell.h"
#include "membership/step/arrivals.h"
#include "membership/weights/weights.h"

#include <stdio.h>

enum { BEGIN_AGAIN_US = 20000 };

/* Rule M2: a rank drains before it promises. DRAINED comes with the end of the step in flight. */
static void wedge(eep_context *context)
{
    eepi_tell_without_view(context);
    eepi_store_note_heard(context); /* the promise comes first, and its answer */
    eepi_collectives_stop(context);
    pthread_mutex_lock(&context->lock);
    if (eepi_stepper_wedge(&context->stepper)) {
        eepi_abort_running(context);
    } else {
        eepi_service_wake(context);
    }
    pthread_mutex_unlock(&context->lock);
    eepi_rank_wake(context);
}

static void refuse(eep_context *context, const eepi_action *action)
{
    eepi_refusal refusal = {action->suspect.seat, action->suspect.generation, {0}};

    eepi_log(context, EEP_LOG_ERROR, "refuses rank %d (generation %u): %s", action->suspect.seat,
             action->suspect.generation, action->why);
    snprintf(refusal.why, sizeof refusal.why, "%s", action->why);
    eepi_store_put_refusal(context, &refusal);
}

static void note_fault(eep_context *context, const eepi_action *action)
{
    pthread_mutex_lock(&context->lock);
    context->observed.counters.experts_reused = eepi_core_num_reused(context->core);
    if (context->observed.num_faults < EEPI_FAULT_QUEUE) {
        context->observed.faults[context->observed.num_faults++] =
            (eep_fault){sizeof(eep_fault),          action->suspect.seat,
                        action->suspect.generation, (eep_fault_kind)action->suspect.kind,
                        action->view->epoch,        eepi_now_ns()};
    }
    pthread_mutex_unlock(&context->lock);
    eepi_ready(context, EEP_READY_FAULT);
}

/* A seat whose holder lives, or may live, and was not heard on this connection to the store: it may
 * know an instance that the store forgot. -1: there is none. */
static int unheard_seat(const eep_context *context, eepi_seat_holder *holder_out)
{
    for (int seat = 0; seat < context->config.max_ranks; seat++) {
        eep_status status = eepi_seat_look(context->store_path, seat, holder_out);
        if (seat == context->config.rank || (status == EEP_OK && holder_out->generation == 0)) {
            continue;
        }
        if (eepi_peer_is_heard(context, seat, holder_out->generation)) {
            continue;
        }
        if (status != EEP_OK ||
            !eepi_seat_has_ended(context->store_path, seat, context->process.home, holder_out)) {
            return seat;
        }
    }
    return -1;
}

/* Look again whether an instance may begin. While another compare-and-swap is on its way, its
 * answer is as good. */
static bool begin_again(eep_context *context, uint64_t digest)
{
    const eepi_input again = {.kind = EEPI_INPUT_CAS_UNKNOWN};

    (void)digest;
    if (!eepi_store_is_swapping(context)) {
        eepi_inbox_post(context->inbox, &again);
    }
    return true;
}

/* No instance begins before every living holder of a seat was heard; then the core looks again. */
static bool may_begin(eep_context *context)
{
    eepi_seat_holder holder;
    const int seat = unheard_seat(context, &holder);
    const bool is_new = eepi_arrival_awaited(context, seat);

    if (seat < 0) {
        return true;
    }
    if (is_new) {
        eepi_log(context, EEP_LOG_WARN,
                 "an instance cannot begin: process %d holds seat %d as generation %u (%s.seat%d), "
                 "and has not reached the store",
                 holder.pid, seat, holder.generation, context->store_path, seat);
    }
    eepi_retry_set(&context->retries, EEPI_RETRY_BEGIN, eepi_now_us() + BEGIN_AGAIN_US, 0,
                   begin_again);
    return false;
}

static void compare_and_swap(eep_context *context, const eepi_action *action)
{
    const eepi_view *view = action->view, *known = eepi_core_view(context->core);

    if (view->cause == EEPI_VIEW_INITIAL && !(known && known->digest == view->digest) &&
        !may_begin(context)) {
        return;
    }
    eepi_tell_proposal(context, view);
    eepi_store_swap_view(context, view, action->revision);
}

static void put_report(eep_context *context, const eepi_report *report)
{
    if (eepi_store_put_report(context, report)) {
        eepi_tell_promise(context, report);
        eepi_event(context, EEP_EVENT_WEDGED, context->config.rank, context->generation,
                   report->epoch, report->highest_step);
    }
}

/* What concerns the store. */
static void perform_store(eep_context *context, const eepi_action *action)
{
    switch (action->kind) {
    case EEPI_ACTION_REPORT:
        put_report(context, &action->report);
        break;
    case EEPI_ACTION_TELL_WEDGE:
        eepi_store_tell_wedge(context, &action->wedge);
        break;
    case EEPI_ACTION_LISTEN:
    case EEPI_ACTION_IGNORE:
        eepi_store_listen(context, action->kind == EEPI_ACTION_LISTEN);
        break;
    case EEPI_ACTION_CAS:
        compare_and_swap(context, action);
        break;
    case EEPI_ACTION_READ:
        eepi_store_read_view(context);
        break;
    case EEPI_ACTION_PLAN:
        (void)eepi_store_put(context->store, EEPI_KEY_PLAN, action->view, action->view->bytes, 0);
        break;
    case EEPI_ACTION_ACK:
        eepi_store_put_ack(context, &action->ack);
        eepi_tell_ack(context, &action->ack);
        break;
    case EEPI_ACTION_EXIT:
        eepi_store_put_end(context, &action->end);
        break;
    default:
        eepi_store_put_record(context); /* EEPI_ACTION_MEMBER */
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
        eepi_note_behind_gates(context, action->view, &action->suspect);
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
        eepi_stage_plan(context, action->view);
        break;
    case EEPI_ACTION_INSTALL:
        eepi_install(context, action->view);
        break;
    case EEPI_ACTION_ANNOUNCE:
        eepi_announce(context, action->view);
        break;
    case EEPI_ACTION_FILL:
        eepi_fill_start(context, action->view);
        break;
    case EEPI_ACTION_CANCEL:
        eepi_fill_cancel(context, action->epoch);
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
            if (eepi_weights_node(context)) {
                eepi_backups_end(eepi_weights_node(context));
            }
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
