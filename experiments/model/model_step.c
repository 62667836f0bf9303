/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes of one step, in order. With two chains, one's rows travel while the other's experts
 * compute:
 *
 *     per layer, and per chain:  [receive combine of the layer before, add] dense, send dispatch
 *            then per chain:     receive dispatch, experts, send combine
 *     behind the layers, and per chain:  receive combine, add, head
 */
#include "experiments/model/expert_time.h"
#include "experiments/model/model.h"
#include "experiments/model/model_rows.h"

enum { CUDA_THREADS = 256 };

/* Where a node is put. */
typedef struct step_place {
    const model *model;
    eep_stream *stream;
    int32_t layer, chain;
    const char *why; /* of the plugin, else "" */
} step_place;

/* libeep's nodes and the model's go into one stream; a GPU's are launched by the plugin that has
 * them. */
static eep_status launch(step_place *at, model_kernel_id id, int32_t num_blocks, const void *args,
                         size_t args_bytes)
{
    const model *m = at->model;
    model_bodies kernel = {(uint32_t)id, &model_kernels[id]};
    return model_plugin_put(m->plugin, m->config.device_ordinal, at->stream, kernel,
                            (uint32_t)num_blocks, CUDA_THREADS, args, args_bytes, &at->why);
}

static const model_batch *batch_of(const step_place *at)
{
    return &at->model->on_device.batch[at->chain];
}

static const model_chain *chain_of(const step_place *at)
{
    return &at->model->chain[at->chain];
}

static int32_t num_groups(const model *m)
{
    return (m->config.num_max_tokens + MODEL_GROUP - 1) / MODEL_GROUP;
}

/* ---------------------------------------------------------------- the model's nodes */

static eep_status launch_embed(step_place *at)
{
    const model *m = at->model;
    model_embed_args args = {batch_of(at)->num_tokens, batch_of(at)->tokens, m->embedding,
                             chain_of(at)->x, m->config.hidden};
    return launch(at, MODEL_KERNEL_embed, m->config.num_max_tokens, &args, sizeof args);
}

static eep_status launch_recur(step_place *at)
{
    const model *m = at->model;
    const model_config *c = &m->config;
    model_recur_args args = {.num_tokens = batch_of(at)->num_tokens,
                             .request_slot = batch_of(at)->request_slot,
                             .current = m->on_device.current,
                             .state = m->state,
                             .decay = m->decay + (size_t)at->layer * (size_t)c->hidden,
                             .x = chain_of(at)->x,
                             .y = m->y,
                             .sent = chain_of(at)->sent,
                             .num_requests = c->num_max_requests,
                             .num_layers = c->num_layers,
                             .layer = at->layer,
                             .hidden = c->hidden,
                             .dtype = c->dtype,
                             .words = m->words};
    return launch(at, MODEL_KERNEL_recur, c->num_max_tokens, &args, sizeof args);
}

static eep_status launch_route(step_place *at)
{
    const model *m = at->model;
    const model_config *c = &m->config;
    size_t routes = (size_t)c->hidden * (size_t)c->num_experts;
    model_route_args args = {.num_tokens = batch_of(at)->num_tokens,
                             .y = m->y,
                             .router = m->router + (size_t)at->layer * routes,
                             .gates = m->gates,
                             .topk_idx = chain_of(at)->topk_idx,
                             .topk_weights = chain_of(at)->topk_weights,
                             .hidden = c->hidden,
                             .num_experts = c->num_experts,
                             .top_k = c->top_k,
                             .words = m->words};
    return launch(at, MODEL_KERNEL_route, num_groups(m), &args, sizeof args);
}

static eep_status launch_experts(step_place *at)
{
    const model *m = at->model;
    const model_config *c = &m->config;
    const model_chain *chain = chain_of(at);
    model_experts_args args = {.slot_begin = chain->slot_begin,
                               .rows = chain->rows,
                               .row_scales = c->fp8 ? chain->row_scales : NULL,
                               .out = chain->expert_out,
                               .weights = m->weights,
                               .control = c->corrupt == MODEL_CORRUPT_NONE ? NULL : m->control,
                               .num_slots = c->num_slots,
                               .layer = at->layer,
                               .hidden = c->hidden,
                               .inner = c->inner,
                               .dtype = c->dtype,
                               .chain = at->chain,
                               .scratch = m->scratch,
                               .words = m->words};
    return launch(at, MODEL_KERNEL_experts, m->expert_blocks, &args, sizeof args);
}

static eep_status launch_add(step_place *at)
{
    const model_config *c = &at->model->config;
    model_add_args args = {batch_of(at)->num_tokens, chain_of(at)->x, chain_of(at)->m, c->hidden};
    return launch(at, MODEL_KERNEL_add, c->num_max_tokens, &args, sizeof args);
}

static eep_status launch_head(step_place *at)
{
    const model *m = at->model;
    model_head_args args = {.num_outputs = batch_of(at)->num_outputs,
                            .output_token = batch_of(at)->output_token,
                            .x = chain_of(at)->x,
                            .unembedding = m->unembedding,
                            .logits = m->logits,
                            .next = chain_of(at)->outputs.next,
                            .digest = chain_of(at)->outputs.digest,
                            .hidden = m->config.hidden,
                            .vocabulary = m->config.vocabulary,
                            .q = m->q,
                            .words = m->words};
    return launch(at, MODEL_KERNEL_head, num_groups(m), &args, sizeof args);
}

