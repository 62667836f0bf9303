/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle against a brute force written from docs/MODEL.md one position at a time, and its
 * verdict on rows with every kind of fault. */
#include "experiments/oracle/oracle_verdict.h"
#include "tests/lib/plain_exp.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

/* Odd sizes: every tail of the oracle's tiles is met. */
static const oracle_shape TINY = {
    .num_layers = 2, .hidden = 21, .inner = 35, .num_experts = 7, .top_k = 3, .vocabulary = 50};
static const uint64_t SEED = 20240607;

/* ---------------------------------------------------------------- brute force */

static uint64_t mix(uint64_t z)
{
    z ^= z >> 30;
    z *= 0xbf58476d1ce4e5b9;
    z ^= z >> 27;
    z *= 0x94d049bb133111eb;
    z ^= z >> 31;
    return z;
}

/* Element i of a tensor, made anew at each use. */
static float element(uint64_t seed, uint64_t kind, uint64_t layer, uint64_t expert, uint64_t i)
{
    static const float scale[] = {1.0f, 1.0f, 0.25f, 0.0625f, 0.0625f, 0.125f, 0.125f};
    uint64_t golden = 0x9e3779b97f4a7c15;
    uint64_t key = mix(seed + golden * (1 + kind + 16 * (layer + 256 * expert)));
    int32_t drawn = (int32_t)(mix(key + i * golden) >> 40) - 8388608;
    return ldexpf((float)drawn, -23) * scale[kind];
}

/* Rounds the product before the sum, however the compiler is set. */
static float add_product(float sum, float a, float b)
{
    volatile float product = a * b;
    return sum + product;
}

static float bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint32_t low = bits & 0xffff;
    bits -= low;
    if (low > 0x8000 || (low == 0x8000 && (bits & 0x10000))) {
        bits += 0x10000;
    }
    memcpy(&value, &bits, 4);
    return value;
}

static void norm(const float *in, int count, float *out)
{
    float sum = 0.0f;
    for (int h = 0; h < count; h++) {
        sum = add_product(sum, in[h], in[h]);
    }
    float r = 1.0f / sqrtf(add_product(1e-6f, sum, 1.0f / (float)count));
    for (int h = 0; h < count; h++) {
        out[h] = in[h] * r;
    }
}

typedef struct scored {
    float score;
    int expert;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    return x->expert - y->expert;
}

static void expert_output(uint64_t seed, const oracle_shape *s, int layer, int e, const float *y,
                          float *out)
{
    float c[64];
    uint64_t l = (uint64_t)layer, x = (uint64_t)e;
    for (int i = 0; i < s->inner; i++) {
        float a = 0.0f, b = 0.0f;
        for (int h = 0; h < s->hidden; h++) {
            uint64_t at = (uint64_t)(h * s->inner + i);
            a = add_product(a, y[h], element(seed, 3, l, x, at));
            b = add_product(b, y[h], element(seed, 4, l, x, at));
        }
        c[i] = (a / (1.0f + plain_exp(-a))) * b;
    }
    for (int h = 0; h < s->hidden; h++) {
        out[h] = 0.0f;
        for (int i = 0; i < s->inner; i++) {
            out[h] =
                add_product(out[h], c[i], element(seed, 5, l, x, (uint64_t)(i * s->hidden + h)));
        }
        if (s->bf16) {
            out[h] = bf16(out[h]);
        }
    }
}

/* One layer of one position: x is changed, state is that of the layer. */
static void layer_step(uint64_t seed, const oracle_shape *s, int l, float *state, float *x)
{
    float y[64], sent[64], weight[16], total = 0.0f, m[64] = {0};
    scored g[64];
    for (int h = 0; h < s->hidden; h++) {
        float decay = add_product(0.5f, 0.375f, element(seed, 1, (uint64_t)l, 0, (uint64_t)h));
        state[h] = add_product(x[h], state[h], decay);
    }
    norm(state, s->hidden, y);
    for (int h = 0; h < s->hidden; h++) {
        sent[h] = s->bf16 ? bf16(y[h]) : y[h];
    }
    for (int e = 0; e < s->num_experts; e++) {
        g[e] = (scored){0.0f, e};
        for (int h = 0; h < s->hidden; h++) {
            g[e].score =
                add_product(g[e].score, y[h],
                            element(seed, 2, (uint64_t)l, 0, (uint64_t)(h * s->num_experts + e)));
        }
    }
    qsort(g, (size_t)s->num_experts, sizeof *g, by_score);
    for (int k = 0; k < s->top_k; k++) {
        weight[k] = plain_exp(g[k].score - g[0].score);
        total += weight[k];
    }
    for (int k = 0; k < s->top_k; k++) {
        float o[64];
        expert_output(seed, s, l, g[k].expert, sent, o);
        for (int h = 0; h < s->hidden; h++) {
            m[h] = add_product(m[h], weight[k] / total, o[h]);
        }
    }
    for (int h = 0; h < s->hidden; h++) {
        x[h] = x[h] + m[h];
    }
}

