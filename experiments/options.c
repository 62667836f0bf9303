#include "experiments/options.h"

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
    OPTION_EVENT,    /* a verb, in min, appended to the script */
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
    {"--ranks", OPTION_INTEGER, AT(num_ranks), 1, EEP_MAX_RANKS, NULL, "N", "8",
     "rank processes of the first view"},
    {"--max-ranks", OPTION_INTEGER, AT(max_ranks), 1, EEP_MAX_RANKS, NULL, "M", "N",
     "seats; those above N can be joined with --rejoin"},
    {"--layers", OPTION_INTEGER, AT(num_layers), 1, EEP_MAX_LAYERS, NULL, "N", "4", "MoE layers"},
    {"--hidden", OPTION_INTEGER, AT(hidden), 1, 16384, NULL, "N", "256", "elements per row"},
    {"--inner", OPTION_INTEGER, AT(inner), 1, 16384, NULL, "N", "192", "inner size of an expert"},
    {"--experts", OPTION_INTEGER, AT(num_experts), 1, EEP_MAX_EXPERTS, NULL, "N", "64",
     "logical experts per layer"},
    {"--slots", OPTION_INTEGER, AT(num_slots), 1, 4096, NULL, "N", "16",
     "expert slots per rank and layer"},
    {"--topk", OPTION_INTEGER, AT(top_k), 1, EEP_MAX_TOPK, NULL, "N", "8", "experts per token"},
    {"--vocab", OPTION_INTEGER, AT(vocabulary), 2, 1 << 20, NULL, "N", "512", "vocabulary"},
    {"--tokens-per-rank", OPTION_INTEGER, AT(num_max_tokens_per_rank), 1, 4096, NULL, "N", "16",
     "positions of one rank in one step"},
    {"--prefill-chunk", OPTION_INTEGER, AT(prefill_chunk), 1, 4096, NULL, "N", "8",
     "most prompt positions of one request in one step"},
    {"--requests-per-rank", OPTION_INTEGER, AT(num_max_requests), 1, 1024, NULL, "N", "8",
     "requests that one rank serves at once"},
    {"--dtype", OPTION_CHOICE, AT(dtype), 0, 0, "fp32|bf16", "TYPE", "fp32",
     "of the rows that are dispatched and combined"},
    {"--seed", OPTION_INTEGER, AT(seed), 0, 9007199254740992.0, NULL, "N", "1",
     "of weights, prompts, arrivals and random targets"},
    {"--no-kill-fence", OPTION_FLAG, AT(no_kill_fence), 0, 0, NULL, NULL, "",
     "expel a silent rank without killing it first: it may come back as a zombie"},
    {"--expel-ms", OPTION_INTEGER, AT(expel_ms), 50, 3600000, NULL, "MS", "1000",
     "least silence for which a living rank is expelled (expel_us)"},
    {"--step-deadline-ms", OPTION_INTEGER, AT(step_deadline_ms), 10, 3600000, NULL, "MS", "1000",
     "longest wait for a peer inside a step"},
    {"--drain-bound-ms", OPTION_INTEGER, AT(drain_bound_ms), 10, 3600000, NULL, "MS", "1000",
     "a survivor that has not stopped by then is left out of the next view"},
    {"--background-rate", OPTION_INTEGER, AT(background_mb_s), 0, 1000000, NULL, "MB/S", "1000",
     "weights copied behind live traffic, per rank; 0: redundancy is not restored"},
    {"--ballast-mb", OPTION_INTEGER, AT(ballast_mb), 0, 1 << 20, NULL, "MB", "0",
     "memory that each rank touches and keeps, for the time that its end takes"},
    {"--store-process", OPTION_FLAG, AT(store_process), 0, 0, NULL, NULL, "",
     "run the store as a process of its own (implied by verbs on the store, and --serve)"},
    {"--device", OPTION_CHOICE, AT(device), 1, 0, "host|cuda", "NAME", "host", "device backend"},
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
     "cut the run off after S seconds (unfinished requests then fail the run)"},
    {"--keep-busy", OPTION_INTEGER, AT(keep_busy), 0, 65536, NULL, "N", "2 per rank with --kills",
     "add seeded requests so that N are outstanding until the script is done; 0: never"},
    {"--keep-busy-seconds", OPTION_NUMBER, AT(keep_busy_s), 0, 86400, NULL, "S", "",
     "and for at least S seconds"},
    {"--kills", OPTION_COUNT, AT(script.cycle.num_kills), 0, 10000, NULL, "N", "",
     "N kills over all seats in order, each rejoined before the next"},
    {"--kill-every", OPTION_NUMBER, AT(script.cycle.kill_every_ms), 0, 86400e3, NULL, "MS", "1000",
     "least time between two of these kills"},
    {"--rejoin-after", OPTION_NUMBER, AT(script.cycle.rejoin_after_ms), 0, 86400e3, NULL, "MS",
     "300", "time from each of these kills to its rejoin"},
    {"--corrupt", OPTION_CHOICE, AT(corrupt), 0, 0, "none|slot|stale|drop", "KIND", "none",
     "break the computation once on purpose: the oracle must see it"},
    {"--out", OPTION_TEXT, AT(out_dir), 0, 0, NULL, "DIR", "eep-run-out",
     "where rows, summary and picture go; must be absent or empty"},
    {"--control", OPTION_TEXT, AT(control_path), 0, 0, NULL, "PATH", "DIR/control.sock",
     "socket for eep-ctl"},
    {"--serve", OPTION_FLAG, AT(serve), 0, 0, NULL, NULL, "",
     "stay up until 'eep-ctl finish' or a signal"},
    {"--force", OPTION_FLAG, AT(force), 0, 0, NULL, NULL, "", "write into DIR though it has files"},
    {"--no-oracle", OPTION_FLAG, AT(no_oracle), 0, 0, NULL, NULL, "",
     "do not recompute the tokens afterwards"},
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
    {"--help", OPTION_FLAG, AT(help), 0, 0, NULL, NULL, "", "this text"},
};
enum { NUM_OPTIONS = sizeof table / sizeof table[0] };

