/* Shared memory of the CUDA backend without a GPU: graphs/cuda/shared_memory.c with a driver made
 * of memfds, which counts what is open and can fail at any call. */
#include "graphs/cuda/backend.h"

#include <criterion/criterion.h>
#include <cuda.h>
#include <cudaTypedefs.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

TestSuite(cuda_share, .timeout = 20);

enum { GRANULARITY = 2 << 20, BYTES = GRANULARITY + 1, DEVICE = 0, OTHER_DEVICE = 1, NO_CALL = -1 };

/* The driver's state; a test is a process of its own. */
static struct {
    int handles, addresses, mappings; /* open */
    int calls, fail_at;               /* the call with that number fails */
    int owner;                        /* where all memory lies */
    int reaches_others, has_descriptors;
    const char *missing; /* a function that the driver does not have */
} fake = {.fail_at = NO_CALL, .has_descriptors = 1};

static char text[512];

/* ---------------------------------------------------------------- the backend's part */

const char *eepi_cuda_failure(void)
{
    return text;
}

eep_status eepi_cuda_fail(eep_status status, int ordinal, const char *format, ...)
{
    int used = snprintf(text, sizeof(text), "device %d: ", ordinal);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, sizeof(text) - (size_t)used, format, arguments);
    va_end(arguments);
    return status;
}

eep_status eepi_cuda_checked(cudaError_t error, const char *call, int ordinal)
{
    return error == cudaSuccess ? EEP_OK : eepi_cuda_fail(EEP_ERR_DEVICE, ordinal, "%s", call);
}

eep_status eepi_cuda_use_device(int ordinal)
{
    cr_assert_eq(ordinal, DEVICE);
    return EEP_OK;
}

static int fails(void)
{
    return fake.calls++ == fake.fail_at;
}

eep_status eepi_cuda_zero(const cuda_device *device, void *memory, size_t bytes)
{
    (void)device;
    if (fails())
        return eepi_cuda_fail(EEP_ERR_DEVICE, DEVICE, "zeroing");
    memset(memory, 0, bytes);
    return EEP_OK;
}

/* ---------------------------------------------------------------- the driver's */

static CUresult get_name(CUresult error, const char **out)
{
    (void)error;
    *out = "CUDA_ERROR_FAKE";
    return CUDA_SUCCESS;
}

static CUresult get_string(CUresult error, const char **out)
{
    (void)error;
    *out = "fake error";
    return CUDA_SUCCESS;
}

static CUresult get_attribute(int *out, CUdevice_attribute attribute, CUdevice device)
{
    cr_assert_eq(device, DEVICE);
    if (fails())
        return CUDA_ERROR_UNKNOWN;
    *out = attribute == CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED ||
           (attribute == CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED &&
            fake.has_descriptors);
    return CUDA_SUCCESS;
}

