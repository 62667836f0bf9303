/* SPDX-License-Identifier: Apache-2.0 */
/* One MoE exchange, computed sequentially from its definition and the view document: no windows, no
 * tags, no banks. What the kernels must match bit for bit.
 *
 * A source seat's pairs (token, k) for an expert are numbered in order of token, from 0. Of n pairs
 * those from floor((from x n + offset) / 65536) on go to a replica, up to where the next one's
 * begin, where offset is (seat x 40503 + expert x 37345) mod 65536 and `from` is what
 * eepi_split_expert gives that seat; replicas are in order of seat, then slot. A slot receives rows
 * in order of source seat, then token. An output is the sum over k, in order of k, of weight times
 * expert output; each product and each sum is rounded to binary32 once, the total to the output's
 * type once. */
#ifndef REFERENCE_MOE_H
#define REFERENCE_MOE_H

#include "membership/view/view.h"

#include <stdint.h>

typedef struct moe_shape {
    int max_ranks, num_layers, num_experts, num_slots, top_k, hidden, max_tokens;
    eep_dtype dtype, out_dtype;
    int marks;        /* experts do not compute, they mark: see moe_expert */
    int fp8_dispatch; /* eep_fp8_kind: rows are quantised on the way */
    int num_chains;   /* 0 or 1: one. 2: layer i is chain i % 2 of the kernels' layer i / 2 */
} moe_shape;

typedef struct moe_input { /* of one rank and layer */
    int num_tokens;
    const void *x;
    const int32_t *topk_idx;
    const float *topk_weights;
} moe_input;

typedef struct moe_origin {
    int seat, token, k;
} moe_origin;

typedef struct moe_pair { /* one of a source's pairs for an expert */
    int source, expert;
    int number, num; /* which, and how many there are */
} moe_pair;

/* Where it goes. */
void moe_replica(const eepi_view *view, int layer, const moe_pair *pair, int *seat_out,
                 int *slot_out);
/* What a packed dispatch delivers to `seat`. `inputs[max_ranks]`, zero tokens for who is not there.
 * `rows_out`, `origin_out` and `slot_begin_out` have room for all that can come. */
void moe_dispatch(const moe_shape *shape, const eepi_view *view, int layer, const moe_input *inputs,
                  int seat, uint8_t *rows_out, float *scales_out, int32_t *slot_begin_out,
                  moe_origin *origin_out);
/* FP8: codes [hidden] and scales [hidden / 128 rounded up] of a row of dtype: a group's scale makes
 * its largest value, or 1e-4, 448; EEP_FP8_POWERS: it is rounded up to a power of two. Each value
 * becomes the nearest code, of two the even one. */
void moe_quantise(const moe_shape *shape, const void *row, uint8_t *codes_out, float *scales_out);
/* Back to a row of dtype. */
void moe_dequantise(const moe_shape *shape, const uint8_t *codes, const float *scales,
                    void *row_out);
/* The value of an e4m3 code, from its definition. */
float moe_e4m3_value(uint8_t code);
/* The nearest code, found by looking at all of them. */
uint8_t moe_nearest_e4m3(float value);
/* [num_tokens, hidden] of out_dtype. */
void moe_combine(const moe_shape *shape, int layer, const moe_input *input, void *out);
/* A stand-in for an expert: one row of `hidden` elements to another, dtype both. With `marks`
 * (FP32, at least 3 columns): column 0 is 2^expert, column 1 is kept, column 2 is the layer + 1. */
void moe_expert(const moe_shape *shape, int layer, int expert, const void *row, void *row_out);
/* Round a binary32 to an element of `dtype` and store it at index i. */
void moe_store(eep_dtype dtype, void *values, size_t i, float value);
float moe_load(eep_dtype dtype, const void *values, size_t i);
#endif
