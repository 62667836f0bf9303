/* SPDX-License-Identifier: Apache-2.0 */
/* The host's loops over rows: the wide ones give the bits of the plain ones, for every length,
 * place and kind of value. The plain ones equal the reference in test_kernels.c. */
#include "graphs/kernels/fp8.h"
#include "graphs/vector/row_loops.h"
#include "tests/lib/world/kernel_check.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(row_loops);

enum { MAX_HIDDEN = 3000, MAX_ROWS = EEP_MAX_TOPK, MAX_PLACES = 11, GUARD = 64 };
enum { ROW_BYTES = 4 * MAX_HIDDEN + 544 }; /* of places, whole lines with their guards */

typedef struct wide {
    const eepi_row_loops *loops[2];
    int n;
} wide;

static wide wide_ones(void)
{
    const eepi_row_loops *const all[] = {eepi_row_loops_avx2(), eepi_row_loops_avx512()};
    wide w = {{NULL}, 0};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i]) {
            w.loops[w.n++] = all[i];
        }
    }
    return w;
}

/* Now and then what is no usual number: both zeros, infinity, a NaN, subnormals, the largest. */
static float random_value(uint64_t *random)
{
    static const float odd[] = {0.0f, -0.0f, INFINITY, -INFINITY, 1e-42f, -3e38f, 448.0f, 1e-4f};
    union {
        uint32_t bits;
        float value;
    } any = {(uint32_t)kernel_random(random)};

    switch (kernel_below(random, 64)) {
    case 0:
        return odd[kernel_below(random, sizeof odd / sizeof odd[0])];
    case 1:
        return isnan(any.value) ? 0.5f : any.value;
    default:
        return (float)(int32_t)any.bits / (float)(1u << kernel_below(random, 31));
    }
}

static void fill(void *values, eep_dtype dtype, int n, int nan_at, uint64_t *random)
{
    for (int i = 0; i < n; i++) {
        const float value = i == nan_at ? NAN : random_value(random);
        if (dtype == EEP_FP32) {
            ((float *)values)[i] = value;
        } else {
            ((uint16_t *)values)[i] = eepk_float_to_bf16(value);
        }
    }
}

/* `num` places with a guard before and behind each; misaligned by a multiple of `step`. */
typedef struct places {
    uint8_t *memory;
    void *at[MAX_PLACES];
} places;

static places places_open(int num, int step, uint64_t *random)
{
    places p = {aligned_alloc(64, (size_t)num * (ROW_BYTES + 3 * GUARD)), {NULL}};

    cr_assert(p.memory);
    memset(p.memory, 0xa5, (size_t)num * (ROW_BYTES + 3 * GUARD));
    for (int i = 0; i < num; i++) {
        p.at[i] = p.memory + (size_t)i * (ROW_BYTES + 3 * GUARD) + GUARD +
                  kernel_below(random, 64 / step) * step;
    }
    return p;
}

Test(row_loops, copies_are_whole_wherever_they_go)
{
    const wide w = wide_ones();
    uint64_t random = kernel_first_seed();
    uint8_t *from = malloc(ROW_BYTES + 64);

    for (int i = 0; i < ROW_BYTES + 64; i++) {
        from[i] = (uint8_t)kernel_random(&random);
    }
    for (int round = 0; round < 200 * w.n; round++) {
        const int num = 1 + kernel_below(&random, MAX_PLACES);
        const size_t bytes = (size_t)kernel_below(&random, round % 2 ? 200 : ROW_BYTES);
        const int step = kernel_below(&random, 2) ? 64 : 1; /* on lines, or anywhere */
        const void *sources[MAX_PLACES];
        uint64_t again;
        places want, got;

        for (int i = 0; i < num; i++) {
            sources[i] = from + kernel_below(&random, 64);
        }
        again = random;
        want = places_open(num, step, &random);
        got = places_open(num, step, &again);

        eepi_row_loops_plain.copy(want.at, sources, (uint32_t)num, bytes);
        w.loops[round % w.n]->copy(got.at, sources, (uint32_t)num, bytes);
        cr_assert_eq(memcmp(want.memory, got.memory, (size_t)num * (ROW_BYTES + 3 * GUARD)), 0,
                     "%s: %zu bytes", w.loops[round % w.n]->name, bytes);
        free(want.memory);
        free(got.memory);
    }
    free(from);
}

