/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a plan: JSON, a list of phases, each a list of whole numbers. */
#include "experiments/script/plan.h"
#include "experiments/script/json_quote.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int DEFAULT_STEPS = 40;
static const double DEFAULT_SETTLE_MS = 60000;

typedef struct reader {
    const char *name; /* of the file */
    plan *plan;
    int phase, entry; /* where reading is, from 1 on; 0: not in one */
    char *error;
} reader;

static __attribute__((format(printf, 2, 3))) eep_status fail(const reader *self, const char *format,
                                                             ...)
{
    char phase[32] = "", entry[32] = "", what[PLAN_ERROR_BYTES - 270];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    if (self->phase) {
        snprintf(phase, sizeof phase, " phase %d", self->phase);
    }
    if (self->entry) {
        snprintf(entry, sizeof entry, ", entry %d", self->entry);
    }
    snprintf(self->error, PLAN_ERROR_BYTES, "%.200s:%s%s%s %s", self->name, phase, entry,
             self->phase ? ":" : "", what);
    return EEP_ERR_INVALID;
}

static eep_status fail_memory(const reader *self)
{
    snprintf(self->error, PLAN_ERROR_BYTES, "%.200s: out of memory", self->name);
    return EEP_ERR_NO_MEMORY;
}

/* ---------------------------------------------------------------- ranks and phases */

static eep_status refuse_death(const reader *self, int seat)
{
    if (seat == 0) {
        return fail(self, "-0 is the same number as 0 in JSON, so a plan cannot let rank 0 die; "
                          "number the ranks so that another one dies");
    }
    return fail(self,
                "rank %d cannot die, it is not alive in the phase before; list it there, or leave "
                "it out here",
                seat);
}

/* One rank into the present phase. */
static eep_status read_rank(reader *self, const cJSON *item)
{
    char text[JSON_QUOTED_BYTES + 1];
    int index = self->phase - 1;
    plan_phase *phase = &self->plan->phase[index];
    double number = item->valuedouble;
    if (!cJSON_IsNumber(item) || number != floor(number) || fabs(number) >= EEP_MAX_RANKS) {
        return fail(self,
                    "'%s' is not a rank: whole numbers from 0 to %d are, and -1 to -%d for one "
                    "that dies in this phase",
                    json_quote(item, text), EEP_MAX_RANKS - 1, EEP_MAX_RANKS - 1);
    }
    bool dies = signbit(number) != 0;
    int seat = (int)fabs(number);
    if (phase->role[seat] != ROLE_OUT) {
        return fail(self, "rank %d is in it twice", seat);
    }
    if (dies && (seat == 0 || index == 0 || self->plan->phase[index - 1].role[seat] != ROLE_IN)) {
        return refuse_death(self, seat);
    }
    phase->role[seat] = dies ? ROLE_DIES : ROLE_IN;
    phase->num_ranks += !dies;
    phase->num_deaths += dies;
    self->plan->num_seats = seat < self->plan->num_seats ? self->plan->num_seats : seat + 1;
    return EEP_OK;
}

/* What the present phase must be as a whole. */
static eep_status check_phase(const reader *self)
{
    const plan_phase *phase = &self->plan->phase[self->phase - 1];
    if (phase->num_ranks == 0) {
        return fail(self, "all its ranks die; at least one must stay");
    }
    if (self->phase > 1) {
        return phase->num_deaths == phase[-1].num_ranks
                   ? fail(self, "all ranks of the phase before die; one of them must live to let "
                                "others in")
                   : EEP_OK;
    }
    for (int seat = 0; seat < phase->num_ranks; seat++) {
        if (phase->role[seat] != ROLE_IN) {
            return fail(self,
                        "rank %d is missing; an instance starts with ranks 0 to N-1 (here %d of "
                        "them), later phases may leave any of them out",
                        seat, phase->num_ranks);
        }
    }
    return EEP_OK;
}

static eep_status read_phase(reader *self, const cJSON *list)
{
    char text[JSON_QUOTED_BYTES + 1];
    const cJSON *item = NULL;
    if (!cJSON_IsArray(list)) {
        return fail(self, "'%s' is not a phase: a list of ranks such as [0, 1, 2] is",
                    json_quote(list, text));
    }
    if (!list->child) {
        return fail(self, "it is empty; at least one rank must be in it");
    }
    self->plan->phase[self->plan->num_phases++] =
        (plan_phase){.begin_ms = -1, .settled_ms = -1, .end_ms = -1};
    cJSON_ArrayForEach(item, list)
    {
        self->entry++;
        eep_status status = read_rank(self, item);
        if (status != EEP_OK) {
            return status;
        }
    }
    self->entry = 0;
    return check_phase(self);
}

static eep_status read_plan(reader *self, const cJSON *root)
{
    char text[JSON_QUOTED_BYTES + 1];
    const cJSON *list = NULL;
    int num_phases = cJSON_IsArray(root) ? cJSON_GetArraySize(root) : 0;
    if (num_phases == 0) {
        return fail(self,
                    "'%s' is not a plan: a list of phases such as [[0,1],[0,1,2],[0,1,-2]] is",
                    json_quote(root, text));
    }
    if (num_phases > PLAN_MAX_PHASES) {
        return fail(self, "more than %d phases", PLAN_MAX_PHASES);
    }
    self->plan->phase = calloc((size_t)num_phases, sizeof *self->plan->phase);
    if (!self->plan->phase) {
        return fail_memory(self);
    }
    cJSON_ArrayForEach(list, root)
    {
        self->phase++;
        eep_status status = read_phase(self, list);
        if (status != EEP_OK) {
            return status;
        }
    }
    return EEP_OK;
}

/* ---------------------------------------------------------------- the text */

/* The text is no JSON from `at` on. */
static eep_status fail_syntax(const reader *self, const char *text, const char *at, const char *end)
{
    char rest[JSON_QUOTED_BYTES + 1] = "";
    int line = 1;
    for (const char *c = text; c < at; c++) {
        line += *c == '\n';
    }
    for (int i = 0; i < JSON_QUOTED_BYTES && at + i < end && at[i] != '\n'; i++) {
        rest[i] = at[i] >= ' ' && at[i] <= '~' ? at[i] : '?'; /* it may go to a terminal */
    }
    snprintf(self->error, PLAN_ERROR_BYTES,
             "%.200s:%d: no JSON at '%s'; a plan is a list of phases such as "
             "[[0,1],[0,1,2],[0,1,-2]]",
             self->name, line, rest);
    return EEP_ERR_INVALID;
}

eep_status plan_parse(const char *name, const char *text, size_t bytes, plan **plan_out,
                      char error[PLAN_ERROR_BYTES])
{
    reader self = {.name = name, .plan = calloc(1, sizeof *self.plan), .error = error};
    const char *at = text, *end = text + bytes;
    if (!self.plan) {
        return fail_memory(&self);
    }
    self.plan->num_steps = DEFAULT_STEPS;
    self.plan->settle_ms = DEFAULT_SETTLE_MS;
    cJSON *root = cJSON_ParseWithLengthOpts(text, bytes, &at, false);
    while (root && at < end && *at && strchr(" \t\r\n", *at)) {
        at++;
    }
    eep_status status =
        root && at == end ? read_plan(&self, root) : fail_syntax(&self, text, at, end);
    cJSON_Delete(root);
    if (status != EEP_OK) {
        plan_free(self.plan);
        return status;
    }
    *plan_out = self.plan;
    return EEP_OK;
}
