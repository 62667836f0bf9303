/* SPDX-License-Identifier: Apache-2.0 */
/* The text of the fault script, there and back. */
#include "experiments/script/script_describe.h"
#include "tests/lib/script_fixture.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(script_text, what_is_written_is_understood)
{
    char error[SCRIPT_ERROR_BYTES] = "";
    script_event e;
    cr_assert_eq(script_parse(VERB_KILL, "3,5,7@1500ms", true, &e, error), EEP_OK, "%s", error);
    cr_assert(e.target == TARGET_SEATS && e.num_seats == 3 && e.seat[2] == 7);
    cr_assert(e.when == WHEN_TIME && e.delay_ms == 1500);
    cr_assert_eq(script_parse(VERB_STOP, "covered:4=400ms@step:200+0.5", true, &e, error), EEP_OK);
    cr_assert(e.target == TARGET_COVERED && e.named.count == 4 && e.lasts.ms == 400);
    cr_assert(e.when == WHEN_STEP && e.step == 200 && e.delay_ms == 500);
    cr_assert_eq(script_parse(VERB_STOP, "3=5e-1x@step:7+1e+3ms", true, &e, error), EEP_OK);
    cr_assert(e.lasts.expels == 0.5 && e.step == 7 && e.delay_ms == 1000);
    cr_assert_eq(script_parse(VERB_STOP, "3=0.9x@2", true, &e, error), EEP_OK);
    cr_assert(e.lasts.ms == 0 && e.lasts.expels == 0.9);
    cr_assert_eq(script_parse(VERB_SLOW, "random=3/2s@1", true, &e, error), EEP_OK);
    cr_assert(e.value.factor == 3 && e.lasts.ms == 2000 && e.target == TARGET_RANDOM &&
              e.named.count == 1);
    cr_assert_eq(script_parse(VERB_DIE, "lowest=combine@suspected:3#2+10ms", true, &e, error),
                 EEP_OK);
    cr_assert(e.value.place == PLACE_COMBINE && e.awaited.state == STATE_SUSPECTED &&
              e.awaited.seat == 3);
    cr_assert(e.awaited.count == 2 && e.delay_ms == 10 && e.when == WHEN_STATE);
    cr_assert_eq(script_parse(VERB_DIE, "2=experts.1@3", true, &e, error), EEP_OK);
    cr_assert_eq((int)e.value.place, PLACE_EXPERTS + NUM_PLACES_OF_CHAIN);
    cr_assert_eq(script_parse(VERB_KILL, "joiner@staged", true, &e, error), EEP_OK);
    cr_assert(e.awaited.state == STATE_STAGED && e.awaited.seat == -1 && e.awaited.count == 1);
    cr_assert_eq(script_parse(VERB_BURN, "2@4", true, &e, error), EEP_OK);
    cr_assert(e.value.seconds == 2 && e.target == TARGET_NONE);
    cr_assert_eq(script_parse(VERB_STORE_STOP, "300ms@2", true, &e, error), EEP_OK);
    cr_assert_eq(e.lasts.ms, 300);
    cr_assert_eq(script_parse(VERB_STORE_STOP, "@2", true, &e, error), EEP_OK);
    cr_assert_eq(script_parse(VERB_STORE_KILL, "", false, &e, error), EEP_OK);
    cr_assert_eq(script_parse(VERB_PLACEMENT, "3=a/b.json@1", true, &e, error), EEP_OK);
    cr_assert(e.target == TARGET_SEATS && e.seat[0] == 3 && e.delay_ms == 1000);
    cr_assert_str_eq(e.value.file, "a/b.json");
    cr_assert_eq(script_parse(VERB_PLACEMENT, "b.json@joined:2", true, &e, error), EEP_OK);
    cr_assert(e.target == TARGET_LOWEST && e.named.count == 1 && e.when == WHEN_STATE);
    cr_assert_str_eq(e.value.file, "b.json");
    cr_assert_eq(script_parse(VERB_ADD, "vacant:2", false, &e, error), EEP_OK);
    cr_assert(e.when == WHEN_TIME && e.delay_ms == 0, "now");
}

