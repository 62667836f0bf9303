/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics of a run as a whole, from a history made by hand whose answers are known. */
#include "tests/lib/summary_fixture.h"

#include "experiments/rows/summary_events.h"
#include "membership/view/view.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

Test(summary, quantiles_are_by_nearest_rank)
{
    double values[200];
    for (int i = 0; i < 200; i++) {
        values[i] = 200 - i;
    }
    summary_quantiles q = summary_quantiles_of(values, 200);
    cr_assert_eq(q.p50, 100);
    cr_assert_eq(q.p99, 198);
    cr_assert_eq(q.max, 200);
    cr_assert_eq(summary_quantiles_of(values, 1).p50, 1);
    cr_assert_eq(summary_quantiles_of(values, 0).max, 0);
}

Test(summary, throughput_before_degraded_and_after)
{
    record run = history();
    record_process *back = record_add_process(&run);
    back->seat = 2;
    back->generation = 2;
    back->rejoin = true;
    back->captures_at_join = 1;
    back->spawn_ns = at(1500);
    back->ready_ns = at(1700);
    back->joined_ns = at(2000);
    view(&run, 1012, 2, EEPI_VIEW_SERVING, 2);
    for (int ms = 0; ms < 4000; ms++) {
        int every = ms < 1000 ? 1 : ms < 2000 ? 4 : 2;
        if (ms % every == 0) {
            token(&run, ms + 0.5 - LAG, 0, 1, 1); /* accepted at ms + 0.5 */
        }
    }
    step(&run, 1600, 1620, 0, 2, 1);
    row_step own = {.time_ns = at(2600),
                    .begin_ns = at(2500),
                    .end_ns = at(2590),
                    .seat = 2,
                    .generation = 2,
                    .epoch = 2,
                    .positions = 1};
    rows_add_step(&run.rows, &own);
    row_token made = {.time_ns = at(2600), .made_ns = at(2588), .seat = 2, .generation = 2};
    rows_add_token(&run.rows, &made);
    own.begin_ns = at(3600);
    own.end_ns = at(3620);
    own.status = EEP_ERR_ABORTED;
    own.positions = 5;
    rows_add_step(&run.rows, &own);
    step(&run, 2600, 2610, 0, 2, 1);
    step(&run, 3001, 3500, 0, 2, 1); /* later than a second after the join */
    summary out = compute(&run);
    cr_assert_float_eq(out.throughput_before, 1000, 1e-6);
    cr_assert_float_eq(out.throughput_degraded, 250, 1e-6);
    cr_assert_float_eq(out.throughput_after, 500, 1e-6);
    cr_assert_eq(out.num_joins, 1);
    cr_assert_float_eq(out.joins[0].prepare_ms, 200, 1e-6);
    cr_assert_float_eq(out.joins[0].join_ms, 500, 1e-6);
    cr_assert_float_eq(out.joins[0].first_step_ms, 1000, 1e-6);
    cr_assert_float_eq(out.joins[0].first_token_ms, 1088, 1e-6);
    cr_assert_eq(out.positions_aborted, 5);
    cr_assert_float_eq(out.joins[0].longest_healthy_step_ms, 20, 1e-6);
    cr_assert_eq(out.captures_joining, 1);
    cr_assert_eq(out.captures_healthy, 0);
    summary_free(&out);
    record_free(&run);
}

/* A token each millisecond, and none from 800 to 900 ms. */
static void tokens_around_a_stall(record *run)
{
    for (int ms = 0; ms < 4000; ms++) {
        if (ms < 800 || ms >= 900) {
            token(run, ms + 0.5 - LAG, 0, 1, 1);
        }
    }
}

Test(summary, what_stalls_without_expelling_ends_the_time_before)
{
    record run = history();
    record_fault *stop = record_add_fault(&run, 1);
    stop->process = 1;
    stop->kind = "stop";
    stop->time_ns = stop->since_ns = at(800);
    run.processes[1].stop_ns = at(800);
    run.processes[1].cont_ns = at(900);
    tokens_around_a_stall(&run);
    summary out = compute(&run);
    cr_assert_float_eq(out.throughput_before, 1000, 1e-6, "%g", out.throughput_before);
    summary_free(&out);
    record_free(&run);

    run = history();
    event(&run, 800, "slow", 1, 1, 0, 4000);
    tokens_around_a_stall(&run);
    out = compute(&run);
    cr_assert_float_eq(out.throughput_before, 1000, 1e-6, "%g", out.throughput_before);
    summary_free(&out);
    record_free(&run);
}

Test(summary, who_never_had_a_seat_served_nobody)
{
    record run = history();
    record_process *young = record_add_process(&run);
    young->seat = 2;
    young->rejoin = true;
    young->spawn_ns = at(1500);
    young->kill_ns = at(1501);
    view(&run, 1012, 2, EEPI_VIEW_SERVING, 2); /* generation 0 in seat 2: nobody */
    step(&run, 1100, 1110, 0, 2, 1);
    record_fault *fault = record_add_fault(&run, 1);
    fault->process = 3;
    fault->kind = "kill";
    fault->time_ns = fault->since_ns = at(1501);
    view(&run, 1600, 3, EEPI_VIEW_SERVING, -1);
    summary out = compute(&run);
    cr_assert_not(out.faults[1].served);
    cr_assert_not(out.faults[1].expelled);
    summary_free(&out);
    record_free(&run);
}

