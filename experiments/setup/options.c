/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of eep-run: its table, and what several options mean together. */
#include "experiments/setup/options.h"
#include "experiments/base/args.h"
#include "experiments/script/plan_file.h"
#include "experiments/script/script_describe.h"
#include "experiments/script/script_parse.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

/* ---------------------------------------------------------------- the table */

static eep_status parse_fraction(const args_row *row, const char *text, void *options_inout,
                                 char *error)
{
    trace_fraction *field = (trace_fraction *)(void *)((char *)options_inout + row->offset);
    if (trace_parse_fraction(text, field) != EEP_OK) {
        return args_fail(
            error, "%s: '%s' is not a positive fraction such as 1/64, 2 or 0.5, with digits alone",
            row->name, text);
    }
    return EEP_OK;
}

/* [RANK=]FILE. For all ranks it takes the place of what was given before. */
static eep_status parse_first(const args_row *row, const char *text, void *options_inout,
                              char *error)
{
    placement_first *first = &((options *)options_inout)->first_placement;
    const char *equals = strchr(text, '='), *file = equals ? equals + 1 : text;
    char rank[8];
    uint64_t seat = 0;
    snprintf(rank, sizeof rank, "%.*s", equals ? (int)(equals - text) : 0, text);
    if (equals && !script_parse_whole(rank, EEP_MAX_RANKS - 1, &seat)) {
        return args_fail(error, "%s: '%.*s' in '%s' is not a rank (0 to %d)", row->name,
                         (int)(equals - text), text, text, EEP_MAX_RANKS - 1);
    }
    if (*file == '\0' || strlen(file) >= VERB_FILE_BYTES) {
        return args_fail(error,
                         "%s: '%s' is not of the form [RANK=]FILE, with a name of at most "
                         "%d bytes",
                         row->name, text, VERB_FILE_BYTES - 1);
    }
    first->num = equals ? first->num : 0;
    if (first->num == PLACEMENT_MAX_FIRST) {
        return args_fail(error, "%s: more than %d files", row->name, PLACEMENT_MAX_FIRST);
    }
    first->of[first->num].seat = equals ? (int)seat : -1;
    snprintf(first->of[first->num].file, VERB_FILE_BYTES, "%s", file);
    first->num++;
    return EEP_OK;
}

