/* SPDX-License-Identifier: Apache-2.0 */
/* The phases of a plan: their changes, when each has settled, and whether it went as planned. */
#include "experiments/script/plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- a list of ranks as text */

/* Append to a text of PLAN_TEXT_BYTES; what does not fit is cut off. */
static __attribute__((format(printf, 2, 3))) void append(char *text, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, PLAN_TEXT_BYTES - used, format, args);
    va_end(args);
}

static void append_seats(char *text, const plan *self, const bool *in)
{
    const char *comma = "";
    append(text, "[");
    for (int seat = 0; seat < self->num_seats; seat++) {
        if (in[seat]) {
            append(text, "%s%d", comma, seat);
            comma = ",";
        }
    }
    append(text, "]");
}

static void seats_with(const plan *self, int index, plan_role role, bool *in_out)
{
    for (int seat = 0; seat < self->num_seats; seat++) {
        in_out[seat] = self->phase[index].role[seat] == role;
    }
}

/* ---------------------------------------------------------------- a phase's beginning and end */

static plan_phase *present_phase(plan *self)
{
    return &self->phase[self->present];
}

static void begin_phase(plan *self, const plan_world *world)
{
    present_phase(self)->begin_ms = world->now_ms;
    memset(self->issued, 0, sizeof self->issued);
    memset(self->steps, 0, sizeof self->steps);
}

static void note_active(plan *self, const plan_world *world)
{
    for (int seat = 0; seat < self->num_seats; seat++) {
        present_phase(self)->active[seat] = world->active(world->user, seat);
    }
}

static void fail(plan *self, const plan_world *world)
{
    plan_phase *phase = present_phase(self);
    if (phase->settled_ms < 0) {
        note_active(self, world);
    }
    phase->end_ms = world->now_ms;
    self->failed = true;
}

/* Generations that left the view since the last look: those that were not asked to are faulted.
 * False: one of them was not to die. */
static bool look_at_view(plan *self, const plan_world *world)
{
    plan_phase *phase = present_phase(self);
    bool good = true;
    for (int seat = 0; seat < self->num_seats; seat++) {
        uint32_t before = self->generation[seat], now = world->generation(world->user, seat);
        self->generation[seat] = now;
        bool left = self->leaving[seat] == before && !world->crashed(world->user, seat);
        if (before && now != before && !left) {
            good = good && phase->role[seat] == ROLE_DIES && !phase->faulted[seat];
            phase->faulted[seat] = true;
        }
    }
    return good;
}

static void complain_of_faults(plan *self)
{
    plan_phase *phase = present_phase(self);
    bool planned[EEP_MAX_RANKS] = {0};
    seats_with(self, self->present, ROLE_DIES, planned);
    append(phase->mismatch, "faulted ");
    append_seats(phase->mismatch, self, phase->faulted);
    append(phase->mismatch, ", planned ");
    append_seats(phase->mismatch, self, planned);
}

/* A rank that may not leave yet holds experts that no other rank holds: it takes more slots. */
static void complain_of_leavers(plan *self)
{
    bool still[EEP_MAX_RANKS] = {0}, any = false;
    for (int seat = 0; seat < self->num_seats; seat++) {
        still[seat] = self->generation[seat] && self->leaving[seat] == self->generation[seat];
        any |= still[seat];
    }
    if (any) {
        append(present_phase(self)->mismatch, "; asked to leave and still in the view ");
        append_seats(present_phase(self)->mismatch, self, still);
        append(present_phase(self)->mismatch, " (do others hold all their experts? --slots)");
    }
}

static void complain_of_time(plan *self, const plan_world *world)
{
    plan_phase *phase = present_phase(self);
    bool planned[EEP_MAX_RANKS] = {0};
    if (phase->settled_ms >= 0) {
        append(phase->mismatch, "not every rank reported %d OK steps in %.0f s", self->num_steps,
               self->settle_ms / 1e3);
        return;
    }
    note_active(self, world);
    seats_with(self, self->present, ROLE_IN, planned);
    append(phase->mismatch, "after %.0f s active ", self->settle_ms / 1e3);
    append_seats(phase->mismatch, self, phase->active);
    append(phase->mismatch, ", planned ");
    append_seats(phase->mismatch, self, planned);
    append(phase->mismatch, "; ");
    complain_of_faults(self);
    complain_of_leavers(self);
}

/* ---------------------------------------------------------------- a phase's changes */

/* Was the seat in the world when the present phase began? */
static bool was_in(const plan *self, int seat)
{
    return self->present > 0 && self->phase[self->present - 1].role[seat] == ROLE_IN;
}

/* The next change of the present phase; leaves and deaths before joins. A join waits until the
 * process that was in the seat is gone. */
static bool next_change(plan *self, const plan_world *world, script_action *action_out)
{
    const plan_phase *phase = present_phase(self);
    for (int joins = 0; joins < 2; joins++) {
        for (int seat = 0; seat < self->num_seats; seat++) {
            bool joining = phase->role[seat] == ROLE_IN && !was_in(self, seat);
            bool leaving = phase->role[seat] == ROLE_OUT && was_in(self, seat);
            bool changes = joining || leaving || phase->role[seat] == ROLE_DIES;
            if (self->issued[seat] || !changes || joining != (joins == 1) ||
                (joining && world->running(world->user, seat))) {
                continue;
            }
            self->issued[seat] = true;
            script_action action = {.verb = VERB_ADD, .seat = seat};
            if (leaving) {
                action.verb = VERB_DRAIN;
                self->leaving[seat] = world->generation(world->user, seat);
            } else if (!joining) {
                action.verb = VERB_DIE;
                action.value.place = PLACE_DISPATCH;
            }
            *action_out = action;
            return true;
        }
    }
    return false;
}

