/* SPDX-License-Identifier: Apache-2.0 */
/* Compare what a round did, by its rows, with what it drew. */
#include "experiments/chaos/chaos_judge.h"
#include "experiments/base/run_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double PAUSE_BOUND_MS = 5000; /* of a recovery while the store answers */
static const double OUTAGE_BOUND_MS =
    10000;                              /* of one that a store outage or lost experts held up */
static const double SAME_STOP_MS = 100; /* a stop's row is written after the signal was sent */
static const double NEAR_MS = 3000;     /* an outage that began so long before still counts */

typedef struct row {
    double time_ms;
    int seat;
    uint32_t generation;
    char kind[20];
    long long value;
    bool taken; /* by a fault that was drawn */
} row;

typedef struct judge {
    const chaos_round *round;
    chaos_verdict *verdict;
    row *rows;
    size_t num_rows;
    cJSON *summary;
} judge;

/* Only the first violation is kept: what follows is often its consequence. */
static __attribute__((format(printf, 2, 3))) void violate(judge *self, const char *format, ...)
{
    va_list args;
    if (self->verdict->good) {
        self->verdict->good = false;
        va_start(args, format);
        vsnprintf(self->verdict->why, CHAOS_WHY_BYTES, format, args);
        va_end(args);
    }
}

/* ---------------------------------------------------------------- files */

static eep_status read_rows(judge *self, const char *dir)
{
    char *text = run_file_text(dir, "events.csv"), *rest = text;
    size_t room = 0;
    for (char *line = NULL; text && (line = strsep(&rest, "\n"));) {
        row found = {0};
        if (sscanf(line, "%lf,%d,%" SCNu32 ",%19[^,],%*d,%*u,%*u,%lld", &found.time_ms, &found.seat,
                   &found.generation, found.kind, &found.value) != 5) {
            continue; /* the heading, or a comment */
        }
        if (self->num_rows == room) {
            room = room ? 2 * room : 1024;
            row *grown = realloc(self->rows, room * sizeof *grown);
            if (!grown) {
                free(text);
                return EEP_ERR_NO_MEMORY;
            }
            self->rows = grown;
        }
        self->rows[self->num_rows++] = found;
    }
    free(text);
    return EEP_OK;
}

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

/* ---------------------------------------------------------------- the run as a whole */

static void check_zero(judge *self, const cJSON *object, const char *name)
{
    double value = number(object, name);
    if (!(value == 0)) { /* NaN: it is not there */
        violate(self, "%s is %g, not 0", name, value);
    }
}

/* A joiner that dies while its view is installed aborts that view's first step: only without such
 * faults must the counter be 0. */
static bool has_correlated(const chaos_round *round)
{
    bool found = false;
    for (int i = 0; i < round->num_faults; i++) {
        found |= round->fault[i].scope != SCOPE_SINGLE;
    }
    return found;
}

static void check_summary(judge *self)
{
    static const char *const zeros[] = {"tokens_wrong",   "digests_wrong",   "tokens_missing",
                                        "tokens_doubled", "requests_failed", "requests_lost"};
    const cJSON *captures = cJSON_GetObjectItemCaseSensitive(self->summary, "captures_after_start");
    for (size_t i = 0; i < sizeof zeros / sizeof zeros[0]; i++) {
        check_zero(self, self->summary, zeros[i]);
    }
    check_zero(self, captures, "healthy");
    if (!has_correlated(self->round)) {
        check_zero(self, self->summary, "steps_aborted_by_join");
    }
    self->verdict->steps_waiting = number(self->summary, "steps_waiting_on_join");
    self->verdict->tokens = number(self->summary, "tokens_emitted");
    self->verdict->tokens_wrong = number(self->summary, "tokens_wrong");
    self->verdict->tokens_lost =
        number(self->summary, "tokens_missing") + number(self->summary, "tokens_doubled");
    self->verdict->requests = number(self->summary, "requests_accepted");
}

/* ---------------------------------------------------------------- fault by fault */

/* The first untaken row of the launcher about the seat, of that kind; NULL: there is none. The end
 * of a slow time is no fault (its value is a factor of 1, in thousandths). */
static row *take_row(judge *self, const char *kind, int seat)
{
    for (size_t i = 0; i < self->num_rows; i++) {
        row *found = &self->rows[i];
        bool ends = strcmp(kind, "slow") == 0 && found->value <= 1000;
        if (!found->taken && !ends && found->seat == seat && strcmp(found->kind, kind) == 0) {
            found->taken = true;
            return found;
        }
    }
    return NULL;
}

