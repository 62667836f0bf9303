/* SPDX-License-Identifier: Apache-2.0 */
/* Lines from eep-ctl become commands and questions, and their answers. */
#include "experiments/control/control_request.h"

#include "experiments/base/utf8.h"
#include "experiments/script/script_parse.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WAIT_S = 86400 };

static const double TOO_LARGE_ID = 1e15; /* cJSON writes 15 digits */

/* ---------------------------------------------------------------- answers */

cJSON *control_answer_to(const cJSON *id, bool ok)
{
    cJSON *answer = cJSON_CreateObject();
    if (id) {
        cJSON_AddItemToObject(answer, "id", cJSON_Duplicate(id, false));
    }
    cJSON_AddBoolToObject(answer, "ok", ok);
    return answer;
}

void control_answer(control *self, int index, cJSON *answer)
{
    char *text = cJSON_PrintUnformatted(answer);
    if (text) {
        utf8_mend(text); /* a longer text may have been cut, or eep-run's own script be no UTF-8 */
        control_peer_say(&self->peer[index], text);
    } else {
        control_peer_close(&self->peer[index]); /* no memory: better no answer than half of one */
    }
    cJSON_free(text);
    cJSON_Delete(answer);
}

void control_refuse(control *self, int index, const cJSON *id, const char *error)
{
    cJSON *answer = control_answer_to(id, false);
    cJSON_AddStringToObject(answer, "error", error);
    control_answer(self, index, answer);
}

/* A wait that is not over by its bound. */
static void refuse_late(control *self, int index, const cJSON *id, const char *error)
{
    cJSON *answer = control_answer_to(id, false);
    cJSON_AddTrueToObject(answer, "timeout");
    cJSON_AddStringToObject(answer, "error", error);
    control_answer(self, index, answer);
}

/* ---------------------------------------------------------------- requests */

/* Errors of the script name the flag of eep-run: here the verb as it was given. */
static void name_as_given(verb action, char error[CONTROL_ERROR_BYTES])
{
    const verb_info *info = &verb_table[action];
    size_t length = strlen(info->option);
    if (strncmp(error, info->option, length) == 0 && error[length] == ':') {
        char rest[CONTROL_ERROR_BYTES];
        snprintf(rest, sizeof rest, "%s", error + length);
        snprintf(error, CONTROL_ERROR_BYTES, "%s%.*s", info->name, CONTROL_ERROR_BYTES - 32, rest);
    }
}

static void do_command(control *self, int index, const cJSON *id, verb action, const char *what)
{
    char error[CONTROL_ERROR_BYTES] = "";
    int seats[SCRIPT_MAX_SEATS], num_seats = 0, number = -1;
    script_event event;
    if (script_parse(action, what, false, &event, error) != EEP_OK ||
        !self->ops->command(self->user, &event, seats, &num_seats, &number, error)) {
        name_as_given(action, error);
        control_refuse(self, index, id, error);
        return;
    }
    cJSON *answer = control_answer_to(id, true);
    cJSON_AddItemToObject(answer, "seats", cJSON_CreateIntArray(seats, num_seats));
    if (number >= 0) {
        cJSON_AddTrueToObject(answer, "pending");
        cJSON_AddNumberToObject(answer, "number", number);
    }
    control_answer(self, index, answer);
}

static void do_cancel(control *self, int index, const cJSON *id, const char *what)
{
    char error[CONTROL_ERROR_BYTES] = "", *end = NULL;
    long number = strtol(what, &end, 10);
    if (*what < '0' || *what > '9' || *end != '\0' || number > INT_MAX) {
        snprintf(error, sizeof error,
                 "cancel: '%.64s' is not a number; 'pending' lists what can be withdrawn", what);
        control_refuse(self, index, id, error);
    } else if (!self->ops->cancel(self->user, (int)number, error)) {
        control_refuse(self, index, id, error);
    } else {
        control_answer(self, index, control_answer_to(id, true));
    }
}

static void do_wait(control *self, int index, const cJSON *id, const cJSON *request)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, "for"));
    const cJSON *timeout = cJSON_GetObjectItemCaseSensitive(request, "timeout_s");
    control_owed *owed = &self->owed[index];
    wait_goal goal = !text                          ? GOAL_NONE
                     : strcmp(text, "settled") == 0 ? GOAL_SETTLED
                     : strcmp(text, "done") == 0    ? GOAL_DONE
                                                    : GOAL_NONE;
    double seconds = timeout ? cJSON_GetNumberValue(timeout) : MAX_WAIT_S;
    if (goal == GOAL_NONE) {
        control_refuse(self, index, id, "wait: \"for\" must be \"settled\" or \"done\"");
    } else if (!(seconds >= 0 && seconds <= MAX_WAIT_S)) {
        control_refuse(self, index, id, "wait: \"timeout_s\" must be a number from 0 to 86400");
    } else if (owed->goal != GOAL_NONE) {
        control_refuse(self, index, id, "wait: this connection waits already");
    } else {
        owed->goal = goal;
        owed->id = id ? cJSON_Duplicate(id, false) : NULL;
        owed->timeout_s = seconds;
        owed->deadline_ms = self->now_ms + seconds * 1e3;
    }
}

