/* SPDX-License-Identifier: Apache-2.0 */
/* What the ranks of one process owe each other on their devices. They wait for each other inside
 * kernels; a call that waits for a device waits for them, and holds up the launches of those that
 * they wait for. So what ends (streams, events, graphs, windows, memory) is put away, and given
 * back here, when no rank of the process waits any more. */
#include "graphs/cuda/cuda_backend.h"

static uint32_t num_devices;

/* Nobody waits: the time for all that was put off. */
static void catch_up(void)
{
    eepi_cuda_destroy_parked();
    eepi_cuda_shares_unmap_parked();
    eepi_cuda_pools_trim();
}

void eepi_cuda_set_waiters(void *device, uint32_t num)
{
    eepi_cuda_quiet_enter();
    eepi_cuda_count_waiters(num);
    if (num == 0) {
        catch_up();
        (void)!eepi_cuda_use_device(((const cuda_device *)device)->ordinal);
    }
    eepi_cuda_quiet_leave();
}

void eepi_cuda_device_opened(void)
{
    __atomic_fetch_add(&num_devices, 1, __ATOMIC_ACQ_REL);
}

/* Pinned memory outlives the ranks that wait: one that is about to has its device open already. */
void eepi_cuda_device_closed(void)
{
    uint32_t left = __atomic_sub_fetch(&num_devices, 1, __ATOMIC_ACQ_REL);

    eepi_cuda_quiet_enter();
    if (eepi_cuda_num_waiters() == 0) {
        catch_up();
        if (left == 0) {
            eepi_cuda_pinned_trim();
        }
    }
    eepi_cuda_quiet_leave();
}
