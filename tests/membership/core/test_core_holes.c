/* SPDX-License-Identifier: Apache-2.0 */
/* Histories that broke the membership core once, and histories by chance. */
#include "tests/lib/core/core_histories.h"

/* ------------------------------------------------------------------ holes that were closed */

/* A watch tells of our own commit before the answer to it, and by then the draft is another one. */
Test(core_holes, S1_an_answer_that_comes_after_the_watch_changes_nothing)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_crash(c, 3);
        expect_serving(c, 3);
        for (int seat = 0; seat < 3; seat++) {
            EXPECT(c, eepi_core_view(cluster_at(c, seat)->core)->digest == c->view->digest);
        }
    }
}

/* All who run the old view leave and all who stay are new: nobody would start the first step. */
Test(core_holes, M8_a_planned_view_keeps_somebody_of_the_one_before)
{
    cluster_options small = covered;

    small.num_ranks = 2;
    small.num_slots = 8;
    FOR_SEEDS(&small, c)
    {
        cluster_crash(c, 0);
        expect_serving(c, 1);
        cluster_start(c, 0);
        cluster_start(c, 2);
        cluster_run(c, 20000); /* it knows that they come: else its leave ends the instance */
        cluster_leave(c, 1);
        EXPECT(c, cluster_until(c, cluster_is_serving, SECOND));
        cluster_run(c, 3 * SECOND);
        expect_serving(c, 2);
        EXPECT(c, !cluster_at(c, 1)->alive);
    }
}

/* It is out of the newest view, but the steps of those who have not switched need it. */
Test(core_holes, M10_a_leaving_rank_that_dies_before_the_flip_holds_up_nobody)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_leave(c, 2);
        EXPECT(c, cluster_until(c, is_at_epoch_2, SECOND));
        cluster_run(c, cluster_random(c, 10000));
        cluster_crash(c, 2);
        expect_serving(c, 3);
    }
}

/* A new process that takes the seat of a member that hangs, and ends at once, hides nothing. */
Test(core_holes, M5_evidence_of_a_newer_generation_hides_no_older_one)
{
    FOR_SEEDS(&covered, c)
    {
        eepi_suspect newer = {3, 2, EEP_FAULT_RESET};
        for (int seat = 0; seat < 3; seat++) {
            cluster_feed(c, seat, (eepi_input){.kind = EEPI_INPUT_EVIDENCE, .suspect = newer});
        }
        cluster_stop(c, 3, CLUSTER_FOREVER - c->now_us);
        expect_serving(c, 3);
    }
}

/* A missed deadline of the process before counts nothing against the next process of the seat. */
Test(core_holes, M5_a_missed_deadline_is_of_one_process)
{
    FOR_SEEDS(&covered, c)
    {
        int wedges;
        cluster_at(c, 3)->stuck_until_us = c->now_us + 150000;
        cluster_run(c, 200000);
        cluster_crash(c, 3);
        expect_serving(c, 3);
        cluster_start(c, 3);
        EXPECT(c, cluster_until(c, has_four, 2 * SECOND));
        expect_serving(c, 4);
        wedges = num_wedges(c);
        cluster_at(c, 3)->stuck_until_us = c->now_us + 150000;
        cluster_run(c, 200000);
        expect_serving(c, 4);
        EXPECT(c, num_wedges(c) == wedges);
    }
}

/* A zombie that nobody killed may store into the windows that it knew. Without a kill fence it
 * lives through whatever comes, and holds up no fault (P7). */
Test(core_holes, P7_without_a_kill_fence_a_zombie_holds_up_nobody)
{
    cluster_options options = wide;

    options.no_kill_fence = 1;
    FOR_SEEDS(&options, c)
    {
        cluster_stop(c, 4, CLUSTER_FOREVER - c->now_us);
        expect_serving(c, 4);
        for (int i = 0; i < 6; i++) {
            cluster_crash(c, 3);
            expect_serving(c, 3);
            if (cluster_random(c, 2)) {
                cluster_run(c, cluster_random(c, 300000)); /* a colour is renewed, or about to be */
            }
            cluster_start(c, 3);
            EXPECT(c, cluster_until(c, has_four, 2 * SECOND));
            expect_serving(c, 4);
        }
        EXPECT(c, cluster_at(c, 4)->alive && c->num_uncovered == 0);
        for (int i = 0; i < c->num_processes; i++) {
            EXPECT(c, c->process[i].num_kills == 0);
        }
    }
}

