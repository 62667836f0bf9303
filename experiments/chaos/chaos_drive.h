/* SPDX-License-Identifier: Apache-2.0 */
/* The faults of a round of several hosts, made one after the other through the control socket of
 * its eep-run. After each one it is undone, each dead seat gets a new process, and the instance
 * must settle. */
#ifndef EEPX_CHAOS_DRIVE_H
#define EEPX_CHAOS_DRIVE_H

#include "experiments/chaos/chaos.h"

#include <stdbool.h>

enum { CHAOS_DRIVE_WHY_BYTES = 512 };

/* The run, and what may end the wait for it. */
typedef struct chaos_driven {
    const char *dir; /* that it writes into: its socket is found from there */
    int num_ranks;   /* of the first view: the seats that must serve */
    int pidfd, signal_fd;
    double until_ms; /* the bound of the round */
    /* what came of it */
    bool injected[CHAOS_MAX_FAULTS]; /* false: its rank had ended already */
    char why[CHAOS_DRIVE_WHY_BYTES]; /* what the instance did not do; "": it was told to finish */
} chaos_driven;

/* Make all faults, then let the run finish. Returns early, without a word in `why`, if the run ends
 * or `signal_fd` becomes readable. */
void chaos_drive(const chaos_round *round, chaos_driven *self);
#endif
