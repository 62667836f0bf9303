/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of a ring (graphs/kernels/ring_layout.h): takes out what kernels have put in, in
 * an order that a sender may keep, and gives slots back.
 *
 * A network replaces nothing here: it sends what the lane hands out, from where it lies, and calls
 * complete once the memory is no longer read. One thread per lane, which may differ from that of
 * other lanes of the rank. */
#ifndef EEPI_RING_LANE_H
#define EEPI_RING_LANE_H

#include "graphs/kernels/ring_layout.h"

#include <stdbool.h>

typedef struct eepi_ring_lane eepi_ring_lane;

/* What is to be sent. A slot's bytes stay where they are until its claim is completed. */
typedef struct eepi_lane_message {
    eepk_put put;
    const void *bytes; /* put.bytes of them, in the ring; NULL: a word */
    uint64_t claim;    /* to complete; UINT64_MAX: a word beside the slots, nothing to complete */
} eepi_lane_message;
#define EEPI_LANE_NO_CLAIM UINT64_MAX

/* A lane for a ring that is all zero, which gets its limit. `source` and `target` are seats. NULL:
 * out of memory. */
eepi_ring_lane *eepi_ring_lane_open(uint8_t *ring, uint32_t num_slots, uint32_t slot_bytes,
                                    uint32_t source, uint32_t target);
/* Its ring's memory may be read by a network for as long as not all is completed: the owner of the
 * ring keeps it until eepi_ring_lane_is_idle. */
void eepi_ring_lane_close(eepi_ring_lane *lane);

/* The next message; false: there is none now. Abort and begin words come before rows. No row comes
 * before a word that was put before it (rule N3): words are looked at once more after a slot was
 * found ready. */
bool eepi_ring_lane_take(eepi_ring_lane *lane, eepi_lane_message *message_out);
/* The slot's memory is read no more. In any order; the limit follows the oldest that is missing. */
void eepi_ring_lane_complete(eepi_ring_lane *lane, uint64_t claim);
/* All that was taken is completed. */
bool eepi_ring_lane_is_idle(const eepi_ring_lane *lane);
/* The host's begin word: this rank begins that step, and `completed` is the last that it ended
 * well. One thread at a time. */
void eepi_ring_put_begin(uint8_t *ring, uint64_t epoch, uint64_t step, uint32_t shape,
                         uint64_t completed, uint32_t source_generation,
                         uint32_t target_generation);
#endif
