/* SPDX-License-Identifier: Apache-2.0 */
/* Quantiles and intervals of measured times. Pure; every function sorts or reads only what it is
 * given. */
#ifndef BENCH_STATS_H
#define BENCH_STATS_H

#include <stddef.h>

/* p50 and p99 are nearest ranks: the smallest value that so many percent do not exceed. low..high
 * holds the median with 95 % confidence whatever the distribution (order statistics, the sign
 * test's interval); with fewer than 6 values it is min..max, and says less. */
typedef struct bench_stats {
    size_t n;
    double p50, p99, min, max;
    double low, high;
} bench_stats;

/* Sorts `values` [n], n > 0. */
bench_stats bench_stats_of(double *values, size_t n);

/* What a comparison of A with B found, each taken twice; all as ratios, 1.0: equal. */
typedef struct bench_ratio {
    size_t n;
    double estimate, low, high;       /* geometric means, A over B: median, 95 % interval */
    double same, same_low, same_high; /* B again over B */
    double same_half_width;           /* of the latter interval */
} bench_ratio;

/* From paired values, [n] each, all > 0. `scratch` is [n]. */
bench_ratio bench_ratio_of(const double *a, const double *a_again, const double *b,
                           const double *b_again, size_t n, double *scratch);
#endif
