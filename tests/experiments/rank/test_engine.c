/* SPDX-License-Identifier: Apache-2.0 */
/* The engine on a faked one-rank libeep; the oracle, which shares no code with it, says what is
 * right. */
#include "experiments/rank/engine.h"
#include "experiments/model/model.h"
#include "experiments/oracle/oracle.h"
#include "experiments/model/model_weights.h"
#include "tests/lib/fake_eep.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_EMITTED = 64, MAX_REQUESTS = 16, MAX_POSITIONS = 64 };

/* What one request has emitted, over all engines that served it. */
typedef struct history {
    uint32_t input_length, output_length, count;
    uint32_t tokens[MAX_EMITTED];
    uint64_t digests[MAX_EMITTED];
} history;

typedef struct bench {
    eep_device *device;
    eep_context *context;
    engine *engine;
    uint64_t step;
    history requests[MAX_REQUESTS];
    uint64_t num_positions, num_reprefill;
} bench;

static const engine_config small = {.seed = 42,
                                    .num_layers = 2,
                                    .hidden = 36,
                                    .inner = 24,
                                    .num_experts = 8,
                                    .top_k = 3,
                                    .vocabulary = 43,
                                    .num_slots = 11,
                                    .num_max_tokens_per_rank = 7,
                                    .num_max_requests = 4,
                                    .prefill_chunk = 5,
                                    .dtype = EEP_FP32};

static engine_config with_chains(int32_t num_chains)
{
    engine_config c = small;
    c.num_chains = num_chains;
    return c;
}

static void bench_open(bench *b, const engine_config *c)
{
    const fake_shape shape = {.num_layers = c->num_layers,
                              .num_experts = c->num_experts,
                              .num_slots = c->num_slots,
                              .top_k = c->top_k,
                              .hidden = c->hidden,
                              .num_max_tokens = c->num_max_tokens_per_rank,
                              .rank = 1,
                              .max_ranks = 4,
                              .dtype = c->dtype};
    *b = (bench){.device = fake_device_open(), .context = fake_context_open(&shape)};
    cr_assert_eq(engine_open(c, b->context, b->device, &b->engine), EEP_OK, "%s",
                 engine_error(NULL));
}

static void bench_close(bench *b)
{
    engine_close(b->engine);
    fake_context_close(b->context);
    fake_device_close(b->device);
}

/* Admit a request with what its history says it has emitted. */
static void admit(bench *b, uint32_t id, uint32_t input_length, uint32_t output_length)
{
    history *h = &b->requests[id];
    h->input_length = input_length;
    h->output_length = output_length;
    const wire_assign request = {.request = id,
                                 .input_length = input_length,
                                 .output_length = output_length,
                                 .num_emitted = h->count};
    cr_assert_eq(engine_admit(b->engine, &request, h->tokens), EEP_OK, "%s",
                 engine_error(b->engine));
}

static void run(bench *b)
{
    const eep_step step = {.struct_bytes = sizeof step, .step = ++b->step, .num_active = 1};
    cr_assert_eq(engine_run(b->engine, &step), EEP_OK, "%s", engine_error(b->engine));
}

static uint32_t commit(bench *b)
{
    wire_token tokens[MAX_POSITIONS];
    wire_step report = {.step = b->step};
    engine_commit(b->engine, &report, tokens, MAX_POSITIONS);
    for (uint32_t i = 0; i < report.num_tokens; i++) {
        history *h = &b->requests[tokens[i].request];
        cr_assert_eq(tokens[i].position, h->count);
        h->tokens[h->count] = tokens[i].token;
        h->digests[h->count++] = tokens[i].digest;
    }
    b->num_positions += report.num_positions;
    b->num_reprefill += report.num_reprefill;
    return report.num_tokens;
}

static void abort_step(bench *b)
{
    b->context->abort = 1;
    run(b);
    b->context->abort = 0;
    engine_rollback(b->engine);
}

static void serve_steps(bench *b, int steps)
{
    for (int i = 0; i < steps && engine_fill(b->engine) > 0; i++) {
        run(b);
        (void)commit(b);
    }
}

static void serve(bench *b)
{
    serve_steps(b, 10000);
    cr_assert_eq(engine_num_requests(b->engine), 0);
}

