/* What of a script is due now, and on which seats. */
#include "experiments/script.h"

#include <math.h>
#include <string.h>

enum { COVERED_TRIES = 200 };
static const double GIVEN_UP_MS = 10000; /* then nobody whom the name fits is waited for */

/* ---------------------------------------------------------------- who */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static int list_of(const script_world *world, bool (*is_one)(const void *user, int seat),
                   int seats_out[EEP_MAX_RANKS])
{
    int num = 0;
    for (int s = 0; s < world->max_ranks; s++) {
        if (is_one(world->user, s)) {
            seats_out[num++] = s;
        }
    }
    return num;
}

static bool take(script_event *event, const int *seats, int num)
{
    memcpy(event->seat, seats, (size_t)num * sizeof *seats);
    event->num_seats = num;
    return num > 0;
}

/* `count` different ones of the seats, by chance; they come first in `seats` then. */
static void shuffle(int *seats, int num, int count, uint64_t *random)
{
    for (int i = 0; i < count; i++) {
        int other = i + (int)(next_random(random) % (uint64_t)(num - i)), kept = seats[i];
        seats[i] = seats[other];
        seats[other] = kept;
    }
}

static bool take_random(script_event *event, const script_world *world, uint64_t random)
{
    int seats[EEP_MAX_RANKS], num = list_of(world, world->active, seats);
    if (num < event->count) {
        return false;
    }
    if (event->target == TARGET_RANDOM) {
        shuffle(seats, num, event->count, &random);
        return take(event, seats, event->count);
    }
    for (int attempt = 0; attempt < COVERED_TRIES; attempt++) {
        bool without[EEP_MAX_RANKS] = {false};
        shuffle(seats, num, event->count, &random);
        for (int i = 0; i < event->count; i++) {
            without[seats[i]] = true;
        }
        if (world->covered(world->user, without)) {
            return take(event, seats, event->count);
        }
    }
    return false;
}

static bool is_vacant(const script_world *world, int seat)
{
    return !world->running(world->user, seat);
}

static bool take_vacant(script_event *event, const script_world *world)
{
    int seats[SCRIPT_MAX_SEATS], num = 0;
    for (int s = 0; s < world->max_ranks && num < event->count; s++) {
        if (is_vacant(world, s)) {
            seats[num++] = s;
        }
    }
    return num == event->count && take(event, seats, num);
}

/* The lowest `count` for which it holds. */
static bool take_lowest(script_event *event, const script_world *world,
                        bool (*is_one)(const void *user, int seat))
{
    int seats[EEP_MAX_RANKS], num = list_of(world, is_one, seats);
    return num >= event->count && take(event, seats, event->count);
}

/* Fix the event's seats; false: nobody fits yet. */
static bool resolve(script *self, int index, const script_world *world)
{
    script_event *event = &self->event[index];
    uint64_t random = world->seed + (uint64_t)(index + 1) * 0x9e3779b97f4a7c15;
    if (event->pairs_with >= 0) {
        const script_event *other = &self->event[event->pairs_with];
        return other->resolved && other->done && take(event, other->seat, other->num_seats);
    }
    switch (event->target) {
    case TARGET_NONE:
    case TARGET_SEATS:
        return true;
    case TARGET_PROPOSER:
        if (world->proposer >= 0 && world->active(world->user, world->proposer)) {
            return take(event, &world->proposer, 1);
        }
        return take_lowest(event, world, world->active);
    case TARGET_LOWEST:
        return take_lowest(event, world, world->active);
    case TARGET_RANDOM:
    case TARGET_COVERED:
        return take_random(event, world, random);
    case TARGET_SOURCE:
        return take_lowest(event, world, world->source);
    case TARGET_JOINER:
        return take_lowest(event, world, world->joining);
    case TARGET_VACANT:
        return take_vacant(event, world);
    default: /* TARGET_SAME without a pair: a control command that names nothing */
        event->done = true;
        return false;
    }
}

/* ---------------------------------------------------------------- when */

/* When the event is due; infinity: what it waits for was not seen. */
static double due_ms(const script_event *event)
{
    if (event->when == WHEN_TIME) {
        return event->delay_ms;
    }
    return event->trigger_ms < 0 ? HUGE_VAL : event->trigger_ms + event->delay_ms;
}

/* What is undone later: by an event of its own. */
static void append_undo(script *self, const script_event *event, int seat, double now_ms)
{
    script_event undo = {.target = seat < 0 ? TARGET_NONE : TARGET_SEATS,
                         .num_seats = seat >= 0,
                         .seat = {seat},
                         .count = 1,
                         .pairs_with = -1,
                         .delay_ms = now_ms + event->duration_ms,
                         .state_seat = -1,
                         .state_count = 1,
                         .trigger_ms = -1};
    undo.verb = event->verb == VERB_STOP   ? VERB_CONT
                : event->verb == VERB_SLOW ? VERB_SLOW
                                           : VERB_STORE_CONT;
    undo.value = 1;
    undo.undoes = true;
    /* Without room for it a stopped rank is expelled in time: the run says so. */
    (void)!script_append(self, &undo);
}

/* The next seat of the event that can be done now: its place in the list; -1: none; the event is
 * over then if nothing more can come. */
