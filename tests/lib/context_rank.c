/* SPDX-License-Identifier: Apache-2.0 */
/* A rank of the fixture: its model, what that gives, opening and closing. */
#include "tests/lib/context_fixture.h"

#include "graphs/device/device_share.h"
#include "tests/fake_gpu/fake_gpu.h"

#include <math.h>
#include <string.h>

enum { STAGING_BYTES = 4096, MOST_ALIGN = 8, COPY_BOUND_US = 10000000 };

static const float topk_weights[WORLD_TOPK] = {0.5f, 0.25f};

/* ---------------------------------------------------------------- the model, and what it gives */

static float expert_scale(int32_t layer, int32_t expert, int32_t h)
{
    return (float)(1 + (layer * WORLD_EXPERTS + expert) % 5 + h % 2);
}

static float expert_shift(int32_t layer, int32_t expert)
{
    return (float)expert + 0.5f * (float)layer;
}

static float input_value(int32_t seat, uint64_t position, int32_t token, int32_t h)
{
    return (float)((31 * (uint64_t)seat + 7 * position + 3 * (uint64_t)token + (uint64_t)h) % 64);
}

/* Distinct for the two k. */
static int32_t input_expert(int32_t seat, uint64_t position, int32_t token, int32_t k)
{
    uint64_t mixed = (uint64_t)seat + position + (uint64_t)token;
    return (int32_t)((mixed + (k ? 1 + (position + (uint64_t)token) % (WORLD_EXPERTS - 1) : 0)) %
                     WORLD_EXPERTS);
}

static float expected_value(int32_t seat, uint64_t position, int32_t token, int32_t h)
{
    float value = input_value(seat, position, token, h);
    for (int32_t layer = 0; layer < WORLD_LAYERS; layer++) {
        float sum = 0.0f;
        for (int32_t k = 0; k < WORLD_TOPK; k++) {
            int32_t expert = input_expert(seat, position, token, k);
            float y = value * expert_scale(layer, expert, h) + expert_shift(layer, expert);
            sum = sum + topk_weights[k] * y;
        }
        value = sum;
    }
    return value;
}

typedef struct expert_args {
    const float *const *weights; /* [slots][tensors] */
    const int32_t *slot_begin;
    const int32_t *slot_counts; /* NULL: a slot's rows end where the next slot's begin */
    const float *rows;
    float *results;
} expert_args;

static void expert_body(const void *raw, eep_grid grid)
{
    const expert_args *a = raw;
    const float *scale = a->weights[grid.block * WORLD_TENSORS];
    const float *shift = a->weights[grid.block * WORLD_TENSORS + 1];
    const int32_t first = a->slot_begin[grid.block];
    const int32_t end =
        a->slot_counts ? first + a->slot_counts[grid.block] : a->slot_begin[grid.block + 1];
    for (int32_t row = first; row < end; row++) {
        for (int32_t h = 0; h < WORLD_HIDDEN; h++) {
            size_t i = (size_t)row * WORLD_HIDDEN + (size_t)h;
            a->results[i] = a->rows[i] * scale[h] + shift[h];
        }
    }
}

static const fake_gpu_body expert_twin = {"scale_and_shift", expert_body, sizeof(expert_args),
                                          FAKE_GPU_MARK};
static const eep_kernel expert_kernel =
    EEP_KERNEL("scale_and_shift", expert_body, &expert_twin, NULL, 0);

/* ---------------------------------------------------------------- opening a rank */

static void *allocate(rank *r, eep_memory kind, size_t bytes)
{
    void *memory = NULL;
    cr_assert(r->num_buffers < WORLD_BUFFERS);
    cr_assert_eq(eep_device_alloc(r->device, kind, bytes, &memory), EEP_OK);
    r->buffers[r->num_buffers++] = (rank_buffer){kind, memory};
    return memory;
}

/* The way for anything into device memory: by a copy in a stream. */
static void upload(rank *r, void *to, const void *from, size_t bytes)
{
    cr_assert(bytes <= STAGING_BYTES);
    memcpy(r->staging, from, bytes);
    cr_assert_eq(eep_copy_async(r->stream, to, r->staging, bytes), EEP_OK);
    cr_assert_eq(eep_stream_synchronize(r->stream, COPY_BOUND_US), EEP_OK);
}

static int num_chains(const rank *r)
{
    return r->world->config.num_chains == 2 ? 2 : 1;
}

