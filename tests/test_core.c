/* The membership core: properties and histories, on a cluster in virtual time. Each test runs over
 * many seeds, which draw all delays; EEP_TEST_SEED replays one. */
#include "core_cluster.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { SEEDS = 40, RANDOM_SEEDS = 20000, SECOND = 1000000 };

/* 4 ranks of 6 seats; 8 experts, twice each: one rank may die. */
static const cluster_options covered = {
    .num_ranks = 4, .max_ranks = 6, .num_experts = 8, .num_slots = 4};
/* 12 experts on 16 slots: a death uncovers some; backups in host memory restore them. */
static const cluster_options tight = {
    .num_ranks = 4, .max_ranks = 6, .num_experts = 12, .num_slots = 4, .backups = 1};

/* Nobody is killed: a rank that hangs stays as it is. */
static const cluster_options hung = {
    .num_ranks = 4, .max_ranks = 6, .num_experts = 8, .num_slots = 4, .no_kill_fence = 1};
/* 5 ranks, 8 experts on 20 slots, backups: two may die one after the other. */
static const cluster_options wide = {
    .num_ranks = 5, .max_ranks = 6, .num_experts = 8, .num_slots = 4, .backups = 1};

static uint64_t first_seed(void)
{
    const char *text = getenv("EEP_TEST_SEED");

    return text ? strtoull(text, NULL, 0) : 1;
}

static uint64_t last_seed(uint64_t count)
{
    return getenv("EEP_TEST_SEED") ? first_seed() : count;
}

#define EXPECT(c, condition)                                                                       \
    cr_assert(condition, "%s: seed %llu (replay: EEP_TEST_SEED=%llu and this test)%s", #condition, \
              (unsigned long long)(c)->options.seed, (unsigned long long)(c)->options.seed,        \
              cluster_text(c))

static cluster *serving(const cluster_options *options, uint64_t seed)
{
    cluster_options seeded = *options;
    cluster *c;

    seeded.seed = seed;
    c = cluster_open(&seeded);
    EXPECT(c, cluster_until(c, cluster_is_serving, SECOND));
    cluster_run(c, cluster_random(c, 20000));
    return c;
}

static void expect_serving(cluster *c, int num_active)
{
    EXPECT(c, cluster_until(c, cluster_is_serving, 3 * SECOND));
    cluster_run(c, SECOND);
    EXPECT(c, cluster_is_serving(c));
    EXPECT(c, eepi_view_num_active(c->view) == num_active);
}

/* Start `c` serving once per seed; the block that follows is the history. */
#define FOR_SEEDS(options, c)                                                                      \
    for (uint64_t seed = first_seed(); seed <= last_seed(SEEDS); seed++)                           \
        for (cluster *c = serving(options, seed); c; cluster_close(c), c = NULL)

static int num_wedges(cluster *c)
{
    int n = 0;

    for (int i = 0; i < c->num_processes; i++)
        n += (int)c->process[i].num_wedges;
    return n;
}

static int num_aborted(cluster *c)
{
    int n = 0;

    for (int i = 0; i < c->num_processes; i++)
        n += (int)c->process[i].num_aborted;
    return n;
}

static int is_repairing(cluster *c)
{
    return c->view->phase == EEPI_VIEW_REPAIRING;
}

static int is_wedged(cluster *c)
{
    return num_wedges(c) > 0;
}

static int has_six(cluster *c)
{
    return c->view && eepi_view_num_active(c->view) == 6;
}

static int has_five(cluster *c)
{
    return c->view && eepi_view_num_active(c->view) == 5;
}

static int has_four(cluster *c)
{
    return c->view && eepi_view_num_active(c->view) == 4;
}

static int is_left(cluster *c)
{
    return c->view->epoch == 2;
}

static int has_failed_closed(cluster *c)
{
    return c->num_uncovered > 0;
}

/* ------------------------------------------------------------------ the first view */

