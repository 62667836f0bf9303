/* SPDX-License-Identifier: Apache-2.0 */
/* Shared device memory: checks, and the clock around what may wait for a device. */
#include "graphs/device/device_share.h"

#include "graphs/base/clock.h"
#include "graphs/device/device_internal.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Counters of their own: a reader may see a call before its time, which is good enough for them. */
static void count_call(eep_device *device, uint64_t begin_us)
{
    uint64_t us = eepi_now_us() - begin_us;
    uint64_t longest = __atomic_load_n(&device->share_longest_us, __ATOMIC_RELAXED);

    __atomic_fetch_add(&device->share_calls, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&device->share_us, us, __ATOMIC_RELAXED);
    while (us > longest && !__atomic_compare_exchange_n(&device->share_longest_us, &longest, us, 0,
                                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        ; /* the exchange has read `longest` again */
    }
}

static eep_status may_call(size_t bytes, char *why_out, size_t why_bytes)
{
    if (eepi_thread_is_capturing()) {
        snprintf(why_out, why_bytes, "this thread is capturing a stream");
        return EEP_ERR_STATE;
    }
    if (bytes == 0) {
        snprintf(why_out, why_bytes, "nothing to share: 0 bytes");
        return EEP_ERR_INVALID;
    }
    return EEP_OK;
}

eep_status eepi_share_make(eep_device *device, size_t bytes, eepi_share *share_out, char *why_out,
                           size_t why_bytes)
{
    uint64_t begin_us = eepi_now_us();
    eep_status status = may_call(bytes, why_out, why_bytes);

    if (status != EEP_OK) {
        return status;
    }
    status = device->ops->share_make(device->impl, bytes, share_out, why_out, why_bytes);
    count_call(device, begin_us);
    return status;
}

eep_status eepi_share_map(eep_device *device, int fd, size_t mapped_bytes, eepi_share *share_out,
                          char *why_out, size_t why_bytes)
{
    uint64_t begin_us = eepi_now_us();
    eep_status status = may_call(mapped_bytes, why_out, why_bytes);

    if (status != EEP_OK) {
        return status;
    }
    status = device->ops->share_map(device->impl, fd, mapped_bytes, share_out, why_out, why_bytes);
    count_call(device, begin_us);
    return status;
}

bool eepi_share_has_own(const eep_device *device)
{
    return device->ops->share_map_own != NULL;
}

eep_status eepi_share_map_own(eep_device *device, int fd, size_t mapped_bytes,
                              eepi_share *share_out, char *why_out, size_t why_bytes)
{
    uint64_t begin_us = eepi_now_us();
    eep_status status = may_call(mapped_bytes, why_out, why_bytes);

    if (status != EEP_OK) {
        return status;
    }
    status =
        device->ops->share_map_own(device->impl, fd, mapped_bytes, share_out, why_out, why_bytes);
    count_call(device, begin_us);
    return status;
}

eep_status eepi_share_dmabuf(eep_device *device, const eepi_share *share, int *fd_out,
                             char *why_out, size_t why_bytes)
{
    uint64_t begin_us = eepi_now_us();
    eep_status status = may_call(share->mapped_bytes, why_out, why_bytes);

    if (status != EEP_OK) {
        return status;
    }
    if (!device->ops->share_dmabuf) {
        snprintf(why_out, why_bytes, "memory of the %s device has no descriptor for network cards",
                 device->backend->name);
        return EEP_ERR_UNSUPPORTED;
    }
    status = device->ops->share_dmabuf(device->impl, share, fd_out, why_out, why_bytes);
    count_call(device, begin_us);
    return status;
}

void eepi_share_close(eep_device *device, eepi_share *share)
{
    uint64_t begin_us = eepi_now_us();

    if (!share->address) {
        return;
    }
    device->ops->share_close(device->impl, share);
    memset(share, 0, sizeof *share);
    count_call(device, begin_us);
}

eepi_share_cost eepi_share_cost_of(const eep_device *device)
{
    return (eepi_share_cost){__atomic_load_n(&device->share_calls, __ATOMIC_RELAXED),
                             __atomic_load_n(&device->share_us, __ATOMIC_RELAXED),
                             __atomic_load_n(&device->share_longest_us, __ATOMIC_RELAXED)};
}

bool eepi_device_is_discrete(const eep_device *device)
{
    return device->is_discrete;
}

bool eepi_device_outlives_process(const eep_device *device)
{
    return device->is_discrete || device->outlives_process;
}

void eepi_device_set_outlives(eep_device *device)
{
    device->outlives_process = true;
}

bool eepi_device_is_cuda(const eep_device *device)
{
    return strcmp(device->backend->name, "cuda") == 0;
}

void eepi_device_set_discrete(eep_device *device)
{
    device->is_discrete = true;
}
