/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: the host's own, filled with a pattern, so that nobody takes it for zeroed. */
#include "tests/fake_gpu/fake_internal.h"

#include <stdlib.h>
#include <string.h>

enum { DEVICE_ALIGNMENT = 512, PAGE = 4096, PATTERN = 0xa5 };

typedef enum memory_kind { MEMORY_DEVICE, MEMORY_HOST, MEMORY_POOL } memory_kind;

typedef struct allocation {
    struct allocation *next;
    uint8_t *memory;
    size_t bytes;
    memory_kind kind;
    struct CUmemPoolHandle_st *pool;
} allocation;

/* Reserved memory is what trimming gives back; more than is used only because of that. */
struct CUmemPoolHandle_st {
    size_t used, reserved, most_used, most_reserved;
    uint64_t threshold;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* innermost */
static allocation *allocations;
static struct CUmemPoolHandle_st default_pool;
static uint64_t allocations_open, pool_bytes; /* under the lock; for the counters */

static void count(void)
{
    __atomic_store_n(&fake.count.allocations_open, allocations_open, __ATOMIC_RELAXED);
    __atomic_store_n(&fake.count.pool_bytes_reserved, pool_bytes, __ATOMIC_RELAXED);
}

static void pool_take(struct CUmemPoolHandle_st *pool, size_t bytes)
{
    pool->used += bytes;
    if (pool->used > pool->reserved) {
        pool_bytes += pool->used - pool->reserved;
        pool->reserved = pool->used;
    }
    if (pool->used > pool->most_used) {
        pool->most_used = pool->used;
    }
    if (pool->reserved > pool->most_reserved) {
        pool->most_reserved = pool->reserved;
    }
}

static cudaError_t add(void **memory_out, size_t bytes, memory_kind kind,
                       struct CUmemPoolHandle_st *pool)
{
    size_t alignment = kind == MEMORY_HOST ? PAGE : DEVICE_ALIGNMENT;
    size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    allocation *a = rounded >= bytes && bytes > 0 ? malloc(sizeof *a) : NULL;
    uint8_t *memory = a ? aligned_alloc(alignment, rounded) : NULL;

    if (!memory) {
        free(a);
        return bytes ? cudaErrorMemoryAllocation : cudaErrorInvalidValue;
    }
    memset(memory, PATTERN, rounded);
    pthread_mutex_lock(&lock);
    *a = (allocation){allocations, memory, rounded, kind, pool};
    allocations = a;
    allocations_open++;
    if (pool) {
        pool_take(pool, rounded);
    }
    count();
    pthread_mutex_unlock(&lock);
    *memory_out = memory;
    return cudaSuccess;
}

/* With the lock held; NULL: there is no such. */
static allocation **find(const void *memory)
{
    for (allocation **at = &allocations; *at; at = &(*at)->next) {
        if ((*at)->memory == memory) {
            return at;
        }
    }
    return NULL;
}

static cudaError_t take_away(void *memory, int is_host)
{
    allocation **at, *a = NULL;

    pthread_mutex_lock(&lock);
    at = find(memory);
    if (at && ((*at)->kind == MEMORY_HOST) == is_host) {
        a = *at;
        *at = a->next;
        allocations_open--;
        if (a->pool) {
            a->pool->used -= a->bytes;
        }
        count();
    }
    pthread_mutex_unlock(&lock);
    if (!a) {
        return cudaErrorInvalidValue;
    }
    free(a->memory);
    free(a);
    return cudaSuccess;
}

void fake_memory_release(void *memory)
{
    FAKE_REQUIRE(take_away(memory, 0) == cudaSuccess);
}

int fake_memory_knows(const void *memory, size_t bytes)
{
    const uint8_t *first = memory;
    int known = 0;

    pthread_mutex_lock(&lock);
    for (const allocation *a = allocations; a && !known; a = a->next) {
        known = first >= a->memory && first + bytes <= a->memory + a->bytes;
    }
    pthread_mutex_unlock(&lock);
    return known;
}

/* ------------------------------------------------------------------ calls that wait for all */

static cudaError_t allocate(const char *call, void **memory_out, size_t bytes, memory_kind kind)
{
    cudaError_t error = fake_device_wide_begin(call);

    if (error != cudaSuccess) {
        return error;
    }
    error = add(memory_out, bytes, kind, NULL);
    fake_device_wide_end();
    return error;
}

static cudaError_t release(const char *call, void *memory, int is_host)
{
    cudaError_t error = memory ? fake_device_wide_begin(call) : fake_enter(FAKE_WORKS);

    if (error != cudaSuccess || !memory) {
        return error;
    }
    error = take_away(memory, is_host);
    fake_device_wide_end();
    return error;
}

cudaError_t cudaMalloc(void **memory_out, size_t bytes)
{
    return allocate("cudaMalloc", memory_out, bytes, MEMORY_DEVICE);
}

cudaError_t cudaFree(void *memory)
{
    return release("cudaFree", memory, 0);
}

cudaError_t cudaHostAlloc(void **memory_out, size_t bytes, unsigned flags)
{
    (void)flags;
    return allocate("cudaHostAlloc", memory_out, bytes, MEMORY_HOST);
}

cudaError_t cudaMallocHost(void **memory_out, size_t bytes)
{
    return allocate("cudaMallocHost", memory_out, bytes, MEMORY_HOST);
}

cudaError_t cudaFreeHost(void *memory)
{
    return release("cudaFreeHost", memory, 1);
}

cudaError_t cudaHostGetDevicePointer(void **device_out, void *memory, unsigned flags)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    (void)flags;
    if (error != cudaSuccess) {
        return error;
    }
    if (!fake_memory_knows(memory, 1)) {
        return cudaErrorInvalidValue;
    }
    *device_out = memory;
    return cudaSuccess;
}

