/* The launcher and its fault script: what the script is told, and what it says is due. */
#include "experiments/launcher/launcher_state.h"
#include "experiments/launcher/launcher_verbs.h"

#include <stdio.h>
#include <stdlib.h>

bool launcher_sees_active(const void *user, int seat)
{
    return launcher_is_active(user, seat);
}

bool launcher_sees_running(const void *user, int seat)
{
    const launcher *self = user;
    return self->ranks->seat[seat].lives;
}

static bool script_sees_joining(const void *user, int seat)
{
    const launcher *self = user;
    const record_process *process = launcher_process_of(self, seat);
    return process && self->ranks->seat[seat].lives && !process->joined_ns && !process->kill_ns &&
           !process->exit_ns;
}

/* A slot of the member is filled from the seat (-1: from any). */
static bool fills_from(const eepi_view *view, int member, int source)
{
    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        for (int i = 0; i < view->shape.num_slots; i++) {
            const eepi_view_slot *slot = eepi_view_slot_at(view, layer, member, i);
            if (slot->state == EEPI_SLOT_FILLING && (source < 0 || slot->source == source)) {
                return true;
            }
        }
    }
    return false;
}

/* By the present view a member (itself, out of its host memory, as well) copies from the seat. */
static bool script_sees_source(const void *user, int seat)
{
    const launcher *self = user;
    const eepi_view *view = self->view;
    bool is = false;
    if (!view || !launcher_is_active(self, seat)) {
        return false;
    }
    for (int s = 0; s < view->shape.max_ranks && !is; s++) {
        is = eepi_view_is_member(view, s) && fills_from(view, s, seat);
    }
    return is;
}

/* How many experts, in the layer where they are most, no slot of a member but `without` holds. */
static int num_unheld(const eepi_view *view, const bool *without)
{
    int most = 0;
    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        bool held[EEP_MAX_EXPERTS] = {false};
        int left = view->shape.num_experts;
        for (int s = 0; s < view->shape.max_ranks; s++) {
            bool counts = eepi_view_is_member(view, s) && !without[s];
            for (int i = 0; counts && i < view->shape.num_slots; i++) {
                const eepi_view_slot *slot = eepi_view_slot_at(view, layer, s, i);
                if (slot->state == EEPI_SLOT_HOLDS && !held[slot->expert]) {
                    held[slot->expert] = true;
                    left--;
                }
            }
        }
        most = left > most ? left : most;
    }
    return most;
}

/* Without these seats, every expert is in a slot of another member. */
static bool script_sees_covered(const void *user, const bool *without)
{
    const eepi_view *view = ((const launcher *)user)->view;
    return view && num_unheld(view, without) == 0;
}

int launcher_uncovered(const launcher *self)
{
    bool ended[EEP_MAX_RANKS] = {false};
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        ended[seat] = !self->ranks->seat[seat].lives;
    }
    return self->view ? num_unheld(self->view, ended) : 0;
}

/* A first expert that the seat alone holds: true. */
static bool holds_alone(const eepi_view *view, int seat, int *layer_out, int *expert_out)
{
    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        bool held[EEP_MAX_EXPERTS] = {false};
        for (int s = 0; s < view->shape.max_ranks; s++) {
            for (int i = 0; eepi_view_is_member(view, s) && i < view->shape.num_slots; i++) {
                const eepi_view_slot *slot = eepi_view_slot_at(view, layer, s, i);
                if (s != seat && slot->state == EEPI_SLOT_HOLDS) {
                    held[slot->expert] = true;
                }
            }
        }
        for (int i = 0; i < view->shape.num_slots; i++) {
            const eepi_view_slot *slot = eepi_view_slot_at(view, layer, seat, i);
            if (slot->state == EEPI_SLOT_HOLDS && !held[slot->expert]) {
                *layer_out = layer;
                *expert_out = slot->expert;
                return true;
            }
        }
    }
    return false;
}

