/* SPDX-License-Identifier: Apache-2.0 */
/* The model's numbers and kernels against plain loops written from docs/MODEL.md. */
#include "experiments/model/model.h"
#include "experiments/model/model_bodies.h"
#include "experiments/model/model_weights.h"
#include "tests/lib/fake_eep.h"
#include "tests/lib/plain_exp.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static uint64_t plain_mix(uint64_t z)
{
    z ^= z >> 30;
    z *= 0xbf58476d1ce4e5b9u;
    z ^= z >> 27;
    z *= 0x94d049bb133111ebu;
    z ^= z >> 31;
    return z;
}

static float plain_value(uint64_t seed, uint64_t kind, uint64_t layer, uint64_t expert, uint64_t i)
{
    uint64_t key = plain_mix(seed + 0x9e3779b97f4a7c15u * (1 + kind + 16 * (layer + 256 * expert)));
    int64_t integer = (int64_t)(plain_mix(key + i * 0x9e3779b97f4a7c15u) >> 40) - 8388608;
    return (float)ldexp((double)integer, -23);
}

static void fill(float *out, size_t count, uint64_t salt)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = plain_value(salt, 0, 0, 0, i);
    }
}

static const eep_grid alone = {0, 1, 0, 1};

static void plain_norm(float *out, const float *in, int32_t hidden)
{
    float sum = 0.0f;
    for (int32_t h = 0; h < hidden; h++) {
        sum = sum + in[h] * in[h];
    }
    float r = 1.0f / sqrtf(sum * (1.0f / (float)hidden) + 1e-6f);
    for (int32_t h = 0; h < hidden; h++) {
        out[h] = in[h] * r;
    }
}

static void assert_same_bits(const void *a, const void *b, size_t bytes)
{
    cr_assert_eq(memcmp(a, b, bytes), 0);
}

Test(weights, every_kind_follows_the_document)
{
    static const float scales[] = {1.0f, 1.0f, 0.25f, 0.0625f, 0.0625f, 0.125f, 0.125f};
    enum { COUNT = 1003 };
    float got[COUNT];
    for (uint32_t kind = 0; kind <= WEIGHTS_UNEMBEDDING; kind++) {
        weights_generate(77, (weights_kind)kind, 3, 61, COUNT, got);
        for (uint32_t i = 0; i < COUNT; i++) {
            float want = plain_value(77, kind, 3, 61, i) * scales[kind];
            if (kind == WEIGHTS_DECAY) {
                want = 0.5f + 0.375f * want;
            }
            cr_assert_eq(got[i], want, "kind %u element %u", kind, i);
        }
    }
}

Test(weights, a_skew_makes_columns_of_the_router_hot)
{
    float rows[3 * 5], skewed[3 * 5];

    weights_generate(9, WEIGHTS_ROUTER, 2, 0, 15, rows);
    memcpy(skewed, rows, sizeof rows);
    weights_skew(0, 2, 5, 0, 15, skewed);
    cr_assert_arr_eq(skewed, rows, sizeof rows);
    weights_skew(3, 2, 5, 0, 7, skewed);
    weights_skew(3, 2, 5, 7, 8, skewed + 7);
    for (int i = 0; i < 15; i++) {
        const float quotient = 3.0f / (float)(1 + (i % 5 + 7 * 2) % 5), factor = 1.0f + quotient;
        cr_assert_eq(skewed[i], rows[i] * factor, "%d", i);
    }
}

Test(weights, prompt_tokens_follow_the_document)
{
    for (uint32_t j = 0; j < 100; j++) {
        uint64_t start = 0x123456789abcdefu ^ 0x5eed0000u;
        uint64_t z = start + 9 * 0x9e3779b97f4a7c15u + j * 0xd1b54a32d192ed03u;
        cr_assert_eq(weights_prompt_token(0x123456789abcdefu, 9, j, 512), plain_mix(z) % 512);
    }
}

