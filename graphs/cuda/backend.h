/* What the plugin's C files share: its one check of results, and its device. */
#ifndef EEPI_CUDA_BACKEND_H
#define EEPI_CUDA_BACKEND_H

#include "graphs/device_ops.h"

#include <cuda_runtime_api.h>

typedef struct cuda_device {
    int ordinal;
    cudaStream_t zeroing; /* clears new memory without touching the default stream */
    eepi_device_facts facts;
} cuda_device;

/* What the thread's last failing operation failed of; written by the three below. */
const char *eepi_cuda_failure(void);
/* Keep a failure as text, behind the device's number, and return the status. */
eep_status eepi_cuda_fail(eep_status status, int ordinal, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The runtime's answer to `call`; a failure is kept as text. */
eep_status eepi_cuda_checked(cudaError_t error, const char *call, int ordinal);
/* Make the device the calling thread's current one, with its context. */
EEP_MUST_CHECK eep_status eepi_cuda_use_device(int ordinal);
/* Clear new device memory and wait until that is done, beside all streams. */
EEP_MUST_CHECK eep_status eepi_cuda_zero(const cuda_device *device, void *memory, size_t bytes);

typedef struct cuda_stream {
    int ordinal;
    cudaStream_t stream;
} cuda_stream;

#define EEPI_CUDA_CHECKED(ordinal, call) eepi_cuda_checked((call), #call, (ordinal))

/* capture.c: members of the table of operations, and what a closing stream drops. */
EEP_MUST_CHECK eep_status eepi_cuda_capture_begin(void *stream);
EEP_MUST_CHECK eep_status eepi_cuda_capture_end(void *stream, void **graph_out,
                                                uint32_t *num_nodes_out);
void eepi_cuda_capture_drop(const cuda_stream *stream);
EEP_MUST_CHECK eep_status eepi_cuda_graph_replay(void *graph, void *stream);
void eepi_cuda_graph_close(void *graph);

/* shared_memory.c: members of the table of operations. */
EEP_MUST_CHECK eep_status eepi_cuda_share_make(void *device, size_t bytes, eepi_share *share_out,
                                               char *why_out, size_t why_bytes);
EEP_MUST_CHECK eep_status eepi_cuda_share_map(void *device, int fd, size_t mapped_bytes,
                                              eepi_share *share_out, char *why_out,
                                              size_t why_bytes);
void eepi_cuda_share_close(void *device, eepi_share *share);
#endif
