/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of the laboratory's model on one row or number (docs/MODEL.md), written once for
 * the C compiler and nvcc: one rounding per operation and every sum in the order of its index, so
 * that results do not depend on the machine, on the optimiser, or on which rows are computed
 * together. One thread computes a result; nothing is written but what a function's comment says. */
#ifndef EEPX_MODEL_MATH_H
#define EEPX_MODEL_MATH_H

#include "graphs/kernels/compiler_macros.h"

EEPK_FN float model_float_of(uint32_t bits)
{
    union {
        uint32_t bits;
        float value;
    } u;
    u.bits = bits;
    return u.value;
}

/* docs/MODEL.md, "exp": n ln 2 in two parts (Cody and Waite), then Cephes' polynomial, with own
 * rounding to the nearest integer: adding 1.5 x 2^23 leaves no bit for a fraction. Without
 * branches, so that loops of it can be vectorised; within 2 units in the last place. */
EEPK_FN float model_exp(float x)
{
    float inside = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x == x ? x : 0.0f;
    float magic = EEPK_FADD(EEPK_FMUL(inside, 1.44269504f), 12582912.0f);
    float n = EEPK_FADD(magic, -12582912.0f);
    float r =
        EEPK_FADD(EEPK_FADD(inside, EEPK_FMUL(n, -0.693359375f)), EEPK_FMUL(n, 2.12194440e-4f));
    float p = 1.9875691500e-4f, y;

    p = EEPK_FADD(EEPK_FMUL(p, r), 1.3981999507e-3f);
    p = EEPK_FADD(EEPK_FMUL(p, r), 8.3334519073e-3f);
    p = EEPK_FADD(EEPK_FMUL(p, r), 4.1665795894e-2f);
    p = EEPK_FADD(EEPK_FMUL(p, r), 1.6666665459e-1f);
    p = EEPK_FADD(EEPK_FMUL(p, r), 5.0000001201e-1f);
    y = EEPK_FADD(EEPK_FADD(EEPK_FMUL(p, EEPK_FMUL(r, r)), r), 1.0f);
    y = EEPK_FMUL(y, model_float_of((uint32_t)((int32_t)n + 127) << 23));
    return x < -87.0f ? 0.0f : x > 88.0f ? model_float_of(0x7f800000u) : x == x ? y : x;
}

/* silu(gate) * up */
EEPK_FN float model_swish(float gate, float up)
{
    float below = EEPK_FADD(1.0f, model_exp(-gate));

    return EEPK_FMUL(EEPK_FDIV(gate, below), up);
}

/* What a row is multiplied by to be normalised: 1 / rms(in), `hidden` elements. */
EEPK_FN float model_inverse_rms(const float *in, int32_t hidden)
{
    float sum = 0.0f, mean;

    for (int32_t h = 0; h < hidden; h++) {
        sum = EEPK_FADD(sum, EEPK_FMUL(in[h], in[h]));
    }
    mean = EEPK_FMUL(sum, EEPK_FDIV(1.0f, (float)hidden));
    return EEPK_FDIV(1.0f, EEPK_FSQRT(EEPK_FADD(mean, 1e-6f)));
}

/* The best gate that comes after (bound, last) in the order of descending gate, ascending index;
 * -1 if no number is left. */
EEPK_FN int32_t model_next_best(const float *gates, int32_t num_experts, float bound, int32_t last)
{
    int32_t best = -1;

    for (int32_t e = 0; e < num_experts; e++) {
        int after = gates[e] < bound || (gates[e] == bound && e > last);
        if (after && (best < 0 || gates[e] > gates[best])) {
            best = e;
        }
    }
    return best;
}

/* The top_k largest of gates[num_experts], the smaller index first among equals, in descending
 * order to idx[top_k], and their softmax to weights[top_k]. Where gates are not numbers (rows of a
 * step that has already aborted) idx is -1 and the weight 0. */
EEPK_FN void model_top_k(const float *gates, int32_t num_experts, int32_t top_k, int32_t *idx,
                         float *weights)
{
    float bound = model_float_of(0x7f800000u), sum = 0.0f; /* infinity: before all numbers */
    int32_t last = -1;

    for (int32_t k = 0; k < top_k; k++) {
        int32_t e = last < 0 && k > 0 ? -1 : model_next_best(gates, num_experts, bound, last);
        idx[k] = e;
        weights[k] = e < 0 ? 0.0f : model_exp(EEPK_FADD(gates[e], -gates[idx[0]]));
        sum = EEPK_FADD(sum, weights[k]);
        bound = e < 0 ? bound : gates[e];
        last = e;
    }
    for (int32_t k = 0; k < top_k && idx[k] >= 0; k++) {
        weights[k] = EEPK_FDIV(weights[k], sum);
    }
}

/* The index of the largest element, the smaller index among equals. */
EEPK_FN uint32_t model_argmax(const float *values, int32_t count)
{
    int32_t best = 0;

    for (int32_t v = 1; v < count; v++) {
        if (values[v] > values[best]) {
            best = v;
        }
    }
    return (uint32_t)best;
}
#endif
