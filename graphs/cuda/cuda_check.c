/* SPDX-License-Identifier: Apache-2.0 */
/* The one check of CUDA's results: every call of the backend passes through here, and a failure is
 * kept as the calling thread's text. */
#include "graphs/cuda/cuda_backend.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char failure[512];

const char *eepi_cuda_failure(void)
{
    return failure;
}

void eepi_cuda_forget_failure(void)
{
    failure[0] = '\0';
}

static eep_status status_of(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return EEP_OK;
    case cudaErrorMemoryAllocation:
        return EEP_ERR_NO_MEMORY;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
        return EEP_ERR_UNSUPPORTED;
    default:
        return EEP_ERR_DEVICE;
    }
}

eep_status eepi_cuda_fail(eep_status status, int ordinal, const char *format, ...)
{
    int used = snprintf(failure, sizeof failure, "device %d: ", ordinal);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(failure + used, sizeof failure - (size_t)used, format, arguments);
    va_end(arguments);
    return status;
}

eep_status eepi_cuda_checked(cudaError_t error, const char *call, int ordinal)
{
    if (error == cudaSuccess) {
        return EEP_OK;
    }
    return eepi_cuda_fail(status_of(error), ordinal, "%s: %s (%s, %d)", call,
                          cudaGetErrorString(error), cudaGetErrorName(error), (int)error);
}

/* A new thread's current device is 0, whichever device the stream belongs to, and without a
 * context: cudaGetDevice says 0, but the driver's own calls (cuda_shared_memory.c) find none. So
 * each thread says its device once, whatever it seems to be, and again when somebody has changed
 * it. */
eep_status eepi_cuda_use_device(int ordinal)
{
    static _Thread_local int bound = -1;
    int current = -1;
    eep_status status = EEPI_CUDA_CHECKED(ordinal, cudaGetDevice(&current));

    if (status != EEP_OK || (current == ordinal && bound == ordinal)) {
        return status;
    }
    status = EEPI_CUDA_CHECKED(ordinal, cudaSetDevice(ordinal));
    if (status == EEP_OK) {
        bound = ordinal;
    }
    return status;
}
