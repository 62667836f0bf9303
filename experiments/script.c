#include "experiments/script.h"

#include "eep/eep.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const target_names[] = {[SCRIPT_SEAT] = "",
                                           [SCRIPT_LOWEST] = "lowest",
                                           [SCRIPT_PROPOSER] = "proposer",
                                           [SCRIPT_RANDOM] = "random"};
static const char *const verb_options[] = {[SCRIPT_KILL] = "--kill",
                                           [SCRIPT_REJOIN] = "--rejoin",
                                           [SCRIPT_DRAIN] = "--drain",
                                           [SCRIPT_BURN] = "--dummy-burn"};

/* ---------------------------------------------------------------- parsing */

/* "1.5", "1.5s" or "1500ms" to milliseconds; false for anything else, negative or over a day. */
static bool parse_time(const char *text, double *ms_out)
{
    char *end = NULL;
    if ((*text < '0' || *text > '9') && *text != '.') {
        return false; /* strtod would take "inf", "nan", blanks and signs */
    }
    double value = strtod(text, &end);
    if (strcmp(end, "ms") != 0) {
        if (*end != '\0' && strcmp(end, "s") != 0) {
            return false;
        }
        value *= 1000;
    }
    if (!isfinite(value) || value > 86400e3) {
        return false;
    }
    *ms_out = value;
    return true;
}

static bool parse_target(const char *name, script_event *event)
{
    for (int t = SCRIPT_LOWEST; t <= SCRIPT_RANDOM; t++) {
        if (strcmp(name, target_names[t]) == 0) {
            event->target = (script_target)t;
            return true;
        }
    }
    char *end = NULL;
    if (*name < '0' || *name > '9') {
        return false;
    }
    long seat = strtol(name, &end, 10);
    if (*end != '\0' || seat >= EEP_MAX_RANKS) {
        return false;
    }
    event->target = SCRIPT_SEAT;
    event->seat = (int)seat;
    return true;
}

eep_status script_add(script *self, script_verb verb, const char *text,
                      char error[SCRIPT_ERROR_BYTES])
{
    script_event event = {.verb = verb, .seat = -1, .pairs_with = -1};
    char who[32];
    const char *at = strchr(text, '@');
    size_t length = at ? (size_t)(at - text) : 0;
    const char *option = verb_options[verb];
    if (!at || length == 0 || length >= sizeof who) {
        snprintf(error, SCRIPT_ERROR_BYTES, "%s: '%s' is not of the form %s@TIME", option, text,
                 verb == SCRIPT_BURN ? "SECONDS" : "RANK");
        return EEP_ERR_INVALID;
    }
    memcpy(who, text, length);
    who[length] = '\0';
    if (!parse_time(at + 1, &event.time_ms)) {
        snprintf(error, SCRIPT_ERROR_BYTES,
                 "%s: '%s' in '%s' is not a time (seconds such as 1.5, or 1500ms, at most a day)",
                 option, at + 1, text);
        return EEP_ERR_INVALID;
    }
    double burn_ms = 0;
    bool good = verb == SCRIPT_BURN ? parse_time(who, &burn_ms) : parse_target(who, &event);
    if (!good) {
        snprintf(error, SCRIPT_ERROR_BYTES, "%s: '%s' in '%s' is not %s", option, who, text,
                 verb == SCRIPT_BURN ? "a number of seconds"
                                     : "a rank, 'lowest', 'proposer' or 'random'");
        return EEP_ERR_INVALID;
    }
    event.seconds = burn_ms / 1e3;
    if (self->num_events == SCRIPT_MAX_EVENTS) {
        snprintf(error, SCRIPT_ERROR_BYTES, "%s: more than %d scripted events", option,
                 SCRIPT_MAX_EVENTS);
        return EEP_ERR_INVALID;
    }
    self->event[self->num_events++] = event;
    return EEP_OK;
}

/* By time; at equal times kills first, so that "kill 3@2, rejoin 3@2" means what it says. */
static int compare_events(const void *left, const void *right)
{
    const script_event *a = left, *b = right;
    if (a->time_ms != b->time_ms) {
        return a->time_ms < b->time_ms ? -1 : 1;
    }
    return (a->verb == SCRIPT_REJOIN) - (b->verb == SCRIPT_REJOIN);
}

/* A rejoin by name takes the seat of the oldest kill or drain by that name not yet paired. */
static bool pair(script *self, int rejoin)
{
    for (int k = 0; k < rejoin; k++) {
        const script_event *kill = &self->event[k];
        bool fits = (kill->verb == SCRIPT_KILL || kill->verb == SCRIPT_DRAIN) &&
                    kill->target == self->event[rejoin].target;
        for (int r = 0; fits && r < rejoin; r++) {
            fits = self->event[r].pairs_with != k;
        }
        if (fits) {
            self->event[rejoin].pairs_with = k;
            return true;
        }
    }
    return false;
}

