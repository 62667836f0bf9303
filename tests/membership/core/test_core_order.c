/* SPDX-License-Identifier: Apache-2.0 */
/* Placements that ranks order: which one a planned view takes over (R3), and a first view. */
#include "tests/lib/core/one_core.h"

#include "membership/view/view_order.h"

#include <stdlib.h>

enum { EXPERTS = 4, SLOTS = 2 };

static const eepi_view_shape shape = {RANKS, 1, EXPERTS, SLOTS};

static void open_ready(void)
{
    static int32_t experts[RANKS][SLOTS] = {{0, 1}, {2, 3}, {0, 2}, {1, 3}};
    static uint64_t sums[RANKS][SLOTS] = {{7, 8}, {9, 10}, {7, 9}, {8, 10}}, backup;
    const eepi_core_config config = {.generation = 1,
                                     .num_ranks = RANKS,
                                     .drain_bound_us = 4000000,
                                     .stage_bound_us = 4000000,
                                     .shape = shape};
    open_empty(&config);
    for (int seat = 0; seat < RANKS; seat++) {
        eepi_member record = {seat, 1, 1, 0, experts[seat], sums[seat], &backup};
        feed((eepi_input){.kind = EEPI_INPUT_MEMBER, .member = &record});
    }
}

/* An order that gives that rank's first slot an expert. */
static void give(uint64_t number, int seat, uint32_t generation, int expert)
{
    void *wishes = malloc(eepi_wishes_bytes(&shape));
    eepi_order order = {number, 0, seat, generation, wishes};

    cr_assert_not_null(wishes);
    eepi_wishes_clear(wishes, &shape);
    eepi_wishes_set(wishes, &shape, 0, seat, 0, expert, true);
    order.digest = eepi_wishes_digest(wishes, &shape);
    feed((eepi_input){.kind = EEPI_INPUT_ORDER, .order = &order});
    free(wishes);
}

/* The first view is won; the plan that follows. NULL: none. */
static const eepi_view *win_and_plan(void)
{
    const eepi_input inputs[] = {
        {.kind = EEPI_INPUT_CAS_DONE, .now_us = t.now_us, .won = true, .revision = ++t.revision},
        {.kind = EEPI_INPUT_TICK, .now_us = t.now_us}};
    const eepi_view *plan = NULL;

    for (int i = 0; i < 2; i++) {
        int n;
        const eepi_action *actions = eepi_core_handle(t.core, &inputs[i], &n);
        for (int k = 0; k < n; k++) {
            plan = actions[k].kind == EEPI_ACTION_PLAN ? actions[k].view : plan;
        }
    }
    return plan;
}

Test(core_order, R3_the_highest_number_counts)
{
    open_ready();
    give(5, 3, 1, 2);
    give(3, 1, 1, 0);
    const eepi_view *plan = win_and_plan();
    cr_assert_not_null(plan);
    cr_expect_eq(plan->order_number, 5);
    cr_expect(eepi_view_is_pinned(plan, 0, 3, 0));
    cr_expect_eq(eepi_view_num_unmet(plan, 0, true), 1);
    eepi_core_close(t.core);
}

Test(core_order, R3_of_equal_numbers_that_of_the_lower_seat_counts)
{
    for (int low_first = 0; low_first < 2; low_first++) {
        open_ready();
        give(5, low_first ? 1 : 3, 1, 0);
        give(5, low_first ? 3 : 1, 1, 0);
        const eepi_view *plan = win_and_plan();
        cr_assert_not_null(plan);
        cr_expect(eepi_view_is_pinned(plan, 0, 1, 0));
        cr_expect(!eepi_view_is_pinned(plan, 0, 3, 0));
        eepi_core_close(t.core);
    }
}

Test(core_order, R3_an_order_of_a_process_that_is_in_no_view_does_not_count)
{
    open_ready();
    give(5, 3, 9, 2);
    cr_expect_null(win_and_plan());
    eepi_core_close(t.core);
}

/* A joiner reads the tags of its peers' steps, which are cut, near the step that its view names. */
Test(core_order, S13_a_plan_names_a_step_that_its_proposer_had_begun)
{
    const uint64_t begun = 3ull << 40;

    open_ready();
    give(5, 3, 1, 2);
    feed((eepi_input){.kind = EEPI_INPUT_TICK, .step = begun});
    feed((eepi_input){.kind = EEPI_INPUT_TICK, .step = 7});
    const eepi_view *plan = win_and_plan();
    cr_assert_not_null(plan);
    cr_expect_eq(plan->first_step, begun);
    eepi_core_close(t.core);
}
