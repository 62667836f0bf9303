/* SPDX-License-Identifier: Apache-2.0 */
/* The events of a scenario. Private to the scenario's files. */
#ifndef EEPX_SCENARIO_EVENTS_H
#define EEPX_SCENARIO_EVENTS_H

#include "experiments/script/script.h"
#include "experiments/setup/scenario_reader.h"

/* The event of the list's entry `node`. `same`: the index of the event that `ranks: same` means;
 * -1: there is none. */
EEP_MUST_CHECK eep_status scenario_read_event(const scenario_reader *self, int node, int same,
                                              script_event *event_out);
#endif
