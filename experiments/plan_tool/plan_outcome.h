/* SPDX-License-Identifier: Apache-2.0 */
/* What one loss costs: where the weights of each slot come from, inside the pause and behind it,
 * how long the links take for that, and how even the loads are. */
#ifndef EEPX_PLAN_OUTCOME_H
#define EEPX_PLAN_OUTCOME_H

#include "experiments/plan_tool/plan_balance.h"
#include "experiments/plan_tool/plan_flows.h"

/* Where the weights of the survivors' slots come from. */
typedef enum plan_source {
    PLAN_UNCHANGED,       /* the rank held the expert before, so no byte moves */
    PLAN_LIVE_REPLICA,    /* a slot of another rank */
    PLAN_OWN_NODE_BACKUP, /* host memory of the target's node */
    PLAN_OTHER_BACKUP,    /* host memory of another node */
    PLAN_CHECKPOINT,
    PLAN_NUM_SOURCES
} plan_source;
extern const char *const plan_source_names[PLAN_NUM_SOURCES];

typedef struct plan_outcome {
    bool is_covered;                 /* false: the rest is 0, but for `uncovered` and `before` */
    int32_t uncovered;               /* experts of all layers without a live replica */
    int64_t slots[PLAN_NUM_SOURCES]; /* of all that hold an expert at rest, by its last source */
    int64_t pause_fills, behind_fills, rounds;
    double pause_s, bound_s; /* the most loaded link; no plan of as many fills takes less */
    double behind_link_s;    /* the most loaded link, behind traffic */
    double behind_s;         /* that, or what the limit of each rank allows: the longer */
    plan_balance before, paused, rest; /* all live; coverage is back; nothing is left to move */
} plan_outcome;

/* Memory for outcomes of one case, made once. */
typedef struct plan_outcomes {
    const plan_case *self;
    eepi_plan_table *table;
    eepi_background *background;
    eepi_view *view;
    uint8_t *source;   /* plan_source of each slot, [num_layers][max_ranks][num_slots] */
    double *per_share; /* [num_experts] */
    plan_flows *flows;
    double background_bytes_per_s; /* 0: no limit */
    plan_balance before;
} plan_outcomes;

EEP_MUST_CHECK eep_status plan_outcomes_open(const plan_case *self, double background_bytes_per_s,
                                             plan_outcomes *outcomes_out);
void plan_outcomes_close(plan_outcomes *outcomes);
/* Of the loss of lost[max_ranks]. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status plan_outcomes_of(plan_outcomes *outcomes, const bool *lost,
                                           plan_outcome *outcome_out);
/* The slots of `view` that hold an expert, by `source`. */
void plan_slots_count(const plan_outcomes *outcomes, int64_t slots_out[PLAN_NUM_SOURCES]);
/* Slots from the sources that move bytes. */
int64_t plan_slots_moved(const int64_t slots[PLAN_NUM_SOURCES]);
#endif
