/* SPDX-License-Identifier: Apache-2.0 */
/* Room on a seat whose replicas are all the last ones of their experts. Another fill of the layer
 * took the slot of such an expert's other replica. It takes another slot of its own seat instead,
 * which loads no link otherwise. So the other replica stays where it was, and the seat may give its
 * own. Where that fill's seat has no other slot to give either, a third one makes room for it in
 * the same way, and so on: an augmenting path of a matching between slots and experts. Pure. */
#ifndef EEPI_PLAN_SHIFT_H
#define EEPI_PLAN_SHIFT_H

#include "repair/planner/plan_table.h"

/* Find the seats without a slot to give that could get one so (l->is_reached): a breadth first
 * search through the fills of the layer that are neither kept nor settled. false: there is none.
 * Holds until a slot of the layer changes. */
bool eepi_plan_shift_find(eepi_plan_table *table, eepi_plan_layer *l);
void eepi_plan_shift_forget(eepi_plan_layer *l);
/* Make room on such a seat. table->num_shifted counts the fills that changed their slots. */
void eepi_plan_shift_to(eepi_plan_table *table, eepi_plan_layer *l, int seat);
/* The last of them get their slots back, until so many are left. */
void eepi_plan_shift_undo(eepi_plan_table *table, eepi_plan_layer *l, int32_t num_left);
#endif