/* No node where no corruption is configured. */
static eep_status launch_corrupt(step_place *at, model_kernel_id id)
{
    const model *m = at->model;
    const model_config *c = &m->config;
    const model_chain *chain = chain_of(at);
    if (c->corrupt == MODEL_CORRUPT_NONE) {
        return EEP_OK;
    }
    model_corrupt_args args = {.control = m->control,
                               .num_tokens = batch_of(at)->num_tokens,
                               .num_outputs = batch_of(at)->num_outputs,
                               .output_token = batch_of(at)->output_token,
                               .topk_idx = chain->topk_idx,
                               .topk_weights = chain->topk_weights,
                               .sent = chain->sent,
                               .saved = chain->saved,
                               .slot_begin = chain->slot_begin,
                               .experts = eep_physical_to_logical(m->context),
                               .num_layers = c->num_layers,
                               .num_slots = c->num_slots,
                               .layer = at->layer,
                               .hidden = c->hidden,
                               .top_k = c->top_k,
                               .dtype = c->dtype,
                               .chain = at->chain};
    return launch(at, id, 1, &args, sizeof args);
}

/* ---------------------------------------------------------------- libeep's halves */

static eep_status send_rows(step_place *at)
{
    const model_chain *chain = chain_of(at);
    const eep_dispatch_args args = {.struct_bytes = sizeof args,
                                    .chain = at->chain,
                                    .x = chain->sent,
                                    .topk_idx = chain->topk_idx,
                                    .num_tokens = batch_of(at)->num_tokens,
                                    .rows = chain->rows,
                                    .slot_begin = chain->slot_begin,
                                    .row_scales = at->model->config.fp8 ? chain->row_scales : NULL};
    return eep_dispatch_send(at->model->context, at->layer, at->stream, &args);
}

static eep_status send_outputs(step_place *at)
{
    const model_chain *chain = chain_of(at);
    const eep_combine_args args = {.struct_bytes = sizeof args,
                                   .out_dtype = EEP_FP32,
                                   .rows = chain->expert_out,
                                   .topk_weights = chain->topk_weights,
                                   .num_tokens = batch_of(at)->num_tokens,
                                   .out = chain->m,
                                   .chain = at->chain};
    return eep_combine_send(at->model->context, at->layer, at->stream, &args);
}

/* ---------------------------------------------------------------- a chain's stretches */

static eep_status end_layer(step_place *at)
{
    eep_status status = eep_combine_receive(at->model->context, at->layer, at->chain, at->stream);
    return status == EEP_OK ? launch_add(at) : status;
}

/* To the send of a layer's rows, from the end of the layer before. */
static eep_status begin_layer(step_place *at)
{
    step_place before = *at;
    eep_status status = EEP_OK;
    if (at->layer == 0) {
        status = launch_embed(at);
    } else {
        before.layer--;
        status = end_layer(&before);
        at->why = before.why;
    }
    if (status == EEP_OK) {
        status = launch_recur(at);
    }
    if (status == EEP_OK) {
        status = launch_route(at);
    }
    if (status == EEP_OK) {
        status = launch_corrupt(at, MODEL_KERNEL_corrupt_sent);
    }
    return status == EEP_OK ? send_rows(at) : status;
}

static eep_status run_experts(step_place *at)
{
    const model_config *c = &at->model->config;
    eep_status status = eep_dispatch_receive(at->model->context, at->layer, at->chain, at->stream);
    if (status == EEP_OK) {
        status = launch_corrupt(at, MODEL_KERNEL_corrupt_slot);
    }
    if (status == EEP_OK) {
        status = launch_experts(at);
    }
    if (status == EEP_OK && c->expert_us > 0) {
        status = expert_time_put(at->stream, chain_of(at)->slot_begin, c->num_slots, c->expert_us,
                                 &at->model->words);
    }
    return status == EEP_OK ? send_outputs(at) : status;
}

static eep_status end_chain(step_place *at)
{
    eep_status status = end_layer(at);
    return status == EEP_OK ? launch_head(at) : status;
}

/* A stretch of each chain, one after the other. */
static eep_status of_each_chain(step_place *at, eep_status (*stretch)(step_place *at))
{
    eep_status status = EEP_OK;
    for (at->chain = 0; at->chain < at->model->config.num_chains && status == EEP_OK; at->chain++) {
        status = stretch(at);
    }
    return status;
}

eep_status model_launch_step(const model *m, eep_stream *stream, const char **why_out)
{
    const int32_t num_layers = m->config.num_layers;
    step_place at = {.model = m, .stream = stream, .why = ""};
    eep_status status =
        eep_copy_async(stream, m->on_device.block, m->inputs.block, m->inputs.bytes);
    if (status == EEP_OK) {
        status = eep_step_latch(m->context, stream);
    }
    for (at.layer = 0; at.layer < num_layers && status == EEP_OK; at.layer++) {
        status = of_each_chain(&at, begin_layer);
        if (status == EEP_OK) {
            status = of_each_chain(&at, run_experts);
        }
    }
    at.layer = num_layers - 1;
    if (status == EEP_OK) {
        status = of_each_chain(&at, end_chain);
    }
    if (status == EEP_OK) {
        status = eep_step_finish(m->context, stream);
    }
    *why_out = status != EEP_OK && *at.why == '\0' ? eep_last_error(m->context) : at.why;
    return status;
}