/* Tokens and digests of the histories that are not what the document says. */
static uint32_t count_wrong(const bench *b, const engine_config *c)
{
    const oracle_shape shape = {c->num_layers,       c->hidden, c->inner,
                                c->num_experts,      c->top_k,  c->vocabulary,
                                c->dtype == EEP_BF16};
    oracle_request requests[MAX_REQUESTS];
    oracle_result results[MAX_REQUESTS];
    uint32_t wrong = 0;
    oracle *judge;
    cr_assert_eq(oracle_open(c->seed, &shape, &judge), EEP_OK);
    size_t n = 0;
    for (uint32_t id = 0; id < MAX_REQUESTS; id++) {
        const history *h = &b->requests[id];
        if (h->count > 0) {
            requests[n++] = (oracle_request){id, h->input_length, h->count, h->tokens, h->digests};
        }
    }
    cr_assert_eq(oracle_check_requests(judge, requests, n, NULL, results), EEP_OK);
    for (size_t i = 0; i < n; i++) {
        wrong += results[i].tokens_wrong + results[i].digests_wrong;
    }
    oracle_close(judge);
    return wrong;
}

static void assert_complete_and_right(const bench *b, const engine_config *c)
{
    for (uint32_t id = 0; id < MAX_REQUESTS; id++) {
        cr_assert_eq(b->requests[id].count, b->requests[id].output_length);
    }
    cr_assert_eq(count_wrong(b, c), 0);
}

static void admit_three(bench *b)
{
    admit(b, 3, 9, 12);
    admit(b, 1, 1, 20);
    admit(b, 7, 23, 5);
}

Test(engine, default_shape_agrees_with_the_oracle)
{
    engine_config c = small;
    bench b;
    c.num_layers = 4;
    c.hidden = 256;
    c.inner = 192;
    c.num_experts = c.num_slots = 64;
    c.top_k = 8;
    c.vocabulary = 512;
    bench_open(&b, &c);
    admit_three(&b);
    serve(&b);
    assert_complete_and_right(&b, &c);
    cr_assert_eq(b.num_positions, 9 + 11 + 1 + 19 + 23 + 4);
    bench_close(&b);
}

Test(engine, tokens_do_not_depend_on_how_prompts_are_cut)
{
    static const int32_t cuts[][2] = {{1, 1}, {1, 7}, {3, 2}, {5, 7}, {23, 64}};
    for (size_t i = 0; i < 2 * (sizeof cuts / sizeof cuts[0]); i++) {
        engine_config c = with_chains(1 + i % 2);
        bench b;
        c.prefill_chunk = cuts[i / 2][0];
        c.num_max_tokens_per_rank = cuts[i / 2][1];
        bench_open(&b, &c);
        admit_three(&b);
        serve(&b);
        assert_complete_and_right(&b, &c);
        cr_assert_eq(b.num_reprefill, 0);
        bench_close(&b);
    }
}

Test(engine, bf16_agrees_with_the_oracle)
{
    engine_config c = small;
    bench b, reference;
    c.dtype = EEP_BF16;
    bench_open(&b, &c);
    bench_open(&reference, &small);
    admit_three(&b);
    admit_three(&reference);
    serve(&b);
    serve(&reference);
    assert_complete_and_right(&b, &c);
    cr_assert_neq(b.requests[3].digests[0], reference.requests[3].digests[0]);
    bench_close(&b);
    bench_close(&reference);
}

Test(engine, decode_positions_come_before_prompts)
{
    engine_config c = small;
    bench b;
    c.num_max_tokens_per_rank = c.prefill_chunk; /* a chunk alone would fill the step */
    bench_open(&b, &c);
    admit(&b, 0, 1, 10);
    serve_steps(&b, 1);
    admit(&b, 1, 60, 1);
    for (uint32_t step = 0; step < 9; step++) {
        cr_assert_eq(engine_fill(b.engine), c.num_max_tokens_per_rank);
        run(&b);
        cr_assert_eq(commit(&b), 1);
    }
    cr_assert_eq(b.requests[0].count, 10);
    cr_assert_eq(engine_any_request(b.engine), 1);
    bench_close(&b);
}

