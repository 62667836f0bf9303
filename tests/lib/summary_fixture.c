/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/summary_fixture.h"

#include "membership/view/view.h"

#include <criterion/criterion.h>

static const uint64_t MS = 1000000, START = 5000000000;

uint64_t at(double ms)
{
    return START + (uint64_t)(ms * (double)MS);
}

void view(record *run, double ms, uint64_t epoch, int phase, int dead)
{
    record_view *added = record_add_view(run);
    cr_assert_not_null(added);
    added->time_ns = at(ms);
    added->epoch = epoch;
    added->phase = phase;
    for (int s = 0; s < RANKS; s++) {
        added->generation[s] = s == dead ? 0 : 1;
    }
}

void step(record *run, double begin, double end, int seat, uint64_t epoch, int positions)
{
    row_step row = {.time_ns = at(end + LAG),
                    .begin_ns = at(begin),
                    .end_ns = at(end),
                    .seat = seat,
                    .generation = 1,
                    .epoch = epoch,
                    .positions = (uint32_t)positions};
    rows_add_step(&run->rows, &row);
}

void token(record *run, double ms, int seat, uint32_t request, uint64_t epoch)
{
    row_token row = {.time_ns = at(ms + LAG),
                     .made_ns = at(ms),
                     .seat = seat,
                     .generation = 1,
                     .request = request,
                     .epoch = epoch};
    rows_add_token(&run->rows, &row);
}

void event(record *run, double ms, const char *kind, int seat, int about, uint64_t epoch,
           uint64_t value)
{
    row_event row = {.time_ns = at(ms),
                     .kind = kind,
                     .seat = seat,
                     .generation = 1,
                     .about_seat = about,
                     .about_generation = 1,
                     .epoch = epoch,
                     .value = value};
    rows_add_event(&run->rows, &row);
}

record history(void)
{
    record run = {
        .max_ranks = RANKS, .start_ns = START, .load_end_ns = at(3000), .end_ns = at(4000)};
    for (int s = 0; s < RANKS; s++) {
        record_process *process = record_add_process(&run);
        process->seat = s;
        process->generation = 1;
        process->joined_ns = at(-10);
        process->counters.window_bytes = 1000 + (uint64_t)s;
    }
    view(&run, -20, 1, EEPI_VIEW_SERVING, -1);
    run.processes[2].kill_ns = at(1000);
    record_fault *fault = record_add_fault(&run, 2);
    fault->process = 2;
    fault->kind = "kill";
    fault->time_ns = fault->since_ns = at(1000);
    fault->survivors[0] = (record_survivor){0, 1, 2, 7};
    fault->survivors[1] = (record_survivor){1, 1, 0, 0};
    fault->num_survivors = 2;
    event(&run, 1003, "suspected", 1, 2, 1, 0);
    event(&run, 1004, "suspected", 0, 2, 1, 0);
    return run;
}

summary compute(record *run)
{
    scheduler *front = NULL;
    summary out;
    cr_assert_eq(scheduler_open(RANKS, 4, 4, &front), EEP_OK);
    cr_assert_eq(summary_compute(run, front, &out), EEP_OK);
    scheduler_close(front);
    return out;
}
