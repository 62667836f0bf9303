/* SPDX-License-Identifier: Apache-2.0 */
/* In the place of the benchmark's MPI side, where it is built without. */
#include "experiments/bench/mpi/mpi_bench.h"

const char *mpi_bench_missing(void)
{
    return "it was built without Open MPI: meson found no ompi-c.pc (Debian: libopenmpi-dev)";
}

int mpi_bench_run(const mpi_bench_options *options, int argc, char **argv)
{
    (void)options;
    (void)argc;
    (void)argv;
    return MPI_BENCH_FAILED;
}
