#include "experiments/setup/options.h"
#include "experiments/base/decimal.h"
#include "experiments/script/plan_file.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef enum option_kind {
    OPTION_INTEGER,  /* int64_t in [min, max] */
    OPTION_COUNT,    /* int in [min, max] */
    OPTION_NUMBER,   /* double in [min, max] */
    OPTION_TEXT,     /* const char * */
    OPTION_FLAG,     /* bool, takes no value */
    OPTION_RANGE,    /* two uint32_t, "A:B" or "A" */
    OPTION_FRACTION, /* trace_fraction */
    OPTION_FIRST,    /* size_t */
    OPTION_CHOICE,   /* int, index of `choices` */
} option_kind;

typedef struct option_row {
    const char *name;
    option_kind kind;
    size_t offset;
    double min, max;
    const char *choices; /* "a|b|c" */
    const char *value;   /* what --help calls it */
    const char *preset;  /* default as --help shows it; "" where there is none */
    const char *doc;
} option_row;

#define AT(field) offsetof(options, field)
static const option_row table[] = {
    {"--ranks", OPTION_INTEGER, AT(num_ranks), 1, EEP_MAX_RANKS, NULL, "N", "8, or 4",
     "ranks of the first view; 4: processes on --device cuda"},
    {"--max-ranks", OPTION_INTEGER, AT(max_ranks), 1, EEP_MAX_RANKS, NULL, "M", "N",
     "seats; those above N can be joined with --rejoin"},
    {"--layers", OPTION_INTEGER, AT(num_layers), 1, EEP_MAX_LAYERS, NULL, "N", "4, or 2",
     "MoE layers; 2 as above"},
    {"--hidden", OPTION_INTEGER, AT(hidden), 1, 16384, NULL, "N", "256", "elements per row"},
    {"--inner", OPTION_INTEGER, AT(inner), 1, 16384, NULL, "N", "192", "inner size of an expert"},
    {"--experts", OPTION_INTEGER, AT(num_experts), 1, EEP_MAX_EXPERTS, NULL, "N", "64",
     "logical experts per layer"},
    {"--slots", OPTION_INTEGER, AT(num_slots), 1, 4096, NULL, "N", "16, or 32",
     "expert slots per rank and layer; 32 as above, and as many as few ranks or --plan need"},
    {"--topk", OPTION_INTEGER, AT(top_k), 1, EEP_MAX_TOPK, NULL, "N", "8", "experts per token"},
    {"--vocab", OPTION_INTEGER, AT(vocabulary), 2, 1 << 20, NULL, "N", "512", "vocabulary"},
    {"--tokens-per-rank", OPTION_INTEGER, AT(num_max_tokens_per_rank), 1, 4096, NULL, "N", "16",
     "positions of one rank in one step"},
    {"--prefill-chunk", OPTION_INTEGER, AT(prefill_chunk), 1, 4096, NULL, "N", "8",
     "most prompt positions of one request in one step"},
    {"--requests-per-rank", OPTION_INTEGER, AT(num_max_requests), 1, 1024, NULL, "N", "8",
     "requests that one rank serves at once"},
    {"--dtype", OPTION_CHOICE, AT(dtype), 0, 0, "fp32|bf16|fp8", "TYPE", "fp32",
     "of the rows that are dispatched and combined (fp8: combined in bf16)"},
    {"--seed", OPTION_INTEGER, AT(seed), 0, (double)OPTIONS_MAX_SEED, NULL, "N", "1",
     "of weights, prompts, arrivals and random targets"},
    {"--background-rate", OPTION_INTEGER, AT(background_mb_s), 0, 1000000, NULL, "MB/S", "1000",
     "weights copied behind live traffic, per rank; 0: redundancy is not restored"},
    {"--ballast-mb", OPTION_INTEGER, AT(ballast_mb), 0, 1 << 20, NULL, "MB", "0",
     "memory that each rank touches and keeps, for the time that its end takes"},
    {"--device", OPTION_CHOICE, AT(device), 1, 0, "host|guarded|cuda", "NAME", "host",
     "device backend; guarded: host, where the CPU cannot reach device memory"},
    {"--threads", OPTION_FLAG, AT(threads), 0, 0, NULL, NULL, "",
     "ranks are threads of one process; kill, stop and the like strike threads"},
    {"--store", OPTION_TEXT, AT(store_path), 0, 0, NULL, "PATH", "",
     "socket of a running eep-store (else the launcher runs one)"},
    {"--trace", OPTION_TEXT, AT(trace_path), 0, 0, NULL, "FILE", "",
     "JSONL with timestamp (ms), input_length, output_length"},
    {"--first", OPTION_FIRST, AT(trace.first), 1, 1e9, NULL, "N", "all",
     "only the first N requests of the trace"},
    {"--scale-lengths", OPTION_FRACTION, AT(trace.scale_lengths), 0, 0, NULL, "F", "1",
     "lengths of the trace times F, e.g. 1/64"},
    {"--scale-time", OPTION_FRACTION, AT(trace.scale_time), 0, 0, NULL, "F", "1",
     "timestamps of the trace times F"},
    {"--trace-start", OPTION_CHOICE, AT(trace.start), 0, 0, "first|0", "WHEN", "first",
     "first: its earliest request comes at once; 0: timestamps count from 0"},
    {"--requests", OPTION_INTEGER, AT(num_requests), 1, 1e7, NULL, "N", "120",
     "Poisson arrivals where no trace is given"},
    {"--rate", OPTION_NUMBER, AT(rate_per_s), 1e-3, 1e6, NULL, "R", "10", "their rate per second"},
    {"--input", OPTION_RANGE, AT(input_min), 1, WIRE_MAX_TOKENS, NULL, "A:B", "8:48",
     "their prompt lengths"},
    {"--output", OPTION_RANGE, AT(output_min), 1, WIRE_MAX_TOKENS, NULL, "A:B", "16:64",
     "their output lengths"},
    {"--seconds", OPTION_NUMBER, AT(seconds), 0.001, 86400, NULL, "S", "",
     "no arrivals after S seconds"},
    {"--max-seconds", OPTION_NUMBER, AT(max_seconds), 0.001, 86400, NULL, "S", "",
     "cut off the run S seconds after its start (unfinished requests then fail it)"},
    {"--keep-busy", OPTION_INTEGER, AT(keep_busy), 0, 65536, NULL, "N",
     "2 per rank with --kills or --plan",
     "keep N requests outstanding until the script is done, or waits 10 s for a trigger; 0: never"},
    {"--keep-busy-seconds", OPTION_NUMBER, AT(keep_busy_s), 0, 86400, NULL, "S", "",
     "and for at least S seconds"},
    {"--plan", OPTION_TEXT, AT(plan_path), 0, 0, NULL, "FILE", "",
     "phases in NIXL EP's form, e.g. [[0,1],[0,1,2],[0,1,-2]] (docs/PLANS.md)"},
    {"--phase-steps", OPTION_INTEGER, AT(phase_steps), 1, 1e6, NULL, "N", "40",
     "OK steps that every rank of a phase reports before the next one begins"},
    {"--kills", OPTION_COUNT, AT(script.cycle.num_kills), 0, 10000, NULL, "N", "",
     "N kills over all seats in order, each rejoined before the next"},
    {"--kill-every", OPTION_NUMBER, AT(script.cycle.kill_every_ms), 0, 86400e3, NULL, "MS", "1000",
     "least time between two of these kills"},
    {"--rejoin-after", OPTION_NUMBER, AT(script.cycle.rejoin_after_ms), 0, 86400e3, NULL, "MS",
     "300", "time from each of these kills to its rejoin"},
    {"--no-kill-fence", OPTION_FLAG, AT(no_kill_fence), 0, 0, NULL, NULL, "",
     "expel a silent rank without killing it first"},
    {"--expel-ms", OPTION_NUMBER, AT(expel_ms), 1, 86400e3, NULL, "MS", "1000",
     "least silence for which a living rank is expelled; 1x in durations"},
    {"--step-deadline-ms", OPTION_NUMBER, AT(step_deadline_ms), 1, 86400e3, NULL, "MS", "1000",
     "longest wait for a peer inside a step"},
    {"--drain-bound-ms", OPTION_NUMBER, AT(drain_bound_ms), 1, 86400e3, NULL, "MS", "1000",
     "a survivor that has not stopped serving by then is left out"},
    {"--stores-margin-ms", OPTION_NUMBER, AT(stores_margin_ms), 0, 86400e3, NULL, "MS", "",
     "after the end of a process its kernels may store for so long (0; 50 on a GPU)"},
    {"--bulk", OPTION_CHOICE, AT(bulk), 0, 0, "auto|shm|ucx", "KIND", "auto",
     "what carries weights between ranks; auto: shared memory, unless EEP_BULK says otherwise"},
    {"--store-process", OPTION_FLAG, AT(store_process), 0, 0, NULL, NULL, "",
     "the store is a process of its own (implied by the --store-... events)"},
    {"--corrupt", OPTION_CHOICE, AT(corrupt), 0, 0, "none|slot|stale|drop|expert", "KIND", "none",
     "break the computation once on purpose: the oracle must see it; expert: a request whose input "
     "is bad, which ends with an error"},
    {"--out", OPTION_TEXT, AT(out_dir), 0, 0, NULL, "DIR", "eep-run-out",
     "where rows, summary and picture go; must be absent or empty"},
    {"--control", OPTION_TEXT, AT(control_path), 0, 0, NULL, "PATH", "DIR/control.sock",
     "socket for eep-ctl"},
    {"--serve", OPTION_FLAG, AT(serve), 0, 0, NULL, NULL, "",
     "stay up until 'eep-ctl finish' or a signal"},
    {"--force", OPTION_FLAG, AT(force), 0, 0, NULL, NULL, "", "take DIR, be it full or of others"},
    {"--no-oracle", OPTION_FLAG, AT(no_oracle), 0, 0, NULL, NULL, "",
     "do not recompute the tokens afterwards"},
    {"--no-picture", OPTION_FLAG, AT(no_picture), 0, 0, NULL, NULL, "",
     "do not draw timeline.png, which takes a second or two"},
    {"--log-level", OPTION_CHOICE, AT(log_level), 0, 0, "none|error|warn|info|debug", "LEVEL",
     "error", "of the ranks, on standard error"},
    {"--quiet", OPTION_FLAG, AT(quiet), 0, 0, NULL, NULL, "", "no status lines, only the table"},
    {"--scenario", OPTION_TEXT, AT(scenario_path), 0, 0, NULL, "FILE", "",
     "run this scenario (YAML); further options change it"},
    {"--repeat", OPTION_INTEGER, AT(num_repeats), 1, 9999, NULL, "N", "",
     "run it N times, into DIR/0001 and so on, with seeds counted up; print statistics"},
    {"--same-seed", OPTION_FLAG, AT(same_seed), 0, 0, NULL, NULL, "",
     "with --repeat: the same seed each time"},
    {"--keep-going", OPTION_FLAG, AT(keep_going), 0, 0, NULL, NULL, "",
     "with --repeat: go on after a run that misses what is expected"},
    {"--check-only", OPTION_FLAG, AT(check_only), 0, 0, NULL, NULL, "",
     "--check-only FILE...: check scenarios without running them"},
    {"--help", OPTION_FLAG, AT(help), 0, 0, NULL, NULL, "",
     "this text; --version alone: the version"},
};
enum { NUM_OPTIONS = sizeof table / sizeof table[0] };
static_assert((int)NUM_OPTIONS <= 64, "a bit of options.given each");

