/* SPDX-License-Identifier: Apache-2.0 */
/* What one core knows of the experts' loads, and what it makes of them. */
#include "tests/lib/core/one_core.h"

#include "experiments/base/random.h"
#include "membership/core/core_common.h"
#include "repair/placement.h"

#include <math.h>
#include <stdlib.h>

enum { EXPERTS = 3, LAYERS = 2 };

static void open_core(void)
{
    eepi_core_config config = {
        .generation = 1, .num_ranks = RANKS, .shape = {RANKS, LAYERS, EXPERTS, 2}};
    open_empty(&config);
}

Test(core_loads, the_newest_loads_count_and_can_be_taken_back)
{
    static const uint32_t first[] = {5, 0, 7, 0, 0, 0}, second[] = {0, 0, 0, 1, 2, 3};
    open_core();
    cr_expect_null(eepi_core_loads(t.core, 0));
    feed((eepi_input){.kind = EEPI_INPUT_LOADS, .loads = first});
    cr_assert_not_null(eepi_core_loads(t.core, 0));
    cr_expect_arr_eq(eepi_core_loads(t.core, 0), first, EXPERTS * sizeof first[0]);
    cr_expect_null(eepi_core_loads(t.core, 1), "no token came to that layer");
    feed((eepi_input){.kind = EEPI_INPUT_LOADS, .loads = second});
    cr_expect_null(eepi_core_loads(t.core, 0));
    cr_assert_not_null(eepi_core_loads(t.core, 1));
    cr_expect_arr_eq(eepi_core_loads(t.core, 1), second + EXPERTS, EXPERTS * sizeof first[0]);
    feed((eepi_input){.kind = EEPI_INPUT_LOADS, .loads = NULL});
    cr_expect_null(eepi_core_loads(t.core, 1));
    eepi_core_close(t.core);
}

/* ------------------------------------------------------------------ shares */

/* Experts 0 to 3, each in two of four seats; all of them are members. */
static void open_pairs(void)
{
    static int32_t experts[RANKS][2] = {{0, 1}, {2, 3}, {0, 2}, {1, 3}};
    static uint64_t sums[RANKS][2] = {{7, 8}, {9, 10}, {7, 9}, {8, 10}}, backup;
    eepi_core_config config = {.generation = 1,
                               .num_ranks = RANKS,
                               .drain_bound_us = 4000000,
                               .stage_bound_us = 4000000,
                               .shape = {RANKS, 1, 4, 2}};
    open_empty(&config);
    for (int seat = 0; seat < RANKS; seat++) {
        eepi_member record = {seat, 1, 1, 0, experts[seat], sums[seat], &backup};
        feed((eepi_input){.kind = EEPI_INPUT_MEMBER, .member = &record});
    }
    win();
    cr_assert_eq(eepi_view_num_active(eepi_core_view(t.core)), RANKS);
}

static int share_at(int seat, int slot)
{
    return eepi_view_slot_at(eepi_core_view(t.core), 0, seat, slot)->share;
}

/* Seat 3 ends. Seats 0, 1 and 2 hold 0 1, 2 3 and 0 2. */
static void expel_third(void)
{
    feed((eepi_input){.kind = EEPI_INPUT_EVIDENCE, .suspect = {3, 1, EEP_FAULT_EXIT}});
    feed((eepi_input){.kind = EEPI_INPUT_ENDED, .suspect = {3, 1, EEP_FAULT_EXIT}});
    feed((eepi_input){.kind = EEPI_INPUT_DRAINED, .step = 7});
    for (int seat = 1; seat < 3; seat++) {
        eepi_report report = {seat, 1, eepi_core_view(t.core)->epoch, 7, 0, NULL};
        feed((eepi_input){.kind = EEPI_INPUT_REPORT, .report = &report});
    }
    win();
    cr_assert_eq(eepi_view_num_active(eepi_core_view(t.core)), 3);
}

