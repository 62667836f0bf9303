/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes of one step, in order. */
#include "experiments/model/expert_time.h"
#include "experiments/model/model.h"
#include "experiments/model/model_rows.h"

enum { CUDA_THREADS = 256 };

/* libeep's nodes and the model's go into one stream; a GPU's are launched by the plugin that has
 * them. */
static eep_status launch(const model *m, eep_stream *stream, model_kernel_id id, int32_t num_blocks,
                         const void *args, size_t args_bytes, const char **why_out)
{
    model_bodies kernel = {(uint32_t)id, &model_kernels[id]};
    return model_plugin_put(m->plugin, m->config.device_ordinal, stream, kernel,
                            (uint32_t)num_blocks, CUDA_THREADS, args, args_bytes, why_out);
}

static int32_t num_groups(const model *m)
{
    return (m->config.num_max_tokens + MODEL_GROUP - 1) / MODEL_GROUP;
}

static eep_status launch_embed(const model *m, eep_stream *stream, const char **why_out)
{
    model_embed_args args = {m->on_device.num_tokens, m->on_device.tokens, m->embedding, m->x,
                             m->config.hidden};
    return launch(m, stream, MODEL_KERNEL_embed, m->config.num_max_tokens, &args, sizeof args,
                  why_out);
}

static eep_status launch_recur(const model *m, eep_stream *stream, int32_t layer,
                               const char **why_out)
{
    const model_config *c = &m->config;
    model_recur_args args = {.num_tokens = m->on_device.num_tokens,
                             .request_slot = m->on_device.request_slot,
                             .current = m->on_device.current,
                             .state = m->state,
                             .decay = m->decay + (size_t)layer * (size_t)c->hidden,
                             .x = m->x,
                             .y = m->y,
                             .sent = m->sent,
                             .num_requests = c->num_max_requests,
                             .num_layers = c->num_layers,
                             .layer = layer,
                             .hidden = c->hidden,
                             .dtype = c->dtype,
                             .words = m->words};
    return launch(m, stream, MODEL_KERNEL_recur, c->num_max_tokens, &args, sizeof args, why_out);
}

static eep_status launch_route(const model *m, eep_stream *stream, int32_t layer,
                               const char **why_out)
{
    const model_config *c = &m->config;
    size_t routes = (size_t)c->hidden * (size_t)c->num_experts;
    model_route_args args = {.num_tokens = m->on_device.num_tokens,
                             .y = m->y,
                             .router = m->router + (size_t)layer * routes,
                             .gates = m->gates,
                             .topk_idx = m->topk_idx,
                             .topk_weights = m->topk_weights,
                             .hidden = c->hidden,
                             .num_experts = c->num_experts,
                             .top_k = c->top_k,
                             .words = m->words};
    return launch(m, stream, MODEL_KERNEL_route, num_groups(m), &args, sizeof args, why_out);
}

static eep_status launch_experts(const model *m, eep_stream *stream, int32_t layer,
                                 const char **why_out)
{
    const model_config *c = &m->config;
    model_experts_args args = {.slot_begin = m->slot_begin,
                               .rows = m->rows,
                               .row_scales = c->fp8 ? m->row_scales : NULL,
                               .out = m->expert_out,
                               .weights = m->weights,
                               .control = c->corrupt == MODEL_CORRUPT_NONE ? NULL : m->control,
                               .num_slots = c->num_slots,
                               .layer = layer,
                               .hidden = c->hidden,
                               .inner = c->inner,
                               .dtype = c->dtype,
                               .scratch = m->scratch,
                               .words = m->words};
    return launch(m, stream, MODEL_KERNEL_experts, m->expert_blocks, &args, sizeof args, why_out);
}

static eep_status launch_add(const model *m, eep_stream *stream, const char **why_out)
{
    model_add_args args = {m->on_device.num_tokens, m->x, m->m, m->config.hidden};
    return launch(m, stream, MODEL_KERNEL_add, m->config.num_max_tokens, &args, sizeof args,
                  why_out);
}

