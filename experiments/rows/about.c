/* SPDX-License-Identifier: Apache-2.0 */
/* How a run was made: by which command, of what, with what load and limits, where and when. */
#include "experiments/rows/about.h"

#include "experiments/base/commit.h"
#include "experiments/base/machine_facts.h"
#include "experiments/base/monotonic.h"
#include "experiments/base/run_file.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---------------------------------------------------------------- text */

static const char PLAIN[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-";

static void put_word(FILE *file, const char *word)
{
    if (*word && word[strspn(word, PLAIN)] == '\0') {
        fputs(word, file);
        return;
    }
    fputc('\'', file);
    for (; *word; word++) {
        if (*word == '\'') {
            fputs("'\\''", file);
        } else {
            fputc(*word, file);
        }
    }
    fputc('\'', file);
}

char *about_command(int argc, char *const *argv)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    for (int i = 0; file && i < argc; i++) {
        fputs(i ? " " : "", file);
        put_word(file, argv[i]);
    }
    return file && fclose(file) == 0 ? text : NULL;
}

char *about_head(const options *given)
{
    char *text = NULL;
    if (asprintf(&text, "# commit %s\n# seed %" PRId64 "\n# command ", commit_text(), given->seed) <
        0) {
        return NULL;
    }
    const char *command = given->command ? given->command : "unknown";
    const size_t head = strlen(text), bytes = strlen(command);
    char *whole = realloc(text, head + bytes + sizeof "\n");
    if (!whole) {
        free(text);
        return NULL;
    }
    for (size_t i = 0; i < bytes; i++) { /* it is one line, whatever an argument holds */
        whole[head + i] = (char)((unsigned char)command[i] < ' ' ? '?' : command[i]);
    }
    memcpy(whole + head + bytes, "\n", sizeof "\n");
    return whole;
}

/* ---------------------------------------------------------------- summary.json */

static void add_text(cJSON *object, const char *name, const char *text)
{
    if (text && *text) {
        cJSON_AddStringToObject(object, name, text);
    } else {
        cJSON_AddNullToObject(object, name);
    }
}

/* A number that is given; 0 stands for none. */
static void add_some(cJSON *object, const char *name, double value)
{
    if (value > 0) {
        cJSON_AddNumberToObject(object, name, value);
    } else {
        cJSON_AddNullToObject(object, name);
    }
}

static void add_numbers(cJSON *object, const char *const *names, const int64_t *values, int num)
{
    for (int i = 0; i < num; i++) {
        run_file_add_count(object, names[i], (uint64_t)values[i]);
    }
}

/* "2026-03-01T12:00:00.250Z" */
static void add_start(cJSON *root, uint64_t start_ns)
{
    struct timespec now;
    struct tm utc;
    char text[64] = "", second[40];
    if (start_ns && clock_gettime(CLOCK_REALTIME, &now) == 0) {
        const int64_t ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 -
                           (int64_t)(now_ns() - start_ns) / 1000000;
        const time_t seconds = (time_t)(ms / 1000);
        if (ms > 0 && gmtime_r(&seconds, &utc) &&
            strftime(second, sizeof second, "%Y-%m-%dT%H:%M:%S", &utc)) {
            snprintf(text, sizeof text, "%s.%03dZ", second, (int)(ms % 1000));
        }
    }
    add_text(root, "started_at", text);
}

static void add_scenario(cJSON *root, const options *given)
{
    if (!given->scenario_path) {
        cJSON_AddNullToObject(root, "scenario");
        return;
    }
    cJSON *scenario = cJSON_AddObjectToObject(root, "scenario");
    add_text(scenario, "name", given->scenario_name);
    add_text(scenario, "file", given->scenario_path);
}

static void add_fraction(cJSON *object, const char *name, const trace_fraction *fraction)
{
    const double scale = fraction->den ? (double)fraction->num / (double)fraction->den : 1.0;
    cJSON_AddNumberToObject(object, name, scale);
}

static void add_trace(cJSON *load, const options *given)
{
    if (!given->trace_path) {
        cJSON_AddNullToObject(load, "trace");
        return;
    }
    cJSON *of = cJSON_AddObjectToObject(load, "trace");
    add_text(of, "file", given->trace_path);
    add_some(of, "first", (double)given->trace.first);
    add_fraction(of, "scale_lengths", &given->trace.scale_lengths);
    add_fraction(of, "scale_time", &given->trace.scale_time);
    add_text(of, "start", given->trace.start == TRACE_START_FIRST ? "first" : "0");
}

