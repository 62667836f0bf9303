/* SPDX-License-Identifier: Apache-2.0 */
/* The figures of one fault: its survivors' suspicions, views, first steps and tokens. */
#include "experiments/rows/summary_fault.h"

#include "membership/view/view.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

static double ms(uint64_t from_ns, uint64_t to_ns)
{
    return (double)(int64_t)(to_ns - from_ns) / 1e6;
}

/* ---------------------------------------------------------------- rows about one process */

static bool is_about(const row_event *event, const record_process *process, eep_event_kind kind)
{
    return event->about_seat == process->seat && event->about_generation == process->generation &&
           strcmp(event->kind, rows_event_name(kind)) == 0;
}

/* The first suspicion of the process by anybody from `from_ns` on; NULL: none. */
static const row_event *first_suspicion(const record *run, const record_process *process,
                                        uint64_t from_ns)
{
    const row_event *first = NULL;
    for (size_t i = 0; i < run->rows.num_events; i++) {
        const row_event *event = &run->rows.events[i];
        if (is_about(event, process, EEP_EVENT_SUSPECTED) && event->time_ns >= from_ns &&
            (!first || event->time_ns < first->time_ns)) {
            first = event;
        }
    }
    return first;
}

/* Peers suspected it of something other than its end: they end such a process (the fence). Without
 * that they learned that it had ended, by another's hand or its own. */
static bool was_suspected_alive(const record *run, const record_process *process)
{
    const row_event *first = first_suspicion(run, process, 0);
    return first && first->value != EEP_FAULT_EXIT && first->value != EEP_FAULT_RESET;
}

bool summary_fault_was_fenced(const record *run, const record_process *process)
{
    return process->fenced && was_suspected_alive(run, process);
}

/* The end of the last step that it reported; 0: none. */
static uint64_t last_sign_ns(const record *run, const record_process *process)
{
    uint64_t last = 0;
    for (size_t i = 0; i < run->rows.num_steps; i++) {
        const row_step *step = &run->rows.steps[i];
        bool own = step->seat == process->seat && step->generation == process->generation;
        last = own && step->end_ns > last ? step->end_ns : last;
    }
    return last;
}

/* Somebody waited for it by then: it said that it served, or a step began under a view with it. */
static bool served_by(const record *run, const record_process *process, uint64_t time_ns)
{
    uint64_t epoch = UINT64_MAX;
    if (process->joined_ns) {
        return process->joined_ns <= time_ns;
    }
    if (!process->generation) { /* it had no seat yet: 0 in a view is no process */
        return false;
    }
    for (size_t i = 0; i < run->num_views && epoch == UINT64_MAX; i++) {
        bool has = run->views[i].generation[process->seat] == process->generation;
        epoch = has ? run->views[i].epoch : epoch;
    }
    for (size_t i = 0; i < run->rows.num_steps; i++) {
        const row_step *step = &run->rows.steps[i];
        if (step->epoch >= epoch && step->begin_ns <= time_ns) {
            return true;
        }
    }
    return false;
}

/* ---------------------------------------------------------------- views */

/* The first view that no longer has the process; NULL: none. *serving_out: the first SERVING view
 * from it on; NULL: none. */
static const record_view *first_without(const record *run, const record_process *process,
                                        const record_view **serving_out)
{
    const record_view *without = NULL;
    bool was_in = false;
    *serving_out = NULL;
    for (size_t i = 0; i < run->num_views && !*serving_out; i++) {
        const record_view *view = &run->views[i];
        bool has = process->generation && view->generation[process->seat] == process->generation;
        was_in |= has;
        without = was_in && !has && !without ? view : without;
        *serving_out = without && view->phase == EEPI_VIEW_SERVING ? view : NULL;
    }
    return without;
}

/* When the view was committed: at the latest when its proposer had the answer, when the first
 * member had installed it, and when the launcher saw it. The proposer may lose its processor to
 * those that install. */
static uint64_t commit_ns(const record *run, const record_view *view)
{
    uint64_t time_ns = view->time_ns;

    for (size_t i = 0; i < run->rows.num_events; i++) {
        const row_event *event = &run->rows.events[i];
        if (event->epoch == view->epoch && event->time_ns < time_ns &&
            (strcmp(event->kind, rows_event_name(EEP_EVENT_PROPOSED)) == 0 ||
             strcmp(event->kind, rows_event_name(EEP_EVENT_INSTALLED)) == 0)) {
            time_ns = event->time_ns;
        }
    }
    return time_ns;
}

