/* SPDX-License-Identifier: Apache-2.0 */
/* What a step does with rows: the copies. Where the pairs of a batch go is in routing.h. Which
 * seats take part, and when the rows are there, is the callers' matter. The elastic step
 * (dispatch.h, combine.h) and the baseline without elasticity (fixed.h) share this, so that a
 * comparison of the two shows what elasticity costs and nothing else. */
#ifndef EEPK_ROWS_H
#define EEPK_ROWS_H

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/fp8.h"
#include "graphs/kernels/peer_puts.h"
#include "graphs/kernels/routing.h"
#include "graphs/kernels/table_layout.h"

/* Is pair k the token's first that goes to its rank? Only with it the row goes there. */
EEPK_FN int eepk_sends_row(const eepk_route *route, uint32_t k)
{
    uint32_t earlier = 0;

    if (route[k].slot == EEPK_NO_SLOT) {
        return 0;
    }
    while (earlier < k &&
           (route[earlier].slot == EEPK_NO_SLOT || route[earlier].seat != route[k].seat)) {
        earlier++;
    }
    return earlier == k;
}

/* A rank's own rows do not go through its window: unpack reads them in x, and reduce where the
 * experts left them. With FP8 a row has to be quantised, which is done once, on its way. */
EEPK_FN int eepk_goes_by_window(const eepk_shape *s, uint32_t seat)
{
    return seat != s->self || s->num_scales != 0;
}

/* ------------------------------------------------------------------ dispatch: send */

typedef struct eepk_row_send { /* one token's row on its way */
    const eepk_shape *s;
    const uint64_t *windows;   /* of all seats, as this rank reaches them, */
    uint32_t window_words;     /* and how far apart they lie */
    const eepk_sender *sender; /* with num_proxies */
    uint32_t num_proxies;      /* 0: all of them are LOCAL */
    const eepk_route *route;   /* [top_k] of the token */
    const void *x;             /* [num_tokens, hidden] */
    uint32_t chain, token;
    uint64_t lane_target; /* of a warp's lane k: where the row goes with pair k; with num_proxies */
    eepk_slot lane_slot;
} eepk_row_send;

/* Does the row go to a window with pair k? */
EEPK_FN int eepk_sends_by_window(const eepk_row_send *r, uint32_t k)
{
    return eepk_sends_row(r->route, k) && eepk_goes_by_window(r->s, r->route[k].seat);
}

/* Where the row goes with pair k; 0: nowhere. */
EEPK_FN uint8_t *eepk_row_target(const eepk_row_send *r, uint32_t k)
{
    return eepk_sends_by_window(r, k)
               ? eepk_dispatch_row(r->s,
                                   eepk_window_in(r->windows, r->window_words, r->route[k].seat),
                                   r->chain, r->s->self, r->token)
               : 0;
}

/* The same where some peers are PROXY: with a slot, eepk_row_end follows the stores. One thread.
 */
EEPK_FN uint8_t *eepk_row_place(const eepk_row_send *r, uint32_t k, eepk_slot *slot_out)
{
    const eepk_shape *s = r->s;

    *slot_out = (eepk_slot){0, 0};
    return eepk_sends_by_window(r, k)
               ? eepk_put_place(r->sender, r->route[k].seat,
                                eepk_dispatch_row_offset(s, r->chain, s->self, r->token),
                                s->dispatch_row_bytes, slot_out)
               : 0;
}

EEPK_FN float eepk_x_value(const eepk_shape *s, const void *x, uint64_t i)
{
    return s->dtype == 0 ? ((const float *)x)[i] : eepk_bf16_to_float(((const uint16_t *)x)[i]);
}

