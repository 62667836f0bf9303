/* SPDX-License-Identifier: Apache-2.0 */
/* The bodies of the model's kernels (docs/MODEL.md), written once for the C compiler and nvcc. A
 * row's result depends on that row alone: not on how many others there are, nor on its place among
 * them. What a thread reads of another's lies behind a meeting of the block; no block waits for
 * another one of its launch. */
#ifndef EEPX_MODEL_BODIES_H
#define EEPX_MODEL_BODIES_H

#include "experiments/model/model_digest.h"
#include "experiments/model/model_kernels.h"
#include "experiments/model/model_rows.h"
#include "graphs/kernels/fp8.h"
#include "graphs/kernels/table_layout.h"

/* The rows of a group's block among `n`, 0 where the block has none. */
EEPK_FN int32_t model_group_rows(eep_grid g, int32_t n)
{
    int64_t left = (int64_t)n - (int64_t)g.block * MODEL_GROUP;

    return left <= 0 ? 0 : (int32_t)(left < MODEL_GROUP ? left : MODEL_GROUP);
}

/* Is the step over, so that the rest of this kernel's work is for nothing? The whole block hears
 * the same, which meets here. What is left out reaches nobody (eep_step_words_get). */
EEPK_FN int model_is_over(const model_words *words, eep_grid g)
{
    int over = 0;

    if (words->running && g.thread == 0) {
        over =
            *words->aborted != 0 || eepk_load_acquire(words->given_up) >= (uint64_t)*words->running;
    }
    return words->running && eepk_block_any(over);
}

/* ------------------------------------------------------------------ before the dispatch */

EEPK_FN void model_embed_body(const model_embed_args *a, eep_grid g)
{
    size_t t = g.block, hidden = (size_t)a->hidden;
    const float *from;

    if ((int64_t)g.block >= *a->num_tokens) {
        return;
    }
    from = a->embedding + a->tokens[t] * hidden;
    EEPK_FOR_EACH (h, hidden, g)
        a->x[t * hidden + h] = from[h];
}

/* One position of a request: the state from `from` (NULL: zeros) to `to`, and y, also as it is
 * dispatched. A thread has the same elements in all positions; the norm reads them all. */
EEPK_FN void model_recur_position(const model_recur_args *a, size_t t, const float *from, float *to,
                                  eep_grid g)
{
    size_t hidden = (size_t)a->hidden, row = t * hidden;
    float factor;

    EEPK_FOR_EACH (h, hidden, g)
        to[h] = EEPK_FADD(EEPK_FMUL(from ? from[h] : 0.0f, a->decay[h]), a->x[row + h]);
    eepk_block_sync();
    factor = model_inverse_rms(to, a->hidden);
    EEPK_FOR_EACH (h, hidden, g) {
        float y = EEPK_FMUL(to[h], factor);

        a->y[row + h] = y;
        if (a->dtype == EEP_BF16) {
            ((uint16_t *)a->sent)[row + h] = eepk_float_to_bf16(y);
        } else {
            ((float *)a->sent)[row + h] = y;
        }
    }
    eepk_block_sync(); /* the next position writes over what the norm has read */
}

EEPK_FN void model_recur_body(const model_recur_args *a, eep_grid g)
{
    int32_t t = (int32_t)g.block, n = *a->num_tokens, slot, committed;
    size_t layers = (size_t)a->num_layers, hidden = (size_t)a->hidden, buffer, place;
    const float *from;
    float *to;

    if (t >= n || (t > 0 && a->request_slot[t - 1] == a->request_slot[t])) {
        return;
    }
    slot = a->request_slot[t];
    committed = a->current[slot];
    buffer = (size_t)a->num_requests * layers * hidden;
    place = ((size_t)slot * layers + (size_t)a->layer) * hidden;
    from = committed == MODEL_NO_STATE ? NULL : a->state + (size_t)committed * buffer + place;
    to = a->state + (committed == 0 ? buffer : 0) + place;
    for (; t < n && a->request_slot[t] == slot && !model_is_over(&a->words, g); t++) {
        model_recur_position(a, (size_t)t, from, to, g);
        from = to;
    }
}

EEPK_FN void model_route_body(const model_route_args *a, eep_grid g)
{
    int32_t rows = model_group_rows(g, *a->num_tokens);
    size_t first = (size_t)g.block * MODEL_GROUP;
    size_t experts = (size_t)a->num_experts, top_k = (size_t)a->top_k;

    if (rows == 0 || model_is_over(&a->words, g)) {
        return;
    }
    model_multiply(a->gates + first * experts, a->y + first * (size_t)a->hidden, a->router, rows,
                   a->hidden, a->num_experts, g);
    eepk_block_sync();
    EEPK_FOR_EACH (r, rows, g) {
        size_t t = first + r;

        model_top_k(a->gates + t * experts, a->num_experts, a->top_k, a->topk_idx + t * top_k,
                    a->topk_weights + t * top_k);
    }
}

/* ------------------------------------------------------------------ the experts */

