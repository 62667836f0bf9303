/* The CUDA twins of the probes' kernels. */
#include "graphs/cuda/probe_kernels.h"

#include <cuda_runtime.h>
#include <stdio.h>

#define PROBE_TWIN(name)                                                                           \
    extern "C" __global__ void probe_##name##_cuda(                                                \
        const __grid_constant__ probe_##name##_args args)                                          \
    {                                                                                              \
        probe_##name##_body(&args, eepk_here());                                                        \
    }
PROBE_TWIN(store)
PROBE_TWIN(fill)
PROBE_TWIN(count)
PROBE_TWIN(ring)
PROBE_TWIN(gaps)

/* In the order of probe_kernel_id. */
static const void *const twins[PROBE_NUM_KERNELS] = {
    (const void *)probe_store_cuda, (const void *)probe_fill_cuda, (const void *)probe_count_cuda,
    (const void *)probe_ring_cuda, (const void *)probe_gaps_cuda};

static const char *text_of(cudaError_t error)
{
    return error == cudaSuccess ? NULL : cudaGetErrorString(error);
}

const char *probe_kernels_load(int ordinal, char *name_out, size_t name_bytes)
{
    cudaFuncAttributes attributes;
    cudaDeviceProp properties;
    const char *why = text_of(cudaSetDevice(ordinal));

    for (int id = 0; id < PROBE_NUM_KERNELS && !why; id++)
        why = text_of(cudaFuncGetAttributes(&attributes, twins[id]));
    if (!why)
        why = text_of(cudaGetDeviceProperties(&properties, ordinal));
    if (!why)
        snprintf(name_out, name_bytes, "%s", properties.name);
    return why;
}

const char *probe_kernel_launch(void *native_stream, probe_kernel_id id, uint32_t num_threads,
                                const void *args)
{
    void *parameters[1] = {(void *)args};

    return text_of(cudaLaunchKernel(twins[id], dim3(1), dim3(num_threads), parameters, 0,
                                    (cudaStream_t)native_stream));
}
