/* SPDX-License-Identifier: Apache-2.0 */
/* Requests become batches of positions, and a step's results become tokens. */
#include "experiments/rank/engine.h"
#include "experiments/base/monotonic.h"
#include "experiments/model/model.h"
#include "experiments/model/model_weights.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ERROR_BYTES = 512, CLOSE_TIMEOUT_US = 10 * 1000 * 1000 };

static_assert((int)ENGINE_CORRUPT_SLOT == (int)MODEL_CORRUPT_SLOT &&
                  (int)ENGINE_CORRUPT_STALE == (int)MODEL_CORRUPT_STALE &&
                  (int)ENGINE_CORRUPT_DROP == (int)MODEL_CORRUPT_DROP &&
                  (int)ENGINE_CORRUPT_EXPERT == (int)MODEL_CORRUPT_EXPERT,
              "the model's names for the same numbers");

/* One request slot. Its index is also that of its state in the model. */
typedef struct engine_request {
    bool used;
    bool dropped; /* the step in flight still has it: its slot is free after that step */
    uint32_t id, input_length, output_length;
    uint32_t num_emitted;   /* tokens known beyond the prompt */
    uint32_t next_position; /* = positions whose state is committed */
    uint32_t reprefill_end; /* positions before this were computed for an earlier owner */
    uint32_t *emitted;      /* [WIRE_MAX_TOKENS] */
} engine_request;

typedef struct engine_position {
    int32_t slot;
    uint32_t position;
} engine_position;

struct engine {
    engine_config config;
    eep_context *context;
    model model;
    eep_stream *stream;
    eep_graph *graph;

    engine_request *requests; /* [num_max_requests] */
    uint32_t *emitted;        /* [num_max_requests, WIRE_MAX_TOKENS] */
    int32_t *order;           /* [num_requests]: request slots in order of admission */
    int32_t num_requests;

    engine_position *batch; /* [num_batch]: what is filled and not committed */
    int32_t num_batch;
    bool running;        /* replayed, neither committed nor rolled back */
    bool corrupted;      /* the corruption is part of a committed step */
    int64_t bad_request; /* the one with a bad input; -1: none is chosen yet */
    uint64_t loaded_ns;
    char error[ERROR_BYTES];
};

static _Thread_local char open_error[ERROR_BYTES];

const char *engine_error(const engine *e)
{
    return e != NULL ? e->error : open_error;
}

__attribute__((format(printf, 3, 4))) static eep_status fail(engine *e, eep_status status,
                                                             const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(e->error, sizeof e->error, format, list);
    va_end(list);
    return status;
}

/* ---------------------------------------------------------------- life */

static eep_status capture(engine *e)
{
    eep_status status = eep_capture_begin(e->stream);
    if (status != EEP_OK) {
        return fail(e, status, "the step cannot be captured: %s", eep_strerror(status));
    }
    const char *why;
    eep_status launched = model_launch_step(&e->model, e->stream, &why);
    status = eep_capture_end(e->stream, &e->graph);
    if (launched != EEP_OK) {
        return fail(e, launched, "capture of the step: %s (%s)", eep_strerror(launched), why);
    }
    if (status != EEP_OK) {
        return fail(e, status, "the capture did not end: %s", eep_strerror(status));
    }
    return EEP_OK;
}

static eep_status allocate(engine *e)
{
    size_t requests = (size_t)e->config.num_max_requests;
    e->requests = calloc(requests, sizeof *e->requests);
    e->emitted = malloc(requests * WIRE_MAX_TOKENS * sizeof *e->emitted);
    e->order = calloc(requests, sizeof *e->order);
    e->batch = calloc((size_t)e->config.num_max_tokens_per_rank, sizeof *e->batch);
    if (e->requests == NULL || e->emitted == NULL || e->order == NULL || e->batch == NULL) {
        return fail(e, EEP_ERR_NO_MEMORY, "no memory for %zu requests", requests);
    }
    for (size_t i = 0; i < requests; i++) {
        e->requests[i].emitted = e->emitted + i * WIRE_MAX_TOKENS;
    }
    return EEP_OK;
}

/* What the corruption will hit follows from the seed. */
static void choose_corruption(engine *e)
{
    model_control *control = e->model.control;
    uint64_t random = weights_mix(e->config.seed + (uint64_t)e->config.corrupt);
    control->kind = e->config.corrupt;
    control->layer = (int32_t)(random % (uint64_t)e->config.num_layers);
    control->pick = (int32_t)(random >> 40);
    e->bad_request = -1;
}

