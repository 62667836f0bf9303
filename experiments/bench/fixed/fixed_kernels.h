/* SPDX-License-Identifier: Apache-2.0 */
/* The baseline: a step as a runtime with frozen membership would have it. The same nodes, grids and
 * copies as the elastic step (rows.h), tags by the last block of a send too, and nothing of what
 * elasticity needs: no latch, no view, no epoch, no abort word, no deadline of a step, no second
 * look at tags or lists. A peer that dies leaves its partners waiting until the limit that ends a
 * hang (must 12), and then with nonsense; so this is for measurements only and no part of libeep.
 *
 * The step's number is a counter that the route node of layer 0 raises; a tag names it with epoch
 * 0. A graph runs the layers in order, once each. */
#ifndef EEPK_FIXED_H
#define EEPK_FIXED_H

#include "graphs/kernels/compiler_macros.h"
#include "experiments/bench/fixed/fixed_args.h"
#include "graphs/kernels/exchange.h"
#include "graphs/kernels/rows.h"

EEPK_FN uint8_t *eepk_fixed_window(const eepk_fixed_tables *t, uint32_t seat)
{
    return (uint8_t *)(uintptr_t)t->windows[seat];
}

EEPK_FN void eepk_fixed_route_body(const eepk_fixed_dispatch_args *a, eep_grid g)
{
    const eepk_fixed_tables *t = &a->tables;

    if (g.block != 0) {
        return;
    }
    if (a->layer == 0 && g.thread == 0) { /* later nodes read it */
        t->state->step++;
        t->state->status.bad_input = EEPK_INPUT_OK;
        t->state->status.max_tokens = t->shape.num_max_tokens;
    }
    eepk_block_sync();
    eepk_route_batch(&t->shape, &t->routing, a->topk_idx, a->num_tokens, &t->state->status, g);
}

EEPK_FN uint64_t *eepk_fixed_tag(const eepk_fixed_tables *t, uint32_t seat, uint32_t phase,
                                 uint32_t source)
{
    return eepk_phase_tag(&t->shape, eepk_fixed_window(t, seat), phase, 0, source);
}

/* The end of a send: the last block publishes. Rows are stored by then; the fence and the release
 * store make them visible before the tag (partner: the acquire load in eepk_fixed_receive). */
EEPK_FN void eepk_fixed_publish(const eepk_fixed_tables *t, uint32_t layer, uint32_t phase,
                                eep_grid g)
{
    const eepk_shape *s = &t->shape;
    uint64_t tag = eepk_tag(0, t->state->step, layer, phase);

    if (!eepk_is_last_block(&t->state->blocks_out, g)) {
        return;
    }
    eepk_fence_system();
    for (uint32_t seat = g.thread; seat < s->max_ranks; seat += g.num_threads) {
        eepk_store_release(eepk_fixed_tag(t, seat, phase, s->self), tag);
        if (seat != s->self) {
            eepk_doorbell_ring(&((eepk_window_header *)eepk_fixed_window(t, seat))->doorbell);
        }
    }
}

EEPK_FN void eepk_fixed_dispatch_send_body(const eepk_fixed_dispatch_args *a, eep_grid g)
{
    const eepk_fixed_tables *t = &a->tables;
    const eepk_shape *s = &t->shape;
    uint32_t n = eepk_count_tokens(&t->state->status, a->num_tokens);
    const eepk_source_header says = {0, n, 0};
    eep_grid u = eepk_warp_grid(g);

    for (uint32_t token = u.block; token < n; token += u.num_blocks) {
        eepk_row_send row = {
            s,    t->windows, 1,     NULL, 0,     t->routing.route + (uint64_t)token * s->top_k,
            a->x, 0,          token, 0,    {0, 0}};
        for (uint32_t seat = u.thread; seat < s->max_ranks; seat += u.num_threads) {
            eepk_send_list(&row, seat);
        }
        eepk_send_row(&row, u);
    }
    for (uint32_t seat = u.block; seat < s->max_ranks; seat += u.num_blocks) {
        eepk_send_header(s, eepk_header(s, eepk_fixed_window(t, seat), 0, s->self),
                         t->routing.send_count + (uint64_t)seat * s->num_slots, &says, u);
    }
    eepk_fixed_publish(t, a->layer, EEPK_PHASE_DISPATCH, g);
}

/* A wait that has lasted too long, or any after it: what this lane's seats have not sent counts as
 * no tokens, so that the graph runs to its end. Looked at seldom, and no faster wait pays for it.
 */
enum { EEPK_FIXED_LOOK_EVERY = 64 };
EEPK_FN int eepk_fixed_gives_up(const eepk_fixed_tables *t, uint64_t *begin)
{
    uint64_t now = eepk_now_ns(), limit = t->state->limit_ns;

    if (*begin == 0) {
        *begin = now;
    }
    if (now - *begin >= (limit ? limit : EEPK_FIXED_LIMIT_NS)) {
        t->state->gave_up = t->state->gave_up ? t->state->gave_up : t->state->step;
    }
    return t->state->gave_up != 0;
}

/* Wait for everybody. 1, on all threads: it gave up. */
EEPK_FN int eepk_fixed_receive(const eepk_fixed_tables *t, uint32_t layer, uint32_t phase,
                               eep_grid g)
{
    const eepk_shape *s = &t->shape;
    uint64_t tag = eepk_tag(0, t->state->step, layer, phase);
    uint32_t *doorbell = &((eepk_window_header *)eepk_fixed_window(t, s->self))->doorbell;
    const uint32_t at_once = eepk_looks_at_once(s->max_ranks);
    uint64_t begin = 0;
    int gives_up = 0;

    for (uint32_t polls = 0;; polls++) {
        uint32_t seen = eepk_doorbell_read(doorbell), pending = 0;
        for (uint32_t seat = g.thread; seat < s->max_ranks; seat += g.num_threads) {
            pending += eepk_load_acquire(eepk_fixed_tag(t, s->self, phase, seat)) != tag;
        }
        if (pending == 0) {
            break;
        }
        gives_up = polls % EEPK_FIXED_LOOK_EVERY == EEPK_FIXED_LOOK_EVERY - 1 &&
                   eepk_fixed_gives_up(t, &begin);
        if (gives_up) {
            break;
        }
        if (polls >= at_once) {
            eepk_poll_pause(polls - at_once, doorbell, seen);
        }
    }
    return eepk_block_any(gives_up);
}

