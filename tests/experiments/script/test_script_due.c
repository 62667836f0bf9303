/* SPDX-License-Identifier: Apache-2.0 */
/* What of a script is due, on whom: times, seats, triggers, and the cycle. */
#include "tests/lib/script_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------------------------------- times and seats */

Test(fault_script, events_are_due_in_order_and_wait_for_their_seat)
{
    fake_world world = everyone();
    script events =
        good("--rejoin 3@1500ms --kill 3@1 --kill 5@1s --kill proposer@2 --rejoin proposer@2");
    cr_assert_str_eq(due(&events, &world, 999, 0), "");
    cr_assert_str_eq(due(&events, &world, 1000, 0), "kill3 kill5 ");
    cr_assert_str_eq(due(&events, &world, 1600, 0), "", "its process still runs");
    reap(&world, 3);
    reap(&world, 5);
    cr_assert_str_eq(due(&events, &world, 1601, 0), "rejoin3 ");
    cr_assert_not(script_is_done(&events));
    cr_assert_str_eq(due(&events, &world, 2000, 6), "kill6 ");
    reap(&world, 6);
    cr_assert_str_eq(due(&events, &world, 2001, 0), "rejoin6 ");
    cr_assert(script_is_done(&events));
    script_free(&events);
}

/* A process that has ended is passed over by what would be done to it, and what was done to it is
 * not undone. */
Test(fault_script, a_process_that_has_ended_is_left_alone)
{
    fake_world world = everyone();
    script events = good("--stop 3=10@1 --kill 3@2");
    cr_assert_str_eq(due(&events, &world, 1000, 0), "stop3 ");
    cr_assert_not(script_is_done(&events));
    reap(&world, 3); /* killed by the fence */
    cr_assert_str_eq(due(&events, &world, 2000, 0), "");
    cr_assert(script_is_done(&events));
    script_free(&events);
}

Test(fault_script, names_fall_on_active_seats)
{
    fake_world world = everyone();
    world.active[0] = world.active[1] = false;
    script events = good("--kill lowest@1 --kill proposer@2 --kill random@3 --burn 2@4");
    cr_assert_str_eq(due(&events, &world, 1000, 0), "kill2 ");
    cr_assert_str_eq(due(&events, &world, 2000, 2), "kill3 ", "the proposer has left: the lowest");
    const char *random = due(&events, &world, 3000, 0);
    cr_assert(strncmp(random, "kill", 4) == 0 && random[4] >= '4' && random[4] <= '7', "%s",
              random);
    cr_assert_str_eq(due(&events, &world, 4000, 0), "burn-1 ");
    cr_assert(script_is_done(&events));
    script_free(&events);
}

Test(fault_script, several_seats_are_killed_at_once_and_rejoin)
{
    fake_world world = everyone();
    script events = good("--kill random:3@1 --rejoin random:3@2");
    char kills[512];
    snprintf(kills, sizeof kills, "%s", due(&events, &world, 1000, 0));
    int seats[3];
    cr_assert_eq(sscanf(kills, "kill%d kill%d kill%d ", &seats[0], &seats[1], &seats[2]), 3, "%s",
                 kills);
    cr_assert(seats[0] != seats[1] && seats[1] != seats[2] && seats[0] != seats[2], "%s", kills);
    reap(&world, seats[1]);
    char expected[64];
    snprintf(expected, sizeof expected, "rejoin%d ", seats[1]);
    cr_assert_str_eq(due(&events, &world, 2000, 0), expected, "the others still run");
    reap(&world, seats[0]);
    reap(&world, seats[2]);
    snprintf(expected, sizeof expected, "rejoin%d rejoin%d ", seats[0], seats[2]);
    cr_assert_str_eq(due(&events, &world, 2001, 0), expected);
    cr_assert(script_is_done(&events));
    script_free(&events);
}

Test(fault_script, the_same_seed_draws_the_same_seats)
{
    char first[512];
    for (int i = 0; i < 2; i++) {
        fake_world world = everyone();
        script events = good("--kill random:4@1");
        const char *text = due_with(&events, &world, 1000, 0, 99);
        if (i == 0) {
            snprintf(first, sizeof first, "%s", text);
        }
        cr_assert_str_eq(text, first);
        script_free(&events);
    }
}

Test(fault_script, covered_leaves_every_expert)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        fake_world world = everyone();
        world.max_gone = 4;
        script events = good("--kill covered:4@1");
        const char *text = due_with(&events, &world, 1000, 0, seed);
        int num = 0;
        for (const char *at = text; (at = strstr(at, "kill")); at++) {
            num++;
        }
        cr_assert_eq(num, 4, "seed %d: %s", (int)seed, text);
        cr_assert(world.active[2] || world.active[3], "seed %d: %s", (int)seed, text);
        script_free(&events);
    }
    fake_world world = everyone();
    world.max_gone = 2;
    script events = good("--kill covered:3@1");
    cr_assert_not(script_waits(&events, 999));
    cr_assert_str_eq(due(&events, &world, 1000, 0), "", "it waits");
    cr_assert(script_waits(&events, 1000));
    world.max_gone = 3;
    cr_assert_str_neq(due(&events, &world, 1001, 0), "");
    cr_assert(script_is_done(&events));
    script_free(&events);
}

