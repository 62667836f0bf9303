/* SPDX-License-Identifier: Apache-2.0 */
/* How the threads of a context wake each other. */
#ifndef EEPI_WAKE_H
#define EEPI_WAKE_H

#include "eep/eep.h"

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

typedef struct eepi_wake {
    int service_fd; /* readable: the service thread has something to do; -1: there is none */
    pthread_cond_t rank;
    pthread_mutex_t bell_lock; /* taken last */
    uint32_t *doorbell;        /* under bell_lock: of the own window that is live; NULL: none yet */
    int ready_fd;   /* readable: the engine's event loop has something to look at; -1: nobody asked
                     * for it; atomic */
    uint32_t ready; /* bits of EEP_READY_... that nobody has taken; atomic */
} eepi_wake;

/* Where service_fd is -1, errno says why. */
void eepi_wake_open(eepi_wake *wake);
void eepi_wake_close(eepi_wake *wake);
/* Wake the service thread. Any thread, with the context's lock or without. */
void eepi_service_wake(eep_context *context);
/* What woke it is forgotten; service thread. */
void eepi_service_woke(eep_context *context);
/* The doorbell that the rank thread and its kernels wait at from now on. Rank thread; the context's
 * lock is held, so that its memory does not go before. */
void eepi_wake_at(eep_context *context, uint32_t *doorbell);
/* Wake the rank thread wherever it waits for the service thread. Any thread, with the lock or
 * without. */
void eepi_rank_wake(eep_context *context);
/* The engine has those (EEP_READY_...) to look at. Any thread, with the lock or without. */
void eepi_ready(eep_context *context, uint32_t bits);
/* Take them; false: there is no descriptor. Any thread. */
bool eepi_ready_take(eep_context *context, uint32_t *bits_out);
/* Make the descriptor, unless it is there; -1: errno says why. The lock is held. */
int eepi_ready_open(eep_context *context);
/* Wait for eepi_rank_wake, the lock held; true: it is later than `until` (CLOCK_MONOTONIC). */
bool eepi_rank_wait(eep_context *context, const struct timespec *until);
#endif
