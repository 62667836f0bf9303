/* SPDX-License-Identifier: Apache-2.0 */
/* The loops over rows for vectors of WIDE_LANES floats: the text of row_loops_avx2.c and
 * row_loops_avx512.c, which are compiled for their processor and define
 *
 *     WIDE_STREAM(to, from)   store a line of 64 bytes past the caches
 *     WIDE_FENCE()            order such stores like any others
 *     WIDE_MAX(a, b)          a > b ? a : b in each lane, so b where one is a NaN
 *
 * Products and sums are rounded once each (-ffp-contract=off), in the order of the plain loops. */
#include "graphs/kernels/fp8.h"
#include "graphs/vector/row_loops.h"

#include <stdbool.h>
#include <string.h>

#define WIDE_FN static inline __attribute__((always_inline))

enum { LINE = 64, STRIP = 4 /* vectors of a sum at once, for a line of a row at least */ };
/* Smaller rows are soon read again, and stay in the caches. */
enum { STREAM_LEAST_BYTES = 2048 };
/* Of a copy; how far before its use a line is asked for (measured: docs/BENCH.md). */
enum { PIECE = 256, COPY_AHEAD = 2048, SUM_AHEAD = 1024 };

typedef float floats __attribute__((vector_size(WIDE_LANES * 4)));
typedef uint32_t words __attribute__((vector_size(WIDE_LANES * 4)));
typedef int32_t masks __attribute__((vector_size(WIDE_LANES * 4)));
typedef uint16_t halves __attribute__((vector_size(WIDE_LANES * 2)));
typedef uint8_t bytes_of __attribute__((vector_size(WIDE_LANES)));

WIDE_FN floats load_floats(const void *from, size_t i, bool is_bf16)
{
    floats values;
    halves half;

    if (!is_bf16) {
        memcpy(&values, (const float *)from + i, sizeof values);
        return values;
    }
    memcpy(&half, (const uint16_t *)from + i, sizeof half);
    return (floats)(__builtin_convertvector(half, words) << 16);
}

/* `mask` is all ones or none in each lane. */
WIDE_FN words choose(masks mask, words yes, words no)
{
    return ((words)mask & yes) | (~(words)mask & no);
}

/* ------------------------------------------------------------------ copies */

/* Rows go past the caches: they are read by another rank, and a store into a cache would fetch the
 * line from memory first. */
WIDE_FN void copy_one(uint8_t *to, const uint8_t *from, size_t bytes)
{
    const size_t head = (size_t)(-(uintptr_t)to & (LINE - 1));
    size_t at = head;

    if (bytes < STREAM_LEAST_BYTES) {
        memcpy(to, from, bytes);
        return;
    }
    memcpy(to, from, head);
    for (; at + LINE <= bytes; at += LINE) {
        WIDE_STREAM(to + at, from + at);
    }
    memcpy(to + at, from + at, bytes - at);
}

/* Pieces of all rows in turn. Places are aligned to lines. */
WIDE_FN void copy_together(uint8_t *const *to, const uint8_t *const *from, uint32_t num,
                           size_t bytes)
{
    const size_t pieces = bytes / PIECE * PIECE;

    for (size_t at = 0; at < pieces; at += PIECE) {
        for (uint32_t i = 0; i < num; i++) {
            for (size_t line = at; line < at + PIECE; line += LINE) {
                __builtin_prefetch(from[i] + line + COPY_AHEAD, 0, 2);
                WIDE_STREAM(to[i] + line, from[i] + line);
            }
        }
    }
    for (uint32_t i = 0; i < num && pieces < bytes; i++) {
        copy_one(to[i] + pieces, from[i] + pieces, bytes - pieces);
    }
}

static void copy(void *const *to, const void *const *from, uint32_t num, size_t bytes)
{
    for (uint32_t first = 0; first < num; first += EEPK_ROWS_AT_ONCE) {
        const uint32_t left = num - first, n = left < EEPK_ROWS_AT_ONCE ? left : EEPK_ROWS_AT_ONCE;
        uint8_t *places[EEPK_ROWS_AT_ONCE];
        const uint8_t *rows[EEPK_ROWS_AT_ONCE];
        uintptr_t bits = 0;
        for (uint32_t i = 0; i < n; i++) {
            places[i] = to[first + i];
            rows[i] = from[first + i];
            bits |= (uintptr_t)places[i];
        }
        if (bytes >= STREAM_LEAST_BYTES && (bits & (LINE - 1)) == 0) {
            copy_together(places, rows, n, bytes);
            continue;
        }
        for (uint32_t i = 0; i < n; i++) {
            copy_one(places[i], rows[i], bytes);
        }
    }
    WIDE_FENCE();
}

/* ------------------------------------------------------------------ FP8 */

/* eepk_float_to_e4m3 without its branches. Magnitudes are below 2^31, so the comparisons, which are
 * of signed numbers, are right. */
WIDE_FN words e4m3_of(floats value)
{
    const words bits = (words)value, sign = bits >> 24 & 0x80u, magnitude = bits & 0x7fffffffu;
    const words normal = ((magnitude + 0x7ffffu + (magnitude >> 20 & 1u)) >> 20) - (120u << 3);
    const words subnormal = (words)((floats)magnitude + 16384.0f) - 0x46800000u;
    const masks size = (masks)magnitude;
    words code = choose(size < (int32_t)EEPK_FP8_NO_NORMAL, subnormal, normal);

    code = choose(size >= 0x43e00000, (words){0} + EEPK_E4M3_LARGEST, code);
    code = choose(size > 0x7f800000, (words){0} + EEPK_E4M3_NAN, code);
    return sign | code;
}

