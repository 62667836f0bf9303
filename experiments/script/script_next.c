/* SPDX-License-Identifier: Apache-2.0 */
/* What of a script is due: triggers, single events with their ends, and the cycle of kills. */
#include "experiments/script/script_target.h"

#include <math.h>
#include <string.h>

/* When the event is due; infinite while its step or state was not seen. */
static double due_ms(const script_event *event)
{
    if (event->when == WHEN_TIME) {
        return event->delay_ms;
    }
    return event->progress.trigger_ms < 0 ? INFINITY : event->progress.trigger_ms + event->delay_ms;
}

bool script_is_due(const script_event *event, double now_ms)
{
    return due_ms(event) <= now_ms;
}

static double duration_of(const script *self, const script_event *event)
{
    return event->lasts.ms + event->lasts.expels * self->expel_ms;
}

/* ---------------------------------------------------------------- triggers */

void script_on_step(script *self, uint64_t step, double now_ms)
{
    for (int i = 0; i < self->num_events; i++) {
        script_event *event = &self->event[i];
        if (event->when == WHEN_STEP && event->progress.trigger_ms < 0 && step >= event->step) {
            event->progress.trigger_ms = now_ms;
        }
    }
}

void script_on_state(script *self, script_state state, int seat, double now_ms)
{
    if (state == STATE_SPAWNED && seat >= 0 && seat < EEP_MAX_RANKS) {
        self->spawned[seat] = ++self->num_spawned;
    }
    for (int i = 0; i < self->num_events; i++) {
        script_event *event = &self->event[i];
        if (event->when == WHEN_STATE && event->awaited.state == state &&
            event->progress.trigger_ms < 0 &&
            (event->awaited.seat < 0 || event->awaited.seat == seat) &&
            ++event->progress.states_seen == event->awaited.count) {
            event->progress.trigger_ms = now_ms;
        }
    }
}

/* ---------------------------------------------------------------- one event */

/* The verb that ends what the event's verb did. */
static script_action undoing(const script_event *event, int seat)
{
    script_action action = {.seat = seat, .order = -1};
    if (event->verb == VERB_STOP || event->verb == VERB_FREEZE) {
        action.verb = VERB_CONT;
    } else if (event->verb == VERB_STORE_STOP) {
        action.verb = VERB_STORE_CONT;
    } else if (verb_is_of_hosts(event->verb)) {
        action.verb = event->verb == VERB_HOST_FREEZE  ? VERB_HOST_CONT
                      : event->verb == VERB_AGENT_KILL ? VERB_AGENT_START
                      : event->verb == VERB_NIC_DOWN   ? VERB_NIC_UP
                                                       : VERB_HEAL;
        action.value = event->value;
    } else {
        action.verb = VERB_SLOW;
        action.value.factor = 1;
    }
    return action;
}

/* Verbs of hosts are about the same ones only if they name them alike. */
static bool is_about(const script_event *event, const char *hosts)
{
    return !hosts || !verb_is_of_hosts(event->verb) || strcmp(event->value.hosts, hosts) == 0;
}

static const char *hosts_of(const script_event *event)
{
    return verb_is_of_hosts(event->verb) && *event->value.hosts ? event->value.hosts : NULL;
}

static bool is_of_seat(const script_event *event, int index, int seat)
{
    return verb_table[event->verb].has_seat ? index < event->num_seats && event->seat[index] == seat
                                            : index == 0;
}

/* `later` is a freeze that was ordered during the stop: it takes place only when the stop has
 * ended, for the rank must run to get to its place. */
static bool is_freeze_behind(const script_event *later, const script_event *stop)
{
    return later->verb == VERB_FREEZE && stop->verb == VERB_STOP &&
           later->progress.applied_ms >= stop->progress.applied_ms;
}

/* At the stop's end such a freeze is still to come. */
static bool has_freeze_to_come(const script *self, const script_event *stop, int seat)
{
    for (int i = 0; i < self->num_events; i++) {
        const script_event *freeze = &self->event[i];
        bool is_behind = is_freeze_behind(freeze, stop);
        for (int k = 0; is_behind && k < freeze->num_seats; k++) {
            uint64_t bit = (uint64_t)1 << k;
            bool endless = freeze->lasts.ms <= 0 && freeze->lasts.expels <= 0;
            if (freeze->seat[k] == seat && freeze->progress.seats_applied & bit &&
                (endless || (freeze->progress.seats_undo & bit &&
                             freeze->progress.undo_ms > stop->progress.undo_ms))) {
                return true;
            }
        }
    }
    return false;
}

/* Another event of the same kind lasts longer on the seat. */
static bool lasts_longer_elsewhere(const script *self, const script_event *event, int seat)
{
    verb end = undoing(event, seat).verb;
    for (int i = 0; i < self->num_events; i++) {
        const script_event *other = &self->event[i];
        bool later = other != event && other->progress.seats_undo &&
                     is_about(other, hosts_of(event)) && undoing(other, seat).verb == end &&
                     other->progress.undo_ms > event->progress.undo_ms &&
                     !is_freeze_behind(other, event);
        for (int k = 0; later && k < SCRIPT_MAX_SEATS; k++) {
            if (is_of_seat(other, k, seat) && other->progress.seats_undo >> k & 1) {
                return true;
            }
        }
    }
    return false;
}