#ifdef EEPK_WHOLE_ROWS
EEPK_SHARED_FN void eepk_send_row(eepk_row_send *r, eep_grid g)
{
    const eepk_shape *s = r->s;
    const uint8_t *row = (const uint8_t *)r->x + (uint64_t)r->token * s->row_bytes;
    void *to[EEP_MAX_TOPK];
    const void *from[EEP_MAX_TOPK];
    eepk_slot slots[EEP_MAX_TOPK];
    uint32_t num_to = 0;

    (void)g;
    for (uint32_t k = 0; k < s->top_k; k++) {
        uint8_t *target =
            r->num_proxies ? eepk_row_place(r, k, &slots[num_to]) : eepk_row_target(r, k);
        if (target) {
            from[num_to] = row;
            to[num_to++] = target;
        }
    }
    if (s->num_scales == 0) {
        eepk_rows_copy(to, from, num_to, s->row_bytes);
    } else {
        const eepk_rows_quantise_args quantise = {
            to, eepk_scales_at(s), row, num_to, s->hidden, s->dtype, s->scale_powers};
        eepk_rows_quantise(&quantise);
    }
    for (uint32_t i = 0; i < num_to && r->num_proxies; i++) {
        eepk_row_end(r->sender, &slots[i]);
    }
}
#else
/* Where the warp's row goes with pair k; 0: nowhere. All lanes come here together. */
EEPK_FN uint8_t *eepk_warp_target(const eepk_row_send *r, uint32_t k)
{
    return r->num_proxies ? (uint8_t *)(uintptr_t)eepk_warp_read64(r->lane_target, k)
                          : eepk_row_target(r, k);
}

enum { EEPK_LANE_CHANNELS = EEPK_FP8_GROUP / EEPK_GROUP_LANES };

/* Channels first .. first+n of the token. */
EEPK_FN void eepk_load_channels(const eepk_row_send *r, uint32_t first, uint32_t n, float *out)
{
    uint64_t at = (uint64_t)r->token * r->s->hidden + first;

    if (EEPK_LANE_CHANNELS == 8 && r->s->dtype != 0 && n == 8 && (r->s->row_bytes & 15u) == 0) {
        EEPK_ALIGNED(16) uint16_t half[8];
        eepk_copy16(half, (const uint16_t *)r->x + at);
        for (uint32_t i = 0; i < 8; i++) {
            out[i] = eepk_bf16_to_float(half[i]);
        }
        return;
    }
    for (uint32_t i = 0; i < EEPK_LANE_CHANNELS; i++) {
        out[i] = i < n ? eepk_x_value(r->s, r->x, at + i) : 0.0f;
    }
}

EEPK_FN void eepk_store_codes(uint8_t *to, const uint8_t *codes, uint32_t n)
{
    if (EEPK_LANE_CHANNELS == 8 && n == 8) {
        eepk_copy8(to, codes);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        to[i] = codes[i];
    }
}

/* The lanes of a group quantise its channels with one scale and store them to every rank that gets
 * the row: value = e4m3 x scale (eepk_scale_group). All lanes of the warp come here,
 * with a group that there is or not. */
EEPK_FN void eepk_send_group(const eepk_row_send *r, uint32_t group, uint32_t lane)
{
    const eepk_shape *s = r->s;
    const uint32_t first = group * EEPK_FP8_GROUP + lane * EEPK_LANE_CHANNELS;
    const uint32_t left = first < s->hidden ? s->hidden - first : 0;
    const uint32_t n = left < EEPK_LANE_CHANNELS ? left : (uint32_t)EEPK_LANE_CHANNELS;
    float values[EEPK_LANE_CHANNELS], largest = EEPK_FP8_LEAST;
    eepk_group_scale scale;
    EEPK_ALIGNED(16) uint8_t codes[EEPK_LANE_CHANNELS];

    eepk_load_channels(r, first, n, values);
    for (uint32_t i = 0; i < EEPK_LANE_CHANNELS; i++) {
        float value = values[i] < 0.0f ? -values[i] : values[i];
        largest = value > largest ? value : largest;
    }
    largest = eepk_group_largest(largest);
    scale = eepk_scale_group(largest, s->scale_powers);
    for (uint32_t i = 0; i < EEPK_LANE_CHANNELS; i++) {
        codes[i] = eepk_float_to_e4m3(EEPK_FMUL(values[i], scale.inverse));
    }
    for (uint32_t k = 0; k < s->top_k; k++) {
        uint8_t *row = eepk_warp_target(r, k);
        if (!row || group >= s->num_scales) {
            continue;
        }
        eepk_store_codes(row + first, codes, n);
        if (lane == 0) {
            eepk_row_scales(s, row)[group] = scale.scale;
        }
    }
}

