/* What the plugin's C files share: its one check of results, and its device. */
#ifndef EEPI_CUDA_BACKEND_H
#define EEPI_CUDA_BACKEND_H

#include "graphs/device_ops.h"

#include <cuda_runtime_api.h>

typedef struct cuda_device {
    int ordinal;
    cudaStream_t zeroing; /* clears new memory without touching the default stream */
} cuda_device;

/* What the thread's last failing operation failed of; written by the three below. */
const char *eepi_cuda_failure(void);
/* Keep a failure as text, behind the device's number, and return the status. */
eep_status eepi_cuda_fail(eep_status status, int ordinal, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The runtime's answer to `call`; a failure is kept as text. */
EEP_MUST_CHECK eep_status eepi_cuda_checked(cudaError_t error, const char *call, int ordinal);
/* Make the device the calling thread's current one, with its context. */
EEP_MUST_CHECK eep_status eepi_cuda_use_device(int ordinal);
/* Clear new device memory and wait until that is done, beside all streams. */
EEP_MUST_CHECK eep_status eepi_cuda_zero(const cuda_device *device, void *memory, size_t bytes);

/* shared_memory.c: members of the table of operations. */
EEP_MUST_CHECK eep_status eepi_cuda_share_make(void *device, size_t bytes, eepi_share *share_out,
                                               char *why_out, size_t why_bytes);
EEP_MUST_CHECK eep_status eepi_cuda_share_map(void *device, int fd, size_t mapped_bytes,
                                              eepi_share *share_out, char *why_out,
                                              size_t why_bytes);
void eepi_cuda_share_close(void *device, eepi_share *share);
#endif