bool options_is_given(const options *self, size_t offset)
{
    int i = 0;
    while (table[i].offset != offset) {
        i++;
    }
    return self->given >> i & 1u;
}

static __attribute__((format(printf, 2, 3))) eep_status fail(char error[OPTIONS_ERROR_BYTES],
                                                             const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, OPTIONS_ERROR_BYTES, format, args);
    va_end(args);
    return EEP_ERR_INVALID;
}

/* ---------------------------------------------------------------- values */

static bool parse_whole(const char *text, double min, double max, int64_t *value_out)
{
    char *end = NULL;
    errno = 0;
    if (*text < '0' || *text > '9') {
        return false;
    }
    long long value = strtoll(text, &end, 10);
    /* As integers: a double above 2^53 holds only every second one. */
    if (errno || *end != '\0' || value < (int64_t)min || value > (int64_t)max) {
        return false;
    }
    *value_out = value;
    return true;
}

static eep_status set_integer(const option_row *row, char *field, const char *text, char *error)
{
    int64_t value = 0;
    if (!parse_whole(text, row->min, row->max, &value)) {
        return fail(error, "%s: '%s' is not a whole number from %.0f to %.0f", row->name, text,
                    row->min, row->max);
    }
    if (row->kind == OPTION_FIRST) {
        *(size_t *)field = (size_t)value;
    } else if (row->kind == OPTION_COUNT) {
        *(int *)field = (int)value;
    } else {
        *(int64_t *)field = value;
    }
    return EEP_OK;
}

