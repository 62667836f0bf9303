/* SPDX-License-Identifier: Apache-2.0 */
/* A tighter lower bound of a plan's makespan, for whoever prints or tests one. It looks for sets of
 * links that many fills must cross, because the slots from which they could stay away are too few:
 * a matching of experts and slots in each layer. It takes memory and, for large instances, tens of
 * milliseconds: not for a pause. Pure; integers. */
#ifndef EEPI_PLAN_MATCHING_H
#define EEPI_PLAN_MATCHING_H

#include "repair/planner/plan_table.h"

/* `before` is the document that was planned on, `table` as the plan left it, `bound_ns` the bound
 * that the plan has: the answer is no less, and the search ends where it comes close to the
 * makespan. `bound_ns` where there is no memory. */
uint64_t eepi_plan_matching_bound_ns(const eepi_view *before, eepi_plan_table *table,
                                     uint64_t bound_ns);
#endif