/* The flags of the verbs: one row each, from the verbs' own table. */
static option_row verb_row(verb of)
{
    const verb_info *info = &verb_table[of];
    static const char *const values[] = {[VERB_NO_VALUE] = "R@WHEN",
                                         [VERB_SECONDS] = "SECONDS@WHEN",
                                         [VERB_FACTOR] = "R=FACTOR@WHEN",
                                         [VERB_PLACE] = "R=PLACE@WHEN",
                                         [VERB_DURATION] = "R[=DURATION]@WHEN"};
    return (option_row){.name = info->option,
                        .kind = OPTION_EVENT,
                        .min = of,
                        .value = info->has_seat                 ? values[info->value]
                                 : info->value == VERB_NO_VALUE ? "@WHEN"
                                 : info->value == VERB_DURATION ? "[DURATION]@WHEN"
                                                                : values[info->value],
                        .preset = "",
                        .doc = info->doc};
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
    if (errno || *end != '\0' || (double)value < min || (double)value > max) {
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
    char *end = NULL;
    bool starts = (*text >= '0' && *text <= '9') || *text == '.';
    double value = starts ? strtod(text, &end) : 0;
    if (!starts || end == text || *end != '\0' || !(value >= row->min && value <= row->max)) {
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
            return fail(error, "%s: '%s' is not a positive fraction such as 1/64, 2 or 0.5",
                        row->name, text);
        }
        return EEP_OK;
    case OPTION_EVENT:
        return script_add(&self->script, (verb)(int)row->min, text, error);
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

void options_begin(options *self)
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
        .expel_ms = 1000,
        .step_deadline_ms = 1000,
        .drain_bound_ms = 1000,
        .background_mb_s = 1000,
        .device = "host",
        .num_requests = 120,
        .rate_per_s = 10,
        .input_min = 8,
        .input_max = 48,
        .output_min = 16,
        .output_max = 64,
        .keep_busy = -1,
        .script = {.cycle = {.kill_every_ms = 1000, .rejoin_after_ms = 300}},
        .out_dir = "eep-run-out",
        .log_level = EEP_LOG_ERROR,
    };
}

