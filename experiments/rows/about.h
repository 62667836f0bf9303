/* SPDX-License-Identifier: Apache-2.0 */
/* How a run was made, for summary.json and for the first lines of its rows. */
#ifndef EEPX_ABOUT_H
#define EEPX_ABOUT_H

#include "experiments/setup/options.h"

#include <cjson/cJSON.h>

/* A command line as a shell would take it again; the caller frees it. NULL: no memory. */
char *about_command(int argc, char *const *argv);
/* "# commit ...\n# seed ...\n# command ...\n"; the caller frees it. NULL: no memory. */
char *about_head(const options *given);
/* command, started_at, scenario, load, model, limits and machine. `start_ns`: when serving started,
 * of CLOCK_MONOTONIC; 0: never. */
void about_to_json(cJSON *root, const options *given, uint64_t start_ns);
#endif
