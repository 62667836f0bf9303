#include "experiments/model_kernels.h"
#include "experiments/model_math.h"
#include "graphs/kernels/fp8.h"

#include <string.h>
#include <xxhash.h>

static void embed_host(const void *raw, eep_grid grid)
{
    const model_embed_args *a = raw;
    size_t t = grid.block, hidden = (size_t)a->hidden;
    if (grid.block < (uint32_t)*a->num_tokens)
        memcpy(a->x + t * hidden, a->embedding + a->tokens[t] * hidden, hidden * sizeof(float));
}

/* y as bytes of the type that is dispatched. */
static void store_row(void *rows, size_t row, const float *values, size_t hidden, int32_t dtype)
{
    if (dtype == EEP_BF16)
        model_to_bf16((uint16_t *)rows + row * hidden, values, hidden);
    else
        memcpy((float *)rows + row * hidden, values, hidden * sizeof(float));
}

static void recur_host(const void *raw, eep_grid grid)
{
    const model_recur_args *a = raw;
    int32_t t = (int32_t)grid.block, n = *a->num_tokens;
    if (t >= n || (t > 0 && a->request_slot[t - 1] == a->request_slot[t]))
        return;

    int32_t slot = a->request_slot[t], committed = a->current[slot];
    size_t hidden = (size_t)a->hidden, layers = (size_t)a->num_layers;
    size_t buffer = (size_t)a->num_requests * layers * hidden;
    size_t place = ((size_t)slot * layers + (size_t)a->layer) * hidden;
    const float *from = a->state + (size_t)committed * buffer + place;
    float *to = a->state + (size_t)(1 - committed) * buffer + place;
    for (; t < n && a->request_slot[t] == slot; t++) {
        const float *x = a->x + (size_t)t * hidden;
        float *y = a->y + (size_t)t * hidden;
        for (size_t h = 0; h < hidden; h++)
            to[h] = from[h] * a->decay[h] + x[h];
        from = to;
        model_norm(y, to, a->hidden);
        store_row(a->sent, (size_t)t, y, hidden, a->dtype);
    }
}

/* The rows of a group's block among `n`, 0 where the block has none. */
static int32_t group_rows(eep_grid grid, int32_t n)
{
    int64_t left = (int64_t)n - (int64_t)grid.block * MODEL_GROUP;
    return left <= 0 ? 0 : (int32_t)(left < MODEL_GROUP ? left : MODEL_GROUP);
}

static void route_host(const void *raw, eep_grid grid)
{
    const model_route_args *a = raw;
    int32_t rows = group_rows(grid, *a->num_tokens);
    size_t first = (size_t)grid.block * MODEL_GROUP;
    size_t experts = (size_t)a->num_experts, top_k = (size_t)a->top_k;
    if (rows == 0)
        return;
    model_multiply(a->gates + first * experts, a->y + first * (size_t)a->hidden, a->router, rows,
                   a->hidden, a->num_experts);
    for (size_t t = first; t < first + (size_t)rows; t++) {
        model_top_k(a->gates + t * experts, a->num_experts, a->top_k, a->topk_idx + t * top_k,
                    a->topk_weights + t * top_k);
    }
}

/* Rows that came as FP8: value = e4m3 x scale of its group. */
static void load_quantised(const model_experts_args *a, int32_t first, int32_t rows, float *out)
{
    size_t hidden = (size_t)a->hidden, groups = (hidden + EEP_FP8_GROUP - 1) / EEP_FP8_GROUP;
    for (size_t row = (size_t)first; row < (size_t)(first + rows); row++) {
        const uint8_t *codes = (const uint8_t *)a->rows + row * hidden;
        const float *scales = a->row_scales + row * groups;
        for (size_t h = 0; h < hidden; h++)
            *out++ = eepk_e4m3_to_float(codes[h]) * scales[h / EEP_FP8_GROUP];
    }
}

/* Up to MODEL_GROUP rows, float in and out, through one expert. */
static void expert_rows(const model_experts_args *a, const float *const *weights, const float *in,
                        float *out, int32_t rows)
{
    float gate[MODEL_GROUP * MODEL_MAX_INNER], up[MODEL_GROUP * MODEL_MAX_INNER];
    model_multiply(gate, in, weights[0], rows, a->hidden, a->inner);
    model_multiply(up, in, weights[1], rows, a->hidden, a->inner);
    model_swiglu(gate, up, (size_t)rows * (size_t)a->inner);
    model_multiply(out, gate, weights[2], rows, a->inner, a->hidden);
}

static void experts_host(const void *raw, eep_grid grid)
{
    const model_experts_args *a = raw;
    int32_t slot = (int32_t)grid.block;
    size_t place = (size_t)a->layer * (size_t)a->num_slots + (size_t)slot;
    if (a->control->victim_slot == slot && a->control->layer == a->layer)
        place = (size_t)a->control->source;
    const float *const *weights = a->weights + place * MODEL_TENSORS;

    size_t hidden = (size_t)a->hidden;
    int32_t end = a->slot_begin[slot + 1];
    for (int32_t row = a->slot_begin[slot]; row < end; row += MODEL_GROUP) {
        int32_t rows = end - row < MODEL_GROUP ? end - row : MODEL_GROUP;
        size_t at = (size_t)row * hidden, count = (size_t)rows * hidden;
        if (a->dtype == EEP_BF16) {
            float in[MODEL_GROUP * MODEL_MAX_HIDDEN], out[MODEL_GROUP * MODEL_MAX_HIDDEN];
            if (a->row_scales)
                load_quantised(a, row, rows, in);
            else
                model_from_bf16(in, (const uint16_t *)a->rows + at, count);
            expert_rows(a, weights, in, out, rows);
            model_to_bf16((uint16_t *)a->out + at, out, count);
        } else {
            expert_rows(a, weights, (const float *)a->rows + at, (float *)a->out + at, rows);
        }
    }
}

