/* SPDX-License-Identifier: Apache-2.0 */
/* What the launcher keeps of a run, besides its rows: processes, views and faults. All times are
 * CLOCK_MONOTONIC nanoseconds; 0: it did not happen. */
#ifndef EEPX_RECORD_H
#define EEPX_RECORD_H

#include "experiments/rows/cover.h"
#include "experiments/base/machine.h"
#include "experiments/rows/run_rows.h"
#include "experiments/load/scheduler.h"
#include "experiments/script/script.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* When a process had come through each part of its start (wire_startup). */
typedef struct record_startup {
    uint64_t main_ns, open_ns, loaded_ns, captured_ns;
} record_startup;

/* One process in a seat. */
typedef struct record_process {
    int32_t seat;
    uint32_t generation;           /* 0 until its HELLO */
    uint64_t spawn_ns;             /* just before the fork */
    record_startup startup;        /* zeros until it is about to join */
    uint64_t ready_ns;             /* its READY event */
    uint64_t joined_ns;            /* it was in the view and said so */
    uint64_t kill_ns;              /* just before the launcher's SIGKILL or SIGABRT */
    uint64_t stop_ns, cont_ns;     /* the latest SIGSTOP, and the SIGCONT after it */
    uint64_t freeze_ns;            /* told to stop itself; 0 again once it did, or need not */
    uint64_t thaw_ns;              /* continued when it was told to, and had not yet; 0: never */
    uint64_t slow_ns, slow_end_ns; /* told to be slow, and to be so no more */
    uint64_t die_ns;               /* told to kill itself in its next step */
    uint64_t cut_ns, cut_end_ns;   /* the network of its host was disturbed, and was no more */
    uint64_t injected_ns;          /* with injected_kind: a fault that has no record_fault yet */
    const char *injected_kind;
    uint64_t drain_ns;      /* it was asked to leave */
    uint64_t exit_ns;       /* its end was observed */
    int exit_status;        /* its wait status then */
    uint64_t expelled_ns;   /* a view without it came while it lived and was not asked to leave */
    bool expelled_injected; /* and a verb of the launcher was the reason */
    bool fenced; /* ended by a SIGKILL not of the launcher, and no verb was the reason: by a
                    peer's fence, or from outside (summary_fault_was_fenced) */
    uint64_t captures_at_join;
    bool rejoin;           /* started while the job served */
    bool restarted;        /* started again with all others, after a full restart began */
    double cached;         /* share of the checkpoint in the page cache by then; < 0: unknown */
    bool was_told_evicted; /* by libeep: of a foreign engine */
    bool seen_in_view;     /* some committed view had it */
    bool left_view;        /* and a later one had not */
    bool left_by_fault;    /* and that one was committed because of a fault */
    eep_counters counters; /* the last that it sent, */
    source_mix mix;        /* of the last event that brought some, */
    uint64_t routed;       /* and how its tokens spread over experts (wire_counters) */
    double hottest;
} record_process;

/* One committed view. */
typedef struct record_view {
    uint64_t time_ns; /* when the launcher saw it */
    uint64_t epoch;
    int phase, cause;     /* eepi_view_phase, eepi_view_cause */
    uint32_t *generation; /* [max_ranks]: of the member in the seat; 0: none */
} record_view;

/* What a survivor did when a fault hit. */
typedef struct record_survivor {
    int32_t seat;
    uint32_t generation;
    int activity;     /* scheduler_activity */
    uint32_t request; /* activity 2: the decoding request with most tokens to come */
} record_survivor;

typedef struct record_fault {
    size_t process;    /* index of the process that it hit */
    uint64_t time_ns;  /* of the signal, or when an end was observed */
    uint64_t since_ns; /* suspicions count from then on: die: when it was told to; else time_ns */
    const char *kind;  /* "kill", "abort", "stop", "die", "slow", "exit", "expelled", or a verb of
                          hosts */
    record_survivor *survivors;
    size_t num_survivors;
} record_fault;

/* A full restart (--baseline restart): all ranks were killed, and started again together. */
typedef struct record_restart {
    size_t process;       /* index of the process whose end, or expulsion, was noticed */
    uint64_t noticed_ns;  /* when; all others were killed at once */
    uint64_t ended_ns;    /* all of them had ended */
    uint64_t joined_ns;   /* all served again; 0: another fault, or the run's end, came before */
    size_t first_process; /* the new ones are num_processes from this index on; 0: none yet */
    size_t num_processes;
    scheduler_failed failed; /* what they served */
} record_restart;

/* An event of the script, as it was when it was done with, or when the run ended. */
typedef struct record_event {
    script_event event;
    bool was_due; /* its moment had come */
} record_event;

typedef enum record_placement_state {
    PLACEMENT_WAITS,       /* no view has it yet */
    PLACEMENT_MOVING,      /* it is in force; weights are still to be copied */
    PLACEMENT_REACHED,     /* every slot of a member holds what it is given */
    PLACEMENT_UNREACHABLE, /* some will not, with the members that there are */
    PLACEMENT_LOST,        /* it was in force, and the instance began again without it */
    PLACEMENT_REPLACED,    /* one with a higher number is in force */
    PLACEMENT_REFUSED,     /* another one with its number is in force, or it came too late */
} record_placement_state;

/* A placement that a rank was told to order. The counts are of when it was heard of last. */
typedef struct record_placement {
    uint64_t number;
    int32_t seat;         /* -1: all ranks of the first view */
    uint64_t given_ns;    /* 0: before their weights */
    uint64_t in_force_ns; /* a rank told that a view has it */
    uint64_t reached_ns;  /* that all is there, for the first time */
    record_placement_state state;
    int num_unmet, num_unreachable, num_pinned; /* wire_placement */
} record_placement;

/* What was heard of the newest view. */
typedef struct record_in_force {
    uint64_t epoch, number;
    bool reached, unreachable;
} record_in_force;

typedef struct record {
    int max_ranks;
    uint64_t start_ns;    /* serving starts: all ranks of the first view have joined */
    uint64_t load_end_ns; /* last time that there was work for every rank */
    uint64_t end_ns;      /* the ranks were told to stop */
    record_process *processes;
    size_t num_processes;
    record_view *views;
    size_t num_views;
    record_fault *faults;
    size_t num_faults;
    record_restart *restarts;
    size_t num_restarts;
    record_event *events;
    size_t num_events;
    record_placement *placements;
    size_t num_placements;
    record_in_force in_force;
    cover cover;         /* of the first view */
    machine_use machine; /* while it served */
    rows rows;
} record;

/* What the newest view says of the process, which is in it or not. */
typedef enum record_change { RECORD_SAME, RECORD_CAME, RECORD_LEFT } record_change;
record_change record_see_view(record_process *process, const record_view *view);
/* The view let it go because it was asked to leave. A later view after a fault, of somebody else's
 * while its process still ends, changes nothing about that. */
bool record_left_as_asked(const record_process *process);

/* Append one; NULL when memory is out. Pointers are valid until the next append of the kind. */
record_process *record_add_process(record *self);
record_view *record_add_view(record *self);
record_restart *record_add_restart(record *self);
record_event *record_add_event(record *self);
record_placement *record_add_placement(record *self);
record_fault *record_add_fault(record *self, size_t max_survivors);
void record_free(record *self);
#endif
