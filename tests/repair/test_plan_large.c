/* SPDX-License-Identifier: Apache-2.0 */
/* Plans of large instances beside the lower bound, which no plan can beat. */
#include "tests/lib/plan_instance.h"
#include "experiments/plan_tool/plan_dual.h"

#include <stdio.h>

static void use_all_backups(eepi_view *view, uint64_t *random, int copies)
{
    const eepi_view_shape *s = &view->shape;
    const int nodes = eepi_view_num_nodes(s);

    for (int i = 0; i < s->num_layers * s->num_experts * copies; i++) {
        const int at = i / copies, first = at % nodes;
        const int node =
            (first + i % copies * (1 + below(random, nodes > 1 ? nodes - 1 : 1))) % nodes;
        for (int seat = 0; seat < s->max_ranks; seat++) {
            if (eepi_view_node_of(s, seat) == node) {
                eepi_view_set_backup(view, seat, at / s->num_experts, at % s->num_experts, true);
            }
        }
    }
}

/* Some fraction of the ranks dies: every other one, some node by node, or by chance. */
static void lose_ranks(eepi_view *view, uint64_t *random)
{
    const int ranks = view->shape.max_ranks, way = below(random, 3), of_8 = 1 + below(random, 4);

    for (int seat = 0; seat < ranks; seat++) {
        const bool dies = way == 0   ? seat % 2 == 0
                          : way == 1 ? seat % view->shape.ranks_per_node < of_8
                                     : below(random, 8) < of_8;
        if (dies) {
            set_seat(view, seat, EEP_SEAT_VACANT);
        }
    }
    eepi_plan_empty_nonmembers(view);
}

static plan_instance large_instance(const eepi_view_shape *shape, uint64_t *random)
{
    plan_instance in = {.view = eepi_view_new(shape), .links = eepi_links_new(shape)};

    cr_assert(in.view && in.links);
    for (int seat = 0; seat < shape->max_ranks; seat++) {
        set_seat(in.view, seat, EEP_SEAT_ACTIVE);
    }
    cr_assert_eq(eepi_plan_initial(in.view), EEP_OK);
    use_all_backups(in.view, random, 1 + below(random, 3));
    for (int seat = 0; seat < shape->max_ranks; seat++) {
        uint32_t told[EEPI_NUM_RATES];
        for (int i = 0; i < EEPI_NUM_RATES; i++) {
            told[i] = (uint32_t)(2000 + below(random, 30000));
        }
        told[EEPI_RATE_NIC_AT] = (uint32_t)(1 + below(random, 4));
        eepi_links_set_seat(in.links, seat, told);
        in.can_read_file[seat] = true;
    }
    lose_ranks(in.view, random);
    in.given = (eepi_plan_given){.links = in.links, .expert_bytes = 44000000};
    return in;
}

static void judge_large(const eepi_view_shape *shape, int num, int *planned_io, double *worst_io)
{
    eepi_plan_table *table = eepi_plan_table_new(shape);

    for (uint64_t seed = first_seed(), end = seed + (uint64_t)num; seed < end; seed++) {
        uint64_t random = seed;
        plan_instance in = large_instance(shape, &random);
        in.given.can_read_file = in.can_read_file; /* of this one, not of the one it came from */
        eepi_view *before = copy_of(in.view);
        eepi_plan_cost cost;
        if (eepi_plan_coverage(in.view, table, &in.given, &cost, NULL, 0) == EEP_OK &&
            eepi_plan_num_fills(&cost) > 0) {
            uint64_t bound_ns = cost.bound_ns;
            if (cost.makespan_ns >
                bound_ns + bound_ns / (num > 3 ? 20 : 5)) { /* it may be the bound that is loose */
                bound_ns = plan_dual_bound_ns(before, table, bound_ns);
            }
            const double ratio = (double)cost.makespan_ns / (double)bound_ns;
            cr_assert_leq(bound_ns, cost.makespan_ns, REPLAY, SEED(seed));
            ++*planned_io;
            *worst_io = ratio > *worst_io ? ratio : *worst_io;
            cr_expect_leq(ratio, 1.2, "%d x %d x %d: %.3f times the bound; " REPLAY,
                          shape->max_ranks, shape->num_layers, shape->num_slots, ratio, SEED(seed));
        }
        free(before);
        free_plan_instance(&in);
    }
    eepi_plan_table_free(table);
}

/* EEP_TEST_CASES: how many of each shape, in full size. */
Test(plan_large, is_within_a_fifth_of_the_bound)
{
    const char *cases = getenv("EEP_TEST_CASES");
    const eepi_view_shape shapes_of[] = {
        {32, cases ? 58 : 4, 256, 16, 8, 0}, {32, cases ? 58 : 4, 256, 17, 8, 0},
        {31, cases ? 58 : 4, 256, 16, 4, 0}, {96, cases ? 58 : 2, 256, 6, 8, 0},
        {320, cases ? 61 : 1, 256, 2, 8, 0}, {32, cases ? 58 : 4, 128, 16, 16, 0}};
    int planned = 0;
    double worst = 1;

    for (size_t i = 0; i < sizeof shapes_of / sizeof shapes_of[0]; i++) {
        judge_large(&shapes_of[i], cases ? atoi(cases) : 3, &planned, &worst);
    }
    if (cases) {
        fprintf(stderr, "%d plans, at most %.3f times the bound\n", planned, worst);
    }
    cr_assert_gt(planned, 8);
}

/* Where links are as nobody knows better, the bound that the planner itself has is as near: memory
 * of few nodes, their slots and their NICs hold back what they alone can give. */
Test(plan_large, the_planner_knows_how_near_it_is)
{
    const eepi_view_shape shapes_of[] = {
        {32, 4, 256, 16, 8, 0}, {31, 4, 256, 16, 4, 0}, {96, 2, 256, 6, 8, 0}};
    int planned = 0;

    for (size_t i = 0; i < sizeof shapes_of / sizeof shapes_of[0]; i++) {
        eepi_plan_table *table = eepi_plan_table_new(&shapes_of[i]);
        for (uint64_t seed = first_seed(), end = seed + 5; seed < end; seed++) {
            uint64_t random = seed;
            plan_instance in = large_instance(&shapes_of[i], &random);
            eepi_plan_cost cost;
            in.given = (eepi_plan_given){.expert_bytes = 44000000};
            if (eepi_plan_coverage(in.view, table, &in.given, &cost, NULL, 0) == EEP_OK &&
                eepi_plan_num_fills(&cost) > 100) {
                planned++;
                cr_expect_leq((double)cost.makespan_ns, 1.2 * (double)cost.bound_ns,
                              "%d ranks: %.3f times the bound; " REPLAY, shapes_of[i].max_ranks,
                              (double)cost.makespan_ns / (double)cost.bound_ns, SEED(seed));
            }
            free_plan_instance(&in);
        }
        eepi_plan_table_free(table);
    }
    cr_assert_gt(planned, 5);
}