/* Cancel ends of that kind on the seat, or about those hosts (NULL: any), up to until_ms. Ends of
 * events of the verb `kept` stay (NUM_VERBS: none does). */
static void cancel_ends_about(script *self, verb end, int seat, double until_ms, verb kept,
                              const char *hosts)
{
    for (int e = 0; e < self->num_events; e++) {
        script_event *event = &self->event[e];
        bool fits = event->progress.seats_undo && event->verb != kept && is_about(event, hosts) &&
                    event->progress.undo_ms <= until_ms && undoing(event, seat).verb == end;
        for (int i = 0; fits && i < SCRIPT_MAX_SEATS; i++) {
            if (is_of_seat(event, i, seat)) {
                event->progress.seats_undo &= ~((uint64_t)1 << i);
            }
        }
    }
}

static void cancel_ends(script *self, verb end, int seat, double until_ms, verb kept)
{
    cancel_ends_about(self, end, seat, until_ms, kept, NULL);
}

/* The event's next seat to be undone. A process that has ended has nothing to undo. */
static bool next_undo(script *self, script_event *event, const script_world *world,
                      script_action *action_out)
{
    bool has_seat = verb_table[event->verb].has_seat;
    for (int i = 0; event->progress.seats_undo && i < SCRIPT_MAX_SEATS; i++) {
        uint64_t bit = (uint64_t)1 << i;
        if (!(event->progress.seats_undo & bit)) {
            continue;
        }
        int seat = has_seat ? event->seat[i] : -1;
        if (has_seat && !world->running(world->user, seat)) {
            event->progress.seats_undo &= ~bit;
        } else if (world->now_ms >= event->progress.undo_ms) {
            event->progress.seats_undo &= ~bit;
            if (!lasts_longer_elsewhere(self, event, seat)) {
                *action_out = undoing(event, seat);
                action_out->keeps_freeze = has_freeze_to_come(self, event, seat);
                cancel_ends_about(self, action_out->verb, seat, event->progress.undo_ms, NUM_VERBS,
                                  hosts_of(event));
                return true;
            }
        }
    }
    return false;
}

/* The event makes earlier ends on the seat void where it ends the same itself, lasts until a cont,
 * or starts another process. A slow-down takes the place of the one before it. */
static void void_ends(script *self, const script_event *event, int seat, bool has_end)
{
    switch (event->verb) {
    case VERB_CONT:
    case VERB_SLOW:
    case VERB_STORE_CONT:
        cancel_ends(self, event->verb, seat, INFINITY, NUM_VERBS);
        break;
    case VERB_STOP:
    case VERB_FREEZE: /* which may have to wait for the end of a stop */
        if (!has_end) {
            cancel_ends(self, VERB_CONT, seat, INFINITY,
                        event->verb == VERB_FREEZE ? VERB_STOP : NUM_VERBS);
        }
        break;
    case VERB_STORE_STOP:
        if (!has_end) {
            cancel_ends(self, VERB_STORE_CONT, seat, INFINITY, NUM_VERBS);
        }
        break;
    case VERB_HOST_CONT:
    case VERB_AGENT_START:
    case VERB_HEAL:
    case VERB_NIC_UP:
        cancel_ends_about(self, event->verb, seat, INFINITY, NUM_VERBS, hosts_of(event));
        break;
    case VERB_REJOIN:
    case VERB_ADD:
        cancel_ends(self, VERB_CONT, seat, INFINITY, NUM_VERBS);
        cancel_ends(self, VERB_SLOW, seat, INFINITY, NUM_VERBS);
        break;
    case VERB_STORE_KILL: /* the next process of the store is not stopped */
    case VERB_STORE_START:
        cancel_ends(self, VERB_STORE_CONT, seat, INFINITY, NUM_VERBS);
        break;
    default:
        break;
    }
}

static void apply(script *self, script_event *event, int index, const script_world *world,
                  script_action *action_out)
{
    double duration = duration_of(self, event);
    bool has_seat = verb_table[event->verb].has_seat;
    void_ends(self, event, has_seat ? event->seat[index] : -1, duration > 0);
    if (duration > 0) {
        event->progress.seats_undo |= (uint64_t)1 << index;
        event->progress.undo_ms = world->now_ms + duration;
    }
    event->progress.seats_applied |= (uint64_t)1 << index;
    event->progress.applied_ms =
        event->progress.applied_ms < 0 ? world->now_ms : event->progress.applied_ms;
    *action_out = (script_action){.verb = event->verb,
                                  .order = event->order,
                                  .index = index,
                                  .seat = has_seat ? event->seat[index] : -1,
                                  .value = event->value,
                                  .duration_ms = duration};
}

