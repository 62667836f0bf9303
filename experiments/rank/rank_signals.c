/* SPDX-License-Identifier: Apache-2.0 */
/* A rank that is a thread is killed, held, or let go on. */
#include "experiments/rank/rank_signals.h"

void rank_signals_init(rank_signals *self)
{
    *self = (rank_signals){.killed = false};
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
}

void rank_signals_destroy(rank_signals *self)
{
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
}

void rank_signals_kill(rank_signals *self)
{
    pthread_mutex_lock(&self->lock);
    __atomic_store_n(&self->killed, true, __ATOMIC_RELEASE);
    if (self->context) {
        eep_step_abort(self->context);
    }
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

bool rank_signals_killed(const rank_signals *self)
{
    return __atomic_load_n(&self->killed, __ATOMIC_ACQUIRE);
}

void rank_signals_hold(rank_signals *self, bool holds)
{
    pthread_mutex_lock(&self->lock);
    self->held = holds;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

bool rank_signals_wait(rank_signals *self)
{
    pthread_mutex_lock(&self->lock);
    while (self->held && !rank_signals_killed(self)) {
        pthread_cond_wait(&self->changed, &self->lock);
    }
    pthread_mutex_unlock(&self->lock);
    return rank_signals_killed(self);
}

void rank_signals_expose(rank_signals *self, eep_context *context)
{
    pthread_mutex_lock(&self->lock);
    self->context = context;
    pthread_mutex_unlock(&self->lock);
}
