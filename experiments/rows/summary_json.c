/* SPDX-License-Identifier: Apache-2.0 */
/* A summary as summary.json and as the table on the screen. */
#include "experiments/base/run_file.h"
#include "experiments/rows/about.h"
#include "experiments/rows/placements.h"
#include "experiments/rows/summary.h"
#include "experiments/rows/summary_events.h"
#include "experiments/base/commit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>

enum { REASON_BYTES = 512 };
static const double SATURATED = 0.9; /* of all CPU time */

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

bool summary_is_good(const summary *self, const summary_oracle *oracle)
{
    const scheduler_counts *requests = &self->requests;
    if (oracle && (!oracle->ran || oracle->tokens_wrong || oracle->digests_wrong ||
                   oracle->tokens_missing || oracle->tokens_doubled)) {
        return false;
    }
    return requests->lost == 0 && requests->accepted == requests->completed + requests->failed &&
           self->captures_healthy == 0 && self->rows_complete && !self->broken;
}

/* Why it is not good, the gravest first; "": it is. */
static void say_reason(const summary *self, const summary_oracle *oracle, char *text, size_t size)
{
    const scheduler_counts *requests = &self->requests;
    uint32_t unfinished = requests->queued + requests->running;
    bool differs = oracle && oracle->ran &&
                   (oracle->tokens_wrong || oracle->digests_wrong || oracle->tokens_missing ||
                    oracle->tokens_doubled);
    *text = '\0';
    if (differs) {
        snprintf(text, size, "the oracle found tokens wrong, missing or doubled");
    } else if (self->broken) {
        snprintf(text, size, "%s",
                 self->broken_why && *self->broken_why ? self->broken_why
                                                       : "the run did not come to its end");
    } else if (requests->lost) {
        snprintf(text, size, "%u requests were lost: nobody was left to serve them",
                 requests->lost);
    } else if (requests->accepted != requests->completed + requests->failed) {
        snprintf(text, size, "%u requests did not come to their end", unfinished);
    } else if (self->captures_healthy) {
        snprintf(text, size, "%" PRIu64 " graphs were captured on ranks that had joined",
                 self->captures_healthy);
    } else if (!self->rows_complete) {
        snprintf(text, size, "rows were dropped: out of memory");
    } else if (oracle && !oracle->ran) {
        snprintf(text, size, "%s",
                 oracle->interrupted ? "the oracle was not asked: interrupted"
                                     : "the oracle gave no answer");
    }
}

static const char *oracle_state(const summary_oracle *oracle)
{
    return !oracle               ? "not asked (--no-oracle)"
           : oracle->ran         ? "answered"
           : oracle->interrupted ? "not checked: interrupted"
                                 : "gave no answer";
}

/* ---------------------------------------------------------------- summary.json */

/* What was not measured is null: a zero would count as a very good time. */
static void add_known_ms(cJSON *object, const char *name, double value, bool known)
{
    if (known) {
        run_file_add_ms(object, name, value);
    } else {
        cJSON_AddNullToObject(object, name);
    }
}

static void add_rate(cJSON *object, const char *name, double value)
{
    add_known_ms(object, name, value, value >= 0);
}

static void add_requests(cJSON *root, const summary *self, const summary_oracle *oracle)
{
    const scheduler_counts *requests = &self->requests;
    run_file_add_count(root, "tokens_emitted", requests->tokens_emitted);
    if (oracle && oracle->ran) {
        run_file_add_count(root, "tokens_wrong", (uint64_t)oracle->tokens_wrong);
        run_file_add_count(root, "digests_wrong", (uint64_t)oracle->digests_wrong);
        run_file_add_count(root, "tokens_missing", (uint64_t)oracle->tokens_missing);
        run_file_add_count(root, "tokens_doubled", (uint64_t)oracle->tokens_doubled);
        run_file_add_ms(root, "oracle_seconds", oracle->seconds);
    } else {
        cJSON_AddNullToObject(root, "tokens_wrong");
    }
    run_file_add_count(root, "tokens_refused", requests->tokens_refused);
    run_file_add_count(root, "requests_accepted", requests->accepted);
    run_file_add_count(root, "requests_completed", requests->completed);
    run_file_add_count(root, "requests_failed", requests->failed);
    run_file_add_count(root, "requests_lost", requests->lost);
    run_file_add_count(root, "reprefill_tokens", self->reprefill_tokens);
    run_file_add_count(root, "positions_aborted", self->positions_aborted);
}

