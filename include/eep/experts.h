/* SPDX-License-Identifier: Apache-2.0 */
/* Loads, waits and placement: what a rank's steps counted, and which expert lies in which slot. A
 * part of eep/eep.h, which includes it. */
#ifndef EEP_EXPERTS_H
#define EEP_EXPERTS_H

#include <stdint.h>

#include "eep/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct eep_context eep_context; /* eep/eep.h */

/* ---------------------------------------------------------------- loads and waits */

/* How many tokens of this rank each expert got since eep_open: loads_out [num_layers, num_experts].
 * The route kernels count them (after EPLB's use of measured loads; source: the paper's future
 * work), those of steps that were aborted too. As of the last step for which somebody asked; the
 * call asks for newer ones in the next step, and waits for nothing. Costs a copy of 8 bytes per
 * entry. EEP_ERR_INVALID for NULL. Any thread; during capture too. */
EEP_API EEP_MUST_CHECK eep_status eep_loads_get(eep_context *context, uint64_t *loads_out);
/* How long receives of this rank waited for each seat since eep_open: waited_ns_out [max_ranks],
 * nanoseconds. Kernels count it (after DeepEP's wait statistics) where a receive has to wait at
 * all, and for every seat that it then waits for; what aborted steps waited does not count. A wait
 * of microseconds, for which the clock is not read, counts as 0. EEP_ERR_INVALID for NULL. Any
 * thread; during capture too. */
EEP_API EEP_MUST_CHECK eep_status eep_waits_get(eep_context *context, uint64_t *waited_ns_out);
/* Loads [num_layers, num_experts] that placement and shares go by from now on, instead of what is
 * measured, in any unit that is the same within a layer; a layer of zeros: all its experts alike.
 * Copied. NULL: measured again. The same on all ranks, since whichever of them plans goes by its
 * own. Any thread; during capture too. */
EEP_API EEP_MUST_CHECK eep_status eep_loads_set(eep_context *context, const uint32_t *loads);

/* ---------------------------------------------------------------- placement */

/* A placement that the engine gives: which logical expert each physical slot is to hold. It is an
 * order with a number. In force is the one with the highest number that any rank gave; what a view
 * has taken over stays, whoever ends. libeep decides on what is not given. */
typedef struct eep_placement {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    uint32_t reserved;     /* 0 */
    uint64_t number;       /* 1 to 2^62 */
    /* [num_layers, max_ranks, num_slots]: a logical expert, -1: libeep decides. NULL: nothing is
     * given, and what was is lifted. An expert that stands twice in a rank and layer is given once.
     */
    const int32_t *experts;
    /* The same shape; not 0: the slot keeps that expert. NULL: none does. Slots that are not pinned
     * are libeep's again once all that is given in their layer is there. */
    const uint8_t *pinned;
} eep_placement;
/* Order a placement; copied. Slots of one rank are alike: libeep may exchange what is given for
 * them, where that saves a copy.
 * Between eep_open and the first weights: the first view has it, and eep_slot_expert follows it.
 * All num_ranks ranks of a first view are given the same, or eep_join is EEP_ERR_UNCOVERED (on the
 * rank that is refused EEP_ERR_CHECKSUM), and the text names two that differ. In an instance that
 * runs already it counts, once this rank is let in, if its number is the highest.
 * After eep_join: behind live traffic weights are copied, at background_bytes_per_s, slot by slot,
 * and no expert is ever without a live replica; eep_placement_get tells how far that has come. One
 * rank's call suffices; the same on all is as good. It counts as soon as a view has it: until then
 * it goes with its rank.
 * A pinned slot is refilled for nothing but an expert that no other slot could take and that nobody
 * would hold; it gets its own back as soon as possible. Pins of a rank that ends wait for the next
 * process in its seat, which loads them.
 * EEP_ERR_INVALID: a number or an expert is out of range, a slot without an expert is pinned, or
 * the slots that are left are too few for the experts that are not given (the text names layer and
 * slot). EEP_ERR_CONFLICT: this context gave a higher number, or (after eep_join) one is in
 * force, or the same one is for something else. EEP_ERR_STATE: between the first weights and
 * eep_join; after it with background_bytes_per_s 0. EEP_ERR_NO_MEMORY. Another rank's placement
 * with the same number may win (that of the lower seat): own_state tells. Rank thread before
 * eep_join, then any thread; during capture too. Costs a pass over the arrays. Source:
 * physical_to_logical_map of EPLB, as serving stacks keep it. */
EEP_API EEP_MUST_CHECK eep_status eep_placement_set(eep_context *context,
                                                    const eep_placement *placement);
typedef enum eep_order_state {
    EEP_ORDER_NONE,     /* this context gave none */
    EEP_ORDER_WAITS,    /* no view that this rank knows has it yet */
    EEP_ORDER_IN_FORCE, /* the newest view has it */
    EEP_ORDER_REPLACED, /* one with a higher number is in force */
    EEP_ORDER_REFUSED,  /* another one with the same number is */
} eep_order_state;
typedef struct eep_placement_info {
    uint32_t struct_bytes; /* set by the caller (EEP_SIZED) */
    int32_t num_unmet;     /* slots of members that do not hold what they are given; 0: reached */
    eep_order_state own_state; /* of the last one that this context gave */
    /* Of num_unmet: slots of layers whose order cannot be reached by the members that are there. A
     * layer has no slot to spare, or an expert is given to none of them and no slot is left. */
    int32_t num_unreachable;
    uint64_t epoch;      /* of the newest view; 0: none yet */
    uint64_t number;     /* of the placement in force; 0: none */
    uint64_t own_number; /* of the last one that this context gave; 0: none */
} eep_placement_info;
/* The placement of the newest view that this rank knows, all of one epoch. `experts_out`
 * [num_layers, max_ranks, num_slots]: the logical expert in each slot, -1: empty, being filled, or
 * of no member. `pinned_out`, the same shape: 1 where a pin is in force, whether met or not. Both
 * may be NULL. Costs a pass over the slots. Any thread; during capture too. */
EEP_API EEP_MUST_CHECK eep_status eep_placement_get(eep_context *context,
                                                    eep_placement_info *info_out,
                                                    int32_t *experts_out, uint8_t *pinned_out);

#ifdef __cplusplus
}
#endif
#endif
