#include "experiments/model.h"
#include "experiments/weights.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN_BYTES = 128 };

/* ---------------------------------------------------------------- memory */

static int in_range(int32_t value, int32_t most)
{
    return value >= 1 && value <= most;
}

static const char *config_flaw(const model_config *c)
{
    if (!in_range(c->num_layers, EEP_MAX_LAYERS))
        return "num_layers is out of range";
    if (!in_range(c->hidden, MODEL_MAX_HIDDEN) || !in_range(c->inner, MODEL_MAX_INNER))
        return "hidden and inner must be 1 to 1024";
    if (!in_range(c->num_experts, MODEL_MAX_EXPERTS))
        return "num_experts must be 1 to 4096";
    if (!in_range(c->top_k, EEP_MAX_TOPK) || c->top_k > c->num_experts)
        return "top_k must be 1 to 32 and at most num_experts";
    if (!in_range(c->vocabulary, 1 << 20))
        return "vocabulary must be 1 to 1048576";
    if (!in_range(c->num_slots, MODEL_MAX_EXPERTS))
        return "num_slots must be 1 to 4096";
    if (!in_range(c->num_max_tokens, 1 << 16) || !in_range(c->num_max_requests, 1 << 16))
        return "num_max_tokens_per_rank and num_max_requests must be 1 to 65536";
    if (eep_dtype_bytes(c->dtype) == 0)
        return "dtype is neither fp32 nor bf16";
    if (c->corrupt < MODEL_CORRUPT_NONE || c->corrupt > MODEL_CORRUPT_DROP)
        return "unknown corruption";
    return NULL;
}

/* Zeroed memory that model_close frees; *memory_out is some pointer variable. */
static eep_status take(model *m, eep_memory kind, size_t bytes, void *memory_out)
{
    void *memory;
    eep_status status = eep_device_alloc(m->device, kind, bytes, &memory);
    if (status != EEP_OK)
        return status;
    m->buffers[m->num_buffers++] = (model_buffer){kind, memory};
    memcpy(memory_out, &memory, sizeof(memory));
    return EEP_OK;
}

static size_t padded_floats(size_t count)
{
    size_t step = ALIGN_BYTES / sizeof(float);
    return (count + step - 1) / step * step;
}

/* All three tensors have hidden * inner elements. */
static size_t expert_floats(const model_config *c)
{
    return MODEL_TENSORS * padded_floats((size_t)c->hidden * (size_t)c->inner);
}

typedef struct request_for_memory {
    eep_memory kind;
    size_t bytes;
    void *memory_out;
} request_for_memory;

