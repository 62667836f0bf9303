#include "experiments/setup/scenario_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TEXT = 1024 };

static const char *const time_form = "a time: seconds such as 1.5, 1.5s or 1500ms, at most a day";
static const char *const target_list[] = {"lowest", "proposer", "random", "covered",
                                          "source", "joiner",   "vacant", "same"};
enum { NUM_TARGET_NAMES = sizeof target_list / sizeof target_list[0] };

/* Only these letters: the text is put into the grammar of script_parse, whose signs it must not
 * bring along. */
static bool is_word(const char *text, const char *letters)
{
    return *text && strspn(text, letters) == strlen(text);
}

#define NUMBER_LETTERS "0123456789.eE+-"

bool scenario_time(const char *text, double *ms_out)
{
    char whole[64], error[SCRIPT_ERROR_BYTES];
    script_event event;
    if (!is_word(text, NUMBER_LETTERS "ms") ||
        snprintf(whole, sizeof whole, "0@%s", text) >= (int)sizeof whole ||
        script_parse(VERB_KILL, whole, true, &event, error) != EEP_OK) {
        return false;
    }
    *ms_out = event.delay_ms;
    return true;
}

/* A time, or 3x: in multiples of the time after which a silent process is expelled. */
static bool is_duration(const char *text)
{
    char whole[64], error[SCRIPT_ERROR_BYTES];
    script_event event;
    return is_word(text, NUMBER_LETTERS "msx") &&
           snprintf(whole, sizeof whole, "0=%s@0", text) < (int)sizeof whole &&
           script_parse(VERB_STOP, whole, true, &event, error) == EEP_OK;
}

/* The node of a field of the event, or the event's own. */
static int field(const scenario_reader *self, int node, const char *name)
{
    int child = yamltree_child(&self->tree, node, name);
    return child < 0 ? node : child;
}

/* ---------------------------------------------------------------- when */

static eep_status check_state(const scenario_reader *self, int node, const scenario_at *at)
{
    char allowed[512];
    for (int s = 0; s < NUM_STATES; s++) {
        if (strcmp(at->state, state_names[s]) == 0) {
            return EEP_OK;
        }
    }
    return scenario_fail(self, field(self, node, "state"), "unknown state '%s'; allowed are %s",
                         at->state,
                         scenario_list(state_names, NUM_STATES, allowed, sizeof allowed));
}

static eep_status check_when(const scenario_reader *self, int node, const scenario_at *at)
{
    double ms = 0;
    if (!at->time && !at->step && !at->state) {
        return scenario_fail(self, node, "'at' must have one of time, step and state");
    }
    if ((at->time != NULL) + (at->step != NULL) + (at->state != NULL) > 1) {
        return scenario_fail(
            self, node, "'at' has %s%s%s: it must have only one of time, step and state%s",
            at->time ? "time and " : "", at->step ? (at->state ? "step and " : "step") : "",
            at->state ? "state" : "",
            at->time ? "; 'after: TIME' is counted from a step or a state" : "");
    }
    if ((at->rank || at->count) && !at->state) {
        return scenario_fail(self, field(self, node, at->rank ? "rank" : "count"),
                             "rank and count belong to a state");
    }
    if (at->count && *at->count == 0) {
        return scenario_fail(self, field(self, node, "count"), "count must be at least 1");
    }
    if (at->time && at->after) {
        return scenario_fail(self, field(self, node, "after"),
                             "'after' is counted from a step or a state; give one time");
    }
    const char *time = at->time ? at->time : at->after;
    if (time && !scenario_time(time, &ms)) {
        return scenario_fail(self, field(self, node, at->time ? "time" : "after"), "'%s' is not %s",
                             time, time_form);
    }
    return at->state ? check_state(self, node, at) : EEP_OK;
}

/* As script_parse wants it; check_when has been through. */
static void print_when(const scenario_at *at, char *text, size_t bytes)
{
    size_t used = 0;
#define ADD(...) used += (size_t)snprintf(text + used, bytes - used, __VA_ARGS__)
    if (at->time) {
        ADD("%s", at->time);
    } else if (at->step) {
        ADD("step:%llu", (unsigned long long)*at->step);
    } else {
        ADD("%s", at->state);
    }
    if (at->rank) {
        ADD(":%u", *at->rank);
    }
    if (at->count) {
        ADD("#%u", *at->count);
    }
    if (at->after) {
        ADD("+%s", at->after);
    }
#undef ADD
}

