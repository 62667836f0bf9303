/* SPDX-License-Identifier: Apache-2.0 */
/* Scenario files: what is taken from them, which messages name which place, and that no text, cut,
 * changed or made up, breaks the reader. */
#include "experiments/setup/scenario.h"
#include "experiments/base/random.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const sample =
    "# all that a scenario can say\n"
    "name: sample\n"
    "about: >\n"
    "  Two lines\n"
    "  of text.\n"
    "long: true\n"
    "instance: {ranks: 4, max-ranks: 8, slots: 32, seed: 9}\n"
    "load:\n"
    "  requests: 50\n"
    "  input: 4:16\n"
    "events:\n"
    "  - at: {time: 1.5}\n"
    "    do: kill\n"
    "    ranks: [0, 3]\n"
    "  - {at: {state: exited, rank: 3, count: 2, after: 100ms}, do: "
    "rejoin, ranks: same}\n"
    "  - {at: {step: 40, after: 1s}, do: kill, ranks: covered, count: "
    "2}\n"
    "  - {at: {time: 1500ms}, do: slow, ranks: lowest, factor: 4, "
    "for: 2s}\n"
    "  - {at: {time: 2}, do: die, ranks: random, place: experts}\n"
    "  - {at: {time: 3e+0}, do: stop, ranks: 1, for: 4e2ms}\n"
    "  - {at: {time: 3}, do: store-stop, for: 400ms}\n"
    "  - {at: {time: 4}, do: burn, value: 2}\n"
    "repeat-kills: {kills: 5, every: 700ms, rejoin-after: 0.3}\n"
    "expect:\n"
    "  good: false\n"
    "  tokens_wrong: 0\n"
    "  faults[*].pause_ms: <= 200\n"
    "  joins[0].join_ms: != null\n"
    "  weights_bytes_in_pause: \"> 0\"\n";

Test(scenario, all_of_it_arrives)
{
    scenario s;
    options o;
    char error[SCENARIO_ERROR_BYTES] = "";
    cr_assert_eq(scenario_parse("a.yaml", sample, strlen(sample), &s, error), EEP_OK, "%s", error);
    cr_assert_str_eq(s.name, "sample");
    cr_assert_str_eq(s.about, "Two lines of text.\n");
    cr_assert(s.is_long);
    cr_assert(s.may_fail);
    cr_assert_eq(s.num_clauses, 4);
    cr_assert_str_eq(s.clause[2].condition, "!= null");
    cr_assert_eq(s.clause[2].kind, EXPECT_NULL);
    cr_assert_eq(s.clause[0].line, 25);
    cr_assert_eq(s.num_events, 8);
    cr_assert_eq(s.event[0].target, TARGET_SEATS);
    cr_assert_eq(s.event[0].num_seats, 2);
    cr_assert_eq(s.event[0].seat[1], 3);
    cr_assert_float_eq(s.event[0].delay_ms, 1500, 1e-9);
    cr_assert_eq(s.event[0].line, 14);
    cr_assert_eq(s.event[1].target, TARGET_SAME);
    cr_assert_eq(s.event[1].same.partner, 0);
    cr_assert_eq(s.event[1].when, WHEN_STATE);
    cr_assert_eq(s.event[1].awaited.state, STATE_EXITED);
    cr_assert_eq(s.event[1].awaited.seat, 3);
    cr_assert_eq(s.event[1].awaited.count, 2);
    cr_assert_float_eq(s.event[1].delay_ms, 100, 1e-9);
    cr_assert_eq(s.event[2].target, TARGET_COVERED);
    cr_assert_eq(s.event[2].named.count, 2);
    cr_assert_eq(s.event[2].when, WHEN_STEP);
    cr_assert_eq(s.event[2].step, 40);
    cr_assert_float_eq(s.event[3].value.factor, 4, 1e-9);
    cr_assert_float_eq(s.event[3].lasts.ms, 2000, 1e-9);
    cr_assert_eq(s.event[4].value.place, PLACE_EXPERTS);
    cr_assert_float_eq(s.event[5].lasts.ms, 400, 1e-9);
    cr_assert_eq(s.event[6].verb, VERB_STORE_STOP);
    cr_assert_float_eq(s.event[7].value.seconds, 2, 1e-9);
    options_set_defaults(&o);
    cr_assert_eq(scenario_apply(&s, &o, error), EEP_OK, "%s", error);
    cr_assert_eq(o.num_ranks, 4);
    cr_assert_eq(o.max_ranks, 8);
    cr_assert_eq(o.seed, 9);
    cr_assert_eq(o.num_requests, 50);
    cr_assert_eq(o.input_max, 16);
    cr_assert_eq(o.script.cycle.num_kills, 5);
    cr_assert_float_eq(o.script.cycle.kill_every_ms, 700, 1e-9);
    cr_assert_float_eq(o.script.cycle.rejoin_after_ms, 300, 1e-9);
    cr_assert_eq(o.script.num_events, 8);
    options_free(&o);
    scenario_free(&s);
}

