/* SPDX-License-Identifier: Apache-2.0 */
/* How far a host stream is. Outlives the stream while events refer to it. */
#ifndef EEPI_HOST_PROGRESS_H
#define EEPI_HOST_PROGRESS_H

#include "eep/status.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

typedef struct host_progress {
    pthread_mutex_t lock;
    pthread_cond_t advanced;
    uint64_t put, done; /* entries so far; written under the lock, done by the worker only */
    uint64_t wake_at;   /* the lowest `done` that somebody sleeps for; UINT64_MAX: nobody does */
    bool failed;        /* gave up waiting for an event; runs nothing more */
    uint32_t refs;
} host_progress;

/* NULL: no memory. */
host_progress *eepi_host_progress_open(void);
/* Give back a reference; NULL is ignored. */
void eepi_host_progress_release(host_progress *progress);
/* Wait until `done` has reached the target. EEP_ERR_TIMEOUT; EEP_ERR_DEVICE: the stream has failed.
 */
EEP_MUST_CHECK eep_status eepi_host_progress_wait(host_progress *progress, uint64_t target,
                                                  uint64_t timeout_us);
/* The same with the lock held. The worker wakes sleepers only when it reaches what one needs. */
EEP_MUST_CHECK eep_status eepi_host_progress_wait_locked(host_progress *progress, uint64_t target,
                                                         const struct timespec *until);
/* Yield a few times: short work ends before a sleep would. */
void eepi_host_progress_spin(const host_progress *progress, uint64_t target);

/* A condition whose waits go by CLOCK_MONOTONIC, and that clock's time so far ahead. */
EEP_MUST_CHECK eep_status eepi_host_cond_open(pthread_cond_t *cond);
struct timespec eepi_host_deadline_after(uint64_t timeout_us);
#endif
