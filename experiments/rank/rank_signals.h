/* SPDX-License-Identifier: Apache-2.0 */
/* What signals do to a process, done to a rank that is a thread: kill it, hold it, let it go on.
 * All functions: any thread. */
#ifndef EEPX_RANK_SIGNALS_H
#define EEPX_RANK_SIGNALS_H

#include "eep/eep.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct rank_signals {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool killed; /* atomic: callbacks of the context ask, which may hold locks that a kill needs */
    bool held;
    eep_context *context; /* that a kill is to abort; NULL: none */
} rank_signals;

void rank_signals_init(rank_signals *self);
void rank_signals_destroy(rank_signals *self);
void rank_signals_kill(rank_signals *self);
/* Takes no lock. */
bool rank_signals_killed(const rank_signals *self);
void rank_signals_hold(rank_signals *self, bool holds);
/* Wait until it is not held, or is killed; true: killed. */
bool rank_signals_wait(rank_signals *self);
/* The context that a kill has to abort from now on. */
void rank_signals_expose(rank_signals *self, eep_context *context);
#endif