/* Read once, stored to each rank that gets it. */
EEPK_FN void eepk_send_as_it_is(const eepk_row_send *r, eep_grid g)
{
    const eepk_shape *s = r->s;
    const uint8_t *row = (const uint8_t *)r->x + (uint64_t)r->token * s->row_bytes;
    const int is_aligned = EEPK_WARP == 1 || (s->row_bytes & 15u) == 0;

    for (uint32_t at = 0; is_aligned && at < s->row_bytes; at += eepk_chunk_bytes(g)) {
        uint32_t left = eepk_chunk_left(s->row_bytes, at, g);
        eepk_chunk chunk;
        eepk_chunk_load(&chunk, row + at, left, g);
        for (uint32_t k = 0; k < s->top_k; k++) {
            uint8_t *to = eepk_warp_target(r, k);
            if (to) {
                eepk_chunk_store(&chunk, to + at, left, g);
            }
        }
    }
    for (uint32_t k = 0; k < s->top_k && !is_aligned; k++) {
        uint8_t *to = eepk_warp_target(r, k);
        if (to) {
            eepk_copy_row(to, row, s->row_bytes, g);
        }
    }
}

/* A row goes once to each destination rank, by the warp that owns the token. */
EEPK_SHARED_FN void eepk_send_row(eepk_row_send *r, eep_grid g)
{
    const uint32_t at_once =
        g.num_threads < EEPK_GROUP_LANES ? 1 : g.num_threads / EEPK_GROUP_LANES;

    if (r->num_proxies && g.thread < r->s->top_k) { /* at most EEPK_WARP pairs: a lane each */
        r->lane_target = (uint64_t)(uintptr_t)eepk_row_place(r, g.thread, &r->lane_slot);
    }
    if (r->s->num_scales == 0) {
        eepk_send_as_it_is(r, g);
    }
    for (uint32_t group = 0; group < r->s->num_scales; group += at_once) {
        eepk_send_group(r, group + g.thread / EEPK_GROUP_LANES, g.thread % EEPK_GROUP_LANES);
    }
    if (r->num_proxies) {
        eepk_warp_sync(); /* the stores of all lanes come before the release of each */
        eepk_row_end(r->sender, &r->lane_slot);
    }
}
#endif

EEPK_FN eepk_list_entry eepk_entry_for(const eepk_route *route, uint32_t seat)
{
    const int is_here = route->slot != EEPK_NO_SLOT && route->seat == seat;

    return is_here ? (eepk_list_entry){route->slot, route->ordinal}
                   : (eepk_list_entry){EEPK_NO_SLOT, 0};
}

/* Tell `seat`, which is LOCAL, which of the token's pairs go to which of its slots. One thread. */
EEPK_SHARED_FN void eepk_send_list(const eepk_row_send *r, uint32_t seat)
{
    const eepk_shape *s = r->s;
    eepk_list_entry *list = eepk_list(s, eepk_window_in(r->windows, r->window_words, seat),
                                      r->chain, s->self, r->token);

    for (uint32_t k = 0; k < s->top_k; k++) {
        list[k] = eepk_entry_for(&r->route[k], seat);
    }
}

/* Tokens whose list entries fit into one slot of a ring. */
static_assert(EEP_MAX_TOPK * sizeof(eepk_list_entry) <= EEPK_LINE_BYTES,
              "a slot, which has a line for its piece at least, has room for those of one token");
EEPK_FN uint32_t eepk_lists_at_once(const eepk_shape *s)
{
    return (eepk_slot_bytes(s) - (uint32_t)sizeof(eepk_put)) /
           (s->top_k * (uint32_t)sizeof(eepk_list_entry));
}

/* The same for a PROXY peer and all tokens, in as few pieces as possible. One warp. `route` is
 * [num_tokens, top_k]. */
