/* SPDX-License-Identifier: Apache-2.0 */
/* What could not be done yet, and is tried again: one table for all of it. Service thread. */
#ifndef EEPI_RETRIES_H
#define EEPI_RETRIES_H

#include "eep/eep.h"

#include <stdbool.h>

typedef enum eepi_retry_kind {
    EEPI_RETRY_BEGIN,   /* look again whether an instance may begin */
    EEPI_RETRY_INSTALL, /* the view could not be staged, or the idle bank was busy */
    EEPI_RETRY_STAGE,   /* the plan waits for the idle bank, or for a peer's record */
    EEPI_RETRY_FILL,    /* a repair failed */
    EEPI_NUM_RETRIES,
} eepi_retry_kind;

/* Try again what concerns the document of that digest. False: what it waits for has not come yet.
 */
typedef bool (*eepi_retry_run)(eep_context *context, uint64_t digest);

/* All zero: nothing waits. */
typedef struct eepi_retry {
    uint64_t due_us; /* not before; 0: as soon as something else has happened */
    uint64_t digest;
    eepi_retry_run run; /* NULL: there is nothing to try */
    bool is_blocked;    /* it was due and waits for something else: nothing wakes for it */
} eepi_retry;

typedef struct eepi_retries {
    eepi_retry entries[EEPI_NUM_RETRIES];
} eepi_retries;

/* In place of what waited under that kind. */
void eepi_retry_set(eepi_retries *retries, eepi_retry_kind kind, uint64_t due_us, uint64_t digest,
                    eepi_retry_run run);
void eepi_retry_drop(eepi_retries *retries, eepi_retry_kind kind);
/* Something came that it may have waited for. */
void eepi_retry_hurry(eepi_retries *retries, eepi_retry_kind kind);
/* Run it if it is due; it may set itself again. */
void eepi_retry_run_due(eep_context *context, eepi_retries *retries, eepi_retry_kind kind,
                        uint64_t now_us);
/* When to wake for the next one; UINT64_MAX: for none. A failed repair has no hurry: any round
 * after its time will do. */
uint64_t eepi_retries_wake_us(const eepi_retries *retries);
#endif
