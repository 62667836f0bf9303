/* The public API end to end: contexts as threads of one process, each with a host device, stepping
 * together through joins, leaves, faults and bad input. Every result of every step is checked. */
#include "tests/context_fixture.h"

#include <stddef.h>
#include <string.h>

TestSuite(context, .timeout = 100);

enum { FIRST = 20, MANY = 50, DEADLINE_US = 300000, SILENT_US = 200000 };

/* Wait until the ranks first .. last have each ended `more` further steps OK. */
static void advance(world *w, int32_t first, int32_t last, uint64_t more)
{
    uint64_t from[WORLD_SEATS];
    world_lock(w);
    for (int32_t seat = first; seat <= last; seat++)
        from[seat] = w->ranks[seat].steps_ok;
    world_unlock(w);
    for (int32_t seat = first; seat <= last; seat++)
        WORLD_WAIT(w, w->ranks[seat].steps_ok >= from[seat] + more);
}

static void rest(world *w)
{
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        if (w->ranks[seat].mode == RANK_WORK)
            rank_set_mode(&w->ranks[seat], RANK_FOLLOW);
    }
    WORLD_WAIT(w, world_is_quiet(w));
}

/* No wrong number and no capture since the join, on all ranks that are open. */
static void check_right(world *w)
{
    for (int32_t seat = 0; seat < WORLD_SEATS; seat++) {
        const rank *r = &w->ranks[seat];
        if (!r->context || !r->joined)
            continue;
        cr_expect_eq(r->wrong, 0, "rank %d: %llu numbers are wrong", seat,
                     (unsigned long long)r->wrong);
        cr_expect_eq(rank_counters(r).captures_after_join, 0, "rank %d", seat);
        cr_expect_eq(eep_device_captures(r->device), 1, "rank %d", seat);
    }
}

static void check_never_aborted(world *w, int32_t first, int32_t last)
{
    for (int32_t seat = first; seat <= last; seat++) {
        eep_counters counters = rank_counters(&w->ranks[seat]);
        cr_expect_eq(w->ranks[seat].steps_aborted, 0, "rank %d: %s", seat, w->ranks[seat].text);
        cr_expect_eq(counters.steps_aborted, 0);
        cr_expect_eq(counters.steps_aborted_by_join, 0);
    }
}

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
    cr_assert_eq(eep_fault_next(r->context, &fault), EEP_OK, "rank %d", r->seat);
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
    advance(&w, 0, 3, MANY);
    rest(&w);
    check_never_aborted(&w, 0, 3);
    check_right(&w);
    for (int32_t seat = 0; seat < 4; seat++) {
        const rank *r = &w.ranks[seat];
        eep_counters counters = rank_counters(r);
        cr_expect_eq(counters.steps_ok, r->steps_ok);
        cr_expect_gt(counters.window_bytes, 0);
        cr_expect_eq(r->last_epoch, 1);
        cr_expect_eq(r->last_active, 4);
        cr_expect_eq(eep_rank(r->context), seat);
        cr_expect_eq(eep_generation(r->context), 1);
        for (int32_t i = 0; i < WORLD_LAYERS * WORLD_SLOTS; i++)
            cr_expect_eq(eep_physical_to_logical(r->context)[i],
                         eep_slot_expert(r->context, i / WORLD_SLOTS, i % WORLD_SLOTS));
    }
    world_close(&w);
}

Test(context, idle_ranks_follow_the_one_with_work)
{
    world w;
    world_open(&w, 4, 4);
    world_start(&w);
    rank_set_mode(&w.ranks[2], RANK_WORK);
    advance(&w, 2, 2, FIRST);
    rest(&w);
    check_never_aborted(&w, 0, 3);
    check_right(&w);
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
    advance(&w, 0, 2, 1);
    rest(&w);
    uint64_t steps = w.ranks[0].steps_ok;
    world_set_modes(&w, 0, 2, RANK_FOLLOW);
    for (int32_t seat = 0; seat < 3; seat++)
        WORLD_WAIT(&w, w.ranks[seat].idles >= 5);
    for (int32_t seat = 0; seat < 3; seat++)
        cr_expect_eq(w.ranks[seat].steps_ok, steps, "rank %d", seat);
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
    advance(w, 0, 2, 2); /* the next good ones work, here and at the peers */
}

