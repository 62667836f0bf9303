/* SPDX-License-Identifier: Apache-2.0 */
/* Rule P11 through the public API: reports, expulsions, groups of seats, the descriptor of an event
 * loop, and what a rank will take. Ranks are threads: nobody is killed. */
#include "eep/control.h"
#include "tests/lib/context_fixture.h"

#include <poll.h>
#include <string.h>

TestSuite(context_control, .timeout = 100);

enum { PATIENT_US = 20000000 };

static eep_seat_state state_of(const rank *r, int32_t seat)
{
    return rank_sees(r, seat, NULL).state;
}

static eep_fault_kind fault_of(rank *r, int32_t seat)
{
    eep_fault fault;

    while (eep_fault_next(r->context, EEP_SIZED(&fault)) == EEP_OK) {
        if (fault.seat == seat) {
            return fault.kind;
        }
    }
    return (eep_fault_kind)-1;
}

static void start_working(world *w, int32_t num_ranks, int32_t seats_per_group)
{
    world_open(w, num_ranks, num_ranks);
    w->config.seats_per_group = seats_per_group;
    world_start(w);
    world_set_modes(w, 0, num_ranks - 1, RANK_WORK);
    world_advance(w, 0, num_ranks - 1, 3);
}

Test(context_control, P11_an_expelled_rank_is_out_when_the_call_returns)
{
    eep_verdict verdict;
    uint64_t epoch;
    world w;

    start_working(&w, 4, 0);
    cr_assert_eq(eep_expel(w.ranks[0].context, 2, 1, PATIENT_US, EEP_SIZED(&verdict)), EEP_OK, "%s",
                 eep_error_text());
    cr_assert(verdict.is_out == 1 && verdict.epoch > 1 && verdict.kept_epoch == 0);
    cr_assert_eq(rank_sees(&w.ranks[0], 2, &epoch).state, EEP_SEAT_QUARANTINED);
    cr_assert_eq(epoch, verdict.epoch, "the query shows the view that decided");
    WORLD_WAIT(&w, w.ranks[2].ended == EEP_ERR_EVICTED);
    world_advance(&w, 0, 1, 3);
    world_advance(&w, 3, 3, 3);
    cr_assert_eq(fault_of(&w.ranks[0], 2), EEP_FAULT_EXPELLED);
    cr_assert_eq(fault_of(&w.ranks[3], 2), EEP_FAULT_EXPELLED);
    cr_assert_eq(eep_expel(w.ranks[0].context, 2, 1, 0, NULL), EEP_OK, "it is out already");
    cr_assert_eq(eep_expel(w.ranks[1].context, 2, 1, 0, NULL), EEP_OK);
    cr_assert_eq(eep_fault_report(w.ranks[1].context, 2, 1, EEP_FAULT_RESET), EEP_ERR_NOT_FOUND);
    world_close(&w);
}

Test(context_control, P11_a_report_leaves_out_whom_it_names)
{
    world w;

    start_working(&w, 3, 0);
    cr_assert_eq(eep_fault_report(w.ranks[2].context, 0, 1, EEP_FAULT_BAD_ANSWER), EEP_OK);
    WORLD_WAIT(&w, w.ranks[0].ended == EEP_ERR_EVICTED);
    world_advance(&w, 1, 2, 3);
    cr_assert_eq(fault_of(&w.ranks[1], 0), EEP_FAULT_BAD_ANSWER);
    cr_assert_eq(eep_fault_report(w.ranks[0].context, 1, 1, EEP_FAULT_RESET), EEP_ERR_EVICTED);
    world_close(&w);
}

Test(context_control, P11_a_rank_that_has_failed_says_so_itself)
{
    world w;

    start_working(&w, 3, 0);
    cr_assert_eq(eep_fault_report(w.ranks[1].context, 1, 1, EEP_FAULT_DEVICE), EEP_OK);
    WORLD_WAIT(&w, w.ranks[1].ended == EEP_ERR_EVICTED);
    world_advance(&w, 0, 0, 3);
    cr_assert_eq(fault_of(&w.ranks[0], 1), EEP_FAULT_DEVICE);
    world_close(&w);
}

