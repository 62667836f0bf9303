/* SPDX-License-Identifier: Apache-2.0 */
/* The trace for Perfetto has every row, none before zero, and a name for every track. */
#include "experiments/rows/run_rows.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t START = 5000000000;

static const char *text_of(const cJSON *item, const char *name)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(item, name));
    return text ? text : "";
}

static double number_of(const cJSON *item, const char *name)
{
    const cJSON *number = cJSON_GetObjectItem(item, name);
    cr_assert(cJSON_IsNumber(number), "no %s in %s", name, cJSON_PrintUnformatted(item));
    return number->valuedouble;
}

/* There is a name of that kind for the item's process and track (tid of a process name: any). */
static bool is_named(const cJSON *all, const cJSON *item, const char *kind, bool by_track)
{
    const cJSON *other = NULL;
    cJSON_ArrayForEach(other, all)
    {
        if (strcmp(text_of(other, "name"), kind) == 0 &&
            number_of(other, "pid") == number_of(item, "pid") &&
            (!by_track || number_of(other, "tid") == number_of(item, "tid"))) {
            return true;
        }
    }
    return false;
}

static cJSON *traced(const rows *all)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    cr_assert_not_null(file);
    rows_trace(all, file, START);
    fclose(file);
    cJSON *root = cJSON_Parse(text);
    cr_assert_not_null(root, "%s", text);
    free(text);
    return root;
}

Test(rows, the_trace_has_every_row_and_names_every_track)
{
    rows all = {0};
    for (int i = 0; i < 40; i++) {
        row_step step = {.begin_ns = START + (uint64_t)i * 1000,
                         .end_ns = START + (uint64_t)i * 1000 + 900,
                         .seat = i % 4,
                         .generation = 1 + (uint32_t)(i / 20)};
        row_event event = {.time_ns = START - 3000000 + (uint64_t)i * 100000,
                           .kind = i % 5 ? "installed" : "view",
                           .seat = i % 5 ? i % 4 : -1,
                           .generation = i % 5 ? (uint32_t)(i % 3) : 0};
        rows_add_step(&all, &step);
        rows_add_event(&all, &event);
    }
    cJSON *root = traced(&all);
    const cJSON *events = cJSON_GetObjectItem(root, "traceEvents"), *item = NULL;
    size_t num_steps = 0, num_events = 0;
    cJSON_ArrayForEach(item, events)
    {
        const char *phase = text_of(item, "ph");
        num_steps += strcmp(phase, "X") == 0;
        num_events += strcmp(phase, "i") == 0 && strcmp(text_of(item, "cat"), "event") == 0;
        if (strcmp(phase, "M") != 0) {
            cr_expect_geq(number_of(item, "ts"), 0);
            cr_expect_geq(number_of(item, "pid"), 1);
            cr_expect(is_named(events, item, "process_name", false));
            cr_expect(is_named(events, item, "thread_name", true));
        }
    }
    cr_expect_eq(num_steps, all.num_steps);
    cr_expect_eq(num_events, all.num_events);
    cr_expect_str_eq(text_of(cJSON_GetObjectItem(root, "otherData"), "serving_starts_us"),
                     "3000.000");
    cJSON_Delete(root);
    rows_free(&all);
}

Test(rows, a_trace_without_rows_is_one)
{
    rows all = {0};
    cJSON *root = traced(&all);
    cr_expect_eq(cJSON_GetArraySize(cJSON_GetObjectItem(root, "traceEvents")), 1);
    cJSON_Delete(root);
}