EEPK_FN void eepk_put_lists(const eepk_sender *p, uint32_t seat, const eepk_route *route,
                            uint32_t num_tokens, eep_grid g)
{
    const eepk_shape *s = &p->world->shape;
    const uint32_t at_once = eepk_lists_at_once(s);

    for (uint32_t first = 0; first < num_tokens; first += at_once) {
        const uint32_t left = num_tokens - first;
        const uint32_t pairs = (left < at_once ? left : at_once) * s->top_k;
        eepk_slot slot;
        eepk_list_entry *list = (eepk_list_entry *)eepk_put_begin(
            p, seat, eepk_list_offset(s, p->at.chain, s->self, first),
            pairs * (uint32_t)sizeof(eepk_list_entry), &slot, g);
        for (uint32_t i = g.thread; i < pairs; i += g.num_threads) {
            list[i] = eepk_entry_for(&route[(uint64_t)first * s->top_k + i], seat);
        }
        eepk_put_end(p, &slot, g);
    }
}

/* `counts` are this rank's for the window's owner: [num_slots]. One block. */
EEPK_SHARED_FN void eepk_send_header(const eepk_shape *s, eepk_source_header *header,
                                     const uint32_t *counts, const eepk_source_header *says,
                                     eep_grid g)
{
    for (uint32_t slot = g.thread; slot < s->num_slots; slot += g.num_threads) {
        ((uint32_t *)(header + 1))[slot] = counts[slot];
    }
    if (g.thread == 0) {
        *header = *says;
    }
}

/* ------------------------------------------------------------------ dispatch: lay out, unpack */

/* What each source says of its rows for each slot, read once: `seats` bit by bit, the others have
 * none. [max_ranks][num_slots] from the window's headers. One block. */
EEPK_SHARED_FN void eepk_read_counts(const eepk_shape *s, uint8_t *window, uint32_t chain,
                                     const uint64_t *seats, uint32_t *counts_out, eep_grid g)
{
    if (EEPK_WARP == 1) { /* row by row: a division per cell costs more than the copy */
        for (uint32_t seat = 0; seat < s->max_ranks; seat++) {
            const uint32_t *counts = (const uint32_t *)(eepk_header(s, window, chain, seat) + 1);
            uint32_t *to = counts_out + (uint64_t)seat * s->num_slots;
            const uint32_t all = 0u - (uint32_t)(seats[seat / 64] >> (seat % 64) & 1u);
            for (uint32_t slot = 0; slot < s->num_slots; slot++) {
                to[slot] = counts[slot] & all;
            }
        }
        return;
    }
    for (uint32_t i = g.thread; i < s->max_ranks * s->num_slots; i += g.num_threads) {
        const uint32_t seat = i / s->num_slots, slot = i % s->num_slots;
        const uint32_t *counts = (const uint32_t *)(eepk_header(s, window, chain, seat) + 1);
        counts_out[i] = seats[seat / 64] >> (seat % 64) & 1u ? counts[slot] : 0;
    }
}

/* Packed rows: by slot, in a slot by seat. `count` and `base` are [max_ranks][num_slots]. Without
 * `valid` counts no slot has rows. One block. */
EEPK_SHARED_FN void eepk_prefix_rows(const eepk_shape *s, const uint32_t *count, int valid,
                                     uint32_t *base, int32_t *slot_begin, eep_grid g)
{
    for (uint32_t slot = g.thread; slot < s->num_slots; slot += g.num_threads) {
        uint32_t rows = 0;
        for (uint32_t seat = 0; seat < s->max_ranks && valid; seat++) {
            rows += count[(uint64_t)seat * s->num_slots + slot];
        }
        slot_begin[slot + 1] = (int32_t)rows;
    }
    eepk_block_sync();
    if (g.thread == 0) {
        slot_begin[0] = 0;
        for (uint32_t slot = 0; slot < s->num_slots; slot++) {
            slot_begin[slot + 1] += slot_begin[slot];
        }
    }
    eepk_block_sync();
    for (uint32_t slot = g.thread; slot < s->num_slots; slot += g.num_threads) {
        uint32_t next = (uint32_t)slot_begin[slot];
        for (uint32_t seat = 0; seat < s->max_ranks && valid; seat++) {
            base[(uint64_t)seat * s->num_slots + slot] = next;
            next += count[(uint64_t)seat * s->num_slots + slot];
        }
    }
}

