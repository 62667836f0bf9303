/* SPDX-License-Identifier: Apache-2.0 */
/* The membership core: properties and histories, on a cluster in virtual time. Each test runs over
 * many seeds, which draw all delays; EEP_TEST_SEED replays one. */
#include "tests/lib/core/core_histories.h"

/* ------------------------------------------------------------------ the first view */

Test(core, the_first_view_forms_once)
{
    FOR_SEEDS(&covered, c)
    {
        expect_serving(c, 4);
        EXPECT(c, c->num_committed == 1 && c->view->epoch == 1 && num_wedges(c) == 0);
    }
}

/* ------------------------------------------------------------------ agreement */

/* A crash, a repair, a join and a leave, one after the other. */
static void live_through_much(cluster *c)
{
    cluster_crash(c, (int)cluster_random(c, 4));
    expect_serving(c, 4);
    cluster_start(c, 5);
    EXPECT(c, cluster_until(c, has_five, 3 * SECOND));
    expect_serving(c, 5);
    cluster_crash(c, 4);
    expect_serving(c, 4);
}

Test(core, S1_agreement_who_serves_an_epoch_serves_the_same_bytes)
{
    FOR_SEEDS(&wide, c)
    {
        live_through_much(c);
        for (int i = 0; i < c->num_processes; i++) {
            const cluster_process *p = &c->process[i];
            if (p->alive && !p->over) {
                EXPECT(c, p->live && p->live->epoch == c->view->epoch &&
                              p->live->digest == c->view->digest);
            }
        }
    }
}

Test(core, S2_epochs_only_grow_and_keep_their_bytes)
{
    FOR_SEEDS(&wide, c)
    {
        uint64_t first = c->committed[1]->digest;
        live_through_much(c);
        EXPECT(c, c->committed[1]->digest == first && c->num_committed >= 4);
        const eepi_view *before = c->committed[1];
        for (int i = 2; i < CLUSTER_MAX_EPOCHS; i++) {
            if (!c->committed[i]) { /* epochs leap where somebody is left out alive */
                continue;
            }
            EXPECT(c, c->committed[i]->epoch == (uint64_t)i);
            EXPECT(c, c->committed[i]->base_digest == before->digest);
            before = c->committed[i];
        }
    }
}

/* ------------------------------------------------------------------ faults */

Test(core, one_crash_with_replicas_is_one_commit_and_no_fill)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_crash(c, (int)cluster_random(c, 4));
        expect_serving(c, 3);
        EXPECT(c, c->num_committed == 2 && c->view->phase == EEPI_VIEW_SERVING);
        for (int i = 0; i < c->num_processes; i++) {
            EXPECT(c, c->process[i].num_fills == 0);
        }
    }
}

Test(core, the_lowest_seat_crashes)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_crash(c, 0);
        expect_serving(c, 3);
        EXPECT(c, c->num_committed == 2);
    }
}

Test(core, the_proposer_crashes_right_after_its_commit)
{
    FOR_SEEDS(&wide, c)
    {
        c->disturbed_epoch = 2;
        c->disturbance = 3;
        cluster_crash(c, 4);
        expect_serving(c, 3);
        EXPECT(c, !cluster_at(c, 0)->alive || !cluster_at(c, 1)->alive);
    }
}

Test(core, S7_coverage_is_restored_before_anybody_steps)
{
    FOR_SEEDS(&tight, c)
    {
        cluster_crash(c, 1);
        expect_serving(c, 3);
        EXPECT(c, c->num_committed == 3 && c->view->cause == EEPI_VIEW_REPAIRED);
    }
}

/* Nobody has a backup, and ranks 0 and 2 can read the file. */
Test(core, S7_the_file_restores_coverage_where_a_member_can_read_it)
{
    cluster_options bare = tight;

    bare.backups = 0;
    bare.checkpoints = 1;
    FOR_SEEDS(&bare, c)
    {
        cluster_crash(c, 1);
        expect_serving(c, 3);
        EXPECT(c, c->num_committed == 3 && c->view->cause == EEPI_VIEW_REPAIRED);
    }
}