Test(core, the_first_view_forms_once)
{
    FOR_SEEDS(&covered, c)
    {
        expect_serving(c, 4);
        EXPECT(c, c->num_committed == 1 && c->view->epoch == 1 && num_wedges(c) == 0);
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
        for (int i = 0; i < c->num_processes; i++)
            EXPECT(c, c->process[i].num_fills == 0);
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
        for (int seat = 0; seat < 5; seat++)
            cluster_at(c, seat)->fill_delay_us = 50000;
        cluster_crash(c, 0);
        cluster_crash(c, 1);
        if (!cluster_until(c, is_repairing, SECOND))
            continue;
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

Test(core, a_rank_that_nobody_can_spare_stays)
{
    FOR_SEEDS(&tight, c)
    {
        cluster_leave(c, 1);
        expect_serving(c, 4);
        EXPECT(c, c->num_committed == 1);
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
        while (c->view->epoch == 1) {
            EXPECT(c, c->now_us < 3 * SECOND);
            cluster_run(c, 100);
        }
        EXPECT(c, !cluster_at(c, 2)->alive);
        for (int i = 0; i < c->num_processes; i++)
            kills += (int)c->process[i].num_kills;
        EXPECT(c, kills >= 1);
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

Test(core, M2_a_rank_that_never_drains_is_left_out)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_at(c, 1)->stuck_until_us = CLUSTER_FOREVER;
        cluster_run(c, 5000);
        cluster_crash(c, 3);
        EXPECT(c, cluster_until(c, is_wedged, SECOND));
        cluster_run(c, 2 * SECOND);
        if (!c->num_uncovered)
            expect_serving(c, 2);
    }
}

/* The drain bound is for the others: whoever drained slowly itself must not count it from then. */
Test(core, M2_a_slow_drain_of_ones_own_leaves_nobody_out)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_at(c, 0)->stuck_until_us = c->now_us + 140000;
        for (int seat = 1; seat < 3; seat++)
            cluster_at(c, seat)->stuck_until_us = c->now_us + 1000;
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

/* ------------------------------------------------------------------ holes that were closed */

/* A watch tells of our own commit before the answer to it, and by then the draft is another one. */
Test(core, S1_an_answer_that_comes_after_the_watch_changes_nothing)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_crash(c, 3);
        expect_serving(c, 3);
        for (int seat = 0; seat < 3; seat++)
            EXPECT(c, eepi_core_view(cluster_at(c, seat)->core)->digest == c->view->digest);
    }
}

/* All who run the old view leave and all who stay are new: nobody would start the first step. */
Test(core, M8_a_planned_view_keeps_somebody_of_the_one_before)
{
    cluster_options small = covered;

    small.num_ranks = 2;
    small.num_slots = 8;
    FOR_SEEDS(&small, c)
    {
        cluster_crash(c, 0);
        expect_serving(c, 1);
        cluster_leave(c, 1);
        cluster_start(c, 0);
        cluster_start(c, 2);
        EXPECT(c, cluster_until(c, cluster_is_serving, SECOND));
        cluster_run(c, 3 * SECOND);
        expect_serving(c, 2);
        EXPECT(c, !cluster_at(c, 1)->alive);
    }
}

/* It is out of the newest view, but the steps of those who have not switched need it. */
Test(core, M10_a_leaving_rank_that_dies_before_the_flip_holds_up_nobody)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_leave(c, 2);
        EXPECT(c, cluster_until(c, is_left, SECOND));
        cluster_run(c, cluster_random(c, 10000));
        cluster_crash(c, 2);
        expect_serving(c, 3);
    }
}

/* Process 2 of a seat ends before process 1 does: 1 may still write. */
Test(core, M7_the_end_of_a_newer_process_says_nothing_of_an_older_one)
{
    FOR_SEEDS(&hung, c)
    {
        cluster_stop(c, 3, CLUSTER_FOREVER - c->now_us);
        expect_serving(c, 3);
        EXPECT(c, cluster_at(c, 3)->alive); /* nobody killed it */
        cluster_start(c, 3);
        cluster_run(c, 100000);
        cluster_crash(c, 3);
        cluster_run(c, 100000);
        cluster_start(c, 3);
        cluster_run(c, SECOND);
        expect_serving(c, 3);
        c->process[3].stopped_until_us = 0;
        cluster_crash_process(c, 3);
        EXPECT(c, cluster_until(c, has_four, 2 * SECOND));
        expect_serving(c, 4);
    }
}

