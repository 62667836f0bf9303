/* The public API end to end: contexts as threads of one process, each with a host device, stepping
 * together through joins, leaves, faults and bad input. Every result of every step is checked. */
#include "graphs/device/device_ops.h"
#include "tests/lib/context_fixture.h"

#include <sched.h>
#include <string.h>

TestSuite(context, .timeout = 100);

enum { FIRST = 20, MANY = 50, DEADLINE_US = 300000, SILENT_US = 200000 };

static uint64_t epoch_of(const rank *r)
{
    uint64_t epoch;
    (void)rank_sees(r, 0, &epoch);
    return epoch;
}

/* The one expulsion that the rank was told of. */
static void check_fault(const rank *r, int32_t seat, eep_fault_kind kind)
{
    eep_fault fault;
    cr_assert_eq(eep_fault_next(r->context, EEP_SIZED(&fault)), EEP_OK, "rank %d", r->seat);
    cr_expect_eq(fault.seat, seat, "rank %d: seat %d", r->seat, fault.seat);
    cr_expect_eq(fault.generation, 1);
    cr_expect_eq(fault.kind, kind, "rank %d: %s", r->seat, eep_fault_kind_name(fault.kind));
    cr_expect_geq(fault.epoch, 2);
    cr_expect_gt(fault.time_ns, 0);
    cr_expect_eq(eep_fault_next(r->context, &fault), EEP_ERR_NOT_FOUND);
}

/* ---------------------------------------------------------------- steps */

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
    cr_expect_eq(epoch_of(&w.ranks[0]), 1, "an abort is no change of membership");
    eep_step_abort(w.ranks[0].context); /* none is running: nothing happens */
    rank_set_mode(&w.ranks[0], RANK_WORK);
    world_advance(&w, 0, 2, 2);
    world_close(&w);
}

/* ---------------------------------------------------------------- planned changes */

/* A rank in a free seat, working, and `more` steps of all of first .. last. */
static void let_in(world *w, int32_t seat, int32_t first, int32_t last, uint64_t more)
{
    rank *r = &w->ranks[seat];
    cr_assert_eq(rank_open(w, seat), EEP_OK, "%s", r->error);
    rank_set_mode(r, RANK_WORK);
    rank_run(r);
    WORLD_WAIT(w, r->joined);
    world_advance(w, first, last, more);
}

Test(context, a_rank_joins_while_others_step)
{
    world w;
    uint64_t epoch;
    world_open(&w, 3, 4);
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, FIRST);
    cr_expect_eq(rank_sees(&w.ranks[0], 3, NULL).state, EEP_SEAT_VACANT);
    let_in(&w, 3, 0, 3, FIRST);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 2);
    world_check_right(&w);
    for (int32_t seat = 0; seat < 4; seat++) {
        eep_seat fourth = rank_sees(&w.ranks[seat], 3, &epoch);
        cr_expect_eq(fourth.state, EEP_SEAT_ACTIVE, "rank %d", seat);
        cr_expect_eq(fourth.generation, 1);
        cr_expect_eq(epoch, 2);
        cr_expect_eq(w.ranks[seat].last_active, 4);
        cr_expect(seat == 3 || rank_events(&w.ranks[seat], EEP_EVENT_FLIPPED) == 1);
    }
    world_close(&w);
}

/* No step runs when the joiner comes: the ranks start empty ones to carry the change. */
Test(context, a_rank_joins_an_idle_instance)
{
    world w;
    world_open(&w, 3, 4);
    world_start(&w);
    cr_assert_eq(rank_open(&w, 3), EEP_OK, "%s", w.ranks[3].error);
    rank_run(&w.ranks[3]);
    WORLD_WAIT(&w, w.ranks[3].joined);
    WORLD_WAIT(&w, w.ranks[0].last_active == 4 && w.ranks[3].steps_ok > 0);
    world_set_modes(&w, 3, 3, RANK_WORK);
    world_advance(&w, 0, 3, FIRST);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

Test(context, a_drained_rank_leaves_and_the_others_go_on)
{
    world w;
    world_open(&w, 4, 4);
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, FIRST);
    world_lock(&w);
    w.ranks[3].drain = 1;
    world_unlock(&w);
    WORLD_WAIT(&w, w.ranks[3].ended != EEP_OK);
    cr_expect_eq(w.ranks[3].ended, EEP_ERR_DRAINED, "%s", w.ranks[3].text);
    world_advance(&w, 0, 2, FIRST);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 3);
    world_check_right(&w);
    for (int32_t seat = 0; seat < 3; seat++) {
        eep_fault fault;
        cr_expect_eq(rank_sees(&w.ranks[seat], 3, NULL).state, EEP_SEAT_VACANT);
        cr_expect_eq(w.ranks[seat].last_active, 3);
        cr_expect_eq(eep_fault_next(w.ranks[seat].context, EEP_SIZED(&fault)), EEP_ERR_NOT_FOUND);
    }
    world_close(&w);
}

