/* SPDX-License-Identifier: Apache-2.0 */
/* eep-chaos --hosts: what it draws for which hosts, and how it judges a round of several hosts. */
#include "experiments/chaos/chaos_hosts.h"
#include "experiments/chaos/chaos_judge.h"
#include "experiments/script/host_names.h"
#include "experiments/script/script.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOSTS = 3, SEATS = 6 };

static const verb ALL_COMMANDS[] = {VERB_HOST_KILL, VERB_HOST_START, VERB_PARTITION,
                                    VERB_ONE_WAY,   VERB_DELAY,      VERB_RESET,
                                    VERB_HEAL,      VERB_NIC_DOWN,   VERB_NIC_UP};

/* host0 to host2 with two ranks each, an agent, and a command for every verb; host0 is ours. */
static chaos_hosts make(void)
{
    hosts_file *file = NULL;
    char address[32], agent[32];
    cr_assert_eq(hosts_file_make(HOSTS, SEATS, &file), EEP_OK);
    for (int i = 0; i < HOSTS; i++) {
        snprintf(address, sizeof address, "10.0.0.%d:7800", i + 1);
        snprintf(agent, sizeof agent, "10.0.0.%d:7700", i + 1);
        cr_assert_eq(hosts_file_place(&file->host[i], address, agent), EEP_OK);
    }
    for (size_t i = 0; i < sizeof ALL_COMMANDS / sizeof ALL_COMMANDS[0]; i++) {
        file->command[ALL_COMMANDS[i]] = strdup("true");
    }
    return (chaos_hosts){.file = file, .own = 1, .mix = chaos_hosts_mix};
}

static void drop(chaos_hosts *self)
{
    hosts_file_free((hosts_file *)self->file);
}

static void forget(chaos_hosts *self, verb what)
{
    hosts_file *file = (hosts_file *)self->file;
    free(file->command[what]);
    file->command[what] = NULL;
}

static void draw(const chaos_hosts *hosts, uint64_t seed, uint64_t number, chaos_round *round)
{
    chaos_config config = {.seed = seed, .round = number, .expel_ms = 1000};
    chaos_hosts_draw(&config, hosts, round);
}

/* ---------------------------------------------------------------- what is drawn */

Test(chaos_hosts, seed_and_round_determine_everything)
{
    static chaos_round one, two;
    chaos_hosts hosts = make();
    draw(&hosts, 7, 3, &one);
    draw(&hosts, 7, 3, &two);
    cr_assert_eq(memcmp(&one, &two, sizeof one), 0);
    draw(&hosts, 7, 4, &two);
    cr_assert_neq(memcmp(&one, &two, sizeof one), 0);
    draw(&hosts, 8, 3, &two);
    cr_assert_neq(memcmp(&one, &two, sizeof one), 0);
    drop(&hosts);
}

Test(chaos_hosts, the_mix_is_the_one_of_the_documentation)
{
    static chaos_round round;
    char left_out[CHAOS_NAMES_BYTES];
    double num[NUM_CHAOS_KINDS] = {0}, singles = 0, seconds = 0;
    chaos_hosts hosts = make();
    cr_assert(chaos_hosts_fit(&hosts, left_out));
    cr_assert_str_empty(left_out);
    for (uint64_t number = 1; number <= 1000; number++) {
        draw(&hosts, 2, number, &round);
        cr_assert(round.num_faults >= 12 && round.num_faults <= 20, "%d", round.num_faults);
        for (int i = 0; i < round.num_faults; i++) {
            bool is_second = round.fault[i].scope == SCOPE_DOUBLE;
            num[round.fault[i].kind] += !is_second;
            singles += !is_second;
            seconds += is_second;
            cr_assert(!is_second || round.fault[i].kind == CHAOS_KILL);
            cr_assert(!is_second || round.fault[i].seat != round.fault[i - 1].seat);
        }
    }
    for (int kind = 0; kind < NUM_CHAOS_KINDS; kind++) {
        double share = 100 * num[kind] / singles;
        cr_assert_float_eq(share, chaos_hosts_mix.share[kind], 1.5, "%s: %.1f %%",
                           chaos_kind_names[kind], share);
    }
    cr_assert(seconds / singles > 0.15 && seconds / singles < 0.22, "%.3f", seconds / singles);
    drop(&hosts);
}

