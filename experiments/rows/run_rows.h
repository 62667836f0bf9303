/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of a run: every step, emitted token and event, kept in memory while it runs and written
 * as CSV files and as a trace for Perfetto afterwards. Schema: docs/SUMMARY.md. One thread owns
 * the rows; times are CLOCK_MONOTONIC nanoseconds and are written relative to a start. */
#ifndef EEPX_ROWS_H
#define EEPX_ROWS_H

#include "eep/eep.h"
#include "experiments/load/scheduler.h"
#include "experiments/rows/source_mix.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct row_step {
    uint64_t time_ns; /* when the launcher learned of it */
    uint64_t step, epoch, begin_ns, end_ns;
    uint32_t generation;
    int32_t seat, status;
    uint32_t tokens, positions, reprefill; /* tokens: accepted by the sink */
} row_step;
typedef struct row_token {
    uint64_t time_ns; /* when the sink accepted it */
    uint64_t made_ns; /* when its rank's step had ended */
    uint64_t digest, step, epoch;
    uint32_t request, position, token, generation;
    int32_t seat;
} row_token;
typedef struct row_event {
    uint64_t time_ns;
    uint64_t epoch, value;
    const char *kind; /* a string literal */
    int32_t seat, about_seat;
    uint32_t generation, about_generation;
} row_event;

/* Weights that came to a rank, or that it had, from one source. */
typedef struct row_source {
    uint64_t time_ns, epoch, fills, bytes;
    int32_t seat;
    uint32_t generation;
    source_kind source;
    bool behind; /* live traffic; else while nobody served */
} row_source;

typedef struct rows {
    row_step *steps;
    size_t num_steps, capacity_steps;
    row_token *tokens;
    size_t num_tokens, capacity_tokens;
    row_event *events;
    size_t num_events, capacity_events;
    row_source *sources;
    size_t num_sources, capacity_sources;
    char *head;        /* comment lines that each CSV file begins with; NULL: none */
    int out_of_memory; /* a row was dropped: the run must not be called good */
} rows;

void rows_add_step(rows *self, const row_step *row);
void rows_add_token(rows *self, const row_token *row);
void rows_add_event(rows *self, const row_event *row);
/* A row for each source of the mix that brought something; `like` says whose and when. */
void rows_add_sources(rows *self, const row_source *like, const source_mix *mix);
void rows_free(rows *self);

/* The lower-case name of an event of libeep ("suspected"); "unknown" for a foreign value. */
const char *rows_event_name(eep_event_kind kind);

/* A new CSV file of the run, with the comment lines; NULL with errno. */
FILE *rows_create(const rows *self, const char *dir, const char *name);
/* The rows as a trace for Perfetto (run_rows_trace.c). */
void rows_trace(const rows *self, FILE *file, uint64_t start_ns);
/* Files that could not be written, or not wholly, and the errno of each. */
enum { ROWS_FILES = 6 };
typedef struct rows_failures {
    int num;
    struct {
        const char *name;
        int error;
    } file[ROWS_FILES];
} rows_failures;
/* Write steps.csv, tokens.csv, events.csv, sources.csv, requests.csv and trace.json into `dir`.
 * EEP_ERR_SYSTEM if files cannot be written, which are then in `failed_out`; the others are written
 * all the same.
 */
EEP_MUST_CHECK eep_status rows_write(const rows *self, const scheduler *requests, const char *dir,
                                     uint64_t start_ns, rows_failures *failed_out);
#endif
