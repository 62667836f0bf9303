/* SPDX-License-Identifier: Apache-2.0 */
/* How available a fleet of expert-parallel instances is, by formulas. docs/AVAILABILITY.md states
 * and derives them.
 *
 * Each GPU that serves fails at the rate 1 / MTBF, independently of the others. What an instance
 * does about it is its regime. */
#ifndef EEPX_AVAIL_MODEL_H
#define EEPX_AVAIL_MODEL_H

#include "experiments/avail/time_law.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum avail_regime {
    AVAIL_FIXED,    /* no spare: all wait for the GPU's repair, then all start again */
    AVAIL_RESTART,  /* all start again at once, a spare in the place of the GPU */
    AVAIL_FAILOVER, /* as RESTART, while another group takes over the requests */
    AVAIL_ELASTIC,  /* the others go on without the rank until it is replaced */
    AVAIL_NUM_REGIMES,
} avail_regime;

/* Per instance. A year has 8,760 h. */
typedef enum avail_figure {
    AVAIL_FAULTS,        /* per year */
    AVAIL_PAUSED,        /* hours per year in pauses of a few seconds */
    AVAIL_STOPPED,       /* hours per year for want of ranks or of groups */
    AVAIL_DOWNTIME,      /* the sum of both */
    AVAIL_LOST_PAUSED,   /* GPU-hours per year: all GPUs, during pauses */
    AVAIL_LOST_DEGRADED, /* GPU-hours per year: what missing ranks cost while others serve */
    AVAIL_LOST_STOPPED,  /* GPU-hours per year: all GPUs, while the instance is down */
    AVAIL_LOST,          /* the sum of the three */
    AVAIL_MISSING,       /* failed ranks that are not replaced, mean over time */
    AVAIL_SECOND_FAULT,  /* chance of another fault before the first one's rank is back */
    AVAIL_NUM_FIGURES,
} avail_figure;

typedef struct avail_input {
    int64_t gpus;
    int32_t width;   /* GPUs of an instance: one group */
    int32_t standby; /* of FAILOVER: groups that are kept free */
    double mtbf_h;
    double detect_s, recovery_s, reintegration_s; /* of ELASTIC */
    double restart_s, failover_s;
    time_law repair;      /* until a failed GPU serves again */
    double return_s;      /* of ELASTIC: until a spare is in the view */
    bool has_spares;      /* else RESTART, FAILOVER and ELASTIC wait for the repair too */
    int32_t redundancy;   /* of ELASTIC: so many ranks may be missing; more stop the instance */
    double lost_per_rank; /* GPUs' worth of throughput that a missing rank costs */
} avail_input;

typedef struct avail_figures {
    double value[AVAIL_NUM_FIGURES];
} avail_figures;

/* What W ranks need so that k of them may be missing. */
typedef struct avail_redundancy {
    int32_t ranks;       /* k; -1: no k meets the target */
    double beyond;       /* share of the time in which more are missing */
    int32_t slots_hold;  /* per rank: W - k ranks hold all experts */
    int32_t slots_apart; /* per rank: k + 1 replicas of each, so that no bytes move in a pause */
} avail_redundancy;

const char *avail_regime_name(avail_regime regime);
const char *avail_figure_name(avail_figure figure);

int64_t avail_groups(const avail_input *in);
/* FAILOVER's standby groups, as far as the fleet has them: at least one group serves. */
int64_t avail_standby(const avail_input *in);
/* From a fault until the instance is whole again: outage, or ELASTIC's time without the rank. */
time_law avail_until_whole(const avail_input *in, avail_regime regime);
/* How long one fault stops all of the instance's users: of ELASTIC both pauses. */
double avail_stop_s(const avail_input *in, avail_regime regime);
/* GPUs of the fleet that are in repair, mean over time. */
double avail_in_repair(const avail_input *in);
/* GPUs beyond those that serve: spares for those in repair, and FAILOVER's standby groups. */
double avail_reserve(const avail_input *in, avail_regime regime);
void avail_compute(const avail_input *in, avail_regime regime, avail_figures *figures_out);
/* The least k with which more than k missing ranks are rarer than `target`. */
avail_redundancy avail_redundancy_for(const avail_input *in, double target, int32_t experts);
/* The same answer for a k that is given. */
avail_redundancy avail_redundancy_of(const avail_input *in, int32_t ranks, int32_t experts);
#endif