#define AT(field) ARGS_AT(options, field)
static const args_row rows[] = {
    {"--ranks", ARGS_WHOLE, AT(num_ranks), 1, EEP_MAX_RANKS, NULL, "N", "8",
     "ranks of the first view; default 4 where ranks are processes on --device cuda"},
    {"--max-ranks", ARGS_WHOLE, AT(max_ranks), 1, EEP_MAX_RANKS, NULL, "M", NULL,
     "seats; those above the N of --ranks can be joined with --rejoin; default N"},
    {"--layers", ARGS_WHOLE, AT(num_layers), 1, EEP_MAX_LAYERS, NULL, "N", "4",
     "MoE layers; default 2 for such ranks"},
    {"--hidden", ARGS_WHOLE, AT(hidden), 1, 16384, NULL, "N", "256", "elements per row"},
    {"--inner", ARGS_WHOLE, AT(inner), 1, 16384, NULL, "N", "192", "inner size of an expert"},
    {"--experts", ARGS_WHOLE, AT(num_experts), 1, EEP_MAX_EXPERTS, NULL, "N", "64",
     "logical experts per layer"},
    {"--slots", ARGS_WHOLE, AT(num_slots), 1, 4096, NULL, "N", "16",
     "expert slots per rank and layer; default 32 for such ranks, and as many as few ranks or "
     "--plan need"},
    {"--ranks-per-node", ARGS_WHOLE, AT(ranks_per_node), 0, EEP_MAX_RANKS, NULL, "N", "0",
     "ranks 0 to N-1 are on the first node, and so on; 0: all are on one"},
    {"--hosts-of", ARGS_WHOLE, AT(hosts_of), 0, EEP_MAX_RANKS, NULL, "N", "0",
     "ranks 0 to N-1 are on a host of their own, and so on: this machine plays them "
     "(EEP_HOST_ID), and rows between them take the network; 0: all are on one"},
    {"--hosts", ARGS_TEXT, AT(hosts_path), 0, 0, NULL, "FILE", NULL,
     "ranks are on the hosts of that file (YAML, docs/HOSTS.md); on each a worker (--worker) "
     "starts "
     "them; --store is at etcd, and EEP_KEY_FILE names a file with the job's key"},
    {"--spread", ARGS_WHOLE, AT(spread), 0, EEP_MAX_RANKS, NULL, "SEATS", "0",
     "least distance of an expert's replicas; 0: a quarter of the ranks, or a node's ranks"},
    {"--backups", ARGS_WHOLE, AT(backup_copies), 0, EEP_MAX_RANKS, NULL, "N", "2",
     "copies of each expert in host memory, each on another node"},
    {"--topk", ARGS_WHOLE, AT(top_k), 1, EEP_MAX_TOPK, NULL, "N", "8", "experts per token"},
    {"--vocab", ARGS_WHOLE, AT(vocabulary), 2, 1 << 20, NULL, "N", "512", "vocabulary"},
    {"--tokens-per-rank", ARGS_WHOLE, AT(num_max_tokens_per_rank), 1, 4096, NULL, "N", "16",
     "positions of one rank in one step"},
    {"--chains", ARGS_WHOLE, AT(num_chains), 1, 2, NULL, "N", "1",
     "micro-batches of a step: with 2, one's rows travel while the other's experts compute"},
    {"--prefill-chunk", ARGS_WHOLE, AT(prefill_chunk), 1, 4096, NULL, "N", "8",
     "most prompt positions of one request in one step"},
    {"--requests-per-rank", ARGS_WHOLE, AT(num_max_requests), 1, 1024, NULL, "N", "8",
     "requests that one rank serves at once"},
    {"--dtype", ARGS_CHOICE, AT(dtype), 0, 0, "fp32|bf16|fp8", "TYPE", "fp32",
     "of the rows that are dispatched and combined (fp8: combined in bf16)"},
    {"--seed", ARGS_WHOLE, AT(seed), 0, (double)OPTIONS_MAX_SEED, NULL, "N", "1",
     "of weights, prompts, arrivals and random targets"},
    {"--background-rate", ARGS_WHOLE, AT(background_mb_s), 0, 1000000, NULL, "MB/S", "1000",
     "weights copied behind live traffic, per rank; 0: redundancy is not restored"},
    {"--background-latency", ARGS_WHOLE, AT(background_latency), 0, 1000, NULL, "PERCENT", "25",
     "and so slowly that steps take at most so much longer; 0: whatever they take"},
    {"--ballast-mb", ARGS_WHOLE, AT(ballast_mb), 0, 1 << 20, NULL, "MB", "0",
     "memory that each rank touches and keeps, for the time that its end takes"},
    {"--router-skew", ARGS_WHOLE, AT(router_skew), 0, 1000, NULL, "N", "0",
     "experts are hot and cold: the hottest one's router weights are 1 + N times as large"},
    {"--expert-us", ARGS_WHOLE, AT(expert_us), 0, 1000000, NULL, "US", "0",
     "emulated expert time: each row that a rank's experts compute takes so much longer, asleep"},
    {"--device", ARGS_ONE_OF, AT(device), 0, 0, "host|guarded|cuda", "NAME", "host",
     "device backend; guarded is host, where the CPU cannot reach device memory"},
    {"--threads", ARGS_FLAG, AT(threads), 0, 0, NULL, NULL, NULL,
     "ranks are threads of one process; kill, stop and the like act on threads"},
    {"--checkpoint", ARGS_TEXT, AT(checkpoint), 0, 0, NULL, "DIR", NULL,
     "read the weights from there, and let repairs do so (default: from the seed)"},
    {"--store", ARGS_TEXT, AT(store_path), 0, 0, NULL, "PATH", NULL,
     "a running store: a socket, or a URL (docs/STORES.md); else the launcher runs one"},
    {"--first-placement", ARGS_PARSED, AT(first_placement), 0, 0, NULL, "[RANK=]FILE", NULL,
     "all ranks, or that one, order the placement of that JSON file before their weights",
     parse_first},
    {"--trace", ARGS_TEXT, AT(trace_path), 0, 0, NULL, "FILE", NULL,
     "JSONL with timestamp (ms), input_length, output_length"},
    {"--first", ARGS_WHOLE, AT(trace.first), 1, 1e9, NULL, "N", NULL,
     "only the first N requests of the trace"},
    {"--scale-lengths", ARGS_PARSED, AT(trace.scale_lengths), 0, 0, NULL, "F", "1",
     "lengths of the trace times F, e.g. 1/64", parse_fraction},
    {"--scale-time", ARGS_PARSED, AT(trace.scale_time), 0, 0, NULL, "F", "1",
     "timestamps of the trace times F", parse_fraction},
    {"--trace-start", ARGS_CHOICE, AT(trace.start), 0, 0, "first|0", "WHEN", "first",
     "first: its earliest request comes at once; 0: timestamps count from 0"},
    {"--requests", ARGS_WHOLE, AT(num_requests), 1, 1e7, NULL, "N", "120",
     "Poisson arrivals where no trace is given"},
    {"--rate", ARGS_NUMBER, AT(rate_per_s), 1e-3, 1e6, NULL, "R", "10", "their rate per second"},
    {"--input", ARGS_RANGE, AT(input_min), 1, WIRE_MAX_TOKENS, NULL, "A:B", "8:48",
     "their prompt lengths"},
    {"--output", ARGS_RANGE, AT(output_min), 1, WIRE_MAX_TOKENS, NULL, "A:B", "16:64",
     "their output lengths"},
    {"--seconds", ARGS_NUMBER, AT(seconds), 0.001, 86400, NULL, "S", NULL,
     "no arrivals after S seconds"},
    {"--max-seconds", ARGS_NUMBER, AT(max_seconds), 0.001, 86400, NULL, "S", NULL,
     "cut off the run S seconds after its start (unfinished requests then fail it)"},
    {"--keep-busy", ARGS_WHOLE, AT(keep_busy), 0, 65536, NULL, "N", NULL,
     "keep N requests outstanding until the script is done, or waits 10 s for a trigger; 0: never; "
     "default: 2 per rank with --kills or --plan, else 0"},
    {"--keep-busy-seconds", ARGS_NUMBER, AT(keep_busy_s), 0, 86400, NULL, "S", NULL,
     "and for at least S seconds"},
    {"--plan", ARGS_TEXT, AT(plan_path), 0, 0, NULL, "FILE", NULL,
     "phases in NIXL EP's form, e.g. [[0,1],[0,1,2],[0,1,-2]] (docs/PLANS.md)"},
    {"--phase-steps", ARGS_WHOLE, AT(phase_steps), 1, 1e6, NULL, "N", "40",
     "OK steps that every rank of a phase reports before the next one begins"},
    {"--kills", ARGS_WHOLE, AT(script.cycle.num_kills), 0, 10000, NULL, "N", NULL,
     "N kills over all seats in order, each rejoined before the next"},
    {"--kill-every", ARGS_NUMBER, AT(script.cycle.kill_every_ms), 0, 86400e3, NULL, "MS", "1000",
     "least time between two of these kills"},
    {"--rejoin-after", ARGS_NUMBER, AT(script.cycle.rejoin_after_ms), 0, 86400e3, NULL, "MS", "300",
     "time from each of these kills to its rejoin"},
    {"--no-kill-fence", ARGS_FLAG, AT(no_kill_fence), 0, 0, NULL, NULL, NULL,
     "expel a silent rank without killing it first"},
    {"--expel-ms", ARGS_NUMBER, AT(expel_ms), 1, 86400e3, NULL, "MS", "1000",
     "least silence for which a living rank is expelled; 1x in durations"},
    {"--step-deadline-ms", ARGS_NUMBER, AT(step_deadline_ms), 1, 86400e3, NULL, "MS", "1000",
     "longest wait for a peer inside a step"},
    {"--drain-bound-ms", ARGS_NUMBER, AT(drain_bound_ms), 1, 86400e3, NULL, "MS", "1000",
     "a survivor that has not stopped serving by then is left out"},
    {"--bulk", ARGS_CHOICE, AT(bulk), 0, 0, "auto|shm|ucx", "KIND", "auto",
     "what carries weights between ranks; for auto it is shared memory, unless EEP_BULK says "
     "otherwise"},
    {"--store-process", ARGS_FLAG, AT(store_process), 0, 0, NULL, NULL, NULL,
     "the store is a process of its own (implied by the --store-... events)"},
    {"--corrupt", ARGS_CHOICE, AT(corrupt), 0, 0, "none|slot|stale|drop|expert", "KIND", "none",
     "break the computation once on purpose, which the oracle must see; expert is a request whose "
     "input is bad, which ends with an error"},
    {"--out", ARGS_TEXT, AT(out_dir), 0, 0, NULL, "DIR", "eep-run-out",
     "where rows, summary and picture go; must be absent or empty"},
    {"--control", ARGS_TEXT, AT(control_path), 0, 0, NULL, "PATH", NULL,
     "socket for eep-ctl; default: control.sock in the folder of --out, or near it"},
    {"--engine", ARGS_TEXT, AT(engine), 0, 0, NULL, "COMMAND", NULL,
     "start that command for each rank: any program with libeep (docs/FOREIGN-ENGINES.md)"},
    {"--launched", ARGS_FLAG, AT(launched), 0, 0, NULL, NULL, NULL,
     "a launcher, as mpirun or srun, starts one such eep-run on each host (docs/HOSTS.md): process "
     "0 runs the instance, and ranks are shared out among the hosts"},
    {"--serve", ARGS_FLAG, AT(serve), 0, 0, NULL, NULL, NULL,
     "stay up until 'eep-ctl finish' or a signal"},
    {"--force", ARGS_FLAG, AT(force), 0, 0, NULL, NULL, NULL, "take DIR, be it full or of others"},
    {"--no-oracle", ARGS_FLAG, AT(no_oracle), 0, 0, NULL, NULL, NULL,
     "do not recompute the tokens afterwards"},
    {"--no-picture", ARGS_FLAG, AT(no_picture), 0, 0, NULL, NULL, NULL,
     "do not draw timeline.png, which takes a second or two"},
    {"--log-level", ARGS_CHOICE, AT(log_level), 0, 0, "none|error|warn|info|debug", "LEVEL",
     "error", "of the ranks, on standard error"},
    {"--quiet", ARGS_FLAG, AT(quiet), 0, 0, NULL, NULL, NULL, "no status lines, only the table"},
    {"--checkpoint-write", ARGS_TEXT, AT(checkpoint_write), 0, 0, NULL, "DIR", NULL,
     "write the weights there as safetensors, and run nothing"},
    {"--scenario", ARGS_TEXT, AT(scenario_path), 0, 0, NULL, "FILE", NULL,
     "run this scenario (YAML); further options change it"},
    {"--repeat", ARGS_WHOLE, AT(num_repeats), 1, 9999, NULL, "N", NULL,
     "run it N times, into DIR/0001 and so on, with seeds counted up; print statistics"},
    {"--same-seed", ARGS_FLAG, AT(same_seed), 0, 0, NULL, NULL, NULL,
     "with --repeat: the same seed each time"},
    {"--keep-going", ARGS_FLAG, AT(keep_going), 0, 0, NULL, NULL, NULL,
     "with --repeat: go on after a run that misses what is expected"},
    {"--baseline", ARGS_CHOICE, AT(baseline), 0, 0, "none|restart", "KIND", "none",
     "restart: membership is fixed; after a fault all ranks are killed and started again, and the "
     "requests that they served fail and are sent again"},
    {"--cold-checkpoint", ARGS_FLAG, AT(cold_checkpoint), 0, 0, NULL, NULL, NULL,
     "drop the checkpoint from the page cache once all ranks serve: later starts read the disk"},
    {"--check-only", ARGS_FLAG, AT(check_only), 0, 0, NULL, NULL, NULL,
     "--check-only FILE...: check scenarios without running them"},
};

