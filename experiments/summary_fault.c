#include "experiments/summary_fault.h"

#include "membership/view.h"

#include <string.h>

static double ms(uint64_t from_ns, uint64_t to_ns)
{
    return (double)(int64_t)(to_ns - from_ns) / 1e6;
}

/* A later fault of the same process has what comes after it to itself: from the moment on in which
 * it was told to die, since survivors may act on that before the launcher sees its end. */
static uint64_t until_ns(const record *run, const record_fault *fault)
{
    uint64_t until = UINT64_MAX;
    for (size_t i = 0; i < run->num_faults; i++) {
        const record_fault *other = &run->faults[i];
        if (other->process == fault->process && other > fault && other->since_ns < until) {
            until = other->since_ns;
        }
    }
    return until;
}

/* The first view that no longer has the process, unless it had left by then for another reason;
 * NULL: none. *serving_out: the first SERVING view from it on; NULL: none. */
static const record_view *view_without(const record *run, const record_fault *fault,
                                       const record_view **serving_out)
{
    const record_process *dead = &run->processes[fault->process];
    const record_view *without = NULL;
    bool was_in = false;
    *serving_out = NULL;
    for (size_t i = 0; i < run->num_views && !*serving_out; i++) {
        const record_view *view = &run->views[i];
        bool has = view->generation[dead->seat] == dead->generation;
        was_in |= has;
        without = was_in && !has && !without ? view : without;
        *serving_out = without && view->phase == EEPI_VIEW_SERVING ? view : NULL;
    }
    bool drained = without && dead->drain_ns && dead->drain_ns < without->time_ns &&
                   without->cause != EEPI_VIEW_FAULT; /* it may crash on its way out */
    if (!without || drained || without->time_ns >= until_ns(run, fault)) {
        return NULL;
    }
    return without;
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

/* First suspicion of the process since the fault, by that rank (NULL: by any); 0: none. */
static uint64_t suspected_ns(const record *run, const record_fault *fault,
                             const record_survivor *by)
{
    const record_process *dead = &run->processes[fault->process];
    uint64_t first = 0, until = until_ns(run, fault);
    for (size_t i = 0; i < run->rows.num_events; i++) {
        const row_event *event = &run->rows.events[i];
        if (event->about_seat == dead->seat && event->about_generation == dead->generation &&
            (!by || (event->seat == by->seat && event->generation == by->generation)) &&
            event->time_ns >= fault->since_ns && event->time_ns < until &&
            (!first || event->time_ns < first) &&
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

size_t summary_fault_detections(const record *run, const record_fault *fault, double *ms_out)
{
    size_t num = 0;
    for (size_t i = 0; i < fault->num_survivors; i++) {
        uint64_t time_ns = suspected_ns(run, fault, &fault->survivors[i]);
        if (time_ns) {
            ms_out[num++] = ms(fault->time_ns, within(time_ns, fault->time_ns, UINT64_MAX));
        }
    }
    return num;
}

summary_fault summary_fault_measure(const record *run, const record_fault *fault)
{
    const record_process *dead = &run->processes[fault->process];
    const record_view *serving = NULL;
    const record_view *without = view_without(run, fault, &serving);
    summary_fault out = {.seat = dead->seat,
                         .generation = dead->generation,
                         .kind = fault->kind,
                         .expelled = without != NULL,
                         .time_ms = ms(run->start_ns, fault->time_ns)};
    uint64_t end =
        without && serving ? resumed_ns(run, fault, without->epoch, &out.num_survivors) : 0;
    if (!end) {
        return out;
    }
    end = within(end, fault->time_ns, UINT64_MAX);
    uint64_t agreed = within(commit_ns(run, without), fault->time_ns, end);
    uint64_t suspected = suspected_ns(run, fault, NULL);
    out.suspected = suspected && suspected <= agreed;
    uint64_t detected = out.suspected ? within(suspected, fault->time_ns, agreed) : fault->time_ns;
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
