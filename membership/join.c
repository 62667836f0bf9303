/* SPDX-License-Identifier: Apache-2.0 */
/* A context's way into the view and out of it. */
#include "graphs/base/public_call.h"
#include "graphs/base/thread.h"
#include "graphs/device/device_ops.h"
#include "membership/collective/collective.h"
#include "membership/context/context.h"
#include "membership/context/log.h"
#include "membership/service/filling.h"
#include "membership/step/arrivals.h"
#include "membership/step/capture.h"
#include "membership/step/step_trace.h"
#include "membership/weights/weights.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { BIND_BOUND_US = 1000000 };

/* Memory beyond what was reserved is got while the others serve, and may hold them up. */
static void say_late_calls(const eep_context *context)
{
    uint64_t calls =
        eepi_device_late_calls(context->config.device) - context->observed.late_calls_at_open;

    if (calls > 0) {
        eepi_log(context, EEP_LOG_WARN,
                 "%llu calls of this process may have waited for ranks that wait in kernels, and "
                 "held up others: see EEP_CUDA_PINNED_MB in docs/INTEGRATION.md",
                 (unsigned long long)calls);
    }
}

static void bind_rank(void *user)
{
    eep_context *context = user;

    (void)!eepi_topology_bind(context->topology, EEPI_THREAD_RANK, context->config.rank,
                              context->config.num_ranks);
}

/* The rank thread, and the worker of its stream where streams have one. */
static void bind_threads(eep_context *context)
{
    if (!context->topology) {
        return;
    }
    bind_rank(context);
    if (eepi_stream_run_on_worker(eepi_step_stream_of(context), bind_rank, context) == EEP_OK) {
        (void)!eep_stream_synchronize(eepi_step_stream_of(context), BIND_BOUND_US);
    }
}

/* The first of one or several calls. */
static eep_status ask_to_join(eep_context *context)
{
    sigset_t signals;
    eep_status status;

    if (!eepi_step_stream_of(context)) {
        return eepi_fail(context, EEP_ERR_STATE, "eep_join: %s", EEPI_NO_STREAM_TEXT);
    }
    status = eepi_check_sequence(context, "eep_join");
    if (status == EEP_OK) {
        status = eepi_weights_seal(context);
    }
    if (status == EEP_OK) {
        status = eepi_weights_seal_backups(context);
    }
    if (status != EEP_OK) {
        return status;
    }
    eepi_signals_block(&signals); /* threads that other libraries start take none */
    status = eepi_filling_open(context);
    eepi_signals_restore(&signals);
    if (status != EEP_OK) {
        return status;
    }
    say_late_calls(context);
    bind_threads(context); /* asks the device, so without the lock */
    pthread_mutex_lock(&context->lock);
    context->has_joined = true;
    context->observed.captures_at_join = eep_device_captures(context->config.device);
    context->mailbox.ready = true;
    eepi_service_wake(context);
    pthread_mutex_unlock(&context->lock);
    return EEP_OK;
}

static eep_status say_who_is_missing(eep_context *context)
{
    const uint64_t us = context->config.join_timeout_us;
    char missing[EEPI_ERROR_BYTES / 2];

    eepi_arrivals_say(context, missing, sizeof missing);
    return eepi_fail(context, EEP_ERR_TIMEOUT, "eep_join: not let in within %llu %s: %s",
                     (unsigned long long)(us % 1000 ? us : us / 1000), us % 1000 ? "us" : "ms",
                     missing);
}

/* With the lock. */
static bool is_in_view(const eep_context *context)
{
    return context->stepper.pending.epoch != 0 || context->stepper.live.epoch != 0;
}

/* With the lock. Also true for what was over before this thread ran: a rank that was refused and
 * has left. */
static bool is_closed(const eep_context *context, uint32_t num_before)
{
    return context->outcome.uncovered ||
           (!is_in_view(context) && context->outcome.num_closed != num_before);
}

/* Rule P5: of each shape. */
static eep_status check_orders(eep_context *context)
{
    for (int32_t shape = 0; shape < (int32_t)context->shape.num_shapes; shape++) {
        if (eepi_capture_order(context, shape) == 0) {
            return eepi_fail(context, EEP_ERR_STATE,
                             "eep_join: num_chains is %d, and the order in which their sends and "
                             "receives mix is told to the others here: capture the step before "
                             "(shape %d of %u)",
                             context->config.num_chains, shape, context->shape.num_shapes);
        }
    }
    return EEP_OK;
}

