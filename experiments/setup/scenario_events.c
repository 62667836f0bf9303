/* SPDX-License-Identifier: Apache-2.0 */
/* The events of a scenario: each field of an entry goes to the script's parser of that part. */
#include "experiments/setup/scenario_events.h"

#include "experiments/script/script_describe.h"
#include "experiments/script/script_parse.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { MAX_STATE_COUNT = 1000000000 };

static const uint64_t MAX_STEP = 1000000000000000;

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof(array)[0]))

/* The node of a field of the mapping; -1: it is not given. */
static int field(const scenario_reader *self, int node, const char *name)
{
    return yamltree_child(&self->tree, node, name);
}

/* ---------------------------------------------------------------- when */

typedef struct moment_fields {
    int time, step, state, rank, count, after; /* nodes; -1: not given */
} moment_fields;

/* One of time, step and state, and with it only what belongs to it. */
static eep_status check_moment(const scenario_reader *self, int node, const moment_fields *given)
{
    bool time = given->time >= 0, step = given->step >= 0, state = given->state >= 0;
    int num = time + step + state;
    if (num == 0) {
        return scenario_fail(self, node, "'at' must have one of time, step and state");
    }
    if (num > 1) {
        return scenario_fail(
            self, node, "'at' has %s%s%s%s: it must have only one of time, step and state%s",
            time ? "time and " : "", step ? "step" : "", step && state ? " and " : "",
            state ? "state" : "", time ? "; 'after: TIME' is counted from a step or a state" : "");
    }
    if ((given->rank >= 0 || given->count >= 0) && !state) {
        return scenario_fail(self, given->rank >= 0 ? given->rank : given->count,
                             "rank and count belong to a state");
    }
    if (time && given->after >= 0) {
        return scenario_fail(self, given->after,
                             "'after' is counted from a step or a state; give one time");
    }
    return EEP_OK;
}

static eep_status read_state(const scenario_reader *self, const moment_fields *given,
                             script_event *event)
{
    char allowed[512];
    const char *name = NULL;
    uint64_t rank = 0, count = 1;
    script_awaited *awaited = &event->awaited;
    event->when = WHEN_STATE;
    *awaited = (script_awaited){.seat = -1, .count = 1};
    eep_status status = scenario_read_text(self, given->state, SCENARIO_MAX_WORD, &name);
    if (status == EEP_OK && !script_parse_state(name, &awaited->state)) {
        status = scenario_fail(self, given->state, "unknown state '%s'; allowed are %s", name,
                               scenario_list(state_names, NUM_STATES, allowed, sizeof allowed));
    }
    if (status == EEP_OK && given->rank >= 0) {
        status = scenario_read_whole(self, given->rank, 0, EEP_MAX_RANKS - 1, &rank);
        awaited->seat = (int)rank;
    }
    if (status == EEP_OK && given->count >= 0) {
        status = scenario_read_whole(self, given->count, 1, MAX_STATE_COUNT, &count);
        awaited->count = (int)count;
    }
    return status;
}

static eep_status read_moment(const scenario_reader *self, int node, script_event *event)
{
    static const char *const keys[] = {"time", "step", "state", "rank", "count", "after"};
    eep_status status = scenario_check_keys(self, node, keys, COUNT_OF(keys), 0);
    if (status != EEP_OK) {
        return status;
    }
    const moment_fields given = {.time = field(self, node, "time"),
                                 .step = field(self, node, "step"),
                                 .state = field(self, node, "state"),
                                 .rank = field(self, node, "rank"),
                                 .count = field(self, node, "count"),
                                 .after = field(self, node, "after")};
    status = check_moment(self, node, &given);
    if (status != EEP_OK) {
        return status;
    }
    if (given.time >= 0) {
        return scenario_read_time(self, given.time, &event->delay_ms);
    }
    if (given.after >= 0) {
        status = scenario_read_time(self, given.after, &event->delay_ms);
    }
    if (status == EEP_OK && given.step >= 0) {
        event->when = WHEN_STEP;
        return scenario_read_whole(self, given.step, 0, MAX_STEP, &event->step);
    }
    return status == EEP_OK ? read_state(self, &given, event) : status;
}

/* ---------------------------------------------------------------- who */

static eep_status fail_ranks(const scenario_reader *self, int node, const char *text)
{
    char allowed[256];
    const char *names[NUM_TARGETS];
    int num = 0;
    for (int t = 0; t < NUM_TARGETS; t++) {
        if (target_names[t].name) {
            names[num++] = target_names[t].name;
        }
    }
    names[num++] = "same";
    return scenario_fail(self, node,
                         "'%.40s' is not a rank (0 to %d), a list of ranks such as [3, 5], or one "
                         "of %s",
                         text, EEP_MAX_RANKS - 1,
                         scenario_list(names, num, allowed, sizeof allowed));
}

