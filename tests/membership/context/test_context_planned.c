/* SPDX-License-Identifier: Apache-2.0 */
/* Planned changes end to end: ranks join and leave while the others step or idle; flips; and graphs
 * that stay the same over all of it. The suite is that of test_context.c. */
#include "graphs/device/device_ops.h"
#include "membership/context/context.h"
#include "tests/lib/context_checks.h"

#include <string.h>
#include <unistd.h>

enum { FIRST = 20, MANY = 50 };

Test(context, a_rank_joins_while_others_step)
{
    world w;
    uint64_t epoch;
    world_open(&w, 3, 4);
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, FIRST);
    cr_expect_eq(rank_sees(&w.ranks[0], 3, NULL).state, EEP_SEAT_VACANT);
    world_let_in(&w, 3, 0, 3, FIRST);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 2);
    world_check_right(&w);
    for (int32_t seat = 0; seat < 4; seat++) {
        eep_seat fourth = rank_sees(&w.ranks[seat], 3, &epoch);
        cr_expect_eq(fourth.state, EEP_SEAT_ACTIVE, "rank %d", seat);
        cr_expect_eq(fourth.generation, 1);
        world_expect_epoch(epoch, 2);
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

static int stream_may_go_on, has_looked;

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

/* Once the test has looked; or without, so that a test that fails also ends. */
static void *let_stream_go_on(void *unused)
{
    enum { BOUND_MS = 10000 };
    const struct timespec nap = {.tv_nsec = 1000000};
    const uint64_t end_ms = world_now_ms() + BOUND_MS;
    while (!__atomic_load_n(&has_looked, __ATOMIC_ACQUIRE) && world_now_ms() < end_ms) {
        nanosleep(&nap, NULL);
    }
    __atomic_store_n(&stream_may_go_on, 1, __ATOMIC_RELEASE);
    return unused;
}

/* The flip's launch blocks, since the stream is full: the service thread gets on meanwhile, and so
 * do all who ask the context something. */
Test(context, a_flip_whose_launch_blocks_holds_no_lock)
{
    enum { STREAM_ENTRIES = 1024, LOOK_MS = 1000 };
    static const eep_kernel hold = EEP_KERNEL("hold", hold_stream, NULL, NULL, 0);
    static const eep_kernel nothing = EEP_KERNEL("nothing", do_nothing, NULL, NULL, 0);
    bool still_blocks = true;
    uint64_t end_ms;
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
    end_ms = world_now_ms() + LOOK_MS;
    while (still_blocks && world_now_ms() < end_ms) {
        eep_snapshot snapshot;
        cr_assert_eq(eep_snapshot_get(r->context, EEP_SIZED(&snapshot), NULL, NULL), EEP_OK);
        still_blocks = !__atomic_load_n(&stream_may_go_on, __ATOMIC_ACQUIRE);
        sched_yield();
    }
    __atomic_store_n(&has_looked, 1, __ATOMIC_RELEASE);
    cr_expect(still_blocks, "the lock was held for as long as the launch blocked");
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
    world_let_in(&w, 3, 0, 3, FIRST);
    world_rest(&w);
    cr_assert_eq(rank_epoch(r), 2);
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
    world_let_in(&w, 4, 0, 4, 200);
    world_let_in(&w, 5, 0, 5, 200);
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
    world_let_in(&w, 0, 3, 5, 100);
    world_let_in(&w, 2, 0, 5, 100);
    WORLD_WAIT(&w, w.ranks[1].steps_ok >= 1000 && w.ranks[3].steps_ok >= 1000);
    world_rest(&w);
    world_check_right(&w);
    cr_expect_eq(rank_epoch(&w.ranks[1]), 7);
    cr_expect_eq(w.ranks[1].last_active, 6);
    cr_expect_eq(eep_generation(w.ranks[0].context), 2);
    world_close(&w);
}

static void set_wedged(const rank *r, bool is_wedged)
{
    pthread_mutex_lock(&r->context->lock);
    r->context->stepper.wedged = is_wedged;
    pthread_mutex_unlock(&r->context->lock);
}

/* Rank 1 knows the newest view and has not installed it yet, as where it cannot map all windows at
 * once. Were a plan behind it committed, that view would never be installed: it stepped no more,
 * and nobody else did. */
Test(context, L1_no_plan_is_acknowledged_before_the_view_is_installed)
{
    enum { LOOKS = 60, LOOK_US = 10000 };
    uint64_t epoch = 0;
    world w;

    world_open(&w, 2, 3);
    world_start(&w);
    world_rest(&w);
    set_wedged(&w.ranks[1], true);
    cr_assert_eq(rank_open(&w, 2), EEP_OK, "%s", w.ranks[2].error);
    rank_run(&w.ranks[2]);
    for (int i = 0; i < LOOKS; i++) {
        usleep(LOOK_US);
        (void)rank_sees(&w.ranks[0], 2, &epoch);
        cr_assert_eq(epoch, 1, "a plan was committed");
    }
    set_wedged(&w.ranks[1], false);
    eepi_service_wake(w.ranks[1].context);
    WORLD_WAIT(&w, w.ranks[2].joined);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, FIRST);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}
