/* SPDX-License-Identifier: Apache-2.0 */
/* Script events from text. */
#include "experiments/script/script_parse.h"
#include "experiments/base/decimal.h"
#include "experiments/script/host_names.h"
#include "experiments/script/script_describe.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_BYTES = 512 };

static const double MAX_TIME_MS = 86400e3, MAX_EXPELS = 1000, MAX_FACTOR = 1000;
static const uint64_t MAX_STEP = 1000000000000000, MAX_STATE_COUNT = 1000000000;

static __attribute__((format(printf, 2, 3))) eep_status fail(char error[SCRIPT_ERROR_BYTES],
                                                             const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, SCRIPT_ERROR_BYTES, format, args);
    va_end(args);
    return EEP_ERR_INVALID;
}

/* ---------------------------------------------------------------- numbers */

/* The digits at the beginning of the text, and where they end. */
static bool parse_count(const char *text, uint64_t max, uint64_t *value_out, const char **end_out)
{
    char *end = NULL;
    if (*text < '0' || *text > '9') {
        return false;
    }
    uint64_t value = strtoull(text, &end, 10); /* ULLONG_MAX where it does not fit */
    if (value > max) {
        return false;
    }
    *value_out = value;
    *end_out = end;
    return true;
}

bool script_parse_whole(const char *text, uint64_t max, uint64_t *value_out)
{
    const char *end = NULL;
    uint64_t value = 0;
    if (!parse_count(text, max, &value, &end) || *end) {
        return false;
    }
    *value_out = value;
    return true;
}

bool script_parse_time(const char *text, double *ms_out)
{
    const char *end = NULL;
    double value = 0;
    if (!decimal_parse(text, &value, &end)) {
        return false;
    }
    if (strcmp(end, "ms") != 0) {
        if (*end != '\0' && strcmp(end, "s") != 0) {
            return false;
        }
        value *= 1000;
    }
    if (value > MAX_TIME_MS) {
        return false;
    }
    *ms_out = value;
    return true;
}

bool script_parse_duration(const char *text, script_duration *duration_out)
{
    const char *end = NULL;
    script_duration duration = {0};
    bool good = false;
    if (script_parse_time(text, &duration.ms)) {
        good = duration.ms > 0;
    } else if (decimal_parse(text, &duration.expels, &end)) {
        good = strcmp(end, "x") == 0 && duration.expels > 0 && duration.expels <= MAX_EXPELS;
    }
    if (good) {
        *duration_out = duration;
    }
    return good;
}

/* ---------------------------------------------------------------- who */

bool script_parse_target(const char *name, script_target *target_out)
{
    for (int t = 0; t < NUM_TARGETS; t++) {
        if (target_names[t].name && strcmp(name, target_names[t].name) == 0) {
            *target_out = (script_target)t;
            return true;
        }
    }
    return false;
}

static bool parse_seats(const char *text, script_event *event, const char **why_out)
{
    for (;;) {
        uint64_t seat = 0;
        const char *end = NULL;
        if (event->num_seats == SCRIPT_MAX_SEATS) {
            *why_out = "a list has at most 64 ranks: use two";
            return false;
        }
        if (!parse_count(text, EEP_MAX_RANKS - 1, &seat, &end) || (*end && *end != ',')) {
            return false;
        }
        for (int i = 0; i < event->num_seats; i++) {
            if (event->seat[i] == (int)seat) {
                *why_out = "a rank is twice in the list";
                return false;
            }
        }
        event->seat[event->num_seats++] = (int)seat;
        if (!*end) {
            event->target = TARGET_SEATS;
            return true;
        }
        text = end + 1;
    }
}

/* NAME or NAME:COUNT. */
static bool parse_named(const char *text, script_event *event)
{
    char name[WORD_BYTES];
    const char *colon = strchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : strlen(text);
    uint64_t count = 1;
    memcpy(name, text, length);
    name[length] = '\0';
    if (!script_parse_target(name, &event->target)) {
        return false;
    }
    if (colon && (!target_names[event->target].counts ||
                  !script_parse_whole(colon + 1, SCRIPT_MAX_SEATS, &count) || count < 1)) {
        return false;
    }
    event->named = (script_named){.count = (int)count, .counted = colon != NULL};
    return true;
}

const char *script_target_misfit(const script_event *event)
{
    bool wants_free = verb_table[event->verb].wants_free;
    bool takes_names = !wants_free || event->verb == VERB_REJOIN; /* of an earlier event's ranks */
    if (event->target == TARGET_SEATS || event->target == TARGET_SAME ||
        (event->target == TARGET_VACANT ? wants_free : takes_names)) {
        return NULL;
    }
    return wants_free ? "it takes ranks by number, or vacant" : "vacant is for add and rejoin";
}