/* Nor does one that cannot be killed. */
Test(core_holes, P7_a_zombie_that_cannot_be_killed_holds_up_nobody)
{
    cluster_options options = wide;

    FOR_SEEDS(&options, c)
    {
        cluster_stop(c, 4, CLUSTER_FOREVER - c->now_us);
        cluster_at(c, 4)->unkillable = 1;
        expect_serving(c, 4);
        cluster_crash(c, 3);
        expect_serving(c, 3);
        EXPECT(c, c->num_uncovered == 0);
    }
}

/* More processes than ends are remembered die in a seat before they join: the end that counts, of
 * the one in the view, is not forgotten for theirs. */
Test(core_holes, M7_a_crash_loop_does_not_close_a_seat)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_crash(c, 3);
        expect_serving(c, 3);
        for (int i = 0; i < 20; i++) {
            cluster_start(c, 3);
            cluster_crash(c, 3);
            cluster_run(c, cluster_random(c, 40000));
        }
        cluster_start(c, 3);
        EXPECT(c, cluster_until(c, has_four, 2 * SECOND));
        expect_serving(c, 4);
    }
}

/* All processes end; new ones in the first seats begin the instance again, on the same register. */
Test(core_holes, L1_an_instance_whose_ranks_have_all_ended_begins_again)
{
    cluster_options grown = covered;

    grown.background = 1;
    FOR_SEEDS(&grown, c)
    {
        uint64_t epoch, step = 0;
        cluster_start(c, 5);
        EXPECT(c, cluster_until(c, has_five, 2 * SECOND));
        expect_serving(c, 5);
        for (int round = 0; round < 2; round++) {
            epoch = c->view->epoch;
            for (int i = 0; i < c->num_processes; i++) {
                step = c->process[i].stepper.step > step ? c->process[i].stepper.step : step;
            }
            for (int i = 0; i < c->num_processes; i++) {
                cluster_crash_process(c, i);
            }
            cluster_run(c, cluster_random(c, 100000));
            /* seat 5 is not started again: its end is seen from its record */
            for (int seat = 0; seat < 4; seat++) {
                cluster_start(c, seat);
            }
            for (int seat = 0; seat < 4; seat++) {
                cluster_feed(c, seat,
                             (eepi_input){.kind = EEPI_INPUT_MEMORY_GONE,
                                          .suspect = {5, 1, EEP_FAULT_EXIT}});
            }
            EXPECT(c, cluster_until(c, has_four, SECOND));
            expect_serving(c, 4);
            EXPECT(c, c->view->epoch > epoch && c->view->first_step > step);
        }
    }
}

/* Reports of who is not in the view name nobody. */
Test(core_holes, M5_a_zombie_accuses_nobody)
{
    FOR_SEEDS(&covered, c)
    {
        eepi_suspect suspects[] = {{0, 1, EEP_FAULT_SILENT}, {1, 1, EEP_FAULT_RESET}};
        eepi_report late = {3, 1, 1, 5, 2, suspects};
        cluster_crash(c, 3);
        expect_serving(c, 3);
        for (int seat = 0; seat < 3; seat++) {
            cluster_feed(c, seat, (eepi_input){.kind = EEPI_INPUT_REPORT, .report = &late});
        }
        expect_serving(c, 3);
        EXPECT(c, c->num_committed == 2);
    }
}

/* A suspected rank lets the others propose, or it would outrun its own expulsion for ever. */
Test(core_holes, M4_a_suspected_rank_proposes_last)
{
    FOR_SEEDS(&covered, c)
    {
        for (int seat = 1; seat < 4; seat++) {
            cluster_evidence(c, seat, 0, EEP_FAULT_DEVICE);
        }
        expect_serving(c, 3);
        EXPECT(c, c->num_committed == 2 && c->view->proposer != 0);
    }
}

Test(core_holes, L1_a_plan_whose_staging_failed_is_staged_again)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_at(c, 1)->failing_stages = 2;
        cluster_start(c, 4);
        EXPECT(c, cluster_until(c, has_five, 3 * SECOND));
        expect_serving(c, 5);
    }
}

/* Two join at once and one of them hangs: the other is let in without it. */
Test(core_holes, L4_a_joiner_that_hangs_is_not_planned_with_the_others_again)
{
    FOR_SEEDS(&covered, c)
    {
        c->process[cluster_start(c, 4)].holds_acks = 1;
        cluster_start(c, 5);
        EXPECT(c, cluster_until(c, has_five, SECOND));
        EXPECT(c, !eepi_view_is_member(c->view, 4));
        expect_serving(c, 5);
    }
}