static eep_status set_number(const option_row *row, char *field, const char *text, char *error)
{
    double value = 0;
    if (!decimal_is(text, &value) || !(value >= row->min && value <= row->max)) {
        return fail(error, "%s: '%s' is not a number from %g to %g", row->name, text, row->min,
                    row->max);
    }
    *(double *)field = value;
    return EEP_OK;
}

static eep_status set_range(const option_row *row, char *field, const char *text, char *error)
{
    char low[32];
    int64_t min = 0, max = 0;
    const char *colon = strchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : strlen(text);
    bool good = length < sizeof low;
    if (good) {
        memcpy(low, text, length);
        low[length] = '\0';
        good = parse_whole(low, row->min, row->max, &min) &&
               parse_whole(colon ? colon + 1 : low, row->min, row->max, &max) && min <= max;
    }
    if (!good) {
        return fail(error, "%s: '%s' is not A:B with %.0f <= A <= B <= %.0f", row->name, text,
                    row->min, row->max);
    }
    ((uint32_t *)field)[0] = (uint32_t)min;
    ((uint32_t *)field)[1] = (uint32_t)max;
    return EEP_OK;
}

/* A choice is stored as its index (an int or an enum), or, with min 1, as the text itself. */
static eep_status set_choice(const option_row *row, char *field, const char *text, char *error)
{
    size_t length = strlen(text);
    int index = 0;
    for (const char *choice = row->choices; choice; index++) {
        const char *bar = strchr(choice, '|');
        size_t bytes = bar ? (size_t)(bar - choice) : strlen(choice);
        if (bytes == length && strncmp(choice, text, length) == 0) {
            if (row->min > 0) {
                *(const char **)field = text;
            } else {
                memcpy(field, &index, sizeof index);
            }
            return EEP_OK;
        }
        choice = bar ? bar + 1 : NULL;
    }
    return fail(error, "%s: '%s' is not one of %s", row->name, text, row->choices);
}

