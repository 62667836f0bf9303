/* SPDX-License-Identifier: Apache-2.0 */
/* What a placement of a layer is worth, whoever made it. */
#ifndef EEPI_JUDGE_LAYER_H
#define EEPI_JUDGE_LAYER_H

#include "repair/placement/layer_problem.h"

typedef struct eepi_layer_verdict {
    uint32_t ratio;  /* millionths: most loaded rank over the mean, loads split equally */
    int32_t singles; /* experts with one replica */
    int32_t
        doubled; /* replicas on a rank that has one of the expert already, while others have none */
    /* Experts with two replicas or more that are all on one rank, on one node, or in one run of
     * `distance` seats: such a loss would be one too many. */
    int32_t at_risk;
    /* Most experts lost with any one rank, node, run of seats; singles count. */
    int32_t lost_rank, lost_node, lost_run;
    int32_t most_shared; /* most experts with two replicas that the same two ranks hold */
    int32_t distance;    /* the distance asked for */
} eepi_layer_verdict;

/* Judge experts[max_ranks][num_slots] (-1: empty, or no rank). EEP_ERR_INVALID: an expert out of
 * range, on a seat without a rank, or not where it is pinned. EEP_ERR_UNCOVERED: an expert has no
 * replica. EEP_ERR_NO_MEMORY. `why_out` (may be NULL) then has a text. */
EEP_MUST_CHECK eep_status eepi_judge_layer(const eepi_layer_problem *problem,
                                           const int32_t *experts, eepi_layer_verdict *verdict_out,
                                           char *why_out, size_t why_bytes);
#endif