static eep_status open_parts(engine *e, eep_device *device)
{
    const engine_config *c = &e->config;
    const model_config shape = {.seed = c->seed,
                                .num_layers = c->num_layers,
                                .hidden = c->hidden,
                                .inner = c->inner,
                                .num_experts = c->num_experts,
                                .top_k = c->top_k,
                                .vocabulary = c->vocabulary,
                                .num_slots = c->num_slots,
                                .num_max_tokens = c->num_max_tokens_per_rank,
                                .num_max_requests = c->num_max_requests,
                                .corrupt = c->corrupt,
                                .device_ordinal = eep_device_ordinal(device),
                                .router_skew = c->router_skew,
                                .expert_us = c->expert_us,
                                .dtype = c->dtype,
                                .fp8 = c->fp8,
                                .checkpoint = c->checkpoint,
                                .no_backups = c->no_backups};
    const char *why = "";
    if (c->prefill_chunk < 1) {
        return fail(e, EEP_ERR_INVALID, "prefill_chunk must be at least 1");
    }
    eep_status status = model_open(&e->model, &shape, e->context, device, &why);
    if (status != EEP_OK) {
        return fail(e, status, "model: %s", why);
    }
    e->loaded_ns = now_ns();
    choose_corruption(e);
    status = allocate(e);
    if (status != EEP_OK) {
        return status;
    }
    status = eep_stream_open(device, &e->stream);
    if (status != EEP_OK) {
        return fail(e, status, "no stream: %s", eep_strerror(status));
    }
    return capture(e);
}

eep_status engine_open(const engine_config *config, eep_context *context, eep_device *device,
                       engine **engine_out)
{
    engine *e = calloc(1, sizeof *e);
    if (e == NULL) {
        snprintf(open_error, sizeof open_error, "no memory for an engine");
        return EEP_ERR_NO_MEMORY;
    }
    e->config = *config;
    e->context = context;
    eep_status status = open_parts(e, device);
    if (status != EEP_OK) {
        snprintf(open_error, sizeof open_error, "%s", e->error);
        engine_close(e);
        return status;
    }
    open_error[0] = '\0';
    *engine_out = e;
    return EEP_OK;
}

uint64_t engine_loaded_ns(const engine *e)
{
    return e->loaded_ns;
}

bool engine_close(engine *e)
{
    if (e == NULL) {
        return true;
    }
    /* A step that does not end still uses the memory: better lost than used after it is freed. */
    if (e->stream != NULL &&
        eep_stream_synchronize(e->stream, CLOSE_TIMEOUT_US) == EEP_ERR_TIMEOUT) {
        return false;
    }
    eep_graph_close(e->graph);
    if (e->stream != NULL) {
        eep_stream_close(e->stream);
    }
    model_close(&e->model);
    free(e->requests);
    free(e->emitted);
    free(e->order);
    free(e->batch);
    free(e);
    return true;
}

/* ---------------------------------------------------------------- requests */

/* Place of a request in the order of admission, -1 if it is not here. */
static int32_t find(const engine *e, uint32_t id)
{
    for (int32_t i = 0; i < e->num_requests; i++) {
        if (e->requests[e->order[i]].id == id) {
            return i;
        }
    }
    return -1;
}

static eep_status check_request(engine *e, const wire_assign *request, const uint32_t *emitted)
{
    uint32_t id = request->request;
    if (request->input_length < 1 || request->input_length > INT32_MAX - WIRE_MAX_TOKENS) {
        return fail(e, EEP_ERR_INVALID, "request %u: input_length %u is not 1 to %d", id,
                    request->input_length, INT32_MAX - WIRE_MAX_TOKENS);
    }
    if (request->output_length < 1 || request->output_length > WIRE_MAX_TOKENS) {
        return fail(e, EEP_ERR_INVALID, "request %u: output_length %u is not 1 to %d", id,
                    request->output_length, WIRE_MAX_TOKENS);
    }
    if (request->num_emitted >= request->output_length) {
        return fail(e, EEP_ERR_INVALID, "request %u: %u of %u tokens are emitted already", id,
                    request->num_emitted, request->output_length);
    }
    if (find(e, id) >= 0) {
        return fail(e, EEP_ERR_INVALID, "request %u is here already", id);
    }
    for (uint32_t i = 0; i < request->num_emitted; i++) {
        if (emitted[i] >= (uint32_t)e->config.vocabulary) {
            return fail(e, EEP_ERR_INVALID, "request %u: emitted token %u is %u, vocabulary %d", id,
                        i, emitted[i], e->config.vocabulary);
        }
    }
    return EEP_OK;
}