EEPK_FN void eepk_fixed_dispatch_exchange_body(const eepk_fixed_dispatch_args *a, eep_grid g)
{
    const eepk_fixed_tables *t = &a->tables;
    const eepk_shape *s = &t->shape;
    uint64_t seats; /* EEPK_FIXED_MAX_RANKS bits */
    int gave_up;

    if (g.block != 0) {
        return;
    }
    gave_up = eepk_fixed_receive(t, a->layer, EEPK_PHASE_DISPATCH, g);
    seats = gave_up ? 0 : UINT64_MAX;
    for (uint32_t seat = g.thread; seat < s->max_ranks; seat += g.num_threads) {
        t->receive_tokens[seat] =
            gave_up ? 0 : eepk_header(s, eepk_fixed_window(t, s->self), 0, seat)->num_tokens;
    }
    eepk_read_counts(s, eepk_fixed_window(t, s->self), 0, &seats, t->receive_count, g);
    eepk_block_sync();
    eepk_prefix_rows(s, t->receive_count, 1, t->receive_base, a->slot_begin, g);
}

/* Copy the rows of one (source, token) to their packed places, and remember where they are from. */
EEPK_FN void eepk_fixed_unpack_token(const eepk_fixed_dispatch_args *a, eepk_copies *copies,
                                     uint32_t seat, uint32_t token, eep_grid g)
{
    const eepk_fixed_tables *t = &a->tables;
    const eepk_shape *s = &t->shape;
    uint8_t *window = eepk_fixed_window(t, s->self);
    const eepk_list_entry *list = eepk_list(s, window, 0, seat, token);

    for (uint32_t k = 0; k < s->top_k; k++) {
        uint32_t slot = list[k].slot, position;
        if (slot == EEPK_NO_SLOT) {
            continue;
        }
        position = t->receive_base[(uint64_t)seat * s->num_slots + slot] + list[k].ordinal;
        eepk_unpack_row(s, copies, a->rows, a->row_scales,
                        eepk_came_row(s, window, a->x, 0, seat, token), position, g);
        if (g.thread == 0) {
            t->origin[position] = (eepk_origin){(uint16_t)seat, (uint16_t)token, (uint16_t)k, 0};
        }
    }
}

EEPK_FN void eepk_fixed_unpack_body(const eepk_fixed_dispatch_args *a, eep_grid g)
{
    const eepk_fixed_tables *t = &a->tables;
    eep_grid u = eepk_warp_grid(g);
    eepk_copies copies = {0};

    for (uint32_t seat = 0; seat < t->shape.max_ranks; seat++) {
        uint32_t n = t->receive_tokens[seat];
        for (uint32_t token = u.block; token < n; token += u.num_blocks) {
            eepk_fixed_unpack_token(a, &copies, seat, token, u);
        }
    }
    eepk_copies_end(&copies);
}

EEPK_FN void eepk_fixed_combine_send_body(const eepk_fixed_combine_args *a, eep_grid g)
{
    const eepk_fixed_tables *t = &a->tables;
    const eepk_shape *s = &t->shape;
    uint32_t n = (uint32_t)a->slot_begin[s->num_slots];
    eep_grid u = eepk_warp_grid(g);
    eepk_copies copies = {0};

    for (uint32_t position = u.block; position < n; position += u.num_blocks) {
        eepk_origin origin = t->origin[position];
        uint8_t *home =
            eepk_combine_row(s, eepk_fixed_window(t, origin.seat), 0, origin.token, origin.k);
        eepk_copies_add(&copies, origin.seat == s->self ? 0 : home,
                        (const uint8_t *)a->rows + (uint64_t)position * s->row_bytes, s->row_bytes,
                        u);
    }
    eepk_copies_end(&copies);
    eepk_fixed_publish(t, a->layer, EEPK_PHASE_COMBINE, g);
}

EEPK_FN void eepk_fixed_combine_exchange_body(const eepk_fixed_combine_args *a, eep_grid g)
{
    if (g.block != 0) {
        return;
    }
    (void)eepk_fixed_receive(&a->tables, a->layer, EEPK_PHASE_COMBINE, g);
}

EEPK_FN void eepk_fixed_reduce_body(const eepk_fixed_combine_args *a, eep_grid g)
{
    const eepk_fixed_tables *t = &a->tables;
    const eepk_shape *s = &t->shape;
    uint32_t n = eepk_count_tokens(&t->state->status, a->num_tokens);
    eep_grid u = eepk_sum_grid(n, g);

    for (uint32_t token = u.block; token < n; token += u.num_blocks) {
        const eepk_token_sum sum = {s,
                                    t->routing.route + (uint64_t)token * s->top_k,
                                    a->topk_weights + (uint64_t)token * s->top_k,
                                    eepk_combine_row(s, eepk_fixed_window(t, s->self), 0, token, 0),
                                    (const uint8_t *)a->rows,
                                    t->receive_base + (uint64_t)s->self * s->num_slots,
                                    a->out,
                                    a->out_dtype,
                                    token};
        eepk_sum_token(&sum, u);
    }
}
#endif
