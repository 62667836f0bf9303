/* SPDX-License-Identifier: Apache-2.0 */
/* Traces: from a JSONL file, or drawn from a seeded Poisson process. */
#include "experiments/load/trace.h"
#include "experiments/base/random.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t FRACTION_MAX = 1000000000;

static __attribute__((format(printf, 2, 3))) void explain(char error[TRACE_ERROR_BYTES],
                                                          const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, TRACE_ERROR_BYTES, format, args);
    va_end(args);
}

/* ---------------------------------------------------------------- fractions */

/* Digits at *text, at most FRACTION_MAX; moves *text behind them. */
static bool parse_digits(const char **text, uint64_t *value_out)
{
    const char *p = *text;
    uint64_t value = 0;
    for (; *p >= '0' && *p <= '9' && value <= FRACTION_MAX; p++) {
        value = 10 * value + (uint64_t)(*p - '0');
    }
    if (p == *text || value > FRACTION_MAX) {
        return false;
    }
    *text = p;
    *value_out = value;
    return true;
}

eep_status trace_parse_fraction(const char *text, trace_fraction *fraction_out)
{
    trace_fraction f = {.den = 1};
    if (!parse_digits(&text, &f.num)) {
        return EEP_ERR_INVALID;
    }
    if (*text == '/') {
        text++;
        if (!parse_digits(&text, &f.den)) {
            return EEP_ERR_INVALID;
        }
    } else if (*text == '.') {
        text++;
        const char *digits = text;
        uint64_t part;
        if (!parse_digits(&text, &part) || text - digits > 9) {
            return EEP_ERR_INVALID;
        }
        for (; digits < text; digits++) {
            f.den *= 10;
        }
        f.num = f.num * f.den + part;
    }
    while (f.num % 10 == 0 && f.den % 10 == 0 && f.num > 0) {
        f = (trace_fraction){f.num / 10, f.den / 10};
    }
    if (*text || f.num == 0 || f.den == 0 || f.num > FRACTION_MAX || f.den > FRACTION_MAX) {
        return EEP_ERR_INVALID;
    }
    *fraction_out = f;
    return EEP_OK;
}

/* A fraction of {0} stands for one. */
static trace_fraction or_one(trace_fraction f)
{
    return f.num && f.den ? f : (trace_fraction){1, 1};
}

static uint32_t scale_length(uint32_t length, trace_fraction f)
{
    uint64_t scaled = length * f.num / f.den; /* < 2^24 * 10^9 */
    if (scaled < 1) {
        return 1;
    }
    return scaled > TRACE_MAX_LENGTH ? TRACE_MAX_LENGTH : (uint32_t)scaled;
}

/* ---------------------------------------------------------------- one line */

/* Where an error is said to be. */
typedef struct place {
    const char *path;
    size_t line; /* from 1 */
    const char *text;
    size_t length;
    char *error;
} place;

static eep_status fail_at(const place *at, const char *what)
{
    explain(at->error, "%s:%zu: %s", at->path, at->line, what);
    return EEP_ERR_INVALID;
}

/* A number in [low, high], a whole one if asked. */
static eep_status read_number(const place *at, const cJSON *object, const char *name, double low,
                              double high, bool whole, double *value_out)
{
    char what[160];
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!member) {
        snprintf(what, sizeof what, "member \"%s\" is missing", name);
    } else if (!cJSON_IsNumber(member)) {
        snprintf(what, sizeof what, "\"%s\" is not a number", name);
    } else if (!(member->valuedouble >= low && member->valuedouble <= high)) {
        snprintf(what, sizeof what, "\"%s\" is %.15g, outside %.0f..%.0f", name,
                 member->valuedouble, low, high);
    } else if (whole && member->valuedouble != floor(member->valuedouble)) {
        snprintf(what, sizeof what, "\"%s\" is not a whole number", name);
    } else {
        *value_out = member->valuedouble;
        return EEP_OK;
    }
    return fail_at(at, what);
}

