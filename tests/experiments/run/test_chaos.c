/* SPDX-License-Identifier: Apache-2.0 */
/* eep-chaos: what it draws, followed by the script in a small world; and how it judges a round. */
#include "experiments/chaos/chaos.h"
#include "experiments/chaos/chaos_judge.h"
#include "experiments/script/script.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEATS = 8, MAX_PENDING = 256 };

static void draw(uint64_t seed, uint64_t number, bool store_race, chaos_round *round)
{
    chaos_config config = {.seed = seed,
                           .round = number,
                           .num_ranks = SEATS,
                           .expel_ms = 1000,
                           .store_race = store_race};
    chaos_draw(&config, round);
}

/* ---------------------------------------------------------------- what is drawn */

Test(chaos, seed_and_round_determine_everything)
{
    static chaos_round one, two;
    draw(7, 3, false, &one);
    draw(7, 3, false, &two);
    cr_assert_eq(memcmp(&one, &two, sizeof one), 0);
    draw(7, 4, false, &two);
    cr_assert_neq(memcmp(&one, &two, sizeof one), 0);
    draw(8, 3, false, &two);
    cr_assert_neq(memcmp(&one, &two, sizeof one), 0);
}

Test(chaos, the_number_of_faults_is_drawn_or_given)
{
    static chaos_round round;
    for (uint64_t number = 1; number <= 200; number++) {
        draw(1, number, false, &round);
        cr_assert(round.num_faults >= 12 && round.num_faults <= 20, "%d", round.num_faults);
    }
    for (int wanted = 1; wanted <= CHAOS_MAX_FAULTS; wanted += 7) {
        chaos_config config = {
            .seed = 5, .round = 1, .num_ranks = 4, .num_faults = wanted, .expel_ms = 1000};
        chaos_draw(&config, &round);
        cr_assert_eq(round.num_faults, wanted);
        cr_assert_leq(round.num_flags, CHAOS_MAX_FLAGS);
    }
}

Test(chaos, the_mix_is_the_one_of_the_documentation)
{
    static chaos_round round;
    double num[NUM_CHAOS_KINDS] = {0}, scopes[NUM_CHAOS_SCOPES] = {0}, all = 0;
    for (uint64_t number = 1; number <= 1000; number++) {
        draw(2, number, false, &round);
        for (int i = 0; i < round.num_faults; i++, all++) {
            num[round.fault[i].kind]++;
            scopes[round.fault[i].scope]++;
        }
    }
    /* Second faults are mostly crashes, so crashes are a little more than their share. */
    double crashes = (num[CHAOS_KILL] + num[CHAOS_ABORT] + num[CHAOS_DIE]) / all;
    double store = (num[CHAOS_STORE_STOP] + num[CHAOS_STORE_RESTART]) / all;
    cr_assert(crashes > 0.50 && crashes < 0.62, "crashes %.3f", crashes);
    cr_assert(num[CHAOS_PAUSE] / all > 0.16 && num[CHAOS_PAUSE] / all < 0.24);
    cr_assert(num[CHAOS_SLOW] / all > 0.11 && num[CHAOS_SLOW] / all < 0.19);
    cr_assert(store > 0.11 && store < 0.19, "store %.3f", store);
    for (int s = SCOPE_DOUBLE; s < NUM_CHAOS_SCOPES; s++) {
        cr_assert(scopes[s] > 100, "%s: %.0f", chaos_scope_names[s], scopes[s]);
    }
}

/* ---------------------------------------------------------------- in a small world */

typedef struct pending {
    double at_ms;
    script_state state;
    int seat, process;
} pending;

typedef struct world {
    script script;
    double now_ms;
    bool running[SEATS], in[SEATS]; /* a process exists; it serves */
    int process[SEATS];             /* counts them, so that a dead one's news are dropped */
    bool store_down;
    double store_back_ms; /* when it came back empty */
    int most_absent, num_actions[NUM_VERBS];
    double empty_distance_ms; /* least time between an empty store and a death or a start */
    pending news[MAX_PENDING];
    int num_news;
} world;

