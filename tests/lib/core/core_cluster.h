/* SPDX-License-Identifier: Apache-2.0 */
/* Membership cores of many ranks in one process: virtual time, a simulated store, rank threads and
 * processes that die, stop or hang, all from one seed. What must always hold (S1, S2, S4, S6, S7,
 * S12, R1, M2, M7) is checked at every commit, every installed view and every step; a broken
 * property ends the test with the seed. */
#ifndef CORE_CLUSTER_H
#define CORE_CLUSTER_H

#include "membership/core/core.h"
#include "membership/stepper/stepper.h"

enum {
    CLUSTER_MAX_SEATS = 8,
    CLUSTER_MAX_PROCESSES = 32,
    CLUSTER_MAX_EPOCHS = 512,
    CLUSTER_MAX_SLOTS = 16,
    CLUSTER_STARTED_KEPT = 64,
};
#define CLUSTER_FOREVER UINT64_MAX

typedef struct cluster_options {
    int num_ranks, max_ranks, num_experts, num_slots;
    int backups;     /* every process has every expert in host memory */
    int checkpoints; /* processes in even seats can read every expert from a file */
    int bad_reads;   /* so many times a file proves bad when it is read: then its owner says so */
    int late_bad_reads; /* the same, and the rank that fills finds another source; then it says so
                         */
    int no_kill_fence;
    int seats_per_group; /* 0: each seat is on its own */
    int background;      /* redundancy and balance are restored behind live traffic */
    int unknown_of_100;  /* of 100 compare-and-swaps so many get no answer; half of them are in */
    uint64_t seed;
} cluster_options;

typedef struct cluster_started {
    uint64_t epoch, step, announced;
} cluster_started;

typedef struct cluster_process {
    int seat;
    uint32_t generation;
    eepi_core *core;
    int alive, over, leaving;
    uint64_t stopped_until_us; /* the process: takes no input, runs no step */
    uint64_t blocked;          /* seats that take none of its rows (rule N16) */
    uint64_t collective;       /* the newest that it knows to have ended (rule P13) */
    uint64_t stuck_until_us;   /* its rank thread only: runs no step and does not drain */
    uint64_t fill_delay_us, die_at_ack_us;
    uint64_t wake_us, down_us, up_us; /* next tick asked for; newest times of its two channels */
    int unkillable;                   /* whoever kills it cannot */
    int holds_acks;                   /* a joiner that hangs before it stages */
    int failing_stages;               /* so many times staging fails */
    /* the rank thread */
    eepi_stepper stepper;
    eep_seat seats[CLUSTER_MAX_SEATS]; /* followed so far */
    const eepi_view *live;             /* the document that the stepper runs */
    const eepi_view *held_plan;        /* to be staged once the idle bank is idle; NULL: none */
    uint64_t last_ok_us, promised, installed_epoch, expelled_epoch;
    cluster_started started[CLUSTER_STARTED_KEPT];
    uint64_t num_started, num_ok, num_aborted, num_wedges, num_kills, num_cas, num_fills;
    int32_t experts[CLUSTER_MAX_SLOTS]; /* what its slots hold in truth */
    uint64_t checksums[CLUSTER_MAX_SLOTS], backup, claim;
    int file_is_bad; /* it has said so */
    int was_silent_to[CLUSTER_MAX_PROCESSES];
    int listens;             /* the store tells it of reports and acknowledgements */
    uint64_t wedge_revision; /* newest that it heard of */
    eepi_wedge told_wedge;   /* its own word; epoch 0: none */
} cluster_process;

typedef struct cluster_event cluster_event;
typedef struct cluster {
    cluster_options options;
    eepi_core_config config;
    uint64_t random, now_us, sequence;
    cluster_event *events; /* a heap */
    int num_events, capacity;
    void **kept; /* what messages point to, until close */
    size_t num_kept, kept_capacity;
    cluster_process process[CLUSTER_MAX_PROCESSES];
    int num_processes;
    uint64_t revision, next_revision; /* of the register; 0: empty */
    const eepi_view *view;
    eepi_input *keys; /* [5][max_ranks] the store's other keys; kind TICK: none */
    eepi_wedge wedge; /* what the store has, and its revision; 0: nothing */
    uint64_t wedge_revision;
    const eepi_view *committed[CLUSTER_MAX_EPOCHS];
    int num_committed, num_uncovered;
    /* before the compare-and-swap with this epoch: 1 not in and no answer, 2 in and no answer,
     * 3 in, and the proposer dies at once */
    uint64_t disturbed_epoch;
    int disturbance;
    char text[4096];
} cluster;

/* All ranks of the first view are started; NULL never. */
cluster *cluster_open(const cluster_options *options);
void cluster_close(cluster *c);
uint64_t cluster_random(cluster *c, uint64_t limit);

/* Start a new process in a seat, which loads what the planner names; returns its index. */
int cluster_start(cluster *c, int seat);
/* The newest process of a seat; NULL: none. */
cluster_process *cluster_at(cluster *c, int seat);
void cluster_crash(cluster *c, int seat);
void cluster_crash_process(cluster *c, int process);
/* What the store tells that rank from now on takes so long. */
void cluster_delay_store(cluster *c, int seat, uint64_t by_us);
/* SIGSTOP, and SIGCONT after `for_us`; peers hear silence after a while and then a beat again. */
void cluster_stop(cluster *c, int seat, uint64_t for_us);
void cluster_leave(cluster *c, int seat);
/* Evidence (kind < 0: a sign of life) that the observer itself makes. */
void cluster_evidence(cluster *c, int observer, int seat, int kind);
/* The register and all keys are gone; every rank reconnects. */
void cluster_restart_store(cluster *c);
void cluster_feed(cluster *c, int seat, eepi_input input);

void cluster_run(cluster *c, uint64_t for_us);
/* Run until it is true, at most so long; returns whether it is. */
int cluster_until(cluster *c, int (*is_true)(cluster *), uint64_t bound_us);
/* What each living core says of itself, for messages; valid until the next call. */
const char *cluster_text(cluster *c);
/* Every living member of the register's view serves it and completed a step in the last 200 ms;
 * every other process that lives waits outside or is over. */
int cluster_is_serving(cluster *c);
#endif
