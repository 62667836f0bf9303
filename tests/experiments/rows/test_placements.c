/* SPDX-License-Identifier: Apache-2.0 */
/* What ranks say of the placement in force: events once, states by the newest view. */
#include "experiments/rows/placements.h"

#include <criterion/criterion.h>

static wire_placement said(uint64_t epoch, uint64_t number, int unmet, int unreachable)
{
    return (wire_placement){.time_ns = 1000 * epoch,
                            .epoch = epoch,
                            .number = number,
                            .num_unmet = unmet,
                            .num_unreachable = unreachable};
}

static int hear(record *run, int seat, wire_placement told)
{
    return placements_hear(run, seat, &told);
}

Test(placements, each_change_is_told_once)
{
    record run = {0};
    cr_assert(placements_give(&run, 4, 0, 500));
    cr_expect_eq(run.placements[0].state, PLACEMENT_WAITS);
    cr_expect_eq(hear(&run, 1, said(2, 4, 3, 0)), 0);
    cr_expect_eq(run.placements[0].state, PLACEMENT_MOVING);
    cr_expect_eq(run.placements[0].in_force_ns, 2000);
    cr_expect_eq(hear(&run, 0, said(4, 4, 0, 0)), PLACEMENTS_REACHED);
    cr_expect_eq(hear(&run, 1, said(3, 4, 2, 0)), 0, "of an older view");
    cr_expect_eq(run.placements[0].state, PLACEMENT_REACHED);
    cr_expect_eq(hear(&run, 1, said(4, 4, 0, 0)), 0);
    cr_expect_eq(hear(&run, 1, said(5, 4, 2, 0)), 0, "a rank came back");
    cr_expect_eq(run.placements[0].state, PLACEMENT_MOVING);
    cr_expect_eq(hear(&run, 1, said(6, 4, 0, 0)), PLACEMENTS_REACHED);
    cr_expect_eq(run.placements[0].reached_ns, 4000, "for the first time");
    record_free(&run);
}

Test(placements, what_cannot_be_reached_and_what_is_replaced)
{
    record run = {0};
    cr_assert(placements_give(&run, 1, -1, 0));
    cr_assert(placements_give(&run, 2, 3, 500));
    cr_expect_eq(hear(&run, 0, said(1, 1, 0, 0)), PLACEMENTS_REACHED);
    cr_expect_eq(hear(&run, 0, said(2, 2, 5, 4)), PLACEMENTS_UNREACHABLE);
    cr_expect_eq(run.placements[0].state, PLACEMENT_REPLACED);
    cr_expect_eq(run.placements[1].state, PLACEMENT_UNREACHABLE);
    cr_expect_eq(run.placements[1].num_unreachable, 4);
    cr_expect_eq(hear(&run, 1, said(2, 2, 5, 4)), 0);
    cr_expect_eq(hear(&run, 1, said(3, 2, 5, 0)), 0, "a rank joined: it can be reached after all");
    cr_expect_eq(run.placements[1].state, PLACEMENT_MOVING);
    record_free(&run);
}

Test(placements, an_instance_that_begins_again_has_lost_it)
{
    record run = {0};
    cr_assert(placements_give(&run, 2, 3, 500));
    cr_expect_eq(hear(&run, 0, said(1, 0, 0, 0)), 0);
    cr_expect_eq(run.placements[0].state, PLACEMENT_WAITS);
    cr_expect_eq(hear(&run, 0, said(3, 2, 0, 0)), PLACEMENTS_REACHED);
    cr_expect_eq(hear(&run, 1, said(2, 0, 0, 0)), 0, "of an older view");
    cr_expect_eq(run.placements[0].state, PLACEMENT_REACHED);
    cr_expect_eq(hear(&run, 1, said(5, 0, 0, 0)), 0);
    cr_expect_eq(run.placements[0].state, PLACEMENT_LOST);
    cr_expect_eq(hear(&run, 1, said(6, 2, 0, 0)), PLACEMENTS_REACHED, "it was ordered again");
    cr_expect_eq(run.placements[0].state, PLACEMENT_REACHED);
    record_free(&run);
}

/* A refusal is of one rank's own order: that of another one with the same number counts. */
Test(placements, a_refused_one_is_not_in_force)
{
    record run = {0};
    wire_placement told = said(2, 2, 0, 0);
    cr_assert(placements_give(&run, 2, 0, 500));
    cr_assert(placements_give(&run, 2, 1, 500));
    cr_expect_eq(hear(&run, 0, told), PLACEMENTS_REACHED);
    told.own_number = 2;
    told.own_state = EEP_ORDER_REFUSED;
    cr_expect_eq(hear(&run, 1, told), PLACEMENTS_REFUSED);
    cr_expect_eq(hear(&run, 1, told), 0);
    cr_expect_eq(run.placements[0].state, PLACEMENT_REACHED);
    cr_expect_eq(run.placements[1].state, PLACEMENT_REFUSED);
    record_free(&run);
}
