/* SPDX-License-Identifier: Apache-2.0 */
/* Options of eep-bench-mpi, and what a rank of a job does with them. */
#ifndef BENCH_MPI_BENCH_H
#define BENCH_MPI_BENCH_H

#include "experiments/base/args.h"

#include <stdbool.h>

typedef struct mpi_bench_options {
    const char *csv, *commit;
    int ranks, blocks, steps, layers, tokens, hidden, experts, topk;
    bool quick, append, mpi_huge, network, ucx;
    args_given given;
} mpi_bench_options;

enum { MPI_BENCH_FAILED = 1, MPI_BENCH_MISSED = 3 };

/* NULL, or what this build lacks. */
const char *mpi_bench_missing(void);
/* In a job of mpirun: measure. 0, or MPI_BENCH_*; the same on all ranks. */
int mpi_bench_run(const mpi_bench_options *options, int argc, char **argv);
#endif