typedef struct emission {
    uint32_t token;
    uint64_t digest;
} emission;

/* Emit output_length tokens greedily, one position after the other. */
static void brute_force(uint64_t seed, const oracle_shape *s, uint32_t request, uint32_t input,
                        uint32_t output, emission *emitted)
{
    float state[4][64] = {{0}};
    uint64_t prompt_key = seed ^ 0x5eed0000;
    for (uint32_t p = 0; p + 1 < input + output; p++) {
        uint64_t drawn = mix(prompt_key + request * 0x9e3779b97f4a7c15 + p * 0xd1b54a32d192ed03);
        uint64_t token = p < input ? drawn % (uint64_t)s->vocabulary : emitted[p - input].token;
        float x[64], q[64], logits[64] = {0};
        for (int h = 0; h < s->hidden; h++) {
            x[h] = element(seed, 0, 0, 0, token * (uint64_t)s->hidden + (uint64_t)h);
        }
        for (int l = 0; l < s->num_layers; l++) {
            layer_step(seed, s, l, state[l], x);
        }
        norm(x, s->hidden, q);
        int best = 0;
        for (int v = 0; v < s->vocabulary; v++) {
            for (int h = 0; h < s->hidden; h++) {
                logits[v] = add_product(logits[v], q[h],
                                        element(seed, 6, 0, 0, (uint64_t)(h * s->vocabulary + v)));
            }
            best = logits[v] > logits[best] ? v : best;
        }
        if (p + 1 >= input) {
            emitted[p + 1 - input].token = (uint32_t)best;
            emitted[p + 1 - input].digest = XXH64(logits, (size_t)s->vocabulary * sizeof(float), 0);
        }
    }
}

enum { MOST = 160 }; /* emitted tokens of a request */

/* The same as the two arrays that the oracle takes. */
static void emit(uint64_t seed, const oracle_shape *s, uint32_t request, uint32_t input,
                 uint32_t output, uint32_t *tokens, uint64_t *digests)
{
    emission emitted[MOST];
    brute_force(seed, s, request, input, output, emitted);
    for (uint32_t i = 0; i < output; i++) {
        tokens[i] = emitted[i].token;
        digests[i] = emitted[i].digest;
    }
}

/* ---------------------------------------------------------------- the model */

/* Requests of many lengths in one call, so that blocks end inside and between them. */
static void expect_equal(const oracle_shape *shape)
{
    static const uint32_t inputs[] = {1, 5, 127, 3, 40, 1}, outputs[] = {1, 9, 3, 150, 20, 2};
    enum { COUNT = sizeof inputs / sizeof *inputs };
    static uint32_t tokens[COUNT][MOST];
    static uint64_t digests[COUNT][MOST];
    oracle_request requests[COUNT];
    oracle_result results[COUNT];
    oracle *o;
    uint64_t positions = 0, done = 0;
    for (uint32_t r = 0; r < COUNT; r++) {
        emit(SEED, shape, 100 + r, inputs[r], outputs[r], tokens[r], digests[r]);
        requests[r] = (oracle_request){100 + r, inputs[r], outputs[r], tokens[r], digests[r]};
        positions += inputs[r] + outputs[r] - 1;
    }
    cr_assert_eq(oracle_open(SEED, shape, &o), EEP_OK);
    cr_assert_eq(oracle_check_requests(o, requests, COUNT, &done, results), EEP_OK);
    cr_assert_eq(done, positions);
    for (uint32_t r = 0; r < COUNT; r++) {
        cr_assert_eq(results[r].first_wrong, UINT32_MAX, "request %u, position %u", r,
                     results[r].first_wrong);
        cr_assert_eq(results[r].tokens_checked, outputs[r]);
        cr_assert_eq(results[r].positions, inputs[r] + outputs[r] - 1);
    }
    oracle_close(o);
}

Test(oracle, equals_brute_force_fp32)
{
    expect_equal(&TINY);
}

Test(oracle, equals_brute_force_bf16)
{
    oracle_shape shape = TINY;
    shape.bf16 = true;
    expect_equal(&shape);
}

Test(oracle, equals_brute_force_on_whole_tiles)
{
    oracle_shape shape = {.num_layers = 3,
                          .hidden = 32,
                          .inner = 16,
                          .num_experts = 16,
                          .top_k = 1,
                          .vocabulary = 48};
    expect_equal(&shape);
}