static void allocate_step(rank *r)
{
    size_t capacity =
        WORLD_SLOTS * (size_t)(r->world->config.max_ranks * WORLD_TOKENS + MOST_ALIGN);
    size_t row_bytes = WORLD_HIDDEN * sizeof(float);
    float weights[WORLD_TOKENS * WORLD_TOPK];
    r->staging = allocate(r, EEP_MEMORY_PINNED, STAGING_BYTES);
    r->x = allocate(r, EEP_MEMORY_PINNED, WORLD_TOKENS * row_bytes);
    r->topk_idx = allocate(r, EEP_MEMORY_PINNED, WORLD_TOKENS * WORLD_TOPK * sizeof(int32_t));
    r->num_tokens = allocate(r, EEP_MEMORY_PINNED, sizeof(int32_t));
    r->chunk_tokens = allocate(r, EEP_MEMORY_PINNED, WORLD_CHUNKS * sizeof(int32_t));
    for (int i = 0; i < num_chains(r); i++) {
        r->chain[i] = (rank_chain){
            .out = allocate(r, EEP_MEMORY_PINNED, WORLD_TOKENS * row_bytes),
            .middle = allocate(r, EEP_MEMORY_DEVICE, WORLD_TOKENS * row_bytes),
            .rows = allocate(r, EEP_MEMORY_DEVICE, capacity * row_bytes),
            .results = allocate(r, EEP_MEMORY_DEVICE, capacity * row_bytes),
            .slot_begin = allocate(r, EEP_MEMORY_DEVICE, (WORLD_SLOTS + 1) * sizeof(int32_t))};
    }
    r->out = r->chain[0].out;
    r->topk_weights = allocate(r, EEP_MEMORY_DEVICE, sizeof weights);
    r->weights = allocate(r, EEP_MEMORY_DEVICE,
                          WORLD_LAYERS * WORLD_SLOTS * WORLD_TENSORS * sizeof(float *));
    for (int32_t i = 0; i < WORLD_TOKENS * WORLD_TOPK; i++) {
        weights[i] = topk_weights[i % WORLD_TOPK];
    }
    upload(r, r->topk_weights, weights, sizeof weights);
}

void world_expert(int32_t layer, int32_t expert, float *scale, float *shift)
{
    for (int32_t h = 0; h < WORLD_HIDDEN; h++) {
        scale[h] = expert_scale(layer, expert, h);
        shift[h] = expert_shift(layer, expert);
    }
}

static void make_expert(const rank *r, int32_t layer, int32_t expert, float *scale, float *shift)
{
    float heavier = layer == 1 && expert == 3 ? r->heavier : 0.0f;
    world_expert(layer, expert, scale, shift);
    for (int32_t h = 0; h < WORLD_HIDDEN; h++) {
        scale[h] += heavier;
    }
}

/* Memory of the context for even slots, of the caller for odd ones. */
static void set_slot(rank *r, int32_t layer, int32_t slot)
{
    float scale[WORLD_HIDDEN], shift[WORLD_HIDDEN];
    const float *addresses[WORLD_TENSORS];
    eep_tensor tensors[WORLD_TENSORS] = {{NULL, sizeof scale + r->longer}, {NULL, sizeof shift}};
    int32_t expert = eep_slot_expert(r->context, layer, slot);
    eep_status status;
    if (slot % 2 == 0) {
        status = eep_slot_alloc(r->context, layer, slot, tensors, WORLD_TENSORS);
    } else {
        tensors[0].data = allocate(r, EEP_MEMORY_DEVICE, tensors[0].bytes);
        tensors[1].data = allocate(r, EEP_MEMORY_DEVICE, tensors[1].bytes);
        status = eep_slot_set(r->context, layer, slot, tensors, WORLD_TENSORS);
    }
    cr_assert_eq(status, EEP_OK, "%s", eep_last_error(r->context));
    for (int32_t i = 0; i < WORLD_TENSORS; i++) {
        addresses[i] = tensors[i].data;
    }
    upload(r, r->weights + (layer * WORLD_SLOTS + slot) * WORLD_TENSORS, addresses,
           sizeof addresses);
    r->experts[layer][slot] = expert;
    if (expert < 0) {
        return;
    }
    make_expert(r, layer, expert, scale, shift);
    upload(r, tensors[0].data, scale, sizeof scale);
    upload(r, tensors[1].data, shift, sizeof shift);
}

