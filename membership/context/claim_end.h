/* SPDX-License-Identifier: Apache-2.0 */
/* A seat that was taken, and the end of its present or former holder. */
#ifndef EEPI_CLAIM_END_H
#define EEPI_CLAIM_END_H

#include "membership/core/core.h"

#include <stdbool.h>

/* Calling thread of eep_open and eep_close; giving back, the service thread, too. */
typedef struct eepi_claim {
    bool takes_any;                     /* EEP_RANK_ANY */
    bool has_seat;                      /* the seat is ours by its file, */
    bool is_recorded;                   /* and in the store, */
    uint64_t record_revision;           /* at that revision, as far as this process has put it */
    bool is_replaced;                   /* another process has taken the seat since */
    int lock_fd;                        /* keeps the lock of the seat's file while has_seat */
    uint64_t instance;                  /* identity of the instance whose seat it is */
    uint32_t serial[EEPI_VIEW_COLOURS]; /* of the memory that its windows have, by the view found */
    /* Rule N21. The holder before, which no view ever had, and whose lease has lapsed since its
     * record was written at that revision; 0: none. */
    uint32_t lapsed;
    uint64_t lapsed_revision;
    bool has_lease, has_lapsed; /* its own; by its own count, as it was told last */
} eepi_claim;

/* Tell the store of the end of that generation, and with it of all older ones (rule M7). */
EEP_MUST_CHECK eep_status eepi_claim_end(eep_context *context, const eepi_end *end,
                                         uint64_t bound_us);
/* The seat is free for another context, of this process as well; */
void eepi_claim_give_back(eep_context *context);
/* and the end of ours is told. */
void eepi_claim_release(eep_context *context, uint64_t bound_us);
#endif
