/* SPDX-License-Identifier: Apache-2.0 */
/* The tightest lower bound of a plan's makespan, for whoever prints or tests one: the dual of the
 * linear program in which fills may be divided among targets and sources. Links and slots have
 * prices; each fill pays for the cheapest way, and the prices are raised where more is asked for
 * than there is (a subgradient method). All prices give a valid bound. It takes memory and up to
 * seconds: not for a pause. Pure; floating point, so another machine may answer a little less. */
#ifndef EEPX_PLAN_DUAL_H
#define EEPX_PLAN_DUAL_H

#include "repair/planner/plan_table.h"

/* `before` is the document that was planned on, `table` as the plan left it, `bound_ns` the bound
 * that the plan has: the answer is no less, and the search ends where it comes close to the
 * makespan. `bound_ns` where there is no memory. */
uint64_t plan_dual_bound_ns(const eepi_view *before, eepi_plan_table *table, uint64_t bound_ns);
#endif