/* The event's next seat that it can be done to now. */
static bool next_seat(script *self, script_event *event, const script_world *world,
                      script_action *action_out)
{
    if (!verb_table[event->verb].has_seat) {
        event->progress.done = true;
        apply(self, event, 0, world, action_out);
        return true;
    }
    if (!script_resolve(self, event, world)) {
        return false;
    }
    int left = 0, chosen = -1;
    for (int i = 0; i < event->num_seats && chosen < 0; i++) {
        uint64_t bit = (uint64_t)1 << i;
        if (event->progress.seats_done & bit) {
            continue;
        }
        bool running = world->running(world->user, event->seat[i]);
        bool reached = !world->reached || world->reached(world->user, event, event->seat[i]);
        if (verb_table[event->verb].wants_free && (running || !reached)) {
            left++; /* the event waits for the end of the process there, or for the host */
            continue;
        }
        event->progress.seats_done |= bit;
        if (verb_table[event->verb].wants_free || running) {
            chosen = i; /* else another event emptied the seat: nothing is left to do there */
        }
    }
    if (chosen < 0) {
        event->progress.done = left == 0;
        return false;
    }
    apply(self, event, chosen, world, action_out);
    return true;
}

/* ---------------------------------------------------------------- the cycle */

static bool next_of_cycle(script *self, const script_world *world, script_action *action_out)
{
    if (self->dead_seat >= 0 && !self->respawned) {
        if (world->now_ms < self->last_kill_ms + self->cycle.rejoin_after_ms ||
            world->running(world->user, self->dead_seat)) {
            return false;
        }
        self->respawned = true;
        *action_out = (script_action){.verb = VERB_REJOIN, .seat = self->dead_seat, .order = -1};
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
    *action_out = (script_action){.verb = VERB_KILL, .seat = seat, .order = -1};
    return true;
}

/* ---------------------------------------------------------------- the whole */

bool script_next(script *self, const script_world *world, script_action *action_out)
{
    for (int i = 0; i < self->num_events; i++) {
        script_event *event = &self->event[i];
        if (next_undo(self, event, world, action_out)) {
            return true;
        }
        if (!event->progress.done && due_ms(event) <= world->now_ms &&
            next_seat(self, event, world, action_out)) {
            return true;
        }
    }
    return self->cycle.num_kills && next_of_cycle(self, world, action_out);
}

void script_not_applied(script *self, const script_action *action)
{
    for (int i = 0; action->order >= 0 && i < self->num_events; i++) {
        script_event *event = &self->event[i];
        if (event->order == action->order) {
            event->progress.seats_applied &= ~((uint64_t)1 << action->index);
            event->progress.seats_undo &= ~((uint64_t)1 << action->index);
            event->progress.applied_ms =
                event->progress.seats_applied ? event->progress.applied_ms : -1;
        }
    }
}

bool script_ended(script *self, script_event *event_out)
{
    for (int i = 0; i < self->num_events; i++) {
        script_event *event = &self->event[i];
        if (event->progress.done && !event->progress.told) {
            event->progress.told = true;
            *event_out = *event;
            return true;
        }
    }
    return false;
}

void script_withdraw(script *self)
{
    for (int i = 0; i < self->num_events; i++) {
        script_event *event = &self->event[i];
        event->progress.withdrawn = event->progress.withdrawn || !event->progress.done;
        event->progress.done = true;
    }
    self->cycle.num_kills = self->kills_done;
}

double script_wait_ms(const script *self, double now_ms)
{
    double wait = 1000;
    for (int i = 0; i < self->num_events; i++) {
        const script_event *event = &self->event[i];
        if (!event->progress.done) {
            wait = fmin(wait, fmax(due_ms(event) - now_ms, 1));
        }
        if (event->progress.seats_undo) {
            wait = fmin(wait, fmax(event->progress.undo_ms - now_ms, 1));
        }
    }
    if (self->kills_done < self->cycle.num_kills || self->dead_seat >= 0) {
        double due = self->last_kill_ms + (self->dead_seat >= 0 ? self->cycle.rejoin_after_ms
                                                                : self->cycle.kill_every_ms);
        wait = fmin(wait, due > now_ms ? due - now_ms : 5);
    }
    return wait;
}

static bool cycle_is_done(const script *self)
{
    return self->kills_done == self->cycle.num_kills && self->dead_seat < 0;
}

bool script_will_start(const script *self)
{
    bool will = self->dead_seat >= 0 && !self->respawned && self->cycle.num_kills > 0;
    for (int i = 0; i < self->num_events && !will; i++) {
        const script_event *event = &self->event[i];
        will =
            !event->progress.done && verb_table[event->verb].wants_free && isfinite(due_ms(event));
    }
    return will;
}

bool script_is_done(const script *self)
{
    for (int i = 0; i < self->num_events; i++) {
        if (!self->event[i].progress.done || self->event[i].progress.seats_undo) {
            return false;
        }
    }
    return cycle_is_done(self);
}

bool script_waits(const script *self, double now_ms)
{
    bool waits = false;
    for (int i = 0; i < self->num_events; i++) {
        const script_event *event = &self->event[i];
        double due = due_ms(event);
        if (event->progress.seats_undo ||
            (!event->progress.done && due > now_ms && isfinite(due))) {
            return false;
        }
        waits |= !event->progress.done;
    }
    return waits && cycle_is_done(self);
}
