/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/bench/collective/idle_engine.h"

#include <stdio.h>
#include <string.h>

enum { TOP_K = 1, BEGIN_US = 100000 };

static const float weights_of[IDLE_EXPERTS][IDLE_HIDDEN] = {{1}, {2}};

/* No rank has a token, so no expert has a row. */
static void run_experts(const void *args, eep_grid grid)
{
    (void)args;
    (void)grid;
}

static const eep_kernel experts = EEP_KERNEL("idle_experts", run_experts, NULL, NULL, 0);

static eep_status get(idle_engine *engine, size_t bytes, void *memory_out)
{
    void *memory = NULL;
    eep_status status = eep_device_alloc(engine->device, EEP_MEMORY_PINNED, bytes, &memory);

    if (status == EEP_OK) {
        memset(memory, 0, bytes);
        memcpy(memory_out, &memory, sizeof memory);
    }
    return status;
}

static eep_status load(idle_engine *engine)
{
    eep_status status = EEP_OK;

    for (int32_t slot = 0; slot < IDLE_EXPERTS && status == EEP_OK; slot++) {
        const int32_t expert = eep_slot_expert(engine->context, 0, slot);
        eep_tensor tensor = {NULL, sizeof weights_of[0]};
        status = eep_slot_alloc(engine->context, 0, slot, &tensor, 1);
        if (status == EEP_OK && expert >= 0) {
            memcpy(tensor.data, weights_of[expert], sizeof weights_of[0]);
        }
    }
    return status;
}

static eep_status put_step(idle_engine *engine, const eep_dispatch_args *dispatch,
                           const eep_combine_args *combine)
{
    eep_status status = eep_capture_begin(engine->stream);

    if (status == EEP_OK) {
        status = eep_step_latch(engine->context, engine->stream);
    }
    if (status == EEP_OK) {
        status = eep_dispatch(engine->context, 0, engine->stream, dispatch);
    }
    if (status == EEP_OK) {
        status = eep_launch(engine->stream, &experts, 1, 1, NULL, 0);
    }
    if (status == EEP_OK) {
        status = eep_combine(engine->context, 0, engine->stream, combine);
    }
    if (status == EEP_OK) {
        status = eep_step_finish(engine->context, engine->stream);
    }
    return status == EEP_OK ? eep_capture_end(engine->stream, &engine->graph) : status;
}

/* The memory goes with the device. */
static eep_status capture(idle_engine *engine)
{
    const size_t row = IDLE_HIDDEN * sizeof(float);
    const size_t rows = eep_rows_capacity(engine->context) * row;
    float *x = NULL, *out = NULL, *in = NULL, *results = NULL, *topk_weights = NULL;
    int32_t *topk = NULL, *num_tokens = NULL, *slot_begin = NULL;

    if (get(engine, row, &x) != EEP_OK || get(engine, row, &out) != EEP_OK ||
        get(engine, rows, &in) != EEP_OK || get(engine, rows, &results) != EEP_OK ||
        get(engine, TOP_K * sizeof *topk_weights, &topk_weights) != EEP_OK ||
        get(engine, TOP_K * sizeof *topk, &topk) != EEP_OK ||
        get(engine, sizeof *num_tokens, &num_tokens) != EEP_OK ||
        get(engine, (IDLE_EXPERTS + 1) * sizeof *slot_begin, &slot_begin) != EEP_OK) {
        return EEP_ERR_NO_MEMORY;
    }
    const eep_dispatch_args dispatch = {.struct_bytes = sizeof dispatch,
                                        .x = x,
                                        .topk_idx = topk,
                                        .num_tokens = num_tokens,
                                        .rows = in,
                                        .slot_begin = slot_begin};
    const eep_combine_args combine = {.struct_bytes = sizeof combine,
                                      .rows = results,
                                      .topk_weights = topk_weights,
                                      .num_tokens = num_tokens,
                                      .out = out};
    return put_step(engine, &dispatch, &combine);
}

eep_status idle_engine_open(idle_engine *engine, int32_t seat, int32_t num_ranks,
                            const char *store_path)
{
    eep_config config;
    eep_status status;

    memset(engine, 0, sizeof *engine);
    eep_config_init(&config);
    status = eep_config_profile(&config, EEP_PROFILE_DEFAULT);
    config.rank = seat;
    config.num_ranks = num_ranks;
    config.store_path = store_path;
    config.num_layers = 1;
    config.num_experts = config.num_slots = IDLE_EXPERTS;
    config.top_k = TOP_K;
    config.hidden = IDLE_HIDDEN;
    config.num_max_tokens_per_rank = 1;
    config.bind_threads = 0;
    config.log_level = EEP_LOG_ERROR;
    if (status == EEP_OK) {
        status = eep_device_open("host", 0, &engine->device);
    }
    if (status == EEP_OK) {
        status = eep_stream_open(engine->device, &engine->stream);
    }
    config.device = engine->device;
    if (status == EEP_OK) {
        status = eep_open(&config, NULL, 0, &engine->context);
    }
    if (status == EEP_OK) {
        status = load(engine);
    }
    if (status == EEP_OK) {
        status = capture(engine);
    }
    if (status != EEP_OK) {
        snprintf(engine->error, sizeof engine->error, "rank %d: %.200s", seat, eep_error_text());
        idle_engine_close(engine);
    }
    return status;
}

eep_status idle_engine_follow(idle_engine *engine, uint64_t timeout_us)
{
    eep_status status = eep_step_wait(engine->context, timeout_us);
    eep_step step;

    if (status != EEP_OK) {
        return status == EEP_ERR_TIMEOUT ? EEP_OK : status;
    }
    status = eep_step_begin(engine->context, BEGIN_US, EEP_SIZED(&step));
    if (status != EEP_OK) {
        return status == EEP_ERR_TIMEOUT || status == EEP_ERR_UNCOVERED ? EEP_OK : status;
    }
    status = eep_graph_replay(engine->graph, engine->stream);
    if (status == EEP_OK) {
        status = eep_step_end(engine->context);
    }
    return status == EEP_ERR_ABORTED ? EEP_OK : status;
}

void idle_engine_close(idle_engine *engine)
{
    eep_close(engine->context);
    eep_graph_close(engine->graph);
    eep_stream_close(engine->stream);
    eep_device_close(engine->device);
    engine->context = NULL;
    engine->graph = NULL;
    engine->stream = NULL;
    engine->device = NULL;
}