/* What one option alone cannot know. */
eep_status options_check(options *self, char error[OPTIONS_ERROR_BYTES])
{
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
    if (self->num_ranks * self->num_slots < self->num_experts) {
        return fail(error,
                    "--slots: %" PRId64 " ranks with %" PRId64 " slots have room for %" PRId64
                    " of %" PRId64 " experts; give at least %" PRId64 " slots",
                    self->num_ranks, self->num_slots, self->num_ranks * self->num_slots,
                    self->num_experts, (self->num_experts + self->num_ranks - 1) / self->num_ranks);
    }
    bool scaled = self->trace.first || self->trace.scale_lengths.num || self->trace.scale_time.num;
    if (scaled && !self->trace_path) {
        return fail(error, "--first, --scale-lengths and --scale-time need --trace FILE");
    }
    if (self->keep_busy < 0) {
        self->keep_busy = self->script.cycle.num_kills ? 2 * self->num_ranks : 0;
    }
    self->kill_fence = !self->no_kill_fence;
    for (int i = 0; i < self->script.num_events; i++) {
        verb what = self->script.event[i].verb;
        bool is_store = what == VERB_STORE_KILL || what == VERB_STORE_STOP ||
                        what == VERB_STORE_CONT || what == VERB_STORE_START;
        if (is_store && self->store_path) {
            return fail(error, "%s: the store of --store is not ours to touch",
                        verb_table[what].option);
        }
        self->store_process |= is_store;
    }
    self->store_process |= self->serve && !self->store_path;
    script_resolve(&self->script, (double)self->expel_ms);
    return script_prepare(&self->script, (int)self->num_ranks, (int)self->max_ranks, error);
}

static bool is_named(const char *name, const char *argument, size_t length)
{
    return strlen(name) == length && strncmp(name, argument, length) == 0;
}

/* False: there is no such option. */
static bool find(const char *argument, size_t length, option_row *row_out)
{
    for (int i = 0; i < NUM_OPTIONS; i++) {
        if (is_named(table[i].name, argument, length)) {
            *row_out = table[i];
            return true;
        }
    }
    for (int v = 0; v < NUM_VERBS; v++) {
        if (is_named(verb_table[v].option, argument, length)) {
            *row_out = verb_row((verb)v);
            return true;
        }
    }
    return false;
}

options_group options_group_of(const char *name, bool *is_flag_out)
{
    char argument[64];
    snprintf(argument, sizeof argument, "--%s", name);
    option_row row;
    bool known = strlen(name) < sizeof argument - 2 && find(argument, strlen(argument), &row);
    *is_flag_out = known && row.kind == OPTION_FLAG;
    if (!known) {
        return OPTIONS_UNKNOWN;
    }
    bool of_script = row.offset >= AT(script) && row.offset < AT(script) + sizeof(script);
    if (row.kind == OPTION_EVENT || of_script) {
        return OPTIONS_EVENTS;
    }
    if (row.offset >= AT(out_dir)) { /* the struct is in the order of the groups */
        return OPTIONS_RUN;
    }
    return row.offset >= AT(trace_path) && row.offset < AT(script) ? OPTIONS_LOAD
                                                                   : OPTIONS_INSTANCE;
}