/* Add the rank at the node to the event's. */
static eep_status read_rank(const scenario_reader *self, int node, script_event *event)
{
    const char *text = self->tree.node[node].text;
    uint64_t rank = 0;
    if (!text || !script_parse_whole(text, EEP_MAX_RANKS - 1, &rank)) {
        return fail_ranks(self, node, text ? text : "a list");
    }
    for (int i = 0; i < event->num_seats; i++) {
        if (event->seat[i] == (int)rank) {
            return scenario_fail(self, node, "rank %d is twice in the list", (int)rank);
        }
    }
    if (event->num_seats == SCRIPT_MAX_SEATS) {
        return scenario_fail(self, node,
                             "a list has at most %d ranks; give the others an event of their own "
                             "at the same moment",
                             SCRIPT_MAX_SEATS);
    }
    event->target = TARGET_SEATS;
    event->seat[event->num_seats++] = (int)rank;
    return EEP_OK;
}

static eep_status read_ranks(const scenario_reader *self, int node, script_event *event)
{
    const yamltree_node *ranks = &self->tree.node[node];
    eep_status status = EEP_OK;
    if (ranks->kind == YAMLTREE_SCALAR) {
        return read_rank(self, node, event);
    }
    if (ranks->kind == YAMLTREE_MAPPING) {
        return fail_ranks(self, node, "a mapping");
    }
    if (ranks->first < 0) {
        return scenario_fail(self, node, "the list of ranks is empty");
    }
    for (int i = ranks->first; i >= 0 && status == EEP_OK; i = self->tree.node[i].next) {
        status = read_rank(self, i, event);
    }
    return status;
}

static eep_status read_count(const scenario_reader *self, int node, script_event *event)
{
    uint64_t count = 1;
    if (node < 0) {
        return EEP_OK;
    }
    if (event->target == TARGET_SEATS) {
        return scenario_fail(self, node,
                             "count is for names such as random; here the ranks are given");
    }
    if (event->target == TARGET_SAME || !target_names[event->target].counts) {
        return scenario_fail(self, node, "count is for random, covered, source and vacant");
    }
    eep_status status = scenario_read_whole(self, node, 1, SCRIPT_MAX_SEATS, &count);
    event->named = (script_named){.count = (int)count, .counted = true};
    return status;
}

/* `same` as in scenario_read_event. */
static eep_status read_who(const scenario_reader *self, int ranks, int count, int same,
                           script_event *event)
{
    const char *text = self->tree.node[ranks].text; /* NULL: a list or a mapping */
    eep_status status = EEP_OK;
    if (text && strcmp(text, "same") == 0) {
        if (same < 0) {
            return scenario_fail(self, ranks,
                                 "'same' means the ranks of the event before; this is the first "
                                 "with ranks");
        }
        event->target = TARGET_SAME;
        event->same.partner = same;
    } else if (text && script_parse_target(text, &event->target)) {
        event->named.count = 1;
    } else {
        status = read_ranks(self, ranks, event);
    }
    if (status == EEP_OK) {
        status = read_count(self, count, event);
    }
    const char *misfit = status == EEP_OK ? script_target_misfit(event) : NULL;
    return misfit ? scenario_fail(self, ranks, "'%s': %s", text ? text : "", misfit) : status;
}

/* ---------------------------------------------------------------- what */

static eep_status read_verb(const scenario_reader *self, int node, verb *verb_out)
{
    const char *names[NUM_VERBS], *name = NULL;
    char allowed[512];
    eep_status status = scenario_read_text(self, node, SCENARIO_MAX_WORD, &name);
    if (status != EEP_OK || verb_find(name, verb_out)) {
        return status;
    }
    for (int v = 0; v < NUM_VERBS; v++) {
        names[v] = verb_table[v].name;
    }
    return scenario_fail(self, node, "unknown verb '%s'; allowed are %s", name,
                         scenario_list(names, NUM_VERBS, allowed, sizeof allowed));
}

