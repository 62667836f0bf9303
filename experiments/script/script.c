/* SPDX-License-Identifier: Apache-2.0 */
/* The events of a script: appended, sorted, paired, and checked before a run. */
#include "experiments/script/script.h"
#include "experiments/script/script_describe.h"
#include "experiments/script/script_parse.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMPACT_FROM = 64 };

/* ---------------------------------------------------------------- pairing */

/* A rejoin or a cont by the name of members takes the seats of an earlier event. */
static bool wants_partner(const script_event *event)
{
    return (event->verb == VERB_REJOIN || event->verb == VERB_CONT) &&
           event->target != TARGET_SEATS && event->target != TARGET_VACANT &&
           event->target != TARGET_SAME;
}

static bool empties_seat(verb what)
{
    return what == VERB_KILL || what == VERB_ABORT || what == VERB_DIE || what == VERB_DRAIN;
}

static bool stops(verb what)
{
    return what == VERB_STOP || what == VERB_FREEZE;
}

/* By time where both have one, else as they were written. */
static bool is_earlier(const script_event *a, const script_event *b)
{
    return a->when == WHEN_TIME && b->when == WHEN_TIME ? a < b : a->order < b->order;
}

/* The fault, an earlier event, makes sense as the reason of the recovery (a rejoin or a cont). */
static bool explains(const script_event *fault, const script_event *recovery)
{
    bool empties = recovery->verb == VERB_REJOIN && empties_seat(fault->verb);
    return fault->target == recovery->target && is_earlier(fault, recovery) &&
           (empties || stops(fault->verb));
}

/* An event of that verb has taken the seats of the event at the index. */
static bool has_partner(const script *self, int index, verb what)
{
    for (int i = 0; i < self->num_events; i++) {
        if (script_partner(&self->event[i]) == index && self->event[i].verb == what) {
            return true;
        }
    }
    return false;
}

/* The oldest fault by the recovery's name and this count (0: any) whose seats are not taken yet by
 * an event of the recovery's verb; -1: there is none. */
static int oldest_fault(const script *self, const script_event *recovery, int count)
{
    int oldest = -1;
    for (int i = 0; i < self->num_events; i++) {
        const script_event *fault = &self->event[i];
        if (explains(fault, recovery) && (count == 0 || fault->named.count == count) &&
            !has_partner(self, i, recovery->verb) &&
            (oldest < 0 || is_earlier(fault, &self->event[oldest]))) {
            oldest = i;
        }
    }
    return oldest;
}

/* Give the recovery its fault's seats. Without a count it takes a fault of one rank or, where there
 * is none, of any count. */
static bool pair(script *self, script_event *recovery)
{
    int oldest = oldest_fault(self, recovery, recovery->named.count);
    if (oldest < 0 && !recovery->named.counted) {
        oldest = oldest_fault(self, recovery, 0);
    }
    if (oldest < 0) {
        return false;
    }
    recovery->same = (script_same){
        .partner = oldest, .target = recovery->target, .count = self->event[oldest].named.count};
    recovery->target = TARGET_SAME;
    return true;
}

/* Messages name `same` of a scenario by the target that it stands for. */
static void name_same(const script *self, script_event *event)
{
    const script_event *root = event;
    for (int i = 0; root->target == TARGET_SAME && i < self->num_events; i++) {
        if (root->same.partner < 0 || root->same.partner >= self->num_events) {
            return;
        }
        root = &self->event[root->same.partner];
    }
    event->same.target = root->target;
    event->same.count = target_names[root->target].name ? root->named.count : 1;
    event->num_seats = root->target == TARGET_SEATS ? root->num_seats : 0;
    memcpy(event->seat, root->seat, sizeof event->seat);
}

/* ---------------------------------------------------------------- events */

static bool has_foreign_seat(const script_event *event, int max_ranks, int *seat_out)
{
    for (int i = 0; event->target == TARGET_SEATS && i < event->num_seats; i++) {
        if (event->seat[i] >= max_ranks) {
            *seat_out = event->seat[i];
            return true;
        }
    }
    return false;
}

/* There is room for a power of two of events. */
static bool is_full(const script *self)
{
    return (self->num_events & (self->num_events - 1)) == 0;
}

eep_status script_append(script *self, const script_event *event)
{
    int foreign = 0;
    if (self->max_ranks && self->num_events >= COMPACT_FROM && is_full(self)) {
        script_compact(self);
    }
    if (self->num_events == SCRIPT_MAX_EVENTS ||
        (self->max_ranks && has_foreign_seat(event, self->max_ranks, &foreign))) {
        return EEP_ERR_INVALID;
    }
    if (is_full(self)) {
        size_t room = self->num_events ? 2 * (size_t)self->num_events : 1;
        script_event *bigger = realloc(self->event, room * sizeof *bigger);
        if (!bigger) {
            return EEP_ERR_NO_MEMORY;
        }
        self->event = bigger;
    }
    script_event *added = &self->event[self->num_events++];
    *added = *event;
    added->order = self->num_appended++;
    added->progress = (script_progress){
        .trigger_ms = -1, .applied_ms = -1, .resolved = event->target == TARGET_SEATS};
    if (self->max_ranks && wants_partner(added) && !pair(self, added)) {
        self->num_events--;
        return EEP_ERR_NOT_FOUND;
    }
    return EEP_OK;
}