Test(context, bad_input_is_named_and_disturbs_nobody)
{
    world w;
    world_open(&w, 3, 3);
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    advance(&w, 0, 2, 3);
    feed_bad(&w, &w.ranks[1], BAD_EXPERT_HIGH, "token 1, k 1", " 8 ");
    feed_bad(&w, &w.ranks[1], BAD_EXPERT_LOW, "token 2, k 0", " -7 ");
    feed_bad(&w, &w.ranks[1], BAD_TWICE, "token 3, k 1", "twice");
    feed_bad(&w, &w.ranks[1], BAD_TOO_MANY, "num_tokens", " 5:");
    feed_bad(&w, &w.ranks[1], BAD_NEGATIVE, "num_tokens", " -1:");
    rest(&w);
    check_never_aborted(&w, 0, 2);
    check_right(&w);
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
    advance(&w, 0, 2, 3);
    rank_set_mode(&w.ranks[1], RANK_PARK);
    WORLD_WAIT(&w, !w.ranks[1].busy && w.ranks[0].in_step && w.ranks[2].in_step &&
                       w.ranks[0].last_step > w.ranks[1].last_step);
    uint64_t position = w.ranks[0].position, other = w.ranks[2].position;
    uint64_t step = w.ranks[0].last_step;
    eep_step_abort(w.ranks[0].context);
    WORLD_WAIT(&w, w.ranks[0].steps_aborted == 1 && w.ranks[2].steps_aborted == 1);
    cr_expect_eq(w.ranks[0].position, position);
    cr_expect_eq(w.ranks[2].position, other);
    rank_set_mode(&w.ranks[1], RANK_WORK);
    WORLD_WAIT(&w, w.ranks[0].position > position && w.ranks[2].position > other);
    cr_expect_gt(w.ranks[0].last_step, step, "a step number was used twice");
    advance(&w, 0, 2, 5);
    rest(&w);
    check_right(&w);
    cr_expect_eq(epoch_of(&w.ranks[0]), 1, "an abort is no change of membership");
    eep_step_abort(w.ranks[0].context); /* none is running: nothing happens */
    rank_set_mode(&w.ranks[0], RANK_WORK);
    advance(&w, 0, 2, 2);
    world_close(&w);
}

/* ---------------------------------------------------------------- planned changes */

Test(context, a_rank_joins_while_others_step)
{
    world w;
    uint64_t epoch;
    world_open(&w, 3, 4);
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    advance(&w, 0, 2, FIRST);
    cr_expect_eq(rank_sees(&w.ranks[0], 3, NULL).state, EEP_SEAT_VACANT);
    cr_assert_eq(rank_open(&w, 3), EEP_OK, "%s", w.ranks[3].error);
    rank_set_mode(&w.ranks[3], RANK_WORK);
    rank_run(&w.ranks[3]);
    WORLD_WAIT(&w, w.ranks[3].joined);
    advance(&w, 0, 3, FIRST);
    rest(&w);
    check_never_aborted(&w, 0, 2);
    check_right(&w);
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
    advance(&w, 0, 3, FIRST);
    rest(&w);
    check_right(&w);
    world_close(&w);
}

Test(context, a_drained_rank_leaves_and_the_others_go_on)
{
    world w;
    world_open(&w, 4, 4);
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    advance(&w, 0, 3, FIRST);
    world_lock(&w);
    w.ranks[3].drain = 1;
    world_unlock(&w);
    WORLD_WAIT(&w, w.ranks[3].ended != EEP_OK);
    cr_expect_eq(w.ranks[3].ended, EEP_ERR_DRAINED, "%s", w.ranks[3].text);
    advance(&w, 0, 2, FIRST);
    rest(&w);
    check_never_aborted(&w, 0, 3);
    check_right(&w);
    for (int32_t seat = 0; seat < 3; seat++) {
        eep_fault fault;
        cr_expect_eq(rank_sees(&w.ranks[seat], 3, NULL).state, EEP_SEAT_VACANT);
        cr_expect_eq(w.ranks[seat].last_active, 3);
        cr_expect_eq(eep_fault_next(w.ranks[seat].context, &fault), EEP_ERR_NOT_FOUND);
    }
    world_close(&w);
}

/* ---------------------------------------------------------------- faults */

