/* The text of one event: "3,5=400ms@repairing+20ms". */
#include "experiments/script.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const state_names[NUM_STATES] = {
    [STATE_SPAWNED] = "spawned",     [STATE_OPENED] = "opened",
    [STATE_READY] = "ready",         [STATE_STAGED] = "staged",
    [STATE_COMMITTED] = "committed", [STATE_JOINED] = "joined",
    [STATE_SUSPECTED] = "suspected", [STATE_WEDGED] = "wedged",
    [STATE_PROPOSED] = "proposed",   [STATE_REPAIRING] = "repairing",
    [STATE_REPAIRED] = "repaired",   [STATE_INSTALLED] = "installed",
    [STATE_FLIPPED] = "flipped",     [STATE_REBALANCING] = "rebalancing",
    [STATE_EXITED] = "exited",       [STATE_EXPELLED] = "expelled"};

static const char *const target_names[NUM_TARGETS] = {
    [TARGET_LOWEST] = "lowest",   [TARGET_PROPOSER] = "proposer", [TARGET_RANDOM] = "random",
    [TARGET_COVERED] = "covered", [TARGET_SOURCE] = "source",     [TARGET_JOINER] = "joiner",
    [TARGET_VACANT] = "vacant",   [TARGET_SAME] = "same"};

typedef struct parser {
    const char *option, *text; /* of the whole event, for messages */
    char *error;
} parser;

static __attribute__((format(printf, 2, 3))) eep_status fail(const parser *p, const char *format,
                                                             ...)
{
    va_list args;
    int used = snprintf(p->error, SCRIPT_ERROR_BYTES, "%s: ", p->option);
    va_start(args, format);
    vsnprintf(p->error + used, (size_t)(SCRIPT_ERROR_BYTES - used), format, args);
    va_end(args);
    return EEP_ERR_INVALID;
}

/* ---------------------------------------------------------------- numbers */

/* Digits and at most one point at the start of the text; NULL: none. strtod would take "inf",
 * blanks and signs. */
static const char *read_number(const char *text, double *value_out)
{
    char *end = NULL;
    if ((*text < '0' || *text > '9') && *text != '.') {
        return NULL;
    }
    double value = strtod(text, &end);
    if (end == text || !isfinite(value)) {
        return NULL;
    }
    *value_out = value;
    return end;
}

/* "1.5", "1.5s" or "1500ms" to milliseconds; false for anything else or over a day. */
static bool parse_time(const char *text, double *ms_out)
{
    double value = 0;
    const char *end = read_number(text, &value);
    if (!end || (*end && strcmp(end, "s") != 0 && strcmp(end, "ms") != 0)) {
        return false;
    }
    value *= strcmp(end, "ms") == 0 ? 1 : 1000;
    if (value > 86400e3) {
        return false;
    }
    *ms_out = value;
    return true;
}

/* A whole number in [low, high] that ends the text, or is followed by `*end_out`. */
static bool read_whole(const char *text, long low, long high, long *value_out, const char **end_out)
{
    char *end = NULL;
    if (*text < '0' || *text > '9') {
        return false;
    }
    long value = strtol(text, &end, 10);
    if (value < low || value > high) {
        return false;
    }
    *value_out = value;
    *end_out = end;
    return true;
}

/* ---------------------------------------------------------------- who */

static bool parse_list(const char *text, script_event *event)
{
    for (;;) {
        long seat = 0;
        const char *end = NULL;
        if (event->num_seats == SCRIPT_MAX_SEATS ||
            !read_whole(text, 0, EEP_MAX_RANKS - 1, &seat, &end) || (*end && *end != ',')) {
            return false;
        }
        for (int i = 0; i < event->num_seats; i++) {
            if (event->seat[i] == seat) {
                return false;
            }
        }
        event->seat[event->num_seats++] = (int)seat;
        if (!*end) {
            event->target = TARGET_SEATS;
            event->count = event->num_seats;
            return true;
        }
        text = end + 1;
    }
}

