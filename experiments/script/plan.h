/* SPDX-License-Identifier: Apache-2.0 */
/* Plans in the form of NIXL EP's elastic test: a list of phases, each the list of its ranks. A
 * rank that the next phase does not list leaves, a rank with a minus sign dies in it, and a new one
 * joins. Pure: the
 * launcher tells what happens, asks what is due and does it. One thread owns a plan. */
#ifndef EEPX_PLAN_H
#define EEPX_PLAN_H

#include "eep/eep.h"
#include "experiments/script/script.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PLAN_MAX_PHASES = 1024, PLAN_ERROR_BYTES = 512, PLAN_TEXT_BYTES = 512 };

typedef enum plan_role {
    ROLE_OUT,  /* not in the phase */
    ROLE_IN,   /* in it */
    ROLE_DIES, /* it was in the phase before, and dies in its first dispatch of this one */
} plan_role;

typedef struct plan_phase {
    unsigned char role[EEP_MAX_RANKS]; /* plan_role */
    int num_ranks;                     /* in it, without those that die */
    int num_deaths;
    /* what came of it; times in ms since serving started, < 0: it did not happen */
    bool active[EEP_MAX_RANKS];  /* when it had settled, else at its end */
    bool faulted[EEP_MAX_RANKS]; /* expelled in it without having been asked to leave */
    uint64_t epoch;              /* of the view in which it had settled */
    double begin_ms, settled_ms, end_ms;
    bool good;
    char mismatch[PLAN_TEXT_BYTES]; /* why not, for people */
} plan_phase;

typedef struct plan {
    plan_phase *phase;
    int num_phases;
    int num_seats;    /* the highest rank + 1 */
    int num_steps;    /* that every rank reports in a settled phase before the next one begins */
    double settle_ms; /* longest time for a phase to settle, and for its steps */
    /* progress */
    int present;                        /* phase that runs; num_phases: all are over */
    bool cut_off;                       /* by plan_cut_off: the rest is not reached */
    bool failed;                        /* a phase was not as planned: the plan ends there */
    int num_told;                       /* phases that plan_ended has handed out */
    bool issued[EEP_MAX_RANKS];         /* the seat's change of this phase */
    uint32_t generation[EEP_MAX_RANKS]; /* in the newest view that was looked at */
    uint32_t leaving[EEP_MAX_RANKS];    /* generation that was asked to leave */
    int steps[EEP_MAX_RANKS];           /* OK steps since the phase settled */
} plan;

/* What the plan must know of the world when it is asked. */
typedef struct plan_world {
    double now_ms;
    uint64_t epoch;                                     /* of the present view */
    uint32_t (*generation)(const void *user, int seat); /* of the view's member; 0: none */
    bool (*active)(const void *user, int seat);         /* it is in the view and serves */
    bool (*running)(const void *user, int seat);        /* a process of the seat exists */
    bool (*crashed)(const void *user, int seat);        /* its latest process did not end well */
    const void *user;
} plan_world;

/* Read the text of a plan. EEP_ERR_INVALID: `error` is "NAME: phase 2, entry 3: what is wrong and
 * what is allowed", or begins with "NAME:LINE: " where the text is no JSON; EEP_ERR_NO_MEMORY. Free
 * it with plan_free. */
EEP_MUST_CHECK eep_status plan_parse(const char *name, const char *text, size_t bytes,
                                     plan **plan_out, char error[PLAN_ERROR_BYTES]);
void plan_free(plan *self);
/* Ranks of the phase with the fewest: the experts must fit into their slots. */
int plan_fewest_ranks(const plan *self);
/* Slots per rank and layer with which the plan can be followed: in every phase those that stay hold
 * each expert once more than ranks leave it or die in it, or have all experts each. */
int64_t plan_needed_slots(const plan *self, int64_t num_experts);

/* An OK step of the seat was reported, under that epoch. */
void plan_on_step(plan *self, int seat, uint64_t epoch);
/* The next thing that is due now: true and *action_out. Call until false. Ends phases, begins the
 * next. */
bool plan_next(plan *self, const plan_world *world, script_action *action_out);
/* A phase that has ended since the last call; NULL: none. */
const plan_phase *plan_ended(plan *self, int *index_out);
/* It ends here: the phases that are not over are not reached, which is no failure. */
void plan_cut_off(plan *self);
/* All phases are over, one was not as planned, or the plan was cut off. */
bool plan_is_over(const plan *self);
/* One line for people about a phase that has ended. */
void plan_phase_text(const plan *self, int index, char text_out[PLAN_TEXT_BYTES]);
#endif
