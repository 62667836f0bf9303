/* SPDX-License-Identifier: Apache-2.0 */
/* What other threads have to say to the service thread. */
#ifndef EEPI_MAILBOX_H
#define EEPI_MAILBOX_H

#include "membership/core/core.h"

#include <stdbool.h>

/* From the rank thread, under the context's lock. What the stepper has to say is in its own mail.
 */
typedef struct eepi_mailbox {
    int leave; /* bits of eepi_leaving */
    bool ready;
} eepi_mailbox;

/* From the heartbeat thread, which must not wait for what others do under the context's lock. */
typedef struct eepi_evidence eepi_evidence;
/* What that thread, or the bell's, has seen of a process. */
typedef struct eepi_sign {
    eepi_input_kind kind; /* EVIDENCE; ALIVE, MEMORY_GONE, EXIT (it has closed): the kind of suspect
                           * says nothing */
    eepi_suspect suspect;
} eepi_sign;

/* NULL: out of memory. */
eepi_evidence *eepi_evidence_open(void);
void eepi_evidence_close(eepi_evidence *evidence);
/* One that finds no room is dropped: there is room for EEPI_SIGNS_PER_SEAT of each seat. */
enum {
    EEPI_SIGNS_PER_SEAT = 5
}; /* a bell, as both threads hear it, what came of it, a lane's two */
void eepi_evidence_post(eepi_evidence *evidence, const eepi_sign *sign);
/* Take all that wait, oldest first; what comes later is taken later. Returns how many. The bytes
 * stay until the next call; service thread. */
int eepi_evidence_take(eepi_evidence *evidence, const eepi_sign **signs_out);
#endif
