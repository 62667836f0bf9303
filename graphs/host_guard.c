#include "graphs/host_guard.h"

#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static const size_t RESERVED_BYTES = (size_t)1 << 36; /* addresses only */

struct eepi_host_guard {
    pthread_mutex_t lock;
    uint8_t *base;
    size_t used_bytes; /* allocated so far, whole pages */
    size_t page_bytes;
    uint32_t running; /* pieces of work under way */
};

eep_status eepi_host_guard_open(eepi_host_guard **guard_out)
{
    eepi_host_guard *guard = calloc(1, sizeof(*guard));

    if (!guard)
        return EEP_ERR_NO_MEMORY;
    guard->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    guard->base =
        mmap(NULL, RESERVED_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (guard->base == MAP_FAILED) {
        free(guard);
        return EEP_ERR_NO_MEMORY;
    }
    pthread_mutex_init(&guard->lock, NULL);
    *guard_out = guard;
    return EEP_OK;
}

void eepi_host_guard_close(eepi_host_guard *guard)
{
    if (!guard)
        return;
    munmap(guard->base, RESERVED_BYTES);
    pthread_mutex_destroy(&guard->lock);
    free(guard);
}

/* With the lock. Protecting memory that was accessible, or the reverse, splits no mapping further,
 * so it cannot fail for want of memory. */
static void set_access(const eepi_host_guard *guard, int access)
{
    int failed = guard->used_bytes > 0 && mprotect(guard->base, guard->used_bytes, access) != 0;

    assert(!failed);
    (void)failed;
}

eep_status eepi_host_guard_alloc(eepi_host_guard *guard, size_t bytes, void **memory_out)
{
    size_t pages_bytes = (bytes + guard->page_bytes - 1) / guard->page_bytes * guard->page_bytes;
    eep_status status = EEP_ERR_NO_MEMORY;

    pthread_mutex_lock(&guard->lock);
    if (pages_bytes >= bytes && pages_bytes <= RESERVED_BYTES - guard->used_bytes) {
        *memory_out = guard->base + guard->used_bytes;
        guard->used_bytes += pages_bytes;
        if (guard->running > 0)
            set_access(guard, PROT_READ | PROT_WRITE);
        status = EEP_OK;
    }
    pthread_mutex_unlock(&guard->lock);
    return status;
}

void eepi_host_guard_enter(eepi_host_guard *guard)
{
    if (!guard)
        return;
    pthread_mutex_lock(&guard->lock);
    if (guard->running++ == 0)
        set_access(guard, PROT_READ | PROT_WRITE);
    pthread_mutex_unlock(&guard->lock);
}

void eepi_host_guard_leave(eepi_host_guard *guard)
{
    if (!guard)
        return;
    pthread_mutex_lock(&guard->lock);
    if (--guard->running == 0)
        set_access(guard, PROT_NONE);
    pthread_mutex_unlock(&guard->lock);
}
