/* SPDX-License-Identifier: Apache-2.0 */
/* Why a rank serves no more, or cannot serve now. Guarded by the context's lock. */
#ifndef EEPI_OUTCOME_H
#define EEPI_OUTCOME_H

#include "eep/eep.h"

#include <stdbool.h>

enum { EEPI_WHY_ENDED_BYTES = 512 };

typedef struct eepi_outcome {
    eep_status ended;    /* why it no longer serves; EEP_OK while it does or may */
    bool uncovered;      /* fails closed until somebody brings the experts */
    uint32_t num_closed; /* how often it began to */
    char why[EEPI_WHY_ENDED_BYTES];
    char waits[128]; /* for what an agreed view waits here; "": for nothing */
} eepi_outcome;

/* End the running step at once: a graph of it that begins later stores nothing (partner:
 * eepk_latch_body). */
void eepi_abort_running(eep_context *context);
/* The service of this rank is over, for good. Service thread. */
void eepi_end_service(eep_context *context, eep_status status, const char *why);
/* Rule R2: nobody serves until a process brings the missing experts; then a view is installed.
 * Service thread. */
void eepi_fail_closed(eep_context *context, const char *why);
#endif
