/* SPDX-License-Identifier: Apache-2.0 */
/* Compare what a round of several hosts did with what was made. One fault after the other was made,
 * each after all had settled, so what a rank was expelled for lies between two of them. */
#include "experiments/chaos/chaos_found.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const double PAUSE_BOUND_MS = 10000; /* of a recovery, beyond what its fault lasted */
static const double EARLY_MS = 100;         /* a row is written after what it tells of was done */
static const double LATE_MS = 2000;         /* silence may be evidence after it has ended */

/* Where on the time line of the round a fault, and the one that goes with it, lie. */
typedef struct span {
    double from_ms, until_ms; /* INFINITY: it is the last */
} span;

/* Which seats the hosts of a mask have. */
typedef struct judged {
    chaos_found found;
    const hosts_file *hosts;
} judged;

static bool is_on(const judged *self, uint64_t hosts, int seat)
{
    return hosts >> hosts_file_home(self->hosts, seat) & 1;
}

/* From the row of the fault to that of the next one which did not go together with it. */
static span span_of(const judged *self, int index)
{
    const chaos_round *round = self->found.round;
    span out = {self->found.verdict->result[index].time_ms, INFINITY};
    for (int i = index + 1; i < round->num_faults; i++) {
        const chaos_result *next = &self->found.verdict->result[i];
        if (round->fault[i].scope == SCOPE_SINGLE && next->injected) {
            out.until_ms = next->time_ms;
            break;
        }
    }
    return out;
}

/* ---------------------------------------------------------------- fault by fault */

static void find_injected(judged *self, const bool *injected)
{
    const chaos_round *round = self->found.round;
    for (int i = 0; i < round->num_faults; i++) {
        const chaos_fault *drawn = &round->fault[i];
        const char *kind = chaos_row_name(drawn->kind);
        chaos_row *row = injected[i] ? chaos_take_row(&self->found, kind, drawn->seat) : NULL;
        if (row) {
            self->found.verdict->result[i] = (chaos_result){
                .injected = true, .time_ms = row->time_ms, .generation = row->generation};
        } else if (drawn->scope == SCOPE_SINGLE) {
            chaos_violate(&self->found, "fault %d (%s %s) was never injected", i + 1,
                          chaos_kind_names[drawn->kind], round->order[i].text);
        }
    }
}

/* The summary names it by that kind, or does not know any more what was done to the rank. */
static bool fits_kind(const cJSON *fault, const chaos_fault *drawn)
{
    return chaos_is_kind(fault, chaos_row_name(drawn->kind)) ||
           (drawn->fate != FATE_STAYS && chaos_is_kind(fault, "expelled"));
}

/* When the process was left out; without that, when its fault began. */
static double left_out_ms(const cJSON *fault)
{
    const double began_ms = chaos_number(fault, "time_ms");
    const double agreed_ms =
        began_ms + chaos_number(fault, "detect_ms") + chaos_number(fault, "agree_ms");
    return isnan(agreed_ms) ? began_ms : agreed_ms;
}

/* A fault that has no cause begins with the step that did not end, maybe long before. */
static double moment_of(const cJSON *fault)
{
    return chaos_is_kind(fault, "expelled") ? left_out_ms(fault) : chaos_number(fault, "time_ms");
}

/* The summary has this fault of the process for that of that index. */
static bool is_of(const judged *self, const cJSON *fault, int index)
{
    const chaos_fault *drawn = &self->found.round->fault[index];
    const chaos_result *result = &self->found.verdict->result[index];
    const int seat = (int)chaos_number(fault, "rank");
    const span at = span_of(self, index);
    const double time_ms = moment_of(fault);
    if (!result->injected || !fits_kind(fault, drawn) || time_ms < at.from_ms - EARLY_MS ||
        time_ms >= at.until_ms) {
        return false;
    }
    return drawn->seat < 0 ? is_on(self, drawn->hosts, seat)
                           : drawn->seat == seat &&
                                 result->generation == (uint32_t)chaos_number(fault, "generation");
}

/* When the fault, or the one that it goes together with, was made. */
static double begin_of(const judged *self, int index)
{
    while (index > 0 && self->found.round->fault[index].scope == SCOPE_DOUBLE) {
        index--;
    }
    return self->found.verdict->result[index].time_ms;
}

/* The seat's process was left out while the fault of that index was recovered from. A rank may
 * be gone for the sake of the fault before. */
static bool was_left_out(const judged *self, int seat, int index)
{
    const cJSON *fault = NULL;
    cJSON_ArrayForEach(fault, cJSON_GetObjectItemCaseSensitive(self->found.summary, "faults"))
    {
        double time_ms = left_out_ms(fault);
        if (chaos_is_expelled(fault) && (int)chaos_number(fault, "rank") == seat &&
            time_ms >= begin_of(self, index) - EARLY_MS &&
            time_ms < span_of(self, index).until_ms) {
            return true;
        }
    }
    return false;
}

