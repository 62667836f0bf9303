/* SPDX-License-Identifier: Apache-2.0 */
/* Histories of the membership core that the simulator (tests/sim) found; each failed before the fix
 * that its comment names. */
#include "tests/lib/core/core_histories.h"

/* 8 experts on 8 slots, no backups: nobody can be spared. */
static const cluster_options bare = {
    .num_ranks = 4, .max_ranks = 6, .num_experts = 8, .num_slots = 2, .no_kill_fence = 1};

/* LEFT_OUT was never taken back: the others wedged in each view that kept the rank (seed 3912). */
Test(core_found, L1_whose_promise_comes_late_stays_where_it_cannot_be_spared)
{
    FOR_SEEDS(&bare, c)
    {
        cluster_at(c, 2)->stuck_until_us = c->now_us + 400000; /* longer than the drain bound */
        cluster_evidence(c, 1, 3, EEP_FAULT_SILENT);
        cluster_run(c, 20000);
        cluster_evidence(c, 1, 3, -1);
        expect_serving(c, 4);
    }
}

static void accuse(cluster *c, int by, int seat)
{
    static uint64_t seats[EEPK_SEAT_WORDS];

    seats[0] = 1ull << seat;
    for (int i = 0; i < 2; i++) {
        cluster_feed(c, by,
                     (eepi_input){.kind = EEPI_INPUT_ACCUSED,
                                  .seats = seats,
                                  .step = cluster_at(c, by)->stepper.step + 1 + (uint64_t)i});
    }
}

/* Evidence of missed deadlines outlived the fault view that kept the rank. */
Test(core_found, L5_who_missed_deadlines_and_lives_stays_where_it_cannot_be_spared)
{
    FOR_SEEDS(&bare, c)
    {
        accuse(c, (int)cluster_random(c, 2), 2);
        accuse(c, (int)cluster_random(c, 2), 3);
        expect_serving(c, 4);
        EXPECT(c, num_wedges(c) <= 12);
    }
}

/* Of two that missed deadlines one is expelled; the other was waiting, and stays. */
Test(core_found, M5_a_fault_view_settles_the_evidence_against_those_whom_it_keeps)
{
    FOR_SEEDS(&wide, c)
    {
        accuse(c, 0, 2);
        accuse(c, 1, 2);
        accuse(c, 0, 3);
        expect_serving(c, 4);
        EXPECT(c, !eepi_view_is_member(c->view, 2) && eepi_view_is_member(c->view, 3));
    }
}

/* Rank 3 takes nobody's rows. It misses all of them and accuses all others, whose steps its abort
 * words end: they have missed nothing, and know only what they could not deliver. */
Test(core_found, N16_of_those_whose_rows_are_not_taken_nobody_is_to_blame)
{
    FOR_SEEDS(&wide, c)
    {
        for (int seat = 0; seat < 5; seat++) {
            if (seat != 3) {
                cluster_at(c, seat)->blocked = 1ull << 3;
                accuse(c, 3, seat);
            }
        }
        expect_serving(c, 4);
        EXPECT(c, !eepi_view_is_member(c->view, 3));
    }
}

/* Rank 0 reaches nobody: all miss its rows, and it knows of all that they take none. */
Test(core_found, N16_one_whose_rows_go_nowhere_is_the_one)
{
    FOR_SEEDS(&wide, c)
    {
        cluster_at(c, 0)->blocked = 0x1e;
        for (int seat = 1; seat < 5; seat++) {
            accuse(c, seat, 0);
        }
        expect_serving(c, 4);
        EXPECT(c, !eepi_view_is_member(c->view, 0));
    }
}

/* Rows that somebody has not taken accuse nobody by themselves: another one has ended. */
Test(core_found, N16_what_is_blocked_beside_an_end_accuses_nobody)
{
    FOR_SEEDS(&wide, c)
    {
        cluster_at(c, 0)->blocked = 1ull << 2;
        cluster_crash(c, 3);
        expect_serving(c, 4);
        EXPECT(c, eepi_view_is_member(c->view, 2));
    }
}

static int has_let_3_go(cluster *c)
{
    return !eepi_view_is_member(c->view, 3);
}

/* It waited for the acknowledgements of the dead, and kept its seat (seed 695). */
Test(core_found, M10_a_leaver_does_not_wait_for_members_that_have_died)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_leave(c, 3);
        EXPECT(c, cluster_until(c, has_let_3_go, SECOND));
        for (int seat = 0; seat < 3; seat++) {
            cluster_crash(c, seat);
        }
        cluster_run(c, SECOND);
        EXPECT(c, cluster_at(c, 3)->over);
    }
}

/* What the late comers loaded and what the early one loaded lacked an expert, for good (seed 1039).
 */
Test(core_found, L1_an_instance_that_begins_again_repairs_what_nobody_loaded)
{
    FOR_SEEDS(&tight, c)
    {
        cluster_crash(c, 1);
        expect_serving(c, 3);
        cluster_start(c, 1); /* loads what the three have least of */
        for (int seat = 0; seat < 4; seat++) {
            if (seat != 1) {
                cluster_crash(c, seat);
            }
        }
        cluster_run(c, 50000);
        for (int seat = 0; seat < 4; seat++) {
            if (!cluster_at(c, seat)->alive) {
                cluster_start(c, seat);
            }
        }
        expect_serving(c, 4);
    }
}

/* P13: the highest number that any member reports, whoever proposes; and no later view forgets it.
 */
Test(core_found, P13_a_fault_view_names_the_newest_collective_that_has_ended)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_at(c, (int)cluster_random(c, 3))->collective = 7;
        cluster_crash(c, 3);
        expect_serving(c, 3);
        EXPECT(c, c->view->collective == 7);
        for (int seat = 0; seat < 3; seat++) {
            cluster_at(c, seat)->collective = 0;
        }
        cluster_crash(c, 2);
        cluster_run(c, SECOND);
        EXPECT(c, c->view->collective == 7);
    }
}
