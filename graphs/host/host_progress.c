/* SPDX-License-Identifier: Apache-2.0 */
/* How far a host stream is, and waits for it. */
#include "graphs/host/host_progress.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

enum { SPIN_YIELDS = 8 };

struct timespec eepi_host_deadline_after(uint64_t timeout_us)
{
    struct timespec until;
    uint64_t us;

    clock_gettime(CLOCK_MONOTONIC, &until);
    us = (uint64_t)until.tv_nsec / 1000u + timeout_us % 1000000u;
    until.tv_sec += (time_t)(timeout_us / 1000000u + us / 1000000u);
    until.tv_nsec = (long)(us % 1000000u) * 1000;
    return until;
}

eep_status eepi_host_cond_open(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    int failed;

    if (pthread_condattr_init(&attributes) != 0) {
        return EEP_ERR_SYSTEM;
    }
    failed = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) ||
             pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
    return failed ? EEP_ERR_SYSTEM : EEP_OK;
}

host_progress *eepi_host_progress_open(void)
{
    host_progress *progress = calloc(1, sizeof *progress);

    if (!progress) {
        return NULL;
    }
    if (eepi_host_cond_open(&progress->advanced) != EEP_OK) {
        free(progress);
        return NULL;
    }
    pthread_mutex_init(&progress->lock, NULL);
    progress->wake_at = UINT64_MAX;
    progress->refs = 1;
    return progress;
}

void eepi_host_progress_release(host_progress *progress)
{
    if (!progress || __atomic_sub_fetch(&progress->refs, 1, __ATOMIC_ACQ_REL) != 0) {
        return;
    }
    pthread_cond_destroy(&progress->advanced);
    pthread_mutex_destroy(&progress->lock);
    free(progress);
}

eep_status eepi_host_progress_wait_locked(host_progress *progress, uint64_t target,
                                          const struct timespec *until)
{
    while (progress->done < target) {
        if (target < progress->wake_at) {
            progress->wake_at = target;
        }
        if (pthread_cond_timedwait(&progress->advanced, &progress->lock, until) == ETIMEDOUT &&
            progress->done < target) {
            return EEP_ERR_TIMEOUT;
        }
    }
    return progress->failed ? EEP_ERR_DEVICE : EEP_OK;
}

void eepi_host_progress_spin(const host_progress *progress, uint64_t target)
{
    for (int i = 0; i < SPIN_YIELDS && __atomic_load_n(&progress->done, __ATOMIC_RELAXED) < target;
         i++) {
        sched_yield();
    }
}

eep_status eepi_host_progress_wait(host_progress *progress, uint64_t target, uint64_t timeout_us)
{
    struct timespec until = eepi_host_deadline_after(timeout_us);
    eep_status status;

    pthread_mutex_lock(&progress->lock);
    status = eepi_host_progress_wait_locked(progress, target, &until);
    pthread_mutex_unlock(&progress->lock);
    return status;
}
