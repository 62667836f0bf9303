/* The text of script events. */
#include "experiments/base/decimal.h"
#include "experiments/script/script.h"
#include "experiments/script/script_names.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_BYTES = 512, MS_BYTES = 32 };

const char *const state_names[NUM_STATES] = {
    [STATE_SPAWNED] = "spawned",     [STATE_OPENED] = "opened",
    [STATE_READY] = "ready",         [STATE_STAGED] = "staged",
    [STATE_COMMITTED] = "committed", [STATE_JOINED] = "joined",
    [STATE_SUSPECTED] = "suspected", [STATE_WEDGED] = "wedged",
    [STATE_PROPOSED] = "proposed",   [STATE_REPAIRING] = "repairing",
    [STATE_REPAIRED] = "repaired",   [STATE_INSTALLED] = "installed",
    [STATE_FLIPPED] = "flipped",     [STATE_REBALANCING] = "rebalancing",
    [STATE_EXITED] = "exited",       [STATE_EXPELLED] = "expelled"};

const script_target_name target_names[NUM_TARGETS] = {
    [TARGET_LOWEST] = {"lowest", false}, [TARGET_PROPOSER] = {"proposer", false},
    [TARGET_RANDOM] = {"random", true},  [TARGET_COVERED] = {"covered", true},
    [TARGET_SOURCE] = {"source", true},  [TARGET_JOINER] = {"joiner", false},
    [TARGET_VACANT] = {"vacant", true},
};

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

static bool parse_count(const char *text, double max, double *value_out, const char **end_out)
{
    char *end = NULL;
    if (*text < '0' || *text > '9') {
        return false;
    }
    *value_out = (double)strtoull(text, &end, 10);
    *end_out = end;
    return *value_out <= max;
}

/* "1.5", "1.5s" or "1500ms" to milliseconds; false for anything else, negative or over a day. */
static bool parse_time(const char *text, double *ms_out)
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
    if (value > 86400e3) {
        return false;
    }
    *ms_out = value;
    return true;
}

/* A time, or "0.9x": a multiple of the time after which a silent process is expelled. */
static bool parse_duration(const char *text, script_event *event)
{
    const char *end = NULL;
    if (parse_time(text, &event->duration_ms)) {
        return event->duration_ms > 0;
    }
    return decimal_parse(text, &event->duration_expels, &end) && strcmp(end, "x") == 0 &&
           event->duration_expels > 0 && event->duration_expels <= 1000;
}

/* ---------------------------------------------------------------- who */

