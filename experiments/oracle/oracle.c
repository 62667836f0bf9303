/* SPDX-License-Identifier: Apache-2.0 */
/* Recompute the model by its definition in docs/MODEL.md, one token after the other. */
#include "experiments/oracle/oracle.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* Positions of a block. Within a block an expert's weights are read once for all its rows; the
 * order of every sum is that of docs/MODEL.md, whatever the block. */
enum { BLOCK = 128, TILE_ROWS = 4, LANES = 8, TILE_COLUMNS = 2 * LANES };

/* A resolver that ifunc runs before a sanitizer is up would crash, so those builds have no clones.
 */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

enum tensor { EMBEDDING, DECAY, ROUTER, GATE, UP, DOWN, UNEMBEDDING };

struct oracle {
    oracle_shape shape;
    uint64_t seed;
    float *memory;      /* all below */
    float *embedding;   /* [V, H] */
    float *decay;       /* [L, H] */
    float *router;      /* [L, H, E] */
    float *experts;     /* [L, E] of gate [H, I], up [H, I], down [I, H] */
    float *unembedding; /* [H, V] */
};

/* ---------------------------------------------------------------- seeded numbers */

static const uint64_t GOLDEN = 0x9e3779b97f4a7c15;

static inline uint64_t mix(uint64_t z)
{
    z ^= z >> 30;
    z *= 0xbf58476d1ce4e5b9;
    z ^= z >> 27;
    z *= 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static CLONES void generate(float *out, size_t count, uint64_t key, float scale)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = (float)((int32_t)(mix(key + i * GOLDEN) >> 40) - 8388608) * 0x1p-23f * scale;
    }
}

static void fill(const oracle *o, float *out, size_t count, enum tensor kind, int layer, int expert,
                 float scale)
{
    uint64_t index = 1 + (uint64_t)kind + 16 * ((uint64_t)layer + 256 * (uint64_t)expert);
    generate(out, count, mix(o->seed + GOLDEN * index), scale);
}

static size_t expert_floats(const oracle_shape *s)
{
    return 3 * (size_t)s->hidden * (size_t)s->inner;
}

static const float *expert_weights(const oracle *o, int layer, int expert)
{
    size_t index = (size_t)layer * (size_t)o->shape.num_experts + (size_t)expert;
    return o->experts + index * expert_floats(&o->shape);
}

static void generate_all(oracle *o)
{
    const oracle_shape *s = &o->shape;
    size_t hidden = (size_t)s->hidden, experts = (size_t)s->num_experts;
    size_t matrix = hidden * (size_t)s->inner, vocabulary = (size_t)s->vocabulary;
    fill(o, o->embedding, vocabulary * hidden, EMBEDDING, 0, 0, 1.0f);
    fill(o, o->unembedding, hidden * vocabulary, UNEMBEDDING, 0, 0, 0.125f);
    float *next = o->experts;
    for (int l = 0; l < s->num_layers; l++) {
        float *decay = o->decay + (size_t)l * hidden;
        fill(o, decay, hidden, DECAY, l, 0, 1.0f);
        for (size_t h = 0; h < hidden; h++) {
            decay[h] = 0.5f + 0.375f * decay[h];
        }
        float *router = o->router + (size_t)l * hidden * experts;
        fill(o, router, hidden * experts, ROUTER, l, 0, 0.25f);
        for (size_t h = 0; h < hidden; h++) {
            for (size_t e = 0; e < experts; e++) {
                float hot = (float)s->router_skew / (float)(1 + (e + 7 * (size_t)l) % experts);
                router[h * experts + e] *= 1.0f + hot;
            }
        }
        for (int e = 0; e < s->num_experts; e++, next += 3 * matrix) {
            fill(o, next, matrix, GATE, l, e, 0.0625f);
            fill(o, next + matrix, matrix, UP, l, e, 0.0625f);
            fill(o, next + 2 * matrix, matrix, DOWN, l, e, 0.125f);
        }
    }
}

static bool shape_is_valid(const oracle_shape *s)
{
    return s->num_layers >= 1 && s->num_layers <= 256 && s->hidden >= 1 && s->hidden <= 65536 &&
           s->inner >= 1 && s->inner <= 65536 && s->num_experts >= 1 && s->num_experts <= 65536 &&
           s->top_k >= 1 && s->top_k <= s->num_experts && s->vocabulary >= 1 &&
           s->vocabulary <= 1 << 20;
}

