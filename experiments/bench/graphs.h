/* SPDX-License-Identifier: Apache-2.0 */
/* Capture of the graphs that are measured. Rank threads; all ranks capture before any replays. */
#ifndef BENCH_GRAPHS_H
#define BENCH_GRAPHS_H

#include "experiments/bench/world.h"

/* A step of all layers as a graph of the rank. Fatal on failure. */
void bench_capture_step(bench_rank *rank, bench_kind kind);
/* A copy of `bytes` from `from` to `to`, in pieces of at most `piece_bytes` that go over the same
 * buffers, between stamps 0 and 1; the caller closes it. */
eep_graph *bench_capture_copy(bench_rank *rank, void *to, const void *from, size_t bytes,
                              size_t piece_bytes);
#endif