static void add_quantiles(cJSON *root, const char *name, const summary_quantiles *quantiles)
{
    cJSON *object = cJSON_AddObjectToObject(root, name);
    run_file_add_count(object, "n", quantiles->num);
    add_known_ms(object, "p50", quantiles->p50, quantiles->num > 0);
    add_known_ms(object, "p99", quantiles->p99, quantiles->num > 0);
    add_known_ms(object, "max", quantiles->max, quantiles->num > 0);
}

static void add_fault(cJSON *array, const summary_fault *fault)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddItemToArray(array, object);
    cJSON_AddNumberToObject(object, "rank", fault->seat);
    run_file_add_count(object, "generation", fault->generation);
    cJSON_AddStringToObject(object, "kind", fault->kind);
    run_file_add_ms(object, "time_ms", fault->time_ms);
    static const char *const names[] = {"detect_ms", "agree_ms", "repair_ms", "rerun_ms",
                                        "pause_ms"};
    const double values[] = {fault->detect_ms, fault->agree_ms, fault->repair_ms, fault->rerun_ms,
                             fault->pause_ms};
    for (int i = 0; i < 5; i++) {
        add_known_ms(object, names[i], values[i], fault->healed);
    }
    cJSON_AddNumberToObject(object, "survivors", fault->num_survivors);
    cJSON_AddBoolToObject(object, "expelled", fault->expelled);
    add_quantiles(object, "detections", &fault->detections);
    add_known_ms(object, "launcher_lag_ms", fault->launcher_lag_ms, fault->healed);
    cJSON_AddBoolToObject(object, "served", fault->served);
    if (fault->signal) {
        cJSON_AddNumberToObject(object, "signal", fault->signal);
    } else {
        cJSON_AddNullToObject(object, "signal");
    }
    if (fault->healed) {
        run_file_add_count(object, "epoch", fault->epoch);
    } else {
        cJSON_AddNullToObject(object, "epoch");
    }
    run_file_add_count(object, "weights_bytes_in_pause", fault->weights_bytes_in_pause);
    source_mix_to_json(&fault->sources, object);
}

static void add_join(cJSON *array, const summary_join *join)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddItemToArray(array, object);
    cJSON_AddNumberToObject(object, "rank", join->seat);
    run_file_add_count(object, "generation", join->generation);
    cJSON_AddBoolToObject(object, "joined", join->joined);
    run_file_add_ms(object, "time_ms", join->time_ms);
    add_known_ms(object, "prepare_ms", join->prepare_ms, join->ready);
    add_known_ms(object, "join_ms", join->join_ms, join->joined);
    static const char *const names[] = {"spawn_ms", "open_ms", "load_ms", "capture_ms"};
    const double parts[] = {join->spawn_ms, join->open_ms, join->load_ms, join->capture_ms};
    for (int i = 0; i < 4; i++) {
        add_known_ms(object, names[i], parts[i], join->prepared);
    }
    add_known_ms(object, "enter_ms", join->enter_ms, join->prepared && join->joined);
    add_known_ms(object, "first_step_ms", join->first_step_ms, join->first_step_ms >= 0);
    add_known_ms(object, "first_token_ms", join->first_token_ms, join->first_token_ms >= 0);
    add_known_ms(object, "longest_healthy_step_ms", join->longest_healthy_step_ms,
                 join->num_healthy_steps > 0);
    add_known_ms(object, "median_step_ms", join->median_step_ms, join->num_healthy_steps > 0);
}

