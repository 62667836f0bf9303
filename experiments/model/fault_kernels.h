/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels of faults, which are not the model's: arguments, bodies for both compilers, the table.
 * One block each. */
#ifndef EEPX_FAULT_KERNELS_H
#define EEPX_FAULT_KERNELS_H

#include "graphs/kernels/combine.h"
#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/dispatch.h"

static const uint64_t FAULT_HALT_NS =
    60000000000; /* a node that is not let go on ends after that */

enum fault_go {
    FAULT_GO_ON = 1,
    FAULT_GO_DEAD /* no later node of the step does or tells anything */
};

/* What a halting node and the host tell each other; pinned. */
typedef struct fault_halt_words {
    uint64_t armed;   /* the host: place + 1; 0: none. A place is a chain's, too (verbs.h) */
    uint64_t reached; /* the node: the same, once it halts there */
    uint64_t go_on;   /* the host: fault_go lets it go on */
    uint32_t bell[2]; /* the host's counterpart of polling (eepk_doorbell_ring) */
} fault_halt_words;

/* Wait at one place of a step, if armed for it, until the host lets go or closes the context. No
 * abort of the step ends the wait, as none would end a GPU that is stuck. An aborted step sends
 * nothing and never gets to a place; the next step does. After FAULT_GO_DEAD, or the end of its
 * context, the later nodes of the step do nothing and tell nobody. */
typedef struct fault_halt_args {
    fault_halt_words *words;
    const eepk_world *world;
    uint32_t place, pad;
} fault_halt_args;

/* The same in the middle of a send, whose last block publishes: the rows are stored here, and the
 * tags would be by the send itself, which comes behind and stores the rows again. */
typedef struct fault_halt_dispatch_args {
    fault_halt_args halt;
    eepk_dispatch_node_args send;
} fault_halt_dispatch_args;
typedef struct fault_halt_combine_args {
    fault_halt_args halt;
    eepk_combine_node_args send;
} fault_halt_combine_args;

/* Spin for a while, and keep the longest time that went on without this kernel. Never captured. */
typedef struct fault_gaps_args {
    uint64_t *longest_ns; /* pinned; written once, at the end, never 0 */
    uint64_t spin_ns;
} fault_gaps_args;

EEPK_FN int fault_is_reached(const fault_halt_args *a)
{
    return eepk_load_acquire(&a->words->armed) == a->place + 1u &&
           !a->world->control->latch.aborted;
}

EEPK_FN void fault_halt_body(const fault_halt_args *a, eep_grid g)
{
    const eepk_world *w = a->world;
    eepk_latch *latch = &w->control->latch;
    fault_halt_words *words = a->words;
    uint64_t begin_ns, go = 0;

    if (g.block != 0 || g.thread != 0 || !fault_is_reached(a)) {
        return;
    }
    begin_ns = eepk_now_ns();
    eepk_store_release(&words->reached, a->place + 1u);
    for (uint32_t polls = 0;; polls++) {
        uint32_t seen = eepk_doorbell_read(words->bell);

        go = eepk_load_acquire(&words->go_on);
        if (eepk_load_acquire(w->abort_step) == UINT64_MAX) {
            go = FAULT_GO_DEAD;
        }
        if (go != 0 || eepk_now_ns() - begin_ns >= FAULT_HALT_NS) {
            break;
        }
        eepk_poll_pause(polls, words->bell, seen);
    }
    if (go == FAULT_GO_DEAD) {
        latch->aborted = 1;
        latch->status.result = EEPK_STEP_HOST_ABORT;
    }
}

EEPK_FN void fault_halt_dispatch_body(const fault_halt_dispatch_args *a, eep_grid g)
{
    if (g.block == 0 && fault_is_reached(&a->halt)) {
        eepk_send_tokens(&a->send, &a->halt.world->control->latch, g);
        eepk_fence_system();
        eepk_block_sync();
        fault_halt_body(&a->halt, g);
    }
}

EEPK_FN void fault_halt_combine_body(const fault_halt_combine_args *a, eep_grid g)
{
    if (g.block == 0 && fault_is_reached(&a->halt)) {
        eepk_send_home(&a->send, &a->halt.world->control->latch, (int)a->send.has_gaps, g);
        eepk_fence_system();
        eepk_block_sync();
        fault_halt_body(&a->halt, g);
    }
}

EEPK_FN void fault_gaps_body(const fault_gaps_args *a, eep_grid g)
{
    uint64_t begin_ns = eepk_now_ns(), last_ns = begin_ns, now_ns = begin_ns, longest_ns = 1;

    if (g.block != 0 || g.thread != 0) {
        return;
    }
    while (now_ns - begin_ns < a->spin_ns) {
        now_ns = eepk_now_ns();
        longest_ns = now_ns - last_ns > longest_ns ? now_ns - last_ns : longest_ns;
        last_ns = now_ns;
    }
    eepk_store_release(a->longest_ns, longest_ns);
}

/* X(name, args type) */
#define FAULT_KERNEL_LIST(X)                                                                       \
    X(halt, fault_halt_args)                                                                       \
    X(halt_dispatch, fault_halt_dispatch_args)                                                     \
    X(halt_combine, fault_halt_combine_args)                                                       \
    X(gaps, fault_gaps_args)

typedef enum fault_kernel_id {
#define FAULT_KERNEL_ID(name, args) FAULT_KERNEL_##name,
    FAULT_KERNEL_LIST(FAULT_KERNEL_ID)
#undef FAULT_KERNEL_ID
        FAULT_NUM_KERNELS
} fault_kernel_id;

#ifdef __cplusplus
extern "C" {
#endif

/* As model_kernels (model_kernels.h). */
extern const eep_kernel fault_kernels[FAULT_NUM_KERNELS];

#ifdef __cplusplus
}
#endif
#endif
