#include "tests/context_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAP_MS = 10, LOOK_US = 20000, BEGIN_US = 200000 };

static const float topk_weights[WORLD_TOPK] = {0.5f, 0.25f};

uint64_t world_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void world_lock(world *w)
{
    pthread_mutex_lock(&w->lock);
}

void world_unlock(world *w)
{
    pthread_mutex_unlock(&w->lock);
}

void world_nap(world *w)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += NAP_MS * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&w->changed, &w->lock, &until);
}

static void note_event(void *user, const eep_event_info *record)
{
    __atomic_fetch_add(&((rank *)user)->events[record->kind], 1, __ATOMIC_SEQ_CST);
}

uint64_t rank_events(const rank *r, eep_event_kind kind)
{
    return __atomic_load_n(&r->events[kind], __ATOMIC_SEQ_CST);
}

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
    const float *rows;
    float *results;
} expert_args;

static void expert_body(const void *raw, eep_grid grid)
{
    const expert_args *a = raw;
    const float *scale = a->weights[grid.block * WORLD_TENSORS];
    const float *shift = a->weights[grid.block * WORLD_TENSORS + 1];
    for (int32_t row = a->slot_begin[grid.block]; row < a->slot_begin[grid.block + 1]; row++) {
        for (int32_t h = 0; h < WORLD_HIDDEN; h++) {
            size_t i = (size_t)row * WORLD_HIDDEN + (size_t)h;
            a->results[i] = a->rows[i] * scale[h] + shift[h];
        }
    }
}

static const eep_kernel expert_kernel = {"scale_and_shift", expert_body, NULL};

/* ---------------------------------------------------------------- opening a rank */

static void *allocate(rank *r, size_t bytes)
{
    void *memory = NULL;
    cr_assert(r->num_buffers < WORLD_BUFFERS);
    cr_assert_eq(eep_device_alloc(r->device, EEP_MEMORY_PINNED, bytes, &memory), EEP_OK);
    r->buffers[r->num_buffers++] = memory;
    return memory;
}

static void allocate_step(rank *r)
{
    size_t capacity = eep_rows_capacity(r->context);
    size_t row_bytes = WORLD_HIDDEN * sizeof(float);
    r->x = allocate(r, WORLD_TOKENS * row_bytes);
    r->middle = allocate(r, WORLD_TOKENS * row_bytes);
    r->out = allocate(r, WORLD_TOKENS * row_bytes);
    r->rows = allocate(r, capacity * row_bytes);
    r->results = allocate(r, capacity * row_bytes);
    r->topk_idx = allocate(r, WORLD_TOKENS * WORLD_TOPK * sizeof(int32_t));
    r->topk_weights = allocate(r, WORLD_TOKENS * WORLD_TOPK * sizeof(float));
    r->num_tokens = allocate(r, sizeof(int32_t));
    r->slot_begin = allocate(r, (WORLD_SLOTS + 1) * sizeof(int32_t));
    r->weights = allocate(r, WORLD_LAYERS * WORLD_SLOTS * WORLD_TENSORS * sizeof(float *));
    for (int32_t i = 0; i < WORLD_TOKENS * WORLD_TOPK; i++)
        r->topk_weights[i] = topk_weights[i % WORLD_TOPK];
}

/* Memory of the context for even slots, of the caller for odd ones. */
static void set_slot(rank *r, int32_t layer, int32_t slot)
{
    eep_tensor tensors[WORLD_TENSORS] = {{NULL, WORLD_HIDDEN * sizeof(float)},
                                         {NULL, WORLD_HIDDEN * sizeof(float)}};
    int32_t expert = eep_slot_expert(r->context, layer, slot);
    eep_status status;
    if (slot % 2 == 0) {
        status = eep_slot_alloc(r->context, layer, slot, tensors, WORLD_TENSORS);
    } else {
        tensors[0].data = allocate(r, tensors[0].bytes);
        tensors[1].data = allocate(r, tensors[1].bytes);
        status = eep_slot_set(r->context, layer, slot, tensors, WORLD_TENSORS);
    }
    cr_assert_eq(status, EEP_OK, "%s", eep_last_error(r->context));
    for (int32_t i = 0; i < WORLD_TENSORS; i++)
        r->weights[(layer * WORLD_SLOTS + slot) * WORLD_TENSORS + i] = tensors[i].data;
    for (int32_t h = 0; h < WORLD_HIDDEN && expert >= 0; h++) {
        int other = layer == 1 && expert == 3;
        ((float *)tensors[0].data)[h] = expert_scale(layer, expert, h) + (other ? r->heavier : 0);
        ((float *)tensors[1].data)[h] = expert_shift(layer, expert);
    }
}

