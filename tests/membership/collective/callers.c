/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/membership/collective/callers.h"

#include "membership/collective/collective_state.h"
#include "membership/context/context.h"

#include <string.h>

caller caller_of(rank *r, caller_kind kind, int salt)
{
    caller c = {.r = r, .kind = kind, .bytes = 24, .timeout_us = CALLER_PATIENT_US};

    for (size_t i = 0; i < sizeof c.sent; i++) {
        c.sent[i] = (uint8_t)(salt * 31 + r->seat * 7 + (int)i);
    }
    memset(c.received, CALLER_UNTOUCHED, sizeof c.received);
    for (int seat = 0; seat < WORLD_SEATS; seat++) {
        c.sizes[seat] = CALLER_UNTOUCHED;
    }
    return c;
}

eep_status caller_call(caller *c)
{
    eep_context *context = c->r->context;
    eep_collective_result *result = EEP_SIZED(&c->result);
    uint8_t buffer[CALLER_STRIDE];

    switch (c->kind) {
    case CALL_BARRIER:
        c->status = eep_collective_barrier(context, c->timeout_us, result);
        break;
    case CALL_BROADCAST:
        memcpy(buffer, c->r->seat == c->root ? c->sent : c->received, sizeof buffer);
        c->status =
            eep_collective_broadcast(context, c->root, buffer, c->bytes, c->timeout_us, result);
        if (c->r->seat != c->root) {
            memcpy(c->received, buffer, sizeof buffer);
        }
        break;
    case CALL_ALLGATHER:
        c->status = eep_collective_allgather(context, c->sent, c->bytes, c->received, CALLER_STRIDE,
                                             c->sizes, c->timeout_us, result);
        break;
    default:
        c->status =
            eep_collective_allreduce(context, c->sent, c->received, c->bytes / 8, EEP_REDUCE_INT64,
                                     EEP_REDUCE_SUM, c->timeout_us, result);
        break;
    }
    return c->status;
}

static void *run(void *user)
{
    (void)!caller_call(user);
    return NULL;
}

void caller_start(caller *c)
{
    cr_assert_eq(pthread_create(&c->thread, NULL, run, c), 0);
    c->runs = 1;
}

static bool has_given(const caller *c)
{
    struct eepi_collectives *all = c->r->context->calls.collectives;
    bool given;

    pthread_mutex_lock(&all->lock);
    given = all->pending.is_given;
    pthread_mutex_unlock(&all->lock);
    return given;
}

void caller_await_given(const caller *c)
{
    WORLD_WAIT(c->r->world, has_given(c));
}

void caller_start_given(caller *c)
{
    caller_start(c);
    caller_await_given(c);
}

eep_status caller_wait(caller *c)
{
    if (c->runs) {
        pthread_join(c->thread, NULL);
    }
    c->runs = 0;
    return c->status;
}

void callers_run(caller *callers, int num)
{
    for (int i = 0; i < num; i++) {
        caller_start(&callers[i]);
    }
    for (int i = 0; i < num; i++) {
        (void)!caller_wait(&callers[i]);
    }
}

void caller_await_epoch(const rank *r, uint64_t epoch)
{
    uint64_t seen = 0;

    WORLD_WAIT(r->world, (rank_sees(r, 0, &seen), seen >= epoch));
}

int caller_is_untouched(const caller *c)
{
    for (size_t i = 0; i < sizeof c->received; i++) {
        if (c->received[i] != CALLER_UNTOUCHED) {
            return 0;
        }
    }
    for (int seat = 0; seat < WORLD_SEATS; seat++) {
        if (c->sizes[seat] != CALLER_UNTOUCHED) {
            return 0;
        }
    }
    return 1;
}
