/* SPDX-License-Identifier: Apache-2.0 */
/* A scenario: an instance, a load, what happens to it and what must come of it, from a YAML file
 * (docs/SCENARIOS.md). Pure but for scenario_load, which reads the file. */
#ifndef EEPX_SCENARIO_H
#define EEPX_SCENARIO_H

#include "eep/eep.h"
#include "experiments/setup/expect.h"
#include "experiments/setup/options.h"
#include "experiments/script/script.h"
#include "experiments/setup/scenario_reader.h"

#include <stdbool.h>
#include <stddef.h>

enum { SCENARIO_MAX_BYTES = 1 << 20 };

/* An option of eep-run as a scenario gives it. */
typedef struct scenario_pair {
    char *text; /* "--ranks=8" */
    int line, column;
} scenario_pair;

typedef struct scenario {
    char *file; /* as named in messages */
    char *name, *about;
    bool is_long; /* too long for a quick check */
    scenario_pair *pair;
    int num_pairs;
    script_event *event;
    int num_events;
    expect_clause *clause;
    int num_clauses;
    bool may_fail; /* `good: false`: the run itself need not be good */
} scenario;

/* Read a scenario. EEP_ERR_INVALID with "FILE:LINE:COLUMN: what is wrong and what is allowed" in
 * `error`, on one line; EEP_ERR_NO_MEMORY. Free it in any case. Whether seats exist and events fit
 * together is known only with the whole instance: scenario_apply and options_check say it. */
EEP_MUST_CHECK eep_status scenario_parse(const char *file, const char *text, size_t bytes,
                                         scenario *scenario_out, char error[SCENARIO_ERROR_BYTES]);
/* The same from a file of at most SCENARIO_MAX_BYTES. EEP_ERR_INVALID also if it cannot be read. */
EEP_MUST_CHECK eep_status scenario_load(const char *file, scenario *scenario_out,
                                        char error[SCENARIO_ERROR_BYTES]);
void scenario_free(scenario *self);

/* Set options (begun with options_set_defaults) as the scenario says; the options then point into
 * it. EEP_ERR_INVALID as above. */
EEP_MUST_CHECK eep_status scenario_apply(const scenario *self, options *options_inout,
                                         char error[SCENARIO_ERROR_BYTES]);
/* options_check, with a message that names the scenario. */
EEP_MUST_CHECK eep_status scenario_check(const scenario *self, options *options_inout,
                                         char error[SCENARIO_ERROR_BYTES]);
#endif
