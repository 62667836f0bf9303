/* Shared device memory by the driver's virtual memory management: physical memory with a file
 * descriptor, mapped at an address that is reserved for it. The runtime has no such calls, so they
 * are the driver's own, found through the runtime: libcuda is never linked.
 *
 *     maker      cuMemCreate -> handle -> descriptor       reserve, map, allow this device
 *     importer   descriptor (a copy) -> handle             reserve, map, allow its own device
 *
 * Physical memory lives until its last handle and mapping are gone, those of other processes
 * included (the driver's words on cuMemRelease); legacy CUDA IPC memory does not outlive its maker.
 * So each side keeps its handle while it has the mapping, and a peer's death takes nothing from
 * under a kernel that stores. A region that is mapped while another is still there lies elsewhere:
 * two generations of a seat never share an address.
 *
 * cuMemSetAccess and cuMemUnmap may wait for what runs on the device, by the driver's
 * documentation; graphs/device_share.c counts how long. */
#include "graphs/cuda/backend.h"

#include <cuda.h>
#include <cudaTypedefs.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The driver's functions used here, and the CUDA version whose signature is meant. */
#define DRIVER_LIST(X)                                                                             \
    X(cuGetErrorName, 6000)                                                                        \
    X(cuGetErrorString, 6000)                                                                      \
    X(cuDeviceGetAttribute, 2000)                                                                  \
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
    X(cuMemSetAccess, 10020)

typedef struct driver {
#define DRIVER_MEMBER(name, version) PFN_##name##_v##version name;
    DRIVER_LIST(DRIVER_MEMBER)
#undef DRIVER_MEMBER
} driver;

/* A region, or what there is of one so far: has_* say what share_free has to undo. */
typedef struct cuda_share {
    driver driver;
    int ordinal, fd; /* fd: -1 for an importer */
    size_t bytes;    /* a multiple of the granularity */
    CUmemGenericAllocationHandle handle;
    CUdeviceptr address;
    int has_handle, has_address, has_mapping;
} cuda_share;

/* ------------------------------------------------------------------ the driver's functions */

/* A function pointer is not to be written through a void pointer's type. */
static eep_status find_function(int ordinal, const char *name, unsigned version, void *to,
                                size_t to_bytes)
{
    enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    void *function = NULL;
    eep_status status = eepi_cuda_checked(
        cudaGetDriverEntryPointByVersion(name, &function, version, cudaEnableDefault, &found), name,
        ordinal);

    if (status != EEP_OK)
        return status;
    if (found != cudaDriverEntryPointSuccess || !function || to_bytes != sizeof(function))
        return eepi_cuda_fail(EEP_ERR_UNSUPPORTED, ordinal, "the driver has no %s (CUDA %u.%u)",
                              name, version / 1000, version % 1000 / 10);
    memcpy(to, &function, to_bytes);
    return EEP_OK;
}

