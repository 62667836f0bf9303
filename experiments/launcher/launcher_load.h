/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of a run: arrivals of the trace, what --keep-busy adds, and their way to the ranks.
 * Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_LOAD_H
#define EEPX_LAUNCHER_LOAD_H

#include "experiments/load/trace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LAUNCHER_MAX_FILLED = 1 << 18,  /* requests that --keep-busy adds, at most */
    LAUNCHER_MAX_RETRIES = 1 << 18, /* and that clients send again after a full restart */
};

typedef struct launcher launcher;

typedef struct launcher_load {
    trace arrivals;
    trace filler; /* lengths of what --keep-busy adds */
    size_t num_arrived, num_filled;
    uint64_t waiting_ns; /* since when the script waits for triggers only; 0: it does not */
} launcher_load;

/* No more requests arrive. */
bool launcher_arrivals_are_over(const launcher *self);
/* Milliseconds until the next request arrives; 0: it is due. HUGE_VAL: none will. */
double launcher_arrival_wait_ms(const launcher *self);
/* The closed loop of --keep-busy still runs. It is not kept up for what may never happen. */
bool launcher_keeps_busy(launcher *self, uint64_t now_ns);
/* Requests that wait for a rank or are at one. */
uint32_t launcher_outstanding(const launcher *self);
/* Accept what has arrived by now, and give ranks that have room their next requests. */
void launcher_run_load(launcher *self, uint64_t now_ns);
#endif
