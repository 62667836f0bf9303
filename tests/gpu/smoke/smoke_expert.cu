/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA body of the GPU check's expert computation. */
#include "tests/gpu/smoke/smoke_expert.h"

#include <cuda_runtime.h>
#include <stdio.h>

extern "C" __global__ void smoke_expert_cuda(const __grid_constant__ smoke_expert_args args)
{
    smoke_expert_body(&args, eepk_here());
}

static const char *text_of(cudaError_t error)
{
    return error == cudaSuccess ? NULL : cudaGetErrorString(error);
}

const char *smoke_expert_load(int ordinal, char *name_out, size_t name_bytes)
{
    cudaFuncAttributes attributes;
    cudaDeviceProp properties;
    const char *why = text_of(cudaSetDevice(ordinal));

    if (!why)
        why = text_of(cudaFuncGetAttributes(&attributes, (const void *)smoke_expert_cuda));
    if (!why)
        why = text_of(cudaGetDeviceProperties(&properties, ordinal));
    if (!why)
        snprintf(name_out, name_bytes, "%s", properties.name);
    return why;
}

const char *smoke_expert_launch(void *native_stream, uint32_t num_blocks, uint32_t num_threads,
                                const smoke_expert_args *args)
{
    void *parameters[1] = {(void *)args};

    return text_of(cudaLaunchKernel((const void *)smoke_expert_cuda, dim3(num_blocks),
                                    dim3(num_threads), parameters, 0, (cudaStream_t)native_stream));
}
