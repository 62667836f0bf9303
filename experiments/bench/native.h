/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that are the benchmark's own on a GPU: the fixed-membership baseline and the stamp. The
 * program launches them through its own CUDA runtime into the native stream, as an engine does with
 * its kernels. native.cu has them; native_none.c stands in where there is no nvcc. */
#ifndef BENCH_NATIVE_H
#define BENCH_NATIVE_H

#include "graphs/kernels/compiler_macros.h"
#include "experiments/bench/fixed/fixed.h"

typedef struct bench_stamp_args {
    uint64_t *to; /* device memory */
} bench_stamp_args;

/* When the nodes before it in the stream had ended: the device's clock, which all ranks on it
 * share, in nanoseconds. One thread. */
EEPK_FN void bench_stamp_body(const bench_stamp_args *a, eep_grid g)
{
    if (g.block == 0 && g.thread == 0) {
        *a->to = eepk_now_ns();
    }
}

/* The baseline's ids, then the stamp's. */
enum { BENCH_KERNEL_STAMP = EEPI_NUM_FIXED_KERNELS, BENCH_NUM_KERNELS };

#ifdef __cplusplus
extern "C" {
#endif

/* Load the CUDA kernels before any rank waits; write the device's name and how many
 * multiprocessors it has. NULL, or why not. Main thread. */
const char *bench_native_load(int ordinal, char *name_out, size_t name_bytes,
                              uint32_t *num_multiprocessors_out);
/* Put kernel `id` into a cudaStream_t. NULL, or why not. Capture-safe; any thread. */
const char *bench_native_launch(void *native_stream, int id, uint32_t num_blocks,
                                uint32_t num_threads, const void *args);

#ifdef __cplusplus
}
#endif
#endif
