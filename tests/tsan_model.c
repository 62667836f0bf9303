/* The model's kernels as a GPU runs them, under ThreadSanitizer: a plain program, since it does not
 * run under Criterion. What nvcc would compile is compiled for CPU threads (gpu_form.h); the bits
 * must be those of the host's kernels, and a read of another thread's number with no meeting of the
 * block between is reported as a race. */
#include "experiments/model_bodies.h"
#include "tests/gpu_form_model.h"

#include <stdio.h>

enum {
    TOKENS = 11,
    OUTPUTS = 9,
    HIDDEN = 41,
    INNER = 23,
    EXPERTS = 10,
    TOPK = 3,
    VOCABULARY = 53,
    SLOTS = 3,
    LAYERS = 2,
    REQUESTS = 3,
    ROWS = 21,
    BLOCKS_PER_SLOT = 2,
    GROUPS = (TOKENS + MODEL_GROUP - 1) / MODEL_GROUP,
    SCRATCH = BLOCKS_PER_SLOT * SLOTS * 2 * MODEL_GROUP * (HIDDEN + INNER)
};

/* All that a step's kernels write. */
typedef struct buffers {
    float state[2][REQUESTS][LAYERS][HIDDEN];
    float x[TOKENS][HIDDEN], y[TOKENS][HIDDEN], gates[TOKENS][EXPERTS];
    float sent[TOKENS][HIDDEN], saved[TOKENS][HIDDEN]; /* in either type */
    int32_t topk_idx[TOKENS][TOPK];
    float topk_weights[TOKENS][TOPK];
    float out[ROWS][HIDDEN], scratch[SCRATCH];
    float logits[TOKENS][VOCABULARY], q[TOKENS][HIDDEN];
    uint32_t next[TOKENS];
    uint64_t digest[TOKENS];
    model_control control;
} buffers;

/* All that they read only. */
static struct {
    float embedding[VOCABULARY][HIDDEN], decay[HIDDEN], router[HIDDEN][EXPERTS], m[TOKENS][HIDDEN];
    float unembedding[HIDDEN][VOCABULARY];
    float experts[LAYERS * SLOTS * MODEL_TENSORS][HIDDEN * INNER];
    float rows[ROWS][HIDDEN], row_scales[ROWS];
    const float *weights[LAYERS * SLOTS * MODEL_TENSORS];
} given;
static const int32_t num_tokens = TOKENS, num_outputs = OUTPUTS;
static const uint32_t tokens[TOKENS] = {5, 1, 0, 52, 17, 17, 3, 9, 30, 31, 2};
static const int32_t request_slot[TOKENS] = {2, 2, 2, 2, 0, 1, 1, 1, 1, 1, 1};
static const int32_t current[REQUESTS] = {1, 0, MODEL_NO_STATE};
static const int32_t output_token[OUTPUTS] = {10, 0, 3, 3, 4, 5, 6, 7, 8};
static const int32_t slot_begin[SLOTS + 1] = {0, 17, 17, ROWS};
static const int32_t slot_experts[LAYERS * SLOTS] = {0, 1, 2, 3, 4, 5};

static uint32_t num_threads; /* of a block; 0: the host's kernels */

static void launch(model_kernel_id id, uint32_t num_blocks, const void *args)
{
    if (num_threads) {
        gpu_form_launch(id, num_blocks, num_threads, args);
        return;
    }
    for (uint32_t block = 0; block < num_blocks; block++)
        model_kernels[id].host(args, (eep_grid){block, num_blocks, 0, 1});
}

static void run_before_dispatch(buffers *b, int32_t dtype)
{
    model_embed_args embed = {&num_tokens, tokens, given.embedding[0], b->x[0], HIDDEN};
    model_recur_args recur = {.num_tokens = &num_tokens,
                              .request_slot = request_slot,
                              .current = current,
                              .state = b->state[0][0][0],
                              .decay = given.decay,
                              .x = b->x[0],
                              .y = b->y[0],
                              .sent = b->sent,
                              .num_requests = REQUESTS,
                              .num_layers = LAYERS,
                              .layer = 1,
                              .hidden = HIDDEN,
                              .dtype = dtype};
    model_route_args route = {&num_tokens, b->y[0],        given.router[0],
                              b->gates[0], b->topk_idx[0], b->topk_weights[0],
                              HIDDEN,      EXPERTS,        TOPK};

    launch(MODEL_KERNEL_embed, TOKENS + 1, &embed);
    launch(MODEL_KERNEL_recur, TOKENS + 1, &recur);
    launch(MODEL_KERNEL_route, GROUPS + 1, &route);
}

