/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's virtual memory, made of memfds: counts what is open and can fail at any call. A
 * handle is a memfd's number; memory that this process made is known by the memfd's name. */
#include "tests/fake_gpu/fake_internal.h"

#include <stdbool.h>
#include <cudaTypedefs.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { GRANULARITY = 2 << 20, DEVICE = 0, OTHER_DEVICE = 1 /* only of these calls' arguments */ };

typedef struct mapping {
    struct mapping *next;
    uint8_t *memory;
    size_t bytes;
    int fd; /* a copy of the handle, for cuMemRetainAllocationHandle */
} mapping;

fake_gpu_driver fake_driver = {.fail_at = -1, .has_descriptors = 1};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static mapping *mappings;

static void add(int *open, int change)
{
    __atomic_fetch_add(open, change, __ATOMIC_RELAXED);
}

int fake_driver_fails(void)
{
    return __atomic_fetch_add(&fake_driver.calls, 1, __ATOMIC_RELAXED) == fake_driver.fail_at;
}

int fake_driver_knows(const void *memory, size_t bytes)
{
    const uint8_t *first = memory;
    int known = 0;

    pthread_mutex_lock(&lock);
    for (const mapping *m = mappings; m && !known; m = m->next) {
        known = first >= m->memory && first + bytes <= m->memory + m->bytes;
    }
    pthread_mutex_unlock(&lock);
    return known;
}

/* The calling thread's context, not the process's, is what these functions need. */
static bool has_no_context(void)
{
    if (fake_gpu_has_context()) {
        return false;
    }
    __atomic_fetch_add(&fake.count.calls_without_context, 1, __ATOMIC_RELAXED);
    fake_report();
    return !fake_driver.allows_no_context;
}

/* ------------------------------------------------------------------ questions */

/* X(error, what it means) */
#define ERRORS(X)                                                                                  \
    X(CUDA_SUCCESS, "no error")                                                                    \
    X(CUDA_ERROR_INVALID_VALUE, "invalid argument")                                                \
    X(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")                                                   \
    X(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")                                         \
    X(CUDA_ERROR_INVALID_CONTEXT, "invalid device context")                                        \
    X(CUDA_ERROR_NOT_SUPPORTED, "operation not supported")                                         \
    X(CUDA_ERROR_UNKNOWN, "unknown error")