bool launcher_lacks_room(const launcher *self, int seat, char *text, size_t size)
{
    const record_process *leaver = launcher_process_of(self, seat);
    const eepi_view *view = self->view;
    int staying = 0, layer = 0, expert = 0;
    if (!view || !leaver || !leaver->drain_ns || leaver->exit_ns ||
        !launcher_is_member(self, leaver)) {
        return false;
    }
    for (int s = 0; s < self->run.max_ranks; s++) {
        const record_process *other = launcher_process_of(self, s);
        staying += eepi_view_is_member(view, s) && !(other && other->drain_ns);
    }
    if (!staying || staying * view->shape.num_slots >= view->shape.num_experts ||
        !holds_alone(view, seat, &layer, &expert)) {
        return false;
    }
    if (text) {
        snprintf(text, size,
                 "is leaving, and the others have no room for its experts (layer %d, expert %d, "
                 "...): %d slots for %d experts",
                 layer, expert, staying * view->shape.num_slots, view->shape.num_experts);
    }
    return true;
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
    while (script_ended(&self->effective.script, &ended)) {
        add_event(self, &ended, !ended.withdrawn);
    }
}

void launcher_run_script(launcher *self)
{
    script_world world = {.now_ms = launcher_time_ms(self),
                          .proposer = self->proposer,
                          .max_ranks = self->run.max_ranks,
                          .active = launcher_sees_active,
                          .running = launcher_sees_running,
                          .source = script_sees_source,
                          .joining = script_sees_joining,
                          .covered = script_sees_covered,
                          .user = self,
                          .seed = (uint64_t)self->effective.seed};
    script_action action;
    while (script_next(&self->effective.script, &world, &action)) {
        if (!launcher_do(self, &action)) {
            script_missed(&self->effective.script, &action);
        }
    }
    launcher_did(self);
    record_ended_events(self);
}

static int compare_orders(const void *left, const void *right)
{
    const record_event *a = left, *b = right;
    return (a->event.order > b->event.order) - (a->event.order < b->event.order);
}

void launcher_record_script(launcher *self)
{
    const script *todo = &self->effective.script;
    record_ended_events(self);
    for (int i = 0; i < todo->num_events; i++) {
        if (!todo->event[i].done) {
            add_event(self, &todo->event[i],
                      script_is_due(&todo->event[i], launcher_time_ms(self)));
        }
    }
    if (self->run.num_events > 1) { /* as they were given, whenever they were done with */
        qsort(self->run.events, self->run.num_events, sizeof *self->run.events, compare_orders);
    }
}

void launcher_saw(launcher *self, script_state state, int seat)
{
    if (self->run.start_ns && !self->stopping) {
        script_saw_state(&self->effective.script, state, seat, launcher_time_ms(self));
    }
}

void launcher_saw_event(launcher *self, eep_event_kind kind, int seat)
{
    static const struct {
        eep_event_kind kind;
        script_state state;
    } states[] = {
        {EEP_EVENT_READY, STATE_READY},
        {EEP_EVENT_STAGED, STATE_STAGED},
        {EEP_EVENT_SUSPECTED, STATE_SUSPECTED},
        {EEP_EVENT_WEDGED, STATE_WEDGED},
        {EEP_EVENT_PROPOSED, STATE_PROPOSED},
        {EEP_EVENT_REPAIRED, STATE_REPAIRED},
        {EEP_EVENT_INSTALLED, STATE_INSTALLED},
        {EEP_EVENT_FLIPPED, STATE_FLIPPED},
        {EEP_EVENT_REBALANCING, STATE_REBALANCING},
    };
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        if (states[i].kind == kind) {
            launcher_saw(self, states[i].state, seat);
        }
    }
}

/* What the script does to a repair it does at once: a small one is over in a millisecond. */
void launcher_saw_view(launcher *self)
{
    const eepi_view *view = self->view;
    if (!self->run.start_ns || self->stopping || view->phase != EEPI_VIEW_REPAIRING) {
        return;
    }
    for (int s = 0; s < view->shape.max_ranks; s++) {
        if (eepi_view_is_member(view, s) && fills_from(view, s, -1)) {
            launcher_saw(self, STATE_REPAIRING, s);
        }
    }
    launcher_run_script(self);
}
