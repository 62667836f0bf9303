/* SPDX-License-Identifier: Apache-2.0 */
/* A small case of the model's kernels, run by any launcher. */
#include "tests/gpu/model/model_case.h"

#include <string.h>

enum { GROUPS = (CASE_TOKENS + MODEL_GROUP - 1) / MODEL_GROUP };

static const uint32_t tokens[CASE_TOKENS] = {5, 1, 0, 52, 17, 17, 3, 9, 30, 31, 2};
static const int32_t request_slot[CASE_TOKENS] = {2, 2, 2, 2, 0, 1, 1, 1, 1, 1, 1};
static const int32_t current[CASE_REQUESTS] = {1, 0, MODEL_NO_STATE};
static const int32_t output_token[CASE_OUTPUTS] = {10, 0, 3, 3, 4, 5, 6, 7, 8};
static const int32_t slot_begin[CASE_SLOTS + 1] = {0, 17, 17, CASE_ROWS};
static const int32_t slot_experts[CASE_LAYERS * CASE_SLOTS] = {0, 1, 2, 3, 4, 5};

/* ---------------------------------------------------------------- inputs */

static void draw(float *out, size_t count, uint64_t *random, float scale)
{
    for (size_t i = 0; i < count; i++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        out[i] = scale * ((float)(*random >> 40) * 0x1p-23f - 1.0f);
    }
}

/* The rows as bf16 or e4m3, none of them NaN. */
static void narrow_rows(model_case *self)
{
    for (size_t i = 0; i < (size_t)CASE_ROWS * CASE_HIDDEN; i++) {
        float value = (float)(i * 37 % 101) / 50.0f - 1.0f;
        if (self->type == 2) {
            ((uint8_t *)self->rows)[i] = eepk_float_to_e4m3(100.0f * value);
        } else {
            ((uint16_t *)self->rows)[i] = eepk_float_to_bf16(value);
        }
    }
}

void model_case_fill(model_case *self, int32_t type, int32_t corrupt)
{
    uint64_t random = 20261121;

    memset(self, 0, sizeof *self);
    self->type = type;
    self->corrupt = corrupt;
    draw(&self->embedding[0][0], sizeof self->embedding / sizeof(float), &random, 1.0f);
    draw(self->decay, CASE_HIDDEN, &random, 0.5f);
    draw(&self->router[0][0], sizeof self->router / sizeof(float), &random, 0.5f);
    draw(&self->m[0][0], sizeof self->m / sizeof(float), &random, 2.0f);
    draw(&self->unembedding[0][0], sizeof self->unembedding / sizeof(float), &random, 0.5f);
    draw(&self->experts[0][0], sizeof self->experts / sizeof(float), &random, 0.5f);
    draw(&self->rows[0][0], sizeof self->rows / sizeof(float), &random, 1.0f);
    draw(&self->row_scales[0][0], sizeof self->row_scales / sizeof(float), &random, 0.1f);
    draw(&self->results.state[0][0][0][0], sizeof self->results.state / sizeof(float), &random,
         1.0f);
    if (type > 0) {
        narrow_rows(self);
    }
    for (int i = 0; i < CASE_LAYERS * CASE_SLOTS * MODEL_TENSORS; i++) {
        self->weights[i] = self->experts[i];
    }
    self->num_tokens = CASE_TOKENS;
    self->num_outputs = CASE_OUTPUTS;
    memcpy(self->tokens, tokens, sizeof tokens);
    memcpy(self->request_slot, request_slot, sizeof request_slot);
    memcpy(self->current, current, sizeof current);
    memcpy(self->output_token, output_token, sizeof output_token);
    memcpy(self->slot_begin, slot_begin, sizeof slot_begin);
    memcpy(self->slot_experts, slot_experts, sizeof slot_experts);
    self->results.control = (model_control){.kind = corrupt,
                                            .armed = corrupt != MODEL_CORRUPT_NONE,
                                            .layer = 1,
                                            .pick = 4,
                                            .victim_slot = -1,
                                            .num_saved = {6}};
}

/* ---------------------------------------------------------------- the step */