static bool parse_name(const char *text, script_event *event)
{
    for (int t = TARGET_LOWEST; t < NUM_TARGETS; t++) {
        size_t length = strlen(target_names[t]);
        bool counts =
            t == TARGET_RANDOM || t == TARGET_COVERED || t == TARGET_SOURCE || t == TARGET_VACANT;
        long count = 1;
        const char *end = "";
        if (strncmp(text, target_names[t], length) != 0 || (text[length] && text[length] != ':')) {
            continue;
        }
        if (text[length] == ':' &&
            (!counts || !read_whole(text + length + 1, 1, SCRIPT_MAX_SEATS, &count, &end) ||
             *end)) {
            return false;
        }
        event->target = (script_target)t;
        event->count = (int)count;
        return true;
    }
    return false;
}

static eep_status parse_who(const parser *p, const char *text, script_event *event)
{
    bool digits = *text >= '0' && *text <= '9';
    if (digits ? parse_list(text, event) : parse_name(text, event)) {
        return EEP_OK;
    }
    return fail(p,
                "'%s' in '%s' is not a rank, different ranks such as 3,5, or one of lowest, "
                "proposer, random, covered, source, vacant (with :N for N of them), joiner, same",
                text, p->text);
}

/* ---------------------------------------------------------------- value */

static bool parse_duration(const char *text, script_event *event)
{
    double times = 0;
    const char *end = read_number(text, &times);
    if (end && strcmp(end, "x") == 0 && times > 0 && times <= 1000) {
        event->expels = times;
        return true;
    }
    return parse_time(text, &event->duration_ms) && event->duration_ms > 0;
}

static bool parse_factor(const char *text, script_event *event)
{
    const char *end = read_number(text, &event->value);
    if (!end || event->value < 1 || event->value > 1000) {
        return false;
    }
    return !*end || (*end == '/' && parse_duration(end + 1, event));
}

static bool parse_place(const char *text, script_event *event)
{
    for (int place = 0; place < NUM_PLACES; place++) {
        if (strcmp(text, place_names[place]) == 0) {
            event->value = place;
            return true;
        }
    }
    return false;
}

static eep_status parse_value(const parser *p, const char *text, script_event *event)
{
    static const char *const wanted[] = {
        [VERB_NO_VALUE] = "nothing: it takes no value",
        [VERB_SECONDS] = "a number of seconds",
        [VERB_FACTOR] = "a factor from 1 to 1000, such as 4, or 4/2s for 2 seconds",
        [VERB_PLACE] = "a place: dispatch, experts or combine",
        [VERB_DURATION] = "a duration: 400ms, 1.5s, or 0.9x for a multiple of expel_us"};
    const verb_info *info = &verb_table[event->verb];
    bool good = false, needed = info->value == VERB_SECONDS || info->value == VERB_FACTOR ||
                                info->value == VERB_PLACE;
    double ms = 0;
    if (!text) {
        return needed ? fail(p, "'%s' lacks %s", p->text, wanted[info->value]) : EEP_OK;
    }
    switch (info->value) {
    case VERB_NO_VALUE:
        break;
    case VERB_SECONDS:
        good = parse_time(text, &ms);
        event->value = ms / 1e3;
        break;
    case VERB_FACTOR:
        good = parse_factor(text, event);
        break;
    case VERB_PLACE:
        good = parse_place(text, event);
        break;
    case VERB_DURATION:
        good = parse_duration(text, event);
        break;
    }
    return good ? EEP_OK : fail(p, "'%s' in '%s' is not %s", text, p->text, wanted[info->value]);
}

/* ---------------------------------------------------------------- when */

