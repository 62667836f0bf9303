/* SPDX-License-Identifier: Apache-2.0 */
/* How much longer than usual a slow rank takes for its steps: what VERB_SLOW does. Pure. */
#ifndef EEPX_SLOWDOWN_H
#define EEPX_SLOWDOWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SLOWDOWN_TEXT_BYTES = 256 };

typedef struct slowdown {
    double factor;         /* 1 or less: as usual */
    uint64_t max_pause_ns; /* per step; 0: none */
    uint64_t usual_ns;     /* exponential average of steps without their pause; 0: none yet */
    uint32_t num_steps;    /* in the average */
    bool limit_told;       /* of this factor */
} slowdown;

/* No pause is longer than half of the deadline by which peers wait for a step: a slow rank is late,
 * and never so late by its pauses that it is expelled. */
void slowdown_init(slowdown *self, uint64_t step_deadline_ns);
/* From now on steps take `factor` times as long; 1 or less, or no number: as usual. */
void slowdown_set(slowdown *self, double factor);
/* How long to pause in the next step: (factor - 1) usual steps, at most max_pause_ns. */
uint64_t slowdown_pause_ns(const slowdown *self);
/* Once for each factor that wants more: true, and a text for people that says so. */
bool slowdown_tells_limit(slowdown *self, char *text_out, size_t size);
/* A step ended OK that took `step_ns` without its pause. What is usual is learnt at factor 1, where
 * there was time for it: a slow rank's steps include waiting for other slow ones, whose pauses
 * would grow with its own. */
void slowdown_learn(slowdown *self, uint64_t step_ns);
#endif