Test(row_loops, codes_and_scales_are_those_of_the_plain_loop)
{
    const wide w = wide_ones();
    uint64_t random = kernel_first_seed();
    float *x = malloc(MAX_HIDDEN * sizeof *x);

    for (int round = 0; round < 100 * w.n; round++) {
        const int num = 1 + kernel_below(&random, 3),
                  hidden = 1 + kernel_below(&random, MAX_HIDDEN);
        const eep_dtype dtype = (eep_dtype)kernel_below(&random, 2);
        uint64_t again = random;
        places want = places_open(num, 16, &random), got = places_open(num, 16, &again);
        eepk_rows_quantise_args a = {
            want.at,         ((uint64_t)hidden + 15) / 16 * 16, x, (uint32_t)num, (uint32_t)hidden,
            (uint32_t)dtype, (uint32_t)(round / 2 % 2)};

        fill(x, dtype, hidden, round % 5 ? -1 : kernel_below(&random, hidden), &random);
        eepi_row_loops_plain.quantise(&a);
        a.to = got.at;
        w.loops[round % w.n]->quantise(&a);
        cr_assert_eq(memcmp(want.memory, got.memory, (size_t)num * (ROW_BYTES + 3 * GUARD)), 0,
                     "%s: hidden %d, dtype %d", w.loops[round % w.n]->name, hidden, dtype);
        free(want.memory);
        free(got.memory);
    }
    free(x);
}

/* What a value becomes does not depend on its neighbours: with 448 in the group it is not scaled.
 * Every 997 x 37th binary32, and what lies beside the middle of two codes. */
Test(row_loops, each_value_gets_its_nearest_code)
{
    const wide w = wide_ones();
    _Alignas(64) uint8_t row[EEPK_FP8_GROUP + 16];
    void *to = row;
    float x[EEPK_FP8_GROUP];
    const eepk_rows_quantise_args a = {&to, EEPK_FP8_GROUP, x, 1, EEPK_FP8_GROUP, EEP_FP32};

    for (uint64_t bits = 0; bits < 1ull << 32; bits += 128u * 997 * 37) {
        for (uint32_t i = 0; i < EEPK_FP8_GROUP; i++) {
            union {
                uint32_t bits;
                float value;
            } u = {(uint32_t)bits + i * 997 * 37};
            x[i] = i == 0 || fabsf(u.value) > 448.0f ? 448.0f : u.value;
        }
        for (int j = 0; j < w.n; j++) {
            w.loops[j]->quantise(&a);
            for (uint32_t i = 0; i < EEPK_FP8_GROUP; i++) {
                cr_assert_eq(row[i], eepk_float_to_e4m3(x[i]), "%s: %a", w.loops[j]->name,
                             (double)x[i]);
            }
        }
    }
    for (int code = 0; code < 126; code++) {
        const float low = eepk_e4m3_to_float((uint8_t)code);
        const float middle = (low + eepk_e4m3_to_float((uint8_t)(code + 1))) / 2;
        const float around[] = {448.0f, low, middle, nextafterf(middle, 0), nextafterf(middle, 999),
                                -middle};
        for (uint32_t i = 0; i < EEPK_FP8_GROUP; i++) {
            x[i] = around[i % 6];
        }
        for (int j = 0; j < w.n; j++) {
            w.loops[j]->quantise(&a);
            for (uint32_t i = 0; i < 6; i++) {
                cr_assert_eq(row[i], eepk_float_to_e4m3(around[i]), "%s: %a", w.loops[j]->name,
                             (double)around[i]);
            }
        }
    }
}

/* NaNs one at a time: of two the sum may keep either's bits. */
Test(row_loops, sums_are_rounded_like_those_of_the_plain_loop)
{
    const wide w = wide_ones();
    uint64_t random = kernel_first_seed();
    float *values = malloc(MAX_ROWS * MAX_HIDDEN * sizeof *values), weights[MAX_ROWS];
    const void *rows[MAX_ROWS];

    for (int round = 0; round < 60 * w.n; round++) {
        const int num = kernel_below(&random, round % 3 ? 9 : MAX_ROWS + 1);
        const int hidden = 1 + kernel_below(&random, round % 2 ? 200 : MAX_HIDDEN);
        uint64_t again;
        places want, got;
        eepk_rows_sum_args a = {rows,
                                weights,
                                NULL,
                                (uint32_t)num,
                                (uint32_t)hidden,
                                (uint32_t)kernel_below(&random, 2),
                                (uint32_t)kernel_below(&random, 2)};

        for (int k = 0; k < num; k++) {
            rows[k] = values + (size_t)k * MAX_HIDDEN;
            weights[k] = (float)kernel_below(&random, 1 << 20) / (float)(1 << 20);
            for (int i = 0; i < hidden; i++) {
                const float value =
                    ldexpf((float)(int32_t)kernel_random(&random), -16 - kernel_below(&random, 30));
                moe_store((eep_dtype)a.dtype, values + (size_t)k * MAX_HIDDEN, (size_t)i,
                          i % 97 == 0 && k == round % 9 ? NAN : value);
            }
        }
        again = random;
        want = places_open(1, 16, &random);
        got = places_open(1, 16, &again);
        a.out = want.at[0];
        eepi_row_loops_plain.sum(&a);
        a.out = got.at[0];
        w.loops[round % w.n]->sum(&a);
        cr_assert_eq(memcmp(want.memory, got.memory, ROW_BYTES + 3 * GUARD), 0,
                     "%s: %d rows of %d, dtypes %u %u", w.loops[round % w.n]->name, num, hidden,
                     a.dtype, a.out_dtype);
        free(want.memory);
        free(got.memory);
    }
    free(values);
}