/* The largest magnitude of a group, at least EEPK_FP8_LEAST; a NaN is larger than nothing. */
WIDE_FN float largest_of(const void *x, size_t first, bool is_bf16)
{
    floats largest = (floats){0} + EEPK_FP8_LEAST;
    float lanes[WIDE_LANES], most = EEPK_FP8_LEAST;

    for (uint32_t i = 0; i < EEPK_FP8_GROUP; i += WIDE_LANES) {
        const floats value = (floats)((words)load_floats(x, first + i, is_bf16) & 0x7fffffffu);
        largest = WIDE_MAX(value, largest);
    }
    memcpy(lanes, &largest, sizeof lanes);
    for (uint32_t i = 0; i < WIDE_LANES; i++) {
        most = lanes[i] > most ? lanes[i] : most;
    }
    return most;
}

typedef struct group_codes {
    _Alignas(LINE) uint8_t code[EEPK_FP8_GROUP];
    float scale;
} group_codes;

WIDE_FN void encode_group(const void *x, size_t first, bool is_bf16, uint32_t powers,
                          group_codes *out)
{
    const eepk_group_scale scale = eepk_scale_group(largest_of(x, first, is_bf16), powers);

    for (uint32_t i = 0; i < EEPK_FP8_GROUP; i += WIDE_LANES) {
        const words code = e4m3_of(load_floats(x, first + i, is_bf16) * scale.inverse);
        const bytes_of narrow = __builtin_convertvector(code, bytes_of);
        memcpy(out->code + i, &narrow, sizeof narrow);
    }
    out->scale = scale.scale;
}

WIDE_FN void store_group(const eepk_rows_quantise_args *a, uint32_t group, const group_codes *codes,
                         uint32_t n)
{
    for (uint32_t i = 0; i < a->num_to; i++) {
        uint8_t *row = a->to[i], *to = row + group * EEPK_FP8_GROUP;
        if (((uintptr_t)to & (LINE - 1)) == 0 && n == EEPK_FP8_GROUP &&
            a->hidden >= STREAM_LEAST_BYTES) {
            WIDE_STREAM(to, codes->code);
            WIDE_STREAM(to + LINE, codes->code + LINE);
        } else {
            memcpy(to, codes->code, n);
        }
        memcpy(row + a->scales_at + group * sizeof(float), &codes->scale, sizeof(float));
    }
}

WIDE_FN void quantise_row(const eepk_rows_quantise_args *a, bool is_bf16)
{
    const uint32_t num_whole = a->hidden / EEPK_FP8_GROUP, rest = a->hidden % EEPK_FP8_GROUP;
    const size_t element = is_bf16 ? 2 : 4;
    float padded[EEPK_FP8_GROUP] = {0.0f}; /* a zero is never the largest */
    group_codes codes;

    for (uint32_t group = 0; group < num_whole; group++) {
        encode_group(a->x, (size_t)group * EEPK_FP8_GROUP, is_bf16, a->powers, &codes);
        store_group(a, group, &codes, EEPK_FP8_GROUP);
    }
    if (rest) {
        memcpy(padded, (const uint8_t *)a->x + (size_t)num_whole * EEPK_FP8_GROUP * element,
               rest * element);
        encode_group(padded, 0, is_bf16, a->powers, &codes);
        store_group(a, num_whole, &codes, rest);
    }
}

static void quantise(const eepk_rows_quantise_args *a)
{
    if (a->dtype == 0) {
        quantise_row(a, false);
    } else {
        quantise_row(a, true);
    }
    WIDE_FENCE();
}

/* ------------------------------------------------------------------ sums */

WIDE_FN void store_floats(void *out, size_t i, floats values, bool is_bf16)
{
    const words bits = (words)values;
    words half = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    halves narrow;

    if (!is_bf16) {
        memcpy((float *)out + i, &values, sizeof values);
        return;
    }
    half = choose((masks)(bits & 0x7fffffffu) > 0x7f800000, bits >> 16 | 0x40u, half);
    narrow = __builtin_convertvector(half, halves);
    memcpy((uint16_t *)out + i, &narrow, sizeof narrow);
}

WIDE_FN void sum_row(const eepk_rows_sum_args *a, bool is_bf16, bool out_is_bf16)
{
    const size_t element = is_bf16 ? 2 : 4;
    uint32_t h = 0;

    for (; h + STRIP * WIDE_LANES <= a->hidden; h += STRIP * WIDE_LANES) {
        floats sum[STRIP] = {{0}};
        for (uint32_t k = 0; k < a->num_rows; k++) {
            const uint8_t *row = (const uint8_t *)a->rows[k] + h * element;
            for (size_t line = 0; line < STRIP * WIDE_LANES * element; line += LINE) {
                __builtin_prefetch(row + line + SUM_AHEAD, 0, 2);
            }
            for (uint32_t i = 0; i < STRIP; i++) {
                sum[i] = sum[i] + a->weights[k] * load_floats(row, i * WIDE_LANES, is_bf16);
            }
        }
        for (uint32_t i = 0; i < STRIP; i++) {
            store_floats(a->out, h + i * WIDE_LANES, sum[i], out_is_bf16);
        }
    }
    eepi_row_sum_columns(a, h);
}

static void sum(const eepk_rows_sum_args *a)
{
    if (a->dtype == 0 && a->out_dtype == 0) {
        sum_row(a, false, false);
    } else if (a->dtype == 0) {
        sum_row(a, false, true);
    } else if (a->out_dtype == 0) {
        sum_row(a, true, false);
    } else {
        sum_row(a, true, true);
    }
}