/* ------------------------------------------------------------------ pools, and the stream's order
 */

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess || device != 0) {
        return error != cudaSuccess ? error : cudaErrorInvalidDevice;
    }
    *pool = &default_pool;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetMemPool(cudaMemPool_t *pool, int device)
{
    return cudaDeviceGetDefaultMemPool(pool, device);
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t *pool_out, const struct cudaMemPoolProps *properties)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess) {
        return error;
    }
    if (properties->allocType != cudaMemAllocationTypePinned ||
        properties->location.type != cudaMemLocationTypeDevice || properties->location.id != 0) {
        return cudaErrorInvalidValue;
    }
    *pool_out = calloc(1, sizeof **pool_out);
    return *pool_out ? cudaSuccess : cudaErrorMemoryAllocation;
}

/* It must be empty: what is still used would keep the true one alive. */
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool)
{
    cudaError_t error = fake_device_wide_begin("cudaMemPoolDestroy");

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&lock);
    FAKE_REQUIRE(pool->used == 0 && pool != &default_pool);
    pool_bytes -= pool->reserved;
    count();
    pthread_mutex_unlock(&lock);
    free(pool);
    fake_device_wide_end();
    return cudaSuccess;
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytes_to_keep)
{
    cudaError_t error = fake_device_wide_begin("cudaMemPoolTrimTo");
    size_t keep;

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&lock);
    keep = pool->used > bytes_to_keep ? pool->used : bytes_to_keep;
    if (keep < pool->reserved) {
        pool_bytes -= pool->reserved - keep;
        pool->reserved = keep;
    }
    count();
    pthread_mutex_unlock(&lock);
    fake_device_wide_end();
    return cudaSuccess;
}

static uint64_t *attribute_of(cudaMemPool_t pool, enum cudaMemPoolAttr attribute)
{
    switch (attribute) {
    case cudaMemPoolAttrReleaseThreshold:
        return &pool->threshold;
    case cudaMemPoolAttrReservedMemCurrent:
        return &pool->reserved;
    case cudaMemPoolAttrReservedMemHigh:
        return &pool->most_reserved;
    case cudaMemPoolAttrUsedMemCurrent:
        return &pool->used;
    case cudaMemPoolAttrUsedMemHigh:
        return &pool->most_used;
    default:
        return NULL;
    }
}

/* The threshold is kept, and never makes a pool give anything back. */
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&lock);
    if (attribute == cudaMemPoolAttrReleaseThreshold) {
        pool->threshold = *(const uint64_t *)value;
    }
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr attribute, void *value)
{
    cudaError_t error = fake_enter(FAKE_WORKS);
    const uint64_t *from = attribute_of(pool, attribute);

    if (error != cudaSuccess || !from) {
        return error != cudaSuccess ? error : cudaErrorNotSupported;
    }
    pthread_mutex_lock(&lock);
    *(uint64_t *)value = *from;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

/* With fake.lock not held: is it a stream outside a capture? Graphs with allocations are not here.
 */
static cudaError_t may_order(cudaStream_t stream)
{
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cudaError_t error = cudaStreamIsCapturing(stream, &status);

    if (error != cudaSuccess) {
        return error;
    }
    return status == cudaStreamCaptureStatusNone ? cudaSuccess : cudaErrorStreamCaptureUnsupported;
}

cudaError_t cudaMallocFromPoolAsync(void **memory_out, size_t bytes, cudaMemPool_t pool,
                                    cudaStream_t stream)
{
    cudaError_t error = may_order(stream);

    return error == cudaSuccess ? add(memory_out, bytes, MEMORY_POOL, pool) : error;
}

cudaError_t cudaMallocAsync(void **memory_out, size_t bytes, cudaStream_t stream)
{
    return cudaMallocFromPoolAsync(memory_out, bytes, &default_pool, stream);
}

cudaError_t cudaFreeAsync(void *memory, cudaStream_t stream)
{
    fake_work work = {.kind = FAKE_FREE, .to = memory};
    cudaError_t error = may_order(stream);
    allocation **at;

    if (error != cudaSuccess) {
        return error;
    }
    pthread_mutex_lock(&lock);
    at = find(memory);
    error = at && (*at)->kind != MEMORY_HOST ? cudaSuccess : cudaErrorInvalidValue;
    pthread_mutex_unlock(&lock);
    return error == cudaSuccess ? fake_put(stream, &work, "cudaFreeAsync") : error;
}

/* ------------------------------------------------------------------ copies */

static void count_pageable(const void *memory, size_t bytes)
{
    if (!fake_memory_knows(memory, bytes) && !fake_driver_knows(memory, bytes)) {
        __atomic_fetch_add(&fake.count.pageable_copies, 1, __ATOMIC_RELAXED);
    }
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    fake_work work = {.kind = FAKE_COPY, .to = to, .from = from, .bytes = bytes};

    (void)kind;
    count_pageable(to, bytes);
    count_pageable(from, bytes);
    return fake_put(stream, &work, "cudaMemcpyAsync");
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    fake_work work = {.kind = FAKE_MEMSET, .to = to, .value = value, .bytes = bytes};

    return fake_put(stream, &work, "cudaMemsetAsync");
}

/* An H100's. */
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    cudaError_t error = fake_enter(FAKE_WORKS);

    if (error == cudaSuccess) {
        *free_bytes = *total_bytes = (size_t)80 << 30;
    }
    return error;
}