/* Scratch of one block: a group's rows in and out as float, and between the products.
 *     in [MODEL_GROUP, hidden] | out [MODEL_GROUP, hidden] | gate [MODEL_GROUP, inner] | up [..] */
EEPK_LAYOUT_FN size_t model_scratch_floats(int32_t hidden, int32_t inner)
{
    return 2 * (size_t)MODEL_GROUP * ((size_t)hidden + (size_t)inner);
}

/* Rows of another type as float: bf16, or e4m3 x scale of its group. */
EEPK_FN void model_load_rows(const model_experts_args *a, int32_t first, int32_t rows, float *out,
                             eep_grid g)
{
    size_t hidden = (size_t)a->hidden, groups = (hidden + EEP_FP8_GROUP - 1) / EEP_FP8_GROUP;

    for (size_t r = 0; r < (size_t)rows; r++) {
        size_t row = (size_t)first + r;
        const uint8_t *codes = (const uint8_t *)a->rows + row * hidden;
        const uint16_t *halves = (const uint16_t *)a->rows + row * hidden;
        const float *scales = a->row_scales + row * groups;

        if (a->row_scales) {
            EEPK_FOR_EACH (h, hidden, g)
                out[r * hidden + h] =
                    EEPK_FMUL(eepk_e4m3_to_float(codes[h]), scales[h / EEP_FP8_GROUP]);
        } else {
            EEPK_FOR_EACH (h, hidden, g)
                out[r * hidden + h] = eepk_bf16_to_float(halves[h]);
        }
    }
}

/* Up to MODEL_GROUP rows through one expert. The block meets after each part, as the next one
 * divides the same numbers among its threads in another way; not behind the last: the next group
 * meets before it writes what that reads. */
EEPK_FN void model_expert_group(const model_experts_args *a, const float *const *weights,
                                int32_t first, int32_t rows, float *scratch, eep_grid g)
{
    size_t hidden = (size_t)a->hidden, inner = (size_t)a->inner, at = (size_t)first * hidden;
    float *gate = scratch + 2 * MODEL_GROUP * hidden, *up = gate + MODEL_GROUP * inner;
    int is_float = a->dtype != EEP_BF16;
    const float *in = is_float ? (const float *)a->rows + at : scratch;
    float *out = is_float ? (float *)a->out + at : scratch + MODEL_GROUP * hidden;

    if (!is_float) {
        model_load_rows(a, first, rows, scratch, g);
        eepk_block_sync();
    }
    model_multiply(gate, in, weights[0], rows, a->hidden, a->inner, g);
    model_multiply(up, in, weights[1], rows, a->hidden, a->inner, g);
    eepk_block_sync();
    model_swiglu(gate, up, rows * a->inner, g);
    eepk_block_sync();
    model_multiply(out, gate, weights[2], rows, a->inner, a->hidden, g);
    eepk_block_sync();
    if (!is_float) {
        EEPK_FOR_EACH (i, (size_t)rows * hidden, g)
            ((uint16_t *)a->out)[at + i] = eepk_float_to_bf16(out[i]);
    }
}

EEPK_FN void model_experts_body(const model_experts_args *a, eep_grid g)
{
    uint32_t num_slots = (uint32_t)a->num_slots, slot = g.block % num_slots;
    int32_t step = MODEL_GROUP * (int32_t)(g.num_blocks / num_slots);
    int32_t row = a->slot_begin[slot] + MODEL_GROUP * (int32_t)(g.block / num_slots);
    int32_t end = a->slot_begin[slot + 1];
    size_t place = (size_t)a->layer * num_slots + slot;
    float *scratch = a->scratch + g.block * model_scratch_floats(a->hidden, a->inner);

    if (a->control && a->control->victim_slot == (int32_t)slot &&
        a->control->victim_chain == a->chain && a->control->layer == a->layer) {
        place = (size_t)a->control->source;
    }
    for (; row < end && !model_is_over(&a->words, g); row += step) {
        int32_t rows = end - row < MODEL_GROUP ? end - row : MODEL_GROUP;

        model_expert_group(a, a->weights + place * MODEL_TENSORS, row, rows, scratch, g);
    }
}

/* ------------------------------------------------------------------ behind the combine */

EEPK_FN void model_add_body(const model_add_args *a, eep_grid g)
{
    size_t hidden = (size_t)a->hidden, at = (size_t)g.block * hidden;

    if ((int64_t)g.block >= *a->num_tokens) {
        return;
    }
    EEPK_FOR_EACH (h, hidden, g)
        a->x[at + h] = EEPK_FADD(a->x[at + h], a->m[at + h]);
}

