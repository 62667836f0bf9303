/* The text of a plan: JSON, but only the part of it that plans need, so that every error can name
 * line and column. */
#include "experiments/script/plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int DEFAULT_STEPS = 40;
static const double DEFAULT_SETTLE_MS = 60000;

typedef struct reader {
    const char *name, *next, *end;
    int line, column;
    plan *plan;
    char *error;
} reader;

static __attribute__((format(printf, 2, 3))) eep_status fail(const reader *self, const char *format,
                                                             ...)
{
    va_list args;
    int used =
        snprintf(self->error, PLAN_ERROR_BYTES, "%s:%d:%d: ", self->name, self->line, self->column);
    if (used > 0 && used < PLAN_ERROR_BYTES) {
        va_start(args, format);
        vsnprintf(self->error + used, (size_t)(PLAN_ERROR_BYTES - used), format, args);
        va_end(args);
    }
    return EEP_ERR_INVALID;
}

/* ---------------------------------------------------------------- characters */

static void step(reader *self)
{
    self->column++;
    if (*self->next++ == '\n') {
        self->line++;
        self->column = 1;
    }
}

/* The next character that is not blank; 0 at the end. */
static char peek(reader *self)
{
    while (self->next < self->end && *self->next && strchr(" \t\r\n", *self->next)) {
        step(self);
    }
    return self->next < self->end ? *self->next : '\0';
}

static bool take(reader *self, char wanted)
{
    bool there = peek(self) == wanted;
    if (there) {
        step(self);
    }
    return there;
}

/* What stands at the present place, for a message: up to the next blank, comma or bracket. */
static const char *token(const reader *self, char text_out[32])
{
    int length = 0;
    while (self->next + length < self->end && length < 31 && self->next[length] &&
           !strchr(" \t\r\n,[]", self->next[length])) {
        length++;
    }
    if (length == 0 && self->next < self->end) {
        length = 1;
    }
    memcpy(text_out, self->next, (size_t)length);
    text_out[length] = '\0';
    return length ? text_out : "end of file";
}

/* ---------------------------------------------------------------- ranks and phases */

static eep_status refuse_rank(const reader *self, int phase)
{
    char text[32];
    return fail(self,
                "phase %d: '%s' is not a rank: whole numbers from 0 to %d are, and -1 to -%d for "
                "one that dies in this phase",
                phase + 1, token(self, text), EEP_MAX_RANKS - 1, EEP_MAX_RANKS - 1);
}

/* One rank into the phase. */
static eep_status read_rank(reader *self, int index)
{
    char text[32], *end = NULL;
    plan_phase *phase = &self->plan->phase[index];
    peek(self);
    token(self, text);
    bool dies = text[0] == '-';
    const char *digits = text + dies;
    size_t num_digits = strspn(digits, "0123456789");
    if (num_digits == 0 || num_digits > 4 || digits[num_digits] != '\0' ||
        (digits[0] == '0' && num_digits > 1)) {
        return refuse_rank(self, index);
    }
    int seat = (int)strtol(digits, &end, 10);
    if (seat >= EEP_MAX_RANKS) {
        return refuse_rank(self, index);
    }
    if (dies && seat == 0) {
        return fail(self,
                    "phase %d: -0 is the same number as 0 in JSON, so a plan cannot let rank 0 "
                    "die; number the ranks so that another one dies",
                    index + 1);
    }
    if (phase->role[seat] != ROLE_OUT) {
        return fail(self, "phase %d: rank %d is in it twice", index + 1, seat);
    }
    if (dies && (index == 0 || self->plan->phase[index - 1].role[seat] != ROLE_IN)) {
        return fail(self,
                    "phase %d: rank %d cannot die, it is not alive in the phase before; list it "
                    "there, or leave it out here",
                    index + 1, seat);
    }
    phase->role[seat] = dies ? ROLE_DIES : ROLE_IN;
    phase->num_ranks += !dies;
    phase->num_deaths += dies;
    self->plan->num_seats = seat < self->plan->num_seats ? self->plan->num_seats : seat + 1;
    for (size_t i = 0; i < dies + num_digits; i++) {
        step(self);
    }
    return EEP_OK;
}

