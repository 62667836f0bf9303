/* SPDX-License-Identifier: Apache-2.0 */
/* Host streams. A stream is a ring of entries and one worker thread that runs them in order; a
 * graph is run as one entry.
 *
 *     callers --put--> ring[put % entries] ... ring[done % entries] --run--> worker
 */
#include "graphs/host/host_stream.h"

#include "graphs/base/thread.h"

#include <stdbool.h>
#include <sched.h>
#include <stdlib.h>

enum { IDLE_YIELDS = 8 };
static const uint64_t default_limit_us = 60000000;

/* ------------------------------------------------------------------ the worker */

/* EEP_OK, or why the stream cannot keep its order any more. */
static eep_status run_entry(const host_stream *s, const entry *e)
{
    switch (e->head.kind) {
    case ENTRY_LAUNCH:
    case ENTRY_COPY:
        eepi_host_guard_enter(s->guard);
        eepi_host_node_run(e);
        eepi_host_guard_leave(s->guard);
        return EEP_OK;
    case ENTRY_CALL:
        e->head.call(e->head.to_or_user);
        return EEP_OK;
    case ENTRY_WAIT:
        return eepi_host_progress_wait(e->head.progress, e->head.size, s->limit_us);
    case ENTRY_GRAPH:
        eepi_host_guard_enter(s->guard);
        for (uint32_t i = 0; i < e->head.graph->num_nodes; i++) {
            eepi_host_node_run(&e->head.graph->nodes[i]);
        }
        eepi_host_guard_leave(s->guard);
        return EEP_OK;
    }
    return EEP_ERR_DEVICE;
}

/* Wait for an entry; 0 when there is none and the stream closes. A step follows the last one
 * closely, so look a few times before sleeping. An idle worker's sleep ends with the stream. */
static bool next_entry(host_stream *s)
{
    host_progress *progress = s->progress;
    int found;

    for (int i = 0; i < IDLE_YIELDS; i++) {
        if (__atomic_load_n(&progress->put, __ATOMIC_ACQUIRE) != progress->done) {
            return true; /* partner: eepi_host_stream_put() */
        }
        sched_yield();
    }
    pthread_mutex_lock(&progress->lock);
    while (progress->put == progress->done && !s->stop) {
        pthread_cond_wait(&s->filled, &progress->lock);
    }
    found = progress->put != progress->done;
    pthread_mutex_unlock(&progress->lock);
    return found;
}

static void *work(void *argument)
{
    host_stream *s = argument;
    host_progress *progress = s->progress;
    eep_status status = EEP_OK;

    while (next_entry(s)) {
        const entry *e = &s->ring[progress->done % HOST_RING_ENTRIES];

        if (status == EEP_OK) {
            status = run_entry(s, e);
        }
        if (e->head.kind == ENTRY_WAIT) {
            eepi_host_progress_release(e->head.progress);
        }
        if (e->head.kind == ENTRY_GRAPH) {
            eepi_host_graph_close(e->head.graph);
        }
        pthread_mutex_lock(&progress->lock);
        /* all effects of the entry are ordered before what a waiter does next */
        __atomic_store_n(&progress->done, progress->done + 1, __ATOMIC_RELEASE);
        progress->failed = status != EEP_OK;
        if (progress->done >= progress->wake_at) {
            progress->wake_at = UINT64_MAX;
            pthread_cond_broadcast(&progress->advanced);
        }
        pthread_mutex_unlock(&progress->lock);
    }
    return NULL;
}

/* ------------------------------------------------------------------ streams */

eep_status eepi_host_stream_open(void *device, void **stream_out)
{
    host_stream *s = calloc(1, sizeof *s);
    eep_status status = EEP_ERR_NO_MEMORY;

    if (!s) {
        return EEP_ERR_NO_MEMORY;
    }
    s->guard = device;
    s->limit_us = default_limit_us;
    s->progress = eepi_host_progress_open();
    if (!s->progress) {
        goto free_stream;
    }
    status = eepi_host_cond_open(&s->filled);
    if (status != EEP_OK) {
        goto close_progress;
    }
    status = eepi_thread_start(&s->worker, "eep-stream", EEPI_STACK_BYTES_WORKER, work, s);
    if (status != EEP_OK) {
        goto close_cond;
    }
    *stream_out = s;
    return EEP_OK;

close_cond:
    pthread_cond_destroy(&s->filled);
close_progress:
    eepi_host_progress_release(s->progress);
free_stream:
    free(s);
    return status;
}

void eepi_host_stream_close(void *stream)
{
    host_stream *s = stream;

    pthread_mutex_lock(&s->progress->lock);
    s->stop = true;
    pthread_cond_signal(&s->filled);
    pthread_mutex_unlock(&s->progress->lock);
    pthread_join(s->worker, NULL);
    eepi_host_graph_close(s->capture);
    pthread_cond_destroy(&s->filled);
    eepi_host_progress_release(s->progress);
    free(s);
}

