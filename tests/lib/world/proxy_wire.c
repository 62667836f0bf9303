/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that carries, and what is under way. */
#include "tests/lib/world/proxy_wire.h"

#include "experiments/base/random.h"
#include "graphs/base/clock.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_LANES = 512, MAX_SEATS = 64, SPOILED = 0xa5, IDLE_US = 20 };

typedef struct flight { /* a message under way */
    eepi_lane_message message;
    uint8_t *copy; /* of one that comes a second time */
    bool is_delivered;
} flight;

typedef struct wire_lane {
    eepi_ring_lane *lane;
    eepi_placer *placer;
    flight *flights; /* in the order in which they were put */
    uint32_t num_flights, max_flights;
    uint32_t rests; /* rounds in which it does nothing */
    bool is_held, holds_words, is_idle;
} wire_lane;

struct proxy_wire {
    pthread_t thread;
    pthread_mutex_t lock; /* one round of the thread, or one call of a test */
    bool has_thread, stops;
    uint64_t random;
    bool is_forbidden[MAX_SEATS];
    proxy_wire_counts counts;
    int num_lanes;
    wire_lane lanes[MAX_LANES];
};

proxy_wire *proxy_wire_open(uint64_t seed)
{
    proxy_wire *wire = calloc(1, sizeof *wire);

    assert(wire);
    pthread_mutex_init(&wire->lock, NULL);
    wire->random = seed;
    return wire;
}

int proxy_wire_add(proxy_wire *wire, uint8_t *ring, uint32_t num_slots, uint32_t slot_bytes,
                   uint32_t source, uint32_t target, eepi_placer *placer)
{
    wire_lane *l = &wire->lanes[wire->num_lanes];

    assert(wire->num_lanes < MAX_LANES && source < MAX_SEATS);
    l->lane = eepi_ring_lane_open(ring, num_slots, slot_bytes, source, target);
    l->placer = placer;
    l->max_flights = 3 * num_slots + 16;
    l->flights = calloc(l->max_flights, sizeof *l->flights);
    assert(l->lane && l->flights);
    return wire->num_lanes++;
}

static uint32_t below(proxy_wire *wire, uint32_t limit)
{
    return (uint32_t)(random_next(&wire->random) % limit);
}

static bool is_row(const flight *f)
{
    return f->message.put.kind == EEPK_PUT_ROWS;
}

/* Rule N3: nothing overtakes a word but words beside the slots, which overtake all, and what comes
 * a second time. */
static bool may_go(const wire_lane *l, uint32_t at)
{
    for (uint32_t i = 0; i < at && l->flights[at].message.claim != EEPI_LANE_NO_CLAIM; i++) {
        if (!l->flights[i].is_delivered && !is_row(&l->flights[i])) {
            return false;
        }
    }
    return true;
}

static void take_some(proxy_wire *wire, wire_lane *l)
{
    flight *next = &l->flights[l->num_flights];

    for (uint32_t n = 1 + below(wire, 8);
         n > 0 && l->num_flights < l->max_flights && eepi_ring_lane_take(l->lane, &next->message);
         n--, next++) {
        next->copy = NULL;
        next->is_delivered = false;
        l->num_flights++;
        wire->counts.taken++;
    }
}

/* The same once more, later, from memory of the network's own. */
static void double_it(proxy_wire *wire, wire_lane *l, const flight *f)
{
    flight *again = &l->flights[l->num_flights];

    if (l->num_flights == l->max_flights) {
        return;
    }
    *again = (flight){.message = f->message};
    again->copy = malloc(f->message.put.bytes ? f->message.put.bytes : 1);
    assert(again->copy);
    if (f->message.bytes) {
        memcpy(again->copy, f->message.bytes, f->message.put.bytes);
    }
    again->message.claim = EEPI_LANE_NO_CLAIM;
    again->message.bytes = again->copy;
    l->num_flights++;
    wire->counts.doubled++;
}

static void deliver(proxy_wire *wire, wire_lane *l, uint32_t at)
{
    flight *f = &l->flights[at];
    const eepk_put *put = &f->message.put;

    f->is_delivered = true;
    for (uint32_t i = 0; i < at; i++) {
        if (!l->flights[i].is_delivered) {
            wire->counts.overtaken++;
            break;
        }
    }
    if (wire->is_forbidden[put->source]) {
        wire->counts.forbidden++;
        return;
    }
    (void)!eepi_placer_place(l->placer, put, f->message.bytes, put->source_generation);
    if (!f->copy && below(wire, 5) == 0) {
        double_it(wire, l, f);
    }
}

