/* SPDX-License-Identifier: Apache-2.0 */
/* Products of rows and matrices of the model, and SwiGLU, with the same bits on every CPU. */
#include "experiments/model/model_rows.h"
#include "experiments/base/clones.h"

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
                    int32_t width, eep_grid g)
{
    (void)g;
    size_t d = (size_t)depth, w = (size_t)width, k = 0;
    memset(out, 0, (size_t)rows * w * sizeof(float));
    for (; k + DEPTH_STEP <= d; k += DEPTH_STEP) {
        add_terms(out, in + k, weights + k * w, rows, d, w);
    }
    for (; k < d; k++) {
        for (int32_t r = 0; r < rows; r++) {
            float x = in[(size_t)r * d + k];
            for (size_t j = 0; j < w; j++) {
                out[(size_t)r * w + j] = out[(size_t)r * w + j] + x * weights[k * w + j];
            }
        }
    }
}

CLONES_EXACT
void model_swiglu(float *gate, const float *up, int32_t count, eep_grid g)
{
    (void)g;
    for (int32_t i = 0; i < count; i++) {
        gate[i] = model_swish(gate[i], up[i]);
    }
}