Test(oracle, finds_the_first_wrong_token)
{
    uint32_t tokens[12], right;
    uint64_t digests[12];
    oracle_result result;
    oracle *o;
    emit(SEED, &TINY, 1, 6, 12, tokens, digests);
    cr_assert_eq(oracle_open(SEED, &TINY, &o), EEP_OK);
    oracle_request request = {1, 6, 12, tokens, digests};
    right = tokens[4];
    tokens[4] = (right + 1) % 50;
    cr_assert_eq(oracle_check_requests(o, &request, 1, NULL, &result), EEP_OK);
    cr_assert_eq(result.first_wrong, 4);
    cr_assert_eq(result.right_token, right);
    cr_assert_eq(result.right_digest, digests[4]);
    cr_assert_geq(result.tokens_wrong, 1);
    tokens[4] = 50; /* not in the vocabulary: nothing behind it can be computed */
    cr_assert_eq(oracle_check_requests(o, &request, 1, NULL, &result), EEP_OK);
    cr_assert_eq(result.first_wrong, 4);
    cr_assert_eq(result.tokens_checked, 5);
    cr_assert_eq(result.tokens_wrong, 1);
    tokens[4] = right;
    digests[7] ^= 1;
    cr_assert_eq(oracle_check_requests(o, &request, 1, NULL, &result), EEP_OK);
    cr_assert_eq(result.tokens_wrong, 0);
    cr_assert_eq(result.digests_wrong, 1);
    cr_assert_eq(result.first_wrong, 7);
    request.input_length = 0;
    cr_assert_eq(oracle_check_requests(o, &request, 1, NULL, &result), EEP_ERR_INVALID);
    oracle_close(o);
}

Test(oracle, refuses_bad_shapes)
{
    oracle *o = NULL;
    oracle_shape shape = TINY;
    shape.top_k = 8;
    cr_assert_eq(oracle_open(1, &shape, &o), EEP_ERR_INVALID);
    shape = TINY;
    shape.hidden = 0;
    cr_assert_eq(oracle_open(1, &shape, &o), EEP_ERR_INVALID);
    cr_assert_null(o);
}

/* ---------------------------------------------------------------- rows of a run */

typedef struct run_dir {
    char path[32];
    FILE *tokens; /* tokens.csv */
} run_dir;

#define TOKENS "time_ms,request,position,token,digest,seat,generation,step,epoch\n"

static void put(const run_dir *d, const char *name, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "%s/%s", d->path, name);
    FILE *file = fopen(path, "w");
    cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void add_row(const run_dir *d, uint32_t request, uint32_t position, emission e)
{
    fprintf(d->tokens, "12.345,%u,%u,%u,%016lx,1,1,9,2\n", request, position, e.token,
            (unsigned long)e.digest);
}

enum { OUTPUT = 6 };
/* Three requests: 4 and 7 completed, 5 running with two of its tokens. */
typedef struct truth {
    emission of[3][OUTPUT];
} truth;
static const uint32_t IDS[] = {4, 5, 7}, INPUTS[] = {3, 5, 130}, EMITTED[] = {OUTPUT, 2, OUTPUT};

static void make_run(run_dir *d, truth *t)
{
    *d = (run_dir){.path = "/tmp/eep-oracle-XXXXXX"};
    cr_assert(mkdtemp(d->path));
    put(d, "run.json",
        "{\"seed\": 20240607, \"num_layers\": 2, \"hidden\": 21, \"inner\": 35,\n"
        " \"num_experts\": 7, \"top_k\": 3, \"vocabulary\": 50, \"dtype\": \"fp32\"}\n");
    put(d, "requests.csv",
        "request,input_length,output_length,arrival_ms,status\n"
        "7,130,6,0.5,completed\n4,3,6,0,completed\n5,5,6,1e3,running\n");
    put(d, "tokens.csv", TOKENS);
    char path[64];
    snprintf(path, sizeof path, "%s/tokens.csv", d->path);
    d->tokens = fopen(path, "a");
    cr_assert(d->tokens);
    for (uint32_t r = 0; r < 3; r++) {
        brute_force(SEED, &TINY, IDS[r], INPUTS[r], OUTPUT, t->of[r]);
    }
}

static void add_all(const run_dir *d, const truth *t)
{
    for (uint32_t p = 0; p < OUTPUT; p++) {
        for (uint32_t r = 0; r < 3; r++) {
            if (p < EMITTED[r]) {
                add_row(d, IDS[r], p, t->of[r][p]);
            }
        }
    }
}

