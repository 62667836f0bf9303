/* The fault script: its text, its targets and triggers, what is due when. */
#include "experiments/script.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { SEATS = 8 };

typedef struct fake_world {
    bool active[SEATS], running[SEATS], source[SEATS], joining[SEATS];
    int most_gone; /* covered while at most so many are gone, and 2 and 3 are not both */
} fake_world;

static const fake_world *of(const void *user)
{
    return user;
}
static bool is_active(const void *user, int seat)
{
    return of(user)->active[seat];
}
static bool is_running(const void *user, int seat)
{
    return of(user)->running[seat];
}
static bool is_source(const void *user, int seat)
{
    return of(user)->source[seat];
}
static bool is_joining(const void *user, int seat)
{
    return of(user)->joining[seat];
}
static bool is_covered(const void *user, const bool *without)
{
    int gone = 0;
    for (int s = 0; s < SEATS; s++) {
        gone += without[s];
    }
    return gone <= of(user)->most_gone && !(without[2] && without[3]);
}

static fake_world everyone(void)
{
    fake_world world = {.most_gone = SEATS - 1};
    for (int s = 0; s < SEATS; s++) {
        world.active[s] = world.running[s] = true;
    }
    return world;
}

/* "--kill 3@1 --rejoin 3@2" to a script; not yet prepared. */
static eep_status add_all(script *plan, const char *line, char error[SCRIPT_ERROR_BYTES])
{
    char text[1024], *rest = NULL;
    eep_status status = EEP_OK;
    snprintf(text, sizeof text, "%s", line);
    for (char *word = strtok_r(text, " ", &rest); word && status == EEP_OK;
         word = strtok_r(NULL, " ", &rest)) {
        verb what = VERB_KILL;
        cr_assert(verb_find(word + 2, &what), "%s", word);
        status = script_add(plan, what, strtok_r(NULL, " ", &rest), error);
    }
    return status;
}

static script good(const char *line)
{
    script plan = {.expel_ms = 1000};
    char error[SCRIPT_ERROR_BYTES] = "";
    cr_assert_eq(add_all(&plan, line, error), EEP_OK, "%s: %s", line, error);
    cr_assert_eq(script_prepare(&plan, SEATS, SEATS, error), EEP_OK, "%s: %s", line, error);
    return plan;
}

/* What is due at a time: "kill3 rejoin3 ". A killed process is gone when its seat is `reaped`. */
static const char *due_with(script *plan, fake_world *world, double now_ms, int proposer,
                            uint64_t seed)
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
    script_deed deed;
    text[0] = '\0';
    while (script_next(plan, &asked, &deed)) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%d%s ", verb_table[deed.verb].name, deed.seat,
                 deed.keeps_freeze ? "-but-freezes" : "");
        if (deed.seat < 0) {
            continue;
        }
        bool ends = deed.verb == VERB_KILL || deed.verb == VERB_ABORT;
        world->active[deed.seat] = !ends && world->active[deed.seat];
        world->running[deed.seat] = verb_table[deed.verb].wants_free || world->running[deed.seat];
    }
    return text;
}

static const char *due(script *plan, fake_world *world, double now_ms, int proposer)
{
    return due_with(plan, world, now_ms, proposer, 1);
}

static void reap(fake_world *world, int seat)
{
    world->active[seat] = world->running[seat] = false;
}

/* ---------------------------------------------------------------- text */