Test(scenario, the_command_line_wins)
{
    static const char text[] = "name: a\nabout: b\ninstance: {ranks: 4, slots: 32, seed: 9}\n";
    scenario s;
    options o;
    char error[SCENARIO_ERROR_BYTES] = "";
    char *arguments[] = {(char *)"--seed", (char *)"12", (char *)"--max-ranks=6"};
    cr_assert_eq(scenario_parse("a.yaml", text, strlen(text), &s, error), EEP_OK, "%s", error);
    options_set_defaults(&o);
    cr_assert_eq(scenario_apply(&s, &o, error), EEP_OK);
    cr_assert_eq(options_take(&o, 3, arguments, error), EEP_OK);
    cr_assert_eq(scenario_check(&s, &o, error), EEP_OK, "%s", error);
    cr_assert_eq(o.seed, 12);
    cr_assert_eq(o.num_ranks, 4);
    cr_assert_eq(o.max_ranks, 6);
    options_free(&o);
    scenario_free(&s);
}

/* "" if the text is good, else the message; also of applying and checking it. */
static const char *said(const char *text)
{
    static char error[SCENARIO_ERROR_BYTES];
    scenario s;
    options o;
    options_set_defaults(&o);
    eep_status status = scenario_parse("a.yaml", text, strlen(text), &s, error);
    if (status == EEP_OK) {
        status = scenario_apply(&s, &o, error);
    }
    if (status == EEP_OK) {
        status = scenario_check(&s, &o, error);
    }
    options_free(&o);
    scenario_free(&s);
    return status == EEP_OK ? "" : error;
}

#define HEAD        "name: a\nabout: b\n"
#define EVENT(text) HEAD "events:\n  - " text "\n"

typedef struct mistake {
    const char *text, *place, *names;
} mistake;

static void expect_named(const mistake *bad, size_t num)
{
    for (size_t i = 0; i < num; i++) {
        const char *error = said(bad[i].text);
        cr_expect(strncmp(error, bad[i].place, strlen(bad[i].place)) == 0, "%s: not at %s: '%s'",
                  bad[i].text, bad[i].place, error);
        cr_expect(strstr(error, bad[i].names), "%s: said '%s', not '%s'", bad[i].text, error,
                  bad[i].names);
        cr_expect_null(strchr(error, '\n'), "%s", error);
    }
}

Test(scenario, a_mistake_of_the_text_is_named_with_its_place)
{
    static const mistake bad[] = {
        {"", "a.yaml:1:1: ", "empty"},
        {"[]", "a.yaml:1:1: ", "a mapping"},
        {"name: a\n", "a.yaml:1:", "about"},
        {"name: [a\n", "a.yaml:2:1: ", "did not find"},
        {"name: a\n\tabout: b\n", "a.yaml:2:1: ", "tab character"},
        {HEAD "name: c\n", "a.yaml:3:1: ", "'name' is given twice"},
        {HEAD "long: maybe\n", "a.yaml:3:7: ", "true or false"},
        {HEAD "speed: 3\n", "a.yaml:3:1: ", "unknown key 'speed'; allowed are name, about"},
        {HEAD "--- \nname: c\n", "a.yaml:3:1: ", "second document"},
        {"name: &x a\nabout: *x\n", "a.yaml:2:8: ", "aliases"},
        {"name: ''\nabout: b\n", "a.yaml:1:7: ", "an empty text; at least 1 character is wanted"},
        {HEAD "repeat-kills: {kills: 5, every: ''}\n", "a.yaml:3:33: ", "an empty text"},
        {"name: \"a\\e[31mb\"\nabout: b\n", "a.yaml:1:7: ", "control character 0x1b"},
        {"name: \"a\\x7fb\"\nabout: b\n", "a.yaml:1:7: ", "control character 0x7f"},
        {"name: \"a\\x9bb\"\nabout: b\n", "a.yaml:1:7: ", "control character 0x9b"},
        {"name: \"a\\nb\"\nabout: b\n", "a.yaml:1:7: ", "'name' is one line"},
        {"name: a\nabout: \"\\r\"\n", "a.yaml:2:8: ", "control character 0x0d"},
        {HEAD "expect: {reason: \"\\e[2J\"}\n", "a.yaml:3:18: ", "control character 0x1b"},
        {HEAD "\"\\b\": 3\n", "a.yaml:3:1: ", "control character 0x08"},
        {"name: !str a\nabout: b\n", "a.yaml:1:7: ", "tags"},
        {HEAD "? [a]\n: b\n", "a.yaml:3:3: ", "plain text"},
        {HEAD "expect: [[[[[[[[[[1]]]]]]]]]]\n", "a.yaml:3:", "deeper than"},
        {HEAD "# \xff\n", "a.yaml:3:3: ", "UTF-8"},
    };
    expect_named(bad, sizeof bad / sizeof bad[0]);
}