/* A row for each verb of the script. */
static args_row events[NUM_VERBS];

static eep_status parse_event(const args_row *row, const char *text, void *options_inout,
                              char *error)
{
    options *self = options_inout;
    return script_add(&self->script, (verb)(row - events), text, error);
}

static char notes[2048];

static void write_rows(void)
{
    for (int v = 0; v < NUM_VERBS; v++) {
        events[v] = (args_row){.name = verb_table[v].option,
                               .type = ARGS_PARSED,
                               .value = script_form((verb)v),
                               .doc = verb_table[v].doc,
                               .parse = parse_event};
    }
    char states[512] = "";
    size_t used = 0;
    for (int s = 0; s < NUM_STATES; s++) {
        used += (size_t)snprintf(states + used, sizeof states - used, "%s %s",
                                 s % 10 == 0 ? "\n " : "", state_names[s]);
    }
    snprintf(
        notes, sizeof notes,
        "RANK: 3 or 3,5,7, lowest, proposer (of the view), random[:N], covered[:N] (the others\n"
        "still hold every expert), source[:N] (of a repair under way), joiner, vacant[:N]. A\n"
        "--rejoin or --cont by such a name takes the ranks of the oldest earlier event by it.\n"
        "TIME: 1.5, 1.5s or 1500ms after the start of serving; or step:N[+TIME]; or a state:\n"
        "STATE[:RANK][#COUNT][+TIME] with STATE one of%s.\n"
        "DURATION: a time, or 0.9x (multiples of --expel-ms).\n"
        "\nA signal (SIGINT, SIGTERM, SIGHUP, SIGQUIT) ends the run in order within 5 s and the "
        "time\nto write its rows, which are then not checked; a second one ends it at once.\n"
        "\nExit status: 0 all requests ended, no token wrong or lost; 1 otherwise, or what was\n"
        "printed is lost; 2 bad usage, or it never served.",
        states);
}