static void keep_backups(rank *r)
{
    for (int32_t i = 0; i < WORLD_LAYERS * WORLD_EXPERTS; i++) {
        int32_t layer = i / WORLD_EXPERTS, expert = i % WORLD_EXPERTS;
        eep_tensor tensors[WORLD_TENSORS] = {{NULL, WORLD_HIDDEN * sizeof(float)},
                                             {NULL, WORLD_HIDDEN * sizeof(float)}};
        if (!eep_backup_wanted(r->context, layer, expert)) {
            continue;
        }
        tensors[0].data = allocate(r, EEP_MEMORY_PINNED, tensors[0].bytes);
        tensors[1].data = allocate(r, EEP_MEMORY_PINNED, tensors[1].bytes);
        make_expert(r, layer, expert, tensors[0].data, tensors[1].data);
        cr_assert_eq(eep_backup_set(r->context, layer, expert, tensors, WORLD_TENSORS), EEP_OK,
                     "%s", eep_last_error(r->context));
    }
}

enum { ALL_AT_ONCE = -1 }; /* a step of shape 0; else a chunk */

static int32_t first_token(int chunk)
{
    return chunk == ALL_AT_ONCE ? 0 : chunk * (WORLD_TOKENS / WORLD_CHUNKS);
}

static eep_dispatch_args dispatch_of(const rank *r, int32_t layer, int chain, int chunk)
{
    const rank_chain *c = &r->chain[chain];
    const int32_t first = first_token(chunk);
    eep_dispatch_args args = {.struct_bytes = sizeof(eep_dispatch_args),
                              .chain = chain,
                              .x = (layer == 0 ? r->x : c->middle) + first * WORLD_HIDDEN,
                              .topk_idx = r->topk_idx + first * WORLD_TOPK,
                              .num_tokens =
                                  chunk == ALL_AT_ONCE ? r->num_tokens : r->chunk_tokens + chunk,
                              .rows = c->rows,
                              .slot_begin = c->slot_begin,
                              .chunk = chunk == ALL_AT_ONCE ? 0 : chunk};

    if (r->form) {
        r->form(r, layer, &args);
    }
    return args;
}

static eep_status put_experts(const rank *r, int32_t layer, int chain)
{
    const eep_dispatch_args d = dispatch_of(r, layer, chain, ALL_AT_ONCE);
    const expert_args experts = {r->weights + layer * WORLD_SLOTS * WORLD_TENSORS, d.slot_begin,
                                 d.slot_counts, d.rows, r->chain[chain].results};

    return eep_launch(r->stream, &expert_kernel, WORLD_SLOTS, 1, &experts, sizeof experts);
}

static eep_combine_args combine_of(const rank *r, int32_t layer, int chain, int chunk)
{
    const rank_chain *c = &r->chain[chain];
    const int32_t first = first_token(chunk);

    return (eep_combine_args){
        .struct_bytes = sizeof(eep_combine_args),
        .out_dtype = EEP_FP32,
        .rows = c->results,
        .topk_weights = r->topk_weights,
        .num_tokens = chunk == ALL_AT_ONCE ? r->num_tokens : r->chunk_tokens + chunk,
        .out = (layer == WORLD_LAYERS - 1 ? c->out : c->middle) + first * WORLD_HIDDEN,
        .chain = chain,
        .chunk = chunk == ALL_AT_ONCE ? 0 : chunk};
}

/* Both halves of each exchange at once. */
static eep_status put_whole_layer(rank *r, int32_t layer, int chain, int chunk)
{
    const eep_dispatch_args dispatch = dispatch_of(r, layer, chain, chunk);
    const eep_combine_args combine = combine_of(r, layer, chain, chunk);
    eep_status status = eep_dispatch(r->context, layer, r->stream, &dispatch);

    if (status == EEP_OK) {
        status = put_experts(r, layer, chain);
    }
    if (status == EEP_OK && r->behind) {
        status = r->behind(r, layer);
    }
    return status == EEP_OK ? eep_combine(r->context, layer, r->stream, &combine) : status;
}