Test(scenario, a_mistake_of_an_option_or_an_expectation_is_named_with_its_place)
{
    static const mistake bad[] = {
        {HEAD "instance: 3\n", "a.yaml:3:11: ", "mapping"},
        {HEAD "instance: {rank: 3}\n", "a.yaml:3:12: ", "'rank'"},
        {HEAD "instance: {ranks: [3]}\n", "a.yaml:3:19: ", "one value"},
        {HEAD "instance: {ranks: 0}\n", "a.yaml:3:19: ", "'0' is not a whole number from 1 to"},
        {HEAD "instance: {rate: 5}\n", "a.yaml:3:12: ", "belongs to 'load'"},
        {HEAD "load: {ranks: 5}\n", "a.yaml:3:8: ", "belongs to 'instance'"},
        {HEAD "load: {out: x}\n", "a.yaml:3:8: ", "command line"},
        {HEAD "instance: {scenario: x}\n", "a.yaml:3:12: ", "command line"},
        {HEAD "instance: {kill: 3@1}\n", "a.yaml:3:12: ", "events"},
        {HEAD "instance: {ranks: 2, slots: 16}\n", "a.yaml: ", "--slots"},
        {HEAD "repeat-kills: {kills: 5, every: often}\n", "a.yaml:3:33: ", "'often'"},
        {HEAD "repeat-kills: {every: 1}\n", "a.yaml:3:", "kills"},
        {HEAD "repeat-kills: {kills: 5, of: 1}\n", "a.yaml:3:26: ", "allowed are kills, every"},
        {HEAD "repeat-kills: {kills: 50000}\n", "a.yaml:3:23: ", "'50000'"},
        {HEAD "expect: 3\n", "a.yaml:3:9: ", "mapping"},
        {HEAD "expect: {a b: 3}\n", "a.yaml:3:15: ", "'a b' is not a path"},
        {HEAD "expect: {a: <= x}\n", "a.yaml:3:13: ", "not a condition"},
        {HEAD "expect: {a: [1]}\n", "a.yaml:3:13: ", "one condition"},
    };
    expect_named(bad, sizeof bad / sizeof bad[0]);
}

Test(scenario, a_mistake_of_an_events_moment_is_named_with_its_place)
{
    static const mistake bad[] = {
        {HEAD "events: kill\n", "a.yaml:3:9: ", "a list is wanted"},
        {EVENT("{do: kill, ranks: 3}"), "a.yaml:4:", "at"},
        {EVENT("{at: {time: 1}, ranks: 3}"), "a.yaml:4:", "do"},
        {EVENT("{at: {}, do: kill, ranks: 3}"), "a.yaml:4:", ""},
        {EVENT("{at: {time: 1}, do: hit, ranks: 3}"), "a.yaml:4:25: ", "allowed are kill, abort"},
        {EVENT("{at: {time: 1}, do: kill}"), "a.yaml:4:25: ", "kill needs ranks"},
        {EVENT("{at: {time: 1}, do: burn, value: 1, ranks: 3}"), "a.yaml:4:48: ", "no rank"},
        {EVENT("{at: {time: 1}, do: kill, ranks: 3, how: hard}"),
         "a.yaml:4:41: ", "unknown key 'how'; allowed are at, do, ranks"},
        {EVENT("{at: {time: 1, when: 2}, do: kill, ranks: 3}"),
         "a.yaml:4:20: ", "allowed are time, step, state"},
        {EVENT("{at: {time: 1, step: 4}, do: kill, ranks: 3}"), "a.yaml:4:10: ", "one of time"},
        {EVENT("{at: {time: 1, rank: 4}, do: kill, ranks: 3}"), "a.yaml:4:26: ", "state"},
        {EVENT("{at: {time: 1, after: 4}, do: kill, ranks: 3}"), "a.yaml:4:27: ", "one time"},
        {EVENT("{at: {time: -1}, do: kill, ranks: 3}"), "a.yaml:4:17: ", "'-1' is not a time"},
        {EVENT("{at: {time: 1h}, do: kill, ranks: 3}"), "a.yaml:4:17: ", "'1h' is not a time"},
        {EVENT("{at: {time: inf}, do: kill, ranks: 3}"), "a.yaml:4:17: ", "'inf'"},
        {EVENT("{at: {time: 0x2}, do: kill, ranks: 3}"), "a.yaml:4:17: ", "'0x2'"},
        {EVENT("{at: {time: 1}, do: slow, ranks: 3, factor: 0x2}"), "a.yaml:4:", "'0x2'"},
        {EVENT("{at: {time: 1@2}, do: kill, ranks: 3}"), "a.yaml:4:17: ", "'1@2'"},
        {EVENT("{at: {step: x}, do: kill, ranks: 3}"),
         "a.yaml:4:17: ", "'x' is not a whole number"},
        {EVENT("{at: {state: ill}, do: kill, ranks: 3}"), "a.yaml:4:18: ", "allowed are spawned"},
        {EVENT("{at: {state: ready, count: 0}, do: kill, ranks: 3}"),
         "a.yaml:4:32: ", "'0' is not a whole number from 1"},
    };
    expect_named(bad, sizeof bad / sizeof bad[0]);
}