Test(summary, what_did_not_happen_is_null)
{
    char dir[] = "/tmp/eep-test-summary-XXXXXX", path[64], text[8192] = "";
    cr_assert_not_null(mkdtemp(dir));
    options how = {.device = "host"};
    summary self = {.joins = &(summary_join){.seat = 2, .time_ms = 7},
                    .num_joins = 1,
                    .broken = true,
                    .broken_why = "it was cut off"};
    cr_assert_eq(summary_write(&self, NULL, &how, dir), EEP_OK);
    snprintf(path, sizeof path, "%s/summary.json", dir);
    FILE *file = fopen(path, "re");
    cr_assert_not_null(file);
    cr_assert_gt(fread(text, 1, sizeof text - 1, file), 0);
    fclose(file);
    unlink(path);
    rmdir(dir);
    static const char *const says[] = {"\"prepare_ms\":\tnull", "\"join_ms\":\tnull",
                                       "\"median_step_ms\":\tnull", "\"p99\":\tnull",
                                       "\"reason\":\t\"it was cut off\""};
    for (size_t i = 0; i < sizeof says / sizeof says[0]; i++) {
        cr_expect(strstr(text, says[i]), "no %s in %s", says[i], text);
    }
}

Test(summary, what_came_of_the_script_is_counted)
{
    record_event events[] = {
        {.event = {.progress.done = true,
                   .num_seats = 1,
                   .progress.seats_done = 1,
                   .progress.seats_applied = 1}},
        {.event = {.progress.done = true,
                   .num_seats = 2,
                   .progress.seats_done = 3,
                   .progress.seats_applied = 2}},
        {.event = {.progress.done = true,
                   .num_seats = 1,
                   .progress.seats_done = 1,
                   .progress.applied_ms = -1}},
        {.event = {.when = WHEN_STATE, .progress.applied_ms = -1}},
        {.event = {.progress.applied_ms = -1}, .was_due = true},
        {.event = {.progress.done = true, .progress.withdrawn = true, .progress.applied_ms = -1}},
    };
    static const char *const outcomes[] = {"done",      "done",    "struck nobody",
                                           "never due", "waiting", "withdrawn"};
    summary_events counts = summary_events_count(events, 6);
    cr_expect_eq(counts.struck_nobody, 1);
    cr_expect_eq(counts.passed_over, 2);
    cr_expect_eq(counts.never_due, 1);
    cr_expect_eq(counts.waiting, 1);
    cr_expect_eq(counts.withdrawn, 1);
    for (int i = 0; i < 6; i++) {
        cr_expect_str_eq(summary_events_outcome(&events[i]), outcomes[i]);
    }
    cJSON *root = cJSON_CreateObject();
    events[1].event.seat[0] = 5;
    events[1].event.seat[1] = 6;
    summary_events_add(root, events, 6, 0);
    const cJSON *list = cJSON_GetObjectItem(root, "events");
    cr_expect_eq(cJSON_GetArraySize(list), 6);
    const cJSON *second = cJSON_GetArrayItem(list, 1);
    const cJSON *struck = cJSON_GetArrayItem(cJSON_GetObjectItem(second, "ranks"), 0);
    const cJSON *over = cJSON_GetArrayItem(cJSON_GetObjectItem(second, "passed_over"), 0);
    cr_expect(struck && struck->valuedouble == 6);
    cr_expect(over && over->valuedouble == 5);
    cr_expect(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetArrayItem(list, 3), "time_ms")));
    cJSON_Delete(root);
}

/* A rank that was killed before it died as ordered has not died as ordered. */
Test(summary, an_order_that_a_kill_forestalled_is_open)
{
    record run = history();
    record_process *process = &run.processes[2];
    process->kill_ns = 0;
    process->die_ns = at(900);
    process->exit_ns = at(1000);
    run.end_ns = at(2000);
    cr_expect_eq(summary_events_orders_open(&run), 0, "it died by itself");
    process->kill_ns = at(1000);
    cr_expect_eq(summary_events_orders_open(&run), 1);
    record_free(&run);
}

Test(summary, what_is_good)
{
    summary self = {.requests = {.accepted = 3, .completed = 2, .failed = 1},
                    .rows_complete = true};
    summary_oracle oracle = {.ran = true, .tokens_checked = 5};
    cr_assert(summary_is_good(&self, &oracle));
    cr_assert(summary_is_good(&self, NULL));
    oracle.digests_wrong = 1;
    cr_assert_not(summary_is_good(&self, &oracle));
    oracle = (summary_oracle){0};
    cr_assert_not(summary_is_good(&self, &oracle), "it was asked and gave no answer");
    self.captures_healthy = 1;
    cr_assert_not(summary_is_good(&self, NULL));
    self.captures_healthy = 0;
    self.broken = true;
    cr_assert_not(summary_is_good(&self, NULL), "cut off");
    self.broken = false;
    self.requests.completed = 1;
    cr_assert_not(summary_is_good(&self, NULL), "a request is unaccounted for");
}
