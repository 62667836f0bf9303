/* SPDX-License-Identifier: Apache-2.0 */
/* eep-info --launch: how a rank that is started here would be numbered. */
#ifndef LAUNCH_INFO_H
#define LAUNCH_INFO_H

#include <cjson/cJSON.h>

/* 0, or 1 after a line on standard error: what the environment says is refused. */
int launch_info_collect(cJSON *root);
void launch_info_print(const cJSON *launch);
#endif
