/* SPDX-License-Identifier: Apache-2.0 */
/* Shared memory of the CUDA backend without a GPU: graphs/cuda/cuda_shared_memory.c with the fake
 * GPU's driver, made of memfds, which counts what is open and can fail at any call. */
#include "graphs/cuda/cuda_backend.h"
#include "tests/fake_gpu/fake_gpu.h"

#include <criterion/criterion.h>
#include <cuda.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

TestSuite(cuda_share, .timeout = 20);

enum { GRANULARITY = 2 << 20, BYTES = GRANULARITY + 1, DEVICE = 0, OTHER_DEVICE = 1 };

static char text[512];

/* ---------------------------------------------------------------- the backend's part */

const char *eepi_cuda_failure(void)
{
    return text;
}

eep_status eepi_cuda_fail(eep_status status, int ordinal, const char *format, ...)
{
    int used = snprintf(text, sizeof text, "device %d: ", ordinal);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, sizeof text - (size_t)used, format, arguments);
    va_end(arguments);
    return status;
}

eep_status eepi_cuda_checked(cudaError_t error, const char *call, int ordinal)
{
    return error == cudaSuccess ? EEP_OK : eepi_cuda_fail(EEP_ERR_DEVICE, ordinal, "%s", call);
}

eep_status eepi_cuda_use_device(int ordinal)
{
    cr_assert(ordinal == DEVICE || ordinal == OTHER_DEVICE);
    return EEPI_CUDA_CHECKED(DEVICE, cudaSetDevice(DEVICE)); /* the fake has one */
}

static uint32_t num_waiters, num_late;

uint32_t eepi_cuda_num_waiters(void)
{
    return num_waiters;
}

void eepi_cuda_note_late(void)
{
    num_late++;
}

eep_status eepi_cuda_zero(const cuda_device *device, void *memory, size_t bytes)
{
    (void)device;
    if (fake_driver_fails()) {
        return eepi_cuda_fail(EEP_ERR_DEVICE, DEVICE, "zeroing");
    }
    memset(memory, 0, bytes);
    return EEP_OK;
}

/* ---------------------------------------------------------------- tests */

static cuda_device device = {.ordinal = DEVICE};

static void expect_nothing_open(int lowest_fd)
{
    int fd = dup(0);
    cr_expect_eq(fake_driver.handles, 0);
    cr_expect_eq(fake_driver.addresses, 0);
    cr_expect_eq(fake_driver.mappings, 0);
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
    cr_assert_eq(eepi_cuda_share_make(&device, BYTES, &made, why, sizeof why), EEP_OK, "%s", why);
    cr_expect_eq(made.mapped_bytes, 2 * GRANULARITY, "rounded up");
    cr_expect(fcntl(made.fd, F_GETFD) & FD_CLOEXEC);
    cr_assert_eq(eepi_cuda_share_map(&device, made.fd, made.mapped_bytes, &mapped, why, sizeof why),
                 EEP_OK, "%s", why);
    cr_expect_eq(mapped.fd, -1);
    cr_expect_neq(mapped.address, made.address);
    cr_expect_eq(((uint8_t *)made.address)[BYTES], 0);
    ((uint8_t *)mapped.address)[BYTES] = 7;
    cr_expect_eq(((uint8_t *)made.address)[BYTES], 7);
    eepi_cuda_share_close(&device, &made);
    cr_expect_eq(fake_driver.handles, 1, "the importer keeps its handle");
    ((uint8_t *)mapped.address)[0] = 8; /* its maker's are gone */
    eepi_cuda_share_close(&device, &mapped);
    expect_nothing_open(lowest);
}