/* It stops stepping with a beating heart: two strikes, and it is out; when it wakes it is told. */
Test(context, a_rank_that_stops_stepping_is_expelled_by_deadline)
{
    world w;
    world_open(&w, 4, 4);
    w.config.step_deadline_us = DEADLINE_US;
    w.config.warmup_deadline_us = WORLD_PATIENT_US;
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    advance(&w, 0, 3, 3);
    rank_set_mode(&w.ranks[3], RANK_PARK);
    for (int32_t seat = 0; seat < 3; seat++)
        WORLD_WAIT(&w, w.ranks[seat].last_active == 3);
    advance(&w, 0, 2, FIRST);
    for (int32_t seat = 0; seat < 3; seat++) {
        const rank *r = &w.ranks[seat];
        cr_expect_geq(r->steps_aborted, 2, "rank %d: %llu", seat,
                      (unsigned long long)r->steps_aborted);
        check_fault(r, 3, EEP_FAULT_DEADLINE);
        cr_expect_eq(rank_sees(r, 3, NULL).state, EEP_SEAT_QUARANTINED);
        cr_expect_eq(rank_counters(r).weights_bytes_in_pause, 0, "replicas cover");
    }
    rank_set_mode(&w.ranks[3], RANK_WORK);
    WORLD_WAIT(&w, w.ranks[3].ended != EEP_OK);
    cr_expect_eq(w.ranks[3].ended, EEP_ERR_EVICTED, "%s", w.ranks[3].text);
    cr_expect_eq(rank_events(&w.ranks[3], EEP_EVENT_EVICTED), 1);
    rest(&w);
    check_right(&w);
    world_close(&w);
}

/* A closed context is a process that ended: known at once, and its seat is free for a new one. */
Test(context, a_closed_rank_is_expelled_and_its_seat_taken_again)
{
    world w;
    world_open(&w, 4, 4);
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    advance(&w, 0, 3, FIRST);
    rank_close(&w.ranks[1]);
    WORLD_WAIT(&w, w.ranks[0].last_active == 3 && w.ranks[2].last_active == 3 &&
                       w.ranks[3].last_active == 3);
    advance(&w, 2, 3, FIRST);
    for (int32_t seat = 0; seat < 4; seat++) {
        if (seat == 1)
            continue;
        check_fault(&w.ranks[seat], 1, EEP_FAULT_EXIT);
        cr_expect_eq(rank_sees(&w.ranks[seat], 1, NULL).state, EEP_SEAT_VACANT);
    }
    uint64_t aborted = w.ranks[0].steps_aborted;
    cr_assert_eq(rank_open(&w, 1), EEP_OK, "%s", w.ranks[1].error);
    cr_expect_eq(eep_generation(w.ranks[1].context), 2);
    rank_set_mode(&w.ranks[1], RANK_WORK);
    rank_run(&w.ranks[1]);
    WORLD_WAIT(&w, w.ranks[1].joined);
    advance(&w, 0, 3, FIRST);
    rest(&w);
    check_right(&w);
    cr_expect_eq(w.ranks[0].steps_aborted, aborted, "the join aborted a step");
    cr_expect_eq(rank_sees(&w.ranks[0], 1, NULL).generation, 2);
    cr_expect_eq(epoch_of(&w.ranks[0]), 3);
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
    advance(&w, 0, 3, FIRST);
    eep_store_close(w.store);
    for (int32_t seat = 0; seat < 4; seat++)
        WORLD_WAIT(&w, rank_events(&w.ranks[seat], EEP_EVENT_STORE_LOST) == 1);
    rank_close(&w.ranks[3]);
    for (int32_t seat = 0; seat < 3; seat++)
        WORLD_WAIT(&w, rank_events(&w.ranks[seat], EEP_EVENT_SUSPECTED) >= 1);
    cr_assert_eq(eep_store_open(w.path, error, sizeof(error), &w.store), EEP_OK, "%s", error);
    for (int32_t seat = 0; seat < 3; seat++)
        WORLD_WAIT(&w, w.ranks[seat].last_active == 3);
    advance(&w, 0, 2, FIRST);
    rest(&w);
    check_right(&w);
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
    advance(&w, 0, 3, FIRST);
    eep_store_close(w.store);
    for (int32_t seat = 0; seat < 4; seat++)
        WORLD_WAIT(&w, rank_events(&w.ranks[seat], EEP_EVENT_STORE_LOST) == 1);
    advance(&w, 0, 3, FIRST);
    cr_assert_eq(eep_store_open(w.path, error, sizeof(error), &w.store), EEP_OK, "%s", error);
    for (int32_t seat = 0; seat < 4; seat++)
        WORLD_WAIT(&w, rank_events(&w.ranks[seat], EEP_EVENT_STORE_BACK) == 1);
    advance(&w, 0, 3, FIRST);
    check_never_aborted(&w, 0, 3);
    rank_close(&w.ranks[3]);
    for (int32_t seat = 0; seat < 3; seat++)
        WORLD_WAIT(&w, w.ranks[seat].last_active == 3);
    advance(&w, 0, 2, FIRST);
    rest(&w);
    check_right(&w);
    cr_expect_eq(epoch_of(&w.ranks[0]), 2);
    check_fault(&w.ranks[0], 3, EEP_FAULT_EXIT);
    world_close(&w);
}