static int runs_epoch_2(cluster *c)
{
    return cluster_at(c, 3)->stepper.live.epoch == 2 && cluster_at(c, 3)->stepper.in_step;
}

/* The next plan reaches a rank that has not switched to the last one yet: it was forgotten at that
 * flip, and lapsed. */
Test(core_holes, L4_a_plan_that_comes_before_ones_own_flip_is_staged_after_it)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_start(c, 4);
        EXPECT(c, cluster_until(c, has_five, SECOND));
        cluster_start(c, 5);
        EXPECT(c, cluster_until(c, runs_epoch_2, SECOND));
        cluster_at(c, 3)->stuck_until_us = c->now_us + 60000; /* the others end this step */
        EXPECT(c, cluster_until(c, has_six, 200000));         /* a plan lapses after 300 ms */
        expect_serving(c, 6);
        EXPECT(c, num_wedges(c) == 0);
    }
}

/* A joiner in the lowest seat plans for the others at once: its idle bank waits for its own flip,
 * and so does the plan. */
Test(core_holes, L4_who_is_let_in_lets_the_next_one_in)
{
    FOR_SEEDS(&wide, c)
    {
        cluster_crash(c, 0);
        expect_serving(c, 4);
        cluster_start(c, 0);
        cluster_run(c, cluster_random(c, 40000));
        cluster_start(c, 5);
        EXPECT(c, cluster_until(c, has_six, 250000));
        expect_serving(c, 6);
    }
}

/* The flip reaches a rank in-band before the register tells it of the commit. */
Test(core_holes, M3_a_flip_before_the_commit_is_known_counts)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_start(c, 4);
        for (int i = 0; c->view->epoch == 1 && i < 20000; i++) {
            cluster_run(c, 50);
        }
        cluster_delay_store(c, 3, 200000);
        EXPECT(c, cluster_until(c, has_five, SECOND));
        expect_serving(c, 5);
        cluster_start(c, 5);
        EXPECT(c, cluster_until(c, has_six, 2 * SECOND));
        expect_serving(c, 6);
        EXPECT(c, num_wedges(c) == 0);
    }
}

/* More seats at once than a round has actions. */
Test(core_holes, many_seats_fail_at_once)
{
    enum { RANKS = 200 };
    eepi_core_config config = {.generation = 1,
                               .num_ranks = RANKS,
                               .drain_bound_us = 1000,
                               .kill_fence = 1,
                               .shape = {RANKS, 1, 2, 2}};
    int32_t experts[] = {0, 1};
    uint64_t sums[] = {7, 8}, backup = 0, now = 1;
    eepi_core *core = NULL;
    const eepi_view *first = NULL;
    int n, kills = 0, is_committed = 0;
    const eepi_input empty = {.kind = EEPI_INPUT_VIEW_MISSING, .now_us = now};

    cr_assert_eq(eepi_core_open(&config, &core), EEP_OK);
    eepi_core_handle(core, &empty, &n);
    for (int seat = 0; seat < RANKS; seat++) {
        eepi_member record = {seat, 1, 1, 0, experts, sums, &backup};
        eepi_input input = {.kind = EEPI_INPUT_MEMBER, .now_us = now, .member = &record};
        eepi_core_handle(core, &input, &n);
    }
    const eepi_input won = {.kind = EEPI_INPUT_CAS_DONE, .won = 1, .revision = 1, .now_us = now};
    eepi_core_handle(core, &won, &n);
    eepi_core_handle(core, &(eepi_input){.kind = EEPI_INPUT_LISTENS, .now_us = now}, &n);
    first = eepi_core_view(core);
    cr_assert_eq(eepi_view_num_active(first), RANKS);
    for (int round = 0; round < 40 && !is_committed; round++) {
        eepi_input input = {.kind = EEPI_INPUT_TICK, .now_us = now += 2000};
        const eepi_action *actions;
        if (round == 0) {
            input.kind = EEPI_INPUT_EVIDENCE;
            input.suspect = (eepi_suspect){1, 1, EEP_FAULT_EXIT};
        } else if (round == 1) {
            input.kind = EEPI_INPUT_DRAINED;
        } else if (round == 2) { /* the store has its report, */
            input.kind = EEPI_INPUT_REPORTED;
            input.step = first->epoch;
        } else if (round > 3 && round % 2 == 0) { /* and has told the others' again (N13) */
            input.kind = EEPI_INPUT_LISTENS;
        }
        actions = eepi_core_handle(core, &input, &n);
        cr_assert_leq(n, EEPI_CORE_MAX_ACTIONS);
        for (int i = 0; i < n; i++) {
            kills += actions[i].kind == EEPI_ACTION_KILL;
            is_committed |= actions[i].kind == EEPI_ACTION_CAS;
        }
    }
    cr_assert(is_committed);
    cr_assert_eq(kills, RANKS - 2, "%d were killed", kills);
    eepi_core_handle(
        core, &(eepi_input){.kind = EEPI_INPUT_CAS_DONE, .won = 1, .revision = 2, .now_us = now},
        &n);
    cr_assert_eq(eepi_view_num_active(eepi_core_view(core)), 1);
    eepi_core_close(core);
}

