/* SPDX-License-Identifier: Apache-2.0 */
/* Shared device memory by the driver's virtual memory management: physical memory with a file
 * descriptor, mapped at an address that is reserved for it. The runtime has no such calls, so they
 * are the driver's own (cuda_driver.h).
 *
 *     maker       cuMemCreate -> handle -> descriptor       reserve, map, allow this device
 *     importer    descriptor (a copy) -> handle             reserve, map, allow its own device
 *     own process the maker's region, counted               allow its own device, if it is another
 *
 * Physical memory lives until its last handle and mapping are gone, those of other processes
 * included (the driver's words on cuMemRelease); legacy CUDA IPC memory does not outlive its maker.
 * So each side keeps its handle while it has the mapping, and a peer's death takes nothing from
 * under a kernel that stores. A region that is mapped while another is still there lies elsewhere:
 * two generations of a seat never share an address.
 *
 * What this process made it does not import: whether a driver does that is written nowhere. Ranks
 * as threads find the maker's region by its descriptor's number and use it at its own address.
 *
 * cuMemSetAccess and cuMemUnmap may wait for what runs on the device, by the driver's
 * documentation; graphs/device/device_share.c counts how long. So while several ranks of this
 * process wait, regions that nobody uses any more are parked and unmapped later, or when there are
 * too many. A rank that is alone waits for nobody of its process, and unmaps at once: its peers
 * come and go, and their memory with them. */
#include "graphs/cuda/cuda_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A region, or what there is of one so far: has_* say what region_free has to undo. */
enum { ALONE_PARKED_BYTES = 256 << 20 };

typedef struct cuda_region {
    struct cuda_region *next; /* in `open_regions` or in `parked` */
    cuda_driver driver;
    int ordinal, fd; /* fd: -1 for an importer, and once the maker has closed */
    size_t bytes;    /* a multiple of the granularity */
    CUmemGenericAllocationHandle handle;
    CUdeviceptr address;
    int has_handle, has_address, has_mapping;
    bool is_for_nics; /* it was asked for as memory that network cards may reach */
    uint32_t users;   /* shares of it that are open */
    uint64_t allowed; /* a bit for each device of this process that may reach it */
} cuda_region;

/* Never held in a call of the driver: others need it while that waits. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cuda_region *open_regions; /* of this process's making or mapping */
static cuda_region *parked;       /* newest first */

#define CALL(r, function, ...)                                                                     \
    eepi_cuda_driver_checked(&(r)->driver, (r)->ordinal, (r)->driver.function(__VA_ARGS__),        \
                             #function "(" #__VA_ARGS__ ")")

/* ------------------------------------------------------------------ regions */

static eep_status check_attribute(const cuda_region *r, CUdevice_attribute attribute,
                                  const char *what)
{
    int value = 0;
    eep_status status = CALL(r, cuDeviceGetAttribute, &value, attribute, r->ordinal);

    if (status == EEP_OK && !value) {
        status = eepi_cuda_fail(EEP_ERR_UNSUPPORTED, r->ordinal,
                                "it has no %s, so its memory cannot be shared with other processes",
                                what);
    }
    return status;
}

/* 0, too, where the driver knows no such attribute. */
static int attribute_of(const cuda_region *r, CUdevice_attribute attribute)
{
    int value = 0;

    return r->driver.cuDeviceGetAttribute(&value, attribute, r->ordinal) == CUDA_SUCCESS ? value
                                                                                         : 0;
}

/* The runtime's numbers of devices are the driver's. */
static eep_status region_begin(int ordinal, cuda_region **region_out)
{
    cuda_region *r = calloc(1, sizeof *r);
    eep_status status;

    if (!r) {
        return eepi_cuda_fail(EEP_ERR_NO_MEMORY, ordinal, "out of host memory");
    }
    r->ordinal = ordinal;
    r->fd = -1;
    status = eepi_cuda_use_device(ordinal);
    if (status == EEP_OK) {
        status = eepi_cuda_find_driver(ordinal, &r->driver);
    }
    if (status == EEP_OK) {
        status = check_attribute(r, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
                                 "virtual memory management");
    }
    if (status == EEP_OK) {
        status = check_attribute(r, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
                                 "file descriptors for memory (bare Linux has, WSL and vGPU not)");
    }
    if (status != EEP_OK) {
        free(r);
        return status;
    }
    *region_out = r;
    return EEP_OK;
}

/* Undo what there is, in reverse order; each step is tried whatever became of the one before. */
static void region_free(cuda_region *r)
{
    if (r->has_mapping) {
        (void)CALL(r, cuMemUnmap, r->address, r->bytes);
    }
    if (r->has_address) {
        (void)CALL(r, cuMemAddressFree, r->address, r->bytes);
    }
    if (r->has_handle) {
        (void)CALL(r, cuMemRelease, r->handle);
    }
    if (r->fd >= 0) {
        close(r->fd);
    }
    free(r);
}

static uint64_t bit_of(int ordinal)
{
    return 1ull << ordinal; /* a device below EEPI_CUDA_MAX_ORDINALS */
}

/* Let a device's kernels use the mapping. */
static eep_status region_allow(cuda_region *r, int ordinal)
{
    CUmemAccessDesc access = {.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = ordinal},
                              .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    eep_status status = CALL(r, cuMemSetAccess, r->address, r->bytes, &access, 1);

    if (status == EEP_OK) {
        __atomic_fetch_or(&r->allowed, bit_of(ordinal), __ATOMIC_ACQ_REL);
    }
    return status;
}

/* Map the handle and let this device's kernels use it. */
static eep_status region_place(cuda_region *r)
{
    eep_status status = CALL(r, cuMemAddressReserve, &r->address, r->bytes, 0, 0, 0);

    r->has_address = status == EEP_OK;
    if (status == EEP_OK) {
        status = CALL(r, cuMemMap, r->address, r->bytes, 0, r->handle, 0);
        r->has_mapping = status == EEP_OK;
    }
    return status == EEP_OK ? region_allow(r, r->ordinal) : status;
}

static CUmemAllocationProp properties_on(int ordinal)
{
    CUmemAllocationProp properties = {
        .type = CU_MEM_ALLOCATION_TYPE_PINNED,
        .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
        .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = ordinal}};

    return properties;
}