/* The hosts that the text of an order names. */
static uint64_t named(const hosts_file *file, const chaos_order *order)
{
    host_names names;
    char name[HOST_NAME_BYTES];
    uint64_t hosts = 0;
    char text[VERB_FILE_BYTES];
    snprintf(text, sizeof text, "%.*s", (int)strcspn(order->text, "/"), order->text);
    cr_assert(host_names_parse(order->verb, text, &names), "%s", order->text);
    for (int side = 0; side < 2; side++) {
        for (const char *rest = names.side[side]; *rest;) {
            rest = host_names_next(rest, name);
            cr_assert_not_null(rest);
            cr_assert_geq(hosts_file_find(file, name), 0, "%s", name);
            hosts |= UINT64_C(1) << hosts_file_find(file, name);
        }
    }
    return hosts;
}

Test(chaos_hosts, orders_are_verbs_of_the_script_about_the_hosts_of_their_faults)
{
    static chaos_round round;
    char error[SCRIPT_ERROR_BYTES] = "";
    chaos_hosts hosts = make();
    for (uint64_t number = 1; number <= 200; number++) {
        script events = {.dead_seat = -1, .expel_ms = 1000};
        draw(&hosts, 3, number, &round);
        for (int i = 0; i < round.num_faults; i++) {
            const chaos_order *order = &round.order[i];
            char text[VERB_FILE_BYTES + 8];
            snprintf(text, sizeof text, "%s@1", order->text);
            cr_assert_eq(script_add(&events, order->verb, text, error), EEP_OK, "%s %s: %s",
                         verb_table[order->verb].name, text, error);
            if (verb_is_of_hosts(order->verb) && round.fault[i].hosts) {
                cr_assert_eq(named(hosts.file, order), round.fault[i].hosts, "%s", order->text);
            }
            cr_assert(order->verb != VERB_HOST_KILL || !(round.fault[i].hosts & hosts.own),
                      "the host of the front loses its power");
        }
        script_free(&events);
    }
    drop(&hosts);
}

Test(chaos_hosts, what_the_file_has_no_command_for_is_not_drawn)
{
    static chaos_round round;
    char left_out[CHAOS_NAMES_BYTES];
    chaos_hosts hosts = make();
    forget(&hosts, VERB_PARTITION);
    forget(&hosts, VERB_NIC_UP);
    hosts.own = 7; /* no host may lose its power */
    cr_assert(chaos_hosts_fit(&hosts, left_out));
    cr_assert_str_eq(left_out, "host-kill, partition, nic-down");
    for (uint64_t number = 1; number <= 100; number++) {
        draw(&hosts, 3, number, &round);
        for (int i = 0; i < round.num_faults; i++) {
            chaos_kind kind = round.fault[i].kind;
            cr_assert(kind != CHAOS_PARTITION && kind != CHAOS_NIC_DOWN && kind != CHAOS_HOST_KILL);
        }
    }
    forget(&hosts, VERB_HOST_KILL); /* then its ranks and its agent are killed */
    forget(&hosts, VERB_HOST_START);
    hosts.mix = chaos_hosts_mix;
    cr_assert(chaos_hosts_fit(&hosts, left_out));
    cr_assert_str_eq(left_out, "partition, nic-down");
    drop(&hosts);
}