/* Where a token's row lies that has come from `seat`: in the window, or in x. */
EEPK_FN const uint8_t *eepk_came_row(const eepk_shape *s, uint8_t *window, const void *x,
                                     uint32_t chain, uint32_t seat, uint32_t token)
{
    return eepk_goes_by_window(s, seat) ? eepk_dispatch_row(s, window, chain, seat, token)
                                        : (const uint8_t *)x + (uint64_t)token * s->row_bytes;
}

/* One row that has come to its packed place. `row_scales` is for FP8 only. */
EEPK_SHARED_FN void eepk_unpack_row(const eepk_shape *s, eepk_copies *copies, void *rows,
                                    float *row_scales, const uint8_t *row, uint32_t position,
                                    eep_grid g)
{
    const uint32_t bytes = s->num_scales == 0 ? s->row_bytes : s->hidden;
    const float *scales = (const float *)(row + eepk_scales_at(s));

    eepk_copies_add(copies, (uint8_t *)rows + (uint64_t)position * bytes, row, bytes, g);
    for (uint32_t i = g.thread; i < s->num_scales; i += g.num_threads) {
        row_scales[(uint64_t)position * s->num_scales + i] = scales[i];
    }
}

/* ------------------------------------------------------------------ combine: reduce */

enum { EEPK_REDUCE_WIDTH = 8 };

typedef struct eepk_token_sum { /* one token's output */
    const eepk_shape *s;
    const eepk_route *route;  /* [top_k]: which terms there are */
    const float *weights;     /* [top_k] */
    const uint8_t *came;      /* [top_k] rows of expert outputs that came from other ranks */
    const uint8_t *own;       /* this rank's expert outputs, packed as dispatched */
    const uint32_t *own_base; /* [num_slots]: the first packed row of this rank's own for each */
    void *out;                /* [num_tokens, hidden] of out_dtype */
    uint32_t out_dtype, token;
} eepk_token_sum;

/* The output of the token's k-th expert. */
EEPK_FN const uint8_t *eepk_sum_row(const eepk_token_sum *t, uint32_t k)
{
    const eepk_route *route = &t->route[k];

    return route->seat == t->s->self
               ? t->own + (uint64_t)(t->own_base[route->slot] + route->ordinal) * t->s->row_bytes
               : t->came + (uint64_t)k * t->s->row_bytes;
}

#ifdef EEPK_WHOLE_ROWS
EEPK_SHARED_FN void eepk_sum_token(const eepk_token_sum *t, eep_grid g)
{
    const eepk_shape *s = t->s;
    const uint64_t element = t->out_dtype == 0 ? 4 : 2;
    const void *rows[EEP_MAX_TOPK];
    float weights[EEP_MAX_TOPK];
    eepk_rows_sum_args sum = {.rows = rows,
                              .weights = weights,
                              .out = (uint8_t *)t->out + t->token * s->hidden * element,
                              .hidden = s->hidden,
                              .dtype = s->dtype,
                              .out_dtype = t->out_dtype};

    (void)g;
    for (uint32_t k = 0; k < s->top_k; k++) {
        if (t->route[k].slot != EEPK_NO_SLOT) {
            rows[sum.num_rows] = eepk_sum_row(t, k);
            weights[sum.num_rows++] = t->weights[k];
        }
    }
    eepk_rows_sum(&sum);
}
#else

/* Each product and each sum is rounded once. */
EEPK_FN void eepk_add_columns(float *sum, float weight, const eepk_columns *columns, uint32_t dtype)
{
    if (dtype == 0) {
        EEPK_UNROLL
        for (uint32_t j = 0; j < EEPK_REDUCE_WIDTH; j++) {
            sum[j] = EEPK_FADD(sum[j], EEPK_FMUL(weight, eepk_columns_fp32(columns, j)));
        }
    } else {
        EEPK_UNROLL
        for (uint32_t j = 0; j < EEPK_REDUCE_WIDTH; j++) {
            sum[j] = EEPK_FADD(
                sum[j], EEPK_FMUL(weight, eepk_bf16_to_float(eepk_columns_bf16(columns, j))));
        }
    }
}

