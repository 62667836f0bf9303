/* SPDX-License-Identifier: Apache-2.0 */
/* What of a script is not done yet: its room, why, and its withdrawal. */
#include "tests/lib/script_fixture.h"

#include <criterion/criterion.h>
#include <string.h>

/* A run takes more commands than there is room for pending ones: what is done is forgotten. */
Test(script, what_is_done_gives_its_room_back)
{
    script events = good("");
    fake_world world = everyone();
    script_event slow = parsed(VERB_SLOW, "1=1"), later = parsed(VERB_KILL, "2@exited:3");
    cr_assert_eq(script_append(&events, &later), EEP_OK);
    for (int i = 0; i < 3 * SCRIPT_MAX_EVENTS; i++) {
        cr_assert_eq(script_append(&events, &slow), EEP_OK, "command %d", i);
        cr_assert_str_eq(due(&events, &world, i, 0), "slow1 ");
        drop_ended(&events);
    }
    cr_assert_leq(events.num_events, 64);
    script_on_state(&events, STATE_EXITED, 3, 9000);
    cr_assert_str_eq(due(&events, &world, 9000, 0), "kill2 ", "it was pending all the time");
    script_free(&events);
}

Test(script, a_rejoin_by_name_finds_its_ranks_after_others_were_forgotten)
{
    script events = good("");
    fake_world world = everyone();
    script_event slow = parsed(VERB_SLOW, "1=1"), first = parsed(VERB_KILL, "lowest"),
                 rejoin = parsed(VERB_REJOIN, "lowest@exited:3");
    for (int i = 0; i < 200; i++) {
        cr_assert_eq(script_append(&events, i == 50 ? &first : &slow), EEP_OK);
        cr_assert_str_eq(due(&events, &world, i, 0), i == 50 ? "kill0 " : "slow1 ");
        drop_ended(&events);
        if (i == 150) {
            cr_assert_eq(script_append(&events, &rejoin), EEP_OK);
        }
    }
    cr_assert_leq(events.num_events, 80);
    reap(&world, 0);
    script_on_state(&events, STATE_EXITED, 3, 9000);
    cr_assert_str_eq(due(&events, &world, 9000, 0), "rejoin0 ");
    script_free(&events);
}

Test(script, what_is_pending_is_explained_and_withdrawn)
{
    static const struct {
        verb what;
        const char *text, *why;
    } cases[] = {
        {VERB_KILL, "1@ready:3", "'ready' of rank 3 was seen 0 of 1 times"},
        {VERB_KILL, "1@step:500", "step 500 was not reached"},
        {VERB_KILL, "1@9", "due in 8.0 s"},
        {VERB_KILL, "joiner", "no rank is joining"},
        {VERB_KILL, "random:8", "8 serving ranks are needed"},
        {VERB_REJOIN, "2", "rank 2 still has its process"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char why[128];
        script events = good("");
        fake_world world = everyone();
        script_event event = parsed(cases[i].what, cases[i].text);
        world.active[3] = false;
        cr_assert_eq(script_append(&events, &event), EEP_OK);
        cr_assert_str_eq(due(&events, &world, 1000, 0), "", "%s", cases[i].text);
        script_explain(&events.event[0], 1000, why, sizeof why);
        cr_expect(strstr(why, cases[i].why), "%s: %s", cases[i].text, why);
        cr_assert_eq(script_cancel(&events, 7), 0);
        cr_assert_eq(script_cancel(&events, 0), 1);
        cr_assert(script_is_done(&events));
        cr_assert_eq(script_cancel(&events, 0), 0);
        script_free(&events);
    }
}

/* A rejoin whose first seats have their new process waits for the others. */
Test(script, what_a_rejoin_waits_for_are_the_seats_that_are_taken)
{
    char why[128];
    script events = good("");
    fake_world world = everyone();
    script_event event = parsed(VERB_REJOIN, "2,3,5");
    cr_assert_eq(script_append(&events, &event), EEP_OK);
    cr_assert_str_eq(due(&events, &world, 1000, 0), "");
    script_explain(&events.event[0], 1000, why, sizeof why);
    cr_expect_str_eq(why, "ranks 2, 3, 5 still have their processes");
    reap(&world, 2);
    cr_assert_str_eq(due(&events, &world, 1001, 0), "rejoin2 ");
    reap(&world, 5);
    cr_assert_str_eq(due(&events, &world, 1002, 0), "rejoin5 ");
    script_explain(&events.event[0], 1002, why, sizeof why);
    cr_expect_str_eq(why, "rank 3 still has its process");
    script_free(&events);
    event = parsed(VERB_REJOIN, "900,901,902,903,904,905,906,907,908,909");
    event.progress.resolved = true;
    script_explain(&event, 0, why, sizeof why);
    cr_expect(strstr(why, "906, 907 and 2 more still have"), "%s", why);
}

Test(script, an_event_that_takes_ranks_is_withdrawn_with_its_partner)
{
    script events = good("--kill random:2@9 --rejoin random:2@10 --kill 1@11");
    cr_assert_eq(script_cancel(&events, 0), 2);
    cr_assert_not(script_is_done(&events));
    cr_assert_eq(script_cancel(&events, 2), 1);
    cr_assert(script_is_done(&events));
    script_free(&events);
}

Test(script, what_can_never_happen_is_refused)
{
    static const char *const texts[] = {"8", "random:9", "covered:8", "1@ready:99", "1@exited:8"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char error[SCRIPT_ERROR_BYTES];
        script_event event = parsed(VERB_KILL, texts[i]);
        cr_expect_eq(script_check(&event, SEATS, error), EEP_ERR_INVALID, "%s", texts[i]);
    }
}