Test(engine, aborted_steps_change_nothing_and_are_done_again)
{
    for (int32_t chains = 1; chains <= 2; chains++) {
        engine_config c = with_chains(chains);
        bench b;
        bench_open(&b, &c);
        admit_three(&b);
        int filled;
        for (int i = 0; (filled = engine_fill(b.engine)) > 0; i++) {
            for (int again = 0; again < i % 3; again++) {
                abort_step(&b);
                cr_assert_eq(engine_fill(b.engine), filled);
            }
            if (i == 3) {
                admit(&b, 2, 6, 6); /* between abort and rerun: behind the others */
            }
            run(&b);
            (void)commit(&b);
        }
        assert_complete_and_right(&b, &c);
        bench_close(&b);
    }
}

Test(engine, another_rank_continues_from_the_emitted_tokens)
{
    bench first, second;
    bench_open(&first, &small);
    admit(&first, 3, 9, 12);
    admit(&first, 1, 1, 20);
    serve_steps(&first, 8);
    bench_open(&second, &small);
    memcpy(second.requests, first.requests, sizeof first.requests);
    uint32_t a = first.requests[3].count, c = first.requests[1].count;
    cr_assert(a > 0 && a < 12 && c > 0);
    admit(&second, 3, 9, 12);
    admit(&second, 1, 1, 20);
    serve(&second);
    assert_complete_and_right(&second, &small);
    cr_assert_eq(second.num_reprefill, 8 + a + c);
    cr_assert_eq(second.num_positions, 9 + 11 + 1 + 19);
    bench_close(&first);
    bench_close(&second);
}

Test(engine, dropping_leaves_the_other_requests_right)
{
    enum { FILLED, ABORTED, RUNNING, RUNNING_THEN_ABORTED };
    for (int i = 0; i < 2 * (RUNNING_THEN_ABORTED + 1); i++) {
        int when = i / 2;
        engine_config c = with_chains(1 + i % 2);
        bench b;
        bench_open(&b, &c);
        admit_three(&b);
        serve_steps(&b, 3);
        int before = engine_fill(b.engine);
        if (when == ABORTED) {
            abort_step(&b);
        }
        if (when >= RUNNING) {
            run(&b);
        }
        engine_drop(b.engine, 1);
        engine_drop(b.engine, 99); /* not here */
        b.requests[1].output_length = b.requests[1].count;
        cr_assert_eq(engine_num_requests(b.engine), 2);
        admit(&b, 5, 4, 4);
        if (when == RUNNING) {
            (void)commit(&b);
        } else if (when == RUNNING_THEN_ABORTED) {
            engine_rollback(b.engine);
        }
        if (when != RUNNING) {
            cr_assert_eq(engine_fill(b.engine), before - 1);
        }
        serve(&b);
        assert_complete_and_right(&b, &small);
        bench_close(&b);
    }
}

Test(engine, the_request_of_a_token_is_known_until_it_is_dropped)
{
    bench b;
    uint32_t seen[8] = {0};
    bench_open(&b, &small);
    cr_expect_eq(engine_request_at(b.engine, 0, 0), -1);
    admit_three(&b);
    int num = engine_fill(b.engine);
    cr_assert_gt(num, 1);
    abort_step(&b);
    for (int token = 0; token < num; token++) {
        int64_t id = engine_request_at(b.engine, 0, token);
        cr_assert(id == 3 || id == 1 || id == 7);
        seen[id]++;
    }
    cr_expect_eq(engine_request_at(b.engine, 0, num), -1);
    cr_expect_eq(engine_request_at(b.engine, 0, -1), -1);
    uint32_t first = (uint32_t)engine_request_at(b.engine, 0, 0);
    engine_drop(b.engine, first);
    for (int token = 0; token < num; token++) {
        cr_expect_neq(engine_request_at(b.engine, 0, token), (int64_t)first);
    }
    cr_expect_eq(engine_fill(b.engine), num - (int)seen[first]);
    bench_close(&b);
}

