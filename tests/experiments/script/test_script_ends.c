/* What has a duration is undone: by its end, by another event, or not at all. */
#include "tests/lib/script_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(fault_script, what_has_a_duration_is_undone)
{
    fake_world world = everyone();
    script plan = good("--stop 2,3=400ms@1 --slow 4=3/0.5x@1 --store-stop 100ms@2 --stop 5@2 "
                       "--cont 5@3");
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "stop2 stop3 slow4 ");
    cr_assert_float_eq(script_wait_ms(&plan, 1000), 400, 1e-9);
    cr_assert_str_eq(due(&plan, &world, 1399, 0), "");
    cr_assert_str_eq(due(&plan, &world, 1400, 0), "cont2 cont3 ");
    cr_assert_str_eq(due(&plan, &world, 1499, 0), "");
    cr_assert_str_eq(due(&plan, &world, 1500, 0), "slow4 ", "half of expel_ms");
    cr_assert_str_eq(due(&plan, &world, 2000, 0), "store-stop-1 stop5 ");
    cr_assert_not(script_is_done(&plan));
    cr_assert_str_eq(due(&plan, &world, 2100, 0), "store-cont-1 ");
    cr_assert_str_eq(due(&plan, &world, 3000, 0), "cont5 ");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

Test(fault_script, what_is_undone_by_hand_is_not_undone_again)
{
    fake_world world = everyone();
    script plan = good("--stop 1,2=8@1 --cont 1@2 --slow 3=4/8@1 --slow 3=2/1@2 --store-stop 8@1 "
                       "--store-cont @2 --stop 1=1@4");
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "stop1 stop2 slow3 store-stop-1 ");
    cr_assert_str_eq(due(&plan, &world, 2000, 0), "slow3 store-cont-1 cont1 ");
    cr_assert_str_eq(due(&plan, &world, 3000, 0), "slow3 ");
    cr_assert_str_eq(due(&plan, &world, 4000, 0), "stop1 ");
    cr_assert_str_eq(due(&plan, &world, 5000, 0), "cont1 ", "its own undoing is still to come");
    cr_assert_str_eq(due(&plan, &world, 8999, 0), "");
    cr_assert_str_eq(due(&plan, &world, 9000, 0), "cont2 ", "only of those that were not");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

Test(fault_script, a_process_that_is_gone_has_nothing_to_undo)
{
    fake_world world = everyone();
    script plan = good("--stop 2=10@1");
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "stop2 ");
    cr_assert_not(script_is_done(&plan));
    reap(&world, 2);
    cr_assert_str_eq(due(&plan, &world, 2000, 0), "");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

Test(fault_script, of_two_ends_the_later_counts)
{
    fake_world world = everyone();
    script plan =
        good("--stop 2=400ms@1 --stop 2=800ms@1.2 --stop 3=800ms@1 --stop 3=100ms@1.1 "
             "--slow 4=3/1s@1 --slow 4=5/2s@1.5 --stop 5=400ms@1 --stop 5@1.3 --cont 5@4");
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "stop2 stop3 slow4 stop5 ");
    cr_assert_str_eq(due(&plan, &world, 1100, 0), "stop3 ");
    cr_assert_str_eq(due(&plan, &world, 1200, 0), "stop2 ", "3 is stopped until 1800");
    cr_assert_str_eq(due(&plan, &world, 1300, 0), "stop5 ");
    cr_assert_str_eq(due(&plan, &world, 1400, 0), "", "2 is stopped until 2000, 5 until a cont");
    cr_assert_str_eq(due(&plan, &world, 1500, 0), "slow4 ");
    cr_assert_str_eq(due(&plan, &world, 1800, 0), "cont3 ");
    cr_assert_str_eq(due(&plan, &world, 2000, 0), "cont2 ", "and 4 is slow until 3500");
    cr_assert_str_eq(due(&plan, &world, 3500, 0), "slow4 ");
    cr_assert_str_eq(due(&plan, &world, 4000, 0), "cont5 ");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

/* A rank that is stopped gets to no place: the freeze waits for the end of the stop, not the other
 * way round. */
Test(fault_script, a_freeze_that_was_ordered_during_a_stop_comes_behind_it)
{
    fake_world world = everyone();
    script plan = good("--stop 1,2,3,4=1s@1 --freeze 1=experts/3s@1.5 --freeze 2=experts@1.5 "
                       "--freeze 3=experts/200ms@1.5 --freeze 4=combine/200ms@1.8 "
                       "--freeze 5=experts/2s@1 --stop 5=500ms@2 --cont 2@5");
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "stop1 stop2 stop3 stop4 freeze5 ");
    cr_assert_str_eq(due(&plan, &world, 1500, 0), "freeze1 freeze2 freeze3 ");
    cr_assert_str_eq(due(&plan, &world, 1800, 0), "freeze4 ", "3 is stopped until 2000");
    cr_assert_str_eq(due(&plan, &world, 2000, 0),
                     "cont1-but-freezes cont2-but-freezes cont3 cont4 stop5 ");
    cr_assert_str_eq(due(&plan, &world, 2500, 0), "", "5 is frozen until 3000");
    cr_assert_str_eq(due(&plan, &world, 3000, 0), "cont5 ");
    cr_assert_str_eq(due(&plan, &world, 4500, 0), "cont1 ");
    cr_assert_str_eq(due(&plan, &world, 5000, 0), "cont2 ");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

/* ---------------------------------------------------------------- against a model */