eep_status engine_admit(engine *e, const wire_assign *request, const uint32_t *emitted)
{
    eep_status status = check_request(e, request, emitted);
    if (status != EEP_OK) {
        return status;
    }
    int32_t slot = 0;
    while (slot < e->config.num_max_requests && e->requests[slot].used) {
        slot++;
    }
    if (slot == e->config.num_max_requests) {
        return fail(e, EEP_ERR_NO_MEMORY, "request %u: all %d request slots are taken",
                    request->request, e->config.num_max_requests);
    }

    engine_request *r = &e->requests[slot];
    r->used = 1;
    r->dropped = 0;
    r->id = request->request;
    r->input_length = request->input_length;
    r->output_length = request->output_length;
    r->num_emitted = request->num_emitted;
    r->next_position = 0;
    r->reprefill_end =
        request->num_emitted > 0 ? request->input_length - 1 + request->num_emitted : 0;
    if (request->num_emitted > 0) {
        memcpy(r->emitted, emitted, request->num_emitted * sizeof *emitted);
    }
    model_clear_state(&e->model, slot);
    e->order[e->num_requests++] = slot;
    return EEP_OK;
}

int engine_num_requests(const engine *e)
{
    return e->num_requests;
}

int64_t engine_any_request(const engine *e)
{
    return e->num_requests > 0 ? (int64_t)e->requests[e->order[0]].id : -1;
}

int64_t engine_request_at(const engine *e, int32_t token)
{
    if (token < 0 || token >= e->num_batch || !e->requests[e->batch[token].slot].used ||
        e->requests[e->batch[token].slot].dropped) {
        return -1;
    }
    return (int64_t)e->requests[e->batch[token].slot].id;
}

/* ---------------------------------------------------------------- the batch */

/* Positions that can be computed, one after the other, before a token must be emitted. */
static uint32_t num_ready(const engine_request *r)
{
    return r->input_length + r->num_emitted - r->next_position;
}

static bool is_decode(const engine_request *r)
{
    return num_ready(r) == 1 && r->next_position >= r->input_length;
}

/* The output of the last position whose input is known is the next token. */
static bool emits(const engine *e, const engine_position *p)
{
    const engine_request *r = &e->requests[p->slot];
    return p->position == r->input_length - 1 + r->num_emitted;
}

static uint32_t input_token(const engine *e, const engine_position *p)
{
    const engine_request *r = &e->requests[p->slot];
    if (p->position >= r->input_length) {
        return r->emitted[p->position - r->input_length];
    }
    return weights_prompt_token(e->config.seed, r->id, p->position, (uint32_t)e->config.vocabulary);
}

static void write_inputs(engine *e)
{
    const model_inputs *in = &e->model.inputs;
    int32_t num_outputs = 0;
    for (int32_t i = 0; i < e->num_batch; i++) {
        in->tokens[i] = input_token(e, &e->batch[i]);
        in->request_slot[i] = e->batch[i].slot;
        if (emits(e, &e->batch[i])) {
            in->output_token[num_outputs++] = i;
        }
    }
    *in->num_outputs = num_outputs;
    *in->num_tokens = e->num_batch;
}

/* Decode positions of all requests, or the next chunk of each prompt. */
static void plan(engine *e, int decode)
{
    int32_t max_positions = e->config.num_max_tokens_per_rank;
    for (int32_t i = 0; i < e->num_requests && e->num_batch < max_positions; i++) {
        const engine_request *r = &e->requests[e->order[i]];
        if (is_decode(r) != decode) {
            continue;
        }
        uint32_t count = num_ready(r), left = (uint32_t)(max_positions - e->num_batch);
        uint32_t chunk = (uint32_t)e->config.prefill_chunk;
        count = count < chunk ? count : chunk;
        count = count < left ? count : left;
        for (uint32_t p = 0; p < count; p++) {
            e->batch[e->num_batch++] = (engine_position){e->order[i], r->next_position + p};
        }
    }
}

int engine_fill(engine *e)
{
    assert(!e->running);
    if (e->num_batch == 0) {
        plan(e, 1);
        plan(e, 0);
        write_inputs(e);
    }
    return e->num_batch;
}

