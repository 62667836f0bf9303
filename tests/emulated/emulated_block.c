/* SPDX-License-Identifier: Apache-2.0 */
/* The fibers of a block, and where they meet. */
#include "graphs/kernels/compiler_macros.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

enum { MAX_THREADS = 1024, STACK_BYTES = 64 * 1024, MAX_WARPS = MAX_THREADS / EEPK_WARP };

/* Threads that meet: each waits until all that are still there have come as often. */
typedef struct meeting {
    uint32_t present, come;
    uint64_t round;
} meeting;

typedef struct fiber {
    ucontext_t context; /* for its first switch; _setjmp and _longjmp, which leave signals alone, */
    jmp_buf resume;     /* for all later ones */
    eep_grid grid;
    int is_begun, is_over;
    uint32_t shares; /* calls of emulated_warp_share: which of the two rows is being filled */
} fiber;

typedef struct block {
    void (*body)(const void *args, eep_grid grid);
    const void *args;
    uint32_t num_threads, running;
    int any; /* of emulated_block_any */
    jmp_buf runner;
    meeting all, warp[MAX_WARPS];
    uint32_t shared[MAX_WARPS][2][EEPK_WARP];
    fiber fibers[MAX_THREADS];
    uint8_t *stacks;
    uint64_t random;
} block;

/* One per host thread, kept: blocks are many. */
static _Thread_local block *own;

static void fiber_main(void)
{
    block *b = own;
    fiber *f = &b->fibers[b->running];

    b->body(b->args, f->grid);
    f->is_over = 1;
    b->all.present--;
    b->warp[f->grid.thread / EEPK_WARP].present--;
    _longjmp(b->runner, 1);
}

/* To the thread that runs the block. */
static void leave(block *b)
{
    if (_setjmp(b->fibers[b->running].resume) == 0) {
        _longjmp(b->runner, 1);
    }
}

static void resume(block *b)
{
    fiber *f = &b->fibers[b->running];

    if (_setjmp(b->runner) != 0) {
        return;
    }
    if (f->is_begun) {
        _longjmp(f->resume, 1);
    }
    f->is_begun = 1;
    setcontext(&f->context);
    abort();
}

static void meet(block *b, meeting *m)
{
    uint64_t round = m->round;

    m->come++;
    while (m->round == round) {
        if (m->come >= m->present) {
            m->come = 0;
            m->round++;
        } else {
            leave(b);
        }
    }
}

static block *block_of_this_thread(void)
{
    if (own) {
        return own;
    }
    own = calloc(1, sizeof *own);
    if (own) {
        own->stacks = malloc((size_t)MAX_THREADS * STACK_BYTES);
    }
    if (!own || !own->stacks) {
        abort();
    }
    own->random = 88172645463325252u;
    return own;
}

static void begin(block *b, uint32_t index, uint32_t number, uint32_t num_blocks)
{
    fiber *f = &b->fibers[index];

    f->grid = (eep_grid){number, num_blocks, index, b->num_threads};
    f->is_begun = f->is_over = 0;
    f->shares = 0;
    if (getcontext(&f->context) != 0) {
        abort();
    }
    f->context.uc_stack.ss_sp = b->stacks + (size_t)index * STACK_BYTES;
    f->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&f->context, fiber_main, 0);
}

/* Each round all threads that are still there run to their next meeting, from a thread and in a
 * direction that change (xorshift64, Marsaglia 2003). */
static void run_round(block *b)
{
    uint32_t n = b->num_threads, first, down;

    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    first = (uint32_t)(b->random % n);
    down = b->random >> 32 & 1u;
    for (uint32_t i = 0; i < n; i++) {
        b->running = (first + (down ? n - i : i)) % n;
        if (!b->fibers[b->running].is_over) {
            resume(b);
        }
    }
}

void emulated_block_run(void (*body)(const void *args, eep_grid grid), const void *args,
                        uint32_t number, uint32_t num_blocks, uint32_t num_threads)
{
    block *b = block_of_this_thread();

    if (num_threads > MAX_THREADS || (num_threads > 1 && num_threads % EEPK_WARP != 0)) {
        fprintf(stderr, "emulated block of %u threads\n", num_threads);
        abort();
    }
    b->body = body;
    b->args = args;
    b->num_threads = num_threads;
    b->all = (meeting){.present = num_threads};
    for (uint32_t warp = 0; warp * EEPK_WARP < num_threads; warp++) {
        b->warp[warp] = (meeting){.present = num_threads < EEPK_WARP ? num_threads : EEPK_WARP};
    }
    for (uint32_t i = 0; i < num_threads; i++) {
        begin(b, i, number, num_blocks);
    }
    while (b->all.present > 0) {
        run_round(b);
    }
}

int emulated_block_any(int value)
{
    int any;

    own->any |= value != 0;
    emulated_block_meet();
    any = own->any;
    emulated_block_meet(); /* all have read it */
    own->any = 0;
    emulated_block_meet(); /* nobody sets it for the next one before */
    return any;
}

void emulated_block_meet(void)
{
    meet(own, &own->all);
}

void emulated_warp_meet(void)
{
    meet(own, &own->warp[own->running / EEPK_WARP]);
}

uint32_t emulated_lane(void)
{
    return own->running % EEPK_WARP;
}

/* Two rows in turn: who is still reading one does not see the next values. */
const uint32_t *emulated_warp_share(uint32_t value)
{
    uint32_t warp = own->running / EEPK_WARP;
    uint32_t *row = own->shared[warp][own->fibers[own->running].shares++ % 2];

    row[emulated_lane()] = value;
    emulated_warp_meet();
    return row;
}

#undef eepk_poll_pause
void eepk_poll_pause(uint32_t polls, uint32_t *doorbell, uint32_t seen);

/* Only the first thread lets the processor go: it stands for all of them. */
void emulated_pause(uint32_t polls, uint32_t *doorbell, uint32_t seen)
{
    leave(own);
    if (own->running == 0) {
        eepk_poll_pause(polls, doorbell, seen);
    }
}
