/* SPDX-License-Identifier: Apache-2.0 */
/* Which claims of a connection have been placed, a bit each (rule N4): what the receiver says where
 * messages may come in any order. Pure. */
#ifndef EEPI_LANE_RECEIPTS_H
#define EEPI_LANE_RECEIPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct eepi_lane_receipts {
    uint64_t base;      /* all before it are placed, or were before this connection */
    uint64_t end;       /* behind the highest that is placed */
    uint32_t num_slots; /* of the sender's ring: more are never under way */
    uint64_t *bits;     /* [num_slots], by claim modulo that */
} eepi_lane_receipts;

/* `base`: the oldest that the connection may carry. False: out of memory. */
bool eepi_lane_receipts_open(eepi_lane_receipts *receipts, uint64_t base, uint32_t num_slots);
void eepi_lane_receipts_close(eepi_lane_receipts *receipts);
/* That one is placed; again, perhaps. False: it cannot be under way. */
bool eepi_lane_receipts_add(eepi_lane_receipts *receipts, uint64_t claim);

/* As a message: base, then bits from base on. Words of it, at most: */
size_t eepi_lane_receipts_most(uint32_t num_slots);
/* Returns how many words were written. */
size_t eepi_lane_receipts_write(const eepi_lane_receipts *receipts, uint64_t *words_out);
/* Call `placed` for each claim that such a message names and that lies below `sent`; those before
 * `base` are known. False: no receiver says that. */
bool eepi_lane_receipts_read(const uint64_t *words, size_t num_words, uint64_t base, uint64_t sent,
                             void (*placed)(void *user, uint64_t claim), void *user);
#endif
