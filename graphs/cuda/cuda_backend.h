/* SPDX-License-Identifier: Apache-2.0 */
/* What the plugin's C files share: its one check of results, its devices and streams, and the
 * functions that make up the table of operations. */
#ifndef EEPI_CUDA_BACKEND_H
#define EEPI_CUDA_BACKEND_H

#include "graphs/device/device_ops.h"

#include <stdbool.h>
#include <cuda_runtime_api.h>

enum { EEPI_CUDA_MAX_ORDINALS = 64, EEPI_CUDA_COPY_BOUND_US = 10000000 };

typedef struct cuda_stream {
    int ordinal;
    cudaStream_t stream;
    int is_auxiliary; /* of normal priority; a step's has the highest */
} cuda_stream;

typedef struct cuda_device {
    int ordinal;
    cuda_stream auxiliary;    /* the rank's second and last one: all that is no step */
    cudaMemPool_t pool;       /* of all ranks of this process on that device */
    size_t parked_most_bytes; /* of windows that wait to be unmapped */
    eepi_device_facts facts;
} cuda_device;

/* cuda_check.c. What the thread's last failing operation failed of; written by the three below. */
const char *eepi_cuda_failure(void);
void eepi_cuda_forget_failure(void);
/* Keep a failure as text, behind the device's number, and return the status. */
eep_status eepi_cuda_fail(eep_status status, int ordinal, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The runtime's answer to `call`; a failure is kept as text. */
eep_status eepi_cuda_checked(cudaError_t error, const char *call, int ordinal);
/* Make the device the calling thread's current one, with its context. */
EEP_MUST_CHECK eep_status eepi_cuda_use_device(int ordinal);

#define EEPI_CUDA_CHECKED(ordinal, call) eepi_cuda_checked((call), #call, (ordinal))

/* cuda_environment.c: before any call of CUDA; the queues that the process has. Any thread. */
void eepi_cuda_prepare_process(void);
uint32_t eepi_cuda_num_queues(void);

/* cuda_parked.c: objects that are destroyed while no rank of the process waits, and how many wait.
 */
typedef enum cuda_parked_kind {
    CUDA_PARKED_STEP_STREAM,
    CUDA_PARKED_AUXILIARY_STREAM,
    CUDA_PARKED_EVENT,
    CUDA_PARKED_GRAPH
} cuda_parked_kind;
uint32_t eepi_cuda_num_waiters(void);
/* Between these two no rank begins to wait; the count is changed between them only. */
void eepi_cuda_quiet_enter(void);
void eepi_cuda_quiet_leave(void);
void eepi_cuda_count_waiters(uint32_t num);
/* Put an object away that nobody uses any more; it is destroyed now if no rank waits. */
void eepi_cuda_park(cuda_parked_kind kind, int ordinal, void *object);
/* One that was put away and in which nothing runs; NULL: there is none. */
void *eepi_cuda_unpark(cuda_parked_kind kind, int ordinal);
/* No rank waits: destroy all that was put away. */
void eepi_cuda_destroy_parked(void);
/* A call could not be put off; counted if it may wait for others. */
void eepi_cuda_note_late(void);
uint64_t eepi_cuda_late_calls(const void *device);

/* cuda_quiet.c: calls that may wait for a whole device are made while no rank of the process waits.
 */
void eepi_cuda_set_waiters(void *device, uint32_t num_waiters);
/* A device is opened, or was closed: with the last one goes what nobody uses any more. */
void eepi_cuda_device_opened(void);
void eepi_cuda_device_closed(void);

/* cuda_memory.c: device memory of a pool per device; what its operations share. */
EEP_MUST_CHECK eep_status eepi_cuda_pool_of(int ordinal, cudaMemPool_t *pool_out);
void eepi_cuda_pools_trim(void);
/* Clear device memory and wait until that is done, beside all steps. */
EEP_MUST_CHECK eep_status eepi_cuda_zero(const cuda_device *device, void *memory, size_t bytes);
EEP_MUST_CHECK eep_status eepi_cuda_alloc(void *device, eep_memory kind, size_t bytes,
                                          void **memory_out);
void eepi_cuda_free(void *device, eep_memory kind, void *memory);

/* cuda_pinned.c: pinned memory of the process, for all its devices. Any thread. */
EEP_MUST_CHECK eep_status eepi_cuda_pinned_reserve(int ordinal);
EEP_MUST_CHECK eep_status eepi_cuda_pinned_alloc(int ordinal, size_t bytes, void **memory_out);
void eepi_cuda_pinned_free(void *memory);
void eepi_cuda_pinned_trim(void);

/* cuda_streams.c: streams and events. */
EEP_MUST_CHECK eep_status eepi_cuda_stream_make(int ordinal, int is_auxiliary,
                                                cuda_stream *stream_out);
void eepi_cuda_stream_end(cuda_stream *stream);
EEP_MUST_CHECK eep_status eepi_cuda_stream_open(void *device, void **stream_out);
void eepi_cuda_stream_close(void *stream);
EEP_MUST_CHECK eep_status eepi_cuda_stream_synchronize(void *stream, uint64_t timeout_us);
EEP_MUST_CHECK eep_status eepi_cuda_stream_await_word(void *stream, const uint64_t *word,
                                                      uint64_t value, uint64_t timeout_us);
EEP_MUST_CHECK eep_status eepi_cuda_stream_adopt(void *device, void *native, void **stream_out);
bool eepi_cuda_stream_is_captured(void *stream);
void *eepi_cuda_stream_native(void *stream);
EEP_MUST_CHECK eep_status eepi_cuda_stream_wait_event(void *stream, void *event);
EEP_MUST_CHECK eep_status eepi_cuda_event_open(void *device, void **event_out);
void eepi_cuda_event_close(void *event);
EEP_MUST_CHECK eep_status eepi_cuda_event_record(void *event, void *stream);
EEP_MUST_CHECK eep_status eepi_cuda_event_synchronize(void *event, uint64_t timeout_us);

/* cuda_capture.c: members of the table of operations, and what a closing stream drops. */
EEP_MUST_CHECK eep_status eepi_cuda_capture_begin(void *stream);
EEP_MUST_CHECK eep_status eepi_cuda_capture_end(void *stream, void **graph_out,
                                                uint32_t *num_nodes_out);
void eepi_cuda_capture_drop(const cuda_stream *stream);
EEP_MUST_CHECK eep_status eepi_cuda_graph_replay(void *graph, void *stream);
void eepi_cuda_graph_close(void *graph);

/* cuda_shared_memory.c: members of the table of operations. */
EEP_MUST_CHECK eep_status eepi_cuda_share_make(void *device, size_t bytes, eepi_share *share_out,
                                               char *why_out, size_t why_bytes);
EEP_MUST_CHECK eep_status eepi_cuda_share_map(void *device, int fd, size_t mapped_bytes,
                                              eepi_share *share_out, char *why_out,
                                              size_t why_bytes);
EEP_MUST_CHECK eep_status eepi_cuda_share_map_own(void *device, int fd, size_t mapped_bytes,
                                                  eepi_share *share_out, char *why_out,
                                                  size_t why_bytes);
void eepi_cuda_share_close(void *device, eepi_share *share);
EEP_MUST_CHECK eep_status eepi_cuda_share_dmabuf(void *device, const eepi_share *share, int *fd_out,
                                                 char *why_out, size_t why_bytes);
void eepi_cuda_shares_unmap_parked(void);
#endif