/* A rank in a free seat, working, and `more` steps of all of first .. last. */
static void let_in(world *w, int32_t seat, int32_t first, int32_t last, uint64_t more)
{
    rank *r = &w->ranks[seat];
    cr_assert_eq(rank_open(w, seat), EEP_OK, "%s", r->error);
    rank_set_mode(r, RANK_WORK);
    rank_run(r);
    WORLD_WAIT(w, r->joined);
    advance(w, first, last, more);
}

/* S11: one capture per rank serves a thousand steps over four joins, a leave and a fault. */
Test(context, s11_a_thousand_replays_over_view_changes)
{
    world w;
    world_open(&w, 4, 6);
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    advance(&w, 0, 3, 200);
    let_in(&w, 4, 0, 4, 200);
    let_in(&w, 5, 0, 5, 200);
    check_never_aborted(&w, 0, 3);
    world_lock(&w);
    w.ranks[0].drain = 1;
    world_unlock(&w);
    WORLD_WAIT(&w, w.ranks[0].ended == EEP_ERR_DRAINED);
    rank_close(&w.ranks[0]);
    advance(&w, 1, 5, 200);
    rank_close(&w.ranks[2]);
    WORLD_WAIT(&w, w.ranks[1].last_active == 4 && w.ranks[5].last_active == 4);
    advance(&w, 3, 5, 200);
    let_in(&w, 0, 3, 5, 100);
    let_in(&w, 2, 0, 5, 100);
    WORLD_WAIT(&w, w.ranks[1].steps_ok >= 1000 && w.ranks[3].steps_ok >= 1000);
    rest(&w);
    check_right(&w);
    cr_expect_eq(epoch_of(&w.ranks[1]), 7);
    cr_expect_eq(w.ranks[1].last_active, 6);
    cr_expect_eq(eep_generation(w.ranks[0].context), 2);
    world_close(&w);
}

/* ---------------------------------------------------------------- what is refused */

typedef struct mistake {
    size_t offset, bytes;
    int64_t value;
    const char *field;
} mistake;
#define MISTAKE(field, value)                                                                      \
    {                                                                                              \
        offsetof(eep_config, field), sizeof(((eep_config *)0)->field), value, #field               \
    }

static const mistake mistakes[] = {
    MISTAKE(struct_bytes, 8),
    MISTAKE(struct_bytes, 0),
    MISTAKE(rank, -1),
    MISTAKE(rank, 2),
    MISTAKE(num_ranks, 0),
    MISTAKE(num_ranks, -3),
    MISTAKE(num_ranks, 3),
    MISTAKE(max_ranks, -1),
    MISTAKE(max_ranks, EEP_MAX_RANKS + 1),
    MISTAKE(store_path, 0),
    MISTAKE(device, 0),
    MISTAKE(num_layers, 0),
    MISTAKE(num_layers, EEP_MAX_LAYERS + 1),
    MISTAKE(num_experts, 0),
    MISTAKE(num_experts, EEP_MAX_EXPERTS + 1),
    MISTAKE(num_slots, 0),
    MISTAKE(num_slots, 65535),
    MISTAKE(top_k, 0),
    MISTAKE(top_k, WORLD_EXPERTS + 1),
    MISTAKE(top_k, EEP_MAX_TOPK + 1),
    MISTAKE(hidden, 0),
    MISTAKE(hidden, -16),
    MISTAKE(num_max_tokens_per_rank, 0),
    MISTAKE(num_max_tokens_per_rank, 65536),
    MISTAKE(dtype, 2),
    MISTAKE(heartbeat_period_us, 0),
    MISTAKE(heartbeat_suspect_us, 0),
    MISTAKE(step_deadline_us, 0),
    MISTAKE(step_deadline_us, INT64_MAX),
    MISTAKE(warmup_deadline_us, 0),
    MISTAKE(warmup_deadline_us, INT64_MAX),
    MISTAKE(expel_floor_us, 0),
    MISTAKE(drain_bound_us, 0),
    MISTAKE(propose_delay_us, INT64_MAX),
    MISTAKE(join_timeout_us, INT64_MAX),
};

