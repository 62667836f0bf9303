/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics of faults: pauses and their parts, whose fault an end was, what was copied. */
#include "tests/lib/summary_fixture.h"

#include "experiments/rank/rank.h"
#include "experiments/rows/summary_fault.h"
#include "membership/view/view.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

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

/* The proposer had lost its processor when its answer came. */
Test(summary, a_view_was_committed_when_the_first_member_had_installed_it)
{
    record run = history();
    event(&run, 1009, "installed", 1, -1, 2, 0);
    event(&run, 1015, "proposed", 0, -1, 2, EEPI_VIEW_SERVING);
    view(&run, 1012, 2, EEPI_VIEW_SERVING, 2);
    token(&run, 1040, 0, 7, 2);
    summary out = compute(&run);
    cr_assert_float_eq(out.faults[0].agree_ms, 6, 1e-6, "%g", out.faults[0].agree_ms);
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

/* Rank 2 is stopped at 500 ms, goes on, and is expelled at 1012 ms for what nobody did to it. The
 * launcher learns of that with the view, a little after it. */
Test(summary, a_stop_that_ended_in_time_is_not_blamed_for_a_later_expulsion)
{
    record run = history();
    record_fault *expelled = record_add_fault(&run, 2);
    record_survivor *survivors = expelled->survivors;
    memcpy(survivors, run.faults[0].survivors, 2 * sizeof *survivors);
    *expelled = run.faults[0];
    expelled->survivors = survivors;
    expelled->kind = "expelled";
    expelled->time_ns = expelled->since_ns = at(1013);
    record_fault *stop = &run.faults[0];
    stop->kind = "stop";
    stop->time_ns = stop->since_ns = at(500);
    step(&run, 980, 990, 2, 1, 1);
    view(&run, 1012, 2, EEPI_VIEW_SERVING, 2);
    event(&run, 1011, "installed", 1, -1, 2, 0);
    token(&run, 1040, 0, 7, 2);
    summary out = compute(&run);
    cr_assert_not(out.faults[0].expelled);
    cr_assert_not(out.faults[0].healed);
    cr_assert_eq(out.faults[0].detections.num, 0);
    cr_assert(out.faults[1].expelled && out.faults[1].healed);
    cr_assert_float_eq(out.faults[1].pause_ms, 37, 1e-6);
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
    zombie->expelled_injected = true;
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

/* Rows of sources count at the fault in whose pause they came; what came behind, at none. */
Test(summary, sources_of_weights_count_at_the_fault_that_asked_for_them)
{
    record run = history();
    row_source row = {.time_ns = run.start_ns + 1020 * 1000000ull, .seat = 1};
    event(&run, 1010, "proposed", 0, -1, 2, EEPI_VIEW_SERVING);
    view(&run, 1012, 2, EEPI_VIEW_SERVING, 2);
    event(&run, 1080, "installed", 1, -1, 2, 0);
    token(&run, 1040, 0, 7, 2);
    const eep_counters counters = {.struct_bytes = sizeof counters,
                                   .fills_node_backup = 2,
                                   .fills_own_backup = 1,
                                   .weights_bytes_own_node = 3000,
                                   .weights_bytes_own_backup = 1000,
                                   .experts_reused = 9};
    const source_mix mix = source_mix_of(&counters);
    rows_add_sources(&run.rows, &row, &mix);
    row.behind = true;
    rows_add_sources(&run.rows, &row, &mix);
    cr_assert_eq(run.rows.num_sources, 6, "a row for each source that brought something");
    summary out = compute(&run);
    const source_mix *found = &out.faults[0].sources;
    cr_assert(out.faults[0].healed);
    cr_expect_eq(found->fills[SOURCE_LOCAL_REUSE], 9);
    cr_expect(found->fills[SOURCE_OWN_BACKUP] == 1 && found->bytes[SOURCE_OWN_BACKUP] == 1000);
    cr_expect(found->fills[SOURCE_NODE_BACKUP] == 2 && found->bytes[SOURCE_NODE_BACKUP] == 2000);
    cr_expect_eq(found->fills[SOURCE_LIVE_REPLICA], 0);
    summary_free(&out);
    record_free(&run);
}
