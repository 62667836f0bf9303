/* SPDX-License-Identifier: Apache-2.0 */
/* How processes started, part by part: those of the first view, joiners, and those of a full
 * restart. The parts of a joiner and of a restart are the same, so that both can stand side by
 * side. Pure but for writing the file; docs/SUMMARY.md has the definitions. */
#ifndef EEPX_STARTUP_H
#define EEPX_STARTUP_H

#include "experiments/rows/record.h"

/* Its first step that ended OK and computed positions, and its first token: when they were done, by
 * its clock; 0: there was none. */
typedef struct startup_firsts {
    uint64_t step_ns, token_ns;
} startup_firsts;
startup_firsts startup_firsts_of(const record *run, const record_process *process);

/* "first", "join" or "restart". */
const char *startup_kind(const record_process *process);

/* Write startup.csv into `dir`: a row per process. `weights` says where they come from: "seed" or
 * "checkpoint". EEP_ERR_SYSTEM. */
EEP_MUST_CHECK eep_status startup_write(const record *run, const char *weights, const char *dir);
#endif