eep_status options_take(options *self, int num, char **argument, char error[OPTIONS_ERROR_BYTES])
{
    for (int i = 0; i < num; i++) {
        const char *equals = strchr(argument[i], '=');
        size_t length = equals ? (size_t)(equals - argument[i]) : strlen(argument[i]);
        option_row found, *row = &found;
        if (!find(argument[i], length, row)) {
            return fail(error, "unknown option '%s'; eep-run --help lists all", argument[i]);
        }
        const char *value = equals ? equals + 1 : NULL;
        if (row->kind == OPTION_FLAG && value) {
            return fail(error, "%s takes no value ('%s' was given)", row->name, value);
        }
        if (row->kind != OPTION_FLAG && !value) {
            if (i + 1 == num) {
                return fail(error, "%s needs a value: %s", row->name, row->value);
            }
            value = argument[++i];
        }
        eep_status status = set_value(self, row, value, error);
        if (status != EEP_OK) {
            return status;
        }
    }
    return EEP_OK;
}

eep_status options_parse(int argc, char **argv, options *options_out,
                         char error[OPTIONS_ERROR_BYTES])
{
    options_begin(options_out);
    eep_status status = options_take(options_out, argc - 1, argv + 1, error);
    return status != EEP_OK || options_out->help ? status : options_check(options_out, error);
}

#define SCRIPT_HELP                                                                                \
    "\nWhat is done to the instance, and when (any number of these):\n"                            \
    "  R      a rank, ranks such as 3,5, lowest, proposer, random[:N], covered[:N] (the others "   \
    "still\n         hold every expert), source[:N] (of a repair), joiner, vacant[:N]; a rejoin "  \
    "or cont\n         by such a name takes the seats of the oldest earlier event with it\n"       \
    "  WHEN   1.5, 1.5s, 1500ms, step:N[+TIME], or STATE[:SEAT][#COUNT][+TIME], STATE being "      \
    "spawned,\n         opened, ready, staged, committed, joined, suspected, wedged, proposed, "   \
    "repairing,\n         repaired, installed, flipped, rebalancing, exited, expelled\n"

void options_print_help(FILE *file)
{
    fputs("Usage: eep-run [OPTION]...\n"
          "Run N ranks on this machine, serve requests, kill and rejoin ranks by a script, check\n"
          "every token, and leave rows, summary.json, trace.json and timeline.png in --out.\n\n",
          file);
    for (int i = 0; i < NUM_OPTIONS + NUM_VERBS; i++) {
        option_row row = i < NUM_OPTIONS ? table[i] : verb_row((verb)(i - NUM_OPTIONS));
        char left[64];
        if (i == NUM_OPTIONS) {
            fputs(SCRIPT_HELP, file);
        }
        snprintf(left, sizeof left, "%s %s", row.name, row.value ? row.value : "");
        fprintf(file, "  %-26s %s", left, row.doc);
        if (row.choices) {
            fprintf(file, ": %s", row.choices);
        }
        fprintf(file, *row.preset ? " [%s]\n" : "%s\n", row.preset);
    }
    fputs("\nExit: 0 all requests ended, no token wrong or lost; 1 otherwise; 2 bad usage.\n",
          file);
}

/* ---------------------------------------------------------------- for the ranks */

void options_fill_engine(const options *self, engine_config *config_out)
{
    *config_out = (engine_config){
        .seed = (uint64_t)self->seed,
        .num_layers = (int32_t)self->num_layers,
        .hidden = (int32_t)self->hidden,
        .inner = (int32_t)self->inner,
        .num_experts = (int32_t)self->num_experts,
        .top_k = (int32_t)self->top_k,
        .vocabulary = (int32_t)self->vocabulary,
        .num_slots = (int32_t)self->num_slots,
        .num_max_tokens_per_rank = (int32_t)self->num_max_tokens_per_rank,
        .num_max_requests = (int32_t)self->num_max_requests,
        .prefill_chunk = (int32_t)self->prefill_chunk,
        .corrupt = self->corrupt,
        .corrupt_step = 20,
        .dtype = self->dtype,
    };
}