Test(script_text, what_is_written_is_understood)
{
    char error[SCRIPT_ERROR_BYTES] = "";
    script_event e;
    cr_assert_eq(script_parse(VERB_KILL, "3,5,7@1500ms", true, &e, error), EEP_OK, "%s", error);
    cr_assert(e.target == TARGET_SEATS && e.num_seats == 3 && e.seat[2] == 7);
    cr_assert(e.when == WHEN_TIME && e.delay_ms == 1500);
    cr_assert_eq(script_parse(VERB_STOP, "covered:4=400ms@step:200+0.5", true, &e, error), EEP_OK);
    cr_assert(e.target == TARGET_COVERED && e.count == 4 && e.duration_ms == 400);
    cr_assert(e.when == WHEN_STEP && e.step == 200 && e.delay_ms == 500);
    cr_assert_eq(script_parse(VERB_STOP, "3=5e-1x@step:7+1e+3ms", true, &e, error), EEP_OK);
    cr_assert(e.duration_expels == 0.5 && e.step == 7 && e.delay_ms == 1000);
    cr_assert_eq(script_parse(VERB_STOP, "3=0.9x@2", true, &e, error), EEP_OK);
    cr_assert(e.duration_ms == 0 && e.duration_expels == 0.9);
    cr_assert_eq(script_parse(VERB_SLOW, "random=3/2s@1", true, &e, error), EEP_OK);
    cr_assert(e.value == 3 && e.duration_ms == 2000 && e.target == TARGET_RANDOM && e.count == 1);
    cr_assert_eq(script_parse(VERB_DIE, "lowest=combine@suspected:3#2+10ms", true, &e, error),
                 EEP_OK);
    cr_assert(e.value == PLACE_COMBINE && e.state == STATE_SUSPECTED && e.state_seat == 3);
    cr_assert(e.state_count == 2 && e.delay_ms == 10 && e.when == WHEN_STATE);
    cr_assert_eq(script_parse(VERB_KILL, "joiner@staged", true, &e, error), EEP_OK);
    cr_assert(e.state == STATE_STAGED && e.state_seat == -1 && e.state_count == 1);
    cr_assert_eq(script_parse(VERB_BURN, "2@4", true, &e, error), EEP_OK);
    cr_assert(e.value == 2 && e.target == TARGET_NONE);
    cr_assert_eq(script_parse(VERB_STORE_STOP, "300ms@2", true, &e, error), EEP_OK);
    cr_assert_eq(e.duration_ms, 300);
    cr_assert_eq(script_parse(VERB_STORE_STOP, "@2", true, &e, error), EEP_OK);
    cr_assert_eq(script_parse(VERB_STORE_KILL, "", false, &e, error), EEP_OK);
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
        "--freeze 0=experts/0.5x@100ms",
        "--dummy-burn 2@4000ms",
        "--store-stop 300ms@2000ms",
        "--store-stop @2000ms",
        "--add vacant:2@0ms",
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
    script plan = good("--kill random:2@1 --rejoin random@2");
    script_describe(&plan.event[1], told, sizeof told);
    cr_expect_str_eq(told, "--rejoin random:2@2000ms", "without a count it takes its partner's");
    script_free(&plan);
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
        {VERB_KILL, "vacant@1", "--add and --rejoin"},
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
        {VERB_DIE, "3@1", "RANK=PLACE"},
        {VERB_BURN, "@1", "SECONDS@TIME"},
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
        script plan = {.expel_ms = 1000};
        char error[SCRIPT_ERROR_BYTES] = "";
        cr_assert_eq(add_all(&plan, bad[i].line, error), EEP_OK, "%s", error);
        cr_expect_eq(script_prepare(&plan, SEATS, SEATS, error), EEP_ERR_INVALID, "taken: %s",
                     bad[i].line);
        cr_expect(strstr(error, bad[i].says), "%s: said '%s'", bad[i].line, error);
        script_free(&plan);
    }
    script plan = good("--stop 3=2@1 --rejoin 3@4 --kill 4@step:9 --rejoin 4@5");
    script_free(&plan); /* a stop and a trigger may empty the seat: it cannot be known before */
    plan = good("--freeze 3=experts@1 --rejoin 3@5 --freeze random=experts@2 --cont random@3");
    script_free(&plan); /* and so may a freeze */
}