/* Give back what was delivered, not always at once. */
static void give_back_some(proxy_wire *wire, wire_lane *l)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < l->num_flights; i++) {
        flight *f = &l->flights[i];
        if (!f->is_delivered || below(wire, 3) == 0) {
            l->flights[kept++] = *f;
            continue;
        }
        if (f->message.claim != EEPI_LANE_NO_CLAIM) {
            if (f->message.bytes) {
                memset((void *)(uintptr_t)f->message.bytes, SPOILED, f->message.put.bytes);
            }
            eepi_ring_lane_complete(l->lane, f->message.claim);
        }
        free(f->copy);
    }
    l->num_flights = kept;
}

static bool is_held_back(const wire_lane *l, const flight *f)
{
    return l->is_held && (l->holds_words || f->message.claim != EEPI_LANE_NO_CLAIM || f->copy);
}

static void run_lane(proxy_wire *wire, wire_lane *l)
{
    uint32_t n;

    if (l->rests > 0) {
        l->rests--;
        return;
    }
    if (below(wire, 40) == 0) {
        l->rests = below(wire, 60); /* then all of it comes in a burst */
    }
    take_some(wire, l);
    for (n = l->num_flights == 0 ? 0 : 1 + below(wire, 2 * l->num_flights); n > 0; n--) {
        const uint32_t at = below(wire, l->num_flights);
        const flight *f = &l->flights[at];
        if (!f->is_delivered && !is_held_back(l, f) && may_go(l, at)) {
            deliver(wire, l, at);
        }
    }
    if (!l->is_held) {
        give_back_some(wire, l);
    }
    l->is_idle = l->num_flights == 0 && eepi_ring_lane_is_idle(l->lane);
}

static void *run(void *user)
{
    proxy_wire *wire = user;
    bool stops = false;

    while (!stops) {
        bool is_idle = true;
        pthread_mutex_lock(&wire->lock);
        for (int i = 0; i < wire->num_lanes; i++) {
            run_lane(wire, &wire->lanes[i]);
            is_idle &= wire->lanes[i].is_idle;
        }
        stops = wire->stops;
        pthread_mutex_unlock(&wire->lock);
        if (is_idle) {
            usleep(IDLE_US);
        }
    }
    return NULL;
}

void proxy_wire_start(proxy_wire *wire)
{
    const int failed = pthread_create(&wire->thread, NULL, run, wire);

    assert(failed == 0);
    wire->has_thread = failed == 0;
}

void proxy_wire_hold(proxy_wire *wire, int lane, bool is_held, bool with_words)
{
    pthread_mutex_lock(&wire->lock);
    wire->lanes[lane].is_held = is_held;
    wire->lanes[lane].holds_words = with_words;
    pthread_mutex_unlock(&wire->lock);
}

void proxy_wire_forbid(proxy_wire *wire, uint32_t source, bool is_forbidden)
{
    pthread_mutex_lock(&wire->lock);
    wire->is_forbidden[source] = is_forbidden;
    pthread_mutex_unlock(&wire->lock);
}

/* A lane that was idle in a round before may have work since: two rounds must find nothing. */
bool proxy_wire_drain(proxy_wire *wire, uint64_t timeout_us)
{
    const uint64_t until = eepi_now_us() + timeout_us;
    int idle_rounds = 0;

    while (idle_rounds < 2 && eepi_now_us() < until) {
        bool is_idle = true;
        pthread_mutex_lock(&wire->lock);
        for (int i = 0; i < wire->num_lanes; i++) {
            wire_lane *l = &wire->lanes[i];
            l->rests = 0;
            run_lane(wire, l);
            is_idle &= l->is_idle || l->is_held;
        }
        pthread_mutex_unlock(&wire->lock);
        idle_rounds = is_idle ? idle_rounds + 1 : 0;
    }
    return idle_rounds == 2;
}

proxy_wire_counts proxy_wire_counted(proxy_wire *wire)
{
    proxy_wire_counts counts;

    pthread_mutex_lock(&wire->lock);
    counts = wire->counts;
    pthread_mutex_unlock(&wire->lock);
    return counts;
}

void proxy_wire_close(proxy_wire *wire)
{
    pthread_mutex_lock(&wire->lock);
    wire->stops = true;
    pthread_mutex_unlock(&wire->lock);
    if (wire->has_thread) {
        pthread_join(wire->thread, NULL);
    }
    for (int i = 0; i < wire->num_lanes; i++) {
        wire_lane *l = &wire->lanes[i];
        for (uint32_t at = 0; at < l->num_flights; at++) {
            free(l->flights[at].copy);
        }
        free(l->flights);
        eepi_ring_lane_close(l->lane);
    }
    pthread_mutex_destroy(&wire->lock);
    free(wire);
}
