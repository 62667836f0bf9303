/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA bodies of the probes' kernels. */
#include "tests/gpu/probe/probe_kernels.h"

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
PROBE_TWIN(fence)
PROBE_TWIN(load)
PROBE_TWIN(pass)
PROBE_TWIN(stamp)

/* In the order of probe_kernel_id. */
static const void *const bodies[PROBE_NUM_KERNELS] = {
    (const void *)probe_store_cuda, (const void *)probe_fill_cuda, (const void *)probe_count_cuda,
    (const void *)probe_ring_cuda, (const void *)probe_gaps_cuda,  (const void *)probe_fence_cuda,
    (const void *)probe_load_cuda, (const void *)probe_pass_cuda,  (const void *)probe_stamp_cuda};

/* The next node may begin when all threads are here; this one touches nothing before those in front
 * of it have ended. */
extern "C" __global__ void probe_stamp_early_cuda(const __grid_constant__ probe_stamp_args args)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
    probe_stamp_body(&args, eepk_here());
}

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
        why = text_of(cudaFuncGetAttributes(&attributes, bodies[id]));
    if (!why)
        why = text_of(cudaFuncGetAttributes(&attributes, (const void *)probe_stamp_early_cuda));
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

    return text_of(cudaLaunchKernel(bodies[id], dim3(1), dim3(num_threads), parameters, 0,
                                    (cudaStream_t)native_stream));
}

const char *probe_stamp_launch_early(void *native_stream, uint32_t num_threads,
                                     const probe_stamp_args *args)
{
    void *parameters[1] = {(void *)args};
    cudaLaunchAttribute attribute = {};
    cudaLaunchConfig_t config = {};

    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3(1);
    config.blockDim = dim3(num_threads);
    config.stream = (cudaStream_t)native_stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return text_of(
        cudaLaunchKernelExC(&config, (const void *)probe_stamp_early_cuda, parameters));
}

const char *probe_call_take(int call, void *native_stream, size_t bytes, void **thing_out)
{
    switch (call) {
    case PROBE_CALL_MALLOC:
        return text_of(cudaMalloc(thing_out, bytes));
    case PROBE_CALL_HOST_ALLOC:
        return text_of(
            cudaHostAlloc(thing_out, bytes, cudaHostAllocMapped | cudaHostAllocPortable));
    case PROBE_CALL_MALLOC_ASYNC:
        return text_of(cudaMallocAsync(thing_out, bytes, (cudaStream_t)native_stream));
    default:
        return text_of(
            cudaStreamCreateWithFlags((cudaStream_t *)thing_out, cudaStreamNonBlocking));
    }
}

const char *probe_call_give(int call, void *native_stream, void *thing)
{
    switch (call) {
    case PROBE_CALL_MALLOC:
        return text_of(cudaFree(thing));
    case PROBE_CALL_HOST_ALLOC:
        return text_of(cudaFreeHost(thing));
    case PROBE_CALL_MALLOC_ASYNC:
        return text_of(cudaFreeAsync(thing, (cudaStream_t)native_stream));
    default:
        return text_of(cudaStreamDestroy((cudaStream_t)thing));
    }
}