Test(script_text, an_event_of_a_scenario_is_named_by_its_place)
{
    char error[SCRIPT_ERROR_BYTES] = "";
    script plan = {0};
    script_event e;
    cr_assert_eq(script_parse(VERB_KILL, "9@1", true, &e, error), EEP_OK);
    e.line = 12;
    e.column = 3;
    cr_assert_eq(script_append(&plan, &e), EEP_OK);
    cr_assert_eq(script_prepare(&plan, SEATS, SEATS, error), EEP_ERR_INVALID);
    cr_assert_eq(strncmp(error, "12:3: --kill: rank 9", 20), 0, "%s", error);
    script_free(&plan);
}

/* ---------------------------------------------------------------- times and seats */

Test(fault_script, events_are_due_in_order_and_wait_for_their_seat)
{
    fake_world world = everyone();
    script plan =
        good("--rejoin 3@1500ms --kill 3@1 --kill 5@1s --kill proposer@2 --rejoin proposer@2");
    cr_assert_str_eq(due(&plan, &world, 999, 0), "");
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "kill3 kill5 ");
    cr_assert_str_eq(due(&plan, &world, 1600, 0), "", "its process still runs");
    reap(&world, 3);
    reap(&world, 5);
    cr_assert_str_eq(due(&plan, &world, 1601, 0), "rejoin3 ");
    cr_assert_not(script_is_done(&plan));
    cr_assert_str_eq(due(&plan, &world, 2000, 6), "kill6 ");
    reap(&world, 6);
    cr_assert_str_eq(due(&plan, &world, 2001, 0), "rejoin6 ");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

Test(fault_script, an_event_by_name_passes_over_a_seat_without_process)
{
    fake_world world = everyone();
    script plan = good("--stop 3@1 --kill 3@2");
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "stop3 ");
    reap(&world, 3); /* killed by the fence */
    cr_assert_str_eq(due(&plan, &world, 2000, 0), "");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

Test(fault_script, names_fall_on_active_seats)
{
    fake_world world = everyone();
    world.active[0] = world.active[1] = false;
    script plan = good("--kill lowest@1 --kill proposer@2 --kill random@3 --burn 2@4");
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "kill2 ");
    cr_assert_str_eq(due(&plan, &world, 2000, 2), "kill3 ", "the proposer is gone: the lowest");
    const char *random = due(&plan, &world, 3000, 0);
    cr_assert(strncmp(random, "kill", 4) == 0 && random[4] >= '4' && random[4] <= '7', "%s",
              random);
    cr_assert_str_eq(due(&plan, &world, 4000, 0), "burn-1 ");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

Test(fault_script, several_seats_are_struck_at_once_and_come_back)
{
    fake_world world = everyone();
    script plan = good("--kill random:3@1 --rejoin random:3@2");
    char kills[512];
    snprintf(kills, sizeof kills, "%s", due(&plan, &world, 1000, 0));
    int seats[3];
    cr_assert_eq(sscanf(kills, "kill%d kill%d kill%d ", &seats[0], &seats[1], &seats[2]), 3, "%s",
                 kills);
    cr_assert(seats[0] != seats[1] && seats[1] != seats[2] && seats[0] != seats[2], "%s", kills);
    reap(&world, seats[1]);
    char expected[64];
    snprintf(expected, sizeof expected, "rejoin%d ", seats[1]);
    cr_assert_str_eq(due(&plan, &world, 2000, 0), expected, "the others still run");
    reap(&world, seats[0]);
    reap(&world, seats[2]);
    snprintf(expected, sizeof expected, "rejoin%d rejoin%d ", seats[0], seats[2]);
    cr_assert_str_eq(due(&plan, &world, 2001, 0), expected);
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

Test(fault_script, the_same_seed_draws_the_same_seats)
{
    char first[512];
    for (int i = 0; i < 2; i++) {
        fake_world world = everyone();
        script plan = good("--kill random:4@1");
        const char *text = due_with(&plan, &world, 1000, 0, 99);
        if (i == 0) {
            snprintf(first, sizeof first, "%s", text);
        }
        cr_assert_str_eq(text, first);
        script_free(&plan);
    }
}

Test(fault_script, covered_leaves_every_expert)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        fake_world world = everyone();
        world.most_gone = 4;
        script plan = good("--kill covered:4@1");
        const char *text = due_with(&plan, &world, 1000, 0, seed);
        int num = 0;
        for (const char *at = text; (at = strstr(at, "kill")); at++) {
            num++;
        }
        cr_assert_eq(num, 4, "seed %d: %s", (int)seed, text);
        cr_assert(world.active[2] || world.active[3], "seed %d: %s", (int)seed, text);
        script_free(&plan);
    }
    fake_world world = everyone();
    world.most_gone = 2;
    script plan = good("--kill covered:3@1");
    cr_assert_not(script_waits(&plan, 999));
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "", "it waits");
    cr_assert(script_waits(&plan, 1000));
    world.most_gone = 3;
    cr_assert_str_neq(due(&plan, &world, 1001, 0), "");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