static eep_status put_layer(rank *r, int32_t layer)
{
    int last = layer == WORLD_LAYERS - 1;
    eep_dispatch_args dispatch = {layer == 0 ? r->x : r->middle, r->topk_idx, r->num_tokens,
                                  r->rows, r->slot_begin};
    eep_combine_args combine = {r->results, r->topk_weights, r->num_tokens,
                                last ? r->out : r->middle, EEP_FP32};
    expert_args experts = {r->weights + layer * WORLD_SLOTS * WORLD_TENSORS, r->slot_begin,
                           r->rows, r->results};
    eep_status status = eep_dispatch(r->context, layer, r->stream, &dispatch);
    if (status == EEP_OK)
        status = eep_launch(r->stream, &expert_kernel, WORLD_SLOTS, 1, &experts, sizeof(experts));
    if (status == EEP_OK)
        status = eep_combine(r->context, layer, r->stream, &combine);
    return status;
}

static void capture(rank *r)
{
    cr_assert_eq(eep_stream_open(r->device, &r->stream), EEP_OK);
    cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
    eep_status status = eep_step_latch(r->context, r->stream);
    for (int32_t layer = 0; layer < WORLD_LAYERS && status == EEP_OK; layer++)
        status = put_layer(r, layer);
    if (status == EEP_OK)
        status = eep_step_finish(r->context, r->stream);
    cr_assert_eq(status, EEP_OK, "capture: %s", eep_last_error(r->context));
    cr_assert_eq(eep_capture_end(r->stream, &r->graph), EEP_OK);
}

eep_status rank_open(world *w, int32_t seat)
{
    rank *r = &w->ranks[seat];
    eep_config config = w->config;
    r->joined = 0;
    r->join_status = r->ended = EEP_OK;
    cr_assert_eq(eep_device_open("host", 0, &r->device), EEP_OK);
    config.rank = seat;
    config.device = r->device;
    config.event = note_event;
    config.user = r;
    eep_status status = eep_open(&config, r->error, sizeof(r->error), &r->context);
    if (status != EEP_OK) {
        eep_device_close(r->device);
        r->device = NULL;
        return status;
    }
    allocate_step(r);
    for (int32_t layer = 0; layer < WORLD_LAYERS; layer++) {
        for (int32_t slot = 0; slot < WORLD_SLOTS; slot++)
            set_slot(r, layer, slot);
    }
    capture(r);
    return EEP_OK;
}

/* ---------------------------------------------------------------- steps */

static void fill(rank *r, int32_t num_tokens, rank_bad bad)
{
    *r->num_tokens = num_tokens;
    for (int32_t i = 0; i < WORLD_TOKENS * WORLD_HIDDEN; i++) {
        r->x[i] = input_value(r->seat, r->position, i / WORLD_HIDDEN, i % WORLD_HIDDEN);
        r->out[i] = NAN;
    }
    for (int32_t i = 0; i < WORLD_TOKENS * WORLD_TOPK; i++)
        r->topk_idx[i] = input_expert(r->seat, r->position, i / WORLD_TOPK, i % WORLD_TOPK);
    if (bad == BAD_EXPERT_HIGH)
        r->topk_idx[1 * WORLD_TOPK + 1] = WORLD_EXPERTS;
    else if (bad == BAD_EXPERT_LOW)
        r->topk_idx[2 * WORLD_TOPK] = -7;
    else if (bad == BAD_TWICE)
        r->topk_idx[3 * WORLD_TOPK + 1] = r->topk_idx[3 * WORLD_TOPK];
    else if (bad == BAD_TOO_MANY)
        *r->num_tokens = WORLD_TOKENS + 1;
    else if (bad == BAD_NEGATIVE)
        *r->num_tokens = -1;
}

static uint64_t count_wrong(const rank *r, int32_t num_tokens)
{
    uint64_t wrong = 0;
    for (int32_t i = 0; i < num_tokens * WORLD_HIDDEN; i++)
        wrong += !(r->out[i] ==
                   expected_value(r->seat, r->position, i / WORLD_HIDDEN, i % WORLD_HIDDEN));
    return wrong;
}

/* Count a step's end; with the lock held. */
static void note_step(rank *r, eep_status status, int32_t num_tokens)
{
    if (status != EEP_OK)
        snprintf(r->text, sizeof(r->text), "%s", eep_last_error(r->context));
    if (status == EEP_OK) {
        r->wrong += count_wrong(r, num_tokens);
        r->steps_ok++;
        r->position += num_tokens > 0;
    } else if (status == EEP_ERR_ABORTED) {
        r->steps_aborted++;
    } else if (status == EEP_ERR_BAD_STEP_INPUT) {
        r->steps_bad++;
        r->bad_status = status;
    } else if (status != EEP_ERR_TIMEOUT && status != EEP_ERR_UNCOVERED) {
        r->ended = status;
    }
    r->in_step = 0;
    pthread_cond_broadcast(&r->world->changed);
}

