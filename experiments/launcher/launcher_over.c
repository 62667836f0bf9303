/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a run is over, and why it is given up. */
#include "experiments/launcher/launcher_restart.h"
#include "experiments/launcher/launcher_over.h"

#include "experiments/launcher/launcher_experts.h"
#include "experiments/launcher/launcher_load.h"
#include "experiments/launcher/launcher_settled.h"
#include "experiments/launcher/launcher_state.h"
#include "experiments/script/script_describe.h"

#include <stdio.h>

static const uint64_t NO_PROGRESS_NS = 60000000000; /* then the run is given up */
static const uint64_t NO_TRIGGER_NS = 2000000000;   /* without load and anything under way */

bool launcher_nobody_is_left(const launcher *self)
{
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        const record_process *process = launcher_process_of(self, seat);
        if (self->ranks->seat[seat].lives &&
            !(launcher_is_stopped(process) && process->expelled_ns)) {
            return false;
        }
    }
    return true;
}

/* How far script, views and processes have come, as one number that grows. */
static uint64_t changes_of(const launcher *self)
{
    uint64_t plan_phases = self->options.plan ? (uint64_t)self->options.plan->present : 0;
    return self->run.num_views + self->run.num_processes + self->run.num_faults + plan_phases +
           self->run.rows.num_events;
}

/* The same with the tokens: under an endless load they say nothing about the rest. */
static uint64_t progress_of(const launcher *self)
{
    scheduler_counts counts = scheduler_count(self->scheduler);
    return counts.tokens_emitted + counts.accepted + counts.failed + changes_of(self);
}

/* What is said of a rank that holds the run up, and of the run without one. */
static void give_up(launcher *self, const char *what)
{
    char why[LAUNCHER_TEXT_BYTES];
    if (launcher_unsettled_text(self, why, sizeof why)) {
        launcher_fail(self, "given up: %s for %.0f s, and %s", what, (double)NO_PROGRESS_NS / 1e9,
                      why);
    } else {
        launcher_fail(self, "given up: %s for %.0f s", what, (double)NO_PROGRESS_NS / 1e9);
    }
}

/* Only the load of --keep-busy goes on, while the script or the instance waits for something that
 * does not come about. */
static bool is_stuck_under_load(launcher *self, uint64_t now_ns)
{
    const script *events = &self->options.script;
    double now_ms = launcher_time_ms(self);
    uint64_t present = changes_of(self);
    bool over = script_is_done(events) && launcher_plan_is_over(self) && launcher_is_settled(self);
    bool waits = script_wait_ms(events, now_ms) > 5 && launcher_is_settled(self);
    bool meant =
        now_ms < self->options.keep_busy_s * 1e3 || !launcher_arrivals_are_over(self) || waits;
    if (self->options.keep_busy <= 0 || !self->run.start_ns || launcher_serves_on(self) || over ||
        meant || present != self->progress.num_changes || !self->progress.changed_ns) {
        self->progress.num_changes = present;
        self->progress.changed_ns = now_ns;
    }
    return now_ns - self->progress.changed_ns > NO_PROGRESS_NS;
}

/* Nothing is left that could bring about what the script waits for. As that may be due at this very
 * moment, the state must last for a while. */
static bool waits_in_vain(launcher *self, uint64_t now_ns)
{
    const script *events = &self->options.script;
    bool idle = self->run.start_ns && !launcher_serves_on(self) &&
                launcher_arrivals_are_over(self) && launcher_outstanding(self) == 0 &&
                script_waits(events, launcher_time_ms(self)) && launcher_is_settled(self);
    self->progress.idle_ns = !idle ? 0 : self->progress.idle_ns ? self->progress.idle_ns : now_ns;
    if (!idle || now_ns - self->progress.idle_ns < NO_TRIGGER_NS) {
        return false;
    }
    return true;
}

/* Events that were due and found no rank, or were never due: the summary says which. */
static void drop_waiting(launcher *self)
{
    const script *events = &self->options.script;
    for (int i = 0; i < events->num_events; i++) {
        char text[SCRIPT_TEXT_BYTES], why[LAUNCHER_TEXT_BYTES];
        if (!events->event[i].progress.done) {
            script_describe(&events->event[i], text, sizeof text);
            script_explain(&events->event[i], launcher_time_ms(self), why, sizeof why);
            launcher_complain(self, "all requests are done, and '%s' was not: %s", text, why);
        }
    }
}

/* Ranks that were asked to leave and stay for want of room: the run does not wait for them. */
static void tell_leavers(launcher *self)
{
    char text[LAUNCHER_TEXT_BYTES];
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        if (launcher_lacks_room(self, seat, text, sizeof text)) {
            launcher_complain(self, "rank %d %s: it stayed until the end", seat, text);
        }
    }
}

/* The script will start a rank, or a person may, until nothing has moved for too long. */
static bool may_come_back(launcher *self)
{
    bool by_hand = launcher_serves_on(self);
    if (launcher_restarts_now(self)) {
        return true;
    }
    if (!self->run.start_ns || (!by_hand && !script_will_start(&self->options.script))) {
        return false;
    }
    if (by_hand && !self->progress.told_nobody_left) {
        launcher_complain(self,
                          "no rank is left to serve: the run ends in %.0f s, unless one is "
                          "started (eep-ctl rejoin RANK)",
                          (double)NO_PROGRESS_NS / 1e9);
    }
    self->progress.told_nobody_left = true;
    return true;
}

bool launcher_is_over(launcher *self, uint64_t now_ns)
{
    double now_ms = launcher_time_ms(self);
    const script *events = &self->options.script;
    if (self->ending.failed || self->ending.interrupted) {
        return true;
    }
    if (launcher_nobody_is_left(self) && !may_come_back(self)) {
        scheduler_lose_all(self->scheduler);
        launcher_fail(self, "no rank is left to serve");
        return true;
    }
    if (self->options.max_seconds > 0 &&
        (double)(now_ns - self->progress.begun_ns) >= self->options.max_seconds * 1e9) {
        launcher_interrupt(self, "cut off after --max-seconds %g", self->options.max_seconds);
        return true;
    }
    if (waits_in_vain(self, now_ns)) {
        drop_waiting(self);
        tell_leavers(self);
        return true;
    }
    if (is_stuck_under_load(self, now_ns)) {
        give_up(self, launcher_outstanding(self)
                          ? "requests went on, but no view, process or event "
                            "of the script changed"
                          : "no view, process or event of the script changed");
        return true;
    }
    uint64_t present = progress_of(self);
    bool waits = launcher_outstanding(self) == 0 && self->run.start_ns &&
                 (launcher_serves_on(self) || !launcher_arrivals_are_over(self) ||
                  script_wait_ms(events, now_ms) > 5);
    if (present != self->progress.num_moves || (waits && launcher_is_settled(self))) {
        self->progress.num_moves = present;
        self->progress.moved_ns = now_ns;
    } else if (now_ns - self->progress.moved_ns > NO_PROGRESS_NS) {
        give_up(self, "nothing has moved");
        return true;
    }
    if (!self->run.start_ns || !script_is_done(events) || launcher_runs_commands(self) ||
        !launcher_plan_is_over(self) || !launcher_is_settled(self)) {
        return false;
    }
    self->progress.script_done_ns =
        self->progress.script_done_ns ? self->progress.script_done_ns : now_ns;
    bool over = !launcher_serves_on(self) && launcher_arrivals_are_over(self) &&
                !launcher_keeps_busy(self, now_ns) && launcher_outstanding(self) == 0;
    if (over) {
        tell_leavers(self);
    }
    return over;
}
