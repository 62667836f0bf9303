/* SPDX-License-Identifier: Apache-2.0 */
/* A network's double: carries what ranks of one process have put into their rings to the placers of
 * the receivers, as badly as the rules allow. It delivers late and in bursts, in any order that
 * rule N3 leaves open, some messages twice, and gives slots back late. It reads rows from the ring
 * when it delivers them, as a network card does, and spoils the slot before it gives it back. All
 * of that is chosen by a seed. One thread of its own. */
#ifndef PROXY_WIRE_H
#define PROXY_WIRE_H

#include "transport/proxy/placer.h"
#include "transport/proxy/ring_lane.h"

typedef struct proxy_wire proxy_wire;

typedef struct proxy_wire_counts {
    uint64_t taken, doubled, overtaken, forbidden;
} proxy_wire_counts;

proxy_wire *proxy_wire_open(uint64_t seed);
/* A lane from a ring that is all zero to the target's placer. Before start. Returns its number. */
int proxy_wire_add(proxy_wire *wire, uint8_t *ring, uint32_t num_slots, uint32_t slot_bytes,
                   uint32_t source, uint32_t target, eepi_placer *placer);
void proxy_wire_start(proxy_wire *wire);
/* Nothing of that lane's rows and tags is delivered or given back until it is let go; words beside
 * the slots go on (`with_words`: neither). */
void proxy_wire_hold(proxy_wire *wire, int lane, bool is_held, bool with_words);
/* The network does not carry what that seat sends: a view forbids it. */
void proxy_wire_forbid(proxy_wire *wire, uint32_t source, bool is_forbidden);
/* Wait until all that was put is delivered and given back, but for what a held lane holds: at most
 * so long. */
bool proxy_wire_drain(proxy_wire *wire, uint64_t timeout_us);
proxy_wire_counts proxy_wire_counted(proxy_wire *wire);
void proxy_wire_close(proxy_wire *wire);
#endif
