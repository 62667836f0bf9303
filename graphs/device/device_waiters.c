/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks of this process that wait in kernels: how many a device has room for, and when there are
 * none, which is when calls that wait for a device hurt nobody. */
#include "graphs/device/device_internal.h"

enum { MAX_ORDINALS = 64, STREAMS_PER_RANK = 2 /* its steps', and the device's auxiliary one */ };

/* Under the lock, which is held while a backend does what it had put off: a rank whose place was
 * granted finds that done. Each rank has an eep_device of its own, so they are counted by the
 * device's number. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t num_on[MAX_ORDINALS], num_in_process;
static uint32_t streams_on[MAX_ORDINALS]; /* beside the two of each rank */

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

uint32_t eepi_device_most_waiters(const eep_device *device)
{
    eepi_device_facts facts = eepi_device_facts_of(device);
    uint32_t most = UINT32_MAX;

    if (facts.num_multiprocessors != 0) {
        most = least(most, facts.num_multiprocessors / 4);
    }
    if (facts.num_queues != 0) {
        most = least(most, facts.num_queues / STREAMS_PER_RANK);
    }
    return most < 1 ? 1 : most;
}

/* With the lock: has the device queues for so many ranks and other streams? */
static bool has_queues(const eep_device *device, uint32_t ranks, uint32_t streams)
{
    const eepi_device_facts facts = eepi_device_facts_of(device);

    return facts.num_queues == 0 || ranks * STREAMS_PER_RANK + streams <= facts.num_queues;
}

static void tell_backend(eep_device *device)
{
    if (device->ops->set_waiters) {
        device->ops->set_waiters(device->impl, num_in_process);
    }
}

eep_status eepi_device_take_waiter(eep_device *device)
{
    uint32_t most = eepi_device_most_waiters(device);
    const int at = device->ordinal % MAX_ORDINALS;
    uint32_t *num = &num_on[at];
    eep_status status = EEP_ERR_UNSUPPORTED;

    if (most == UINT32_MAX) { /* the host's threads wait for ranks, never for a device */
        return EEP_OK;
    }
    pthread_mutex_lock(&lock);
    if (*num < most && (*num == 0 || has_queues(device, *num + 1, streams_on[at]))) {
        (*num)++;
        num_in_process++;
        tell_backend(device);
        status = EEP_OK;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

void eepi_device_release_waiter(eep_device *device)
{
    if (eepi_device_most_waiters(device) == UINT32_MAX) {
        return;
    }
    pthread_mutex_lock(&lock);
    num_on[device->ordinal % MAX_ORDINALS]--;
    num_in_process--;
    tell_backend(device);
    pthread_mutex_unlock(&lock);
}

eep_status eepi_device_take_stream(eep_device *device)
{
    const int at = device->ordinal % MAX_ORDINALS;
    eep_status status = EEP_ERR_UNSUPPORTED;

    pthread_mutex_lock(&lock);
    if (has_queues(device, num_on[at], streams_on[at] + 1)) {
        streams_on[at]++;
        status = EEP_OK;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

void eepi_device_release_stream(eep_device *device)
{
    pthread_mutex_lock(&lock);
    streams_on[device->ordinal % MAX_ORDINALS]--;
    pthread_mutex_unlock(&lock);
}

uint64_t eepi_device_late_calls(const eep_device *device)
{
    return device->ops->late_calls ? device->ops->late_calls(device->impl) : 0;
}
