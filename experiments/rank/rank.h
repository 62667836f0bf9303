/* SPDX-License-Identifier: Apache-2.0 */
/* One rank of eep-run: it opens a context, joins, and serves what the launcher sends until it is
 * told to stop. It has a process of its own (rank_main.c), or is a thread beside others
 * (rank_host.c). */
#ifndef EEPX_RANK_H
#define EEPX_RANK_H

#include "experiments/rank/rank_setup.h"

#include <stdbool.h>

/* How a rank ends: the exit code of its process. */
enum {
    RANK_EXIT_OK = 0,        /* told to stop, or drained */
    RANK_EXIT_EVICTED = 3,   /* expelled from the view */
    RANK_EXIT_UNCOVERED = 4, /* experts lost all copies: the instance fails closed */
    RANK_EXIT_FAILED = 5,    /* anything else; the reason is on standard error */
};

typedef struct rank_config {
    rank_setup setup;
    int seat;
    const char *store_path;
    int control_fd; /* wire.h's socket; still open when rank_run returns */
    bool joiner;    /* the job serves already */
    bool is_thread; /* other ranks live in this process: faults hit this one only */
} rank_config;

typedef struct rank rank;

/* `config` is copied, what it points to borrowed. NULL: no memory. */
rank *rank_new(const rank_config *config);
void rank_free(rank *self);
/* Serve until told to stop, or killed; everything is given back. The rank's thread; once. */
int rank_run(rank *self);

/* With is_thread, from any thread: what signals do to a process.
 *
 * rank_kill: it says and hands back nothing any more, aborts the step it is in and closes its
 * context at once; its memory is freed with that, as a dead process's is.
 * rank_hold: its thread goes no further than the step it is in, until it is let go. Its heartbeat
 * goes on, so that only deadlines tell. */
void rank_kill(rank *self);
bool rank_was_killed(const rank *self);
void rank_hold(rank *self, bool holds);
#endif
