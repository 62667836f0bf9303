/* SPDX-License-Identifier: Apache-2.0 */
/* Argument structs of the fixed-membership baseline (experiments/bench/fixed/fixed_kernels.h): the
 * tables themselves are arguments, by value, so a captured graph holds what was true when it was
 * captured. That is what libeep never does (must 1) and what a runtime with frozen membership does;
 * nothing of it is in libeep. */
#ifndef EEPK_FIXED_ARGS_H
#define EEPK_FIXED_ARGS_H

#include "eep/device.h"
#include "graphs/kernels/rows.h"
#include "graphs/kernels/table_layout.h"

enum { EEPK_FIXED_MAX_RANKS = 64 }; /* windows that fit into a kernel's arguments */
/* The longest wait (must 12): far above any step's, so it decides nothing but the end of a hang. */
#define EEPK_FIXED_LIMIT_NS 10000000000ull

/* Device memory, written by the baseline's own kernels only. Zero before the first step. */
typedef struct eepk_fixed_state {
    uint64_t step;      /* of the tags; raised by the route node of layer 0 */
    eepk_status status; /* bad_* of the last batch that was bad, max_tokens; the rest is not used */
    uint64_t limit_ns; /* of one wait; 0: EEPK_FIXED_LIMIT_NS. Written by the host, before a step */
    uint64_t gave_up;  /* the first step in which a wait reached its limit; 0: none */
    uint32_t blocks_out, pad; /* of the running send */
} eepk_fixed_state;

typedef struct eepk_fixed_tables {
    eepk_shape shape; /* max_ranks: all of them are there, always */
    eepk_routing routing;
    eepk_fixed_state *state;
    uint32_t *receive_count;  /* scratch [max_ranks][num_slots] */
    uint32_t *receive_base;   /* scratch [max_ranks][num_slots] */
    uint32_t *receive_tokens; /* scratch [max_ranks] */
    eepk_origin *origin;      /* scratch [rows_capacity] */
    uint64_t windows[EEPK_FIXED_MAX_RANKS];
} eepk_fixed_tables;

typedef struct eepk_fixed_dispatch_args {
    eepk_fixed_tables tables;
    const void *x;
    const int32_t *topk_idx;
    const int32_t *num_tokens;
    void *rows;
    int32_t *slot_begin;
    float *row_scales; /* with FP8 */
    uint32_t layer, pad;
} eepk_fixed_dispatch_args;
static_assert(sizeof(eepk_fixed_dispatch_args) <= EEP_KERNEL_ARGS_MAX_BYTES, "one launch");

typedef struct eepk_fixed_combine_args {
    eepk_fixed_tables tables;
    const void *rows;
    const float *topk_weights;
    const int32_t *num_tokens;
    const int32_t *slot_begin; /* of the same layer's dispatch */
    void *out;
    uint32_t layer, out_dtype;
} eepk_fixed_combine_args;
static_assert(sizeof(eepk_fixed_combine_args) <= EEP_KERNEL_ARGS_MAX_BYTES, "one launch");

/* X(name, args type): in the order in which a layer runs them. */
#define EEPK_FIXED_KERNEL_LIST(X)                                                                  \
    X(fixed_route, eepk_fixed_dispatch_args)                                                       \
    X(fixed_dispatch_send, eepk_fixed_dispatch_args)                                               \
    X(fixed_dispatch_exchange, eepk_fixed_dispatch_args)                                           \
    X(fixed_unpack, eepk_fixed_dispatch_args)                                                      \
    X(fixed_combine_send, eepk_fixed_combine_args)                                                 \
    X(fixed_combine_exchange, eepk_fixed_combine_args)                                             \
    X(fixed_reduce, eepk_fixed_combine_args)
#endif
