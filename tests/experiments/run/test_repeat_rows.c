/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers over many runs: they are those of the summaries, no more and no less. */
#include "experiments/run/repeat_rows.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(repeat_rows *all, int64_t run, const char *text)
{
    cJSON *root = cJSON_Parse(text);
    cr_assert_not_null(root);
    repeat_run_row row = {.run = run, .seed = 100 + run, .seconds = 2, .met = run != 2};
    cr_assert_eq(repeat_rows_add(all, row, root), EEP_OK);
    cJSON_Delete(root);
}

static double number(const cJSON *root, const char *field, const char *name)
{
    const cJSON *statistics = cJSON_GetObjectItem(root, "statistics");
    const cJSON *one = cJSON_GetObjectItem(cJSON_GetObjectItem(statistics, field), name);
    cr_assert_not_null(one, "%s.%s", field, name);
    return one->valuedouble;
}

Test(repeat_rows, statistics_are_over_all_entries_of_all_runs)
{
    repeat_rows all = {0};
    add(&all, 1,
        "{\"faults\": [{\"pause_ms\": 80}, {\"pause_ms\": null}, {\"pause_ms\": 20}],"
        " \"tokens_wrong\": 0}");
    add(&all, 2, "{\"faults\": [{\"pause_ms\": 50}], \"tokens_wrong\": 3}");
    cr_assert_eq(repeat_rows_add(&all, (repeat_run_row){.run = 3, .seed = 103}, NULL), EEP_OK);
    cJSON *root = repeat_rows_json(&all);
    cr_assert_not_null(root);
    cr_assert_float_eq(number(root, "faults[*].pause_ms", "n"), 3, 0);
    cr_assert_float_eq(number(root, "faults[*].pause_ms", "min"), 20, 0);
    cr_assert_float_eq(number(root, "faults[*].pause_ms", "p50"), 50, 0);
    cr_assert_float_eq(number(root, "faults[*].pause_ms", "max"), 80, 0);
    cr_assert_float_eq(number(root, "tokens_wrong", "max"), 3, 0);
    cr_assert_null(cJSON_GetObjectItem(cJSON_GetObjectItem(root, "statistics"), "joins[*].join_ms"),
                   "a field without values is left out");
    const cJSON *runs = cJSON_GetObjectItem(root, "runs");
    cr_assert_eq(cJSON_GetArraySize(runs), 3);
    cr_assert(cJSON_IsFalse(cJSON_GetObjectItem(cJSON_GetArrayItem(runs, 1), "met")));
    cJSON_Delete(root);
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    repeat_rows_csv(&all, file);
    repeat_rows_print(&all, file);
    fclose(file);
    cr_assert(strstr(text, "run,seed,field,place,value\n1,101,faults[*].pause_ms,"
                           "faults[0].pause_ms,80\n"),
              "%s", text);
    cr_assert(strstr(text, "2,102,tokens_wrong,tokens_wrong,3\n"), "%s", text);
    free(text);
    repeat_rows_free(&all);
}

/* A double prints them with 15 digits: another seed. */
Test(repeat_rows, large_numbers_are_printed_in_full)
{
    repeat_rows all = {0};
    repeat_run_row row = {.run = 1000000000000001, .seed = 9007199254740991};
    cr_assert_eq(repeat_rows_add(&all, row, NULL), EEP_OK);
    cJSON *root = repeat_rows_json(&all);
    char *text = cJSON_PrintUnformatted(root);
    cr_assert(strstr(text, "\"run\":1000000000000001,\"seed\":9007199254740991,"), "%s", text);
    cJSON_free(text);
    cJSON_Delete(root);
    repeat_rows_free(&all);
}

Test(repeat_rows, it_grows)
{
    repeat_rows all = {0};
    for (int run = 1; run <= 300; run++) {
        add(&all, run, "{\"tokens_wrong\": 0, \"duration_ms\": 5, \"step_ms\": {\"p50\": 1}}");
    }
    cr_assert_eq(all.num_runs, 300);
    cr_assert_eq(all.num_values, 900);
    repeat_rows_free(&all);
}