static void run_behind_dispatch(buffers *b, int32_t dtype, int fp8)
{
    model_experts_args experts = {.slot_begin = slot_begin,
                                  .rows = given.rows,
                                  .out = b->out,
                                  .weights = given.weights,
                                  .control = &b->control,
                                  .num_slots = SLOTS,
                                  .layer = 1,
                                  .hidden = HIDDEN,
                                  .inner = INNER,
                                  .dtype = dtype,
                                  .row_scales = fp8 ? given.row_scales : NULL,
                                  .scratch = b->scratch};
    model_add_args add = {&num_tokens, b->x[0], given.m[0], HIDDEN};
    model_head_args head = {&num_outputs, output_token, b->x[0], given.unembedding[0], b->logits[0],
                            b->next,      b->digest,    HIDDEN,  VOCABULARY,           b->q[0]};

    launch(MODEL_KERNEL_experts, BLOCKS_PER_SLOT * SLOTS, &experts);
    launch(MODEL_KERNEL_add, TOKENS + 1, &add);
    launch(MODEL_KERNEL_head, GROUPS + 1, &head);
}

static void run_step(buffers *b, int32_t dtype, int fp8, int32_t corrupt)
{
    model_corrupt_args bad = {.control = &b->control,
                              .num_tokens = &num_tokens,
                              .num_outputs = &num_outputs,
                              .output_token = output_token,
                              .topk_idx = b->topk_idx[0],
                              .topk_weights = b->topk_weights[0],
                              .sent = b->sent,
                              .saved = b->saved,
                              .slot_begin = slot_begin,
                              .experts = slot_experts,
                              .num_layers = LAYERS,
                              .num_slots = SLOTS,
                              .layer = 1,
                              .hidden = HIDDEN,
                              .top_k = TOPK,
                              .dtype = dtype};

    memset(b, 0, sizeof(*b));
    for (size_t i = 0; i < 2 * REQUESTS * LAYERS * HIDDEN; i++)
        (&b->state[0][0][0][0])[i] = given.rows[i % ROWS][i % HIDDEN];
    b->control = (model_control){corrupt, corrupt != 0, 1, 4, 0, -1, 0, 6};
    run_before_dispatch(b, dtype);
    launch(MODEL_KERNEL_corrupt_sent, 1, &bad);
    launch(MODEL_KERNEL_corrupt_slot, 1, &bad);
    run_behind_dispatch(b, dtype, fp8);
}

static void fill(float *out, size_t count, uint64_t *random, float scale)
{
    for (size_t i = 0; i < count; i++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        out[i] = scale * ((float)(*random >> 40) * 0x1p-23f - 1.0f);
    }
}

static void make_given(void)
{
    uint64_t random = 20261121;

    fill(&given.embedding[0][0], VOCABULARY * HIDDEN, &random, 1.0f);
    fill(given.decay, HIDDEN, &random, 0.5f);
    fill(&given.router[0][0], HIDDEN * EXPERTS, &random, 0.5f);
    fill(&given.m[0][0], TOKENS * HIDDEN, &random, 2.0f);
    fill(&given.unembedding[0][0], HIDDEN * VOCABULARY, &random, 0.5f);
    fill(&given.experts[0][0], sizeof(given.experts) / sizeof(float), &random, 0.5f);
    fill(&given.rows[0][0], ROWS * HIDDEN, &random, 1.0f);
    fill(given.row_scales, ROWS, &random, 0.1f);
    for (int i = 0; i < LAYERS * SLOTS * MODEL_TENSORS; i++)
        given.weights[i] = given.experts[i];
}

/* The rows as bf16 or e4m3, none of them NaN. */
static void narrow_rows(int fp8)
{
    for (size_t i = 0; i < ROWS * HIDDEN; i++) {
        float value = (float)(i * 37 % 101) / 50.0f - 1.0f;
        if (fp8)
            ((uint8_t *)given.rows)[i] = eepk_float_to_e4m3(100.0f * value);
        else
            ((uint16_t *)given.rows)[i] = eepk_float_to_bf16(value);
    }
}

int main(void)
{
    static const uint32_t sizes[] = {1, 3, 8};
    static buffers host, gpu;
    int wrong = 0, fired = 0;

    make_given();
    for (int32_t type = 0; type < 3; type++) { /* fp32, bf16, fp8 */
        int32_t dtype = type == 0 ? EEP_FP32 : EEP_BF16;
        if (type > 0)
            narrow_rows(type == 2);
        for (int32_t corrupt = 0; corrupt <= MODEL_CORRUPT_DROP; corrupt++) {
            num_threads = 0;
            run_step(&host, dtype, type == 2, corrupt);
            fired += host.control.fired;
            for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                num_threads = sizes[i];
                run_step(&gpu, dtype, type == 2, corrupt);
                if (memcmp(&host, &gpu, sizeof(host)) == 0)
                    continue;
                fprintf(stderr, "type %d, corruption %d: %u threads give other bits\n", type,
                        corrupt, num_threads);
                wrong++;
            }
        }
    }
    if (fired == 0)
        fprintf(stderr, "no corruption was made: nothing was compared\n");
    return wrong != 0 || fired == 0;
}
