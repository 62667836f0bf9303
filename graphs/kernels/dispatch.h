/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch. Its send half is route (one block) and send (any grid), whose last block publishes; its
 * receive half is exchange (one block, which waits: exchange.h) and unpack (any grid).
 *
 * Route is a node of its own because ordinals are a prefix over all tokens, and a grid-wide
 * dependency is a node boundary. */
#ifndef EEPK_DISPATCH_H
#define EEPK_DISPATCH_H

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/kernel_args.h"
#include "graphs/kernels/exchange.h"
#include "graphs/kernels/row_forms.h"
#include "graphs/kernels/physical.h"
#include "graphs/kernels/rows.h"

/* Room in the rings for all that this rank's tokens make it send, or the step aborts (rule N5). One
 * block, before the first row. */
EEPK_FN void eepk_reserve_dispatch(const eepk_dispatch_node_args *a, eepk_latch *latch, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    const eepk_sender p = {w, latch, w->bank[latch->bank], eepk_dispatch_at(a)};
    const uint32_t at_once = eepk_lists_at_once(s);
    const uint64_t n = eepk_count_tokens(&latch->status, a->num_tokens);

    for (uint32_t seat = g.thread; seat < s->max_ranks; seat += g.num_threads) {
        if (eepk_is_reached(&p, seat) && eepk_is_proxy(&p, seat) &&
            !eepk_reserve(&p, seat, n + (n + at_once - 1) / at_once + 1)) {
            eepk_abort(latch, EEPK_STEP_NO_ROOM, p.at);
        }
    }
}

/* Both route nodes. `is_formed`, a constant: ids may be int64, or physical. */
EEPK_FN void eepk_route_tokens(const eepk_dispatch_node_args *a, int is_formed, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    eepk_latch *latch = &w->control->latch;
    const uint8_t *bank = w->bank[latch->bank];
    const uint64_t loads_at = (uint64_t)a->layer * s->num_experts;
    const eepk_scratch *own = &w->scratch[a->chain];
    const eepk_routing routing = {eepk_replica_first(s, bank, a->layer),
                                  eepk_replicas(s, bank, a->layer),
                                  own->route,
                                  own->send_count,
                                  own->share_begin,
                                  own->expert_count,
                                  own->first_bad,
                                  w->loads + loads_at,
                                  latch->wants_loads ? w->loads_out + loads_at : NULL};
    int was_good;

    if (g.block != 0 || !eepk_may_send(w, eepk_dispatch_at(a))) {
        return;
    }
    was_good = latch->status.bad_input == EEPK_INPUT_OK; /* thread 0 alone says otherwise */
    if (!is_formed) {
        eepk_route_batch(s, &routing, a->topk_idx, a->num_tokens, &latch->status, g);
    } else {
        eepk_route_formed(a, &routing, latch, g);
    }
    if (g.thread == 0 && was_good) {
        latch->status.bad_layer = a->layer;
        latch->status.bad_chain = a->chain;
        latch->status.bad_chunk = a->chunk;
    }
    if (eepk_num_proxies(bank)) {
        eepk_block_sync(); /* thread 0 may have said that the batch is bad */
        eepk_reserve_dispatch(a, latch, g);
    }
}

EEPK_FN void eepk_route_body(const eepk_dispatch_node_args *a, eep_grid g)
{
    eepk_route_tokens(a, 0, g);
}

EEPK_FN void eepk_route_formed_body(const eepk_dispatch_node_args *a, eep_grid g)
{
    eepk_route_tokens(a, 1, g);
}

/* A row goes once to each other rank, by the warp that owns the token. */
EEPK_FN void eepk_send_token(const eepk_dispatch_node_args *a, const eepk_sender *p, uint32_t token,
                             eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    eepk_row_send row = {s,
                         eepk_windows(s, p->bank),
                         EEPK_PEER_WORDS,
                         p,
                         eepk_num_proxies(p->bank),
                         w->scratch[a->chain].route + (uint64_t)token * s->top_k,
                         a->x,
                         a->chain,
                         token,
                         0,
                         {0, 0}};

    for (uint32_t seat = g.thread; seat < s->max_ranks; seat += g.num_threads) {
        if (eepk_is_reached(p, seat) && !eepk_is_proxy(p, seat)) {
            eepk_send_list(&row, seat);
        }
    }
    eepk_send_row(&row, g);
}

