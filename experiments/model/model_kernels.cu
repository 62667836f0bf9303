/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA forms of the driver's kernels: the same bodies, compiled for the GPU, and the plugin that
 * launches them (experiments/model/model_plugin.h). */
#include "experiments/model/model_bodies.h"
#include "experiments/model/model_plugin.h"

#include <cuda_runtime.h>

#define CUDA_KERNEL(of, name, args_type)                                                           \
    extern "C" __global__ void of##_##name##_cuda(const __grid_constant__ args_type args)          \
    {                                                                                              \
        of##_##name##_body(&args, eepk_here());                                                    \
    }
#define MODEL_CUDA_KERNEL(name, args_type) CUDA_KERNEL(model, name, args_type)
#define FAULT_CUDA_KERNEL(name, args_type) CUDA_KERNEL(fault, name, args_type)
MODEL_KERNEL_LIST(MODEL_CUDA_KERNEL)
FAULT_KERNEL_LIST(FAULT_CUDA_KERNEL)

static const void *const kernels[MODEL_PLUGIN_NUM_KERNELS] = {
#define MODEL_ENTRY(name, args) (const void *)model_##name##_cuda,
#define FAULT_ENTRY(name, args) (const void *)fault_##name##_cuda,
    MODEL_KERNEL_LIST(MODEL_ENTRY) FAULT_KERNEL_LIST(FAULT_ENTRY)};

static const char *text_of(cudaError_t error)
{
    return error == cudaSuccess ? NULL : cudaGetErrorString(error);
}

/* A new thread's current device is 0. Not set where it is right: capturing threads come here. */
static const char *use_device(int ordinal)
{
    int current = -1;
    const char *why = text_of(cudaGetDevice(&current));

    return why || current == ordinal ? why : text_of(cudaSetDevice(ordinal));
}

/* Asking for the attributes loads a kernel and finds out whether there is code for this device. */
static const char *load(int ordinal)
{
    cudaFuncAttributes attributes;
    const char *why = text_of(cudaSetDevice(ordinal));

    for (int id = 0; id < MODEL_PLUGIN_NUM_KERNELS && !why; id++)
        why = text_of(cudaFuncGetAttributes(&attributes, kernels[id]));
    return why;
}

static const char *launch(int ordinal, void *native_stream, uint32_t kernel, uint32_t num_blocks,
                          uint32_t num_threads, const void *args)
{
    void *parameters[1] = {(void *)args};
    const char *why = kernel < MODEL_PLUGIN_NUM_KERNELS ? NULL : "no such kernel";

    if (!why)
        why = use_device(ordinal);
    if (!why)
        why = text_of(cudaLaunchKernel(kernels[kernel], dim3(num_blocks), dim3(num_threads),
                                       parameters, 0, (cudaStream_t)native_stream));
    return why;
}

static const model_plugin plugin = {MODEL_PLUGIN_VERSION, MODEL_PLUGIN_NUM_KERNELS, load, launch};

/* The plugin's one exported symbol. */
extern "C" __attribute__((visibility("default"))) const model_plugin *eep_model_cuda_plugin(void)
{
    return &plugin;
}