/* ---------------------------------------------------------------- what it was, and since when */

static bool is_kind(const record_fault *fault, const char *kind)
{
    return strcmp(fault->kind, kind) == 0;
}

/* What ended a process, and why: the launcher could not know when it saw the end. */
static const char *kind_of(const record *run, const record_fault *fault)
{
    const record_process *process = &run->processes[fault->process];
    bool unasked = is_kind(fault, "exit") || is_kind(fault, "slow");
    if (!unasked || !process->exit_ns || !WIFSIGNALED(process->exit_status)) {
        return fault->kind;
    }
    if (WTERMSIG(process->exit_status) == SIGKILL && was_suspected_alive(run, process)) {
        return is_kind(fault, "slow") ? "slow" : "expelled";
    }
    static const int outer[] = {SIGKILL, SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < sizeof outer / sizeof outer[0]; i++) {
        if (WTERMSIG(process->exit_status) == outer[i]) {
            return "killed";
        }
    }
    return "exit";
}

/* When the survivor's steps stopped coming to an end: the begin of the first that did not, behind
 * its last good one before that view; 0: none. */
static uint64_t stalled_ns(const record *run, const record_survivor *survivor,
                           const record_view *without)
{
    uint64_t stalled = 0;
    for (size_t i = 0; i < run->rows.num_steps; i++) {
        const row_step *step = &run->rows.steps[i];
        if (step->seat != survivor->seat || step->generation != survivor->generation ||
            step->epoch >= without->epoch) {
            continue;
        }
        stalled = step->status == EEP_OK ? 0 : stalled ? stalled : step->begin_ns;
    }
    return stalled;
}

/* A command did it, and its effect came before its end. */
static bool is_of_hosts(const char *kind)
{
    verb what = VERB_KILL;
    return verb_find(kind, &what) && verb_is_of_hosts(what);
}

/* When the pause began, and since when suspicions of the process count as of this fault. */
typedef struct beginning {
    const char *kind;
    uint64_t time_ns, since_ns;
} beginning;

static beginning beginning_of(const record *run, const record_fault *fault,
                              const record_view *without)
{
    const record_process *process = &run->processes[fault->process];
    beginning out = {kind_of(run, fault), fault->time_ns, fault->since_ns};
    bool lived = strcmp(out.kind, "slow") == 0 || strcmp(out.kind, "expelled") == 0;
    bool ended = strcmp(out.kind, "exit") == 0 || strcmp(out.kind, "killed") == 0;
    if (!lived && !ended && strcmp(out.kind, "die") != 0 && !is_of_hosts(out.kind)) {
        return out; /* a signal of the launcher: known to the microsecond */
    }
    if (ended || lived) {
        out.since_ns = last_sign_ns(run, process);
        out.since_ns = out.since_ns < fault->time_ns ? out.since_ns : fault->time_ns;
    }
    /* A survivor may know of it before the launcher does. */
    const row_event *first = first_suspicion(run, process, out.since_ns);
    out.time_ns = first && first->time_ns < out.time_ns ? first->time_ns : out.time_ns;
    for (size_t i = 0; lived && without && i < fault->num_survivors; i++) {
        uint64_t stalled = stalled_ns(run, &fault->survivors[i], without);
        out.time_ns = stalled && stalled < out.time_ns ? stalled : out.time_ns;
    }
    out.since_ns = out.since_ns < out.time_ns ? out.since_ns : out.time_ns;
    return out;
}

/* A later fault of the same process has what comes after it to itself: from the moment on in which
 * it began, since survivors may act on that before the launcher sees its end. A process that was
 * told to die begins there. */
static uint64_t until_ns(const record *run, const record_fault *fault)
{
    const record_view *serving = NULL;
    const record_view *without = first_without(run, &run->processes[fault->process], &serving);
    uint64_t until = UINT64_MAX;
    for (size_t i = 0; i < run->num_faults; i++) {
        const record_fault *other = &run->faults[i];
        if (other->process != fault->process || other <= fault) {
            continue;
        }
        uint64_t since = beginning_of(run, other, without).since_ns;
        since = since > fault->time_ns ? since : other->since_ns;
        until = since < until ? since : until;
    }
    return until;
}