static eep_status join(eep_context *context)
{
    uint64_t at_us;
    struct timespec until;
    eep_status status = eepi_refuse_in_capture(context, "eep_join");
    bool late = false, is_patient;
    uint32_t before;

    if (status != EEP_OK) {
        return status;
    }
    pthread_mutex_lock(&context->lock);
    before = context->outcome.num_closed;
    is_patient = context->outcome.uncovered; /* the caller knows that since the last call */
    pthread_mutex_unlock(&context->lock);
    at_us = eepi_now_us() + context->config.join_timeout_us;
    until = (struct timespec){(time_t)(at_us / 1000000u), (long)(at_us % 1000000u) * 1000};
    if (context->has_joined && !context->calls.waits_to_join) {
        return eepi_fail(context, EEP_ERR_STATE,
                         "eep_join: this context has joined already: eep_step_begin comes next");
    }
    if (!context->has_joined) {
        status = check_orders(context);
    }
    if (status != EEP_OK) {
        return status;
    }
    if (!context->has_joined) {
        status = ask_to_join(context);
    }
    if (status != EEP_OK) {
        return status;
    }
    pthread_mutex_lock(&context->lock);
    while (!is_in_view(context) && context->outcome.ended == EEP_OK &&
           (is_patient || !is_closed(context, before)) && !late && !eepi_call_is_closed(context)) {
        late = eepi_rank_wait(context, &until);
    }
    if (context->outcome.ended != EEP_OK) {
        status = eepi_fail(context, context->outcome.ended, "eep_join: %s", context->outcome.why);
    } else if (is_closed(context, before)) {
        status = eepi_fail(context, EEP_ERR_UNCOVERED, "eep_join: %s", context->outcome.why);
    } else if (!is_in_view(context)) {
        status = say_who_is_missing(context);
    }
    context->calls.waits_to_join = status == EEP_ERR_TIMEOUT || status == EEP_ERR_UNCOVERED;
    pthread_mutex_unlock(&context->lock);
    if (status == EEP_OK) {
        eepi_step_trace_joined(context);
    }
    return status;
}

eep_status eep_join(eep_context *context)
{
    eep_status status = eepi_call_begin(context, "eep_join");

    if (status != EEP_OK) {
        return status;
    }
    status = join(context);
    if (status == EEP_OK || status == EEP_ERR_UNCOVERED) {
        eepi_collectives_join(context);
    }
    return eepi_call_end(context, status);
}

eep_status eep_busy(eep_context *context, uint64_t busy_us)
{
    eep_status status = eepi_check_context("eep_busy", context);

    if (status != EEP_OK) {
        return status;
    }
    if (busy_us > EEP_BUSY_MAX_US) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "eep_busy: busy_us is %llu: 0 to %d are possible; call again before "
                           "that time is over",
                           (unsigned long long)busy_us, EEP_BUSY_MAX_US);
    }
    eepi_detector_set_busy(context->detector, busy_us ? eepi_now_ns() + busy_us * 1000u : 0);
    return EEP_OK;
}

static eep_status ask_to_leave(eep_context *context, const char *call, int leaving)
{
    eep_status status = eepi_refuse_in_capture(context, call);

    if (status != EEP_OK) {
        return status;
    }
    if (!context->has_joined) {
        return eepi_fail(context, EEP_ERR_STATE,
                         "%s: this rank has not called eep_join yet, so it has nothing to leave: "
                         "eep_close ends it",
                         call);
    }
    pthread_mutex_lock(&context->lock);
    if (context->outcome.ended != EEP_OK) {
        status = eepi_fail(context, context->outcome.ended, "%s: %s", call, context->outcome.why);
    }
    context->mailbox.leave |= leaving;
    pthread_mutex_unlock(&context->lock);
    eepi_service_wake(context);
    return status;
}

eep_status eep_drain(eep_context *context)
{
    return ask_to_leave(context, "eep_drain", EEPI_LEAVES);
}

eep_status eep_instance_end(eep_context *context)
{
    return ask_to_leave(context, "eep_instance_end", EEPI_LEAVES | EEPI_LEAVES_AS_LAST);
}
