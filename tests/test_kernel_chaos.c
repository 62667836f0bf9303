/* Ranks that run freely, each at its own step number, while deadlines, host aborts and slow experts
 * hit any node: whoever completes a step has the right result, and all get on. */
#include "kernel_world.h"

#include "graphs/compiler_macros.h"

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
    uint32_t finished; /* ranks that have their goal */
    uint32_t wrong, stuck;
    uint32_t ok, aborted;
} chaos;
typedef struct chaos_rank {
    chaos *all;
    int seat;
    uint64_t random;
} chaos_rank;

enum { CHAOS_GOAL = 120, CHAOS_TRIES = 20000 };

/* Rule D5: new inputs after OK, the same after an abort, always under a higher step number. */
static void *chaos_run(void *argument)
{
    chaos_rank *c = argument;
    kernel_world *w = c->all->world;
    kernel_rank *r = &w->rank[c->seat];
    uint64_t step = 1;
    int done = 0, tries = 0;

    kernel_rank_fill(w, c->seat, w->shape.max_tokens, kernel_random(&c->random));
    while (__atomic_load_n(&c->all->finished, __ATOMIC_ACQUIRE) < (uint32_t)w->shape.max_ranks) {
        const eepk_status *status;
        r->delay_us =
            kernel_below(&c->random, 4) == 0 ? (uint32_t)kernel_below(&c->random, 300) : 0;
        kernel_rank_launch(w, c->seat, step, kernel_below(&c->random, 8) == 0 ? 200000 : 100000000);
        if (kernel_below(&c->random, 8) == 0) {
            for (int i = kernel_below(&c->random, 40); i > 0; i--)
                sched_yield();
            eepk_store_release(eepi_tables_abort_step(r->tables), step);
        }
        status = kernel_rank_end(w, c->seat);
        if (status->result == EEPK_STEP_OK) {
            if (kernel_rank_compare(w, c->seat, true) >= 0)
                __atomic_fetch_add(&c->all->wrong, 1, __ATOMIC_RELAXED);
            __atomic_fetch_add(&c->all->ok, 1, __ATOMIC_RELAXED);
            kernel_rank_fill(w, c->seat, done < CHAOS_GOAL ? w->shape.max_tokens : 0,
                             kernel_random(&c->random));
            if (++done == CHAOS_GOAL)
                __atomic_fetch_add(&c->all->finished, 1, __ATOMIC_RELEASE);
        } else {
            __atomic_fetch_add(&c->all->aborted, 1, __ATOMIC_RELAXED);
        }
        if (++tries == CHAOS_TRIES) {
            __atomic_fetch_add(&c->all->stuck, 1, __ATOMIC_RELAXED);
            break;
        }
        step = status->result == EEPK_STEP_JUMP && status->jump_step > step ? status->jump_step
                                                                            : step + 1;
    }
    return NULL;
}

Test(kernel_chaos, completed_steps_are_right_through_random_aborts)
{
    const uint64_t seed = first_seed();

    for (int layers = 1; layers <= 2; layers++) {
        const moe_shape shape = {4, layers, 6, 4, 4, 64, 16, EEP_FP32, EEP_FP32, 0};
        chaos all = {.world = kernel_world_open(&shape, 2)};
        chaos_rank ranks[4];
        pthread_t threads[4];
        kernel_world_switch(all.world, kernel_view(all.world, 1, 0xf, 1, seed));
        for (int seat = 0; seat < 4; seat++) {
            ranks[seat] = (chaos_rank){&all, seat, seed + (uint64_t)seat};
            cr_assert_eq(pthread_create(&threads[seat], NULL, chaos_run, &ranks[seat]), 0);
        }
        for (int seat = 0; seat < 4; seat++)
            pthread_join(threads[seat], NULL);
        cr_assert_eq(all.wrong, 0, "%u of %u completed steps are wrong, " REPLAY, all.wrong, all.ok,
                     SEED(seed));
        cr_assert_eq(all.stuck, 0, REPLAY, SEED(seed));
        cr_assert_geq(all.aborted, 50);
        kernel_world_close(all.world);
    }
}