/* out[h .. h + EEPK_REDUCE_WIDTH): terms in order of k, so the bits do not depend on where experts
 * are. The width is a constant: with one that varies, compilers keep the sums in memory. The loads
 * of several rows are in flight together. */
EEPK_FN void eepk_sum_columns(const eepk_token_sum *t, uint32_t h)
{
    const uint32_t top_k = t->s->top_k, dtype = t->s->dtype;
    const uint32_t element = dtype == 0 ? 4 : 2;
    const uint64_t at = (uint64_t)t->token * t->s->hidden + h;
    EEPK_ALIGNED(16)
    float sum[EEPK_REDUCE_WIDTH] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    EEPK_ALIGNED(16) uint16_t half[EEPK_REDUCE_WIDTH];

    for (uint32_t first = 0; first < top_k; first += EEPK_LOADS_AT_ONCE) {
        eepk_columns columns[EEPK_LOADS_AT_ONCE] = {{0}};
        EEPK_UNROLL
        for (uint32_t i = 0; i < EEPK_LOADS_AT_ONCE; i++) {
            if (first + i < top_k && t->route[first + i].slot != EEPK_NO_SLOT) {
                eepk_columns_load(&columns[i], eepk_sum_row(t, first + i) + h * element,
                                  EEPK_REDUCE_WIDTH * element);
            }
        }
        EEPK_UNROLL
        for (uint32_t i = 0; i < EEPK_LOADS_AT_ONCE; i++) {
            if (first + i < top_k && t->route[first + i].slot != EEPK_NO_SLOT) {
                eepk_add_columns(sum, t->weights[first + i], &columns[i], dtype);
            }
        }
    }
    if (t->out_dtype == 0) {
        eepk_copy16((float *)t->out + at, sum);
        eepk_copy16((float *)t->out + at + 4, sum + 4);
        return;
    }
    EEPK_UNROLL
    for (uint32_t j = 0; j < EEPK_REDUCE_WIDTH; j++) {
        half[j] = eepk_float_to_bf16(sum[j]);
    }
    eepk_copy16((uint16_t *)t->out + at, half);
}

/* One column, where rows are no multiple of the width; the same sum. */
EEPK_FN void eepk_sum_column(const eepk_token_sum *t, uint32_t h)
{
    const uint64_t at = (uint64_t)t->token * t->s->hidden + h;
    float sum = 0.0f;

    EEPK_ROLLED
    for (uint32_t k = 0; k < t->s->top_k; k++) {
        if (t->route[k].slot != EEPK_NO_SLOT) {
            const float value = eepk_x_value(t->s, eepk_sum_row(t, k), h);
            sum = EEPK_FADD(sum, EEPK_FMUL(t->weights[k], value));
        }
    }
    if (t->out_dtype == 0) {
        ((float *)t->out)[at] = sum;
    } else {
        ((uint16_t *)t->out)[at] = eepk_float_to_bf16(sum);
    }
}

/* All columns, by the threads of the grid's block. */
EEPK_SHARED_FN void eepk_sum_token(const eepk_token_sum *t, eep_grid g)
{
    const uint32_t hidden = t->s->hidden;

    if (hidden % EEPK_REDUCE_WIDTH != 0) {
        for (uint32_t h = g.thread; h < hidden; h += g.num_threads) {
            eepk_sum_column(t, h);
        }
        return;
    }
    for (uint32_t h = g.thread * EEPK_REDUCE_WIDTH; h < hidden;
         h += g.num_threads * EEPK_REDUCE_WIDTH) {
        eepk_sum_columns(t, h);
    }
}
#endif

/* A warp per token where there are tokens for all of them, else a block. */
EEPK_FN eep_grid eepk_sum_grid(uint32_t num_tokens, eep_grid g)
{
    eep_grid w = eepk_warp_grid(g);

    return num_tokens >= w.num_blocks ? w : g;
}
#endif
