/* SPDX-License-Identifier: Apache-2.0 */
/* Means, chances and draws of a time. */
#include "experiments/avail/time_law.h"

#include "experiments/avail/avail_constants.h"
#include "experiments/base/random.h"

#include <math.h>

/* Between two quantiles of the trace. */
typedef struct piece {
    double low, high; /* shares of the times */
    double least_h, most_h;
} piece;

static const piece trace[] = {
    {0.0, 0.25, AVAIL_REPAIR_LEAST_H, AVAIL_REPAIR_P25_H},
    {0.25, 0.5, AVAIL_REPAIR_P25_H, AVAIL_REPAIR_P50_H},
    {0.5, 0.9, AVAIL_REPAIR_P50_H, AVAIL_REPAIR_P90_H},
    {0.9, 1.0, AVAIL_REPAIR_P90_H, AVAIL_REPAIR_MOST_H},
};
enum { NUM_PIECES = sizeof trace / sizeof trace[0], NUM_PARTS = 64 };

double time_law_mean(const time_law *self)
{
    double mean = self->fixed_h;
    for (int i = 0; self->has_trace && i < NUM_PIECES; i++) {
        const piece *p = &trace[i];
        mean += (p->high - p->low) * (p->most_h - p->least_h) / log(p->most_h / p->least_h);
    }
    return mean;
}

/* Over one piece, whose logarithm is uniform: Simpson's rule. */
static double none_within(const piece *p, double rate)
{
    const double ratio = log(p->most_h / p->least_h);
    double sum = 0;
    for (int i = 0; i <= NUM_PARTS; i++) {
        const double weight = i == 0 || i == NUM_PARTS ? 1 : i % 2 ? 4 : 2;
        sum += weight * exp(-rate * p->least_h * exp(ratio * i / NUM_PARTS));
    }
    return sum / (3.0 * NUM_PARTS);
}

double time_law_none_within(const time_law *self, double rate)
{
    double chance = self->has_trace ? 0 : 1;
    for (int i = 0; self->has_trace && i < NUM_PIECES; i++) {
        chance += (trace[i].high - trace[i].low) * none_within(&trace[i], rate);
    }
    return chance * exp(-rate * self->fixed_h);
}

double time_law_uniform(uint64_t *random_io)
{
    return (double)(random_next(random_io) >> 11) * 0x1p-53;
}

double time_law_exponential(double mean, uint64_t *random_io)
{
    return -mean * log1p(-time_law_uniform(random_io));
}

double time_law_draw(const time_law *self, uint64_t *random_io)
{
    if (!self->has_trace) {
        return self->fixed_h;
    }
    const double at = time_law_uniform(random_io);
    int i = 0;
    while (i + 1 < NUM_PIECES && at >= trace[i].high) {
        i++;
    }
    const piece *p = &trace[i];
    const double part = (at - p->low) / (p->high - p->low);
    return self->fixed_h + p->least_h * pow(p->most_h / p->least_h, part);
}