Test(chaos_hosts, a_mix_is_what_is_drawn)
{
    static chaos_round round;
    char error[CHAOS_MIX_ERROR_BYTES] = "", left_out[CHAOS_NAMES_BYTES];
    chaos_hosts hosts = make();
    cr_assert_eq(chaos_mix_parse("reset=0.5,kill", &hosts.mix, error), EEP_OK, "%s", error);
    double resets = 0, singles = 0;
    for (uint64_t number = 1; number <= 200; number++) {
        draw(&hosts, 3, number, &round);
        for (int i = 0; i < round.num_faults; i++) {
            chaos_kind kind = round.fault[i].kind;
            cr_assert(kind == CHAOS_RESET || kind == CHAOS_KILL);
            singles += round.fault[i].scope == SCOPE_SINGLE;
            resets += kind == CHAOS_RESET;
        }
    }
    cr_assert_float_eq(resets / singles, 1 / 3.0, 0.04, "%.3f", resets / singles);
    static const char *const wrong[] = {"nonsense", "store-stop", "kill=",      "kill=x",
                                        "kill,",    "kill=0",     "kill;abort", "",
                                        "kill=-1",  ",kill",      "kill=1,=2"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_assert_neq(chaos_mix_parse(wrong[i], &hosts.mix, error), EEP_OK, "%s", wrong[i]);
        cr_assert_not_null(strstr(error, "--mix"), "%s", error);
    }
    cr_assert_eq(chaos_mix_parse("partition", &hosts.mix, error), EEP_OK);
    forget(&hosts, VERB_HEAL);
    cr_assert_not(chaos_hosts_fit(&hosts, left_out));
    drop(&hosts);
}

/* ---------------------------------------------------------------- how a round is judged */

#define FAULT(rank, kind, time, expelled, pause)                                                   \
    "{\"rank\": " #rank ", \"generation\": 1, \"kind\": \"" kind "\", \"time_ms\": " #time         \
    ", \"detect_ms\": 10, \"agree_ms\": 20, \"repair_ms\": 0, \"rerun_ms\": 5, "                   \
    "\"pause_ms\": " #pause ", \"survivors\": 4, \"expelled\": " #expelled                         \
    ", \"weights_bytes_in_pause\": 0}"
/* Of the partition, seen so many ms after it. */
#define SEEN_LATE(detect)                                                                          \
    "{\"rank\": 2, \"generation\": 1, \"kind\": \"partition\", \"time_ms\": 2000, "                \
    "\"detect_ms\": " #detect ", \"agree_ms\": 20, \"repair_ms\": 0, \"rerun_ms\": 5, "            \
    "\"pause_ms\": 9100, \"survivors\": 4, \"expelled\": true, \"weights_bytes_in_pause\": 0}"
static const char *const SUMMARY =
    "{\"good\": true, \"tokens_emitted\": 100, \"tokens_wrong\": 0, \"digests_wrong\": 0,\n"
    " \"tokens_missing\": 0, \"tokens_doubled\": 0, \"requests_accepted\": 5,\n"
    " \"requests_failed\": 0, \"requests_lost\": 0, \"steps_aborted_by_join\": 2,\n"
    " \"steps_waiting_on_join\": 0, \"captures_after_start\": {\"healthy\": 0, \"joining\": 1},\n"
    " \"faults\": [%s]}\n";
static const char *const HEAD =
    "time_ms,seat,generation,kind,about_seat,about_generation,epoch,value\n";

static void write_text(const char *dir, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
}

/* A partition between host0 and host1 at 2 s and a kill of rank 4 at 9 s, with these faults in the
 * summary; `driven_why`: what the instance did not do; `why`: what the verdict must say, NULL: it
 * is good. */
