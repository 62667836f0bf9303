/* SPDX-License-Identifier: Apache-2.0 */
/* A job of mpirun in which each process is a rank of the benchmark, too: what the ranks share
 * beside MPI. mpi_none.c stands in for this and the rest of the folder where there is no MPI. */
#ifndef BENCH_MPI_JOB_H
#define BENCH_MPI_JOB_H

#include "experiments/bench/world.h"

enum { MPI_JOB_MAX_LAYERS = 64 };

/* When a rank began and ended each phase of a layer, CLOCK_MONOTONIC in nanoseconds. */
typedef struct mpi_job_times {
    uint64_t begin[2][MPI_JOB_MAX_LAYERS], end[2][MPI_JOB_MAX_LAYERS]; /* [0]: dispatch */
} mpi_job_times;

/* Memory of all processes. */
typedef struct mpi_job_shared {
    pthread_barrier_t barrier;
    uint64_t wrong[BENCH_MAX_RANKS];
    mpi_job_times times[BENCH_MAX_RANKS];
} mpi_job_shared;

typedef struct mpi_job {
    int rank, num_ranks;
    mpi_job_shared *shared;
    bench_peers peers;
} mpi_job;

/* All processes, MPI being initialised. Fatal on failure. */
void mpi_job_open(mpi_job *job);
/* All ranks meet. A futex: neither side's way of waiting is in it. */
void mpi_job_meet(const mpi_job *job);
#endif