static eep_status find_driver(int ordinal, driver *driver_out)
{
    driver d;
    eep_status status = EEP_OK;

#define DRIVER_FIND(name, version)                                                                 \
    if (status == EEP_OK)                                                                          \
        status = find_function(ordinal, #name, version, &d.name, sizeof(d.name));
    DRIVER_LIST(DRIVER_FIND)
#undef DRIVER_FIND
    if (status == EEP_OK)
        *driver_out = d;
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

/* Every call of the driver passes through here. */
static eep_status checked(const cuda_share *s, CUresult result, const char *call)
{
    const char *name = NULL, *text = NULL;

    if (result == CUDA_SUCCESS)
        return EEP_OK;
    if (s->driver.cuGetErrorName(result, &name) != CUDA_SUCCESS)
        name = "unknown";
    if (s->driver.cuGetErrorString(result, &text) != CUDA_SUCCESS)
        text = "unknown error";
    return eepi_cuda_fail(status_of(result), s->ordinal, "%s: %s (%s, %d)", call, text, name,
                          (int)result);
}
#define CALL(s, function, ...)                                                                     \
    checked((s), (s)->driver.function(__VA_ARGS__), #function "(" #__VA_ARGS__ ")")

/* ------------------------------------------------------------------ regions */

static eep_status check_attribute(const cuda_share *s, CUdevice_attribute attribute,
                                  const char *what)
{
    int value = 0;
    eep_status status = CALL(s, cuDeviceGetAttribute, &value, attribute, s->ordinal);

    if (status == EEP_OK && !value)
        status = eepi_cuda_fail(EEP_ERR_UNSUPPORTED, s->ordinal,
                                "it has no %s, so its memory cannot be shared with other processes",
                                what);
    return status;
}

/* The runtime's numbers of devices are the driver's. */
static eep_status share_begin(int ordinal, cuda_share **share_out)
{
    cuda_share *s = calloc(1, sizeof(*s));
    eep_status status;

    if (!s)
        return eepi_cuda_fail(EEP_ERR_NO_MEMORY, ordinal, "out of host memory");
    s->ordinal = ordinal;
    s->fd = -1;
    status = eepi_cuda_use_device(ordinal);
    if (status == EEP_OK)
        status = find_driver(ordinal, &s->driver);
    if (status == EEP_OK)
        status = check_attribute(s, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
                                 "virtual memory management");
    if (status == EEP_OK)
        status = check_attribute(s, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
                                 "file descriptors for memory (bare Linux has, WSL and vGPU not)");
    if (status != EEP_OK) {
        free(s);
        return status;
    }
    *share_out = s;
    return EEP_OK;
}

/* Undo what there is, in reverse order; each step is tried whatever became of the one before. */
static void share_free(cuda_share *s)
{
    if (s->has_mapping)
        (void)CALL(s, cuMemUnmap, s->address, s->bytes);
    if (s->has_address)
        (void)CALL(s, cuMemAddressFree, s->address, s->bytes);
    if (s->has_handle)
        (void)CALL(s, cuMemRelease, s->handle);
    if (s->fd >= 0)
        close(s->fd);
    free(s);
}

/* Map the handle and let this device's kernels use it. */
static eep_status share_place(cuda_share *s)
{
    CUmemAccessDesc access = {.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = s->ordinal},
                              .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    eep_status status = CALL(s, cuMemAddressReserve, &s->address, s->bytes, 0, 0, 0);

    s->has_address = status == EEP_OK;
    if (status == EEP_OK) {
        status = CALL(s, cuMemMap, s->address, s->bytes, 0, s->handle, 0);
        s->has_mapping = status == EEP_OK;
    }
    if (status == EEP_OK)
        status = CALL(s, cuMemSetAccess, s->address, s->bytes, &access, 1);
    return status;
}

static CUmemAllocationProp properties_on(int ordinal)
{
    CUmemAllocationProp properties = {
        .type = CU_MEM_ALLOCATION_TYPE_PINNED,
        .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
        .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = ordinal}};

    return properties;
}

/* Physical memory of at least `bytes`, and its descriptor. */
static eep_status share_create(cuda_share *s, size_t bytes)
{
    CUmemAllocationProp properties = properties_on(s->ordinal);
    size_t granularity = 0;
    eep_status status = CALL(s, cuMemGetAllocationGranularity, &granularity, &properties,
                             CU_MEM_ALLOC_GRANULARITY_MINIMUM);

    if (status != EEP_OK)
        return status;
    s->bytes = (bytes + granularity - 1) / granularity * granularity;
    if (s->bytes < bytes)
        return eepi_cuda_fail(EEP_ERR_NO_MEMORY, s->ordinal, "%zu bytes are too many", bytes);
    status = CALL(s, cuMemCreate, &s->handle, s->bytes, &properties, 0);
    s->has_handle = status == EEP_OK;
    if (status == EEP_OK)
        status = CALL(s, cuMemExportToShareableHandle, &s->fd, s->handle,
                      CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    /* the driver does not say whether a program that is exec'ed would inherit it */
    if (status == EEP_OK && fcntl(s->fd, F_SETFD, FD_CLOEXEC) != 0)
        status = eepi_cuda_fail(EEP_ERR_SYSTEM, s->ordinal, "fcntl of the memory's descriptor: %s",
                                strerror(errno));
    return status;
}

/* Memory of another device needs a path from this one: say so before the driver does. */
static eep_status check_reach(const cuda_share *s)
{
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_INVALID};
    int reaches = 0;
    eep_status status = CALL(s, cuMemGetAllocationPropertiesFromHandle, &properties, s->handle);

    if (status != EEP_OK || properties.location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
        properties.location.id == s->ordinal)
        return status;
    status = CALL(s, cuDeviceCanAccessPeer, &reaches, s->ordinal, properties.location.id);
    if (status == EEP_OK && !reaches)
        status = eepi_cuda_fail(EEP_ERR_UNSUPPORTED, s->ordinal,
                                "it has no peer access to device %d (see nvidia-smi topo -p2p w): "
                                "ranks on these two cannot share windows",
                                properties.location.id);
    return status;
}

static eep_status share_import(cuda_share *s, int fd, size_t mapped_bytes)
{
    eep_status status =
        CALL(s, cuMemImportFromShareableHandle, &s->handle, (void *)(uintptr_t)(unsigned)fd,
             CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);

    s->has_handle = status == EEP_OK;
    s->bytes = mapped_bytes;
    if (status != EEP_OK) {
        char why[256];
        snprintf(why, sizeof(why), "%s", eepi_cuda_failure());
        return eepi_cuda_fail(status, s->ordinal,
                              "%s (the memory's own device must be visible to this process, too: "
                              "CUDA_VISIBLE_DEVICES)",
                              why);
    }
    return check_reach(s);
}

static eepi_share share_of(cuda_share *s)
{
    return (eepi_share){(void *)(uintptr_t)s->address, s->bytes, s->fd, s};
}

/* ------------------------------------------------------------------ the operations */

/* Hand out what was made or mapped, or undo it and say why. */
static eep_status share_end(cuda_share *s, eep_status status, eepi_share *share_out, char *why_out,
                            size_t why_bytes)
{
    if (status == EEP_OK) {
        *share_out = share_of(s);
        return EEP_OK;
    }
    snprintf(why_out, why_bytes, "%s", eepi_cuda_failure());
    if (s)
        share_free(s);
    return status;
}

eep_status eepi_cuda_share_make(void *device, size_t bytes, eepi_share *share_out, char *why_out,
                                size_t why_bytes)
{
    const cuda_device *d = device;
    cuda_share *s = NULL;
    eep_status status = share_begin(d->ordinal, &s);

    if (status == EEP_OK)
        status = share_create(s, bytes);
    if (status == EEP_OK)
        status = share_place(s);
    if (status == EEP_OK)
        status = eepi_cuda_zero(d, (void *)(uintptr_t)s->address, s->bytes);
    return share_end(s, status, share_out, why_out, why_bytes);
}

eep_status eepi_cuda_share_map(void *device, int fd, size_t mapped_bytes, eepi_share *share_out,
                               char *why_out, size_t why_bytes)
{
    const cuda_device *d = device;
    cuda_share *s = NULL;
    eep_status status = share_begin(d->ordinal, &s);

    if (status == EEP_OK)
        status = share_import(s, fd, mapped_bytes);
    if (status == EEP_OK)
        status = share_place(s);
    return share_end(s, status, share_out, why_out, why_bytes);
}

void eepi_cuda_share_close(void *device, eepi_share *share)
{
    const cuda_device *d = device;

    if (eepi_cuda_use_device(d->ordinal) == EEP_OK)
        share_free(share->impl);
}
