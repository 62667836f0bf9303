/* SPDX-License-Identifier: Apache-2.0 */
/* Streams and events, and waits for them. None of these waits is the driver's own: they poll until
 * a deadline, so that no lock of the driver is held meanwhile. A stream that is closed is put away
 * and serves the next one that is opened: the process never has more of them than were in use at
 * once, which is what the hardware's queues are counted against. */
#include "graphs/cuda/cuda_backend.h"

#include "graphs/base/clock.h"

#include <stdbool.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

enum {
    YIELD_POLLS = 256,
    NAP_NS = 10000,
    TIMER_SLACK_NS = 1000,
    QUERY_PERIOD_US = 1000, /* of the driver, whose lock launches of other ranks need */
    CLOSE_TIMEOUT_US = 60000000
};

typedef struct cuda_event {
    int ordinal;
    cudaEvent_t event;
} cuda_event;

/* ------------------------------------------------------------------ waits with a deadline */

/* Yield while it is worth it, then sleep briefly: by default the kernel adds 50 us to each sleep.
 */
static void give_way(uint32_t polls)
{
    static _Thread_local int is_exact;
    const struct timespec nap = {0, NAP_NS};

    if (polls < YIELD_POLLS) {
        sched_yield();
        return;
    }
    if (!is_exact) {
        is_exact = prctl(PR_SET_TIMERSLACK, (unsigned long)TIMER_SLACK_NS, 0, 0, 0) == 0;
    }
    nanosleep(&nap, NULL);
}

typedef cudaError_t (*query_fn)(const void *object);

static cudaError_t query_stream(const void *stream)
{
    return cudaStreamQuery(((const cuda_stream *)stream)->stream);
}

static cudaError_t query_event(const void *event)
{
    return cudaEventQuery(((const cuda_event *)event)->event);
}

static eep_status timed_out(const char *call, int ordinal, uint64_t timeout_us)
{
    return eepi_cuda_fail(EEP_ERR_TIMEOUT, ordinal, "%s: not ready after %llu us", call,
                          (unsigned long long)timeout_us);
}

/* Looks once more after the deadline. */
static eep_status poll_until(query_fn query, const void *object, const char *call, int ordinal,
                             uint64_t timeout_us)
{
    uint64_t begin = eepi_now_us();

    for (uint32_t polls = 0;; polls++) {
        int late = eepi_now_us() - begin >= timeout_us;
        cudaError_t error = query(object);

        if (error != cudaErrorNotReady) {
            return eepi_cuda_checked(error, call, ordinal);
        }
        if (late) {
            return timed_out(call, ordinal, timeout_us);
        }
        give_way(polls);
    }
}

eep_status eepi_cuda_stream_synchronize(void *stream, uint64_t timeout_us)
{
    const cuda_stream *s = stream;
    eep_status status = eepi_cuda_use_device(s->ordinal);

    return status == EEP_OK ? poll_until(query_stream, s, "cudaStreamQuery", s->ordinal, timeout_us)
                            : status;
}

/* The word is a load; the driver is asked now and then, because the word may never come: after an
 * error, or if the graph was replayed elsewhere or not at all. Behind the node that stores the word
 * the graph may have others, so the stream is what decides. */
eep_status eepi_cuda_stream_await_word(void *stream, const uint64_t *word, uint64_t value,
                                       uint64_t timeout_us)
{
    const cuda_stream *s = stream;
    uint64_t begin = eepi_now_us(), now = begin, query_at = begin + QUERY_PERIOD_US;
    eep_status status = eepi_cuda_use_device(s->ordinal);

    if (status != EEP_OK) {
        return status;
    }
    /* partner: the store of done_step in the step's last kernel (eepk_finish) */
    for (uint32_t polls = 0; __atomic_load_n(word, __ATOMIC_ACQUIRE) != value; polls++) {
        int late;

        now = eepi_now_us();
        late = now - begin >= timeout_us;
        if (late || now >= query_at) {
            cudaError_t error = query_stream(s);
            if (error != cudaErrorNotReady) {
                return eepi_cuda_checked(error, "cudaStreamQuery", s->ordinal);
            }
            if (late) {
                return timed_out("cudaStreamQuery", s->ordinal, timeout_us);
            }
            query_at = now + QUERY_PERIOD_US;
        }
        give_way(polls);
    }
    now -= begin;
    return poll_until(query_stream, s, "cudaStreamQuery", s->ordinal,
                      now < timeout_us ? timeout_us - now : 0);
}

/* ------------------------------------------------------------------ streams */

static cuda_parked_kind kind_of(int is_auxiliary)
{
    return is_auxiliary ? CUDA_PARKED_AUXILIARY_STREAM : CUDA_PARKED_STEP_STREAM;
}

/* No stream waits for the legacy default one. A step's has the highest priority: copies and
 * clearing beside it do not hold it up. */
static eep_status make_new(int ordinal, int is_auxiliary, cudaStream_t *stream_out)
{
    int lowest = 0, highest = 0;
    eep_status status =
        EEPI_CUDA_CHECKED(ordinal, cudaDeviceGetStreamPriorityRange(&lowest, &highest));

    if (status == EEP_OK) {
        status = EEPI_CUDA_CHECKED(ordinal,
                                   cudaStreamCreateWithPriority(stream_out, cudaStreamNonBlocking,
                                                                is_auxiliary ? lowest : highest));
    }
    return status;
}

