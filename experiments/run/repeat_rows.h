/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers out of the summaries of many runs: raw rows, and statistics over them. */
#ifndef EEPX_REPEAT_ROWS_H
#define EEPX_REPEAT_ROWS_H

#include "eep/eep.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct repeat_run_row {
    int64_t run, seed;
    double seconds;
    bool met;
} repeat_run_row;

typedef struct repeat_value {
    int64_t run;
    int field;      /* index of what is collected */
    char place[64]; /* "faults[2].pause_ms" */
    double value;
} repeat_value;

typedef struct repeat_rows {
    repeat_run_row *run;
    size_t num_runs, run_capacity;
    repeat_value *value;
    size_t num_values, value_capacity;
    bool out_of_memory;
} repeat_rows;

/* Take a run and the numbers found in its summary (NULL: it left none). EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status repeat_rows_add(repeat_rows *self, repeat_run_row run,
                                          const cJSON *found);
void repeat_rows_free(repeat_rows *self);

/* The table of n, min, p50, p99, max (nearest rank) of each field that has values. */
void repeat_rows_print(const repeat_rows *self, FILE *file);
/* The same as JSON, with the runs: what repeat.json holds. NULL: out of memory. */
cJSON *repeat_rows_json(const repeat_rows *self);
/* `run,seed,field,place,value` of each number. */
void repeat_rows_csv(const repeat_rows *self, FILE *file);
#endif
