/* SPDX-License-Identifier: Apache-2.0 */
/* The figures of a whole run: throughput, steps, joins, gaps. */
#include "experiments/rows/summary.h"

#include "experiments/rank/rank.h"
#include "experiments/rows/summary_events.h"
#include "experiments/rows/summary_fault.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static const uint64_t SETTLED_NS = 1000000000;    /* after a flip: still counted as its join */
static const uint64_t WARM_NS = 500000000;        /* after the start: not counted as throughput */
static const uint64_t BACK_WINDOW_NS = 500000000; /* in which throughput is back, */
static const double BACK_SHARE = 0.95;            /* at so much of what it was */
static const double SHORTEST_MS = 100;            /* less is no time to measure throughput in */

static double ms(uint64_t from_ns, uint64_t to_ns)
{
    return (double)(int64_t)(to_ns - from_ns) / 1e6;
}

/* ---------------------------------------------------------------- quantiles */

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

summary_quantiles summary_quantiles_of(double *values, size_t num)
{
    if (num == 0) {
        return (summary_quantiles){0};
    }
    qsort(values, num, sizeof *values, compare_doubles);
    return (summary_quantiles){.num = num,
                               .p50 = values[(50 * num + 99) / 100 - 1],
                               .p99 = values[(99 * num + 99) / 100 - 1],
                               .max = values[num - 1]};
}

/* ---------------------------------------------------------------- joins */

/* Its own first step and first token: by its generation, so that an older process of the seat is
 * not meant. */
static void measure_firsts(const record *run, const record_process *joiner, summary_join *out)
{
    out->first_step_ms = out->first_token_ms = -1;
    for (size_t i = 0; joiner->generation && i < run->rows.num_steps; i++) {
        const row_step *step = &run->rows.steps[i];
        double since = ms(joiner->spawn_ns, step->begin_ns);
        if (step->seat == joiner->seat && step->generation == joiner->generation &&
            (out->first_step_ms < 0 || since < out->first_step_ms)) {
            out->first_step_ms = since;
        }
    }
    for (size_t i = 0; joiner->generation && i < run->rows.num_tokens; i++) {
        const row_token *token = &run->rows.tokens[i];
        double since = ms(joiner->spawn_ns, token->made_ns);
        if (token->seat == joiner->seat && token->generation == joiner->generation &&
            (out->first_token_ms < 0 || since < out->first_token_ms)) {
            out->first_token_ms = since;
        }
    }
}

/* The parts of its start. */
static void measure_parts(const record_process *joiner, summary_join *out)
{
    const record_startup *startup = &joiner->startup;
    out->prepared = startup->captured_ns != 0;
    out->spawn_ms = ms(joiner->spawn_ns, startup->main_ns);
    out->open_ms = ms(startup->main_ns, startup->open_ns);
    out->load_ms = ms(startup->open_ns, startup->loaded_ns);
    out->capture_ms = ms(startup->loaded_ns, startup->captured_ns);
    out->enter_ms = ms(startup->captured_ns, joiner->joined_ns);
}

static summary_join measure_join(const record *run, const record_process *joiner, double *scratch)
{
    summary_join out = {.seat = joiner->seat,
                        .generation = joiner->generation,
                        .ready = joiner->ready_ns != 0,
                        .joined = joiner->joined_ns != 0,
                        .time_ms = ms(run->start_ns, joiner->spawn_ns)};
    out.prepare_ms = joiner->ready_ns ? ms(joiner->spawn_ns, joiner->ready_ns) : 0;
    out.join_ms = joiner->joined_ns ? ms(joiner->spawn_ns, joiner->joined_ns) : 0;
    uint64_t until = joiner->joined_ns ? joiner->joined_ns + SETTLED_NS : run->end_ns;
    size_t num = 0;
    for (size_t i = 0; i < run->rows.num_steps; i++) {
        const row_step *step = &run->rows.steps[i];
        if (step->status == EEP_OK && step->seat != joiner->seat &&
            step->begin_ns >= joiner->spawn_ns && step->begin_ns <= until) {
            scratch[num++] = ms(step->begin_ns, step->end_ns);
        }
    }
    summary_quantiles steps = summary_quantiles_of(scratch, num);
    out.num_healthy_steps = num;
    out.longest_healthy_step_ms = steps.max;
    out.median_step_ms = steps.p50;
    measure_firsts(run, joiner, &out);
    measure_parts(joiner, &out);
    return out;
}