static uint64_t bytes_moved(const world *w, int32_t first, int32_t last)
{
    uint64_t bytes = 0;
    for (int32_t seat = first; seat <= last; seat++) {
        bytes += rank_counters(&w->ranks[seat]).weights_bytes_background;
    }
    return bytes;
}

/* 8 experts on 20 slots; the two who stay have 10: what only the leavers hold moves first. Then two
 * come at once, which load the same experts, and redundancy is levelled behind their backs. */
Test(context, unique_experts_of_leaving_ranks_move_first_and_redundancy_comes_back)
{
    world w;
    uint64_t moved;
    world_open(&w, 4, 4);
    w.config.background_bytes_per_s = 100000000;
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, FIRST);
    world_lock(&w);
    w.ranks[2].drain = w.ranks[3].drain = 1;
    world_unlock(&w);
    WORLD_WAIT(&w, w.ranks[2].ended == EEP_ERR_DRAINED && w.ranks[3].ended == EEP_ERR_DRAINED);
    world_advance(&w, 0, 1, FIRST);
    moved = bytes_moved(&w, 0, 1);
    cr_expect_gt(moved, 0);
    rank_close(&w.ranks[2]);
    rank_close(&w.ranks[3]);
    for (int32_t seat = 2; seat < 4; seat++) {
        cr_assert_eq(rank_open(&w, seat), EEP_OK, "%s", w.ranks[seat].error);
        rank_set_mode(&w.ranks[seat], RANK_WORK);
    }
    for (int32_t seat = 2; seat < 4; seat++) {
        rank_run(&w.ranks[seat]);
    }
    for (int32_t seat = 2; seat < 4; seat++) {
        WORLD_WAIT(&w, w.ranks[seat].joined);
    }
    WORLD_WAIT(&w, bytes_moved(&w, 0, 3) > moved);
    world_advance(&w, 0, 3, MANY);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 3);
    world_check_right(&w);
    for (int32_t seat = 0; seat < 4; seat++) {
        cr_expect_eq(rank_counters(&w.ranks[seat]).weights_bytes_in_pause, 0);
    }
    world_close(&w);
}

/* ---------------------------------------------------------------- faults */

/* It stops stepping with a beating heart: two strikes, and it is out; when it wakes it is told. */
Test(context, a_rank_that_stops_stepping_is_expelled_by_deadline)
{
    world w;
    uint64_t most_aborted = 0;
    world_open(&w, 4, 4);
    w.config.step_deadline_us = DEADLINE_US;
    w.config.warmup_deadline_us = WORLD_PATIENT_US;
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, 3);
    rank_set_mode(&w.ranks[3], RANK_PARK);
    for (int32_t seat = 0; seat < 3; seat++) {
        WORLD_WAIT(&w, w.ranks[seat].last_active == 3);
    }
    world_advance(&w, 0, 2, FIRST);
    for (int32_t seat = 0; seat < 3; seat++) {
        const rank *r = &w.ranks[seat];
        most_aborted = r->steps_aborted > most_aborted ? r->steps_aborted : most_aborted;
        cr_expect_geq(r->steps_aborted, 1, "rank %d", seat); /* the view may come to a slow one */
        check_fault(r, 3, EEP_FAULT_DEADLINE);
        cr_expect_eq(rank_sees(r, 3, NULL).state, EEP_SEAT_QUARANTINED);
        cr_expect_eq(rank_counters(r).weights_bytes_in_pause, 0, "replicas cover");
    }
    cr_expect_geq(most_aborted, 2, "%llu", (unsigned long long)most_aborted);
    rank_set_mode(&w.ranks[3], RANK_WORK);
    WORLD_WAIT(&w, w.ranks[3].ended != EEP_OK);
    cr_expect_eq(w.ranks[3].ended, EEP_ERR_EVICTED, "%s", w.ranks[3].text);
    cr_expect_eq(rank_events(&w.ranks[3], EEP_EVENT_EVICTED), 1);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

