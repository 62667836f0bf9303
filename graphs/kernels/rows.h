/* What a step does with rows: where the pairs of a batch go, and the copies. Which seats take part,
 * and when the rows are there, is the callers' matter. The elastic step (dispatch.h, combine.h) and
 * the baseline without elasticity (fixed.h) share this, so that a comparison of the two shows what
 * elasticity costs and nothing else. */
#ifndef EEPK_ROWS_H
#define EEPK_ROWS_H

#include "graphs/compiler_macros.h"
#include "graphs/kernels/fp8.h"
#include "graphs/table_layout.h"

/* ------------------------------------------------------------------ input */

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
 * the first offender is named. `first` as eepk_replica_first. */
EEPK_SHARED_FN void eepk_check_input(const eepk_shape *s, const int32_t *topk_idx, int32_t n,
                                     const uint32_t *first, eepk_status *status)
{
    if (n < 0 || (uint32_t)n > s->num_max_tokens) {
        eepk_bad_input(status, EEPK_INPUT_TOKENS, 0, 0, n);
        return;
    }
    for (uint32_t i = 0; i < (uint32_t)n * s->top_k; i++) {
        int32_t expert = topk_idx[i];
        uint32_t k = i % s->top_k;
        if (expert == -1)
            continue;
        if (expert < -1 || (uint32_t)expert >= s->num_experts)
            eepk_bad_input(status, EEPK_INPUT_TOPK, i / s->top_k, k, expert);
        else if (first[expert] == first[expert + 1])
            eepk_bad_input(status, EEPK_INPUT_UNCOVERED, i / s->top_k, k, expert);
        for (uint32_t j = i - k; j < i; j++) {
            if (topk_idx[j] == expert) /* twice the same: S9 */
                eepk_bad_input(status, EEPK_INPUT_TOPK, i / s->top_k, k, expert);
        }
    }
}

/* This rank's tokens of the step: none once its input was found bad, so that peers go on. */
EEPK_FN uint32_t eepk_count_tokens(const eepk_shape *s, const eepk_status *status,
                                   const int32_t *num_tokens)
{
    uint32_t n = (uint32_t)*num_tokens;

    return status->bad_input ? 0u : n < s->num_max_tokens ? n : s->num_max_tokens;
}

/* ------------------------------------------------------------------ route */

/* For each (token, k): replica, and its ordinal among this rank's rows for that slot, in token
 * order. A thread owns the experts congruent to it, hence their slots: no races, one result. An
 * expert's tokens take its replicas in turn, offset by the sender's seat. One block; `status` gets
 * what is wrong with the batch. */
