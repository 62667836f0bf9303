/* SPDX-License-Identifier: Apache-2.0 */
/* Argument structs of the kernels: addresses that are fixed for the life of a context, and
 * constants. Nothing in them changes after capture (must 1). */
#ifndef EEPK_KERNEL_ARGS_H
#define EEPK_KERNEL_ARGS_H

#include "graphs/kernels/placing_layout.h"
#include "graphs/kernels/table_layout.h"

typedef struct eepk_world_args {
    const eepk_world *world;
} eepk_world_args;

typedef struct eepk_latch_args {
    const eepk_world *world;
    uint32_t shape, pad; /* of the step that the graph holds */
} eepk_latch_args;

typedef struct eepk_flip_args { /* launched, never captured */
    const eepk_world *world;
    uint64_t epoch, digest;
    uint32_t bank, pad;
} eepk_flip_args;

typedef struct eepk_dispatch_node_args {
    const eepk_world *world;
    const void *x;
    const int32_t *topk_idx;
    const int32_t *num_tokens;
    void *rows;
    int32_t *slot_begin;
    float *row_scales; /* with FP8 */
    uint32_t layer, chain, chunk, pad;
    /* forms (eep/forms.h): of the kernels whose names say so */
    const int64_t *topk_idx_int64; /* in place of topk_idx */
    const uint64_t *placement;     /* with is_physical */
    int32_t *packed_scales;        /* UE8M0: in place of row_scales */
    int32_t *slot_counts;
    int32_t *source_tokens;
    int64_t *layout_range;
    uint32_t is_physical, scale_form; /* eep_scale_form */
    uint32_t slot_align;              /* at least 1 */
    uint32_t slot_rows;               /* padded: rows of a slot; 0: packed */
    uint64_t scale_stride;
} eepk_dispatch_node_args;

typedef struct eepk_combine_node_args {
    const eepk_world *world;
    const void *rows;
    const float *topk_weights;
    const int32_t *num_tokens;
    const int32_t *slot_begin; /* of the same dispatch */
    void *out;
    uint32_t layer, out_dtype, chain;
    uint32_t has_gaps; /* rows do not lie one behind the other: row_forms.h */
    uint32_t chunk, pad;
} eepk_combine_node_args;

typedef struct eepk_mask_args {
    const eepk_world *world;
    int32_t *out; /* [max_ranks] */
    uint32_t is_masked, pad;
} eepk_mask_args;

typedef struct eepk_place_args { /* launched, never captured */
    eepk_placing *placing;
} eepk_place_args;

/* X(name, args type): the kernels that have a world. */
#define EEPK_WORLD_KERNEL_LIST(X)                                                                  \
    X(flip, eepk_flip_args)                                                                        \
    X(latch, eepk_latch_args)                                                                      \
    X(finish, eepk_world_args)                                                                     \
    X(route, eepk_dispatch_node_args)                                                              \
    X(dispatch_send, eepk_dispatch_node_args)                                                      \
    X(dispatch_exchange, eepk_dispatch_node_args)                                                  \
    X(unpack, eepk_dispatch_node_args)                                                             \
    X(combine_send, eepk_combine_node_args)                                                        \
    X(combine_exchange, eepk_combine_node_args)                                                    \
    X(reduce, eepk_combine_node_args)                                                              \
    X(route_formed, eepk_dispatch_node_args)                                                       \
    X(dispatch_exchange_formed, eepk_dispatch_node_args)                                           \
    X(unpack_formed, eepk_dispatch_node_args)                                                      \
    X(combine_send_formed, eepk_combine_node_args)                                                 \
    X(mask, eepk_mask_args)

/* Every kernel of libeep, for the wrappers of both backends. */
#define EEPK_KERNEL_LIST(X)                                                                        \
    EEPK_WORLD_KERNEL_LIST(X)                                                                      \
    X(place, eepk_place_args)
#endif
