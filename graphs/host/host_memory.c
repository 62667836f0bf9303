/* SPDX-License-Identifier: Apache-2.0 */
/* The host's device and its memory. The device's own state is its memory guard (host_guard.h): none
 * on "host"; on "guarded" it keeps device memory and shares from all but what streams run. */
#include "graphs/host/host_memory.h"

#include "graphs/device/device_share.h"
#include "graphs/host/host_guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGNMENT_BYTES = 128, UNTOUCHED_LEAST_BYTES = 1 << 20 };

eep_status eepi_host_open(int ordinal, void **device_out, char *why_out, size_t why_bytes)
{
    if (ordinal != 0) {
        snprintf(why_out, why_bytes, "the host backend has one device, number 0, not %d", ordinal);
        return EEP_ERR_UNSUPPORTED;
    }
    *device_out = NULL; /* no guard */
    return EEP_OK;
}

eep_status eepi_host_guarded_open(int ordinal, void **device_out, char *why_out, size_t why_bytes)
{
    eepi_host_guard *guard;
    eep_status status = eepi_host_open(ordinal, device_out, why_out, why_bytes);

    if (status != EEP_OK) {
        return status;
    }
    status = eepi_host_guard_open(&guard);
    if (status == EEP_OK) {
        *device_out = guard;
    } else {
        snprintf(why_out, why_bytes, "no addresses for guarded memory");
    }
    return status;
}

void eepi_host_close(void *device)
{
    eepi_host_guard_close(device);
}

static eep_status watch_share(eepi_host_guard *guard, eepi_share *share, char *why_out,
                              size_t why_bytes)
{
    if (eepi_host_guard_watch(guard, share->address, share->mapped_bytes) == EEP_OK) {
        return EEP_OK;
    }
    eepi_host_share_close(NULL, share);
    snprintf(why_out, why_bytes, "out of memory");
    return EEP_ERR_NO_MEMORY;
}

/* What of a share is reached at the device's side is for its kernels. */
eep_status eepi_host_guarded_share_make(void *device, size_t bytes, eepi_share *share_out,
                                        char *why_out, size_t why_bytes)
{
    eep_status status = eepi_host_share_make(NULL, bytes, share_out, why_out, why_bytes);

    return status == EEP_OK ? watch_share(device, share_out, why_out, why_bytes) : status;
}

eep_status eepi_host_guarded_share_map(void *device, int fd, size_t mapped_bytes,
                                       eepi_share *share_out, char *why_out, size_t why_bytes)
{
    eep_status status = eepi_host_share_map(NULL, fd, mapped_bytes, share_out, why_out, why_bytes);

    return status == EEP_OK ? watch_share(device, share_out, why_out, why_bytes) : status;
}

void eepi_host_guarded_share_close(void *device, eepi_share *share)
{
    eepi_host_guard_unwatch(device, share->address);
    eepi_host_share_close(NULL, share);
}

/* Whole pages are given back, and come again as zeros once somebody uses them. Of a context's rings
 * most are of seats and generations that never come. False: they stay as they are. */
static bool give_back(uint8_t *memory, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t head = (size_t)(-(uintptr_t)memory & (page - 1));
    const size_t whole = bytes < head ? 0 : (bytes - head) / page * page;

    if (bytes < UNTOUCHED_LEAST_BYTES || madvise(memory + head, whole, MADV_DONTNEED) != 0) {
        return false;
    }
    memset(memory, 0, head);
    memset(memory + head + whole, 0, bytes - head - whole);
    return true;
}

eep_status eepi_host_alloc(void *device, eep_memory kind, size_t bytes, void **memory_out)
{
    size_t rounded = (bytes + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
    void *memory;

    if (rounded < bytes) {
        return EEP_ERR_NO_MEMORY;
    }
    if (device && kind == EEP_MEMORY_DEVICE) {
        return eepi_host_guard_alloc(device, rounded, memory_out);
    }
    memory = aligned_alloc(ALIGNMENT_BYTES, rounded);
    if (!memory) {
        return EEP_ERR_NO_MEMORY;
    }
    if (kind != EEP_MEMORY_PINNED || !give_back(memory, rounded)) {
        memset(memory, 0, rounded);
    }
    *memory_out = memory;
    return EEP_OK;
}

void eepi_host_free(void *device, eep_memory kind, void *memory)
{
    if (!device ||
        kind != EEP_MEMORY_DEVICE) { /* the guard keeps what it gave until it is closed */
        free(memory);
    }
}