/* The driver does not say whether a program that is exec'ed would inherit its descriptors. */
static eep_status close_on_exec(const cuda_region *r, int fd)
{
    return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0
               ? EEP_OK
               : eepi_cuda_fail(EEP_ERR_SYSTEM, r->ordinal, "fcntl of the memory's descriptor: %s",
                                strerror(errno));
}

/* Memory that network cards may reach where the device has such, and other memory where the driver
 * gives none in spite of what it says. */
static eep_status create_handle(cuda_region *r, CUmemAllocationProp *properties)
{
    eep_status status = CALL(r, cuMemCreate, &r->handle, r->bytes, properties, 0);

    if ((status == EEP_ERR_UNSUPPORTED || status == EEP_ERR_INVALID) &&
        properties->allocFlags.gpuDirectRDMACapable) {
        properties->allocFlags.gpuDirectRDMACapable = 0;
        status = CALL(r, cuMemCreate, &r->handle, r->bytes, properties, 0);
    }
    r->has_handle = status == EEP_OK;
    r->is_for_nics = r->has_handle && properties->allocFlags.gpuDirectRDMACapable;
    return status;
}

/* Physical memory of at least `bytes`, and its descriptor. */
static eep_status region_create(cuda_region *r, size_t bytes)
{
    CUmemAllocationProp properties = properties_on(r->ordinal);
    size_t granularity = 0;
    eep_status status;

    properties.allocFlags.gpuDirectRDMACapable =
        attribute_of(r, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED) != 0;
    status = CALL(r, cuMemGetAllocationGranularity, &granularity, &properties,
                  CU_MEM_ALLOC_GRANULARITY_MINIMUM);

    if (status != EEP_OK) {
        return status;
    }
    r->bytes = (bytes + granularity - 1) / granularity * granularity;
    if (r->bytes < bytes) {
        return eepi_cuda_fail(EEP_ERR_NO_MEMORY, r->ordinal, "%zu bytes are too many", bytes);
    }
    status = create_handle(r, &properties);
    if (status == EEP_OK) {
        status = CALL(r, cuMemExportToShareableHandle, &r->fd, r->handle,
                      CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    }
    return status == EEP_OK ? close_on_exec(r, r->fd) : status;
}

/* Memory of another device needs a path from this one: say so before the driver does. */
static eep_status check_reach(const cuda_region *r, int ordinal)
{
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_INVALID};
    int reaches = 0;
    eep_status status = CALL(r, cuMemGetAllocationPropertiesFromHandle, &properties, r->handle);

    if (status != EEP_OK || properties.location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
        properties.location.id == ordinal) {
        return status;
    }
    status = CALL(r, cuDeviceCanAccessPeer, &reaches, ordinal, properties.location.id);
    if (status == EEP_OK && !reaches) {
        status = eepi_cuda_fail(EEP_ERR_UNSUPPORTED, ordinal,
                                "it has no peer access to device %d (see nvidia-smi topo -p2p w): "
                                "ranks on these two cannot share windows",
                                properties.location.id);
    }
    return status;
}