static const row *find_row(const judge *self, const char *kind, int seat, uint32_t generation)
{
    for (size_t i = 0; i < self->num_rows; i++) {
        const row *found = &self->rows[i];
        if (found->seat == seat && found->generation == generation &&
            strcmp(found->kind, kind) == 0) {
            return found;
        }
    }
    return NULL;
}

static bool is_kind(const cJSON *fault, const char *kind)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(fault, "kind"));
    return text && strcmp(text, kind) == 0;
}

static bool is_expelled(const cJSON *fault)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(fault, "expelled"));
}

/* The summary's fault of that kind for which the signalled generation was expelled; NULL: it was
 * not. A generation dies once, but may be stopped several times: those are told apart by their
 * time. */
static const cJSON *expulsion(const judge *self, const row *injected, const char *kind)
{
    const cJSON *fault = NULL;
    cJSON_ArrayForEach(fault, cJSON_GetObjectItemCaseSensitive(self->summary, "faults"))
    {
        bool same = number(fault, "rank") == injected->seat &&
                    number(fault, "generation") == injected->generation && is_kind(fault, kind);
        bool stopped_then = fabs(number(fault, "time_ms") - injected->time_ms) < SAME_STOP_MS;
        if (same && is_expelled(fault) && (stopped_then || strcmp(kind, "stop") != 0)) {
            return fault;
        }
    }
    return NULL;
}

/* It served before `time_ms`: survivors then have something to recover from. */
static bool had_joined(const judge *self, int seat, uint32_t generation, double time_ms)
{
    const row *joined = find_row(self, "joined", seat, generation);
    return joined && joined->time_ms <= time_ms;
}

static void fill_result(chaos_result *result, const cJSON *fault)
{
    result->expelled = true;
    result->pause_ms = number(fault, "pause_ms");
    result->healed = !isnan(result->pause_ms);
    result->detect_ms = number(fault, "detect_ms");
    result->agree_ms = number(fault, "agree_ms");
    result->repair_ms = number(fault, "repair_ms");
    result->rerun_ms = number(fault, "rerun_ms");
    result->num_survivors = (int)number(fault, "survivors");
    result->weights_bytes = number(fault, "weights_bytes_in_pause");
}

/* Of a rank that may be expelled for a pause: if it was not, it was killed, and that kill is spoken
 * for. */
static void take_resolving_kill(judge *self, const row *injected)
{
    for (size_t i = 0; i < self->num_rows; i++) {
        row *found = &self->rows[i];
        found->taken |= found->seat == injected->seat &&
                        found->generation == injected->generation &&
                        strcmp(found->kind, "kill") == 0;
    }
}

/* Compare what became of a signalled rank with what must. */
static void check_fate(judge *self, int index, const row *injected, const char *kind)
{
    const chaos_fault *drawn = &self->round->fault[index];
    chaos_result *result = &self->verdict->result[index];
    const cJSON *fault = expulsion(self, injected, kind);
    if (drawn->kind == CHAOS_PAUSE && drawn->fate != FATE_STAYS) {
        take_resolving_kill(self, injected);
    }
    if (fault) {
        fill_result(result, fault);
    }
    if (drawn->fate == FATE_STAYS && fault) {
        violate(self, "rank %d was expelled after %s for %.0f ms at %.3f s", drawn->seat,
                drawn->kind == CHAOS_SLOW ? "being slow" : "a stop", drawn->duration_ms,
                injected->time_ms / 1e3);
    }
    bool served = had_joined(self, drawn->seat, injected->generation, injected->time_ms);
    if (drawn->fate == FATE_DIES && !fault && served) {
        violate(self, "rank %d (generation %" PRIu32 "), %s at %.3f s, was not expelled for it",
                drawn->seat, injected->generation, chaos_kind_names[drawn->kind],
                injected->time_ms / 1e3);
    }
}

static void check_fault(judge *self, int index)
{
    static const char *const kinds[NUM_CHAOS_KINDS] = {"kill", "abort",      "die",       "stop",
                                                       "slow", "store-stop", "store-kill"};
    const chaos_fault *drawn = &self->round->fault[index];
    row *injected = take_row(self, kinds[drawn->kind], drawn->seat);
    if (!injected) {
        if (drawn->scope == SCOPE_SINGLE) {
            violate(self, "fault %d (%s of rank %d) was never injected", index + 1,
                    chaos_kind_names[drawn->kind], drawn->seat);
        }
        return;
    }
    self->verdict->result[index] = (chaos_result){
        .injected = true, .time_ms = injected->time_ms, .generation = injected->generation};
    if (drawn->seat >= 0) {
        check_fate(self, index, injected, kinds[drawn->kind]);
    }
}

