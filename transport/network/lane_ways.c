/* SPDX-License-Identifier: Apache-2.0 */
/* The ways between two ranks: pairs of an interface of either. The first is taken while it is well.
 * A lane goes over to the next one
 *
 *   - at once, if its own interface goes down (links.h),
 *   - if its connection breaks or cannot be made,
 *   - if nothing is acknowledged for a while: then something further on may be down; it is a short
 *     while if the peer itself has gone over to another one,
 *
 * and comes back once there is a sign that an earlier one is well again: its own interface came up,
 * or the peer itself reaches this rank by it. Without a sign it tries that now and then. What was
 * not acknowledged is sent again on the other way, and what comes twice is placed once (rule N4).
 */
#include "transport/network/network_state.h"

#include "graphs/base/clock.h"
#include "graphs/kernels/compiler_macros.h"
#include "transport/links.h"

#include <sys/epoll.h>

enum {
    SHARE_OF_SILENCE = 8, /* of the time after which a peer is silent */
    LONGEST_WAIT_US = 250000,
    DOUBLINGS = 5,       /* of that wait, if no way brings an answer: it is the peer, perhaps */
    SETTLED_US = 300000, /* so long is an interface up before it is taken again */
    FOLLOW_US = 10000,   /* so long is nothing acknowledged before a lane does as its peer did */
    FIRST_RETURN_US =
        10000000, /* without a sign it is tried after so long, and twice as long, ... */
    RETURN_DOUBLINGS = 5,
};

/* Each interface of both has a way: the last one of whoever has fewer is in several. */
static uint32_t num_ways(const eepi_network *network, const eepi_lane_address *to)
{
    const uint32_t own = network->address.num_paths;

    return own > to->num_paths ? own : to->num_paths;
}

static uint32_t own_path(const eepi_network *network, uint32_t way)
{
    return way % network->address.num_paths;
}

static bool is_down(const eepi_network *network, uint32_t way)
{
    return __atomic_load_n(&network->path[own_path(network, way)].is_down, __ATOMIC_ACQUIRE);
}

const eepi_lane_path *eepi_lane_own_path(const eepi_network *network, const eepi_lane *lane)
{
    return &network->address.path[own_path(network, lane->way)];
}

/* ------------------------------------------------------------------ going over */

/* Those whose own interface is down come only if all are. */
static uint32_t way_after(const eepi_network *network, const eepi_lane *lane)
{
    uint32_t way = (lane->way + 1) % lane->num_ways;

    while (way != lane->way && is_down(network, way)) {
        way = (way + 1) % lane->num_ways;
    }
    return way == lane->way && is_down(network, way) ? (way + 1) % lane->num_ways : way;
}

void eepi_lane_take_way(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    pthread_mutex_lock(&network->lock);
    lane->num_ways = num_ways(network, &lane->address);
    lane->way %= lane->num_ways;
    lane->way = lane->leaves_way && lane->num_ways > 1 ? way_after(network, lane) : lane->way;
    lane->leaves_way = false;
    lane->to = lane->address.path[lane->way % lane->address.num_paths];
    pthread_mutex_unlock(&network->lock);
    lane->way_since_us = now_us;
}

static uint64_t wait_us(const eepi_network *network, const eepi_lane *lane)
{
    const uint64_t share = network->config.silent_us / SHARE_OF_SILENCE;
    const uint32_t rounds = lane->num_overs / lane->num_ways;

    return (share < LONGEST_WAIT_US ? share : LONGEST_WAIT_US)
           << (rounds < DOUBLINGS ? rounds : DOUBLINGS);
}

static void go_to(eepi_network *network, eepi_lane *lane, uint32_t way, const char *why,
                  uint64_t now_us)
{
    const uint32_t from = lane->way;

    if (lane->num_overs < 2 * lane->num_ways) { /* a peer that is gone fills no log */
        eepi_lane_note(network, lane, "%s: it goes from %s to %s", why,
                       network->path[own_path(network, from)].interface.name,
                       network->path[own_path(network, way)].interface.name);
    }
    network->carrier->drop(network, lane);
    lane->way = way;
    lane->leaves_way = false;
    lane->state = EEPI_LANE_DOWN;
    lane->retry_at_us = now_us;
}

/* ------------------------------------------------------------------ coming back */

/* Since when an earlier way is said to be well, behind the moment when the lane took its own; 0: it
 * is not. */
static uint64_t well_since_us(const eepi_network *network, const eepi_lane *lane, uint32_t way)
{
    const eepi_path *path = &network->path[own_path(network, way)];
    const eepi_greeted *greeted = &network->greeted[lane->seat];
    const uint64_t up_us = __atomic_load_n(&path->up_since_us, __ATOMIC_ACQUIRE);
    const uint64_t greeted_us = __atomic_load_n(&greeted->at_us, __ATOMIC_ACQUIRE);
    const uint32_t by = __atomic_load_n(&greeted->path, __ATOMIC_RELAXED);

    if (is_down(network, way)) {
        return 0;
    }
    if (up_us > lane->way_since_us) {
        return up_us;
    }
    return greeted_us > lane->way_since_us && by == own_path(network, way) ? greeted_us : 0;
}

/* A moment in which nothing is under way: if the way is not well, rows wait for it when they come.
 */
static bool is_to_be_tried(const eepi_network *network, const eepi_lane *lane, uint64_t now_us)
{
    const uint64_t after_us = (uint64_t)FIRST_RETURN_US << lane->num_returns;

    return lane->way != 0 && lane->state == EEPI_LANE_UP && lane->base == lane->taken &&
           now_us - lane->way_since_us >= after_us && !is_down(network, 0);
}

