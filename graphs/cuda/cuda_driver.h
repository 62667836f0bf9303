/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's functions that the runtime has no counterpart of, found through the runtime: libcuda
 * is never linked. */
#ifndef EEPI_CUDA_DRIVER_H
#define EEPI_CUDA_DRIVER_H

#include "graphs/cuda/cuda_backend.h"

#include <cuda.h>
#include <cudaTypedefs.h>

/* Those used here, and the CUDA version whose signature is meant. */
#define EEPI_CUDA_DRIVER_LIST(X)                                                                   \
    X(cuGetErrorName, 6000)                                                                        \
    X(cuGetErrorString, 6000)                                                                      \
    X(cuDeviceGetAttribute, 2000)                                                                  \
    X(cuDeviceGetUuid, 11040)                                                                      \
    X(cuDeviceCanAccessPeer, 4000)                                                                 \
    X(cuMemGetAllocationGranularity, 10020)                                                        \
    X(cuMemGetAllocationPropertiesFromHandle, 10020)                                               \
    X(cuMemCreate, 10020)                                                                          \
    X(cuMemRelease, 10020)                                                                         \
    X(cuMemExportToShareableHandle, 10020)                                                         \
    X(cuMemImportFromShareableHandle, 10020)                                                       \
    X(cuMemAddressReserve, 10020)                                                                  \
    X(cuMemAddressFree, 10020)                                                                     \
    X(cuMemMap, 10020)                                                                             \
    X(cuMemUnmap, 10020)                                                                           \
    X(cuMemSetAccess, 10020)                                                                       \
    X(cuMemGetHandleForAddressRange, 11070)

typedef struct cuda_driver {
#define DRIVER_MEMBER(name, version) PFN_##name##_v##version name;
    EEPI_CUDA_DRIVER_LIST(DRIVER_MEMBER)
#undef DRIVER_MEMBER
} cuda_driver;

/* EEP_ERR_UNSUPPORTED: the driver is too old; the text names the function. */
EEP_MUST_CHECK eep_status eepi_cuda_find_driver(int ordinal, cuda_driver *driver_out);
/* The driver's answer to `call`; a failure is kept as text. */
eep_status eepi_cuda_driver_checked(const cuda_driver *driver, int ordinal, CUresult result,
                                    const char *call);
#endif
