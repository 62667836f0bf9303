/* SPDX-License-Identifier: Apache-2.0 */
/* What the launcher answers to eep-ctl's questions: status, what is pending, what it waits for. */
#include "experiments/launcher/launcher_status.h"

#include "experiments/launcher/launcher_experts.h"
#include "experiments/launcher/launcher_settled.h"
#include "experiments/script/script_describe.h"

#include <stdio.h>
#include <string.h>

static const char *text_of_pending(const launcher *self, char *text, size_t size)
{
    const script *events = &self->options.script;
    char what[SCRIPT_TEXT_BYTES], why[CONTROL_ERROR_BYTES / 4];
    int num = 0;
    for (int i = 0; i < events->num_events; i++) {
        const script_event *event = &events->event[i];
        if (!event->progress.done && num++ == 0) {
            script_describe(event, what, sizeof what);
            script_explain(event, launcher_time_ms(self), why, sizeof why);
            snprintf(text, size, "number %d, '%.300s', is pending: %s", event->order, what, why);
        }
    }
    size_t used = strlen(text);
    if (num > 1) {
        snprintf(text + used, size - used, " (and %d more are)", num - 1);
    } else if (num == 0) {
        snprintf(text, size, "what a stop or a slow-down did is not undone yet");
    }
    return text;
}

bool launcher_status_is_settled(const launcher *self, char why[CONTROL_ERROR_BYTES])
{
    char text[CONTROL_ERROR_BYTES] = "";
    const char *reason = !self->run.start_ns     ? "not all ranks of the first view have joined"
                         : self->ending.stopping ? "the run is ending"
                         : !launcher_plan_is_over(self) ? "the plan has more phases"
                                                        : NULL;
    if (!reason && !script_is_done(&self->options.script)) {
        reason = text_of_pending(self, text, sizeof text);
    }
    if (!reason && launcher_runs_commands(self)) {
        reason = "a command of --hosts has not ended";
    }
    if (!reason && launcher_unsettled_text(self, text, sizeof text)) {
        reason = text;
    }
    if (reason && why) {
        int uncovered = launcher_uncovered(self);
        snprintf(why, CONTROL_ERROR_BYTES, "%.400s", reason);
        size_t used = strlen(why);
        if (uncovered > 0) {
            snprintf(why + used, CONTROL_ERROR_BYTES - used,
                     "; %d experts are held by no rank: nothing is served", uncovered);
        }
    }
    return !reason;
}

static const char *state_of(const launcher *self, int seat)
{
    const record_process *process = launcher_process_of(self, seat);
    if (!process || (process->exit_ns && !launcher_is_member(self, process))) {
        return "vacant";
    }
    char state = supervisor_state(self->ranks, seat);
    if (state == 'Z' || process->kill_ns || process->expelled_ns) {
        return "zombie";
    }
    return state == 'T'                              ? "stopped"
           : process->drain_ns                       ? "draining"
           : !launcher_is_active(self, seat)         ? "starting"
           : process->slow_ns > process->slow_end_ns ? "slow"
                                                     : "joined";
}

static void add_seats(const launcher *self, uint32_t num_requests, cJSON *answer)
{
    uint32_t served[EEP_MAX_RANKS] = {0};
    for (uint32_t r = 0; r < num_requests; r++) {
        const scheduler_request *request = scheduler_request_at(self->scheduler, r);
        if (request->status == REQUEST_RUNNING && request->seat >= 0) {
            served[request->seat]++;
        }
    }
    cJSON *seats = cJSON_AddArrayToObject(answer, "seats");
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        const record_process *process = launcher_process_of(self, seat);
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddNumberToObject(entry, "seat", seat);
        cJSON_AddNumberToObject(entry, "generation", process ? process->generation : 0);
        cJSON_AddStringToObject(entry, "state", state_of(self, seat));
        cJSON_AddNumberToObject(entry, "requests", served[seat]);
        cJSON_AddItemToArray(seats, entry);
    }
}

void launcher_status_tell(const launcher *self, double tokens_per_s, cJSON *answer)
{
    const record *run = &self->run;
    const record_view *view = launcher_last_view(self);
    const script *events = &self->options.script;
    scheduler_counts counts = scheduler_count(self->scheduler);
    int pending = 0;
    for (int i = 0; i < events->num_events; i++) {
        pending += !events->event[i].progress.done;
    }
    cJSON_AddNumberToObject(answer, "time_ms", launcher_time_ms(self));
    cJSON_AddBoolToObject(answer, "serving", run->start_ns != 0);
    char waits[CONTROL_ERROR_BYTES] = "";
    bool settled = launcher_status_is_settled(self, waits);
    cJSON_AddBoolToObject(answer, "settled", settled);
    if (settled) {
        cJSON_AddNullToObject(answer, "waits");
    } else {
        cJSON_AddStringToObject(answer, "waits", waits);
    }
    cJSON_AddBoolToObject(answer, "finishing", self->ending.finishing);
    cJSON_AddNumberToObject(answer, "epoch", view ? (double)view->epoch : 0);
    cJSON_AddNumberToObject(answer, "tokens", (double)counts.tokens_emitted);
    cJSON_AddNumberToObject(answer, "tokens_per_s", tokens_per_s);
    cJSON_AddNumberToObject(answer, "faults", (double)run->num_faults);
    cJSON_AddNumberToObject(answer, "pending", pending);
    cJSON_AddNumberToObject(answer, "uncovered", launcher_uncovered(self));
    cJSON *requests = cJSON_AddObjectToObject(answer, "requests");
    cJSON_AddNumberToObject(requests, "accepted", counts.accepted);
    cJSON_AddNumberToObject(requests, "queued", counts.queued);
    cJSON_AddNumberToObject(requests, "running", counts.running);
    cJSON_AddNumberToObject(requests, "completed", counts.completed);
    cJSON_AddNumberToObject(requests, "failed", counts.failed);
    cJSON_AddNumberToObject(requests, "lost", counts.lost);
    add_seats(self, counts.accepted, answer);
}

void launcher_status_tell_pending(const launcher *self, cJSON *answer)
{
    const script *events = &self->options.script;
    cJSON *list = cJSON_AddArrayToObject(answer, "pending");
    for (int i = 0; i < events->num_events; i++) {
        const script_event *event = &events->event[i];
        char text[SCRIPT_TEXT_BYTES];
        if (event->progress.done) {
            continue;
        }
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddNumberToObject(entry, "number", event->order);
        script_describe(event, text, sizeof text);
        cJSON_AddStringToObject(entry, "what", text);
        script_explain(event, launcher_time_ms(self), text, sizeof text);
        cJSON_AddStringToObject(entry, "waits", text);
        cJSON_AddItemToArray(list, entry);
    }
    list = cJSON_AddArrayToObject(answer, "leaving");
    for (int seat = 0; seat < self->run.max_ranks; seat++) {
        char text[CONTROL_ERROR_BYTES / 2];
        if (launcher_lacks_room(self, seat, text, sizeof text)) {
            cJSON *entry = cJSON_CreateObject();
            cJSON_AddNumberToObject(entry, "seat", seat);
            cJSON_AddStringToObject(entry, "waits", text);
            cJSON_AddItemToArray(list, entry);
        }
    }
}
