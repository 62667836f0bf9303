/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch and combine, each timed alone, beside a copy of as many bytes: `exchange`, `deepep`. */
#include "experiments/bench/bench.h"
#include "experiments/bench/copy.h"
#include "experiments/bench/graphs.h"

#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 3, BAR_PERCENT = 80, BAR_TOKENS = 2048 };

typedef enum part { DISPATCH, COMBINE, NUM_PARTS } part;

typedef struct times {
    double *rank_us; /* each rank's, from its own begin to its own end */
    double *span_us; /* from the first rank's begin to the last one's end */
    size_t num_rank, num_span;
} times;

typedef struct exchange {
    bench_world *w;
    int replays;
    times part[NUM_PARTS];
    double *node_us[BENCH_STAMPS_PER_LAYER]; /* [i]: from stamp i - 1 to stamp i */
    size_t num_nodes;
    double *step_us; /* rank 0's, by the host's clock */
} exchange;

static const uint64_t *stamps_of(const bench_world *w, int rank, int layer)
{
    return w->rank[rank].stamps_host + (size_t)layer * BENCH_STAMPS_PER_LAYER;
}

static void gather_part(exchange *e, part p, int layer)
{
    const int from = p == DISPATCH ? 0 : BENCH_AFTER_UNPACK;
    const int to = p == DISPATCH ? BENCH_AFTER_UNPACK : BENCH_AFTER_REDUCE;
    uint64_t begin = UINT64_MAX, end = 0;
    times *t = &e->part[p];

    for (int rank = 0; rank < e->w->setup.num_ranks; rank++) {
        const uint64_t *at = stamps_of(e->w, rank, layer);
        begin = at[from] < begin ? at[from] : begin;
        end = at[to] > end ? at[to] : end;
        t->rank_us[t->num_rank++] = (double)(at[to] - at[from]) / 1000.0;
    }
    t->span_us[t->num_span++] = (double)(end - begin) / 1000.0;
}

/* The first layer is left out: there, ranks are as far apart as their replays were. In the others
 * the exchange before has just brought them together. */
static void gather(exchange *e)
{
    for (int layer = 1; layer < e->w->setup.num_layers; layer++) {
        gather_part(e, DISPATCH, layer);
        gather_part(e, COMBINE, layer);
        if (e->w->setup.stamps != BENCH_STAMP_NODES) {
            continue;
        }
        for (int rank = 0; rank < e->w->setup.num_ranks; rank++) {
            const uint64_t *at = stamps_of(e->w, rank, layer);
            for (int i = 1; i < BENCH_STAMPS_PER_LAYER; i++) {
                e->node_us[i][e->num_nodes] = (double)(at[i] - at[i - 1]) / 1000.0;
            }
            e->num_nodes++;
        }
    }
}

static void replay_body(bench_rank *r, void *user)
{
    exchange *e = user;

    for (int i = 0; i < WARM_UP; i++) {
        (void)bench_step(r, BENCH_ELASTIC);
    }
    for (int i = 0; i < e->replays; i++) {
        uint64_t ns;
        bench_meet(r);
        ns = bench_step(r, BENCH_ELASTIC);
        bench_fetch_stamps(r);
        bench_meet(r);
        if (r->index != 0) {
            continue;
        }
        e->step_us[i] = (double)ns / 1000.0;
        gather(e);
    }
}

static void capture_body(bench_rank *r, void *user)
{
    (void)user;
    bench_capture_step(r, BENCH_ELASTIC);
}

/* ------------------------------------------------------------------ reports */

static void report_nodes(const bench_run *run, exchange *e)
{
    static const char *const names[BENCH_STAMPS_PER_LAYER] = {"",
                                                              "node_route",
                                                              "node_dispatch_send",
                                                              "node_dispatch_exchange",
                                                              "node_unpack",
                                                              "node_combine_send",
                                                              "node_combine_exchange",
                                                              "node_reduce"};

    for (int i = 1; i < BENCH_STAMPS_PER_LAYER && e->num_nodes; i++) {
        bench_stats s = bench_stats_of(e->node_us[i], e->num_nodes);
        bench_report_stats(run->report, names[i], "us", &s, BENCH_NO_BAR);
    }
}

/* Beside a copy of the bytes: the share of its speed that a part of a layer reaches. */
static void report_share(const bench_run *run, const char *metric, double bytes, double copy_us,
                         double span_us)
{
    char name[64];

    snprintf(name, sizeof name, "%s_bytes", metric);
    bench_report_value(run->report, name, "bytes", bytes);
    snprintf(name, sizeof name, "%s_copy", metric);
    bench_report_value(run->report, name, "us", copy_us);
    snprintf(name, sizeof name, "%s_share", metric);
    bench_report_value(run->report, name, "percent", 100.0 * copy_us / span_us);
}