/* The rows, lists and headers of this rank's tokens, to every member. */
EEPK_FN void eepk_send_tokens(const eepk_dispatch_node_args *a, const eepk_latch *latch, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    const eepk_scratch *own = &w->scratch[a->chain];
    const eepk_sender p = {w, latch, w->bank[latch->bank], eepk_dispatch_at(a)};
    const uint32_t bytes =
        (uint32_t)sizeof(eepk_source_header) + s->num_slots * (uint32_t)sizeof(uint32_t);
    uint32_t n = eepk_count_tokens(&latch->status, a->num_tokens);
    const eepk_source_header says = {latch->announce_digest, n, latch->wanted_shape};
    eep_grid u = eepk_warp_grid(g);

    for (uint32_t token = u.block; token < n; token += u.num_blocks) {
        eepk_send_token(a, &p, token, u);
    }
    for (uint32_t seat = u.block; seat < s->max_ranks; seat += u.num_blocks) {
        eepk_slot slot;
        uint8_t *header;
        if (!eepk_is_reached(&p, seat)) {
            continue;
        }
        if (eepk_is_proxy(&p, seat)) {
            eepk_put_lists(&p, seat, own->route, n, u);
        }
        header =
            eepk_put_begin(&p, seat, eepk_header_offset(s, a->chain, s->self), bytes, &slot, u);
        eepk_send_header(s, (eepk_source_header *)header,
                         own->send_count + (uint64_t)seat * s->num_slots, &says, u);
        eepk_put_end(&p, &slot, u);
    }
}

EEPK_FN void eepk_dispatch_send_body(const eepk_dispatch_node_args *a, eep_grid g)
{
    if (eepk_may_send(a->world, eepk_dispatch_at(a))) {
        eepk_send_tokens(a, &a->world->control->latch, g);
    }
    eepk_publish(a->world, eepk_dispatch_at(a), g);
}

/* Copy the rows of one (source, token) to their places and remember where they came from. The list
 * entry is read once (volatile: not again after the check) and checked against the copied counts.
 * `is_formed`, a constant: places and scales are as the node's form says. Returns the number of
 * rows. */
EEPK_FN uint32_t eepk_unpack_token(const eepk_dispatch_node_args *a, eepk_latch *latch,
                                   int is_formed, eepk_copies *copies, uint32_t seat,
                                   uint32_t token, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    const eepk_scratch *own = &w->scratch[a->chain];
    const volatile eepk_list_entry *list = eepk_list(s, w->window, a->chain, seat, token);
    const uint8_t *row = eepk_came_row(s, w->window, a->x, a->chain, seat, token);
    uint16_t stamp = eepk_stamp(s, latch->step, latch->shape, eepk_dispatch_at(a));
    uint32_t placed = 0;

    for (uint32_t k = 0; k < s->top_k; k++) {
        uint32_t slot = list[k].slot, ordinal = list[k].ordinal, position;
        uint64_t cell = (uint64_t)seat * s->num_slots + slot;
        if (slot == EEPK_NO_SLOT) {
            continue;
        }
        if (slot >= s->num_slots || ordinal >= own->receive_count[cell]) {
            eepk_count_add(&latch->status.stale_dropped, 1);
            eepk_abort(latch, EEPK_STEP_STALE, eepk_dispatch_at(a));
            return placed;
        }
        position = own->receive_base[cell] + ordinal;
        if (!is_formed) {
            eepk_unpack_row(s, copies, a->rows, a->row_scales, row, position, g);
        } else {
            eepk_unpack_formed_row(a, copies, row, slot, position, token, g);
        }
        if (g.thread == 0) {
            own->origin[position] =
                (eepk_origin){(uint16_t)seat, (uint16_t)token, (uint16_t)k, stamp};
        }
        placed++;
    }
    return placed;
}

EEPK_FN void eepk_unpack_all(const eepk_dispatch_node_args *a, int is_formed, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    eepk_latch *latch = &w->control->latch;
    const uint8_t *bank = w->bank[latch->bank];
    eep_grid u = eepk_warp_grid(g);
    eepk_copies copies = {0};
    uint32_t placed = 0;

    if (latch->aborted) {
        return;
    }
    for (uint32_t seat = 0; seat < s->max_ranks; seat++) {
        uint32_t n = eepk_is_active(bank, seat) ? w->scratch[a->chain].receive_tokens[seat] : 0;
        for (uint32_t token = u.block; token < n; token += u.num_blocks) {
            placed += eepk_unpack_token(a, latch, is_formed, &copies, seat, token, u);
        }
    }
    eepk_copies_end(&copies);
    if (u.thread == 0 && placed) {
        eepk_count_add(&latch->chain[a->chain].placed, placed);
    }
}

EEPK_FN void eepk_unpack_body(const eepk_dispatch_node_args *a, eep_grid g)
{
    eepk_unpack_all(a, 0, g);
}

EEPK_FN void eepk_unpack_formed_body(const eepk_dispatch_node_args *a, eep_grid g)
{
    eepk_unpack_all(a, 1, g);
}
#endif
