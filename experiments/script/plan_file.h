/* SPDX-License-Identifier: Apache-2.0 */
/* Plans as files: read before a run, and what came of them afterwards. */
#ifndef EEPX_PLAN_FILE_H
#define EEPX_PLAN_FILE_H

#include "experiments/script/plan.h"

/* plan_parse of the file's text. EEP_ERR_SYSTEM: it cannot be read; `error` says why. */
EEP_MUST_CHECK eep_status plan_load(const char *path, plan **plan_out,
                                    char error[PLAN_ERROR_BYTES]);
/* Write DIR/plan.json (docs/PLANS.md). EEP_ERR_SYSTEM, EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status plan_write(const plan *self, const char *dir);
#endif
