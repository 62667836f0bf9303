/* SPDX-License-Identifier: Apache-2.0 */
/* Streams and events of the host backend. Members of its table of operations, which device_ops.h
 * explains, stand without a comment. */
#ifndef EEPI_HOST_STREAM_H
#define EEPI_HOST_STREAM_H

#include "graphs/host/host_graph.h"
#include "graphs/host/host_guard.h"

#include <stdbool.h>

enum { HOST_RING_ENTRIES = 1024 };

typedef struct host_stream {
    pthread_t worker;
    host_progress *progress;
    pthread_cond_t filled; /* with progress->lock; only the worker sleeps on it */
    bool stop;
    uint64_t limit_us;
    eepi_host_guard *guard; /* of the device; NULL: none */
    host_graph *capture;    /* NULL: not capturing */
    entry ring[HOST_RING_ENTRIES];
} host_stream;

/* Into the graph that is being captured, or into the ring. */
EEP_MUST_CHECK eep_status eepi_host_stream_put(host_stream *s, const entry_head *head,
                                               const void *args, size_t args_bytes);

EEP_MUST_CHECK eep_status eepi_host_stream_open(void *device, void **stream_out);
void eepi_host_stream_close(void *stream);
EEP_MUST_CHECK eep_status eepi_host_stream_synchronize(void *stream, uint64_t timeout_us);
void *eepi_host_stream_native(void *stream);
EEP_MUST_CHECK eep_status eepi_host_stream_adopt(void *device, void *native, void **stream_out);
void eepi_host_stream_disown(void *stream);
bool eepi_host_stream_is_captured(void *stream);
void eepi_host_stream_set_limit(void *stream, uint64_t limit_us);
EEP_MUST_CHECK eep_status eepi_host_copy(void *stream, void *to, const void *from, size_t bytes);
EEP_MUST_CHECK eep_status eepi_host_launch(void *stream, const eep_kernel *kernel,
                                           uint32_t num_blocks, uint32_t num_threads,
                                           const void *args, size_t args_bytes);
EEP_MUST_CHECK eep_status eepi_host_stream_run_on_worker(void *stream, void (*fn)(void *user),
                                                         void *user);
EEP_MUST_CHECK eep_status eepi_host_capture_begin(void *stream);
EEP_MUST_CHECK eep_status eepi_host_capture_end(void *stream, void **graph_out,
                                                uint32_t *num_nodes_out);
EEP_MUST_CHECK eep_status eepi_host_graph_replay(void *graph, void *stream);

/* host_event.c */
EEP_MUST_CHECK eep_status eepi_host_event_open(void *device, void **event_out);
void eepi_host_event_close(void *event);
EEP_MUST_CHECK eep_status eepi_host_event_record(void *event, void *stream);
EEP_MUST_CHECK eep_status eepi_host_event_synchronize(void *event, uint64_t timeout_us);
EEP_MUST_CHECK eep_status eepi_host_stream_wait_event(void *stream, void *event);
#endif