static void add_run(cJSON *root, const summary *self, const options *given)
{
    struct utsname machine = {0};
    uname(&machine);
    run_file_add_ms(root, "duration_ms", self->duration_ms);
    run_file_add_count(root, "window_bytes", self->window_bytes);
    if (self->machine.num_cpus) {
        cJSON *cpu = cJSON_AddObjectToObject(root, "cpu");
        cJSON_AddNumberToObject(cpu, "cpus", self->machine.num_cpus);
        run_file_add_ms(cpu, "own", self->machine.own);
        run_file_add_ms(cpu, "others", self->machine.others);
    } else {
        cJSON_AddNullToObject(root, "cpu");
    }
    cJSON *survives = cJSON_AddObjectToObject(root, "survives");
    if (self->cover.num_ranks) {
        cJSON_AddNumberToObject(survives, "single", self->cover.num_single);
        cJSON_AddNumberToObject(survives, "adjacent", self->cover.adjacent);
    } else {
        cJSON_AddNullToObject(survives, "single");
        cJSON_AddNullToObject(survives, "adjacent");
    }
    cJSON_AddStringToObject(root, "baseline", options_baseline_name(given));
    about_to_json(root, given, self->start_ns);
    run_file_add_count(root, "seed", (uint64_t)given->seed);
    cJSON_AddStringToObject(root, "commit", commit_text());
    run_file_add_count(root, "ranks", (uint64_t)given->num_ranks);
    run_file_add_count(root, "max_ranks", (uint64_t)given->max_ranks);
    run_file_add_count(root, "num_layers", (uint64_t)given->num_layers);
    run_file_add_count(root, "num_experts", (uint64_t)given->num_experts);
    run_file_add_count(root, "num_slots", (uint64_t)given->num_slots);
    cJSON_AddStringToObject(root, "device", given->device);
    cJSON_AddStringToObject(root, "dtype", options_dtype_name(given));
    cJSON *versions = cJSON_AddObjectToObject(root, "versions");
    cJSON_AddStringToObject(versions, "eep", TEXT(EEP_VERSION_MAJOR) "." TEXT(EEP_VERSION_MINOR));
    cJSON_AddStringToObject(versions, "compiler", __VERSION__);
    cJSON_AddStringToObject(versions, "kernel", machine.release);
}

static cJSON *to_json(const summary *self, const summary_oracle *oracle, const options *given)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "schema", 3);
    cJSON_AddBoolToObject(root, "good", summary_is_good(self, oracle));
    char reason[REASON_BYTES];
    say_reason(self, oracle, reason, sizeof reason);
    if (*reason) {
        cJSON_AddStringToObject(root, "reason", reason);
    } else {
        cJSON_AddNullToObject(root, "reason");
    }
    cJSON_AddStringToObject(root, "oracle", oracle_state(oracle));
    add_requests(root, self, oracle);
    add_quantiles(root, "request_stall_ms", &self->request_stall_ms);
    add_quantiles(root, "step_ms", &self->step_ms);
    add_quantiles(root, "launcher_lag_ms", &self->launcher_lag_ms);
    run_file_add_count(root, "steps_ok", self->steps_ok);
    run_file_add_count(root, "steps_aborted", self->steps_aborted);
    cJSON *captures = cJSON_AddObjectToObject(root, "captures_after_start");
    run_file_add_count(captures, "healthy", self->captures_healthy);
    run_file_add_count(captures, "joining", self->captures_joining);
    run_file_add_count(root, "stale_dropped", self->stale_dropped);
    run_file_add_count(root, "routed", self->routed);
    cJSON_AddNumberToObject(root, "hottest_expert", self->hottest_expert);
    run_file_add_count(root, "steps_aborted_by_join", self->steps_aborted_by_join);
    run_file_add_count(root, "steps_waiting_on_join", self->steps_waiting_on_join);
    run_file_add_count(root, "weights_bytes_in_pause", self->weights_bytes_in_pause);
    run_file_add_count(root, "weights_bytes_background", self->weights_bytes_background);
    run_file_add_count(root, "weights_bytes_own_node", self->weights_bytes_own_node);
    run_file_add_count(root, "weights_bytes_other_rank", self->weights_bytes_other_rank);
    run_file_add_count(root, "weights_bytes_file", self->weights_bytes_file);
    source_mix_to_json(&self->sources, root);
    cJSON *detection = cJSON_AddObjectToObject(root, "detection_ms");
    add_quantiles(detection, "kill", &self->detection_kill_ms);
    add_quantiles(detection, "stop", &self->detection_stop_ms);
    run_file_add_count(root, "expelled_living", self->expelled_living);
    run_file_add_count(root, "zombies_evicted", self->zombies_evicted);
    run_file_add_count(root, "killed_outside", self->killed_outside);
    summary_events_add(root, self->events, self->num_events, self->orders_open);
    placements_add(root, self->placements, self->num_placements, self->start_ns);
    cJSON *faults = cJSON_AddArrayToObject(root, "faults");
    for (size_t i = 0; i < self->num_faults; i++) {
        add_fault(faults, &self->faults[i]);
    }
    cJSON *joins = cJSON_AddArrayToObject(root, "joins");
    for (size_t i = 0; i < self->num_joins; i++) {
        add_join(joins, &self->joins[i]);
    }
    summary_restart_add(root, self->restarts, self->num_restarts);
    cJSON *throughput = cJSON_AddObjectToObject(root, "throughput");
    add_rate(throughput, "before", self->throughput_before);
    add_rate(throughput, "degraded", self->throughput_degraded);
    add_rate(throughput, "after", self->throughput_after);
    add_known_ms(throughput, "back_ms", self->back_ms, self->back_ms >= 0);
    add_run(root, self, given);
    return root;
}

