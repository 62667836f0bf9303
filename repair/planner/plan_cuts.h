/* SPDX-License-Identifier: Apache-2.0 */
/* A lower bound of a plan's makespan: experts whose backups all lie on a few nodes. Each of them is
 * read by a seat of these nodes, which has few slots to give and takes one after the other, or it
 * leaves them over their NICs. Pure; integers. */
#ifndef EEPI_PLAN_CUTS_H
#define EEPI_PLAN_CUTS_H

#include "repair/planner/plan_table.h"

/* The largest such bound of the sets of nodes that are looked at: those of single experts, and some
 * unions of them. After table->fixed and table->capacity. 0: there are more than 64 nodes, which
 * nobody looks at. `least_ns`: a bound that is no more is not looked for. */
uint64_t eepi_plan_cut_bound_ns(eepi_plan_table *table, const eepi_view *view, uint64_t least_ns,
                                uint64_t makespan_ns);
#endif