static eep_status allocate(model *m)
{
    const model_config *c = &m->config;
    size_t f = sizeof(float), i = sizeof(int32_t), d = eep_dtype_bytes(c->dtype);
    size_t tokens = (size_t)c->num_max_tokens, requests = (size_t)c->num_max_requests;
    size_t hidden = (size_t)c->hidden, layers = (size_t)c->num_layers;
    size_t experts = (size_t)c->num_experts, vocabulary = (size_t)c->vocabulary;
    size_t slots = layers * (size_t)c->num_slots, top_k = (size_t)c->top_k;
    size_t rows = eep_rows_capacity(m->context);
    size_t scales = c->fp8 ? rows * ((hidden + EEP_FP8_GROUP - 1) / EEP_FP8_GROUP) : 1;
    const request_for_memory wanted[] = {
        {EEP_MEMORY_PINNED, i, &m->inputs.num_tokens},
        {EEP_MEMORY_PINNED, tokens * i, &m->inputs.tokens},
        {EEP_MEMORY_PINNED, tokens * i, &m->inputs.request_slot},
        {EEP_MEMORY_PINNED, i, &m->inputs.num_outputs},
        {EEP_MEMORY_PINNED, tokens * i, &m->inputs.output_token},
        {EEP_MEMORY_PINNED, requests * i, &m->inputs.current},
        {EEP_MEMORY_PINNED, sizeof(model_control), &m->inputs.control},
        {EEP_MEMORY_PINNED, tokens * i, &m->outputs.next},
        {EEP_MEMORY_PINNED, tokens * sizeof(uint64_t), &m->outputs.digest},
        {EEP_MEMORY_DEVICE, vocabulary * hidden * f, &m->embedding},
        {EEP_MEMORY_DEVICE, layers * hidden * f, &m->decay},
        {EEP_MEMORY_DEVICE, layers * hidden * experts * f, &m->router},
        {EEP_MEMORY_DEVICE, hidden * vocabulary * f, &m->unembedding},
        {EEP_MEMORY_DEVICE, 2 * requests * layers * hidden * f, &m->state},
        {EEP_MEMORY_DEVICE, slots * expert_floats(c) * f, &m->experts},
        {EEP_MEMORY_DEVICE, slots * MODEL_TENSORS * sizeof(float *), &m->weights},
        {EEP_MEMORY_DEVICE, tokens * hidden * f, &m->x},
        {EEP_MEMORY_DEVICE, tokens * hidden * f, &m->y},
        {EEP_MEMORY_DEVICE, tokens * experts * f, &m->gates},
        {EEP_MEMORY_DEVICE, tokens * top_k * i, &m->topk_idx},
        {EEP_MEMORY_DEVICE, tokens * top_k * f, &m->topk_weights},
        {EEP_MEMORY_DEVICE, tokens * vocabulary * f, &m->logits},
        {EEP_MEMORY_DEVICE, tokens * hidden * d, &m->sent},
        {EEP_MEMORY_DEVICE, tokens * hidden * d, &m->saved},
        {EEP_MEMORY_DEVICE, tokens * hidden * f, &m->m},
        {EEP_MEMORY_DEVICE, rows * hidden * d, &m->rows},
        {EEP_MEMORY_DEVICE, scales * f, &m->row_scales},
        {EEP_MEMORY_DEVICE, rows * hidden * d, &m->expert_out},
        {EEP_MEMORY_DEVICE, ((size_t)c->num_slots + 1) * i, &m->slot_begin},
    };
    static_assert(sizeof(wanted) / sizeof(wanted[0]) <= MODEL_MAX_BUFFERS, "room for all");
    for (size_t w = 0; w < sizeof(wanted) / sizeof(wanted[0]); w++) {
        eep_status status = take(m, wanted[w].kind, wanted[w].bytes, wanted[w].memory_out);
        if (status != EEP_OK)
            return status;
    }
    return EEP_OK;
}

/* ---------------------------------------------------------------- weights */

static void generate_dense(model *m)
{
    const model_config *c = &m->config;
    size_t hidden = (size_t)c->hidden, routes = hidden * (size_t)c->num_experts;
    size_t words = hidden * (size_t)c->vocabulary;
    weights_generate(c->seed, WEIGHTS_EMBEDDING, 0, 0, words, m->embedding);
    weights_generate(c->seed, WEIGHTS_UNEMBEDDING, 0, 0, words, m->unembedding);
    for (uint32_t l = 0; l < (uint32_t)c->num_layers; l++) {
        weights_generate(c->seed, WEIGHTS_DECAY, l, 0, hidden, m->decay + l * hidden);
        weights_generate(c->seed, WEIGHTS_ROUTER, l, 0, routes, m->router + l * routes);
    }
}

/* Where an expert's tensors lie in the expert_floats at `memory`. */
static void lay_out_expert(const model_config *c, float *memory, eep_tensor *tensors)
{
    size_t count = (size_t)c->hidden * (size_t)c->inner;
    for (size_t i = 0; i < MODEL_TENSORS; i++)
        tensors[i] = (eep_tensor){memory + i * padded_floats(count), count * sizeof(float)};
}

