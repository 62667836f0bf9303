/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels of the frozen-membership baseline with the threads, warps and meetings that they have
 * on a GPU: takes the place of experiments/bench/fixed/fixed.c in a test program. */
#define eepi_fixed_host_kernels eepi_fixed_plain_kernels
#include "experiments/bench/fixed/fixed.c"
#undef eepi_fixed_host_kernels

enum { SOME = 64, MANY = 128 };

#define EMULATED_KERNEL(name, args_type)                                                           \
    static void name##_thread(const void *args, eep_grid grid)                                     \
    {                                                                                              \
        eepk_##name##_body((const args_type *)args, grid);                                         \
    }                                                                                              \
    static void name##_block(const void *args, eep_grid grid)                                      \
    {                                                                                              \
        emulated_block_run(name##_thread, args, grid.block, grid.num_blocks,                       \
                           EEPI_KERNEL_##name == (int)EEPI_KERNEL_fixed_route ? MANY : SOME);      \
    }
EEPK_FIXED_KERNEL_LIST(EMULATED_KERNEL)
#undef EMULATED_KERNEL

const eep_kernel eepi_fixed_host_kernels[EEPI_NUM_FIXED_KERNELS] = {
#define KERNEL_ENTRY(name, args) EEP_KERNEL(#name, name##_block, NULL, NULL, 0),
    EEPK_FIXED_KERNEL_LIST(KERNEL_ENTRY)
#undef KERNEL_ENTRY
};
