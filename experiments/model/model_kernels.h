/* SPDX-License-Identifier: Apache-2.0 */
/* The model's kernels (docs/MODEL.md): their arguments, and the table of them. The bodies are in
 * model_bodies.h, for the host (model_kernels.c) and for CUDA (cuda/model_kernels.cu). Argument
 * structs hold pointers to fixed addresses and constants of the shape only; whatever changes
 * between steps is read through the pointers at replay. Rows of a type are float, or uint16_t bits
 * of bf16. A block may have any number of threads; on the host it has one. */
#ifndef EEPX_MODEL_KERNELS_H
#define EEPX_MODEL_KERNELS_H

#include "eep/device.h"
#include "eep/eep.h"

#include <stddef.h>
#include <stdint.h>

enum {
    MODEL_MAX_EXPERTS = 4096,
    MODEL_TENSORS = 3,  /* gate, up, down */
    MODEL_NO_STATE = 2, /* in place of the buffer that is committed: neither is, all zeros */
    MODEL_MAX_CHAINS = 2,
};

/* The values of engine_corruption (engine.h). */
typedef enum model_corruption {
    MODEL_CORRUPT_NONE,
    MODEL_CORRUPT_SLOT,
    MODEL_CORRUPT_STALE,
    MODEL_CORRUPT_DROP,
    MODEL_CORRUPT_EXPERT,
} model_corruption;

enum { MODEL_NO_EXPERT = 1000000 };

/* A seeded fault of the product, made once. The host arms it between replays. */
typedef struct model_control {
    int32_t kind;  /* model_corruption */
    int32_t armed; /* 1: this step is to be corrupted where that changes a row */
    int32_t layer; /* the layer in which it happens */
    int32_t pick;  /* which k is left out, or bad, taken modulo top_k */
    /* Written by the kernels, reset by the host when it arms. */
    int32_t fired;       /* 1: it has happened in this step */
    int32_t victim_slot; /* SLOT: slot of `layer` that computes with another's weights; -1: none */
    int32_t victim_chain;
    int32_t source;                      /* SLOT: layer * num_slots + slot whose weights it takes */
    int32_t num_saved[MODEL_MAX_CHAINS]; /* STALE: rows of the step before that are kept */
    /* Written by the host when it arms. */
    int32_t bad_chain, bad_token; /* EXPERT: the position whose k names MODEL_NO_EXPERT */
} model_control;

/* Where a kernel sees that its step is over before its end (eep_step_words); `running` NULL: it
 * looks at nothing. */
typedef struct model_words {
    const uint64_t *running, *given_up;
    const uint32_t *aborted;
} model_words;

/* num_blocks = positions per step: x[t] = embedding[tokens[t]]. */
typedef struct model_embed_args {
    const int32_t *num_tokens;
    const uint32_t *tokens; /* [num_tokens], < vocabulary */
    const float *embedding;
    float *x; /* out [num_tokens, hidden] */
    int32_t hidden, pad;
} model_embed_args;

/* num_blocks = positions per step. The block of a request's first position does the recurrence and
 * the norm of all its positions, in order: the first reads the committed state, all write the other
 * buffer, which the later ones continue from (rule D4). */
typedef struct model_recur_args {
    const int32_t *num_tokens;
    const int32_t *request_slot; /* [num_tokens]; positions of one request are neighbours */
    const int32_t *current;      /* [num_requests]: buffer that is committed, or MODEL_NO_STATE */
    float *state;                /* [2, num_requests, num_layers, hidden] */
    const float *decay;          /* [hidden] of the layer */
    const float *x;
    float *y;   /* out [num_tokens, hidden] */
    void *sent; /* out [num_tokens, hidden], dtype: y as it is dispatched */
    int32_t num_requests, num_layers, layer, hidden;
    int32_t dtype, pad;
    model_words words;
} model_recur_args;

/* num_blocks = positions per step / MODEL_GROUP, rounded up. */
typedef struct model_route_args {
    const int32_t *num_tokens;
    const float *y;
    const float *router; /* [hidden, num_experts] of the layer */
    float *gates;        /* scratch [num_tokens, num_experts] */
    int32_t *topk_idx;   /* out [num_tokens, top_k] */
    float *topk_weights; /* out [num_tokens, top_k] */
    int32_t hidden, num_experts, top_k, pad;
    model_words words;
} model_route_args;