Test(model_math, product_has_the_plain_loops_bits_for_any_shape)
{
    static const int32_t sizes[] = {1, 2, 3, 4, 5, 15, 16, 17, 33, 64, 70};
    enum { SIZES = sizeof sizes / sizeof sizes[0], MOST = 70 };
    float in[MODEL_GROUP * MOST], weights[MOST * MOST], got[MODEL_GROUP * MOST];
    fill(in, MODEL_GROUP * MOST, 1);
    fill(weights, MOST * MOST, 2);
    for (int32_t rows = 1; rows <= MODEL_GROUP; rows++) {
        for (size_t c = 0; c < (size_t)SIZES * SIZES; c++) {
            int32_t depth = sizes[c / SIZES], width = sizes[c % SIZES];
            model_multiply(got, in, weights, rows, depth, width, alone);
            for (int32_t r = 0; r < rows; r++) {
                for (int32_t j = 0; j < width; j++) {
                    float sum = 0.0f;
                    for (int32_t k = 0; k < depth; k++) {
                        sum = sum + in[r * depth + k] * weights[k * width + j];
                    }
                    assert_same_bits(&sum, &got[r * width + j], sizeof sum);
                }
            }
        }
    }
}

Test(model_math, top_k_prefers_the_smaller_index_and_sums_in_order)
{
    float gates[] = {0.5f, 2.0f, -1.0f, 2.0f, 0.5f, 3.0f}, weights[4];
    int32_t idx[4];
    model_top_k(gates, 6, 4, idx, weights);
    const int32_t want[] = {5, 1, 3, 0};
    assert_same_bits(idx, want, sizeof want);
    float sum = 0.0f, exps[4];
    for (int k = 0; k < 4; k++) {
        exps[k] = plain_exp(gates[idx[k]] - 3.0f);
        sum = sum + exps[k];
    }
    for (int k = 0; k < 4; k++) {
        cr_assert_eq(weights[k], exps[k] / sum);
    }
}

Test(model_math, top_k_of_a_broken_row_names_no_expert_twice_and_none_out_of_range)
{
    float gates[] = {NAN, 1.0f, NAN, INFINITY}, weights[4];
    int32_t idx[4];
    model_top_k(gates, 4, 4, idx, weights);
    const int32_t want[] = {3, 1, -1, -1};
    assert_same_bits(idx, want, sizeof want);
}

Test(model_math, exp_is_the_documents_and_near_the_true_one)
{
    for (int64_t i = 0; i < 2000000; i++) {
        float x = (float)(-88.0 + 177.0 * (double)i / 2000000.0), got = model_exp(x);
        float want = plain_exp(x);
        assert_same_bits(&want, &got, sizeof want);
        if (x > -86.0f && x < 88.0f) {
            cr_assert_lt(fabs((double)got / exp((double)x) - 1.0), 0x1p-22, "exp(%a) is %a", x,
                         got);
        }
    }
    cr_assert_eq(model_exp(0.0f), 1.0f);
    cr_assert_eq(model_exp(-0.0f), 1.0f);
    cr_assert_eq(model_exp(-INFINITY), 0.0f);
    cr_assert_eq(model_exp(-87.5f), 0.0f);
    cr_assert_eq(model_exp(88.5f), INFINITY);
    cr_assert_eq(model_exp(INFINITY), INFINITY);
    cr_assert(isnan(model_exp(NAN)));
}

Test(model_math, swiglu_has_the_same_bits_in_any_place)
{
    enum { COUNT = 131 };
    float gate[COUNT], up[COUNT], got[COUNT];
    fill(gate, COUNT, 21);
    fill(up, COUNT, 22);
    for (int i = 0; i < COUNT; i++) {
        gate[i] *= i % 7 == 0 ? 200.0f : 8.0f;
    }
    for (int32_t first = 0; first < COUNT; first++) {
        memcpy(got, gate, sizeof got);
        model_swiglu(got + first, up + first, COUNT - first, alone);
        for (int32_t i = first; i < COUNT; i++) {
            float want = (gate[i] / (1.0f + plain_exp(-gate[i]))) * up[i];
            assert_same_bits(&want, &got[i], sizeof want);
        }
    }
}