static void read_run(const run_dir *d, oracle_rows *rows)
{
    char error[ORACLE_ERROR_BYTES] = "";
    cr_assert_eq(fflush(d->tokens), 0);
    cr_assert_eq(oracle_rows_read(d->path, rows, error), EEP_OK, "%s", error);
}

static oracle_verdict judge(const run_dir *d)
{
    oracle_rows rows;
    oracle_verdict v;
    read_run(d, &rows);
    cr_assert_eq(oracle_verdict_find(&rows, 2, NULL, NULL, &v), EEP_OK);
    oracle_rows_free(&rows);
    return v;
}

static void remove_run(run_dir *d)
{
    static const char *const names[] = {"run.json", "requests.csv", "tokens.csv"};
    char path[64];
    fclose(d->tokens);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", d->path, names[i]);
        unlink(path);
    }
    cr_assert_eq(rmdir(d->path), 0);
}

Test(oracle_verdict, a_right_run_is_clean)
{
    run_dir d;
    truth t;
    make_run(&d, &t);
    add_all(&d, &t);
    oracle_verdict v = judge(&d);
    cr_assert(oracle_verdict_is_clean(&v));
    cr_assert_eq(v.tokens_checked, 14);
    cr_assert_eq(v.positions, 3 + 5 + 5 + 1 + 130 + 5);
    cr_assert_not(v.first_wrong.found);
    remove_run(&d);
}

Test(oracle_verdict, wrong_token_and_wrong_digest_are_found)
{
    run_dir d;
    truth t;
    make_run(&d, &t);
    uint32_t right = t.of[2][5].token;
    t.of[2][5].token = (right + 7) % 50;
    t.of[1][1].digest ^= 0x8000000000000000;
    add_all(&d, &t);
    oracle_verdict v = judge(&d);
    cr_assert_not(oracle_verdict_is_clean(&v));
    cr_assert_eq(v.tokens_wrong, 1);
    cr_assert_eq(v.digests_wrong, 1);
    cr_assert_eq(v.first_wrong.request, 5);
    cr_assert_eq(v.first_wrong.position, 1);
    cr_assert_eq(v.first_wrong.line, 6);
    cr_assert_eq(v.first_wrong.right_digest, t.of[1][1].digest ^ 0x8000000000000000);
    remove_run(&d);
}

Test(oracle_verdict, gap_is_found)
{
    run_dir d;
    truth t;
    make_run(&d, &t);
    for (uint32_t p = 0; p < OUTPUT; p++) {
        add_row(&d, 4, p, t.of[0][p]);
        if (p != 2) { /* behind the gap three tokens cannot be judged */
            add_row(&d, 7, p, t.of[2][p]);
        }
    }
    oracle_verdict v = judge(&d);
    cr_assert_not(oracle_verdict_is_clean(&v));
    cr_assert_eq(v.tokens_missing, 1);
    cr_assert_eq(v.tokens_unchecked, 3);
    cr_assert_eq(v.tokens_checked, OUTPUT + 2);
    cr_assert_eq(v.tokens_wrong + v.digests_wrong + v.tokens_doubled, 0);
    remove_run(&d);
}

Test(oracle_verdict, too_few_doubled_and_surplus_are_found)
{
    run_dir d;
    truth t;
    make_run(&d, &t);
    add_all(&d, &t);
    add_row(&d, 4, 3, t.of[0][3]);
    add_row(&d, 4, OUTPUT, (emission){1, 1});
    oracle_verdict v = judge(&d);
    cr_assert_eq(v.tokens_doubled, 1);
    cr_assert_eq(v.tokens_surplus, 1);
    cr_assert_eq(v.tokens_checked, 14);
    cr_assert_not(oracle_verdict_is_clean(&v));
    put(&d, "requests.csv",
        "request,input_length,output_length,arrival_ms,status\n"
        "7,130,6,0.5,completed\n4,3,7,0,completed\n5,5,6,1e3,completed\n");
    v = judge(&d);
    cr_assert_eq(v.tokens_missing, 4, "four of request 5");
    cr_assert_eq(v.tokens_wrong, 1, "position 6 of request 4 was made up");
    remove_run(&d);
}