/* ---------------------------------------------------------------- who */

static eep_status fail_ranks(const scenario_reader *self, int node, const char *text)
{
    char allowed[256];
    return scenario_fail(self, node,
                         "'%.40s' is not a rank (0 to %d), a list of ranks such as [3, 5], or one "
                         "of %s",
                         text, EEP_MAX_RANKS - 1,
                         scenario_list(target_list, NUM_TARGET_NAMES, allowed, sizeof allowed));
}

static bool is_rank(const char *text)
{
    int rank = 0;
    return is_word(text, "0123456789") && strlen(text) <= 6 && sscanf(text, "%d", &rank) == 1 &&
           rank < EEP_MAX_RANKS;
}

static bool is_target(const char *text)
{
    for (int t = 0; t < NUM_TARGET_NAMES; t++) {
        if (strcmp(text, target_list[t]) == 0) {
            return true;
        }
    }
    return false;
}

/* WHO of script_parse, of the node of `ranks`. */
static eep_status print_who(const scenario_reader *self, int node, const scenario_action *action,
                            char *text, size_t bytes)
{
    const yamltree_node *ranks = &self->tree.node[node];
    size_t used = 0;
    int num = 0;
    if (ranks->kind == YAMLTREE_SEQUENCE) {
        for (int i = ranks->first; i >= 0; i = self->tree.node[i].next) {
            const yamltree_node *item = &self->tree.node[i];
            if (item->kind != YAMLTREE_SCALAR || !is_rank(item->text)) {
                return fail_ranks(self, i, item->text ? item->text : "a list");
            }
            for (int k = ranks->first; k != i; k = self->tree.node[k].next) {
                if (atoi(self->tree.node[k].text) == atoi(item->text)) {
                    return scenario_fail(self, i, "rank %s is twice in the list", item->text);
                }
            }
            if (++num > SCRIPT_MAX_SEATS) {
                return scenario_fail(self, i,
                                     "a list has at most %d ranks; give the others an event of "
                                     "their own at the same moment",
                                     SCRIPT_MAX_SEATS);
            }
            used +=
                (size_t)snprintf(text + used, bytes - used, "%s%s", used ? "," : "", item->text);
        }
        if (num == 0) {
            return scenario_fail(self, node, "the list of ranks is empty");
        }
    } else if (ranks->kind == YAMLTREE_SCALAR && is_rank(ranks->text)) {
        num = 1;
        snprintf(text, bytes, "%s", ranks->text);
    } else if (ranks->kind == YAMLTREE_SCALAR && is_target(ranks->text)) {
        used = (size_t)snprintf(text, bytes, "%s", ranks->text);
        if (action->count) {
            snprintf(text + used, bytes - used, ":%u", *action->count);
        }
    } else {
        return fail_ranks(self, node, ranks->text ? ranks->text : "a mapping");
    }
    if (num && action->count) {
        return scenario_fail(self, field(self, ranks->parent, "count"),
                             "count is for names such as random; here the ranks are given");
    }
    return EEP_OK;
}

/* ---------------------------------------------------------------- what */