Test(model_math, digest_is_the_librarys)
{
    float row[100];
    fill(row, 100, 23);
    for (uint32_t count = 0; count <= 100; count++) {
        cr_assert_eq(model_digest(row, count), XXH64(row, count * sizeof(float), 0), "%u", count);
    }
}

Test(model_plugin, a_missing_one_is_named)
{
    char why[512] = "";
    cr_assert_null(model_plugin_open(0, why, sizeof why));
    cr_assert(strstr(why, MODEL_PLUGIN_FILE), "%s", why);
}

Test(model_kernels, recurrence_reads_the_committed_state_and_writes_the_other)
{
    enum { T = 4, R = 3, L = 2, H = 5 };
    int32_t num_tokens = T, request_slot[T] = {2, 2, 2, 0}, current[R] = {1, 0, 0};
    float state[2][R][L][H], before[2][R][L][H], decay[H], x[T][H], y[T][H], sent[T][H];
    fill(&state[0][0][0][0], 2 * R * L * H, 3);
    fill(decay, H, 4);
    fill(&x[0][0], T * H, 5);
    memcpy(before, state, sizeof state);
    model_recur_args args = {&num_tokens, request_slot,
                             current,     &state[0][0][0][0],
                             decay,       &x[0][0],
                             &y[0][0],    &sent[0][0],
                             R,           L,
                             1,           H,
                             EEP_FP32};
    for (uint32_t order = 0; order < 6; order++) { /* blocks in no particular order, two too many */
        model_kernels[MODEL_KERNEL_recur].host(&args, (eep_grid){5 - order, 6, 0, 1});
    }
    float s[H], zero[H];
    memcpy(s, before[0][2][1], sizeof s);
    for (int t = 0; t < 3; t++) {
        for (int h = 0; h < H; h++) {
            s[h] = s[h] * decay[h] + x[t][h];
        }
        plain_norm(zero, s, H);
        assert_same_bits(zero, y[t], sizeof zero);
    }
    assert_same_bits(s, state[1][2][1], sizeof s);
    assert_same_bits(before[0][2], state[0][2], sizeof before[0][2]);
    assert_same_bits(before[1][2][0], state[1][2][0], sizeof s);
    for (int h = 0; h < H; h++) {
        cr_assert_eq(state[0][0][1][h], before[1][0][1][h] * decay[h] + x[3][h]);
    }
    assert_same_bits(before[1][0], state[1][0], sizeof before[1][0]);
    assert_same_bits(before[0][1], state[0][1], sizeof before[0][1]);
    assert_same_bits(y, sent, sizeof y);

    current[2] = MODEL_NO_STATE; /* as from zeros, into the buffer that is not the other one */
    memset(state, 0x7f, sizeof state);
    for (uint32_t block = 0; block < T; block++) {
        model_kernels[MODEL_KERNEL_recur].host(&args, (eep_grid){block, T, 0, 1});
    }
    memset(s, 0, sizeof s);
    for (int t = 0; t < 3; t++) {
        for (int h = 0; h < H; h++) {
            s[h] = s[h] * decay[h] + x[t][h];
        }
    }
    assert_same_bits(s, state[0][2][1], sizeof s);
}

/* One expert on one row, from the definition. */
static void plain_expert(const float *const *w, const float *y, float *o, int hidden, int inner)
{
    float c[64];
    for (int i = 0; i < inner; i++) {
        float a = 0.0f, b = 0.0f;
        for (int h = 0; h < hidden; h++) {
            a = a + y[h] * w[0][h * inner + i];
            b = b + y[h] * w[1][h * inner + i];
        }
        c[i] = (a / (1.0f + plain_exp(-a))) * b;
    }
    for (int h = 0; h < hidden; h++) {
        o[h] = 0.0f;
        for (int i = 0; i < inner; i++) {
            o[h] = o[h] + c[i] * w[2][i * hidden + h];
        }
    }
}