eep_status script_add(script *self, verb what, const char *text, char error[SCRIPT_ERROR_BYTES])
{
    script_event event;
    eep_status status = script_parse(what, text, true, &event, error);
    if (status != EEP_OK) {
        return status;
    }
    status = script_append(self, &event);
    if (status == EEP_ERR_INVALID) {
        snprintf(error, SCRIPT_ERROR_BYTES, "%s: more than %d scripted events",
                 verb_table[what].option, SCRIPT_MAX_EVENTS);
    } else if (status != EEP_OK) {
        snprintf(error, SCRIPT_ERROR_BYTES, "%s: %s", verb_table[what].option,
                 eep_strerror(status));
    }
    return status;
}

eep_status script_copy(const script *self, script *copy_out)
{
    script copy = *self;
    copy.event = NULL;
    copy.num_events = copy.num_appended = 0;
    if (self->num_events) {
        size_t room = 1;
        while (room < (size_t)self->num_events) {
            room *= 2;
        }
        copy.event = malloc(room * sizeof *copy.event);
        if (!copy.event) {
            return EEP_ERR_NO_MEMORY;
        }
        memcpy(copy.event, self->event, (size_t)self->num_events * sizeof *copy.event);
    }
    copy.num_events = self->num_events;
    copy.num_appended = self->num_appended;
    *copy_out = copy;
    return EEP_OK;
}

void script_free(script *self)
{
    free(self->event);
    self->event = NULL;
    self->num_events = 0;
}

/* ---------------------------------------------------------------- prepare */

static __attribute__((format(printf, 3, 4))) eep_status
refuse(const script_event *event, char error[SCRIPT_ERROR_BYTES], const char *format, ...)
{
    va_list args;
    int used = 0;
    if (event->line) {
        used = snprintf(error, SCRIPT_ERROR_BYTES, "%d:%d: ", event->line, event->column);
    }
    used += snprintf(error + used, (size_t)(SCRIPT_ERROR_BYTES - used),
                     "%s: ", verb_table[event->verb].option);
    va_start(args, format);
    vsnprintf(error + used, (size_t)(SCRIPT_ERROR_BYTES - used), format, args);
    va_end(args);
    return EEP_ERR_INVALID;
}

/* Events at a time come first, by time; then those that wait, as they were written. At equal times
 * a fault comes before a recovery, so that "kill 3@2, rejoin 3@2" means what it says. */
static int compare_events(const void *left, const void *right)
{
    const script_event *a = left, *b = right;
    bool a_timed = a->when == WHEN_TIME, b_timed = b->when == WHEN_TIME;
    if (a_timed != b_timed) {
        return a_timed ? -1 : 1;
    }
    if (a_timed && a->delay_ms != b->delay_ms) {
        return a->delay_ms < b->delay_ms ? -1 : 1;
    }
    int a_after = verb_table[a->verb].wants_free || a->verb == VERB_CONT;
    int b_after = verb_table[b->verb].wants_free || b->verb == VERB_CONT;
    if (a_timed && a_after != b_after) {
        return a_after - b_after;
    }
    return (a->order > b->order) - (a->order < b->order);
}

static void sort(script *self)
{
    if (self->num_events < 2) {
        return;
    }
    qsort(self->event, (size_t)self->num_events, sizeof *self->event, compare_events);
    for (int i = 0; i < self->num_events; i++) { /* a partner was named by its order so far */
        script_event *event = &self->event[i];
        int order = script_partner(event);
        for (int k = 0; order >= 0 && k < self->num_events; k++) {
            if (self->event[k].order == order) {
                event->same.partner = k;
                break;
            }
        }
    }
}

/* What is known of a seat at a time: nothing after a stop, which may expel the rank, and nothing of
 * any seat after something was done to a host. A seat of an event that waits for a step or a state
 * is not checked at all. */
typedef enum occupancy { SEAT_FREE, SEAT_TAKEN, SEAT_EITHER } occupancy;

static eep_status check_seat(const script_event *event, int seat, occupancy *known, char *error)
{
    bool wants_free = verb_table[event->verb].wants_free;
    if (*known == (wants_free ? SEAT_TAKEN : SEAT_FREE)) {
        return refuse(event, error, "rank %d at %g ms %s", seat, event->delay_ms,
                      wants_free ? "still has its process: --kill or --drain it earlier"
                                 : "has no process then: it was killed or never started");
    }
    if (wants_free) {
        *known = SEAT_TAKEN;
    } else if (empties_seat(event->verb)) {
        *known = SEAT_FREE;
    } else if (stops(event->verb)) {
        *known = SEAT_EITHER;
    }
    return EEP_OK;
}

