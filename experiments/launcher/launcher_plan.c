/* The launcher and its plan: what the plan is told, what it says is due, what came of its phases.
 */
#include "experiments/launcher/launcher_state.h"
#include "experiments/launcher/launcher_verbs.h"
#include "experiments/script/plan_file.h"

#include <stdio.h>

static uint32_t plan_sees_generation(const void *user, int seat)
{
    const launcher *self = user;
    const record *run = &self->run;
    return run->num_views ? run->views[run->num_views - 1].generation[seat] : 0;
}

static bool plan_sees_crashed(const void *user, int seat)
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
    while ((phase = plan_ended(self->how->plan, &index))) {
        plan_phase_text(self->how->plan, index, text);
        if (!phase->good) {
            launcher_complain(self, "%s", text);
        } else if (!self->how->quiet) {
            printf("%s%s\n", self->is_tty ? "\r\033[K" : "", text);
            fflush(stdout);
        }
    }
}

void launcher_run_plan(launcher *self)
{
    const record *run = &self->run;
    plan_world world = {.now_ms = launcher_time_ms(self),
                        .epoch = run->num_views ? run->views[run->num_views - 1].epoch : 0,
                        .generation = plan_sees_generation,
                        .active = launcher_sees_active,
                        .running = launcher_sees_running,
                        .crashed = plan_sees_crashed,
                        .user = self};
    script_action action;
    if (!self->how->plan) {
        return;
    }
    if (launcher_control_is_finishing(self) && !plan_is_over(self->how->plan)) {
        plan_cut_off(self->how->plan);
        launcher_complain(self, "the plan ends at phase %d of %d: the rest is not reached",
                          self->how->plan->present + 1, self->how->plan->num_phases);
    }
    while (plan_next(self->how->plan, &world, &action)) {
        (void)launcher_do(self, &action);
    }
    tell_phases(self);
    if (self->how->plan->failed && !self->failed) {
        launcher_fail(self, "the plan was not followed");
    }
}

bool launcher_plan_is_over(const launcher *self)
{
    return !self->how->plan || plan_is_over(self->how->plan);
}
