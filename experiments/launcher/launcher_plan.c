/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher and its plan: what the plan is told, what it says is due, what came of its phases.
 */
#include "experiments/launcher/launcher_plan.h"

#include "experiments/launcher/launcher_verbs.h"
#include "experiments/script/plan_file.h"

#include <stdio.h>

static uint32_t seat_generation(const void *user, int seat)
{
    const record_view *view = launcher_last_view(user);
    return view ? view->generation[seat] : 0;
}

static bool seat_has_crashed(const void *user, int seat)
{
    const record_process *process = launcher_process_of(user, seat);
    return process && process->exit_ns && process->exit_status != 0;
}

/* A line for each phase that has ended; to standard error, whatever --quiet says, if it was not as
 * planned. */
static void tell_phases(launcher *self)
{
    char text[PLAN_TEXT_BYTES];
    const plan_phase *phase = NULL;
    int index = 0;
    while ((phase = plan_ended(self->options.plan, &index))) {
        plan_phase_text(self->options.plan, index, text);
        if (!phase->good) {
            launcher_complain(self, "%s", text);
        } else if (!self->options.quiet) {
            printf("%s%s\n", self->screen.is_tty ? "\r\033[K" : "", text);
            fflush(stdout);
        }
    }
}

void launcher_run_plan(launcher *self)
{
    const record_view *view = launcher_last_view(self);
    plan_world world = {.now_ms = launcher_time_ms(self),
                        .epoch = view ? view->epoch : 0,
                        .generation = seat_generation,
                        .active = launcher_seat_is_active,
                        .running = launcher_seat_runs,
                        .crashed = seat_has_crashed,
                        .user = self};
    script_action action;
    if (!self->options.plan) {
        return;
    }
    if (self->ending.finishing && !plan_is_over(self->options.plan)) {
        plan_cut_off(self->options.plan);
        launcher_complain(self, "the plan ends at phase %d of %d: the rest is not reached",
                          self->options.plan->present + 1, self->options.plan->num_phases);
    }
    while (plan_next(self->options.plan, &world, &action)) {
        (void)launcher_apply(self, &action);
    }
    tell_phases(self);
    if (self->options.plan->failed && !self->ending.failed) {
        launcher_fail(self, "the plan was not followed");
    }
}