/* ---------------------------------------------------------------- what nobody drew, and how long
 */

/* Something other than the ranks held recovery up: no store, or no copy of some expert. */
static bool was_held_up(const judge *self, double from_ms, double until_ms)
{
    for (size_t i = 0; i < self->num_rows; i++) {
        const row *found = &self->rows[i];
        bool holds = strncmp(found->kind, "store", 5) == 0 || strcmp(found->kind, "uncovered") == 0;
        if (holds && found->time_ms >= from_ms - NEAR_MS && found->time_ms <= until_ms) {
            return true;
        }
    }
    return false;
}

static bool was_drawn(const judge *self, int seat, uint32_t generation)
{
    for (int i = 0; i < self->round->num_faults; i++) {
        const chaos_fault *drawn = &self->round->fault[i];
        const chaos_result *result = &self->verdict->result[i];
        if (drawn->seat == seat && result->injected && result->generation == generation &&
            drawn->fate != FATE_STAYS) {
            return true;
        }
    }
    return false;
}

static void check_recovery(judge *self, const cJSON *fault)
{
    int seat = (int)number(fault, "rank");
    uint32_t generation = (uint32_t)number(fault, "generation");
    double time_ms = number(fault, "time_ms"), pause_ms = number(fault, "pause_ms");
    if (is_kind(fault, "stop") && !is_expelled(fault)) {
        return; /* it went on by itself */
    }
    if (!was_drawn(self, seat, generation)) {
        violate(self,
                "rank %d (generation %" PRIu32 ") was expelled, or ended, at %.3f s: nothing "
                "was done to it that expels",
                seat, generation, time_ms / 1e3);
    }
    if (!had_joined(self, seat, generation, time_ms)) {
        return;
    }
    if (isnan(pause_ms)) {
        violate(self, "no survivor went on after rank %d (generation %" PRIu32 ") at %.3f s", seat,
                generation, time_ms / 1e3);
        return;
    }
    double bound_ms =
        was_held_up(self, time_ms, time_ms + pause_ms) ? OUTAGE_BOUND_MS : PAUSE_BOUND_MS;
    if (pause_ms > bound_ms) {
        violate(self,
                "recovery from rank %d (generation %" PRIu32 ") at %.3f s took %.0f ms, more "
                "than %.0f",
                seat, generation, time_ms / 1e3, pause_ms, bound_ms);
    }
}

/* Every process that ended did so for a fault that was drawn, whatever the summary calls it. */
static void check_ends(judge *self)
{
    static const char *const deadly[] = {"kill", "abort", "die"};
    for (size_t i = 0; i < self->num_rows; i++) {
        const row *end = &self->rows[i];
        bool explained =
            strcmp(end->kind, "exit") != 0 || was_drawn(self, end->seat, end->generation);
        for (int k = 0; k < 3 && !explained; k++) {
            explained = find_row(self, deadly[k], end->seat, end->generation) != NULL;
        }
        if (!explained) {
            violate(self,
                    "rank %d (generation %" PRIu32 ") ended at %.3f s: nothing was done to it that "
                    "expels",
                    end->seat, end->generation, end->time_ms / 1e3);
        }
    }
}

static void check_exit(judge *self, int exit_code)
{
    if (exit_code < 0) {
        violate(self, "eep-run was ended by signal %d", -exit_code);
    } else if (exit_code > 0 ||
               !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(self->summary, "good"))) {
        violate(self, "eep-run ended with code %d: see its output", exit_code);
    }
}

eep_status chaos_judge(const chaos_round *round, const char *dir, int exit_code,
                       chaos_verdict *verdict_out)
{
    judge self = {.round = round, .verdict = verdict_out};
    *verdict_out = (chaos_verdict){.good = true};
    self.summary = run_file_json(dir, "summary.json");
    eep_status status = read_rows(&self, dir);
    if (status == EEP_OK && !self.summary) {
        check_exit(&self, exit_code);
        violate(&self, "there is no summary.json");
    } else if (status == EEP_OK) {
        const cJSON *fault = NULL;
        check_summary(&self);
        for (int i = 0; i < round->num_faults; i++) {
            check_fault(&self, i);
        }
        cJSON_ArrayForEach(fault, cJSON_GetObjectItemCaseSensitive(self.summary, "faults"))
        {
            check_recovery(&self, fault);
        }
        check_ends(&self);
        check_exit(&self, exit_code);
    }
    cJSON_Delete(self.summary);
    free(self.rows);
    return status;
}
