/* SPDX-License-Identifier: Apache-2.0 */
/* Rule P11: what engines and operators say against ranks, and groups of seats. */
#include "tests/lib/core/core_histories.h"

/* Each expert once: nobody can be spared. */
static const cluster_options single = {
    .num_ranks = 4, .max_ranks = 4, .num_experts = 16, .num_slots = 4};
/* Three groups of two; any of them may be lost. */
static const cluster_options pairs = {.num_ranks = 6,
                                      .max_ranks = 6,
                                      .num_experts = 8,
                                      .num_slots = 4,
                                      .seats_per_group = 2,
                                      .backups = 1};

static int is_in(cluster *c, int seat)
{
    return eepi_view_is_member(c->view, seat);
}

static eepi_verdict verdict(cluster *c, int of, int seat)
{
    return eepi_core_verdict(cluster_at(c, of)->core, seat, cluster_at(c, seat)->generation);
}

Test(core_words, P11_a_word_against_a_living_rank_is_settled_by_a_view)
{
    static const eep_fault_kind kinds[] = {EEP_FAULT_RESET, EEP_FAULT_DEVICE, EEP_FAULT_BAD_ANSWER,
                                           EEP_FAULT_EXPELLED};

    FOR_SEEDS(&covered, c)
    {
        const uint64_t epoch = c->view->epoch;
        cluster_evidence(c, 0, 2, kinds[seed % 4]);
        EXPECT(c, is_in(c, 2) && c->view->epoch == epoch);
        expect_serving(c, 3);
        EXPECT(c, !is_in(c, 2));
        EXPECT(c, !verdict(c, 0, 2).waits && verdict(c, 0, 2).kept_epoch == 0);
    }
}

Test(core_words, P11_of_two_that_accuse_each_other_one_stays)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_evidence(c, 1, 2, EEP_FAULT_RESET);
        cluster_evidence(c, 2, 1, EEP_FAULT_EXPELLED);
        expect_serving(c, 3);
        EXPECT(c, is_in(c, 1) && !is_in(c, 2));
    }
}

Test(core_words, P11_the_rank_that_most_speak_against_leaves)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_evidence(c, 0, 1, EEP_FAULT_BAD_ANSWER);
        cluster_evidence(c, 2, 1, EEP_FAULT_BAD_ANSWER);
        cluster_evidence(c, 1, 3, EEP_FAULT_RESET);
        expect_serving(c, 3);
        EXPECT(c, !is_in(c, 1) && is_in(c, 3));
    }
}

Test(core_words, P11_words_that_would_lose_experts_are_taken_back)
{
    FOR_SEEDS(&single, c)
    {
        cluster_evidence(c, 0, 2, EEP_FAULT_EXPELLED);
        cluster_evidence(c, 2, 0, EEP_FAULT_RESET);
        EXPECT(c, verdict(c, 0, 2).waits);
        expect_serving(c, 4);
        EXPECT(c, !verdict(c, 0, 2).waits && verdict(c, 0, 2).is_in);
        EXPECT(c, verdict(c, 0, 2).kept_epoch > 1);
        for (int seat = 0; seat < 4; seat++) {
            EXPECT(c, cluster_at(c, seat)->num_kills == 0);
        }
    }
}

/* No kill reached it, so it was asked for once and then counted for ever: all three stayed wedged
 * (seed 3719). Its promise comes late, and it lives. */
Test(core_words, P11_one_that_outlives_its_kill_stays_where_experts_would_be_lost)
{
    FOR_SEEDS(&single, c)
    {
        cluster_at(c, 2)->unkillable = 1;
        cluster_at(c, 2)->stuck_until_us = c->now_us + 800000; /* longer than the drain bound */
        cluster_evidence(c, 0, 2, EEP_FAULT_EXPELLED);
        expect_serving(c, 4);
        EXPECT(c, verdict(c, 0, 2).is_in && verdict(c, 0, 2).kept_epoch > 1);
    }
}

Test(core_words, P11_a_rank_that_has_failed_says_so_itself)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_evidence(c, 0, 0, EEP_FAULT_DEVICE);
        cluster_evidence(c, 0, 3, EEP_FAULT_RESET); /* worth nothing: it is out itself */
        expect_serving(c, 3);
        EXPECT(c, !is_in(c, 0) && is_in(c, 3));
    }
}