/* num_blocks = num_slots, or a multiple: rows slot_begin[s] .. slot_begin[s + 1] through the expert
 * of slot s, a group of them after the other in each of the slot's blocks. */
typedef struct model_experts_args {
    const int32_t *slot_begin;
    const void *rows;             /* [rows, hidden], dtype or e4m3 */
    void *out;                    /* out [rows, hidden], dtype */
    const float *const *weights;  /* [num_layers, num_slots, MODEL_TENSORS] */
    const model_control *control; /* NULL: nothing is to be corrupted */
    int32_t num_slots, layer, hidden, inner;
    int32_t dtype, chain;
    const float *row_scales; /* [rows, groups of hidden] with FP8, else NULL */
    float *scratch;          /* [num_blocks, model_scratch_floats] */
    model_words words;
} model_experts_args;

/* num_blocks = positions per step: x[t] += m[t]. */
typedef struct model_add_args {
    const int32_t *num_tokens;
    float *x;       /* in and out [num_tokens, hidden] */
    const float *m; /* [num_tokens, hidden] */
    int32_t hidden, pad;
} model_add_args;

/* num_blocks = positions per step / MODEL_GROUP, rounded up: the positions that emit. */
typedef struct model_head_args {
    const int32_t *num_outputs;
    const int32_t *output_token; /* [num_outputs]: position in the batch */
    const float *x;
    const float *unembedding; /* [hidden, vocabulary] */
    float *logits;            /* out [num_outputs, vocabulary] */
    uint32_t *next;           /* out [num_outputs]: the next token */
    uint64_t *digest;         /* out [num_outputs]: XXH64 of the logits */
    int32_t hidden, vocabulary;
    float *q; /* scratch [num_outputs, hidden]: the rows, normalised */
    model_words words;
} model_head_args;

/* num_blocks = 1, only captured where a corruption is configured. Before a layer's dispatch it
 * makes STALE, DROP and EXPERT, after it SLOT; the faults only where they change what a position
 * that emits computes. */
typedef struct model_corrupt_args {
    model_control *control;
    const int32_t *num_tokens;
    const int32_t *num_outputs;
    const int32_t *output_token;
    int32_t *topk_idx;   /* in and out [num_tokens, top_k] */
    float *topk_weights; /* in and out [num_tokens, top_k] */
    void *sent;          /* in and out [num_tokens, hidden], dtype */
    void *saved;         /* [num_tokens, hidden], dtype: what was sent in the step before */
    const int32_t *slot_begin;
    const int32_t *experts; /* [num_layers, num_slots]: logical expert of each slot, -1: empty */
    int32_t num_layers, num_slots, layer, hidden, top_k;
    int32_t dtype, chain, pad;
} model_corrupt_args;

/* X(name, args type): every kernel of the model, for the wrappers of both compilers. */
#define MODEL_KERNEL_LIST(X)                                                                       \
    X(embed, model_embed_args)                                                                     \
    X(recur, model_recur_args)                                                                     \
    X(route, model_route_args)                                                                     \
    X(experts, model_experts_args)                                                                 \
    X(add, model_add_args)                                                                         \
    X(head, model_head_args)                                                                       \
    X(corrupt_sent, model_corrupt_args)                                                            \
    X(corrupt_slot, model_corrupt_args)

typedef enum model_kernel_id {
#define MODEL_KERNEL_ID(name, args) MODEL_KERNEL_##name,
    MODEL_KERNEL_LIST(MODEL_KERNEL_ID)
#undef MODEL_KERNEL_ID
        MODEL_NUM_KERNELS
} model_kernel_id;

#ifdef __cplusplus
extern "C" {
#endif

/* With their host bodies and what each byte of their arguments is, in the order of model_kernel_id;
 * `.cuda` is NULL: the CUDA bodies are launched by the plugin that has them (model_plugin.h). */
extern const eep_kernel model_kernels[MODEL_NUM_KERNELS];

#ifdef __cplusplus
}
#endif
#endif
