/* SPDX-License-Identifier: Apache-2.0 */
/* Faults end to end: ranks that stop, fall silent or close; weights that are repaired or missing; a
 * store that restarts. The suite is that of test_context.c. */
#include "graphs/device/device_ops.h"
#include "tests/lib/context_checks.h"

#include <string.h>

enum { FIRST = 20, DEADLINE_US = 300000 };

/* It stops stepping with a beating heart: two missed deadlines, and it is out; when it wakes it is
 * told. */
Test(context, a_rank_that_stops_stepping_is_expelled_by_deadline)
{
    world w;
    uint64_t most_aborted = 0;
    world_open(&w, 4, 4);
    w.config.step_deadline_us = DEADLINE_US;
    w.config.warmup_deadline_us = WORLD_PATIENT_US;
    world_start(&w);
    world_excuse(&w, 0, 3);
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, 3);
    rank_fall_silent(&w.ranks[3]);
    for (int32_t seat = 0; seat < 3; seat++) {
        WORLD_WAIT(&w, w.ranks[seat].last_active == 3);
    }
    world_advance(&w, 0, 2, FIRST);
    for (int32_t seat = 0; seat < 3; seat++) {
        const rank *r = &w.ranks[seat];
        most_aborted = r->steps_aborted > most_aborted ? r->steps_aborted : most_aborted;
        cr_expect_geq(r->steps_aborted, 1, "rank %d", seat); /* the view may come to a slow one */
        rank_expect_fault(r, 3, EEP_FAULT_DEADLINE);
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
    world_excuse(&w, 0, 4);
    world_set_modes(&w, 0, 4, RANK_WORK);
    world_advance(&w, 0, 4, 3);
    rank_fall_silent(&w.ranks[4]);
    WORLD_WAIT(&w, w.ranks[0].last_active == 4);
    rank_close(&w.ranks[3]);
    for (int32_t seat = 0; seat < 3; seat++) {
        WORLD_WAIT(&w, w.ranks[seat].last_active == 3);
    }
    world_advance(&w, 0, 2, FIRST);
    for (int32_t seat = 0; seat < 3; seat++) {
        WORLD_WAIT(&w, rank_sees(&w.ranks[seat], 4, NULL).state == EEP_SEAT_VACANT);
    }
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

/* A rank that was not let in in time goes on waiting with the next call. */
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
        rank_expect_fault(&w.ranks[seat], 1, EEP_FAULT_EXIT);
        cr_expect_eq(rank_sees(&w.ranks[seat], 1, NULL).state, EEP_SEAT_VACANT);
    }
    uint64_t aborted = w.ranks[0].steps_aborted;
    world_let_in(&w, 1, 0, 3, FIRST);
    cr_expect_eq(eep_generation(w.ranks[1].context), 2);
    world_rest(&w);
    world_check_right(&w);
    cr_expect_eq(w.ranks[0].steps_aborted, aborted, "the join aborted a step");
    cr_expect_eq(rank_sees(&w.ranks[0], 1, NULL).generation, 2);
    world_expect_epoch(rank_epoch(&w.ranks[0]), 3);
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
    cr_expect_eq(rank_epoch(&w.ranks[0]), 3, "REPAIRING, then SERVING");
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
    world_let_in(&w, 2, 0, 2, FIRST);
    world_rest(&w);
    world_check_right(&w);
    cr_expect_eq(w.ranks[0].last_active, 3);
    world_close(&w);
}

/* The store is away, so nobody is told that it ended. Its bell rings, and the view is agreed on
 * when the store is back. */
Test(context, a_rank_that_closes_is_heard_without_the_store)
{
    world w;
    world_open(&w, 4, 4);
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
    world_serve(&w);
    for (int32_t seat = 0; seat < 3; seat++) {
        WORLD_WAIT(&w, w.ranks[seat].last_active == 3);
    }
    world_advance(&w, 0, 2, FIRST);
    world_rest(&w);
    world_check_right(&w);
    for (int32_t seat = 0; seat < 3; seat++) {
        rank_expect_fault(&w.ranks[seat], 3, EEP_FAULT_EXIT);
        cr_expect_eq(rank_sees(&w.ranks[seat], 3, NULL).state, EEP_SEAT_VACANT);
    }
    world_close(&w);
}

/* The store loses its memory while ranks step: no step is lost, and the next fault is agreed on. */
Test(context, the_store_restarts_while_ranks_step)
{
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
    world_serve(&w);
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
    cr_expect_eq(rank_epoch(&w.ranks[0]), 2);
    rank_expect_fault(&w.ranks[0], 3, EEP_FAULT_EXIT);
    world_close(&w);
}