/* ------------------------------------------------------------------ all of it by chance */

static int num_alive_members(cluster *c)
{
    int n = 0;

    for (int seat = 0; seat < c->options.max_ranks; seat++) {
        cluster_process *p = cluster_at(c, seat);
        n += p && p->alive && !p->over && c->view && eepi_view_has(c->view, seat, p->generation);
    }
    return n;
}

/* One fault or change; `kinds` switches kinds off (swarm testing). */
static void disturb(cluster *c, uint64_t kinds)
{
    int seat = (int)cluster_random(c, (uint64_t)c->options.max_ranks);
    int kind = (int)cluster_random(c, 10);
    cluster_process *p = cluster_at(c, seat);
    int is_there = p && p->alive && !p->over;

    if (!(kinds >> kind & 1)) {
        return;
    }
    if (!is_there || kind <= 1) { /* a new process, where the last one is gone */
        if ((!p || !p->alive) && c->num_processes < CLUSTER_MAX_PROCESSES) {
            cluster_start(c, seat);
        }
    } else if (kind <= 5) {
        cluster_crash(c, seat);
    } else if (kind == 6) {
        cluster_stop(c, seat, 50000 + cluster_random(c, 400000));
    } else if (kind == 7) {
        p->stuck_until_us = c->now_us + cluster_random(c, 400000);
    } else if (kind == 8) {
        cluster_leave(c, seat);
    } else {
        int other = (int)cluster_random(c, (uint64_t)c->options.max_ranks);
        cluster_process *q = cluster_at(c, other);
        if (!q || !q->alive || q->over || q == p) {
            return;
        }
        cluster_evidence(c, other, seat, cluster_random(c, 2) ? EEP_FAULT_SILENT : EEP_FAULT_RESET);
        cluster_run(c, cluster_random(c, 50000));
        cluster_evidence(c, other, seat, -1);
    }
}

static void history_by_chance(uint64_t seed, uint64_t *num_ok)
{
    uint64_t draw = seed * 0x9e3779b97f4a7c15u;
    cluster_options options = {
        .num_ranks = 2 + (int)(draw >> 60) % 4,
        .max_ranks = 6,
        .num_experts = 5 + (int)(draw >> 50) % 8,
        .num_slots = 7,
        .backups = (int)(draw >> 40 & 1),
        .checkpoints = (int)(draw >> 39 & 1),
        .bad_reads = (int)(draw >> 38 & 1),
        .unknown_of_100 = (int)(draw >> 41 & 1) * 10,
        .background = (int)(draw >> 43 & 3) != 0,
    };
    cluster *c = serving(&options, seed);
    uint64_t kinds = cluster_random(c, 1024) | cluster_random(c, 1024);
    int num = 1 + (int)cluster_random(c, 8);

    for (int i = 0; i < num; i++) {
        disturb(c, kinds);
        cluster_run(c, cluster_random(c, cluster_random(c, 2) ? 20000 : 500000));
    }
    c->options.unknown_of_100 = 0;
    cluster_run(c, SECOND);
    if (num_alive_members(c) > 0 && !c->num_uncovered) {
        EXPECT(c, cluster_until(c, cluster_is_serving, 4 * SECOND)); /* L1 */
        cluster_run(c, SECOND);
        EXPECT(c, cluster_is_serving(c));
        for (int seat = 0; seat < c->options.max_ranks; seat++) {
            cluster_process *p = cluster_at(c, seat);
            EXPECT(c, !p || !p->alive || p->over || p->leaving ||
                          eepi_view_has(c->view, seat, p->generation));
        }
        ++*num_ok;
    }
    cluster_close(c);
}

Test(core_holes, histories_by_chance)
{
    uint64_t num_ok = 0;

    for (uint64_t seed = first_seed(); seed <= last_seed(num_histories()); seed++) {
        history_by_chance(seed, &num_ok);
    }
    cr_assert(getenv("EEP_TEST_SEED") || num_ok > num_histories() / 2, "%llu served to the end",
              (unsigned long long)num_ok);
}
