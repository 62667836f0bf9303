/* SPDX-License-Identifier: Apache-2.0 */
/* A step's graph that may still run in a stream that libeep does not see. A caller that captures
 * and replays by its own means may use another stream than the one it named. Rank thread. */
#ifndef EEPI_RUNNING_GRAPH_H
#define EEPI_RUNNING_GRAPH_H

#include "eep/eep.h"

#include <stdbool.h>

/* The step's stream is empty. A step that has not ended is aborted, and its end is waited for.
 * True: its end came from another stream. */
bool eepi_running_graph_end(eep_context *context);
/* The step's graph still runs in another stream, and may store. */
bool eepi_graph_runs(const eep_context *context);
typedef enum eepi_left {
    EEPI_LEFT_NOTHING,
    EEPI_LEFT_MEMORY, /* a graph may begin yet: it stores nothing and uses the context's memory */
    EEPI_LEFT_ALL,    /* a graph still runs, and may store */
} eepi_left;
/* What a context that closes leaves running; a step in flight is aborted and waited for. */
eepi_left eepi_running_graph_left(eep_context *context, uint64_t bound_us);
#endif
