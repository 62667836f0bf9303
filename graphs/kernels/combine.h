/* Combine: send (any grid), exchange (exchange.h), reduce (any grid). */
#ifndef EEPK_COMBINE_H
#define EEPK_COMBINE_H

#include "graphs/compiler_macros.h"
#include "graphs/kernel_args.h"
#include "graphs/kernels/dispatch.h"

/* Each expert output goes home: to the row (token, k) of the rank the token came from. Counts and
 * lists are their source's word: only if as many rows were placed as were counted, and every place
 * was filled in this dispatch, did each row get a place of its own (S9). */
EEPK_FN void eepk_combine_send_body(const eepk_combine_node_args *a, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    eepk_latch *latch = &w->control->latch;
    const uint8_t *bank = w->bank[latch->bank];
    uint32_t parity = eepk_parity(s, latch->step, a->layer);
    uint32_t n = (uint32_t)a->slot_begin[s->num_slots];
    uint16_t stamp = eepk_stamp(s, latch->step, a->layer);
    int torn;

    if (latch->aborted)
        return;
    torn = latch->placed != n;
    for (uint32_t position = g.block; position < n && !torn; position += g.num_blocks) {
        eepk_origin origin = w->origin[position];
        uint8_t *window = eepk_peer_window(s, bank, origin.seat);
        torn = origin.stamp != stamp || !window;
        if (!torn)
            eepk_copy_row(
                eepk_combine_row(s, window, latch->combine_copy, parity, origin.token, origin.k),
                (const uint8_t *)a->rows + (uint64_t)position * s->row_bytes, s->row_bytes, g);
    }
    if (torn && g.thread == 0) {
        eepk_count_add(&latch->status.stale_dropped, 1);
        eepk_abort(latch, EEPK_STEP_STALE, a->layer, EEPK_PHASE_DISPATCH);
    }
}

enum { EEPK_REDUCE_WIDTH = 8 };

/* out[h .. h+width) of one token: terms in order of k, each product and sum rounded once, so the
 * bits do not depend on where experts are. */
EEPK_FN void eepk_reduce_columns(const eepk_combine_node_args *a, const eepk_latch *latch,
                                 uint32_t parity, uint32_t token, uint32_t h, uint32_t width)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    const eepk_route *route = w->route + (uint64_t)token * s->top_k;
    float sum[EEPK_REDUCE_WIDTH] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};

    for (uint32_t k = 0; k < s->top_k; k++) {
        const uint8_t *row;
        float weight = a->topk_weights[(uint64_t)token * s->top_k + k];
        if (route[k].slot == EEPK_NO_SLOT)
            continue;
        row = eepk_combine_row(s, w->window, latch->combine_copy, parity, token, k);
        if (s->dtype == 0) {
            const float *values = (const float *)row + h;
            for (uint32_t j = 0; j < width; j++)
                sum[j] = EEPK_FADD(sum[j], EEPK_FMUL(weight, values[j]));
        } else {
            const uint16_t *values = (const uint16_t *)row + h;
            for (uint32_t j = 0; j < width; j++)
                sum[j] = EEPK_FADD(sum[j], EEPK_FMUL(weight, eepk_bf16_to_float(values[j])));
        }
    }
    for (uint32_t j = 0; j < width; j++) {
        uint64_t i = (uint64_t)token * s->hidden + h + j;
        if (a->out_dtype == 0)
            ((float *)a->out)[i] = sum[j];
        else
            ((uint16_t *)a->out)[i] = eepk_float_to_bf16(sum[j]);
    }
}

EEPK_FN void eepk_reduce_body(const eepk_combine_node_args *a, eep_grid g)
{
    const eepk_world *w = a->world;
    const eepk_shape *s = &w->shape;
    eepk_latch *latch = &w->control->latch;
    uint32_t parity = eepk_parity(s, latch->step, a->layer);
    uint32_t n = eepk_step_tokens(w, a->num_tokens);

    if (latch->aborted)
        return;
    for (uint32_t token = g.block; token < n; token += g.num_blocks) {
        for (uint32_t h = g.thread * EEPK_REDUCE_WIDTH; h < s->hidden;
             h += g.num_threads * EEPK_REDUCE_WIDTH) {
            uint32_t left = s->hidden - h;
            if (left >= EEPK_REDUCE_WIDTH)
                eepk_reduce_columns(a, latch, parity, token, h, EEPK_REDUCE_WIDTH);
            else
                eepk_reduce_columns(a, latch, parity, token, h, left);
        }
    }
    eepk_block_sync();
    eepk_recheck_sources(w, latch, a->layer, EEPK_PHASE_COMBINE, g);
}
#endif