static eep_status run_step(rank *r, int32_t num_tokens, rank_bad bad)
{
    eep_step step;
    eep_status status = eep_step_begin(r->context, BEGIN_US, &step);
    if (status == EEP_OK) {
        fill(r, num_tokens, bad);
        status = eep_graph_replay(r->graph, r->stream);
        world_lock(r->world);
        r->in_step = 1;
        r->last_step = step.step;
        r->last_epoch = step.epoch;
        r->last_active = step.num_active;
        pthread_cond_broadcast(&r->world->changed);
        world_unlock(r->world);
    }
    if (status == EEP_OK)
        status = eep_step_end(r->context);
    world_lock(r->world);
    note_step(r, status, num_tokens);
    world_unlock(r->world);
    return status;
}

eep_status rank_step(rank *r, int32_t num_tokens)
{
    return run_step(r, num_tokens, BAD_NONE);
}

/* ---------------------------------------------------------------- the thread of a rank */

/* What to do next; parks as long as that is what the mode says, or service has ended. */
static rank_mode next_mode(rank *r, rank_bad *bad_out)
{
    world *w = r->world;
    int drain;
    world_lock(w);
    r->busy = 0;
    pthread_cond_broadcast(&w->changed);
    while (r->mode == RANK_PARK || (r->ended != EEP_OK && r->mode != RANK_QUIT))
        world_nap(w);
    rank_mode mode = r->mode;
    r->busy = mode == RANK_WORK;
    *bad_out = BAD_NONE;
    if (mode == RANK_WORK) {
        *bad_out = r->bad;
        r->bad = BAD_NONE;
    }
    drain = r->drain;
    r->drain = 0;
    world_unlock(w);
    if (drain && eep_drain(r->context) != EEP_OK)
        fprintf(stderr, "rank %d: eep_drain: %s\n", r->seat, eep_last_error(r->context));
    return mode;
}

/* 1 when a step is to be run. */
static int follow(rank *r)
{
    eep_status status = eep_step_wait(r->context, LOOK_US);
    world_lock(r->world);
    r->busy = status == EEP_OK;
    if (status == EEP_ERR_TIMEOUT)
        r->idles++;
    else if (status != EEP_OK)
        note_step(r, status, 0);
    pthread_cond_broadcast(&r->world->changed);
    world_unlock(r->world);
    return status == EEP_OK;
}

static void *rank_thread(void *argument)
{
    rank *r = argument;
    eep_status status = eep_join(r->context);
    world_lock(r->world);
    r->joined = status == EEP_OK;
    r->join_status = status;
    if (status != EEP_OK) {
        r->ended = status;
        snprintf(r->text, sizeof(r->text), "%s", eep_last_error(r->context));
    }
    world_unlock(r->world);
    for (;;) {
        rank_bad bad;
        rank_mode mode = next_mode(r, &bad);
        if (mode == RANK_QUIT)
            return NULL;
        if (mode == RANK_WORK || follow(r))
            (void)!run_step(r, mode == RANK_WORK ? WORLD_TOKENS : 0, bad);
    }
}

void rank_run(rank *r)
{
    cr_assert_eq(pthread_create(&r->thread, NULL, rank_thread, r), 0);
    r->has_thread = 1;
}

void rank_set_mode(rank *r, rank_mode mode)
{
    world_lock(r->world);
    r->mode = mode;
    r->idles = 0;
    pthread_cond_broadcast(&r->world->changed);
    world_unlock(r->world);
}

void world_set_modes(world *w, int32_t first, int32_t last, rank_mode mode)
{
    for (int32_t seat = first; seat <= last; seat++)
        rank_set_mode(&w->ranks[seat], mode);
}

void rank_stop(rank *r)
{
    if (!r->has_thread)
        return;
    rank_set_mode(r, RANK_QUIT);
    pthread_join(r->thread, NULL);
    r->has_thread = 0;
}

void rank_close(rank *r)
{
    rank_stop(r);
    eep_close(r->context);
    if (r->stream)
        eep_stream_close(r->stream);
    eep_graph_close(r->graph);
    for (int i = 0; i < r->num_buffers; i++)
        eep_device_free(r->device, EEP_MEMORY_PINNED, r->buffers[i]);
    eep_device_close(r->device);
    r->context = NULL;
    r->stream = NULL;
    r->graph = NULL;
    r->num_buffers = 0;
    r->device = NULL;
}

