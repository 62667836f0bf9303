/* What the launcher keeps of a run, besides its rows: processes, views and faults. All times are
 * CLOCK_MONOTONIC nanoseconds; 0: it did not happen. */
#ifndef EEPX_RECORD_H
#define EEPX_RECORD_H

#include "experiments/rows.h"
#include "experiments/scheduler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One process in a seat. */
typedef struct record_process {
    int32_t seat;
    uint32_t generation;  /* 0 until its HELLO */
    uint64_t spawn_ns;    /* just before the fork */
    uint64_t ready_ns;    /* its READY event */
    uint64_t joined_ns;   /* it was in the view and said so */
    uint64_t kill_ns;     /* just before the kill() */
    uint64_t drain_ns;    /* it was asked to leave */
    uint64_t stop_ns;     /* its last SIGSTOP */
    uint64_t exit_ns;     /* its end was observed */
    uint64_t expelled_ns; /* a view without it came while it lived and was not asked to leave */
    uint64_t captures_at_join;
    bool rejoin;           /* started while the job served */
    bool stopped;          /* by SIGSTOP, and not continued */
    bool slow;             /* on demand */
    bool doomed;           /* it was told to kill itself */
    bool left_view;        /* a view without it came after one with it */
    bool evicted;          /* it ended because it learned that it was expelled */
    bool seen_in_view;     /* some committed view had it */
    eep_counters counters; /* the last that it sent */
} record_process;

/* One committed view. */
typedef struct record_view {
    uint64_t time_ns; /* when the launcher saw it */
    uint64_t epoch;
    int phase, cause;     /* eepi_view_phase, eepi_view_cause */
    uint32_t *generation; /* [max_ranks]: of the member in the seat; 0: none */
} record_view;

/* What a survivor did when a fault struck. */
typedef struct record_survivor {
    int32_t seat;
    uint32_t generation;
    int activity;     /* scheduler_activity */
    uint32_t request; /* activity 2: the decoding request with most tokens to come */
} record_survivor;

typedef struct record_fault {
    size_t process;   /* index of the process that it hit */
    uint64_t time_ns; /* of the kill, or when an unexpected end was observed */
    const char *kind; /* "kill", "abort", "die", "stop", "exit" or "expelled" */
    bool survived;    /* "stop": it went on as a member */
    record_survivor *survivors;
    size_t num_survivors;
} record_fault;

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
    rows rows;
} record;

/* Append one; NULL when memory is out. Pointers are valid until the next append of the kind. */
record_process *record_add_process(record *self);
record_view *record_add_view(record *self);
record_fault *record_add_fault(record *self, size_t max_survivors);
void record_free(record *self);
#endif