Test(script_text, an_event_is_told_as_it_can_be_given_again)
{
    static const char *const lines[] = {
        "--kill 3,5,7@1500ms",
        "--kill joiner@staged",
        "--kill lowest@3000000ms",
        "--slow 5=2.5@1500ms",
        "--slow random:2=3/2000ms@step:7+10ms",
        "--stop 2,4=0.9x@800ms",
        "--stop covered:4=400ms@suspected:3#2+0.5ms",
        "--die 1=combine@exited:2",
        "--die 1=combine.1@exited:2",
        "--freeze 0=experts/0.5x@100ms",
        "--dummy-burn 2@4000ms",
        "--store-stop 300ms@2000ms",
        "--store-stop @2000ms",
        "--add vacant:2@0ms",
        "--placement lowest=orders/first.json@500ms",
        "--placement 2=a.json@placed#2",
        "--rejoin 4,5=h1@6000ms",
        "--host-kill h3@1000ms",
        "--host-freeze h2,h3/0.5x@1000ms",
        "--agent-kill h1/200ms@1000ms",
        "--partition h1,h2|h3/4000ms@1000ms",
        "--one-way h1|h2@step:7",
        "--delay h1|h2,h3:20ms/1000ms@1000ms",
        "--heal @2000ms",
        "--nic-down h3/4000ms@1000ms",
    };
    char error[SCRIPT_ERROR_BYTES] = "", told[SCRIPT_TEXT_BYTES];
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        const char *text = strchr(lines[i], ' ') + 1;
        script_event e;
        verb what = VERB_BURN;
        char name[32] = "";
        snprintf(name, sizeof name, "%.*s", (int)(text - lines[i] - 3), lines[i] + 2);
        cr_assert(verb_find(name, &what) || strcmp(name, "dummy-burn") == 0, "%s", name);
        cr_assert_eq(script_parse(what, text, true, &e, error), EEP_OK, "%s", error);
        script_describe(&e, told, sizeof told);
        cr_expect_str_eq(told, lines[i]);
    }
    script events = good("--kill random:2@1 --rejoin random@2");
    script_describe(&events.event[1], told, sizeof told);
    cr_expect_str_eq(told, "--rejoin random:2@2000ms", "without a count it takes its partner's");
    script_free(&events);
}

