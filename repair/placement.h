/* SPDX-License-Identifier: Apache-2.0 */
/* Placement: which slot holds which expert at first, as pure functions on a view document. The same
 * document gives the same placement on every rank. */
#ifndef EEPI_PLACEMENT_H
#define EEPI_PLACEMENT_H

#include "repair/planner/plan_table.h"

/* Fill the slots of the members of an otherwise empty view so that every expert has a replica and
 * the spare slots hold second, third ... replicas, each on another seat than the earlier ones where
 * that is possible, and spread so that the partners of one seat's experts are many seats. All
 * HOLDS. EEP_ERR_UNCOVERED if the members' slots are fewer than the experts. No divisibility is
 * required. */
EEP_MUST_CHECK eep_status eepi_plan_initial(eepi_view *view);

/* Which experts a process that takes `seat` should load: for each layer and slot an expert or -1,
 * written to experts_out[num_layers][num_slots]. Fewest live replicas first (the seat's own present
 * slots do not count), then the lowest number; never the same expert twice in a layer while others
 * are less replicated. With the initial placement and only this seat missing it gives back the
 * seat's initial experts (as a set). */
void eepi_plan_seat(const eepi_view *view, eepi_plan_table *table, int seat, int32_t *experts_out);

/* Put that assignment into the view as HOLDS slots of the seat. */
void eepi_plan_apply_seat(eepi_view *view, int seat, const int32_t *experts);

/* Empty the slots of all seats that are not members. */
void eepi_plan_empty_nonmembers(eepi_view *view);
#endif