Test(fault_script, covered_counts_ranks_that_were_killed_before)
{
    fake_world world = everyone();
    world.max_gone = 3;
    script events = good("--kill 0,1@1 --kill covered:2@1");
    cr_assert_str_eq(due(&events, &world, 1000, 0), "kill0 kill1 ");
    script_free(&events);
}

Test(fault_script, sources_joiners_and_free_seats)
{
    fake_world world = everyone();
    world.source[4] = world.source[6] = true;
    script events =
        good("--kill source@repairing --kill source:3@repairing+1ms --kill joiner@staged "
             "--add vacant:2@5");
    script_on_state(&events, STATE_REPAIRING, 0, 100);
    cr_assert_str_eq(due(&events, &world, 100, 0), "kill4 ");
    cr_assert_str_eq(due(&events, &world, 101, 0), "kill4 kill6 ", "as many as there are");
    reap(&world, 4);
    reap(&world, 6);
    script_on_state(&events, STATE_STAGED, 0, 200);
    cr_assert_str_eq(due(&events, &world, 200, 0), "", "no rank joins");
    world.joining[1] = world.joining[5] = true;
    script_on_state(&events, STATE_SPAWNED, 5, 201);
    script_on_state(&events, STATE_SPAWNED, 1, 202);
    cr_assert_str_eq(due(&events, &world, 203, 0), "kill1 ", "the youngest");
    cr_assert_str_eq(due(&events, &world, 5000, 0), "add4 add6 ");
    cr_assert(script_is_done(&events));
    script_free(&events);
}

/* ---------------------------------------------------------------- triggers */

Test(fault_script, steps_and_states_trigger)
{
    fake_world world = everyone();
    script events = good("--kill 1@step:10 --kill 2@step:10+50ms --kill 3@suspected#2 "
                         "--kill 4@joined:6 --rejoin 1@exited:1+20ms");
    script_on_step(&events, 9, 100);
    cr_assert_str_eq(due(&events, &world, 100, 0), "");
    cr_assert(script_waits(&events, 100));
    script_on_step(&events, 11, 110);
    cr_assert_not(script_waits(&events, 110), "50 ms later something is due");
    cr_assert_str_eq(due(&events, &world, 110, 0), "kill1 ");
    cr_assert_float_eq(script_wait_ms(&events, 110), 50, 1e-9);
    cr_assert_str_eq(due(&events, &world, 159, 0), "");
    cr_assert_str_eq(due(&events, &world, 160, 0), "kill2 ");
    script_on_state(&events, STATE_SUSPECTED, 0, 170);
    cr_assert_str_eq(due(&events, &world, 170, 0), "");
    script_on_state(&events, STATE_SUSPECTED, 5, 171);
    cr_assert_str_eq(due(&events, &world, 171, 0), "kill3 ");
    script_on_state(&events, STATE_JOINED, 5, 172);
    cr_assert_str_eq(due(&events, &world, 172, 0), "");
    script_on_state(&events, STATE_JOINED, 6, 173);
    cr_assert_str_eq(due(&events, &world, 173, 0), "kill4 ");
    reap(&world, 1);
    cr_assert(script_waits(&events, 173));
    script_on_state(&events, STATE_EXITED, 1, 180);
    cr_assert_str_eq(due(&events, &world, 199, 0), "");
    cr_assert_str_eq(due(&events, &world, 200, 0), "rejoin1 ");
    cr_assert(script_is_done(&events));
    cr_assert_not(script_waits(&events, 200), "it is done");
    script_free(&events);
}

Test(fault_script, a_timed_rejoin_waits_for_a_triggered_kill)
{
    fake_world world = everyone();
    script events = good("--kill proposer@suspected --rejoin proposer@1");
    cr_assert_str_eq(due(&events, &world, 2000, 5), "");
    cr_assert(script_waits(&events, 2000), "the rejoin waits for what waits");
    script_on_state(&events, STATE_SUSPECTED, 1, 2001);
    cr_assert_str_eq(due(&events, &world, 2001, 5), "kill5 ");
    reap(&world, 5);
    cr_assert_str_eq(due(&events, &world, 2002, 0), "rejoin5 ");
    cr_assert(script_is_done(&events));
    script_free(&events);
}

/* ---------------------------------------------------------------- added while it runs */

