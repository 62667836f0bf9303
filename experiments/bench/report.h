/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmark tells: lines on stdout, rows in a CSV file that is complete after every row.
 * Main thread. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "experiments/bench/stats.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct bench_report {
    FILE *csv;       /* NULL: no file */
    char *held_path; /* NULL: it is no regular file */
    int held;        /* while open, no other of this user writes into it */
    const char *commit, *driver;
    char device[128]; /* its name */
    const char *case_name;
    char setup[160]; /* "ranks 8, tokens 128, ...", the row's second key */
    int bars_missed, checks_failed;
} bench_report;

/* How the value stands to its bar. */
typedef enum bench_verdict {
    BENCH_NO_BAR, /* none applies, or too few measurements for one */
    BENCH_MET,
    BENCH_MISSED
} bench_verdict;

/* Open the file, or go on behind its rows, and write how the rows are made. -1: errno says why. */
int bench_report_open(bench_report *report, const char *path, bool append, int argc, char **argv);
/* -1: not everything could be written. */
int bench_report_close(bench_report *report);
/* Begin a configuration: what the next rows are about. */
__attribute__((format(printf, 3, 4))) void
bench_report_begin(bench_report *report, const char *case_name, const char *format, ...);
/* One number. */
void bench_report_value(bench_report *report, const char *metric, const char *unit, double value);
/* A distribution. */
void bench_report_stats(bench_report *report, const char *metric, const char *unit,
                        const bench_stats *stats, bench_verdict verdict);
/* A ratio with its interval. */
void bench_report_ratio(bench_report *report, const char *metric, size_t n, double estimate,
                        double low, double high, bench_verdict verdict);
/* A check of correctness; a failed one makes the program fail. */
void bench_report_check(bench_report *report, const char *metric, double value, int ok);
#endif
