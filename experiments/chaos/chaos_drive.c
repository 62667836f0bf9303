/* SPDX-License-Identifier: Apache-2.0 */
/* Make the faults of a round through a control socket. */
#include "experiments/chaos/chaos_drive.h"

#include "experiments/base/child.h"
#include "experiments/base/monotonic.h"
#include "experiments/control/control_client.h"
#include "experiments/control/control_path.h"
#include "experiments/script/script.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double START_BOUND_MS = 120000, SETTLE_BOUND_MS = 120000;
static const double ANSWER_S = 30; /* all is answered at once */
static const double LOOK_MS = 100;

typedef struct driver {
    const chaos_round *round;
    chaos_driven *run;
    control_client *client;
    bool is_over; /* the run has ended, a signal has come, or `why` says what is wrong */
} driver;

static __attribute__((format(printf, 2, 3))) void violate(driver *self, const char *format, ...)
{
    va_list args;
    if (!self->is_over) {
        va_start(args, format);
        vsnprintf(self->run->why, CHAOS_DRIVE_WHY_BYTES, format, args);
        va_end(args);
        self->is_over = true;
    }
}

/* Wait for so long, unless the run ends or a signal comes. */
static void rest(driver *self, double ms)
{
    if (self->is_over) {
        return;
    }
    if (now_ms() > self->run->until_ms) {
        self->is_over = true; /* who waits for its end says so */
    } else {
        self->is_over = child_wait(self->run->pidfd, self->run->signal_fd, (int)ms) != CHILD_LATE;
    }
}

/* ---------------------------------------------------------------- the control socket */

/* The answer to a verb with its text, or to something that is asked (NULL); to be deleted. NULL:
 * the run answers no more. */
static cJSON *ask(driver *self, const char *what, const char *text)
{
    cJSON *request = cJSON_CreateObject(), *answer = NULL;
    cJSON_AddStringToObject(request, "do", what);
    if (text) {
        cJSON_AddStringToObject(request, "what", text);
    }
    eep_status status = control_client_send(self->client, request);
    cJSON_Delete(request);
    if (status == EEP_OK) {
        status = control_client_next(self->client, ANSWER_S, &answer);
    }
    if (status == EEP_ERR_TIMEOUT) {
        violate(self, "eep-run gave no answer to '%s %s' within %.0f s", what, text ? text : "",
                ANSWER_S);
    } else if (status != EEP_OK &&
               child_wait(self->run->pidfd, self->run->signal_fd, (int)LOOK_MS) == CHILD_LATE) {
        violate(self, "eep-run runs, and its control socket ended at '%s %s': %s", what,
                text ? text : "", eep_strerror(status));
    }
    self->is_over |= status != EEP_OK;
    return status == EEP_OK ? answer : NULL;
}

static bool is_ok(const cJSON *answer)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "ok"));
}

static const char *text_of(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text ? text : "";
}

/* Do a verb. False: the run refused it, or did it to nobody; `must`: it may not. */
static bool command(driver *self, verb what, const char *text, bool must)
{
    cJSON *answer = self->is_over ? NULL : ask(self, verb_table[what].name, text);
    bool done = answer && is_ok(answer);
    if (answer && !done && must) {
        violate(self, "eep-ctl %s %s: %s", verb_table[what].name, text, text_of(answer, "error"));
    }
    cJSON_Delete(answer);
    return done;
}

/* ---------------------------------------------------------------- settling */

/* A process for the seat, unless something is pending: a new one waits until its host is reached.
 */
static void fill_seat(driver *self, const cJSON *status, const cJSON *seat)
{
    const cJSON *pending = cJSON_GetObjectItemCaseSensitive(status, "pending");
    char text[16];
    if (strcmp(text_of(seat, "state"), "vacant") == 0 && cJSON_IsNumber(pending) &&
        pending->valuedouble == 0) {
        snprintf(text, sizeof text, "%.0f",
                 cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(seat, "seat")));
        (void)command(self, VERB_REJOIN, text, false); /* in the next look again */
    }
}

