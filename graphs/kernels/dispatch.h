/* Dispatch: route (one block), send (any grid), exchange (exchange.h), unpack (any grid).
 *
 * Route is a node of its own because ordinals are a prefix over all tokens, and a grid-wide
 * dependency is a node boundary. */
#ifndef EEPK_DISPATCH_H
#define EEPK_DISPATCH_H

#include "graphs/compiler_macros.h"
#include "graphs/kernel_args.h"
#include "graphs/kernels/exchange.h"
#include "graphs/kernels/fp8.h"

/* This rank's tokens of the step: none once its input was found bad, so that peers go on. */
EEPK_FN uint32_t eepk_step_tokens(const eepk_world *w, const int32_t *num_tokens)
{
    const eepk_status *status = &w->control->latch.status;

    uint32_t n = (uint32_t)*num_tokens;

    return status->bad_input ? 0u : n < w->shape.num_max_tokens ? n : w->shape.num_max_tokens;
}

EEPK_FN void eepk_bad_input(eepk_status *status, uint32_t kind, uint32_t token, uint32_t k,
                            int32_t value)
{
    if (status->bad_input != EEPK_INPUT_OK)
        return;
    status->bad_token = token;
    status->bad_k = k;
    status->bad_value = value;
    status->bad_input = kind;
}

/* Limits first: nothing of a bad batch is sent. Ids are checked by one thread in order, so that
 * the first offender is named. */
EEPK_FN void eepk_check_input(const eepk_dispatch_node_args *a, eepk_latch *latch,
                              const uint32_t *first)
{
    const eepk_shape *s = &a->world->shape;
    eepk_status *status = &latch->status;
    int32_t n = *a->num_tokens;

    if (n < 0 || (uint32_t)n > s->num_max_tokens) {
        eepk_bad_input(status, EEPK_INPUT_TOKENS, 0, 0, n);
        return;
    }
    for (uint32_t i = 0; i < (uint32_t)n * s->top_k; i++) {
        int32_t expert = a->topk_idx[i];
        uint32_t k = i % s->top_k;
        if (expert == -1)
            continue;
        if (expert < -1 || (uint32_t)expert >= s->num_experts)
            eepk_bad_input(status, EEPK_INPUT_TOPK, i / s->top_k, k, expert);
        else if (first[expert] == first[expert + 1])
            eepk_bad_input(status, EEPK_INPUT_UNCOVERED, i / s->top_k, k, expert);
        for (uint32_t j = i - k; j < i; j++) {
            if (a->topk_idx[j] == expert) /* twice the same: S9 */
                eepk_bad_input(status, EEPK_INPUT_TOPK, i / s->top_k, k, expert);
        }
    }
}

/* For each (token, k): replica, and its ordinal among this rank's rows for that slot, in token
 * order. A thread owns the experts congruent to it, hence their slots: no races, one result. An
 * expert's tokens take its replicas in turn, offset by the sender's seat. */
EEPK_FN void eepk_route_body(const eepk_dispatch_node_args *a, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    eepk_latch *latch = &w->control->latch;
    const uint8_t *bank = w->bank[latch->bank];
    const uint32_t *first = eepk_replica_first(s, bank, a->layer);
    const eepk_replica *replicas = eepk_replicas(s, bank, a->layer);
    uint32_t n;

    if (g.block != 0 || latch->aborted)
        return;
    if (g.thread == 0 && latch->status.bad_input == EEPK_INPUT_OK)
        eepk_check_input(a, latch, first);
    for (uint32_t i = g.thread; i < s->max_ranks * s->num_slots; i += g.num_threads)
        w->send_count[i] = 0;
    eepk_block_sync();
    n = eepk_step_tokens(w, a->num_tokens);
    for (uint32_t i = 0; i < n * s->top_k; i++) {
        int32_t expert = a->topk_idx[i];
        eepk_route *route = &w->route[i];
        uint32_t replica, *count;
        if (expert < 0) {
            if (g.thread == 0)
                route->slot = EEPK_NO_SLOT;
            continue;
        }
        if ((uint32_t)expert % g.num_threads != g.thread)
            continue;
        replica = (i / s->top_k + s->self) % (first[expert + 1] - first[expert]);
        route->seat = replicas[first[expert] + replica].seat;
        route->slot = replicas[first[expert] + replica].slot;
        count = &w->send_count[(uint32_t)route->seat * s->num_slots + route->slot];
        route->ordinal = (uint16_t)(*count)++;
    }
}

