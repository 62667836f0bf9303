/* SPDX-License-Identifier: Apache-2.0 */
/* The benchmark's options and cases. What each measures, and how: docs/BENCH.md. */
#ifndef BENCH_H
#define BENCH_H

#include "experiments/base/args.h"
#include "experiments/bench/report.h"
#include "experiments/bench/world.h"

enum { BENCH_MAX_LIST = 16 };

typedef struct bench_list {
    int value[BENCH_MAX_LIST], n;
} bench_list;

typedef struct bench_options { /* 0, or an empty list: the case's default on the device */
    const char *device, *csv, *commit, *driver;
    int ranks, layers, hidden, experts, topk, repeats;
    bench_list tokens, blocks;
    const char *dtype; /* "bf16", "fp8"; NULL: both where a case does both */
    bool nodes;        /* stamp every node */
    bool quick;        /* tiny; shows that it works, measures nothing */
    bool append;       /* rows go behind those that the file has */
    uint32_t cases;    /* bit i: eep_bench.c's case i is run */
    args_given given;
} bench_options;

typedef struct bench_run {
    eep_device *device;
    bool is_cuda;
    uint32_t num_multiprocessors; /* 0 on the host */
    const bench_options *options;
    bench_report *report;
} bench_run;

/* A case's own defaults; options override them. */
typedef struct bench_defaults {
    int ranks, layers, repeats;
    bench_list tokens;
} bench_defaults;

/* The one for this device, with the options that were given, and tiny with --quick. */
bench_defaults bench_defaults_of(const bench_run *run, const bench_defaults *on_cuda,
                                 const bench_defaults *on_host);
/* The setup that these give with `num_tokens` tokens per rank; grids as eep_dispatch has them. */
bench_setup bench_setup_of(const bench_run *run, const bench_defaults *with, int num_tokens);
/* The blocks that a case is to try: those asked for, or the default and one per multiprocessor. */
bench_list bench_blocks_of(const bench_run *run);
/* Is this data type ("bf16", "fp8") wanted? */
bool bench_wants(const bench_run *run, const char *dtype);
/* "ranks 8; layers 58; ..." of a setup, as the second key of rows. */
void bench_begin(const bench_run *run, const char *case_name, const bench_setup *setup);
/* Cores that this process may use. */
int bench_num_cores(void);
/* [n] of doubles; fatal without memory. free(). */
double *bench_doubles(size_t n);

/* Untimed steps with poisoned outputs, of every kind that is captured. Main thread. */
typedef struct bench_checked {
    uint64_t wrong;     /* outputs that were not written, or not right (bench_check_step) */
    uint64_t differing; /* ranks on which elastic step and baseline have different outputs */
} bench_checked;
bench_checked bench_check_kinds(bench_world *world);

void bench_exchange(const bench_run *run);
void bench_deepep(const bench_run *run);
void bench_overhead(const bench_run *run);
void bench_forms(const bench_run *run);
void bench_chunks(const bench_run *run);
void bench_flips(const bench_run *run);
void bench_aborts(const bench_run *run);
void bench_memory(const bench_run *run);
#endif