static const args_table *table(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static const args_table all = {
        .program = "eep-run",
        .synopsis = "[OPTION]...\n--check-only FILE...\n--worker ADDRESS:PORT",
        .about = "Run ranks on this machine, or on several (--hosts, --launched), serve requests, "
                 "and check "
                 "every\n"
                 "token. Ranks are killed and join again by a script. Rows, summary.json, "
                 "trace.json and timeline.png are left\n"
                 "in the folder of --out.",
        .section = {ARGS_SECTION(NULL, rows),
                    ARGS_SECTION("Events, each as often as wanted", events)},
        .notes = notes,
        .given = offsetof(options, given),
    };
    pthread_once(&once, write_rows);
    return &all;
}

void options_set_defaults(options *self)
{
    *self = (options){0};
    args_set_defaults(table(), self);
}

bool options_is_given(const options *self, size_t offset)
{
    return args_is_given(table(), self, offset);
}

/* ---------------------------------------------------------------- what one option cannot know */

/* The default is what is needed; a number that was given stays, and is refused if it is too small.
 */
static void raise_slots(options *self, int64_t needed)
{
    if (!options_is_given(self, offsetof(options, num_slots)) && self->num_slots < needed) {
        self->num_slots = needed;
        self->slots_raised = true;
    }
}

