/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher and its fault script: what the script is told, and what it says is due. */
#include "experiments/launcher/launcher_script.h"

#include "experiments/launcher/launcher_experts.h"
#include "experiments/launcher/launcher_verbs.h"

#include <stdio.h>
#include <stdlib.h>

static bool seat_is_joining(const void *user, int seat)
{
    const launcher *self = user;
    const record_process *process = launcher_process_of(self, seat);
    return process && self->ranks->seat[seat].lives && !process->joined_ns && !process->kill_ns &&
           !process->exit_ns;
}

static bool host_is_reached(const void *user, const script_event *event, int seat)
{
    const launcher *self = user;
    const host_links *links = self->ranks->links;
    if (!links) {
        return true;
    }
    int host = *event->value.hosts ? hosts_file_find(self->options.hosts, event->value.hosts)
                                   : host_links_host_of(links, seat);
    return host_links_is_up(links, host);
}

static void add_event(launcher *self, const script_event *event, bool was_due)
{
    record_event *added = record_add_event(&self->run);
    if (added) {
        *added = (record_event){.event = *event, .was_due = was_due};
    } else {
        launcher_fail(self, "out of memory");
    }
}

static void record_ended_events(launcher *self)
{
    script_event ended;
    while (script_ended(&self->options.script, &ended)) {
        add_event(self, &ended, !ended.progress.withdrawn);
    }
}

void launcher_run_script(launcher *self)
{
    script_world world = {.now_ms = launcher_time_ms(self),
                          .proposer = self->view ? self->view->proposer : -1,
                          .max_ranks = self->run.max_ranks,
                          .active = launcher_seat_is_active,
                          .running = launcher_seat_runs,
                          .source = launcher_seat_is_source,
                          .joining = seat_is_joining,
                          .reached = host_is_reached,
                          .covered = launcher_is_covered_without,
                          .user = self,
                          .seed = (uint64_t)self->options.seed};
    script_action action;
    while (script_next(&self->options.script, &world, &action)) {
        if (!launcher_apply(self, &action)) {
            script_not_applied(&self->options.script, &action);
        }
    }
    launcher_record_injected(self);
    record_ended_events(self);
}

static int compare_orders(const void *left, const void *right)
{
    const record_event *a = left, *b = right;
    return (a->event.order > b->event.order) - (a->event.order < b->event.order);
}

void launcher_record_script(launcher *self)
{
    const script *events = &self->options.script;
    record_ended_events(self);
    for (int i = 0; i < events->num_events; i++) {
        if (!events->event[i].progress.done) {
            add_event(self, &events->event[i],
                      script_is_due(&events->event[i], launcher_time_ms(self)));
        }
    }
    if (self->run.num_events > 1) { /* as they were given, whenever they were done with */
        qsort(self->run.events, self->run.num_events, sizeof *self->run.events, compare_orders);
    }
}