static eep_status set_value(options *self, const option_row *row, const char *text, char *error)
{
    char *field = (char *)self + row->offset;
    switch (row->kind) {
    case OPTION_INTEGER:
    case OPTION_COUNT:
    case OPTION_FIRST:
        return set_integer(row, field, text, error);
    case OPTION_NUMBER:
        return set_number(row, field, text, error);
    case OPTION_RANGE:
        return set_range(row, field, text, error);
    case OPTION_CHOICE:
        return set_choice(row, field, text, error);
    case OPTION_FRACTION:
        if (trace_parse_fraction(text, (trace_fraction *)field) != EEP_OK) {
            return fail(
                error,
                "%s: '%s' is not a positive fraction such as 1/64, 2 or 0.5, with digits alone",
                row->name, text);
        }
        return EEP_OK;
    case OPTION_TEXT:
        if (*text == '\0') {
            return fail(error, "%s: the value is empty", row->name);
        }
        *(const char **)field = text;
        return EEP_OK;
    case OPTION_FLAG:
        *(bool *)field = true;
        return EEP_OK;
    }
    return EEP_ERR_INVALID;
}

/* ---------------------------------------------------------------- the command line */

void options_set_defaults(options *self)
{
    *self = (options){
        .num_ranks = 8,
        .num_layers = 4,
        .hidden = 256,
        .inner = 192,
        .num_experts = 64,
        .num_slots = 16,
        .top_k = 8,
        .vocabulary = 512,
        .num_max_tokens_per_rank = 16,
        .prefill_chunk = 8,
        .num_max_requests = 8,
        .seed = 1,
        .background_mb_s = 1000,
        .device = "host",
        .num_requests = 120,
        .rate_per_s = 10,
        .input_min = 8,
        .input_max = 48,
        .output_min = 16,
        .output_max = 64,
        .keep_busy = -1,
        .phase_steps = 40,
        .script = {.cycle = {.kill_every_ms = 1000, .rejoin_after_ms = 300}},
        .expel_ms = 1000,
        .step_deadline_ms = 1000,
        .drain_bound_ms = 1000,
        .out_dir = "eep-run-out",
        .log_level = EEP_LOG_ERROR,
    };
}

