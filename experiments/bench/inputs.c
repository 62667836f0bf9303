/* SPDX-License-Identifier: Apache-2.0 */
/* Fill the inputs of timed steps, and count the bytes that a layer moves. */
#include "experiments/bench/inputs.h"

#include "graphs/kernels/rows.h"
#include "repair/placement.h"
#include "experiments/base/random.h"

#include <stdlib.h>
#include <string.h>

static size_t line_up(size_t bytes)
{
    return (bytes + EEPK_LINE_BYTES - 1) / EEPK_LINE_BYTES * EEPK_LINE_BYTES;
}

bench_inputs bench_inputs_of(const eepk_shape *s)
{
    const size_t pairs = (size_t)s->num_max_tokens * s->top_k;
    bench_inputs at = {.x = 0};

    at.topk_idx = line_up((size_t)s->num_max_tokens * s->row_bytes);
    at.topk_weights = at.topk_idx + line_up(pairs * sizeof(int32_t));
    at.set_bytes = at.topk_weights + line_up(pairs * sizeof(float));
    at.num_tokens = BENCH_SETS * at.set_bytes;
    at.bytes = at.num_tokens + EEPK_LINE_BYTES;
    return at;
}

/* Sign, one of eight exponents (2^-7 .. 1), mantissa. */
static uint16_t random_bf16(uint64_t bits)
{
    return (uint16_t)((bits & 0x807fu) | (120u + (bits >> 8 & 7u)) << 7);
}

void bench_values_fill(uint64_t seed, uint16_t *to, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        uint64_t bits = random_next(&seed);
        for (size_t j = i; j < n && j < i + 4; j++, bits >>= 16) {
            to[j] = random_bf16(bits);
        }
    }
}

static void choose_experts(const eepk_shape *s, uint64_t *state, int32_t *topk_idx)
{
    for (uint32_t k = 0; k < s->top_k; k++) {
        uint32_t earlier = 0;
        topk_idx[k] = (int32_t)(random_next(state) % s->num_experts);
        while (earlier < k && topk_idx[earlier] != topk_idx[k]) {
            earlier++;
        }
        if (earlier < k) {
            k--; /* draw again */
        }
    }
}

void bench_inputs_fill(const eepk_shape *s, const bench_inputs *at, uint64_t seed, int rank,
                       int set, uint8_t *to)
{
    uint64_t state = seed * 1000003u + (uint64_t)rank * 1009u + (uint64_t)set * 17u;
    float *weights = (float *)(to + at->topk_weights);

    bench_values_fill(state, (uint16_t *)(to + at->x), (size_t)s->num_max_tokens * s->hidden);
    for (uint32_t token = 0; token < s->num_max_tokens; token++) {
        choose_experts(s, &state, (int32_t *)(to + at->topk_idx) + (size_t)token * s->top_k);
    }
    for (size_t i = 0; i < (size_t)s->num_max_tokens * s->top_k; i++) {
        weights[i] = ((float)(random_next(&state) >> 41) + 0.5f) * 0x1p-23f;
    }
}

eepi_view *bench_view_make(const eepk_shape *s, uint64_t epoch)
{
    const eepi_view_shape shape = {(int32_t)s->max_ranks, (int32_t)s->num_layers,
                                   (int32_t)s->num_experts, (int32_t)s->num_slots};
    eepi_view *view = eepi_view_new(&shape);

    if (!view) {
        return NULL;
    }
    for (uint32_t seat = 0; seat < s->max_ranks; seat++) {
        eepi_view_seat_at(view, (int)seat)->generation = 1;
        eepi_view_seat_at(view, (int)seat)->state = EEP_SEAT_ACTIVE;
    }
    view->epoch = epoch;
    if (eepi_plan_initial(view) != EEP_OK) {
        free(view);
        return NULL;
    }
    eepi_view_seal(view);
    return view;
}

/* ------------------------------------------------------------------ what is moved */

