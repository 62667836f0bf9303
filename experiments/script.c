#include "experiments/script.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static_assert(SCRIPT_MAX_SEATS <= 64, "seats_done has a bit for each");

/* ---------------------------------------------------------------- the list */

eep_status script_append(script *self, const script_event *event)
{
    if (self->num_events == SCRIPT_MAX_EVENTS) {
        return EEP_ERR_INVALID;
    }
    if (self->num_events == self->capacity) {
        int capacity = self->capacity ? 2 * self->capacity : 16;
        script_event *bigger = realloc(self->event, (size_t)capacity * sizeof *bigger);
        if (!bigger) {
            return EEP_ERR_NO_MEMORY;
        }
        self->event = bigger;
        self->capacity = capacity;
    }
    self->event[self->num_events++] = *event;
    return EEP_OK;
}

eep_status script_add(script *self, verb deed, const char *text, char error[SCRIPT_ERROR_BYTES])
{
    script_event event;
    eep_status status = script_parse(deed, text, true, &event, error);
    if (status == EEP_OK) {
        status = script_append(self, &event);
        if (status != EEP_OK) {
            snprintf(error, SCRIPT_ERROR_BYTES, "%s: more than %d scripted events",
                     verb_table[deed].option, SCRIPT_MAX_EVENTS);
        }
    }
    return status;
}

void script_free(script *self)
{
    free(self->event);
    self->event = NULL;
    self->num_events = self->capacity = 0;
}

void script_resolve(script *self, double expel_ms)
{
    for (int i = 0; i < self->num_events; i++) {
        if (self->event[i].expels > 0) {
            self->event[i].duration_ms = self->event[i].expels * expel_ms;
        }
    }
}

/* ---------------------------------------------------------------- checks before the run */

static bool is_by_name(const script_event *event)
{
    return event->target == TARGET_LOWEST || event->target == TARGET_PROPOSER ||
           event->target == TARGET_RANDOM || event->target == TARGET_COVERED ||
           event->target == TARGET_SOURCE || event->target == TARGET_JOINER;
}

/* It takes the seats of an earlier event instead of choosing its own. */
static bool takes_seats(const script_event *event)
{
    bool undoes = event->verb == VERB_REJOIN || event->verb == VERB_CONT;
    return event->target == TARGET_SAME || (undoes && is_by_name(event));
}

/* Nobody that does the same thing has the seats of event `k` already. */
static bool is_free_to_pair(const script *self, int k, const script_event *for_whom)
{
    for (int i = 0; i < self->num_events; i++) {
        if (self->event[i].pairs_with == k && self->event[i].verb == for_whom->verb) {
            return false;
        }
    }
    return verb_table[self->event[k].verb].has_seat;
}

/* The event comes before the other: in time if both have one, else as they were given. */
static bool is_before(const script_event *a, const script_event *b)
{
    if (a->when == WHEN_TIME && b->when == WHEN_TIME && a->delay_ms != b->delay_ms) {
        return a->delay_ms < b->delay_ms;
    }
    return a < b;
}

/* By name: the oldest earlier event by that name; `same`: the newest earlier one with seats. */
static bool pair(script *self, int index)
{
    script_event *event = &self->event[index];
    int best = -1;
    for (int k = 0; k < self->num_events; k++) {
        const script_event *other = &self->event[k];
        bool fits = k != index && is_before(other, event) && is_free_to_pair(self, k, event) &&
                    !takes_seats(other) && !verb_table[other->verb].wants_free;
        if (event->target != TARGET_SAME) {
            fits = fits && other->target == event->target && other->count == event->count;
        }
        bool better =
            best < 0 || (event->target == TARGET_SAME ? is_before(&self->event[best], other)
                                                      : is_before(other, &self->event[best]));
        best = fits && better ? k : best;
    }
    event->pairs_with = best;
    return best >= 0;
}

static const char *place_of(const script_event *event, char text[64])
{
    text[0] = '\0';
    if (event->line) {
        snprintf(text, 64, "%d:%d: ", event->line, event->column);
    }
    return text;
}