eep_status eepi_host_stream_synchronize(void *stream, uint64_t timeout_us)
{
    host_progress *progress = ((host_stream *)stream)->progress;
    struct timespec until = eepi_host_deadline_after(timeout_us);
    eep_status status;

    eepi_host_progress_spin(progress, __atomic_load_n(&progress->put, __ATOMIC_RELAXED));
    pthread_mutex_lock(&progress->lock);
    status = eepi_host_progress_wait_locked(progress, progress->put, &until);
    pthread_mutex_unlock(&progress->lock);
    return status;
}

void *eepi_host_stream_native(void *stream)
{
    return stream;
}

eep_status eepi_host_stream_adopt(void *device, void *native, void **stream_out)
{
    (void)device;
    *stream_out = native;
    return EEP_OK;
}

void eepi_host_stream_disown(void *stream)
{
    (void)stream;
}

/* Captured, put into and looked at by one thread then. */
bool eepi_host_stream_is_captured(void *stream)
{
    return ((const host_stream *)stream)->capture != NULL;
}

void eepi_host_stream_set_limit(void *stream, uint64_t limit_us)
{
    ((host_stream *)stream)->limit_us = limit_us;
}

/* ------------------------------------------------------------------ what is put into them */

/* Publishes the entry's bytes with `put`; partner: next_entry. */
eep_status eepi_host_stream_put(host_stream *s, const entry_head *head, const void *args,
                                size_t args_bytes)
{
    host_progress *progress = s->progress;
    eep_status status = EEP_OK;

    if (s->capture) {
        return eepi_host_graph_append(s->capture, head, args, args_bytes);
    }
    pthread_mutex_lock(&progress->lock);
    if (progress->put - progress->done == HOST_RING_ENTRIES) {
        struct timespec until = eepi_host_deadline_after(s->limit_us);

        while (status == EEP_OK && progress->put - progress->done == HOST_RING_ENTRIES) {
            status = eepi_host_progress_wait_locked(progress, progress->put - HOST_RING_ENTRIES + 1,
                                                    &until);
        }
    }
    if (status == EEP_OK && progress->failed) {
        status = EEP_ERR_DEVICE;
    }
    if (status == EEP_OK) {
        eepi_host_entry_fill(&s->ring[progress->put % HOST_RING_ENTRIES], head, args, args_bytes);
        __atomic_store_n(&progress->put, progress->put + 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&progress->lock);
    if (status == EEP_OK) {
        pthread_cond_signal(&s->filled); /* not under the lock, which the worker wants at once */
    }
    return status;
}

eep_status eepi_host_copy(void *stream, void *to, const void *from, size_t bytes)
{
    entry_head head = {.kind = ENTRY_COPY, .to_or_user = to, .from = from, .size = bytes};

    return eepi_host_stream_put(stream, &head, NULL, 0);
}

eep_status eepi_host_launch(void *stream, const eep_kernel *kernel, uint32_t num_blocks,
                            uint32_t num_threads, const void *args, size_t args_bytes)
{
    entry_head head = {.kind = ENTRY_LAUNCH, .run = kernel->host, .num_blocks = num_blocks};

    (void)num_threads;
    if (!kernel->host) {
        return EEP_ERR_UNSUPPORTED;
    }
    return eepi_host_stream_put(stream, &head, args, args_bytes);
}

eep_status eepi_host_stream_run_on_worker(void *stream, void (*fn)(void *user), void *user)
{
    entry_head head = {.kind = ENTRY_CALL, .call = fn, .to_or_user = user};

    return eepi_host_stream_put(stream, &head, NULL, 0);
}

/* ------------------------------------------------------------------ captures */

eep_status eepi_host_capture_begin(void *stream)
{
    host_stream *s = stream;

    s->capture = eepi_host_graph_open();
    return s->capture ? EEP_OK : EEP_ERR_NO_MEMORY;
}

eep_status eepi_host_capture_end(void *stream, void **graph_out, uint32_t *num_nodes_out)
{
    host_stream *s = stream;
    host_graph *graph = s->capture;
    eep_status status = graph->status;

    s->capture = NULL;
    if (status != EEP_OK) {
        eepi_host_graph_close(graph);
        return status;
    }
    *graph_out = graph;
    *num_nodes_out = graph->num_nodes;
    return EEP_OK;
}

eep_status eepi_host_graph_replay(void *graph, void *stream)
{
    entry_head head = {.kind = ENTRY_GRAPH, .graph = graph};
    eep_status status;

    __atomic_fetch_add(&head.graph->refs, 1, __ATOMIC_RELAXED);
    status = eepi_host_stream_put(stream, &head, NULL, 0);
    if (status != EEP_OK) {
        eepi_host_graph_close(graph);
    }
    return status;
}
