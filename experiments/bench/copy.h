/* SPDX-License-Identifier: Apache-2.0 */
/* The device's own copies, as the measure of how fast bytes can be moved. */
#ifndef BENCH_COPY_H
#define BENCH_COPY_H

#include "experiments/bench/world.h"

/* How long, in microseconds, the device needs to move bytes[i] bytes, reads and writes added up:
 * the median of `repeats` copies of half as many. One stream copies on a GPU; on the host as many
 * as there are cores, at once. Main thread. */
void bench_copy_times(bench_world *world, const double *bytes, double *us_out, int n, int repeats);
#endif