static bool come_back(eepi_network *network, eepi_lane *lane, uint64_t now_us, uint64_t *next_us)
{
    if (is_to_be_tried(network, lane, now_us)) {
        lane->num_returns += lane->num_returns < RETURN_DOUBLINGS;
        go_to(network, lane, 0, "the first interface is tried", now_us);
        return true;
    }
    for (uint32_t way = 0; way < lane->way; way++) {
        const uint64_t since_us = well_since_us(network, lane, way);
        if (since_us == 0) {
            continue;
        }
        if (now_us >=
            since_us + SETTLED_US) { /* the receiver thread's, which may be behind now_us */
            go_to(network, lane, way, "an interface is well again", now_us);
            return true;
        }
        eepi_lane_by(next_us, since_us + SETTLED_US);
    }
    return false;
}

/* The way by which the peer itself has connected since the lane took its own; that one, if none. */
static uint32_t peers_way(const eepi_network *network, const eepi_lane *lane)
{
    const eepi_greeted *greeted = &network->greeted[lane->seat];
    const uint64_t at_us = __atomic_load_n(&greeted->at_us, __ATOMIC_ACQUIRE);
    uint32_t way = 0;

    while (way < lane->num_ways &&
           own_path(network, way) != __atomic_load_n(&greeted->path, __ATOMIC_RELAXED)) {
        way++;
    }
    return at_us > lane->way_since_us && way < lane->num_ways ? way : lane->way;
}

/* ------------------------------------------------------------------ a turn */

/* Something is under way, since `since_us`. */
static bool follow_or_wait(eepi_network *network, eepi_lane *lane, uint64_t since_us,
                           uint64_t now_us, uint64_t *next_us)
{
    const uint32_t peers = peers_way(network, lane);
    const uint64_t bound_us = peers != lane->way ? FOLLOW_US : wait_us(network, lane);

    if (now_us - since_us < bound_us) {
        eepi_lane_by(next_us, since_us + bound_us);
        return false;
    }
    go_to(network, lane, peers != lane->way ? peers : way_after(network, lane),
          peers != lane->way ? "its peer has gone over" : "nothing is acknowledged", now_us);
    lane->num_overs++;
    return true;
}

bool eepi_lane_look_at_way(eepi_network *network, eepi_lane *lane, uint64_t now_us,
                           uint64_t *next_us)
{
    uint64_t since_us = lane->waits_since_us;

    if (lane->num_ways < 2 || lane->state <= EEPI_LANE_DOWN || lane->lacks_since_us != 0) {
        return false;
    }
    if (is_down(network, lane->way)) {
        const uint32_t next = way_after(network, lane);
        if (!is_down(network, next)) {
            go_to(network, lane, next, "its interface went down", now_us);
            return true;
        }
    }
    if (come_back(network, lane, now_us, next_us)) {
        return true;
    }
    since_us = since_us > lane->way_since_us ? since_us : lane->way_since_us;
    if (lane->waits_since_us == 0) {
        return false;
    }
    return follow_or_wait(network, lane, since_us, now_us, next_us);
}

/* ------------------------------------------------------------------ the receiver thread */

void eepi_ways_note_greeting(eepi_network *network, uint32_t seat, uint32_t path)
{
    eepi_greeted *greeted = &network->greeted[seat];

    __atomic_store_n(&greeted->path, path, __ATOMIC_RELAXED);
    __atomic_store_n(&greeted->at_us, eepi_now_us(), __ATOMIC_RELEASE);
}

eep_status eepi_ways_open(eepi_network *network, uint64_t tag)
{
    eepi_link_name names[EEPI_MAX_PATHS];
    int fds[EEPI_LINK_FDS], num;
    eep_status status;

    if (network->address.num_paths < 2) {
        return EEP_OK;
    }
    for (uint32_t i = 0; i < network->address.num_paths; i++) {
        const eepi_network_interface *interface = &network->path[i].interface;
        names[i] = (eepi_link_name){interface->name, interface->device};
    }
    status =
        eepi_links_open(names, network->address.num_paths, eepi_verbs_system(), &network->links);
    num = status == EEP_OK ? eepi_links_fds(network->links, fds) : 0;
    for (int i = 0; i < num; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = tag};
        (void)epoll_ctl(network->epoll, EPOLL_CTL_ADD, fds[i], &event); /* else it is asked */
    }
    if (status == EEP_OK) {
        eepi_ways_look(network);
    }
    return status;
}

void eepi_ways_close(eepi_network *network)
{
    eepi_links_close(network->links);
    network->links = NULL;
}

void eepi_ways_look(eepi_network *network)
{
    bool any = false;

    if (!network->links) {
        return;
    }
    eepi_links_look(network->links);
    for (uint32_t i = 0; i < network->address.num_paths; i++) {
        eepi_path *path = &network->path[i];
        const bool was_down = path->is_down,
                   is_down_now = !eepi_links_is_up(network->links, (int)i);
        if (was_down == is_down_now) {
            continue;
        }
        if (was_down) {
            __atomic_store_n(&path->up_since_us, eepi_now_us(), __ATOMIC_RELEASE);
        }
        __atomic_store_n(&path->is_down, is_down_now, __ATOMIC_RELEASE);
        any = true;
    }
    if (any) {
        eepk_doorbell_ring(network->doorbell);
    }
}