void options_fill_context(const options *self, eep_config *config_out)
{
    config_out->num_ranks = (int32_t)self->num_ranks;
    config_out->max_ranks = (int32_t)self->max_ranks;
    config_out->num_layers = (int32_t)self->num_layers;
    config_out->num_experts = (int32_t)self->num_experts;
    config_out->num_slots = (int32_t)self->num_slots;
    config_out->top_k = (int32_t)self->top_k;
    config_out->hidden = (int32_t)self->hidden;
    config_out->num_max_tokens_per_rank = (int32_t)self->num_max_tokens_per_rank;
    config_out->dtype = self->dtype;
    config_out->log_level = self->log_level;
    config_out->kill_fence = (int32_t)self->kill_fence;
    config_out->expel_floor_us = (uint64_t)self->expel_ms * 1000;
    config_out->step_deadline_us = (uint64_t)self->step_deadline_ms * 1000;
    config_out->drain_bound_us = (uint64_t)self->drain_bound_ms * 1000;
    config_out->background_bytes_per_s = (uint64_t)self->background_mb_s * 1000000;
}

/* The integers of the rank text, in order. */
/* clang-format off */
#define RANK_FIELDS(X) \
    X(num_ranks) \
    X(max_ranks) \
    X(num_layers) \
    X(hidden) \
    X(inner) \
    X(num_experts) \
    X(num_slots) \
    X(top_k) \
    X(vocabulary) \
    X(num_max_tokens_per_rank) \
    X(prefill_chunk) \
    X(num_max_requests) \
    X(seed) \
    X(kill_fence) \
    X(expel_ms) \
    X(step_deadline_ms) \
    X(drain_bound_ms) \
    X(background_mb_s) \
    X(ballast_mb)
/* clang-format on */

void options_to_rank_text(const options *self, char text_out[OPTIONS_RANK_TEXT_BYTES])
{
    int used = 0;
#define PRINT(field)                                                                               \
    used += snprintf(text_out + used, (size_t)(OPTIONS_RANK_TEXT_BYTES - used), "%" PRId64 " ",    \
                     self->field);
    RANK_FIELDS(PRINT)
#undef PRINT
    snprintf(text_out + used, (size_t)(OPTIONS_RANK_TEXT_BYTES - used), "%d %d %d %d",
             (int)self->dtype, self->corrupt, (int)self->log_level,
             strcmp(self->device, "cuda") == 0);
}

eep_status options_from_rank_text(const char *text, options *options_out)
{
    int dtype = 0, log_level = 0, cuda = 0, used = 0;
    options_begin(options_out);
#define SCAN(field)                                                                                \
    if (sscanf(text, "%" SCNd64 "%n", &options_out->field, &used) != 1) {                          \
        return EEP_ERR_PROTOCOL;                                                                   \
    }                                                                                              \
    text += used;
    RANK_FIELDS(SCAN)
#undef SCAN
    if (sscanf(text, "%d %d %d %d", &dtype, &options_out->corrupt, &log_level, &cuda) != 4) {
        return EEP_ERR_PROTOCOL;
    }
    options_out->dtype = (eep_dtype)dtype;
    options_out->log_level = (eep_log_level)log_level;
    options_out->device = cuda ? "cuda" : "host";
    return EEP_OK;
}

uint64_t options_expert_bytes(const options *self)
{
    return (uint64_t)(3 * self->hidden * self->inner) * sizeof(float);
}

uint64_t options_memory_bytes(const options *self, uint64_t window_bytes)
{
    const uint64_t fixed_bytes = 24u << 20; /* program, stacks, tables, step buffers */
    uint64_t expert = options_expert_bytes(self) * (uint64_t)self->num_layers;
    uint64_t slots = (uint64_t)self->num_slots * expert;
    uint64_t dense =
        (uint64_t)(self->hidden * (2 * self->vocabulary + self->num_layers * self->num_experts)) *
        sizeof(float);
    uint64_t rank = slots + dense + window_bytes + fixed_bytes;
    rank += (uint64_t)self->ballast_mb << 20;
    return (uint64_t)self->num_ranks * rank + 2 * (uint64_t)self->num_experts * expert;
}
