/* The laboratory's model on one rank: its memory, its weights, and the capture of a whole step
 * around libeep's dispatch and combine. Everything is allocated by model_open at addresses that the
 * captured graph holds until model_close; a step only changes contents. One thread uses a model. */
#ifndef EEPX_MODEL_H
#define EEPX_MODEL_H

#include "eep/eep.h"
#include "experiments/model_kernels.h"

#include <stdint.h>

enum { MODEL_MAX_BUFFERS = 32 };

typedef struct model_config {
    uint64_t seed;
    int32_t num_layers, hidden, inner, num_experts, top_k, vocabulary;
    int32_t num_slots;        /* expert slots per layer */
    int32_t num_max_tokens;   /* positions per step */
    int32_t num_max_requests; /* states that are kept */
    int32_t corrupt;          /* model_corruption: captures the nodes that can make it */
    eep_dtype dtype;
    int32_t fp8; /* rows are quantised on their way to the experts */
} model_config;

/* What the host writes between replays (pinned). */
typedef struct model_inputs {
    int32_t *num_tokens;
    uint32_t *tokens; /* [num_max_tokens], < vocabulary */
    int32_t
        *request_slot; /* [num_max_tokens]: whose state; one request's positions are neighbours */
    int32_t *num_outputs;
    int32_t *output_token; /* [num_max_tokens]: which positions emit, as indices into tokens */
    int32_t *current;      /* [num_max_requests]: which of its two state buffers is committed */
    model_control *control;
} model_inputs;

/* What a step leaves for the host (pinned), valid once it ended OK. */
typedef struct model_outputs {
    uint32_t *next;   /* [num_outputs] */
    uint64_t *digest; /* [num_outputs] */
} model_outputs;

typedef struct model_buffer {
    eep_memory kind;
    void *memory;
} model_buffer;

typedef struct model {
    model_config config;
    eep_context *context;
    eep_device *device;
    model_inputs inputs;
    model_outputs outputs;

    float *embedding, *decay, *router, *unembedding; /* decay and router: of all layers */
    float *state;                                    /* [2, num_max_requests, num_layers, hidden] */
    float *experts;        /* [num_layers, num_slots]: gate, up, down, each padded to 128 bytes */
    const float **weights; /* [num_layers, num_slots, MODEL_TENSORS]: into experts */
    float *backups;        /* plain memory: the experts that this seat keeps for others */

    float *x, *y, *gates, *topk_weights, *m, *logits;
    void *sent, *saved, *rows, *expert_out; /* dtype; rows may be FP8, */
    float *row_scales;                      /* with these scales */
    int32_t *topk_idx, *slot_begin;

    model_buffer buffers[MODEL_MAX_BUFFERS];
    int32_t num_buffers;
} model;

/* Allocate, generate all weights from the seed, and give the context those of its slots and
 * backups. Not during capture. About 50 us per slot and backup at the default shape.
 * EEP_ERR_INVALID: a size out of range; EEP_ERR_UNSUPPORTED: not the host backend; or what the
 * device and the context say. After a failure model_close is still to be called. `why_out` is set
 * on failure. */
EEP_MUST_CHECK eep_status model_open(model *model, const model_config *config, eep_context *context,
                                     eep_device *device, const char **why_out);
/* Free all memory: after eep_close of the context, which borrowed the weights, and with no step in
 * flight. A zeroed model may be closed. */
void model_close(model *model);

/* Put all nodes of a step into a stream: latch, embedding, layers, logits, finish. For capture. */
EEP_MUST_CHECK eep_status model_launch_step(const model *model, eep_stream *stream);

/* Zero the committed state of a request slot. Not while a step that has it is in flight. */
void model_clear_state(model *model, int32_t request_slot);
#endif