static bool is_in(const void *user, int seat)
{
    return ((const world *)user)->in[seat];
}

static bool is_running(const void *user, int seat)
{
    return ((const world *)user)->running[seat];
}

static bool never(const void *user, int seat)
{
    (void)user, (void)seat;
    return false;
}

static bool is_covered(const void *user, const bool *without)
{
    (void)user, (void)without;
    return true;
}

static void later(world *self, double ms, script_state state, int seat)
{
    cr_assert_lt(self->num_news, MAX_PENDING);
    self->news[self->num_news++] = (pending){self->now_ms + ms, state, seat, self->process[seat]};
}

static void end(world *self, int seat)
{
    bool served = self->in[seat];
    self->running[seat] = self->in[seat] = false;
    self->process[seat]++;
    later(self, 5, STATE_EXITED, seat);
    if (served) {
        later(self, 40, STATE_EXPELLED, seat);
    }
    self->empty_distance_ms = self->now_ms - self->store_back_ms < self->empty_distance_ms
                                  ? self->now_ms - self->store_back_ms
                                  : self->empty_distance_ms;
}

static void start(world *self, int seat)
{
    cr_assert(!self->running[seat], "rank %d is started twice", seat);
    cr_assert(!self->store_down, "rank %d is started without a store", seat);
    self->running[seat] = true;
    self->process[seat]++;
    script_on_state(&self->script, STATE_SPAWNED, seat, self->now_ms);
    static const script_state way[] = {STATE_OPENED, STATE_READY, STATE_STAGED, STATE_COMMITTED,
                                       STATE_JOINED};
    for (int i = 0; i < 5; i++) {
        later(self, 50 + 50 * i, way[i], seat);
    }
}

/* Bound by SIGSTOP: the others make it go after a second. */
static void stop(world *self, const script_action *action)
{
    if (action->duration_ms >= 1000) {
        later(self, 1000, NUM_STATES, action->seat);
    }
}

static void hear(world *self)
{
    for (int i = 0; i < self->num_news; i++) {
        pending *news = &self->news[i];
        bool gone = news->state == STATE_EXITED || news->state == STATE_EXPELLED;
        bool valid = gone || news->process == self->process[news->seat];
        if (news->at_ms > self->now_ms) {
            continue;
        }
        pending told = *news;
        *news = self->news[--self->num_news];
        i = -1; /* begin again: its place was taken */
        if (valid && told.state == NUM_STATES) {
            end(self, told.seat);
        } else if (valid) {
            self->in[told.seat] |= told.state == STATE_JOINED;
            script_on_state(&self->script, told.state, told.seat, self->now_ms);
        }
    }
}

static void follow(world *self, const script_action *action)
{
    self->num_actions[action->verb]++;
    switch (action->verb) {
    case VERB_KILL:
    case VERB_ABORT:
    case VERB_DIE:
        end(self, action->seat);
        break;
    case VERB_REJOIN:
        start(self, action->seat);
        break;
    case VERB_STOP:
        stop(self, action);
        break;
    case VERB_STORE_STOP:
    case VERB_STORE_KILL:
        cr_assert(!self->store_down);
        self->store_down = true;
        break;
    case VERB_STORE_START:
        self->store_back_ms = self->now_ms;
        self->store_down = false;
        break;
    case VERB_STORE_CONT:
        self->store_down = false;
        break;
    default:
        break;
    }
}