static eep_status read_members(const place *at, const cJSON *object, const trace_options *options,
                               trace_request *request_out)
{
    double timestamp, input, output;
    eep_status status =
        read_number(at, object, "timestamp", 0, TRACE_MAX_TIMESTAMP_MS, false, &timestamp);
    if (status == EEP_OK) {
        status = read_number(at, object, "input_length", 1, TRACE_MAX_LENGTH, true, &input);
    }
    if (status == EEP_OK) {
        status = read_number(at, object, "output_length", 1, TRACE_MAX_LENGTH, true, &output);
    }
    if (status != EEP_OK) {
        return status;
    }
    trace_fraction lengths = or_one(options->scale_lengths), time = or_one(options->scale_time);
    double arrival_us = timestamp * 1000.0 * (double)time.num / (double)time.den;
    double most_us = 1000.0 * (options->start == TRACE_START_ZERO ? TRACE_MAX_ARRIVAL_MS
                                                                  : TRACE_MAX_TIMESTAMP_MS);
    if (arrival_us > most_us && options->start == TRACE_START_ZERO) {
        char what[200];
        snprintf(what, sizeof what,
                 "\"timestamp\" is %.0f ms after the start, which is more than 31 years: "
                 "--trace-start first counts from the earliest one",
                 arrival_us / 1000.0);
        return fail_at(at, what);
    }
    if (arrival_us > most_us) {
        return fail_at(at, "\"timestamp\" is too large once scaled");
    }
    *request_out = (trace_request){
        .arrival_us = (uint64_t)arrival_us,
        .input_length = scale_length((uint32_t)input, lengths),
        .output_length = scale_length((uint32_t)output, lengths),
    };
    return EEP_OK;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static eep_status read_line(const place *at, const trace_options *options,
                            trace_request *request_out)
{
    const char *end = at->text;
    const unsigned char *bytes = (const unsigned char *)at->text;
    if (at->line == 1 && at->length >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b) {
        return fail_at(at, "a gzip file: unpack it first (gunzip)");
    }
    if (at->line == 1 && at->length >= 2 &&
        ((bytes[0] == 0xff && bytes[1] == 0xfe) || (bytes[0] == 0xfe && bytes[1] == 0xff))) {
        return fail_at(at, "UTF-16 text: a trace is UTF-8 (iconv -f utf-16 -t utf-8)");
    }
    if (memchr(at->text, 0, at->length)) {
        return fail_at(at, "a zero byte");
    }
    cJSON *object = cJSON_ParseWithLengthOpts(at->text, at->length, &end, 0);
    size_t offset = (size_t)(end - at->text);
    if (!object) {
        char what[64];
        snprintf(what, sizeof what, "malformed JSON at byte %zu", offset + 1);
        return fail_at(at, what);
    }
    eep_status status;
    while (offset < at->length && is_space(at->text[offset])) {
        offset++;
    }
    if (offset < at->length) {
        status = fail_at(at, "something follows the JSON object");
    } else if (!cJSON_IsObject(object)) {
        status = fail_at(at, "not a JSON object");
    } else {
        status = read_members(at, object, options, request_out);
    }
    cJSON_Delete(object);
    return status;
}

/* ---------------------------------------------------------------- the whole file */

static bool append(trace *t, size_t *capacity, trace_request request)
{
    if (t->num_requests == *capacity) {
        size_t larger = *capacity ? 2 * *capacity : 1024;
        trace_request *grown = realloc(t->requests, larger * sizeof *grown);
        if (!grown) {
            return false;
        }
        t->requests = grown;
        *capacity = larger;
    }
    t->requests[t->num_requests++] = request;
    return true;
}

/* Stable, and cheap for a file that is already in order. */
static void sort_by_arrival(trace *t, trace_request *spare)
{
    trace_request *from = t->requests, *to = spare;
    for (size_t width = 1; width < t->num_requests; width *= 2) {
        for (size_t low = 0; low < t->num_requests; low += 2 * width) {
            size_t n = t->num_requests;
            size_t middle = low + width < n ? low + width : n;
            size_t high = low + 2 * width < n ? low + 2 * width : n;
            size_t a = low, b = middle;
            for (size_t i = low; i < high; i++) {
                bool left = a < middle && (b == high || from[a].arrival_us <= from[b].arrival_us);
                to[i] = left ? from[a++] : from[b++];
            }
        }
        trace_request *swap = from;
        from = to;
        to = swap;
    }
    if (from != t->requests) {
        memcpy(t->requests, from, t->num_requests * sizeof *from);
    }
}

/* The next line with its '\n', if it has one, and a NUL, into `line` (TRACE_MAX_LINE_BYTES + 2).
 * Its length, 0 at the end of the file or if that cannot be read; > TRACE_MAX_LINE_BYTES + 1: it is
 * too long. getline() would fill all memory with a file that never ends. */
static size_t next_line(FILE *file, char *line)
{
    size_t length = 0;
    int c = 0;
    while (c != '\n' && (c = getc_unlocked(file)) != EOF) {
        if (length == TRACE_MAX_LINE_BYTES && c != '\n') {
            return TRACE_MAX_LINE_BYTES + 2;
        }
        line[length++] = (char)c;
    }
    line[length] = '\0';
    return ferror(file) ? 0 : length;
}

static eep_status read_lines(FILE *file, const char *path, const trace_options *options, trace *t,
                             char *error)
{
    char *line = malloc(TRACE_MAX_LINE_BYTES + 2);
    size_t capacity = 0, number = 0;
    eep_status status = line ? EEP_OK : EEP_ERR_NO_MEMORY;
    if (!line) {
        explain(error, "%s: out of memory", path);
    }
    while (status == EEP_OK && (options->first == 0 || t->num_requests < options->first)) {
        size_t length = next_line(file, line);
        if (length == 0) {
            if (ferror(file)) {
                explain(error, "%s:%zu: cannot read: %s", path, number + 1, strerror(errno));
                status = EEP_ERR_SYSTEM;
            }
            break;
        }
        if (length > TRACE_MAX_LINE_BYTES + 1 || number == TRACE_MAX_LINES) {
            explain(error, "%s:%zu: %s%d %s", path, number + 1,
                    number == TRACE_MAX_LINES ? "more than " : "longer than ",
                    number == TRACE_MAX_LINES ? TRACE_MAX_LINES : TRACE_MAX_LINE_BYTES,
                    number == TRACE_MAX_LINES ? "lines: give a part of it"
                                              : "bytes: a trace has a line for each request");
            status = EEP_ERR_INVALID;
            break;
        }
        place at = {path, ++number, line, length, error};
        if (strspn(line, " \t\r\n") == at.length) {
            continue;
        }
        trace_request request = {0};
        status = read_line(&at, options, &request);
        if (status == EEP_OK && !append(t, &capacity, request)) {
            explain(error, "%s:%zu: out of memory", path, number);
            status = EEP_ERR_NO_MEMORY;
        }
    }
    free(line);
    return status;
}

/* Of a sorted trace: its first request comes at the start, if that is asked. */
static eep_status begin_at_start(trace *t, const char *path, const trace_options *options,
                                 char *error)
{
    uint64_t first_us = options->start == TRACE_START_FIRST ? t->requests[0].arrival_us : 0;
    uint64_t last_us = t->requests[t->num_requests - 1].arrival_us - first_us;
    if ((double)last_us > TRACE_MAX_ARRIVAL_MS * 1000.0) {
        explain(error, "%s: its timestamps are %.0f ms apart: more than 31 years", path,
                (double)last_us / 1000.0);
        return EEP_ERR_INVALID;
    }
    for (size_t i = 0; i < t->num_requests; i++) {
        t->requests[i].arrival_us -= first_us;
    }
    t->shift_ms = (double)first_us / 1000.0;
    return EEP_OK;
}

eep_status trace_load(const char *path, const trace_options *options, trace *trace_out,
                      char error_out[TRACE_ERROR_BYTES])
{
    trace t = {0};
    trace_request *spare = NULL;
    FILE *file = fopen(path, "re");
    if (!file) {
        explain(error_out, "%s: cannot open: %s", path, strerror(errno));
        return EEP_ERR_SYSTEM;
    }
    eep_status status = read_lines(file, path, options, &t, error_out);
    fclose(file);
    if (status == EEP_OK && t.num_requests == 0) {
        explain(error_out, "%s: no request in it", path);
        status = EEP_ERR_INVALID;
    }
    if (status == EEP_OK && !(spare = malloc(t.num_requests * sizeof *spare))) {
        explain(error_out, "%s: out of memory", path);
        status = EEP_ERR_NO_MEMORY;
    }
    if (status != EEP_OK) {
        trace_free(&t);
        return status;
    }
    sort_by_arrival(&t, spare);
    free(spare);
    status = begin_at_start(&t, path, options, error_out);
    if (status != EEP_OK) {
        trace_free(&t);
        return status;
    }
    *trace_out = t;
    return EEP_OK;
}

void trace_free(trace *t)
{
    free(t->requests);
    *t = (trace){0};
}

/* ---------------------------------------------------------------- Poisson arrivals */

/* Ranges are below 2^25, so the bias of the multiplication is below 2^-39. */
static uint32_t draw_between(uint64_t *state, uint32_t low, uint32_t high)
{
    return low + (uint32_t)((random_next(state) >> 32) * (uint64_t)(high - low + 1) >> 32);
}

static const char *poisson_fault(const trace_poisson *p)
{
    if (!(p->rate_per_s > 0 && p->rate_per_s <= 1e6)) {
        return "the arrival rate is outside 0..1e6 per second";
    }
    if (p->num_requests < 1 || p->num_requests > 100000000) {
        return "the number of requests is outside 1..100000000";
    }
    if (p->input_min < 1 || p->input_max > TRACE_MAX_LENGTH || p->input_min > p->input_max) {
        return "the range of input lengths is empty or outside 1..16777216";
    }
    if (p->output_min < 1 || p->output_max > TRACE_MAX_LENGTH || p->output_min > p->output_max) {
        return "the range of output lengths is empty or outside 1..16777216";
    }
    if ((double)p->num_requests / p->rate_per_s * 1000.0 > TRACE_MAX_ARRIVAL_MS / 10) {
        return "the arrivals take longer than the largest timestamp";
    }
    return NULL;
}

eep_status trace_draw_poisson(const trace_poisson *poisson, trace *trace_out,
                              char error_out[TRACE_ERROR_BYTES])
{
    const char *fault = poisson_fault(poisson);
    if (fault) {
        explain(error_out, "%s", fault);
        return EEP_ERR_INVALID;
    }
    trace_request *requests = malloc(poisson->num_requests * sizeof *requests);
    if (!requests) {
        explain(error_out, "out of memory for %zu requests", poisson->num_requests);
        return EEP_ERR_NO_MEMORY;
    }
    uint64_t state = poisson->seed;
    double arrival_us = 0;
    for (size_t i = 0; i < poisson->num_requests; i++) {
        double uniform = ((double)(random_next(&state) >> 11) + 0.5) * 0x1p-53; /* in (0, 1) */
        arrival_us += -log(uniform) / poisson->rate_per_s * 1e6;
        requests[i].arrival_us = (uint64_t)arrival_us;
        requests[i].input_length = draw_between(&state, poisson->input_min, poisson->input_max);
        requests[i].output_length = draw_between(&state, poisson->output_min, poisson->output_max);
    }
    *trace_out = (trace){.requests = requests, .num_requests = poisson->num_requests};
    return EEP_OK;
}