/* Threads of one process: the first has stopped stepping and is expelled, and cannot be killed. It
 * has no step in flight, so it says itself that it stores nothing any more, and holds up nobody
 * when the next one goes (rules M2, M7). */
Test(context, an_expelled_thread_does_not_hold_up_the_next_fault)
{
    world w;
    world_open(&w, 5, 5);
    w.config.step_deadline_us = DEADLINE_US;
    w.config.warmup_deadline_us = WORLD_PATIENT_US;
    world_start(&w);
    world_set_modes(&w, 0, 4, RANK_WORK);
    world_advance(&w, 0, 4, 3);
    rank_set_mode(&w.ranks[4], RANK_PARK);
    WORLD_WAIT(&w, w.ranks[0].last_active == 4);
    rank_close(&w.ranks[3]);
    for (int32_t seat = 0; seat < 3; seat++) {
        WORLD_WAIT(&w, w.ranks[seat].last_active == 3);
    }
    world_advance(&w, 0, 2, FIRST);
    for (int32_t seat = 0; seat < 3; seat++) {
        cr_expect_eq(rank_sees(&w.ranks[seat], 4, NULL).state, EEP_SEAT_VACANT);
    }
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

/* Who was not let in in time goes on waiting with the next call. */
Test(context, join_again_after_a_timeout)
{
    world w;
    world_open(&w, 2, 2);
    w.config.join_timeout_us = 20000;
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", w.ranks[0].error);
    eep_context *first = w.ranks[0].context;
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(eep_join(first), EEP_ERR_TIMEOUT, "%s", eep_last_error(first));
    }
    w.config.join_timeout_us = WORLD_PATIENT_US;
    cr_assert_eq(rank_open(&w, 1), EEP_OK, "%s", w.ranks[1].error);
    rank_run(&w.ranks[1]);
    eep_status status = EEP_ERR_TIMEOUT;
    for (int i = 0; i < 500 && status == EEP_ERR_TIMEOUT; i++) {
        status = eep_join(first);
    }
    cr_expect_eq(status, EEP_OK, "%s", eep_last_error(first));
    cr_expect_eq(eep_join(first), EEP_ERR_STATE);
    world_close(&w);
}

/* A closed context is a process that ended: known at once, and its seat is free for a new one. */
Test(context, a_closed_rank_is_expelled_and_its_seat_taken_again)
{
    world w;
    world_open(&w, 4, 4);
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, FIRST);
    rank_close(&w.ranks[1]);
    WORLD_WAIT(&w, w.ranks[0].last_active == 3 && w.ranks[2].last_active == 3 &&
                       w.ranks[3].last_active == 3);
    world_advance(&w, 2, 3, FIRST);
    for (int32_t seat = 0; seat < 4; seat++) {
        if (seat == 1) {
            continue;
        }
        check_fault(&w.ranks[seat], 1, EEP_FAULT_EXIT);
        cr_expect_eq(rank_sees(&w.ranks[seat], 1, NULL).state, EEP_SEAT_VACANT);
    }
    uint64_t aborted = w.ranks[0].steps_aborted;
    let_in(&w, 1, 0, 3, FIRST);
    cr_expect_eq(eep_generation(w.ranks[1].context), 2);
    world_rest(&w);
    world_check_right(&w);
    cr_expect_eq(w.ranks[0].steps_aborted, aborted, "the join aborted a step");
    cr_expect_eq(rank_sees(&w.ranks[0], 1, NULL).generation, 2);
    cr_expect_eq(epoch_of(&w.ranks[0]), 3);
    world_close(&w);
}

/* 15 slots hold 8 experts, so one has a single replica per layer: with its holder gone it comes
 * from a host backup. */
Test(context, an_expert_without_replica_is_repaired_from_a_backup)
{
    world w;
    uint64_t moved = 0;
    world_open(&w, 3, 3);
    w.keep_backups = 1;
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, FIRST);
    rank_close(&w.ranks[2]);
    WORLD_WAIT(&w, w.ranks[0].last_active == 2 && w.ranks[1].last_active == 2);
    world_advance(&w, 0, 1, FIRST);
    world_rest(&w);
    world_check_right(&w);
    for (int32_t seat = 0; seat < 2; seat++) {
        moved += rank_counters(&w.ranks[seat]).weights_bytes_in_pause;
    }
    cr_expect_eq(moved, WORLD_LAYERS * WORLD_TENSORS * WORLD_HIDDEN * sizeof(float), "%llu bytes",
                 (unsigned long long)moved);
    cr_expect_eq(epoch_of(&w.ranks[0]), 3, "REPAIRING, then SERVING");
    world_close(&w);
}