/* ---------------------------------------------------------------- throughput */

/* When the process no longer served: it was killed, drained, expelled or ended; 0: it did not. */
static uint64_t left_ns(const record *run, const record_process *process)
{
    const uint64_t times[] = {process->kill_ns, process->drain_ns, process->expelled_ns,
                              process->exit_ns < run->end_ns ? process->exit_ns : 0};
    uint64_t first = 0;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        first = times[i] && (!first || times[i] < first) ? times[i] : first;
    }
    return first;
}

/* A seat of a first-view rank is missing at that time: from its fault (or drain) to the next join
 * in it. */
static bool is_degraded(const record *run, uint64_t time_ns)
{
    for (size_t i = 0; i < run->num_processes; i++) {
        const record_process *ended = &run->processes[i];
        uint64_t left = left_ns(run, ended);
        if (!left || left > time_ns || !ended->joined_ns) {
            continue;
        }
        bool rejoined = false;
        for (size_t j = i + 1; !rejoined && j < run->num_processes; j++) {
            const record_process *next = &run->processes[j];
            rejoined = next->seat == ended->seat && next->joined_ns && next->joined_ns <= time_ns;
        }
        if (!rejoined) {
            return true;
        }
    }
    return false;
}

/* When anything was first done to a rank, or befell one: also what expelled nobody in the end, for
 * the others waited for it meanwhile. */
static uint64_t first_fault_ns(const record *run, const summary *self)
{
    uint64_t first = UINT64_MAX;
    for (size_t i = 0; i < run->num_processes; i++) {
        uint64_t left = left_ns(run, &run->processes[i]);
        first = left && left < first ? left : first;
    }
    for (size_t i = 0; i < self->num_faults; i++) {
        double since_ns = self->faults[i].time_ms * 1e6;
        uint64_t time_ns = run->start_ns + (since_ns > 0 ? (uint64_t)since_ns : 0);
        first = time_ns < first ? time_ns : first;
    }
    for (size_t i = 0; i < run->rows.num_events; i++) {
        const row_event *event = &run->rows.events[i];
        bool slows = strcmp(event->kind, "slow") == 0 && event->value > 1000;
        first = slows && event->time_ns < first ? event->time_ns : first;
    }
    return first;
}

/* Tokens and time by what the instance was, cut at every moment at which that changes. */
static void measure_throughput(const record *run, summary *self)
{
    uint64_t first_fault = first_fault_ns(run, self), last_join = 0;
    for (size_t i = 0; i < run->num_processes; i++) {
        const record_process *process = &run->processes[i];
        bool came_later = process->rejoin || process->restarted;
        last_join = came_later && process->joined_ns > last_join ? process->joined_ns : last_join;
    }
    uint64_t end = run->load_end_ns;
    uint64_t start = run->start_ns + WARM_NS;
    double time_ms[3] = {0}, tokens[3] = {0};
    enum { BEFORE, DEGRADED, AFTER };
    const uint64_t slice = 1000000; /* the state is looked at every millisecond */
    size_t next = 0;
    while (next < run->rows.num_tokens && run->rows.tokens[next].time_ns < start) {
        next++;
    }
    for (uint64_t t = start; t < end; t += slice) {
        int state = t < first_fault               ? BEFORE
                    : is_degraded(run, t)         ? DEGRADED
                    : last_join && t >= last_join ? AFTER
                                                  : -1;
        for (; next < run->rows.num_tokens && run->rows.tokens[next].time_ns < t + slice; next++) {
            tokens[state < 0 ? 0 : state] += state >= 0;
        }
        time_ms[state < 0 ? 0 : state] += state >= 0 ? (double)slice / 1e6 : 0;
    }
    double *const out[3] = {&self->throughput_before, &self->throughput_degraded,
                            &self->throughput_after};
    for (int i = 0; i < 3; i++) {
        *out[i] = time_ms[i] >= SHORTEST_MS ? tokens[i] / time_ms[i] * 1e3 : -1;
    }
}

