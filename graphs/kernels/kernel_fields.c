/* SPDX-License-Identifier: Apache-2.0 */
/* The declared arguments of libeep's kernels. */
#include "graphs/kernels/kernel_fields.h"

#define FIELD(type, member, kind)                                                                  \
    {                                                                                              \
#member, offsetof(type, member), sizeof(((type *)0)->member), kind                         \
    }
#define ADDRESS(type, member)  FIELD(type, member, EEP_ARG_ADDRESS)
#define CONSTANT(type, member) FIELD(type, member, EEP_ARG_CONSTANT)

static const eep_kernel_arg world_args[] = {ADDRESS(eepk_world_args, world)};

static const eep_kernel_arg latch_args[] = {
    ADDRESS(eepk_latch_args, world),
    CONSTANT(eepk_latch_args, shape),
    CONSTANT(eepk_latch_args, pad),
};

/* Launched, never captured: its values are declared nowhere. */
static const eep_kernel_arg flip_args[] = {ADDRESS(eepk_flip_args, world)};

static const eep_kernel_arg dispatch_args[] = {
    ADDRESS(eepk_dispatch_node_args, world),
    ADDRESS(eepk_dispatch_node_args, x),
    ADDRESS(eepk_dispatch_node_args, topk_idx),
    ADDRESS(eepk_dispatch_node_args, num_tokens),
    ADDRESS(eepk_dispatch_node_args, rows),
    ADDRESS(eepk_dispatch_node_args, slot_begin),
    ADDRESS(eepk_dispatch_node_args, row_scales),
    CONSTANT(eepk_dispatch_node_args, layer),
    CONSTANT(eepk_dispatch_node_args, chain),
    CONSTANT(eepk_dispatch_node_args, chunk),
    CONSTANT(eepk_dispatch_node_args, pad),
    ADDRESS(eepk_dispatch_node_args, topk_idx_int64),
    ADDRESS(eepk_dispatch_node_args, placement),
    ADDRESS(eepk_dispatch_node_args, packed_scales),
    ADDRESS(eepk_dispatch_node_args, slot_counts),
    ADDRESS(eepk_dispatch_node_args, source_tokens),
    ADDRESS(eepk_dispatch_node_args, layout_range),
    CONSTANT(eepk_dispatch_node_args, is_physical),
    CONSTANT(eepk_dispatch_node_args, scale_form),
    CONSTANT(eepk_dispatch_node_args, slot_align),
    CONSTANT(eepk_dispatch_node_args, slot_rows),
    CONSTANT(eepk_dispatch_node_args, scale_stride),
};

static const eep_kernel_arg combine_args[] = {
    ADDRESS(eepk_combine_node_args, world),        ADDRESS(eepk_combine_node_args, rows),
    ADDRESS(eepk_combine_node_args, topk_weights), ADDRESS(eepk_combine_node_args, num_tokens),
    ADDRESS(eepk_combine_node_args, slot_begin),   ADDRESS(eepk_combine_node_args, out),
    CONSTANT(eepk_combine_node_args, layer),       CONSTANT(eepk_combine_node_args, out_dtype),
    CONSTANT(eepk_combine_node_args, chain),       CONSTANT(eepk_combine_node_args, has_gaps),
    CONSTANT(eepk_combine_node_args, chunk),       CONSTANT(eepk_combine_node_args, pad),
};

static const eep_kernel_arg mask_args[] = {
    ADDRESS(eepk_mask_args, world),
    ADDRESS(eepk_mask_args, out),
    CONSTANT(eepk_mask_args, is_masked),
    CONSTANT(eepk_mask_args, pad),
};

static const eep_kernel_arg place_args[] = {ADDRESS(eepk_place_args, placing)};

#define FIELDS(list)                                                                               \
    {                                                                                              \
        (list), sizeof(list) / sizeof((list)[0])                                                   \
    }
const eepi_kernel_fields eepi_kernel_fields_of[EEPI_NUM_KERNELS] = {
    [EEPI_KERNEL_flip] = FIELDS(flip_args),
    [EEPI_KERNEL_latch] = FIELDS(latch_args),
    [EEPI_KERNEL_finish] = FIELDS(world_args),
    [EEPI_KERNEL_route] = FIELDS(dispatch_args),
    [EEPI_KERNEL_dispatch_send] = FIELDS(dispatch_args),
    [EEPI_KERNEL_dispatch_exchange] = FIELDS(dispatch_args),
    [EEPI_KERNEL_unpack] = FIELDS(dispatch_args),
    [EEPI_KERNEL_combine_send] = FIELDS(combine_args),
    [EEPI_KERNEL_combine_exchange] = FIELDS(combine_args),
    [EEPI_KERNEL_reduce] = FIELDS(combine_args),
    [EEPI_KERNEL_route_formed] = FIELDS(dispatch_args),
    [EEPI_KERNEL_dispatch_exchange_formed] = FIELDS(dispatch_args),
    [EEPI_KERNEL_unpack_formed] = FIELDS(dispatch_args),
    [EEPI_KERNEL_combine_send_formed] = FIELDS(combine_args),
    [EEPI_KERNEL_mask] = FIELDS(mask_args),
    [EEPI_KERNEL_place] = FIELDS(place_args),
};
