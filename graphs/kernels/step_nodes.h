/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of the nodes around a step: flip and latch, of one thread, and finish, of one block. */
#ifndef EEPK_STEP_H
#define EEPK_STEP_H

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/kernel_args.h"
#include "graphs/kernels/exchange.h"

/* Make a staged bank live, if it is the committed one (rules T2, T3), and the own window of its
 * colour with it (P7). Values are arguments: this launch is never captured. */
EEPK_FN void eepk_flip_body(const eepk_flip_args *a, eep_grid g)
{
    eepk_world *w = (eepk_world *)(uintptr_t)a->world; /* no step of it runs */
    const eepk_bank_header *bank = (const eepk_bank_header *)w->bank[a->bank & 1u];

    if (g.block != 0 || g.thread != 0) {
        return;
    }
    if (bank->epoch == a->epoch && bank->digest == a->digest) {
        w->control->live_bank = a->bank & 1u;
        w->window = eepk_own_window(&w->shape, (const uint8_t *)bank);
    } else {
        w->control->flip_refused++;
    }
}

/* The step before had no end here, or a bad one: whoever reads what this rank sent in it is told
 * before rows of the next one lie there. It may have ended behind its last tags, without a finish
 * (a step that is put node by node). Another view's step was ended by that view. One thread. */
EEPK_FN void eepk_tell_of_last(const eepk_world *w, eepk_latch *latch)
{
    const eep_grid alone = {0, 1, 0, 1};
    const eepk_bank_header *bank = (const eepk_bank_header *)w->bank[w->control->live_bank];

    if (latch->step == 0 || latch->step == latch->completed || latch->step == w->launch->step ||
        latch->bank != w->control->live_bank || latch->epoch != bank->epoch) {
        return;
    }
    eepk_post_abort(w, latch, (eepk_exchange_at){0, 0, EEPK_PHASE_DISPATCH, 0}, alone);
}

/* The mask of active ranks, for the engine's kernels: of the bank that the latch has chosen. `was`
 * is the bank and `epoch` the epoch that the latch had before, whose mask is there still. */
EEPK_FN void eepk_write_mask(const eepk_world *w, const eepk_latch *latch, uint32_t was,
                             uint64_t epoch)
{
    const uint8_t *bank = w->bank[latch->bank];

    if (latch->bank == was && latch->epoch == epoch) {
        return;
    }
    for (uint32_t seat = 0; seat < w->shape.max_ranks; seat++) {
        w->active_mask[seat] = eepk_is_active(bank, seat);
    }
}

/* First node of a step: fix what the later nodes go by (rule T1), clear what the last step left. */
EEPK_FN void eepk_latch_body(const eepk_latch_args *a, eep_grid g)
{
    const eepk_world *w = a->world;
    eepk_latch *latch = &w->control->latch;
    const eepk_bank_header *bank;
    const uint64_t before = latch->step, epoch_before = latch->epoch;
    const uint32_t bank_before = latch->bank;

    if (g.block != 0 || g.thread != 0) {
        return;
    }
    eepk_tell_of_last(w, latch);
    latch->bank = w->control->live_bank;
    bank = (const eepk_bank_header *)w->bank[latch->bank];
    latch->step = w->launch->step;
    latch->epoch = bank->epoch;
    eepk_write_mask(w, latch, bank_before, epoch_before);
    latch->announce_digest = w->launch->announce_digest;
    latch->wait_ns = w->launch->wait_ns;
    latch->wants_loads = w->launch->wants_loads;
    latch->shape = (uint32_t)w->launch->shape;
    latch->wanted_shape = (uint32_t)w->launch->wanted_shape;
    latch->aborted = 0;
    latch->status = (eepk_status){0};
    latch->status.began_step = latch->step;
    latch->status.max_tokens = w->shape.shapes[latch->shape].chunk_tokens;
    latch->status.seen_shape = latch->shape;
    latch->status.wanted_shape = latch->wanted_shape;
    for (uint32_t i = 0; i < EEPK_MAX_CHAINS; i++) {
        latch->chain[i] = (eepk_chain_state){0, 0, 0};
    }
    latch->longest_wait = w->shape.self;
    eepk_rings_begin(w);
    eepk_store_release(&w->status->began_step, latch->step);
    if (latch->step != 0 && latch->step == before) { /* a step number is never used again */
        latch->aborted = 1;
        latch->status.result = EEPK_STEP_AGAIN;
    } else if (bank->epoch != w->launch->epoch) {
        latch->aborted = 1;
        latch->status.result = EEPK_STEP_WRONG_BANK;
    } else if (eepk_load_acquire(w->abort_step) >= latch->step) {
        latch->aborted = 1;
        latch->status.result = EEPK_STEP_HOST_ABORT;
    } else if (latch->shape != a->shape) {
        latch->aborted = 1;
        latch->status.result = EEPK_STEP_OTHER_GRAPH;
    }
}

