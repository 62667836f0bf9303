/* SPDX-License-Identifier: Apache-2.0 */
/* The step of a simulated engine: its buffers and its graph. Expert outputs are whole numbers that
 * show which expert was used and how often each contributed (S9). */
#include "tests/sim/sim.h"

#include "experiments/base/random.h"

#include <stdlib.h>

static float *allocate(sim_rank *r, size_t count)
{
    void *memory = NULL;

    if (eep_device_alloc(r->device, EEP_MEMORY_PINNED, (count ? count : 1) * sizeof(float),
                         &memory) != EEP_OK) {
        abort();
    }
    return memory;
}

typedef struct expert_args {
    sim_process *process;
    const float *const *weights; /* [slots][SIM_TENSORS] */
    const int32_t *slot_begin;
    const float *rows;
    float *results;
} expert_args;

float sim_result_of(const float *row, const float *code, const float *salt, int h)
{
    switch (h) {
    case 0:
        return row[0];
    case 1:
        return 1.0f;
    case 2:
        return code[0];
    default:
        return (float)(((int)row[0] * 31 + (int)row[3] * 7 + (int)code[1] + (int)salt[0]) % 1021);
    }
}

static void expert_body(const void *raw, eep_grid grid)
{
    const expert_args *a = raw;
    const float *code = a->weights[grid.block * SIM_TENSORS];
    const float *salt = a->weights[grid.block * SIM_TENSORS + 1];

    if (grid.block == 0) {
        sim_sleep(sim_delay(sim->step_us / 4, sim->step_us));
    }
    for (int32_t row = a->slot_begin[grid.block]; row < a->slot_begin[grid.block + 1]; row++) {
        for (int h = 0; h < SIM_HIDDEN; h++) {
            a->results[row * SIM_HIDDEN + h] =
                sim_result_of(a->rows + row * SIM_HIDDEN, code, salt, h);
        }
    }
}

static const eep_kernel expert_kernel = EEP_KERNEL("sim_experts", expert_body, NULL, NULL, 0);

/* Half of the seeds have two, with as many tokens in all as the others. */
int sim_num_chains(void)
{
    return 1 + (int)(sim->options.seed * 0x9e3779b97f4a7c15u >> 63);
}

/* Half of the seeds have two: SIM_TOKENS / SIM_CHUNKS tokens at once, or SIM_TOKENS in chunks. */
int sim_num_shapes(void)
{
    return 1 + (int)(sim->options.seed * 0xd1b54a32d192ed03u >> 63);
}

/* Ranks want what they have work for, and some what they like. */
int32_t sim_wanted_shape(const sim_rank *r)
{
    if (sim_num_shapes() == 1) {
        return 0;
    }
    return sim_random(4) ? r->num_work > SIM_TOKENS / SIM_CHUNKS : (int32_t)sim_random(SIM_SHAPES);
}

int sim_most_tokens(int32_t shape)
{
    return shape == 0 && sim_num_shapes() > 1 ? SIM_TOKENS / SIM_CHUNKS : SIM_TOKENS;
}

/* Each chain has experts of its own, and so has each chunk. */
uint64_t sim_longest_step_us(void)
{
    return (uint64_t)sim->shape.num_layers * (uint64_t)sim_num_chains() *
           (sim_num_shapes() > 1 ? SIM_CHUNKS : 1) * sim->step_us;
}

void sim_buffers_open(sim_rank *r)
{
    size_t rows = eep_rows_capacity(r->context);

    for (int i = 0; i < sim_num_chains(); i++) {
        sim_chain *c = &r->chain[i];
        c->x = allocate(r, SIM_TOKENS * SIM_HIDDEN);
        c->middle = allocate(r, SIM_TOKENS * SIM_HIDDEN);
        c->out = allocate(r, SIM_TOKENS * SIM_HIDDEN);
        c->rows = allocate(r, rows * SIM_HIDDEN);
        c->results = allocate(r, rows * SIM_HIDDEN);
        c->topk_weights = allocate(r, SIM_TOKENS * SIM_TOPK);
        c->topk_idx = (int32_t *)allocate(r, SIM_LAYERS * SIM_TOKENS * SIM_TOPK);
        c->num_tokens = (int32_t *)allocate(r, 1);
        c->chunk_tokens = (int32_t *)allocate(r, SIM_CHUNKS);
        c->slot_begin = (int32_t *)allocate(r, SIM_SLOTS + 1);
        for (int pair = 0; pair < SIM_TOKENS * SIM_TOPK; pair++) {
            c->topk_weights[pair] = 1.0f;
        }
    }
    r->weights = (const float **)allocate(r, 2 * SIM_LAYERS * SIM_SLOTS * SIM_TENSORS);
}

