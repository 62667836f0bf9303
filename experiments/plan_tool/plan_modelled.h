/* SPDX-License-Identifier: Apache-2.0 */
/* The time of a loss, modelled: the parts of the pause, and rows like those of a run. */
#ifndef EEPX_PLAN_MODELLED_H
#define EEPX_PLAN_MODELLED_H

#include "experiments/plan_tool/plan_outcome.h"

/* Detect, agree and the step before the fault are constants (plan_constants.h). Repair is the
 * makespan. After the loss a step takes so much longer as the most loaded rank has more to do: all
 * of a step is taken to be expert time. */
typedef struct plan_modelled {
    double detect_ms, agree_ms, repair_ms, rerun_ms, pause_ms;
    double silent_pause_ms; /* of a rank that lives and does not answer: the deadline detects it */
    double step_ms;         /* before the loss */
    double kept;            /* throughput once nothing is left to move, over that before */
} plan_modelled;

plan_modelled plan_modelled_of(const plan_case *self, const plan_outcome *outcome, int lost);

/* Write DIR/summary.json, steps.csv, events.csv and tokens.csv of the loss, which strikes after
 * `before_s` seconds, `after_s` before the end. Columns are those of a run; `comment` stands above
 * them. `lost` [max_ranks]. -1 with errno. */
int plan_modelled_rows(const plan_case *self, const plan_outcome *outcome, double before_s,
                       double after_s, const char *comment, const char *dir);
#endif