static eep_status parse_who(const char *word, const char *text, script_event *event, char *error)
{
    const char *option = verb_table[event->verb].option, *why = NULL;
    if (!parse_named(word, event) && !parse_seats(word, event, &why)) {
        return fail(error, "%s: '%s' in '%s'%s%s", option, word, text, why ? ": " : " is ",
                    why ? why
                        : "not a rank, a list of ranks, or one of lowest, proposer, random[:N], "
                          "covered[:N], source[:N], joiner, vacant[:N]");
    }
    why = script_target_misfit(event);
    return why ? fail(error, "%s: '%s' in '%s': %s", option, word, text, why) : EEP_OK;
}

/* ---------------------------------------------------------------- value */

static bool parse_hosts(verb what, const char *text, char hosts_out[VERB_FILE_BYTES])
{
    host_names names;
    if (!host_names_parse(what, text, &names)) {
        return false;
    }
    snprintf(hosts_out, VERB_FILE_BYTES, "%s", text);
    return true;
}

bool script_parse_value(verb what, const char *text, verb_value *value_out)
{
    const char *end = NULL;
    double value = 0;
    switch (verb_table[what].value) {
    case VERB_SECONDS:
        if (!script_parse_time(text, &value)) {
            return false;
        }
        value_out->seconds = value / 1e3;
        return true;
    case VERB_FACTOR:
        if (!decimal_parse(text, &value, &end) || *end || value < 1 || value > MAX_FACTOR) {
            return false;
        }
        value_out->factor = value;
        return true;
    case VERB_PLACE:
    case VERB_PLACE_DURATION:
        for (int p = 0; p < NUM_PLACES; p++) {
            if (strcmp(text, place_names[p]) == 0) {
                value_out->place = (verb_place)p;
                return true;
            }
        }
        return false;
    case VERB_FILE:
        if (*text == '\0' || strlen(text) >= VERB_FILE_BYTES) {
            return false;
        }
        snprintf(value_out->file, VERB_FILE_BYTES, "%s", text);
        return true;
    case VERB_HOST:
    case VERB_HOSTS:
    case VERB_HOSTS_DURATION:
    case VERB_SIDES:
    case VERB_SIDES_MS:
        return parse_hosts(what, text, value_out->hosts);
    case VERB_NO_VALUE:
    case VERB_DURATION:
        break;
    }
    return false;
}

const char *script_value_form(verb what)
{
    static const char *const forms[] = {
        [VERB_NO_VALUE] = "nothing",
        [VERB_SECONDS] = "a number of seconds",
        [VERB_FACTOR] = "a factor from 1 to 1000",
        [VERB_PLACE] = "dispatch, experts or combine, or dispatch.1 and so on",
        [VERB_PLACE_DURATION] = "dispatch, experts or combine, or dispatch.1 and so on",
        [VERB_DURATION] = "a duration (1.5, 1.5s, 400ms, or 0.9x: in multiples of --expel-ms)",
        [VERB_FILE] = "a file's name of at most 255 bytes",
        [VERB_HOST] = "a host's name",
        [VERB_HOSTS] = "a list of hosts such as h1,h2",
        [VERB_HOSTS_DURATION] = "a list of hosts such as h1,h2",
        [VERB_SIDES] = "two lists of hosts such as h1|h2,h3",
        [VERB_SIDES_MS] = "two lists of hosts and milliseconds, such as h1|h2,h3:20ms"};
    return forms[verb_table[what].value];
}

/* VALUE, DURATION or VALUE/DURATION, by the verb. It cuts `word` in two. */
static eep_status parse_argument(char *word, const char *text, script_event *event, char *error)
{
    const verb_info *info = &verb_table[event->verb];
    bool is_duration = info->value == VERB_DURATION;
    bool may_last = info->value == VERB_FACTOR || info->value == VERB_PLACE_DURATION ||
                    info->value == VERB_HOSTS_DURATION || info->value == VERB_SIDES ||
                    info->value == VERB_SIDES_MS;
    if (info->value == VERB_NO_VALUE) {
        return fail(error, "%s: '%s' has the value '%s', but it takes none", info->option, text,
                    word);
    }
    char *slash = may_last ? strchr(word, '/') : NULL;
    if (slash) {
        *slash = '\0';
    }
    if (is_duration ? !script_parse_duration(word, &event->lasts)
                    : !script_parse_value(event->verb, word, &event->value)) {
        return fail(error, "%s: '%s' in '%s' is not %s", info->option, word, text,
                    script_value_form(event->verb));
    }
    if (slash && !script_parse_duration(slash + 1, &event->lasts)) {
        return fail(error,
                    "%s: '%s/%s' in '%s' has no duration after the / (1.5, 1.5s, 400ms, or 0.9x)",
                    info->option, word, slash + 1, text);
    }
    return EEP_OK;
}