Test(context_control, P11_nobody_is_expelled_where_experts_would_be_lost)
{
    eep_verdict verdict;
    world w;

    start_working(&w, 2, 0); /* 8 experts, and 5 slots of a rank */
    cr_assert_eq(eep_expel(w.ranks[0].context, 1, 1, PATIENT_US, EEP_SIZED(&verdict)),
                 EEP_ERR_CONFLICT);
    cr_assert(strstr(eep_error_text(), "kept rank 1"), "%s", eep_error_text());
    cr_assert(verdict.is_out == 0 && verdict.kept_epoch > 1);
    world_advance(&w, 0, 1, 3);
    cr_assert_eq(state_of(&w.ranks[0], 1), EEP_SEAT_ACTIVE);
    world_close(&w);
}

Test(context_control, P11_oneself_is_left_as_by_eep_drain)
{
    world w;

    start_working(&w, 4, 0);
    cr_assert_eq(eep_expel(w.ranks[3].context, 3, 1, 0, NULL), EEP_OK);
    WORLD_WAIT(&w, w.ranks[3].ended == EEP_ERR_DRAINED);
    world_advance(&w, 0, 2, 3);
    world_check_never_aborted(&w, 0, 2);
    world_close(&w);
}

Test(context_control, calls_refuse_what_cannot_be)
{
    eep_context *c;
    world w;

    world_open(&w, 2, 3);
    world_start(&w);
    c = w.ranks[0].context;
    cr_assert_eq(eep_expel(c, 3, 1, 0, NULL), EEP_ERR_INVALID);
    cr_assert_eq(eep_expel(c, -1, 1, 0, NULL), EEP_ERR_INVALID);
    cr_assert_eq(eep_fault_report(c, 1, 1, EEP_FAULT_EXIT), EEP_ERR_INVALID);
    cr_assert_eq(eep_fault_report(c, 1, 1, (eep_fault_kind)77), EEP_ERR_INVALID);
    cr_assert_eq(eep_fault_report(c, 0, 1, EEP_FAULT_RESET), EEP_ERR_STATE, "of itself");
    cr_assert_eq(eep_expel(c, 2, 1, 0, NULL), EEP_ERR_NOT_FOUND, "nobody was ever there");
    cr_assert_eq(eep_expel(c, 1, 2, 0, NULL), EEP_ERR_NOT_FOUND, "nor the second there");
    cr_assert_eq(eep_fault_report(NULL, 0, 1, EEP_FAULT_DEVICE), EEP_ERR_INVALID);
    cr_assert_eq(eep_expel(NULL, 0, 1, 0, NULL), EEP_ERR_INVALID);
    world_close(&w);
}

/* ------------------------------------------------------------------ groups */

Test(context_control, P11_a_group_goes_as_a_whole)
{
    world w;

    start_working(&w, 4, 2);
    rank_close(&w.ranks[3]);
    WORLD_WAIT(&w, w.ranks[2].ended == EEP_ERR_EVICTED);
    world_advance(&w, 0, 1, 3);
    cr_assert_neq(state_of(&w.ranks[0], 2), EEP_SEAT_ACTIVE);
    cr_assert_neq(state_of(&w.ranks[0], 3), EEP_SEAT_ACTIVE);
    cr_assert_eq(fault_of(&w.ranks[0], 2), EEP_FAULT_GROUP);
    world_close(&w);
}

Test(context_control, P11_the_last_group_cannot_be_expelled)
{
    world w;

    start_working(&w, 2, 2);
    cr_assert_eq(eep_expel(w.ranks[0].context, 1, 1, PATIENT_US, NULL), EEP_ERR_STATE);
    cr_assert(strstr(eep_error_text(), "the last cannot be left out"), "%s", eep_error_text());
    cr_assert_eq(eep_fault_report(w.ranks[0].context, 0, 1, EEP_FAULT_DEVICE), EEP_ERR_STATE);
    world_advance(&w, 0, 1, 3);
    world_close(&w);
}

Test(context_control, groups_are_whole_and_the_same_on_all_ranks)
{
    world w;

    world_open(&w, 3, 3);
    w.config.seats_per_group = 2;
    cr_assert_eq(rank_open(&w, 0), EEP_ERR_INVALID);
    cr_assert(strstr(w.ranks[0].error, "seats_per_group is 2, num_ranks 3"), "%s",
              w.ranks[0].error);
    w.config.seats_per_group = 3;
    cr_assert_eq(rank_open(&w, 0), EEP_OK);
    w.config.seats_per_group = 1;
    cr_assert_eq(rank_open(&w, 1), EEP_ERR_INVALID);
    cr_assert(strstr(w.ranks[1].error, "seats_per_group is 0 here and 3 in the instance"), "%s",
              w.ranks[1].error);
    world_close(&w);
}