/* What a phase must be as a whole; `at` is where it begins. */
static eep_status check_phase(const reader *at, int index)
{
    const plan_phase *phase = &at->plan->phase[index];
    if (phase->num_ranks == 0) {
        return fail(at, "phase %d: all its ranks die; at least one must stay", index + 1);
    }
    if (index == 0) {
        for (int seat = 0; seat < phase->num_ranks; seat++) {
            if (phase->role[seat] != ROLE_IN) {
                return fail(at,
                            "phase 1: rank %d is missing; an instance starts with ranks 0 to N-1 "
                            "(here %d of them), later phases may leave any of them out",
                            seat, phase->num_ranks);
            }
        }
    } else if (phase->num_deaths == at->plan->phase[index - 1].num_ranks) {
        return fail(at,
                    "phase %d: all ranks of the phase before die; one of them must live to let "
                    "others in",
                    index + 1);
    }
    return EEP_OK;
}

static eep_status add_phase(reader *self)
{
    plan *into = self->plan;
    size_t num = (size_t)into->num_phases;
    if (num == PLAN_MAX_PHASES) {
        return fail(self, "more than %d phases", PLAN_MAX_PHASES);
    }
    plan_phase *grown = realloc(into->phase, (num + 1) * sizeof *grown);
    if (!grown) {
        snprintf(self->error, PLAN_ERROR_BYTES, "%s: out of memory", self->name);
        return EEP_ERR_NO_MEMORY;
    }
    grown[num] = (plan_phase){.begin_ms = -1, .settled_ms = -1, .end_ms = -1};
    into->phase = grown;
    into->num_phases++;
    return EEP_OK;
}

static eep_status read_phase(reader *self)
{
    char text[32];
    int index = self->plan->num_phases;
    peek(self);
    reader begin = *self;
    if (!take(self, '[')) {
        return fail(self, "'%s' is not a phase: a list of ranks such as [0, 1, 2] is",
                    token(self, text));
    }
    eep_status status = add_phase(self);
    if (status == EEP_OK && peek(self) == ']') {
        return fail(&begin, "phase %d is empty; at least one rank must be in it", index + 1);
    }
    do {
        status = status == EEP_OK ? read_rank(self, index) : status;
    } while (status == EEP_OK && take(self, ','));
    if (status == EEP_OK && !take(self, ']')) {
        return fail(self, "phase %d: '%s' where ',' or ']' is expected", index + 1,
                    token(self, text));
    }
    return status == EEP_OK ? check_phase(&begin, index) : status;
}

static eep_status read_plan(reader *self)
{
    char text[32];
    eep_status status = EEP_OK;
    if (!take(self, '[')) {
        return fail(self,
                    "'%s' is not a plan: a list of phases such as [[0,1],[0,1,2],[0,1,-2]] is",
                    token(self, text));
    }
    do {
        status = read_phase(self);
    } while (status == EEP_OK && take(self, ','));
    if (status == EEP_OK && !take(self, ']')) {
        return fail(self, "'%s' where ',' or ']' is expected", token(self, text));
    }
    if (status == EEP_OK && (peek(self) || self->next < self->end)) {
        return fail(self, "'%s' after the end of the plan", token(self, text));
    }
    return status;
}

eep_status plan_parse(const char *name, const char *text, size_t bytes, plan **plan_out,
                      char error[PLAN_ERROR_BYTES])
{
    reader self = {.name = name, .next = text, .end = text + bytes, .line = 1, .column = 1};
    self.error = error;
    if (bytes >= 3 &&
        memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* UTF-8's mark, as editors write it */
        self.next += 3;
    }
    self.plan = calloc(1, sizeof *self.plan);
    if (!self.plan) {
        snprintf(error, PLAN_ERROR_BYTES, "%s: out of memory", name);
        return EEP_ERR_NO_MEMORY;
    }
    self.plan->num_steps = DEFAULT_STEPS;
    self.plan->settle_ms = DEFAULT_SETTLE_MS;
    eep_status status = read_plan(&self);
    if (status != EEP_OK) {
        plan_free(self.plan);
        return status;
    }
    *plan_out = self.plan;
    return EEP_OK;
}
