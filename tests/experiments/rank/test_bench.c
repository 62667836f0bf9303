/* SPDX-License-Identifier: Apache-2.0 */
/* The benchmark's arithmetic: quantiles, intervals, ratios, and how many bytes a layer must move.
 */
#include "experiments/bench/inputs.h"
#include "experiments/bench/stats.h"
#include "graphs/device/tables.h"
#include "membership/context/bank_image.h"
#include "tests/lib/world/reference_moe.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(bench, .timeout = 30);

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fabs(b);
}

Test(bench, quantiles_are_nearest_ranks)
{
    double values[200];
    bench_stats s;

    for (int i = 0; i < 200; i++) {
        values[i] = (i * 77 % 200) + 1; /* 1..200 in another order */
    }
    s = bench_stats_of(values, 200);
    cr_assert(s.n == 200 && s.p50 == 100 && s.p99 == 198 && s.min == 1 && s.max == 200);
    s = bench_stats_of(values, 1);
    cr_assert(s.p50 == 1 && s.p99 == 1 && s.low == 1 && s.high == 1);
}

/* The median's interval covers it about 95 times in 100, and not always. */
Test(bench, the_interval_covers_the_median)
{
    const size_t sizes[] = {30, 40, 301};
    uint64_t random = 20260511;

    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        int covered = 0;
        for (int i = 0; i < 4000; i++) {
            double values[301];
            bench_stats s;
            for (size_t j = 0; j < sizes[k]; j++) {
                random = random * 6364136223846793005u + 1442695040888963407u;
                values[j] = pow((double)(random >> 11) * 0x1p-53, 3.0); /* skewed; median 1/8 */
            }
            s = bench_stats_of(values, sizes[k]);
            covered += s.low <= 0.125 && 0.125 <= s.high;
        }
        cr_assert(covered > 4000 * 94 / 100 && covered < 4000 * 99 / 100, "n %zu: %d of 4000",
                  sizes[k], covered);
    }
}

Test(bench, a_ratio_is_that_of_pairs)
{
    double a[40], b[40], again[40], scratch[40];
    bench_ratio r;

    for (int i = 0; i < 40; i++) { /* the machine is twice as slow half of the time */
        const double slow = i % 2 ? 2.0 : 1.0;
        b[i] = slow * (1.0 + 0.001 * (i % 5));
        again[i] = slow * (1.0 + 0.001 * ((i + 1) % 5));
        a[i] = slow * 1.05 * sqrt(1.0 + 0.001 * (i % 5)) * sqrt(1.0 + 0.001 * ((i + 1) % 5));
    }
    r = bench_ratio_of(a, a, b, again, 40, scratch);
    cr_assert(near(r.estimate, 1.05) && near(r.low, 1.05) && near(r.high, 1.05));
    cr_assert(r.same > 0.99 && r.same < 1.01);
    cr_assert(near(r.same_half_width, (r.same_high - r.same_low) / 2));
}

static eepk_shape shape_of(int fp8)
{
    const eep_config config = {.struct_bytes = sizeof config,
                               .rank = 0,
                               .num_ranks = 4,
                               .max_ranks = 4,
                               .num_layers = 5,
                               .num_experts = 14,
                               .num_slots = 4,
                               .top_k = 3,
                               .hidden = 256,
                               .num_max_tokens_per_rank = 7,
                               .dtype = EEP_BF16,
                               .fp8_dispatch = fp8};
    eepk_shape shape;
    const char *why;

    cr_assert_eq(eepi_shape_make(&config, &shape, &why), EEP_OK);
    return shape;
}