/* What ran was part of a step: it is no result, and the others are told so that none waits. */
EEPK_FN void eepk_check_whole(const eepk_world *w, eepk_latch *latch, eep_grid g)
{
    const uint32_t chunks = w->shape.shapes[latch->shape].num_chunks;
    const uint32_t all = w->shape.num_layers * chunks * EEPK_NODES_PER_LAYER;
    eepk_exchange_at lacks = {0, 0, 0, 0};
    uint32_t num_nodes = 0;
    int is_whole = 1;

    for (uint32_t chain = 0; chain < w->shape.num_chains; chain++) {
        uint32_t num = latch->chain[chain].num_nodes;
        num_nodes += num;
        if (num != all && is_whole) {
            is_whole = 0;
            lacks = (eepk_exchange_at){num / EEPK_NODES_PER_LAYER / chunks, chain,
                                       num % EEPK_NODES_PER_LAYER < EEPK_NODE_COMBINE_SEND
                                           ? EEPK_PHASE_DISPATCH
                                           : EEPK_PHASE_COMBINE,
                                       num / EEPK_NODES_PER_LAYER % chunks};
        }
    }
    if (g.thread == 0) {
        latch->status.num_nodes = num_nodes;
        if (!is_whole && !latch->aborted) {
            eepk_abort(latch, EEPK_STEP_PART, lacks);
        }
    }
    eepk_block_sync();
    if (!is_whole && latch->status.result == EEPK_STEP_PART) {
        eepk_post_abort(w, latch, lacks, g);
    }
}

/* Rule P1 for the last combines, behind which no tag of the step follows. A peer that completed the
 * step may have given up the next one since, which takes nothing from this one. */
EEPK_FN void eepk_recheck_last(const eepk_world *w, eepk_latch *latch, eep_grid g)
{
    const int is_good = !latch->aborted;

    eepk_block_sync();
    for (uint32_t chain = 0; chain < w->shape.num_chains && is_good; chain++) {
        eepk_recheck_sources(w, latch,
                             (eepk_exchange_at){w->shape.num_layers - 1, chain, EEPK_PHASE_COMBINE,
                                                w->shape.shapes[latch->shape].num_chunks - 1},
                             EEPK_CONDEMNS_THIS_STEP, g);
    }
    eepk_block_sync();
}

/* Last node: tell the host how the step ended; done_step comes last (partner: the host's acquire
 * load in eep_step_end). */
EEPK_FN void eepk_finish_body(const eepk_world_args *a, eep_grid g)
{
    const eepk_world *w = a->world;
    eepk_latch *latch = &w->control->latch;
    uint64_t step = latch->step;

    if (g.block != 0) {
        return;
    }
    eepk_check_whole(w, latch, g);
    eepk_recheck_last(w, latch, g);
    if (g.thread != 0) {
        return;
    }
    if (latch->aborted && latch->status.result == EEPK_STEP_OK) {
        latch->status.result = EEPK_STEP_STALE;
    }
    if (latch->status.result != EEPK_STEP_DEADLINE) { /* who was late then is not accused */
        for (uint32_t i = 0; i < EEPK_SEAT_WORDS; i++) {
            latch->status.suspects[i] = 0;
        }
    }
    if (latch->status.result == EEPK_STEP_OK) {
        latch->completed = step;
    }
    latch->status.longest_wait_ns = latch->longest_wait >> 10;
    latch->status.last_seat = (uint32_t)(latch->longest_wait & 1023u);
    latch->status.done_step = 0;
    *w->status = latch->status;
    eepk_fence_system();
    eepk_store_release(&w->status->done_step, step);
}
#endif
