/* SPDX-License-Identifier: Apache-2.0 */
/* What has a duration is undone: by its end, by another event, or not at all. */
#include "tests/lib/script_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* At that moment this is due, and nothing else. */
typedef struct moment {
    double now_ms;
    const char *due;
} moment;

enum { MAX_MOMENTS = 12 };

/* Stories of what is undone: by its end, by another event, or by neither. */
static const struct {
    const char *name, *line;
    moment moments[MAX_MOMENTS]; /* up to the first without text */
} stories[] = {
    {"a duration ends by itself",
     "--stop 2,3=400ms@1 --slow 4=3/0.5x@1 --store-stop 100ms@2 --stop 5@2 --cont 5@3",
     {{1000, "stop2 stop3 slow4 "},
      {1399, ""},
      {1400, "cont2 cont3 "},
      {1499, ""},
      {1500, "slow4 "}, /* half of expel_ms */
      {2000, "store-stop-1 stop5 "},
      {2100, "store-cont-1 "},
      {3000, "cont5 "}}},
    {"what another event ended does not end again",
     "--stop 1,2=8@1 --cont 1@2 --slow 3=4/8@1 --slow 3=2/1@2 --store-stop 8@1 --store-cont @2 "
     "--stop 1=1@4",
     {{1000, "stop1 stop2 slow3 store-stop-1 "},
      {2000, "slow3 store-cont-1 cont1 "},
      {3000, "slow3 "},
      {4000, "stop1 "},
      {5000, "cont1 "}, /* of the second stop of rank 1 */
      {8999, ""},
      {9000, "cont2 "}}}, /* rank 1 was continued before */
    {"what is done to other hosts ends by itself",
     "--partition h1|h2/1s@1 --partition h1|h3/3s@1.5 --nic-down h2/1s@1 --nic-up h2@1.5 "
     "--one-way h1|h2/8s@5 --heal @6 --host-freeze h1/400ms@7 --agent-kill h2/0.5x@7",
     {{1000, "partition-1 nic-down-1 "},
      {1500, "partition-1 nic-up-1 "},
      {2000, "heal-1 "}, /* between h1 and h2 */
      {4500, "heal-1 "},
      {5000, "one-way-1 "},
      {6000, "heal-1 "},
      {7000, "host-freeze-1 agent-kill-1 "},
      {7400, "host-cont-1 "},
      {7500, "agent-start-1 "}}},
    {"of two ends the later counts",
     "--stop 2=400ms@1 --stop 2=800ms@1.2 --stop 3=800ms@1 --stop 3=100ms@1.1 "
     "--slow 4=3/1s@1 --slow 4=5/2s@1.5 --stop 5=400ms@1 --stop 5@1.3 --cont 5@4",
     {{1000, "stop2 stop3 slow4 stop5 "},
      {1100, "stop3 "},
      {1200, "stop2 "}, /* rank 3 is stopped until 1800 */
      {1300, "stop5 "},
      {1400, ""}, /* rank 2 is stopped until 2000, rank 5 until a cont */
      {1500, "slow4 "},
      {1800, "cont3 "},
      {2000, "cont2 "}, /* rank 4 is slow until 3500 */
      {3500, "slow4 "},
      {4000, "cont5 "}}},
    /* A rank that is stopped gets to no place: the freeze waits for the end of the stop, not the
     * other way round. */
    {"a freeze that was ordered during a stop comes after it",
     "--stop 1,2,3,4=1s@1 --freeze 1=experts/3s@1.5 --freeze 2=experts@1.5 "
     "--freeze 3=experts/200ms@1.5 --freeze 4=combine/200ms@1.8 --freeze 5=experts/2s@1 "
     "--stop 5=500ms@2 --cont 2@5",
     {{1000, "stop1 stop2 stop3 stop4 freeze5 "},
      {1500, "freeze1 freeze2 freeze3 "},
      {1800, "freeze4 "}, /* rank 3 is stopped until 2000 */
      {2000, "cont1-but-freezes cont2-but-freezes cont3 cont4 stop5 "},
      {2500, ""}, /* rank 5 is frozen until 3000 */
      {3000, "cont5 "},
      {4500, "cont1 "},
      {5000, "cont2 "}}},
};

Test(fault_script, what_has_a_duration_ends_once)
{
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        fake_world world = everyone();
        script events = good(stories[i].line);
        for (const moment *at = stories[i].moments; at->due; at++) {
            cr_assert_not(script_is_done(&events), "%s: before %g ms", stories[i].name, at->now_ms);
            cr_expect_str_eq(due(&events, &world, at->now_ms, 0), at->due, "%s: at %g ms",
                             stories[i].name, at->now_ms);
        }
        cr_expect(script_is_done(&events), "%s", stories[i].name);
        script_free(&events);
    }
}

Test(fault_script, the_launcher_waits_until_the_next_end)
{
    fake_world world = everyone();
    script events = good("--stop 2,3=400ms@1 --slow 4=3/0.5x@1");
    cr_assert_str_eq(due(&events, &world, 1000, 0), "stop2 stop3 slow4 ");
    cr_assert_float_eq(script_wait_ms(&events, 1000), 400, 1e-9);
    script_free(&events);
}

