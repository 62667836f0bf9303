/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel of the engine that sees its step given up leaves work out, wherever in the step it is;
 * what it left out reaches nobody (eep_step_words_get). */
#include "eep/words.h"
#include "tests/lib/context_checks.h"

#include <math.h>
#include <sched.h>

TestSuite(step_words, .timeout = 60);

enum { HALT_MS = 10000, FIRST = 3 };

/* Pinned: what the kernel and the test tell each other. */
typedef struct halt {
    int32_t armed, layer; /* armed: the kernel behind this layer's experts waits for the word */
    int32_t reached;      /* it does */
    int32_t left_out;     /* kernels that saw the word, and left out all that they should give */
} halt;

typedef struct leave_args {
    const uint64_t *running, *given_up;
    const uint32_t *aborted;
    halt *halt;
    float *given; /* [num_given]: what this kernel should have computed */
    int32_t num_given, layer;
} leave_args;

static int is_over(const leave_args *a)
{
    return *a->aborted != 0 || __atomic_load_n(a->given_up, __ATOMIC_RELAXED) >= *a->running;
}

/* What stands there from elsewhere is worse than a number: it shows in every sum. */
static void leave_body(const void *raw, eep_grid grid)
{
    const leave_args *a = raw;
    const int is_here = a->halt->layer == a->layer;
    const uint64_t until_ms = world_now_ms() + HALT_MS;

    (void)grid;
    if (is_here && __atomic_load_n(&a->halt->armed, __ATOMIC_ACQUIRE)) {
        __atomic_store_n(&a->halt->reached, 1, __ATOMIC_RELEASE);
        while (!is_over(a) && world_now_ms() < until_ms) {
            sched_yield();
        }
        __atomic_store_n(&a->halt->armed, 0, __ATOMIC_RELEASE);
    }
    if (!is_over(a)) {
        return;
    }
    for (int32_t i = 0; i < a->num_given; i++) {
        a->given[i] = NAN;
    }
    a->halt->left_out += is_here;
}

static const eep_kernel leave_kernel = EEP_KERNEL("leave_out", leave_body, NULL, NULL, 0);

static halt *halts[WORLD_SEATS];

static void make_halt(rank *r)
{
    void *memory = NULL;

    cr_assert_eq(eep_device_alloc(r->device, EEP_MEMORY_PINNED, sizeof(halt), &memory), EEP_OK);
    r->buffers[r->num_buffers++] = (rank_buffer){EEP_MEMORY_PINNED, memory};
    halts[r->seat] = memory;
    *halts[r->seat] = (halt){0};
}

static eep_status put_leave(rank *r, int32_t layer)
{
    const int is_last = layer == WORLD_LAYERS;
    const size_t rows = is_last ? WORLD_TOKENS : eep_rows_capacity(r->context);
    eep_step_words words;
    leave_args args;

    cr_assert_eq(eep_step_words_get(r->context, EEP_SIZED(&words)), EEP_OK);
    args = (leave_args){words.running,
                        words.given_up,
                        words.aborted,
                        halts[r->seat],
                        is_last ? r->chain[0].out : r->chain[0].results,
                        (int32_t)(rows * WORLD_HIDDEN),
                        layer};
    return eep_launch(r->stream, &leave_kernel, 1, 1, &args, sizeof args);
}

static void start(world *w, int32_t num_ranks)
{
    world_open(w, num_ranks, num_ranks);
    for (int32_t seat = 0; seat < num_ranks; seat++) {
        w->ranks[seat].opened = make_halt;
        w->ranks[seat].behind = put_leave;
    }
    world_start(w);
    world_set_modes(w, 0, num_ranks - 1, RANK_WORK);
    world_advance(w, 0, num_ranks - 1, FIRST);
}

/* Rank 0 gives up a step while its kernel behind `layer` runs. */
static void give_up_in(world *w, int32_t layer)
{
    rank *r = &w->ranks[0];
    uint64_t aborted;

    halts[0]->layer = layer;
    __atomic_store_n(&halts[0]->armed, 1, __ATOMIC_RELEASE);
    WORLD_WAIT(w, __atomic_load_n(&halts[0]->reached, __ATOMIC_ACQUIRE));
    world_lock(w);
    aborted = r->steps_aborted;
    world_unlock(w);
    eep_step_abort(r->context);
    WORLD_WAIT(w, r->steps_aborted == aborted + 1);
    halts[0]->reached = 0;
}

/* In any layer. Were they published, they would be in sums of all ranks. */
Test(step_words, rows_that_were_left_out_reach_nobody)
{
    world w;

    start(&w, 3);
    for (int32_t layer = 0; layer < WORLD_LAYERS; layer++) {
        give_up_in(&w, layer);
        cr_expect_eq(halts[0]->left_out, layer + 1);
        WORLD_WAIT(&w, w.ranks[1].steps_aborted == (uint64_t)layer + 1 &&
                           w.ranks[2].steps_aborted == (uint64_t)layer + 1);
        world_advance(&w, 0, 2, FIRST);
    }
    world_rest(&w);
    world_check_right(&w);
    cr_expect_eq(rank_epoch(&w.ranks[0]), 1, "an abort is no change of membership");
    world_close(&w);
}

/* All others complete the step, since its exchanges are over. This rank has no result of it. */
Test(step_words, no_token_comes_from_a_kernel_behind_the_last_combine_that_was_left_out)
{
    world w;

    start(&w, 3);
    give_up_in(&w, WORLD_LAYERS);
    cr_expect_eq(halts[0]->left_out, 1);
    world_advance(&w, 0, 2, FIRST);
    world_rest(&w);
    cr_expect_eq(w.ranks[0].steps_aborted, 1);
    world_check_never_aborted(&w, 1, 2);
    world_check_right(&w);
    world_close(&w);
}

/* While ranks step, words say nothing. */
Test(step_words, nothing_is_given_up_in_steps_that_go_well)
{
    world w;
    eep_step_words words = {0};

    start(&w, 2);
    world_rest(&w);
    cr_assert_eq(eep_step_words_get(w.ranks[0].context, &words), EEP_ERR_INVALID);
    cr_assert_eq(eep_step_words_get(w.ranks[0].context, EEP_SIZED(&words)), EEP_OK);
    cr_expect_eq(*words.running, w.ranks[0].last_step);
    cr_expect_lt(*words.given_up, *words.running);
    cr_expect_eq(*words.aborted, 0);
    for (int32_t seat = 0; seat < 2; seat++) {
        cr_expect_eq(halts[seat]->left_out, 0);
    }
    world_check_never_aborted(&w, 0, 1);
    world_close(&w);
}
