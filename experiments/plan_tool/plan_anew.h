/* SPDX-License-Identifier: Apache-2.0 */
/* The other way, to compare with: all survivors' slots are placed anew, whatever they held, and all
 * of that is moved inside the pause. */
#ifndef EEPX_PLAN_ANEW_H
#define EEPX_PLAN_ANEW_H

#include "experiments/plan_tool/plan_outcome.h"

typedef struct plan_anew {
    bool is_covered;
    int64_t slots[PLAN_NUM_SOURCES];
    double pause_s;
    plan_balance balance;
} plan_anew;

/* Of the loss of lost[max_ranks]. A slot keeps its expert if its rank had it; else it comes from a
 * live replica, by the path that is least loaded; else from a backup, the own node's first; else
 * from a checkpoint. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status plan_anew_of(plan_outcomes *outcomes, const bool *lost,
                                       plan_anew *anew_out);
#endif
