/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA bodies of the kernels: the host's, compiled for the GPU. The argument struct is the
 * kernel's only parameter and stays in constant memory: a body takes its address, no copy is made.
 */
#include "graphs/cuda/cuda_kernels.h"

#include "graphs/kernels/combine.h"
#include "graphs/kernels/dispatch.h"
#include "graphs/kernels/place.h"
#include "graphs/kernels/step_nodes.h"

#define EEPI_CUDA_KERNEL(name, args_type)                                                          \
    extern "C" __global__ void eepk_##name##_cuda(const __grid_constant__ args_type args)          \
    {                                                                                              \
        eepk_##name##_body(&args, eepk_here());                                                    \
    }
EEPK_KERNEL_LIST(EEPI_CUDA_KERNEL)
#undef EEPI_CUDA_KERNEL

const eep_kernel eepi_cuda_kernels[EEPI_NUM_KERNELS] = {
#define EEPI_KERNEL_ENTRY(name, args)                                                              \
    EEP_KERNEL(#name, NULL, (const void *)eepk_##name##_cuda, NULL, 0),
    EEPK_KERNEL_LIST(EEPI_KERNEL_ENTRY)
#undef EEPI_KERNEL_ENTRY
};

/* The least change of the clock that deadlines go by, over enough looks for some hundred changes.
 */
extern "C" __global__ void eepi_clock_cuda(uint64_t *step_ns)
{
    uint64_t last = eepk_now_ns(), least = UINT64_MAX;

    for (uint32_t looks = 0; looks < 100000; looks++) {
        uint64_t now = eepk_now_ns();
        if (now != last && now - last < least)
            least = now - last;
        last = now;
    }
    *step_ns = least;
}

const void *const eepi_cuda_clock_kernel = (const void *)eepi_clock_cuda;
