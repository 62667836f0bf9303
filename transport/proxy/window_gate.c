/* SPDX-License-Identifier: Apache-2.0 */
/* The threads inside are counted under a lock, so that a verdict and the count are one decision.
 * The lock is held for a few comparisons, never during a write. */
#include "transport/proxy/window_gate.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct eepi_window_gate {
    pthread_mutex_t lock;
    pthread_cond_t left; /* nobody is inside any more */
    uint32_t max_ranks, num_inside;
    bool is_moving;
    eepi_gate_stand stand;
    uint64_t newest_epoch;
    uint32_t let_in[]; /* [max_ranks] */
};

eepi_window_gate *eepi_window_gate_open(uint32_t max_ranks, uint32_t generation)
{
    eepi_window_gate *gate = calloc(1, sizeof *gate + max_ranks * sizeof(uint32_t));
    pthread_condattr_t attributes;

    if (!gate) {
        return NULL;
    }
    gate->max_ranks = max_ranks;
    gate->stand.generation = generation;
    gate->stand.let_in = gate->let_in;
    pthread_mutex_init(&gate->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&gate->left, &attributes);
    pthread_condattr_destroy(&attributes);
    return gate;
}

void eepi_window_gate_close(eepi_window_gate *gate)
{
    if (gate) {
        pthread_cond_destroy(&gate->left);
        pthread_mutex_destroy(&gate->lock);
    }
    free(gate);
}

static bool is_word(const eepk_put *put)
{
    return put->kind == EEPK_PUT_ABORT || put->kind == EEPK_PUT_BEGIN;
}

/* Generations first: what another one says of epochs and steps means nothing. A newer generation
 * than the one let in may belong to a view that this rank has not come to. */
static eepi_gate_verdict judge(const eepi_window_gate *gate, const eepk_put *put)
{
    const eepi_gate_stand *stand = &gate->stand;
    const uint32_t let_in = gate->let_in[put->source];

    if (put->target_generation != stand->generation) {
        return EEPI_GATE_FOREIGN;
    }
    if (put->source_generation < let_in || put->epoch < stand->epoch) {
        return EEPI_GATE_OLDER;
    }
    if (put->epoch > stand->epoch) {
        return is_word(put) ? EEPI_GATE_ENTERED : EEPI_GATE_NEWER;
    }
    if (let_in == 0 || put->source_generation != let_in) {
        return EEPI_GATE_FOREIGN;
    }
    if (is_word(put)) {
        return EEPI_GATE_ENTERED;
    }
    if (put->step < stand->step || (put->step == stand->step && !stand->lets_in)) {
        return EEPI_GATE_OLDER;
    }
    if (put->step > stand->step) {
        return EEPI_GATE_NEWER;
    }
    return gate->is_moving ? EEPI_GATE_OLDER : EEPI_GATE_ENTERED;
}

eepi_gate_verdict eepi_window_gate_enter(eepi_window_gate *gate, const eepk_put *put,
                                         uint32_t proven)
{
    eepi_gate_verdict verdict = EEPI_GATE_FOREIGN;

    if (put->source >= gate->max_ranks || put->source_generation != proven) {
        return verdict;
    }
    pthread_mutex_lock(&gate->lock);
    verdict = judge(gate, put);
    gate->num_inside += verdict == EEPI_GATE_ENTERED;
    if (verdict != EEPI_GATE_FOREIGN && put->epoch > gate->newest_epoch) {
        gate->newest_epoch = put->epoch;
    }
    pthread_mutex_unlock(&gate->lock);
    return verdict;
}

void eepi_window_gate_leave(eepi_window_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    if (--gate->num_inside == 0) {
        pthread_cond_broadcast(&gate->left);
    }
    pthread_mutex_unlock(&gate->lock);
}

static struct timespec time_after(uint64_t timeout_us)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(timeout_us / 1000000);
    until.tv_nsec += (long)(timeout_us % 1000000) * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    return until;
}

eep_status eepi_window_gate_move(eepi_window_gate *gate, const eepi_gate_stand *to,
                                 uint64_t timeout_us)
{
    const struct timespec until = time_after(timeout_us);
    int waited = 0;

    pthread_mutex_lock(&gate->lock);
    gate->is_moving = true;
    while (gate->num_inside != 0 && waited == 0) {
        waited = pthread_cond_timedwait(&gate->left, &gate->lock, &until);
    }
    if (gate->num_inside != 0) {
        pthread_mutex_unlock(&gate->lock);
        return EEP_ERR_TIMEOUT;
    }
    assert(to->epoch > gate->stand.epoch ||
           (to->epoch == gate->stand.epoch && to->step >= gate->stand.step));
    memmove(gate->let_in, to->let_in, gate->max_ranks * sizeof(uint32_t));
    gate->stand = *to;
    gate->stand.let_in = gate->let_in;
    gate->is_moving = false;
    pthread_mutex_unlock(&gate->lock);
    return EEP_OK;
}

eepi_gate_stand eepi_window_gate_stand(const eepi_window_gate *gate)
{
    return gate->stand;
}

uint64_t eepi_window_gate_newest_epoch(eepi_window_gate *gate)
{
    uint64_t newest;

    pthread_mutex_lock(&gate->lock);
    newest = gate->newest_epoch;
    pthread_mutex_unlock(&gate->lock);
    return newest;
}
