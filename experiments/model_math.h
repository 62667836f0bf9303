/* The arithmetic of the laboratory's model on rows (docs/MODEL.md): one rounding per operation and
 * every sum in the order of its index, so that results do not depend on how many rows are computed
 * together, on the machine's vector width or on the optimiser. */
#ifndef EEPX_MODEL_MATH_H
#define EEPX_MODEL_MATH_H

#include <stddef.h>
#include <stdint.h>

/* out[r][j] = sum over k of in[r][k] * weights[k][j], k ascending from 0.0f. in [rows, depth],
 * weights [depth, width], out [rows, width], all dense and apart. Weights are read once. */
void model_multiply(float *out, const float *in, const float *weights, int32_t rows, int32_t depth,
                    int32_t width);

/* out[h] = in[h] / rms(in), `hidden` elements; may work in place. */
void model_norm(float *out, const float *in, int32_t hidden);

/* gate[i] = silu(gate[i]) * up[i], `count` elements. */
void model_swiglu(float *gate, const float *up, size_t count);

/* The top_k largest of gates[num_experts], the smaller index first among equals, in descending
 * order to idx[top_k], and their softmax to weights[top_k]. Where gates are not numbers (rows of a
 * step that has already aborted) idx is -1 and the weight 0. */
void model_top_k(const float *gates, int32_t num_experts, int32_t top_k, int32_t *idx,
                 float *weights);

/* The index of the largest element, the smaller index among equals. */
uint32_t model_argmax(const float *values, int32_t count);

/* Rounding to nearest even, NaN stays NaN; and exactly back. */
void model_to_bf16(uint16_t *out, const float *in, size_t count);
void model_from_bf16(float *out, const uint16_t *in, size_t count);
#endif