/* Read the plan; seats and ranks follow from it. */
static eep_status check_plan(options *self, char *error)
{
    char why[PLAN_ERROR_BYTES];
    if (plan_load(self->plan_path, &self->plan, why) != EEP_OK) {
        return args_fail(error, "--plan: %s", why);
    }
    const plan *what = self->plan;
    self->plan->num_steps = (int)self->phase_steps;
    if (options_is_given(self, offsetof(options, num_ranks)) &&
        self->num_ranks != what->phase[0].num_ranks) {
        return args_fail(error,
                         "--ranks: %" PRId64 " ranks, but the first phase of --plan has %d; leave "
                         "--ranks away",
                         self->num_ranks, what->phase[0].num_ranks);
    }
    self->num_ranks = what->phase[0].num_ranks;
    if (self->max_ranks == 0) {
        self->max_ranks = what->num_seats;
    }
    if (self->max_ranks < what->num_seats) {
        return args_fail(error, "--max-ranks: %" PRId64 " seats, but --plan has a rank %d",
                         self->max_ranks, what->num_seats - 1);
    }
    int64_t fewest = plan_fewest_ranks(what), needed = plan_needed_slots(what, self->num_experts);
    raise_slots(self, needed);
    if (fewest * self->num_slots < self->num_experts) {
        return args_fail(error,
                         "--slots: the %" PRId64 " ranks of a phase of --plan with %" PRId64
                         " slots have room for %" PRId64 " of %" PRId64
                         " experts; give at least %" PRId64 " slots",
                         fewest, self->num_slots, fewest * self->num_slots, self->num_experts,
                         (self->num_experts + fewest - 1) / fewest);
    }
    return EEP_OK;
}