eep_status script_prepare(script *self, int num_ranks, int max_ranks,
                          char error[SCRIPT_ERROR_BYTES])
{
    bool taken[EEP_MAX_RANKS] = {false};
    for (int s = 0; s < num_ranks; s++) {
        taken[s] = true;
    }
    self->num_seats = num_ranks;
    self->dead_seat = -1;
    qsort(self->event, (size_t)self->num_events, sizeof self->event[0], compare_events);
    for (int i = 0; i < self->num_events; i++) {
        script_event *event = &self->event[i];
        const char *option = verb_options[event->verb];
        if (event->verb == SCRIPT_BURN) {
            continue;
        }
        if (event->target != SCRIPT_SEAT) {
            if (event->verb == SCRIPT_REJOIN && !pair(self, i)) {
                snprintf(error, SCRIPT_ERROR_BYTES,
                         "%s: '%s' at %g ms has no earlier --kill or --drain of '%s' left", option,
                         target_names[event->target], event->time_ms, target_names[event->target]);
                return EEP_ERR_INVALID;
            }
            continue;
        }
        if (event->seat >= max_ranks) {
            snprintf(error, SCRIPT_ERROR_BYTES, "%s: rank %d does not exist: the seats are 0 to %d",
                     option, event->seat, max_ranks - 1);
            return EEP_ERR_INVALID;
        }
        bool wants_taken = event->verb != SCRIPT_REJOIN;
        if (taken[event->seat] != wants_taken) {
            snprintf(error, SCRIPT_ERROR_BYTES, "%s: rank %d at %g ms %s", option, event->seat,
                     event->time_ms,
                     wants_taken ? "has no process then: it was killed or never started"
                                 : "still has its process: --kill or --drain it earlier");
            return EEP_ERR_INVALID;
        }
        taken[event->seat] = !wants_taken;
    }
    return EEP_OK;
}

/* ---------------------------------------------------------------- what is due */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* The active seat that a name means now; -1: nobody. */
static int resolve(const script_event *event, const script_world *world)
{
    int active[EEP_MAX_RANKS], num = 0;
    for (int s = 0; s < world->max_ranks; s++) {
        if (world->active(world->user, s)) {
            active[num++] = s;
        }
    }
    if (num == 0) {
        return -1;
    }
    if (event->target == SCRIPT_RANDOM) {
        return active[next_random(world->random) % (uint64_t)num];
    }
    if (event->target == SCRIPT_PROPOSER && world->proposer >= 0 &&
        world->active(world->user, world->proposer)) {
        return world->proposer;
    }
    return active[0];
}

/* The seat for the event if it can be done now, else -1. */
static int ready_seat(const script *self, const script_event *event, const script_world *world)
{
    if (event->verb == SCRIPT_REJOIN) {
        int seat = event->pairs_with < 0 ? event->seat : self->event[event->pairs_with].seat;
        return seat >= 0 && !world->running(world->user, seat) ? seat : -1;
    }
    if (event->target == SCRIPT_SEAT) {
        return world->running(world->user, event->seat) ? event->seat : -1;
    }
    return resolve(event, world);
}

static bool next_of_cycle(script *self, const script_world *world, script_verb *verb_out,
                          int *seat_out)
{
    if (self->dead_seat >= 0 && !self->respawned) {
        if (world->now_ms < self->last_kill_ms + self->cycle.rejoin_after_ms ||
            world->running(world->user, self->dead_seat)) {
            return false;
        }
        self->respawned = true;
        *verb_out = SCRIPT_REJOIN;
        *seat_out = self->dead_seat;
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
    *verb_out = SCRIPT_KILL;
    *seat_out = seat;
    return true;
}

bool script_next(script *self, const script_world *world, script_verb *verb_out, int *seat_out,
                 double *seconds_out)
{
    *seconds_out = 0;
    for (int i = 0; i < self->num_events; i++) {
        script_event *event = &self->event[i];
        if (event->done || event->time_ms > world->now_ms) {
            continue;
        }
        int seat = event->verb == SCRIPT_BURN ? 0 : ready_seat(self, event, world);
        /* A seat that an event by name had emptied before: there is nothing to kill or drain. */
        bool moot = seat < 0 && event->verb != SCRIPT_REJOIN && event->target == SCRIPT_SEAT;
        event->done = seat >= 0 || moot;
        if (seat < 0) {
            continue;
        }
        if (event->verb != SCRIPT_BURN) {
            event->seat = seat;
        }
        *verb_out = event->verb;
        *seat_out = seat;
        *seconds_out = event->seconds;
        return true;
    }
    return self->cycle.num_kills && next_of_cycle(self, world, verb_out, seat_out);
}

double script_wait_ms(const script *self, double now_ms)
{
    double wait = 1000;
    for (int i = 0; i < self->num_events; i++) {
        if (!self->event[i].done) {
            wait = fmin(wait, fmax(self->event[i].time_ms - now_ms, 1));
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
        if (!self->event[i].done) {
            return false;
        }
    }
    return self->kills_done == self->cycle.num_kills && self->dead_seat < 0;
}

bool script_has_faults(const script *self)
{
    for (int i = 0; i < self->num_events; i++) {
        if (self->event[i].verb != SCRIPT_BURN) {
            return true;
        }
    }
    return self->cycle.num_kills > 0;
}
