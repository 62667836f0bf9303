/* SPDX-License-Identifier: Apache-2.0 */
/* In place of native.cu where there is no CUDA. */
#include "experiments/bench/native.h"

static const char why[] = "this eep-bench was built without CUDA (tools/gpu-check builds one with)";

const char *bench_native_load(int ordinal, char *name_out, size_t name_bytes,
                              uint32_t *num_multiprocessors_out)
{
    (void)ordinal;
    (void)name_out;
    (void)name_bytes;
    (void)num_multiprocessors_out;
    return why;
}

const char *bench_native_launch(void *native_stream, int id, uint32_t num_blocks,
                                uint32_t num_threads, const void *args)
{
    (void)native_stream;
    (void)id;
    (void)num_blocks;
    (void)num_threads;
    (void)args;
    return why;
}