static bool parse_seats(const char *text, script_event *event, const char **why_out)
{
    for (;;) {
        double seat = 0;
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

/* False: `*why_out`, if it was set, says more than that it is none of the forms. */
static bool parse_who(const char *text, script_event *event, const char **why_out)
{
    for (int t = 0; t < NUM_TARGETS; t++) {
        const char *name = target_names[t].name;
        size_t length = name ? strlen(name) : 0;
        if (!name || strncmp(text, name, length) != 0) {
            continue;
        }
        double count = 1;
        const char *rest = text + length, *end = "";
        if (*rest == ':' && target_names[t].counts) {
            if (!parse_count(rest + 1, SCRIPT_MAX_SEATS, &count, &end) || count < 1 || *end) {
                return false;
            }
        } else if (*rest) {
            return false;
        }
        event->target = (script_target)t;
        event->count = (int)count;
        event->counted = *rest == ':';
        return true;
    }
    return parse_seats(text, event, why_out);
}

/* Free seats are for those that start a process; the others' names are for members. */
static bool target_fits(const script_event *event)
{
    if (event->target == TARGET_SEATS) {
        return true;
    }
    bool pairs = event->verb == VERB_REJOIN || event->verb == VERB_CONT;
    return event->target == TARGET_VACANT ? verb_table[event->verb].wants_free
                                          : pairs || !verb_table[event->verb].wants_free;
}

/* ---------------------------------------------------------------- value */

static bool parse_factor(const char *text, script_event *event)
{
    const char *end = NULL;
    if (!decimal_parse(text, &event->value, &end) || event->value < 1 || event->value > 1000) {
        return false;
    }
    return !*end || (*end == '/' && parse_duration(end + 1, event));
}

static bool parse_place(const char *text, bool may_last, script_event *event)
{
    for (int p = 0; p < NUM_PLACES; p++) {
        size_t length = strlen(place_names[p]);
        if (strncmp(text, place_names[p], length) == 0) {
            event->value = p;
            text += length;
            return !*text || (may_last && *text == '/' && parse_duration(text + 1, event));
        }
    }
    return false;
}

static eep_status parse_value(const char *value, const char *text, script_event *event, char *error)
{
    const verb_info *info = &verb_table[event->verb];
    double burn_ms = 0;
    bool good = false;
    const char *allowed = "";
    switch (info->value) {
    case VERB_NO_VALUE:
        return fail(error, "%s: '%s' has the value '%s', but it takes none", info->option, text,
                    value);
    case VERB_SECONDS:
        good = parse_time(value, &burn_ms);
        event->value = burn_ms / 1e3;
        allowed = "a number of seconds";
        break;
    case VERB_FACTOR:
        good = parse_factor(value, event);
        allowed = "a factor from 1 to 1000, or FACTOR/DURATION";
        break;
    case VERB_PLACE:
        good = parse_place(value, false, event);
        allowed = "dispatch, experts or combine";
        break;
    case VERB_PLACE_DURATION:
        good = parse_place(value, true, event);
        allowed = "dispatch, experts or combine, or PLACE/DURATION";
        break;
    case VERB_DURATION:
        good = parse_duration(value, event);
        allowed = "a duration (1.5, 1.5s, 400ms, or 0.9x: in multiples of --expel-ms)";
        break;
    }
    return good ? EEP_OK
                : fail(error, "%s: '%s' in '%s' is not %s", info->option, value, text, allowed);
}

/* ---------------------------------------------------------------- when */

static bool parse_state(char *word, script_event *event)
{
    double number = 0;
    const char *end = NULL;
    char *hash = strchr(word, '#');
    if (hash) {
        *hash = '\0';
        if (!parse_count(hash + 1, 1e9, &number, &end) || number < 1 || *end) {
            return false;
        }
        event->state_count = (int)number;
    }
    char *colon = strchr(word, ':');
    if (colon) {
        *colon = '\0';
        if (!parse_count(colon + 1, EEP_MAX_RANKS - 1, &number, &end) || *end) {
            return false;
        }
        event->state_seat = (int)number;
    }
    for (int s = 0; s < NUM_STATES; s++) {
        if (strcmp(word, state_names[s]) == 0) {
            event->state = (script_state)s;
            return true;
        }
    }
    return false;
}

static bool parse_when(const char *text, script_event *event)
{
    char word[WORD_BYTES];
    if (parse_time(text, &event->delay_ms)) {
        return true;
    }
    snprintf(word, sizeof word, "%s", text);
    char *plus = strchr(word, '+');
    if (plus) {
        *plus = '\0';
        if (!parse_time(plus + 1, &event->delay_ms)) {
            return false;
        }
    }
    if (strncmp(word, "step:", 5) == 0) {
        double step = 0;
        const char *end = NULL;
        event->when = WHEN_STEP;
        bool good = parse_count(word + 5, 1e15, &step, &end) && !*end;
        event->step = (uint64_t)step;
        return good;
    }
    event->when = WHEN_STATE;
    return parse_state(word, event);
}

/* ---------------------------------------------------------------- the whole */

const char *script_form(verb what)
{
    const verb_info *info = &verb_table[what];
    static const char *const with_seat[] = {[VERB_NO_VALUE] = "RANK@TIME",
                                            [VERB_FACTOR] = "RANK=FACTOR[/DURATION]@TIME",
                                            [VERB_PLACE] = "RANK=PLACE@TIME",
                                            [VERB_PLACE_DURATION] = "RANK=PLACE[/DURATION]@TIME",
                                            [VERB_DURATION] = "RANK[=DURATION]@TIME"};
    static const char *const without[] = {[VERB_NO_VALUE] = "@TIME",
                                          [VERB_SECONDS] = "SECONDS@TIME",
                                          [VERB_DURATION] = "[DURATION]@TIME"};
    return info->has_seat ? with_seat[info->value] : without[info->value];
}

static eep_status bad_form(verb what, const char *text, char *error)
{
    return fail(error, "%s: '%s' is not of the form %s", verb_table[what].option, text,
                script_form(what));
}

/* What stands before the '@'. */
static eep_status parse_action(char *word, const char *text, script_event *event, char *error)
{
    const verb_info *info = &verb_table[event->verb];
    bool needs_value = info->value != VERB_NO_VALUE && info->value != VERB_DURATION;
    char *value = word;
    if (info->has_seat) {
        char *equals = strchr(word, '=');
        value = equals ? equals + 1 : NULL;
        if (equals) {
            *equals = '\0';
        }
        if (!*word) {
            return bad_form(event->verb, text, error);
        }
        const char *why = NULL;
        bool known = parse_who(word, event, &why);
        if (!known && why) {
            return fail(error, "%s: '%s' in '%s': %s", info->option, word, text, why);
        }
        if (!known) {
            return fail(error,
                        "%s: '%s' in '%s' is not a rank, a list of ranks, or one of lowest, "
                        "proposer, random[:N], covered[:N], source[:N], joiner, vacant[:N]",
                        info->option, word, text);
        }
        if (!target_fits(event)) {
            return fail(error, "%s: '%s' in '%s': %s", info->option, word, text,
                        info->wants_free ? "it takes ranks by number, or vacant[:N]"
                                         : "vacant is for --add and --rejoin");
        }
    } else if (!*word) {
        value = NULL;
    }
    if (!value) {
        return needs_value ? bad_form(event->verb, text, error) : EEP_OK;
    }
    return parse_value(value, text, event, error);
}

eep_status script_parse(verb what, const char *text, bool must_have_when, script_event *event_out,
                        char error[SCRIPT_ERROR_BYTES])
{
    script_event event = {
        .verb = what, .count = 1, .pairs_with = -1, .state_seat = -1, .state_count = 1};
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

/* ---------------------------------------------------------------- back to text */

/* Milliseconds without needless digits: "3000000ms", "0.5ms". */
static void ms_text(double ms, char text[MS_BYTES])
{
    snprintf(text, MS_BYTES - 3, "%.3f", ms);
    size_t length = strlen(text);
    while (text[length - 1] == '0') {
        length--;
    }
    length -= text[length - 1] == '.';
    memcpy(text + length, "ms", 3);
}

static void seats_text(const script_event *event, char *text, size_t size)
{
    size_t used = 0;
    for (int i = 0; i < event->num_seats && used < size; i++) {
        used += (size_t)snprintf(text + used, size - used, "%s%d", i ? "," : "", event->seat[i]);
    }
}

static void who_text(const script_event *event, char *text, size_t size)
{
    bool pairs = event->verb == VERB_REJOIN || event->verb == VERB_CONT;
    script_target named = event->target == TARGET_SAME ? event->written : event->target;
    const char *name = target_names[named].name;
    *text = '\0';
    if (named == TARGET_SEATS) {
        seats_text(event, text, size);
    } else if (event->target == TARGET_SAME && (!name || !pairs)) {
        snprintf(text, size, "(the ranks of an earlier event)"); /* no flag can say that */
    } else if (name) {
        snprintf(text, size, event->count > 1 ? "%s:%d" : "%s", name, event->count);
    }
}

/* VALUE as script_parse takes it; "": none. */
static void value_text(const script_event *event, char *text, size_t size)
{
    char lasts[MS_BYTES] = "";
    if (event->duration_expels > 0) {
        snprintf(lasts, sizeof lasts, "%.10gx", event->duration_expels);
    } else if (event->duration_ms > 0) {
        ms_text(event->duration_ms, lasts);
    }
    const char *slash = *lasts ? "/" : "";
    switch (verb_table[event->verb].value) {
    case VERB_SECONDS:
        snprintf(text, size, "%.10g", event->value);
        break;
    case VERB_FACTOR:
        snprintf(text, size, "%.10g%s%s", event->value, slash, lasts);
        break;
    case VERB_PLACE:
    case VERB_PLACE_DURATION:
        snprintf(text, size, "%s%s%s", place_names[(int)event->value], slash, lasts);
        break;
    default:
        snprintf(text, size, "%s", lasts);
        break;
    }
}

static void when_text(const script_event *event, char *text, size_t size)
{
    char delay[MS_BYTES], seat[16] = "", count[16] = "";
    ms_text(event->delay_ms, delay);
    const char *plus = event->delay_ms > 0 ? "+" : "", *later = event->delay_ms > 0 ? delay : "";
    if (event->when == WHEN_TIME) {
        snprintf(text, size, "%s", delay);
    } else if (event->when == WHEN_STEP) {
        snprintf(text, size, "step:%llu%s%s", (unsigned long long)event->step, plus, later);
    } else {
        if (event->state_seat >= 0) {
            snprintf(seat, sizeof seat, ":%d", event->state_seat);
        }
        if (event->state_count > 1) {
            snprintf(count, sizeof count, "#%d", event->state_count);
        }
        snprintf(text, size, "%s%s%s%s%s", state_names[event->state], seat, count, plus, later);
    }
}

void script_describe(const script_event *event, char *text_out, size_t size)
{
    char who[4 * SCRIPT_MAX_SEATS], value[2 * MS_BYTES], when[3 * MS_BYTES];
    const verb_info *info = &verb_table[event->verb];
    who_text(event, who, sizeof who);
    value_text(event, value, sizeof value);
    when_text(event, when, sizeof when);
    snprintf(text_out, size, "%s %s%s%s@%s", info->option, who, info->has_seat && *value ? "=" : "",
             value, when);
}
