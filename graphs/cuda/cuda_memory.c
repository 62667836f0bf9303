/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a device: from a pool per device that the plugin makes and the process's ranks share.
 * Taking and giving back are put into the rank's auxiliary stream and wait for no other, as
 * cudaMalloc and cudaFree would for the kernels of all ranks; what one rank gives back serves the
 * next, and goes back to the driver when no rank waits. */
#include "graphs/cuda/cuda_backend.h"

#include <pthread.h>
#include <string.h>

enum { ALIGNMENT = 128 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cudaMemPool_t pools[EEPI_CUDA_MAX_ORDINALS]; /* made once each, never destroyed */

/* Kept, whatever is free in it; and memory that another rank gave back is taken only if that is
 * done already: else this rank's stream would wait for that one's. */
static eep_status pool_make(int ordinal, cudaMemPool_t *pool_out)
{
    struct cudaMemPoolProps properties = {
        .allocType = cudaMemAllocationTypePinned,
        .location = {.type = cudaMemLocationTypeDevice, .id = ordinal}};
    uint64_t all = UINT64_MAX;
    int no = 0, has_pools = 0;
    eep_status status = EEPI_CUDA_CHECKED(
        ordinal, cudaDeviceGetAttribute(&has_pools, cudaDevAttrMemoryPoolsSupported, ordinal));

    if (status == EEP_OK && !has_pools) {
        status = eepi_cuda_fail(EEP_ERR_UNSUPPORTED, ordinal, "it has no memory pools");
    }
    if (status == EEP_OK) {
        status = EEPI_CUDA_CHECKED(ordinal, cudaMemPoolCreate(pool_out, &properties));
    }
    if (status == EEP_OK) {
        status = EEPI_CUDA_CHECKED(
            ordinal, cudaMemPoolSetAttribute(*pool_out, cudaMemPoolAttrReleaseThreshold, &all));
    }
    if (status == EEP_OK) {
        status = EEPI_CUDA_CHECKED(
            ordinal,
            cudaMemPoolSetAttribute(*pool_out, cudaMemPoolReuseAllowInternalDependencies, &no));
    }
    return status;
}

eep_status eepi_cuda_pool_of(int ordinal, cudaMemPool_t *pool_out)
{
    eep_status status = EEP_OK;

    pthread_mutex_lock(&lock);
    if (!pools[ordinal]) {
        cudaMemPool_t pool = NULL;

        status = pool_make(ordinal, &pool);
        if (status == EEP_OK) {
            __atomic_store_n(&pools[ordinal], pool, __ATOMIC_RELEASE);
        } else if (pool) {
            (void)cudaMemPoolDestroy(pool);
        }
    }
    *pool_out = pools[ordinal];
    pthread_mutex_unlock(&lock);
    return status;
}

void eepi_cuda_pools_trim(void)
{
    for (int ordinal = 0; ordinal < EEPI_CUDA_MAX_ORDINALS; ordinal++) {
        cudaMemPool_t pool = __atomic_load_n(&pools[ordinal], __ATOMIC_ACQUIRE);

        if (pool && eepi_cuda_use_device(ordinal) == EEP_OK) {
            (void)EEPI_CUDA_CHECKED(ordinal, cudaMemPoolTrimTo(pool, 0));
        }
    }
}

eep_status eepi_cuda_zero(const cuda_device *d, void *memory, size_t bytes)
{
    cuda_stream stream = d->auxiliary;
    eep_status status =
        EEPI_CUDA_CHECKED(d->ordinal, cudaMemsetAsync(memory, 0, bytes, stream.stream));

    return status == EEP_OK ? eepi_cuda_stream_synchronize(&stream, EEPI_CUDA_COPY_BOUND_US)
                            : status;
}

/* Once the stream is empty the memory is there for every stream. */
static eep_status alloc_device(const cuda_device *d, size_t bytes, void **memory_out)
{
    eep_status status = EEPI_CUDA_CHECKED(
        d->ordinal, cudaMallocFromPoolAsync(memory_out, bytes, d->pool, d->auxiliary.stream));

    return status == EEP_OK ? eepi_cuda_zero(d, *memory_out, bytes) : status;
}

eep_status eepi_cuda_alloc(void *device, eep_memory kind, size_t bytes, void **memory_out)
{
    const cuda_device *d = device;
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *memory = NULL;
    eep_status status;

    if (bytes == 0 || rounded < bytes) {
        return EEP_ERR_INVALID;
    }
    status = eepi_cuda_use_device(d->ordinal);
    if (status == EEP_OK) {
        status = kind == EEP_MEMORY_PINNED ? eepi_cuda_pinned_alloc(d->ordinal, rounded, &memory)
                                           : alloc_device(d, rounded, &memory);
    }
    if (status == EEP_OK && (uintptr_t)memory % ALIGNMENT != 0) {
        status =
            eepi_cuda_fail(EEP_ERR_DEVICE, d->ordinal, "memory not aligned to %d bytes", ALIGNMENT);
    }
    if (status != EEP_OK) {
        if (memory) {
            eepi_cuda_free(device, kind, memory);
        }
        return status;
    }
    *memory_out = memory;
    return EEP_OK;
}

void eepi_cuda_free(void *device, eep_memory kind, void *memory)
{
    const cuda_device *d = device;

    if (kind == EEP_MEMORY_PINNED) {
        eepi_cuda_pinned_free(memory);
        return;
    }
    if (eepi_cuda_use_device(d->ordinal) == EEP_OK) {
        (void)EEPI_CUDA_CHECKED(d->ordinal, cudaFreeAsync(memory, d->auxiliary.stream));
    }
}
