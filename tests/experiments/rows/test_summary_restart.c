/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a full restart and of a join, and the time until tokens come as before, from a
 * history made by hand. */
#include "tests/lib/summary_fixture.h"

#include "experiments/rows/startup.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A process that was spawned then and is through with each part 10 ms after the one before. */
static record_process *start(record *run, int seat, double ms)
{
    record_process *process = record_add_process(run);
    process->seat = seat;
    process->generation = 2;
    process->cached = 0.25;
    process->spawn_ns = at(ms);
    process->startup = (record_startup){at(ms + 10), at(ms + 20), at(ms + 30), at(ms + 40)};
    process->ready_ns = at(ms + 45);
    process->joined_ns = at(ms + 50);
    return process;
}

static void new_token(record *run, double ms, int seat, uint32_t request, uint32_t position)
{
    row_token row = {.time_ns = at(ms),
                     .made_ns = at(ms),
                     .seat = seat,
                     .generation = 2,
                     .request = request,
                     .position = position,
                     .epoch = 2};
    rows_add_token(&run->rows, &row);
}

/* Rank 2 is killed at 1000 ms; its end is noticed at 1002; the last of the new processes, rank 1,
 * is spawned 5 ms later than the others. */
static record restarted(void)
{
    record run = history();
    record_restart *restart = record_add_restart(&run);
    *restart = (record_restart){.process = 2,
                                .noticed_ns = at(1002),
                                .ended_ns = at(1012),
                                .joined_ns = at(1070),
                                .first_process = run.num_processes,
                                .num_processes = RANKS,
                                .failed = {.num = 2, .first_retry = 40, .tokens = 9}};
    for (int seat = 0; seat < RANKS; seat++) {
        start(&run, seat, seat == 1 ? 1018 : 1013)->restarted = true;
    }
    return run;
}

Test(summary_restart, the_parts_end_with_the_last_rank_and_sum_to_the_pause)
{
    record run = restarted();
    new_token(&run, 1080, 0, 7, 3);
    new_token(&run, 1090, 1, 40, 0);
    new_token(&run, 1095, 1, 41, 0);
    new_token(&run, 1099, 1, 41, 1);
    summary out = compute(&run);
    cr_assert_eq(out.num_restarts, 1);
    const summary_restart *restart = &out.restarts[0];
    static const double parts[RESTART_PARTS] = {2, 10, 16, 10, 10, 10, 10, 12};
    double sum = 0;
    for (int part = 0; part < RESTART_PARTS; part++) {
        cr_expect_float_eq(restart->part_ms[part], parts[part], 1e-6, "%s: %g",
                           restart_part_names[part], restart->part_ms[part]);
        sum += restart->part_ms[part];
    }
    cr_expect(restart->served && restart->seat == 2);
    cr_expect_float_eq(restart->pause_ms, 80, 1e-6);
    cr_expect_float_eq(sum, 80, 1e-6);
    cr_expect_float_eq(restart->prefill_ms, 15, 1e-6);
    cr_expect_float_eq(restart->cached, 0.25, 1e-6);
    cr_expect(restart->requests_failed == 2 && restart->tokens_discarded == 9);
    summary_free(&out);
    record_free(&run);
}

Test(summary_restart, without_a_token_no_time_is_claimed)
{
    record run = restarted();
    token(&run, 1080, 0, 40, 2); /* of the first process in the seat */
    summary out = compute(&run);
    cr_expect_not(out.restarts[0].served);
    cr_expect_lt(out.restarts[0].prefill_ms, 0);
    cJSON *root = cJSON_CreateObject();
    summary_restart_add(root, out.restarts, out.num_restarts);
    const cJSON *one = cJSON_GetArrayItem(cJSON_GetObjectItem(root, "restarts"), 0);
    cr_expect(cJSON_IsNull(cJSON_GetObjectItem(one, "pause_ms")));
    cr_expect(cJSON_IsNull(cJSON_GetObjectItem(one, "load_ms")));
    cr_expect_str_eq(cJSON_GetObjectItem(one, "requests_failed")->valuestring, "2"); /* raw */
    cJSON_Delete(root);
    summary_free(&out);
    record_free(&run);
}