/* The whole round through the script; false with a message where it gets stuck. */
static void live(world *self, const chaos_round *round)
{
    char error[SCRIPT_ERROR_BYTES] = "";
    uint64_t random = 1;
    *self = (world){.script = {.dead_seat = -1, .expel_ms = 1000}};
    self->store_back_ms = -1e9;
    self->empty_distance_ms = 1e9;
    for (int i = 0; i < round->num_flags; i++) {
        cr_assert_eq(script_add(&self->script, round->flag[i].verb, round->flag[i].text, error),
                     EEP_OK, "%s", error);
    }
    cr_assert_eq(script_prepare(&self->script, SEATS, SEATS, error), EEP_OK, "%s", error);
    for (int seat = 0; seat < SEATS; seat++) {
        self->running[seat] = self->in[seat] = true;
    }
    for (; !script_is_done(&self->script) || self->num_news; self->now_ms += 1) {
        script_world seen = {.now_ms = self->now_ms,
                             .proposer = 0,
                             .max_ranks = SEATS,
                             .active = is_in,
                             .running = is_running,
                             .source = never,
                             .joining = never,
                             .covered = is_covered,
                             .user = self,
                             .seed = random};
        script_action action;
        int absent = 0;
        hear(self);
        while (script_next(&self->script, &seen, &action)) {
            follow(self, &action);
        }
        for (int seat = 0; seat < SEATS; seat++) {
            absent += !self->in[seat];
        }
        self->most_absent = absent > self->most_absent ? absent : self->most_absent;
        cr_assert_lt(self->now_ms, 600e3, "the round does not end");
    }
    script_free(&self->script);
}

Test(chaos, every_round_comes_to_its_end_with_all_ranks_back)
{
    static chaos_round round;
    static world w;
    for (uint64_t number = 1; number <= 300; number++) {
        draw(3, number, false, &round);
        live(&w, &round);
        cr_assert_leq(w.most_absent, 2, "round %d", (int)number);
        cr_assert_geq(w.empty_distance_ms, 1000, "round %d", (int)number);
        cr_assert_leq(w.now_ms, 2 * round.expected_ms, "round %d", (int)number);
        cr_assert_eq(w.num_actions[VERB_STORE_KILL], w.num_actions[VERB_STORE_START]);
        for (int seat = 0; seat < SEATS; seat++) {
            cr_assert(w.in[seat], "round %d: rank %d is not back", (int)number, seat);
        }
    }
}

Test(chaos, a_store_race_is_drawn_only_when_asked_for)
{
    static chaos_round round;
    static world w;
    double least = 1e9;
    for (uint64_t number = 1; number <= 100; number++) {
        draw(4, number, true, &round);
        live(&w, &round);
        least = w.empty_distance_ms < least ? w.empty_distance_ms : least;
    }
    cr_assert_lt(least, 20);
}

/* ---------------------------------------------------------------- how a round is judged */

static const char *const GOOD_SUMMARY =
    "{\"good\": true, \"tokens_emitted\": 100, \"tokens_wrong\": %d, \"digests_wrong\": 0,\n"
    " \"tokens_missing\": 0, \"tokens_doubled\": 0, \"requests_accepted\": 5,\n"
    " \"requests_failed\": 0, \"requests_lost\": 0, \"steps_aborted_by_join\": %d,\n"
    " \"steps_waiting_on_join\": 0, \"captures_after_start\": {\"healthy\": 0, \"joining\": 1},\n"
    " \"faults\": [%s]}\n";
static const char *const HEAD =
    "time_ms,seat,generation,kind,about_seat,about_generation,epoch,value\n"
    "-300.0,2,1,joined,2,1,1,1\n-300.0,3,1,joined,3,1,1,1\n";
#define PARTS(pause)                                                                               \
    "\"detect_ms\": 10, \"agree_ms\": 20, \"repair_ms\": 0, \"rerun_ms\": 5, \"pause_ms\": " pause \
    ", \"survivors\": 7, \"expelled\": true, \"weights_bytes_in_pause\": 0"
#define KILLED(pause)                                                                              \
    "{\"rank\": 3, \"generation\": 1, \"kind\": \"kill\", \"time_ms\": 2000, " PARTS(pause) "}"
#define EXPELLED                                                                                   \
    "{\"rank\": 3, \"generation\": 1, \"kind\": \"stop\", \"time_ms\": 2000, " PARTS("1040") "}"

