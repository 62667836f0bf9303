/* SPDX-License-Identifier: Apache-2.0 */
/* Steps to which something happens: `flip` (a planned view goes live), `abort` (a rank hangs and
 * the others are told to give up). */
#include "experiments/bench/bench.h"
#include "experiments/bench/graphs.h"

#include <stdlib.h>
#include <unistd.h>

enum { WARM_UP = 5, FLIP_BAR_US = 20, FLIPS_FOR_BAR = 1000, WAITING_US = 3000 };

static void capture_body(bench_rank *r, void *user)
{
    (void)user;
    bench_capture_step(r, BENCH_ELASTIC);
}

static bench_world *open_world(const bench_run *run, const bench_setup *setup)
{
    bench_world *w = bench_world_open(run->device, run->is_cuda, setup);
    uint64_t wrong;

    bench_world_run(w, capture_body, NULL);
    wrong = bench_check_kinds(w).wrong;
    bench_report_check(run->report, "outputs_wrong", (double)wrong, wrong == 0);
    return w;
}

/* ------------------------------------------------------------------ flip */

typedef struct flips {
    int n;
    double *neighbours_us, *flipped_us, *difference_us; /* of all ranks: [num_ranks x n] */
} flips;

/* Staging is a service thread's work beside live steps: it ends before the steps that count. */
static void flip_body(bench_rank *r, void *user)
{
    flips *f = user;

    for (int i = 0; i < WARM_UP; i++) {
        (void)bench_step(r, BENCH_ELASTIC);
    }
    for (int i = 0; i < f->n; i++) {
        const size_t at = (size_t)r->index * (size_t)f->n + (size_t)i;
        double before, flipped, after;
        eepi_view *view;
        uint64_t begin;

        bench_stage_next(r, &view);
        bench_meet(r);
        (void)bench_step(r, BENCH_ELASTIC);
        before = (double)bench_step(r, BENCH_ELASTIC) / 1000.0;
        begin = eepk_now_ns();
        bench_flip(r, view);
        (void)bench_step(r, BENCH_ELASTIC);
        flipped = (double)(eepk_now_ns() - begin) / 1000.0;
        after = (double)bench_step(r, BENCH_ELASTIC) / 1000.0;
        f->neighbours_us[at] = (before + after) / 2.0;
        f->flipped_us[at] = flipped;
        f->difference_us[at] = flipped - (before + after) / 2.0;
    }
}

void bench_flips(const bench_run *run)
{
    const bench_defaults on_cuda = {8, 8, 1000, {{128}, 1}};
    const bench_defaults on_host = {2, 4, 150, {{16}, 1}};
    const bench_defaults with = bench_defaults_of(run, &on_cuda, &on_host);

    for (int i = 0; i < with.tokens.n; i++) {
        bench_setup setup = bench_setup_of(run, &with, with.tokens.value[i]);
        const size_t n = (size_t)setup.num_ranks * (size_t)with.repeats;
        flips f = {with.repeats, bench_doubles(n), bench_doubles(n), bench_doubles(n)};
        bench_world *w;
        bench_stats s;

        setup.pin = !run->is_cuda && setup.num_ranks <= bench_num_cores();
        bench_begin(run, "flip", &setup);
        w = open_world(run, &setup);
        bench_world_run(w, flip_body, &f);
        s = bench_stats_of(f.neighbours_us, n);
        bench_report_stats(run->report, "neighbour_step", "us", &s, BENCH_NO_BAR);
        s = bench_stats_of(f.flipped_us, n);
        bench_report_stats(run->report, "flipping_step", "us", &s, BENCH_NO_BAR);
        s = bench_stats_of(f.difference_us, n);
        bench_report_stats(run->report, "difference", "us", &s,
                           !run->is_cuda || with.repeats < FLIPS_FOR_BAR ? BENCH_NO_BAR
                           : s.p99 <= FLIP_BAR_US                        ? BENCH_MET
                                                                         : BENCH_MISSED);
        free(f.neighbours_us);
        free(f.flipped_us);
        free(f.difference_us);
        bench_world_close(w);
    }
}

/* ------------------------------------------------------------------ abort */

typedef struct aborts {
    int n;
    double *us; /* [num_ranks - 1][n] */
} aborts;

/* The last rank does not take part in every second step; the others wait for it until their abort
 * words are set. The step after it is a good one. */
static void abort_body(bench_rank *r, void *user)
{
    aborts *a = user;
    const bool hangs = r->index == r->world->setup.num_ranks - 1;

    for (int i = 0; i < WARM_UP; i++) {
        (void)bench_step(r, BENCH_ELASTIC);
    }
    for (int i = 0; i < a->n; i++) {
        uint64_t begin;

        bench_meet(r);
        if (hangs) {
            r->step++; /* a number is not used twice */
        } else {
            bench_replay(r, BENCH_ELASTIC);
        }
        usleep(WAITING_US);
        bench_meet(r); /* everybody waits, or hangs */
        begin = eepk_now_ns();
        eepk_store_release(eepi_tables_abort_step(r->tables), r->step);
        if (!hangs) {
            bench_finish(r);
            a->us[(size_t)r->index * (size_t)a->n + (size_t)i] =
                (double)(eepk_now_ns() - begin) / 1000.0;
            bench_expect(r, EEPK_STEP_HOST_ABORT, EEPK_STEP_PEER_ABORT);
        }
        bench_meet(r);
        (void)bench_step(r, BENCH_ELASTIC);
    }
}

void bench_aborts(const bench_run *run)
{
    const bench_defaults on_cuda = {8, 58, 200, {{128}, 1}};
    const bench_defaults on_host = {2, 8, 100, {{16}, 1}};
    const bench_defaults with = bench_defaults_of(run, &on_cuda, &on_host);

    for (int i = 0; i < with.tokens.n; i++) {
        bench_setup setup = bench_setup_of(run, &with, with.tokens.value[i]);
        const size_t n = (size_t)(setup.num_ranks - 1) * (size_t)with.repeats;
        aborts a = {with.repeats, NULL};
        bench_world *w;
        bench_stats s;

        if (setup.num_ranks < 2) {
            bench_fatal("abort needs at least 2 ranks");
        }
        a.us = bench_doubles(n);
        bench_begin(run, "abort", &setup);
        w = open_world(run, &setup);
        bench_world_run(w, abort_body, &a);
        s = bench_stats_of(a.us, n);
        bench_report_stats(run->report, "abort_word_to_drained_graph", "us", &s, BENCH_NO_BAR);
        free(a.us);
        bench_world_close(w);
    }
}
