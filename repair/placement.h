/* SPDX-License-Identifier: Apache-2.0 */
/* Placement in a view: which slot holds which expert at first, and what a process that takes a seat
 * is to load, as pure functions on a view document. The same document gives the same placement on
 * every rank. */
#ifndef EEPI_PLACEMENT_H
#define EEPI_PLACEMENT_H

#include "repair/placement/layer_problem.h"
#include "repair/planner/plan_table.h"

/* What a fresh placement goes by beside the view. All zero: all experts alike, nothing pinned. */
typedef struct eepi_plan_wish {
    eepi_placement_goal goal;
    const uint32_t *loads; /* [num_layers][num_experts]; NULL: all experts alike */
    /* [num_layers][max_ranks][num_slots]: the expert that a slot is to hold, -1: any. NULL: the
     * view's wishes. What is given for a seat that is no member counts nowhere. */
    const int32_t *pinned;
} eepi_plan_wish;

/* Fill all slots of the members of an otherwise empty view (HOLDS), layer by layer as
 * eepi_place_layer does: every expert has a replica, the spare slots hold second, third ...
 * replicas, apart by eepi_spread_distance and on different nodes. No divisibility is required.
 * EEP_ERR_UNCOVERED: the members' slots, or those that are not pinned, are fewer than the experts.
 * EEP_ERR_INVALID: a pinned expert does not exist. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_plan_fresh(eepi_view *view, const eepi_plan_wish *wish);

/* The same without loads. Without wishes too, numbers of replicas differ by one at most, the lower
 * numbers having more, and all layers are alike: the fewer different sets of seats an expert of any
 * layer depends on, the fewer sets of simultaneous faults leave something uncovered. */
EEP_MUST_CHECK eep_status eepi_plan_initial(eepi_view *view);

/* Which experts a process that takes `seat` should load: for each layer and slot an expert,
 * written to experts_out[num_layers][num_slots]. Fewest live replicas first (the seat's own present
 * slots do not count); of those with one, first the ones whose replica is apart from this seat, so
 * that no run of seats and no node has both; then the largest load (`loads`
 * [num_layers][num_experts]; NULL: alike); then the lowest number. Never the same expert twice in a
 * layer while others are less replicated. Slots with a wish of the view get that, and the rest is
 * chosen beside it; but where experts have no live replica and no slot is left, wishes for others
 * give way to them, the last slots first (rule R4). Where more experts have no live replica than
 * the seat has slots, it takes first those that its slots name though it is no member, unless a
 * lower seat's do; then the part of the others that `turn` (>= 0) says: seats with turns 0, 1, 2
 * ... load different ones. With the initial placement and only this seat missing it gives back the
 * seat's initial experts (as a set), whatever the turn. */
void eepi_plan_seat(const eepi_view *view, eepi_plan_table *table, const uint32_t *loads, int seat,
                    int turn, int32_t *experts_out);

/* Put that assignment into the view as HOLDS slots of the seat; -1 empties a slot. */
void eepi_plan_apply_seat(eepi_view *view, int seat, const int32_t *experts);

/* Empty the slots of all seats that are not members. */
void eepi_plan_empty_nonmembers(eepi_view *view);
#endif