/* The default is what is needed; a number that was given stays, and is refused if it is too small.
 */
static void raise_slots(options *self, int64_t needed)
{
    if (!options_is_given(self, AT(num_slots)) && self->num_slots < needed) {
        self->num_slots = needed;
        self->slots_raised = true;
    }
}

/* Read the plan; seats and ranks follow from it. */
static eep_status check_plan(options *self, char *error)
{
    char why[PLAN_ERROR_BYTES];
    if (plan_load(self->plan_path, &self->plan, why) != EEP_OK) {
        return fail(error, "--plan: %s", why);
    }
    const plan *what = self->plan;
    self->plan->num_steps = (int)self->phase_steps;
    if (options_is_given(self, AT(num_ranks)) && self->num_ranks != what->phase[0].num_ranks) {
        return fail(error,
                    "--ranks: %" PRId64 " ranks, but the first phase of --plan has %d; leave "
                    "--ranks away",
                    self->num_ranks, what->phase[0].num_ranks);
    }
    self->num_ranks = what->phase[0].num_ranks;
    if (self->max_ranks == 0) {
        self->max_ranks = what->num_seats;
    }
    if (self->max_ranks < what->num_seats) {
        return fail(error, "--max-ranks: %" PRId64 " seats, but --plan has a rank %d",
                    self->max_ranks, what->num_seats - 1);
    }
    int64_t fewest = plan_fewest_ranks(what), needed = plan_needed_slots(what, self->num_experts);
    raise_slots(self, needed);
    if (fewest * self->num_slots < self->num_experts) {
        return fail(error,
                    "--slots: the %" PRId64 " ranks of a phase of --plan with %" PRId64
                    " slots have room for %" PRId64 " of %" PRId64
                    " experts; give at least %" PRId64 " slots",
                    fewest, self->num_slots, fewest * self->num_slots, self->num_experts,
                    (self->num_experts + fewest - 1) / fewest);
    }
    if (self->keep_busy < 0) {
        self->keep_busy = 2 * what->num_seats;
    }
    return EEP_OK;
}

/* Processes that share a GPU take turns on it: fewer of them, and a shorter step. */
static void set_shared_device_defaults(options *self)
{
    if (strcmp(self->device, "cuda") != 0 || self->threads) {
        return;
    }
    if (!options_is_given(self, AT(num_ranks)) && !self->plan_path) {
        self->num_ranks = 4;
    }
    if (!options_is_given(self, AT(num_layers))) {
        self->num_layers = 2;
    }
    if (!options_is_given(self, AT(num_slots))) {
        self->num_slots = 32;
    }
}

