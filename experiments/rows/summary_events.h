/* SPDX-License-Identifier: Apache-2.0 */
/* What came of the script's events: one that hit no rank, or never came due, must be seen. */
#ifndef EEPX_SUMMARY_EVENTS_H
#define EEPX_SUMMARY_EVENTS_H

#include "experiments/rows/record.h"

#include <cjson/cJSON.h>

typedef struct summary_events {
    int struck_nobody; /* its moment came, and all of its ranks had no process */
    int passed_over;   /* ranks that had no process, or were being killed, over all events */
    int never_due;     /* its moment never came */
    int waiting;       /* it was due, and no rank fitted or no seat was free for it */
    int withdrawn;     /* given up because the run was told to finish */
} summary_events;

summary_events summary_events_count(const record_event *events, size_t num);
/* "done", "struck nobody", "never due", "waiting" or "withdrawn". */
const char *summary_events_outcome(const record_event *self);
/* Processes that were told to die or to stop themselves in a step, and had not when the run ended.
 */
uint64_t summary_events_orders_open(const record *run);
/* Add `script` and `events` of summary.json. */
void summary_events_add(cJSON *root, const record_event *events, size_t num, uint64_t orders_open);
/* A line for each event that was not done to all of its ranks; nothing without one. */
void summary_events_print(const record_event *events, size_t num, uint64_t orders_open);
#endif
