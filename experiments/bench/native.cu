/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA bodies of the benchmark's own kernels. */
#include "experiments/bench/native.h"

#include "experiments/bench/fixed/fixed_kernels.h"

#include <cuda_runtime.h>
#include <stdio.h>

#define BENCH_CUDA_KERNEL(name, args_type)                                                         \
    extern "C" __global__ void bench_##name##_cuda(const __grid_constant__ args_type args)         \
    {                                                                                              \
        eepk_##name##_body(&args, eepk_here());                                                    \
    }
EEPK_FIXED_KERNEL_LIST(BENCH_CUDA_KERNEL)
#undef BENCH_CUDA_KERNEL

extern "C" __global__ void bench_stamp_cuda(const __grid_constant__ bench_stamp_args args)
{
    bench_stamp_body(&args, eepk_here());
}

static const void *const kernels[BENCH_NUM_KERNELS] = {
#define BENCH_KERNEL_ENTRY(name, args) (const void *)bench_##name##_cuda,
    EEPK_FIXED_KERNEL_LIST(BENCH_KERNEL_ENTRY)
#undef BENCH_KERNEL_ENTRY
        (const void *) bench_stamp_cuda,
};

static const char *text_of(cudaError_t error)
{
    return error == cudaSuccess ? NULL : cudaGetErrorString(error);
}

const char *bench_native_load(int ordinal, char *name_out, size_t name_bytes,
                              uint32_t *num_multiprocessors_out)
{
    cudaFuncAttributes attributes;
    cudaDeviceProp properties;
    const char *why = text_of(cudaSetDevice(ordinal));

    for (int id = 0; id < BENCH_NUM_KERNELS && !why; id++)
        why = text_of(cudaFuncGetAttributes(&attributes, kernels[id]));
    if (!why)
        why = text_of(cudaGetDeviceProperties(&properties, ordinal));
    if (!why) {
        snprintf(name_out, name_bytes, "%s", properties.name);
        *num_multiprocessors_out = (uint32_t)properties.multiProcessorCount;
    }
    return why;
}

const char *bench_native_launch(void *native_stream, int id, uint32_t num_blocks,
                                uint32_t num_threads, const void *args)
{
    void *parameters[1] = {(void *)args};

    return text_of(cudaLaunchKernel(kernels[id], dim3(num_blocks), dim3(num_threads), parameters, 0,
                                    (cudaStream_t)native_stream));
}