Test(core_loads, a_fault_view_shares_tokens_out_by_the_loads)
{
    static const uint32_t loads[] = {60, 30, 60, 30};
    open_pairs();
    cr_expect_eq(share_at(0, 0), 0, "nothing was known");
    feed((eepi_input){.kind = EEPI_INPUT_LOADS, .loads = loads});
    expel_third();
    /* 60 per rank: 1 and 3 have one replica left; so seat 2 takes half of 0, and half of 2 */
    cr_expect_eq(share_at(0, 1), 65535);
    cr_expect_eq(share_at(1, 1), 65535);
    cr_expect_float_eq(share_at(0, 0), 32768, 700);
    cr_expect_eq(share_at(0, 0) + share_at(2, 0), 65535);
    cr_expect_float_eq(share_at(1, 0), 32768, 700);
    cr_expect_eq(share_at(1, 0) + share_at(2, 1), 65535);
    eepi_core_close(t.core);
}

Test(core_loads, without_loads_a_fault_view_shares_alike)
{
    open_pairs();
    expel_third();
    for (int i = 0; i < 3 * 2; i++) {
        cr_expect_eq(share_at(i / 2, i % 2), 0);
    }
    eepi_core_close(t.core);
}

/* Shares get a view of their own where that pays, once per loads. */
Test(core_loads, loads_that_shift_bring_a_plan_and_others_do_not)
{
    static const uint32_t even[] = {100, 100, 100, 100}, skewed[] = {100, 10, 10, 100};
    static const uint32_t close[] = {100, 99, 100, 101};
    open_pairs();
    feed((eepi_input){.kind = EEPI_INPUT_LOADS, .loads = even});
    feed((eepi_input){.kind = EEPI_INPUT_LOADS, .loads = close});
    feed((eepi_input){.kind = EEPI_INPUT_LOADS, .loads = NULL});
    cr_expect_eq(t.plans, 0);
    feed((eepi_input){.kind = EEPI_INPUT_LOADS, .loads = skewed});
    feed((eepi_input){.kind = EEPI_INPUT_TICK});
    cr_expect_eq(t.plans, 0, "each rank has one hot expert: no split is better");
    feed((eepi_input){.kind = EEPI_INPUT_LOADS, .loads = (uint32_t[]){100, 80, 10, 10}});
    cr_expect_eq(t.plans, 1);
    eepi_core_close(t.core);
}

/* The first placement knows no loads: two replicas of each of 256 experts on 32 ranks. Zipf's law
 * with exponent 0.5, experts in any order, 58 layers. The figures are in docs/REDUNDANCY.md. */
Test(core_loads, shares_level_a_placement_that_knew_no_loads)
{
    enum { SEATS = 32, SLOTS = 16, MANY = 256, DEEP = 58 };
    const eepi_view_shape shape = {SEATS, 1, MANY, SLOTS, 8, 0};
    eepi_view *view = eepi_view_new(&shape);
    eepi_shares *shares = eepi_shares_new(SEATS, SLOTS, MANY);
    int32_t experts[SEATS * SLOTS];
    uint16_t given[SEATS * SLOTS];
    double alike = 0.0, best = 0.0;
    uint64_t random = 7;

    for (int seat = 0; seat < SEATS; seat++) {
        *eepi_view_seat_at(view, seat) =
            (eepi_view_seat){.generation = 1, .state = EEP_SEAT_ACTIVE};
    }
    cr_assert_eq(eepi_plan_initial(view), EEP_OK);
    for (int i = 0; i < SEATS * SLOTS; i++) {
        experts[i] = eepi_view_slot_at(view, 0, i / SLOTS, i % SLOTS)->expert;
    }
    for (int layer = 0; layer < DEEP; layer++) {
        uint32_t loads[MANY];
        for (int i = 0; i < MANY; i++) {
            int with = (int)(random_next(&random) % (uint64_t)(i + 1));
            loads[i] = loads[with];
            loads[with] = (uint32_t)(1e6 / sqrt(1 + i));
        }
        eepi_shares_split(shares, experts, loads, 8, given);
        alike += eepi_shares_peak(shares, experts, loads, NULL) / 1e6 / DEEP;
        best += eepi_shares_peak(shares, experts, loads, given) / 1e6 / DEEP;
    }
    cr_expect_gt(alike, 1.4, "most loaded rank over the mean: %.3f", alike);
    cr_expect_lt(best, 1.01, "%.3f", best);
    eepi_shares_free(shares);
    free(view);
}