static chaos_verdict judge(const char *faults, const char *driven_why, const char *why)
{
    static chaos_round round;
    static chaos_driven driven;
    chaos_verdict verdict;
    chaos_hosts hosts = make();
    char dir[] = "/tmp/eep-chaos-test-XXXXXX", text[4096];
    round = (chaos_round){.num_faults = 2};
    round.fault[0] = (chaos_fault){
        .kind = CHAOS_PARTITION, .fate = FATE_MAY, .seat = -1, .hosts = 3, .duration_ms = 1500};
    round.fault[1] = (chaos_fault){.kind = CHAOS_KILL, .fate = FATE_DIES, .seat = 4};
    round.order[0] = (chaos_order){.verb = VERB_PARTITION, .text = "host0|host1/1500ms"};
    round.order[1] = (chaos_order){.verb = VERB_KILL, .text = "4"};
    driven = (chaos_driven){.injected = {true, true}};
    snprintf(driven.why, sizeof driven.why, "%s", driven_why);
    cr_assert_not_null(mkdtemp(dir));
    snprintf(text, sizeof text, SUMMARY, faults);
    write_text(dir, "summary.json", text);
    int used = snprintf(text, sizeof text, "%s", HEAD);
    for (int seat = 0; seat < SEATS; seat++) {
        used += snprintf(text + used, sizeof text - (size_t)used, "-300.0,%d,1,joined,%d,1,1,1\n",
                         seat, seat);
    }
    snprintf(text + used, sizeof text - (size_t)used,
             "2000.0,-1,0,partition,-1,0,1,1500\n3500.0,-1,0,heal,-1,0,1,0\n"
             "9000.0,4,1,kill,4,1,1,0\n");
    write_text(dir, "events.csv", text);
    cr_assert_eq(chaos_judge_hosts(&round, hosts.file, &driven, dir, 0, &verdict), EEP_OK);
    snprintf(text, sizeof text, "rm -r %s", dir);
    cr_assert_eq(system(text), 0);
    cr_expect_eq(verdict.good, why == NULL, "%s", verdict.why);
    if (why) {
        cr_expect_not_null(strstr(verdict.why, why), "'%s' is not '%s'", verdict.why, why);
    }
    drop(&hosts);
    return verdict;
}

#define KILLED FAULT(4, "kill", 9000, true, 35)

Test(chaos_hosts, either_side_of_a_partition_may_be_expelled)
{
    chaos_verdict verdict = judge(FAULT(2, "partition", 2000, true, 1035) "," FAULT(
                                      3, "partition", 2000, true,
                                      1050) "," FAULT(0, "partition", 2000, false, null) "," KILLED,
                                  "", NULL);
    cr_assert(verdict.result[0].injected);
    cr_assert_eq(verdict.result[0].expelled, 2);
    cr_assert_float_eq(verdict.result[0].pause_ms, 1050, 1e-9);
    cr_assert_eq(verdict.result[1].expelled, 1);
    judge(FAULT(0, "partition", 2000, false, null) "," KILLED, "", NULL);
    verdict = judge(
        FAULT(2, "partition", 2100, true, 50) "," FAULT(2, "expelled", 1890, true, 80) "," KILLED,
        "", NULL);
    cr_assert_eq(verdict.result[0].expelled, 1, "one rank is counted twice");
    judge(FAULT(4, "expelled", 8880, true, 60), "", NULL); /* it was late, and the kill met it */
}

Test(chaos_hosts, violations_are_named)
{
    judge("", "", "rank 4 was not expelled for kill 4 at 9.000 s");
    judge(KILLED "," FAULT(5, "expelled", 2500, true, 40), "",
          "rank 5 (generation 1) was expelled, or ended, at 2.500 s: nothing was done to it");
    judge(KILLED "," FAULT(5, "partition", 2500, true, 40), "", "nothing was done to it");
    judge(KILLED "," FAULT(2, "exit", 2500, true, 40), "", "nothing was done to it");
    judge(KILLED "," FAULT(2, "partition", 2000, true, null), "", "no survivor went on after rank");
    judge(KILLED "," FAULT(2, "partition", 2000, true, 11501), "",
          "took 11501 ms, more than 11500");
    judge(KILLED "," SEEN_LATE(8900), "", NULL);
    judge(KILLED "," SEEN_LATE(9000), "",
          "rank 2 (generation 1) was expelled at 11.020 s: all had settled since partition "
          "host0|host1/1500ms");
    judge(KILLED, "not settled 120 s after partition", "not settled 120 s after partition");
}