/* What one option alone cannot know. */
eep_status options_check(options *self, char error[OPTIONS_ERROR_BYTES])
{
    set_shared_device_defaults(self);
    if (self->plan_path && check_plan(self, error) != EEP_OK) {
        return EEP_ERR_INVALID;
    }
    if (self->max_ranks == 0) {
        self->max_ranks = self->num_ranks;
    }
    if (self->num_ranks > self->max_ranks) {
        return fail(error,
                    "--ranks: %" PRId64 " ranks are more than the %" PRId64 " seats of "
                    "--max-ranks",
                    self->num_ranks, self->max_ranks);
    }
    if (self->top_k > self->num_experts) {
        return fail(error, "--topk: %" PRId64 " is more than the %" PRId64 " experts of --experts",
                    self->top_k, self->num_experts);
    }
    raise_slots(self, (self->num_experts + self->num_ranks - 1) / self->num_ranks);
    if (self->num_ranks * self->num_slots < self->num_experts) {
        return fail(error,
                    "--slots: %" PRId64 " ranks with %" PRId64 " slots have room for %" PRId64
                    " of %" PRId64 " experts; give at least %" PRId64 " slots",
                    self->num_ranks, self->num_slots, self->num_ranks * self->num_slots,
                    self->num_experts, (self->num_experts + self->num_ranks - 1) / self->num_ranks);
    }
    bool scaled = self->trace.first || self->trace.scale_lengths.num ||
                  self->trace.scale_time.num || self->trace.start;
    if (scaled && !self->trace_path) {
        return fail(error,
                    "--first, --scale-lengths, --scale-time and --trace-start need --trace FILE");
    }
    if (self->trace_path && !self->scenario_path && options_is_given(self, AT(rate_per_s))) {
        return fail(error, "--rate: --trace says when requests come; change it by --scale-time");
    }
    if ((self->same_seed || self->keep_going) && !self->num_repeats) {
        return fail(error, "%s needs --repeat N", self->same_seed ? "--same-seed" : "--keep-going");
    }
    if (self->keep_busy < 0) {
        self->keep_busy = self->script.cycle.num_kills ? 2 * self->num_ranks : 0;
    }
    if (self->threads && self->ballast_mb) {
        return fail(error, "--ballast-mb: threads share one process: leave out --threads");
    }
    self->store_process |= script_has_store(&self->script);
    if (self->store_process && self->store_path) {
        return fail(error,
                    "--store: the store at '%s' is not ours to stop, kill or start: leave out "
                    "--store, or --store-process and the --store-... events",
                    self->store_path);
    }
    self->script.expel_ms = self->expel_ms;
    return script_prepare(&self->script, (int)self->num_ranks, (int)self->max_ranks, error);
}

