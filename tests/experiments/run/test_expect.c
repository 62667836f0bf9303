/* SPDX-License-Identifier: Apache-2.0 */
/* Expectations on a summary: what a condition means, what a message says, and that no text breaks
 * the parser. */
#include "experiments/setup/expect.h"
#include "experiments/base/random.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static const char *const sample =
    "{\"good\": true, \"tokens_wrong\": 0, \"device\": \"host\", \"nothing\": null, \"rate\": 2.5,"
    " \"steps\": {\"p50\": 4, \"max\": 9}, \"none\": [],"
    " \"faults\": [{\"pause_ms\": 80, \"kind\": \"kill\"}, {\"pause_ms\": null, \"kind\": "
    "\"kill\"}],"
    " \"joins\": [{\"joined\": true}, {\"joined\": true}]}";

/* "" where it is met, else the message. */
static const char *ask(const char *path, const char *condition)
{
    static char said[EXPECT_ERROR_BYTES];
    expect_clause clause;
    cJSON *root = cJSON_Parse(sample);
    said[0] = '\0';
    cr_assert_not_null(root);
    cr_assert_eq(expect_parse(path, condition, &clause, said), EEP_OK, "%s", said);
    if (expect_met(&clause, root, said)) {
        said[0] = '\0';
    } else {
        cr_assert_neq(said[0], '\0');
    }
    cJSON_Delete(root);
    return said;
}

Test(expect, what_holds_is_met)
{
    static const char *const met[][2] = {
        {"good", "true"},
        {"tokens_wrong", "0"},
        {"tokens_wrong", "== 0"},
        {"tokens_wrong", "-1..0"},
        {"device", "host"},
        {"device", "!= cuda"},
        {"nothing", "null"},
        {"faults[1].pause_ms", "null"},
        {"faults[0].pause_ms", "!= null"},
        {"faults[0].pause_ms", "<= 80"},
        {"faults[0].pause_ms", "<81"},
        {"faults[0].pause_ms", ">= 80"},
        {"faults[0].pause_ms", "> 79.5"},
        {"faults[0].pause_ms", "2..80"},
        {"faults.length", "2"},
        {"faults[*].kind", "kill"},
        {"joins[*].joined", "true"},
        {"none.length", "0"},
        {"steps.max", "9"},
        {"rate", "2.5"},
    };
    for (size_t i = 0; i < sizeof met / sizeof met[0]; i++) {
        cr_expect_str_eq(ask(met[i][0], met[i][1]), "", "%s: %s", met[i][0], met[i][1]);
    }
}

Test(expect, a_miss_names_path_condition_and_value)
{
    static const char *const missed[][3] = {
        {"good", "false", "good: expected 'false', found true"},
        {"tokens_wrong", "> 0", "tokens_wrong: expected '> 0', found 0"},
        {"tokens_wrong", "null", "tokens_wrong: expected 'null', found 0"},
        {"tokens_wrong", "1..5", "tokens_wrong: expected '1..5', found 0"},
        {"nothing", "<= 5", "nothing: expected '<= 5', found null"},
        {"nothing", "0", "nothing: expected '0', found null"},
        {"device", "cuda", "device: expected 'cuda', found \"host\""},
        {"faults[*].pause_ms", "<= 100", "faults[1].pause_ms: expected '<= 100', found null"},
        {"faults[0].pause_ms", "< 80", "faults[0].pause_ms: expected '< 80', found 80"},
        {"faults[2].kind", "kill", "faults[2].kind: expected 'kill', found no such value"},
        {"none[*].joined", "true", "none[*].joined: expected 'true', found no such value"},
        {"tokens_wron", "0", "found no such value"},
        {"tokens_wron", "!= 0", "found no such value"},
        {"good.length", "1", "found no such value"},
        {"joins.joined", "true", "found no such value"},
        {"steps", "5", "steps: expected '5', found {\"p50\":4,\"max\":9}"},
    };
    for (size_t i = 0; i < sizeof missed / sizeof missed[0]; i++) {
        const char *said = ask(missed[i][0], missed[i][1]);
        cr_expect(*said && strstr(said, missed[i][2]), "%s: %s said '%s'", missed[i][0],
                  missed[i][1], said);
    }
}

Test(expect, what_is_no_condition_is_refused)
{
    static const char *const bad[][2] = {
        {"", "0"},       {"a.", "0"},       {".a", "0"},   {"a[", "0"},     {"a[]", "0"},
        {"a[x]", "0"},   {"a[-1]", "0"},    {"a[*", "0"},  {"a b", "0"},    {"a[999999999]", "0"},
        {"a..b", "0"},   {"a", ""},         {"a", "<="},   {"a", "< many"}, {"a", "> null"},
        {"a", "5..2"},   {"a", "=> 5"},     {"a", "<> 5"}, {"a", "< 0x10"}, {"a", ">= nan"},
        {"a", "<= inf"}, {"a", "<= 1e999"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        expect_clause clause;
        char error[EXPECT_ERROR_BYTES] = "";
        cr_expect_eq(expect_parse(bad[i][0], bad[i][1], &clause, error), EEP_ERR_INVALID,
                     "taken: '%s' '%s'", bad[i][0], bad[i][1]);
        cr_expect_neq(error[0], '\0');
    }
}

Test(expect, no_text_breaks_it)
{
    static const char letters[] = "faults[*].length0123456789<>=!.. -+eE_pause_ms[]";
    cJSON *root = cJSON_Parse(sample);
    uint64_t state = 7;
    int taken = 0;
    for (int i = 0; i < 20000; i++) {
        char path[2 * EXPECT_MAX_TEXT] = "", condition[2 * EXPECT_MAX_TEXT] = "";
        char error[EXPECT_ERROR_BYTES];
        size_t lengths[2] = {random_next(&state) % (i % 50 ? 8 : sizeof path),
                             random_next(&state) % (i % 50 ? 8 : sizeof condition)};
        for (size_t c = 0; c < lengths[0]; c++) {
            path[c] = letters[random_next(&state) % (sizeof letters - 1)];
        }
        for (size_t c = 0; c < lengths[1]; c++) {
            condition[c] = letters[random_next(&state) % (sizeof letters - 1)];
        }
        path[lengths[0] ? lengths[0] - 1 : 0] = '\0';
        condition[lengths[1] ? lengths[1] - 1 : 0] = '\0';
        expect_clause clause;
        if (expect_parse(path, condition, &clause, error) == EEP_OK) {
            taken++;
            (void)expect_met(&clause, root, error);
        }
    }
    cr_assert_gt(taken, 50, "the texts are not like conditions: %d taken", taken);
    cJSON_Delete(root);
}