/* Rows of each chain's batch, and that no request has rows in both. */
static void count_rows(const bench *b, int num, int rows_out[2], uint32_t rows_of_out[8])
{
    memset(rows_of_out, 0, 8 * sizeof *rows_of_out);
    for (int chain = 0; chain < 2; chain++) {
        uint32_t before[8];
        memcpy(before, rows_of_out, sizeof before);
        for (rows_out[chain] = 0; rows_out[chain] <= num; rows_out[chain]++) {
            int64_t id = engine_request_at(b->engine, chain, rows_out[chain]);
            if (id < 0) {
                break;
            }
            cr_expect_eq(before[id], 0, "request %d is in both chains", (int)id);
            rows_of_out[id]++;
        }
    }
}

Test(engine, whole_requests_are_dealt_to_chains_by_their_positions)
{
    engine_config c = with_chains(2);
    bench b;
    int rows[2], num;
    uint32_t rows_of[8];
    c.num_max_tokens_per_rank = 16;
    bench_open(&b, &c);
    admit(&b, 0, 1, 3); /* two decode when the long prompt comes */
    admit(&b, 1, 1, 3);
    num = engine_fill(b.engine);
    count_rows(&b, num, rows, rows_of);
    cr_expect(num == 2 && rows[0] == 1 && rows[1] == 1);
    run(&b);
    (void)commit(&b);
    admit(&b, 2, 20, 1);
    admit(&b, 3, 2, 1);
    num = engine_fill(b.engine);
    count_rows(&b, num, rows, rows_of);
    cr_expect(num == 9 && rows[0] == 5 && rows[1] == 4, "%d: %d and %d", num, rows[0], rows[1]);
    cr_expect(rows_of[2] == 5 && rows_of[3] == 2);
    serve(&b);
    assert_complete_and_right(&b, &c);
    bench_close(&b);
}

Test(engine, a_chain_without_positions_is_right)
{
    engine_config c = with_chains(2);
    bench b;
    int rows[2];
    uint32_t rows_of[8];
    bench_open(&b, &c);
    cr_assert_eq(engine_fill(b.engine), 0);
    run(&b);
    cr_assert_eq(commit(&b), 0);
    admit(&b, 3, 9, 12); /* alone: the other chain has nothing */
    for (int num; (num = engine_fill(b.engine)) > 0;) {
        count_rows(&b, num, rows, rows_of);
        cr_expect(rows[0] == num && rows[1] == 0);
        run(&b);
        (void)commit(&b);
    }
    assert_complete_and_right(&b, &c);
    bench_close(&b);
}

Test(engine, a_request_slot_is_not_reused_while_a_step_has_it)
{
    engine_config c = small;
    bench b;
    c.num_max_requests = 1;
    bench_open(&b, &c);
    admit(&b, 0, 3, 3);
    cr_assert_gt(engine_fill(b.engine), 0);
    run(&b);
    engine_drop(b.engine, 0);
    const wire_assign next = {.request = 1, .input_length = 2, .output_length = 2};
    cr_assert_eq(engine_admit(b.engine, &next, NULL), EEP_ERR_NO_MEMORY);
    cr_assert_eq(commit(&b), 0);
    b.requests[0].output_length = 0;
    admit(&b, 1, 2, 2);
    serve(&b);
    assert_complete_and_right(&b, &c);
    bench_close(&b);
}

Test(engine, idle_steps_run_with_zero_tokens)
{
    bench b;
    bench_open(&b, &small);
    cr_assert_eq(engine_any_request(b.engine), -1);
    cr_assert_eq(engine_fill(b.engine), 0);
    run(&b);
    cr_assert_eq(commit(&b), 0);
    admit(&b, 0, 3, 2);
    serve(&b);
    cr_assert_eq(engine_fill(b.engine), 0);
    run(&b);
    engine_rollback(b.engine);
    cr_assert_eq(b.num_positions, 4);
    assert_complete_and_right(&b, &small);
    bench_close(&b);
}