/* The first view that no longer has the process, unless it had left by then for another reason;
 * NULL: none. *serving_out: the first SERVING view from it on; NULL: none. */
static const record_view *view_without(const record *run, const record_fault *fault,
                                       const record_view **serving_out)
{
    const record_process *dead = &run->processes[fault->process];
    const record_view *without = first_without(run, dead, serving_out);
    bool drained = without && dead->drain_ns && dead->drain_ns < without->time_ns &&
                   without->cause != EEPI_VIEW_FAULT; /* it may crash on its way out */
    if (!without || drained || without->time_ns >= until_ns(run, fault)) {
        return NULL;
    }
    return without;
}

/* First suspicion of the process since then, by that rank (NULL: by any); 0: none. */
static uint64_t suspected_ns(const record *run, const record_fault *fault, uint64_t since_ns,
                             const record_survivor *by)
{
    const record_process *dead = &run->processes[fault->process];
    uint64_t first = 0, until = until_ns(run, fault);
    for (size_t i = 0; i < run->rows.num_events; i++) {
        const row_event *event = &run->rows.events[i];
        if (is_about(event, dead, EEP_EVENT_SUSPECTED) &&
            (!by || (event->seat == by->seat && event->generation == by->generation)) &&
            event->time_ns >= since_ns && event->time_ns < until &&
            (!first || event->time_ns < first)) {
            first = event->time_ns;
        }
    }
    return first;
}

/* ---------------------------------------------------------------- going on */

/* A moment by the rank's clock, and when the launcher learned of it. */
typedef struct moment {
    uint64_t rank_ns, launcher_ns; /* 0: it did not come */
} moment;

/* The survivor's first accepted token under the epoch or a newer one. *request_too_out: the request
 * that it was decoding went on there. */
static moment next_token(const record *run, const record_survivor *survivor, uint64_t epoch,
                         bool *request_too_out)
{
    moment first = {0};
    for (size_t i = 0; i < run->rows.num_tokens; i++) {
        const row_token *token = &run->rows.tokens[i];
        if (token->seat != survivor->seat || token->generation != survivor->generation ||
            token->epoch < epoch) {
            continue;
        }
        first = first.rank_ns ? first : (moment){token->made_ns, token->time_ns};
        if (token->request == survivor->request) {
            *request_too_out = true;
            break;
        }
    }
    return first;
}

/* The survivor's first OK step under the epoch or a newer one that computed positions. */
static moment next_step(const record *run, const record_survivor *survivor, uint64_t epoch)
{
    for (size_t i = 0; i < run->rows.num_steps; i++) {
        const row_step *step = &run->rows.steps[i];
        if (step->seat == survivor->seat && step->generation == survivor->generation &&
            step->epoch >= epoch && step->status == EEP_OK && step->positions) {
            return (moment){step->end_ns, step->time_ns};
        }
    }
    return (moment){0};
}

/* When the survivor was ready to serve under the epoch or a newer one. */
static moment installed(const record *run, const record_survivor *survivor, uint64_t epoch)
{
    for (size_t i = 0; i < run->rows.num_events; i++) {
        const row_event *event = &run->rows.events[i];
        if (event->seat == survivor->seat && event->generation == survivor->generation &&
            event->epoch >= epoch &&
            strcmp(event->kind, rows_event_name(EEP_EVENT_INSTALLED)) == 0) {
            return (moment){event->time_ns, event->time_ns};
        }
    }
    return (moment){0};
}

/* When the last survivor had gone on. */
static moment resumed(const record *run, const record_fault *fault, uint64_t epoch, int *num_out)
{
    moment last = {0};
    for (size_t i = 0; i < fault->num_survivors; i++) {
        const record_survivor *survivor = &fault->survivors[i];
        bool decodes = false;
        moment next = {0};
        if (survivor->activity == 2) {
            next = next_token(run, survivor, epoch, &decodes);
        }
        if (survivor->activity == 0) { /* it waits for work, not for the view */
            next = installed(run, survivor, epoch);
        } else if (!decodes) { /* nothing to emit, or what it had ended before the views changed */
            next = next_step(run, survivor, epoch);
        }
        *num_out += next.rank_ns != 0;
        last.rank_ns = next.rank_ns > last.rank_ns ? next.rank_ns : last.rank_ns;
        last.launcher_ns =
            next.launcher_ns > last.launcher_ns ? next.launcher_ns : last.launcher_ns;
    }
    return last;
}