/* Nothing is left to do, and all seats of the first view serve. Each that has no process gets one.
 * `why`: what is waited for. */
static bool is_settled(driver *self, char why[SCRIPT_ERROR_BYTES])
{
    cJSON *status = self->is_over ? NULL : ask(self, "status", NULL);
    const cJSON *seat = NULL;
    bool settled = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(status, "settled"));
    int num = 0;
    snprintf(why, SCRIPT_ERROR_BYTES, "%s",
             settled ? "seats without a process" : text_of(status, "waits"));
    cJSON_ArrayForEach(seat, cJSON_GetObjectItemCaseSensitive(status, "seats"))
    {
        if (num++ < self->run->num_ranks) { /* they are in order */
            settled &= strcmp(text_of(seat, "state"), "joined") == 0;
            fill_seat(self, status, seat);
        }
    }
    cJSON_Delete(status);
    return settled;
}

static void settle(driver *self, double bound_ms, const char *after)
{
    char why[SCRIPT_ERROR_BYTES] = "";
    double until_ms = now_ms() + bound_ms;
    while (!self->is_over) {
        if (is_settled(self, why)) {
            return;
        }
        if (now_ms() > until_ms) {
            violate(self, "not settled %.0f s after %s: %.200s", bound_ms / 1e3, after, why);
        }
        rest(self, LOOK_MS);
    }
}

/* ---------------------------------------------------------------- faults */

/* The run has its socket. */
static void connect_to(driver *self)
{
    char path[CONTROL_PATH_BYTES], error[CONTROL_PATH_ERROR_BYTES];
    double until_ms = now_ms() + START_BOUND_MS;
    while (!self->is_over && !self->client) {
        if (control_path_find(self->run->dir, path, error) == EEP_OK &&
            control_client_open(path, &self->client) == EEP_OK) {
            return;
        }
        self->client = NULL;
        if (now_ms() > until_ms) {
            violate(self, "eep-run had no control socket after %.0f s", START_BOUND_MS / 1e3);
        }
        rest(self, LOOK_MS);
    }
}

/* Fault `index`, and the one that goes together with it; the index behind them. */
static int make_fault(driver *self, int index)
{
    const chaos_round *round = self->round;
    const chaos_order *order = &round->order[index];
    const chaos_fault *fault = &round->fault[index];
    char after[2 * VERB_FILE_BYTES];
    int used = snprintf(after, sizeof after, "%s %s", verb_table[order->verb].name, order->text);
    double begin_ms = now_ms();
    self->run->injected[index++] = command(self, order->verb, order->text, true);
    if (index < round->num_faults && round->fault[index].scope == SCOPE_DOUBLE) {
        const chaos_order *second = &round->order[index];
        rest(self, second->after_ms);
        self->run->injected[index++] = command(self, second->verb, second->text, false);
        snprintf(after + used, sizeof after - (size_t)used, " and %s %s",
                 verb_table[second->verb].name, second->text);
    }
    double left_ms = fault->duration_ms - (now_ms() - begin_ms);
    if (left_ms > 0) {
        rest(self, left_ms);
    }
    if (fault->kind == CHAOS_HOST_KILL) {
        (void)command(self, VERB_HOST_START, order->text, true);
    }
    settle(self, SETTLE_BOUND_MS, after);
    return index;
}

void chaos_drive(const chaos_round *round, chaos_driven *run)
{
    driver self = {.round = round, .run = run};
    memset(run->injected, 0, sizeof run->injected);
    run->why[0] = '\0';
    connect_to(&self);
    settle(&self, START_BOUND_MS, "its start");
    for (int i = 0; i < round->num_faults && !self.is_over;) {
        i = make_fault(&self, i);
    }
    if (!self.is_over) {
        cJSON_Delete(ask(&self, "finish", NULL));
    }
    if (self.client) {
        control_client_close(self.client);
    }
}