/* The file of one of them proves bad: the plan is void, and the other one's is read. */
Test(core, R2_a_bad_file_voids_the_plan)
{
    cluster_options bare = tight;

    bare.backups = 0;
    bare.num_slots++; /* rank 2 has a slot to spare, too */
    bare.checkpoints = bare.bad_reads = 1;
    FOR_SEEDS(&bare, c)
    {
        cluster_crash(c, 1);
        expect_serving(c, 3);
        EXPECT(c, c->num_committed == 4 && c->options.bad_reads == 0);
    }
}

/* The same where only the rank with the bad file has a slot to give: the other one reads for it. */
Test(core, R2_a_file_is_read_for_a_rank_that_has_none)
{
    cluster_options bare = tight;

    bare.backups = 0;
    bare.checkpoints = bare.bad_reads = 1;
    FOR_SEEDS(&bare, c)
    {
        cluster_crash(c, 1);
        expect_serving(c, 3);
        EXPECT(c, c->num_committed == 4 && c->options.bad_reads == 0);
    }
}

/* Its own fill has ended, from another file, and others still fill: the plan is not void. */
Test(core, R2_who_has_filled_takes_its_claim_back_in_peace)
{
    cluster_options bare = tight;

    bare.backups = 0;
    bare.num_slots++;
    bare.num_experts += 2; /* ranks 0 and 2 fill a slot each */
    bare.checkpoints = bare.late_bad_reads = 1;
    FOR_SEEDS(&bare, c)
    {
        cluster_at(c, 2)->fill_delay_us = 100000;
        cluster_crash(c, 1);
        expect_serving(c, 3);
        EXPECT(c, c->num_committed == 3 && c->options.late_bad_reads == 0);
    }
}

/* Both are bad: nobody serves until a process brings what is missing. */
Test(core, R2_bad_files_fail_closed_and_a_joiner_heals)
{
    cluster_options bare = tight;

    bare.backups = 0;
    bare.checkpoints = 1;
    bare.bad_reads = 2;
    FOR_SEEDS(&bare, c)
    {
        cluster_crash(c, 1);
        EXPECT(c, cluster_until(c, has_failed_closed, 3 * SECOND));
        EXPECT(c, !cluster_is_serving(c));
        cluster_start(c, 1);
        expect_serving(c, 4);
    }
}

Test(core, S7_fails_closed_when_slots_cannot_cover)
{
    cluster_options bare = tight;

    bare.backups = 0;
    FOR_SEEDS(&bare, c)
    {
        cluster_crash(c, 1);
        cluster_crash(c, 2);
        EXPECT(c, cluster_until(c, has_failed_closed, 3 * SECOND));
        cluster_run(c, SECOND);
        EXPECT(c, c->num_committed <= 2 && !cluster_is_serving(c));
    }
}

Test(core, R2_a_joiner_brings_what_nobody_has)
{
    cluster_options bare = tight;

    bare.backups = 0;
    FOR_SEEDS(&bare, c)
    {
        cluster_crash(c, 1);
        cluster_crash(c, 2);
        EXPECT(c, cluster_until(c, has_failed_closed, 3 * SECOND));
        cluster_start(c, 1);
        cluster_start(c, 2);
        expect_serving(c, 4);
    }
}

Test(core, two_crashes_that_uncover_are_repaired)
{
    FOR_SEEDS(&wide, c)
    {
        cluster_crash(c, 1);
        cluster_run(c, cluster_random(c, 30000));
        cluster_crash(c, 2);
        expect_serving(c, 3);
    }
}

