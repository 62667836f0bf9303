/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of eep-run. */
#ifndef EEPX_OPTIONS_H
#define EEPX_OPTIONS_H

#include "eep/eep.h"
#include "experiments/base/args.h"
#include "experiments/rank/rank_setup.h"
#include "experiments/script/placement_file.h"
#include "experiments/script/plan.h"
#include "experiments/script/script.h"
#include "experiments/load/trace.h"
#include "experiments/setup/hosts_file.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { OPTIONS_ERROR_BYTES = ARGS_ERROR_BYTES };
/* 2^53: whoever reads the seed as a double reads it right up to here. */
#define OPTIONS_MAX_SEED ((int64_t)1 << 53)

/* How an instance meets the loss of a rank. */
typedef enum options_baseline {
    OPTIONS_ELASTIC, /* "none": libeep's way */
    OPTIONS_RESTART, /* membership is fixed: all ranks are killed and started again */
} options_baseline;

typedef struct options {
    /* the instance */
    int64_t num_ranks, max_ranks;
    int64_t num_layers, hidden, inner, num_experts, num_slots, top_k, vocabulary;
    int64_t ranks_per_node, spread, backup_copies;
    int64_t hosts_of;       /* ranks of each host that this machine plays; 0: there is one */
    const char *hosts_path; /* NULL: ranks are on this host, or on those of `launched` */
    hosts_file *hosts;      /* of that file, or of the launcher's job */
    int launched_number;    /* of this process in that job; it is set with `hosts` */
    int64_t num_max_tokens_per_rank, num_chains, prefill_chunk, num_max_requests;
    int64_t seed;
    int64_t background_mb_s, ballast_mb, background_latency, router_skew, expert_us;
    rank_dtype dtype;
    const char *device;     /* "host", "guarded" or "cuda" */
    bool threads;           /* ranks are threads of one process */
    const char *checkpoint; /* weights are read from it; NULL: generated from the seed */
    const char *store_path; /* NULL: the launcher runs the store */
    placement_first first_placement;
    /* the load */
    const char *trace_path; /* NULL: Poisson arrivals */
    trace_options trace;
    int64_t num_requests;
    double rate_per_s;
    uint32_t input_min, input_max, output_min, output_max;
    double seconds;     /* no arrivals after that; 0: no limit */
    double max_seconds; /* the run is cut off then; 0: no limit */
    int64_t keep_busy;  /* requests kept outstanding while the script runs */
    double keep_busy_s; /* and at least so long */
    /* the faults */
    script script;
    const char *plan_path; /* NULL: no plan */
    plan *plan;            /* of that file; the launcher advances it */
    int64_t phase_steps;
    int corrupt; /* engine_corruption */
    /* how the instance meets them */
    bool no_kill_fence;
    double expel_ms, step_deadline_ms, drain_bound_ms;
    int bulk;           /* eep_bulk */
    bool store_process; /* the launcher's store is a process of its own */
    int baseline;       /* options_baseline */
    bool cold_checkpoint;
    /* the run */
    const char *out_dir;
    const char *out_at;       /* how to reach it, whatever its name leads to; NULL: by the name */
    const char *control_path; /* NULL: in or near out_dir */
    const char *engine;       /* a foreign engine's command line; NULL: ranks are eep-run's own */
    bool launched; /* this is a process of a launcher's job, which has one on each host */
    bool force, serve, no_oracle, no_picture, quiet, help, version;
    eep_log_level log_level;
    const char *scenario_path; /* NULL: none */
    const char *scenario_name;
    const char *command; /* the whole command line, quoted; NULL: unknown */
    int64_t num_repeats; /* 0: one run, into out_dir itself */
    bool same_seed, keep_going, check_only;
    bool slots_raised; /* num_slots is more than its default, for few ranks or a plan need more */
    const char *checkpoint_write; /* NULL: run; else write the weights there, and end */
    args_given given; /* which options were: for those whose defaults follow from others */
} options;

/* What an option is about. */
typedef enum options_group {
    OPTIONS_INSTANCE,
    OPTIONS_LOAD,
    OPTIONS_EVENTS,
    OPTIONS_RUN,
    OPTIONS_UNKNOWN, /* there is no such option */
} options_group;

/* Parse and check a command line. EEP_ERR_INVALID: `error` is one line that names the option, the
 * value and what is allowed. Strings point into argv. With --help nothing else is checked.
 * options_free after EEP_OK. */
EEP_MUST_CHECK eep_status options_parse(int argc, char **argv, options *options_out,
                                        char error[OPTIONS_ERROR_BYTES]);
void options_free(options *self);
/* What is run without any option. */
void options_set_defaults(options *self);
/* options_parse in steps, so that a scenario's options come before the command line's: first the
 * defaults; then, as often as wanted, a list of arguments (no program name), of which the later
 * ones win; then what one option alone cannot know. options_free in any case. */
EEP_MUST_CHECK eep_status options_take(options *self, int num, char **argument,
                                       char error[OPTIONS_ERROR_BYTES]);
EEP_MUST_CHECK eep_status options_check(options *self, char error[OPTIONS_ERROR_BYTES]);
/* The group of the option of that name (without dashes), and whether it takes no value. */
options_group options_group_of(const char *name, bool *is_flag_out);
/* Was the option given whose field is at that offset in options? */
bool options_is_given(const options *self, size_t offset);
/* The text of --help, into a file. */
void options_print_help(FILE *file);

/* Read a placement's file for this instance: `is_first` as one that ranks begin with, which has to
 * fit into the first view. EEP_ERR_INVALID with a line in `error` (PLACEMENT_ERROR_BYTES) that
 * names the file and what is wrong there. */
EEP_MUST_CHECK eep_status options_read_placement(const options *self, const char *file,
                                                 bool is_first, uint64_t *number_out, char *error);
/* All files of placements, after script_prepare: EEP_ERR_INVALID as options_check. */
EEP_MUST_CHECK eep_status options_check_placements(const options *self,
                                                   char error[OPTIONS_ERROR_BYTES]);

/* Read the file of --hosts; the number of ranks follows from it, and what a node is, unless they
 * were given. With --launched the launcher says how many hosts there are, which share the ranks;
 * where they are is found later (experiments/hosts/launched.h). EEP_ERR_INVALID as options_check.
 */
EEP_MUST_CHECK eep_status options_check_hosts(options *self, bool ranks_given, bool nodes_given,
                                              char error[OPTIONS_ERROR_BYTES]);

/* Can the event be done to hosts of --hosts? True for verbs that name none. Else `error` says why
 * not, and begins with the verb's name. */
bool options_has_hosts(const options *self, const script_event *event,
                       char error[OPTIONS_ERROR_BYTES]);

/* The part of the options that a rank is told. */
void options_fill_rank(const options *self, rank_setup *setup_out);

/* "none" or "restart". */
const char *options_baseline_name(const options *self);

static inline const char *options_dtype_name(const options *self)
{
    static const char *const names[] = {"fp32", "bf16", "fp8"};
    return names[self->dtype];
}
/* Does a step have the place of a VERB_DIE or VERB_FREEZE? True for other verbs. */
bool options_has_place(const options *self, const script_event *event);
/* Bytes of expert weights of one slot of one layer: gate, up and down in FP32. */
uint64_t options_expert_bytes(const options *self);
/* Memory that all rank processes need together, roughly: weights, host backups, windows of
 * `window_bytes` each and a fixed part per process. */
uint64_t options_memory_bytes(const options *self, uint64_t window_bytes);
#endif