/* Processes that share a GPU take turns on it: fewer of them, and a shorter step. */
static void set_shared_device_defaults(options *self)
{
    if (strcmp(self->device, "cuda") != 0 || self->threads) {
        return;
    }
    if (!options_is_given(self, offsetof(options, num_ranks)) && !self->plan_path) {
        self->num_ranks = 4;
    }
    if (!options_is_given(self, offsetof(options, num_layers))) {
        self->num_layers = 2;
    }
    if (!options_is_given(self, offsetof(options, num_slots))) {
        self->num_slots = 32;
    }
}

static eep_status check_trace(const options *self, char *error)
{
    bool scaled = self->trace.first || self->trace.start ||
                  options_is_given(self, offsetof(options, trace.scale_lengths)) ||
                  options_is_given(self, offsetof(options, trace.scale_time));
    if (scaled && !self->trace_path) {
        return args_fail(
            error, "--first, --scale-lengths, --scale-time and --trace-start need --trace FILE");
    }
    if (self->trace_path && !self->scenario_path &&
        options_is_given(self, offsetof(options, rate_per_s))) {
        return args_fail(error,
                         "--rate: --trace says when requests come; change it by --scale-time");
    }
    return EEP_OK;
}

/* What a full restart leaves nothing for: ranks that come and go one by one, and threads, which end
 * with their process. */
static eep_status check_baseline(const options *self, char *error)
{
    const char *what = self->threads                  ? "--threads"
                       : self->plan_path              ? "--plan"
                       : self->script.cycle.num_kills ? "--kills"
                                                      : NULL;
    for (int i = 0; !what && i < self->script.num_events; i++) {
        verb done = self->script.event[i].verb;
        what = verb_is_of_elastic(done) ? verb_table[done].option : NULL;
    }
    if (self->baseline == OPTIONS_RESTART && what) {
        return args_fail(error, "--baseline restart: %s: leave out %s",
                         self->threads ? "ranks must be processes, which end one by one"
                                       : "membership is fixed, and all ranks start again together",
                         what);
    }
    if (self->cold_checkpoint && !self->checkpoint) {
        return args_fail(error, "--cold-checkpoint needs --checkpoint DIR");
    }
    return EEP_OK;
}