static void add_range(cJSON *object, const char *name, uint32_t min, uint32_t max)
{
    const int both[2] = {(int)min, (int)max};
    cJSON_AddItemToObject(object, name, cJSON_CreateIntArray(both, 2));
}

static void add_load(cJSON *root, const options *given)
{
    cJSON *load = cJSON_AddObjectToObject(root, "load");
    add_trace(load, given);
    run_file_add_count(load, "requests", (uint64_t)given->num_requests);
    cJSON_AddNumberToObject(load, "rate_per_s", given->rate_per_s);
    add_range(load, "input", given->input_min, given->input_max);
    add_range(load, "output", given->output_min, given->output_max);
    run_file_add_count(load, "keep_busy", (uint64_t)given->keep_busy);
    add_some(load, "keep_busy_s", given->keep_busy_s);
    add_some(load, "seconds", given->seconds);
    add_some(load, "max_seconds", given->max_seconds);
}

static void add_model(cJSON *root, const options *given)
{
    static const char *const names[] = {
        "num_layers",      "num_experts", "num_slots",     "hidden",           "inner",
        "top_k",           "vocabulary",  "router_skew",   "expert_us",        "ballast_mb",
        "tokens_per_rank", "chains",      "prefill_chunk", "requests_per_rank"};
    const int64_t values[] = {given->num_layers,
                              given->num_experts,
                              given->num_slots,
                              given->hidden,
                              given->inner,
                              given->top_k,
                              given->vocabulary,
                              given->router_skew,
                              given->expert_us,
                              given->ballast_mb,
                              given->num_max_tokens_per_rank,
                              given->num_chains,
                              given->prefill_chunk,
                              given->num_max_requests};
    static_assert(sizeof names / sizeof names[0] == sizeof values / sizeof values[0],
                  "one name each");
    cJSON *model = cJSON_AddObjectToObject(root, "model");
    add_numbers(model, names, values, sizeof values / sizeof values[0]);
    cJSON_AddStringToObject(model, "dtype", options_dtype_name(given));
    add_text(model, "checkpoint", given->checkpoint);
}

static void add_limits(cJSON *root, const options *given)
{
    static const char *const carriers[] = {"auto", "shm", "ucx"};
    static const char *const names[] = {
        "backups", "ranks_per_node", "spread", "background_mb_s", "background_latency_percent",
        "hosts_of"};
    const int64_t values[] = {given->backup_copies,   given->ranks_per_node,     given->spread,
                              given->background_mb_s, given->background_latency, given->hosts_of};
    static_assert(sizeof names / sizeof names[0] == sizeof values / sizeof values[0],
                  "one name each");
    cJSON *limits = cJSON_AddObjectToObject(root, "limits");
    cJSON_AddNumberToObject(limits, "expel_ms", given->expel_ms);
    cJSON_AddNumberToObject(limits, "step_deadline_ms", given->step_deadline_ms);
    cJSON_AddNumberToObject(limits, "drain_bound_ms", given->drain_bound_ms);
    cJSON_AddBoolToObject(limits, "kill_fence", !given->no_kill_fence);
    add_numbers(limits, names, values, sizeof values / sizeof values[0]);
    cJSON_AddStringToObject(limits, "bulk", carriers[given->bulk]);
    cJSON_AddBoolToObject(limits, "threads", given->threads);
    cJSON_AddBoolToObject(limits, "store_process", given->store_process);
}

static void add_machine(cJSON *root)
{
    const machine_facts facts = machine_facts_now();
    cJSON *machine = cJSON_AddObjectToObject(root, "machine");
    add_text(machine, "cpu", facts.cpu);
    cJSON_AddNumberToObject(machine, "cores", facts.num_cores);
    run_file_add_count(machine, "memory_bytes", facts.memory_bytes);
    add_text(machine, "kernel", facts.kernel);
    cJSON *gpus = cJSON_AddArrayToObject(machine, "gpus");
    for (int i = 0; i < facts.num_gpus; i++) {
        cJSON_AddItemToArray(gpus, cJSON_CreateString(facts.gpu[i]));
    }
}

void about_to_json(cJSON *root, const options *given, uint64_t start_ns)
{
    add_text(root, "command", given->command);
    add_start(root, start_ns);
    add_scenario(root, given);
    add_load(root, given);
    add_model(root, given);
    add_limits(root, given);
    add_machine(root);
}