/* VALUE of script_parse: "" where none is given. */
static eep_status print_value(const scenario_reader *self, int node, verb what,
                              const scenario_action *action, char *text, size_t bytes)
{
    static const struct {
        bool value, factor, place, duration, must;
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
    };
    int kind = (int)verb_table[what].value;
    const struct {
        const char *name, *text;
        bool allowed;
    } given[] = {{"value", action->value, takes[kind].value},
                 {"factor", action->factor, takes[kind].factor},
                 {"place", action->place, takes[kind].place},
                 {"for", action->duration, takes[kind].duration}};
    const char *main_text = NULL;
    for (int i = 0; i < 4; i++) {
        if (given[i].text && (!given[i].allowed || (i < 3 && main_text))) {
            return scenario_fail(self, field(self, node, given[i].name),
                                 "'%s' is not for %s here, which takes %s", given[i].name,
                                 verb_table[what].name, takes[kind].allowed);
        }
        main_text = i < 3 && given[i].text ? given[i].text : main_text;
    }
    if (takes[kind].must && !main_text) {
        return scenario_fail(self, node, "%s needs %s", verb_table[what].name, takes[kind].allowed);
    }
    if (main_text && !is_word(main_text, NUMBER_LETTERS "abcdefghijklmnopqrstuvwxyz")) {
        return scenario_fail(self, node, "'%s' is not a value; %s takes %s", main_text,
                             verb_table[what].name, takes[kind].allowed);
    }
    if (action->duration && !is_duration(action->duration)) {
        return scenario_fail(self, field(self, node, "for"),
                             "'%s' is not a duration: 1.5, 1.5s, 400ms, or 0.9x (of expel-ms)",
                             action->duration);
    }
    snprintf(text, bytes, "%s%s%s", main_text ? main_text : "",
             main_text && action->duration ? "/" : "", action->duration ? action->duration : "");
    return EEP_OK;
}

static eep_status find_verb(const scenario_reader *self, int node, const char *name, verb *out)
{
    const char *names[NUM_VERBS];
    char allowed[512];
    if (verb_find(name, out)) {
        return EEP_OK;
    }
    for (int v = 0; v < NUM_VERBS; v++) {
        names[v] = verb_table[v].name;
    }
    return scenario_fail(self, field(self, node, "do"), "unknown verb '%s'; allowed are %s", name,
                         scenario_list(names, NUM_VERBS, allowed, sizeof allowed));
}

/* Where a text that script_parse refuses is to blame: its value, if it has one. */
static int blamed(const scenario_reader *self, int node, const scenario_action *action)
{
    const char *name = action->value      ? "value"
                       : action->factor   ? "factor"
                       : action->place    ? "place"
                       : action->duration ? "for"
                       : action->count    ? "count"
                                          : "ranks";
    return field(self, node, name);
}

eep_status scenario_read_event(const scenario_reader *self, int node, const scenario_action *action,
                               int same, script_event *event_out)
{
    char who[MOST_TEXT] = "", value[128] = "", when[256] = "", text[2 * MOST_TEXT];
    char error[SCRIPT_ERROR_BYTES];
    int ranks = yamltree_child(&self->tree, node, "ranks");
    int blame = ranks < 0 ? field(self, node, "do") : ranks;
    verb what = VERB_KILL;
    eep_status status = find_verb(self, node, action->verb, &what);
    if (status == EEP_OK) {
        status = check_when(self, field(self, node, "at"), action->at);
    }
    if (status == EEP_OK && verb_table[what].has_seat != (ranks >= 0)) {
        status = scenario_fail(self, blame, "%s %s", verb_table[what].name,
                               ranks < 0 ? "needs ranks" : "is done to no rank: leave out ranks");
    }
    if (status == EEP_OK && ranks >= 0) {
        status = print_who(self, ranks, action, who, sizeof who);
    }
    if (status == EEP_OK) {
        status = print_value(self, node, what, action, value, sizeof value);
    }
    if (status != EEP_OK) {
        return status;
    }
    bool is_same = strcmp(who, "same") == 0;
    if (is_same && same < 0) {
        return scenario_fail(self, ranks,
                             "'same' means the ranks of the event before; this is the "
                             "first with ranks");
    }
    print_when(action->at, when, sizeof when);
    snprintf(text, sizeof text, "%s%s%s@%s", is_same ? "0" : who, *who && *value ? "=" : "", value,
             when);
    if (script_parse(what, text, true, event_out, error) != EEP_OK) {
        return scenario_fail(self, blamed(self, node, action), "%s", error);
    }
    if (is_same) {
        event_out->target = TARGET_SAME;
        event_out->num_seats = 0;
        event_out->pairs_with = same;
    }
    event_out->line = self->tree.node[blame].line;
    event_out->column = self->tree.node[blame].column;
    return EEP_OK;
}
