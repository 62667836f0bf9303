/* SPDX-License-Identifier: Apache-2.0 */
/* Script events back to text, and the names that stand in it. */
#include "experiments/script/script_describe.h"

#include <stdio.h>
#include <string.h>

enum { MS_BYTES = 32 };

const char *const state_names[NUM_STATES] = {
    [STATE_SPAWNED] = "spawned",     [STATE_OPENED] = "opened",
    [STATE_READY] = "ready",         [STATE_STAGED] = "staged",
    [STATE_COMMITTED] = "committed", [STATE_JOINED] = "joined",
    [STATE_SUSPECTED] = "suspected", [STATE_WEDGED] = "wedged",
    [STATE_PROPOSED] = "proposed",   [STATE_REPAIRING] = "repairing",
    [STATE_REPAIRED] = "repaired",   [STATE_INSTALLED] = "installed",
    [STATE_FLIPPED] = "flipped",     [STATE_REBALANCING] = "rebalancing",
    [STATE_PLACED] = "placed",       [STATE_EXITED] = "exited",
    [STATE_EXPELLED] = "expelled"};

const script_target_name target_names[NUM_TARGETS] = {
    [TARGET_LOWEST] = {"lowest", false}, [TARGET_PROPOSER] = {"proposer", false},
    [TARGET_RANDOM] = {"random", true},  [TARGET_COVERED] = {"covered", true},
    [TARGET_SOURCE] = {"source", true},  [TARGET_JOINER] = {"joiner", false},
    [TARGET_VACANT] = {"vacant", true},
};

const char *script_form(verb what)
{
    const verb_info *info = &verb_table[what];
    static const char *const with_seat[] = {[VERB_NO_VALUE] = "RANK@TIME",
                                            [VERB_FACTOR] = "RANK=FACTOR[/DURATION]@TIME",
                                            [VERB_PLACE] = "RANK=PLACE@TIME",
                                            [VERB_PLACE_DURATION] = "RANK=PLACE[/DURATION]@TIME",
                                            [VERB_DURATION] = "RANK[=DURATION]@TIME",
                                            [VERB_FILE] = "[RANK=]FILE@TIME",
                                            [VERB_HOST] = "RANK[=HOST]@TIME"};
    static const char *const without[] = {[VERB_NO_VALUE] = "@TIME",
                                          [VERB_SECONDS] = "SECONDS@TIME",
                                          [VERB_DURATION] = "[DURATION]@TIME",
                                          [VERB_HOSTS] = "HOSTS@TIME",
                                          [VERB_HOSTS_DURATION] = "HOSTS[/DURATION]@TIME",
                                          [VERB_SIDES] = "HOSTS|HOSTS[/DURATION]@TIME",
                                          [VERB_SIDES_MS] = "HOSTS|HOSTS:MS[/DURATION]@TIME"};
    return info->has_seat ? with_seat[info->value] : without[info->value];
}

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
    bool is_same = event->target == TARGET_SAME;
    script_target target = is_same ? event->same.target : event->target;
    const char *name = target_names[target].name;
    *text = '\0';
    if (target == TARGET_SEATS) {
        seats_text(event, text, size);
    } else if (is_same && (!name || !pairs)) {
        snprintf(text, size, "(the ranks of an earlier event)"); /* no flag can say that */
    } else if (name) {
        int count = is_same ? event->same.count : event->named.count;
        snprintf(text, size, count > 1 ? "%s:%d" : "%s", name, count);
    }
}

/* VALUE as script_parse takes it; "": none. */
static void value_text(const script_event *event, char *text, size_t size)
{
    char lasts[MS_BYTES] = "";
    if (event->lasts.expels > 0) {
        snprintf(lasts, sizeof lasts, "%.10gx", event->lasts.expels);
    } else if (event->lasts.ms > 0) {
        ms_text(event->lasts.ms, lasts);
    }
    const char *slash = *lasts ? "/" : "";
    switch (verb_table[event->verb].value) {
    case VERB_SECONDS:
        snprintf(text, size, "%.10g", event->value.seconds);
        break;
    case VERB_FACTOR:
        snprintf(text, size, "%.10g%s%s", event->value.factor, slash, lasts);
        break;
    case VERB_PLACE:
    case VERB_PLACE_DURATION:
        snprintf(text, size, "%s%s%s", place_names[event->value.place], slash, lasts);
        break;
    case VERB_FILE:
        snprintf(text, size, "%s", event->value.file);
        break;
    case VERB_HOST:
    case VERB_HOSTS:
    case VERB_HOSTS_DURATION:
    case VERB_SIDES:
    case VERB_SIDES_MS:
        snprintf(text, size, "%s%s%s", event->value.hosts, slash, lasts);
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
        if (event->awaited.seat >= 0) {
            snprintf(seat, sizeof seat, ":%d", event->awaited.seat);
        }
        if (event->awaited.count > 1) {
            snprintf(count, sizeof count, "#%d", event->awaited.count);
        }
        snprintf(text, size, "%s%s%s%s%s", state_names[event->awaited.state], seat, count, plus,
                 later);
    }
}

void script_describe(const script_event *event, char *text_out, size_t size)
{
    char who[4 * SCRIPT_MAX_SEATS], value[VERB_FILE_BYTES + MS_BYTES], when[3 * MS_BYTES];
    const verb_info *info = &verb_table[event->verb];
    who_text(event, who, sizeof who);
    value_text(event, value, sizeof value);
    when_text(event, when, sizeof when);
    snprintf(text_out, size, "%s %s%s%s@%s", info->option, who, info->has_seat && *value ? "=" : "",
             value, when);
}
