/* SPDX-License-Identifier: Apache-2.0 */
/* Order statistics and confidence intervals. */
#include "experiments/bench/stats.h"

#include <math.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double nearest_rank(const double *sorted, size_t n, double percent)
{
    size_t rank = (size_t)ceil((double)n * percent / 100.0);

    return sorted[rank > 0 ? rank - 1 : 0];
}

/* Of n values, the median lies between the (index + 1)-th from either end with 95 % confidence;
 * binomial(n, 1/2) by its normal approximation, rounded outwards. */
static size_t interval_index(size_t n)
{
    const double from = floor((double)n / 2.0 - 1.96 * sqrt((double)n) / 2.0);

    return from < 1.0 ? 0 : (size_t)from - 1;
}

bench_stats bench_stats_of(double *values, size_t n)
{
    bench_stats s = {.n = n};
    const size_t index = interval_index(n);

    qsort(values, n, sizeof *values, compare);
    s.p50 = nearest_rank(values, n, 50.0);
    s.p99 = nearest_rank(values, n, 99.0);
    s.min = values[0];
    s.max = values[n - 1];
    s.low = values[index];
    s.high = values[n - 1 - index];
    return s;
}

bench_ratio bench_ratio_of(const double *a, const double *a_again, const double *b,
                           const double *b_again, size_t n, double *scratch)
{
    bench_ratio r = {.n = n};
    bench_stats s;

    for (size_t i = 0; i < n; i++) {
        scratch[i] = sqrt(a[i] * a_again[i] / (b[i] * b_again[i]));
    }
    s = bench_stats_of(scratch, n);
    r.estimate = s.p50;
    r.low = s.low;
    r.high = s.high;
    for (size_t i = 0; i < n; i++) {
        scratch[i] = b_again[i] / b[i];
    }
    s = bench_stats_of(scratch, n);
    r.same = s.p50;
    r.same_low = s.low;
    r.same_high = s.high;
    r.same_half_width = (s.high - s.low) / 2.0;
    return r;
}
