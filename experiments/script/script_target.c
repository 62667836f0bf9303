/* SPDX-License-Identifier: Apache-2.0 */
/* How an event's target becomes seats. */
#include "experiments/script/script_target.h"
#include "experiments/base/random.h"

#include <string.h>

enum { RANDOM_TRIES = 64, GREEDY_TRIES = 16 };

/* An event's own stream of random numbers, the same in each attempt. Its draws depend neither on
 * the times of other events nor on the number of attempts that found no seats. */
static uint64_t stream_of(uint64_t seed, int order)
{
    uint64_t orders = (uint64_t)order;
    return seed ^ random_next(&orders);
}

/* The seats for which `is` holds, ascending. */
static int list(const script_world *world, bool (*is)(const void *user, int seat), int *seats_out)
{
    int num = 0;
    for (int s = 0; is && s < world->max_ranks; s++) {
        if (is(world->user, s)) {
            seats_out[num++] = s;
        }
    }
    return num;
}

/* A seeded order of all of them (Fisher and Yates). */
static void shuffle(int *seats, int num, uint64_t *random)
{
    for (int i = 0; i < num - 1; i++) {
        int other = i + (int)(random_next(random) % (uint64_t)(num - i));
        int kept = seats[i];
        seats[i] = seats[other];
        seats[other] = kept;
    }
}

static void set_seats(script_event *event, const int *seats, int num)
{
    memcpy(event->seat, seats, (size_t)num * sizeof *seats);
    event->num_seats = num;
}

/* A rank that does not serve now is without its slots already. */
static void mark_inactive(const script_world *world, bool *without)
{
    for (int s = 0; s < world->max_ranks; s++) {
        without[s] = !world->active(world->user, s);
    }
}

/* One seat after the other in that order, where the rest still holds every expert. */
static bool take_greedily(script_event *event, const script_world *world, const int *seats, int num)
{
    bool without[EEP_MAX_RANKS];
    event->num_seats = 0;
    mark_inactive(world, without);
    for (int i = 0; i < num && event->num_seats < event->named.count; i++) {
        without[seats[i]] = true;
        if (world->covered(world->user, without)) {
            event->seat[event->num_seats++] = seats[i];
        } else {
            without[seats[i]] = false;
        }
    }
    return event->num_seats == event->named.count;
}

/* A random set that leaves the rest covered. Most sets of a small count do, but few of a large one:
 * then a set is grown seat by seat. */
static bool resolve_covered(script_event *event, const script_world *world, uint64_t *random)
{
    int seats[EEP_MAX_RANKS], num = list(world, world->active, seats);
    if (num <= event->named.count) {
        return false; /* at least one rank must stay */
    }
    for (int i = 0; i < RANDOM_TRIES; i++) {
        bool without[EEP_MAX_RANKS];
        shuffle(seats, num, random);
        mark_inactive(world, without);
        for (int s = 0; s < event->named.count; s++) {
            without[seats[s]] = true;
        }
        if (world->covered(world->user, without)) {
            set_seats(event, seats, event->named.count);
            return true;
        }
    }
    for (int i = 0; i < GREEDY_TRIES; i++) {
        shuffle(seats, num, random);
        if (take_greedily(event, world, seats, num)) {
            return true;
        }
    }
    return false;
}

static bool resolve_joiner(const script *self, script_event *event, const script_world *world)
{
    int youngest = -1;
    for (int s = 0; s < world->max_ranks; s++) {
        if (world->joining(world->user, s) &&
            (youngest < 0 || self->spawned[s] > self->spawned[youngest])) {
            youngest = s;
        }
    }
    set_seats(event, &youngest, youngest >= 0);
    return youngest >= 0;
}

static bool resolve_vacant(script_event *event, const script_world *world)
{
    int seats[EEP_MAX_RANKS], num = 0;
    for (int s = 0; s < world->max_ranks && num < event->named.count; s++) {
        if (!world->running(world->user, s)) {
            seats[num++] = s;
        }
    }
    set_seats(event, seats, num);
    return num == event->named.count;
}

static bool resolve_active(script_event *event, const script_world *world, uint64_t *random)
{
    int seats[EEP_MAX_RANKS], num = list(world, world->active, seats);
    if (num < event->named.count) {
        return false;
    }
    if (event->target == TARGET_RANDOM) {
        shuffle(seats, num, random);
    } else if (event->target == TARGET_PROPOSER && world->proposer >= 0 &&
               world->active(world->user, world->proposer)) {
        seats[0] = world->proposer;
    }
    set_seats(event, seats, event->named.count);
    return true;
}

static bool resolve(const script *self, script_event *event, const script_world *world)
{
    int seats[EEP_MAX_RANKS], num = 0;
    uint64_t random = stream_of(world->seed, event->order);
    switch (event->target) {
    case TARGET_NONE:
    case TARGET_SEATS:
        return true;
    case TARGET_SAME: {
        const script_event *other = &self->event[event->same.partner];
        set_seats(event, other->seat, other->progress.resolved ? other->num_seats : 0);
        return other->progress.resolved;
    }
    case TARGET_LOWEST:
    case TARGET_PROPOSER:
    case TARGET_RANDOM:
        return resolve_active(event, world, &random);
    case TARGET_COVERED:
        return resolve_covered(event, world, &random);
    case TARGET_SOURCE:
        num = list(world, world->source, seats);
        set_seats(event, seats, num < event->named.count ? num : event->named.count);
        return num > 0;
    case TARGET_JOINER:
        return resolve_joiner(self, event, world);
    case TARGET_VACANT:
        return resolve_vacant(event, world);
    case NUM_TARGETS:
        break;
    }
    return false;
}

bool script_resolve(const script *self, script_event *event, const script_world *world)
{
    event->progress.resolved = event->progress.resolved || resolve(self, event, world);
    return event->progress.resolved;
}