/* Is pair k the token's first that goes to its rank? Only with it the row goes there. */
EEPK_FN int eepk_sends_row(const eepk_route *route, uint32_t k)
{
    uint32_t earlier = 0;

    if (route[k].slot == EEPK_NO_SLOT)
        return 0;
    while (earlier < k &&
           (route[earlier].slot == EEPK_NO_SLOT || route[earlier].seat != route[k].seat))
        earlier++;
    return earlier == k;
}

EEPK_FN float eepk_x_value(const eepk_shape *s, const void *x, uint64_t i)
{
    return s->dtype == 0 ? ((const float *)x)[i] : eepk_bf16_to_float(((const uint16_t *)x)[i]);
}

/* 16 channels, or the last few of a row, to every rank that gets it. */
EEPK_FN void eepk_send_codes(const eepk_dispatch_node_args *a, const eepk_latch *latch,
                             uint32_t parity, uint32_t token, uint32_t first, uint32_t n,
                             float inverse)
{
    const eepk_shape *s = &a->world->shape;
    const uint8_t *bank = a->world->bank[latch->bank];
    const eepk_route *route = a->world->route + (uint64_t)token * s->top_k;
    uint8_t codes[16];

    for (uint32_t i = 0; i < n; i++)
        codes[i] = eepk_float_to_e4m3(
            EEPK_FMUL(eepk_x_value(s, a->x, (uint64_t)token * s->hidden + first + i), inverse));
    for (uint32_t k = 0; k < s->top_k; k++) {
        uint8_t *row;
        if (!eepk_sends_row(route, k))
            continue;
        row =
            eepk_dispatch_row(s, eepk_peer_window(s, bank, route[k].seat), parity, s->self, token);
        for (uint32_t i = 0; i < n; i++)
            row[first + i] = codes[i];
    }
}

/* A thread quantises a group of a token's channels with one scale and stores them to every rank
 * that gets the row: value = e4m3 x scale, and the largest is 448 x scale. */
EEPK_FN void eepk_send_group(const eepk_dispatch_node_args *a, const eepk_latch *latch,
                             uint32_t parity, uint32_t token, uint32_t group)
{
    const eepk_shape *s = &a->world->shape;
    const uint8_t *bank = a->world->bank[latch->bank];
    const eepk_route *route = a->world->route + (uint64_t)token * s->top_k;
    const uint32_t begin = group * EEPK_FP8_GROUP;
    const uint32_t end = begin + EEPK_FP8_GROUP < s->hidden ? begin + EEPK_FP8_GROUP : s->hidden;
    float largest = EEPK_FP8_LEAST, inverse;

    for (uint32_t h = begin; h < end; h++) {
        float value = eepk_x_value(s, a->x, (uint64_t)token * s->hidden + h);
        value = value < 0.0f ? -value : value;
        largest = value > largest ? value : largest;
    }
    inverse = EEPK_FDIV(EEPK_E4M3_MAX, largest);
    for (uint32_t h = begin; h < end; h += 16)
        eepk_send_codes(a, latch, parity, token, h, end - h < 16 ? end - h : 16, inverse);
    for (uint32_t k = 0; k < s->top_k; k++) {
        if (eepk_sends_row(route, k))
            eepk_row_scales(s, eepk_dispatch_row(s, eepk_peer_window(s, bank, route[k].seat),
                                                 parity, s->self, token))[group] =
                EEPK_FMUL(largest, 1.0f / EEPK_E4M3_MAX);
    }
}

/* A row goes once to each destination rank, by the block that owns the token. */
EEPK_FN void eepk_send_token(const eepk_dispatch_node_args *a, const eepk_latch *latch,
                             uint32_t parity, uint32_t token, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    const uint8_t *bank = w->bank[latch->bank];
    const eepk_route *route = w->route + (uint64_t)token * s->top_k;
    const uint8_t *row = (const uint8_t *)a->x + (uint64_t)token * s->row_bytes;

    for (uint32_t seat = g.thread; seat < s->max_ranks; seat += g.num_threads) {
        uint8_t *window = eepk_member_window(s, bank, seat);
        eepk_list_entry *list;
        if (!window)
            continue;
        list = eepk_list(s, window, parity, s->self, token);
        for (uint32_t k = 0; k < s->top_k; k++) {
            int here = route[k].slot != EEPK_NO_SLOT && route[k].seat == seat;
            list[k].slot = here ? route[k].slot : (uint16_t)EEPK_NO_SLOT;
            list[k].ordinal = here ? route[k].ordinal : (uint16_t)0;
        }
    }
    for (uint32_t group = g.thread; group < s->num_scales; group += g.num_threads)
        eepk_send_group(a, latch, parity, token, group);
    for (uint32_t k = 0; k < s->top_k && s->num_scales == 0; k++) {
        if (eepk_sends_row(route, k))
            eepk_copy_row(eepk_dispatch_row(s, eepk_peer_window(s, bank, route[k].seat), parity,
                                            s->self, token),
                          row, s->row_bytes, g);
    }
}