Test(engine, refuses_requests_that_do_not_fit)
{
    bench b;
    bench_open(&b, &small);
    const uint32_t tokens[] = {1, 43};
    const wire_assign bad[] = {
        {.request = 0, .input_length = 0, .output_length = 1},
        {.request = 0, .input_length = 0x80000000u, .output_length = 1},
        {.request = 0, .input_length = 1, .output_length = 0},
        {.request = 0, .input_length = 1, .output_length = WIRE_MAX_TOKENS + 1},
        {.request = 0, .input_length = 1, .output_length = 1, .num_emitted = 1},
        {.request = 0, .input_length = 1, .output_length = 3, .num_emitted = 2},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_eq(engine_admit(b.engine, &bad[i], tokens), EEP_ERR_INVALID);
        cr_assert_neq(engine_error(b.engine)[0], '\0');
    }
    int allocations = fake_device_allocations(b.device);
    for (uint32_t id = 0; id < 4; id++) {
        admit(&b, id, 2, 3);
    }
    const wire_assign again = {.request = 2, .input_length = 2, .output_length = 3};
    const wire_assign fifth = {.request = 9, .input_length = 2, .output_length = 3};
    cr_assert_eq(engine_admit(b.engine, &again, NULL), EEP_ERR_INVALID);
    cr_assert_eq(engine_admit(b.engine, &fifth, NULL), EEP_ERR_NO_MEMORY);
    serve(&b);
    assert_complete_and_right(&b, &small);
    cr_assert_eq(fake_device_allocations(b.device), allocations);
    bench_close(&b);
}

Test(engine, refuses_configurations_and_says_why)
{
    bench b;
    bench_open(&b, &small);
    engine_config bad[7];
    for (size_t i = 0; i < 7; i++) {
        bad[i] = small;
    }
    bad[0].top_k = 9;
    bad[1].hidden = MODEL_MAX_HIDDEN + 1;
    bad[2].prefill_chunk = 0;
    bad[3].dtype = (eep_dtype)7;
    bad[4].corrupt = 5;
    bad[5].num_max_requests = 0;
    bad[6].num_chains = 3;
    for (size_t i = 0; i < 7; i++) {
        engine *none = NULL;
        cr_assert_eq(engine_open(&bad[i], b.context, b.device, &none), EEP_ERR_INVALID);
        cr_assert_null(none);
        cr_assert_gt(strlen(engine_error(NULL)), 10);
    }
    bench_close(&b);
}

Test(engine, gives_the_context_its_slots_and_backups)
{
    bench b;
    bench_open(&b, &small);
    cr_assert_eq(b.context->num_slots_set, small.num_layers * small.num_slots);
    int expected = 0;
    for (int32_t e = 0; e < small.num_experts; e++) {
        expected += eep_backup_wanted(b.context, 0, e);
    }
    cr_assert_eq(expected, 4);
    cr_assert_eq(b.context->num_backups, expected * small.num_layers);
    for (int i = 0; i < b.context->num_backups; i++) {
        const fake_backup *backup = &b.context->backups[i];
        float want[36 * 24];
        for (uint32_t t = 0; t < MODEL_TENSORS; t++) {
            cr_assert_eq(backup->tensors[t].bytes, sizeof want);
            weights_generate(small.seed, (weights_kind)(WEIGHTS_GATE + t), (uint32_t)backup->layer,
                             (uint32_t)backup->expert, 36 * 24, want);
            cr_assert_eq(memcmp(want, backup->tensors[t].data, sizeof want), 0);
        }
    }
    bench_close(&b);
}

Test(engine, each_corruption_happens_once_and_alters_what_is_emitted)
{
    for (int32_t kind = ENGINE_CORRUPT_SLOT; kind <= ENGINE_CORRUPT_DROP; kind++) {
        for (uint64_t seed = 1; seed <= 8; seed++) {
            engine_config c = with_chains(1 + seed % 2);
            bench b;
            c.seed = seed;
            c.corrupt = kind;
            c.corrupt_step = 9;
            bench_open(&b, &c);
            admit_three(&b);
            while (b.step + 1 < c.corrupt_step) {
                serve_steps(&b, 1);
            }
            cr_assert_eq(count_wrong(&b, &c), 0);
            cr_assert_gt(engine_fill(b.engine), 0);
            abort_step(&b); /* whatever was corrupted here is rolled back */
            serve_steps(&b, 2);
            cr_assert_gt(count_wrong(&b, &c), 0, "kind %d seed %d", kind, (int)seed);
            serve(&b);
            history first = {.count = 0}; /* one that comes later is right: it happened once */
            b.requests[3] = b.requests[1] = b.requests[7] = first;
            admit(&b, 2, 6, 10);
            serve(&b);
            assert_complete_and_right(&b, &c);
            bench_close(&b);
        }
    }
}
