/* SPDX-License-Identifier: Apache-2.0 */
/* What the simulated network says of itself, and how much room its rings have
 * (transport/proxy/ring_lane.h). */
#include "experiments/base/random.h"
#include "graphs/device/rings.h"
#include "tests/sim/sim.h"
#include "transport/proxy/network.h"
#include "transport/proxy/ring_lane.h"

#include <stdlib.h>

enum {
    EXCHANGES = 3, /* of a chain have room in a ring of the product (transport/network/network.c) */
    FEW_SEATS = 8,
    MANY_SEATS = 32, /* from here on, rings have room for so many exchanges of a chain more: */
    MORE_EXCHANGES = 4
};

struct sim_ring_room {
    eepi_ring_lane *lane;
    uint32_t num_slots, most_kept, first, num;
    uint64_t kept[]; /* [num_slots]: claims whose slots are not given back yet, a ring */
};

int sim_network_is_bad(void)
{
    return !sim->joiners_only && !sim->healed;
}

static uint32_t slots_of(const eepk_shape *shape, uint32_t exchanges)
{
    return shape->num_chains * exchanges * eepi_ring_least_slots(shape);
}

/* Until the world heals most rings have room for one or two exchanges of each chain, so that steps
 * abort for want of room (rule N5). One full ring aborts the step of all. With 64 ranks about 4000
 * rings are sent into at once, and one of them would be full in nearly each step. */
static uint32_t slots_in_bad_times(const eepk_shape *shape)
{
    const uint32_t more = shape->max_ranks < FEW_SEATS    ? 0
                          : shape->max_ranks < MANY_SEATS ? 1
                                                          : MORE_EXCHANGES;
    uint64_t state = sim->options.seed ^ 0x70726f7879;

    (void)random_next(&state);
    return slots_of(shape, 1 + more) +
           (uint32_t)(random_next(&state) >> 8) % (2 * eepi_ring_least_slots(shape));
}

/* As many as the product's rings have, or more. They suffice in a healed world: whoever puts an
 * exchange has the tags of the one before from all peers, so what it had put two exchanges ago is
 * placed. Two exchanges of a chain are under way at most, and the slots of a third are given back
 * meanwhile. With fewer slots steps abort for ever where slots are given back later than their rows
 * are placed (seed 5016: 74 steps in 10 s). */
uint32_t sim_ring_slots(const eepk_shape *shape)
{
    const uint32_t least = slots_of(shape, EXCHANGES), bad = slots_in_bad_times(shape);

    return bad < least ? least : bad;
}

sim_ring_room *sim_ring_room_open(const eepk_shape *shape, eepi_ring_lane *lane)
{
    sim_ring_room *room = calloc(1, sizeof *room + shape->ring_slots * sizeof room->kept[0]);

    room->lane = lane;
    room->num_slots = shape->ring_slots;
    room->most_kept = shape->ring_slots - slots_in_bad_times(shape);
    return room;
}

void sim_ring_give_back(sim_ring_room *room)
{
    const uint32_t most = sim_network_is_bad() ? room->most_kept : 0;

    for (; room->num > most; room->num--) {
        eepi_ring_lane_complete(room->lane, room->kept[room->first]);
        room->first = (room->first + 1) % room->num_slots;
    }
}

void sim_ring_complete(sim_ring_room *room, uint64_t claim)
{
    room->kept[(room->first + room->num++) % room->num_slots] = claim;
    sim_ring_give_back(room);
}

/* ------------------------------------------------------------------ what a network says of itself
 */

eep_status eepi_network_plan(bool spans_hosts, eepk_shape *shape, char *why, size_t why_bytes)
{
    shape->num_queues = 0;
    shape->ring_slots = 0;
    if (sim->kinds >> SIM_PROXY & 1u) {
        shape->num_queues = 2 * shape->max_ranks;
        shape->ring_slots = sim_ring_slots(shape);
    }
    (void)spans_hosts;
    (void)why;
    (void)why_bytes;
    return EEP_OK;
}

eepi_lane_address eepi_network_address(const eepi_network *network)
{
    (void)network;
    return (eepi_lane_address){.kind = EEPI_LANE_TCP,
                               .num_paths = 1,
                               .path = {{.ip_bytes = 4, .port = 1, .ip = {127, 0, 0, 1}}}};
}

bool eepi_network_tells_beats(void)
{
    return sim->num_hosts > 0 && !sim->has_agents;
}