static eep_status region_import(cuda_region *r, int fd, size_t mapped_bytes)
{
    eep_status status =
        CALL(r, cuMemImportFromShareableHandle, &r->handle, (void *)(uintptr_t)(unsigned)fd,
             CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);

    r->has_handle = status == EEP_OK;
    r->bytes = mapped_bytes;
    if (status != EEP_OK) {
        char why[256];
        snprintf(why, sizeof why, "%s", eepi_cuda_failure());
        return eepi_cuda_fail(status, r->ordinal,
                              "%s (the memory's own device must be visible to this process, too: "
                              "CUDA_VISIBLE_DEVICES)",
                              why);
    }
    return check_reach(r, r->ordinal);
}

/* ------------------------------------------------------------------ who uses them */

static void unlink_locked(cuda_region **list, const cuda_region *r)
{
    while (*list != r) {
        list = &(*list)->next;
    }
    *list = r->next;
}

static void region_publish(cuda_region *r)
{
    r->users = 1;
    pthread_mutex_lock(&lock);
    r->next = open_regions;
    open_regions = r;
    pthread_mutex_unlock(&lock);
}

/* The region whose maker, a rank of this process, has that descriptor open; counted. */
static cuda_region *region_of(int fd, size_t mapped_bytes)
{
    cuda_region *r;

    pthread_mutex_lock(&lock);
    r = open_regions;
    while (r && (r->fd != fd || r->bytes != mapped_bytes)) {
        r = r->next;
    }
    if (r) {
        r->users++;
    }
    pthread_mutex_unlock(&lock);
    return r;
}

/* Out of the list what has to go so that others of that device have at most `most_bytes`. */
static cuda_region *take_parked_beyond(int ordinal, size_t most_bytes)
{
    cuda_region *out = NULL, **at = &parked;
    size_t bytes = 0;

    pthread_mutex_lock(&lock);
    while (*at) {
        cuda_region *r = *at;

        if (r->ordinal == ordinal) {
            bytes += r->bytes;
        }
        if (r->ordinal != ordinal || bytes <= most_bytes) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        r->next = out;
        out = r;
    }
    pthread_mutex_unlock(&lock);
    return out;
}

static void free_list(cuda_region *list)
{
    while (list) {
        cuda_region *next = list->next;

        if (eepi_cuda_use_device(list->ordinal) == EEP_OK) {
            region_free(list);
        }
        list = next;
    }
}

/* Nobody uses it any more. Its memory is never another window's: kernels of a rank that was given
 * up may store into it until they end. A rank that is alone in its process would wait for its own
 * step only, so it keeps little: each return of a peer would cost a window otherwise. */
static void region_retire(cuda_region *r, size_t most_bytes)
{
    const size_t most = eepi_cuda_num_waiters() > 1 ? most_bytes : (size_t)ALONE_PARKED_BYTES;
    cuda_region *beyond;

    if (eepi_cuda_num_waiters() ==
        0) { /* else a step may be in flight, and this would wait for it */
        region_free(r);
        return;
    }
    pthread_mutex_lock(&lock);
    r->next = parked;
    parked = r;
    pthread_mutex_unlock(&lock);
    beyond = take_parked_beyond(r->ordinal, most);
    if (beyond) {
        eepi_cuda_note_late();
    }
    free_list(beyond);
}

static void region_leave(cuda_region *r, size_t most_bytes)
{
    int is_last;

    pthread_mutex_lock(&lock);
    is_last = --r->users == 0;
    if (is_last) {
        unlink_locked(&open_regions, r);
    }
    pthread_mutex_unlock(&lock);
    if (is_last) {
        region_retire(r, most_bytes);
    }
}

/* From now on nobody finds the region by that number, which may be another file's next. */
static void region_close_fd(cuda_region *r)
{
    int fd;

    pthread_mutex_lock(&lock);
    fd = r->fd;
    r->fd = -1;
    pthread_mutex_unlock(&lock);
    close(fd);
}

void eepi_cuda_shares_unmap_parked(void)
{
    cuda_region *list;

    pthread_mutex_lock(&lock);
    list = parked;
    parked = NULL;
    pthread_mutex_unlock(&lock);
    free_list(list);
}

/* ------------------------------------------------------------------ the operations */

/* Hand out what was made or mapped, or undo it and say why. */
static eep_status share_end(cuda_region *r, eep_status status, eepi_share *share_out, char *why_out,
                            size_t why_bytes)
{
    if (status == EEP_OK) {
        region_publish(r);
        *share_out = (eepi_share){(void *)(uintptr_t)r->address, r->bytes, r->fd, r};
        return EEP_OK;
    }
    snprintf(why_out, why_bytes, "%s", eepi_cuda_failure());
    if (r) {
        region_free(r);
    }
    return status;
}