static int32_t dtype_of(const model_case *self)
{
    return self->type == 0 ? EEP_FP32 : EEP_BF16;
}

static void run_before_dispatch(model_case *self, model_case_launch launch, void *user)
{
    model_case_results *b = &self->results;
    model_embed_args embed = {&self->num_tokens, self->tokens, self->embedding[0], b->x[0],
                              CASE_HIDDEN};
    model_recur_args recur = {.num_tokens = &self->num_tokens,
                              .request_slot = self->request_slot,
                              .current = self->current,
                              .state = b->state[0][0][0],
                              .decay = self->decay,
                              .x = b->x[0],
                              .y = b->y[0],
                              .sent = b->sent,
                              .num_requests = CASE_REQUESTS,
                              .num_layers = CASE_LAYERS,
                              .layer = 1,
                              .hidden = CASE_HIDDEN,
                              .dtype = dtype_of(self)};
    model_route_args route = {&self->num_tokens, b->y[0],        self->router[0],
                              b->gates[0],       b->topk_idx[0], b->topk_weights[0],
                              CASE_HIDDEN,       CASE_EXPERTS,   CASE_TOPK};

    launch(user, MODEL_KERNEL_embed, CASE_TOKENS + 1, &embed);
    launch(user, MODEL_KERNEL_recur, CASE_TOKENS + 1, &recur);
    launch(user, MODEL_KERNEL_route, GROUPS + 1, &route);
}

static void run_behind_dispatch(model_case *self, model_case_launch launch, void *user)
{
    model_case_results *b = &self->results;
    model_experts_args experts = {.slot_begin = self->slot_begin,
                                  .rows = self->rows,
                                  .out = b->out,
                                  .weights = self->weights,
                                  .control = &b->control,
                                  .num_slots = CASE_SLOTS,
                                  .layer = 1,
                                  .hidden = CASE_HIDDEN,
                                  .inner = CASE_INNER,
                                  .dtype = dtype_of(self),
                                  .row_scales = self->type == 2 ? self->row_scales[0] : NULL,
                                  .scratch = b->scratch};
    model_add_args add = {&self->num_tokens, b->x[0], self->m[0], CASE_HIDDEN};
    model_head_args head = {&self->num_outputs,
                            self->output_token,
                            b->x[0],
                            self->unembedding[0],
                            b->logits[0],
                            b->next,
                            b->digest,
                            CASE_HIDDEN,
                            CASE_VOCABULARY,
                            b->q[0]};

    launch(user, MODEL_KERNEL_experts, CASE_BLOCKS_PER_SLOT * CASE_SLOTS, &experts);
    launch(user, MODEL_KERNEL_add, CASE_TOKENS + 1, &add);
    launch(user, MODEL_KERNEL_head, GROUPS + 1, &head);
}

void model_case_run(model_case *self, model_case_launch launch, void *user)
{
    model_case_results *b = &self->results;
    model_corrupt_args bad = {.control = &b->control,
                              .num_tokens = &self->num_tokens,
                              .num_outputs = &self->num_outputs,
                              .output_token = self->output_token,
                              .topk_idx = b->topk_idx[0],
                              .topk_weights = b->topk_weights[0],
                              .sent = b->sent,
                              .saved = b->saved,
                              .slot_begin = self->slot_begin,
                              .experts = self->slot_experts,
                              .num_layers = CASE_LAYERS,
                              .num_slots = CASE_SLOTS,
                              .layer = 1,
                              .hidden = CASE_HIDDEN,
                              .top_k = CASE_TOPK,
                              .dtype = dtype_of(self)};

    run_before_dispatch(self, launch, user);
    launch(user, MODEL_KERNEL_corrupt_sent, 1, &bad);
    launch(user, MODEL_KERNEL_corrupt_slot, 1, &bad);
    run_behind_dispatch(self, launch, user);
}

void model_case_on_host(void *user, model_kernel_id id, uint32_t num_blocks, const void *args)
{
    (void)user;
    for (uint32_t block = 0; block < num_blocks; block++) {
        model_kernels[id].host(args, (eep_grid){block, num_blocks, 0, 1});
    }
}