/* ---------------------------------------------------------------- against a model */

static uint32_t next_number(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

enum { LASTS = 1 << 30, MODEL_SEATS = 3, MODEL_MOMENTS = 400 };

/* A seat, or the store, by its last commands: when its stop and its slow-down end (0: none). */
typedef struct model {
    bool lives;
    int stop_end, slow_end;
} model;

/* What is done to it, and with which of the script's verbs. */
typedef enum model_verb { STOP, SLOW, CONT, KILL, START, NUM_MODEL_VERBS } model_verb;

static const verb of_seats[NUM_MODEL_VERBS] = {VERB_STOP, VERB_SLOW, VERB_CONT, VERB_KILL,
                                               VERB_REJOIN};
static const verb of_store[NUM_MODEL_VERBS] = {VERB_STORE_STOP, NUM_VERBS, VERB_STORE_CONT,
                                               VERB_STORE_KILL, VERB_STORE_START};

/* For so long, or for good (0). */
static void apply(model *self, model_verb what, int now, int lasts)
{
    int end = lasts ? now + lasts : LASTS;
    switch (what) {
    case KILL:
    case START:
        *self = (model){.lives = what == START};
        break;
    case CONT:
        self->stop_end = 0;
        break;
    case SLOW:
        self->slow_end = end;
        break;
    default:
        if (self->stop_end == LASTS || end > self->stop_end) {
            self->stop_end = end; /* a stop that had no end gets one */
        }
    }
}

/* The command as eep-ctl takes it. */
static void print_command(bool has_seat, int seat, model_verb what, int lasts, char text[64])
{
    char rank[16] = "", length[32] = "";
    const char *sign = what == SLOW ? "/" : "=";
    if (has_seat) {
        snprintf(rank, sizeof rank, "%d%s", seat, what == SLOW ? "=2" : "");
    }
    if (lasts) {
        snprintf(length, sizeof length, "%s%dms", has_seat ? sign : "", lasts);
    }
    snprintf(text, 64, "%s%s", rank, length);
}

/* Commands at whole tens, ends between them; many ends fall together. */
static void compare(uint32_t seed, const verb *verbs, int num_seats)
{
    static const model_verb drawn[] = {STOP, STOP, CONT, KILL, SLOW}; /* the store is never slow */
    bool has_seat = verb_table[verbs[STOP]].has_seat;
    uint32_t random = seed, num_drawn = has_seat ? 5 : 4;
    model models[MODEL_SEATS] = {{.lives = true}, {.lives = true}, {.lives = true}};
    fake_world world = everyone();
    script events = good("");
    for (int now = 10; now < 10 * MODEL_MOMENTS; now += 10) {
        int seat = (int)(next_number(&random) % (uint32_t)num_seats), lasts = 0;
        model_verb what = models[seat].lives ? drawn[next_number(&random) % num_drawn] : START;
        if ((what == STOP || what == SLOW) && next_number(&random) % 4) {
            lasts = 5 + 10 * (int)(next_number(&random) % 12);
        }
        char text[64], expected[256];
        print_command(has_seat, seat, what, lasts, text);
        script_event event = parsed(verbs[what], text);
        cr_assert_eq(script_append(&events, &event), EEP_OK);
        snprintf(expected, sizeof expected, "%s%d ", verb_table[verbs[what]].name,
                 has_seat ? seat : -1);
        cr_assert_str_eq(due(&events, &world, now, 0), expected, "seed %u, %d ms", seed, now);
        apply(&models[seat], what, now, lasts);
        world.running[seat] = world.active[seat] = !has_seat || models[seat].lives;
        drop_ended(&events);
        const char *told = due(&events, &world, now + 5, 0);
        size_t bytes = 0;
        for (int s = 0; s < num_seats; s++) {
            int *ends[] = {&models[s].stop_end, &models[s].slow_end};
            for (int e = 0; e < 2; e++) {
                verb end = verbs[e ? SLOW : CONT];
                if (*ends[e] != now + 5) {
                    continue;
                }
                *ends[e] = 0;
                bytes += (size_t)snprintf(expected, sizeof expected, "%s%d ", verb_table[end].name,
                                          has_seat ? s : -1);
                cr_assert_not_null(strstr(told, expected), "seed %u, %d ms: '%s', not in '%s'",
                                   seed, now + 5, expected, told);
            }
        }
        cr_assert_eq(strlen(told), bytes, "seed %u, %d ms: '%s'", seed, now + 5, told);
    }
    script_free(&events);
}

Test(script, stops_and_slow_downs_end_as_a_plain_model_says)
{
    for (uint32_t seed = 1; seed <= 60; seed++) {
        compare(seed, of_seats, MODEL_SEATS);
    }
}

Test(script, stops_of_the_store_end_as_the_model_says)
{
    for (uint32_t seed = 1; seed <= 20; seed++) {
        compare(seed, of_store, 1);
    }
}
