/* SPDX-License-Identifier: Apache-2.0 */
/* Hardware queues: each is a thread that runs what was put into it, whichever stream it is of, in
 * order. A queue's thread starts with its first stream. */
#include "tests/fake_gpu/fake_internal.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct hardware_queue {
    pthread_cond_t filled; /* with fake.lock; its thread alone sleeps on it */
    int has_thread;
    fake_entry *first, *last; /* the first one may run */
    int is_running;
} hardware_queue;

static hardware_queue queues[FAKE_GPU_MOST_QUEUES]; /* all under the lock */
static uint32_t entries_pending, kernels_pending, kernels_running;

static bool is_kernel(const fake_work *work)
{
    return work->kind == FAKE_KERNEL || work->kind == FAKE_GRAPH;
}

static bool is_launch(const fake_work *work)
{
    return is_kernel(work) || work->kind == FAKE_COPY || work->kind == FAKE_MEMSET;
}

uint32_t fake_kernels_pending(void)
{
    return kernels_pending;
}

uint32_t fake_entries_pending(void)
{
    return entries_pending;
}

const char *fake_work_name(const fake_work *work)
{
    static const char *const names[] = {
        [FAKE_COPY] = "a copy",          [FAKE_MEMSET] = "a memset",
        [FAKE_GRAPH] = "a graph",        [FAKE_RECORD] = "an event's record",
        [FAKE_WAIT] = "an event's wait", [FAKE_FREE] = "a free",
        [FAKE_NOTHING] = "an upload"};

    return work->kind == FAKE_KERNEL ? work->kernel->name : names[work->kind];
}

/* ------------------------------------------------------------------ one piece of work */

void fake_work_run(const fake_work *work)
{
    switch (work->kind) {
    case FAKE_KERNEL:
        for (uint32_t block = 0; block < work->num_blocks; block++) {
            work->kernel->body->host(work->args, (eep_grid){block, work->num_blocks, 0, 1});
        }
        break;
    case FAKE_COPY:
        memmove(work->to, work->from, work->bytes);
        break;
    case FAKE_MEMSET:
        memset(work->to, work->value, work->bytes);
        break;
    case FAKE_GRAPH:
        fake_exec_run(work->exec);
        break;
    case FAKE_FREE:
        fake_memory_release(work->to);
        break;
    default:
        break;
    }
}

static void release_record(fake_record *record)
{
    if (--record->refs == 0) {
        free(record);
    }
}

/* With the lock held, before it runs. */
static void begin(const fake_work *work)
{
    if (work->kind == FAKE_WAIT) {
        while (!work->record->is_done) {
            (void)fake_sleep(fake_bound_us());
        }
    }
    if (is_kernel(work) && ++kernels_running > fake.count.most_kernels_at_once) {
        fake.count.most_kernels_at_once = kernels_running;
    }
}

/* With the lock held, after it has run. */
static void finish(fake_entry *entry)
{
    const fake_work *work = &entry->work;
    struct CUstream_st *stream = entry->stream;

    if (work->kind == FAKE_RECORD) {
        work->record->is_done = 1;
    }
    if (work->record) {
        release_record(work->record);
    }
    if (work->exec) {
        fake_exec_release(work->exec);
    }
    if (is_kernel(work)) {
        kernels_running--;
        kernels_pending--;
    }
    entries_pending--;
    if (--stream->pending == 0 && stream->is_destroyed) {
        free(stream);
    }
    free(entry);
    pthread_cond_broadcast(&fake.changed);
}

static void *queue_thread(void *argument)
{
    hardware_queue *queue = argument;

    pthread_mutex_lock(&fake.lock);
    for (;;) {
        fake_entry *entry = queue->first;

        if (!entry) {
            pthread_cond_wait(&queue->filled, &fake.lock);
            continue;
        }
        queue->is_running = 1;
        begin(&entry->work);
        pthread_mutex_unlock(&fake.lock);
        fake_work_run(&entry->work);
        pthread_mutex_lock(&fake.lock);
        queue->is_running = 0;
        queue->first = entry->next;
        if (!queue->first) {
            queue->last = NULL;
        }
        finish(entry);
    }
    return NULL;
}

/* ------------------------------------------------------------------ queues */

static int stands_behind_another(const hardware_queue *queue, cudaStream_t stream)
{
    for (const fake_entry *entry = queue->first; entry; entry = entry->next) {
        if (entry->stream != stream && is_kernel(&entry->work)) {
            return 1;
        }
    }
    return 0;
}

void fake_queue_append(cudaStream_t stream, const fake_work *work)
{
    hardware_queue *queue = &queues[stream->queue];
    fake_entry *entry = malloc(sizeof *entry);
    pthread_t thread;

    FAKE_REQUIRE(entry != NULL);
    if (!queue->has_thread) {
        FAKE_REQUIRE(pthread_cond_init(&queue->filled, NULL) == 0 &&
                     pthread_create(&thread, NULL, queue_thread, queue) == 0 &&
                     pthread_detach(thread) == 0);
        queue->has_thread = 1;
    }
    *entry = (fake_entry){NULL, stream, *work};
    fake.count.launches += is_launch(work);
    fake.count.shared_queue_waits += stands_behind_another(queue, stream);
    kernels_pending += is_kernel(work);
    entries_pending++;
    stream->pending++;
    if (queue->last) {
        queue->last->next = entry;
    } else {
        queue->first = entry;
    }
    queue->last = entry;
    pthread_cond_signal(&queue->filled);
}

void fake_stream_wait_empty(cudaStream_t stream, const char *call)
{
    uint64_t until_us = fake_bound_us();

    while (stream->pending > 0) {
        if (!fake_sleep(until_us) && eepi_now_us() >= until_us) {
            fake_hang("%s of stream %u has waited %u ms", call, stream->number, fake.bound_ms);
        }
    }
}

cudaError_t fake_put(cudaStream_t stream, const fake_work *work, const char *call)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&fake.lock);
    if (!fake_stream_is_known(stream)) {
        error = cudaErrorInvalidResourceHandle;
    } else if (stream->capture != cudaStreamCaptureStatusNone) {
        error = fake_graph_add(stream, work);
    } else {
        if (is_launch(work)) {
            fake_launch_may_go(call);
        }
        if (work->exec) {
            fake_exec_keep(work->exec);
        }
        if (work->record) {
            work->record->refs++;
        }
        fake_queue_append(stream, work);
    }
    pthread_mutex_unlock(&fake.lock);
    return error;
}

uint32_t fake_gpu_queue_of(const void *native_stream)
{
    return ((const struct CUstream_st *)native_stream)->queue;
}

void fake_gpu_print_queues(FILE *to)
{
    pthread_mutex_lock(&fake.lock);
    for (uint32_t i = 0; i < fake.count.queues; i++) {
        const fake_entry *running = queues[i].is_running ? queues[i].first : NULL;
        uint32_t behind = 0;

        for (const fake_entry *entry = queues[i].first; entry; entry = entry->next) {
            if (behind++ >= 8) {
                continue;
            }
            fprintf(to, "  queue %u: stream %u: %s", i, entry->stream->number,
                    fake_work_name(&entry->work));
            if (entry == running && entry->work.kind == FAKE_GRAPH) {
                fprintf(to, ", in %s", fake_exec_at(entry->work.exec));
            }
            fprintf(to, "%s\n", entry == running ? ", which runs" : "");
        }
        if (behind > 8) {
            fprintf(to, "  queue %u: and %u more\n", i, behind - 8);
        }
    }
    pthread_mutex_unlock(&fake.lock);
}