/* Each call may fail: there is a text with the call in it, and nothing is left. */
Test(cuda_share, any_call_may_fail)
{
    int lowest = lowest_free_fd(), failed = 0;
    eepi_share made, mapped;
    for (int at = 0; at < 40; at++) {
        char why[256] = "";
        eep_status status;
        fake_driver.calls = 0;
        fake_driver.fail_at = at;
        status = eepi_cuda_share_make(&device, BYTES, &made, why, sizeof why);
        if (status == EEP_OK) {
            status =
                eepi_cuda_share_map(&device, made.fd, made.mapped_bytes, &mapped, why, sizeof why);
            eepi_cuda_share_close(&device, &made);
        }
        if (status == EEP_OK) {
            eepi_cuda_share_close(&device, &mapped);
        } else {
            cr_expect(strstr(why, "cu") || strstr(why, "zeroing"), "call %d: '%s'", at, why);
        }
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
    fake_driver.has_descriptors = 0;
    cr_expect_eq(eepi_cuda_share_make(&device, BYTES, &made, why, sizeof why), EEP_ERR_UNSUPPORTED);
    cr_expect(strstr(why, "file descriptors"), "'%s'", why);
    fake_driver.has_descriptors = 1;
    fake_driver.missing = "cuMemSetAccess";
    cr_expect_eq(eepi_cuda_share_make(&device, BYTES, &made, why, sizeof why), EEP_ERR_UNSUPPORTED);
    cr_expect(strstr(why, "cuMemSetAccess (CUDA 10.2)"), "'%s'", why);
    fake_driver.missing = NULL;
    cr_assert_eq(eepi_cuda_share_make(&device, BYTES, &made, why, sizeof why), EEP_OK);
    fake_driver.owner = OTHER_DEVICE;
    cr_expect_eq(eepi_cuda_share_map(&device, made.fd, made.mapped_bytes, &mapped, why, sizeof why),
                 EEP_ERR_UNSUPPORTED);
    cr_expect(strstr(why, "no peer access to device 1"), "'%s'", why);
    fake_driver.reaches_others = 1;
    cr_expect_eq(eepi_cuda_share_map(&device, made.fd, made.mapped_bytes, &mapped, why, sizeof why),
                 EEP_OK, "%s", why);
    eepi_cuda_share_close(&device, &mapped);
    eepi_cuda_share_close(&device, &made);
    expect_nothing_open(lowest);
}

/* ---------------------------------------------------------------- ranks as threads */

static eepi_share share_of_own(cuda_device *of, const eepi_share *made)
{
    eepi_share mapped;
    char why[256] = "";
    cr_assert_eq(
        eepi_cuda_share_map_own(of, made->fd, made->mapped_bytes, &mapped, why, sizeof why), EEP_OK,
        "%s", why);
    cr_expect_eq(mapped.address, made->address);
    cr_expect_eq(mapped.fd, -1);
    return mapped;
}

Test(cuda_share, what_this_process_made_is_used_in_place)
{
    int lowest = lowest_free_fd();
    eepi_share made, first, second;
    char why[256] = "";
    cr_assert_eq(eepi_cuda_share_make(&device, BYTES, &made, why, sizeof why), EEP_OK, "%s", why);
    int calls = fake_driver.calls;
    first = share_of_own(&device, &made);
    second = share_of_own(&device, &made);
    cr_expect_eq(fake_driver.calls, calls, "the driver is not asked");
    int number = made.fd;
    eepi_cuda_share_close(&device, &made);
    cr_expect_eq(
        eepi_cuda_share_map_own(&device, number, first.mapped_bytes, &made, why, sizeof why),
        EEP_ERR_INVALID, "its maker has closed it");
    cr_expect(strstr(why, "no window of this process"), "'%s'", why);
    eepi_cuda_share_close(&device, &first);
    ((uint8_t *)second.address)[BYTES] = 7;
    cr_expect_eq(fake_driver.mappings, 1);
    eepi_cuda_share_close(&device, &second);
    expect_nothing_open(lowest);
}

/* Another device of the process is allowed to use the maker's address, if it can reach it. */
Test(cuda_share, another_device_of_this_process_uses_the_same_address)
{
    int lowest = lowest_free_fd();
    cuda_device other = {.ordinal = OTHER_DEVICE};
    eepi_share made, mapped;
    char why[256] = "";
    cr_assert_eq(eepi_cuda_share_make(&device, BYTES, &made, why, sizeof why), EEP_OK, "%s", why);
    cr_expect_eq(
        eepi_cuda_share_map_own(&other, made.fd, made.mapped_bytes, &mapped, why, sizeof why),
        EEP_ERR_UNSUPPORTED);
    cr_expect(strstr(why, "device 1: it has no peer access to device 0"), "'%s'", why);
    fake_driver.reaches_others = 1;
    mapped = share_of_own(&other, &made);
    int calls = fake_driver.calls;
    eepi_cuda_share_close(&other, &mapped);
    mapped = share_of_own(&other, &made);
    cr_expect_eq(fake_driver.calls, calls, "it is allowed already");
    eepi_cuda_share_close(&other, &mapped);
    eepi_cuda_share_close(&device, &made);
    expect_nothing_open(lowest);
}

/* cuMemUnmap may wait for ranks that wait: later, but not without end. */
Test(cuda_share, while_ranks_wait_nothing_is_unmapped)
{
    enum { MANY = 5, MOST = 3 };
    int lowest = lowest_free_fd();
    eepi_share made[MANY];
    char why[256] = "";
    num_waiters = 2;
    device.parked_most_bytes = MOST * 2 * GRANULARITY;
    for (int i = 0; i < MANY; i++) {
        cr_assert_eq(eepi_cuda_share_make(&device, BYTES, &made[i], why, sizeof why), EEP_OK);
        for (int earlier = 0; earlier < i && i <= MOST; earlier++) {
            cr_expect_neq(made[i].address, made[earlier].address, "no memory is another's");
        }
        eepi_cuda_share_close(&device, &made[i]);
        cr_expect_eq(fake_driver.mappings, i < MOST ? i + 1 : MOST);
        cr_expect_eq(num_late, i < MOST ? 0 : (uint32_t)(i + 1 - MOST));
    }
    num_waiters = 0;
    eepi_cuda_shares_unmap_parked();
    expect_nothing_open(lowest);
}

/* ---------------------------------------------------------------- network cards */

static void be_capable(void)
{
    fake_driver.has_gpu_direct = fake_driver.has_dmabuf = 1;
    fake_driver.writes_ordering = CU_GPU_DIRECT_RDMA_WRITES_ORDERING_OWNER;
}

static void make(eepi_share *made)
{
    char why[256] = "";
    cr_assert_eq(eepi_cuda_share_make(&device, BYTES, made, why, sizeof why), EEP_OK, "%s", why);
}

/* A share has no descriptor for cards, and the reason has that in it. */
static void expect_refused(const eepi_share *share, eep_status wanted, const char *reason)
{
    char why[256] = "";
    int fd = -7;
    cr_expect_eq(eepi_cuda_share_dmabuf(&device, share, &fd, why, sizeof why), wanted);
    cr_expect(strstr(why, reason), "'%s'", why);
    cr_expect_eq(fd, -7, "written on failure");
}

Test(cuda_share, a_network_card_gets_the_memory_itself)
{
    int lowest = lowest_free_fd(), fd;
    eepi_share made;
    char why[256] = "";
    be_capable();
    make(&made);
    cr_expect_eq(fake_driver.made_for_nics, 1);
    cr_assert_eq(eepi_cuda_share_dmabuf(&device, &made, &fd, why, sizeof why), EEP_OK, "%s", why);
    cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    ((uint8_t *)made.address)[BYTES] = 7;
    uint8_t seen = 0;
    cr_assert_eq(pread(fd, &seen, 1, BYTES), 1);
    cr_expect_eq(seen, 7);
    eepi_cuda_share_close(&device, &made);
    close(fd);
    expect_nothing_open(lowest);
}

Test(cuda_share, what_a_card_cannot_reach_is_named)
{
    int lowest = lowest_free_fd();
    eepi_share made, mapped;
    char why[256] = "";
    make(&made);
    cr_expect_eq(fake_driver.made_for_nics, 0);
    expect_refused(&made, EEP_ERR_UNSUPPORTED, "no GPUDirect RDMA for memory that processes share");
    eepi_cuda_share_close(&device, &made);
    be_capable();
    make(&made);
    fake_driver.has_dmabuf = 0;
    expect_refused(&made, EEP_ERR_UNSUPPORTED, "no dma-buf");
    be_capable();
    fake_driver.writes_ordering = CU_GPU_DIRECT_RDMA_WRITES_ORDERING_NONE;
    expect_refused(&made, EEP_ERR_UNSUPPORTED, "no order of what network cards write");
    be_capable();
    cr_assert_eq(eepi_cuda_share_map(&device, made.fd, made.mapped_bytes, &mapped, why, sizeof why),
                 EEP_OK, "%s", why);
    expect_refused(&mapped, EEP_ERR_INVALID, "another rank's");
    eepi_cuda_share_close(&device, &mapped);
    fake_driver.calls = 0;
    fake_driver.fail_at = 3; /* behind three attributes */
    expect_refused(&made, EEP_ERR_UNSUPPORTED, "cuMemGetHandleForAddressRange");
    eepi_cuda_share_close(&device, &made);
    expect_nothing_open(lowest);
}

/* A window needs no network card. */
Test(cuda_share, a_driver_that_promises_too_much_still_gives_memory)
{
    int lowest = lowest_free_fd();
    eepi_share made;
    be_capable();
    fake_driver.refuses_gpu_direct = 1;
    make(&made);
    cr_expect_eq(fake_driver.made_for_nics, 0);
    expect_refused(&made, EEP_ERR_UNSUPPORTED, "no GPUDirect RDMA for this memory");
    eepi_cuda_share_close(&device, &made);
    expect_nothing_open(lowest);
}
