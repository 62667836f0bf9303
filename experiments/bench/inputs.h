/* SPDX-License-Identifier: Apache-2.0 */
/* What the ranks of the benchmark work on: random tokens and routing from a seed, the placement,
 * and how many bytes a layer of it must move. Pure functions. */
#ifndef BENCH_INPUTS_H
#define BENCH_INPUTS_H

#include "graphs/kernels/table_layout.h"
#include "membership/view/view.h"

enum { BENCH_SETS = 4 }; /* input sets; layer l of a graph takes set l mod BENCH_SETS */

/* Where inputs lie in a rank's input buffer, a multiple of 128 bytes each. Set i is `set_bytes`
 * behind set 0: x [num_tokens, hidden] in BF16, topk_idx and topk_weights [num_tokens, top_k].
 * num_tokens is one word for all sets. */
typedef struct bench_inputs {
    size_t x, topk_idx, topk_weights, set_bytes, num_tokens, bytes;
} bench_inputs;

bench_inputs bench_inputs_of(const eepk_shape *shape);
/* Write set `set` of a rank to `to` (set_bytes): values in (-2, 2) without zeros, distinct experts
 * per token, chosen evenly, weights in (0, 1). The same bytes on every call. */
void bench_inputs_fill(const eepk_shape *shape, const bench_inputs *layout, uint64_t seed, int rank,
                       int set, uint8_t *to);
/* `n` random BF16 values as above. */
void bench_values_fill(uint64_t seed, uint16_t *to, size_t n);

/* All seats, the planner's placement; all epochs have the same. Sealed. NULL: no memory, or the
 * experts do not fit. free(). */
eepi_view *bench_view_make(const eepk_shape *shape, uint64_t epoch);

/* What one layer moves, all ranks together; means over the layers of a graph. */
typedef struct bench_traffic {
    double tokens;            /* rows that come in and go out */
    double sent_rows;         /* a token once per window that it goes to */
    double own_rows;          /* tokens that their own rank reads where they are */
    double far_rows;          /* a token once per other rank that it goes to */
    double pairs;             /* rows that experts get and give back */
    double far_pairs;         /* those of them that are another rank's */
    uint32_t max_packed_rows; /* of any rank in any layer */
} bench_traffic;

/* `images` are the ranks' banks (eepi_bank_image), `topk_idx` is [rank][set] arrays. */
bench_traffic bench_traffic_of(const eepk_shape *shape, const uint8_t *const *images,
                               const int32_t *const *topk_idx);

/* Bytes, reads and writes added up, of all ranks in one layer. `path`: what goes the way that rows
 * take here, through windows. `least`: what any way must move: each input once, each result once.
 * Routing, lists, counts and tags are left out of both. */
typedef struct bench_bytes {
    double dispatch_path, dispatch_least, combine_path, combine_least;
    double dispatch_far; /* of rows that go to other ranks, once */
} bench_bytes;

bench_bytes bench_bytes_of(const eepk_shape *shape, const bench_traffic *traffic);
#endif
