/* SPDX-License-Identifier: Apache-2.0 */
/* The public API end to end: contexts as threads of one process, each with a host device, stepping
 * together. Every result of every step is checked. */
#include "tests/lib/context_checks.h"

#include <sched.h>
#include <string.h>

TestSuite(context, .timeout = 100);

enum { FIRST = 20, MANY = 50 };

Test(context, ranks_step_together)
{
    world w;
    world_open(&w, 4, 4);
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, MANY);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 3);
    world_check_right(&w);
    for (int32_t seat = 0; seat < 4; seat++) {
        const rank *r = &w.ranks[seat];
        eep_counters counters = rank_counters(r);
        cr_expect_eq(counters.steps_ok, r->steps_ok);
        cr_expect_gt(counters.window_bytes, 0);
        cr_expect_eq(r->last_epoch, 1);
        cr_expect_eq(r->last_active, 4);
        cr_expect_eq(eep_rank(r->context), seat);
        cr_expect_eq(eep_generation(r->context), 1);
        for (int32_t i = 0; i < WORLD_LAYERS * WORLD_SLOTS; i++) {
            cr_expect_eq(eep_physical_to_logical(r->context)[i],
                         r->experts[i / WORLD_SLOTS][i % WORLD_SLOTS]);
        }
    }
    world_close(&w);
}

/* Timers far below what a scheduler keeps: late beats alone make nobody look dead. */
Test(context, timers_of_50_us_expel_nobody)
{
    world w;
    world_open(&w, 3, 3);
    w.config.heartbeat_period_us = w.config.propose_delay_us = 50;
    w.config.heartbeat_suspect_us = 100;
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, MANY);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 2);
    world_check_right(&w);
    for (int32_t seat = 0; seat < 3; seat++) {
        cr_expect_eq(w.ranks[seat].last_active, 3);
    }
    world_close(&w);
}

Test(context, idle_ranks_follow_the_one_with_work)
{
    world w;
    world_open(&w, 4, 4);
    world_start(&w);
    rank_set_mode(&w.ranks[2], RANK_WORK);
    world_advance(&w, 2, 2, FIRST);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 3);
    world_check_right(&w);
    cr_expect_geq(w.ranks[2].position, FIRST);
    for (int32_t seat = 0; seat < 4; seat++) {
        cr_expect_eq(w.ranks[seat].steps_ok, w.ranks[2].steps_ok, "rank %d", seat);
        cr_expect(seat == 2 || w.ranks[seat].position == 0);
    }
    world_close(&w);
}

Test(context, an_idle_instance_is_quiet)
{
    world w;
    world_open(&w, 3, 3);
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, 1);
    world_rest(&w);
    uint64_t steps = w.ranks[0].steps_ok;
    world_set_modes(&w, 0, 2, RANK_FOLLOW);
    for (int32_t seat = 0; seat < 3; seat++) {
        WORLD_WAIT(&w, w.ranks[seat].idles >= 5);
    }
    for (int32_t seat = 0; seat < 3; seat++) {
        cr_expect_eq(w.ranks[seat].steps_ok, steps, "rank %d", seat);
    }
    world_close(&w);
}

static void feed_bad(world *w, rank *r, rank_bad bad, const char *place, const char *value)
{
    uint64_t before;
    world_lock(w);
    before = r->steps_bad;
    r->bad = bad;
    world_unlock(w);
    WORLD_WAIT(w, r->steps_bad == before + 1);
    world_lock(w);
    cr_expect_eq(r->bad_status, EEP_ERR_BAD_STEP_INPUT);
    cr_expect(strstr(r->text, place) && strstr(r->text, value), "'%s' names neither '%s' nor '%s'",
              r->text, place, value);
    world_unlock(w);
    world_advance(w, 0, 2, 2); /* the next good ones work, here and at the peers */
}

/* A rank alone, whose thread is the test's: the numbers of the last bad step stay for a look. */
Test(context, bad_input_is_told_in_numbers)
{
    static const struct {
        rank_bad bad;
        eep_bad_kind kind;
        int32_t token, k, value, num_bad_tokens;
        const char *text;
    } cases[] = {
        {BAD_EXPERT_HIGH, EEP_BAD_EXPERT_RANGE, 1, 1, WORLD_EXPERTS, 1, "out of range"},
        {BAD_EXPERT_LOW, EEP_BAD_EXPERT_RANGE, 2, 0, -7, 1, "out of range"},
        {BAD_TWICE, EEP_BAD_EXPERT_TWICE, 3, 1, -2, 1, "twice"},
        {BAD_TOO_MANY, EEP_BAD_NUM_TOKENS, -1, -1, WORLD_TOKENS + 1, 0, "num_tokens"},
        {BAD_NEGATIVE, EEP_BAD_NUM_TOKENS, -1, -1, -1, 0, "num_tokens"},
    };
    eep_bad_input bad;
    world w;
    world_open(&w, 2, 2);
    world_start(&w);
    rank *r = &w.ranks[1];
    rank_set_mode(&w.ranks[0], RANK_FOLLOW);
    rank_stop(r);
    cr_expect_eq(eep_bad_input_get(r->context, EEP_SIZED(&bad)), EEP_ERR_NOT_FOUND);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        r->bad = cases[i].bad;
        cr_assert_eq(rank_step(r, WORLD_TOKENS), EEP_ERR_BAD_STEP_INPUT, "case %zu: %s", i,
                     eep_last_error(r->context));
        cr_expect(strstr(eep_last_error(r->context), cases[i].text), "case %zu: %s", i,
                  eep_last_error(r->context));
        cr_assert_eq(eep_bad_input_get(r->context, EEP_SIZED(&bad)), EEP_OK);
        cr_expect_eq(bad.kind, cases[i].kind, "case %zu", i);
        cr_expect(bad.token == cases[i].token && bad.k == cases[i].k, "case %zu", i);
        cr_expect(bad.value == cases[i].value || cases[i].value == -2, "case %zu", i);
        cr_expect_eq(bad.num_bad_tokens, cases[i].num_bad_tokens, "case %zu", i);
        cr_expect_eq(bad.layer, 0);
        cr_expect_gt(bad.step, 0);
    }
    world_close(&w);
}

