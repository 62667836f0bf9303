/* SPDX-License-Identifier: Apache-2.0 */
/* The events of a script that are pending: why, and how they are withdrawn. Room of events that are
 * done is given back here. */
#include "experiments/script/script_describe.h"

#include <math.h>
#include <stdio.h>

enum { KEPT_FOR_PAIRS = 1024, NAMED_SEATS = 8 };

/* ---------------------------------------------------------------- room */

static bool is_awaited(const script *self, int index)
{
    for (int i = 0; i < self->num_events; i++) {
        if (!self->event[i].progress.done && script_partner(&self->event[i]) == index) {
            return true;
        }
    }
    return false;
}

/* A later rejoin or cont by name may take the seats of an event by name, unless that is old. */
static bool is_dropped(const script *self, int index)
{
    const script_event *event = &self->event[index];
    bool by_name = target_names[event->target].name != NULL;
    bool is_old = event->order + KEPT_FOR_PAIRS < self->num_appended;
    return event->progress.done && event->progress.told && !event->progress.seats_undo &&
           (!by_name || is_old) && !is_awaited(self, index);
}

void script_compact(script *self)
{
    int kept = 0;
    for (int i = 0; i < self->num_events; i++) {
        self->event[i].progress.is_dropped = is_dropped(self, i);
    }
    for (int i = 0; i < self->num_events; i++) {
        int place = self->event[i].progress.is_dropped ? -1 : kept++;
        for (int k = 0; k < self->num_events && place != i; k++) {
            if (script_partner(&self->event[k]) == i) {
                self->event[k].same.partner = place; /* never above i: it is not met again */
            }
        }
        if (place >= 0) {
            self->event[place] = self->event[i];
        }
    }
    self->num_events = kept;
}

/* ---------------------------------------------------------------- withdrawal */

static int index_of(const script *self, int order)
{
    for (int i = 0; i < self->num_events; i++) {
        if (self->event[i].order == order) {
            return i;
        }
    }
    return -1;
}

int script_cancel(script *self, int order)
{
    int index = index_of(self, order), num = 0;
    if (index < 0 || self->event[index].progress.done) {
        return 0;
    }
    self->event[index].progress.done = self->event[index].progress.withdrawn = true;
    num++;
    for (int i = 0; i < self->num_events && !self->event[index].progress.resolved; i++) {
        script_event *event = &self->event[i];
        if (!event->progress.done && script_partner(event) == index) {
            /* its ranks will never be known */
            event->progress.done = event->progress.withdrawn = true;
            num++;
        }
    }
    return num;
}

/* ---------------------------------------------------------------- why */

static void explain_nobody(const script_event *event, char *text_out, size_t size)
{
    switch (event->target) {
    case TARGET_COVERED:
        snprintf(text_out, size, "no %d ranks serve without whom the others hold every expert",
                 event->named.count);
        break;
    case TARGET_SOURCE:
        snprintf(text_out, size, "no view is being repaired: nobody is copied from");
        break;
    case TARGET_JOINER:
        snprintf(text_out, size, "no rank is joining");
        break;
    case TARGET_VACANT:
        snprintf(text_out, size, "%d seats without a process are needed", event->named.count);
        break;
    case TARGET_SAME:
        snprintf(text_out, size, "the earlier event whose ranks it takes was not applied yet");
        break;
    default:
        snprintf(text_out, size, "%d serving ranks are needed", event->named.count);
        break;
    }
}

/* Names the seats that are still taken; the other ones have their new process. */
static void explain_taken(const script_event *event, char *text_out, size_t size)
{
    int num = 0;
    size_t used = 0;
    char ranks[NAMED_SEATS * 8] = "", more[32] = "";
    for (int i = 0; i < event->num_seats; i++) {
        if (!(event->progress.seats_done >> i & 1) && num++ < NAMED_SEATS) {
            used += (size_t)snprintf(ranks + used, sizeof ranks - used, "%s%d", num > 1 ? ", " : "",
                                     event->seat[i]);
        }
    }
    if (num > NAMED_SEATS) {
        snprintf(more, sizeof more, " and %d more", num - NAMED_SEATS);
    }
    snprintf(text_out, size,
             num == 1 ? "rank %s%s still has its process" : "ranks %s%s still have their processes",
             ranks, more);
}

void script_explain(const script_event *event, double now_ms, char *text_out, size_t size)
{
    char rank[32] = "";
    if (event->when == WHEN_STEP && event->progress.trigger_ms < 0) {
        snprintf(text_out, size, "step %llu was not reached yet", (unsigned long long)event->step);
    } else if (event->when == WHEN_STATE && event->progress.trigger_ms < 0) {
        const script_awaited *awaited = &event->awaited;
        if (awaited->seat >= 0) {
            snprintf(rank, sizeof rank, " of rank %d", awaited->seat);
        }
        snprintf(text_out, size, "'%s'%s was seen %d of %d times", state_names[awaited->state],
                 rank, event->progress.states_seen, awaited->count);
    } else if (!script_is_due(event, now_ms)) {
        double due = event->when == WHEN_TIME ? event->delay_ms
                                              : event->progress.trigger_ms + event->delay_ms;
        snprintf(text_out, size, "it is due in %.1f s", (due - now_ms) / 1e3);
    } else if (!event->progress.resolved) {
        explain_nobody(event, text_out, size);
    } else if (verb_table[event->verb].wants_free) {
        explain_taken(event, text_out, size);
    } else {
        snprintf(text_out, size, "it is being done");
    }
}
