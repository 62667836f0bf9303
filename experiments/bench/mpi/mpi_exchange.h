/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch and combine of a layer as a program with MPI alone writes them: route, pack, one
 * MPI_Alltoallv, unpack; pack, one MPI_Alltoallv, weighted sum. A token's row goes once to each
 * rank that has one of its experts, with the list of its pairs behind it. The sum is libeep's loop,
 * in the same order, so the outputs are the same to the bit. */
#ifndef BENCH_MPI_EXCHANGE_H
#define BENCH_MPI_EXCHANGE_H

#include "experiments/bench/world.h"

typedef struct mpi_exchange mpi_exchange;

/* On a rank's inputs and placement. `is_huge`: rows lie in huge pages. Fatal without memory. */
mpi_exchange *mpi_exchange_open(const bench_rank *rank, bool is_huge);
void mpi_exchange_close(mpi_exchange *exchange);

/* Collective calls of all ranks, in the order of a step's layers. */
void mpi_exchange_dispatch(mpi_exchange *exchange, uint32_t layer);
/* Experts give back what they got. */
void mpi_exchange_combine(mpi_exchange *exchange, uint32_t layer);
/* Outputs of the last combine, [num_tokens, hidden] in BF16. */
const uint16_t *mpi_exchange_out(const mpi_exchange *exchange);
#endif