Test(fault_script, what_is_gone_already_counts_as_gone)
{
    fake_world world = everyone();
    world.most_gone = 3;
    script plan = good("--kill 0,1@1 --kill covered:2@1");
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "kill0 kill1 ");
    script_free(&plan);
}

Test(fault_script, sources_joiners_and_free_seats)
{
    fake_world world = everyone();
    world.source[4] = world.source[6] = true;
    script plan = good("--kill source@repairing --kill source:3@repairing+1ms --kill joiner@staged "
                       "--add vacant:2@5");
    script_saw_state(&plan, STATE_REPAIRING, 0, 100);
    cr_assert_str_eq(due(&plan, &world, 100, 0), "kill4 ");
    cr_assert_str_eq(due(&plan, &world, 101, 0), "kill4 kill6 ", "as many as there are");
    reap(&world, 4);
    reap(&world, 6);
    script_saw_state(&plan, STATE_STAGED, 0, 200);
    cr_assert_str_eq(due(&plan, &world, 200, 0), "", "nobody joins");
    world.joining[1] = world.joining[5] = true;
    script_saw_state(&plan, STATE_SPAWNED, 5, 201);
    script_saw_state(&plan, STATE_SPAWNED, 1, 202);
    cr_assert_str_eq(due(&plan, &world, 203, 0), "kill1 ", "the youngest");
    cr_assert_str_eq(due(&plan, &world, 5000, 0), "add4 add6 ");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

/* ---------------------------------------------------------------- triggers */

Test(fault_script, steps_and_states_trigger)
{
    fake_world world = everyone();
    script plan = good("--kill 1@step:10 --kill 2@step:10+50ms --kill 3@suspected#2 "
                       "--kill 4@joined:6 --rejoin 1@exited:1+20ms");
    script_saw_step(&plan, 9, 100);
    cr_assert_str_eq(due(&plan, &world, 100, 0), "");
    cr_assert(script_waits(&plan, 100));
    script_saw_step(&plan, 11, 110);
    cr_assert_not(script_waits(&plan, 110), "50 ms later something is due");
    cr_assert_str_eq(due(&plan, &world, 110, 0), "kill1 ");
    cr_assert_float_eq(script_wait_ms(&plan, 110), 50, 1e-9);
    cr_assert_str_eq(due(&plan, &world, 159, 0), "");
    cr_assert_str_eq(due(&plan, &world, 160, 0), "kill2 ");
    script_saw_state(&plan, STATE_SUSPECTED, 0, 170);
    cr_assert_str_eq(due(&plan, &world, 170, 0), "");
    script_saw_state(&plan, STATE_SUSPECTED, 5, 171);
    cr_assert_str_eq(due(&plan, &world, 171, 0), "kill3 ");
    script_saw_state(&plan, STATE_JOINED, 5, 172);
    cr_assert_str_eq(due(&plan, &world, 172, 0), "");
    script_saw_state(&plan, STATE_JOINED, 6, 173);
    cr_assert_str_eq(due(&plan, &world, 173, 0), "kill4 ");
    reap(&world, 1);
    cr_assert(script_waits(&plan, 173));
    script_saw_state(&plan, STATE_EXITED, 1, 180);
    cr_assert_str_eq(due(&plan, &world, 199, 0), "");
    cr_assert_str_eq(due(&plan, &world, 200, 0), "rejoin1 ");
    cr_assert(script_is_done(&plan));
    cr_assert_not(script_waits(&plan, 200), "it is done");
    script_free(&plan);
}

Test(fault_script, a_timed_rejoin_waits_for_a_triggered_kill)
{
    fake_world world = everyone();
    script plan = good("--kill proposer@suspected --rejoin proposer@1");
    cr_assert_str_eq(due(&plan, &world, 2000, 5), "");
    cr_assert(script_waits(&plan, 2000), "the rejoin waits for what waits");
    script_saw_state(&plan, STATE_SUSPECTED, 1, 2001);
    cr_assert_str_eq(due(&plan, &world, 2001, 5), "kill5 ");
    reap(&world, 5);
    cr_assert_str_eq(due(&plan, &world, 2002, 0), "rejoin5 ");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

/* ---------------------------------------------------------------- durations */

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

/* ---------------------------------------------------------------- added while it runs */

Test(fault_script, events_can_be_added_later)
{
    fake_world world = everyone();
    char error[SCRIPT_ERROR_BYTES] = "";
    script plan = good("--kill 1@1");
    script_event e;
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "kill1 ");
    cr_assert_eq(script_parse(VERB_STOP, "lowest", false, &e, error), EEP_OK);
    cr_assert_eq(script_append(&plan, &e), EEP_OK);
    cr_assert_eq(script_parse(VERB_CONT, "lowest", false, &e, error), EEP_OK);
    cr_assert_eq(script_append(&plan, &e), EEP_OK);
    cr_assert_eq(script_append(&plan, &e), EEP_ERR_NOT_FOUND, "no stop is left");
    cr_assert_eq(script_parse(VERB_KILL, "8", false, &e, error), EEP_OK);
    cr_assert_eq(script_append(&plan, &e), EEP_ERR_INVALID, "no such seat");
    script copy;
    cr_assert_eq(script_copy(&plan, &copy), EEP_OK);
    cr_assert_str_eq(due(&plan, &world, 5000, 0), "stop0 cont0 ");
    cr_assert(script_is_done(&plan));
    cr_assert_not(script_is_done(&copy), "it goes its own way");
    script_free(&plan);
    script_free(&copy);
}

/* ---------------------------------------------------------------- what came of it */

Test(fault_script, an_event_that_strikes_nobody_is_known)
{
    fake_world world = everyone();
    script plan = good("--kill 2@1 --kill 2,3@suspected --kill 4@joined");
    script_event ended;
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "kill2 ");
    reap(&world, 2);
    cr_assert(script_ended(&plan, &ended) && ended.seats_struck == 1 && ended.struck_ms == 1000);
    cr_assert_not(script_ended(&plan, &ended), "it is handed out once");
    script_saw_state(&plan, STATE_SUSPECTED, 0, 1100);
    cr_assert_str_eq(due(&plan, &world, 1100, 0), "kill3 ");
    cr_assert(script_ended(&plan, &ended));
    cr_assert(ended.seats_done == 3 && ended.seats_struck == 2, "rank 2 was passed over");
    cr_assert_not(script_is_due(&plan.event[2], 5000));
    script_withdraw(&plan);
    cr_assert(script_ended(&plan, &ended) && ended.withdrawn && ended.struck_ms < 0);
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

Test(fault_script, a_deed_that_could_not_be_done_struck_nobody)
{
    fake_world world = everyone();
    script plan = good("--stop 1=5s@1");
    script_event ended;
    script_deed deed = {.order = plan.event[0].order, .index = 0};
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "stop1 ");
    script_missed(&plan, &deed); /* it was being killed */
    cr_assert(script_ended(&plan, &ended) && ended.seats_struck == 0 && ended.struck_ms < 0);
    cr_assert_str_eq(due(&plan, &world, 9000, 0), "", "nothing is to be undone");
    script_free(&plan);
}