eep_status eepi_cuda_stream_make(int ordinal, int is_auxiliary, cuda_stream *stream_out)
{
    eep_status status = eepi_cuda_use_device(ordinal);
    cudaStream_t stream;

    if (status != EEP_OK) {
        return status;
    }
    stream = eepi_cuda_unpark(kind_of(is_auxiliary), ordinal);
    if (!stream) {
        status = make_new(ordinal, is_auxiliary, &stream);
    }
    if (status == EEP_OK) {
        *stream_out = (cuda_stream){ordinal, stream, is_auxiliary};
    }
    return status;
}

/* Work that outlasts the bound stays in it; then it is not used again until that has ended. */
void eepi_cuda_stream_end(cuda_stream *s)
{
    if (eepi_cuda_use_device(s->ordinal) != EEP_OK) {
        return;
    }
    eepi_cuda_capture_drop(s);
    (void)poll_until(query_stream, s, "cudaStreamQuery before its end", s->ordinal,
                     CLOSE_TIMEOUT_US);
    eepi_cuda_park(kind_of(s->is_auxiliary), s->ordinal, s->stream);
}

eep_status eepi_cuda_stream_open(void *device, void **stream_out)
{
    cuda_stream *s = calloc(1, sizeof *s);
    eep_status status =
        s ? eepi_cuda_stream_make(((const cuda_device *)device)->ordinal, 0, s) : EEP_ERR_NO_MEMORY;

    if (status != EEP_OK) {
        free(s);
        return status;
    }
    *stream_out = s;
    return EEP_OK;
}

void eepi_cuda_stream_close(void *stream)
{
    eepi_cuda_stream_end(stream);
    free(stream);
}

void *eepi_cuda_stream_native(void *stream)
{
    return ((const cuda_stream *)stream)->stream;
}

eep_status eepi_cuda_stream_adopt(void *device, void *native, void **stream_out)
{
    cuda_stream *s = calloc(1, sizeof *s);

    if (!s) {
        return EEP_ERR_NO_MEMORY;
    }
    s->ordinal = ((const cuda_device *)device)->ordinal;
    s->stream = native;
    *stream_out = s;
    return EEP_OK;
}

/* One that cannot be asked any more is not captured: what is done with it next says why. */
bool eepi_cuda_stream_is_captured(void *stream)
{
    const cuda_stream *s = stream;
    enum cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;

    return eepi_cuda_use_device(s->ordinal) == EEP_OK &&
           EEPI_CUDA_CHECKED(s->ordinal, cudaStreamIsCapturing(s->stream, &capture)) == EEP_OK &&
           capture != cudaStreamCaptureStatusNone;
}

eep_status eepi_cuda_stream_wait_event(void *stream, void *event)
{
    const cuda_stream *s = stream;
    eep_status status = eepi_cuda_use_device(s->ordinal);

    if (status == EEP_OK) {
        status = EEPI_CUDA_CHECKED(
            s->ordinal, cudaStreamWaitEvent(s->stream, ((const cuda_event *)event)->event, 0));
    }
    return status;
}

/* ------------------------------------------------------------------ events */

/* One that served before has happened, as one that was never recorded: nobody waits for it. */
eep_status eepi_cuda_event_open(void *device, void **event_out)
{
    cuda_event *e = calloc(1, sizeof *e);
    eep_status status;

    if (!e) {
        return EEP_ERR_NO_MEMORY;
    }
    e->ordinal = ((const cuda_device *)device)->ordinal;
    status = eepi_cuda_use_device(e->ordinal);
    if (status == EEP_OK) {
        e->event = eepi_cuda_unpark(CUDA_PARKED_EVENT, e->ordinal);
        if (!e->event) {
            status = EEPI_CUDA_CHECKED(e->ordinal,
                                       cudaEventCreateWithFlags(&e->event, cudaEventDisableTiming));
        }
    }
    if (status != EEP_OK) {
        free(e);
        return status;
    }
    *event_out = e;
    return EEP_OK;
}

void eepi_cuda_event_close(void *event)
{
    cuda_event *e = event;

    eepi_cuda_park(CUDA_PARKED_EVENT, e->ordinal, e->event);
    free(e);
}

eep_status eepi_cuda_event_record(void *event, void *stream)
{
    const cuda_stream *s = stream;
    eep_status status = eepi_cuda_use_device(s->ordinal);

    if (status == EEP_OK) {
        status =
            EEPI_CUDA_CHECKED(s->ordinal, cudaEventRecord(((cuda_event *)event)->event, s->stream));
    }
    return status;
}

eep_status eepi_cuda_event_synchronize(void *event, uint64_t timeout_us)
{
    const cuda_event *e = event;
    eep_status status = eepi_cuda_use_device(e->ordinal);

    return status == EEP_OK ? poll_until(query_event, e, "cudaEventQuery", e->ordinal, timeout_us)
                            : status;
}