Test(summary_restart, a_rank_that_says_late_that_it_is_in_the_view_takes_no_time_twice)
{
    record run = restarted();
    new_token(&run, 1060, 0, 40, 0);
    summary out = compute(&run);
    const summary_restart *restart = &out.restarts[0];
    cr_expect_float_eq(restart->pause_ms, 60, 1e-6);
    cr_expect_float_eq(restart->part_ms[RESTART_ENTER], 2, 1e-6);
    cr_expect_float_eq(restart->part_ms[RESTART_TOKEN], 0, 1e-6);
    summary_free(&out);
    record_free(&run);
}

Test(summary_restart, a_join_has_the_same_parts)
{
    record run = history();
    start(&run, 2, 1500)->rejoin = true;
    record_process *young = record_add_process(&run); /* it never prepared itself */
    young->seat = 1;
    young->rejoin = true;
    young->spawn_ns = at(2000);
    summary out = compute(&run);
    cr_assert_eq(out.num_joins, 2);
    const summary_join *join = &out.joins[0];
    cr_expect(join->prepared);
    const double parts[] = {join->spawn_ms, join->open_ms, join->load_ms, join->capture_ms,
                            join->enter_ms};
    for (int i = 0; i < 5; i++) {
        cr_expect_float_eq(parts[i], 10, 1e-6, "part %d: %g", i, parts[i]);
    }
    cr_expect_not(out.joins[1].prepared);
    summary_free(&out);
    record_free(&run);
}

/* Tokens come every `gap_ms` from `begin_ms` to `end_ms`. */
static void tokens(record *run, double begin_ms, double end_ms, double gap_ms)
{
    for (double ms = begin_ms; ms < end_ms; ms += gap_ms) {
        new_token(run, ms + gap_ms / 2, 0, 1, 1);
    }
}

Test(summary_restart, tokens_are_back_when_as_many_come_as_before)
{
    record run = history(); /* the fault is at 1000 ms */
    tokens(&run, 0, 1000, 1);
    tokens(&run, 1400, 1600, 2);
    tokens(&run, 1600, 3000, 1);
    summary out = compute(&run);
    cr_expect_float_eq(out.throughput_before, 1000, 1e-6);
    /* 475 in 500 ms: 26 of those at 1549, 1551, ... and 449 of those at 1600.5, 1601.5, ... */
    cr_expect_float_eq(out.back_ms, 549, 1e-6, "%g", out.back_ms);
    summary_free(&out);
    record_free(&run);
}

Test(summary_restart, tokens_that_stay_away_are_not_back)
{
    record run = history();
    tokens(&run, 0, 1000, 1);
    tokens(&run, 1100, 3000, 2);
    summary out = compute(&run);
    cr_expect_lt(out.back_ms, 0);
    summary_free(&out);
    record_free(&run);
}

Test(summary_restart, every_process_has_a_row_and_what_did_not_come_is_empty)
{
    char dir[] = "/tmp/eep-test-startup-XXXXXX", path[64], text[2048] = "";
    record run = history();
    start(&run, 2, 1500)->rejoin = true;
    run.processes[0].cached = -1;
    row_step row = {.begin_ns = at(1550), .end_ns = at(1560), .seat = 2, .generation = 2};
    rows_add_step(&run.rows, &row); /* without positions */
    row.end_ns = at(1570);
    row.positions = 1;
    rows_add_step(&run.rows, &row);
    new_token(&run, 1580, 2, 1, 0);
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/startup.csv", dir);
    cr_assert_eq(startup_write(&run, "checkpoint", dir), EEP_OK);
    FILE *file = fopen(path, "re");
    cr_assert_not_null(file);
    cr_assert_gt(fread(text, 1, sizeof text - 1, file), 0);
    fclose(file);
    unlink(path);
    rmdir(dir);
    cr_expect(strstr(text, "\n0,1,first,checkpoint,,"), "%s", text);
    cr_expect(strstr(text, "\n2,2,join,checkpoint,0.250,1500.000,1510.000,1520.000,1530.000,"
                           "1540.000,1545.000,1550.000,1570.000,1580.000\n"),
              "%s", text);
    record_free(&run);
}