static eep_status open_with(const eep_config *config, char *error, size_t error_bytes)
{
    eep_context *context = NULL;
    eep_status status = eep_open(config, error, error_bytes, &context);
    if (status == EEP_OK)
        eep_close(context);
    else
        cr_expect_null(context, "an output was set without success");
    return status;
}

Test(context, a_bad_configuration_is_refused_by_field)
{
    world w;
    eep_device *device;
    char error[256];
    world_open(&w, 2, 2);
    cr_assert_eq(eep_device_open("host", 0, &device), EEP_OK);
    w.config.device = device;
    w.config.rank = 0;
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        const mistake *m = &mistakes[i];
        eep_config config = w.config;
        memcpy((char *)&config + m->offset, &m->value, m->bytes);
        eep_status status = open_with(&config, error, sizeof(error));
        const char *name = strcmp(m->field, "struct_bytes") == 0 ? "eep_config" : m->field;
        cr_expect_eq(status, EEP_ERR_INVALID, "%s = %lld: %s", m->field, (long long)m->value,
                     eep_strerror(status));
        cr_expect(status == EEP_OK || strstr(error, name), "%s = %lld: the text is '%s'", m->field,
                  (long long)m->value, error);
    }
    cr_expect_eq(open_with(&w.config, NULL, 0), EEP_OK, "the configuration itself is good");
    eep_device_close(device);
    world_close(&w);
}

Test(context, too_few_slots_for_the_experts_are_refused)
{
    world w;
    world_open(&w, 3, 4);
    w.config.num_slots = 2;
    cr_expect_eq(rank_open(&w, 0), EEP_ERR_INVALID);
    cr_expect(strstr(w.ranks[0].error, "num_slots") && strstr(w.ranks[0].error, "8 experts"), "%s",
              w.ranks[0].error);
    world_close(&w);
}

Test(context, a_store_that_does_not_answer_is_named)
{
    world w;
    world_open(&w, 1, 1);
    w.config.store_path = "/nonexistent/store";
    cr_expect_eq(rank_open(&w, 0), EEP_ERR_UNREACHABLE);
    cr_expect(strstr(w.ranks[0].error, "/nonexistent/store"), "%s", w.ranks[0].error);
    world_close(&w);
}

Test(context, a_taken_seat_and_another_shape_are_refused)
{
    world w;
    rank *second;
    world_open(&w, 2, 3);
    world_start(&w);
    second = &w.ranks[WORLD_SEATS - 1]; /* its place in the fixture, not in the instance */
    cr_assert_eq(eep_device_open("host", 0, &second->device), EEP_OK);
    eep_config config = w.config;
    config.rank = 1;
    config.device = second->device;
    cr_expect_eq(open_with(&config, second->error, sizeof(second->error)), EEP_ERR_SEAT_TAKEN);
    cr_expect(strstr(second->error, "holds the seat"), "%s", second->error);
    config.rank = 2;
    config.num_experts = WORLD_EXPERTS - 1;
    cr_expect_eq(open_with(&config, second->error, sizeof(second->error)), EEP_ERR_INVALID);
    cr_expect(strstr(second->error, "num_experts"), "%s", second->error);
    world_set_modes(&w, 0, 1, RANK_WORK);
    advance(&w, 0, 1, 5);
    rest(&w);
    check_never_aborted(&w, 0, 1);
    check_right(&w);
    world_close(&w);
}

/* Two replicas of an expert with different bytes never get into one view. */
Test(context, differing_weights_are_refused)
{
    world w;
    world_open(&w, 3, 3);
    int32_t holders = 0;
    for (int32_t seat = 0; seat < 3; seat++) {
        w.ranks[seat].heavier = (float)seat;
        cr_assert_eq(rank_open(&w, seat), EEP_OK, "%s", w.ranks[seat].error);
        for (int32_t slot = 0; slot < WORLD_SLOTS; slot++)
            holders += eep_slot_expert(w.ranks[seat].context, 1, slot) == 3;
    }
    cr_assert_geq(holders, 2);
    for (int32_t seat = 0; seat < 3; seat++)
        rank_run(&w.ranks[seat]);
    for (int32_t seat = 0; seat < 3; seat++) {
        const rank *r = &w.ranks[seat];
        WORLD_WAIT(&w, r->join_status != EEP_OK);
        cr_expect_eq(r->join_status, EEP_ERR_UNCOVERED, "%s", eep_strerror(r->join_status));
        cr_expect(strstr(r->text, "layer 1 expert 3"), "rank %d: %s", seat, r->text);
    }
    world_close(&w);
}

