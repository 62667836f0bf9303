/* The fault script: its text, what is due when, and on whom. */
#include "experiments/options.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct fake_world {
    bool active[8], running[8], source[8], joining[8];
    int proposer;
} fake_world;

static bool is_active(const void *user, int seat)
{
    return ((const fake_world *)user)->active[seat];
}
static bool is_running(const void *user, int seat)
{
    return ((const fake_world *)user)->running[seat];
}
static bool is_source(const void *user, int seat)
{
    return ((const fake_world *)user)->source[seat];
}
static bool is_joining(const void *user, int seat)
{
    return ((const fake_world *)user)->joining[seat];
}
/* Seats 2k and 2k+1 hold the same: one of each pair must stay. */
static bool is_covered(const void *user, const bool *without)
{
    const fake_world *world = user;
    for (int s = 0; s < 8; s += 2) {
        if ((without[s] || !world->active[s]) && (without[s + 1] || !world->active[s + 1])) {
            return false;
        }
    }
    return true;
}

static fake_world everyone(void)
{
    fake_world world = {.proposer = 0};
    for (int s = 0; s < 8; s++) {
        world.active[s] = world.running[s] = true;
    }
    return world;
}

/* What is due at a time: "kill3 rejoin3 " ... */
static const char *due_with(script *plan, fake_world *world, double now_ms, uint64_t seed)
{
    static char text[1024];
    script_world asked = {.now_ms = now_ms,
                          .proposer = world->proposer,
                          .max_ranks = 8,
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
        const char *name = verb_table[deed.verb].name;
        if (deed.seat < 0) {
            snprintf(text + used, sizeof text - used, "%s ", name);
            continue;
        }
        snprintf(text + used, sizeof text - used, "%s%d ", name, deed.seat);
        bool ends = deed.verb == VERB_KILL || deed.verb == VERB_ABORT;
        world->active[deed.seat] = !ends && world->active[deed.seat];
        world->running[deed.seat] = verb_table[deed.verb].wants_free || world->running[deed.seat];
    }
    return text;
}

static const char *due(script *plan, fake_world *world, double now_ms)
{
    return due_with(plan, world, now_ms, 1);
}

/* A script from flags; the test fails unless they are good. */
static script scripted(const char *flags)
{
    static char copy[2048];
    char *words[64] = {(char *)"eep-run"}, error[OPTIONS_ERROR_BYTES] = "";
    static options how;
    int num = 1;
    snprintf(copy, sizeof copy, "%s", flags);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        words[num++] = word;
    }
    cr_assert_eq(options_parse(num, words, &how, error), EEP_OK, "%s: %s", flags, error);
    return how.script;
}

static void kill_all(fake_world *world, const char *text)
{
    for (const char *at = text; (at = strstr(at, "kill")); at++) {
        world->running[at[4] - '0'] = false;
    }
}

