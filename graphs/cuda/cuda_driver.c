/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of the driver that the runtime has no counterpart of, found at run time. */
#include "graphs/cuda/cuda_driver.h"

#include <string.h>

/* A function pointer is not to be written through a void pointer's type. */
static eep_status find_function(int ordinal, const char *name, unsigned version, void *to,
                                size_t to_bytes)
{
    enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    void *function = NULL;
    eep_status status = eepi_cuda_checked(
        cudaGetDriverEntryPointByVersion(name, &function, version, cudaEnableDefault, &found), name,
        ordinal);

    if (status != EEP_OK) {
        return status;
    }
    if (found != cudaDriverEntryPointSuccess || !function || to_bytes != sizeof function) {
        return eepi_cuda_fail(EEP_ERR_UNSUPPORTED, ordinal, "the driver has no %s (CUDA %u.%u)",
                              name, version / 1000, version % 1000 / 10);
    }
    memcpy(to, &function, to_bytes);
    return EEP_OK;
}

eep_status eepi_cuda_find_driver(int ordinal, cuda_driver *driver_out)
{
    cuda_driver d;
    eep_status status = EEP_OK;

#define DRIVER_FIND(name, version)                                                                 \
    if (status == EEP_OK)                                                                          \
        status = find_function(ordinal, #name, version, &d.name, sizeof d.name);
    EEPI_CUDA_DRIVER_LIST(DRIVER_FIND)
#undef DRIVER_FIND
    if (status == EEP_OK) {
        *driver_out = d;
    }
    return status;
}

static eep_status status_of(CUresult result)
{
    switch (result) {
    case CUDA_ERROR_OUT_OF_MEMORY:
        return EEP_ERR_NO_MEMORY;
    case CUDA_ERROR_NOT_SUPPORTED:
    case CUDA_ERROR_NOT_PERMITTED:
    case CUDA_ERROR_PEER_ACCESS_UNSUPPORTED:
        return EEP_ERR_UNSUPPORTED;
    case CUDA_ERROR_INVALID_VALUE:
    case CUDA_ERROR_INVALID_HANDLE:
        return EEP_ERR_INVALID;
    default:
        return EEP_ERR_DEVICE;
    }
}

eep_status eepi_cuda_driver_checked(const cuda_driver *driver, int ordinal, CUresult result,
                                    const char *call)
{
    const char *name = NULL, *text = NULL;

    if (result == CUDA_SUCCESS) {
        return EEP_OK;
    }
    if (driver->cuGetErrorName(result, &name) != CUDA_SUCCESS) {
        name = "unknown";
    }
    if (driver->cuGetErrorString(result, &text) != CUDA_SUCCESS) {
        text = "unknown error";
    }
    return eepi_cuda_fail(status_of(result), ordinal, "%s: %s (%s, %d)", call, text, name,
                          (int)result);
}