static int ready_place(script_event *event, const script_world *world)
{
    bool wants_free = verb_table[event->verb].wants_free, waits = false;
    for (int i = 0; i < event->num_seats; i++) {
        if (event->seats_done >> i & 1) {
            continue;
        }
        bool running = world->running(world->user, event->seat[i]);
        if (running != wants_free) {
            return i;
        }
        if (wants_free) {
            waits = true; /* for the end of the process that is in it */
        } else {
            event->seats_done |= 1ull << i; /* it is gone already: there is nothing to do it to */
        }
    }
    event->done = !waits;
    return -1;
}

static bool do_event(script *self, int index, const script_world *world, script_deed *deed_out)
{
    script_event *event = &self->event[index];
    int place = -1, seat = -1;
    if (!event->resolved) {
        if (!resolve(self, index, world)) {
            return false;
        }
        event->resolved = true;
    }
    if (event->target == TARGET_NONE) {
        event->done = true;
    } else {
        place = ready_place(event, world);
        if (place < 0) {
            return false;
        }
        seat = event->seat[place];
        event->seats_done |= 1ull << place;
        event->done = event->seats_done ==
                      (event->num_seats == 64 ? UINT64_MAX : (1ull << event->num_seats) - 1);
    }
    *deed_out = (script_deed){event->verb, seat, event->value, event->duration_ms};
    if (event->duration_ms > 0) {
        script_event copy = *event; /* appending may move the list */
        append_undo(self, &copy, seat, world->now_ms);
    }
    return true;
}

/* ---------------------------------------------------------------- the cycle */

static bool next_of_cycle(script *self, const script_world *world, script_deed *deed_out)
{
    if (self->dead_seat >= 0 && !self->respawned) {
        if (world->now_ms < self->last_kill_ms + self->cycle.rejoin_after_ms ||
            world->running(world->user, self->dead_seat)) {
            return false;
        }
        self->respawned = true;
        *deed_out = (script_deed){VERB_REJOIN, self->dead_seat, 0, 0};
        return true;
    }
    if (self->dead_seat >= 0) {
        if (!world->active(world->user, self->dead_seat)) {
            return false;
        }
        self->dead_seat = -1;
    }
    int seat = self->kills_done % (self->num_seats ? self->num_seats : 1);
    if (self->kills_done == self->cycle.num_kills || !world->active(world->user, seat) ||
        world->now_ms < self->last_kill_ms + self->cycle.kill_every_ms) {
        return false;
    }
    self->kills_done++;
    self->dead_seat = seat;
    self->respawned = false;
    self->last_kill_ms = world->now_ms;
    *deed_out = (script_deed){VERB_KILL, seat, 0, 0};
    return true;
}

/* ---------------------------------------------------------------- all of it */

/* The due event after (time, index) in order of time; at equal times what needs a free seat comes
 * last. -1: none. */
static int next_due(const script *self, double now_ms, const bool *passed)
{
    int best = -1;
    for (int i = 0; i < self->num_events; i++) {
        const script_event *event = &self->event[i];
        if (event->done || passed[i] || due_ms(event) > now_ms) {
            continue;
        }
        const script_event *other = best < 0 ? NULL : &self->event[best];
        bool later = other && due_ms(event) == due_ms(other);
        if (!other || due_ms(event) < due_ms(other) ||
            (later && verb_table[event->verb].wants_free < verb_table[other->verb].wants_free)) {
            best = i;
        }
    }
    return best;
}

bool script_next(script *self, const script_world *world, script_deed *deed_out)
{
    bool passed[SCRIPT_MAX_EVENTS] = {false};
    self->now_ms = world->now_ms;
    for (int i = 0; (i = next_due(self, world->now_ms, passed)) >= 0;) {
        if (do_event(self, i, world, deed_out)) {
            return true;
        }
        passed[i] = true;
    }
    return self->cycle.num_kills && next_of_cycle(self, world, deed_out);
}

/* It waits for what was not seen, or for the seats of such an event. */
static bool is_pending(const script *self, const script_event *event)
{
    if (event->done) {
        return false;
    }
    return due_ms(event) == HUGE_VAL ||
           (!event->resolved && self->now_ms > due_ms(event) + GIVEN_UP_MS) ||
           (event->pairs_with >= 0 && is_pending(self, &self->event[event->pairs_with]));
}

double script_wait_ms(const script *self, double now_ms)
{
    double wait = 1000;
    for (int i = 0; i < self->num_events; i++) {
        if (!self->event[i].done && !is_pending(self, &self->event[i])) {
            wait = fmin(wait, fmax(due_ms(&self->event[i]) - now_ms, 1));
        }
    }
    if (self->kills_done < self->cycle.num_kills || self->dead_seat >= 0) {
        double due = self->last_kill_ms + (self->dead_seat >= 0 ? self->cycle.rejoin_after_ms
                                                                : self->cycle.kill_every_ms);
        wait = fmin(wait, due > now_ms ? due - now_ms : 5);
    }
    return wait;
}

bool script_is_done(const script *self)
{
    for (int i = 0; i < self->num_events; i++) {
        if (!self->event[i].done && !is_pending(self, &self->event[i])) {
            return false;
        }
    }
    return self->kills_done == self->cycle.num_kills && self->dead_seat < 0;
}

int script_num_pending(const script *self)
{
    int num = 0;
    for (int i = 0; i < self->num_events; i++) {
        num += is_pending(self, &self->event[i]);
    }
    return num;
}

bool script_has_faults(const script *self)
{
    for (int i = 0; i < self->num_events; i++) {
        if (self->event[i].verb != VERB_BURN) {
            return true;
        }
    }
    return self->cycle.num_kills > 0;
}