/* The replica that takes pair `number` of the `num` that `source` has for the expert, as the route
 * node chooses it. */
static const eepk_replica *replica_of(const eepk_shape *s, const uint8_t *image, uint32_t layer,
                                      uint32_t source, uint32_t expert, uint32_t number,
                                      uint32_t num)
{
    const uint32_t *first = eepk_replica_first(s, image, layer);
    const eepk_replica *replicas = eepk_replicas(s, image, layer);
    const uint32_t offset = eepk_share_offset(source, expert);
    uint32_t i = first[expert];

    while (i + 1 < first[expert + 1] &&
           number >= eepk_share_begin(replicas[i + 1].from, num, offset)) {
        i++;
    }
    return &replicas[i];
}

/* The seats that a rank's pairs go to. */
static void count_rank(const eepk_shape *s, const uint8_t *image, uint32_t layer, uint32_t source,
                       const int32_t *topk_idx, uint32_t *packed, bench_traffic *sum)
{
    const uint32_t pairs = s->num_max_tokens * s->top_k;
    uint32_t num[s->num_experts], number[s->num_experts];
    eepk_shape at = *s;

    at.self = source;
    memset(num, 0, sizeof num);
    memset(number, 0, sizeof number);
    for (uint32_t i = 0; i < pairs; i++) {
        num[topk_idx[i]]++;
    }
    for (uint32_t token = 0; token < s->num_max_tokens; token++) {
        uint64_t seats = 0;
        for (uint32_t k = 0; k < s->top_k; k++) {
            uint32_t expert = (uint32_t)topk_idx[token * s->top_k + k];
            uint32_t seat =
                replica_of(s, image, layer, source, expert, number[expert]++, num[expert])->seat;
            seats |= 1ull << seat;
            packed[seat]++;
            sum->far_pairs += seat != source;
        }
        sum->far_rows += __builtin_popcountll(seats & ~(1ull << source));
        if (eepk_goes_by_window(&at, source)) {
            sum->sent_rows += __builtin_popcountll(seats);
        } else {
            sum->sent_rows += __builtin_popcountll(seats & ~(1ull << source));
            sum->own_rows += (double)(seats >> source & 1u);
        }
    }
    sum->tokens += s->num_max_tokens;
    sum->pairs += pairs;
}

bench_traffic bench_traffic_of(const eepk_shape *s, const uint8_t *const *images,
                               const int32_t *const *topk_idx)
{
    bench_traffic sum = {0};

    for (uint32_t layer = 0; layer < s->num_layers; layer++) {
        uint32_t packed[64] = {0};
        for (uint32_t rank = 0; rank < s->max_ranks; rank++) {
            count_rank(s, images[rank], layer, rank,
                       topk_idx[rank * BENCH_SETS + layer % BENCH_SETS], packed, &sum);
        }
        for (uint32_t rank = 0; rank < s->max_ranks; rank++) {
            if (packed[rank] > sum.max_packed_rows) {
                sum.max_packed_rows = packed[rank];
            }
        }
    }
    sum.tokens /= s->num_layers;
    sum.sent_rows /= s->num_layers;
    sum.own_rows /= s->num_layers;
    sum.far_rows /= s->num_layers;
    sum.far_pairs /= s->num_layers;
    sum.pairs /= s->num_layers;
    return sum;
}

bench_bytes bench_bytes_of(const eepk_shape *s, const bench_traffic *t)
{
    const double row = s->row_bytes;
    const double sent =
        s->num_scales ? (double)s->hidden + 4.0 * s->num_scales : row; /* of one row, on its way */

    return (bench_bytes){
        .dispatch_path = (t->tokens + t->own_rows) * row + (2 * t->sent_rows + t->pairs) * sent,
        .dispatch_least = t->tokens * row + t->pairs * sent,
        .dispatch_far = t->far_rows * sent,
        .combine_path = (2 * t->far_pairs + t->pairs + t->tokens) * row,
        .combine_least = t->pairs * row + t->tokens * row,
    };
}