/* When the first window begins, from the first fault on, in which tokens came as before it: at
 * least BACK_SHARE as many. Windows begin at the fault and at each token behind it. */
static void measure_back(const record *run, summary *self)
{
    const row_token *tokens = run->rows.tokens;
    const size_t num = run->rows.num_tokens;
    const double wanted = BACK_SHARE * self->throughput_before * (double)BACK_WINDOW_NS / 1e9;
    const uint64_t first = first_fault_ns(run, self);
    size_t low = 0, high = 0; /* tokens of the window: they are in the order of their times */
    self->back_ms = -1;
    if (self->throughput_before <= 0 || first == UINT64_MAX) {
        return;
    }
    for (uint64_t begin = first; begin + BACK_WINDOW_NS <= run->load_end_ns;) {
        while (low < num && tokens[low].time_ns < begin) {
            low++;
        }
        while (high < num && tokens[high].time_ns < begin + BACK_WINDOW_NS) {
            high++;
        }
        if ((double)(high - low) >= wanted) {
            self->back_ms = ms(first, begin);
            return;
        }
        while (low < num && tokens[low].time_ns <= begin) {
            low++;
        }
        begin = low < num ? tokens[low].time_ns : run->load_end_ns;
    }
}

/* ---------------------------------------------------------------- the whole */

/* All faults, and how long it took until each survivor knew of them. */
static eep_status measure_faults(const record *run, summary *self)
{
    size_t room = 1, num_kill = 0, num_stop = 0;
    for (size_t i = 0; i < run->num_faults; i++) {
        room += run->faults[i].num_survivors;
    }
    double *kill = malloc(3 * room * sizeof *kill), *stop = kill + room, *own = stop + room;
    if (!kill) {
        return EEP_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < run->num_faults; i++) {
        const record_fault *fault = &run->faults[i];
        size_t num = summary_fault_detections(run, fault, own);
        if (strcmp(fault->kind, "kill") == 0 || strcmp(fault->kind, "abort") == 0) {
            memcpy(kill + num_kill, own, num * sizeof *own);
            num_kill += num;
        } else if (strcmp(fault->kind, "stop") == 0) {
            memcpy(stop + num_stop, own, num * sizeof *own);
            num_stop += num;
        }
        self->faults[i] = summary_fault_measure(run, fault);
        self->faults[i].detections = summary_quantiles_of(own, num);
        self->killed_outside += strcmp(self->faults[i].kind, "killed") == 0;
    }
    summary_fault_share_bytes(run, self->faults, run->num_faults);
    self->num_faults = run->num_faults;
    self->detection_kill_ms = summary_quantiles_of(kill, num_kill);
    self->detection_stop_ms = summary_quantiles_of(stop, num_stop);
    free(kill);
    return EEP_OK;
}

static void sum_counters(const record *run, summary *self)
{
    uint64_t most_routed = 0;
    for (size_t i = 0; i < run->num_processes; i++) {
        const record_process *process = &run->processes[i];
        const eep_counters *counters = &process->counters;
        self->captures_healthy += counters->captures_after_join;
        bool came_later = process->rejoin || process->restarted;
        self->captures_joining += came_later ? process->captures_at_join : 0;
        self->stale_dropped += counters->stale_dropped;
        self->routed += process->routed;
        if (process->routed > most_routed) {
            most_routed = process->routed;
            self->hottest_expert = process->hottest;
        }
        self->steps_aborted_by_join += counters->steps_aborted_by_join;
        self->steps_waiting_on_join += counters->steps_waiting_on_join;
        self->weights_bytes_in_pause += counters->weights_bytes_in_pause;
        self->weights_bytes_background += counters->weights_bytes_background;
        self->weights_bytes_own_node += counters->weights_bytes_own_node;
        self->weights_bytes_other_rank += counters->weights_bytes_other_rank;
        self->weights_bytes_file += counters->weights_bytes_file;
        const source_mix mix = source_mix_of(counters);
        source_mix_add(&self->sources, &mix);
        self->expelled_living += summary_fault_was_fenced(run, process) ||
                                 (process->expelled_ns && !process->expelled_injected);
        self->zombies_evicted += process->expelled_ns && process->exit_ns &&
                                 WIFEXITED(process->exit_status) &&
                                 WEXITSTATUS(process->exit_status) == RANK_EXIT_EVICTED;
        if (counters->window_bytes > self->window_bytes) {
            self->window_bytes = counters->window_bytes;
        }
    }
}