static eep_status parse_state(const parser *p, char *text, script_event *event)
{
    char *count = strchr(text, '#'), *seat = NULL;
    long number = 0;
    const char *end = "";
    if (count) {
        *count++ = '\0';
        if (!read_whole(count, 1, 1000000, &number, &end) || *end) {
            return fail(p, "'#%s' in '%s' is not a count from 1 on", count, p->text);
        }
        event->state_count = (int)number;
    }
    seat = strchr(text, ':');
    if (seat) {
        *seat++ = '\0';
        if (!read_whole(seat, 0, EEP_MAX_RANKS - 1, &number, &end) || *end) {
            return fail(p, "'%s' in '%s' is not a rank", seat, p->text);
        }
        event->state_seat = (int)number;
    }
    for (int state = 0; state < NUM_STATES; state++) {
        if (strcmp(text, state_names[state]) == 0) {
            event->state = (script_state)state;
            event->when = WHEN_STATE;
            return EEP_OK;
        }
    }
    int used = snprintf(p->error, SCRIPT_ERROR_BYTES,
                        "%s: '%s' in '%s' is not a time (seconds such as 1.5, or 1500ms, at most a "
                        "day), step:N, or one of",
                        p->option, text, p->text);
    for (int state = 0; state < NUM_STATES && used < SCRIPT_ERROR_BYTES; state++) {
        used += snprintf(p->error + used, (size_t)(SCRIPT_ERROR_BYTES - used), " %s",
                         state_names[state]);
    }
    return EEP_ERR_INVALID;
}

static eep_status parse_when(const parser *p, char *text, script_event *event)
{
    char *plus = strchr(text, '+');
    long step = 0;
    const char *end = "";
    if (*text >= '0' && *text <= '9' && !plus) {
        return parse_time(text, &event->delay_ms)
                   ? EEP_OK
                   : fail(p,
                          "'%s' in '%s' is not a time (seconds such as 1.5, or 1500ms, at most a "
                          "day)",
                          text, p->text);
    }
    if (plus) {
        *plus++ = '\0';
        if (!parse_time(plus, &event->delay_ms)) {
            return fail(p, "'+%s' in '%s' is not a time such as 20ms", plus, p->text);
        }
    }
    if (strncmp(text, "step:", 5) != 0) {
        return parse_state(p, text, event);
    }
    if (!read_whole(text + 5, 0, INT64_MAX, &step, &end) || *end) {
        return fail(p, "'%s' in '%s' is not step:N", text, p->text);
    }
    event->when = WHEN_STEP;
    event->step = (uint64_t)step;
    return EEP_OK;
}

/* ---------------------------------------------------------------- all of it */

eep_status script_parse(verb deed, const char *text, bool must_have_when, script_event *event_out,
                        char error[SCRIPT_ERROR_BYTES])
{
    const verb_info *info = &verb_table[deed];
    parser p = {info->option, text, error};
    script_event event = {.verb = deed,
                          .pairs_with = -1,
                          .count = 1,
                          .state_seat = -1,
                          .state_count = 1,
                          .trigger_ms = -1};
    char copy[384];
    if (strlen(text) >= sizeof copy) {
        return fail(&p, "the text is longer than %zu letters", sizeof copy - 1);
    }
    memcpy(copy, text, strlen(text) + 1);
    char *when = strchr(copy, '@'), *value = NULL;
    if (when) {
        *when++ = '\0';
    }
    bool wants_value = info->value == VERB_SECONDS;
    if ((must_have_when && !when) || ((info->has_seat || wants_value) && !*copy)) {
        return fail(&p, "'%s' is not of the form %s@TIME", text,
                    info->has_seat ? "RANK"
                    : wants_value  ? "SECONDS"
                                   : "");
    }
    eep_status status = EEP_OK;
    if (info->has_seat) {
        value = strchr(copy, '=');
        if (value) {
            *value++ = '\0';
        }
        status = parse_who(&p, copy, &event);
    } else {
        value = *copy ? copy : NULL;
    }
    if (status == EEP_OK && when) { /* the time first: messages as they always were */
        status = parse_when(&p, when, &event);
    }
    if (status == EEP_OK) {
        status = parse_value(&p, value, &event);
    }
    if (status == EEP_OK) {
        *event_out = event;
    }
    return status;
}