static void expect_state(const rank *r, eep_status status, const char *what)
{
    cr_expect_eq(status, EEP_ERR_STATE, "%s: %s", what, eep_strerror(status));
    cr_expect_neq(eep_last_error(r->context)[0], '\0', "%s", what);
}

Test(context, calls_in_the_wrong_order_are_refused)
{
    world w;
    eep_step step;
    eep_tensor tensors[WORLD_TENSORS] = {{&w, WORLD_HIDDEN * sizeof(float)},
                                         {&w, WORLD_HIDDEN * sizeof(float)}};
    world_open(&w, 1, 1);
    w.config.num_slots = WORLD_EXPERTS;
    rank *r = &w.ranks[0];
    eep_config config = w.config;
    cr_assert_eq(eep_device_open("host", 0, &r->device), EEP_OK);
    cr_assert_eq(eep_stream_open(r->device, &r->stream), EEP_OK);
    config.rank = 0;
    config.device = r->device;
    cr_assert_eq(eep_open(&config, r->error, sizeof(r->error), &r->context), EEP_OK, "%s",
                 r->error);
    expect_state(r, eep_join(r->context), "join without a graph");
    expect_state(r, eep_step_begin(r->context, 0, &step), "begin before join");
    expect_state(r, eep_step_end(r->context), "end before join");
    expect_state(r, eep_step_wait(r->context, 0), "wait before join");
    expect_state(r, eep_drain(r->context), "drain before join");
    int32_t number = 0;
    float row[WORLD_HIDDEN];
    eep_combine_args combine = {row, row, &number, row, EEP_FP32};
    expect_state(r, eep_combine(r->context, 0, r->stream, &combine), "combine before dispatch");
    cr_expect_eq(eep_combine(r->context, WORLD_LAYERS, r->stream, &combine), EEP_ERR_INVALID);
    eep_dispatch_args dispatch = {row, NULL, &number, row, &number};
    cr_expect_eq(eep_dispatch(r->context, 0, r->stream, &dispatch), EEP_ERR_INVALID);
    cr_expect_eq(eep_slot_set(r->context, 0, WORLD_EXPERTS, tensors, 2), EEP_ERR_INVALID);
    cr_expect_eq(eep_slot_set(r->context, 0, 0, tensors, EEP_MAX_TENSORS + 1), EEP_ERR_INVALID);
    cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
    cr_assert_eq(eep_step_latch(r->context, r->stream), EEP_OK);
    cr_assert_eq(eep_capture_end(r->stream, &r->graph), EEP_OK);
    expect_state(r, eep_join(r->context), "join without weights");
    cr_expect(strstr(eep_last_error(r->context), "layer 0 slot 0"), "%s",
              eep_last_error(r->context));
    world_close(&w);
}

Test(context, calls_in_the_wrong_order_leave_a_running_rank_alone)
{
    world w;
    eep_step step;
    eep_tensor tensors[WORLD_TENSORS] = {{&w, WORLD_HIDDEN * sizeof(float)},
                                         {&w, WORLD_HIDDEN * sizeof(float)}};
    world_open(&w, 1, 2);
    w.config.num_experts = WORLD_SLOTS; /* what one rank can hold */
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    expect_state(r, eep_join(r->context), "join twice");
    expect_state(r, eep_step_end(r->context), "end without begin");
    expect_state(r, eep_slot_set(r->context, 0, 0, tensors, WORLD_TENSORS), "weights after join");
    expect_state(r, eep_backup_set(r->context, 0, 0, tensors, WORLD_TENSORS), "backup after join");
    cr_expect_eq(rank_step(r, 0), EEP_OK, "%s", r->text);
    cr_assert_eq(eep_step_begin(r->context, 0, &step), EEP_OK);
    expect_state(r, eep_step_begin(r->context, 0, &step), "begin twice");
    expect_state(r, eep_step_wait(r->context, 0), "wait in a step");
    expect_state(r, eep_step_end(r->context), "end without replay");
    cr_expect_eq(rank_step(r, 0), EEP_OK, "%s", r->text);
    cr_expect_eq(eep_step_wait(r->context, 0), EEP_ERR_TIMEOUT);
    cr_expect_eq(rank_counters(r).steps_ok, 2);
    world_close(&w);
}
