/* SPDX-License-Identifier: Apache-2.0 */
/* Placement of one layer: replicas of logical experts on ranks. Pure, integers only: the same
 * problem gives the same placement everywhere. docs/PLACEMENT.md has the policy and its figures. */
#ifndef EEPI_PLACE_LAYER_H
#define EEPI_PLACE_LAYER_H

#include "repair/placement/layer_problem.h"

/* Memory for any layer of one shape, made once. */
typedef struct eepi_placer eepi_placer;

/* NULL: no memory. */
eepi_placer *eepi_placer_new(const eepi_view_shape *shape);
void eepi_placer_free(eepi_placer *placer);

/* Place a layer: experts_out [max_ranks][num_slots] has the expert of each slot of a rank, -1 for
 * seats without one. No slot of a rank is left empty. In this order:
 *   pinned slots keep their experts; each expert has a replica; no two replicas of an expert are on
 * one rank while it has fewer than there are ranks; the replicas of an expert are not all within
 * one node or one run of eepi_spread_distance seats, where the ranks allow that at all; with the
 * goals MIXED and COVERAGE, experts with two replicas or more as far as the slots go (the coldest
 * have one); the load of the most loaded rank, of which MIXED tolerates 1.05 means before it takes
 * second replicas from the coldest experts; few experts that the same two ranks share.
 * EEP_ERR_UNCOVERED: the slots do not suffice, and nothing is written. Takes no memory. */
EEP_MUST_CHECK eep_status eepi_place_layer(eepi_placer *placer, const eepi_layer_problem *problem,
                                           int32_t *experts_out);
#endif
