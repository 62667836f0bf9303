/* Steps whose graph may run in a stream that libeep does not see. A caller that captures by its own
 * means replays by its own means, too, and may do so in another stream than it named. */
#include "graphs/device/device_ops.h"
#include "membership/context/context.h"

enum { ELSEWHERE_US = 200000 }; /* how long the end of such a step is waited for */

static int has_ended(const eep_context *context)
{
    return eepk_load_acquire(&eepi_tables_status(context->tables)->done_step) ==
           context->stepper.step;
}

static int has_begun(const eep_context *context)
{
    return eepk_load_acquire(&eepi_tables_status(context->tables)->began_step) ==
           context->stepper.step;
}

/* What is in an adopted stream is not waited for when its handle is closed. */
static int is_left(const eep_stream *stream)
{
    return eepi_stream_is_adopted(stream) && eepi_stream_is_closed(stream);
}

/* Its own stream is empty, and the step has begun and not ended. Nodes that were put there one by
 * one have all run: then the step lacks its end. Everything else runs where libeep does not look.
 */
static int runs_elsewhere(const eep_context *context)
{
    return has_begun(context) && !has_ended(context) &&
           (is_left(context->stream) ||
            !eepi_sequence_is_loose(&context->sequence, context->stream, context->stepper.step));
}

/* What libeep replays goes into the context's own stream and nowhere else. */
static int may_be_queued(const eep_context *context)
{
    return !has_begun(context) && eepi_stream_is_adopted(context->stream) &&
           (context->sequence.by_others || is_left(context->stream));
}

/* The step was aborted. */
static void await_end(const eep_context *context)
{
    const struct timespec nap = {0, 1000000};
    const uint64_t until_us = eepi_now_us() + ELSEWHERE_US;

    while (!has_ended(context) && eepi_now_us() < until_us) {
        nanosleep(&nap, NULL);
    }
}

static void note(eep_context *context)
{
    pthread_mutex_lock(&context->lock);
    context->elsewhere = runs_elsewhere(context);
    context->queued = may_be_queued(context);
    pthread_mutex_unlock(&context->lock);
}

int eepi_elsewhere_end(eep_context *context)
{
    int was_elsewhere = context->elsewhere;

    if (!has_ended(context)) {
        eepi_abort_running(context);
        await_end(context);
        was_elsewhere |= has_ended(context);
    } else if (!context->elsewhere && !context->queued) {
        return 0; /* as nearly every step: no lock for it */
    }
    note(context);
    return was_elsewhere;
}

eepi_left eepi_elsewhere_left(eep_context *context, uint64_t bound_us)
{
    eep_status status = EEP_OK;

    if (!context->stepper.in_step) {
        return context->queued ? EEPI_LEFT_MEMORY : EEPI_LEFT_NOTHING;
    }
    __atomic_store_n(eepi_tables_abort_step(context->tables), UINT64_MAX, __ATOMIC_RELEASE);
    if (!eepi_stream_is_closed(context->stream)) {
        status = eep_stream_synchronize(context->stream, bound_us);
    }
    if (status != EEP_OK) { /* a device that failed runs nothing */
        return status == EEP_ERR_DEVICE ? EEPI_LEFT_NOTHING : EEPI_LEFT_ALL;
    }
    if (runs_elsewhere(context) || may_be_queued(context)) {
        await_end(context);
    }
    note(context);
    return context->elsewhere ? EEPI_LEFT_ALL
           : context->queued  ? EEPI_LEFT_MEMORY
                              : EEPI_LEFT_NOTHING;
}
