/* SPDX-License-Identifier: Apache-2.0 */
/* How long a plan takes at least, whatever it chooses: what stands beside the makespan of the plan
 * that was made. An expert that several sources have may be read from all of them at once: the
 * bounds hold for that, too. Pure; integers. */
#ifndef EEPI_PLAN_BOUND_H
#define EEPI_PLAN_BOUND_H

#include "repair/planner/plan_table.h"

/* Before the first of a layer's experts is placed: the slots that each seat could give. */
void eepi_plan_bound_add_layer(eepi_plan_table *table, int num_experts);
/* The largest of three bounds on table->choices, rounded down:
 * - each fill needs a slot, and a seat takes one expert after the other;
 * - for sets of links that are loaded most: each fill crosses some of them whatever is chosen, and
 *   together they carry so much at most;
 * - for sets of nodes that alone have backups of some experts: what their slots, memory and NICs
 *   give (plan_cuts.h). */
uint64_t eepi_plan_bound_ns(eepi_plan_table *table, const eepi_view *view);
#endif