static eep_status check_event(script *self, int index, int max_ranks, bool *taken,
                              char error[SCRIPT_ERROR_BYTES])
{
    static const char *const names[NUM_TARGETS] = {
        [TARGET_LOWEST] = "lowest",   [TARGET_PROPOSER] = "proposer", [TARGET_RANDOM] = "random",
        [TARGET_COVERED] = "covered", [TARGET_SOURCE] = "source",     [TARGET_JOINER] = "joiner",
        [TARGET_SAME] = "same"};
    script_event *event = &self->event[index];
    const verb_info *info = &verb_table[event->verb];
    char place[64];
    if (takes_seats(event) && event->pairs_with < 0 && !pair(self, index)) {
        snprintf(error, SCRIPT_ERROR_BYTES,
                 "%s%s: '%s' at %g ms has no earlier --kill, --stop or --drain of '%s' left",
                 place_of(event, place), info->option, names[event->target], event->delay_ms,
                 names[event->target]);
        return EEP_ERR_INVALID;
    }
    for (int i = 0; event->target == TARGET_SEATS && i < event->num_seats; i++) {
        int seat = event->seat[i];
        if (seat >= max_ranks) {
            snprintf(error, SCRIPT_ERROR_BYTES,
                     "%s%s: rank %d does not exist: the seats are 0 to %d", place_of(event, place),
                     info->option, seat, max_ranks - 1);
            return EEP_ERR_INVALID;
        }
        bool ends = event->verb == VERB_KILL || event->verb == VERB_ABORT ||
                    event->verb == VERB_DIE || event->verb == VERB_DRAIN;
        if (!taken || event->when != WHEN_TIME || !(ends || info->wants_free)) {
            continue;
        }
        if (taken[seat] == info->wants_free) {
            snprintf(error, SCRIPT_ERROR_BYTES, "%s%s: rank %d at %g ms %s", place_of(event, place),
                     info->option, seat, event->delay_ms,
                     info->wants_free ? "still has its process: --kill or --drain it earlier"
                                      : "has no process then: it was killed or never started");
            return EEP_ERR_INVALID;
        }
        taken[seat] = info->wants_free;
    }
    return EEP_OK;
}

typedef struct timed {
    double time_ms;
    bool wants_free;
    int index;
} timed;

/* By time; at equal times kills first, so that "kill 3@2, rejoin 3@2" means what it says. */
static int compare_timed(const void *left, const void *right)
{
    const timed *a = left, *b = right;
    if (a->time_ms != b->time_ms) {
        return a->time_ms < b->time_ms ? -1 : 1;
    }
    if (a->wants_free != b->wants_free) {
        return a->wants_free - b->wants_free;
    }
    return a->index - b->index;
}

eep_status script_prepare(script *self, int num_ranks, int max_ranks,
                          char error[SCRIPT_ERROR_BYTES])
{
    bool taken[EEP_MAX_RANKS] = {false}, *known = taken;
    eep_status status = EEP_OK;
    timed *order = calloc((size_t)self->num_events + 1, sizeof *order);
    if (!order) {
        snprintf(error, SCRIPT_ERROR_BYTES, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    for (int s = 0; s < num_ranks; s++) {
        taken[s] = true;
    }
    self->num_seats = num_ranks;
    self->dead_seat = -1;
    for (int i = 0; i < self->num_events; i++) {
        const script_event *event = &self->event[i];
        order[i] = (timed){event->when == WHEN_TIME ? event->delay_ms : HUGE_VAL,
                           verb_table[event->verb].wants_free, i};
        if ((event->when != WHEN_TIME || event->target != TARGET_SEATS ||
             event->verb == VERB_STOP || event->verb == VERB_SLOW) &&
            verb_table[event->verb].has_seat) {
            known = NULL; /* who has a process then depends on the run */
        }
    }
    qsort(order, (size_t)self->num_events, sizeof *order, compare_timed);
    for (int i = 0; i < self->num_events && status == EEP_OK; i++) {
        status = check_event(self, order[i].index, max_ranks, known, error);
    }
    free(order);
    return status;
}

/* ---------------------------------------------------------------- what happened */

void script_saw_step(script *self, uint64_t step, double now_ms)
{
    for (int i = 0; i < self->num_events; i++) {
        script_event *event = &self->event[i];
        if (event->when == WHEN_STEP && event->trigger_ms < 0 && step >= event->step) {
            event->trigger_ms = now_ms;
        }
    }
}

void script_saw_state(script *self, script_state state, int seat, double now_ms)
{
    for (int i = 0; i < self->num_events; i++) {
        script_event *event = &self->event[i];
        if (event->when == WHEN_STATE && event->trigger_ms < 0 && event->state == state &&
            (event->state_seat < 0 || event->state_seat == seat) &&
            ++event->states_seen == event->state_count) {
            event->trigger_ms = now_ms;
        }
    }
}