/* The ranks that must be gone for it are. */
static void check_dead(judged *self, int index)
{
    const chaos_fault *drawn = &self->found.round->fault[index];
    const chaos_result *result = &self->found.verdict->result[index];
    for (int seat = 0; seat < self->hosts->num_ranks; seat++) {
        bool is_hit = drawn->seat >= 0 ? drawn->seat == seat : is_on(self, drawn->hosts, seat);
        if (is_hit && !was_left_out(self, seat, index)) {
            chaos_violate(&self->found, "rank %d was not expelled for %s %s at %.3f s", seat,
                          chaos_kind_names[drawn->kind], self->found.round->order[index].text,
                          result->time_ms / 1e3);
        }
    }
}

/* What the fault did: the longest of its pauses counts. */
static void check_fault(judged *self, int index)
{
    const chaos_fault *drawn = &self->found.round->fault[index];
    chaos_result *result = &self->found.verdict->result[index];
    const cJSON *fault = NULL;
    uint64_t seats = 0; /* the summary may have two faults of a rank */
    cJSON_ArrayForEach(fault, cJSON_GetObjectItemCaseSensitive(self->found.summary, "faults"))
    {
        if (!chaos_is_expelled(fault) || !is_of(self, fault, index)) {
            continue;
        }
        seats |= UINT64_C(1) << (int)chaos_number(fault, "rank");
        bool is_own = chaos_is_kind(fault, chaos_row_name(drawn->kind));
        if (!result->healed || (is_own && chaos_number(fault, "pause_ms") > result->pause_ms)) {
            chaos_fill_result(result, fault);
        }
    }
    result->expelled = __builtin_popcountll(seats);
    if (result->injected && drawn->fate == FATE_STAYS && seats) {
        chaos_violate(&self->found, "rank %d was expelled after %s %s at %.3f s", drawn->seat,
                      chaos_kind_names[drawn->kind], self->found.round->order[index].text,
                      result->time_ms / 1e3);
    }
    if (result->injected && drawn->fate == FATE_DIES) {
        check_dead(self, index);
    }
}

/* ---------------------------------------------------------------- what the summary has */

/* The drawn fault that explains it; -1: none does. */
static int explanation(const judged *self, const cJSON *fault)
{
    for (int i = 0; i < self->found.round->num_faults; i++) {
        if (is_of(self, fault, i)) {
            return i;
        }
    }
    return -1;
}

static void check_recovery(judged *self, const cJSON *fault)
{
    chaos_found *found = &self->found;
    int seat = (int)chaos_number(fault, "rank"), index = explanation(self, fault);
    uint32_t generation = (uint32_t)chaos_number(fault, "generation");
    double time_ms = chaos_number(fault, "time_ms"), pause_ms = chaos_number(fault, "pause_ms");
    if (index < 0) {
        chaos_violate(found,
                      "rank %d (generation %" PRIu32 ") was expelled, or ended, at %.3f s: nothing "
                      "was done to it that expels",
                      seat, generation, time_ms / 1e3);
        return;
    }
    if (!chaos_is_expelled(fault) || !chaos_had_joined(found, seat, generation, time_ms)) {
        return;
    }
    if (isnan(pause_ms)) {
        chaos_violate(found, "no survivor went on after rank %d (generation %" PRIu32 ") at %.3f s",
                      seat, generation, time_ms / 1e3);
        return;
    }
    double agreed_ms = time_ms + chaos_number(fault, "detect_ms") + chaos_number(fault, "agree_ms");
    if (agreed_ms > span_of(self, index).until_ms + LATE_MS) {
        chaos_violate(found,
                      "rank %d (generation %" PRIu32 ") was expelled at %.3f s: all had settled "
                      "since %s %s",
                      seat, generation, agreed_ms / 1e3,
                      chaos_kind_names[found->round->fault[index].kind],
                      found->round->order[index].text);
    }
    double bound_ms = found->round->fault[index].duration_ms + PAUSE_BOUND_MS;
    if (pause_ms > bound_ms) {
        chaos_violate(found,
                      "recovery from rank %d (generation %" PRIu32 ") at %.3f s took %.0f ms, more "
                      "than %.0f",
                      seat, generation, time_ms / 1e3, pause_ms, bound_ms);
    }
}

eep_status chaos_judge_hosts(const chaos_round *round, const hosts_file *hosts,
                             const chaos_driven *driven, const char *dir, int exit_code,
                             chaos_verdict *verdict_out)
{
    judged self = {.hosts = hosts};
    eep_status status = chaos_found_read(&self.found, round, dir, verdict_out);
    if (*driven->why) {
        chaos_violate(&self.found, "%s", driven->why);
    }
    if (status == EEP_OK && !self.found.summary) {
        chaos_check_exit(&self.found, exit_code);
        chaos_violate(&self.found, "there is no summary.json");
    } else if (status == EEP_OK) {
        const cJSON *fault = NULL;
        chaos_check_totals(&self.found);
        find_injected(&self, driven->injected);
        for (int i = 0; i < round->num_faults; i++) {
            check_fault(&self, i);
        }
        cJSON_ArrayForEach(fault, cJSON_GetObjectItemCaseSensitive(self.found.summary, "faults"))
        {
            check_recovery(&self, fault);
        }
        chaos_check_exit(&self.found, exit_code);
    }
    chaos_found_free(&self.found);
    return status;
}