static uint32_t next_number(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

enum { LASTS = 1 << 30, MODEL_SEATS = 3, MODEL_MOMENTS = 400 };

/* What a seat is, by its last commands: when its stop and its slow-down end (0: there is none). */
typedef struct model_seat {
    bool lives;
    int stop_end, slow_end;
} model_seat;

/* Every verb of this test on the seat, for a while (0: for good); the action by the model. */
static void model_strike(model_seat *seat, verb what, int now, int lasts)
{
    int end = lasts ? now + lasts : LASTS;
    if (what == VERB_KILL || what == VERB_REJOIN) {
        *seat = (model_seat){.lives = what == VERB_REJOIN};
    } else if (what == VERB_CONT) {
        seat->stop_end = 0;
    } else if (what == VERB_SLOW) {
        seat->slow_end = end;
    } else {
        bool later = seat->stop_end == LASTS || end > seat->stop_end;
        seat->stop_end = later ? end : seat->stop_end;
    }
}

/* Commands at whole tens, ends between them; many ends fall together. */
Test(script, stops_and_slow_downs_end_as_a_plain_model_says)
{
    static const verb verbs[] = {VERB_STOP, VERB_STOP, VERB_SLOW, VERB_CONT, VERB_KILL};
    for (uint32_t seed = 1; seed <= 60; seed++) {
        uint32_t random = seed;
        model_seat model[MODEL_SEATS] = {{.lives = true}, {.lives = true}, {.lives = true}};
        fake_world world = everyone();
        script plan = good("");
        for (int now = 10; now < 10 * MODEL_MOMENTS; now += 10) {
            int seat = (int)(next_number(&random) % MODEL_SEATS);
            verb what = model[seat].lives ? verbs[next_number(&random) % 5] : VERB_REJOIN;
            bool can_last = what == VERB_STOP || what == VERB_SLOW;
            int lasts = can_last && next_number(&random) % 4
                            ? 5 + 10 * (int)(next_number(&random) % 12)
                            : 0;
            char text[64], expected[64], length[32] = "";
            snprintf(length, sizeof length, "%s%dms", what == VERB_SLOW ? "/" : "=", lasts);
            snprintf(text, sizeof text, "%d%s%s", seat, what == VERB_SLOW ? "=2" : "",
                     lasts ? length : "");
            script_event event = parsed(what, text);
            snprintf(expected, sizeof expected, "%s%d ", verb_table[what].name, seat);
            cr_assert_eq(script_append(&plan, &event), EEP_OK);
            cr_assert_str_eq(due(&plan, &world, now, 0), expected, "seed %u, %d ms", seed, now);
            model_strike(&model[seat], what, now, lasts);
            world.running[seat] = world.active[seat] = model[seat].lives;
            take_ended(&plan);
            bool ends[2][MODEL_SEATS];
            for (int s = 0; s < MODEL_SEATS; s++) {
                ends[0][s] = model[s].stop_end == now + 5;
                ends[1][s] = model[s].slow_end == now + 5;
                model[s].stop_end = ends[0][s] ? 0 : model[s].stop_end;
                model[s].slow_end = ends[1][s] ? 0 : model[s].slow_end;
            }
            const char *told = due(&plan, &world, now + 5, 0);
            size_t bytes = 0;
            for (int s = 0; s < MODEL_SEATS; s++) {
                snprintf(expected, sizeof expected, "cont%d ", s);
                cr_assert_eq(strstr(told, expected) != NULL, ends[0][s], "seed %u, %d ms, %d: '%s'",
                             seed, now + 5, s, told);
                bytes += ends[0][s] ? strlen(expected) : 0;
                snprintf(expected, sizeof expected, "slow%d ", s);
                cr_assert_eq(strstr(told, expected) != NULL, ends[1][s], "seed %u, %d ms, %d: '%s'",
                             seed, now + 5, s, told);
                bytes += ends[1][s] ? strlen(expected) : 0;
            }
            cr_assert_eq(strlen(told), bytes, "seed %u, %d ms: '%s', twice", seed, now + 5, told);
        }
        script_free(&plan);
    }
}

/* The same for the store, which has no seat. */
Test(script, stops_of_the_store_end_as_the_model_says)
{
    static const verb verbs[][2] = {{VERB_STORE_STOP, VERB_STOP},
                                    {VERB_STORE_STOP, VERB_STOP},
                                    {VERB_STORE_CONT, VERB_CONT},
                                    {VERB_STORE_KILL, VERB_KILL}};
    static const verb start[2] = {VERB_STORE_START, VERB_REJOIN};
    for (uint32_t seed = 1; seed <= 20; seed++) {
        uint32_t random = seed;
        model_seat model = {.lives = true};
        fake_world world = everyone();
        script plan = good("");
        for (int now = 10; now < 10 * MODEL_MOMENTS; now += 10) {
            const verb *what = model.lives ? verbs[next_number(&random) % 4] : start;
            bool ends, lasts = what[0] == VERB_STORE_STOP && next_number(&random) % 4;
            int duration = lasts ? 5 + 10 * (int)(next_number(&random) % 12) : 0;
            char text[64] = "", expected[64];
            if (lasts) {
                snprintf(text, sizeof text, "%dms", duration);
            }
            script_event event = parsed(what[0], text);
            snprintf(expected, sizeof expected, "%s-1 ", verb_table[what[0]].name);
            cr_assert_eq(script_append(&plan, &event), EEP_OK);
            cr_assert_str_eq(due(&plan, &world, now, 0), expected, "seed %u, %d ms", seed, now);
            model_strike(&model, what[1], now, duration);
            take_ended(&plan);
            ends = model.stop_end == now + 5;
            model.stop_end = ends ? 0 : model.stop_end;
            cr_assert_str_eq(due(&plan, &world, now + 5, 0), ends ? "store-cont-1 " : "",
                             "seed %u, %d ms", seed, now + 5);
        }
        script_free(&plan);
    }
}