Test(scenario, a_mistake_of_an_events_ranks_or_value_is_named_with_its_place)
{
    static const mistake bad[] = {
        {EVENT("{at: {time: 1}, do: kill, ranks: 8}"), "a.yaml:4:", "0 to 7"},
        {EVENT("{at: {time: 1}, do: kill, ranks: -3}"), "a.yaml:4:38: ", "'-3' is not a rank"},
        {EVENT("{at: {time: 1}, do: kill, ranks: highest}"), "a.yaml:4:38: ", "lowest, proposer"},
        {EVENT("{at: {time: 1}, do: kill, ranks: random:2}"), "a.yaml:4:38: ", "'random:2'"},
        {EVENT("{at: {time: 1}, do: kill, ranks: []}"), "a.yaml:4:38: ", "empty"},
        {EVENT("{at: {time: 1}, do: kill, ranks: [1, x]}"), "a.yaml:4:42: ", "'x'"},
        {EVENT("{at: {time: 1}, do: kill, ranks: {a: 1}}"), "a.yaml:4:38: ", "a mapping"},
        {EVENT("{at: {time: 1}, do: kill, ranks: 3, count: 2}"), "a.yaml:4:48: ", "count"},
        {EVENT("{at: {time: 1}, do: kill, ranks: same}"), "a.yaml:4:38: ", "event before"},
        {EVENT("{at: {time: 1}, do: kill, ranks: 3, for: 1s}"), "a.yaml:4:46: ", "takes nothing"},
        {EVENT("{at: {time: 1}, do: slow, ranks: 3}"), "a.yaml:4:5: ", "needs factor"},
        {EVENT("{at: {time: 1}, do: slow, ranks: 3, factor: many}"), "a.yaml:4:49: ", "many"},
        {EVENT("{at: {time: 1}, do: slow, ranks: 3, factor: 2, value: 3}"),
         "a.yaml:4:49: ", "takes factor"},
        {EVENT("{at: {time: 1}, do: die, ranks: 3, place: here}"), "a.yaml:4:47: ", "here"},
        {EVENT("{at: {time: 1}, do: stop, ranks: 3, for: long}"), "a.yaml:4:46: ", "'long'"},
    };
    expect_named(bad, sizeof bad / sizeof bad[0]);
}

Test(scenario, what_does_not_fit_together_is_named_with_its_place)
{
    const char *error = said(EVENT("{at: {time: 1}, do: kill, ranks: 3}\n"
                                   "  - {at: {time: 2}, do: kill, ranks: 3}"));
    cr_assert(strstr(error, "a.yaml:5:38: ") == error, "%s", error);
    error = said(EVENT("{at: {time: 1}, do: rejoin, ranks: 3}"));
    cr_assert(strstr(error, "a.yaml:4:40: ") == error, "%s", error);
}

/* ---------------------------------------------------------------- broken texts */