eep_status eepi_cuda_share_make(void *device, size_t bytes, eepi_share *share_out, char *why_out,
                                size_t why_bytes)
{
    const cuda_device *d = device;
    cuda_region *r = NULL;
    eep_status status = region_begin(d->ordinal, &r);

    if (status == EEP_OK) {
        status = region_create(r, bytes);
    }
    if (status == EEP_OK) {
        status = region_place(r);
    }
    if (status == EEP_OK) {
        status = eepi_cuda_zero(d, (void *)(uintptr_t)r->address, r->bytes);
    }
    return share_end(r, status, share_out, why_out, why_bytes);
}

eep_status eepi_cuda_share_map(void *device, int fd, size_t mapped_bytes, eepi_share *share_out,
                               char *why_out, size_t why_bytes)
{
    const cuda_device *d = device;
    cuda_region *r = NULL;
    eep_status status = region_begin(d->ordinal, &r);

    if (status == EEP_OK) {
        status = region_import(r, fd, mapped_bytes);
    }
    if (status == EEP_OK) {
        status = region_place(r);
    }
    return share_end(r, status, share_out, why_out, why_bytes);
}

/* The maker's address is good for every device of the process that may reach it. */
eep_status eepi_cuda_share_map_own(void *device, int fd, size_t mapped_bytes, eepi_share *share_out,
                                   char *why_out, size_t why_bytes)
{
    const cuda_device *d = device;
    eep_status status = eepi_cuda_use_device(d->ordinal);
    cuda_region *r = status == EEP_OK ? region_of(fd, mapped_bytes) : NULL;

    if (status == EEP_OK && !r) {
        status = eepi_cuda_fail(EEP_ERR_INVALID, d->ordinal,
                                "no window of this process has descriptor %d and %zu bytes", fd,
                                mapped_bytes);
    }
    if (status == EEP_OK &&
        !(__atomic_load_n(&r->allowed, __ATOMIC_ACQUIRE) & bit_of(d->ordinal))) {
        status = check_reach(r, d->ordinal);
        if (status == EEP_OK) {
            status = region_allow(r, d->ordinal);
        }
    }
    if (status == EEP_OK) {
        *share_out = (eepi_share){(void *)(uintptr_t)r->address, r->bytes, -1, r};
        return EEP_OK;
    }
    snprintf(why_out, why_bytes, "%s", eepi_cuda_failure());
    if (r) {
        region_leave(r, d->parked_most_bytes);
    }
    return status;
}

void eepi_cuda_share_close(void *device, eepi_share *share)
{
    const cuda_device *d = device;

    if (share->fd >= 0) {
        region_close_fd(share->impl);
    }
    if (eepi_cuda_use_device(d->ordinal) == EEP_OK) {
        region_leave(share->impl, d->parked_most_bytes);
    }
}

/* ------------------------------------------------------------------ network cards */

/* What a card's writes into a share need. Without the order a kernel might see a tag and, behind
 * it, a row as it was before (rule N4): a flush is a call of the host's, which no graph can make.
 */
static eep_status check_for_nics(const cuda_region *r)
{
    const char *lacks = NULL;

    if (!attribute_of(r, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED)) {
        lacks = "GPUDirect RDMA for memory that processes share";
    } else if (!r->is_for_nics) {
        lacks = "GPUDirect RDMA for this memory, though it says so of its own";
    } else if (!attribute_of(r, CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED)) {
        lacks = "dma-buf (it needs Linux 5.12 and NVIDIA's open kernel modules)";
    } else if (attribute_of(r, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING) <
               CU_GPU_DIRECT_RDMA_WRITES_ORDERING_OWNER) {
        lacks = "order of what network cards write";
    }
    return lacks ? eepi_cuda_fail(EEP_ERR_UNSUPPORTED, r->ordinal,
                                  "it has no %s, so cards cannot write there", lacks)
                 : EEP_OK;
}

eep_status eepi_cuda_share_dmabuf(void *device, const eepi_share *share, int *fd_out, char *why_out,
                                  size_t why_bytes)
{
    const cuda_device *d = device;
    const cuda_region *r = share->impl;
    int fd = -1;
    eep_status status = eepi_cuda_use_device(d->ordinal);

    if (status == EEP_OK && share->fd < 0) {
        status = eepi_cuda_fail(EEP_ERR_INVALID, d->ordinal,
                                "the memory is another rank's, which has to hand it to cards");
    }
    if (status == EEP_OK) {
        status = check_for_nics(r);
    }
    if (status == EEP_OK) {
        status = CALL(r, cuMemGetHandleForAddressRange, &fd, r->address, r->bytes,
                      CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0);
    }
    if (status == EEP_OK) {
        status = close_on_exec(r, fd);
    }
    if (status == EEP_OK) {
        *fd_out = fd;
        return EEP_OK;
    }
    if (fd >= 0) {
        close(fd);
    }
    snprintf(why_out, why_bytes, "%s", eepi_cuda_failure());
    return status;
}