/* ------------------------------------------------------------------ event loops */

static uint32_t drain(rank *r, int wait_ms)
{
    struct pollfd set = {eep_event_fd(r->context), POLLIN, 0};
    uint32_t ready = 77;

    cr_assert_geq(set.fd, 0, "%s", eep_error_text());
    (void)poll(&set, 1, wait_ms);
    cr_assert_eq(eep_event_drain(r->context, &ready), EEP_OK);
    return ready;
}

static uint32_t drain_until(rank *r, uint32_t wanted)
{
    const uint64_t until_ms = world_now_ms() + WORLD_WAIT_MS;
    uint32_t ready = 0;

    while ((ready & wanted) != wanted && world_now_ms() < until_ms) {
        ready |= drain(r, 1000);
    }
    return ready;
}

Test(context_control, a_descriptor_tells_of_views_steps_and_faults)
{
    uint32_t ready;
    world w;

    world_open(&w, 4, 4);
    world_start(&w);
    cr_assert_eq(eep_event_drain(w.ranks[1].context, &ready), EEP_ERR_STATE);
    cr_assert_eq(eep_event_fd(w.ranks[1].context), eep_event_fd(w.ranks[1].context));
    cr_assert_eq(drain_until(&w.ranks[1], EEP_READY_VIEW) & EEP_READY_FAULT, 0);
    world_rest(&w);
    rank_set_mode(&w.ranks[1], RANK_PARK);
    WORLD_WAIT(&w, !w.ranks[1].busy);
    while (drain(&w.ranks[1], 100) != 0) {
    }
    cr_assert_eq(drain(&w.ranks[1], 50), 0, "nothing happens, and it is not readable");
    rank_set_mode(&w.ranks[0], RANK_WORK);
    cr_assert_neq(drain_until(&w.ranks[1], EEP_READY_STEP) & EEP_READY_STEP, 0);
    rank_set_mode(&w.ranks[1], RANK_FOLLOW);
    world_advance(&w, 0, 1, 2);
    cr_assert_eq(eep_expel(w.ranks[0].context, 2, 1, PATIENT_US, NULL), EEP_OK);
    ready = drain_until(&w.ranks[1], EEP_READY_VIEW | EEP_READY_FAULT);
    cr_assert_eq(ready & (EEP_READY_VIEW | EEP_READY_FAULT), EEP_READY_VIEW | EEP_READY_FAULT);
    cr_assert_neq(drain_until(&w.ranks[2], EEP_READY_OVER) & EEP_READY_OVER, 0);
    world_close(&w);
}

/* ------------------------------------------------------------------ memory */

Test(context_control, sizes_are_those_of_a_rank)
{
    eep_memory_sizes sizes, more;
    eep_config config;
    world w;

    world_open(&w, 2, 4);
    world_start(&w);
    config = w.config;
    config.rank = -1;
    config.device = NULL;
    config.store_path = NULL;
    cr_assert_eq(eep_memory_sizes_get(&config, 0, EEP_SIZED(&sizes)), EEP_OK);
    cr_assert_eq(eep_memory_sizes_get(&config, 1000, EEP_SIZED(&more)), EEP_OK);
    cr_assert_eq(sizes.window_bytes, rank_counters(&w.ranks[0]).window_bytes);
    cr_assert_eq(sizes.rows_capacity, eep_rows_capacity(w.ranks[0].context));
    cr_assert_eq(sizes.rows_bytes, sizes.rows_capacity * WORLD_HIDDEN * sizeof(float));
    cr_assert_eq(sizes.device_bytes, sizes.window_bytes + sizes.table_bytes);
    cr_assert_eq(more.pinned_bytes, sizes.pinned_bytes + 7 * 1000);
    cr_assert(sizes.replaced_bytes * 2 == sizes.window_bytes && sizes.host_bytes > 0);
    config.hidden = 0;
    cr_assert_eq(eep_memory_sizes_get(&config, 0, EEP_SIZED(&sizes)), EEP_ERR_INVALID);
    cr_assert(strstr(eep_error_text(), "hidden"), "%s", eep_error_text());
    cr_assert_eq(eep_memory_sizes_get(NULL, 0, EEP_SIZED(&sizes)), EEP_ERR_INVALID);
    world_close(&w);
}
