/* SPDX-License-Identifier: Apache-2.0 */
/* Which losses an instance survives, and how: all sets of so many ranks, or a sample of them. */
#ifndef EEPX_PLAN_SURVEY_H
#define EEPX_PLAN_SURVEY_H

#include "experiments/plan_tool/plan_case.h"

typedef enum plan_survey_kind {
    PLAN_SURVEY_ANY,      /* any `size` ranks */
    PLAN_SURVEY_NODE,     /* any `size` nodes */
    PLAN_SURVEY_ADJACENT, /* any `size` neighbouring seats; the last is a neighbour of the first */
} plan_survey_kind;

typedef struct plan_survey {
    plan_survey_kind kind;
    int size;
    bool is_exact; /* all sets were looked at */
    int64_t sets, by_replicas, repaired, refused;
    int most_lost; /* experts of a layer without a live replica, in the worst set */
} plan_survey;

/* Look at all sets if there are no more than `samples`, else at so many by chance. `table` is of
 * the case's shape. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status plan_survey_run(const plan_case *self, eepi_plan_table *table,
                                          int samples, uint64_t seed, plan_survey *survey_io);
#endif
