/* SPDX-License-Identifier: Apache-2.0 */
/* Host bodies of the model's kernels: model_bodies.h, compiled for the CPU, and what each byte of
 * their arguments is, so that a capture is refused that would hold anything else
 * (graphs/device/capture_check.h).
 */
#include "experiments/model/model_bodies.h"

#define FIELD(type, member, kind)                                                                  \
    {                                                                                              \
#member, offsetof(type, member), sizeof(((type *)0)->member), kind                         \
    }
#define ADDRESS(type, member)  FIELD(type, member, EEP_ARG_ADDRESS)
#define CONSTANT(type, member) FIELD(type, member, EEP_ARG_CONSTANT)

#define WORDS(type)                                                                                \
    ADDRESS(type, words.running), ADDRESS(type, words.given_up), ADDRESS(type, words.aborted)

static const eep_kernel_arg model_embed_args_fields[] = {
    ADDRESS(model_embed_args, num_tokens), ADDRESS(model_embed_args, tokens),
    ADDRESS(model_embed_args, embedding),  ADDRESS(model_embed_args, x),
    CONSTANT(model_embed_args, hidden),    CONSTANT(model_embed_args, pad),
};

static const eep_kernel_arg model_recur_args_fields[] = {
    ADDRESS(model_recur_args, num_tokens),
    ADDRESS(model_recur_args, request_slot),
    ADDRESS(model_recur_args, current),
    ADDRESS(model_recur_args, state),
    ADDRESS(model_recur_args, decay),
    ADDRESS(model_recur_args, x),
    ADDRESS(model_recur_args, y),
    ADDRESS(model_recur_args, sent),
    CONSTANT(model_recur_args, num_requests),
    CONSTANT(model_recur_args, num_layers),
    CONSTANT(model_recur_args, layer),
    CONSTANT(model_recur_args, hidden),
    CONSTANT(model_recur_args, dtype),
    CONSTANT(model_recur_args, pad),
    WORDS(model_recur_args),
};

static const eep_kernel_arg model_route_args_fields[] = {
    ADDRESS(model_route_args, num_tokens),
    ADDRESS(model_route_args, y),
    ADDRESS(model_route_args, router),
    ADDRESS(model_route_args, gates),
    ADDRESS(model_route_args, topk_idx),
    ADDRESS(model_route_args, topk_weights),
    CONSTANT(model_route_args, hidden),
    CONSTANT(model_route_args, num_experts),
    CONSTANT(model_route_args, top_k),
    CONSTANT(model_route_args, pad),
    WORDS(model_route_args),
};

static const eep_kernel_arg model_experts_args_fields[] = {
    ADDRESS(model_experts_args, slot_begin), ADDRESS(model_experts_args, rows),
    ADDRESS(model_experts_args, out),        ADDRESS(model_experts_args, weights),
    ADDRESS(model_experts_args, control),    CONSTANT(model_experts_args, num_slots),
    CONSTANT(model_experts_args, layer),     CONSTANT(model_experts_args, hidden),
    CONSTANT(model_experts_args, inner),     CONSTANT(model_experts_args, dtype),
    CONSTANT(model_experts_args, chain),     ADDRESS(model_experts_args, row_scales),
    ADDRESS(model_experts_args, scratch),    WORDS(model_experts_args),
};

static const eep_kernel_arg model_add_args_fields[] = {
    ADDRESS(model_add_args, num_tokens), ADDRESS(model_add_args, x),    ADDRESS(model_add_args, m),
    CONSTANT(model_add_args, hidden),    CONSTANT(model_add_args, pad),
};

static const eep_kernel_arg model_head_args_fields[] = {
    ADDRESS(model_head_args, num_outputs),
    ADDRESS(model_head_args, output_token),
    ADDRESS(model_head_args, x),
    ADDRESS(model_head_args, unembedding),
    ADDRESS(model_head_args, logits),
    ADDRESS(model_head_args, next),
    ADDRESS(model_head_args, digest),
    CONSTANT(model_head_args, hidden),
    CONSTANT(model_head_args, vocabulary),
    ADDRESS(model_head_args, q),
    WORDS(model_head_args),
};

static const eep_kernel_arg model_corrupt_args_fields[] = {
    ADDRESS(model_corrupt_args, control),     ADDRESS(model_corrupt_args, num_tokens),
    ADDRESS(model_corrupt_args, num_outputs), ADDRESS(model_corrupt_args, output_token),
    ADDRESS(model_corrupt_args, topk_idx),    ADDRESS(model_corrupt_args, topk_weights),
    ADDRESS(model_corrupt_args, sent),        ADDRESS(model_corrupt_args, saved),
    ADDRESS(model_corrupt_args, slot_begin),  ADDRESS(model_corrupt_args, experts),
    CONSTANT(model_corrupt_args, num_layers), CONSTANT(model_corrupt_args, num_slots),
    CONSTANT(model_corrupt_args, layer),      CONSTANT(model_corrupt_args, hidden),
    CONSTANT(model_corrupt_args, top_k),      CONSTANT(model_corrupt_args, dtype),
    CONSTANT(model_corrupt_args, chain),      CONSTANT(model_corrupt_args, pad),
};

#define MODEL_HOST_KERNEL(name, args_type)                                                         \
    static void name##_host(const void *args, eep_grid grid)                                       \
    {                                                                                              \
        model_##name##_body((const args_type *)args, grid);                                        \
    }
MODEL_KERNEL_LIST(MODEL_HOST_KERNEL)
#undef MODEL_HOST_KERNEL

#define NUM_FIELDS(list) (sizeof(list) / sizeof((list)[0]))
const eep_kernel model_kernels[MODEL_NUM_KERNELS] = {
#define MODEL_KERNEL_ENTRY(name, type)                                                             \
    EEP_KERNEL("model_" #name, name##_host, NULL, type##_fields, NUM_FIELDS(type##_fields)),
    MODEL_KERNEL_LIST(MODEL_KERNEL_ENTRY)
#undef MODEL_KERNEL_ENTRY
};
