/* SPDX-License-Identifier: Apache-2.0 */
/* The model's memory on the device. */
#include "experiments/model/model.h"
#include "eep/words.h"
#include "experiments/model/model_bodies.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { CUDA_BLOCKS_PER_SLOT = 4, WHY_BYTES = 512 };
enum { NUM_COMMON = 15, NUM_OF_CHAIN = 12 };
static_assert(NUM_COMMON + MODEL_MAX_CHAINS * NUM_OF_CHAIN <= MODEL_MAX_BUFFERS, "room for all");

/* ---------------------------------------------------------------- memory */

static bool in_range(int32_t value, int32_t max)
{
    return value >= 1 && value <= max;
}

static const char *config_flaw(const model_config *c)
{
    if (!in_range(c->num_layers, EEP_MAX_LAYERS)) {
        return "num_layers is out of range";
    }
    if (!in_range(c->hidden, MODEL_MAX_HIDDEN) || !in_range(c->inner, MODEL_MAX_INNER)) {
        return "hidden and inner must be 1 to 1024";
    }
    if (!in_range(c->num_experts, MODEL_MAX_EXPERTS)) {
        return "num_experts must be 1 to 4096";
    }
    if (!in_range(c->top_k, EEP_MAX_TOPK) || c->top_k > c->num_experts) {
        return "top_k must be 1 to 32 and at most num_experts";
    }
    if (!in_range(c->vocabulary, 1 << 20)) {
        return "vocabulary must be 1 to 1048576";
    }
    if (!in_range(c->num_slots, MODEL_MAX_EXPERTS)) {
        return "num_slots must be 1 to 4096";
    }
    if (!in_range(c->num_max_tokens, 1 << 16) || !in_range(c->num_max_requests, 1 << 16)) {
        return "num_max_tokens_per_rank and num_max_requests must be 1 to 65536";
    }
    if (!in_range(c->num_chains, MODEL_MAX_CHAINS)) {
        return "num_chains must be 1 or 2";
    }
    if (eep_dtype_bytes(c->dtype) == 0) {
        return "dtype is neither fp32 nor bf16";
    }
    if (c->corrupt < MODEL_CORRUPT_NONE || c->corrupt > MODEL_CORRUPT_EXPERT) {
        return "unknown corruption";
    }
    return NULL;
}

/* Zeroed memory that model_close frees; *memory_out is some pointer variable. */
static eep_status allocate_one(model *m, eep_memory kind, size_t bytes, void *memory_out)
{
    void *memory;
    eep_status status = eep_device_alloc(m->device, kind, bytes, &memory);
    if (status != EEP_OK) {
        return status;
    }
    m->buffers[m->num_buffers++] = (model_buffer){kind, memory};
    memcpy(memory_out, &memory, sizeof memory);
    return EEP_OK;
}

/* An array of numbers of 4 bytes behind those that have their places; *array_out is some pointer
 * variable. */
static void place_array(model_inputs *out, void *array_out, size_t count)
{
    void *at = out->block ? (uint8_t *)out->block + out->bytes : NULL;
    memcpy(array_out, &at, sizeof at);
    out->bytes += (count * sizeof(int32_t) + 63) / 64 * 64;
}

/* Where the inputs lie in their block, each on a line of 64 bytes of its own; returns how long the
 * block is. */
static size_t place_inputs(const model_config *c, model_inputs *out)
{
    const size_t tokens = (size_t)c->num_max_tokens, requests = (size_t)c->num_max_requests;
    out->bytes = 0;
    for (int32_t i = 0; i < c->num_chains; i++) {
        model_batch *batch = &out->batch[i];
        place_array(out, &batch->num_tokens, 1);
        place_array(out, &batch->tokens, tokens);
        place_array(out, &batch->request_slot, tokens);
        place_array(out, &batch->num_outputs, 1);
        place_array(out, &batch->output_token, tokens);
    }
    place_array(out, &out->current, requests);
    return out->bytes;
}

typedef struct request_for_memory {
    eep_memory kind;
    size_t bytes;
    void *memory_out;
} request_for_memory;

static eep_status allocate_all(model *m, const request_for_memory *wanted, size_t num_wanted)
{
    eep_status status = EEP_OK;
    for (size_t w = 0; w < num_wanted && status == EEP_OK; w++) {
        status = allocate_one(m, wanted[w].kind, wanted[w].bytes, wanted[w].memory_out);
    }
    return status;
}

/* What the chains share. */
static eep_status allocate_common(model *m)
{
    const model_config *c = &m->config;
    size_t f = sizeof(float);
    size_t tokens = (size_t)c->num_max_tokens, requests = (size_t)c->num_max_requests;
    size_t hidden = (size_t)c->hidden, layers = (size_t)c->num_layers;
    size_t experts = (size_t)c->num_experts, vocabulary = (size_t)c->vocabulary;
    size_t slots = layers * (size_t)c->num_slots;
    size_t scratch = (size_t)m->expert_blocks * model_scratch_floats(c->hidden, c->inner);
    size_t inputs = place_inputs(c, &(model_inputs){.block = NULL});
    const request_for_memory wanted[] = {
        {EEP_MEMORY_PINNED, inputs, &m->inputs.block},
        {EEP_MEMORY_DEVICE, inputs, &m->on_device.block},
        {EEP_MEMORY_PINNED, sizeof(model_control), &m->control},
        {EEP_MEMORY_DEVICE, vocabulary * hidden * f, &m->embedding},
        {EEP_MEMORY_DEVICE, layers * hidden * f, &m->decay},
        {EEP_MEMORY_DEVICE, layers * hidden * experts * f, &m->router},
        {EEP_MEMORY_DEVICE, hidden * vocabulary * f, &m->unembedding},
        {EEP_MEMORY_DEVICE, 2 * requests * layers * hidden * f, &m->state},
        {EEP_MEMORY_DEVICE, slots * model_expert_floats(c) * f, &m->experts},
        {EEP_MEMORY_DEVICE, slots * MODEL_TENSORS * sizeof(float *), &m->weights},
        {EEP_MEMORY_DEVICE, tokens * hidden * f, &m->y},
        {EEP_MEMORY_DEVICE, tokens * experts * f, &m->gates},
        {EEP_MEMORY_DEVICE, tokens * vocabulary * f, &m->logits},
        {EEP_MEMORY_DEVICE, scratch * f, &m->scratch},
        {EEP_MEMORY_DEVICE, tokens * hidden * f, &m->q},
    };
    static_assert(sizeof wanted / sizeof wanted[0] == NUM_COMMON, "room for all");
    return allocate_all(m, wanted, NUM_COMMON);
}