/* The same without backups: nobody serves, until a process brings the expert. */
Test(context, uncovered_experts_close_the_service_until_a_rank_brings_them)
{
    world w;
    world_open(&w, 3, 3);
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, FIRST);
    rank_close(&w.ranks[2]);
    WORLD_WAIT(&w, w.ranks[0].closed > 0 && w.ranks[1].closed > 0);
    world_lock(&w);
    cr_expect(strstr(w.ranks[0].text, "layer 1: experts 7"), "%s", w.ranks[0].text);
    world_unlock(&w);
    let_in(&w, 2, 0, 2, FIRST);
    world_rest(&w);
    world_check_right(&w);
    cr_expect_eq(w.ranks[0].last_active, 3);
    world_close(&w);
}

/* Its heart stops and nobody says that it ended, for the store is away: silence has to tell, and
 * the view is agreed on when the store is back. */
Test(context, a_silent_rank_is_expelled)
{
    char error[256] = "";
    world w;
    world_open(&w, 4, 4);
    w.config.expel_floor_us = SILENT_US;
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, FIRST);
    eep_store_close(w.store);
    for (int32_t seat = 0; seat < 4; seat++) {
        WORLD_WAIT(&w, rank_events(&w.ranks[seat], EEP_EVENT_STORE_LOST) == 1);
    }
    rank_close(&w.ranks[3]);
    for (int32_t seat = 0; seat < 3; seat++) {
        WORLD_WAIT(&w, rank_events(&w.ranks[seat], EEP_EVENT_SUSPECTED) >= 1);
    }
    cr_assert_eq(eep_store_open(w.path, error, sizeof error, &w.store), EEP_OK, "%s", error);
    for (int32_t seat = 0; seat < 3; seat++) {
        WORLD_WAIT(&w, w.ranks[seat].last_active == 3);
    }
    world_advance(&w, 0, 2, FIRST);
    world_rest(&w);
    world_check_right(&w);
    for (int32_t seat = 0; seat < 3; seat++) {
        check_fault(&w.ranks[seat], 3, EEP_FAULT_SILENT);
        cr_expect_eq(rank_sees(&w.ranks[seat], 3, NULL).state, EEP_SEAT_QUARANTINED);
    }
    world_close(&w);
}

/* The store loses its memory while ranks step: no step is lost, and the next fault is agreed on. */
Test(context, the_store_restarts_while_ranks_step)
{
    char error[256] = "";
    world w;
    world_open(&w, 4, 4);
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, FIRST);
    eep_store_close(w.store);
    for (int32_t seat = 0; seat < 4; seat++) {
        WORLD_WAIT(&w, rank_events(&w.ranks[seat], EEP_EVENT_STORE_LOST) == 1);
    }
    world_advance(&w, 0, 3, FIRST);
    cr_assert_eq(eep_store_open(w.path, error, sizeof error, &w.store), EEP_OK, "%s", error);
    for (int32_t seat = 0; seat < 4; seat++) {
        WORLD_WAIT(&w, rank_events(&w.ranks[seat], EEP_EVENT_STORE_BACK) == 1);
    }
    world_advance(&w, 0, 3, FIRST);
    world_check_never_aborted(&w, 0, 3);
    rank_close(&w.ranks[3]);
    for (int32_t seat = 0; seat < 3; seat++) {
        WORLD_WAIT(&w, w.ranks[seat].last_active == 3);
    }
    world_advance(&w, 0, 2, FIRST);
    world_rest(&w);
    world_check_right(&w);
    cr_expect_eq(epoch_of(&w.ranks[0]), 2);
    check_fault(&w.ranks[0], 3, EEP_FAULT_EXIT);
    world_close(&w);
}

static int stream_may_go_on;

static void hold_stream(const void *args, eep_grid grid)
{
    (void)args;
    (void)grid;
    while (!__atomic_load_n(&stream_may_go_on, __ATOMIC_ACQUIRE)) {
        sched_yield();
    }
}

static void do_nothing(const void *args, eep_grid grid)
{
    (void)args;
    (void)grid;
}

static void *let_stream_go_on(void *unused)
{
    const struct timespec bound = {3, 0}; /* so that a test that fails also ends */
    nanosleep(&bound, NULL);
    __atomic_store_n(&stream_may_go_on, 1, __ATOMIC_RELEASE);
    return unused;
}