Test(context, bad_input_is_named_and_disturbs_nobody)
{
    world w;
    world_open(&w, 3, 3);
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, 3);
    feed_bad(&w, &w.ranks[1], BAD_EXPERT_HIGH, "token 1, k 1", " 8 ");
    feed_bad(&w, &w.ranks[1], BAD_EXPERT_LOW, "token 2, k 0", " -7 ");
    feed_bad(&w, &w.ranks[1], BAD_TWICE, "token 3, k 1", "twice");
    feed_bad(&w, &w.ranks[1], BAD_TOO_MANY, "num_tokens", " 5:");
    feed_bad(&w, &w.ranks[1], BAD_NEGATIVE, "num_tokens", " -1:");
    world_rest(&w);
    world_check_never_aborted(&w, 0, 2);
    world_check_right(&w);
    cr_expect_eq(w.ranks[1].steps_bad, 5);
    world_close(&w);
}

/* Rank 1 calls nothing, so the step of 0 and 2 is open until it is aborted. */
Test(context, an_abort_ends_the_step_and_the_positions_are_run_again)
{
    world w;
    world_open(&w, 3, 3);
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, 3);
    rank_set_mode(&w.ranks[1], RANK_PARK);
    WORLD_WAIT(&w, !w.ranks[1].busy && w.ranks[0].in_step && w.ranks[2].in_step &&
                       w.ranks[0].last_step > w.ranks[1].last_step &&
                       w.ranks[0].last_step == w.ranks[2].last_step);
    uint64_t position = w.ranks[0].position, other = w.ranks[2].position;
    uint64_t step = w.ranks[0].last_step;
    eep_step_abort(w.ranks[0].context);
    WORLD_WAIT(&w, w.ranks[0].steps_aborted == 1 && w.ranks[2].steps_aborted == 1);
    cr_expect_eq(w.ranks[0].position, position);
    cr_expect_eq(w.ranks[2].position, other);
    rank_set_mode(&w.ranks[1], RANK_WORK);
    WORLD_WAIT(&w, w.ranks[0].position > position && w.ranks[2].position > other);
    cr_expect_gt(w.ranks[0].last_step, step, "a step number was used twice");
    world_advance(&w, 0, 2, 5);
    world_rest(&w);
    world_check_right(&w);
    cr_expect_eq(rank_epoch(&w.ranks[0]), 1, "an abort is no change of membership");
    eep_step_abort(w.ranks[0].context); /* none is running: nothing happens */
    rank_set_mode(&w.ranks[0], RANK_WORK);
    world_advance(&w, 0, 2, 2);
    world_close(&w);
}

/* ---------------------------------------------------------------- a graph per batch size */

enum { GRAPH_STEPS = 12, GRAPH_RANKS = 4, GRAPH_LAST = GRAPH_RANKS - 1 };

/* As engines hold them: all share the context's tables, windows and order of halves, and a rank
 * replays the one that fits its batch. */
static void capture_each_size(rank *r)
{
    for (int32_t num_tokens = 0; num_tokens <= WORLD_TOKENS; num_tokens++) {
        r->sized[num_tokens] = rank_capture_for(r, num_tokens);
    }
}

static void serve_through_a_kill_and_a_rejoin(int32_t num_chains)
{
    world w;
    world_open(&w, GRAPH_RANKS, GRAPH_RANKS); /* as many as cover all experts without one of them */
    w.config.num_chains = num_chains;
    for (int32_t seat = 0; seat < GRAPH_RANKS; seat++) {
        w.ranks[seat].opened = capture_each_size;
        w.ranks[seat].varies = 1;
    }
    world_start(&w);
    world_set_modes(&w, 0, GRAPH_LAST, RANK_WORK);
    world_advance(&w, 0, GRAPH_LAST, GRAPH_STEPS);
    rank_close(&w.ranks[GRAPH_LAST]);
    WORLD_WAIT(&w, w.ranks[0].last_active == GRAPH_LAST);
    world_advance(&w, 0, GRAPH_LAST - 1, GRAPH_STEPS);
    w.ranks[GRAPH_LAST].mode = RANK_WORK;
    cr_assert_eq(rank_open(&w, GRAPH_LAST), EEP_OK, "%s", w.ranks[GRAPH_LAST].error);
    rank_run(&w.ranks[GRAPH_LAST]);
    WORLD_WAIT(&w, w.ranks[0].last_active == GRAPH_RANKS);
    world_advance(&w, 0, GRAPH_LAST, GRAPH_STEPS);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

Test(context, graphs_of_all_sizes_serve_in_any_order)
{
    serve_through_a_kill_and_a_rejoin(1);
}

Test(context, graphs_of_all_sizes_serve_two_chains_in_any_order)
{
    serve_through_a_kill_and_a_rejoin(2);
}