static void measure_steps(const record *run, const scheduler *requests, summary *self,
                          double *scratch)
{
    size_t num = 0;
    for (size_t i = 0; i < run->rows.num_steps; i++) {
        const row_step *step = &run->rows.steps[i];
        self->reprefill_tokens += step->reprefill;
        self->steps_aborted += step->status == EEP_ERR_ABORTED;
        self->positions_aborted += step->status == EEP_ERR_ABORTED ? step->positions : 0;
        if (step->status == EEP_OK) {
            self->steps_ok++;
            scratch[num++] = ms(step->begin_ns, step->end_ns);
        }
    }
    self->step_ms = summary_quantiles_of(scratch, num);
    num = 0;
    for (size_t i = 0; i < run->rows.num_steps; i++) {
        const row_step *step = &run->rows.steps[i];
        scratch[num++] = ms(step->end_ns, step->time_ns);
    }
    self->launcher_lag_ms = summary_quantiles_of(scratch, num);
    num = 0;
    for (uint32_t r = 0; r < self->requests.accepted; r++) {
        const scheduler_request *request = scheduler_request_at(requests, r);
        if (request->num_emitted > 1) {
            scratch[num++] = (double)request->longest_gap_ns / 1e6;
        }
    }
    self->request_stall_ms = summary_quantiles_of(scratch, num);
}

eep_status summary_compute(const record *run, const scheduler *requests, summary *summary_out)
{
    summary self = {.requests = scheduler_count(requests)};
    size_t room = run->rows.num_steps + self.requests.accepted + 1;
    double *scratch = malloc(room * sizeof *scratch);
    self.faults = calloc(run->num_faults + 1, sizeof *self.faults);
    self.joins = calloc(run->num_processes + 1, sizeof *self.joins);
    self.restarts = calloc(run->num_restarts + 1, sizeof *self.restarts);
    if (!scratch || !self.faults || !self.joins || !self.restarts) {
        free(scratch);
        summary_free(&self);
        return EEP_ERR_NO_MEMORY;
    }
    measure_steps(run, requests, &self, scratch);
    sum_counters(run, &self);
    eep_status status = measure_faults(run, &self);
    if (status != EEP_OK) {
        free(scratch);
        summary_free(&self);
        return status;
    }
    for (size_t i = 0; i < run->num_processes; i++) {
        if (run->processes[i].rejoin) {
            self.joins[self.num_joins++] = measure_join(run, &run->processes[i], scratch);
        }
    }
    for (size_t i = 0; i < run->num_restarts; i++) {
        self.restarts[self.num_restarts++] = summary_restart_measure(run, &run->restarts[i]);
    }
    measure_throughput(run, &self);
    measure_back(run, &self);
    self.start_ns = run->start_ns;
    self.duration_ms = run->start_ns ? ms(run->start_ns, run->end_ns) : 0;
    self.cover = run->cover;
    self.machine = run->machine;
    self.events = run->events;
    self.num_events = run->num_events;
    self.placements = run->placements;
    self.num_placements = run->num_placements;
    self.orders_open = summary_events_orders_open(run);
    self.rows_complete = !run->rows.out_of_memory;
    free(scratch);
    *summary_out = self;
    return EEP_OK;
}

void summary_free(summary *self)
{
    free(self->faults);
    free(self->joins);
    free(self->restarts);
    *self = (summary){0};
}