/* A new process in the seat of a member that died, and dies itself, hides nothing. */
Test(core, M5_evidence_of_a_newer_generation_hides_no_older_one)
{
    FOR_SEEDS(&covered, c)
    {
        eepi_suspect newer = {3, 2, EEP_FAULT_EXIT};
        for (int seat = 0; seat < 3; seat++)
            cluster_give(c, seat, (eepi_input){.kind = EEPI_INPUT_EVIDENCE, .suspect = newer});
        cluster_crash(c, 3);
        expect_serving(c, 3);
    }
}

/* Reports of who is not in the view name nobody. */
Test(core, M5_a_zombie_accuses_nobody)
{
    FOR_SEEDS(&covered, c)
    {
        eepi_suspect suspects[] = {{0, 1, EEP_FAULT_SILENT}, {1, 1, EEP_FAULT_RESET}};
        eepi_report late = {3, 1, 1, 5, 2, suspects};
        cluster_crash(c, 3);
        expect_serving(c, 3);
        for (int seat = 0; seat < 3; seat++)
            cluster_give(c, seat, (eepi_input){.kind = EEPI_INPUT_REPORT, .report = &late});
        expect_serving(c, 3);
        EXPECT(c, c->num_committed == 2);
    }
}

/* Whoever is suspected lets the others propose, or it would outrun its own expulsion for ever. */
Test(core, M4_a_suspected_rank_proposes_last)
{
    FOR_SEEDS(&covered, c)
    {
        for (int seat = 1; seat < 4; seat++)
            cluster_evidence(c, seat, 0, EEP_FAULT_DEVICE);
        expect_serving(c, 3);
        EXPECT(c, c->num_committed == 2 && c->view->proposer != 0);
    }
}

Test(core, L1_a_plan_whose_staging_failed_is_staged_again)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_at(c, 1)->failing_stages = 2;
        cluster_start(c, 4);
        EXPECT(c, cluster_until(c, has_five, 3 * SECOND));
        expect_serving(c, 5);
    }
}

/* The flip reaches a rank in-band before the register tells it of the commit. */
Test(core, M3_a_flip_before_the_commit_is_known_counts)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_start(c, 4);
        while (c->view->epoch == 1)
            cluster_run(c, 50);
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
Test(core, many_seats_fail_at_once)
{
    enum { RANKS = 200 };
    eepi_core_config config = {
        .num_ranks = RANKS, .drain_bound_us = 1000, .kill_fence = 1, .shape = {RANKS, 1, 2, 2}};
    int32_t experts[] = {0, 1};
    uint64_t sums[] = {7, 8}, backup = 0, now = 1;
    eepi_core *core = NULL;
    const eepi_view *first = NULL;
    int n, kills = 0, is_committed = 0;

    cr_assert_eq(eepi_core_open(&config, &core), EEP_OK);
    for (int seat = 0; seat < RANKS; seat++) {
        eepi_member record = {seat, 1, 1, 0, experts, sums, &backup};
        eepi_input input = {.kind = EEPI_INPUT_MEMBER, .now_us = now, .member = &record};
        eepi_core_handle(core, &input, &n);
    }
    cr_assert_eq(
        eepi_core_handle(
            core,
            &(eepi_input){.kind = EEPI_INPUT_CAS_DONE, .won = 1, .revision = 1, .now_us = now},
            &n)[n - 1]
            .kind,
        EEPI_ACTION_INSTALL);
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

    if (!(kinds >> kind & 1))
        return;
    if (!is_there || kind <= 1) { /* a new process, where the last one is gone */
        if ((!p || !p->alive) && c->num_processes < CLUSTER_MAX_PROCESSES)
            cluster_start(c, seat);
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
        if (!q || !q->alive || q->over || q == p)
            return;
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
        .unknown_of_100 = (int)(draw >> 41 & 1) * 10,
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

Test(core, histories_by_chance)
{
    uint64_t num_ok = 0;

    for (uint64_t seed = first_seed(); seed <= last_seed(RANDOM_SEEDS); seed++)
        history_by_chance(seed, &num_ok);
    cr_assert(getenv("EEP_TEST_SEED") || num_ok > RANDOM_SEEDS / 2, "%llu served to the end",
              (unsigned long long)num_ok);
}
