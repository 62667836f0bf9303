/* SPDX-License-Identifier: Apache-2.0 */
/* Streams and events. A stream is a name for its place in a queue; an event is the record that was
 * last made of it, so one that is recorded again releases nobody too soon. */
#include "tests/fake_gpu/fake_internal.h"

#include <stdbool.h>
#include <stdlib.h>

enum { HIGHEST_PRIORITY = -5 };

struct CUevent_st {
    fake_record *record; /* NULL: never recorded */
};

cudaStream_t fake_streams;
static uint32_t num_created;

/* ------------------------------------------------------------------ streams */

bool fake_stream_is_known(cudaStream_t stream)
{
    for (cudaStream_t known = fake_streams; known; known = known->next) {
        if (known == stream) {
            return true;
        }
    }
    return false;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess) {
        return error;
    }
    if (least) {
        *least = 0;
    }
    if (greatest) {
        *greatest = HIGHEST_PRIORITY;
    }
    return cudaSuccess;
}

/* In turn, or by chance: nobody promises which queue a stream gets. */
static uint32_t deal(uint32_t number)
{
    uint32_t drawn =
        fake.deal_seed ? (number + 1) * 2654435761u ^ fake.deal_seed * 2246822519u : number;

    if (fake.deal_seed) {
        drawn = (drawn ^ drawn >> 15) * 2246822519u;
        drawn ^= drawn >> 13;
    }
    return drawn % (uint32_t)fake.count.queues;
}

/* Flags are taken as cudaStreamNonBlocking: there is no legacy default stream. */
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream_out, unsigned flags, int priority)
{
    cudaError_t error = fake_enter(FAKE_WORKS);
    cudaStream_t stream;

    (void)flags;
    if (error != cudaSuccess) {
        return error;
    }
    stream = calloc(1, sizeof *stream);
    if (!stream) {
        return cudaErrorMemoryAllocation;
    }
    stream->priority = priority > 0 ? 0 : priority < HIGHEST_PRIORITY ? HIGHEST_PRIORITY : priority;
    pthread_mutex_lock(&fake.lock);
    stream->number = num_created++;
    stream->queue = deal(stream->number);
    stream->next = fake_streams;
    fake_streams = stream;
    if (++fake.count.streams_open > fake.count.most_streams) {
        fake.count.most_streams = fake.count.streams_open;
    }
    pthread_mutex_unlock(&fake.lock);
    fake_report();
    *stream_out = stream;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream_out, unsigned flags)
{
    return cudaStreamCreateWithPriority(stream_out, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream_out)
{
    return cudaStreamCreateWithPriority(stream_out, cudaStreamDefault, 0);
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error == cudaSuccess) {
        *priority = stream->priority;
    }
    return error;
}

/* What is in it still runs; a capture is dropped. */
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&fake.lock);
    error = cudaErrorInvalidResourceHandle;
    for (cudaStream_t *at = &fake_streams; *at; at = &(*at)->next) {
        if (*at != stream) {
            continue;
        }
        error = cudaSuccess;
        *at = stream->next;
        fake.count.streams_open--;
        fake_capture_drop(stream);
        stream->is_destroyed = 1;
        if (stream->pending == 0) {
            free(stream);
        }
        break;
    }
    pthread_mutex_unlock(&fake.lock);
    fake_report();
    return error;
}

/* With the lock held: is it a stream that may be asked? */
static cudaError_t may_ask(cudaStream_t stream)
{
    if (!fake_stream_is_known(stream)) {
        return cudaErrorInvalidResourceHandle;
    }
    return stream->capture == cudaStreamCaptureStatusNone ? cudaSuccess
                                                          : fake_capture_spoil(stream);
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&fake.lock);
    error = may_ask(stream);
    if (error == cudaSuccess && stream->pending > 0) {
        error = cudaErrorNotReady;
    }
    pthread_mutex_unlock(&fake.lock);
    return error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&fake.lock);
    error = may_ask(stream);
    if (error == cudaSuccess) {
        fake_stream_wait_empty(stream, "cudaStreamSynchronize");
    }
    pthread_mutex_unlock(&fake.lock);
    return error;
}

/* ------------------------------------------------------------------ events */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event_out, unsigned flags)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    (void)flags;
    if (error != cudaSuccess) {
        return error;
    }
    *event_out = calloc(1, sizeof **event_out);
    return *event_out ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaEventCreate(cudaEvent_t *event_out)
{
    return cudaEventCreateWithFlags(event_out, 0);
}

/* With the lock held. */
static void forget_record(cudaEvent_t event)
{
    if (event->record && --event->record->refs == 0) {
        free(event->record);
    }
    event->record = NULL;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&fake.lock);
    forget_record(event);
    pthread_mutex_unlock(&fake.lock);
    free(event);
    return cudaSuccess;
}

/* Captures know nothing of events here. */
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    fake_record *record = calloc(1, sizeof *record);
    fake_work work = {.kind = FAKE_RECORD, .record = record};
    cudaError_t error = fake_enter(FAKE_WORKS);

    FAKE_REQUIRE(record != NULL);
    if (error != cudaSuccess) {
        free(record);
        return error;
    }
    pthread_mutex_lock(&fake.lock);
    error = may_ask(stream);
    if (error == cudaSuccess) {
        forget_record(event);
        event->record = record;
        record->refs = 2; /* the event's, and the queue's */
        fake_queue_append(stream, &work);
    }
    pthread_mutex_unlock(&fake.lock);
    if (error != cudaSuccess) {
        free(record);
    }
    return error;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    fake_work work = {.kind = FAKE_WAIT};
    cudaError_t error = fake_enter(FAKE_WORKS);

    (void)flags;
    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&fake.lock);
    error = may_ask(stream);
    if (error == cudaSuccess && event->record) {
        work.record = event->record;
        work.record->refs++;
        fake_queue_append(stream, &work);
    }
    pthread_mutex_unlock(&fake.lock);
    return error;
}

/* An event is asked about what runs, which a capture in global mode forbids to other threads. */
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&fake.lock);
    error = fake_capture_allows();
    if (error == cudaSuccess && event->record && !event->record->is_done) {
        error = cudaErrorNotReady;
    }
    pthread_mutex_unlock(&fake.lock);
    return error;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    cudaError_t error = fake_enter(FAKE_WORKS);
    uint64_t until_us = fake_bound_us();

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&fake.lock);
    error = fake_capture_allows();
    while (error == cudaSuccess && event->record && !event->record->is_done) {
        if (!fake_sleep(until_us) && eepi_now_us() >= until_us) {
            fake_hang("cudaEventSynchronize has waited %u ms", fake.bound_ms);
        }
    }
    pthread_mutex_unlock(&fake.lock);
    return error;
}
