/* SPDX-License-Identifier: Apache-2.0 */
/* What the placement of one layer is asked for: logical experts with loads, and ranks with slots.
 */
#ifndef EEPI_LAYER_PROBLEM_H
#define EEPI_LAYER_PROBLEM_H

#include "membership/view/view.h"

typedef enum eepi_placement_goal {
    EEPI_PLACE_MIXED = 0,    /* two copies of each expert as far as the ratio stays <= 1.05 */
    EEPI_PLACE_COVERAGE = 1, /* two copies of each expert first, then balance */
    EEPI_PLACE_BALANCE = 2,  /* balance only */
} eepi_placement_goal;

/* Ratio: load of the most loaded rank over the mean, an expert's load split equally over its
 * replicas. In millionths. */
enum { EEPI_RATIO_ONE = 1000000, EEPI_RATIO_MIXED = 1050000 };

typedef struct eepi_layer_problem {
    /* max_ranks seats in a ring, num_slots, num_experts, ranks_per_node, spread: see view.h */
    eepi_view_shape shape;
    eepi_placement_goal goal;
    const uint8_t *active; /* [max_ranks]: 0 for a seat without a rank; NULL: all have one */
    const uint32_t *loads; /* [num_experts]; NULL, or all 0: all alike */
    /* [max_ranks][num_slots]: the expert that a slot keeps, or -1. NULL: none is pinned. */
    const int32_t *pinned;
} eepi_layer_problem;

static inline bool eepi_layer_has_rank(const eepi_layer_problem *problem, int seat)
{
    return !problem->active || problem->active[seat];
}
#endif
