/* SPDX-License-Identifier: Apache-2.0 */
/* Names and shapes of the model's tensors. */
#include "experiments/model/model_tensors.h"

#include <stdio.h>

void model_tensor_name(weights_kind kind, int32_t layer, int32_t expert,
                       char name_out[MODEL_TENSOR_NAME_BYTES])
{
    static const char *const projections[] = {
        [WEIGHTS_GATE] = "gate", [WEIGHTS_UP] = "up", [WEIGHTS_DOWN] = "down"};

    switch (kind) {
    case WEIGHTS_EMBEDDING:
        snprintf(name_out, MODEL_TENSOR_NAME_BYTES, "model.embed_tokens.weight");
        return;
    case WEIGHTS_UNEMBEDDING:
        snprintf(name_out, MODEL_TENSOR_NAME_BYTES, "lm_head.weight");
        return;
    case WEIGHTS_DECAY:
        snprintf(name_out, MODEL_TENSOR_NAME_BYTES, "model.layers.%d.decay.weight", layer);
        return;
    case WEIGHTS_ROUTER:
        snprintf(name_out, MODEL_TENSOR_NAME_BYTES, "model.layers.%d.mlp.router.weight", layer);
        return;
    case WEIGHTS_GATE:
    case WEIGHTS_UP:
    case WEIGHTS_DOWN:
        snprintf(name_out, MODEL_TENSOR_NAME_BYTES, "model.layers.%d.mlp.experts.%d.%s_proj.weight",
                 layer, expert, projections[kind]);
        return;
    }
}

enum { OF_NO_LAYER = 2, OF_LAYER = 2 };

static int64_t num_of_layer(const model_config *c)
{
    return OF_LAYER + (int64_t)c->num_experts * MODEL_TENSORS;
}

int64_t model_tensors_num(const model_config *c)
{
    return OF_NO_LAYER + c->num_layers * num_of_layer(c);
}

static model_tensor make(weights_kind kind, int32_t layer, int32_t expert, int32_t rows,
                         int32_t columns)
{
    model_tensor t = {.kind = kind, .layer = layer, .expert = expert, .num_dims = columns ? 2 : 1};

    t.shape[0] = rows;
    t.shape[1] = columns;
    model_tensor_name(kind, layer, expert, t.name);
    return t;
}

model_tensor model_tensor_at(const model_config *c, int64_t number)
{
    const int64_t inside = number - OF_NO_LAYER;
    const int32_t layer = (int32_t)(inside / num_of_layer(c));
    const int64_t of_layer = inside % num_of_layer(c);

    if (number == 0) {
        return make(WEIGHTS_EMBEDDING, 0, 0, c->vocabulary, c->hidden);
    }
    if (number == 1) {
        return make(WEIGHTS_UNEMBEDDING, 0, 0, c->hidden, c->vocabulary);
    }
    if (of_layer == 0) {
        return make(WEIGHTS_DECAY, layer, 0, c->hidden, 0);
    }
    if (of_layer == 1) {
        return make(WEIGHTS_ROUTER, layer, 0, c->hidden, c->num_experts);
    }
    const int32_t expert = (int32_t)((of_layer - OF_LAYER) / MODEL_TENSORS);
    const weights_kind kind = (weights_kind)(WEIGHTS_GATE + (of_layer - OF_LAYER) % MODEL_TENSORS);
    return kind == WEIGHTS_DOWN ? make(kind, layer, expert, c->inner, c->hidden)
                                : make(kind, layer, expert, c->hidden, c->inner);
}

size_t model_tensor_count(const model_tensor *tensor)
{
    return (size_t)tensor->shape[0] * (tensor->num_dims == 2 ? (size_t)tensor->shape[1] : 1);
}
