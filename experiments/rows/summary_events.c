/* SPDX-License-Identifier: Apache-2.0 */
/* What came of each event of the script, as text and in summary.json. */
#include "experiments/rows/summary_events.h"

#include "experiments/base/run_file.h"
#include "experiments/script/script_describe.h"

#include <inttypes.h>
#include <stdio.h>

enum { TEXT_BYTES = SCRIPT_TEXT_BYTES, MOST_LINES = 12 };

const char *summary_events_outcome(const record_event *self)
{
    const script_event *event = &self->event;
    if (event->progress.withdrawn) {
        return "withdrawn";
    }
    if (!event->progress.done) {
        return self->was_due ? "waiting" : "never due";
    }
    return event->progress.seats_applied ? "done" : "struck nobody";
}

/* The event was done with this seat, but not to it. */
static bool passed_over(const script_event *event, int index)
{
    uint64_t bit = (uint64_t)1 << index;
    return index < event->num_seats && (event->progress.seats_done & bit) &&
           !(event->progress.seats_applied & bit);
}

summary_events summary_events_count(const record_event *events, size_t num)
{
    summary_events out = {0};
    for (size_t i = 0; i < num; i++) {
        const script_event *event = &events[i].event;
        out.withdrawn += event->progress.withdrawn;
        out.waiting += !event->progress.done && events[i].was_due;
        out.never_due += !event->progress.done && !events[i].was_due;
        out.struck_nobody +=
            event->progress.done && !event->progress.withdrawn && !event->progress.seats_applied;
        for (int s = 0; s < SCRIPT_MAX_SEATS; s++) {
            out.passed_over += passed_over(event, s);
        }
    }
    return out;
}

/* A kill after the order kept it from coming about. */
uint64_t summary_events_orders_open(const record *run)
{
    uint64_t open = 0;
    for (size_t i = 0; i < run->num_processes; i++) {
        const record_process *process = &run->processes[i];
        bool ended = !process->kill_ns && process->exit_ns && process->exit_ns <= run->end_ns;
        open += !ended && (process->die_ns || process->freeze_ns);
    }
    return open;
}

static void add_event(cJSON *array, const record_event *self)
{
    const script_event *event = &self->event;
    char text[TEXT_BYTES];
    cJSON *object = cJSON_CreateObject();
    cJSON_AddItemToArray(array, object);
    script_describe(event, text, sizeof text);
    cJSON_AddNumberToObject(object, "number", event->order);
    cJSON_AddStringToObject(object, "event", text);
    cJSON_AddStringToObject(object, "outcome", summary_events_outcome(self));
    if (event->progress.applied_ms >= 0) {
        run_file_add_ms(object, "time_ms", event->progress.applied_ms);
    } else {
        cJSON_AddNullToObject(object, "time_ms");
    }
    cJSON *ranks = cJSON_AddArrayToObject(object, "ranks");
    cJSON *over = cJSON_AddArrayToObject(object, "passed_over");
    for (int i = 0; i < event->num_seats; i++) {
        if (event->progress.seats_applied & (uint64_t)1 << i) {
            cJSON_AddItemToArray(ranks, cJSON_CreateNumber(event->seat[i]));
        } else if (passed_over(event, i)) {
            cJSON_AddItemToArray(over, cJSON_CreateNumber(event->seat[i]));
        }
    }
}

void summary_events_add(cJSON *root, const record_event *events, size_t num, uint64_t orders_open)
{
    summary_events counts = summary_events_count(events, num);
    cJSON *all = cJSON_AddObjectToObject(root, "script");
    cJSON_AddNumberToObject(all, "events", (double)num);
    cJSON_AddNumberToObject(all, "struck_nobody", counts.struck_nobody);
    cJSON_AddNumberToObject(all, "passed_over", counts.passed_over);
    cJSON_AddNumberToObject(all, "never_due", counts.never_due);
    cJSON_AddNumberToObject(all, "waiting", counts.waiting);
    cJSON_AddNumberToObject(all, "withdrawn", counts.withdrawn);
    cJSON_AddNumberToObject(all, "orders_open", (double)orders_open);
    cJSON *array = cJSON_AddArrayToObject(root, "events");
    for (size_t i = 0; i < num; i++) {
        add_event(array, &events[i]);
    }
}

static void print_passed_over(const script_event *event)
{
    const char *comma = "";
    fputs(": rank ", stdout);
    for (int i = 0; i < event->num_seats; i++) {
        if (passed_over(event, i)) {
            printf("%s%d", comma, event->seat[i]);
            comma = ", ";
        }
    }
    fputs(" had no process then, or was being killed", stdout);
}

/* True: it was not done to all of its ranks, and that was said. */
static bool print_event(const record_event *self, bool prints)
{
    const script_event *event = &self->event;
    char text[TEXT_BYTES];
    bool over = false;
    for (int i = 0; i < SCRIPT_MAX_SEATS; i++) {
        over |= passed_over(event, i);
    }
    if (event->progress.done && !event->progress.withdrawn && event->progress.seats_applied &&
        !over) {
        return false;
    }
    if (prints) {
        script_describe(event, text, sizeof text);
        printf("  script     '%s' %s", text,
               event->progress.done && event->progress.seats_applied
                   ? "passed over"
                   : summary_events_outcome(self));
        if (over) {
            print_passed_over(event);
        } else if (!event->progress.done && self->was_due) {
            fputs(": nobody fitted, or no seat was free", stdout);
        }
        puts("");
    }
    return true;
}

void summary_events_print(const record_event *events, size_t num, uint64_t orders_open)
{
    if (orders_open) {
        printf("  script     %" PRIu64
               " ranks were told to die or stop inside a step, and served none "
               "with work since\n",
               orders_open);
    }
    size_t found = 0;
    for (size_t i = 0; i < num; i++) {
        found += print_event(&events[i], found < MOST_LINES);
    }
    if (found > MOST_LINES) {
        printf("  script     and %zu more: events[] of summary.json\n", found - MOST_LINES);
    }
}