EEPK_SHARED_FN void eepk_route_batch(const eepk_shape *s, const eepk_routing *r,
                                     const int32_t *topk_idx, const int32_t *num_tokens,
                                     eepk_status *status, eep_grid g)
{
    uint32_t n;

    if (g.thread == 0 && status->bad_input == EEPK_INPUT_OK)
        eepk_check_input(s, topk_idx, *num_tokens, r->first, status);
    for (uint32_t i = g.thread; i < s->max_ranks * s->num_slots; i += g.num_threads)
        r->send_count[i] = 0;
    eepk_block_sync();
    n = eepk_count_tokens(s, status, num_tokens);
    for (uint32_t i = 0; i < n * s->top_k; i++) {
        int32_t expert = topk_idx[i];
        eepk_route *route = &r->route[i];
        const eepk_replica *replica;
        uint32_t first;
        if (expert < 0) {
            if (g.thread == 0)
                route->slot = EEPK_NO_SLOT;
            continue;
        }
        if ((uint32_t)expert % g.num_threads != g.thread)
            continue;
        first = r->first[expert];
        replica = &r->replicas[first + (i / s->top_k + s->self) % (r->first[expert + 1] - first)];
        route->seat = replica->seat;
        route->slot = replica->slot;
        route->ordinal =
            (uint16_t)r->send_count[(uint32_t)route->seat * s->num_slots + route->slot]++;
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

/* ------------------------------------------------------------------ dispatch: send */

typedef struct eepk_row_send { /* one token's row on its way */
    const eepk_shape *s;
    const uint64_t *windows; /* [max_ranks], as this rank reaches them */
    const eepk_route *route; /* [top_k] of the token */
    const void *x;           /* [num_tokens, hidden] */
    uint32_t parity, token;
} eepk_row_send;

/* Where the row goes with pair k. */
EEPK_FN uint8_t *eepk_row_target(const eepk_row_send *r, uint32_t k)
{
    return eepk_dispatch_row(r->s, (uint8_t *)(uintptr_t)r->windows[r->route[k].seat], r->parity,
                             r->s->self, r->token);
}

EEPK_FN float eepk_x_value(const eepk_shape *s, const void *x, uint64_t i)
{
    return s->dtype == 0 ? ((const float *)x)[i] : eepk_bf16_to_float(((const uint16_t *)x)[i]);
}

/* 16 channels, or the last few of a row, to every rank that gets it. */
EEPK_FN void eepk_send_codes(const eepk_row_send *r, uint32_t first, uint32_t n, float inverse)
{
    const eepk_shape *s = r->s;
    uint8_t codes[16];

    for (uint32_t i = 0; i < n; i++)
        codes[i] = eepk_float_to_e4m3(
            EEPK_FMUL(eepk_x_value(s, r->x, (uint64_t)r->token * s->hidden + first + i), inverse));
    for (uint32_t k = 0; k < s->top_k; k++) {
        uint8_t *row;
        if (!eepk_sends_row(r->route, k))
            continue;
        row = eepk_row_target(r, k);
        for (uint32_t i = 0; i < n; i++)
            row[first + i] = codes[i];
    }
}

/* A thread quantises a group of a token's channels with one scale and stores them to every rank
 * that gets the row: value = e4m3 x scale, and the largest is 448 x scale. */
EEPK_SHARED_FN void eepk_send_group(const eepk_row_send *r, uint32_t group)
{
    const eepk_shape *s = r->s;
    const uint32_t begin = group * EEPK_FP8_GROUP;
    const uint32_t end = begin + EEPK_FP8_GROUP < s->hidden ? begin + EEPK_FP8_GROUP : s->hidden;
    float largest = EEPK_FP8_LEAST, inverse;

    for (uint32_t h = begin; h < end; h++) {
        float value = eepk_x_value(s, r->x, (uint64_t)r->token * s->hidden + h);
        value = value < 0.0f ? -value : value;
        largest = value > largest ? value : largest;
    }
    inverse = EEPK_FDIV(EEPK_E4M3_MAX, largest);
    for (uint32_t h = begin; h < end; h += 16)
        eepk_send_codes(r, h, end - h < 16 ? end - h : 16, inverse);
    for (uint32_t k = 0; k < s->top_k; k++) {
        if (eepk_sends_row(r->route, k))
            eepk_row_scales(s, eepk_row_target(r, k))[group] =
                EEPK_FMUL(largest, 1.0f / EEPK_E4M3_MAX);
    }
}

/* A row goes once to each destination rank, by the block that owns the token. */
EEPK_SHARED_FN void eepk_send_row(const eepk_row_send *r, eep_grid g)
{
    const eepk_shape *s = r->s;

    for (uint32_t group = g.thread; group < s->num_scales; group += g.num_threads)
        eepk_send_group(r, group);
    for (uint32_t k = 0; k < s->top_k && s->num_scales == 0; k++) {
        if (eepk_sends_row(r->route, k))
            eepk_copy_row(eepk_row_target(r, k),
                          (const uint8_t *)r->x + (uint64_t)r->token * s->row_bytes, s->row_bytes,
                          g);
    }
}

/* Tell `seat` which of the token's pairs go to which of its slots. One thread. */
EEPK_SHARED_FN void eepk_send_list(const eepk_row_send *r, uint32_t seat)
{
    const eepk_shape *s = r->s;
    eepk_list_entry *list =
        eepk_list(s, (uint8_t *)(uintptr_t)r->windows[seat], r->parity, s->self, r->token);

    for (uint32_t k = 0; k < s->top_k; k++) {
        int here = r->route[k].slot != EEPK_NO_SLOT && r->route[k].seat == seat;
        list[k].slot = here ? r->route[k].slot : (uint16_t)EEPK_NO_SLOT;
        list[k].ordinal = here ? r->route[k].ordinal : (uint16_t)0;
    }
}

/* `counts` are this rank's for the window's owner: [num_slots]. One block. */
EEPK_SHARED_FN void eepk_send_header(const eepk_shape *s, eepk_source_header *header,
                                     const uint32_t *counts, uint64_t flip_digest,
                                     uint32_t num_tokens, eep_grid g)
{
    for (uint32_t slot = g.thread; slot < s->num_slots; slot += g.num_threads)
        ((uint32_t *)(header + 1))[slot] = counts[slot];
    if (g.thread == 0) {
        header->flip_digest = flip_digest;
        header->num_tokens = num_tokens;
    }
}

/* ------------------------------------------------------------------ dispatch: lay out, unpack */

/* Packed rows: by slot, in a slot by seat. `count` and `base` are [max_ranks][num_slots]. Without
 * `valid` counts no slot has rows. One thread. */
EEPK_SHARED_FN void eepk_prefix_rows(const eepk_shape *s, const uint32_t *count, int valid,
                                     uint32_t *base, int32_t *slot_begin)
{
    uint32_t next = 0;

    for (uint32_t slot = 0; slot < s->num_slots; slot++) {
        slot_begin[slot] = (int32_t)next;
        for (uint32_t seat = 0; seat < s->max_ranks && valid; seat++) {
            base[(uint64_t)seat * s->num_slots + slot] = next;
            next += count[(uint64_t)seat * s->num_slots + slot];
        }
    }
    slot_begin[s->num_slots] = (int32_t)next;
}

/* One row of a window to its packed place. `row_scales` is for FP8 only. */
EEPK_SHARED_FN void eepk_unpack_row(const eepk_shape *s, void *rows, float *row_scales,
                                    uint8_t *row, uint32_t position, eep_grid g)
{
    const float *scales = eepk_row_scales(s, row);

    if (s->num_scales == 0) {
        eepk_copy_row((uint8_t *)rows + (uint64_t)position * s->row_bytes, row, s->row_bytes, g);
        return;
    }
    eepk_copy_row((uint8_t *)rows + (uint64_t)position * s->hidden, row, s->hidden, g);
    for (uint32_t i = g.thread; i < s->num_scales; i += g.num_threads)
        row_scales[(uint64_t)position * s->num_scales + i] = scales[i];
}

/* ------------------------------------------------------------------ combine: reduce */

enum { EEPK_REDUCE_WIDTH = 8 };

typedef struct eepk_token_sum { /* one token's output */
    const eepk_shape *s;
    const eepk_route *route; /* [top_k]: which terms there are */
    const float *weights;    /* [top_k] */
    const uint8_t *rows;     /* [top_k] rows of expert outputs */
    void *out;               /* [num_tokens, hidden] of out_dtype */
    uint32_t out_dtype, token;
} eepk_token_sum;

EEPK_FN void eepk_store_out(const eepk_token_sum *t, uint32_t h, float value)
{
    const uint64_t i = (uint64_t)t->token * t->s->hidden + h;

    if (t->out_dtype == 0)
        ((float *)t->out)[i] = value;
    else
        ((uint16_t *)t->out)[i] = eepk_float_to_bf16(value);
}

/* EEPK_REDUCE_WIDTH columns: terms in order of k, each product and sum rounded once, so the bits do
 * not depend on where experts are. The width is a constant: with one that varies, compilers keep
 * the sums in memory. */
EEPK_SHARED_FN void eepk_sum_columns(const eepk_token_sum *t, uint32_t h)
{
    const eepk_shape *s = t->s;
    float sum[EEPK_REDUCE_WIDTH] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};

    for (uint32_t k = 0; k < s->top_k; k++) {
        const uint8_t *row = t->rows + (uint64_t)k * s->row_bytes;
        const float weight = t->weights[k];
        if (t->route[k].slot == EEPK_NO_SLOT)
            continue;
        if (s->dtype == 0) {
            const float *values = (const float *)row + h;
            for (uint32_t j = 0; j < EEPK_REDUCE_WIDTH; j++)
                sum[j] = EEPK_FADD(sum[j], EEPK_FMUL(weight, values[j]));
        } else {
            const uint16_t *values = (const uint16_t *)row + h;
            for (uint32_t j = 0; j < EEPK_REDUCE_WIDTH; j++)
                sum[j] = EEPK_FADD(sum[j], EEPK_FMUL(weight, eepk_bf16_to_float(values[j])));
        }
    }
    for (uint32_t j = 0; j < EEPK_REDUCE_WIDTH; j++)
        eepk_store_out(t, h + j, sum[j]);
}

/* One column, for what is left of a row; the same sum. */
EEPK_FN void eepk_sum_column(const eepk_token_sum *t, uint32_t h)
{
    float sum = 0.0f;

    EEPK_ROLLED
    for (uint32_t k = 0; k < t->s->top_k; k++) {
        const uint8_t *row = t->rows + (uint64_t)k * t->s->row_bytes;
        if (t->route[k].slot != EEPK_NO_SLOT)
            sum = EEPK_FADD(sum, EEPK_FMUL(t->weights[k], eepk_x_value(t->s, row, h)));
    }
    eepk_store_out(t, h, sum);
}

/* All columns, by the threads of the block. */
EEPK_FN void eepk_sum_token(const eepk_token_sum *t, eep_grid g)
{
    const uint32_t hidden = t->s->hidden, wide = hidden / EEPK_REDUCE_WIDTH * EEPK_REDUCE_WIDTH;

    for (uint32_t h = g.thread * EEPK_REDUCE_WIDTH; h < wide;
         h += g.num_threads * EEPK_REDUCE_WIDTH)
        eepk_sum_columns(t, h);
    for (uint32_t h = wide + g.thread; h < hidden; h += g.num_threads)
        eepk_sum_column(t, h);
}
#endif
