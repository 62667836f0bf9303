/* SPDX-License-Identifier: Apache-2.0 */
/* What a full restart cost, part by part. The definitions are in docs/SUMMARY.md. Pure. */
#ifndef EEPX_SUMMARY_RESTART_H
#define EEPX_SUMMARY_RESTART_H

#include "experiments/rows/record.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One behind the other, each until the last rank is through with it. */
typedef enum restart_part {
    RESTART_DETECT,  /* the launcher noticed the end of the rank */
    RESTART_EXIT,    /* all processes had ended */
    RESTART_SPAWN,   /* the new processes ran their program */
    RESTART_OPEN,    /* contexts were open: all ranks had their seats */
    RESTART_LOAD,    /* weights and backups were in place */
    RESTART_CAPTURE, /* graphs were captured */
    RESTART_ENTER,   /* all ranks were in the first view */
    RESTART_TOKEN,   /* the first token was made */
    RESTART_PARTS
} restart_part;
extern const char *const restart_part_names[RESTART_PARTS]; /* "detect" */

typedef struct summary_restart {
    int32_t seat; /* of the rank that was lost */
    uint32_t generation;
    double time_ms;                /* of the fault */
    bool served;                   /* a token came after it: times are valid */
    double part_ms[RESTART_PARTS]; /* they sum to pause_ms */
    double pause_ms;
    double prefill_ms; /* behind the pause, until the last request that was sent again had its
                          first token; < 0: there was none, or not all of them had one */
    double cached;     /* record_process */
    uint32_t requests_failed;
    uint64_t tokens_discarded; /* that failed requests had emitted */
} summary_restart;

summary_restart summary_restart_measure(const record *run, const record_restart *restart);
/* Add `restarts` of summary.json. */
void summary_restart_add(cJSON *root, const summary_restart *restarts, size_t num);
/* The table for people; nothing without one. */
void summary_restart_print(const summary_restart *restarts, size_t num);
#endif
