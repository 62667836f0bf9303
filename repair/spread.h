/* SPDX-License-Identifier: Apache-2.0 */
/* How far apart the replicas of an expert are. Seats count as a ring: the last one is a neighbour
 * of the first. If two replicas are at least D seats apart, no run of D neighbouring seats holds
 * both, so losing such a run leaves one of them. Pure. */
#ifndef EEPI_SPREAD_H
#define EEPI_SPREAD_H

#include "membership/view/view.h"

/* The distance that is asked for among `num_members` ranks: shape->spread, or by default a quarter
 * of the ranks if all are on one node, and a node's ranks if there are several nodes, but at most a
 * third of the ranks: half of them would leave each rank one partner, its mirror, which takes the
 * whole load of a lost one. At least 1, at most half the members rounded down (two replicas cannot
 * be farther apart on a ring). */
int eepi_spread_distance(const eepi_view_shape *shape, int num_members);
/* Seats between the two, the shorter way round the ring of max_ranks seats. 0: the same seat. */
int eepi_spread_between(const eepi_view_shape *shape, int a, int b);
/* Replicas of one expert may be on both seats: they are `distance` apart, in different groups, and
 * on different nodes if there are several. */
bool eepi_spread_is_apart(const eepi_view_shape *shape, int distance, int a, int b);
#endif