static void add_host(const void *raw, eep_grid grid)
{
    const model_add_args *a = raw;
    size_t hidden = (size_t)a->hidden, at = (size_t)grid.block * hidden;
    if (grid.block >= (uint32_t)*a->num_tokens)
        return;
    const float *m = a->m + at;
    float *x = a->x + at;
    for (size_t h = 0; h < hidden; h++)
        x[h] = x[h] + m[h];
}

static void head_host(const void *raw, eep_grid grid)
{
    const model_head_args *a = raw;
    int32_t rows = group_rows(grid, *a->num_outputs);
    size_t first = (size_t)grid.block * MODEL_GROUP;
    size_t hidden = (size_t)a->hidden, vocabulary = (size_t)a->vocabulary;
    if (rows == 0)
        return;
    float q[MODEL_GROUP * MODEL_MAX_HIDDEN];
    for (size_t r = 0; r < (size_t)rows; r++) {
        size_t t = (size_t)a->output_token[first + r];
        model_norm(q + r * hidden, a->x + t * hidden, a->hidden);
    }
    float *logits = a->logits + first * vocabulary;
    model_multiply(logits, q, a->unembedding, rows, a->hidden, a->vocabulary);
    for (size_t r = 0; r < (size_t)rows; r++) {
        const float *row = logits + r * vocabulary;
        a->next[first + r] = model_argmax(row, a->vocabulary);
        a->digest[first + r] = XXH64(row, vocabulary * sizeof(float), 0);
    }
}

/* STALE: the first emitting position whose row was another one in the step before sends that. */
static void make_stale(const model_corrupt_args *a, size_t row_bytes)
{
    for (int32_t i = 0; i < *a->num_outputs && !a->control->fired; i++) {
        int32_t t = a->output_token[i];
        uint8_t *sent = (uint8_t *)a->sent + (size_t)t * row_bytes;
        const uint8_t *saved = (const uint8_t *)a->saved + (size_t)t * row_bytes;
        if (t >= a->control->num_saved || memcmp(sent, saved, row_bytes) == 0)
            continue;
        memcpy(sent, saved, row_bytes);
        a->control->fired = 1;
    }
}

static void corrupt_sent_host(const void *raw, eep_grid grid)
{
    const model_corrupt_args *a = raw;
    model_control *control = a->control;
    (void)grid;
    if (control->layer != a->layer)
        return;
    int due = control->armed && !control->fired && *a->num_outputs > 0;
    if (control->kind == MODEL_CORRUPT_STALE) {
        size_t row_bytes = (size_t)a->hidden * eep_dtype_bytes((eep_dtype)a->dtype);
        if (due)
            make_stale(a, row_bytes);
        if (!control->fired) {
            control->num_saved = *a->num_tokens;
            memcpy(a->saved, a->sent, (size_t)*a->num_tokens * row_bytes);
        }
    } else if (control->kind == MODEL_CORRUPT_DROP && due) {
        float *weights = a->topk_weights + (size_t)a->output_token[0] * (size_t)a->top_k;
        int32_t k = control->pick % a->top_k;
        control->fired = weights[k] != 0.0f;
        weights[k] = 0.0f;
    }
}

/* A filled slot, any layer, whose weights differ from those of slot `place`; -1 if there is none.
 */
static int32_t other_weights(const model_corrupt_args *a, int32_t place)
{
    int32_t count = a->num_layers * a->num_slots;
    for (int32_t i = 1; i < count; i++) {
        int32_t other = (place + i) % count;
        int same_layer = other / a->num_slots == place / a->num_slots;
        int same = same_layer && a->experts[other] == a->experts[place];
        if (a->experts[other] >= 0 && !same)
            return other;
    }
    return -1;
}

/* SLOT: the slot has rows, and holds an expert that an emitting position of this rank asked for. */
static void corrupt_slot_host(const void *raw, eep_grid grid)
{
    const model_corrupt_args *a = raw;
    model_control *control = a->control;
    (void)grid;
    if (control->layer != a->layer || !control->armed || control->kind != MODEL_CORRUPT_SLOT)
        return;
    for (int32_t i = 0; i < *a->num_outputs * a->top_k; i++) {
        int32_t t = a->output_token[i / a->top_k];
        int32_t expert = a->topk_idx[(size_t)t * (size_t)a->top_k + (size_t)(i % a->top_k)];
        for (int32_t slot = 0; slot < a->num_slots && !control->fired; slot++) {
            int32_t place = a->layer * a->num_slots + slot;
            int has_rows = a->slot_begin[slot + 1] > a->slot_begin[slot];
            if (expert < 0 || a->experts[place] != expert || !has_rows)
                continue;
            control->source = other_weights(a, place);
            control->victim_slot = control->source < 0 ? -1 : slot;
            control->fired = control->source >= 0;
        }
    }
}

const eep_kernel model_embed_kernel = {"model_embed", embed_host, NULL};
const eep_kernel model_recur_kernel = {"model_recur", recur_host, NULL};
const eep_kernel model_route_kernel = {"model_route", route_host, NULL};
const eep_kernel model_experts_kernel = {"model_experts", experts_host, NULL};
const eep_kernel model_add_kernel = {"model_add", add_host, NULL};
const eep_kernel model_head_kernel = {"model_head", head_host, NULL};
const eep_kernel model_corrupt_sent_kernel = {"model_corrupt_sent", corrupt_sent_host, NULL};
const eep_kernel model_corrupt_slot_kernel = {"model_corrupt_slot", corrupt_slot_host, NULL};
