/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that run freely, each at its own step number, while deadlines, host aborts and slow experts
 * hit any node, and tags of the past come into the lines of vacant seats: whoever completes a step
 * has the right result, all get on, and exactly what came too late is counted (rule D6). */
#include "tests/lib/world/kernel_world.h"

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/exchange.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#define REPLAY     "seed %llu (replay: EEP_TEST_SEED=%llu and this test)"
#define SEED(seed) (unsigned long long)(seed), (unsigned long long)(seed)

TestSuite(kernel_chaos, .timeout = 100);

static uint64_t first_seed(void)
{
    const char *text = getenv("EEP_TEST_SEED");

    return text ? strtoull(text, NULL, 0) : 20260511;
}

typedef struct chaos {
    kernel_world *world;
    int goal, members;
    uint32_t finished; /* ranks that have their goal */
    uint32_t wrong, stuck;
    uint32_t ok, aborted;
    uint32_t injected, miscounted; /* stale tags; steps that counted others than those */
} chaos;
typedef struct chaos_rank {
    chaos *all;
    int seat;
    uint64_t random, step; /* the next one */
} chaos_rank;

enum { CHAOS_TRIES = 20000 };

/* A tag of an older epoch, each another one, into a vacant seat's line of this rank's window. That
 * seat's lines are nobody else's, so the next step finds it; returns how many it has to count. */
static uint64_t inject(chaos_rank *c)
{
    const kernel_world *w = c->all->world;
    const uint64_t epoch = w->rank[c->seat].epoch;
    const uint64_t step = kernel_random(&c->random);
    const uint32_t phase = 1 + (uint32_t)kernel_below(&c->random, 2);
    uint32_t source = (uint32_t)kernel_below(&c->random, w->shape.max_ranks);
    uint64_t *line;

    if (c->all->members == w->shape.max_ranks) {
        return 0;
    }
    while (kernel_is_member(w, (int)source)) {
        source = (source + 1) % (uint32_t)w->shape.max_ranks;
    }
    line = eepk_phase_tag(&w->layout, w->rank[c->seat].window, phase, 0, source);
    eepk_store_release(line, eepk_tag(epoch - 1 - step % 3, step, 0, phase));
    __atomic_fetch_add(&c->all->injected, 1, __ATOMIC_RELAXED);
    return 1;
}

/* A step that ended by a second look at what it had read counts that, too. */
static int counted_right(const eepk_status *status, uint64_t stale)
{
    if (status->result == EEPK_STEP_STALE || status->result == EEPK_STEP_PEER_ABORT) {
        return status->stale_dropped >= stale;
    }
    return status->stale_dropped == stale;
}

/* Rule D5: new inputs after OK, the same after an abort, always under a higher step number. */
static void *chaos_run(void *argument)
{
    chaos_rank *c = argument;
    kernel_world *w = c->all->world;
    kernel_rank *r = &w->rank[c->seat];
    uint64_t stale = 0;
    int done = 0, tries = 0;

    kernel_rank_fill(w, c->seat, w->shape.max_tokens, kernel_random(&c->random));
    (void)inject(c); /* before the first look under this epoch: that is the past */
    while (__atomic_load_n(&c->all->finished, __ATOMIC_ACQUIRE) < (uint32_t)c->all->members) {
        const uint64_t step = c->step;
        const eepk_status *status;
        r->delay_us =
            kernel_below(&c->random, 4) == 0 ? (uint32_t)kernel_below(&c->random, 300) : 0;
        kernel_rank_launch(w, c->seat, step, kernel_below(&c->random, 8) == 0 ? 200000 : 100000000);
        if (kernel_below(&c->random, 8) == 0) {
            for (int i = kernel_below(&c->random, 40); i > 0; i--) {
                sched_yield();
            }
            eepk_store_release(eepi_tables_abort_step(r->tables), step);
        }
        status = kernel_rank_end(w, c->seat);
        if (!counted_right(status, stale)) {
            __atomic_fetch_add(&c->all->miscounted, 1, __ATOMIC_RELAXED);
        }
        if (status->result == EEPK_STEP_OK) {
            if (kernel_rank_compare(w, c->seat, true) >= 0) {
                __atomic_fetch_add(&c->all->wrong, 1, __ATOMIC_RELAXED);
            }
            __atomic_fetch_add(&c->all->ok, 1, __ATOMIC_RELAXED);
            kernel_rank_fill(w, c->seat, done < c->all->goal ? w->shape.max_tokens : 0,
                             kernel_random(&c->random));
            if (++done == c->all->goal) {
                __atomic_fetch_add(&c->all->finished, 1, __ATOMIC_RELEASE);
            }
        } else {
            __atomic_fetch_add(&c->all->aborted, 1, __ATOMIC_RELAXED);
        }
        if (++tries == CHAOS_TRIES) {
            __atomic_fetch_add(&c->all->stuck, 1, __ATOMIC_RELAXED);
            break;
        }
        c->step = status->result == EEPK_STEP_JUMP && status->jump_step > step ? status->jump_step
                                                                               : step + 1;
        stale = kernel_below(&c->random, 2) == 0 ? inject(c) : 0;
    }
    return NULL;
}