EEPK_FN void model_head_body(const model_head_args *a, eep_grid g)
{
    int32_t rows = model_group_rows(g, *a->num_outputs);
    size_t first = (size_t)g.block * MODEL_GROUP;
    size_t hidden = (size_t)a->hidden, vocabulary = (size_t)a->vocabulary;
    float *q = a->q + first * hidden, *logits = a->logits + first * vocabulary;

    if (rows == 0 || model_is_over(&a->words, g)) {
        return;
    }
    for (size_t r = 0; r < (size_t)rows; r++) {
        const float *x = a->x + (size_t)a->output_token[first + r] * hidden;
        float factor = model_inverse_rms(x, a->hidden);

        EEPK_FOR_EACH (h, hidden, g)
            q[r * hidden + h] = EEPK_FMUL(x[h], factor);
    }
    eepk_block_sync();
    model_multiply(logits, q, a->unembedding, rows, a->hidden, a->vocabulary, g);
    eepk_block_sync();
    EEPK_FOR_EACH (r, rows, g) {
        const float *row = logits + r * vocabulary;

        a->next[first + r] = model_argmax(row, a->vocabulary);
        a->digest[first + r] = model_digest(row, (uint32_t)a->vocabulary);
    }
}

/* ------------------------------------------------------------------ corruptions, by one thread */

EEPK_FN int model_same_bytes(const uint8_t *one, const uint8_t *other, size_t bytes)
{
    size_t i = 0;

    while (i < bytes && one[i] == other[i]) {
        i++;
    }
    return i == bytes;
}

EEPK_FN void model_copy_bytes(uint8_t *to, const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        to[i] = from[i];
    }
}

/* STALE: the first emitting position whose row was another one in the step before sends that. */
EEPK_FN void model_make_stale(const model_corrupt_args *a, size_t row_bytes)
{
    for (int32_t i = 0; i < *a->num_outputs && !a->control->fired; i++) {
        int32_t t = a->output_token[i];
        uint8_t *sent = (uint8_t *)a->sent + (size_t)t * row_bytes;
        const uint8_t *saved = (const uint8_t *)a->saved + (size_t)t * row_bytes;

        if (t >= a->control->num_saved[a->chain] || model_same_bytes(sent, saved, row_bytes)) {
            continue;
        }
        model_copy_bytes(sent, saved, row_bytes);
        a->control->fired = 1;
    }
}

EEPK_FN void model_corrupt_sent_body(const model_corrupt_args *a, eep_grid g)
{
    model_control *control = a->control;
    int due;

    if (g.thread != 0 || control->layer != a->layer) {
        return;
    }
    due = control->armed && !control->fired && *a->num_outputs > 0;
    if (control->kind == MODEL_CORRUPT_STALE) {
        size_t row_bytes = (size_t)a->hidden * (a->dtype == EEP_BF16 ? 2 : 4);

        if (due) {
            model_make_stale(a, row_bytes);
        }
        if (!control->fired) {
            control->num_saved[a->chain] = *a->num_tokens;
            model_copy_bytes((uint8_t *)a->saved, (const uint8_t *)a->sent,
                             (size_t)*a->num_tokens * row_bytes);
        }
    } else if (control->kind == MODEL_CORRUPT_DROP && due) {
        float *weights = a->topk_weights + (size_t)a->output_token[0] * (size_t)a->top_k;
        int32_t k = control->pick % a->top_k;

        control->fired = weights[k] != 0.0f;
        weights[k] = 0.0f;
    } else if (control->kind == MODEL_CORRUPT_EXPERT && control->armed &&
               control->bad_chain == a->chain) {
        a->topk_idx[(size_t)control->bad_token * (size_t)a->top_k +
                    (size_t)(control->pick % a->top_k)] = MODEL_NO_EXPERT;
    }
}

/* A filled slot, any layer, whose weights differ from those of slot `place`; -1 if there is none.
 */
EEPK_FN int32_t model_other_weights(const model_corrupt_args *a, int32_t place)
{
    int32_t count = a->num_layers * a->num_slots;

    for (int32_t i = 1; i < count; i++) {
        int32_t other = (place + i) % count;
        int same_layer = other / a->num_slots == place / a->num_slots;
        int same = same_layer && a->experts[other] == a->experts[place];

        if (a->experts[other] >= 0 && !same) {
            return other;
        }
    }
    return -1;
}

/* SLOT: the slot has rows, and holds an expert that an emitting position of this rank asked for. */
EEPK_FN void model_corrupt_slot_body(const model_corrupt_args *a, eep_grid g)
{
    model_control *control = a->control;

    if (g.thread != 0 || control->layer != a->layer || !control->armed ||
        control->kind != MODEL_CORRUPT_SLOT) {
        return;
    }
    for (int32_t i = 0; i < *a->num_outputs * a->top_k; i++) {
        int32_t t = a->output_token[i / a->top_k];
        int32_t expert = a->topk_idx[(size_t)t * (size_t)a->top_k + (size_t)(i % a->top_k)];

        for (int32_t slot = 0; slot < a->num_slots && !control->fired; slot++) {
            int32_t place = a->layer * a->num_slots + slot;
            int has_rows = a->slot_begin[slot + 1] > a->slot_begin[slot];

            if (expert < 0 || a->experts[place] != expert || !has_rows) {
                continue;
            }
            control->source = model_other_weights(a, place);
            control->victim_slot = control->source < 0 ? -1 : slot;
            control->victim_chain = a->chain;
            control->fired = control->source >= 0;
        }
    }
}
#endif