/* The experts of a chain's layer. */
static eep_status put_experts(sim_process *p, int layer, const sim_chain *c)
{
    const sim_rank *r = &p->rank;
    expert_args experts = {p, r->weights + layer * sim->shape.num_slots * SIM_TENSORS,
                           c->slot_begin, c->rows, c->results};

    return eep_launch(r->stream, &expert_kernel, (uint32_t)sim->shape.num_slots, 1, &experts,
                      sizeof experts);
}

static int chunks_of(int shape)
{
    return shape == 0 ? 1 : SIM_CHUNKS;
}

/* One half of an exchange; the experts follow a dispatch. `turn` counts layers and their chunks. */
static eep_status put_half(sim_process *p, int shape, int turn, int chain, int half)
{
    sim_rank *r = &p->rank;
    const sim_chain *c = &r->chain[chain];
    const int layer = turn / chunks_of(shape), chunk = turn % chunks_of(shape);
    const int last = layer == sim->shape.num_layers - 1;
    const int first = chunk * (SIM_TOKENS / SIM_CHUNKS);
    const int32_t *num_tokens = shape == 0 ? c->num_tokens : c->chunk_tokens + chunk;
    const eep_dispatch_args dispatch = {.struct_bytes = sizeof dispatch,
                                        .chain = chain,
                                        .x = (layer == 0 ? c->x : c->middle) + first * SIM_HIDDEN,
                                        .topk_idx =
                                            c->topk_idx + (layer * SIM_TOKENS + first) * SIM_TOPK,
                                        .num_tokens = num_tokens,
                                        .rows = c->rows,
                                        .slot_begin = c->slot_begin,
                                        .chunk = chunk};
    const eep_combine_args combine = {.struct_bytes = sizeof combine,
                                      .out_dtype = EEP_FP32,
                                      .rows = c->results,
                                      .topk_weights = c->topk_weights,
                                      .num_tokens = num_tokens,
                                      .out = (last ? c->out : c->middle) + first * SIM_HIDDEN,
                                      .chain = chain,
                                      .chunk = chunk};
    eep_status status;

    switch (half) {
    case EEPK_NODE_DISPATCH_SEND:
        return eep_dispatch_send(r->context, layer, r->stream, &dispatch);
    case EEPK_NODE_DISPATCH_RECEIVE:
        status = eep_dispatch_receive(r->context, layer, chain, r->stream);
        return status == EEP_OK ? put_experts(p, layer, c) : status;
    case EEPK_NODE_COMBINE_SEND:
        return eep_combine_send(r->context, layer, r->stream, &combine);
    default:
        return eep_combine_receive(r->context, layer, chain, r->stream);
    }
}

/* All halves of all chains. How the chains mix is drawn by the seed, the same on all ranks. */
static eep_status put_layers(sim_process *p, int shape)
{
    const int halves = EEPK_NODES_PER_LAYER * sim->shape.num_layers * chunks_of(shape);
    uint64_t state = sim->options.seed ^ 0x636861696e73 ^ (uint64_t)shape << 60;
    int done[SIM_CHAINS] = {0};
    eep_status status = EEP_OK;

    for (int i = 0; i < halves * sim_num_chains() && status == EEP_OK; i++) {
        int chain = sim_num_chains() == 1 ? 0 : (int)(random_next(&state) % SIM_CHAINS);
        chain = done[chain] < halves ? chain : 1 - chain;
        status = put_half(p, shape, done[chain] / EEPK_NODES_PER_LAYER, chain,
                          done[chain] % EEPK_NODES_PER_LAYER);
        done[chain]++;
    }
    return status;
}

static eep_status capture(sim_process *p, int shape)
{
    sim_rank *r = &p->rank;
    eep_status status = eep_capture_begin(r->stream);

    if (status == EEP_OK) {
        status = eep_step_latch_shape(r->context, shape, r->stream);
    }
    if (status == EEP_OK) {
        status = put_layers(p, shape);
    }
    if (status == EEP_OK) {
        status = eep_step_finish(r->context, r->stream);
    }
    if (status == EEP_OK) {
        status = eep_capture_end(r->stream, &r->graph[shape]);
    }
    return status;
}

eep_status sim_capture(sim_process *p)
{
    eep_status status;

    p->starts_kernels = 1;
    status = eep_stream_open(p->rank.device, &p->rank.stream);
    p->starts_kernels = 0;
    sim_no_preemption(1); /* the device counts captures by thread, and all fibers are one */
    for (int shape = 0; shape < sim_num_shapes() && status == EEP_OK; shape++) {
        status = capture(p, shape);
    }
    sim_no_preemption(0);
    return status;
}
