/* SPDX-License-Identifier: Apache-2.0 */
/* The least engine: a rank that holds all experts of a tiny model and steps with its peers, without
 * tokens of its own. For programs that are about something else than steps. */
#ifndef EEPX_IDLE_ENGINE_H
#define EEPX_IDLE_ENGINE_H

#include "eep/eep.h"

enum { IDLE_EXPERTS = 2, IDLE_HIDDEN = 8, IDLE_ERROR_BYTES = 256 };

typedef struct idle_engine {
    eep_device *device;
    eep_stream *stream;
    eep_graph *graph;
    eep_context *context;
    char error[IDLE_ERROR_BYTES];
} idle_engine;

/* Open the rank of that seat and capture its step. On failure `error` says why. */
EEP_MUST_CHECK eep_status idle_engine_open(idle_engine *engine, int32_t seat, int32_t num_ranks,
                                           const char *store_path);
/* Wait at most so long for a step that peers have begun, and take part in it. EEP_OK: go on. */
EEP_MUST_CHECK eep_status idle_engine_follow(idle_engine *engine, uint64_t timeout_us);
void idle_engine_close(idle_engine *engine);
#endif
