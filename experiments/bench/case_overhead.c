/* SPDX-License-Identifier: Apache-2.0 */
/* Two kinds of a step that nothing happens to, each twice, interleaved: what elasticity costs
 * against the baseline, padded rows against packed ones, chunks against one exchange. Both twice,
 * since whoever runs more often finds its code and data warmer. */
#include "experiments/bench/bench.h"
#include "experiments/bench/graphs.h"

#include <stdlib.h>

enum { WARM_UP = 5, NUM_SIDES = 4, HOST_BLOCKS_FOR_BAR = 30, CUDA_BLOCKS_FOR_BAR = 300 };
enum { NUM_CHUNKS = 8 };
enum { NEW, BASE, NEW_AGAIN, BASE_AGAIN };

/* What is compared with what. */
typedef struct pairing {
    const char *case_name;
    bench_kind kind_of_side[NUM_SIDES];
    const char *names[NUM_SIDES];
    const char *same_ratio, *same_half_width, *ratio;
    bool has_bar;
} pairing;
static const pairing against_fixed = {
    "overhead",
    {BENCH_ELASTIC, BENCH_FIXED, BENCH_ELASTIC, BENCH_FIXED},
    {"elastic_step", "fixed_step", "elastic_step_again", "fixed_step_again"},
    "fixed_again_over_fixed",
    "fixed_again_half_width",
    "elastic_over_fixed",
    true};
static const pairing against_packed = {
    "forms",
    {BENCH_PADDED, BENCH_ELASTIC, BENCH_PADDED, BENCH_ELASTIC},
    {"padded_step", "packed_step", "padded_step_again", "packed_step_again"},
    "packed_again_over_packed",
    "packed_again_half_width",
    "padded_over_packed",
    false};
static const pairing against_whole = {
    "chunks",
    {BENCH_CHUNKED, BENCH_ELASTIC, BENCH_CHUNKED, BENCH_ELASTIC},
    {"chunked_step", "whole_step", "chunked_step_again", "whole_step_again"},
    "whole_again_over_whole",
    "whole_again_half_width",
    "chunked_over_whole",
    false};
/* Each side stands at each place, and right behind each other one, once (Williams 1949). */
static const int orders[NUM_SIDES][NUM_SIDES] = {
    {0, 1, 3, 2}, {1, 2, 0, 3}, {2, 3, 1, 0}, {3, 0, 2, 1}};
static const double bar = 0.01;

typedef struct overhead {
    const pairing *pair;
    int num_blocks, steps_per_block;
    double
        *rank_block_us[BENCH_MAX_RANKS][NUM_SIDES]; /* [num_blocks]: medians of a block's steps */
    double *step_us[NUM_SIDES];                     /* rank 0's: [num_blocks x steps] */
} overhead;

static void capture_body(bench_rank *r, void *user)
{
    const pairing *pair = user;

    bench_capture_step(r, pair->kind_of_side[NEW]);
    bench_capture_step(r, pair->kind_of_side[BASE]);
}

/* Each step of a side stands beside one of each other side, so that what disturbs the machine
 * disturbs all of them. */
static void overhead_body(bench_rank *r, void *user)
{
    overhead *o = user;
    const size_t steps = (size_t)o->steps_per_block;
    double *us[NUM_SIDES];
    int turn = 0;

    for (int side = 0; side < NUM_SIDES; side++) {
        us[side] = bench_doubles(steps);
    }
    for (int i = 0; i < WARM_UP * NUM_SIDES; i++) {
        (void)bench_step(r, o->pair->kind_of_side[i % NUM_SIDES]);
    }
    for (int block = 0; block < o->num_blocks; block++) {
        bench_meet(r);
        for (size_t step = 0; step < steps; step++, turn++) {
            for (int i = 0; i < NUM_SIDES; i++) {
                const int side = orders[turn % NUM_SIDES][i];
                us[side][step] = (double)bench_step(r, o->pair->kind_of_side[side]) / 1000.0;
                if (r->index == 0) {
                    o->step_us[side][(size_t)block * steps + step] = us[side][step];
                }
            }
        }
        for (int side = 0; side < NUM_SIDES; side++) {
            o->rank_block_us[r->index][side][block] = bench_stats_of(us[side], steps).p50;
        }
    }
    for (int side = 0; side < NUM_SIDES; side++) {
        free(us[side]);
    }
}

/* ------------------------------------------------------------------ reports */

/* A block's time: the mean over the ranks of each rank's median step. */
static void join_ranks(const overhead *o, int num_ranks, int side, double *block_us_out)
{
    for (int block = 0; block < o->num_blocks; block++) {
        double sum = 0;
        for (int rank = 0; rank < num_ranks; rank++) {
            sum += o->rank_block_us[rank][side][block];
        }
        block_us_out[block] = sum / num_ranks;
    }
}

static bench_verdict verdict_of(const bench_run *run, const bench_world *w, const bench_ratio *r)
{
    const size_t enough = run->is_cuda ? CUDA_BLOCKS_FOR_BAR : HOST_BLOCKS_FOR_BAR;
    const double limit = 1.0 + bar + (run->is_cuda ? 0.0 : r->same_half_width);

    if (r->n < enough || !(run->is_cuda || w->setup.pin)) {
        return BENCH_NO_BAR;
    }
    return r->high <= limit ? BENCH_MET : BENCH_MISSED;
}