Test(fault_script, events_can_be_added_later)
{
    fake_world world = everyone();
    char error[SCRIPT_ERROR_BYTES] = "";
    script events = good("--kill 1@1");
    script_event e;
    cr_assert_str_eq(due(&events, &world, 1000, 0), "kill1 ");
    cr_assert_eq(script_parse(VERB_STOP, "lowest", false, &e, error), EEP_OK);
    cr_assert_eq(script_append(&events, &e), EEP_OK);
    cr_assert_eq(script_parse(VERB_CONT, "lowest", false, &e, error), EEP_OK);
    cr_assert_eq(script_append(&events, &e), EEP_OK);
    cr_assert_eq(script_append(&events, &e), EEP_ERR_NOT_FOUND, "no stop is left");
    cr_assert_eq(script_parse(VERB_KILL, "8", false, &e, error), EEP_OK);
    cr_assert_eq(script_append(&events, &e), EEP_ERR_INVALID, "no such seat");
    script copy;
    cr_assert_eq(script_copy(&events, &copy), EEP_OK);
    cr_assert_str_eq(due(&events, &world, 5000, 0), "stop0 cont0 ");
    cr_assert(script_is_done(&events));
    cr_assert_not(script_is_done(&copy), "the copy is a script of its own");
    script_free(&events);
    script_free(&copy);
}

/* ---------------------------------------------------------------- what came of it */

Test(fault_script, an_event_that_is_applied_to_no_seat_is_known)
{
    fake_world world = everyone();
    script events = good("--kill 2@1 --kill 2,3@suspected --kill 4@joined");
    script_event ended;
    cr_assert_str_eq(due(&events, &world, 1000, 0), "kill2 ");
    reap(&world, 2);
    cr_assert(script_ended(&events, &ended) && ended.progress.seats_applied == 1 &&
              ended.progress.applied_ms == 1000);
    cr_assert_not(script_ended(&events, &ended), "it is handed out once");
    script_on_state(&events, STATE_SUSPECTED, 0, 1100);
    cr_assert_str_eq(due(&events, &world, 1100, 0), "kill3 ");
    cr_assert(script_ended(&events, &ended));
    cr_assert(ended.progress.seats_done == 3 && ended.progress.seats_applied == 2,
              "rank 2 was passed over");
    cr_assert_not(script_is_due(&events.event[2], 5000));
    script_withdraw(&events);
    cr_assert(script_ended(&events, &ended) && ended.progress.withdrawn &&
              ended.progress.applied_ms < 0);
    cr_assert(script_is_done(&events));
    script_free(&events);
}

Test(fault_script, an_action_that_failed_counts_as_not_applied)
{
    fake_world world = everyone();
    script events = good("--stop 1=5s@1");
    script_event ended;
    script_action action = {.order = events.event[0].order, .index = 0};
    cr_assert_str_eq(due(&events, &world, 1000, 0), "stop1 ");
    script_not_applied(&events, &action); /* it was being killed */
    cr_assert(script_ended(&events, &ended) && ended.progress.seats_applied == 0 &&
              ended.progress.applied_ms < 0);
    cr_assert_str_eq(due(&events, &world, 9000, 0), "", "nothing is to be undone");
    script_free(&events);
}

/* No rank may be left, as long as one rejoins at a time that is known. */
Test(fault_script, a_rejoin_that_is_due_later_is_one_that_will_come)
{
    fake_world world = everyone();
    script events = good("--kill 0,1@1 --rejoin 0@2 --rejoin 1@joined");
    cr_assert_str_eq(due(&events, &world, 1000, 0), "kill0 kill1 ");
    cr_assert(script_will_start(&events));
    reap(&world, 0);
    reap(&world, 1);
    cr_assert_str_eq(due(&events, &world, 2000, 0), "rejoin0 ");
    cr_assert_not(script_will_start(&events), "what waits for a rank that serves may never come");
    script_on_state(&events, STATE_JOINED, 0, 2500);
    cr_assert(script_will_start(&events));
    script_free(&events);
}

/* ---------------------------------------------------------------- the cycle */

Test(fault_script, the_cycle_waits_for_each_rank_to_be_back)
{
    fake_world world = everyone();
    script events = {.cycle = {.num_kills = 3, .kill_every_ms = 500, .rejoin_after_ms = 100}};
    char error[SCRIPT_ERROR_BYTES] = "";
    cr_assert_eq(script_prepare(&events, 2, SEATS, error), EEP_OK);
    double now = 0;
    for (int kill = 0; kill < 3; kill++) {
        int seat = kill % 2;
        char expected[32];
        snprintf(expected, sizeof expected, "kill%d ", seat);
        now += 499;
        cr_assert_str_eq(due(&events, &world, now, 0), "");
        now += 1;
        cr_assert_str_eq(due(&events, &world, now, 0), expected);
        cr_assert_str_eq(due(&events, &world, now + 101, 0), "", "not reaped yet");
        world.running[seat] = false;
        cr_assert_str_eq(due(&events, &world, now + 99, 0), "");
        snprintf(expected, sizeof expected, "rejoin%d ", seat);
        cr_assert_str_eq(due(&events, &world, now + 100, 0), expected);
        cr_assert_str_eq(due(&events, &world, now + 400, 0), "", "not in the view yet");
        cr_assert_not(script_is_done(&events));
        world.active[seat] = true;
    }
    cr_assert_str_eq(due(&events, &world, now + 401, 0), "");
    cr_assert(script_is_done(&events));
}