static eep_status allocate_chain(model *m, model_chain *chain)
{
    const model_config *c = &m->config;
    size_t f = sizeof(float), i = sizeof(int32_t), d = eep_dtype_bytes(c->dtype);
    size_t tokens = (size_t)c->num_max_tokens, hidden = (size_t)c->hidden;
    size_t top_k = (size_t)c->top_k, rows = eep_rows_capacity(m->context);
    size_t scales = c->fp8 ? rows * ((hidden + EEP_FP8_GROUP - 1) / EEP_FP8_GROUP) : 1;
    const request_for_memory wanted[] = {
        {EEP_MEMORY_PINNED, tokens * i, &chain->outputs.next},
        {EEP_MEMORY_PINNED, tokens * sizeof(uint64_t), &chain->outputs.digest},
        {EEP_MEMORY_DEVICE, tokens * hidden * f, &chain->x},
        {EEP_MEMORY_DEVICE, tokens * top_k * i, &chain->topk_idx},
        {EEP_MEMORY_DEVICE, tokens * top_k * f, &chain->topk_weights},
        {EEP_MEMORY_DEVICE, tokens * hidden * d, &chain->sent},
        {EEP_MEMORY_DEVICE, tokens * hidden * d, &chain->saved},
        {EEP_MEMORY_DEVICE, tokens * hidden * f, &chain->m},
        {EEP_MEMORY_DEVICE, rows * hidden * d, &chain->rows},
        {EEP_MEMORY_DEVICE, scales * f, &chain->row_scales},
        {EEP_MEMORY_DEVICE, rows * hidden * d, &chain->expert_out},
        {EEP_MEMORY_DEVICE, ((size_t)c->num_slots + 1) * i, &chain->slot_begin},
    };
    static_assert(sizeof wanted / sizeof wanted[0] == NUM_OF_CHAIN, "room for all");
    return allocate_all(m, wanted, NUM_OF_CHAIN);
}

static eep_status allocate(model *m)
{
    eep_status status = allocate_common(m);
    for (int32_t i = 0; i < m->config.num_chains && status == EEP_OK; i++) {
        status = allocate_chain(m, &m->chain[i]);
    }
    if (status == EEP_OK) {
        (void)place_inputs(&m->config, &m->inputs);
        (void)place_inputs(&m->config, &m->on_device);
    }
    return status;
}

/* ---------------------------------------------------------------- life */

/* The CUDA bodies, where the device needs them, and a grid that suits it. */
static eep_status open_kernels(model *m, const char **why_out)
{
    static _Thread_local char why[WHY_BYTES];
    m->expert_blocks = m->config.num_slots;
    if (strcmp(eep_device_backend(m->device), "cuda") != 0) {
        return EEP_OK;
    }
    m->plugin = model_plugin_open(m->config.device_ordinal, why, sizeof why);
    *why_out = why;
    m->expert_blocks *= CUDA_BLOCKS_PER_SLOT;
    return m->plugin != NULL ? EEP_OK : EEP_ERR_UNSUPPORTED;
}

static eep_status get_words(model *m)
{
    eep_step_words words;
    const eep_status status = eep_step_words_get(m->context, EEP_SIZED(&words));

    if (status == EEP_OK) {
        m->words = (model_words){words.running, words.given_up, words.aborted};
    }
    return status;
}

eep_status model_open(model *m, const model_config *config, eep_context *context,
                      eep_device *device, const char **why_out)
{
    *m = (model){.config = *config, .context = context, .device = device};
    m->config.num_chains = config->num_chains == 0 ? 1 : config->num_chains;
    const char *flaw = config_flaw(&m->config);
    if (flaw != NULL) {
        *why_out = flaw;
        return EEP_ERR_INVALID;
    }
    eep_status status = open_kernels(m, why_out);
    if (status != EEP_OK) {
        return status;
    }
    status = allocate(m);
    if (status != EEP_OK) {
        *why_out = "no memory for the model's buffers";
        return status;
    }
    m->control->victim_slot = -1;
    status = get_words(m);
    if (status != EEP_OK) {
        *why_out = "no words of the running step";
        return status;
    }
    return model_load(m, why_out);
}

void model_close(model *m)
{
    for (int32_t i = 0; i < m->num_buffers; i++) {
        eep_device_free(m->device, m->buffers[i].kind, m->buffers[i].memory);
    }
    free(m->backups);
    eep_checkpoint_close(m->checkpoint);
    *m = (model){.num_buffers = 0};
}

/* ---------------------------------------------------------------- states of requests */

void model_clear_state(model *m, int32_t request_slot)
{
    m->inputs.current[request_slot] = MODEL_NO_STATE;
}

void model_commit_state(model *m, int32_t request_slot)
{
    int32_t *current = &m->inputs.current[request_slot];
    *current = *current == 0 ? 1 : 0;
}
