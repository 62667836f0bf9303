/* SPDX-License-Identifier: Apache-2.0 */
/* The tensors of the laboratory's model, with the names that they have in a checkpoint:
 *
 *   model.embed_tokens.weight                              [vocabulary, hidden]
 *   lm_head.weight                                         [hidden, vocabulary]
 *   model.layers.L.decay.weight                            [hidden]
 *   model.layers.L.mlp.router.weight                       [hidden, num_experts]
 *   model.layers.L.mlp.experts.E.{gate,up}_proj.weight     [hidden, inner]
 *   model.layers.L.mlp.experts.E.down_proj.weight          [inner, hidden]
 *
 * All are FP32, row-major, as docs/MODEL.md has them. */
#ifndef EEPX_MODEL_TENSORS_H
#define EEPX_MODEL_TENSORS_H

#include "experiments/model/model.h"
#include "experiments/model/model_weights.h"

enum { MODEL_TENSOR_NAME_BYTES = 96 };

typedef struct model_tensor {
    weights_kind kind;
    int32_t layer, expert; /* 0 where the kind has none */
    int32_t num_dims;
    int32_t shape[2];
    char name[MODEL_TENSOR_NAME_BYTES];
} model_tensor;

/* How many there are, and the one of that number. */
int64_t model_tensors_num(const model_config *config);
model_tensor model_tensor_at(const model_config *config, int64_t number);
size_t model_tensor_count(const model_tensor *tensor); /* of its numbers */
void model_tensor_name(weights_kind kind, int32_t layer, int32_t expert,
                       char name_out[MODEL_TENSOR_NAME_BYTES]);
#endif
