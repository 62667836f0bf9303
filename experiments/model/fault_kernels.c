/* SPDX-License-Identifier: Apache-2.0 */
/* Host bodies of the kernels of faults, and what each byte of their arguments is. */
#include "experiments/model/fault_kernels.h"

#include <stddef.h>

#define FIELD(type, member, kind)                                                                  \
    {                                                                                              \
#member, offsetof(type, member), sizeof(((type *)0)->member), kind                         \
    }

static const eep_kernel_arg fault_halt_args_fields[] = {
    FIELD(fault_halt_args, words, EEP_ARG_ADDRESS),
    FIELD(fault_halt_args, world, EEP_ARG_ADDRESS),
    FIELD(fault_halt_args, place, EEP_ARG_CONSTANT),
    FIELD(fault_halt_args, pad, EEP_ARG_CONSTANT),
};

#define HALT_FIELDS(type)                                                                          \
    FIELD(type, halt.words, EEP_ARG_ADDRESS), FIELD(type, halt.world, EEP_ARG_ADDRESS),            \
        FIELD(type, halt.place, EEP_ARG_CONSTANT), FIELD(type, halt.pad, EEP_ARG_CONSTANT)

static const eep_kernel_arg fault_halt_dispatch_args_fields[] = {
    HALT_FIELDS(fault_halt_dispatch_args),
    FIELD(fault_halt_dispatch_args, send.world, EEP_ARG_ADDRESS),
    FIELD(fault_halt_dispatch_args, send.x, EEP_ARG_ADDRESS),
    FIELD(fault_halt_dispatch_args, send.topk_idx, EEP_ARG_ADDRESS),
    FIELD(fault_halt_dispatch_args, send.num_tokens, EEP_ARG_ADDRESS),
    FIELD(fault_halt_dispatch_args, send.rows, EEP_ARG_ADDRESS),
    FIELD(fault_halt_dispatch_args, send.slot_begin, EEP_ARG_ADDRESS),
    FIELD(fault_halt_dispatch_args, send.row_scales, EEP_ARG_ADDRESS),
    FIELD(fault_halt_dispatch_args, send.layer, EEP_ARG_CONSTANT),
    FIELD(fault_halt_dispatch_args, send.chain, EEP_ARG_CONSTANT),
    FIELD(fault_halt_dispatch_args, send.chunk, EEP_ARG_CONSTANT),
    FIELD(fault_halt_dispatch_args, send.pad, EEP_ARG_CONSTANT),
    FIELD(fault_halt_dispatch_args, send.topk_idx_int64, EEP_ARG_ADDRESS),
    FIELD(fault_halt_dispatch_args, send.placement, EEP_ARG_ADDRESS),
    FIELD(fault_halt_dispatch_args, send.packed_scales, EEP_ARG_ADDRESS),
    FIELD(fault_halt_dispatch_args, send.slot_counts, EEP_ARG_ADDRESS),
    FIELD(fault_halt_dispatch_args, send.source_tokens, EEP_ARG_ADDRESS),
    FIELD(fault_halt_dispatch_args, send.layout_range, EEP_ARG_ADDRESS),
    FIELD(fault_halt_dispatch_args, send.is_physical, EEP_ARG_CONSTANT),
    FIELD(fault_halt_dispatch_args, send.scale_form, EEP_ARG_CONSTANT),
    FIELD(fault_halt_dispatch_args, send.slot_align, EEP_ARG_CONSTANT),
    FIELD(fault_halt_dispatch_args, send.slot_rows, EEP_ARG_CONSTANT),
    FIELD(fault_halt_dispatch_args, send.scale_stride, EEP_ARG_CONSTANT),
};

static const eep_kernel_arg fault_halt_combine_args_fields[] = {
    HALT_FIELDS(fault_halt_combine_args),
    FIELD(fault_halt_combine_args, send.world, EEP_ARG_ADDRESS),
    FIELD(fault_halt_combine_args, send.rows, EEP_ARG_ADDRESS),
    FIELD(fault_halt_combine_args, send.topk_weights, EEP_ARG_ADDRESS),
    FIELD(fault_halt_combine_args, send.num_tokens, EEP_ARG_ADDRESS),
    FIELD(fault_halt_combine_args, send.slot_begin, EEP_ARG_ADDRESS),
    FIELD(fault_halt_combine_args, send.out, EEP_ARG_ADDRESS),
    FIELD(fault_halt_combine_args, send.layer, EEP_ARG_CONSTANT),
    FIELD(fault_halt_combine_args, send.out_dtype, EEP_ARG_CONSTANT),
    FIELD(fault_halt_combine_args, send.chain, EEP_ARG_CONSTANT),
    FIELD(fault_halt_combine_args, send.has_gaps, EEP_ARG_CONSTANT),
    FIELD(fault_halt_combine_args, send.chunk, EEP_ARG_CONSTANT),
    FIELD(fault_halt_combine_args, send.pad, EEP_ARG_CONSTANT),
};

static const eep_kernel_arg fault_gaps_args_fields[] = {
    FIELD(fault_gaps_args, longest_ns, EEP_ARG_ADDRESS),
    FIELD(fault_gaps_args, spin_ns, EEP_ARG_CONSTANT),
};

#define FAULT_HOST_KERNEL(name, args_type)                                                         \
    static void name##_host(const void *args, eep_grid grid)                                       \
    {                                                                                              \
        fault_##name##_body((const args_type *)args, grid);                                        \
    }
FAULT_KERNEL_LIST(FAULT_HOST_KERNEL)
#undef FAULT_HOST_KERNEL

#define NUM_FIELDS(list) (sizeof(list) / sizeof((list)[0]))
const eep_kernel fault_kernels[FAULT_NUM_KERNELS] = {
#define FAULT_KERNEL_ENTRY(name, type)                                                             \
    EEP_KERNEL("fault_" #name, name##_host, NULL, type##_fields, NUM_FIELDS(type##_fields)),
    FAULT_KERNEL_LIST(FAULT_KERNEL_ENTRY)
#undef FAULT_KERNEL_ENTRY
};
