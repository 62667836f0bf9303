/* SPDX-License-Identifier: Apache-2.0 */
/* eep-plan's lines for people, from the tree of plan_report.h. */
#ifndef EEPX_PLAN_PRINT_H
#define EEPX_PLAN_PRINT_H

#include <cjson/cJSON.h>

void plan_print(const cJSON *report);
/* What plan_redundancy() says. */
void plan_print_redundancy(const cJSON *report);
#endif
