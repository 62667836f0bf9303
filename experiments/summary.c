#include "experiments/summary.h"

#include "membership/view.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t SETTLED_NS = 1000000000; /* after a flip: still counted as its join */
static const uint64_t WARM_NS = 500000000;     /* after the start: not counted as throughput */
static const double SHORTEST_MS = 100;         /* less is no time to measure throughput in */

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

/* ---------------------------------------------------------------- faults */

/* The first view that no longer has the process, and the first SERVING view from it on. */
static const record_view *view_without(const record *run, const record_fault *fault,
                                       const record_view **serving_out)
{
    const record_process *dead = &run->processes[fault->process];
    const record_view *without = NULL;
    bool was_in = false;
    for (size_t i = 0; i < run->num_views; i++) {
        const record_view *view = &run->views[i];
        bool has = view->generation[dead->seat] == dead->generation;
        was_in |= has;
        if (was_in && !has && !without) {
            without = view;
        }
        if (without && view->phase == EEPI_VIEW_SERVING) {
            *serving_out = view;
            return without;
        }
    }
    return NULL;
}

/* When the view was committed: at its proposer if that told, else when the launcher saw it. */
static uint64_t commit_ns(const record *run, const record_view *view)
{
    for (size_t i = 0; i < run->rows.num_events; i++) {
        const row_event *event = &run->rows.events[i];
        if (event->epoch == view->epoch &&
            strcmp(event->kind, rows_event_name(EEP_EVENT_PROPOSED)) == 0) {
            return event->time_ns;
        }
    }
    return view->time_ns;
}

/* First suspicion of the process since the fault; 0: none. */
static uint64_t suspected_ns(const record *run, const record_fault *fault)
{
    const record_process *dead = &run->processes[fault->process];
    uint64_t first = 0;
    for (size_t i = 0; i < run->rows.num_events; i++) {
        const row_event *event = &run->rows.events[i];
        if (event->about_seat == dead->seat && event->about_generation == dead->generation &&
            event->time_ns >= fault->time_ns && (!first || event->time_ns < first) &&
            strcmp(event->kind, rows_event_name(EEP_EVENT_SUSPECTED)) == 0) {
            first = event->time_ns;
        }
    }
    return first;
}

/* The survivor's first accepted token under the epoch or a newer one; 0: none. *request_too_out:
 * the request that it was decoding went on there. */
static uint64_t next_token_ns(const record *run, const record_survivor *survivor, uint64_t epoch,
                              bool *request_too_out)
{
    uint64_t first = 0;
    for (size_t i = 0; i < run->rows.num_tokens; i++) {
        const row_token *token = &run->rows.tokens[i];
        if (token->seat != survivor->seat || token->generation != survivor->generation ||
            token->epoch < epoch) {
            continue;
        }
        first = first ? first : token->time_ns;
        if (token->request == survivor->request) {
            *request_too_out = true;
            break;
        }
    }
    return first;
}

/* The survivor's first OK step under the epoch or a newer one that computed positions; 0: none. */
static uint64_t next_step_ns(const record *run, const record_survivor *survivor, uint64_t epoch)
{
    for (size_t i = 0; i < run->rows.num_steps; i++) {
        const row_step *step = &run->rows.steps[i];
        if (step->seat == survivor->seat && step->generation == survivor->generation &&
            step->epoch >= epoch && step->status == EEP_OK && step->positions) {
            return step->end_ns;
        }
    }
    return 0;
}

/* When the survivor was ready to serve under the epoch or a newer one; 0: never. */
static uint64_t installed_ns(const record *run, const record_survivor *survivor, uint64_t epoch)
{
    for (size_t i = 0; i < run->rows.num_events; i++) {
        const row_event *event = &run->rows.events[i];
        if (event->seat == survivor->seat && event->generation == survivor->generation &&
            event->epoch >= epoch &&
            strcmp(event->kind, rows_event_name(EEP_EVENT_INSTALLED)) == 0) {
            return event->time_ns;
        }
    }
    return 0;
}

/* When the last survivor had gone on; 0: none did. */
static uint64_t resumed_ns(const record *run, const record_fault *fault, uint64_t epoch,
                           int *num_out)
{
    uint64_t last = 0;
    for (size_t i = 0; i < fault->num_survivors; i++) {
        const record_survivor *survivor = &fault->survivors[i];
        bool decodes = false;
        uint64_t time = 0;
        if (survivor->activity == 2) {
            time = next_token_ns(run, survivor, epoch, &decodes);
        }
        if (survivor->activity == 0) { /* it waits for work, not for the view */
            time = installed_ns(run, survivor, epoch);
        } else if (!decodes) { /* nothing to emit, or what it had ended before the views changed */
            time = next_step_ns(run, survivor, epoch);
        }
        *num_out += time != 0;
        last = time > last ? time : last;
    }
    return last;
}