Test(script_text, bad_text_is_named)
{
    static const struct {
        verb verb;
        const char *text, *says;
    } bad[] = {
        {VERB_KILL, "3", "--kill: '3' is not of the form RANK@TIME"},
        {VERB_KILL, "3=2@1", "takes none"},
        {VERB_KILL, "3,3@1", "'3,3'"},
        {VERB_KILL, "3,@1", "'3,'"},
        {VERB_KILL, "1024@1", "'1024'"},
        {VERB_KILL, "random:0@1", "'random:0'"},
        {VERB_KILL, "random:65@1", "'random:65'"},
        {VERB_KILL, "lowest:2@1", "'lowest:2'"},
        {VERB_KILL, "randomly@1", "'randomly'"},
        {VERB_KILL, "vacant@1", "add and rejoin"},
        {VERB_ADD, "random@1", "by number"},
        {VERB_KILL, "3@step:x", "'step:x'"},
        {VERB_KILL, "3@step:5+", "'step:5+'"},
        {VERB_KILL, "3@sleeping", "'sleeping'"},
        {VERB_KILL, "3@joined#0", "'joined#0'"},
        {VERB_KILL, "3@joined:x", "'joined:x'"},
        {VERB_KILL, "3@", "''"},
        {VERB_KILL, "3@0x1", "'0x1'"},
        {VERB_SLOW, "3=0x2@1", "'0x2'"},
        {VERB_STOP, "3=0x2x@1", "'0x2x'"},
        {VERB_KILL, "3@1e400", "'1e400'"},
        {VERB_STOP, "3=0@1", "'0'"},
        {VERB_STOP, "3=1y@1", "'1y'"},
        {VERB_STOP, "3=@1", "''"},
        {VERB_SLOW, "3@1", "RANK=FACTOR"},
        {VERB_SLOW, "3=0.5@1", "'0.5'"},
        {VERB_SLOW, "3=3/@1", "'3/'"},
        {VERB_DIE, "3=lunch@1", "dispatch, experts or combine"},
        {VERB_DIE, "3=experts.2@1", "dispatch.1"},
        {VERB_DIE, "3@1", "RANK=PLACE"},
        {VERB_BURN, "@1", "SECONDS@TIME"},
        {VERB_PLACEMENT, "@1", "[RANK=]FILE@TIME"},
        {VERB_PLACEMENT, "a.json", "[RANK=]FILE@TIME"},
        {VERB_PLACEMENT, "3=@1", "a file's name of at most 255 bytes"},
        {VERB_PLACEMENT, "x=a.json@1", "'x'"},
        {VERB_REJOIN, "4=h1,h2@1", "a host's name"},
        {VERB_HOST_KILL, "@1", "HOSTS@TIME"},
        {VERB_HOST_KILL, "h1,@1", "'h1,'"},
        {VERB_HOST_KILL, "h1,h1@1", "'h1,h1'"},
        {VERB_HOST_KILL, "h1|h2@1", "a list of hosts"},
        {VERB_HOST_KILL, "h1/2s@1", "'h1/2s'"},
        {VERB_PARTITION, "h1,h2@1", "two lists of hosts"},
        {VERB_PARTITION, "h1|h2,h1@1", "two lists of hosts"},
        {VERB_PARTITION, "h1|h2|h3@1", "two lists of hosts"},
        {VERB_PARTITION, "h1|h2/@1", "has no duration"},
        {VERB_DELAY, "h1|h2@1", "milliseconds"},
        {VERB_DELAY, "h1|h2:soon@1", "milliseconds"},
        {VERB_HEAL, "h1|h2@1", "takes none"},
        {VERB_PLACEMENT, "vacant=a.json@1", "add and rejoin"},
        {VERB_BURN, "inf@1", "number of seconds"},
        {VERB_STORE_KILL, "3@1", "takes none"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char error[SCRIPT_ERROR_BYTES] = "";
        script_event e;
        cr_expect_eq(script_parse(bad[i].verb, bad[i].text, true, &e, error), EEP_ERR_INVALID,
                     "taken: %s", bad[i].text);
        cr_expect(strstr(error, bad[i].says), "%s: said '%s'", bad[i].text, error);
        cr_expect(strstr(error, verb_table[bad[i].verb].option), "%s", error);
    }
}

Test(script_text, what_cannot_be_is_refused)
{
    static const struct {
        const char *line, *says;
    } bad[] = {
        {"--kill 8@step:3", "rank 8 does not exist"},
        {"--kill random:9@1", "9 ranks are more than the 8 seats"},
        {"--kill 3@joined:9", "rank 9"},
        {"--kill 3@1 --abort 3@2", "no process"},
        {"--cont lowest@2", "no earlier --stop"},
        {"--kill random:2@1 --rejoin random:1@2",
         "of 1 at 2000 ms has no earlier --kill or --drain "
         "of as many left: there is one of 2"},
        {"--kill random:2@1 --rejoin covered@2", "no earlier --kill"},
        {"--rejoin random@joined --kill random@joined", "no earlier --kill"},
        {"--add 3@1", "still has its process"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        script events = {.expel_ms = 1000};
        char error[SCRIPT_ERROR_BYTES] = "";
        cr_assert_eq(add_all(&events, bad[i].line, error), EEP_OK, "%s", error);
        cr_expect_eq(script_prepare(&events, SEATS, SEATS, error), EEP_ERR_INVALID, "taken: %s",
                     bad[i].line);
        cr_expect(strstr(error, bad[i].says), "%s: said '%s'", bad[i].line, error);
        script_free(&events);
    }
    script events = good("--stop 3=2@1 --rejoin 3@4 --kill 4@step:9 --rejoin 4@5");
    script_free(&events); /* a stop and a trigger may empty the seat: it cannot be known before */
    events = good("--freeze 3=experts@1 --rejoin 3@5 --freeze random=experts@2 --cont random@3");
    script_free(&events); /* and so may a freeze */
}

Test(script_text, an_event_of_a_scenario_is_named_by_its_place)
{
    char error[SCRIPT_ERROR_BYTES] = "";
    script events = {0};
    script_event e;
    cr_assert_eq(script_parse(VERB_KILL, "9@1", true, &e, error), EEP_OK);
    e.line = 12;
    e.column = 3;
    cr_assert_eq(script_append(&events, &e), EEP_OK);
    cr_assert_eq(script_prepare(&events, SEATS, SEATS, error), EEP_ERR_INVALID);
    cr_assert_eq(strncmp(error, "12:3: --kill: rank 9", 20), 0, "%s", error);
    script_free(&events);
}