/* The first fault in whose pause that moment lies; NULL: none. */
static summary_fault *paused_at(const record *run, uint64_t time_ns, summary_fault *faults,
                                size_t num)
{
    double time_ms = ms(run->start_ns, time_ns);
    for (size_t f = 0; f < num; f++) {
        summary_fault *fault = &faults[f];
        if (fault->healed && time_ms >= fault->time_ms &&
            time_ms <= fault->time_ms + fault->pause_ms) {
            return fault;
        }
    }
    return NULL;
}

void summary_fault_share_bytes(const record *run, summary_fault *faults, size_t num)
{
    for (size_t i = 0; i < run->rows.num_events; i++) {
        const row_event *event = &run->rows.events[i];
        const bool repaired = strcmp(event->kind, rows_event_name(EEP_EVENT_REPAIRED)) == 0;
        summary_fault *fault = repaired ? paused_at(run, event->time_ns, faults, num) : NULL;
        if (fault) {
            fault->weights_bytes_in_pause += event->value;
        }
    }
    for (size_t i = 0; i < run->rows.num_sources; i++) {
        const row_source *row = &run->rows.sources[i];
        summary_fault *fault = row->behind ? NULL : paused_at(run, row->time_ns, faults, num);
        if (fault) {
            fault->sources.fills[row->source] += row->fills;
            fault->sources.bytes[row->source] += row->bytes;
        }
    }
}

/* `time` moved into [low, high]: clocks are one, but a proposer may tell of its commit late. */
static uint64_t within(uint64_t time, uint64_t low, uint64_t high)
{
    return time < low ? low : time > high ? high : time;
}

size_t summary_fault_detections(const record *run, const record_fault *fault, double *ms_out)
{
    const record_view *serving = NULL;
    beginning began = beginning_of(run, fault, view_without(run, fault, &serving));
    size_t num = 0;
    for (size_t i = 0; i < fault->num_survivors; i++) {
        uint64_t time_ns = suspected_ns(run, fault, began.since_ns, &fault->survivors[i]);
        if (time_ns) {
            ms_out[num++] = ms(began.time_ns, within(time_ns, began.time_ns, UINT64_MAX));
        }
    }
    return num;
}

/* From `began` to the moment in which the last survivor had gone on, in its four parts. */
static void measure_pause(const record *run, const record_fault *fault, const beginning *began,
                          const record_view *without, const record_view *serving, moment last,
                          summary_fault *out)
{
    uint64_t start = began->time_ns, end = within(last.rank_ns, start, UINT64_MAX);
    uint64_t agreed = within(commit_ns(run, without), start, end);
    uint64_t suspected = suspected_ns(run, fault, began->since_ns, NULL);
    out->suspected = suspected && suspected <= agreed;
    uint64_t detected = out->suspected ? within(suspected, start, agreed) : start;
    uint64_t repaired = serving == without ? agreed : within(commit_ns(run, serving), agreed, end);
    out->healed = true;
    out->epoch = serving->epoch;
    out->detect_ms = ms(start, detected);
    out->agree_ms = ms(detected, agreed);
    out->repair_ms = ms(agreed, repaired);
    out->rerun_ms = ms(repaired, end);
    out->pause_ms = ms(start, end);
    out->launcher_lag_ms = ms(last.rank_ns, within(last.launcher_ns, last.rank_ns, UINT64_MAX));
}

summary_fault summary_fault_measure(const record *run, const record_fault *fault)
{
    const record_process *dead = &run->processes[fault->process];
    const record_view *serving = NULL;
    const record_view *without = view_without(run, fault, &serving);
    beginning began = beginning_of(run, fault, without);
    bool was_signalled = dead->exit_ns && WIFSIGNALED(dead->exit_status);
    summary_fault out = {.seat = dead->seat,
                         .generation = dead->generation,
                         .kind = began.kind,
                         .signal = was_signalled ? WTERMSIG(dead->exit_status) : 0,
                         .served = served_by(run, dead, fault->time_ns),
                         .expelled = without != NULL,
                         .time_ms = ms(run->start_ns, began.time_ns)};
    if (out.served && without && serving) {
        moment last = resumed(run, fault, without->epoch, &out.num_survivors);
        if (last.rank_ns) {
            measure_pause(run, fault, &began, without, serving, last, &out);
        }
    }
    return out;
}
