/* SPDX-License-Identifier: Apache-2.0 */
/* The request source: when requests arrive and how long they are, from a JSONL file (one object per
 * line with `timestamp` in ms, `input_length`, `output_length`; other members are ignored) or drawn
 * from a seeded Poisson process. Pure but for reading the file; any thread. */
#ifndef EEPX_TRACE_H
#define EEPX_TRACE_H

#include "eep/status.h"

#include <stddef.h>
#include <stdint.h>

enum { TRACE_ERROR_BYTES = 512 };
/* Largest length before and after scaling; largest timestamp, which may be a time of day (until the
 * year 2255, so that doubles hold its microseconds); latest arrival after scaling (31 years). */
enum { TRACE_MAX_LENGTH = 1 << 24 };
/* Of a file: bytes of a line without its end, and lines. */
enum { TRACE_MAX_LINE_BYTES = 1 << 20, TRACE_MAX_LINES = 10000000 };
static const double TRACE_MAX_TIMESTAMP_MS = 9e12, TRACE_MAX_ARRIVAL_MS = 1e12;

typedef struct trace_request {
    uint64_t arrival_us;                  /* since the start of the run */
    uint32_t input_length, output_length; /* tokens, 1..TRACE_MAX_LENGTH */
} trace_request;

typedef struct trace {
    trace_request *requests; /* [num_requests] by arrival; equal arrivals in file order */
    size_t num_requests;
    double shift_ms; /* what was taken off the arrivals, by TRACE_START_FIRST */
} trace;

typedef struct trace_fraction {
    uint64_t num, den; /* both at least 1, at most 10^9 */
} trace_fraction;

typedef enum trace_start {
    TRACE_START_FIRST, /* the earliest timestamp: a slice of a trace begins at once */
    TRACE_START_ZERO,  /* timestamp 0 */
} trace_start;

typedef struct trace_options {
    size_t first;                 /* only the first N lines that hold a request; 0: all */
    trace_fraction scale_lengths; /* lengths times this, rounded down, at least 1; {0}: as is */
    trace_fraction scale_time;    /* timestamps times this, rounded down to 1 us; {0}: as is */
    trace_start start;            /* what the run's start is among the timestamps */
} trace_options;

typedef struct trace_poisson {
    uint64_t seed;
    double rate_per_s;             /* > 0 */
    size_t num_requests;           /* >= 1 */
    uint32_t input_min, input_max; /* uniform, both ends included */
    uint32_t output_min, output_max;
} trace_poisson;

/* Parse "1/64", "2" or "0.5" (at most 9 digits after the point). EEP_ERR_INVALID: something else,
 * zero, or a part above 10^9. */
EEP_MUST_CHECK eep_status trace_parse_fraction(const char *text, trace_fraction *fraction_out);

/* Read a JSONL trace. Blank lines are skipped. EEP_ERR_INVALID: a line is malformed, or a member is
 * missing, of the wrong type or out of range, or no request is left; EEP_ERR_SYSTEM: the file
 * cannot be read; EEP_ERR_NO_MEMORY. On failure error_out holds one line: "FILE:LINE: what"
 * where it concerns a line of the file. */
EEP_MUST_CHECK eep_status trace_load(const char *path, const trace_options *options,
                                     trace *trace_out, char error_out[TRACE_ERROR_BYTES]);

/* Draw arrivals and lengths; the same struct gives the same trace on every machine with the same
 * C library. EEP_ERR_INVALID: a field is out of range; EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status trace_draw_poisson(const trace_poisson *poisson, trace *trace_out,
                                             char error_out[TRACE_ERROR_BYTES]);

void trace_free(trace *trace);
#endif
