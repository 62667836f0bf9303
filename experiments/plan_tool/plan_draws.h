/* SPDX-License-Identifier: Apache-2.0 */
/* Many losses by chance, a CSV row each. */
#ifndef EEPX_PLAN_DRAWS_H
#define EEPX_PLAN_DRAWS_H

#include "experiments/plan_tool/plan_outcome.h"

#include <stdio.h>

/* `num` losses of `failed` ranks, chosen as `how` says, each on the same instance with all ranks
 * live. Seconds are of links, as plan_outcome and plan_anew say; slots are of all layers. `lost` is
 * hexadecimal: bit i is rank i, the highest rank first. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status plan_draws_print(plan_outcomes *outcomes, const char *how, int failed,
                                           int num, uint64_t seed, FILE *file);
#endif