cJSON *summary_sample(void)
{
    summary_fault fault = {.kind = "kill", .healed = true, .served = true};
    summary_join join = {.joined = true, .ready = true, .prepared = true, .num_healthy_steps = 1};
    summary_restart restart = {.served = true};
    record_event event = {.was_due = true};
    const record_placement placement = {.number = 1, .in_force_ns = 1, .reached_ns = 1};
    const summary_oracle oracle = {.ran = true};
    options given;
    options_set_defaults(&given);
    const summary all = {.cover = {.num_ranks = 1},
                         .faults = &fault,
                         .num_faults = 1,
                         .joins = &join,
                         .num_joins = 1,
                         .restarts = &restart,
                         .num_restarts = 1,
                         .events = &event,
                         .num_events = 1,
                         .placements = &placement,
                         .num_placements = 1};
    cJSON *root = to_json(&all, &oracle, &given);
    options_free(&given);
    return root;
}

eep_status summary_write(const summary *self, const summary_oracle *oracle, const options *given,
                         const char *dir)
{
    return run_file_write_json(to_json(self, oracle, given), dir, "summary.json");
}

/* ---------------------------------------------------------------- the table */

static void print_detections(const char *name, const summary_quantiles *ms)
{
    if (ms->num) {
        printf("  a %s was known to each survivor after: ms p50 %.1f, p99 %.1f, max %.1f (n %zu)\n",
               name, ms->p50, ms->p99, ms->max, ms->num);
    }
}

static void print_faults(const summary *self)
{
    double *pauses = calloc(self->num_faults + 1, sizeof *pauses);
    size_t num = 0;
    printf("\n  %-5s %-4s %-8s %9s %9s %9s %9s %9s %9s %8s %12s\n", "fault", "rank", "kind", "at s",
           "pause ms", "detect", "agree", "repair", "rerun", "seen +ms", "weight bytes");
    for (size_t i = 0; i < self->num_faults; i++) {
        const summary_fault *fault = &self->faults[i];
        printf("  %-5zu %-4d %-8s %9.3f", i + 1, fault->seat, fault->kind, fault->time_ms / 1e3);
        if (fault->healed) {
            printf(" %9.1f %9.1f %9.1f %9.1f %9.1f %8.1f %12" PRIu64 "\n", fault->pause_ms,
                   fault->detect_ms, fault->agree_ms, fault->repair_ms, fault->rerun_ms,
                   fault->launcher_lag_ms, fault->weights_bytes_in_pause);
        } else {
            puts(!fault->served       ? "  (it did not serve yet: nobody waited for it)"
                 : self->num_restarts ? "  (all ranks were started again: below)"
                 : fault->expelled    ? "  (no survivor went on after it)"
                                      : "  (it was not expelled)");
        }
        if (pauses && fault->healed) {
            pauses[num++] = fault->pause_ms;
        }
    }
    if (num > 1) {
        summary_quantiles pause = summary_quantiles_of(pauses, num);
        printf("  pause over %zu faults: p50 %.1f ms, p99 %.1f ms, max %.1f ms\n", num, pause.p50,
               pause.p99, pause.max);
    }
    free(pauses);
    if (self->killed_outside) {
        printf("  killed from outside, by no event of the script: %" PRIu64 "\n",
               self->killed_outside);
    }
    print_detections("kill", &self->detection_kill_ms);
    print_detections("stop", &self->detection_stop_ms);
    if (self->expelled_living || self->zombies_evicted) {
        printf("  expelled while they lived, for no fault of the script: %" PRIu64
               "; expelled ones that saw it and ended: %" PRIu64 "\n",
               self->expelled_living, self->zombies_evicted);
    }
}

static void print_joins(const summary *self)
{
    printf("\n  %-5s %-4s %-4s %9s %11s %11s %24s %15s\n", "join", "rank", "gen", "at s",
           "prepare ms", "in view ms", "longest healthy step ms", "median step ms");
    for (size_t i = 0; i < self->num_joins; i++) {
        const summary_join *join = &self->joins[i];
        printf("  %-5zu %-4d %-4u %9.3f ", i + 1, join->seat, join->generation,
               join->time_ms / 1e3);
        if (join->ready) {
            printf("%11.1f ", join->prepare_ms);
        } else {
            printf("%11s ", "-");
        }
        if (join->joined) {
            printf("%11.1f %24.1f %15.1f\n", join->join_ms, join->longest_healthy_step_ms,
                   join->median_step_ms);
        } else {
            puts("  (never joined)");
        }
    }
}

