/* SPDX-License-Identifier: Apache-2.0 */
/* The __global__ bodies of libeep's kernels, for the CUDA backend's table. */
#ifndef EEPI_KERNELS_CUDA_H
#define EEPI_KERNELS_CUDA_H

#include "graphs/kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* In the order of eepi_kernel_id; `.host` is NULL, `.cuda` is the address of the __global__
 * function. Constant; any thread. */
extern const eep_kernel eepi_cuda_kernels[EEPI_NUM_KERNELS];

/* __global__ (uint64_t *step_ns): one thread finds the clock's step; UINT64_MAX: it stands still.
 */
extern const void *const eepi_cuda_clock_kernel;

#ifdef __cplusplus
}
#endif
#endif
