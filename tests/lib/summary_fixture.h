/* SPDX-License-Identifier: Apache-2.0 */
/* A history made by hand, of which the tests of the summary know the answers. Times are in
 * milliseconds since serving started. */
#ifndef EEPT_SUMMARY_FIXTURE_H
#define EEPT_SUMMARY_FIXTURE_H

#include "experiments/rows/record.h"
#include "experiments/rows/summary.h"

enum { RANKS = 3, LAG = 300 }; /* ms that the launcher takes to read what a rank says */

/* On CLOCK_MONOTONIC. */
uint64_t at(double ms);
/* A view was committed; `dead` is no member of it (-1: all are). */
void view(record *run, double ms, uint64_t epoch, int phase, int dead);
void step(record *run, double begin, double end, int seat, uint64_t epoch, int positions);
void token(record *run, double ms, int seat, uint32_t request, uint64_t epoch);
void event(record *run, double ms, const char *kind, int seat, int about, uint64_t epoch,
           uint64_t value);
/* Three ranks serve; rank 2 is killed at 1000 ms. */
record history(void);
/* Of a run without requests. */
summary compute(record *run);
#endif
