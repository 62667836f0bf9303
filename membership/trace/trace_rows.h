/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of one context, for laboratories: EEP_TRACE=FOLDER in the environment. */
#ifndef EEPI_TRACE_ROWS_H
#define EEPI_TRACE_ROWS_H

#include "membership/trace/trace_file.h"

#include <stddef.h>

typedef struct eepi_trace eepi_trace;

typedef struct eepi_trace_config {
    int32_t seat, max_ranks;
    uint32_t generation;
    void (*count)(void *user, eep_counters *counters_out); /* called in the trace's own thread */
    void *user;
} eepi_trace_config;

/* NULL: EEP_TRACE is not set, or `why` says why there is none. */
eepi_trace *eepi_trace_open(const eepi_trace_config *config, char *why, size_t why_bytes);
/* Write what is left. NULL is ignored. */
void eepi_trace_close(eepi_trace *trace);
/* Add a row: a few stores. One that finds no room is counted and dropped. NULL: nothing. Any
 * thread. */
void eepi_trace_put(eepi_trace *trace, const eepi_trace_row *row);
/* What a laboratory asks; NULL: there is no trace. */
eepi_trace_header *eepi_trace_header_of(eepi_trace *trace);
#endif
