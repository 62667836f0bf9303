/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU's memory and a network card: the plugin over a GPU made of host threads (tests/fake_gpu),
 * and RDMA devices of a test double, which take the memory's memfd for a dma-buf. */
#include "tests/fake_gpu/fake_gpu.h"
#include "tests/transport/fake_verbs.h"
#include "transport/nic_memory.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BYTES = 3 << 20 };

static eep_device *device;
static eepi_ports *ports;
static eepi_share share;
static char why[512];
static int first_fd;

static int lowest_free_fd(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

static void begin_with(const eepi_verbs *verbs, const char *name)
{
    cr_assert_eq(eep_device_open(name, 0, &device), EEP_OK, "%s", eep_device_error_text());
    cr_assert_eq(eepi_ports_open(verbs, &ports), EEP_OK);
    cr_assert_eq(eepi_share_make(device, BYTES, &share, why, sizeof why), EEP_OK, "%s", why);
    first_fd = lowest_free_fd();
}

static void begin(const char *capable, const char *name)
{
    setenv("EEP_FAKE_GPU_GPU_DIRECT", capable, 1);
    fake_verbs_begin(2, 1);
    begin_with(fake_verbs(), name);
}

/* Nothing is registered or open that was not before. */
static void end(void)
{
    int access;
    cr_expect_eq(fake_verbs_num_regions(&access), 0);
    cr_expect_eq(lowest_free_fd(), first_fd, "a descriptor was left open");
    eepi_share_close(device, &share);
    eepi_ports_close(ports);
    eep_device_close(device);
    cr_expect_eq(fake_verbs_end(), 0);
}

static void expect_refused(eep_status wanted, const char *reason)
{
    eepi_nic_memory *memory = NULL;
    cr_expect_eq(eepi_nic_memory_open(ports, 0, device, &share, why, sizeof why, &memory), wanted);
    cr_expect(strstr(why, reason), "'%s'", why);
    cr_expect_null(memory);
    end();
}

/* Peers' cards get no right to write there: the gate would not see them (rules N1, N7). */
Test(nic_memory, a_card_may_write_what_this_rank_asks_it_for)
{
    eepi_nic_memory *first, *second;
    int access;
    begin("1", "cuda");
    cr_assert_eq(eepi_nic_memory_open(ports, 0, device, &share, why, sizeof why, &first), EEP_OK,
                 "%s", why);
    cr_assert_eq(eepi_nic_memory_open(ports, 1, device, &share, why, sizeof why, &second), EEP_OK,
                 "%s", why);
    cr_expect_eq(fake_verbs_num_regions(&access), 4, "two, with a domain each");
    cr_expect_eq(access, IBV_ACCESS_LOCAL_WRITE);
    eepi_nic_memory_close(first);
    eepi_nic_memory_close(second);
    eepi_nic_memory_close(NULL);
    end();
}

Test(nic_memory, a_gpu_that_cannot_says_why)
{
    begin("0", "cuda");
    expect_refused(EEP_ERR_UNSUPPORTED, "device 0: it has no GPUDirect RDMA");
}

Test(nic_memory, memory_of_the_host_is_none_of_a_gpu)
{
    begin("1", "host");
    expect_refused(EEP_ERR_UNSUPPORTED, "memory of the host device has no descriptor");
}

Test(nic_memory, a_card_that_cannot_says_why)
{
    begin("1", "cuda");
    fake_verbs_refuse(EOPNOTSUPP);
    expect_refused(EEP_ERR_UNSUPPORTED, "ibv_reg_dmabuf_mr: Operation not supported");
}

Test(nic_memory, a_card_that_has_no_memory_left_says_so)
{
    begin("1", "cuda");
    fake_verbs_refuse(ENOMEM);
    expect_refused(EEP_ERR_SYSTEM, "ibv_reg_dmabuf_mr: Cannot allocate memory");
}

Test(nic_memory, a_card_that_could_not_be_opened_is_none)
{
    begin("1", "cuda");
    eepi_ports_keep(ports, 1);
    first_fd = lowest_free_fd();
    expect_refused(EEP_ERR_SYSTEM, "could not be opened");
}

Test(nic_memory, an_older_libibverbs_is_named)
{
    setenv("EEP_FAKE_GPU_GPU_DIRECT", "1", 1);
    fake_verbs_begin(1, 1);
    begin_with(fake_verbs_without_dmabuf(), "cuda");
    expect_refused(EEP_ERR_UNSUPPORTED, "no ibv_reg_dmabuf_mr (rdma-core 34)");
}

Test(nic_memory, this_libibverbs_has_it_where_its_header_does)
{
#ifdef EEPI_HAS_DMABUF_MR
    cr_expect_not_null(eepi_verbs_system()->reg_dmabuf_mr);
#else
    cr_expect_null(eepi_verbs_system()->reg_dmabuf_mr);
#endif
}