/* ---------------------------------------------------------------- when */

bool script_parse_state(const char *name, script_state *state_out)
{
    for (int s = 0; s < NUM_STATES; s++) {
        if (strcmp(name, state_names[s]) == 0) {
            *state_out = (script_state)s;
            return true;
        }
    }
    return false;
}

/* STATE[:SEAT][#COUNT]; it cuts `word` in parts. */
static bool parse_state(char *word, script_event *event)
{
    uint64_t number = 0;
    char *hash = strchr(word, '#');
    if (hash) {
        *hash = '\0';
        if (!script_parse_whole(hash + 1, MAX_STATE_COUNT, &number) || number < 1) {
            return false;
        }
        event->awaited.count = (int)number;
    }
    char *colon = strchr(word, ':');
    if (colon) {
        *colon = '\0';
        if (!script_parse_whole(colon + 1, EEP_MAX_RANKS - 1, &number)) {
            return false;
        }
        event->awaited.seat = (int)number;
    }
    return script_parse_state(word, &event->awaited.state);
}

static bool parse_when(const char *text, script_event *event)
{
    char word[WORD_BYTES];
    if (script_parse_time(text, &event->delay_ms)) {
        return true;
    }
    snprintf(word, sizeof word, "%s", text);
    char *plus = strchr(word, '+');
    if (plus) {
        *plus = '\0';
        if (!script_parse_time(plus + 1, &event->delay_ms)) {
            return false;
        }
    }
    if (strncmp(word, "step:", 5) == 0) {
        event->when = WHEN_STEP;
        return script_parse_whole(word + 5, MAX_STEP, &event->step);
    }
    event->when = WHEN_STATE;
    event->awaited = (script_awaited){.seat = -1, .count = 1};
    return parse_state(word, event);
}

/* ---------------------------------------------------------------- the whole */

static eep_status bad_form(verb what, const char *text, char *error)
{
    return fail(error, "%s: '%s' is not of the form %s", verb_table[what].option, text,
                script_form(what));
}

/* What stands before the '@'; it cuts `word` in two. */
static eep_status parse_action(char *word, const char *text, script_event *event, char *error)
{
    const verb_info *info = &verb_table[event->verb];
    bool needs_value =
        info->value != VERB_NO_VALUE && info->value != VERB_DURATION && info->value != VERB_HOST;
    char *value = *word ? word : NULL;
    if (info->value == VERB_FILE && !strchr(word, '=')) {
        event->target = TARGET_LOWEST;
        event->named.count = 1;
    } else if (info->has_seat) {
        char *equals = strchr(word, '=');
        value = equals ? equals + 1 : NULL;
        if (equals) {
            *equals = '\0';
        }
        if (!*word) {
            return bad_form(event->verb, text, error);
        }
        eep_status status = parse_who(word, text, event, error);
        if (status != EEP_OK) {
            return status;
        }
    }
    if (!value) {
        return needs_value ? bad_form(event->verb, text, error) : EEP_OK;
    }
    return parse_argument(value, text, event, error);
}

eep_status script_parse(verb what, const char *text, bool must_have_when, script_event *event_out,
                        char error[SCRIPT_ERROR_BYTES])
{
    script_event event = {.verb = what};
    const char *at = strchr(text, '@');
    size_t length = at ? (size_t)(at - text) : strlen(text);
    char word[WORD_BYTES];
    if ((!at && must_have_when) || length >= sizeof word) {
        return bad_form(what, text, error);
    }
    memcpy(word, text, length);
    word[length] = '\0';
    eep_status status = parse_action(word, text, &event, error);
    if (status != EEP_OK) {
        return status;
    }
    if (at && !parse_when(at + 1, &event)) {
        return fail(error,
                    "%s: '%s' in '%s' is not a time (seconds such as 1.5, or 1500ms, at most a "
                    "day), step:N[+TIME] or STATE[:RANK][#COUNT][+TIME] with a state such as "
                    "suspected",
                    verb_table[what].option, at + 1, text);
    }
    *event_out = event;
    return EEP_OK;
}