EEPK_FN void eepk_dispatch_send_body(const eepk_dispatch_node_args *a, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    eepk_latch *latch = &w->control->latch;
    const uint8_t *bank = w->bank[latch->bank];
    uint32_t parity = eepk_parity(s, latch->step, a->layer);
    uint32_t n = eepk_step_tokens(w, a->num_tokens);

    if (latch->aborted)
        return;
    for (uint32_t token = g.block; token < n; token += g.num_blocks)
        eepk_send_token(a, latch, parity, token, g);
    for (uint32_t seat = g.block; seat < s->max_ranks; seat += g.num_blocks) {
        uint8_t *window = eepk_member_window(s, bank, seat);
        eepk_source_header *header;
        if (!window)
            continue;
        header = eepk_header(s, window, parity, s->self);
        for (uint32_t slot = g.thread; slot < s->num_slots; slot += g.num_threads)
            ((uint32_t *)(header + 1))[slot] = w->send_count[(uint64_t)seat * s->num_slots + slot];
        if (g.thread == 0) {
            header->flip_digest = latch->announce_digest;
            header->num_tokens = n;
        }
    }
}

EEPK_FN void eepk_unpack_quantised(const eepk_dispatch_node_args *a, uint8_t *row,
                                   uint32_t position, eep_grid g)
{
    const eepk_shape *s = &a->world->shape;
    const float *scales = eepk_row_scales(s, row);

    eepk_copy_row((uint8_t *)a->rows + (uint64_t)position * s->hidden, row, s->hidden, g);
    for (uint32_t i = g.thread; i < s->num_scales; i += g.num_threads)
        a->row_scales[(uint64_t)position * s->num_scales + i] = scales[i];
}

/* Copy the rows of one (source, token) to their packed places and remember where they came from.
 * The list entry is read once (volatile: not again after the check) and checked against the copied
 * counts. Returns the number of rows. */
EEPK_FN uint32_t eepk_unpack_token(const eepk_dispatch_node_args *a, eepk_latch *latch,
                                   uint32_t seat, uint32_t token, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    uint32_t parity = eepk_parity(s, latch->step, a->layer);
    const volatile eepk_list_entry *list = eepk_list(s, w->window, parity, seat, token);
    uint8_t *row = eepk_dispatch_row(s, w->window, parity, seat, token);
    uint16_t stamp = eepk_stamp(s, latch->step, a->layer);
    uint32_t placed = 0;

    for (uint32_t k = 0; k < s->top_k; k++) {
        uint32_t slot = list[k].slot, ordinal = list[k].ordinal, position;
        uint64_t cell = (uint64_t)seat * s->num_slots + slot;
        if (slot == EEPK_NO_SLOT)
            continue;
        if (slot >= s->num_slots || ordinal >= w->receive_count[cell]) {
            eepk_count_add(&latch->status.stale_dropped, 1);
            eepk_abort(latch, EEPK_STEP_STALE, a->layer, EEPK_PHASE_DISPATCH);
            return placed;
        }
        position = w->receive_base[cell] + ordinal;
        if (s->num_scales == 0)
            eepk_copy_row((uint8_t *)a->rows + (uint64_t)position * s->row_bytes, row, s->row_bytes,
                          g);
        else
            eepk_unpack_quantised(a, row, position, g);
        if (g.thread == 0)
            w->origin[position] =
                (eepk_origin){(uint16_t)seat, (uint16_t)token, (uint16_t)k, stamp};
        placed++;
    }
    return placed;
}

EEPK_FN void eepk_unpack_body(const eepk_dispatch_node_args *a, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    eepk_latch *latch = &w->control->latch;
    const uint8_t *bank = w->bank[latch->bank];
    uint32_t placed = 0;

    if (latch->aborted)
        return;
    for (uint32_t seat = 0; seat < s->max_ranks; seat++) {
        uint32_t n = eepk_is_active(bank, seat) ? w->receive_tokens[seat] : 0;
        for (uint32_t token = g.block; token < n; token += g.num_blocks)
            placed += eepk_unpack_token(a, latch, seat, token, g);
    }
    if (g.thread == 0 && placed)
        eepk_count_add(&latch->placed, placed);
    eepk_block_sync(); /* all of this block's reads come before its second look at the tags */
    eepk_recheck_sources(w, latch, a->layer, EEPK_PHASE_DISPATCH, g);
}
#endif
