/* SPDX-License-Identifier: Apache-2.0 */
/* eep-avail's tables for people, from the tree of avail_report.h. */
#ifndef EEPX_AVAIL_PRINT_H
#define EEPX_AVAIL_PRINT_H

#include <cjson/cJSON.h>

void avail_print(const cJSON *report);
void avail_print_constants(const cJSON *constants);
#endif