static void refuse_unknown(control *self, int index, const cJSON *id, const char *name)
{
    char error[CONTROL_ERROR_BYTES];
    int used = snprintf(error, sizeof error, "'%.64s' is not a command; known are ", name);
    for (int v = 0; v < NUM_VERBS; v++) {
        used += snprintf(error + used, sizeof error - (size_t)used, "%s, ", verb_table[v].name);
    }
    snprintf(error + used, sizeof error - (size_t)used,
             "status, pending, cancel, watch, wait, finish");
    control_refuse(self, index, id, error);
}

static void do_request(control *self, int index, const cJSON *id, const cJSON *request)
{
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, "do"));
    const cJSON *what = cJSON_GetObjectItemCaseSensitive(request, "what");
    verb action = VERB_KILL;
    if (!name) {
        control_refuse(self, index, id, "\"do\" is missing or not a text");
    } else if (what && !cJSON_IsString(what)) {
        control_refuse(self, index, id, "\"what\" is not a text");
    } else if (verb_find(name, &action)) {
        do_command(self, index, id, action, what ? what->valuestring : "");
    } else if (strcmp(name, "status") == 0) {
        cJSON *answer = control_answer_to(id, true);
        self->ops->status(self->user, answer);
        control_answer(self, index, answer);
    } else if (strcmp(name, "pending") == 0) {
        cJSON *answer = control_answer_to(id, true);
        self->ops->pending(self->user, answer);
        control_answer(self, index, answer);
    } else if (strcmp(name, "cancel") == 0) {
        do_cancel(self, index, id, what ? what->valuestring : "");
    } else if (strcmp(name, "watch") == 0) {
        self->owed[index].watches = true;
        control_answer(self, index, control_answer_to(id, true));
    } else if (strcmp(name, "wait") == 0) {
        do_wait(self, index, id, request);
    } else if (strcmp(name, "finish") == 0) {
        self->ops->finish(self->user);
        control_answer(self, index, control_answer_to(id, true));
    } else {
        refuse_unknown(self, index, id, name);
    }
}

/* In JSON: as an escape, which cJSON would end the text at. */
static bool has_nul(const char *line)
{
    for (const char *at = strchr(line, '\\'); at; at = strchr(at + 2, '\\')) {
        if (strncmp(at + 1, "u0000", 5) == 0) {
            return true;
        }
        if (at[1] == '\0') {
            break;
        }
    }
    return false;
}

void control_on_line(control *self, int index, const char *line, size_t bytes)
{
    const char *end = NULL;
    cJSON *request = cJSON_ParseWithLengthOpts(line, bytes + 1, &end, true);
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(request, "id");
    if (!utf8_is(line, bytes)) {
        control_refuse(self, index, NULL, "the line is not one JSON object: it is not UTF-8");
    } else if (!cJSON_IsObject(request)) {
        control_refuse(self, index, NULL, "the line is not one JSON object");
    } else if (has_nul(line)) {
        control_refuse(self, index, NULL, "a text has \\u0000 in it");
    } else if (cJSON_IsNumber(id) && !(fabs(id->valuedouble) < TOO_LARGE_ID)) {
        control_refuse(self, index, NULL,
                       "\"id\" is a number of 1e15 or more, which cannot be given back");
    } else if (id && !cJSON_IsNumber(id) && !cJSON_IsString(id)) {
        control_refuse(self, index, NULL, "\"id\" is neither a number nor a text");
    } else {
        do_request(self, index, id, request);
    }
    cJSON_Delete(request);
}

/* ---------------------------------------------------------------- waits */

void control_settle_wait(control *self, int index)
{
    control_owed *owed = &self->owed[index];
    if (owed->goal == GOAL_NONE) {
        return;
    }
    char why[CONTROL_ERROR_BYTES] = "";
    bool times_out = self->now_ms >= owed->deadline_ms;
    bool reached = owed->goal == GOAL_SETTLED && self->ops->settled(self->user, NULL);
    if (!reached && !times_out) {
        return;
    }
    if (reached) {
        control_answer(self, index, control_answer_to(owed->id, true));
    } else {
        char error[CONTROL_ERROR_BYTES];
        (void)self->ops->settled(self->user, why);
        snprintf(error, sizeof error, "wait: not %s after %g s%s%.400s",
                 owed->goal == GOAL_SETTLED ? "settled" : "done", owed->timeout_s, *why ? ": " : "",
                 why);
        refuse_late(self, index, owed->id, error);
    }
    cJSON_Delete(owed->id);
    owed->id = NULL;
    owed->goal = GOAL_NONE;
}