static CUresult get_name(CUresult error, const char **out)
{
    switch ((int)error) {
#define NAME_OF(name, text)                                                                        \
    case name:                                                                                     \
        *out = #name;                                                                              \
        return CUDA_SUCCESS;
        ERRORS(NAME_OF)
#undef NAME_OF
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

static CUresult get_string(CUresult error, const char **out)
{
    switch ((int)error) {
#define TEXT_OF(name, text)                                                                        \
    case name:                                                                                     \
        *out = text;                                                                               \
        return CUDA_SUCCESS;
        ERRORS(TEXT_OF)
#undef TEXT_OF
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

static CUresult get_attribute(int *out, CUdevice_attribute attribute, CUdevice device)
{
    FAKE_REQUIRE(device == DEVICE);
    if (fake_driver_fails()) {
        return CUDA_ERROR_UNKNOWN;
    }
    switch ((int)attribute) {
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
        *out = 1;
        break;
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED:
        *out = fake_driver.has_descriptors;
        break;
    case CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED:
        *out = fake_driver.has_gpu_direct;
        break;
    case CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED:
        *out = fake_driver.has_dmabuf;
        break;
    case CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING:
        *out = fake_driver.writes_ordering;
        break;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

static CUresult can_access(int *out, CUdevice device, CUdevice peer)
{
    FAKE_REQUIRE(peer == fake_driver.owner && peer != device);
    *out = fake_driver.reaches_others;
    return fake_driver_fails() ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

static CUresult get_uuid(CUuuid *out, CUdevice device)
{
    memset(out->bytes, 0xab, sizeof out->bytes);
    out->bytes[15] = (char)device;
    return fake_driver_fails() ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

static CUresult get_context(CUcontext *out)
{
    static int context;

    *out = fake_gpu_has_context() ? (CUcontext)(void *)&context : NULL;
    return CUDA_SUCCESS;
}

static CUresult granularity(size_t *out, const CUmemAllocationProp *properties,
                            CUmemAllocationGranularity_flags option)
{
    (void)option;
    FAKE_REQUIRE(properties->location.id == DEVICE);
    if (has_no_context()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    *out = GRANULARITY;
    return fake_driver_fails() ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

static CUresult properties_of(CUmemAllocationProp *out, CUmemGenericAllocationHandle handle)
{
    (void)handle;
    if (has_no_context()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    *out = (CUmemAllocationProp){.location = {CU_MEM_LOCATION_TYPE_DEVICE, fake_driver.owner}};
    return fake_driver_fails() ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

/* ------------------------------------------------------------------ handles */

static void name_of_own(char *name, size_t bytes)
{
    snprintf(name, bytes, "fake-gpu-%d", (int)getpid());
}

/* A memfd shows its name in /proc as "/memfd:NAME (deleted)". */
static bool is_of_this_process(int fd)
{
    char path[64], target[128], name[64];
    ssize_t length;

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    length = readlink(path, target, sizeof(target) - 1);
    if (length <= 0) {
        return false;
    }
    target[length] = '\0';
    name_of_own(name, sizeof name);
    return strncmp(target, "/memfd:", 7) == 0 && strncmp(target + 7, name, strlen(name)) == 0 &&
           target[7 + strlen(name)] == ' ';
}

static CUresult create(CUmemGenericAllocationHandle *out, size_t bytes,
                       const CUmemAllocationProp *properties, unsigned long long flags)
{
    char name[64];
    int fd;

    (void)flags;
    FAKE_REQUIRE(bytes % GRANULARITY == 0);
    FAKE_REQUIRE(properties->requestedHandleTypes == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    if (has_no_context()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (fake_driver_fails()) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    FAKE_REQUIRE(!properties->allocFlags.gpuDirectRDMACapable || fake_driver.has_gpu_direct);
    if (properties->allocFlags.gpuDirectRDMACapable && fake_driver.refuses_gpu_direct) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    add(&fake_driver.made_for_nics, properties->allocFlags.gpuDirectRDMACapable);
    name_of_own(name, sizeof name);
    fd = memfd_create(name, MFD_CLOEXEC);
    FAKE_REQUIRE(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    *out = (CUmemGenericAllocationHandle)fd;
    add(&fake_driver.handles, 1);
    return CUDA_SUCCESS;
}

static CUresult release(CUmemGenericAllocationHandle handle)
{
    if (has_no_context()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    FAKE_REQUIRE(close((int)handle) == 0);
    add(&fake_driver.handles, -1);
    return CUDA_SUCCESS;
}

static CUresult export_fd(void *out, CUmemGenericAllocationHandle handle,
                          CUmemAllocationHandleType type, unsigned long long flags)
{
    (void)flags;
    FAKE_REQUIRE(type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    if (has_no_context()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (fake_driver_fails()) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    *(int *)out = dup((int)handle); /* not close-on-exec, as a driver may do */
    return CUDA_SUCCESS;
}

static CUresult import_fd(CUmemGenericAllocationHandle *out, void *fd,
                          CUmemAllocationHandleType type)
{
    int own, copy;

    FAKE_REQUIRE(type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    if (has_no_context()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (fake_driver_fails()) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    own = is_of_this_process((int)(uintptr_t)fd);
    if (own) {
        __atomic_fetch_add(&fake.count.imports_of_own_memory, 1, __ATOMIC_RELAXED);
    }
    if (own && fake_driver.refuses_own_import) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    copy = dup((int)(uintptr_t)fd);
    if (copy < 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *out = (CUmemGenericAllocationHandle)copy;
    add(&fake_driver.handles, 1);
    return CUDA_SUCCESS;
}

/* ------------------------------------------------------------------ addresses and mappings */

static CUresult reserve(CUdeviceptr *out, size_t bytes, size_t alignment, CUdeviceptr at,
                        unsigned long long flags)
{
    void *memory;

    (void)alignment;
    (void)at;
    (void)flags;
    if (has_no_context()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (fake_driver_fails()) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    memory = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FAKE_REQUIRE(memory != MAP_FAILED);
    *out = (CUdeviceptr)(uintptr_t)memory;
    add(&fake_driver.addresses, 1);
    return CUDA_SUCCESS;
}

static CUresult address_free(CUdeviceptr at, size_t bytes)
{
    if (has_no_context()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    FAKE_REQUIRE(munmap((void *)(uintptr_t)at, bytes) == 0);
    add(&fake_driver.addresses, -1);
    return CUDA_SUCCESS;
}

static CUresult map(CUdeviceptr at, size_t bytes, size_t offset,
                    CUmemGenericAllocationHandle handle, unsigned long long flags)
{
    mapping *m;

    (void)flags;
    if (has_no_context()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (fake_driver_fails()) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    FAKE_REQUIRE(mmap((void *)(uintptr_t)at, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, (int)handle,
                      (off_t)offset) != MAP_FAILED);
    m = malloc(sizeof *m);
    FAKE_REQUIRE(m != NULL);
    pthread_mutex_lock(&lock);
    *m = (mapping){mappings, (uint8_t *)(uintptr_t)at, bytes,
                   fcntl((int)handle, F_DUPFD_CLOEXEC, 3)};
    mappings = m;
    pthread_mutex_unlock(&lock);
    add(&fake_driver.mappings, 1);
    return CUDA_SUCCESS;
}

static void forget_mapping(CUdeviceptr at)
{
    mapping *m = NULL;

    pthread_mutex_lock(&lock);
    for (mapping **to = &mappings; *to && !m; to = m ? to : &(*to)->next) {
        if ((*to)->memory == (uint8_t *)(uintptr_t)at) {
            m = *to;
            *to = m->next;
        }
    }
    pthread_mutex_unlock(&lock);
    FAKE_REQUIRE(m != NULL);
    close(m->fd);
    free(m);
}

/* Waits for the whole device. */
static CUresult unmap(CUdeviceptr at, size_t bytes)
{
    if (has_no_context()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (fake_device_wide_begin("cuMemUnmap") != cudaSuccess) {
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    forget_mapping(at);
    FAKE_REQUIRE(mmap((void *)(uintptr_t)at, bytes, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
    add(&fake_driver.mappings, -1);
    fake_device_wide_end();
    return CUDA_SUCCESS;
}

/* A kernel's device stores, wherever the memory lies. */
static CUresult set_access(CUdeviceptr at, size_t bytes, const CUmemAccessDesc *access,
                           size_t count)
{
    FAKE_REQUIRE(count == 1);
    FAKE_REQUIRE(access->location.id == DEVICE || access->location.id == OTHER_DEVICE);
    if (has_no_context()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (fake_driver_fails()) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    FAKE_REQUIRE(mprotect((void *)(uintptr_t)at, bytes, PROT_READ | PROT_WRITE) == 0);
    return CUDA_SUCCESS;
}

/* The handle of what is mapped there, as one more reference to it. */
static CUresult retain(CUmemGenericAllocationHandle *out, void *at)
{
    int copy = -1;

    if (has_no_context()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    pthread_mutex_lock(&lock);
    for (const mapping *m = mappings; m && copy < 0; m = m->next) {
        if ((uint8_t *)at >= m->memory && (uint8_t *)at < m->memory + m->bytes) {
            copy = dup(m->fd);
        }
    }
    pthread_mutex_unlock(&lock);
    if (copy < 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *out = (CUmemGenericAllocationHandle)copy;
    add(&fake_driver.handles, 1);
    return CUDA_SUCCESS;
}

/* Of one whole mapping, as its memfd. */
static CUresult range_handle(void *out, CUdeviceptr at, size_t bytes, CUmemRangeHandleType type,
                             unsigned long long flags)
{
    int copy = -1;

    FAKE_REQUIRE(type == CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD && flags == 0);
    FAKE_REQUIRE(fake_driver.has_dmabuf);
    if (has_no_context()) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (fake_driver_fails()) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    pthread_mutex_lock(&lock);
    for (const mapping *m = mappings; m && copy < 0; m = m->next) {
        if ((uint8_t *)(uintptr_t)at == m->memory && bytes == m->bytes) {
            copy = dup(m->fd); /* not close-on-exec, as a driver may do */
        }
    }
    pthread_mutex_unlock(&lock);
    FAKE_REQUIRE(copy >= 0);
    *(int *)out = copy;
    return CUDA_SUCCESS;
}

/* ------------------------------------------------------------------ how they are found */

/* X(name, CUDA version of its type, function): each function has its type. */
#define DRIVER_LIST(X)                                                                             \
    X(cuGetErrorName, 6000, get_name)                                                              \
    X(cuGetErrorString, 6000, get_string)                                                          \
    X(cuDeviceGetAttribute, 2000, get_attribute)                                                   \
    X(cuDeviceCanAccessPeer, 4000, can_access)                                                     \
    X(cuDeviceGetUuid, 11040, get_uuid)                                                            \
    X(cuCtxGetCurrent, 4000, get_context)                                                          \
    X(cuMemGetAllocationGranularity, 10020, granularity)                                           \
    X(cuMemGetAllocationPropertiesFromHandle, 10020, properties_of)                                \
    X(cuMemCreate, 10020, create)                                                                  \
    X(cuMemRelease, 10020, release)                                                                \
    X(cuMemExportToShareableHandle, 10020, export_fd)                                              \
    X(cuMemImportFromShareableHandle, 10020, import_fd)                                            \
    X(cuMemRetainAllocationHandle, 11000, retain)                                                  \
    X(cuMemAddressReserve, 10020, reserve)                                                         \
    X(cuMemAddressFree, 10020, address_free)                                                       \
    X(cuMemMap, 10020, map)                                                                        \
    X(cuMemUnmap, 10020, unmap)                                                                    \
    X(cuMemSetAccess, 10020, set_access)                                                           \
    X(cuMemGetHandleForAddressRange, 11070, range_handle)

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
                                             unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *found)
{
    cudaError_t error = fake_enter(FAKE_ASKS);

    (void)flags;
    if (error != cudaSuccess) {
        return error;
    }
    *function = NULL;
    *found = cudaDriverEntryPointSymbolNotFound;
    if (fake_driver.missing && strcmp(symbol, fake_driver.missing) == 0) {
        return cudaSuccess;
    }
#define FIND(name, least, fake_function)                                                           \
    if (strcmp(symbol, #name) == 0) {                                                              \
        PFN_##name##_v##least typed = fake_function;                                               \
                                                                                                   \
        *found = version < least ? cudaDriverEntryPointVersionNotSufficent                         \
                                 : cudaDriverEntryPointSuccess;                                    \
        if (version >= least)                                                                      \
            memcpy(function, &typed, sizeof *function);                                            \
    }
    DRIVER_LIST(FIND)
#undef FIND
    return cudaSuccess;
}
