/* SPDX-License-Identifier: Apache-2.0 */
/* What the threads of a block do together on up to MODEL_GROUP rows: the only part of the model
 * that the two compilers have in different words, with the same sums in the same order. Between two
 * of these calls that touch the same numbers a block meets (eepk_block_sync). */
#ifndef EEPX_MODEL_ROWS_H
#define EEPX_MODEL_ROWS_H

#include "experiments/model/model_math.h"

enum { MODEL_GROUP = 8 }; /* rows that share one pass over weights */

#if defined(__CUDACC__)

/* out[r][j] = sum over k of in[r][k] * weights[k][j], k ascending from 0.0f. in [rows, depth],
 * weights [depth, width], out [rows, width], all dense and apart. Weights are read once: a thread
 * has a column of them, and neighbours read neighbours. */
EEPK_FN void model_multiply(float *out, const float *in, const float *weights, int32_t rows,
                            int32_t depth, int32_t width, eep_grid g)
{
    EEPK_FOR_EACH (j, width, g) {
        float sum[MODEL_GROUP] = {0.0f};

        for (int32_t k = 0; k < depth; k++) {
            float weight = weights[(size_t)k * (size_t)width + j];
            EEPK_UNROLL
            for (int32_t r = 0; r < MODEL_GROUP; r++) {
                if (r < rows) {
                    sum[r] = EEPK_FADD(sum[r], EEPK_FMUL(in[r * depth + k], weight));
                }
            }
        }
        EEPK_UNROLL
        for (int32_t r = 0; r < MODEL_GROUP; r++) {
            if (r < rows) {
                out[(size_t)r * (size_t)width + j] = sum[r];
            }
        }
    }
}

/* gate[i] = silu(gate[i]) * up[i], `count` numbers. */
EEPK_FN void model_swiglu(float *gate, const float *up, int32_t count, eep_grid g)
{
    EEPK_FOR_EACH (i, count, g)
        gate[i] = model_swish(gate[i], up[i]);
}

#else /* the same, blocked and vectorised: model_rows.c */

void model_multiply(float *out, const float *in, const float *weights, int32_t rows, int32_t depth,
                    int32_t width, eep_grid g);
void model_swiglu(float *gate, const float *up, int32_t count, eep_grid g);

#endif
#endif
