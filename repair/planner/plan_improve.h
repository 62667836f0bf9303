/* SPDX-License-Identifier: Apache-2.0 */
/* Exchange of a plan's choices for better ones: fills that cross the most loaded link go elsewhere,
 * alone or in exchange with another fill of their layer. Pure; integers. */
#ifndef EEPI_PLAN_IMPROVE_H
#define EEPI_PLAN_IMPROVE_H

#include "repair/planner/plan_table.h"

/* Lower the makespan of table->choices, which the view already has as FILLING, until it is close to
 * a lower bound, nothing more is found or a fixed amount of work is done. Then let fills use
 * backups of their own node where that makes the plan no longer. Fills that an earlier plan began
 * stay. Returns the lower bound. */
uint64_t eepi_plan_improve(eepi_plan_table *table, eepi_view *view);
#endif