static void report_copies(const bench_run *run, exchange *e, double dispatch_us, double combine_us)
{
    const bench_bytes *b = &e->w->bytes;
    const double bytes[] = {b->dispatch_path, b->combine_path, b->dispatch_least, b->combine_least};
    double us[4], share;
    bench_stats both = {.n = 1};
    bool has_bar;

    bench_copy_times(e->w, bytes, us, 4, e->replays);
    report_share(run, "dispatch_path", bytes[0], us[0], dispatch_us);
    report_share(run, "combine_path", bytes[1], us[1], combine_us);
    report_share(run, "dispatch_least", bytes[2], us[2], dispatch_us);
    report_share(run, "combine_least", bytes[3], us[3], combine_us);
    share = 100.0 * (us[0] + us[1]) / (dispatch_us + combine_us);
    both.p50 = both.p99 = both.min = both.max = both.low = both.high = share;
    has_bar = run->is_cuda && e->w->setup.num_tokens >= BAR_TOKENS &&
              e->w->setup.num_blocks >= run->num_multiprocessors;
    bench_report_stats(run->report, "both_path_share", "percent", &both,
                       !has_bar               ? BENCH_NO_BAR
                       : share >= BAR_PERCENT ? BENCH_MET
                                              : BENCH_MISSED);
}

static void report(const bench_run *run, exchange *e)
{
    static const char *const names[NUM_PARTS][2] = {{"dispatch", "dispatch_span"},
                                                    {"combine", "combine_span"}};
    bench_stats span[NUM_PARTS], s;

    for (int p = 0; p < NUM_PARTS; p++) {
        s = bench_stats_of(e->part[p].rank_us, e->part[p].num_rank);
        bench_report_stats(run->report, names[p][0], "us", &s, BENCH_NO_BAR);
        span[p] = bench_stats_of(e->part[p].span_us, e->part[p].num_span);
        bench_report_stats(run->report, names[p][1], "us", &span[p], BENCH_NO_BAR);
    }
    s = bench_stats_of(e->step_us, (size_t)e->replays);
    bench_report_stats(run->report, "step", "us", &s, BENCH_NO_BAR);
    report_nodes(run, e);
    report_copies(run, e, span[DISPATCH].p50, span[COMBINE].p50);
}

/* ------------------------------------------------------------------ one configuration */

static void exchange_open(exchange *e, bench_world *w, int replays)
{
    const size_t layers = (size_t)(w->setup.num_layers - 1) * (size_t)replays;
    const size_t ranks = (size_t)w->setup.num_ranks;

    memset(e, 0, sizeof *e);
    e->w = w;
    e->replays = replays;
    e->step_us = bench_doubles((size_t)replays);
    for (int p = 0; p < NUM_PARTS; p++) {
        e->part[p].rank_us = bench_doubles(layers * ranks);
        e->part[p].span_us = bench_doubles(layers);
    }
    for (int i = 0; i < BENCH_STAMPS_PER_LAYER; i++) {
        e->node_us[i] = bench_doubles(layers * ranks);
    }
}

static void exchange_close(exchange *e)
{
    free(e->step_us);
    for (int p = 0; p < NUM_PARTS; p++) {
        free(e->part[p].rank_us);
        free(e->part[p].span_us);
    }
    for (int i = 0; i < BENCH_STAMPS_PER_LAYER; i++) {
        free(e->node_us[i]);
    }
}

static void run_one(const bench_run *run, const char *case_name, const bench_setup *setup,
                    int replays)
{
    bench_world *w;
    uint64_t wrong;
    exchange e;

    bench_begin(run, case_name, setup);
    w = bench_world_open(run->device, run->is_cuda, setup);
    bench_world_run(w, capture_body, NULL);
    wrong = bench_check_kinds(w).wrong;
    bench_report_check(run->report, "outputs_wrong", (double)wrong, wrong == 0);
    exchange_open(&e, w, replays);
    bench_world_run(w, replay_body, &e);
    report(run, &e);
    exchange_close(&e);
    bench_world_close(w);
}

static void run_all(const bench_run *run, const char *case_name, const bench_defaults *with)
{
    const bench_list blocks = bench_blocks_of(run);

    for (int i = 0; i < with->tokens.n; i++) {
        for (int fp8 = 0; fp8 < 2; fp8++) {
            for (int b = 0; b < blocks.n && bench_wants(run, fp8 ? "fp8" : "bf16"); b++) {
                bench_setup setup = bench_setup_of(run, with, with->tokens.value[i]);
                setup.fp8 = fp8;
                setup.num_blocks = (uint32_t)blocks.value[b];
                setup.stamps = run->options->nodes ? BENCH_STAMP_NODES : BENCH_STAMP_PHASES;
                if (setup.num_layers < 2) {
                    bench_fatal("%s needs at least 2 layers", case_name);
                }
                run_one(run, case_name, &setup, with->repeats);
            }
        }
    }
}

void bench_exchange(const bench_run *run)
{
    const bench_defaults on_cuda = {8, 8, 20, {{1, 8, 16, 64, 128, 512, 2048, 4096}, 8}};
    const bench_defaults on_host = {8, 4, 4, {{1, 8}, 2}};
    const bench_defaults with = bench_defaults_of(run, &on_cuda, &on_host);

    run_all(run, "exchange", &with);
}

/* The shape that DeepEP publishes low-latency figures for. */
void bench_deepep(const bench_run *run)
{
    const bench_defaults on_cuda = {8, 16, 40, {{128}, 1}};
    const bench_defaults on_host = {8, 2, 2, {{128}, 1}};
    const bench_defaults with = bench_defaults_of(run, &on_cuda, &on_host);

    run_all(run, "deepep", &with);
}