Test(model_kernels, experts_compute_each_row_alone_whatever_the_grouping)
{
    enum { S = 3, H = 20, I = 18, ROWS = 19 };
    int32_t slot_begin[S + 1] = {0, 2, 2, ROWS};
    float tensors[S][3][H * I], rows[ROWS][H], out[ROWS][H], want[H];
    const float *weights[S * 3];
    model_control control = {.victim_slot = -1};
    fill(&rows[0][0], ROWS * H, 6);
    for (int i = 0; i < S * 3; i++) {
        fill(tensors[i / 3][i % 3], H * I, 10 + (uint64_t)i);
        weights[i] = tensors[i / 3][i % 3];
    }
    float scratch[3 * S * 2 * MODEL_GROUP * (H + I)];
    cr_assert_eq(sizeof scratch / sizeof(float), 3 * S * model_scratch_floats(H, I));
    model_experts_args args = {.slot_begin = slot_begin,
                               .rows = rows,
                               .out = out,
                               .weights = weights,
                               .control = &control,
                               .num_slots = S,
                               .hidden = H,
                               .inner = I,
                               .dtype = EEP_FP32,
                               .scratch = scratch};
    for (int round = 0; round < 4; round++) {
        int victim = round % 2 ? 2 : -1;
        uint32_t blocks = round < 2 ? S : 3 * S; /* one block per slot, or three */
        control = (model_control){.victim_slot = victim, .source = 1};
        memset(out, 0, sizeof out);
        for (uint32_t block = 0; block < blocks; block++) {
            model_kernels[MODEL_KERNEL_experts].host(&args, (eep_grid){block, blocks, 0, 1});
        }
        for (int r = 0; r < ROWS; r++) {
            int place = r < 2 ? 0 : victim < 0 ? 2 : 1;
            plain_expert(weights + place * 3, rows[r], want, H, I);
            assert_same_bits(want, out[r], sizeof want);
        }
    }
}

/* All kernels that are long look at the words of the step, and leave everything as it is. */
Test(model_kernels, a_step_that_is_over_is_computed_no_further)
{
    enum { H = 4, I = 3, V = 5, ROWS = 3 };
    int32_t slot_begin[2] = {0, ROWS}, num = ROWS, request_slot[ROWS] = {0}, current[1] = {0};
    int32_t output_token[ROWS] = {0, 1, 2}, topk_idx[ROWS] = {7, 7, 7};
    float tensors[3][H * V], in[ROWS * H], out[ROWS * H], gates[ROWS * V], topk_weights[ROWS];
    float state[2 * H] = {0}, scratch[2 * MODEL_GROUP * (H + I)], sent[ROWS * H];
    const float *weights[3] = {tensors[0], tensors[1], tensors[2]};
    uint64_t running = 5, given_up = 0, digest[ROWS];
    uint32_t aborted = 0, next[ROWS];
    const model_words words = {&running, &given_up, &aborted};
    model_recur_args recur = {
        &num, request_slot, current, state, tensors[0], in, out, sent, 1, 1, 0,
        H,    EEP_FP32,     0,       words};
    model_route_args route = {&num, in, tensors[0], gates, topk_idx, topk_weights,
                              H,    V,  1,          0,     words};
    model_experts_args experts = {.slot_begin = slot_begin,
                                  .rows = in,
                                  .out = out,
                                  .weights = weights,
                                  .num_slots = 1,
                                  .hidden = H,
                                  .inner = I,
                                  .dtype = EEP_FP32,
                                  .scratch = scratch,
                                  .words = words};
    model_head_args head = {&num, output_token, in,   tensors[0], gates, next, digest, H,
                            V,    sent,         words};
    const void *const args[] = {&recur, &route, &experts, &head};
    const model_kernel_id ids[] = {MODEL_KERNEL_recur, MODEL_KERNEL_route, MODEL_KERNEL_experts,
                                   MODEL_KERNEL_head};

    fill(in, ROWS * H, 3);
    for (int i = 0; i < 3; i++) {
        fill(tensors[i], H * V, 20 + (uint64_t)i);
    }
    for (int round = 0; round < 4; round++) {
        const bool is_over = round == 1 || round == 2;
        given_up = round == 1 ? running : round == 3 ? running - 1 : 0;
        aborted = round == 2;
        for (int k = 0; k < 4; k++) {
            memset(out, 0xff, sizeof out);
            memset(next, 0xff, sizeof next);
            topk_idx[0] = 7;
            model_kernels[ids[k]].host(args[k], (eep_grid){0, 1, 0, 1});
            const bool is_untouched = out[0] != out[0] && next[0] == UINT32_MAX && topk_idx[0] == 7;
            cr_assert_eq(is_untouched, is_over, "kernel %d, round %d", k, round);
        }
    }
}

