/* SPDX-License-Identifier: Apache-2.0 */
/* libeep's own network between the job's processes, in the place of shared memory: TCP on the
 * loopback interface (transport/network). A world's ranks open one together. */
#ifndef BENCH_MPI_NETWORK_H
#define BENCH_MPI_NETWORK_H

#include "experiments/bench/world.h"

extern const bench_network mpi_network;
#endif
