/* SPDX-License-Identifier: Apache-2.0 */
/* How many redundant slots survive which losses. */
#ifndef EEPX_PLAN_REDUNDANCY_H
#define EEPX_PLAN_REDUNDANCY_H

#include "experiments/plan_tool/plan_case.h"

#include <cjson/cJSON.h>

/* For any k ranks, any k neighbours and any nodes: what the count of slots says must be there, and
 * the least slots a rank with which libeep's first placement survives all such losses without
 * moving a byte. Also how many ranks the instance survives with its backups. All of it is exact: a
 * loss leaves an expert without a replica if and only if all of the ranks that hold it are lost, so
 * each expert is looked at, and no set of ranks is drawn. NULL: no memory. */
cJSON *plan_redundancy(const plan_case_options *options);
#endif
