/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/script_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static const fake_world *world_of(const void *user)
{
    return user;
}
static bool is_active(const void *user, int seat)
{
    return world_of(user)->active[seat];
}
static bool is_running(const void *user, int seat)
{
    return world_of(user)->running[seat];
}
static bool is_source(const void *user, int seat)
{
    return world_of(user)->source[seat];
}
static bool is_joining(const void *user, int seat)
{
    return world_of(user)->joining[seat];
}
static bool is_covered(const void *user, const bool *without)
{
    int num_without = 0;
    for (int s = 0; s < SEATS; s++) {
        num_without += without[s];
    }
    return num_without <= world_of(user)->max_gone && !(without[2] && without[3]);
}

fake_world everyone(void)
{
    fake_world world = {.max_gone = SEATS - 1};
    for (int s = 0; s < SEATS; s++) {
        world.active[s] = world.running[s] = true;
    }
    return world;
}

eep_status add_all(script *events, const char *line, char error[SCRIPT_ERROR_BYTES])
{
    char text[1024], *rest = NULL;
    eep_status status = EEP_OK;
    snprintf(text, sizeof text, "%s", line);
    for (char *word = strtok_r(text, " ", &rest); word && status == EEP_OK;
         word = strtok_r(NULL, " ", &rest)) {
        verb what = VERB_KILL;
        cr_assert(verb_find(word + 2, &what), "%s", word);
        status = script_add(events, what, strtok_r(NULL, " ", &rest), error);
    }
    return status;
}

script good(const char *line)
{
    script events = {.expel_ms = 1000};
    char error[SCRIPT_ERROR_BYTES] = "";
    cr_assert_eq(add_all(&events, line, error), EEP_OK, "%s: %s", line, error);
    cr_assert_eq(script_prepare(&events, SEATS, SEATS, error), EEP_OK, "%s: %s", line, error);
    return events;
}

const char *due_with(script *events, fake_world *world, double now_ms, int proposer, uint64_t seed)
{
    static char text[512];
    script_world asked = {.now_ms = now_ms,
                          .proposer = proposer,
                          .max_ranks = SEATS,
                          .active = is_active,
                          .running = is_running,
                          .source = is_source,
                          .joining = is_joining,
                          .covered = is_covered,
                          .user = world,
                          .seed = seed};
    script_action action;
    text[0] = '\0';
    while (script_next(events, &asked, &action)) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%d%s ", verb_table[action.verb].name,
                 action.seat, action.keeps_freeze ? "-but-freezes" : "");
        if (action.seat < 0) {
            continue;
        }
        bool ends = action.verb == VERB_KILL || action.verb == VERB_ABORT;
        world->active[action.seat] = !ends && world->active[action.seat];
        world->running[action.seat] =
            verb_table[action.verb].wants_free || world->running[action.seat];
    }
    return text;
}

const char *due(script *events, fake_world *world, double now_ms, int proposer)
{
    return due_with(events, world, now_ms, proposer, 1);
}

void reap(fake_world *world, int seat)
{
    world->active[seat] = world->running[seat] = false;
}

script_event parsed(verb what, const char *text)
{
    char error[SCRIPT_ERROR_BYTES] = "";
    script_event event;
    cr_assert_eq(script_parse(what, text, false, &event, error), EEP_OK, "%s", error);
    return event;
}

void drop_ended(script *events)
{
    script_event ended;
    while (script_ended(events, &ended)) {
    }
}