Test(core_words, P11_the_word_of_a_rank_that_ends_is_worth_nothing)
{
    FOR_SEEDS(&covered, c)
    {
        cluster_evidence(c, 3, 1, EEP_FAULT_EXPELLED);
        cluster_crash(c, 3);
        expect_serving(c, 3);
        EXPECT(c, is_in(c, 1) && !is_in(c, 3));
    }
}

static int one_has_promised(cluster *c)
{
    return cluster_at(c, 1)->promised > 0;
}

/* Its report is on its way without the word: who proposes may have heard the word, or not. */
Test(core_words, P11_a_word_behind_the_report_waits_for_a_view_that_has_heard_it)
{
    FOR_SEEDS(&wide, c)
    {
        cluster_crash(c, 4);
        EXPECT(c, cluster_until(c, one_has_promised, SECOND));
        cluster_evidence(c, 1, 2, EEP_FAULT_EXPELLED);
        expect_serving(c, 3);
        EXPECT(c, !is_in(c, 2) && !is_in(c, 4));
    }
}

/* ------------------------------------------------------------------ groups */

Test(core_words, P11_a_group_is_left_out_as_a_whole_and_comes_back_as_a_whole)
{
    FOR_SEEDS(&pairs, c)
    {
        cluster_crash(c, 3);
        expect_serving(c, 4);
        EXPECT(c, !is_in(c, 2) && !is_in(c, 3));
        cluster_run(c, SECOND);
        cluster_start(c, 3);
        cluster_run(c, SECOND);
        EXPECT(c, !is_in(c, 3));
        cluster_start(c, 2);
        EXPECT(c, cluster_until(c, has_six, 3 * SECOND));
        expect_serving(c, 6);
    }
}

Test(core_words, P11_an_expelled_seat_takes_its_group_along)
{
    FOR_SEEDS(&pairs, c)
    {
        cluster_evidence(c, 0, 5, EEP_FAULT_EXPELLED);
        expect_serving(c, 4);
        EXPECT(c, !is_in(c, 4) && !is_in(c, 5));
    }
}

Test(core_words, P11_a_rank_that_leaves_takes_its_group_along)
{
    FOR_SEEDS(&pairs, c)
    {
        cluster_run(c, 2 * SECOND);
        cluster_leave(c, (int)(seed % 2)); /* whichever of the group */
        EXPECT(c, cluster_until(c, cluster_is_serving, 3 * SECOND));
        cluster_run(c, 3 * SECOND);
        EXPECT(c, !is_in(c, 0) && !is_in(c, 1) && eepi_view_num_active(c->view) == 4);
        EXPECT(c, num_aborted(c) == 0);
    }
}

Test(core_words, P11_the_last_group_is_not_left_out_for_words)
{
    FOR_SEEDS(&pairs, c)
    {
        cluster_crash(c, 3);
        expect_serving(c, 4);
        cluster_crash(c, 4);
        expect_serving(c, 2);
        cluster_evidence(c, 0, 1, EEP_FAULT_EXPELLED);
        expect_serving(c, 2);
        EXPECT(c, is_in(c, 0) && is_in(c, 1) && verdict(c, 0, 1).kept_epoch > 0);
    }
}

/* One of the last group would take all along, and so each left the decision to the others (seed
 * 10392). */
Test(core_words, P11_the_last_group_is_not_left_out_for_missed_deadlines)
{
    FOR_SEEDS(&pairs, c)
    {
        uint64_t epoch;
        cluster_crash(c, 3);
        expect_serving(c, 4);
        cluster_crash(c, 4);
        expect_serving(c, 2);
        epoch = c->view->epoch;
        cluster_evidence(c, 0, 1, EEP_FAULT_DEADLINE);
        cluster_evidence(c, 1, 0, EEP_FAULT_DEADLINE);
        EXPECT(c, cluster_until(c, cluster_is_serving, 3 * SECOND));
        cluster_run(c, SECOND);
        expect_serving(c, 2);
        EXPECT(c, is_in(c, 0) && is_in(c, 1) && c->view->epoch > epoch);
    }
}