Test(core, L3_a_crash_during_repairing_repairs_again)
{
    FOR_SEEDS(&wide, c)
    {
        int victim = 2 + (int)cluster_random(c, 2); /* a source or a receiver, or neither */
        for (int seat = 0; seat < 5; seat++) {
            cluster_at(c, seat)->fill_delay_us = 50000;
        }
        cluster_crash(c, 0);
        cluster_crash(c, 1);
        if (!cluster_until(c, is_repairing, SECOND)) {
            continue;
        }
        cluster_run(c, cluster_random(c, 40000));
        cluster_crash(c, victim);
        expect_serving(c, 2);
        EXPECT(c, c->view->cause == EEPI_VIEW_REPAIRED);
    }
}

/* ------------------------------------------------------------------ joins and leaves */

Test(core, a_new_generation_joins_and_no_healthy_rank_stops)
{
    FOR_SEEDS(&covered, c)
    {
        int wedges, aborted;
        cluster_crash(c, 2);
        expect_serving(c, 3);
        wedges = num_wedges(c);
        aborted = num_aborted(c);
        cluster_start(c, 2);
        EXPECT(c, cluster_until(c, has_four, SECOND));
        expect_serving(c, 4);
        EXPECT(c, c->view->cause == EEPI_VIEW_PLANNED && num_wedges(c) == wedges);
        EXPECT(c, num_aborted(c) == aborted);
    }
}

Test(core, L4_a_joiner_that_dies_before_its_ack_delays_nobody)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_process *joiner = &c->process[cluster_start(c, 4)];
        joiner->holds_acks = 1;
        cluster_run(c, cluster_random(c, 100000));
        cluster_crash(c, 4);
        expect_serving(c, 4);
        EXPECT(c, num_wedges(c) == 0 && c->num_committed == 1);
        cluster_start(c, 4);
        EXPECT(c, cluster_until(c, has_five, 2 * SECOND));
        expect_serving(c, 5);
    }
}

/* Nor another joiner that is in the same plan: its end is known long before the plan lapses. */
Test(core, L4_a_joiner_that_dies_before_its_ack_delays_no_other)
{
    FOR_SEEDS(&covered, c)
    {
        uint64_t from_us;
        c->process[cluster_start(c, 4)].holds_acks = 1;
        cluster_start(c, 5);
        cluster_run(c, 60000); /* by then both are in one plan, if their records came in time */
        cluster_crash(c, 4);
        from_us = c->now_us;
        EXPECT(c, cluster_until(c, has_five, SECOND));
        EXPECT(c, c->now_us - from_us < 120000);
        expect_serving(c, 5);
        EXPECT(c, num_wedges(c) == 0);
    }
}

Test(core, L4_a_joiner_that_hangs_does_not_keep_others_out)
{
    FOR_SEEDS(&covered, c)
    {
        c->process[cluster_start(c, 4)].holds_acks = 1;
        cluster_run(c, cluster_random(c, 100000));
        cluster_start(c, 5);
        EXPECT(c, cluster_until(c, has_five, 3 * SECOND));
        cluster_at(c, 4)->holds_acks = 0;
        EXPECT(c, cluster_until(c, has_six, 3 * SECOND));
        expect_serving(c, 6);
        EXPECT(c, num_wedges(c) == 0);
    }
}

Test(core, a_joiner_that_dies_around_the_commit_is_expelled)
{
    FOR_SEEDS(&covered, c)
    {
        c->process[cluster_start(c, 4)].die_at_ack_us = 1 + cluster_random(c, 12000);
        cluster_run(c, SECOND);
        expect_serving(c, 4);
        EXPECT(c, !cluster_at(c, 4)->alive);
    }
}

Test(core, a_rank_leaves_when_asked)
{
    FOR_SEEDS(&covered, c)
    {
        int seat = (int)cluster_random(c, 4);
        cluster_leave(c, seat);
        EXPECT(c, cluster_until(c, cluster_is_serving, SECOND));
        cluster_run(c, 2 * SECOND);
        expect_serving(c, 3);
        EXPECT(c, num_wedges(c) == 0 && c->num_committed == 2);
        EXPECT(c, cluster_at(c, seat)->over);
        cluster_start(c, seat);
        EXPECT(c, cluster_until(c, has_four, 2 * SECOND));
        expect_serving(c, 4);
    }
}

