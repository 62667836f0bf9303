/* The statistics of a run, from a history made by hand whose answers are known. */
#include "experiments/rank.h"
#include "experiments/summary.h"
#include "experiments/summary_events.h"
#include "experiments/summary_fault.h"
#include "membership/view.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { RANKS = 3, LAG = 300 }; /* ms that the launcher takes to read what a rank says */
static const uint64_t MS = 1000000, START = 5000000000;

static uint64_t at(double ms)
{
    return START + (uint64_t)(ms * (double)MS);
}

static void view(record *run, double ms, uint64_t epoch, int phase, int dead)
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

static void step(record *run, double begin, double end, int seat, uint64_t epoch, int positions)
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

static void token(record *run, double ms, int seat, uint32_t request, uint64_t epoch)
{
    row_token row = {.time_ns = at(ms + LAG),
                     .made_ns = at(ms),
                     .seat = seat,
                     .generation = 1,
                     .request = request,
                     .epoch = epoch};
    rows_add_token(&run->rows, &row);
}

static void event(record *run, double ms, const char *kind, int seat, int about, uint64_t epoch,
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

/* Three ranks serve; rank 2 is killed at 1000 ms. */
static record history(void)
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

static summary compute(record *run)
{
    scheduler *front = NULL;
    summary out;
    cr_assert_eq(scheduler_open(RANKS, 4, 4, &front), EEP_OK);
    cr_assert_eq(summary_compute(run, front, &out), EEP_OK);
    scheduler_close(front);
    return out;
}

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

Test(summary, a_pause_and_its_parts)
{
    record run = history();
    event(&run, 1010, "proposed", 0, -1, 2, EEPI_VIEW_SERVING);
    view(&run, 1012, 2, EEPI_VIEW_SERVING, 2);
    token(&run, 1002, 0, 7, 1); /* the step in flight under the old view */
    event(&run, 1011, "installed", 1, -1, 2, 0);
    step(&run, 1500, 1530, 1, 2, 4); /* it had no work before */
    token(&run, 1040, 0, 7, 2);
    token(&run, 1060, 0, 7, 2);
    summary out = compute(&run);
    cr_assert_eq(out.num_faults, 1);
    const summary_fault *fault = &out.faults[0];
    cr_assert(fault->healed && fault->suspected);
    cr_assert_float_eq(fault->detect_ms, 3, 1e-6);
    cr_assert_float_eq(fault->agree_ms, 7, 1e-6);
    cr_assert_float_eq(fault->repair_ms, 0, 1e-6);
    cr_assert_float_eq(fault->rerun_ms, 30, 1e-6);
    cr_assert_float_eq(fault->pause_ms, 40, 1e-6, "by the clocks of the ranks");
    cr_assert_float_eq(fault->launcher_lag_ms, LAG, 1e-6);
    cr_assert_float_eq(out.launcher_lag_ms.max, LAG, 1e-6);
    cr_assert_eq(fault->epoch, 2);
    cr_assert_eq(fault->num_survivors, 2);
    cr_assert_eq(out.window_bytes, 1002);
    summary_free(&out);
    record_free(&run);
}

Test(summary, a_repair_is_its_own_part)
{
    record run = history();
    event(&run, 1010, "proposed", 0, -1, 2, EEPI_VIEW_REPAIRING);
    view(&run, 1012, 2, EEPI_VIEW_REPAIRING, 2);
    event(&run, 1020, "repaired", 1, -1, 2, 4096);
    event(&run, 1025, "proposed", 0, -1, 3, EEPI_VIEW_SERVING);
    view(&run, 1026, 3, EEPI_VIEW_SERVING, 2);
    event(&run, 1080, "installed", 1, -1, 3, 0);
    token(&run, 1040, 0, 7, 3);
    summary out = compute(&run);
    const summary_fault *fault = &out.faults[0];
    cr_assert_float_eq(fault->repair_ms, 15, 1e-6);
    cr_assert_float_eq(fault->pause_ms, 80, 1e-6,
                       "an idle survivor counts when the view is installed on it");
    cr_assert_float_eq(fault->detect_ms + fault->agree_ms + fault->repair_ms + fault->rerun_ms,
                       fault->pause_ms, 1e-6);
    cr_assert_eq(fault->weights_bytes_in_pause, 4096);
    summary_free(&out);
    record_free(&run);
}

Test(summary, a_request_that_ended_under_the_old_view_is_not_waited_for)
{
    record run = history();
    view(&run, 1012, 2, EEPI_VIEW_SERVING, 2);
    token(&run, 1002, 0, 7, 1);      /* its last one */
    step(&run, 1013, 1035, 0, 2, 6); /* prefill of others */
    token(&run, 1900, 0, 8, 2);
    summary out = compute(&run);
    cr_assert_float_eq(out.faults[0].pause_ms, 35, 1e-6);
    cr_assert_float_eq(out.faults[0].agree_ms, 9, 1e-6, "no proposer told: the launcher's time");
    summary_free(&out);
    record_free(&run);
}

Test(summary, a_proposer_that_tells_late_does_not_move_the_commit)
{
    record run = history();
    view(&run, 1012, 2, EEPI_VIEW_SERVING, 2);
    event(&run, 1015, "proposed", 0, -1, 2, EEPI_VIEW_SERVING);
    token(&run, 1040, 0, 7, 2);
    summary out = compute(&run);
    cr_assert_float_eq(out.faults[0].agree_ms, 9, 1e-6, "%g: the launcher had seen the view",
                       out.faults[0].agree_ms);
    summary_free(&out);
    record_free(&run);
}

Test(summary, a_fault_without_a_view_after_it_has_no_pause)
{
    record run = history();
    summary out = compute(&run);
    cr_assert_eq(out.num_faults, 1);
    cr_assert_not(out.faults[0].healed);
    summary_free(&out);
    record_free(&run);
}

Test(summary, each_survivor_knows_at_its_own_time)
{
    record run = history();
    event(&run, 1007, "suspected", 1, 2, 1, 0); /* its second: not its first */
    event(&run, 1001, "suspected", 1, 0, 1, 0); /* about another */
    view(&run, 1012, 2, EEPI_VIEW_REPAIRING, 2);
    summary out = compute(&run);
    const summary_fault *fault = &out.faults[0];
    cr_assert(fault->expelled);
    cr_assert_not(fault->healed, "nobody serves under it");
    cr_assert_eq(fault->detections.num, 2);
    cr_assert_float_eq(fault->detections.p50, 3, 1e-6);
    cr_assert_float_eq(fault->detections.max, 4, 1e-6);
    cr_assert_eq(out.detection_kill_ms.num, 2);
    cr_assert_eq(out.detection_stop_ms.num, 0);
    summary_free(&out);
    record_free(&run);
}

Test(summary, a_stop_that_ended_in_time_is_not_blamed_for_a_later_kill)
{
    record run = history();
    record_fault *stop = record_add_fault(&run, 2); /* moves the kill behind it */
    record_fault kill = run.faults[0];
    run.faults[0] = *stop;
    run.faults[1] = kill;
    stop = &run.faults[0];
    stop->process = 2;
    stop->kind = "stop";
    stop->time_ns = stop->since_ns = at(500);
    stop->survivors[0] = (record_survivor){0, 1, 2, 7};
    stop->num_survivors = 1;
    view(&run, 1012, 2, EEPI_VIEW_SERVING, 2);
    token(&run, 1040, 0, 7, 2);
    summary out = compute(&run);
    cr_assert_not(out.faults[0].expelled);
    cr_assert_not(out.faults[0].healed);
    cr_assert_eq(out.faults[0].detections.num, 0);
    cr_assert(out.faults[1].expelled && out.faults[1].healed);
    summary_free(&out);
    record_free(&run);
}

/* Survivors may commit the view without it before the launcher has seen its end. */
Test(summary, a_stop_that_ended_in_time_is_not_blamed_for_an_ordered_death)
{
    record run = history();
    record_fault *stop = record_add_fault(&run, 2);
    record_fault die = run.faults[0];
    run.faults[0] = *stop;
    die.kind = "die";
    die.since_ns = at(1000); /* it was told to */
    die.time_ns = at(1013);
    run.faults[1] = die;
    stop = &run.faults[0];
    stop->process = 2;
    stop->kind = "stop";
    stop->time_ns = stop->since_ns = at(500);
    view(&run, 1012, 2, EEPI_VIEW_SERVING, 2);
    token(&run, 1040, 0, 7, 2);
    summary out = compute(&run);
    cr_assert_not(out.faults[0].expelled);
    cr_assert(out.faults[1].expelled && out.faults[1].healed);
    summary_free(&out);
    record_free(&run);
}

Test(summary, a_crash_while_leaving_is_not_a_clean_leave)
{
    record run = history();
    run.processes[2].kill_ns = 0;
    run.processes[2].drain_ns = at(900);
    view(&run, 1100, 2, EEPI_VIEW_SERVING, 2);
    run.faults[0].kind = "exit";
    for (size_t i = 1; i < run.num_views; i++) {
        run.views[i].cause = EEPI_VIEW_PLANNED;
    }
    cr_expect_not(summary_fault_measure(&run, &run.faults[0]).expelled);
    for (size_t i = 1; i < run.num_views; i++) {
        run.views[i].cause = EEPI_VIEW_FAULT;
    }
    cr_expect(summary_fault_measure(&run, &run.faults[0]).expelled);
    record_free(&run);
}

/* A fault of another rank, while the process of one that left as asked still ends. */
Test(summary, who_left_as_asked_is_not_expelled_by_the_next_view)
{
    record run = history();
    record_process *leaver = &run.processes[1];
    leaver->drain_ns = at(900);
    cr_assert_eq(record_see_view(leaver, &run.views[0]), RECORD_CAME);
    cr_assert_not(record_left_as_asked(leaver), "it is in it yet");
    view(&run, 950, 2, EEPI_VIEW_SERVING, 1);
    run.views[1].cause = EEPI_VIEW_PLANNED;
    cr_assert_eq(record_see_view(leaver, &run.views[1]), RECORD_LEFT);
    view(&run, 1012, 3, EEPI_VIEW_SERVING, 1);
    run.views[2].cause = EEPI_VIEW_FAULT;
    cr_assert_eq(record_see_view(leaver, &run.views[2]), RECORD_SAME);
    cr_assert(record_left_as_asked(leaver));
    record_process crashed = {.seat = 1, .generation = 1, .drain_ns = at(900)};
    cr_assert_eq(record_see_view(&crashed, &run.views[0]), RECORD_CAME);
    cr_assert_eq(record_see_view(&crashed, &run.views[2]), RECORD_LEFT);
    cr_assert_not(record_left_as_asked(&crashed), "it crashed on its way out");
    record_free(&run);
}

Test(summary, expelled_while_it_lived)
{
    record run = history();
    run.processes[0].expelled_ns = at(1200); /* for no reason */
    run.processes[1].fenced = true;          /* the same, with the fence */
    event(&run, 1100, "suspected", 0, 1, 1, EEP_FAULT_SILENT);
    record_process *zombie = record_add_process(&run);
    zombie->seat = 2;
    zombie->generation = 2;
    zombie->stop_ns = at(1000);
    zombie->expelled_ns = at(2000);
    zombie->expelled_struck = true;
    zombie->exit_ns = at(3000);
    zombie->exit_status = RANK_EXIT_EVICTED << 8;
    summary out = compute(&run);
    cr_assert_eq(out.expelled_living, 2);
    cr_assert_eq(out.zombies_evicted, 1);
    summary_free(&out);
    record_free(&run);
}

/* The view without rank 2 at 1012 ms, its two survivors going on at 1040 ms at the latest. */
static void heal(record *run)
{
    view(run, 1012, 2, EEPI_VIEW_SERVING, 2);
    event(run, 1011, "installed", 1, -1, 2, 0);
    token(run, 1040, 0, 7, 2);
}

Test(summary, a_rank_that_did_not_serve_yet_makes_nobody_wait)
{
    record run = history();
    run.processes[2].joined_ns = 0;
    heal(&run);
    summary out = compute(&run);
    cr_assert(out.faults[0].expelled);
    cr_assert_not(out.faults[0].served || out.faults[0].healed);
    summary_free(&out);
    step(&run, 990, 995, 0, 1, 1); /* others serve under a view with it: they may wait for it */
    out = compute(&run);
    cr_assert(out.faults[0].served && out.faults[0].healed);
    summary_free(&out);
    record_free(&run);
}

/* Ended by SIGKILL at 1000 ms, as the launcher saw at 1030 ms. */
static record ended_by(uint64_t first_evidence)
{
    record run = history();
    run.processes[2].kill_ns = 0;
    run.processes[2].fenced = true;
    run.processes[2].exit_ns = at(1030);
    run.processes[2].exit_status = SIGKILL;
    run.faults[0].kind = "exit";
    run.faults[0].time_ns = run.faults[0].since_ns = at(1030);
    for (size_t i = 0; i < run.rows.num_events; i++) {
        run.rows.events[i].value = first_evidence;
    }
    step(&run, 980, 990, 2, 1, 1);
    heal(&run);
    return run;
}

Test(summary, a_kill_from_outside_is_a_fault_of_its_own_kind)
{
    record run = ended_by(EEP_FAULT_EXIT);
    summary out = compute(&run);
    cr_assert_str_eq(out.faults[0].kind, "killed");
    cr_assert_eq(out.faults[0].signal, SIGKILL);
    cr_assert_eq(out.killed_outside, 1);
    cr_assert_eq(out.expelled_living, 0);
    cr_assert_float_eq(out.faults[0].time_ms, 1003, 1e-6, "a survivor knew before the launcher");
    cr_assert_float_eq(out.faults[0].pause_ms, 37, 1e-6);
    summary_free(&out);
    record_free(&run);
}

Test(summary, a_rank_that_peers_ended_was_expelled_while_it_lived)
{
    record run = ended_by(EEP_FAULT_DEADLINE);
    summary out = compute(&run);
    cr_assert_str_eq(out.faults[0].kind, "expelled");
    cr_assert_eq(out.killed_outside, 0);
    cr_assert_eq(out.expelled_living, 1);
    summary_free(&out);
    record_free(&run);
}

Test(summary, the_pause_for_a_slow_rank_is_the_stall_of_those_that_waited)
{
    record run = ended_by(EEP_FAULT_DEADLINE);
    run.processes[2].fenced = false; /* a verb was the reason */
    run.processes[2].slow_ns = at(500);
    run.faults[0].kind = "slow";
    row_step aborted[] = {{.begin_ns = at(100), .end_ns = at(110), .status = EEP_ERR_ABORTED},
                          {.begin_ns = at(111), .end_ns = at(120), .status = EEP_OK},
                          {.begin_ns = at(121), .end_ns = at(999), .status = EEP_ERR_ABORTED},
                          {.begin_ns = at(1000), .end_ns = at(1020), .status = EEP_ERR_ABORTED}};
    for (size_t i = 0; i < sizeof aborted / sizeof aborted[0]; i++) {
        aborted[i].generation = 1;
        aborted[i].epoch = 1;
        aborted[i].time_ns = aborted[i].end_ns;
        rows_add_step(&run.rows, &aborted[i]);
    }
    summary out = compute(&run);
    cr_assert_str_eq(out.faults[0].kind, "slow");
    cr_assert_eq(out.expelled_living, 0);
    cr_assert_float_eq(out.faults[0].time_ms, 121, 1e-6, "from the step that did not end");
    cr_assert_float_eq(out.faults[0].pause_ms, 1040 - 121, 1e-6);
    cr_assert_float_eq(out.faults[0].detect_ms, 1003 - 121, 1e-6);
    summary_free(&out);
    record_free(&run);
}

Test(summary, faults_of_one_moment_share_the_bytes_that_were_copied)
{
    record run = history();
    record_fault *second = record_add_fault(&run, 2);
    second->process = 1;
    second->kind = "kill";
    second->time_ns = second->since_ns = at(1000.1);
    second->survivors[0] = (record_survivor){0, 1, 2, 7};
    second->num_survivors = 1;
    run.faults[0].num_survivors = 1;
    view(&run, 1012, 2, EEPI_VIEW_REPAIRING, 2);
    run.views[run.num_views - 1].generation[1] = 0;
    event(&run, 1020, "repaired", 0, -1, 2, 4096);
    view(&run, 1026, 3, EEPI_VIEW_SERVING, 2);
    run.views[run.num_views - 1].generation[1] = 0;
    token(&run, 1040, 0, 7, 3);
    summary out = compute(&run);
    cr_assert(out.faults[0].healed && out.faults[1].healed);
    cr_assert(out.faults[0].epoch == 3 && out.faults[1].epoch == 3);
    cr_assert_eq(out.faults[0].weights_bytes_in_pause, 4096);
    cr_assert_eq(out.faults[1].weights_bytes_in_pause, 0, "each byte was copied once");
    summary_free(&out);
    record_free(&run);
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
        {.event = {.done = true, .num_seats = 1, .seats_done = 1, .seats_struck = 1}},
        {.event = {.done = true, .num_seats = 2, .seats_done = 3, .seats_struck = 2}},
        {.event = {.done = true, .num_seats = 1, .seats_done = 1, .struck_ms = -1}},
        {.event = {.when = WHEN_STATE, .struck_ms = -1}},
        {.event = {.struck_ms = -1}, .was_due = true},
        {.event = {.done = true, .withdrawn = true, .struck_ms = -1}},
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
