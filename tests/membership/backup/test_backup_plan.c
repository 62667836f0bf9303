/* SPDX-License-Identifier: Apache-2.0 */
/* Which rank puts which expert into its node's memory: by properties, over shapes by chance. */
#include "tests/lib/planner_fixture.h"
#include "repair/backup_plan.h"

enum { MOST_NODES = 12, MOST_EXPERTS = 150 };

typedef struct counted {
    int of_node[MOST_NODES], of_seat[64]; /* over all layers */
    int layer_of_node[MOST_NODES];        /* of the layer at hand */
    uint64_t wanted[64][4 * 3];           /* by seat */
    int num_nodes, num_members[MOST_NODES];
} counted;

static void plan_all(const eepi_view *view, int copies, counted *c)
{
    memset(c, 0, sizeof *c);
    c->num_nodes = eepi_view_num_nodes(&view->shape);
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        c->num_members[eepi_view_node_of(&view->shape, seat)] += eepi_view_is_member(view, seat);
        cr_assert_eq(eepi_plan_backups(view, copies, seat, c->wanted[seat]), EEP_OK);
    }
}

static void expect_sound(const eepi_view *view, int copies, uint64_t seed)
{
    const eepi_view_shape *s = &view->shape;
    const int words = eepi_view_backup_words(s);
    counted c;
    int with_members = 0;

    plan_all(view, copies, &c);
    for (int node = 0; node < c.num_nodes; node++) {
        with_members += c.num_members[node] > 0;
    }
    const int expected = copies < with_members ? copies : with_members;
    for (int layer = 0; layer < s->num_layers; layer++) {
        memset(c.layer_of_node, 0, sizeof c.layer_of_node);
        for (int expert = 0; expert < s->num_experts; expert++) {
            int on[MOST_NODES] = {0}, num = 0;
            for (int seat = 0; seat < s->max_ranks; seat++) {
                const int node = eepi_view_node_of(s, seat);
                if (c.wanted[seat][layer * words + expert / 64] >> (expert % 64) & 1u) {
                    cr_assert(eepi_view_is_member(view, seat), REPLAY, SEED(seed));
                    on[node]++;
                    c.of_seat[seat]++;
                    c.of_node[node]++;
                    c.layer_of_node[node]++;
                    num++;
                }
            }
            cr_assert_eq(num, expected, "%d copies of expert %d; " REPLAY, num, expert, SEED(seed));
            for (int node = 0; node < c.num_nodes; node++) {
                cr_assert_leq(on[node], 1, "two copies on a node; " REPLAY, SEED(seed));
            }
        }
        for (int i = 0; i < c.num_nodes * c.num_nodes; i++) {
            const int a = i / c.num_nodes, b = i % c.num_nodes;
            cr_assert(c.num_members[a] == 0 || c.num_members[b] == 0 ||
                          c.layer_of_node[a] <= c.layer_of_node[b] + 3,
                      "%d and %d; " REPLAY, c.layer_of_node[a], c.layer_of_node[b], SEED(seed));
        }
    }
    for (int seat = 0; seat < s->max_ranks; seat++) {
        const int node = eepi_view_node_of(s, seat);
        if (eepi_view_is_member(view, seat)) {
            cr_assert(c.of_seat[seat] == c.of_node[node] / c.num_members[node] ||
                          c.of_seat[seat] == c.of_node[node] / c.num_members[node] + 1,
                      "%d of %d; " REPLAY, c.of_seat[seat], c.of_node[node], SEED(seed));
        }
    }
}

Test(backup_plan, each_expert_is_on_so_many_nodes_and_the_load_is_even)
{
    uint64_t random = first_seed();

    for (int round = 0; round < 300; round++) {
        const uint64_t seed = random;
        const int ranks_per_node = below(&random, 6), max_ranks = 1 + below(&random, 12);
        const eepi_view_shape shape = {.max_ranks = max_ranks,
                                       .num_layers = 1 + below(&random, 4),
                                       .num_experts = 1 + below(&random, MOST_EXPERTS),
                                       .num_slots = 1 + below(&random, 150),
                                       .ranks_per_node = ranks_per_node};
        eepi_view *view = eepi_view_new(&shape);
        cr_assert_not_null(view);
        for (int seat = 0; seat < max_ranks; seat++) {
            set_seat(view, seat, below(&random, 5) ? EEP_SEAT_ACTIVE : EEP_SEAT_VACANT);
        }
        if (eepi_plan_initial(view) == EEP_OK) {
            expect_sound(view, below(&random, 4), seed);
        }
        free(view);
    }
}

/* One replica of each expert, and room to keep its backup elsewhere: then no node keeps backups of
 * what it holds. */
Test(backup_plan, a_backup_is_rather_where_no_slot_holds_the_expert)
{
    eepi_view *view = placed(4, 1, 2, 32, 8);
    counted c;

    plan_all(view, 1, &c);
    for (int i = 0; i < 2 * 32 * 4; i++) {
        const int layer = i / 32 % 2, expert = i % 32, seat = i / 64;
        cr_expect_not(c.wanted[seat][layer] >> expert & 1u &&
                      num_on_seat(view, layer, seat, expert));
    }
    free(view);
}
