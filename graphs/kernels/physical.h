/* SPDX-License-Identifier: Apache-2.0 */
/* Ids that are not int32 logical experts: int64 ones, and physical ones, which name the slot that
 * each pair goes to, under a placement that they name (rule P12). */
#ifndef EEPK_PHYSICAL_H
#define EEPK_PHYSICAL_H

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/kernel_args.h"
#include "graphs/kernels/routing.h"

/* int64 ids as int32: what no int32 can hold becomes the nearest that can, which is no id either.
 * Of a batch with a number of tokens that is possible. One block. */
EEPK_FN void eepk_narrow_ids(const eepk_dispatch_node_args *a, int32_t *ids_out, eep_grid g)
{
    const eepk_shape *s = &a->world->shape;
    const int32_t n = *a->num_tokens;

    if (n < 0 || (uint32_t)n > a->world->control->latch.status.max_tokens) {
        return;
    }
    for (uint32_t i = g.thread; i < (uint32_t)n * s->top_k; i += g.num_threads) {
        const int64_t id = a->topk_idx_int64[i];
        ids_out[i] = id > INT32_MAX ? INT32_MAX : id < INT32_MIN ? INT32_MIN : (int32_t)id;
    }
}

/* Rule P12: ids of another placement than the step's would go to slots that hold other experts,
 * and nothing else would tell. The caller's word is read once, here. One block. */
EEPK_FN void eepk_check_placement(const eepk_dispatch_node_args *a, const eepk_bank_header *bank,
                                  eepk_status *status, eep_grid g)
{
    if (g.thread == 0 && status->bad_input == EEPK_INPUT_OK) {
        const uint64_t word = *(const volatile uint64_t *)a->placement;
        if (word != bank->placement) {
            status->bad_placement = word;
            eepk_bad_input(status, EEPK_INPUT_PLACEMENT, 0, 0, 0);
        }
    }
    eepk_block_sync();
}

/* How many pairs each slot gets, where each warp's begin among them, and the loads. */
EEPK_FN void eepk_count_ids(const eepk_shape *s, const eepk_routing *r, const uint16_t *slot_expert,
                            uint32_t warps, eep_grid g)
{
    const uint32_t num_ids = s->max_ranks * s->num_slots;

    for (uint32_t id = g.thread; id < num_ids; id += g.num_threads) {
        uint32_t num = 0;
        for (uint32_t warp = 0; warp < warps; warp++) {
            uint32_t *count = &r->expert_count[(uint64_t)warp * num_ids + id];
            const uint32_t own = *count;
            *count = num;
            num += own;
        }
        r->send_count[id] = num;
        if (num != 0) { /* an expert's replicas are counted by several threads */
            eepk_count_add(&r->loads[slot_expert[id]], num);
        }
    }
    eepk_block_sync();
    for (uint32_t e = g.thread; r->loads_out && e < s->num_experts; e += g.num_threads) {
        r->loads_out[e] = r->loads[e];
    }
}

/* What eepk_route_batch does for logical ids: the pairs of a slot are numbered in order of token.
 * An id is the place of its slot's count, too. One block of at most EEPK_ROUTE_WARPS warps. */
EEPK_FN void eepk_route_physical(const eepk_shape *s, const eepk_routing *r,
                                 const uint16_t *slot_expert, const int32_t *ids, uint32_t pairs,
                                 eep_grid g)
{
    const uint32_t num_ids = s->max_ranks * s->num_slots;
    const uint32_t warps = g.num_threads < EEPK_WARP ? 1 : g.num_threads / EEPK_WARP;
    const uint32_t warp = g.thread / EEPK_WARP, lane = g.thread % EEPK_WARP;
    uint32_t *count = r->expert_count + (uint64_t)warp * num_ids;
    const uint32_t span = (pairs + warps * EEPK_WARP - 1) / (warps * EEPK_WARP) * EEPK_WARP;
    const uint32_t begin = warp * span < pairs ? warp * span : pairs;
    const uint32_t end = begin + span < pairs ? begin + span : pairs;

    for (uint32_t i = lane; i < num_ids; i += EEPK_WARP) {
        count[i] = 0;
    }
    eepk_block_sync();
    for (uint32_t base = begin; base < end; base += EEPK_WARP) {
        const uint32_t i = base + lane;
        (void)eepk_number_pair(i < end ? eepk_pair_expert(ids[i]) : EEPK_NO_EXPERT, count);
    }
    eepk_block_sync();
    eepk_count_ids(s, r, slot_expert, warps, g);
    for (uint32_t base = begin; base < end; base += EEPK_WARP) {
        const uint32_t i = base + lane;
        const uint32_t id = i < end ? eepk_pair_expert(ids[i]) : EEPK_NO_EXPERT;
        const uint32_t number = eepk_number_pair(id, count);
        if (id != EEPK_NO_EXPERT) {
            r->route[i] = (eepk_route){(uint16_t)(id / s->num_slots), (uint16_t)(id % s->num_slots),
                                       (uint16_t)number, 0};
        } else if (i < end) {
            r->route[i].slot = EEPK_NO_SLOT;
        }
    }
}

/* The route node's work for ids of these kinds. */
EEPK_FN void eepk_route_formed(const eepk_dispatch_node_args *a, const eepk_routing *r,
                               eepk_latch *latch, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    const uint8_t *bank = w->bank[latch->bank];
    const eepk_bank_header *header = (const eepk_bank_header *)bank;
    const uint16_t *slot_expert = eepk_slot_experts(s, bank, a->layer);
    const eepk_known_ids known = {r->first, slot_expert, header->active};
    eepk_status *status = &latch->status;
    const int32_t *ids = a->topk_idx;
    int is_good;

    if (a->topk_idx_int64) {
        eepk_narrow_ids(a, w->scratch[a->chain].ids, g);
        ids = w->scratch[a->chain].ids;
        eepk_block_sync();
    }
    if (!a->is_physical) {
        eepk_route_batch(s, r, ids, a->num_tokens, status, g);
        return;
    }
    eepk_check_placement(a, header, status, g);
    is_good = status->bad_input == EEPK_INPUT_OK;
    eepk_block_sync();
    if (is_good) {
        eepk_check_input(s, ids, *a->num_tokens, &known, r->first_bad, status, g);
    }
    eepk_block_sync();
    eepk_route_physical(s, r, slot_expert, ids, eepk_count_tokens(status, a->num_tokens) * s->top_k,
                        g);
}
#endif
