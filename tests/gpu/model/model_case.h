/* SPDX-License-Identifier: Apache-2.0 */
/* One step of the laboratory's model at a small, uneven shape, kernel by kernel, for comparing what
 * other ways of running the kernels leave with what the host leaves. All lies in one struct without
 * pointers to elsewhere but its own, which the kernels must reach (pinned memory, for a GPU). */
#ifndef EEPX_MODEL_CASE_H
#define EEPX_MODEL_CASE_H

#include "experiments/model/model_bodies.h"

enum {
    CASE_TOKENS = 11,
    CASE_OUTPUTS = 9,
    CASE_HIDDEN = 141, /* two groups of FP8 scales; no multiple of anything */
    CASE_INNER = 23,
    CASE_EXPERTS = 10,
    CASE_TOPK = 3,
    CASE_VOCABULARY = 53,
    CASE_SLOTS = 3,
    CASE_LAYERS = 2,
    CASE_REQUESTS = 3,
    CASE_ROWS = 21,
    CASE_BLOCKS_PER_SLOT = 2,
    CASE_SCRATCH = CASE_BLOCKS_PER_SLOT * CASE_SLOTS * 2 * MODEL_GROUP * (CASE_HIDDEN + CASE_INNER),
    CASE_SCALES = (CASE_HIDDEN + EEP_FP8_GROUP - 1) / EEP_FP8_GROUP,
    CASE_TYPES = 3, /* fp32, bf16, fp8 */
};

/* What the kernels write. */
typedef struct model_case_results {
    float state[2][CASE_REQUESTS][CASE_LAYERS][CASE_HIDDEN];
    float x[CASE_TOKENS][CASE_HIDDEN], y[CASE_TOKENS][CASE_HIDDEN];
    float gates[CASE_TOKENS][CASE_EXPERTS];
    float sent[CASE_TOKENS][CASE_HIDDEN], saved[CASE_TOKENS][CASE_HIDDEN]; /* in either type */
    int32_t topk_idx[CASE_TOKENS][CASE_TOPK];
    float topk_weights[CASE_TOKENS][CASE_TOPK];
    float out[CASE_ROWS][CASE_HIDDEN], scratch[CASE_SCRATCH];
    float logits[CASE_TOKENS][CASE_VOCABULARY], q[CASE_TOKENS][CASE_HIDDEN];
    uint32_t next[CASE_TOKENS];
    uint64_t digest[CASE_TOKENS];
    model_control control;
} model_case_results;

typedef struct model_case {
    model_case_results results;
    /* What they only read. */
    float embedding[CASE_VOCABULARY][CASE_HIDDEN], decay[CASE_HIDDEN];
    float router[CASE_HIDDEN][CASE_EXPERTS], m[CASE_TOKENS][CASE_HIDDEN];
    float unembedding[CASE_HIDDEN][CASE_VOCABULARY];
    float experts[CASE_LAYERS * CASE_SLOTS * MODEL_TENSORS][CASE_HIDDEN * CASE_INNER];
    float rows[CASE_ROWS][CASE_HIDDEN]; /* in the case's type */
    float row_scales[CASE_ROWS][CASE_SCALES];
    const float *weights[CASE_LAYERS * CASE_SLOTS * MODEL_TENSORS]; /* into experts */
    int32_t num_tokens, num_outputs;
    uint32_t tokens[CASE_TOKENS];
    int32_t request_slot[CASE_TOKENS], current[CASE_REQUESTS], output_token[CASE_OUTPUTS];
    int32_t slot_begin[CASE_SLOTS + 1], slot_experts[CASE_LAYERS * CASE_SLOTS];
    int32_t type, corrupt;
} model_case;

/* Runs a kernel over all its blocks; when it returns, or before the next one runs, all have ended.
 */
typedef void (*model_case_launch)(void *user, model_kernel_id id, uint32_t num_blocks,
                                  const void *args);

/* Inputs from a seed: type 0 to CASE_TYPES - 1, and a model_corruption that is to be made. The case
 * stays at its address. */
void model_case_fill(model_case *self, int32_t type, int32_t corrupt);
/* Every kernel once, in a step's order. */
void model_case_run(model_case *self, model_case_launch launch, void *user);
/* model_case_launch: the host's kernels, one block after the other. */
void model_case_on_host(void *user, model_kernel_id id, uint32_t num_blocks, const void *args);
#endif
