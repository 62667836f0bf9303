/* SPDX-License-Identifier: Apache-2.0 */
/* The laboratory's model on one rank: its memory, its weights, and the capture of a whole step
 * around libeep's dispatch and combine. Everything is allocated by model_open at addresses that the
 * captured graph holds until model_close; a step only changes contents. One thread uses a model. */
#ifndef EEPX_MODEL_H
#define EEPX_MODEL_H

#include "eep/checkpoint.h"
#include "eep/eep.h"
#include "experiments/model/model_kernels.h"
#include "experiments/model/model_plugin.h"

#include <stdbool.h>
#include <stdint.h>

enum { MODEL_MAX_BUFFERS = 48, MODEL_MAX_HIDDEN = 1024, MODEL_MAX_INNER = 1024 };

typedef struct model_config {
    uint64_t seed;
    int32_t num_layers, hidden, inner, num_experts, top_k, vocabulary;
    int32_t num_slots;        /* expert slots per layer */
    int32_t num_max_tokens;   /* positions per step, of each chain */
    int32_t num_chains;       /* micro-batches of a step; 0: 1 */
    int32_t num_max_requests; /* states that are kept */
    int32_t corrupt;          /* model_corruption: captures the nodes that can make it */
    eep_dtype dtype;
    int32_t fp8;         /* rows are quantised on their way to the experts */
    int32_t router_skew; /* 0: experts are chosen about equally often; docs/MODEL.md */
    int32_t expert_us;   /* emulated time of each row of the experts; 0: none */
    int32_t device_ordinal;
    /* A folder or file (model_file.h) that the weights are read from, and that repairs may read;
     * NULL: they are generated from the seed. */
    const char *checkpoint;
    bool no_backups; /* none are kept, whatever the context asks for */
} model_config;

/* A chain's positions. Those of one request are neighbours, and all in one chain. */
typedef struct model_batch {
    int32_t *num_tokens;
    uint32_t *tokens;      /* [num_max_tokens], < vocabulary */
    int32_t *request_slot; /* [num_max_tokens]: whose state */
    int32_t *num_outputs;
    int32_t *output_token; /* [num_max_tokens]: which positions emit, as indices into tokens */
} model_batch;

/* What the host writes between replays: in pinned memory, which the graph's first node copies into
 * device memory as one block, so that no kernel of any layer reads over the bus. */
typedef struct model_inputs {
    model_batch batch[MODEL_MAX_CHAINS];
    int32_t *current; /* [num_max_requests]: state buffer that is committed, or MODEL_NO_STATE */
    void *block;      /* where all of these lie */
    size_t bytes;
} model_inputs;

/* What a chain of a step leaves for the host (pinned), valid once the step ended OK. */
typedef struct model_outputs {
    uint32_t *next;   /* [num_outputs] */
    uint64_t *digest; /* [num_outputs] */
} model_outputs;

/* What a chain keeps while the other one runs. */
typedef struct model_chain {
    model_outputs outputs;
    float *x, *topk_weights, *m;
    void *sent, *saved, *rows, *expert_out; /* dtype; rows may be FP8, */
    float *row_scales;                      /* with these scales */
    int32_t *topk_idx, *slot_begin;
} model_chain;

typedef struct model_buffer {
    eep_memory kind;
    void *memory;
} model_buffer;

typedef struct model {
    model_config config;
    eep_context *context;
    eep_device *device;
    const model_plugin *plugin;     /* launches the kernels; NULL: eep_launch does */
    int32_t expert_blocks;          /* of the kernel that runs the experts */
    model_inputs inputs, on_device; /* what the host writes, and the copy that kernels read */
    model_control *control;         /* pinned; the host and kernels write it */
    model_words words;              /* of the context */

    /* Device memory, filled by copies. */
    float *embedding, *decay, *router, *unembedding; /* decay and router: of all layers */
    float *state;                                    /* [2, num_max_requests, num_layers, hidden] */
    float *experts;        /* [num_layers, num_slots]: gate, up, down, each padded to 128 bytes */
    const float **weights; /* [num_layers, num_slots, MODEL_TENSORS]: into experts */

    model_chain chain[MODEL_MAX_CHAINS];
    /* Scratch of kernels that stand together, which the chains have in turn: one stream runs both.
     */
    float *y, *gates, *scratch, *q, *logits;

    eep_checkpoint *checkpoint; /* NULL: weights are generated */

    float *backups; /* plain memory: the experts that this seat keeps for others */

    model_buffer buffers[MODEL_MAX_BUFFERS];
    int32_t num_buffers;
} model;

/* Allocate, generate all weights from the seed or read them, copy them to the device, and give the
 * context those of its slots and backups. Not during capture. About 60 us per slot and 50 per
 * backup at the default shape. EEP_ERR_INVALID: a size out of range; EEP_ERR_UNSUPPORTED: a CUDA
 * device and no libeep_model_cuda.so for it; or what the device and the context say. After a
 * failure model_close is still to be called. `why_out` is set on failure, to text that lasts until
 * this thread's next call. */
EEP_MUST_CHECK eep_status model_open(model *model, const model_config *config, eep_context *context,
                                     eep_device *device, const char **why_out);
/* Free all memory: after eep_close of the context, which borrowed the weights, and with no step in
 * flight. A zeroed model may be closed. */
void model_close(model *model);

/* Put all nodes of a step into a stream: latch, embedding, layers, logits, finish. For capture.
 * `why_out` is set on failure. */
EEP_MUST_CHECK eep_status model_launch_step(const model *model, eep_stream *stream,
                                            const char **why_out);

/* Zero the committed state of a request slot; make current what the step that just ended OK wrote.
 * Not while a step that has the slot is in flight. */
void model_clear_state(model *model, int32_t request_slot);
void model_commit_state(model *model, int32_t request_slot);

/* Parts of model_open: floats of an expert's padded tensors; generate, copy, give to the context.
 */
size_t model_expert_floats(const model_config *config);
EEP_MUST_CHECK eep_status model_load(model *model, const char **why_out);
#endif