Test(script, events_are_due_in_order_and_wait_for_their_seat)
{
    fake_world world = everyone();
    script plan = scripted("--rejoin 3@1500ms --kill 3@1 --kill 5@1s --kill proposer@2 "
                           "--rejoin proposer@2");
    cr_assert_str_eq(due(&plan, &world, 999), "");
    cr_assert_str_eq(due(&plan, &world, 1000), "kill3 kill5 ");
    cr_assert_str_eq(due(&plan, &world, 1600), "", "its process still runs");
    world.running[3] = world.running[5] = false;
    cr_assert_str_eq(due(&plan, &world, 1601), "rejoin3 ");
    cr_assert_not(script_is_done(&plan));
    world.proposer = 6;
    cr_assert_str_eq(due(&plan, &world, 2000), "kill6 ");
    world.running[6] = false;
    cr_assert_str_eq(due(&plan, &world, 2001), "rejoin6 ");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

Test(script, names_fall_on_active_seats)
{
    fake_world world = everyone();
    world.active[0] = world.active[1] = false;
    script plan = scripted("--kill lowest@1 --kill proposer@2 --kill random@3 --dummy-burn 2@4");
    cr_assert_str_eq(due(&plan, &world, 1000), "kill2 ");
    world.proposer = 2;
    cr_assert_str_eq(due(&plan, &world, 2000), "kill3 ", "the proposer is gone: the lowest");
    const char *random = due(&plan, &world, 3000);
    cr_assert(random[4] >= '4' && random[4] <= '7', "%s", random);
    cr_assert_str_eq(due(&plan, &world, 4000), "burn ");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

Test(script, the_cycle_waits_for_each_rank_to_be_back)
{
    fake_world world = everyone();
    script plan = scripted("--ranks 2 --slots 32 --kills 3 --kill-every 500 --rejoin-after 100");
    double now = 0;
    for (int kill = 0; kill < 3; kill++) {
        int seat = kill % 2;
        char killed[16], back[16];
        snprintf(killed, sizeof killed, "kill%d ", seat);
        snprintf(back, sizeof back, "rejoin%d ", seat);
        now += 499;
        cr_assert_str_eq(due(&plan, &world, now), "");
        now += 1;
        cr_assert_str_eq(due(&plan, &world, now), killed);
        cr_assert_str_eq(due(&plan, &world, now + 101), "", "not reaped yet");
        world.running[seat] = false;
        cr_assert_str_eq(due(&plan, &world, now + 99), "");
        cr_assert_str_eq(due(&plan, &world, now + 100), back);
        cr_assert_str_eq(due(&plan, &world, now + 400), "", "not in the view yet");
        cr_assert_not(script_is_done(&plan));
        world.active[seat] = true;
    }
    cr_assert_str_eq(due(&plan, &world, now + 401), "");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

/* All of them in one round of the launcher, and back by the same name. */
Test(script, several_seats_at_once)
{
    fake_world world = everyone();
    script plan = scripted("--kill 1,4,6@1 --rejoin 1,4,6@2 --kill random:3@3 --rejoin random:3@4");
    cr_assert_str_eq(due(&plan, &world, 1000), "kill1 kill4 kill6 ");
    world.running[4] = false;
    cr_assert_str_eq(due(&plan, &world, 2000), "rejoin4 ", "the others still run");
    world.running[1] = world.running[6] = false;
    cr_assert_str_eq(due(&plan, &world, 2001), "rejoin1 rejoin6 ");
    world = everyone();
    char killed[64];
    snprintf(killed, sizeof killed, "%s", due(&plan, &world, 3000));
    cr_assert_eq(strlen(killed), 3 * strlen("kill0 "), "%s", killed);
    kill_all(&world, killed);
    cr_assert_eq(strlen(due(&plan, &world, 4000)), 3 * strlen("rejoin0 "));
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

/* The same seed draws the same seats, whenever and however often it is asked. */
Test(script, random_seats_are_drawn_from_the_seed)
{
    int differ = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        char first[64];
        fake_world world = everyone(), again = everyone(), other = everyone();
        script plan = scripted("--kill random:2@1"), twin = scripted("--kill random:2@1");
        script third = scripted("--kill random:2@1");
        snprintf(first, sizeof first, "%s", due_with(&plan, &world, 1000, seed));
        for (double t = 0; t < 1000; t += 100) {
            cr_assert_str_eq(due_with(&twin, &again, t, seed), "");
        }
        cr_assert_str_eq(due_with(&twin, &again, 1500, seed), first);
        differ += strcmp(due_with(&third, &other, 1000, seed + 1), first) != 0;
        script_free(&plan);
        script_free(&twin);
        script_free(&third);
    }
    cr_assert(differ > 10, "%d of 20", differ);
}

Test(script, covered_leaves_one_of_each_pair)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        fake_world world = everyone();
        script plan = scripted("--kill covered:4@1");
        const char *killed = due_with(&plan, &world, 1000, seed);
        cr_assert_eq(strlen(killed), 4 * strlen("kill0 "), "%s", killed);
        for (int s = 0; s < 8; s += 2) {
            cr_assert(world.active[s] != world.active[s + 1], "seed %llu: %s",
                      (unsigned long long)seed, killed);
        }
        script_free(&plan);
    }
    fake_world world = everyone();
    script plan = scripted("--kill covered:5@1");
    cr_assert_str_eq(due(&plan, &world, 1000), "", "no five are: it waits");
    cr_assert_not(script_is_done(&plan));
    cr_assert_str_eq(due(&plan, &world, 11001), "");
    cr_assert(script_is_done(&plan), "not for ever");
    cr_assert_eq(script_num_pending(&plan), 1);
    script_free(&plan);
}

Test(script, triggers_fire_once_and_in_time)
{
    fake_world world = everyone();
    script plan = scripted("--kill 1@2 --kill proposer@suspected --kill source@repairing#2+20ms "
                           "--kill 7@step:100 --kill joiner@staged:5");
    world.proposer = 3;
    cr_assert_str_eq(due(&plan, &world, 2000), "kill1 ");
    cr_assert(script_is_done(&plan), "what waits for what may never come holds nothing up");
    cr_assert_eq(script_num_pending(&plan), 4);
    script_saw_state(&plan, STATE_SUSPECTED, 6, 2010);
    cr_assert_not(script_is_done(&plan));
    cr_assert_str_eq(due(&plan, &world, 2010), "kill3 ");
    script_saw_state(&plan, STATE_SUSPECTED, 7, 2011);
    cr_assert_str_eq(due(&plan, &world, 2011), "", "once");
    world.source[4] = true;
    script_saw_state(&plan, STATE_REPAIRING, 0, 2020);
    cr_assert_str_eq(due(&plan, &world, 2050), "", "the second time");
    script_saw_state(&plan, STATE_REPAIRING, 2, 2060);
    cr_assert_str_eq(due(&plan, &world, 2079), "");
    cr_assert_str_eq(due(&plan, &world, 2080), "kill4 ");
    script_saw_step(&plan, 99, 3000);
    cr_assert_str_eq(due(&plan, &world, 3000), "");
    script_saw_step(&plan, 105, 3001);
    cr_assert_str_eq(due(&plan, &world, 3001), "kill7 ");
    script_saw_state(&plan, STATE_STAGED, 2, 4000);
    world.joining[5] = true;
    cr_assert_str_eq(due(&plan, &world, 4000), "", "not that seat");
    script_saw_state(&plan, STATE_STAGED, 5, 4001);
    cr_assert_str_eq(due(&plan, &world, 4001), "kill5 ");
    cr_assert(script_is_done(&plan));
    cr_assert_eq(script_num_pending(&plan), 0);
    script_free(&plan);
}

Test(script, durations_undo_themselves)
{
    fake_world world = everyone();
    script plan = scripted("--expel-ms 2000 --stop 3=400ms@1 --stop 4=0.5x@1 --slow 5=3/2s@1 "
                           "--store-stop 300ms@2 --store-kill @5 --store-start @6");
    cr_assert_str_eq(due(&plan, &world, 1000), "stop3 stop4 slow5 ");
    cr_assert_str_eq(due(&plan, &world, 1399), "");
    cr_assert_str_eq(due(&plan, &world, 1400), "cont3 ");
    cr_assert_str_eq(due(&plan, &world, 2000), "store-stop cont4 ", "half of 2000 ms");
    cr_assert_str_eq(due(&plan, &world, 2300), "store-cont ");
    cr_assert_str_eq(due(&plan, &world, 3000), "slow5 ");
    cr_assert_str_eq(due(&plan, &world, 5000), "store-kill ");
    cr_assert_str_eq(due(&plan, &world, 6000), "store-start ");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

Test(script, a_fault_on_who_is_gone_is_passed_over)
{
    fake_world world = everyone();
    script plan = scripted("--kill lowest@1 --kill 0@2 --stop 0=1s@2 --add vacant@3 --cont 0@3");
    cr_assert_str_eq(due(&plan, &world, 1000), "kill0 ");
    world.running[0] = false;
    cr_assert_str_eq(due(&plan, &world, 2000), "");
    cr_assert_str_eq(due(&plan, &world, 3000), "add0 ");
    cr_assert(script_is_done(&plan));
    script_free(&plan);
}

Test(script, bad_texts_are_named)
{
    static const struct {
        verb of;
        const char *text, *names;
    } bad[] = {
        {VERB_KILL, "3,3@1", "'3,3'"},
        {VERB_KILL, "3,@1", "'3,'"},
        {VERB_KILL, "random:0@1", "'random:0'"},
        {VERB_KILL, "lowest:2@1", "'lowest:2'"},
        {VERB_KILL, "3=4@1", "takes no value"},
        {VERB_KILL, "3@nowhere", "is not a time"},
        {VERB_KILL, "3@ready:x", "'x'"},
        {VERB_KILL, "3@ready#0", "'#0'"},
        {VERB_KILL, "3@ready+soon", "'+soon'"},
        {VERB_KILL, "3@step:x", "'step:x'"},
        {VERB_STOP, "3=-1@1", "a duration"},
        {VERB_STOP, "3=0x@1", "a duration"},
        {VERB_SLOW, "3@1", "lacks a factor"},
        {VERB_SLOW, "3=0.5@1", "a factor from 1 to 1000"},
        {VERB_DIE, "3=nowhere@1", "dispatch, experts or combine"},
        {VERB_DIE, "3@1", "lacks a place"},
        {VERB_BURN, "@1", "SECONDS@TIME"},
        {VERB_STORE_KILL, "3@1", "takes no value"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char error[SCRIPT_ERROR_BYTES] = "";
        script_event event;
        cr_expect_eq(script_parse(bad[i].of, bad[i].text, true, &event, error), EEP_ERR_INVALID,
                     "taken: %s", bad[i].text);
        cr_expect(strstr(error, bad[i].names), "%s: said '%s', not '%s'", bad[i].text, error,
                  bad[i].names);
        cr_expect(strstr(error, verb_table[bad[i].of].option), "%s", error);
    }
}

/* No text breaks it. */
Test(script, random_texts_are_refused_or_understood)
{
    static const char letters[] = "0123456789,.:@#+=x/ms randomcoveredstepjoiner-";
    uint64_t random = 7;
    int taken = 0;
    for (int i = 0; i < 200000; i++) {
        char text[24], error[SCRIPT_ERROR_BYTES] = "";
        script_event event;
        size_t length = 0;
        for (; length < 1 + (size_t)(random >> 40) % 22; length++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            text[length] = letters[(random >> 33) % (sizeof letters - 1)];
        }
        text[length] = '\0';
        verb of = (verb)((random >> 20) % NUM_VERBS);
        eep_status status = script_parse(of, text, random >> 60 & 1, &event, error);
        taken += status == EEP_OK;
        cr_assert((status == EEP_OK) == (error[0] == '\0'), "'%s': %s", text, error);
    }
    cr_assert(taken > 10, "%d", taken);
}
