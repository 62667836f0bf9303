/* SPDX-License-Identifier: Apache-2.0 */
/* A planned instance as a JSON tree: what eep-plan prints is read from it. */
#ifndef EEPX_PLAN_REPORT_H
#define EEPX_PLAN_REPORT_H

#include "experiments/plan_tool/plan_survey.h"

#include <cjson/cJSON.h>

typedef struct plan_report_options {
    int32_t times;   /* plan so often to measure; 0: not measured */
    int32_t samples; /* of losses; 0: not surveyed */
    uint64_t seed;
    double background_bytes_per_s; /* into each rank, behind traffic; 0: as links allow */
    bool lists_fills, moves_behind;
} plan_report_options;

/* Plans on a copy of the case's view. The tree is the caller's (cJSON_Delete); `planned_out` is
 * the planned document, the caller's too (free), NULL if the plan failed. NULL: no memory. */
cJSON *plan_report(const plan_case *self, const plan_report_options *options,
                   eepi_view **planned_out);
#endif
