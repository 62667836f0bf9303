#include "experiments/pace.h"

enum { AVERAGE_STEPS = 8, ENOUGH_STEPS = 16 };

void pace_set(pace *self, double factor)
{
    self->factor = factor > 1 ? factor : 1; /* false for a NaN too */
}

uint64_t pace_pause_ns(const pace *self)
{
    if (self->factor <= 1) {
        return 0;
    }
    double pause_ns = (self->factor - 1) * (double)self->usual_ns;
    return pause_ns < (double)PACE_MAX_PAUSE_NS ? (uint64_t)pause_ns : PACE_MAX_PAUSE_NS;
}

void pace_learn(pace *self, uint64_t step_ns)
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
