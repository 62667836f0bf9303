/* SPDX-License-Identifier: Apache-2.0 */
/* What a run says about how it was made. */
#include "experiments/rows/about.h"

#include "experiments/base/machine_facts.h"
#include "experiments/base/monotonic.h"
#include "experiments/rows/run_rows.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static options given_by(int num, char **argument)
{
    options given;
    char error[OPTIONS_ERROR_BYTES];
    options_set_defaults(&given);
    cr_assert_eq(options_take(&given, num, argument, error), EEP_OK, "%s", error);
    cr_assert_eq(options_check(&given, error), EEP_OK, "%s", error);
    return given;
}

Test(about, a_command_is_quoted_for_a_shell)
{
    char *words[] = {"eep-run", "--out", "a b", "--kill", "1@2", "it's", "", "x;y"};
    char *text = about_command(8, words);
    cr_expect_str_eq(text, "eep-run --out 'a b' --kill 1@2 'it'\\''s' '' 'x;y'");
    free(text);
}

Test(about, rows_begin_with_three_comment_lines)
{
    options given = given_by(2, (char *[]){"--seed", "7"});
    given.command = "eep-run --out 'a\nb'";
    char *head = about_head(&given), *second = strchr(head, '\n');
    cr_expect_eq(strncmp(head, "# commit ", 9), 0);
    cr_expect_str_eq(second, "\n# seed 7\n# command eep-run --out 'a?b'\n", "%s", head);
    char dir[] = "/tmp/eep-about-XXXXXX", path[64], line[64] = "";
    cr_assert(mkdtemp(dir));
    rows all = {.head = head};
    FILE *file = rows_create(&all, dir, "x.csv");
    cr_assert(file && fclose(file) == 0);
    snprintf(path, sizeof path, "%s/x.csv", dir);
    file = fopen(path, "r");
    cr_expect(fgets(line, sizeof line, file) && strncmp(line, head, strlen(line)) == 0, "%s", line);
    fclose(file);
    unlink(path);
    rmdir(dir);
    rows_free(&all);
    options_free(&given);
}

static double number_at(const cJSON *root, const char *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(cJSON_GetObjectItem(root, object), name);
    cr_assert(cJSON_IsNumber(item), "%s.%s", object, name);
    return item->valuedouble;
}

Test(about, the_summary_says_how_the_run_was_made)
{
    char *words[] = {"--hidden",   "128", "--rate",         "2.5", "--input", "3:9",
                     "--expel-ms", "700", "--no-kill-fence"};
    options given = given_by(9, words);
    cJSON *made = cJSON_CreateObject();
    given.command = "eep-run";
    given.scenario_path = "s.yaml";
    given.scenario_name = "kill";
    about_to_json(made, &given, now_ns() - 5000000000);
    char *json = cJSON_PrintUnformatted(made);
    cJSON *root = cJSON_Parse(json); /* as a reader gets it */
    free(json);
    cJSON_Delete(made);
    cr_expect_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(root, "command")), "eep-run");
    const cJSON *scenario = cJSON_GetObjectItem(root, "scenario");
    cr_expect_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(scenario, "name")), "kill");
    cr_expect_eq(number_at(root, "model", "hidden"), 128);
    cr_expect_eq(number_at(root, "model", "requests_per_rank"), 8, "the last of the sizes");
    cr_expect_eq(number_at(root, "load", "rate_per_s"), 2.5);
    cr_expect_eq(
        cJSON_GetArrayItem(cJSON_GetObjectItem(cJSON_GetObjectItem(root, "load"), "input"), 1)
            ->valueint,
        9);
    cr_expect_eq(number_at(root, "limits", "expel_ms"), 700);
    cr_expect(
        cJSON_IsFalse(cJSON_GetObjectItem(cJSON_GetObjectItem(root, "limits"), "kill_fence")));
    cr_expect_gt(number_at(root, "machine", "memory_bytes"), 1e6);
    cr_expect_geq(number_at(root, "machine", "cores"), 1);
    struct tm start = {0};
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(root, "started_at"));
    cr_assert(text && strptime(text, "%Y-%m-%dT%H:%M:%S", &start), "%s", text ? text : "none");
    const double ago = difftime(time(NULL), timegm(&start));
    cr_expect(ago >= 4 && ago <= 30, "%s is %g s ago", text, ago);
    cJSON_Delete(root);
    options_free(&given);
}

Test(about, a_machine_has_a_kernel_and_memory)
{
    const machine_facts facts = machine_facts_now();
    cr_expect_eq(strncmp(facts.kernel, "Linux ", 6), 0, "%s", facts.kernel);
    cr_expect(facts.num_cores >= 1 && facts.memory_bytes > 0);
}
