#include "experiments/model_math.h"
#include "experiments/clones.h"

#include <math.h>
#include <string.h>

enum { LANES = 16, DEPTH_STEP = 4 };

/* Lanes are independent outputs: the compiler splits the vector as the target needs. */
typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* Add DEPTH_STEP terms, one after the other, to the outputs of all rows. */
static inline __attribute__((always_inline)) void add_terms(float *out, const float *in,
                                                            const float *weights, int32_t rows,
                                                            size_t depth, size_t width)
{
    const float *w0 = weights, *w1 = w0 + width, *w2 = w1 + width, *w3 = w2 + width;
    size_t j = 0;
    for (; j + LANES <= width; j += LANES) {
        lanes v0 = *(const lanes *)(w0 + j), v1 = *(const lanes *)(w1 + j);
        lanes v2 = *(const lanes *)(w2 + j), v3 = *(const lanes *)(w3 + j);
        for (int32_t r = 0; r < rows; r++) {
            const float *x = in + (size_t)r * depth;
            lanes *sum = (lanes *)(out + (size_t)r * width + j);
            lanes s = *sum;
            s = s + x[0] * v0;
            s = s + x[1] * v1;
            s = s + x[2] * v2;
            s = s + x[3] * v3;
            *sum = s;
        }
    }
    for (; j < width; j++) {
        for (int32_t r = 0; r < rows; r++) {
            const float *x = in + (size_t)r * depth;
            float s = out[(size_t)r * width + j];
            s = s + x[0] * w0[j];
            s = s + x[1] * w1[j];
            s = s + x[2] * w2[j];
            s = s + x[3] * w3[j];
            out[(size_t)r * width + j] = s;
        }
    }
}

CLONES_FLOAT
void model_multiply(float *out, const float *in, const float *weights, int32_t rows, int32_t depth,
                    int32_t width)
{
    size_t d = (size_t)depth, w = (size_t)width, k = 0;
    memset(out, 0, (size_t)rows * w * sizeof(float));
    for (; k + DEPTH_STEP <= d; k += DEPTH_STEP)
        add_terms(out, in + k, weights + k * w, rows, d, w);
    for (; k < d; k++) {
        for (int32_t r = 0; r < rows; r++) {
            float x = in[(size_t)r * d + k];
            for (size_t j = 0; j < w; j++)
                out[(size_t)r * w + j] = out[(size_t)r * w + j] + x * weights[k * w + j];
        }
    }
}

void model_norm(float *out, const float *in, int32_t hidden)
{
    float sum = 0.0f;
    for (int32_t h = 0; h < hidden; h++)
        sum = sum + in[h] * in[h];
    float r = 1.0f / sqrtf(sum * (1.0f / (float)hidden) + 1e-6f);
    for (int32_t h = 0; h < hidden; h++)
        out[h] = in[h] * r;
}

void model_swiglu(float *gate, const float *up, size_t count)
{
    for (size_t i = 0; i < count; i++)
        gate[i] = (gate[i] / (1.0f + expf(-gate[i]))) * up[i];
}

/* The best gate that comes after (bound, last) in the order of descending gate, ascending index;
 * -1 if no number is left. */
static int32_t next_best(const float *gates, int32_t num_experts, float bound, int32_t last)
{
    int32_t best = -1;
    for (int32_t e = 0; e < num_experts; e++) {
        int after = gates[e] < bound || (gates[e] == bound && e > last);
        if (after && (best < 0 || gates[e] > gates[best]))
            best = e;
    }
    return best;
}

void model_top_k(const float *gates, int32_t num_experts, int32_t top_k, int32_t *idx,
                 float *weights)
{
    float bound = INFINITY, sum = 0.0f;
    int32_t last = -1;
    for (int32_t k = 0; k < top_k; k++) {
        int32_t e = last < 0 && k > 0 ? -1 : next_best(gates, num_experts, bound, last);
        idx[k] = e;
        weights[k] = e < 0 ? 0.0f : expf(gates[e] - gates[idx[0]]);
        sum = sum + weights[k];
        bound = e < 0 ? bound : gates[e];
        last = e;
    }
    for (int32_t k = 0; k < top_k && idx[k] >= 0; k++)
        weights[k] = weights[k] / sum;
}

uint32_t model_argmax(const float *values, int32_t count)
{
    int32_t best = 0;
    for (int32_t v = 1; v < count; v++) {
        if (values[v] > values[best])
            best = v;
    }
    return (uint32_t)best;
}

void model_to_bf16(uint16_t *out, const float *in, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &in[i], sizeof(bits));
        int is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
        uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
        out[i] = (uint16_t)(is_nan ? (bits >> 16) | 0x40u : rounded >> 16);
    }
}

void model_from_bf16(float *out, const uint16_t *in, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = (uint32_t)in[i] << 16;
        memcpy(&out[i], &bits, sizeof(bits));
    }
}