Test(oracle_verdict, twins_are_compared)
{
    run_dir a, b;
    truth t;
    oracle_rows first, second;
    oracle_comparison c;
    char error[ORACLE_ERROR_BYTES] = "";
    make_run(&a, &t);
    add_all(&a, &t);
    make_run(&b, &t);
    add_all(&b, &t);
    add_row(&b, 5, 2, t.of[1][2]);
    read_run(&a, &first);
    read_run(&b, &second);
    cr_assert_eq(oracle_rows_compare(&first, &second, &c, error), EEP_OK);
    cr_assert_eq(c.tokens_compared, 14);
    cr_assert_eq(c.tokens_differ + c.digests_differ + c.only_first, 0);
    cr_assert_eq(c.only_second, 1);
    second.requests[2].digests[3]++;
    cr_assert_eq(oracle_rows_compare(&first, &second, &c, error), EEP_OK);
    cr_assert_eq(c.digests_differ, 1);
    cr_assert(c.first_difference.found && c.first_difference.request == 7);
    cr_assert_eq(c.first_difference.position, 3);
    second.requests[0].input_length++;
    cr_assert_eq(oracle_rows_compare(&first, &second, &c, error), EEP_ERR_INVALID);
    second.seed++;
    cr_assert_eq(oracle_rows_compare(&first, &second, &c, error), EEP_ERR_INVALID);
    oracle_rows_free(&first);
    oracle_rows_free(&second);
    remove_run(&a);
    remove_run(&b);
}

static void expect_bad(const run_dir *d, const char *name, const char *text, const char *what)
{
    oracle_rows rows;
    char error[ORACLE_ERROR_BYTES] = "";
    put(d, name, text);
    cr_assert_eq(oracle_rows_read(d->path, &rows, error), EEP_ERR_INVALID, "accepted: %s", text);
    cr_assert(strstr(error, what), "\"%s\" does not say \"%s\"", error, what);
}

#define RIGHT "1.5,4,0,3,0123456789abcdef,0,1,2,3\n"

Test(oracle_rows, bad_rows_name_line_and_column)
{
    run_dir d;
    truth t;
    make_run(&d, &t);
    expect_bad(&d, "tokens.csv", "", "tokens.csv:1:1: empty");
    expect_bad(&d, "tokens.csv", "time_ms,request,pos\n", "tokens.csv:1:20: the header");
    expect_bad(&d, "tokens.csv", TOKENS RIGHT "x,4,0,3,0123456789abcdef,0,1,2,3\n",
               "tokens.csv:3:1: not a time");
    expect_bad(&d, "tokens.csv",
               "# commit 1\n# seed 1\n" TOKENS RIGHT "x,4,0,3,0123456789abcdef,0,1,2,3\n",
               "tokens.csv:5:1: not a time");
    expect_bad(&d, "tokens.csv", "# commit 1\n", "tokens.csv:1:1: empty");
    expect_bad(&d, "tokens.csv", TOKENS RIGHT "1,4,-1,3,0123456789abcdef,0,1,2,3\n",
               "tokens.csv:3:5: not a whole number");
    expect_bad(&d, "tokens.csv", TOKENS RIGHT "1,4,0,4294967296,0123456789abcdef,0,1,2,3\n",
               "tokens.csv:3:7: out of range");
    expect_bad(&d, "tokens.csv", TOKENS RIGHT "1,4,0,3,123456789abcdef,0,1,2,3\n",
               "tokens.csv:3:9: not 16 hex");
    expect_bad(&d, "tokens.csv", TOKENS "1,4,0,3,0123456789abcdef,0,1\n",
               "tokens.csv:2:29: a field is missing");
    expect_bad(&d, "tokens.csv", TOKENS "1,4,0,3,0123456789abcdef,0,1,2,3,4\n",
               "tokens.csv:2:34: a field too many");
    expect_bad(&d, "tokens.csv", TOKENS "1,6,0,3,0123456789abcdef,0,1,2,3\n",
               "tokens.csv:2:3: the request is not in requests.csv");
    expect_bad(&d, "requests.csv",
               "request,input_length,output_length,arrival_ms,status\n4,3,6,0,completed\n"
               "5,3,6,0,done\n",
               "requests.csv:3:9: unknown status");
    expect_bad(&d, "requests.csv",
               "request,input_length,output_length,arrival_ms,status\n4,0,6,0,completed\n",
               "requests.csv:2:3: a length is 0");
    expect_bad(&d, "requests.csv",
               "request,input_length,output_length,arrival_ms,status\n4,3,6,0,completed\n"
               "5,3,6,0,lost\n4,3,6,0,failed\n",
               "requests.csv:4:1: request 4 is in line 2 too");
    expect_bad(&d, "run.json", "{\"seed\": 1,\n \"hidden\": }", "run.json:2:12: malformed");
    expect_bad(&d, "run.json", "{\"seed\": 1e17}", "\"seed\"");
    expect_bad(&d, "run.json", "{\"seed\": \"18446744073709551615\"}", "\"num_layers\"");
    remove_run(&d);
}