static uint64_t repaired_bytes(const record *run, uint64_t from_ns, uint64_t to_ns)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < run->rows.num_events; i++) {
        const row_event *event = &run->rows.events[i];
        if (event->time_ns >= from_ns && event->time_ns <= to_ns &&
            strcmp(event->kind, rows_event_name(EEP_EVENT_REPAIRED)) == 0) {
            bytes += event->value;
        }
    }
    return bytes;
}

/* `time` moved into [low, high]: clocks are one, but a proposer may tell of its commit late. */
static uint64_t within(uint64_t time, uint64_t low, uint64_t high)
{
    return time < low ? low : time > high ? high : time;
}

/* How long until each survivor's own first suspicion; the values go behind `num` in `known`. */
static size_t survivors_knew(const record *run, const record_fault *fault, double *known)
{
    const record_process *dead = &run->processes[fault->process];
    size_t num = 0;
    for (size_t s = 0; s < fault->num_survivors; s++) {
        const record_survivor *survivor = &fault->survivors[s];
        uint64_t first = 0;
        for (size_t i = 0; i < run->rows.num_events; i++) {
            const row_event *event = &run->rows.events[i];
            if (event->seat == survivor->seat && event->generation == survivor->generation &&
                event->about_seat == dead->seat && event->about_generation == dead->generation &&
                event->time_ns >= fault->time_ns && (!first || event->time_ns < first) &&
                strcmp(event->kind, rows_event_name(EEP_EVENT_SUSPECTED)) == 0) {
                first = event->time_ns;
            }
        }
        if (first) {
            known[num++] = ms(fault->time_ns, first);
        }
    }
    return num;
}

static summary_fault measure_fault(const record *run, const record_fault *fault)
{
    const record_process *dead = &run->processes[fault->process];
    const record_view *serving = NULL;
    const record_view *without = view_without(run, fault, &serving);
    summary_fault out = {.seat = dead->seat,
                         .generation = dead->generation,
                         .kind = fault->kind,
                         .expelled = without && !fault->survived,
                         .time_ms = ms(run->start_ns, fault->time_ns)};
    if (fault->survived) {
        return out; /* whatever ended it later was another fault */
    }
    uint64_t end = without ? resumed_ns(run, fault, without->epoch, &out.num_survivors) : 0;
    if (!end) {
        return out;
    }
    end = within(end, fault->time_ns, UINT64_MAX);
    uint64_t agreed = within(commit_ns(run, without), fault->time_ns, end);
    uint64_t suspected = suspected_ns(run, fault);
    out.suspected = suspected && suspected <= agreed;
    uint64_t detected = out.suspected ? suspected : fault->time_ns;
    uint64_t repaired = serving == without ? agreed : within(commit_ns(run, serving), agreed, end);
    out.healed = true;
    out.detect_ms = ms(fault->time_ns, detected);
    out.agree_ms = ms(detected, agreed);
    out.repair_ms = ms(agreed, repaired);
    out.rerun_ms = ms(repaired, end);
    out.pause_ms = ms(fault->time_ns, end);
    out.weights_bytes_in_pause = repaired_bytes(run, fault->time_ns, end);
    return out;
}

/* All faults, and over them how long survivors did not know. False: no memory. */
static bool measure_faults(const record *run, summary *self)
{
    size_t most = 0, num[2] = {0};
    for (size_t i = 0; i < run->num_faults; i++) {
        most += run->faults[i].num_survivors;
    }
    double *known[2] = {calloc(most + 1, sizeof(double)), calloc(most + 1, sizeof(double))};
    double *scratch = calloc(most + 1, sizeof *scratch);
    bool good = known[0] && known[1] && scratch;
    for (size_t i = 0; i < run->num_faults && good; i++) {
        summary_fault *fault = &self->faults[self->num_faults++];
        int kind = strcmp(run->faults[i].kind, "stop") == 0;
        *fault = measure_fault(run, &run->faults[i]);
        size_t more = fault->expelled ? survivors_knew(run, &run->faults[i], scratch) : 0;
        memcpy(known[kind] + num[kind], scratch, more * sizeof *scratch);
        num[kind] += more;
        fault->known_ms = summary_quantiles_of(scratch, more);
    }
    if (good) {
        self->known_kill_ms = summary_quantiles_of(known[0], num[0]);
        self->known_stop_ms = summary_quantiles_of(known[1], num[1]);
    }
    free(known[0]);
    free(known[1]);
    free(scratch);
    return good;
}

/* ---------------------------------------------------------------- joins */

