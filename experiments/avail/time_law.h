/* SPDX-License-Identifier: Apache-2.0 */
/* How long something takes: always the same time, or a time of a trace and a fixed one behind it.
 * The trace is known by quantiles; between two of them the logarithm of a time is uniform. */
#ifndef EEPX_TIME_LAW_H
#define EEPX_TIME_LAW_H

#include <stdbool.h>
#include <stdint.h>

typedef struct time_law {
    bool has_trace;
    double fixed_h; /* comes on top of the trace's time */
} time_law;

double time_law_mean(const time_law *self);
/* The chance that nothing of that rate per hour happens within the time: E exp(-rate * time). */
double time_law_none_within(const time_law *self, double rate);
double time_law_draw(const time_law *self, uint64_t *random_io);

/* Uniform in [0, 1), and exponential with that mean. */
double time_law_uniform(uint64_t *random_io);
double time_law_exponential(double mean, uint64_t *random_io);
#endif