eep_status oracle_open(uint64_t seed, const oracle_shape *shape, oracle **oracle_out)
{
    if (!shape_is_valid(shape)) {
        return EEP_ERR_INVALID;
    }
    size_t layers = (size_t)shape->num_layers, hidden = (size_t)shape->hidden;
    size_t vocabulary = (size_t)shape->vocabulary, experts = (size_t)shape->num_experts;
    size_t fixed = 2 * vocabulary * hidden + layers * hidden * (1 + experts);
    size_t count;
    if (__builtin_mul_overflow(layers * experts, expert_floats(shape), &count) ||
        __builtin_add_overflow(count, fixed, &count) || count > SIZE_MAX / sizeof(float)) {
        return EEP_ERR_INVALID;
    }
    oracle *o = malloc(sizeof *o);
    float *memory = malloc(count * sizeof(float));
    if (!o || !memory) {
        free(o);
        free(memory);
        return EEP_ERR_NO_MEMORY;
    }
    *o = (oracle){.shape = *shape, .seed = seed, .memory = memory, .embedding = memory};
    o->unembedding = o->embedding + vocabulary * hidden;
    o->decay = o->unembedding + hidden * vocabulary;
    o->router = o->decay + layers * hidden;
    o->experts = o->router + layers * hidden * experts;
    generate_all(o);
    *oracle_out = o;
    return EEP_OK;
}

void oracle_close(oracle *o)
{
    if (!o) {
        return;
    }
    free(o->memory);
    free(o);
}

uint32_t oracle_prompt_token(const oracle *o, uint32_t request, uint64_t j)
{
    uint64_t key = o->seed ^ 0x5eed0000;
    uint64_t draw = mix(key + request * GOLDEN + j * 0xd1b54a32d192ed03);
    return (uint32_t)(draw % (uint64_t)o->shape.vocabulary);
}

/* ---------------------------------------------------------------- rows times a matrix */

/* Lanes are columns, never terms of one sum: each lane adds its products in order of k. */
typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* out[r][0..15] = sum over k of in[r][k] * w[k][0..15] for four rows. */
static inline __attribute__((always_inline)) void tile(const float *const in[TILE_ROWS],
                                                       const float *w, size_t depth, size_t width,
                                                       size_t column, float *const out[TILE_ROWS])
{
    const float *in0 = in[0], *in1 = in[1], *in2 = in[2], *in3 = in[3];
    lanes a0 = {0}, a1 = {0}, b0 = {0}, b1 = {0}, c0 = {0}, c1 = {0}, d0 = {0}, d1 = {0};
    w += column;
    for (size_t k = 0; k < depth; k++, w += width) {
        lanes w0 = *(const lanes *)w, w1 = *(const lanes *)(w + LANES);
        a0 += in0[k] * w0, a1 += in0[k] * w1;
        b0 += in1[k] * w0, b1 += in1[k] * w1;
        c0 += in2[k] * w0, c1 += in2[k] * w1;
        d0 += in3[k] * w0, d1 += in3[k] * w1;
    }
    *(lanes *)(out[0] + column) = a0, *(lanes *)(out[0] + column + LANES) = a1;
    *(lanes *)(out[1] + column) = b0, *(lanes *)(out[1] + column + LANES) = b1;
    *(lanes *)(out[2] + column) = c0, *(lanes *)(out[2] + column + LANES) = c1;
    *(lanes *)(out[3] + column) = d0, *(lanes *)(out[3] + column + LANES) = d1;
}

/* out[r][j] = sum over k of in[r][k] * w[k][j]: rows [count] of [depth] times w [depth, width].
 * Inputs and outputs do not overlap. */
static CLONES void multiply(const float *const *in, size_t count, const float *w, size_t depth,
                            size_t width, float *const *out)
{
    size_t whole = width - width % TILE_COLUMNS;
    for (size_t column = 0; column < whole; column += TILE_COLUMNS) {
        for (size_t row = 0; row < count; row += TILE_ROWS) {
            const float *from[TILE_ROWS];
            float *to[TILE_ROWS];
            for (size_t i = 0; i < TILE_ROWS; i++) { /* the last row again where there is none */
                size_t r = row + i < count ? row + i : count - 1;
                from[i] = in[r];
                to[i] = out[r];
            }
            tile(from, w, depth, width, column, to);
        }
    }
    for (size_t row = 0; row < count && whole < width; row++) {
        for (size_t j = whole; j < width; j++) {
            float sum = 0.0f;
            for (size_t k = 0; k < depth; k++) {
                sum += in[row][k] * w[k * width + j];
            }
            out[row][j] = sum;
        }
    }
}

/* ---------------------------------------------------------------- one block of positions */

typedef struct position {
    uint32_t request; /* index into the call's requests */
    uint32_t token;   /* consumed */
    int64_t emits;    /* emitted position that its output is, -1: inside the prompt */
    bool first;       /* position 0: the state starts at zero */
} position;