static summary_join measure_join(const record *run, const record_process *joiner, double *scratch)
{
    summary_join out = {.seat = joiner->seat,
                        .generation = joiner->generation,
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
    out.longest_healthy_step_ms = steps.max;
    out.median_step_ms = steps.p50;
    return out;
}

/* ---------------------------------------------------------------- throughput */

/* A seat of a first-view rank is missing at that time: from its fault (or drain) to the next join
 * in it. */
static bool is_degraded(const record *run, uint64_t time_ns)
{
    for (size_t i = 0; i < run->num_processes; i++) {
        const record_process *gone = &run->processes[i];
        uint64_t left = gone->kill_ns ? gone->kill_ns : gone->drain_ns;
        left = left ? left : gone->exit_ns;
        if (!left || left > time_ns || !gone->joined_ns) {
            continue;
        }
        bool back = false;
        for (size_t j = i + 1; j < run->num_processes; j++) {
            const record_process *next = &run->processes[j];
            back |= next->seat == gone->seat && next->joined_ns && next->joined_ns <= time_ns;
        }
        if (!back) {
            return true;
        }
    }
    return false;
}

/* Tokens and time by what the instance was, cut at every moment at which that changes. */
static void measure_throughput(const record *run, summary *self)
{
    uint64_t first_fault = UINT64_MAX, last_join = 0;
    for (size_t i = 0; i < run->num_processes; i++) {
        const record_process *process = &run->processes[i];
        uint64_t left = process->kill_ns ? process->kill_ns : process->drain_ns;
        left = left ? left : process->exit_ns < run->end_ns ? process->exit_ns : 0;
        first_fault = left && left < first_fault ? left : first_fault;
        last_join =
            process->rejoin && process->joined_ns > last_join ? process->joined_ns : last_join;
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

/* ---------------------------------------------------------------- the whole */

static void sum_counters(const record *run, summary *self)
{
    for (size_t i = 0; i < run->num_processes; i++) {
        const record_process *process = &run->processes[i];
        const eep_counters *counters = &process->counters;
        self->captures_healthy += counters->captures_after_join;
        self->captures_joining += process->rejoin ? process->captures_at_join : 0;
        self->stale_dropped += counters->stale_dropped;
        self->steps_aborted_by_join += counters->steps_aborted_by_join;
        self->steps_waiting_on_join += counters->steps_waiting_on_join;
        self->weights_bytes_in_pause += counters->weights_bytes_in_pause;
        self->weights_bytes_background += counters->weights_bytes_background;
        self->expelled_living += process->expelled_ns && !process->stop_ns;
        self->zombies_evicted += process->expelled_ns && process->evicted;
        if (counters->window_bytes > self->window_bytes) {
            self->window_bytes = counters->window_bytes;
        }
    }
}

static void measure_steps(const record *run, const scheduler *front, summary *self, double *scratch)
{
    size_t num = 0;
    for (size_t i = 0; i < run->rows.num_steps; i++) {
        const row_step *step = &run->rows.steps[i];
        self->reprefill_tokens += step->reprefill;
        self->steps_aborted += step->status == EEP_ERR_ABORTED;
        if (step->status == EEP_OK) {
            self->steps_ok++;
            scratch[num++] = ms(step->begin_ns, step->end_ns);
        }
    }
    self->step_ms = summary_quantiles_of(scratch, num);
    num = 0;
    for (uint32_t r = 0; r < self->requests.accepted; r++) {
        const scheduler_request *request = scheduler_request_at(front, r);
        if (request->num_emitted > 1) {
            scratch[num++] = (double)request->longest_gap_ns / 1e6;
        }
    }
    self->request_stall_ms = summary_quantiles_of(scratch, num);
}

eep_status summary_compute(const record *run, const scheduler *front, summary *summary_out)
{
    summary self = {.requests = scheduler_count(front)};
    size_t room = run->rows.num_steps + self.requests.accepted + 1;
    double *scratch = malloc(room * sizeof *scratch);
    self.faults = calloc(run->num_faults + 1, sizeof *self.faults);
    self.joins = calloc(run->num_processes + 1, sizeof *self.joins);
    if (!scratch || !self.faults || !self.joins) {
        free(scratch);
        summary_free(&self);
        return EEP_ERR_NO_MEMORY;
    }
    measure_steps(run, front, &self, scratch);
    sum_counters(run, &self);
    if (!measure_faults(run, &self)) {
        free(scratch);
        summary_free(&self);
        return EEP_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < run->num_processes; i++) {
        if (run->processes[i].rejoin) {
            self.joins[self.num_joins++] = measure_join(run, &run->processes[i], scratch);
        }
    }
    measure_throughput(run, &self);
    self.duration_ms = run->start_ns ? ms(run->start_ns, run->end_ns) : 0;
    self.rows_complete = !run->rows.out_of_memory;
    free(scratch);
    *summary_out = self;
    return EEP_OK;
}

void summary_free(summary *self)
{
    free(self->faults);
    free(self->joins);
    *self = (summary){0};
}