/* Which fields an event of a verb takes, by verb_info.value. */
static const struct {
    bool value, factor, place, file, hosts, duration, must;
    const char *allowed;
} takes[] = {
    [VERB_NO_VALUE] = {.allowed = "nothing"},
    [VERB_SECONDS] = {.value = true, .must = true, .allowed = "value: SECONDS"},
    [VERB_FACTOR] = {.value = true,
                     .factor = true,
                     .duration = true,
                     .must = true,
                     .allowed = "factor: NUMBER and for: TIME"},
    [VERB_PLACE] = {.value = true,
                    .place = true,
                    .must = true,
                    .allowed = "place: dispatch, experts or combine"},
    [VERB_PLACE_DURATION] = {.value = true,
                             .place = true,
                             .duration = true,
                             .must = true,
                             .allowed = "place: dispatch, experts or combine, and for: TIME"},
    [VERB_DURATION] = {.duration = true, .allowed = "for: TIME"},
    [VERB_FILE] = {.file = true, .must = true, .allowed = "file: NAME"},
    [VERB_HOST] = {.hosts = true, .allowed = "hosts: NAME"},
    [VERB_HOSTS] = {.hosts = true, .must = true, .allowed = "hosts: NAMES"},
    [VERB_HOSTS_DURATION] = {.hosts = true,
                             .duration = true,
                             .must = true,
                             .allowed = "hosts: NAMES and for: TIME"},
    [VERB_SIDES] = {.hosts = true,
                    .duration = true,
                    .must = true,
                    .allowed = "hosts: NAMES|NAMES and for: TIME"},
    [VERB_SIDES_MS] = {.hosts = true,
                       .duration = true,
                       .must = true,
                       .allowed = "hosts: NAMES|NAMES:MS and for: TIME"},
};

/* value, factor, place, file or hosts, and for: what the verb takes besides ranks. */
static eep_status read_argument(const scenario_reader *self, int node, script_event *event)
{
    const verb_info *info = &verb_table[event->verb];
    const char *allowed = takes[info->value].allowed, *text = NULL;
    const struct {
        const char *name;
        bool is_allowed;
    } fields[] = {{"value", takes[info->value].value}, {"factor", takes[info->value].factor},
                  {"place", takes[info->value].place}, {"file", takes[info->value].file},
                  {"hosts", takes[info->value].hosts}, {"for", takes[info->value].duration}};
    int given = -1, lasts = field(self, node, "for");
    for (int i = 0; i < COUNT_OF(fields); i++) {
        int at = field(self, node, fields[i].name);
        if (at >= 0 && (!fields[i].is_allowed || (at != lasts && given >= 0))) {
            return scenario_fail(self, at, "'%s' is not for %s here, which takes %s",
                                 fields[i].name, info->name, allowed);
        }
        given = at >= 0 && at != lasts ? at : given;
    }
    if (takes[info->value].must && given < 0) {
        return scenario_fail(self, node, "%s needs %s", info->name, allowed);
    }
    if (info->value == VERB_FILE) {
        return scenario_read_file(self, given, VERB_FILE_BYTES, event->value.file);
    }
    const size_t most = takes[info->value].hosts ? VERB_FILE_BYTES - 1 : SCENARIO_MAX_WORD;
    eep_status status = scenario_read_text(self, given, most, &text);
    if (status == EEP_OK && text && !script_parse_value(event->verb, text, &event->value)) {
        return scenario_fail(self, given, "'%s' is not %s", text, script_value_form(event->verb));
    }
    if (status == EEP_OK) {
        status = scenario_read_text(self, lasts, SCENARIO_MAX_WORD, &text);
    }
    if (status == EEP_OK && text && !script_parse_duration(text, &event->lasts)) {
        return scenario_fail(
            self, lasts, "'%s' is not a duration: 1.5, 1.5s, 400ms, or 0.9x (of expel-ms)", text);
    }
    return status;
}

/* ---------------------------------------------------------------- the whole */

eep_status scenario_read_event(const scenario_reader *self, int node, int same,
                               script_event *event_out)
{
    static const char *const keys[] = {"at",     "do",    "ranks", "count", "value",
                                       "factor", "place", "file",  "hosts", "for"};
    verb what = VERB_KILL;
    eep_status status = scenario_check_keys(self, node, keys, COUNT_OF(keys), 2);
    if (status != EEP_OK) {
        return status;
    }
    int ranks = field(self, node, "ranks"), count = field(self, node, "count");
    int place = ranks < 0 ? field(self, node, "do") : ranks;
    status = read_verb(self, field(self, node, "do"), &what);
    script_event event = {.verb = what};
    const yamltree_node *named = &self->tree.node[place];
    event.line = named->line;
    event.column = named->column;
    if (status == EEP_OK) {
        status = read_moment(self, field(self, node, "at"), &event);
    }
    bool is_lowest = verb_table[what].value == VERB_FILE && ranks < 0;
    if (is_lowest) {
        event.target = TARGET_LOWEST;
        event.named.count = 1;
    }
    if (status == EEP_OK && !is_lowest && verb_table[what].has_seat != (ranks >= 0)) {
        status = scenario_fail(self, place, "%s %s", verb_table[what].name,
                               ranks < 0 ? "needs ranks" : "is done to no rank: leave out ranks");
    }
    if (status == EEP_OK && ranks >= 0) {
        status = read_who(self, ranks, count, same, &event);
    } else if (status == EEP_OK && count >= 0) {
        status = scenario_fail(self, count, "count is for ranks such as random");
    }
    if (status == EEP_OK) {
        status = read_argument(self, node, &event);
    }
    if (status == EEP_OK) {
        *event_out = event;
    }
    return status;
}