Test(model_kernels, head_takes_the_positions_that_emit)
{
    enum { T = 12, N = 10, H = 7, V = 21 };
    int32_t num_outputs = N, output_token[N];
    float x[T][H], unembedding[H][V], logits[N][V], q[H], want[V];
    uint32_t next[N];
    uint64_t digest[N];
    float normed[T][H];
    fill(&x[0][0], T * H, 7);
    fill(&unembedding[0][0], H * V, 8);
    for (int i = 0; i < N; i++) {
        output_token[i] = T - 1 - i;
    }
    model_head_args args = {
        &num_outputs, output_token, &x[0][0], &unembedding[0][0], &logits[0][0], next, digest, H, V,
        &normed[0][0]};
    for (uint32_t block = 0; block < 3; block++) {
        model_kernels[MODEL_KERNEL_head].host(&args, (eep_grid){block, 3, 0, 1});
    }
    for (int i = 0; i < N; i++) {
        uint32_t best = 0;
        plain_norm(q, x[output_token[i]], H);
        for (uint32_t v = 0; v < V; v++) {
            want[v] = 0.0f;
            for (int h = 0; h < H; h++) {
                want[v] = want[v] + q[h] * unembedding[h][v];
            }
            best = want[v] > want[best] ? v : best;
        }
        cr_assert_eq(next[i], best);
        cr_assert_eq(digest[i], XXH64(want, sizeof want, 0));
    }
}

/* What kernels of every layer read lies in device memory: a read of pinned memory crosses a bus.
 * What a step leaves for the host lies where the host reads it. */
Test(model_graph, no_kernel_reads_pinned_memory)
{
    const fake_shape shape = {.num_layers = 3,
                              .num_experts = 8,
                              .num_slots = 8,
                              .top_k = 2,
                              .hidden = 16,
                              .num_max_tokens = 4,
                              .max_ranks = 1,
                              .dtype = EEP_BF16};
    const model_config config = {.seed = 5,
                                 .num_layers = 3,
                                 .hidden = 16,
                                 .inner = 8,
                                 .num_experts = 8,
                                 .top_k = 2,
                                 .vocabulary = 32,
                                 .num_slots = 8,
                                 .num_max_tokens = 4,
                                 .num_max_requests = 4,
                                 .num_chains = 2,
                                 .dtype = EEP_BF16};
    eep_device *device = fake_device_open();
    eep_context *context = fake_context_open(&shape);
    const char *why = "", *name = "";
    eep_stream *stream;
    eep_graph *graph;
    model m;
    cr_assert_eq(model_open(&m, &config, context, device, &why), EEP_OK, "%s", why);
    cr_assert_eq(eep_stream_open(device, &stream), EEP_OK);
    cr_assert_eq(eep_capture_begin(stream), EEP_OK);
    cr_assert_eq(model_launch_step(&m, stream, &why), EEP_OK, "%s", why);
    cr_assert_eq(eep_capture_end(stream, &graph), EEP_OK);
    cr_expect_eq(fake_graph_pinned(graph, device, "next digest", &name), 0, "%s", name);
    cr_expect_gt(fake_graph_pinned(graph, device, "", &name), 0, "this test sees none at all");
    eep_graph_close(graph);
    eep_stream_close(stream);
    model_close(&m);
    fake_context_close(context);
    fake_device_close(device);
}
