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

/* A request's part of the batch: positions one after the other, all in one chain. */
typedef struct engine_share {
    int32_t slot, chain;
    uint32_t first, count;
} engine_share;

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

    engine_share *shares; /* [num_shares]: the batch that is filled and not committed */
    int32_t num_shares;
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
    e->shares = calloc(requests, sizeof *e->shares);
    if (e->requests == NULL || e->emitted == NULL || e->order == NULL || e->shares == NULL) {
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
                                .num_chains = c->num_chains,
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
    free(e->shares);
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

/* Whether a share's request is still served. */
static bool is_served(const engine *e, const engine_share *share)
{
    return e->requests[share->slot].used && !e->requests[share->slot].dropped;
}

int64_t engine_request_at(const engine *e, int32_t chain, int32_t token)
{
    int64_t begin = 0;
    for (int32_t i = 0; i < e->num_shares; i++) {
        const engine_share *share = &e->shares[i];
        if (share->chain != chain) {
            continue;
        }
        if (token >= begin && token < begin + share->count) {
            return is_served(e, share) ? (int64_t)e->requests[share->slot].id : -1;
        }
        begin += share->count;
    }
    return -1;
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
static bool emits(const engine *e, const engine_share *share)
{
    const engine_request *r = &e->requests[share->slot];
    return share->first + share->count == r->input_length + r->num_emitted;
}

static uint32_t input_token(const engine *e, int32_t slot, uint32_t position)
{
    const engine_request *r = &e->requests[slot];
    if (position >= r->input_length) {
        return r->emitted[position - r->input_length];
    }
    return weights_prompt_token(e->config.seed, r->id, position, (uint32_t)e->config.vocabulary);
}

static void write_inputs(engine *e)
{
    for (int32_t chain = 0; chain < e->model.config.num_chains; chain++) {
        *e->model.inputs.batch[chain].num_tokens = *e->model.inputs.batch[chain].num_outputs = 0;
    }
    for (int32_t i = 0; i < e->num_shares; i++) {
        const engine_share *share = &e->shares[i];
        const model_batch *batch = &e->model.inputs.batch[share->chain];
        for (uint32_t p = 0; p < share->count; p++) {
            int32_t token = (*batch->num_tokens)++;
            batch->tokens[token] = input_token(e, share->slot, share->first + p);
            batch->request_slot[token] = share->slot;
        }
        if (emits(e, share)) {
            batch->output_token[(*batch->num_outputs)++] = *batch->num_tokens - 1;
        }
    }
}

static int num_positions(const engine *e)
{
    uint32_t num = 0;
    for (int32_t i = 0; i < e->num_shares; i++) {
        num += e->shares[i].count;
    }
    return (int)num;
}

/* Decode positions of all requests, or the next chunk of each prompt. */
static void plan(engine *e, int decode)
{
    uint32_t chunk = (uint32_t)e->config.prefill_chunk;
    uint32_t left = (uint32_t)(e->config.num_max_tokens_per_rank - num_positions(e));
    for (int32_t i = 0; i < e->num_requests && left > 0; i++) {
        const engine_request *r = &e->requests[e->order[i]];
        if (is_decode(r) != decode) {
            continue;
        }
        uint32_t count = num_ready(r);
        count = count < chunk ? count : chunk;
        count = count < left ? count : left;
        e->shares[e->num_shares++] = (engine_share){e->order[i], -1, r->next_position, count};
        left -= count;
    }
}

/* The largest share that is in no chain yet, of equal ones the first. */
static engine_share *largest_left(engine *e)
{
    engine_share *largest = NULL;
    for (int32_t i = 0; i < e->num_shares; i++) {
        engine_share *share = &e->shares[i];
        if (share->chain < 0 && (largest == NULL || share->count > largest->count)) {
            largest = share;
        }
    }
    return largest;
}

/* Each share goes, largest first, to the chain with fewest positions. */
static void deal(engine *e)
{
    uint32_t dealt[MODEL_MAX_CHAINS] = {0};
    for (engine_share *share = largest_left(e); share != NULL; share = largest_left(e)) {
        share->chain = 0;
        for (int32_t chain = 1; chain < e->model.config.num_chains; chain++) {
            share->chain = dealt[chain] < dealt[share->chain] ? chain : share->chain;
        }
        dealt[share->chain] += share->count;
    }
}

int engine_fill(engine *e)
{
    assert(!e->running);
    if (e->num_shares == 0) {
        plan(e, 1);
        plan(e, 0);
        deal(e);
        write_inputs(e);
    }
    return num_positions(e);
}

/* Take the shares of dropped requests out; the others keep their chains. Not while running. */
static void forget_dropped(engine *e)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < e->num_shares; i++) {
        if (!e->requests[e->shares[i].slot].dropped) {
            e->shares[kept++] = e->shares[i];
        }
    }
    e->num_shares = kept;
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

/* The share whose last position is to name no expert: of one request for ever, the youngest of the
 * first batch that has two. NULL: this batch has none. */
static const engine_share *bad_share(engine *e)
{
    if (e->bad_request < 0 && e->num_requests > 1 && e->num_shares > 0 &&
        is_served(e, &e->shares[e->num_shares - 1])) {
        e->bad_request = (int64_t)e->requests[e->shares[e->num_shares - 1].slot].id;
    }
    for (int32_t i = e->num_shares - 1; i >= 0 && e->bad_request >= 0; i--) {
        const engine_share *share = &e->shares[i];
        if (is_served(e, share) && (int64_t)e->requests[share->slot].id == e->bad_request) {
            return share;
        }
    }
    return NULL;
}

/* The last position of a share, as a token of its chain. */
static int32_t last_token(const engine *e, const engine_share *share)
{
    int32_t end = 0;
    for (const engine_share *s = e->shares; s <= share; s++) {
        end += s->chain == share->chain ? (int32_t)s->count : 0;
    }
    return end - 1;
}

static void arm_corruption(engine *e, uint64_t step)
{
    model_control *control = e->model.control;
    control->armed = !e->corrupted && step >= e->config.corrupt_step;
    control->fired = 0;
    control->victim_slot = -1;
    if (control->kind == MODEL_CORRUPT_EXPERT && control->armed) {
        const engine_share *bad = bad_share(e);
        control->armed = bad != NULL;
        control->bad_chain = bad ? bad->chain : 0;
        control->bad_token = bad ? last_token(e, bad) : -1;
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

/* Accept output number `i` of the request's chain as its next token. */
static void emit(engine_request *r, const model_outputs *out, int32_t i, wire_token *token_out)
{
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
    int32_t num_outputs[MODEL_MAX_CHAINS] = {0};
    report->num_positions = (uint32_t)num_positions(e);
    report->num_reprefill = 0;
    report->num_tokens = 0;
    for (int32_t i = 0; i < e->num_shares; i++) {
        const engine_share *share = &e->shares[i];
        engine_request *r = &e->requests[share->slot];
        for (uint32_t p = share->first; p < share->first + share->count; p++) {
            report->num_reprefill += p < r->reprefill_end;
        }
        model_commit_state(&e->model, share->slot);
        r->next_position = share->first + share->count;
        if (!emits(e, share)) {
            continue;
        }
        int32_t output = num_outputs[share->chain]++;
        if (!r->dropped) {
            emit(r, &e->model.chain[share->chain].outputs, output,
                 &tokens_out[report->num_tokens++]);
        }
    }
    e->corrupted |= e->model.control->fired;
    e->running = 0;
    e->num_shares = 0;
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