/* The rows of one chain travel while the experts of the other compute. */
static eep_status put_mixed_layer(rank *r, int32_t layer, int chunk)
{
    eep_status status = EEP_OK;

    for (int chain = 0; chain < 2 && status == EEP_OK; chain++) {
        const eep_dispatch_args dispatch = dispatch_of(r, layer, chain, chunk);
        status = eep_dispatch_send(r->context, layer, r->stream, &dispatch);
    }
    for (int chain = 0; chain < 2 && status == EEP_OK; chain++) {
        const eep_combine_args combine = combine_of(r, layer, chain, chunk);
        status = eep_dispatch_receive(r->context, layer, chain, r->stream);
        if (status == EEP_OK) {
            status = put_experts(r, layer, chain);
        }
        if (status == EEP_OK) {
            status = eep_combine_send(r->context, layer, r->stream, &combine);
        }
    }
    for (int chain = 0; chain < 2 && status == EEP_OK; chain++) {
        status = eep_combine_receive(r->context, layer, chain, r->stream);
    }
    return status;
}

static eep_status put_layer(rank *r, int32_t layer, int chunk)
{
    const rank_mix mix = chunk == ALL_AT_ONCE ? r->mix : r->mix_of_chunks;
    eep_status status = EEP_OK;

    if (num_chains(r) == 2 && mix == MIX_HALVES) {
        return put_mixed_layer(r, layer, chunk);
    }
    for (int chain = 0; chain < num_chains(r) && status == EEP_OK; chain++) {
        status = put_whole_layer(r, layer, chain, chunk);
    }
    if (status == EEP_OK && r->behind && layer == WORLD_LAYERS - 1) {
        status = r->behind(r, WORLD_LAYERS);
    }
    return status;
}

typedef struct size_args {
    int32_t *num_tokens;
    int64_t num;
} size_args;

static void size_body(const void *raw, eep_grid grid)
{
    const size_args *a = raw;
    (void)grid;
    *a->num_tokens = (int32_t)a->num;
}

static const fake_gpu_body size_twin = {"batch_size", size_body, sizeof(size_args), FAKE_GPU_MARK};
static const eep_kernel size_kernel = EEP_KERNEL("batch_size", size_body, &size_twin, NULL, 0);

/* -1: of any size. */
static eep_graph *capture(rank *r, int32_t num_tokens)
{
    const size_args size = {r->num_tokens, num_tokens};
    eep_graph *graph = NULL;
    eep_status status = EEP_OK;
    cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
    if (num_tokens >= 0) {
        status = eep_launch(r->stream, &size_kernel, 1, 1, &size, sizeof size);
    }
    if (status == EEP_OK) {
        status = eep_step_latch(r->context, r->stream);
    }
    for (int32_t layer = 0; layer < WORLD_LAYERS && status == EEP_OK; layer++) {
        status = put_layer(r, layer, ALL_AT_ONCE);
    }
    if (status == EEP_OK) {
        status = eep_step_finish(r->context, r->stream);
    }
    cr_assert_eq(status, EEP_OK, "capture: %s", eep_last_error(r->context));
    cr_assert_eq(eep_capture_end(r->stream, &graph), EEP_OK);
    return graph;
}

static eep_graph *capture_chunks(rank *r)
{
    eep_graph *graph = NULL;
    eep_status status;

    cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
    status = eep_step_latch_shape(r->context, 1, r->stream);
    for (int32_t i = 0; i < WORLD_LAYERS * WORLD_CHUNKS && status == EEP_OK; i++) {
        status = put_layer(r, i / WORLD_CHUNKS, i % WORLD_CHUNKS);
    }
    if (status == EEP_OK) {
        status = eep_step_finish(r->context, r->stream);
    }
    cr_assert_eq(status, EEP_OK, "capture: %s", eep_last_error(r->context));
    cr_assert_eq(eep_capture_end(r->stream, &graph), EEP_OK);
    return graph;
}

eep_graph *rank_capture(rank *r)
{
    return capture(r, -1);
}

eep_graph *rank_capture_for(rank *r, int32_t num_tokens)
{
    return capture(r, num_tokens);
}

static void note_event(void *user, const eep_event_info *record)
{
    __atomic_store_n(&((rank *)user)->event_epochs[record->kind], record->epoch, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&((rank *)user)->events[record->kind], 1, __ATOMIC_SEQ_CST);
}

uint64_t rank_events(const rank *r, eep_event_kind kind)
{
    return __atomic_load_n(&r->events[kind], __ATOMIC_SEQ_CST);
}

