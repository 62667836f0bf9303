/* SPDX-License-Identifier: Apache-2.0 */
/* Compare what a round did, by its rows, with what it drew. */
#include "experiments/chaos/chaos_found.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const double PAUSE_BOUND_MS = 5000; /* of a recovery while the store answers */
static const double OUTAGE_BOUND_MS =
    10000;                              /* of one that a store outage or lost experts held up */
static const double SAME_STOP_MS = 100; /* a stop's row is written after the signal was sent */
static const double NEAR_MS = 3000;     /* an outage that began so long before still counts */

/* ---------------------------------------------------------------- the run as a whole */

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

/* ---------------------------------------------------------------- fault by fault */

/* The summary's fault of that kind for which the signalled generation was expelled; NULL: it was
 * not. A generation dies once, but may be stopped several times: those are told apart by their
 * time. */
static const cJSON *expulsion(const chaos_found *self, const chaos_row *injected, const char *kind)
{
    const cJSON *fault = NULL;
    cJSON_ArrayForEach(fault, cJSON_GetObjectItemCaseSensitive(self->summary, "faults"))
    {
        bool same = chaos_number(fault, "rank") == injected->seat &&
                    chaos_number(fault, "generation") == injected->generation &&
                    chaos_is_kind(fault, kind);
        bool stopped_then = fabs(chaos_number(fault, "time_ms") - injected->time_ms) < SAME_STOP_MS;
        if (same && chaos_is_expelled(fault) && (stopped_then || strcmp(kind, "stop") != 0)) {
            return fault;
        }
    }
    return NULL;
}

/* Of a rank that may be expelled for a pause: if it was not, it was killed, and that kill is spoken
 * for. */
static void take_resolving_kill(chaos_found *self, const chaos_row *injected)
{
    for (size_t i = 0; i < self->num_rows; i++) {
        chaos_row *found = &self->rows[i];
        found->taken |= found->seat == injected->seat &&
                        found->generation == injected->generation &&
                        strcmp(found->kind, "kill") == 0;
    }
}

/* Compare what became of a signalled rank with what must. */
static void check_fate(chaos_found *self, int index, const chaos_row *injected, const char *kind)
{
    const chaos_fault *drawn = &self->round->fault[index];
    chaos_result *result = &self->verdict->result[index];
    const cJSON *fault = expulsion(self, injected, kind);
    if (drawn->kind == CHAOS_PAUSE && drawn->fate != FATE_STAYS) {
        take_resolving_kill(self, injected);
    }
    if (fault) {
        chaos_fill_result(result, fault);
    }
    if (drawn->fate == FATE_STAYS && fault) {
        chaos_violate(self, "rank %d was expelled after %s for %.0f ms at %.3f s", drawn->seat,
                      drawn->kind == CHAOS_SLOW ? "being slow" : "a stop", drawn->duration_ms,
                      injected->time_ms / 1e3);
    }
    bool served = chaos_had_joined(self, drawn->seat, injected->generation, injected->time_ms);
    if (drawn->fate == FATE_DIES && !fault && served) {
        chaos_violate(self,
                      "rank %d (generation %" PRIu32 "), %s at %.3f s, was not expelled for it",
                      drawn->seat, injected->generation, chaos_kind_names[drawn->kind],
                      injected->time_ms / 1e3);
    }
}

static void check_fault(chaos_found *self, int index)
{
    const chaos_fault *drawn = &self->round->fault[index];
    const char *kind = chaos_row_name(drawn->kind);
    chaos_row *injected = chaos_take_row(self, kind, drawn->seat);
    if (!injected) {
        if (drawn->scope == SCOPE_SINGLE) {
            chaos_violate(self, "fault %d (%s of rank %d) was never injected", index + 1,
                          chaos_kind_names[drawn->kind], drawn->seat);
        }
        return;
    }
    self->verdict->result[index] = (chaos_result){
        .injected = true, .time_ms = injected->time_ms, .generation = injected->generation};
    if (drawn->seat >= 0) {
        check_fate(self, index, injected, kind);
    }
}