/* A step has the places of the chains that it has. */
static eep_status check_places(const options *self, char *error)
{
    for (int i = 0; i < self->script.num_events; i++) {
        const script_event *event = &self->script.event[i];
        if (!options_has_place(self, event)) {
            return args_fail(error, "%s: %s is in the second micro-batch: give --chains 2",
                             verb_table[event->verb].option, place_names[event->value.place]);
        }
    }
    return EEP_OK;
}

const char *options_baseline_name(const options *self)
{
    return self->baseline == OPTIONS_RESTART ? "restart" : "none";
}

/* A foreign engine has its own requests, model and answers. */
static eep_status check_engine(options *self, char *error)
{
    const char *what = !self->engine                       ? NULL
                       : self->threads                     ? "--threads"
                       : self->plan_path                   ? "--plan"
                       : self->baseline == OPTIONS_RESTART ? "--baseline restart"
                       : self->first_placement.num         ? "--first-placement"
                       : strlen(self->engine) > 4000       ? "a command of more than 4000 bytes"
                                                           : NULL;
    for (int i = 0; self->engine && !what && i < self->script.num_events; i++) {
        what = self->script.event[i].verb == VERB_PLACEMENT ? "--placement" : NULL;
    }
    if (what) {
        return args_fail(error, "--engine: %s is for eep-run's own ranks: leave it out", what);
    }
    if (self->engine) {
        self->num_requests = self->keep_busy = 0;
        self->keep_busy_s = 0;
        self->no_oracle = true;
    }
    return EEP_OK;
}

static eep_status check_threads(const options *self, char *error)
{
    if (self->threads && self->hosts_of) {
        return args_fail(error, "--hosts-of: hosts have processes: leave out --threads");
    }
    if (self->threads && self->ballast_mb) {
        return args_fail(error, "--ballast-mb: threads share one process: leave out --threads");
    }
    return EEP_OK;
}

static eep_status check_hosts(options *self, char *error)
{
    return options_check_hosts(self, options_is_given(self, offsetof(options, num_ranks)),
                               options_is_given(self, offsetof(options, ranks_per_node)), error);
}

eep_status options_check(options *self, char error[OPTIONS_ERROR_BYTES])
{
    set_shared_device_defaults(self);
    if (check_hosts(self, error) != EEP_OK || check_engine(self, error) != EEP_OK ||
        check_baseline(self, error) != EEP_OK || check_places(self, error) != EEP_OK ||
        check_threads(self, error) != EEP_OK) {
        return EEP_ERR_INVALID;
    }
    if (self->plan_path && check_plan(self, error) != EEP_OK) {
        return EEP_ERR_INVALID;
    }
    if (self->max_ranks == 0) {
        self->max_ranks = self->num_ranks;
    }
    if (self->num_ranks > self->max_ranks) {
        return args_fail(error,
                         "--ranks: %" PRId64 " ranks are more than the %" PRId64 " seats of "
                         "--max-ranks",
                         self->num_ranks, self->max_ranks);
    }
    if (self->top_k > self->num_experts) {
        return args_fail(error,
                         "--topk: %" PRId64 " is more than the %" PRId64 " experts of --experts",
                         self->top_k, self->num_experts);
    }
    raise_slots(self, (self->num_experts + self->num_ranks - 1) / self->num_ranks);
    if (self->num_ranks * self->num_slots < self->num_experts) {
        return args_fail(error,
                         "--slots: %" PRId64 " ranks with %" PRId64 " slots have room for %" PRId64
                         " of %" PRId64 " experts; give at least %" PRId64 " slots",
                         self->num_ranks, self->num_slots, self->num_ranks * self->num_slots,
                         self->num_experts,
                         (self->num_experts + self->num_ranks - 1) / self->num_ranks);
    }
    if (check_trace(self, error) != EEP_OK) {
        return EEP_ERR_INVALID;
    }
    if ((self->same_seed || self->keep_going) && !self->num_repeats) {
        return args_fail(error, "%s needs --repeat N",
                         self->same_seed ? "--same-seed" : "--keep-going");
    }
    if (!options_is_given(self, offsetof(options, keep_busy)) && !self->engine) {
        self->keep_busy = self->plan                     ? 2 * self->plan->num_seats
                          : self->script.cycle.num_kills ? 2 * self->num_ranks
                                                         : 0;
    }
    if (self->expert_us > 0 && strcmp(self->device, "cuda") == 0) {
        return args_fail(error, "--expert-us: time is emulated on --device host or guarded only");
    }
    if (self->checkpoint && strlen(self->checkpoint) >= PATH_MAX) {
        return args_fail(error, "--checkpoint: the path is longer than %d bytes", PATH_MAX - 1);
    }
    if (self->checkpoint && self->checkpoint_write) {
        return args_fail(error, "--checkpoint-write: the weights come from the seed: leave out "
                                "--checkpoint");
    }
    self->store_process |= script_has_store(&self->script);
    if (self->store_process && self->store_path) {
        return args_fail(error,
                         "--store: the store at '%s' is not ours to stop, kill or start: leave out "
                         "--store, or --store-process and the --store-... events",
                         self->store_path);
    }
    self->script.expel_ms = self->expel_ms;
    eep_status status =
        script_prepare(&self->script, (int)self->num_ranks, (int)self->max_ranks, error);
    return status == EEP_OK ? options_check_placements(self, error) : status;
}

