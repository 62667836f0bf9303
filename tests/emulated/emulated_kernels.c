/* SPDX-License-Identifier: Apache-2.0 */
/* libeep's kernels with the threads, warps and meetings that they have on a GPU, run on the host:
 * takes the place of graphs/host/host_kernels.c in test programs. */
#include "graphs/kernels/kernels.h"
#include "graphs/kernels/combine.h"
#include "graphs/kernels/dispatch.h"
#include "graphs/kernels/place.h"
#include "graphs/kernels/step_nodes.h"

enum { ONE = 1, SOME = 64, MANY = 128 };

static uint32_t threads_of(eepi_kernel_id id)
{
    return id == EEPI_KERNEL_flip || id == EEPI_KERNEL_latch || id == EEPI_KERNEL_finish ? ONE
           : id == EEPI_KERNEL_route                                                     ? MANY
                                                                                         : SOME;
}

#define EMULATED_KERNEL(name, args_type)                                                           \
    static void name##_thread(const void *args, eep_grid grid)                                     \
    {                                                                                              \
        eepk_##name##_body((const args_type *)args, grid);                                         \
    }                                                                                              \
    static void name##_host(const void *args, eep_grid grid)                                       \
    {                                                                                              \
        emulated_block_run(name##_thread, args, grid.block, grid.num_blocks,                       \
                           threads_of(EEPI_KERNEL_##name));                                        \
    }
EEPK_KERNEL_LIST(EMULATED_KERNEL)
#undef EMULATED_KERNEL

const eep_kernel eepi_host_kernels[EEPI_NUM_KERNELS] = {
#define KERNEL_ENTRY(name, args) EEP_KERNEL(#name, name##_host, NULL, NULL, 0),
    EEPK_KERNEL_LIST(KERNEL_ENTRY)
#undef KERNEL_ENTRY
};
