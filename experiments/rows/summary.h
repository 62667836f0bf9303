/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics of a run, from its rows and record: summary.json and the printed table. The
 * definitions are in docs/SUMMARY.md. Pure but for writing the file. */
#ifndef EEPX_SUMMARY_H
#define EEPX_SUMMARY_H

#include "experiments/setup/options.h"
#include "experiments/rows/record.h"
#include "experiments/load/scheduler.h"
#include "experiments/rows/summary_restart.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What eep-oracle said; `ran` false: it did not run or gave no answer. */
typedef struct summary_oracle {
    bool ran;
    bool interrupted; /* it did not run, or not to its end, because of a signal */
    int64_t tokens_checked, tokens_wrong, digests_wrong, tokens_missing, tokens_doubled;
    double seconds;
} summary_oracle;

typedef struct summary_quantiles {
    size_t num;
    double p50, p99, max;
} summary_quantiles;

typedef struct summary_fault {
    int32_t seat;
    uint32_t generation;
    const char *kind;
    int signal;     /* that ended its process; 0: none, or it lives */
    bool served;    /* others waited for it when the fault hit it */
    bool expelled;  /* a view without it was committed */
    bool healed;    /* and a survivor went on: times are valid */
    bool suspected; /* a peer suspected it before that view: detect and agree are two times */
    uint64_t epoch; /* of the SERVING view under which they went on */
    double time_ms, detect_ms, agree_ms, repair_ms, rerun_ms, pause_ms;
    double launcher_lag_ms;       /* how much later the launcher learned that the pause was over */
    int num_survivors;            /* that the pause was measured on */
    summary_quantiles detections; /* ms until each survivor suspected it, of those that did */
    uint64_t weights_bytes_in_pause; /* each byte at one fault only */
    source_mix sources;              /* likewise */
} summary_fault;

typedef struct summary_join {
    int32_t seat;
    uint32_t generation;
    bool ready, joined;
    double time_ms, prepare_ms, join_ms;  /* spawned at; to READY if ready; to JOINED if joined */
    double first_step_ms, first_token_ms; /* until it began one, and made one; < 0: none */
    bool prepared;                        /* the parts below are known */
    double spawn_ms, open_ms, load_ms, capture_ms, enter_ms; /* as of a restart; enter: if joined */
    size_t num_healthy_steps;                                /* that the two below are of */
    double longest_healthy_step_ms, median_step_ms;
} summary_join;

typedef struct summary {
    scheduler_counts requests;
    uint64_t reprefill_tokens, positions_aborted;
    summary_quantiles request_stall_ms, step_ms, launcher_lag_ms;
    uint64_t steps_ok, steps_aborted;
    uint64_t captures_healthy, captures_joining;
    uint64_t stale_dropped, steps_aborted_by_join, steps_waiting_on_join;
    uint64_t routed;       /* token and expert pairs that kernels counted */
    double hottest_expert; /* over the mean of its layer, by the process with most pairs */
    uint64_t weights_bytes_in_pause, weights_bytes_background, window_bytes;
    uint64_t weights_bytes_own_node, weights_bytes_other_rank, weights_bytes_file;
    source_mix sources;
    summary_quantiles detection_kill_ms, detection_stop_ms;
    uint64_t expelled_living, zombies_evicted, killed_outside;
    double throughput_before, throughput_degraded, throughput_after; /* < 0: no such time */
    double back_ms; /* from the first fault until tokens came as before it; < 0: they did not */
    double duration_ms;
    uint64_t start_ns; /* when serving started; 0: never */
    summary_fault *faults;
    size_t num_faults;
    summary_join *joins;
    size_t num_joins;
    summary_restart *restarts;
    size_t num_restarts;
    bool is_restarting; /* --baseline restart; set by the launcher */
    cover cover;
    machine_use machine;
    const record_event *events; /* of the record that it was computed from */
    size_t num_events;
    const record_placement *placements; /* likewise */
    size_t num_placements;
    uint64_t orders_open;
    bool rows_complete;
    bool broken;            /* the run was cut off or ended by an error; set by the launcher */
    bool came_to_end;       /* if broken: only files of it could not be written */
    const char *broken_why; /* in words; NULL or "": unknown */
} summary;

/* The nearest-rank quantiles of `values` (which it sorts); zeros for none. */
summary_quantiles summary_quantiles_of(double *values, size_t num);

EEP_MUST_CHECK eep_status summary_compute(const record *run, const scheduler *requests,
                                          summary *summary_out);
void summary_free(summary *self);

/* Nothing wrong, lost, doubled, unfinished or captured; `oracle` NULL: tokens were not checked. */
bool summary_is_good(const summary *self, const summary_oracle *oracle);
/* Write summary.json into `dir`. `oracle` NULL: tokens_wrong is null. EEP_ERR_SYSTEM,
 * EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status summary_write(const summary *self, const summary_oracle *oracle,
                                        const options *given, const char *dir);
/* summary.json of a run with one fault, one join and one event: what names it has. NULL: no memory.
 */
cJSON *summary_sample(void);
/* The table for people, on standard output. */
void summary_print(const summary *self, const summary_oracle *oracle);
#endif
