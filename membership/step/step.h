/* SPDX-License-Identifier: Apache-2.0 */
/* What a context keeps of its steps beside the stepper. */
#ifndef EEPI_STEP_H
#define EEPI_STEP_H

#include "eep/shapes.h"
#include "graphs/kernels/table_layout.h"

#include <stdbool.h>

/* Rank thread, but for the headers. */
typedef struct eepi_steps {
    bool graph_runs;   /* the step's graph runs where libeep does not look */
    bool is_queued;    /* it may begin there yet, and then stores nothing */
    eep_bad_input bad; /* of the last step that had one; step 0: none did */
    uint64_t
        held_until_us; /* the last step was aborted: no other one while a bell rings; 0: none */
    struct eepi_proxies *proxies;         /* NULL: there is no network, and each peer is LOCAL */
    eep_shape shapes[EEP_MAX_SHAPES - 1]; /* what config.shapes is */
    /* [max_ranks] under the context's lock: host sides that are discrete; NULL: none is mapped */
    eepk_window_header *peer_headers[];
} eepi_steps;

/* EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_steps_open(eep_context *context);
void eepi_steps_close(eep_context *context);
/* A peer's newest window has a host side of its own, where the rank thread tells the steps that it
 * begins. Service thread. */
void eepi_steps_tell_at(eep_context *context, int seat, eepk_window_header *header);
#endif