/* ---------------------------------------------------------------- what nobody drew, and how long
 */

/* Something other than the ranks held recovery up: no store, or no copy of some expert. */
static bool was_held_up(const chaos_found *self, double from_ms, double until_ms)
{
    for (size_t i = 0; i < self->num_rows; i++) {
        const chaos_row *found = &self->rows[i];
        bool holds = strncmp(found->kind, "store", 5) == 0 || strcmp(found->kind, "uncovered") == 0;
        if (holds && found->time_ms >= from_ms - NEAR_MS && found->time_ms <= until_ms) {
            return true;
        }
    }
    return false;
}

static bool was_drawn(const chaos_found *self, int seat, uint32_t generation)
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

static void check_recovery(chaos_found *self, const cJSON *fault)
{
    int seat = (int)chaos_number(fault, "rank");
    uint32_t generation = (uint32_t)chaos_number(fault, "generation");
    double time_ms = chaos_number(fault, "time_ms"), pause_ms = chaos_number(fault, "pause_ms");
    if (chaos_is_kind(fault, "stop") && !chaos_is_expelled(fault)) {
        return; /* it went on by itself */
    }
    if (!was_drawn(self, seat, generation)) {
        chaos_violate(self,
                      "rank %d (generation %" PRIu32 ") was expelled, or ended, at %.3f s: nothing "
                      "was done to it that expels",
                      seat, generation, time_ms / 1e3);
    }
    if (!chaos_had_joined(self, seat, generation, time_ms)) {
        return;
    }
    if (isnan(pause_ms)) {
        chaos_violate(self, "no survivor went on after rank %d (generation %" PRIu32 ") at %.3f s",
                      seat, generation, time_ms / 1e3);
        return;
    }
    double bound_ms =
        was_held_up(self, time_ms, time_ms + pause_ms) ? OUTAGE_BOUND_MS : PAUSE_BOUND_MS;
    if (pause_ms > bound_ms) {
        chaos_violate(self,
                      "recovery from rank %d (generation %" PRIu32 ") at %.3f s took %.0f ms, more "
                      "than %.0f",
                      seat, generation, time_ms / 1e3, pause_ms, bound_ms);
    }
}

/* Every process that ended did so for a fault that was drawn, whatever the summary calls it. */
static void check_ends(chaos_found *self)
{
    static const char *const deadly[] = {"kill", "abort", "die"};
    for (size_t i = 0; i < self->num_rows; i++) {
        const chaos_row *end = &self->rows[i];
        bool explained =
            strcmp(end->kind, "exit") != 0 || was_drawn(self, end->seat, end->generation);
        for (int k = 0; k < 3 && !explained; k++) {
            explained = chaos_find_row(self, deadly[k], end->seat, end->generation) != NULL;
        }
        if (!explained) {
            chaos_violate(self,
                          "rank %d (generation %" PRIu32
                          ") ended at %.3f s: nothing was done to it that "
                          "expels",
                          end->seat, end->generation, end->time_ms / 1e3);
        }
    }
}

eep_status chaos_judge(const chaos_round *round, const char *dir, int exit_code,
                       chaos_verdict *verdict_out)
{
    chaos_found self;
    eep_status status = chaos_found_read(&self, round, dir, verdict_out);
    if (status == EEP_OK && !self.summary) {
        chaos_check_exit(&self, exit_code);
        chaos_violate(&self, "there is no summary.json");
    } else if (status == EEP_OK) {
        const cJSON *fault = NULL;
        chaos_check_totals(&self);
        if (!has_correlated(round)) {
            chaos_check_zero(&self, self.summary, "steps_aborted_by_join");
        }
        for (int i = 0; i < round->num_faults; i++) {
            check_fault(&self, i);
        }
        cJSON_ArrayForEach(fault, cJSON_GetObjectItemCaseSensitive(self.summary, "faults"))
        {
            check_recovery(&self, fault);
        }
        check_ends(&self);
        chaos_check_exit(&self, exit_code);
    }
    chaos_found_free(&self);
    return status;
}
