/* SPDX-License-Identifier: Apache-2.0 */
/* How long a slow rank pauses in each step, learnt from its usual steps. */
#include "experiments/rank/slowdown.h"

#include <stdio.h>

enum { AVERAGE_STEPS = 8, ENOUGH_STEPS = 16 };

void slowdown_init(slowdown *self, uint64_t step_deadline_ns)
{
    *self = (slowdown){.factor = 1, .max_pause_ns = step_deadline_ns / 2};
}

void slowdown_set(slowdown *self, double factor)
{
    self->limit_told = false;
    self->factor = factor > 1 ? factor : 1; /* false for a NaN too */
}

uint64_t slowdown_pause_ns(const slowdown *self)
{
    if (self->factor <= 1) {
        return 0;
    }
    double pause_ns = (self->factor - 1) * (double)self->usual_ns;
    return pause_ns < (double)self->max_pause_ns ? (uint64_t)pause_ns : self->max_pause_ns;
}

bool slowdown_tells_limit(slowdown *self, char *text_out, size_t size)
{
    double usual = (double)self->usual_ns, max_pause_ns = (double)self->max_pause_ns;
    if (self->limit_told || self->factor <= 1 || (self->factor - 1) * usual <= max_pause_ns) {
        return false;
    }
    self->limit_told = true;
    snprintf(text_out, size,
             "slow %g: steps take %.1f times as long only: more than %g ms, half of "
             "--step-deadline-ms, are not added to one, or peers would expel the rank. To have it "
             "expelled, stop it or freeze it.",
             self->factor, 1 + max_pause_ns / usual, max_pause_ns / 1e6);
    return true;
}

void slowdown_learn(slowdown *self, uint64_t step_ns)
{
    if (self->factor > 1 && self->num_steps >= ENOUGH_STEPS) {
        return;
    }
    double usual = (double)self->usual_ns, step = (double)step_ns;
    self->usual_ns =
        self->num_steps == 0 ? step_ns : (uint64_t)(usual + (step - usual) / AVERAGE_STEPS);
    if (self->num_steps < ENOUGH_STEPS) {
        self->num_steps++;
    }
}
