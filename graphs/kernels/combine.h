/* SPDX-License-Identifier: Apache-2.0 */
/* Combine. Its send half is send (any grid), whose last block publishes; its receive half is
 * exchange (one block, which waits: exchange.h) and reduce (any grid). */
#ifndef EEPK_COMBINE_H
#define EEPK_COMBINE_H

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/kernel_args.h"
#include "graphs/kernels/exchange.h"
#include "graphs/kernels/row_forms.h"
#include "graphs/kernels/rows.h"

/* Each expert output goes home: to the row (token, k) of the rank the token came from. Those of
 * this rank's own tokens are looked at like any others, and stay: reduce finds them. Counts and
 * lists are their source's word: only if as many rows were placed as were counted, and every place
 * was filled in this dispatch, did each row get a place of its own (S9). `to_proxies`: only to the
 * peers of that kind, else to the others. `has_gaps`, a constant: rows are numbered as if there
 * were none, and the slot that a row is in tells how far away it is (row_forms.h). 1: something is
 * torn. */
EEPK_FN int eepk_send_home_by(const eepk_combine_node_args *a, const eepk_sender *p, int to_proxies,
                              int has_gaps, eep_grid u)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    const eepk_latch *latch = p->latch;
    const int32_t *begin = has_gaps ? w->scratch[a->chain].dense_begin : a->slot_begin;
    const uint32_t n = (uint32_t)begin[s->num_slots];
    const uint16_t stamp = eepk_stamp(s, latch->step, latch->shape, p->at);
    eepk_copies copies = {0};
    int torn = latch->chain[a->chain].placed != n;
    uint32_t slot = 0;

    for (uint32_t number = u.block; number < n && !torn; number += u.num_blocks) {
        const eepk_origin origin = w->scratch[a->chain].origin[number];
        const uint32_t position =
            has_gaps ? eepk_place_of(&w->scratch[a->chain], number, &slot) : number;
        const uint8_t *row = (const uint8_t *)a->rows + (uint64_t)position * s->row_bytes;
        const uint64_t offset = eepk_combine_row_offset(s, a->chain, origin.token, origin.k);
        torn = origin.stamp != stamp;
        if (torn) {
            continue;
        }
        if (to_proxies) {
            eepk_put_home_by_ring(p, origin.seat, offset, row, s->row_bytes, u);
        } else {
            torn = !eepk_put_home(p, &copies, origin.seat, offset, row, s->row_bytes, u);
        }
    }
    eepk_copies_end(&copies);
    return torn;
}

/* Two loops, so that what a ring needs takes no registers from plain copies. */
EEPK_FN void eepk_send_home(const eepk_combine_node_args *a, eepk_latch *latch, int has_gaps,
                            eep_grid g)
{
    const eepk_sender p = eepk_sender_at(a->world, eepk_combine_at(a));
    const eep_grid u = eepk_warp_grid(g);
    int torn = eepk_send_home_by(a, &p, 0, has_gaps, u);

    if (eepk_num_proxies(p.bank)) {
        torn |= eepk_send_home_by(a, &p, 1, has_gaps, u);
    }
    if (torn && u.thread == 0) {
        eepk_count_add(&latch->status.stale_dropped, 1);
        eepk_abort(latch, EEPK_STEP_STALE,
                   (eepk_exchange_at){a->layer, a->chain, EEPK_PHASE_DISPATCH, a->chunk});
    }
}

EEPK_FN void eepk_combine_send_body(const eepk_combine_node_args *a, eep_grid g)
{
    eepk_latch *latch = &a->world->control->latch;

    if (eepk_may_send(a->world, eepk_combine_at(a))) {
        eepk_send_home(a, latch, 0, g);
    }
    eepk_publish(a->world, eepk_combine_at(a), g);
}

/* The same where rows have gaps between them. */
EEPK_FN void eepk_combine_send_formed_body(const eepk_combine_node_args *a, eep_grid g)
{
    eepk_latch *latch = &a->world->control->latch;

    if (eepk_may_send(a->world, eepk_combine_at(a))) {
        eepk_send_home(a, latch, 1, g);
    }
    eepk_publish(a->world, eepk_combine_at(a), g);
}

EEPK_FN void eepk_reduce_body(const eepk_combine_node_args *a, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    const eepk_scratch *own = &w->scratch[a->chain];
    const eepk_latch *latch = &w->control->latch;
    uint32_t n = eepk_count_tokens(&latch->status, a->num_tokens);
    const uint32_t *own_rows =
        a->has_gaps ? own->own_position : own->receive_base + (uint64_t)s->self * s->num_slots;
    eep_grid u = eepk_sum_grid(n, g);

    if (latch->aborted) {
        return;
    }
    for (uint32_t token = u.block; token < n; token += u.num_blocks) {
        const eepk_token_sum sum = {s,
                                    own->route + (uint64_t)token * s->top_k,
                                    a->topk_weights + (uint64_t)token * s->top_k,
                                    eepk_combine_row(s, w->window, a->chain, token, 0),
                                    (const uint8_t *)a->rows,
                                    own_rows,
                                    a->out,
                                    a->out_dtype,
                                    token};
        eepk_sum_token(&sum, u);
    }
}
#endif