static eep_status launch_head(const model *m, eep_stream *stream, const char **why_out)
{
    model_head_args args = {.num_outputs = m->on_device.num_outputs,
                            .output_token = m->on_device.output_token,
                            .x = m->x,
                            .unembedding = m->unembedding,
                            .logits = m->logits,
                            .next = m->outputs.next,
                            .digest = m->outputs.digest,
                            .hidden = m->config.hidden,
                            .vocabulary = m->config.vocabulary,
                            .q = m->q,
                            .words = m->words};
    return launch(m, stream, MODEL_KERNEL_head, num_groups(m), &args, sizeof args, why_out);
}

/* No node where no corruption is configured. */
static eep_status launch_corrupt(const model *m, eep_stream *stream, int32_t layer,
                                 model_kernel_id id, const char **why_out)
{
    const model_config *c = &m->config;
    if (c->corrupt == MODEL_CORRUPT_NONE) {
        return EEP_OK;
    }
    model_corrupt_args args = {.control = m->control,
                               .num_tokens = m->on_device.num_tokens,
                               .num_outputs = m->on_device.num_outputs,
                               .output_token = m->on_device.output_token,
                               .topk_idx = m->topk_idx,
                               .topk_weights = m->topk_weights,
                               .sent = m->sent,
                               .saved = m->saved,
                               .slot_begin = m->slot_begin,
                               .experts = eep_physical_to_logical(m->context),
                               .num_layers = c->num_layers,
                               .num_slots = c->num_slots,
                               .layer = layer,
                               .hidden = c->hidden,
                               .top_k = c->top_k,
                               .dtype = c->dtype};
    return launch(m, stream, id, 1, &args, sizeof args, why_out);
}

static eep_status launch_layer(const model *m, eep_stream *stream, int32_t layer,
                               const char **why_out)
{
    eep_dispatch_args dispatch = {.struct_bytes = sizeof dispatch,
                                  .x = m->sent,
                                  .topk_idx = m->topk_idx,
                                  .num_tokens = m->on_device.num_tokens,
                                  .rows = m->rows,
                                  .slot_begin = m->slot_begin,
                                  .row_scales = m->config.fp8 ? m->row_scales : NULL};
    eep_combine_args combine = {.struct_bytes = sizeof combine,
                                .out_dtype = EEP_FP32,
                                .rows = m->expert_out,
                                .topk_weights = m->topk_weights,
                                .num_tokens = m->on_device.num_tokens,
                                .out = m->m};
    eep_status status = launch_recur(m, stream, layer, why_out);
    if (status == EEP_OK) {
        status = launch_route(m, stream, layer, why_out);
    }
    if (status == EEP_OK) {
        status = launch_corrupt(m, stream, layer, MODEL_KERNEL_corrupt_sent, why_out);
    }
    if (status == EEP_OK) {
        status = eep_dispatch(m->context, layer, stream, &dispatch);
    }
    if (status == EEP_OK) {
        status = launch_corrupt(m, stream, layer, MODEL_KERNEL_corrupt_slot, why_out);
    }
    if (status == EEP_OK) {
        status = launch_experts(m, stream, layer, why_out);
    }
    if (status == EEP_OK && m->config.expert_us > 0) {
        status = expert_time_put(stream, m->slot_begin, m->config.num_slots, m->config.expert_us,
                                 &m->words);
    }
    if (status == EEP_OK) {
        status = eep_combine(m->context, layer, stream, &combine);
    }
    if (status == EEP_OK) {
        status = launch_add(m, stream, why_out);
    }
    return status;
}

eep_status model_launch_step(const model *m, eep_stream *stream, const char **why_out)
{
    *why_out = "";
    eep_status status =
        eep_copy_async(stream, m->on_device.block, m->inputs.block, m->inputs.bytes);
    if (status == EEP_OK) {
        status = eep_step_latch(m->context, stream);
    }
    if (status == EEP_OK) {
        status = launch_embed(m, stream, why_out);
    }
    for (int32_t layer = 0; layer < m->config.num_layers && status == EEP_OK; layer++) {
        status = launch_layer(m, stream, layer, why_out);
    }
    if (status == EEP_OK) {
        status = launch_head(m, stream, why_out);
    }
    if (status == EEP_OK) {
        status = eep_step_finish(m->context, stream);
    }
    if (status != EEP_OK && **why_out == '\0') {
        *why_out = eep_last_error(m->context);
    }
    return status;
}
