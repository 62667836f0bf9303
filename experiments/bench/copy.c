/* SPDX-License-Identifier: Apache-2.0 */
/* Time the device's own copies. */
#include "experiments/bench/copy.h"

#include "experiments/bench/bench.h"
#include "experiments/bench/graphs.h"

#include <stdlib.h>

enum { WARM_UP = 3 };
static const size_t most_piece_bytes = 1ull << 30, host_piece_bytes = 1ull << 26;

typedef struct copies {
    int num_copiers, repeats;
    size_t share, piece; /* bytes of one copier */
    uint8_t *from[BENCH_MAX_RANKS], *to[BENCH_MAX_RANKS];
    double *span_us;
} copies;

/* Not of one value: what lies in `from` is the rank's random inputs, again and again. */
static void fill(bench_rank *r, uint8_t *to, size_t bytes)
{
    bench_values_fill(r->world->setup.seed + 5u, r->staging, r->staging_bytes / sizeof(uint16_t));
    for (size_t done = 0; done < bytes; done += r->staging_bytes) {
        size_t piece = bytes - done < r->staging_bytes ? bytes - done : r->staging_bytes;
        bench_ok(r->world, eep_copy_async(r->stream, to + done, r->staging, piece), "filling");
    }
    bench_finish(r);
}

static void copy_body(bench_rank *r, void *user)
{
    copies *c = user;
    const bool copies_here = r->index < c->num_copiers;
    eep_graph *graph =
        copies_here ? bench_capture_copy(r, c->to[r->index], c->from[r->index], c->share, c->piece)
                    : NULL;

    for (int i = -WARM_UP; i < c->repeats; i++) {
        uint64_t begin = UINT64_MAX, end = 0;
        bench_meet(r);
        if (copies_here) {
            bench_ok(r->world, eep_graph_replay(graph, r->stream), "replay of a copy");
            bench_finish(r);
            bench_fetch_stamps(r);
        }
        bench_meet(r);
        for (int j = 0; j < c->num_copiers && r->index == 0 && i >= 0; j++) {
            const uint64_t *at = r->world->rank[j].stamps_host;
            begin = at[0] < begin ? at[0] : begin;
            end = at[1] > end ? at[1] : end;
            c->span_us[i] = (double)(end - begin) / 1000.0;
        }
    }
    eep_graph_close(graph);
}

static int copiers_of(const bench_world *w)
{
    const int cores = bench_num_cores();

    return w->is_cuda ? 1 : cores < w->setup.num_ranks ? cores : w->setup.num_ranks;
}

static void *buffer(bench_world *w, size_t bytes)
{
    void *memory = NULL;

    bench_ok(w, eep_device_alloc(w->device, EEP_MEMORY_DEVICE, bytes, &memory), "memory to copy");
    return memory;
}

void bench_copy_times(bench_world *w, const double *bytes, double *us_out, int n, int repeats)
{
    copies c = {.num_copiers = copiers_of(w), .repeats = repeats};
    size_t most = 0;

    c.span_us = bench_doubles((size_t)repeats);
    c.piece = w->is_cuda ? most_piece_bytes : host_piece_bytes;
    for (int i = 0; i < n; i++) {
        most = bytes[i] / 2 / c.num_copiers > (double)most ? (size_t)(bytes[i] / 2 / c.num_copiers)
                                                           : most;
    }
    c.piece = most < c.piece ? (most + 127) / 128 * 128 : c.piece;
    for (int i = 0; i < c.num_copiers; i++) {
        c.from[i] = buffer(w, c.piece);
        c.to[i] = buffer(w, c.piece);
        fill(&w->rank[i], c.from[i], c.piece);
    }
    for (int i = 0; i < n; i++) {
        c.share = (size_t)(bytes[i] / 2 / c.num_copiers) / 16 * 16;
        c.share = c.share ? c.share : 16;
        bench_world_run(w, copy_body, &c);
        us_out[i] = bench_stats_of(c.span_us, (size_t)repeats).p50;
    }
    for (int i = 0; i < c.num_copiers; i++) {
        eep_device_free(w->device, EEP_MEMORY_DEVICE, c.from[i]);
        eep_device_free(w->device, EEP_MEMORY_DEVICE, c.to[i]);
    }
    free(c.span_us);
}