/* Distinct experts, no zero, the same on each call and different between sets and ranks. */
Test(bench, inputs_are_random_and_the_same_again)
{
    const eepk_shape s = shape_of(0);
    const bench_inputs at = bench_inputs_of(&s);
    uint8_t *a = calloc(1, at.set_bytes), *b = calloc(1, at.set_bytes);

    bench_inputs_fill(&s, &at, 1, 2, 3, a);
    bench_inputs_fill(&s, &at, 1, 2, 3, b);
    cr_assert_eq(memcmp(a, b, at.set_bytes), 0);
    for (int i = 0; i < 7; i++) {
        const int32_t *ids = (const int32_t *)(a + at.topk_idx) + i * 3;
        cr_assert(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
        for (int k = 0; k < 3; k++) {
            cr_assert(ids[k] >= 0 && ids[k] < 14);
        }
    }
    for (int i = 0; i < 7 * 256; i++) {
        const uint16_t exponent = ((const uint16_t *)(a + at.x))[i] >> 7 & 0xffu;
        cr_assert(exponent >= 120 && exponent <= 127);
    }
    bench_inputs_fill(&s, &at, 1, 3, 2, b);
    cr_assert_neq(memcmp(a, b, at.topk_idx), 0);
    free(a);
    free(b);
}

/* Where a pair of a rank's batch of 7 x 3 goes, from the view document. */
static int seat_of_pair(eepi_view *view, int layer, int rank, const int32_t *topk_idx, int i)
{
    moe_pair pair = {rank, topk_idx[i], 0, 0};
    int seat, slot;

    for (int j = 0; j < 7 * 3; j++) {
        pair.number += j < i && topk_idx[j] == pair.expert;
        pair.num += topk_idx[j] == pair.expert;
    }
    moe_replica(view, layer, &pair, &seat, &slot);
    return seat;
}

Test(bench, traffic_is_counted_from_the_routing)
{
    eepk_shape s = shape_of(1);
    const bench_inputs at = bench_inputs_of(&s);
    eepi_view *view = bench_view_make(&s, 1);
    uint8_t *images[4], *sets[4 * BENCH_SETS];
    const int32_t *ids[4 * BENCH_SETS];
    void *windows[4] = {&s, &s, &s, &s};
    double sent = 0, far = 0, packed[4], most = 0;
    bench_traffic t;
    bench_bytes bytes;

    cr_assert(view);
    for (uint32_t i = 0; i < 4; i++) {
        images[i] = calloc(1, s.bank_bytes);
        s.self = i;
        eepi_bank_image(&s, view, windows, images[i]);
    }
    for (int i = 0; i < 4 * BENCH_SETS; i++) {
        sets[i] = calloc(1, at.set_bytes);
        bench_inputs_fill(&s, &at, 9, i / BENCH_SETS, i % BENCH_SETS, sets[i]);
        ids[i] = (const int32_t *)(sets[i] + at.topk_idx);
    }
    for (int layer = 0; layer < 5; layer++) {
        memset(packed, 0, sizeof packed);
        for (int pair = 0; pair < 4 * 7 * 3; pair++) {
            const int rank = pair / 21, i = pair % 21;
            const int32_t *topk = ids[rank * BENCH_SETS + layer % BENCH_SETS];
            const int seat = seat_of_pair(view, layer, rank, topk, i);
            bool is_first = true;
            for (int j = i - i % 3; j < i; j++) {
                is_first &= seat_of_pair(view, layer, rank, topk, j) != seat;
            }
            packed[seat]++;
            sent += is_first;
            far += seat != rank;
        }
        for (int rank = 0; rank < 4; rank++) {
            most = packed[rank] > most ? packed[rank] : most;
        }
    }
    t = bench_traffic_of(&s, (const uint8_t *const *)images, ids);
    cr_assert(t.tokens == 28 && t.pairs == 84 && near(t.sent_rows, sent / 5));
    cr_assert(t.own_rows == 0 && near(t.far_pairs, far / 5));
    cr_assert_eq(t.max_packed_rows, (uint32_t)most);
    bytes = bench_bytes_of(&s, &t); /* a row: 512 bytes, on its way 256 + 2 scales */
    cr_assert(near(bytes.dispatch_path, 28 * 512 + (2 * t.sent_rows + 84) * 264));
    cr_assert(near(bytes.dispatch_least, 28 * 512 + 84 * 264));
    cr_assert(near(bytes.combine_path, (2 * t.far_pairs + 84 + 28) * 512));
    cr_assert(near(bytes.combine_least, (84 + 28) * 512));
    s = shape_of(0); /* a rank's own rows do not go through its window */
    far = t.sent_rows;
    t = bench_traffic_of(&s, (const uint8_t *const *)images, ids);
    cr_assert(t.own_rows > 0 && near(t.sent_rows + t.own_rows, far));
    bytes = bench_bytes_of(&s, &t);
    cr_assert(near(bytes.dispatch_path, (28 + t.own_rows + 2 * t.sent_rows + 84) * 512));
    for (int i = 0; i < 4 * BENCH_SETS; i++) {
        free(sets[i]);
    }
    for (int i = 0; i < 4; i++) {
        free(images[i]);
    }
    free(view);
}