eep_status rank_open(world *w, int32_t seat)
{
    rank *r = &w->ranks[seat];
    eep_config config = w->config;
    r->joined = 0;
    r->join_status = r->ended = EEP_OK;
    cr_assert_eq(eep_device_open(w->device, 0, &r->device), EEP_OK);
    if (w->windows_discrete) {
        eepi_device_set_discrete(r->device);
    }
    config.rank = seat;
    config.device = r->device;
    config.event = w->event ? w->event : note_event;
    config.user = w->event ? w->user : r;
    eep_status status = eep_open(&config, r->error, sizeof r->error, &r->context);
    if (status != EEP_OK) {
        eep_device_close(r->device);
        r->device = NULL;
        return status;
    }
    cr_assert_eq(eep_stream_open(r->device, &r->stream), EEP_OK);
    allocate_step(r);
    if (r->ordered) {
        r->ordered(r);
    }
    for (int32_t layer = 0; layer < WORLD_LAYERS; layer++) {
        for (int32_t slot = 0; slot < WORLD_SLOTS; slot++) {
            set_slot(r, layer, slot);
        }
    }
    if (w->keep_backups) {
        keep_backups(r);
    }
    if (r->opened) {
        r->opened(r);
    }
    r->graph = rank_capture(r);
    r->chunked = w->config.num_shapes ? capture_chunks(r) : NULL;
    return EEP_OK;
}

void rank_close(rank *r)
{
    rank_stop(r);
    eep_close(r->context);
    if (r->stream) {
        eep_stream_close(r->stream);
    }
    eep_graph_close(r->graph);
    eep_graph_close(r->chunked);
    r->chunked = NULL;
    for (int i = 0; i <= WORLD_TOKENS; i++) {
        eep_graph_close(r->sized[i]);
        r->sized[i] = NULL;
    }
    for (int i = 0; i < r->num_buffers; i++) {
        eep_device_free(r->device, r->buffers[i].kind, r->buffers[i].memory);
    }
    eep_device_close(r->device);
    r->context = NULL;
    r->stream = NULL;
    r->graph = NULL;
    r->num_buffers = 0;
    r->device = NULL;
}

/* ---------------------------------------------------------------- inputs and results */

void rank_fill(rank *r, int32_t num_tokens, rank_bad bad)
{
    *r->num_tokens = num_tokens;
    for (int chunk = 0; chunk < WORLD_CHUNKS; chunk++) {
        const int32_t most = WORLD_TOKENS / WORLD_CHUNKS, left = num_tokens - first_token(chunk);
        r->chunk_tokens[chunk] = left < 0 ? 0 : left < most ? left : most;
    }
    for (int32_t i = 0; i < WORLD_TOKENS * WORLD_HIDDEN; i++) {
        r->x[i] = input_value(r->seat, r->position, i / WORLD_HIDDEN, i % WORLD_HIDDEN);
        r->out[i] = NAN;
    }
    for (int32_t i = 0; i < WORLD_TOKENS * WORLD_TOPK; i++) {
        r->topk_idx[i] = input_expert(r->seat, r->position, i / WORLD_TOPK, i % WORLD_TOPK);
    }
    if (bad == BAD_EXPERT_HIGH) {
        r->topk_idx[1 * WORLD_TOPK + 1] = WORLD_EXPERTS;
    } else if (bad == BAD_EXPERT_LOW) {
        r->topk_idx[2 * WORLD_TOPK] = -7;
    } else if (bad == BAD_TWICE) {
        r->topk_idx[3 * WORLD_TOPK + 1] = r->topk_idx[3 * WORLD_TOPK];
    } else if (bad == BAD_TOO_MANY) {
        *r->num_tokens = WORLD_TOKENS + 1;
    } else if (bad == BAD_NEGATIVE) {
        *r->num_tokens = -1;
    }
    if (r->filled) {
        r->filled(r);
    }
}

uint64_t rank_count_wrong(const rank *r, int32_t num_tokens)
{
    uint64_t wrong = 0;
    for (int32_t i = 0; i < num_tokens * WORLD_HIDDEN; i++) {
        const float expected =
            expected_value(r->seat, r->position, i / WORLD_HIDDEN, i % WORLD_HIDDEN);
        for (int chain = 0; chain < num_chains(r); chain++) {
            wrong += !(r->chain[chain].out[i] == expected);
        }
    }
    return wrong;
}