static CUresult can_access(int *out, CUdevice device, CUdevice peer)
{
    cr_assert_eq(device, DEVICE);
    cr_assert_eq(peer, OTHER_DEVICE);
    *out = fake.reaches_others;
    return fails() ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

static CUresult granularity(size_t *out, const CUmemAllocationProp *properties,
                            CUmemAllocationGranularity_flags option)
{
    (void)option;
    cr_assert_eq(properties->location.id, DEVICE);
    *out = GRANULARITY;
    return fails() ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

static CUresult properties_of(CUmemAllocationProp *out, CUmemGenericAllocationHandle handle)
{
    (void)handle;
    *out = (CUmemAllocationProp){.location = {CU_MEM_LOCATION_TYPE_DEVICE, fake.owner}};
    return fails() ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

/* A handle is a memfd's number. */
static CUresult create(CUmemGenericAllocationHandle *out, size_t bytes,
                       const CUmemAllocationProp *properties, unsigned long long flags)
{
    (void)flags;
    cr_assert_eq(bytes % GRANULARITY, 0);
    cr_assert_eq(properties->requestedHandleTypes, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    if (fails())
        return CUDA_ERROR_OUT_OF_MEMORY;
    int fd = memfd_create("fake", MFD_CLOEXEC);
    cr_assert_eq(ftruncate(fd, (off_t)bytes), 0);
    *out = (CUmemGenericAllocationHandle)fd;
    fake.handles++;
    return CUDA_SUCCESS;
}

static CUresult release(CUmemGenericAllocationHandle handle)
{
    cr_assert_eq(close((int)handle), 0);
    fake.handles--;
    return CUDA_SUCCESS;
}

static CUresult export_fd(void *out, CUmemGenericAllocationHandle handle,
                          CUmemAllocationHandleType type, unsigned long long flags)
{
    (void)flags;
    cr_assert_eq(type, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    if (fails())
        return CUDA_ERROR_NOT_SUPPORTED;
    *(int *)out = dup((int)handle); /* not close-on-exec, as a driver may do */
    return CUDA_SUCCESS;
}

static CUresult import_fd(CUmemGenericAllocationHandle *out, void *fd,
                          CUmemAllocationHandleType type)
{
    cr_assert_eq(type, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    if (fails())
        return CUDA_ERROR_INVALID_VALUE;
    *out = (CUmemGenericAllocationHandle)dup((int)(uintptr_t)fd);
    fake.handles++;
    return CUDA_SUCCESS;
}

static CUresult reserve(CUdeviceptr *out, size_t bytes, size_t alignment, CUdeviceptr at,
                        unsigned long long flags)
{
    (void)alignment;
    (void)at;
    (void)flags;
    if (fails())
        return CUDA_ERROR_OUT_OF_MEMORY;
    *out = (CUdeviceptr)(uintptr_t)mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fake.addresses++;
    return CUDA_SUCCESS;
}

static CUresult address_free(CUdeviceptr at, size_t bytes)
{
    cr_assert_eq(munmap((void *)(uintptr_t)at, bytes), 0);
    fake.addresses--;
    return CUDA_SUCCESS;
}

static CUresult map(CUdeviceptr at, size_t bytes, size_t offset,
                    CUmemGenericAllocationHandle handle, unsigned long long flags)
{
    (void)flags;
    if (fails())
        return CUDA_ERROR_INVALID_VALUE;
    cr_assert_neq(mmap((void *)(uintptr_t)at, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, (int)handle,
                       (off_t)offset),
                  MAP_FAILED);
    fake.mappings++;
    return CUDA_SUCCESS;
}

static CUresult unmap(CUdeviceptr at, size_t bytes)
{
    cr_assert_neq(mmap((void *)(uintptr_t)at, bytes, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                  MAP_FAILED);
    fake.mappings--;
    return CUDA_SUCCESS;
}

static CUresult set_access(CUdeviceptr at, size_t bytes, const CUmemAccessDesc *access,
                           size_t count)
{
    cr_assert_eq(count, 1);
    cr_assert_eq(access->location.id, DEVICE, "its own device stores, wherever the memory lies");
    if (fails())
        return CUDA_ERROR_INVALID_DEVICE;
    cr_assert_eq(mprotect((void *)(uintptr_t)at, bytes, PROT_READ | PROT_WRITE), 0);
    return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
                                             unsigned long long flags,
                                             enum cudaDriverEntryPointQueryResult *found)
{
    PFN_cuGetErrorName_v6000 name = get_name; /* each fake has its function's type */
    PFN_cuGetErrorString_v6000 string = get_string;
    PFN_cuDeviceGetAttribute_v2000 attribute = get_attribute;
    PFN_cuDeviceCanAccessPeer_v4000 access = can_access;
    PFN_cuMemGetAllocationGranularity_v10020 grain = granularity;
    PFN_cuMemGetAllocationPropertiesFromHandle_v10020 properties = properties_of;
    PFN_cuMemCreate_v10020 make = create;
    PFN_cuMemRelease_v10020 drop = release;
    PFN_cuMemExportToShareableHandle_v10020 out = export_fd;
    PFN_cuMemImportFromShareableHandle_v10020 in = import_fd;
    PFN_cuMemAddressReserve_v10020 hold = reserve;
    PFN_cuMemAddressFree_v10020 let_go = address_free;
    PFN_cuMemMap_v10020 place = map;
    PFN_cuMemUnmap_v10020 take = unmap;
    PFN_cuMemSetAccess_v10020 allow = set_access;
    const struct {
        const char *name;
        const void *function;
    } all[] = {{"cuGetErrorName", &name},
               {"cuGetErrorString", &string},
               {"cuDeviceGetAttribute", &attribute},
               {"cuDeviceCanAccessPeer", &access},
               {"cuMemGetAllocationGranularity", &grain},
               {"cuMemGetAllocationPropertiesFromHandle", &properties},
               {"cuMemCreate", &make},
               {"cuMemRelease", &drop},
               {"cuMemExportToShareableHandle", &out},
               {"cuMemImportFromShareableHandle", &in},
               {"cuMemAddressReserve", &hold},
               {"cuMemAddressFree", &let_go},
               {"cuMemMap", &place},
               {"cuMemUnmap", &take},
               {"cuMemSetAccess", &allow}};
    (void)version;
    (void)flags;
    *function = NULL;
    *found = cudaDriverEntryPointSymbolNotFound;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strcmp(symbol, all[i].name) == 0 &&
            (!fake.missing || strcmp(symbol, fake.missing) != 0)) {
            memcpy(function, all[i].function, sizeof(*function));
            *found = cudaDriverEntryPointSuccess;
        }
    }
    return cudaSuccess;
}

/* ---------------------------------------------------------------- tests */

static cuda_device device = {.ordinal = DEVICE};

static void expect_nothing_open(int lowest_fd)
{
    int fd = dup(0);
    cr_expect_eq(fake.handles, 0);
    cr_expect_eq(fake.addresses, 0);
    cr_expect_eq(fake.mappings, 0);
    cr_expect_eq(fd, lowest_fd, "a descriptor was left open");
    close(fd);
}

static int lowest_free_fd(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

Test(cuda_share, two_mappings_of_one_memory)
{
    int lowest = lowest_free_fd();
    eepi_share made, mapped;
    char why[256] = "";
    cr_assert_eq(eepi_cuda_share_make(&device, BYTES, &made, why, sizeof(why)), EEP_OK, "%s", why);
    cr_expect_eq(made.mapped_bytes, 2 * GRANULARITY, "rounded up");
    cr_expect(fcntl(made.fd, F_GETFD) & FD_CLOEXEC);
    cr_assert_eq(
        eepi_cuda_share_map(&device, made.fd, made.mapped_bytes, &mapped, why, sizeof(why)), EEP_OK,
        "%s", why);
    cr_expect_eq(mapped.fd, -1);
    cr_expect_neq(mapped.address, made.address);
    cr_expect_eq(((uint8_t *)made.address)[BYTES], 0);
    ((uint8_t *)mapped.address)[BYTES] = 7;
    cr_expect_eq(((uint8_t *)made.address)[BYTES], 7);
    eepi_cuda_share_close(&device, &made);
    cr_expect_eq(fake.handles, 1, "the importer keeps its handle");
    ((uint8_t *)mapped.address)[0] = 8; /* its maker's are gone */
    eepi_cuda_share_close(&device, &mapped);
    expect_nothing_open(lowest);
}

/* Whatever call fails: a text with the call in it, and nothing is left. */
Test(cuda_share, any_call_may_fail)
{
    int lowest = lowest_free_fd(), failed = 0;
    eepi_share made, mapped;
    for (int at = 0; at < 40; at++) {
        char why[256] = "";
        eep_status status;
        fake.calls = 0;
        fake.fail_at = at;
        status = eepi_cuda_share_make(&device, BYTES, &made, why, sizeof(why));
        if (status == EEP_OK) {
            status =
                eepi_cuda_share_map(&device, made.fd, made.mapped_bytes, &mapped, why, sizeof(why));
            eepi_cuda_share_close(&device, &made);
        }
        if (status == EEP_OK)
            eepi_cuda_share_close(&device, &mapped);
        else
            cr_expect(strstr(why, "cu") || strstr(why, "zeroing"), "call %d: '%s'", at, why);
        failed += status != EEP_OK;
        expect_nothing_open(lowest);
    }
    cr_expect_eq(failed, 8 + 1 + 7, "%d", failed);
}

Test(cuda_share, what_a_machine_cannot_do_is_named)
{
    int lowest = lowest_free_fd();
    eepi_share made, mapped;
    char why[256] = "";
    fake.has_descriptors = 0;
    cr_expect_eq(eepi_cuda_share_make(&device, BYTES, &made, why, sizeof(why)),
                 EEP_ERR_UNSUPPORTED);
    cr_expect(strstr(why, "file descriptors"), "'%s'", why);
    fake.has_descriptors = 1;
    fake.missing = "cuMemSetAccess";
    cr_expect_eq(eepi_cuda_share_make(&device, BYTES, &made, why, sizeof(why)),
                 EEP_ERR_UNSUPPORTED);
    cr_expect(strstr(why, "cuMemSetAccess (CUDA 10.2)"), "'%s'", why);
    fake.missing = NULL;
    cr_assert_eq(eepi_cuda_share_make(&device, BYTES, &made, why, sizeof(why)), EEP_OK);
    fake.owner = OTHER_DEVICE;
    cr_expect_eq(
        eepi_cuda_share_map(&device, made.fd, made.mapped_bytes, &mapped, why, sizeof(why)),
        EEP_ERR_UNSUPPORTED);
    cr_expect(strstr(why, "no peer access to device 1"), "'%s'", why);
    fake.reaches_others = 1;
    cr_expect_eq(
        eepi_cuda_share_map(&device, made.fd, made.mapped_bytes, &mapped, why, sizeof(why)), EEP_OK,
        "%s", why);
    eepi_cuda_share_close(&device, &mapped);
    eepi_cuda_share_close(&device, &made);
    expect_nothing_open(lowest);
}
