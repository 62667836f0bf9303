/* SPDX-License-Identifier: Apache-2.0 */
/* Looking for the end of a step whose graph may run in a stream that libeep does not see. */
#include "membership/step/running_graph.h"

#include "graphs/device/device_ops.h"
#include "membership/context/context.h"
#include "membership/step/capture.h"
#include "membership/step/step.h"

enum { END_US = 200000 }; /* how long the end of such a step is waited for */

static bool has_ended(const eep_context *context)
{
    return eepk_load_acquire(&eepi_tables_status(context->tables)->done_step) ==
           context->stepper.step;
}

static bool has_begun(const eep_context *context)
{
    return eepk_load_acquire(&eepi_tables_status(context->tables)->began_step) ==
           context->stepper.step;
}

/* What is in an adopted stream is not waited for when its handle is closed. */
static bool is_left(const eep_stream *stream)
{
    return eepi_stream_is_adopted(stream) && eepi_stream_is_closed(stream);
}

/* The step's own stream is empty, and the step has begun and not ended. If its nodes were put there
 * one by one, all of them have run, and the step lacks its end. Otherwise it runs in a stream that
 * libeep does not see. */
static bool runs_in_another_stream(const eep_context *context)
{
    return has_begun(context) && !has_ended(context) &&
           (is_left(eepi_step_stream_of(context)) || !eepi_step_is_loose(context));
}

/* What libeep replays goes into the context's own stream and nowhere else. */
static bool may_be_queued(const eep_context *context)
{
    return !has_begun(context) && eepi_stream_is_adopted(eepi_step_stream_of(context)) &&
           (eepi_step_is_by_others(context) || is_left(eepi_step_stream_of(context)));
}

/* The step was aborted. */
static void await_end(const eep_context *context)
{
    const struct timespec nap = {0, 1000000};
    const uint64_t until_us = eepi_now_us() + END_US;

    while (!has_ended(context) && eepi_now_us() < until_us) {
        nanosleep(&nap, NULL);
    }
}

static void note(eep_context *context)
{
    pthread_mutex_lock(&context->lock);
    context->steps->graph_runs = runs_in_another_stream(context);
    context->steps->is_queued = may_be_queued(context);
    pthread_mutex_unlock(&context->lock);
}

bool eepi_running_graph_end(eep_context *context)
{
    bool ran_on = context->steps->graph_runs;

    if (!has_ended(context)) {
        eepi_abort_running(context);
        await_end(context);
        ran_on |= has_ended(context);
    } else if (!context->steps->graph_runs && !context->steps->is_queued) {
        return false; /* as nearly every step: no lock for it */
    }
    note(context);
    return ran_on;
}

eepi_left eepi_running_graph_left(eep_context *context, uint64_t bound_us)
{
    eep_status status = EEP_OK;

    if (!context->stepper.in_step) {
        return context->steps && context->steps->is_queued ? EEPI_LEFT_MEMORY : EEPI_LEFT_NOTHING;
    }
    __atomic_store_n(eepi_tables_abort_step(context->tables), UINT64_MAX, __ATOMIC_RELEASE);
    if (!eepi_stream_is_closed(eepi_step_stream_of(context))) {
        status = eep_stream_synchronize(eepi_step_stream_of(context), bound_us);
    }
    if (status != EEP_OK) { /* a device that failed runs nothing */
        return status == EEP_ERR_DEVICE ? EEPI_LEFT_NOTHING : EEPI_LEFT_ALL;
    }
    if (runs_in_another_stream(context) || may_be_queued(context)) {
        await_end(context);
    }
    note(context);
    return context->steps->graph_runs  ? EEPI_LEFT_ALL
           : context->steps->is_queued ? EEPI_LEFT_MEMORY
                                       : EEPI_LEFT_NOTHING;
}

bool eepi_graph_runs(const eep_context *context)
{
    return context->steps->graph_runs;
}
