/* SPDX-License-Identifier: Apache-2.0 */
/* The fixed-membership baseline as launchable kernels, for tests and measurements (not linked into
 * libeep). Host bodies are in fixed.c; a program that measures a GPU compiles their CUDA bodies and
 * launches them itself. */
#ifndef EEPI_FIXED_H
#define EEPI_FIXED_H

#include "experiments/bench/fixed/fixed_args.h"
#include "graphs/kernels/kernels.h"

typedef enum eepi_fixed_kernel_id {
#define EEPI_FIXED_KERNEL_ID(name, args) EEPI_KERNEL_##name,
    EEPK_FIXED_KERNEL_LIST(EEPI_FIXED_KERNEL_ID)
#undef EEPI_FIXED_KERNEL_ID
        EEPI_NUM_FIXED_KERNELS
} eepi_fixed_kernel_id;

#ifdef __cplusplus
extern "C" {
#endif

/* With their host bodies, in the order of eepi_fixed_kernel_id; `.cuda` is NULL. */
extern const eep_kernel eepi_fixed_host_kernels[EEPI_NUM_FIXED_KERNELS];

/* The elastic kernels' host bodies (eepi_kernel_id) once more, compiled in one file with the
 * baseline's: the loops of rows.h are then the same machine code at the same address for both. A
 * comparison of the two launches these, since where a loop happens to lie can cost a few percent.
 */
extern const eep_kernel eepi_elastic_host_twins[EEPI_NUM_KERNELS];

/* What a graph of the baseline holds for one layer: the routing tables of `bank` (of a view that
 * has all seats), the scratch of `world` (readable by the caller: a copy where the device's memory
 * is not), and the windows of all seats, [shape.max_ranks]. The bank and the windows must stay as
 * they are for as long as a graph with these tables runs. EEP_ERR_INVALID: more than
 * EEPK_FIXED_MAX_RANKS seats. Any thread. */
EEP_MUST_CHECK eep_status eepi_fixed_tables_make(const eepk_world *world, const uint8_t *bank,
                                                 uint32_t layer, void *const *windows,
                                                 eepk_fixed_state *state,
                                                 eepk_fixed_tables *tables_out);

#ifdef __cplusplus
}
#endif
#endif