/* All members run from `step` on until each has completed `goal` of them; returns the first number
 * that none of them has used. */
static uint64_t run_members(chaos *all, int goal, uint64_t step, uint64_t random)
{
    const kernel_world *w = all->world;
    chaos_rank ranks[KERNEL_MAX_SEATS];
    pthread_t threads[KERNEL_MAX_SEATS];
    uint64_t next = step;

    all->goal = goal;
    all->members = 0;
    all->finished = 0;
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        all->members += kernel_is_member(w, seat);
    }
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        ranks[seat] = (chaos_rank){all, seat, random + (uint64_t)seat, step};
        if (kernel_is_member(w, seat)) {
            cr_assert_eq(pthread_create(&threads[seat], NULL, chaos_run, &ranks[seat]), 0);
        }
    }
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        if (kernel_is_member(w, seat)) {
            pthread_join(threads[seat], NULL);
        }
        if (ranks[seat].step > next) {
            next = ranks[seat].step;
        }
    }
    return next;
}

static void check(const chaos *all, uint64_t seed)
{
    cr_assert_eq(all->wrong, 0, "%u of %u completed steps are wrong, " REPLAY, all->wrong, all->ok,
                 SEED(seed));
    cr_assert_eq(all->miscounted, 0, "%u steps counted wrong, " REPLAY, all->miscounted,
                 SEED(seed));
    cr_assert_eq(all->stuck, 0, REPLAY, SEED(seed));
    cr_assert_geq(all->aborted, 50);
}

Test(kernel_chaos, completed_steps_are_right_through_random_aborts)
{
    const uint64_t seed = first_seed();

    for (int layers = 1; layers <= 2; layers++) {
        const moe_shape shape = {4, layers, 6, 4, 4, 64, 16, EEP_FP32, EEP_FP32, 0};
        chaos all = {.world = kernel_world_open(&shape, 2)};
        kernel_world_switch(all.world, kernel_view(all.world, 1, 0xf, 1, seed));
        (void)run_members(&all, 120, 1, seed);
        check(&all, seed);
        cr_assert_eq(all.injected, 0);
        kernel_world_close(all.world);
    }
}

/* Seats leave and come back with every epoch. Counters near their wraps: S13. */
Test(kernel_chaos, stale_tags_are_counted_through_epochs_and_aborts)
{
    const uint64_t seed = first_seed();
    uint64_t random = seed;

    for (int layers = 1; layers <= 2; layers++) {
        const moe_shape shape = {4, layers, 6, 4, 4, 64, 16, EEP_FP32, EEP_FP32, 0};
        chaos all = {.world = kernel_world_open(&shape, 2)};
        uint64_t step = (1ull << 34) - 100;
        for (uint64_t epoch = (1ull << 20) - 6; epoch < (1ull << 20) + 6; epoch++) {
            uint64_t members;
            do {
                members = kernel_random(&random) % 15; /* some seat is vacant */
            } while (__builtin_popcountll(members) < 2);
            kernel_world_switch(all.world, kernel_view(all.world, epoch, members, (uint32_t)epoch,
                                                       kernel_random(&random)));
            step = run_members(&all, 15, step, kernel_random(&random));
        }
        check(&all, seed);
        cr_assert_geq(all.injected, 100);
        kernel_world_close(all.world);
    }
}