/* Take the positions of dropped requests out; the others keep theirs. Not while running. */
static void forget_dropped(engine *e)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < e->num_batch; i++) {
        if (!e->requests[e->batch[i].slot].dropped) {
            e->batch[kept++] = e->batch[i];
        }
    }
    e->num_batch = kept;
    for (int32_t slot = 0; slot < e->config.num_max_requests; slot++) {
        if (e->requests[slot].dropped) {
            e->requests[slot].used = e->requests[slot].dropped = 0;
        }
    }
    write_inputs(e);
}

void engine_drop(engine *e, uint32_t request)
{
    int32_t place = find(e, request);
    if (place < 0) {
        return;
    }
    e->requests[e->order[place]].dropped = 1;
    e->num_requests--;
    memmove(&e->order[place], &e->order[place + 1],
            (size_t)(e->num_requests - place) * sizeof *e->order);
    if (!e->running) {
        forget_dropped(e);
    }
}

/* ---------------------------------------------------------------- the step */

/* The position that is to name no expert: of one request for ever, the youngest of the first batch
 * that has two. -1: this batch has none. */
static int32_t bad_position(engine *e)
{
    if (e->bad_request < 0 && e->num_requests > 1 && e->num_batch > 0) {
        e->bad_request = engine_request_at(e, e->num_batch - 1);
    }
    for (int32_t i = e->num_batch - 1; i >= 0 && e->bad_request >= 0; i--) {
        if (engine_request_at(e, i) == e->bad_request) {
            return i;
        }
    }
    return -1;
}

static void arm_corruption(engine *e, uint64_t step)
{
    model_control *control = e->model.control;
    control->armed = !e->corrupted && step >= e->config.corrupt_step;
    control->fired = 0;
    control->victim_slot = -1;
    if (control->kind == MODEL_CORRUPT_EXPERT && control->armed) {
        control->bad_token = bad_position(e);
        control->armed = control->bad_token >= 0;
    }
}

eep_status engine_run(engine *e, const eep_step *step)
{
    if (e->running) {
        return fail(e, EEP_ERR_STATE, "a step is neither committed nor rolled back");
    }
    if (e->config.corrupt != ENGINE_CORRUPT_NONE) {
        arm_corruption(e, step->step);
    }
    eep_status status = eep_graph_replay(e->graph, e->stream);
    if (status != EEP_OK) {
        return fail(e, status, "step %llu cannot be replayed: %s", (unsigned long long)step->step,
                    eep_strerror(status));
    }
    e->running = 1;
    return EEP_OK;
}

/* Accept output number `i` of the step as the request's next token. */
static void emit(engine *e, engine_request *r, int32_t i, wire_token *token_out)
{
    const model_outputs *out = &e->model.outputs;
    *token_out = (wire_token){.request = r->id,
                              .position = r->num_emitted,
                              .token = out->next[i],
                              .digest = out->digest[i]};
    r->emitted[r->num_emitted++] = out->next[i];
}

void engine_commit(engine *e, wire_step *report, wire_token *tokens_out, int capacity)
{
    assert(e->running && capacity >= e->config.num_max_tokens_per_rank);
    (void)capacity;
    int32_t num_outputs = 0;
    report->num_positions = (uint32_t)e->num_batch;
    report->num_reprefill = 0;
    report->num_tokens = 0;
    for (int32_t i = 0; i < e->num_batch; i++) {
        const engine_position *p = &e->batch[i];
        engine_request *r = &e->requests[p->slot];
        int last = i + 1 == e->num_batch || e->batch[i + 1].slot != p->slot;
        report->num_reprefill += p->position < r->reprefill_end;
        if (last) {
            model_commit_state(&e->model, p->slot);
        }
        r->next_position = p->position + 1;
        if (!emits(e, p)) {
            continue;
        }
        if (!r->dropped) {
            emit(e, r, num_outputs, &tokens_out[report->num_tokens++]);
        }
        num_outputs++;
    }
    e->corrupted |= e->model.control->fired;
    e->running = 0;
    e->num_batch = 0;
    for (int32_t i = e->num_requests - 1; i >= 0; i--) {
        const engine_request *r = &e->requests[e->order[i]];
        if (r->num_emitted == r->output_length) {
            engine_drop(e, r->id);
        }
    }
    forget_dropped(e);
}

void engine_rollback(engine *e)
{
    e->running = 0;
    forget_dropped(e);
}