static void print_rate(const char *name, double rate)
{
    if (rate < 0) {
        printf(" %s -", name);
    } else {
        printf(" %s %.0f", name, rate);
    }
}

/* Near its limit the machine sets the time of a step, and not what is measured in it. */
static void print_machine(const machine_use *self)
{
    if (self->num_cpus) {
        bool full = self->own + self->others >= SATURATED;
        printf("  machine    %d CPUs: %.0f %% used by this run, %.0f %% by others%s\n",
               self->num_cpus, 100 * self->own, 100 * self->others,
               full ? ": saturated, so steps take as long as the load makes them" : "");
    }
}

void summary_print(const summary *self, const summary_oracle *oracle)
{
    const scheduler_counts *requests = &self->requests;
    if (self->is_restarting) {
        puts("\n  baseline   restart: membership is fixed; a fault restarts all ranks");
    }
    printf("\n  requests   %u accepted = %u completed + %u failed; %u lost, %u unfinished\n",
           requests->accepted, requests->completed, requests->failed, requests->lost,
           requests->queued + requests->running);
    printf("  tokens     %" PRIu64 " emitted, %" PRIu64 " refused by the sink; %" PRIu64
           " positions of emitted tokens prefilled again, %" PRIu64 " in aborted steps\n",
           requests->tokens_emitted, requests->tokens_refused, self->reprefill_tokens,
           self->positions_aborted);
    if (oracle && oracle->ran) {
        printf("  oracle     %" PRId64 " checked: %" PRId64 " wrong, %" PRId64
               " digests wrong, %" PRId64 " missing, %" PRId64 " doubled (%.1f s)\n",
               oracle->tokens_checked, oracle->tokens_wrong, oracle->digests_wrong,
               oracle->tokens_missing, oracle->tokens_doubled, oracle->seconds);
    } else {
        printf("  oracle     %s\n", oracle_state(oracle));
    }
    printf("  steps      %" PRIu64 " ok, %" PRIu64 " aborted; ms p50 %.2f, p99 %.2f, max %.2f\n",
           self->steps_ok, self->steps_aborted, self->step_ms.p50, self->step_ms.p99,
           self->step_ms.max);
    printf("  launcher   read the report of a step after: ms p50 %.1f, p99 %.1f, max %.1f\n",
           self->launcher_lag_ms.p50, self->launcher_lag_ms.p99, self->launcher_lag_ms.max);
    printf("  stalls     longest gap between tokens of a request: ms p50 %.1f, p99 %.1f\n",
           self->request_stall_ms.p50, self->request_stall_ms.p99);
    printf("  captures   %" PRIu64 " on healthy ranks, %" PRIu64 " on joining ranks\n",
           self->captures_healthy, self->captures_joining);
    printf("  joins      %" PRIu64 " steps aborted by one, %" PRIu64 " steps waiting on one\n",
           self->steps_aborted_by_join, self->steps_waiting_on_join);
    printf("  windows    %.1f MB per rank; %" PRIu64 " stale messages dropped\n",
           (double)self->window_bytes / 1e6, self->stale_dropped);
    printf("  loads      %" PRIu64 " pairs of token and expert counted; hottest expert %.1f times "
           "the mean of its layer\n",
           self->routed, self->hottest_expert);
    source_mix_print(&self->sources);
    print_machine(&self->machine);
    fputs("  tokens/s  ", stdout);
    print_rate("before", self->throughput_before);
    print_rate("degraded", self->throughput_degraded);
    print_rate("after", self->throughput_after);
    puts("");
    summary_events_print(self->events, self->num_events, self->orders_open);
    placements_print(self->placements, self->num_placements, self->start_ns);
    if (self->num_faults) {
        print_faults(self);
    }
    if (self->num_joins) {
        print_joins(self);
    }
    summary_restart_print(self->restarts, self->num_restarts);
    char reason[REASON_BYTES];
    say_reason(self, oracle, reason, sizeof reason);
    if (summary_is_good(self, oracle)) {
        puts("\n  GOOD: nothing wrong, nothing lost");
    } else {
        printf("\n  NOT GOOD: %s%s\n",
               self->broken && !self->came_to_end ? "the run did not come to its end: " : "",
               reason);
    }
}