static int all_over(cluster *c)
{
    for (int seat = 0; seat < 4; seat++) {
        if (!cluster_at(c, seat)->over) {
            return 0;
        }
    }
    return 1;
}

static int num_fault_views(const cluster *c)
{
    int num = 0;

    for (int epoch = 0; epoch < CLUSTER_MAX_EPOCHS; epoch++) {
        num += c->committed[epoch] && c->committed[epoch]->cause == EEPI_VIEW_FAULT;
    }
    return num;
}

/* The last one's leave ends the instance: no view without coverage, nobody is expelled, and all who
 * left are told so. Then new processes begin another one, with weights of their own. */
Test(core, M8_all_leave_and_the_instance_ends_in_order)
{
    FOR_SEEDS(&covered, c)
    {
        for (int seat = 0; seat < 4; seat++) {
            cluster_leave(c, seat);
            cluster_run(c, cluster_random(c, 300000));
        }
        EXPECT(c, cluster_until(c, all_over, 3 * SECOND));
        /* one may see that another has ended before it reads that all have left: it wedges */
        EXPECT(c, num_fault_views(c) == 0);
        EXPECT(c, eepi_view_num_active(c->view) == 0 && c->view->cause == EEPI_VIEW_PLANNED);
        for (int seat = 0; seat < 4; seat++) {
            cluster_crash(c, seat);
        }
        for (int seat = 0; seat < 4; seat++) {
            cluster_start(c, seat);
        }
        EXPECT(c, cluster_until(c, has_four, 3 * SECOND));
        expect_serving(c, 4);
    }
}

Test(core, a_rank_that_nobody_can_spare_stays)
{
    FOR_SEEDS(&tight, c)
    {
        cluster_leave(c, 1);
        expect_serving(c, 4);
        EXPECT(c, c->num_committed == 2);
        EXPECT(c, eepi_view_seat_at(c->view, 1)->state == EEP_SEAT_RETIRING);
    }
}

/* ------------------------------------------------------------------ evidence */

Test(core, M5_evidence_that_is_cancelled_before_the_report_expels_nobody)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_evidence(c, 1, 3, EEP_FAULT_SILENT);
        cluster_evidence(c, 1, 3, -1);
        expect_serving(c, 4);
    }
}

Test(core, M5_evidence_that_is_cancelled_after_the_report_expels_nobody)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_at(c, 2)->stuck_until_us = c->now_us + 60000; /* its drain holds the commit back */
        cluster_evidence(c, 1, 3, EEP_FAULT_SILENT);
        cluster_run(c, 25000);
        EXPECT(c, cluster_at(c, 1)->promised == 1);
        cluster_evidence(c, 1, 3, -1);
        expect_serving(c, 4);
    }
}

Test(core, L5_a_stop_shorter_than_the_limit_expels_nobody)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_stop(c, (int)cluster_random(c, 4), 90000);
        expect_serving(c, 4);
        EXPECT(c, num_wedges(c) == 0);
    }
}

Test(core, S4_self_exclusion_of_a_rank_that_was_stopped_too_long)
{
    FOR_SEEDS(&covered, c)
    {
        int seat = (int)cluster_random(c, 4);
        cluster_stop(c, seat, SECOND);
        expect_serving(c, 3);
        EXPECT(c, !cluster_at(c, seat)->alive); /* killed before the commit */
    }
}

Test(core, M2_killing_precedes_the_commit)
{
    FOR_SEEDS(&covered, c)
    {
        int kills = 0;
        cluster_stop(c, 2, CLUSTER_FOREVER - c->now_us);
        EXPECT(c, cluster_until(c, is_wedged, SECOND));
        EXPECT(c, cluster_until(c, is_at_epoch_2, SECOND));
        EXPECT(c, !cluster_at(c, 2)->alive);
        for (int i = 0; i < c->num_processes; i++) {
            kills += (int)c->process[i].num_kills;
        }
        EXPECT(c, kills >= 1);
    }
}