/* ---------------------------------------------------------------- the command line */

eep_status options_take(options *self, int num, char **argument, char error[OPTIONS_ERROR_BYTES])
{
    args_result result = args_parse(table(), self, num, argument, error);
    self->help |= result == ARGS_HELP;
    self->version |= result == ARGS_VERSION;
    return result == ARGS_WRONG ? EEP_ERR_INVALID : EEP_OK;
}

eep_status options_parse(int argc, char **argv, options *options_out,
                         char error[OPTIONS_ERROR_BYTES])
{
    options_set_defaults(options_out);
    eep_status status = options_take(options_out, argc - 1, argv + 1, error);
    if (status == EEP_OK && !options_out->help && !options_out->version) {
        status = options_check(options_out, error);
    }
    if (status != EEP_OK) {
        options_free(options_out);
    }
    return status;
}

/* Is the field at that offset in the part of the options that begins and ends so? */
static bool is_between(size_t offset, size_t begin, size_t end)
{
    return offset >= begin && offset < end;
}

/* The struct is in the order of the groups. */
options_group options_group_of(const char *name, bool *is_flag_out)
{
    const size_t script_at = offsetof(options, script), run_at = offsetof(options, out_dir);
    char argument[64];
    snprintf(argument, sizeof argument, "--%s", name);
    const args_row *row = strlen(name) < sizeof argument - 2 ? args_find(table(), argument) : NULL;
    *is_flag_out = row && row->type == ARGS_FLAG;
    if (!row) {
        return OPTIONS_UNKNOWN;
    }
    if (row->parse == parse_event) {
        return OPTIONS_EVENTS;
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "version") == 0) {
        return OPTIONS_RUN;
    }
    if (is_between(row->offset, script_at, script_at + sizeof(script))) {
        return OPTIONS_EVENTS;
    }
    return row->offset >= run_at                                               ? OPTIONS_RUN
           : is_between(row->offset, offsetof(options, trace_path), script_at) ? OPTIONS_LOAD
                                                                               : OPTIONS_INSTANCE;
}

void options_free(options *self)
{
    script_free(&self->script);
    plan_free(self->plan);
    self->plan = NULL;
    hosts_file_free(self->hosts);
    self->hosts = NULL;
}

void options_print_help(FILE *file)
{
    args_print_help(table(), file);
}
