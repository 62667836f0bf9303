/* SPDX-License-Identifier: Apache-2.0 */
/* A port that goes down is a cost: plans take other ways where there are any, and stay plans where
 * there are none. */
#include "tests/lib/planner_fixture.h"

enum { RANKS = 6, EXPERTS = 6, PER_NODE = 2, EXPERT_BYTES = 1 << 20 };

static const uint32_t no_port[EEPI_NUM_RATES] = {[EEPI_RATE_NIC] = EEPI_RATE_DOWN};

typedef struct plan_case {
    eepi_view *view;
    eepi_links *links;
    eepi_plan_table *table;
} plan_case;

/* Three nodes of two ranks; what rank 5 alone held is lost, and the ranks named have it as a
 * backup.
 */
static plan_case lose_rank_5(const int *backups, int num_backups)
{
    const eepi_view_shape shape = {.max_ranks = RANKS,
                                   .num_layers = 1,
                                   .num_experts = EXPERTS,
                                   .num_slots = 2,
                                   .ranks_per_node = PER_NODE};
    plan_case c = {eepi_view_new(&shape), eepi_links_new(&shape), eepi_plan_table_new(&shape)};

    cr_assert(c.view && c.links && c.table);
    for (int seat = 0; seat < RANKS; seat++) {
        set_seat(c.view, seat, EEP_SEAT_ACTIVE);
        set_expert(c.view, 0, seat, 0, seat);
    }
    kill_seat(c.view, 5);
    for (int i = 0; i < num_backups; i++) {
        eepi_view_set_backup(c.view, backups[i], 0, 5, true);
    }
    return c;
}

/* The source of the one fill. */
static int plan_source(plan_case *c, int *seat_out)
{
    const eepi_plan_given given = {.links = c->links, .expert_bytes = EXPERT_BYTES};
    eepi_fill fill;

    cr_assert_eq(eepi_plan_coverage(c->view, c->table, &given, NULL, NULL, 0), EEP_OK);
    cr_assert_eq(eepi_plan_fills(c->view, -1, &fill, 1), 1);
    *seat_out = fill.seat;
    return fill.source;
}

static void close_case(plan_case *c)
{
    free(c->view);
    eepi_links_free(c->links);
    eepi_plan_table_free(c->table);
}

/* Only rank 4 of the last node stays; ranks 0 and 2 have the backup, and one of them no port. */
Test(plan_ports, the_source_whose_ports_are_down_is_avoided)
{
    static const int backups[] = {0, 2};

    for (int down = 0; down <= 2; down += 2) {
        plan_case c = lose_rank_5(backups, 2);
        int seat;
        for (int other = 0; other < 4; other++) {
            set_seat(c.view, other, EEP_SEAT_RETIRING);
        }
        eepi_links_set_seat(c.links, down, no_port); /* and so for the node, which shares a NIC */
        cr_assert_eq(plan_source(&c, &seat), 2 - down);
        cr_assert_eq(seat, 4);
        close_case(&c);
    }
}

Test(plan_ports, a_plan_behind_a_nic_that_is_down_is_a_plan)
{
    static const int backups[] = {0};
    plan_case c = lose_rank_5(backups, 1);
    int seat;

    for (int other = 0; other < RANKS; other++) {
        eepi_links_set_seat(c.links, other, no_port);
    }
    cr_assert_eq(plan_source(&c, &seat), 0, "the last resort is better than none");
    close_case(&c);
}

/* The target: within the node of the backup nothing crosses a NIC. */
Test(plan_ports, a_target_on_the_node_of_the_backup_needs_no_port)
{
    static const int backups[] = {3};
    plan_case c = lose_rank_5(backups, 1);
    int seat;

    for (int other = 0; other < RANKS; other++) {
        eepi_links_set_seat(c.links, other, no_port);
    }
    cr_assert_eq(plan_source(&c, &seat), seat, "it reads its node's own memory");
    cr_assert_eq(seat / PER_NODE, 3 / PER_NODE);
    close_case(&c);
}
