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
    wake->service_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void eepi_wake_close(eepi_wake *wake)
{
    if (wake->service_fd >= 0) {
        close(wake->service_fd);
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