/* The flip's launch blocks, since the stream is full: the service thread gets on meanwhile, and so
 * do all who ask the context something. */
Test(context, a_flip_whose_launch_blocks_holds_no_lock)
{
    enum { STREAM_ENTRIES = 1024, LOOK_MS = 1000, LONGEST_MS = 500 };
    static const eep_kernel hold = EEP_KERNEL("hold", hold_stream, NULL, NULL, 0);
    static const eep_kernel nothing = EEP_KERNEL("nothing", do_nothing, NULL, NULL, 0);
    uint64_t begin_ms, longest_ms = 0;
    pthread_t bound;
    world w;
    rank *r = &w.ranks[0];
    world_open(&w, 4, 4);
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, FIRST);
    world_rest(&w);
    if (strcmp(eep_device_backend(r->device), "cuda") == 0) { /* its streams have no such bound */
        world_close(&w);
        return;
    }
    rank_set_mode(r, RANK_PARK);
    WORLD_WAIT(&w, world_is_quiet(&w));
    for (int i = 0; i < STREAM_ENTRIES; i++) {
        cr_assert_eq(eep_launch(r->stream, i == 0 ? &hold : &nothing, 1, 1, NULL, 0), EEP_OK);
    }
    rank_close(&w.ranks[3]);
    WORLD_WAIT(&w, rank_events(r, EEP_EVENT_INSTALLED) == 2);
    cr_assert_eq(pthread_create(&bound, NULL, let_stream_go_on, NULL), 0);
    rank_set_mode(r, RANK_FOLLOW);
    begin_ms = world_now_ms();
    for (uint64_t now_ms = begin_ms; now_ms - begin_ms < LOOK_MS;) {
        eep_snapshot snapshot;
        uint64_t after_ms;
        cr_assert_eq(eep_snapshot_get(r->context, EEP_SIZED(&snapshot), NULL, NULL), EEP_OK);
        after_ms = world_now_ms();
        longest_ms = after_ms - now_ms > longest_ms ? after_ms - now_ms : longest_ms;
        now_ms = after_ms;
        sched_yield();
    }
    cr_expect_leq(longest_ms, LONGEST_MS, "the lock was held for %llu ms",
                  (unsigned long long)longest_ms);
    pthread_join(bound, NULL);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, FIRST);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

/* What must not be in a graph is not: nothing in it differs under another view. */
Test(context, s11_a_rank_captures_the_same_under_another_view)
{
    world w;
    rank *r = &w.ranks[1];
    eep_graph *again;
    world_open(&w, 3, 4);
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, FIRST);
    let_in(&w, 3, 0, 3, FIRST);
    world_rest(&w);
    cr_assert_eq(epoch_of(r), 2);
    rank_stop(r);
    again = rank_capture(r);
    cr_expect_eq(eepi_graph_fingerprint(again), eepi_graph_fingerprint(r->graph));
    eep_graph_close(again);
    world_close(&w);
}

/* S11: one capture per rank serves a thousand steps over four joins, a leave and a fault. */
Test(context, s11_a_thousand_replays_over_view_changes)
{
    world w;
    world_open(&w, 4, 6);
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, 200);
    let_in(&w, 4, 0, 4, 200);
    let_in(&w, 5, 0, 5, 200);
    world_check_never_aborted(&w, 0, 3);
    world_lock(&w);
    w.ranks[0].drain = 1;
    world_unlock(&w);
    WORLD_WAIT(&w, w.ranks[0].ended == EEP_ERR_DRAINED);
    rank_close(&w.ranks[0]);
    world_advance(&w, 1, 5, 200);
    rank_close(&w.ranks[2]);
    WORLD_WAIT(&w, w.ranks[1].last_active == 4 && w.ranks[5].last_active == 4);
    world_advance(&w, 3, 5, 200);
    let_in(&w, 0, 3, 5, 100);
    let_in(&w, 2, 0, 5, 100);
    WORLD_WAIT(&w, w.ranks[1].steps_ok >= 1000 && w.ranks[3].steps_ok >= 1000);
    world_rest(&w);
    world_check_right(&w);
    cr_expect_eq(epoch_of(&w.ranks[1]), 7);
    cr_expect_eq(w.ranks[1].last_active, 6);
    cr_expect_eq(eep_generation(w.ranks[0].context), 2);
    world_close(&w);
}