/* Scratch of one call. Rows of a table lie one after the other. */
typedef struct block {
    const oracle *o;
    int count;
    position at[BLOCK];
    float *memory;  /* all below */
    float *state;   /* [L, H]: of the request of the last row; requests come one after the other */
    float *x;       /* [BLOCK, H] */
    float *y;       /* [BLOCK, H] */
    float *sent;    /* [BLOCK, H]: y as the experts see it */
    float *scores;  /* [BLOCK, E] */
    float *weights; /* [BLOCK, K] */
    float *gate;    /* [BLOCK, I] */
    float *up;      /* [BLOCK, I] */
    float *outputs; /* [BLOCK, K, H] */
    float *logits;  /* [BLOCK, V] */
    int *experts;   /* [BLOCK, K] */
} block;

static bool block_open(const oracle *o, block *b)
{
    const oracle_shape *s = &o->shape;
    size_t hidden = (size_t)s->hidden, k = (size_t)s->top_k, inner = (size_t)s->inner;
    size_t row =
        3 * hidden + (size_t)s->num_experts + k + 2 * inner + k * hidden + (size_t)s->vocabulary;
    *b = (block){.o = o};
    b->memory = malloc((BLOCK * row + (size_t)s->num_layers * hidden) * sizeof(float));
    b->experts = malloc(BLOCK * k * sizeof(int));
    if (!b->memory || !b->experts) {
        return false;
    }
    b->x = b->memory;
    b->y = b->x + BLOCK * hidden;
    b->sent = b->y + BLOCK * hidden;
    b->scores = b->sent + BLOCK * hidden;
    b->weights = b->scores + BLOCK * (size_t)s->num_experts;
    b->gate = b->weights + BLOCK * k;
    b->up = b->gate + BLOCK * inner;
    b->outputs = b->up + BLOCK * inner;
    b->logits = b->outputs + BLOCK * k * hidden;
    b->state = b->logits + BLOCK * (size_t)s->vocabulary;
    return true;
}

static void block_close(block *b)
{
    free(b->memory);
    free(b->experts);
}

static float round_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
    memcpy(&value, &bits, sizeof bits);
    return value;
}

/* The nearest number of the form +-m x 2^(e-3), m < 16, e >= -6, up to 448; of two, even m. */
static float round_to_e4m3(float value)
{
    int exponent;
    float step;
    if (value == 0.0f) {
        return value;
    }
    (void)frexpf(value, &exponent); /* |value| in [2^(exponent-1), 2^exponent) */
    step = ldexpf(1.0f, (exponent - 1 > -6 ? exponent - 1 : -6) - 3);
    value = rintf(value / step) * step;
    return value > 448.0f ? 448.0f : value < -448.0f ? -448.0f : value;
}

/* docs/MODEL.md, "FP8": a scale per 128 channels, then back. */
static void quantise(float *row, size_t hidden)
{
    for (size_t begin = 0; begin < hidden; begin += 128) {
        size_t end = begin + 128 < hidden ? begin + 128 : hidden;
        float largest = 1e-4f;
        for (size_t h = begin; h < end; h++) {
            largest = fmaxf(largest, fabsf(row[h]));
        }
        float inverse = 448.0f / largest, scale = largest * (1.0f / 448.0f);
        for (size_t h = begin; h < end; h++) {
            row[h] = round_to_e4m3(row[h] * inverse) * scale;
        }
    }
}

