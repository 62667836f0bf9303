/* SPDX-License-Identifier: Apache-2.0 */
/* The distance between replicas: nodes, the ring, and what is asked for by default. */
#include "repair/spread.h"

#include <criterion/criterion.h>

Test(spread, seats_lie_on_nodes)
{
    const eepi_view_shape one = {31, 1, 1, 1, 0, 0}, several = {31, 1, 1, 1, 8, 0};

    cr_assert_eq(eepi_view_num_nodes(&one), 1);
    cr_assert_eq(eepi_view_node_of(&one, 30), 0);
    cr_assert_eq(eepi_view_num_nodes(&several), 4);
    cr_assert_eq(eepi_view_node_of(&several, 7), 0);
    cr_assert_eq(eepi_view_node_of(&several, 8), 1);
    cr_assert_eq(eepi_view_node_of(&several, 30), 3);
}

Test(spread, the_default_is_a_quarter_or_a_node)
{
    const eepi_view_shape one = {32, 1, 1, 1, 0, 0}, several = {32, 1, 1, 1, 8, 0},
                          asked = {32, 1, 1, 1, 8, 3}, wide = {32, 1, 1, 1, 0, 1000};

    cr_assert_eq(eepi_spread_distance(&one, 32), 8);
    cr_assert_eq(eepi_spread_distance(&one, 3), 1);
    cr_assert_eq(eepi_spread_distance(&one, 1), 1);
    cr_assert_eq(eepi_spread_distance(&several, 32), 8);
    cr_assert_eq(eepi_spread_distance(&several, 10), 3, "two nodes: no mirrored ranks");
    cr_assert_eq(eepi_spread_distance(&several, 24), 8);
    cr_assert_eq(eepi_spread_distance(&asked, 32), 3);
    cr_assert_eq(eepi_spread_distance(&wide, 32), 16);
}

/* What the distance is for: no run of that many neighbouring seats, round the end of the ring too,
 * has both seats of a pair that is apart; and a pair that is not apart is in such a run, or on one
 * node. */
Test(spread, apart_means_that_no_run_has_both)
{
    for (int max_ranks = 2; max_ranks <= 13; max_ranks++) {
        for (int distance = 1; distance <= max_ranks / 2; distance++) {
            const eepi_view_shape shape = {max_ranks, 1, 1, 1, 0, distance};
            for (int a = 0; a < max_ranks; a++) {
                for (int b = 0; b < max_ranks; b++) {
                    bool together = false;
                    for (int from = 0; from < max_ranks; from++) {
                        together |= (a - from + max_ranks) % max_ranks < distance &&
                                    (b - from + max_ranks) % max_ranks < distance;
                    }
                    cr_assert_eq(eepi_spread_is_apart(&shape, distance, a, b), !together,
                                 "%d and %d of %d, distance %d", a, b, max_ranks, distance);
                }
            }
        }
    }
}

Test(spread, replicas_are_on_different_nodes)
{
    const eepi_view_shape shape = {6, 1, 1, 1, 3, 1};

    cr_assert(eepi_spread_is_apart(&shape, 1, 2, 3));
    cr_assert_not(eepi_spread_is_apart(&shape, 1, 0, 2));
}

/* Seats 2 and 3 are of one group, 3 and 4 of two. */
Test(spread, P11_replicas_are_in_different_groups)
{
    const eepi_view_shape shape = {6, 1, 1, 1, 0, 1, .seats_per_group = 2};

    cr_assert_not(eepi_spread_is_apart(&shape, 1, 2, 3));
    cr_assert(eepi_spread_is_apart(&shape, 1, 3, 4));
    cr_assert(eepi_spread_is_apart(&shape, 1, 1, 2));
}
