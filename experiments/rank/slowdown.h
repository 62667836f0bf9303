/* How much longer than usual a slow rank takes for its steps: what VERB_SLOW does. Pure. */
#ifndef EEPX_PACE_H
#define EEPX_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PACE_TEXT_BYTES = 256 };

typedef struct pace {
    double factor;         /* 1 or less: as usual */
    uint64_t max_pause_ns; /* per step; 0: none */
    uint64_t usual_ns;     /* exponential average of steps without their pause; 0: none yet */
    uint32_t num_steps;    /* in the average */
    bool limit_told;       /* of this factor */
} pace;

/* No pause is longer than half of the deadline by which peers wait for a step: a slow rank is late,
 * and never so late by its pauses that it is expelled. */
void pace_init(pace *self, uint64_t step_deadline_ns);
/* From now on steps take `factor` times as long; 1 or less, or no number: as usual. */
void pace_set(pace *self, double factor);
/* How long to pause in the next step: (factor - 1) usual steps, at most max_pause_ns. */
uint64_t pace_pause_ns(const pace *self);
/* Once for each factor that wants more: true, and a text for people that says so. */
bool pace_tells_limit(pace *self, char *text_out, size_t size);
/* A step ended OK that took `step_ns` without its pause. What is usual is learnt at factor 1, where
 * there was time for it: a slow rank's steps include waiting for other slow ones, whose pauses
 * would grow with its own. */
void pace_learn(pace *self, uint64_t step_ns);
#endif
