/* SPDX-License-Identifier: Apache-2.0 */
/* Host bodies of the kernels: those of the GPU, compiled for the CPU. */
#include "graphs/kernels/kernels.h"

#include "graphs/kernels/combine.h"
#include "graphs/kernels/dispatch.h"
#include "graphs/kernels/place.h"
#include "graphs/kernels/step_nodes.h"

#define EEPI_HOST_KERNEL(name, args_type)                                                          \
    static void name##_host(const void *args, eep_grid grid)                                       \
    {                                                                                              \
        eepk_##name##_body((const args_type *)args, grid);                                         \
    }
EEPK_KERNEL_LIST(EEPI_HOST_KERNEL)
#undef EEPI_HOST_KERNEL

const eep_kernel eepi_host_kernels[EEPI_NUM_KERNELS] = {
#define EEPI_KERNEL_ENTRY(name, args) EEP_KERNEL(#name, name##_host, NULL, NULL, 0),
    EEPK_KERNEL_LIST(EEPI_KERNEL_ENTRY)
#undef EEPI_KERNEL_ENTRY
};