static void write_text(const char *dir, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
}

/* One fault on rank 3, these rows and summary; `why`: what the verdict must say, NULL: it is good.
 */
static chaos_verdict judge(chaos_fault fault, const char *rows, int wrong, int aborted,
                           const char *faults, int code, const char *why)
{
    static chaos_round round;
    chaos_verdict verdict;
    char dir[] = "/tmp/eep-chaos-test-XXXXXX", text[4096], path[64];
    round = (chaos_round){.num_faults = 1};
    round.fault[0] = fault;
    cr_assert_not_null(mkdtemp(dir));
    snprintf(text, sizeof text, GOOD_SUMMARY, wrong, aborted, faults);
    write_text(dir, "summary.json", text);
    snprintf(text, sizeof text, "%s%s", HEAD, rows);
    write_text(dir, "events.csv", text);
    cr_assert_eq(chaos_judge(&round, dir, code, &verdict), EEP_OK);
    snprintf(path, sizeof path, "%s/summary.json", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/events.csv", dir);
    unlink(path);
    rmdir(dir);
    cr_expect_eq(verdict.good, why == NULL, "%s", verdict.why);
    if (why) {
        cr_expect_not_null(strstr(verdict.why, why), "'%s' is not '%s'", verdict.why, why);
    }
    return verdict;
}

static const chaos_fault CRASH = {.kind = CHAOS_KILL, .fate = FATE_DIES, .seat = 3};
static const chaos_fault SHORT = {
    .kind = CHAOS_PAUSE, .fate = FATE_STAYS, .seat = 3, .duration_ms = 500};
static const chaos_fault LONG = {
    .kind = CHAOS_PAUSE, .fate = FATE_DIES, .seat = 3, .duration_ms = 3000};
static const chaos_fault MAYBE = {
    .kind = CHAOS_PAUSE, .fate = FATE_MAY, .seat = 3, .duration_ms = 1100};
static const char *const KILL_ROW = "2000.0,3,1,kill,3,1,1,0\n";
static const char *const STOP_ROW = "2000.0,3,1,stop,3,1,1,0\n";

Test(chaos, a_crash_that_was_recovered_from_is_good)
{
    chaos_verdict verdict = judge(CRASH, KILL_ROW, 0, 0, KILLED("35"), 0, NULL);
    cr_assert(verdict.result[0].injected && verdict.result[0].expelled && verdict.result[0].healed);
    cr_assert_float_eq(verdict.result[0].pause_ms, 35, 1e-9);
    cr_assert_eq(verdict.result[0].num_survivors, 7);
    cr_assert_float_eq(verdict.tokens, 100, 1e-9);
}

Test(chaos, violations_are_named)
{
    judge(CRASH, KILL_ROW, 3, 0, KILLED("35"), 1, "tokens_wrong is 3, not 0");
    judge(CRASH, KILL_ROW, 0, 2, KILLED("35"), 0, "steps_aborted_by_join is 2, not 0");
    judge(CRASH, KILL_ROW, 0, 0, KILLED("35"), 1, "eep-run ended with code 1");
    judge(CRASH, KILL_ROW, 0, 0, KILLED("35"), -9, "eep-run was ended by signal 9");
    judge(CRASH, "", 0, 0, "", 0, "fault 1 (kill of rank 3) was never injected");
    judge(CRASH, KILL_ROW, 0, 0, "", 0, "was not expelled for it");
    judge(CRASH, KILL_ROW, 0, 0, KILLED("5001"), 0, "took 5001 ms, more than 5000");
    judge(CRASH, KILL_ROW, 0, 0, KILLED("null"), 0, "no survivor went on after rank 3");
    judge(CRASH, KILL_ROW, 0, 0,
          KILLED("35") ", {\"rank\": 2, \"generation\": 1, \"kind\": \"expelled\", \"time_ms\": "
                       "2500, " PARTS("40") "}",
          0, "rank 2 (generation 1) was expelled, or ended, at 2.500 s: nothing was done");
}

Test(chaos, a_store_outage_may_hold_a_recovery_up)
{
    judge(CRASH, "1500.0,-1,0,store-stop,-1,0,1,0\n2000.0,3,1,kill,3,1,1,0\n", 0, 0, KILLED("5001"),
          0, NULL);
}

Test(chaos, a_joiner_that_died_has_no_survivors_to_wait_for)
{
    chaos_fault joiner = CRASH;
    joiner.scope = SCOPE_JOINER;
    judge(joiner, "2000.0,3,2,kill,3,2,1,0\n", 0, 0,
          "{\"rank\": 3, \"generation\": 2, \"kind\": \"kill\", \"time_ms\": 2000, \"detect_ms\": "
          "null, \"agree_ms\": null, \"repair_ms\": null, \"rerun_ms\": null, \"pause_ms\": null, "
          "\"survivors\": 0, \"expelled\": true, \"weights_bytes_in_pause\": 0}",
          0, NULL);
}

Test(chaos, pauses_are_judged_by_what_they_may_do)
{
    judge(SHORT, STOP_ROW, 0, 0, "", 0, NULL);
    judge(SHORT, STOP_ROW, 0, 0, EXPELLED, 0, "rank 3 was expelled after a stop");
    judge(LONG, STOP_ROW, 0, 0, EXPELLED, 0, NULL);
    judge(LONG, "2000.0,3,1,stop,3,1,1,0\n6500.0,3,1,kill,3,1,1,0\n", 0, 0, KILLED("30"), 0,
          "rank 3 (generation 1), pause at 2.000 s, was not expelled for it");
    judge(MAYBE, STOP_ROW, 0, 0, EXPELLED, 0, NULL);
    judge(MAYBE, "2000.0,3,1,stop,3,1,1,0\n4600.0,3,1,kill,3,1,1,0\n", 0, 0, KILLED("30"), 0, NULL);
}

Test(chaos, a_later_pause_is_not_the_earlier_ones_fault)
{
    judge(SHORT, STOP_ROW, 0, 0,
          "{\"rank\": 3, \"generation\": 1, \"kind\": \"stop\", \"time_ms\": 1999, "
          "\"expelled\": false, \"pause_ms\": null}",
          0, NULL);
    judge(LONG, "2000.0,3,1,stop,3,1,1,0\n9000.0,3,1,stop,3,1,1,0\n", 0, 0,
          "{\"rank\": 3, \"generation\": 1, \"kind\": \"stop\", \"time_ms\": 9000, " PARTS(
              "1040") "}",
          0, "pause at 2.000 s, was not expelled for it");
}

Test(chaos, a_slow_rank_stays)
{
    chaos_fault slow = {.kind = CHAOS_SLOW, .seat = 3, .factor = 4, .duration_ms = 900};
    const char *rows = "2000.0,3,1,slow,3,1,1,4000\n2900.0,3,1,slow,3,1,1,1000\n";
    char ended[256];
    chaos_verdict verdict = judge(slow, rows, 0, 0, "", 0, NULL);
    cr_assert(verdict.result[0].injected && !verdict.result[0].expelled);
    snprintf(ended, sizeof ended, "%s3100.0,3,1,exit,3,1,2,768\n", rows);
    judge(slow, ended, 0, 0, "", 0, "rank 3 (generation 1) ended at 3.100 s: nothing was done");
}

Test(chaos, a_run_without_a_summary_is_a_violation)
{
    static chaos_round round;
    chaos_verdict verdict;
    round = (chaos_round){.num_faults = 1};
    cr_assert_eq(chaos_judge(&round, "/nonexistent", -9, &verdict), EEP_OK);
    cr_assert(!verdict.good);
    cr_assert_not_null(strstr(verdict.why, "signal 9"), "%s", verdict.why);
}