/* Nobody may be left, as long as somebody comes back at a time that is known. */
Test(fault_script, a_rejoin_that_is_due_later_is_one_that_will_come)
{
    fake_world world = everyone();
    script plan = good("--kill 0,1@1 --rejoin 0@2 --rejoin 1@joined");
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "kill0 kill1 ");
    cr_assert(script_will_start(&plan));
    reap(&world, 0);
    reap(&world, 1);
    cr_assert_str_eq(due(&plan, &world, 2000, 0), "rejoin0 ");
    cr_assert_not(script_will_start(&plan), "what waits for somebody who serves may never come");
    script_saw_state(&plan, STATE_JOINED, 0, 2500);
    cr_assert(script_will_start(&plan));
    script_free(&plan);
}

/* ---------------------------------------------------------------- the cycle */

Test(fault_script, the_cycle_waits_for_each_rank_to_be_back)
{
    fake_world world = everyone();
    script plan = {.cycle = {.num_kills = 3, .kill_every_ms = 500, .rejoin_after_ms = 100}};
    char error[SCRIPT_ERROR_BYTES] = "";
    cr_assert_eq(script_prepare(&plan, 2, SEATS, error), EEP_OK);
    double now = 0;
    for (int kill = 0; kill < 3; kill++) {
        int seat = kill % 2;
        char expected[32];
        snprintf(expected, sizeof expected, "kill%d ", seat);
        now += 499;
        cr_assert_str_eq(due(&plan, &world, now, 0), "");
        now += 1;
        cr_assert_str_eq(due(&plan, &world, now, 0), expected);
        cr_assert_str_eq(due(&plan, &world, now + 101, 0), "", "not reaped yet");
        world.running[seat] = false;
        cr_assert_str_eq(due(&plan, &world, now + 99, 0), "");
        snprintf(expected, sizeof expected, "rejoin%d ", seat);
        cr_assert_str_eq(due(&plan, &world, now + 100, 0), expected);
        cr_assert_str_eq(due(&plan, &world, now + 400, 0), "", "not in the view yet");
        cr_assert_not(script_is_done(&plan));
        world.active[seat] = true;
    }
    cr_assert_str_eq(due(&plan, &world, now + 401, 0), "");
    cr_assert(script_is_done(&plan));
}