/* The world is what the present phase says: its ranks serve, and no other rank is left. */
static bool is_settled(const plan *self, const plan_world *world)
{
    const plan_phase *phase = &self->phase[self->present];
    for (int seat = 0; seat < self->num_seats; seat++) {
        bool in = phase->role[seat] == ROLE_IN;
        if (in ? !world->active(world->user, seat)
               : world->generation(world->user, seat) || world->running(world->user, seat)) {
            return false;
        }
        if (phase->role[seat] == ROLE_DIES && !phase->faulted[seat]) {
            return false; /* it was not told yet */
        }
    }
    return true;
}

static bool steps_are_done(const plan *self)
{
    const plan_phase *phase = &self->phase[self->present];
    for (int seat = 0; seat < self->num_seats; seat++) {
        if (phase->role[seat] == ROLE_IN && self->steps[seat] < self->num_steps) {
            return false;
        }
    }
    return true;
}

bool plan_next(plan *self, const plan_world *world, script_action *action_out)
{
    while (!plan_is_over(self)) {
        plan_phase *phase = present_phase(self);
        if (phase->begin_ms < 0) {
            begin_phase(self, world);
        }
        if (!look_at_view(self, world)) {
            complain_of_faults(self);
            fail(self, world);
            return false;
        }
        if (self->present > 0 && next_change(self, world, action_out)) {
            return true;
        }
        if (phase->settled_ms < 0 && is_settled(self, world)) {
            phase->settled_ms = world->now_ms;
            phase->epoch = world->epoch;
            note_active(self, world);
        }
        double since = phase->settled_ms < 0 ? phase->begin_ms : phase->settled_ms;
        bool done = phase->settled_ms >= 0 && steps_are_done(self);
        if (!done && world->now_ms - since > self->settle_ms) {
            complain_of_time(self, world);
            fail(self, world);
        }
        if (!done) {
            return false;
        }
        phase->end_ms = world->now_ms;
        phase->good = true;
        self->present++;
    }
    return false;
}

void plan_on_step(plan *self, int seat, uint64_t epoch)
{
    if (plan_is_over(self) || seat >= self->num_seats) {
        return;
    }
    const plan_phase *phase = present_phase(self);
    self->steps[seat] += phase->settled_ms >= 0 && epoch >= phase->epoch;
}

/* ---------------------------------------------------------------- what came of it */

bool plan_is_over(const plan *self)
{
    return self->failed || self->cut_off || self->present == self->num_phases;
}

void plan_cut_off(plan *self)
{
    self->cut_off = !plan_is_over(self);
}

const plan_phase *plan_ended(plan *self, int *index_out)
{
    int num = self->present + (self->failed ? 1 : 0);
    if (self->num_told == num) {
        return NULL;
    }
    *index_out = self->num_told;
    return &self->phase[self->num_told++];
}

void plan_phase_text(const plan *self, int index, char text_out[PLAN_TEXT_BYTES])
{
    const plan_phase *phase = &self->phase[index];
    text_out[0] = '\0';
    append(text_out, "phase %d of %d: ", index + 1, self->num_phases);
    if (!phase->good) {
        append(text_out, "NOT as planned: %s", phase->mismatch);
        return;
    }
    append(text_out, "active ");
    append_seats(text_out, self, phase->active);
    append(text_out, ", faulted ");
    append_seats(text_out, self, phase->faulted);
    append(text_out, " as planned; settled after %.0f ms, epoch %llu, %d steps in %.0f ms",
           phase->settled_ms - phase->begin_ms, (unsigned long long)phase->epoch, self->num_steps,
           phase->end_ms - phase->settled_ms);
}

int plan_fewest_ranks(const plan *self)
{
    int fewest = EEP_MAX_RANKS;
    for (int i = 0; i < self->num_phases; i++) {
        int num = self->phase[i].num_ranks;
        fewest = num < fewest ? num : fewest;
    }
    return fewest;
}

int64_t plan_needed_slots(const plan *self, int64_t num_experts)
{
    int64_t largest = 1;
    for (int p = 0; p < self->num_phases; p++) {
        const plan_phase *phase = &self->phase[p];
        int64_t copies = 1 + phase->num_deaths, stay = phase->num_ranks;
        for (int seat = 0; p > 0 && seat < self->num_seats; seat++) {
            copies += self->phase[p - 1].role[seat] == ROLE_IN && phase->role[seat] == ROLE_OUT;
        }
        int64_t needed = stay ? (copies * num_experts + stay - 1) / stay : num_experts;
        largest = needed > largest ? needed : largest;
    }
    return largest < num_experts ? largest : num_experts;
}

void plan_free(plan *self)
{
    if (self) {
        free(self->phase);
        free(self);
    }
}