static int is_past_epoch_1(cluster *c)
{
    return c->view->epoch > 1;
}

/* A thread of the killer's own process cannot be killed. It hears what is said of it and would
 * propose to stay, in its turn, if the others waited for its end. */
Test(core, M2_nobody_waits_for_the_end_of_one_that_cannot_be_killed)
{
    FOR_SEEDS(&covered, c)
    {
        uint64_t from_us;
        cluster_at(c, 2)->unkillable = 1;
        from_us = c->now_us;
        for (int seat = 0; seat < 4; seat++) {
            if (seat != 2) {
                cluster_evidence(c, seat, 2, EEP_FAULT_DEADLINE);
            }
        }
        EXPECT(c, cluster_until(c, is_past_epoch_1, SECOND));
        EXPECT(c, c->now_us - from_us < 100000);
        EXPECT(c, !eepi_view_is_member(c->view, 2));
        EXPECT(c, cluster_at(c, 2)->alive);
        expect_serving(c, 3);
    }
}

/* A rank that was killed once in a seat says nothing of the next process there. */
Test(core, M2_a_second_generation_of_a_seat_is_killed_too)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_stop(c, 2, CLUSTER_FOREVER - c->now_us);
        expect_serving(c, 3);
        cluster_start(c, 2);
        EXPECT(c, cluster_until(c, has_four, SECOND));
        expect_serving(c, 4);
        cluster_stop(c, 2, CLUSTER_FOREVER - c->now_us);
        expect_serving(c, 3);
        EXPECT(c, !cluster_at(c, 2)->alive);
    }
}

Test(core, M2_a_rank_that_never_drains_is_at_epoch_2_out)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_at(c, 1)->stuck_until_us = CLUSTER_FOREVER;
        cluster_run(c, 5000);
        cluster_crash(c, 3);
        EXPECT(c, cluster_until(c, is_wedged, SECOND));
        cluster_run(c, 2 * SECOND);
        if (!c->num_uncovered) {
            expect_serving(c, 2);
        }
    }
}

/* The drain bound is for the others: whoever drained slowly itself must not count it from then. */
Test(core, M2_a_slow_drain_of_ones_own_leaves_nobody_out)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_at(c, 0)->stuck_until_us = c->now_us + 140000;
        for (int seat = 1; seat < 3; seat++) {
            cluster_at(c, seat)->stuck_until_us = c->now_us + 1000;
        }
        cluster_evidence(c, 0, 3, EEP_FAULT_DEVICE);
        expect_serving(c, 3);
    }
}

Test(core, M5_the_first_missed_deadline_stops_nobody_and_the_second_expels)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_at(c, 3)->stuck_until_us = c->now_us + 150000;
        cluster_run(c, 140000);
        EXPECT(c, num_wedges(c) == 0 && num_aborted(c) >= 3);
        expect_serving(c, 4);
        EXPECT(c, num_wedges(c) == 0);
        cluster_at(c, 3)->stuck_until_us = CLUSTER_FOREVER;
        expect_serving(c, 3);
        EXPECT(c, eepi_view_is_member(c->view, 3) == 0);
    }
}

/* ------------------------------------------------------------------ the register */

Test(core, M4_a_commit_without_an_answer_is_read_before_the_next)
{
    FOR_SEEDS(&covered, c)
    {
        c->disturbed_epoch = 2;
        c->disturbance = 1 + (int)(seed & 1);
        cluster_crash(c, 3);
        expect_serving(c, 3);
        EXPECT(c, c->num_committed == 2);
    }
}

Test(core, an_emptied_register_is_written_again)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_crash(c, 3);
        expect_serving(c, 3);
        cluster_restart_store(c);
        EXPECT(c, !c->view);
        expect_serving(c, 3);
        EXPECT(c, c->view->epoch == 2 && c->num_committed == 2);
        cluster_crash(c, 2);
        EXPECT(c, cluster_until(c, has_failed_closed, 3 * SECOND) || cluster_is_serving(c));
        cluster_run(c, SECOND);
    }
}