/* ---------------------------------------------------------------- what is pending */

static script_event parsed(verb what, const char *text)
{
    char error[SCRIPT_ERROR_BYTES] = "";
    script_event event;
    cr_assert_eq(script_parse(what, text, false, &event, error), EEP_OK, "%s", error);
    return event;
}

static void take_ended(script *plan)
{
    script_event ended;
    while (script_ended(plan, &ended)) {
    }
}

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

/* Every verb of this test on the seat, for a while (0: for good); the deed by the model. */
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

/* A run takes more commands than there is room for pending ones: what is done is forgotten. */
Test(script, what_is_done_gives_its_room_back)
{
    script plan = good("");
    fake_world world = everyone();
    script_event slow = parsed(VERB_SLOW, "1=1"), later = parsed(VERB_KILL, "2@exited:3");
    cr_assert_eq(script_append(&plan, &later), EEP_OK);
    for (int i = 0; i < 3 * SCRIPT_MAX_EVENTS; i++) {
        cr_assert_eq(script_append(&plan, &slow), EEP_OK, "command %d", i);
        cr_assert_str_eq(due(&plan, &world, i, 0), "slow1 ");
        take_ended(&plan);
    }
    cr_assert_leq(plan.num_events, 64);
    script_saw_state(&plan, STATE_EXITED, 3, 9000);
    cr_assert_str_eq(due(&plan, &world, 9000, 0), "kill2 ", "it was pending all the time");
    script_free(&plan);
}

