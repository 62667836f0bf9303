/* SPDX-License-Identifier: Apache-2.0 */
/* One collective of this rank: contribute, wait for the others, take what they gave. */
#ifndef EEPI_COLLECTIVE_ROUND_H
#define EEPI_COLLECTIVE_ROUND_H

#include "membership/collective/collective_area.h"

typedef struct eepi_collective_round {
    const char *call;
    eepi_collective_what what;
    const void *send; /* [bytes] */
    size_t bytes;
    uint64_t timeout_us;
    /* Of an ended number whose bytes are all here and sound: what a seat sent, in order of seats. A
     * broadcast gives the root's alone. */
    void (*deliver)(void *user, int seat, const void *bytes, size_t size);
    void *user;
} eepi_collective_round;

/* The status, also in `result` (of the library's own size). The thread holds the collectives. */
EEP_MUST_CHECK eep_status eepi_collective_run(eep_context *context,
                                              const eepi_collective_round *round,
                                              eep_collective_result *result);
#endif