eep_status script_check(const script_event *event, int max_ranks, char error[SCRIPT_ERROR_BYTES])
{
    int foreign = 0;
    if (has_foreign_seat(event, max_ranks, &foreign)) {
        return refuse(event, error, "rank %d does not exist: the seats are 0 to %d", foreign,
                      max_ranks - 1);
    }
    if (target_names[event->target].name && event->named.count > max_ranks) {
        return refuse(event, error, "%d ranks are more than the %d seats", event->named.count,
                      max_ranks);
    }
    if (event->target == TARGET_COVERED && event->named.count == max_ranks) {
        return refuse(event, error, "covered:%d of %d seats leaves nobody who holds the experts",
                      event->named.count, max_ranks);
    }
    if (event->when == WHEN_STATE && event->awaited.seat >= max_ranks) {
        return refuse(event, error, "it waits for rank %d: the seats are 0 to %d",
                      event->awaited.seat, max_ranks - 1);
    }
    return EEP_OK;
}

static eep_status check_seats(const script *self, int num_ranks, int max_ranks, char *error)
{
    occupancy known[EEP_MAX_RANKS] = {SEAT_FREE};
    bool by_trigger[EEP_MAX_RANKS] = {false};
    for (int s = 0; s < num_ranks; s++) {
        known[s] = SEAT_TAKEN;
    }
    for (int i = 0; i < self->num_events; i++) {
        const script_event *event = &self->event[i];
        eep_status possible = script_check(event, max_ranks, error);
        if (possible != EEP_OK) {
            return possible;
        }
        for (int s = 0; event->target == TARGET_SEATS && s < event->num_seats; s++) {
            by_trigger[event->seat[s]] |= event->when != WHEN_TIME;
        }
        for (int s = 0; verb_is_of_hosts(event->verb) && s < max_ranks; s++) {
            by_trigger[s] |= event->when != WHEN_TIME;
        }
    }
    for (int i = 0; i < self->num_events; i++) {
        const script_event *event = &self->event[i];
        for (int s = 0; verb_is_of_hosts(event->verb) && s < max_ranks; s++) {
            known[s] = SEAT_EITHER;
        }
        for (int s = 0; event->target == TARGET_SEATS && s < event->num_seats; s++) {
            int seat = event->seat[s];
            eep_status status = event->when != WHEN_TIME || by_trigger[seat]
                                    ? EEP_OK
                                    : check_seat(event, seat, &known[seat], error);
            if (status != EEP_OK) {
                return status;
            }
        }
    }
    return EEP_OK;
}

/* A rejoin or cont by name without an earlier event to take its ranks from. */
static eep_status refuse_alone(const script *self, const script_event *event, char *error)
{
    const char *name = target_names[event->target].name;
    const char *others = event->verb == VERB_CONT ? "--stop" : "--kill or --drain";
    char at[64];
    snprintf(at, sizeof at, event->when == WHEN_TIME ? " at %g ms" : "", event->delay_ms);
    int other = oldest_fault(self, event, 0);
    if (other >= 0) {
        return refuse(
            event, error,
            "'%s' of %d%s has no earlier %s of as many left: there is one of %d; give its "
            "count, or none",
            name, event->named.count, at, others, self->event[other].named.count);
    }
    return refuse(event, error, "'%s'%s has no earlier %s of '%s' left", name, at, others, name);
}

eep_status script_prepare(script *self, int num_ranks, int max_ranks,
                          char error[SCRIPT_ERROR_BYTES])
{
    self->num_seats = num_ranks;
    self->max_ranks = max_ranks;
    self->dead_seat = -1;
    sort(self);
    for (int i = 0; i < self->num_events; i++) {
        script_event *event = &self->event[i];
        if (event->target == TARGET_SAME &&
            (event->same.partner < 0 || event->same.partner >= self->num_events)) {
            return refuse(event, error, "it names no earlier event");
        }
        if (wants_partner(event) && !pair(self, event)) {
            return refuse_alone(self, event, error);
        }
    }
    for (int i = 0; i < self->num_events; i++) {
        if (self->event[i].target == TARGET_SAME) {
            name_same(self, &self->event[i]);
        }
    }
    return check_seats(self, num_ranks, max_ranks, error);
}

/* ---------------------------------------------------------------- what it holds */

bool script_has_store(const script *self)
{
    for (int i = 0; i < self->num_events; i++) {
        verb what = self->event[i].verb;
        if (what == VERB_STORE_KILL || what == VERB_STORE_STOP || what == VERB_STORE_CONT ||
            what == VERB_STORE_START) {
            return true;
        }
    }
    return false;
}