static void report(const bench_run *run, const bench_world *w, overhead *o)
{
    const pairing *pair = o->pair;
    const size_t n = (size_t)o->num_blocks;
    double *block_us[NUM_SIDES], *scratch = bench_doubles(n);
    bench_ratio r;

    for (int side = 0; side < NUM_SIDES; side++) {
        bench_stats s = bench_stats_of(o->step_us[side], n * (size_t)o->steps_per_block);
        bench_report_stats(run->report, pair->names[side], "us", &s, BENCH_NO_BAR);
        block_us[side] = bench_doubles(n);
        join_ranks(o, w->setup.num_ranks, side, block_us[side]);
    }
    r = bench_ratio_of(block_us[NEW], block_us[NEW_AGAIN], block_us[BASE], block_us[BASE_AGAIN], n,
                       scratch);
    bench_report_ratio(run->report, pair->same_ratio, r.n, r.same, r.same_low, r.same_high,
                       BENCH_NO_BAR);
    bench_report_value(run->report, pair->same_half_width, "ratio", r.same_half_width);
    bench_report_ratio(run->report, pair->ratio, r.n, r.estimate, r.low, r.high,
                       pair->has_bar ? verdict_of(run, w, &r) : BENCH_NO_BAR);
    for (int side = 0; side < NUM_SIDES; side++) {
        free(block_us[side]);
    }
    free(scratch);
}

/* ------------------------------------------------------------------ the case */

static void run_one(const bench_run *run, const pairing *pair, const bench_setup *setup,
                    int num_blocks)
{
    overhead o = {.pair = pair,
                  .num_blocks = num_blocks,
                  .steps_per_block = run->is_cuda || setup->num_chunks ? 1 : 10};
    const size_t steps = (size_t)num_blocks * (size_t)o.steps_per_block;
    bench_checked checked;
    bench_world *w;

    bench_begin(run, pair->case_name, setup);
    w = bench_world_open(run->device, run->is_cuda, setup);
    for (int side = 0; side < NUM_SIDES; side++) {
        o.step_us[side] = bench_doubles(steps);
        for (int rank = 0; rank < setup->num_ranks; rank++) {
            o.rank_block_us[rank][side] = bench_doubles((size_t)num_blocks);
        }
    }
    bench_world_run(w, capture_body, (void *)(uintptr_t)pair);
    checked = bench_check_kinds(w);
    bench_report_check(run->report, "outputs_wrong", (double)checked.wrong, checked.wrong == 0);
    bench_report_check(run->report, "ranks_whose_outputs_differ", (double)checked.differing,
                       checked.differing == 0);
    bench_world_run(w, overhead_body, &o);
    report(run, w, &o);
    for (int side = 0; side < NUM_SIDES; side++) {
        free(o.step_us[side]);
        for (int rank = 0; rank < setup->num_ranks; rank++) {
            free(o.rank_block_us[rank][side]);
        }
    }
    bench_world_close(w);
}

void bench_overhead(const bench_run *run)
{
    const bench_defaults on_cuda = {8, 58, 400, {{128, 16}, 2}};
    const bench_defaults on_host = {2, 8, 30, {{16, 1}, 2}};
    const bench_defaults with = bench_defaults_of(run, &on_cuda, &on_host);

    for (int i = 0; i < with.tokens.n; i++) {
        for (int fp8 = 0; fp8 < 2; fp8++) {
            bench_setup setup = bench_setup_of(run, &with, with.tokens.value[i]);
            setup.fp8 = fp8;
            setup.pin = !run->is_cuda && setup.num_ranks <= (int)bench_num_cores();
            if (bench_wants(run, fp8 ? "fp8" : "bf16")) {
                run_one(run, &against_fixed, &setup, with.repeats);
            }
        }
    }
}

void bench_forms(const bench_run *run)
{
    const bench_defaults on_cuda = {8, 8, 400, {{128}, 1}};
    const bench_defaults on_host = {8, 1, 12, {{128}, 1}};
    const bench_defaults with = bench_defaults_of(run, &on_cuda, &on_host);

    for (int i = 0; i < with.tokens.n && bench_wants(run, "bf16"); i++) {
        bench_setup setup = bench_setup_of(run, &with, with.tokens.value[i]);
        setup.pads = true;
        setup.pin = !run->is_cuda && setup.num_ranks <= (int)bench_num_cores();
        run_one(run, &against_packed, &setup, with.repeats);
    }
}

/* A prefill in chunks against one exchange of all its tokens, in windows that have room for that.
 */
void bench_chunks(const bench_run *run)
{
    const bench_defaults on_cuda = {8, 8, 100, {{4096}, 1}};
    const bench_defaults on_host = {2, 2, 12, {{4096}, 1}};
    const bench_defaults with = bench_defaults_of(run, &on_cuda, &on_host);

    for (int i = 0; i < with.tokens.n && bench_wants(run, "bf16"); i++) {
        bench_setup setup = bench_setup_of(run, &with, with.tokens.value[i]);
        setup.num_chunks = with.tokens.value[i] < NUM_CHUNKS ? 1 : NUM_CHUNKS;
        setup.pin = !run->is_cuda && setup.num_ranks <= (int)bench_num_cores();
        run_one(run, &against_whole, &setup, with.repeats);
    }
}
