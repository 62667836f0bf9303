/* SPDX-License-Identifier: Apache-2.0 */
/* Waking the service thread by its descriptor, the rank thread by condition and doorbell. */
#include "membership/context/wake.h"

#include "membership/context/context.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

void eepi_wake_open(eepi_wake *wake)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&wake->rank, &attributes);
    pthread_mutex_init(&wake->bell_lock, NULL);
    pthread_condattr_destroy(&attributes);
    wake->ready_fd = -1;
    wake->service_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void eepi_wake_close(eepi_wake *wake)
{
    if (wake->service_fd >= 0) {
        close(wake->service_fd);
    }
    if (wake->ready_fd >= 0) {
        close(wake->ready_fd);
    }
    pthread_cond_destroy(&wake->rank);
    pthread_mutex_destroy(&wake->bell_lock);
}

void eepi_service_wake(eep_context *context)
{
    const uint64_t one = 1;
    const ssize_t written = write(context->wake.service_fd, &one, sizeof one);

    (void)written; /* a full counter wakes as well */
}

void eepi_service_woke(eep_context *context)
{
    uint64_t count;
    const ssize_t got = read(context->wake.service_fd, &count, sizeof count);

    (void)got;
}

void eepi_rank_wake(eep_context *context)
{
    pthread_cond_broadcast(&context->wake.rank);
    pthread_mutex_lock(&context->wake.bell_lock);
    if (context->wake.doorbell) {
        eepk_doorbell_ring(context->wake.doorbell);
    }
    pthread_mutex_unlock(&context->wake.bell_lock);
}

void eepi_wake_at(eep_context *context, uint32_t *doorbell)
{
    pthread_mutex_lock(&context->wake.bell_lock);
    context->wake.doorbell = doorbell;
    pthread_mutex_unlock(&context->wake.bell_lock);
}

bool eepi_rank_wait(eep_context *context, const struct timespec *until)
{
    return pthread_cond_timedwait(&context->wake.rank, &context->lock, until) == ETIMEDOUT;
}

/* ------------------------------------------------------------------ the engine's event loop */

static void make_readable(int fd)
{
    const uint64_t one = 1;
    const ssize_t written = fd >= 0 ? write(fd, &one, sizeof one) : 0;

    (void)written; /* a full counter is readable as well */
}

/* The bits come before the descriptor, and are taken behind it: none is left unseen. */
void eepi_ready(eep_context *context, uint32_t bits)
{
    __atomic_fetch_or(&context->wake.ready, bits, __ATOMIC_SEQ_CST);
    make_readable(__atomic_load_n(&context->wake.ready_fd, __ATOMIC_SEQ_CST));
}

bool eepi_ready_take(eep_context *context, uint32_t *bits_out)
{
    const int fd = __atomic_load_n(&context->wake.ready_fd, __ATOMIC_SEQ_CST);
    uint64_t count;
    ssize_t got;

    if (fd < 0) {
        return false;
    }
    got = read(fd, &count, sizeof count);
    (void)got;
    *bits_out = __atomic_exchange_n(&context->wake.ready, 0, __ATOMIC_SEQ_CST);
    return true;
}

int eepi_ready_open(eep_context *context)
{
    int fd = context->wake.ready_fd;

    if (fd < 0) {
        fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        __atomic_store_n(&context->wake.ready_fd, fd, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&context->wake.ready, __ATOMIC_SEQ_CST) != 0) {
            make_readable(fd);
        }
    }
    return fd;
}
