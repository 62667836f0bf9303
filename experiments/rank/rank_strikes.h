/* What others do to a rank that is a thread: kill it, hold it, let it go. All functions: any
 * thread. */
#ifndef EEPX_RANK_STRIKES_H
#define EEPX_RANK_STRIKES_H

#include "eep/eep.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct rank_strikes {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool killed; /* atomic: callbacks of the context ask, which may hold locks that a kill needs */
    bool held;
    eep_context *context; /* that a kill is to abort; NULL: none */
} rank_strikes;

void rank_strikes_init(rank_strikes *self);
void rank_strikes_destroy(rank_strikes *self);
void rank_strikes_kill(rank_strikes *self);
/* Takes no lock. */
bool rank_strikes_killed(const rank_strikes *self);
void rank_strikes_hold(rank_strikes *self, bool holds);
/* Until nobody holds it, or it is killed; true: that. */
bool rank_strikes_wait(rank_strikes *self);
/* The context that a kill has to abort from now on. */
void rank_strikes_expose(rank_strikes *self, eep_context *context);
#endif
