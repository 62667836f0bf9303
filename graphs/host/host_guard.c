/* SPDX-License-Identifier: Apache-2.0 */
/* The memory guard: one reserved range, and watched memory of others, whose access changes
 * together. */
#include "graphs/host/host_guard.h"

#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static const size_t RESERVED_BYTES = (size_t)1 << 36; /* addresses only */
static const size_t HUGE_BYTES = (size_t)1 << 21;

typedef struct watched {
    struct watched *next;
    void *memory;
    size_t bytes;
} watched;

struct eepi_host_guard {
    pthread_mutex_t lock;
    watched *first; /* memory of others */
    void *mapping;
    uint8_t *base;     /* in it, aligned to HUGE_BYTES */
    size_t used_bytes; /* allocated so far, whole pages */
    size_t page_bytes;
    uint32_t running; /* pieces of work under way */
};

static size_t round_up(size_t bytes, size_t step)
{
    return (bytes + step - 1) / step * step;
}

eep_status eepi_host_guard_open(eepi_host_guard **guard_out)
{
    eepi_host_guard *guard = calloc(1, sizeof *guard);

    if (!guard) {
        return EEP_ERR_NO_MEMORY;
    }
    guard->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    guard->mapping = mmap(NULL, RESERVED_BYTES + HUGE_BYTES, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (guard->mapping == MAP_FAILED) {
        free(guard);
        return EEP_ERR_NO_MEMORY;
    }
    /* rights change twice per piece of work, which takes less time for few large pages */
    guard->base = (uint8_t *)round_up((uintptr_t)guard->mapping, HUGE_BYTES);
    (void)madvise(guard->base, RESERVED_BYTES, MADV_HUGEPAGE);
    pthread_mutex_init(&guard->lock, NULL);
    *guard_out = guard;
    return EEP_OK;
}

void eepi_host_guard_close(eepi_host_guard *guard)
{
    if (!guard) {
        return;
    }
    munmap(guard->mapping, RESERVED_BYTES + HUGE_BYTES);
    pthread_mutex_destroy(&guard->lock);
    free(guard);
}

/* Of whole mappings, so none is split: it does not fail for want of memory. */
static void set_range(void *memory, size_t bytes, int access)
{
    int failed = bytes > 0 && mprotect(memory, bytes, access) != 0;

    assert(!failed);
    (void)failed;
}

/* With the lock. */
static int access_now(const eepi_host_guard *guard)
{
    return guard->running > 0 ? PROT_READ | PROT_WRITE : PROT_NONE;
}

/* With the lock. Up to the end of the last huge page, which would be split otherwise. */
static void set_used(const eepi_host_guard *guard)
{
    set_range(guard->base, round_up(guard->used_bytes, HUGE_BYTES), access_now(guard));
}

/* With the lock: it has just become the first that runs, or the last one has ended. */
static void set_all(const eepi_host_guard *guard)
{
    set_used(guard);
    for (const watched *w = guard->first; w; w = w->next) {
        set_range(w->memory, w->bytes, access_now(guard));
    }
}

eep_status eepi_host_guard_alloc(eepi_host_guard *guard, size_t bytes, void **memory_out)
{
    size_t pages_bytes = round_up(bytes, guard->page_bytes);
    eep_status status = EEP_ERR_NO_MEMORY;

    pthread_mutex_lock(&guard->lock);
    if (pages_bytes >= bytes && pages_bytes <= RESERVED_BYTES - guard->used_bytes) {
        *memory_out = guard->base + guard->used_bytes;
        guard->used_bytes += pages_bytes;
        set_used(guard);
        status = EEP_OK;
    }
    pthread_mutex_unlock(&guard->lock);
    return status;
}

eep_status eepi_host_guard_watch(eepi_host_guard *guard, void *memory, size_t bytes)
{
    watched *w = malloc(sizeof *w);

    if (!w) {
        return EEP_ERR_NO_MEMORY;
    }
    pthread_mutex_lock(&guard->lock);
    *w = (watched){guard->first, memory, bytes};
    guard->first = w;
    set_range(memory, bytes, access_now(guard));
    pthread_mutex_unlock(&guard->lock);
    return EEP_OK;
}

void eepi_host_guard_unwatch(eepi_host_guard *guard, void *memory)
{
    watched **at, *found;

    pthread_mutex_lock(&guard->lock);
    for (at = &guard->first; *at && (*at)->memory != memory;) {
        at = &(*at)->next;
    }
    found = *at;
    if (found) {
        *at = found->next;
    }
    pthread_mutex_unlock(&guard->lock);
    free(found);
}

void eepi_host_guard_enter(eepi_host_guard *guard)
{
    if (!guard) {
        return;
    }
    pthread_mutex_lock(&guard->lock);
    if (guard->running++ == 0) {
        set_all(guard);
    }
    pthread_mutex_unlock(&guard->lock);
}

void eepi_host_guard_leave(eepi_host_guard *guard)
{
    if (!guard) {
        return;
    }
    pthread_mutex_lock(&guard->lock);
    if (--guard->running == 0) {
        set_all(guard);
    }
    pthread_mutex_unlock(&guard->lock);
}