/* ---------------------------------------------------------------- the world */

void world_open(world *w, int32_t num_ranks, int32_t max_ranks)
{
    char error[256] = "";
    pthread_condattr_t attributes;
    memset(w, 0, sizeof(*w));
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    snprintf(w->directory, sizeof(w->directory), "/tmp/eep-context-XXXXXX");
    cr_assert_not_null(mkdtemp(w->directory));
    snprintf(w->path, sizeof(w->path), "%s/store", w->directory);
    cr_assert_eq(eep_store_open(w->path, error, sizeof(error), &w->store), EEP_OK, "%s", error);
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        w->ranks[seat].world = w;
        w->ranks[seat].seat = seat;
        w->ranks[seat].mode = RANK_FOLLOW;
    }
    eep_config_init(&w->config);
    w->config.num_ranks = num_ranks;
    w->config.max_ranks = max_ranks;
    w->config.store_path = w->path;
    w->config.num_layers = WORLD_LAYERS;
    w->config.num_experts = WORLD_EXPERTS;
    w->config.num_slots = WORLD_SLOTS;
    w->config.top_k = WORLD_TOPK;
    w->config.hidden = WORLD_HIDDEN;
    w->config.num_max_tokens_per_rank = WORLD_TOKENS;
    w->config.step_deadline_us = WORLD_PATIENT_US;
    w->config.warmup_deadline_us = WORLD_PATIENT_US;
    w->config.expel_floor_us = WORLD_PATIENT_US;
    w->config.join_timeout_us = WORLD_WAIT_MS * 1000ull;
    w->config.kill_fence = 0;   /* the process to kill would be ours */
    w->config.bind_threads = 0; /* many ranks on whatever cores there are */
    w->config.log_level = getenv("EEP_TEST_LOG") ? EEP_LOG_DEBUG : EEP_LOG_NONE;
}

void world_start(world *w)
{
    int32_t n = w->config.num_ranks;
    for (int32_t seat = 0; seat < n; seat++)
        cr_assert_eq(rank_open(w, seat), EEP_OK, "%s", w->ranks[seat].error);
    for (int32_t seat = 0; seat < n; seat++)
        rank_run(&w->ranks[seat]);
    for (int32_t seat = 0; seat < n; seat++)
        WORLD_WAIT(w, w->ranks[seat].joined);
}

int world_is_quiet(const world *w)
{
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        const rank *r = &w->ranks[seat];
        int serves = r->has_thread && r->joined && r->ended == EEP_OK && r->mode != RANK_PARK;
        if (serves && (r->busy || r->mode != RANK_FOLLOW || r->idles == 0))
            return 0;
    }
    return 1;
}

void world_close(world *w)
{
    world_lock(w);
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        rank *r = &w->ranks[seat];
        if (r->mode == RANK_WORK)
            r->mode = RANK_FOLLOW;
        r->idles = 0;
    }
    pthread_cond_broadcast(&w->changed);
    world_unlock(w);
    WORLD_WAIT(w, world_is_quiet(w));
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++)
        rank_stop(&w->ranks[seat]);
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++)
        rank_close(&w->ranks[seat]);
    eep_store_close(w->store);
    cr_assert_eq(rmdir(w->directory), 0, "the store left files behind");
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
}

eep_counters rank_counters(const rank *r)
{
    eep_snapshot snapshot;
    cr_assert_eq(eep_snapshot_get(r->context, &snapshot, NULL), EEP_OK);
    return snapshot.counters;
}

eep_seat rank_sees(const rank *r, int32_t seat, uint64_t *epoch_out)
{
    eep_seat seats[WORLD_SEATS];
    eep_snapshot snapshot;
    cr_assert_eq(eep_snapshot_get(r->context, &snapshot, seats), EEP_OK);
    if (epoch_out)
        *epoch_out = snapshot.epoch;
    return seats[seat];
}

void world_print(world *w)
{
    world_lock(w);
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        const rank *r = &w->ranks[seat];
        if (!r->context)
            continue;
        fprintf(stderr,
                "rank %d: mode %d joined %d busy %d in_step %d; step %llu epoch %llu; ok %llu "
                "aborted %llu bad %llu wrong %llu idle %llu; ended %s; %s\n",
                seat, (int)r->mode, r->joined, r->busy, r->in_step,
                (unsigned long long)r->last_step, (unsigned long long)r->last_epoch,
                (unsigned long long)r->steps_ok, (unsigned long long)r->steps_aborted,
                (unsigned long long)r->steps_bad, (unsigned long long)r->wrong,
                (unsigned long long)r->idles, eep_strerror(r->ended), r->text);
    }
    world_unlock(w);
}
