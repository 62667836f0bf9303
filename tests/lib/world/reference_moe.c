/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/world/reference_moe.h"

#include "repair/split.h"

#include <math.h>
#include <string.h>

float moe_load(eep_dtype dtype, const void *values, size_t i)
{
    uint32_t bits;
    float value;

    if (dtype == EEP_FP32) {
        return ((const float *)values)[i];
    }
    bits = (uint32_t)((const uint16_t *)values)[i] << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* bf16: of the two neighbours that keep 16 bits take the nearer one, of equals the even one. */
static uint16_t nearest_bf16(float value)
{
    uint32_t bits, below, rest;

    memcpy(&bits, &value, sizeof bits);
    below = bits >> 16;
    rest = bits & 0xffffu;
    if (isnan(value)) {
        return (uint16_t)(below | 0x40u);
    }
    if (rest > 0x8000u || (rest == 0x8000u && below % 2 == 1)) {
        below++;
    }
    return (uint16_t)below;
}

void moe_store(eep_dtype dtype, void *values, size_t i, float value)
{
    if (dtype == EEP_FP32) {
        ((float *)values)[i] = value;
    } else {
        ((uint16_t *)values)[i] = nearest_bf16(value);
    }
}

void moe_expert(const moe_shape *shape, int layer, int expert, const void *row, void *row_out)
{
    const float scale = (float)(expert % 11 + 1) * 0.37f, shift = (float)(layer * 31 + expert);

    for (int h = 0; h < shape->hidden; h++) {
        const float value = moe_load(shape->dtype, row, (size_t)h);
        float result = value * scale;

        result += shift;
        if (shape->marks) {
            result = h == 0 ? ldexpf(1.0f, expert) : h == 2 ? (float)(layer + 1) : value;
        }
        moe_store(shape->dtype, row_out, (size_t)h, result);
    }
}

/* ------------------------------------------------------------------ FP8 */

float moe_e4m3_value(uint8_t code)
{
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    const float sign = code & 0x80 ? -1.0f : 1.0f;

    if (exponent == 15 && mantissa == 7) {
        return sign * NAN;
    }
    if (exponent == 0) {
        return sign * ldexpf((float)mantissa, -9);
    }
    return sign * ldexpf((float)(8 + mantissa), exponent - 10);
}

uint8_t moe_nearest_e4m3(float value)
{
    const uint8_t sign = signbit(value) ? 0x80 : 0;
    const double size = fabs((double)value);
    uint8_t best = 0;

    if (isnan(value)) {
        return sign | 0x7f;
    }
    for (int code = 1; code < 0x7f; code++) { /* upwards */
        const double far = fabs((double)moe_e4m3_value((uint8_t)code) - size);
        const double near = fabs((double)moe_e4m3_value(best) - size);
        if (far < near || (far == near && code % 2 == 0)) {
            best = (uint8_t)code;
        }
    }
    return sign | best;
}

/* The least power of two that is not smaller, but none above 2^126. */
static float power_above(float value)
{
    int exponent;

    if (isinf(value)) {
        return ldexpf(1.0f, 126);
    }
    return frexpf(value, &exponent) == 0.5f ? ldexpf(1.0f, exponent - 1) : ldexpf(1.0f, exponent);
}

static int num_groups(const moe_shape *shape)
{
    return (shape->hidden + 127) / 128;
}

void moe_quantise(const moe_shape *shape, const void *row, uint8_t *codes_out, float *scales_out)
{
    for (int group = 0; group < num_groups(shape); group++) {
        const int begin = group * 128;
        const int end = begin + 128 < shape->hidden ? begin + 128 : shape->hidden;
        float largest = 1e-4f, inverse;
        for (int h = begin; h < end; h++) {
            largest = fmaxf(largest, fabsf(moe_load(shape->dtype, row, (size_t)h)));
        }
        inverse = 448.0f / largest;
        scales_out[group] = largest * (1.0f / 448.0f);
        if (shape->fp8_dispatch == EEP_FP8_POWERS) {
            scales_out[group] = power_above(scales_out[group]);
            inverse = 1.0f / scales_out[group];
        }
        for (int h = begin; h < end; h++) {
            const float scaled = moe_load(shape->dtype, row, (size_t)h) * inverse;
            codes_out[h] = moe_nearest_e4m3(scaled);
        }
    }
}

void moe_dequantise(const moe_shape *shape, const uint8_t *codes, const float *scales,
                    void *row_out)
{
    for (int h = 0; h < shape->hidden; h++) {
        moe_store(shape->dtype, row_out, (size_t)h, moe_e4m3_value(codes[h]) * scales[h / 128]);
    }
}

/* ------------------------------------------------------------------ the exchange */

void moe_replica(const eepi_view *view, int layer, const moe_pair *pair, int *seat_out,
                 int *slot_out)
{
    const eepi_view_shape *shape = &view->shape;
    const unsigned offset = (unsigned)(pair->source * 40503 + pair->expert * 37345) % 65536u;
    eepk_replica replicas[shape->max_ranks * shape->num_slots];
    eepi_split_sources sources;
    uint32_t n = 0;

    for (int seat = 0; seat < shape->max_ranks; seat++) {
        for (int slot = 0; slot < shape->num_slots; slot++) {
            const eepi_view_slot *at = eepi_view_slot_at(view, layer, seat, slot);
            if (eepi_view_is_member(view, seat) && at->state == EEPI_SLOT_HOLDS &&
                at->expert == pair->expert) {
                replicas[n++] = (eepk_replica){(uint16_t)seat, (uint16_t)slot, at->share, 0};
            }
        }
    }
    eepi_split_sources_fill(view, pair->source, &sources);
    n = eepi_split_expert(&sources, replicas, n);
    while (n > 1 && (int)(((uint64_t)replicas[n - 1].from * (uint64_t)pair->num + offset) / 65536) >
                        pair->number) {
        n--;
    }
    *seat_out = replicas[n - 1].seat;
    *slot_out = replicas[n - 1].slot;
}

/* The `i`th pair of a source, among those that it has for the same expert. */
static moe_pair pair_of(const moe_shape *shape, const moe_input *in, int source, int i)
{
    moe_pair pair = {source, in->topk_idx[i], 0, 0};

    for (int j = 0; j < in->num_tokens * shape->top_k; j++) {
        pair.number += j < i && in->topk_idx[j] == pair.expert;
        pair.num += in->topk_idx[j] == pair.expert;
    }
    return pair;
}

void moe_dispatch(const moe_shape *shape, const eepi_view *view, int layer, const moe_input *inputs,
                  int seat, uint8_t *rows_out, float *scales_out, int32_t *slot_begin_out,
                  moe_origin *origin_out)
{
    const size_t row_bytes = (size_t)shape->hidden * eep_dtype_bytes(shape->dtype);
    int next = 0;

    for (int slot = 0; slot < shape->num_slots; slot++) {
        const eepi_view_slot *here = eepi_view_slot_at(view, layer, seat, slot);
        slot_begin_out[slot] = next;
        if (here->state != EEPI_SLOT_HOLDS) {
            continue;
        }
        for (int source = 0; source < shape->max_ranks; source++) {
            const moe_input *in = &inputs[source];
            for (int i = 0; i < in->num_tokens * shape->top_k; i++) {
                const int token = i / shape->top_k;
                int to_seat = -1, to_slot = -1;
                moe_pair pair;
                if (in->topk_idx[i] != here->expert) {
                    continue;
                }
                pair = pair_of(shape, in, source, i);
                moe_replica(view, layer, &pair, &to_seat, &to_slot);
                if (to_seat != seat || to_slot != slot) {
                    continue;
                }
                if (shape->fp8_dispatch) {
                    moe_quantise(shape, (const uint8_t *)in->x + (size_t)token * row_bytes,
                                 rows_out + (size_t)next * (size_t)shape->hidden,
                                 scales_out + (size_t)next * (size_t)num_groups(shape));
                } else {
                    memcpy(rows_out + (size_t)next * row_bytes,
                           (const uint8_t *)in->x + (size_t)token * row_bytes, row_bytes);
                }
                origin_out[next++] = (moe_origin){source, token, i % shape->top_k};
            }
        }
    }
    slot_begin_out[shape->num_slots] = next;
}

void moe_combine(const moe_shape *shape, int layer, const moe_input *input, void *out)
{
    const size_t hidden = (size_t)shape->hidden;
    float row[hidden], sum[hidden]; /* a row of bf16 fits, too */
    float scales[num_groups(shape)];
    uint8_t codes[hidden];

    for (int token = 0; token < input->num_tokens; token++) {
        memset(sum, 0, sizeof sum);
        for (int k = 0; k < shape->top_k; k++) {
            const size_t pair = (size_t)token * (size_t)shape->top_k + (size_t)k;
            if (input->topk_idx[pair] < 0) {
                continue;
            }
            const uint8_t *x =
                (const uint8_t *)input->x + (size_t)token * hidden * eep_dtype_bytes(shape->dtype);
            if (shape->fp8_dispatch) {
                moe_quantise(shape, x, codes, scales);
                moe_dequantise(shape, codes, scales, row);
            }
            moe_expert(shape, layer, input->topk_idx[pair], shape->fp8_dispatch ? (void *)row : x,
                       row);
            for (size_t h = 0; h < hidden; h++) {
                const float term = input->topk_weights[pair] * moe_load(shape->dtype, row, h);
                sum[h] = sum[h] + term;
            }
        }
        for (size_t h = 0; h < hidden; h++) {
            moe_store(shape->out_dtype, out, (size_t)token * hidden + h, sum[h]);
        }
    }
}