/* Either taken or refused with one line that begins with the file; nothing else. */
static bool survives(const char *text, size_t bytes)
{
    scenario s;
    options o;
    char error[SCENARIO_ERROR_BYTES] = "";
    options_set_defaults(&o);
    eep_status status = scenario_parse("a.yaml", text, bytes, &s, error);
    if (status == EEP_OK) {
        status = scenario_apply(&s, &o, error);
    }
    if (status == EEP_OK) {
        status = scenario_check(&s, &o, error);
    }
    options_free(&o);
    scenario_free(&s);
    bool named = status == EEP_OK || (status == EEP_ERR_INVALID && !strchr(error, '\n') &&
                                      strncmp(error, "a.yaml:", 7) == 0);
    cr_assert(named, "status %d, '%s' for:\n%.*s", (int)status, error, (int)bytes, text);
    return status == EEP_OK;
}

Test(scenario, a_text_cut_anywhere_is_taken_or_refused)
{
    for (size_t bytes = 0; bytes < strlen(sample); bytes++) {
        (void)survives(sample, bytes);
    }
}

Test(scenario, a_changed_text_is_taken_or_refused)
{
    static const char letters[] = ":-[]{},#&*!|>'\"%@`?\n\t 019aekr\\\x80\xff\xc3";
    size_t length = strlen(sample);
    uint64_t state = 20261121;
    int taken = 0;
    for (int round = 0; round < 4000; round++) {
        char *text = malloc(2 * length);
        size_t bytes = length;
        memcpy(text, sample, length);
        for (uint64_t changes = 1 + random_next(&state) % 3; changes; changes--) {
            size_t at = random_next(&state) % bytes, run = 1 + random_next(&state) % 12;
            run = at + run > bytes ? bytes - at : run;
            switch (random_next(&state) % 4) {
            case 0: /* another letter */
                text[at] = letters[random_next(&state) % (sizeof letters - 1)];
                break;
            case 1: /* a piece less */
                memmove(text + at, text + at + run, bytes - at - run);
                bytes -= run;
                break;
            case 2: /* a piece again */
                memmove(text + at + run, text + at, bytes - at);
                bytes += run;
                break;
            default: /* a piece from elsewhere */
                memcpy(text + at, sample + random_next(&state) % (length - 12), run);
            }
        }
        taken += survives(text, bytes);
        free(text);
    }
    cr_assert(taken > 100 && taken < 3500, "%d of 4000 were taken: changes too strong or weak",
              taken);
}

Test(scenario, random_bytes_are_refused)
{
    uint64_t state = 7;
    for (int round = 0; round < 2000; round++) {
        char text[300];
        size_t bytes = random_next(&state) % sizeof text;
        for (size_t i = 0; i < bytes; i++) {
            text[i] = (char)(round % 2 ? random_next(&state) : 32 + random_next(&state) % 95);
        }
        cr_assert_not(survives(text, bytes));
    }
}

Test(scenario, a_list_too_long_is_refused)
{
    static const char entry[] = "  - {at: {time: 1}, do: burn, value: 1}\n";
    char *text = calloc(SCRIPT_MAX_EVENTS + 2, sizeof entry);
    size_t used = (size_t)sprintf(text, HEAD "events:\n");
    for (int i = 0; i <= SCRIPT_MAX_EVENTS; i++) {
        memcpy(text + used, entry, sizeof entry);
        used += sizeof entry - 1;
    }
    const char *error = said(text);
    cr_assert(strstr(error, ": a list of more than 2048 entries"), "%s", error);
    free(text);
}

Test(scenario, a_text_too_long_or_too_deep_is_refused)
{
    size_t bytes = SCENARIO_MAX_BYTES + 1;
    char *text = malloc(bytes);
    memset(text, '#', bytes);
    cr_assert_not(survives(text, bytes));
    memset(text, '[', bytes);
    cr_assert_not(survives(text, SCENARIO_MAX_BYTES));
    memset(text, '-', bytes);
    cr_assert_not(survives(text, SCENARIO_MAX_BYTES));
    for (size_t i = 0; i < SCENARIO_MAX_BYTES; i++) {
        text[i] = "- "[i % 2];
    }
    cr_assert_not(survives(text, SCENARIO_MAX_BYTES));
    for (size_t i = 0; i < SCENARIO_MAX_BYTES; i++) {
        text[i] = "[1,"[i ? 1 + i % 2 : 0];
    }
    cr_assert_not(survives(text, SCENARIO_MAX_BYTES));
    free(text);
}

Test(scenario, a_mapping_of_very_many_keys_is_refused_at_once)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    fputs(HEAD "expect:\n", file);
    for (int i = 0; i < 60000; i++) {
        fprintf(file, "  a%d: 1\n", i);
    }
    fclose(file);
    cr_assert_not(survives(text, bytes));
    cr_assert(strstr(said(text), "a.yaml:260:3: more than 256 keys"), "%s", said(text));
    free(text);
}