/* docs/MODEL.md, "exp". */
static float exponential(float x)
{
    static const float coefficients[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                         4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    if (isnan(x)) {
        return x;
    }
    if (x < -87.0f) {
        return 0.0f;
    }
    if (x > 88.0f) {
        return INFINITY;
    }
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = coefficients[0];
    for (int i = 1; i < 6; i++) {
        p = p * r + coefficients[i];
    }
    float y = p * (r * r) + r + 1.0f;
    return ldexpf(y, (int)n);
}

static void normalise(const float *in, size_t hidden, float *out)
{
    float sum = 0.0f;
    for (size_t h = 0; h < hidden; h++) {
        sum += in[h] * in[h];
    }
    float r = 1.0f / sqrtf(sum * (1.0f / (float)hidden) + 1e-6f);
    for (size_t h = 0; h < hidden; h++) {
        out[h] = in[h] * r;
    }
}

/* Steps a and b of a layer: recurrence and norm. */
static void recur(block *b, int layer)
{
    size_t hidden = (size_t)b->o->shape.hidden;
    const float *decay = b->o->decay + (size_t)layer * hidden;
    float *state = b->state + (size_t)layer * hidden;
    for (size_t p = 0; p < (size_t)b->count; p++) {
        if (b->at[p].first) {
            memset(state, 0, hidden * sizeof(float));
        }
        for (size_t h = 0; h < hidden; h++) {
            state[h] = state[h] * decay[h] + b->x[p * hidden + h];
        }
        normalise(state, hidden, b->y + p * hidden);
        for (size_t h = 0; h < hidden; h++) {
            float y = b->y[p * hidden + h];
            b->sent[p * hidden + h] = b->o->shape.bf16 ? round_to_bf16(y) : y;
        }
        if (b->o->shape.fp8) {
            quantise(b->sent + p * hidden, hidden);
        }
    }
}

/* Steps c and d: scores, the K best experts of each row and their weights. */
static void route(block *b, int layer)
{
    const oracle_shape *s = &b->o->shape;
    size_t hidden = (size_t)s->hidden, experts = (size_t)s->num_experts, top_k = (size_t)s->top_k;
    const float *in[BLOCK];
    float *out[BLOCK];
    for (size_t p = 0; p < (size_t)b->count; p++) {
        in[p] = b->y + p * hidden;
        out[p] = b->scores + p * experts;
    }
    multiply(in, (size_t)b->count, b->o->router + (size_t)layer * hidden * experts, hidden, experts,
             out);
    for (size_t p = 0; p < (size_t)b->count; p++) {
        const float *g = b->scores + p * experts;
        int *best = b->experts + p * top_k;
        float *weight = b->weights + p * top_k;
        float total = 0.0f;
        for (size_t k = 0; k < top_k; k++) {
            int found = -1;
            for (int e = 0; e < s->num_experts; e++) {
                bool after =
                    k == 0 || g[e] < g[best[k - 1]] || (g[e] == g[best[k - 1]] && e > best[k - 1]);
                if (after && (found < 0 || g[e] > g[found])) {
                    found = e;
                }
            }
            assert(found >= 0 && "scores are finite");
            best[k] = found;
            weight[k] = exponential(g[found] - g[best[0]]);
            total += weight[k];
        }
        for (size_t k = 0; k < top_k; k++) {
            weight[k] = weight[k] / total;
        }
    }
}

/* Step e for all rows [count] of one expert. */
static void compute_expert(block *b, int layer, int expert, const float *const *in,
                           float *const *out, size_t count)
{
    size_t hidden = (size_t)b->o->shape.hidden, inner = (size_t)b->o->shape.inner;
    const float *gate = expert_weights(b->o, layer, expert);
    const float *up = gate + hidden * inner, *down = up + hidden * inner;
    float *a[BLOCK], *c[BLOCK];
    const float *c_in[BLOCK];
    for (size_t r = 0; r < count; r++) {
        a[r] = b->gate + r * inner;
        c_in[r] = c[r] = b->up + r * inner;
    }
    multiply(in, count, gate, hidden, inner, a);
    multiply(in, count, up, hidden, inner, c);
    for (size_t i = 0; i < count * inner; i++) {
        b->up[i] = (b->gate[i] / (1.0f + exponential(-b->gate[i]))) * b->up[i];
    }
    multiply(c_in, count, down, inner, hidden, out);
    for (size_t r = 0; r < count && b->o->shape.bf16; r++) {
        for (size_t h = 0; h < hidden; h++) {
            out[r][h] = round_to_bf16(out[r][h]);
        }
    }
}

/* Steps e and f: each expert on the rows that chose it, then each row's sum in order of k. */
static void mix_experts(block *b, int layer)
{
    size_t hidden = (size_t)b->o->shape.hidden, top_k = (size_t)b->o->shape.top_k;
    for (int e = 0; e < b->o->shape.num_experts; e++) {
        const float *in[BLOCK];
        float *out[BLOCK];
        size_t rows = 0;
        for (size_t slot = 0; slot < (size_t)b->count * top_k; slot++) {
            if (b->experts[slot] == e) {
                in[rows] = b->sent + slot / top_k * hidden;
                out[rows++] = b->outputs + slot * hidden;
            }
        }
        if (rows > 0) {
            compute_expert(b, layer, e, in, out, rows);
        }
    }
    for (size_t p = 0; p < (size_t)b->count; p++) {
        for (size_t h = 0; h < hidden; h++) {
            float m = 0.0f;
            for (size_t k = 0; k < top_k; k++) {
                m += b->weights[p * top_k + k] * b->outputs[(p * top_k + k) * hidden + h];
            }
            b->x[p * hidden + h] = b->x[p * hidden + h] + m;
        }
    }
}

static void judge(const block *b, const position *at, const float *logits,
                  const oracle_request *requests, oracle_result *results)
{
    size_t vocabulary = (size_t)b->o->shape.vocabulary;
    uint32_t token = 0;
    for (uint32_t v = 1; v < vocabulary; v++) {
        if (logits[v] > logits[token]) {
            token = v;
        }
    }
    uint64_t digest = XXH64(logits, vocabulary * sizeof(float), 0);
    const oracle_request *request = &requests[at->request];
    oracle_result *result = &results[at->request];
    uint32_t i = (uint32_t)at->emits;
    bool token_wrong = request->tokens[i] != token, digest_wrong = request->digests[i] != digest;
    result->tokens_checked++;
    result->tokens_wrong += token_wrong;
    result->digests_wrong += digest_wrong;
    if ((token_wrong || digest_wrong) && result->first_wrong == UINT32_MAX) {
        result->first_wrong = i;
        result->right_token = token;
        result->right_digest = digest;
    }
}

/* Step 3 and 4, for the rows that emit. */
static void emit(block *b, const oracle_request *requests, oracle_result *results)
{
    size_t hidden = (size_t)b->o->shape.hidden, vocabulary = (size_t)b->o->shape.vocabulary;
    const float *in[BLOCK];
    float *out[BLOCK];
    const position *at[BLOCK];
    size_t rows = 0;
    for (size_t p = 0; p < (size_t)b->count; p++) {
        if (b->at[p].emits < 0) {
            continue;
        }
        normalise(b->x + p * hidden, hidden, b->y + p * hidden);
        in[rows] = b->y + p * hidden;
        out[rows] = b->logits + rows * vocabulary;
        at[rows++] = &b->at[p];
    }
    if (rows == 0) {
        return;
    }
    multiply(in, rows, b->o->unembedding, hidden, vocabulary, out);
    for (size_t r = 0; r < rows; r++) {
        judge(b, at[r], out[r], requests, results);
    }
}

static void compute(block *b, const oracle_request *requests, oracle_result *results)
{
    size_t hidden = (size_t)b->o->shape.hidden;
    for (size_t p = 0; p < (size_t)b->count; p++) {
        memcpy(b->x + p * hidden, b->o->embedding + b->at[p].token * hidden,
               hidden * sizeof(float));
    }
    for (int l = 0; l < b->o->shape.num_layers; l++) {
        recur(b, l);
        route(b, l);
        mix_experts(b, l);
    }
    emit(b, requests, results);
}

/* ---------------------------------------------------------------- requests */

/* Positions worth computing: all that lead to an emitted token, none after a token that does not
 * exist. */
static uint64_t request_positions(const oracle *o, const oracle_request *request)
{
    if (request->num_tokens == 0) {
        return 0;
    }
    uint32_t i = 0;
    while (i + 1 < request->num_tokens && request->tokens[i] < (uint32_t)o->shape.vocabulary) {
        i++;
    }
    return (uint64_t)request->input_length + i;
}

eep_status oracle_check_requests(const oracle *o, const oracle_request *requests,
                                 size_t num_requests, uint64_t *positions_done,
                                 oracle_result *results_out)
{
    for (size_t r = 0; r < num_requests; r++) {
        if (requests[r].input_length == 0) {
            return EEP_ERR_INVALID;
        }
    }
    block b;
    if (!block_open(o, &b)) {
        block_close(&b);
        return EEP_ERR_NO_MEMORY;
    }
    for (size_t r = 0; r < num_requests; r++) {
        const oracle_request *request = &requests[r];
        uint64_t positions = request_positions(o, request), prompt = request->input_length;
        results_out[r] = (oracle_result){.first_wrong = UINT32_MAX, .positions = positions};
        for (uint64_t p = 0; p < positions; p++) {
            b.at[b.count++] = (position){
                .request = (uint32_t)r,
                .token = p < prompt ? oracle_prompt_token(o, request->request, p)
                                    : request->tokens[p - prompt],
                .emits = p + 1 < prompt ? -1 : (int64_t)(p + 1 - prompt),
                .first = p == 0,
            };
            if (b.count < BLOCK) {
                continue;
            }
            compute(&b, requests, results_out);
            if (positions_done) {
                __atomic_fetch_add(positions_done, (uint64_t)b.count, __ATOMIC_RELAXED);
            }
            b.count = 0;
        }
    }
    if (b.count > 0) {
        compute(&b, requests, results_out);
        if (positions_done) {
            __atomic_fetch_add(positions_done, (uint64_t)b.count, __ATOMIC_RELAXED);
        }
    }
    block_close(&b);
    return EEP_OK;
}
