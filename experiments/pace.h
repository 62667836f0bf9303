/* How much longer than usual a slow rank takes for its steps: what VERB_SLOW does. Pure. */
#ifndef EEPX_PACE_H
#define EEPX_PACE_H

#include <stdint.h>

static const uint64_t PACE_MAX_PAUSE_NS = 1000000000; /* per step */

typedef struct pace {
    double factor;      /* 1 or less: as usual */
    uint64_t usual_ns;  /* exponential average of steps without their pause; 0: none yet */
    uint32_t num_steps; /* in the average */
} pace;

/* From now on steps take `factor` times as long; 1 or less, or no number: as usual. */
void pace_set(pace *self, double factor);
/* How long to pause in the next step: (factor - 1) usual steps, at most PACE_MAX_PAUSE_NS. */
uint64_t pace_pause_ns(const pace *self);
/* A step ended OK that took `step_ns` without its pause. What is usual is learnt at factor 1, where
 * there was time for it: a slow rank's steps include waiting for other slow ones, whose pauses
 * would grow with its own. */
void pace_learn(pace *self, uint64_t step_ns);
#endif