Test(script, a_rejoin_by_name_finds_its_ranks_after_others_were_forgotten)
{
    script plan = good("");
    fake_world world = everyone();
    script_event slow = parsed(VERB_SLOW, "1=1"), first = parsed(VERB_KILL, "lowest"),
                 rejoin = parsed(VERB_REJOIN, "lowest@exited:3");
    for (int i = 0; i < 200; i++) {
        cr_assert_eq(script_append(&plan, i == 50 ? &first : &slow), EEP_OK);
        cr_assert_str_eq(due(&plan, &world, i, 0), i == 50 ? "kill0 " : "slow1 ");
        take_ended(&plan);
        if (i == 150) {
            cr_assert_eq(script_append(&plan, &rejoin), EEP_OK);
        }
    }
    cr_assert_leq(plan.num_events, 80);
    reap(&world, 0);
    script_saw_state(&plan, STATE_EXITED, 3, 9000);
    cr_assert_str_eq(due(&plan, &world, 9000, 0), "rejoin0 ");
    script_free(&plan);
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
        {VERB_KILL, "joiner", "nobody is joining"},
        {VERB_KILL, "random:8", "8 serving ranks are needed"},
        {VERB_REJOIN, "2", "rank 2 still has its process"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char why[128];
        script plan = good("");
        fake_world world = everyone();
        script_event event = parsed(cases[i].what, cases[i].text);
        world.active[3] = false;
        cr_assert_eq(script_append(&plan, &event), EEP_OK);
        cr_assert_str_eq(due(&plan, &world, 1000, 0), "", "%s", cases[i].text);
        script_explain(&plan.event[0], 1000, why, sizeof why);
        cr_expect(strstr(why, cases[i].why), "%s: %s", cases[i].text, why);
        cr_assert_eq(script_cancel(&plan, 7), 0);
        cr_assert_eq(script_cancel(&plan, 0), 1);
        cr_assert(script_is_done(&plan));
        cr_assert_eq(script_cancel(&plan, 0), 0);
        script_free(&plan);
    }
}

/* A rejoin whose first seats have their new process waits for the others. */
Test(script, what_a_rejoin_waits_for_are_the_seats_that_are_taken)
{
    char why[128];
    script plan = good("");
    fake_world world = everyone();
    script_event event = parsed(VERB_REJOIN, "2,3,5");
    cr_assert_eq(script_append(&plan, &event), EEP_OK);
    cr_assert_str_eq(due(&plan, &world, 1000, 0), "");
    script_explain(&plan.event[0], 1000, why, sizeof why);
    cr_expect_str_eq(why, "ranks 2, 3, 5 still have their processes");
    reap(&world, 2);
    cr_assert_str_eq(due(&plan, &world, 1001, 0), "rejoin2 ");
    reap(&world, 5);
    cr_assert_str_eq(due(&plan, &world, 1002, 0), "rejoin5 ");
    script_explain(&plan.event[0], 1002, why, sizeof why);
    cr_expect_str_eq(why, "rank 3 still has its process");
    script_free(&plan);
    event = parsed(VERB_REJOIN, "900,901,902,903,904,905,906,907,908,909");
    event.resolved = true;
    script_explain(&event, 0, why, sizeof why);
    cr_expect(strstr(why, "906, 907 and 2 more still have"), "%s", why);
}

Test(script, who_takes_the_ranks_of_a_withdrawn_event_goes_with_it)
{
    script plan = good("--kill random:2@9 --rejoin random:2@10 --kill 1@11");
    cr_assert_eq(script_cancel(&plan, 0), 2);
    cr_assert_not(script_is_done(&plan));
    cr_assert_eq(script_cancel(&plan, 2), 1);
    cr_assert(script_is_done(&plan));
    script_free(&plan);
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