static void generate_expert(const model_config *c, int32_t layer, int32_t expert,
                            const eep_tensor *tensors)
{
    for (uint32_t i = 0; i < MODEL_TENSORS; i++) {
        weights_generate(c->seed, (weights_kind)(WEIGHTS_GATE + i), (uint32_t)layer,
                         (uint32_t)expert, tensors[i].bytes / sizeof(float), tensors[i].data);
    }
}

static eep_status fill_slots(model *m)
{
    const model_config *c = &m->config;
    for (int32_t place = 0; place < c->num_layers * c->num_slots; place++) {
        int32_t layer = place / c->num_slots, slot = place % c->num_slots;
        int32_t expert = eep_slot_expert(m->context, layer, slot);
        eep_tensor tensors[MODEL_TENSORS];
        lay_out_expert(c, m->experts + (size_t)place * expert_floats(c), tensors);
        for (size_t i = 0; i < MODEL_TENSORS; i++)
            m->weights[(size_t)place * MODEL_TENSORS + i] = tensors[i].data;
        if (expert >= 0)
            generate_expert(c, layer, expert, tensors);
        eep_status status = eep_slot_set(m->context, layer, slot, tensors, MODEL_TENSORS);
        if (status != EEP_OK)
            return status;
    }
    return EEP_OK;
}

static eep_status fill_backups(model *m)
{
    const model_config *c = &m->config;
    size_t kept = 0, each = expert_floats(c);

    for (int32_t place = 0; place < c->num_layers * c->num_experts; place++)
        kept +=
            (size_t)eep_backup_wanted(m->context, place / c->num_experts, place % c->num_experts);
    if (kept == 0)
        return EEP_OK;
    m->backups = malloc(kept * each * sizeof(float));
    if (m->backups == NULL)
        return EEP_ERR_NO_MEMORY;

    float *memory = m->backups;
    for (int32_t place = 0; place < c->num_layers * c->num_experts; place++) {
        int32_t layer = place / c->num_experts, expert = place % c->num_experts;
        eep_tensor tensors[MODEL_TENSORS];
        if (!eep_backup_wanted(m->context, layer, expert))
            continue;
        lay_out_expert(c, memory, tensors);
        generate_expert(c, layer, expert, tensors);
        eep_status status = eep_backup_set(m->context, layer, expert, tensors, MODEL_TENSORS);
        if (status != EEP_OK)
            return status;
        memory += each;
    }
    return EEP_OK;
}

/* ---------------------------------------------------------------- life */

eep_status model_open(model *m, const model_config *config, eep_context *context,
                      eep_device *device, const char **why_out)
{
    *m = (model){.config = *config, .context = context, .device = device};
    const char *flaw = config_flaw(config);
    if (flaw != NULL) {
        *why_out = flaw;
        return EEP_ERR_INVALID;
    }
    if (strcmp(eep_device_backend(device), "host") != 0) {
        *why_out = "the model's kernels run on the host backend only";
        return EEP_ERR_UNSUPPORTED;
    }
    eep_status status = allocate(m);
    if (status != EEP_OK) {
        *why_out = "no memory for the model's buffers";
        return status;
    }
    m->inputs.control->victim_slot = -1;
    generate_dense(m);
    status = fill_slots(m);
    if (status == EEP_OK)
        status = fill_backups(m);
    if (status != EEP_OK)
        *why_out = eep_last_error(context);
    return status;
}

void model_close(model *m)
{
    for (int32_t i = 0; i < m->num_buffers; i++)
        eep_device_free(m->device, m->buffers[i].kind, m->buffers[i].memory);
    free(m->backups);
    *m = (model){.num_buffers = 0};
}

void model_clear_state(model *m, int32_t request_slot)
{
    const model_config *c = &m->config;
    size_t each = (size_t)c->num_layers * (size_t)c->hidden;
    size_t buffer = (size_t)m->inputs.current[request_slot] * (size_t)c->num_max_requests;
    memset(m->state + (buffer + (size_t)request_slot) * each, 0, each * sizeof(float));
}
