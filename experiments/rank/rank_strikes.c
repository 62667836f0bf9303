#include "experiments/rank/rank_strikes.h"

void rank_strikes_init(rank_strikes *self)
{
    *self = (rank_strikes){.killed = false};
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
}

void rank_strikes_destroy(rank_strikes *self)
{
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
}

void rank_strikes_kill(rank_strikes *self)
{
    pthread_mutex_lock(&self->lock);
    __atomic_store_n(&self->killed, true, __ATOMIC_RELEASE);
    if (self->context) {
        eep_step_abort(self->context);
    }
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

bool rank_strikes_killed(const rank_strikes *self)
{
    return __atomic_load_n(&self->killed, __ATOMIC_ACQUIRE);
}

void rank_strikes_hold(rank_strikes *self, bool holds)
{
    pthread_mutex_lock(&self->lock);
    self->held = holds;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

bool rank_strikes_wait(rank_strikes *self)
{
    pthread_mutex_lock(&self->lock);
    while (self->held && !rank_strikes_killed(self)) {
        pthread_cond_wait(&self->changed, &self->lock);
    }
    pthread_mutex_unlock(&self->lock);
    return rank_strikes_killed(self);
}

void rank_strikes_expose(rank_strikes *self, eep_context *context)
{
    pthread_mutex_lock(&self->lock);
    self->context = context;
    pthread_mutex_unlock(&self->lock);
}