static const option_row *find(const char *argument, size_t length)
{
    for (int i = 0; i < NUM_OPTIONS; i++) {
        if (strlen(table[i].name) == length && strncmp(table[i].name, argument, length) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

/* The verb whose flag it is; false: none. */
static bool find_event(const char *argument, size_t length, verb *verb_out)
{
    for (int v = 0; v < NUM_VERBS; v++) {
        const char *option = verb_table[v].option;
        if (strlen(option) == length && strncmp(option, argument, length) == 0) {
            *verb_out = (verb)v;
            return true;
        }
    }
    return false;
}

/* The argument at *at, and its value if that is the next one. */
static eep_status take_argument(options *self, int argc, char **argv, int *at, char *error)
{
    char *argument = argv[*at], *equals = strchr(argument, '=');
    size_t length = equals ? (size_t)(equals - argument) : strlen(argument);
    const option_row *row = find(argument, length);
    verb what = VERB_KILL;
    bool is_event = !row && find_event(argument, length, &what);
    if (!row && !is_event) {
        bool stray = *argument != '-' || strspn(argument, "-") == strlen(argument);
        return fail(error, "%s '%s'; eep-run --help lists all",
                    stray ? "this is no option:" : "unknown option", argument);
    }
    const char *name = is_event ? verb_table[what].option : row->name;
    const char *value = equals ? equals + 1 : NULL;
    bool is_flag = row && row->kind == OPTION_FLAG;
    if (is_flag && value) {
        return fail(error, "%s takes no value ('%s' was given)", name, value);
    }
    if (!is_flag && !value) {
        if (*at + 1 == argc) {
            return fail(error, "%s needs a value: %s", name,
                        is_event ? script_form(what) : row->value);
        }
        value = argv[++*at];
    }
    self->given |= row ? 1ull << (row - table) : 0;
    return is_event ? script_add(&self->script, what, value, error)
                    : set_value(self, row, value, error);
}

eep_status options_take(options *self, int num, char **argument, char error[OPTIONS_ERROR_BYTES])
{
    eep_status status = EEP_OK;
    for (int i = 0; i < num && status == EEP_OK; i++) {
        status = take_argument(self, num, argument, &i, error);
    }
    return status;
}

eep_status options_parse(int argc, char **argv, options *options_out,
                         char error[OPTIONS_ERROR_BYTES])
{
    options_set_defaults(options_out);
    eep_status status = options_take(options_out, argc - 1, argv + 1, error);
    if (status == EEP_OK && !options_out->help) {
        status = options_check(options_out, error);
    }
    if (status != EEP_OK) {
        options_free(options_out);
    }
    return status;
}

options_group options_group_of(const char *name, bool *is_flag_out)
{
    char argument[64];
    verb what = VERB_KILL;
    snprintf(argument, sizeof argument, "--%s", name);
    size_t length = strlen(name) < sizeof argument - 2 ? strlen(argument) : 0;
    const option_row *row = find(argument, length);
    *is_flag_out = row && row->kind == OPTION_FLAG;
    if (!row) {
        return find_event(argument, length, &what) ? OPTIONS_EVENTS : OPTIONS_UNKNOWN;
    }
    if (row->offset >= AT(script) && row->offset < AT(script) + sizeof(script)) {
        return OPTIONS_EVENTS;
    }
    if (row->offset >= AT(out_dir)) { /* the struct is in the order of the groups */
        return OPTIONS_RUN;
    }
    return row->offset >= AT(trace_path) && row->offset < AT(script) ? OPTIONS_LOAD
                                                                     : OPTIONS_INSTANCE;
}

void options_free(options *self)
{
    script_free(&self->script);
    plan_free(self->plan);
    self->plan = NULL;
}

void options_print_help(FILE *file)
{
    fputs("Usage: eep-run [OPTION]...\n"
          "Run N ranks on this machine, serve requests, kill and rejoin ranks by a script, check\n"
          "every token, and leave rows, summary.json, trace.json and timeline.png in --out.\n\n",
          file);
    for (int i = 0; i < NUM_OPTIONS; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", table[i].name, table[i].value ? table[i].value : "");
        fprintf(file, "  %-24s %s", left, table[i].doc);
        if (table[i].choices) {
            fprintf(file, ": %s", table[i].choices);
        }
        fprintf(file, *table[i].preset ? " [%s]\n" : "%s\n", table[i].preset);
    }
    fputs("\nEvents, each as often as wanted:\n", file);
    for (int v = 0; v < NUM_VERBS; v++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", verb_table[v].option, script_form((verb)v));
        fprintf(file, "  %-36s %s\n", left, verb_table[v].doc);
    }
    fputs("RANK: 3 or 3,5,7, lowest, proposer (of the view), random[:N], covered[:N] (the others\n"
          "still hold every expert), source[:N] (of a repair under way), joiner, vacant[:N]. A\n"
          "--rejoin or --cont by such a name takes the ranks of the oldest earlier event by it.\n"
          "TIME: 1.5, 1.5s or 1500ms after the start of serving; or step:N[+TIME]; or a state:\n"
          "STATE[:RANK][#COUNT][+TIME] with STATE one of\n ",
          file);
    for (int s = 0; s < NUM_STATES; s++) {
        fprintf(file, "%s %s", s == 10 ? "\n " : "", state_names[s]);
    }
    fputs(".\nDURATION: a time, or 0.9x (multiples of --expel-ms).\n"
          "\nA signal (SIGINT, SIGTERM, SIGHUP, SIGQUIT) ends the run in order within 5 s and the "
          "time\nto write its rows, which are then not checked; a second one ends it at once.\n"
          "\nExit: 0 all requests ended, no token wrong or lost; 1 otherwise, or what was printed "
          "is\n"
          "lost; 2 bad usage, or it never served.\n",
          file);
}
