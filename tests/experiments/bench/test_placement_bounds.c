/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds of placements: by hand, and never above what a placement reaches. */
#include "experiments/bench/placement/placement_bounds.h"
#include "tests/repair/placement/placement_cases.h"

static eepi_layer_verdict verdict_of(const eepi_layer_problem *problem)
{
    const size_t slots = (size_t)problem->shape.max_ranks * (size_t)problem->shape.num_slots;
    eepi_placer *placer = eepi_placer_new(&problem->shape);
    int32_t *experts = calloc(slots, sizeof *experts);
    eepi_layer_verdict verdict = {0};

    cr_assert(placer && experts);
    cr_assert_eq(eepi_place_layer(placer, problem, experts), EEP_OK);
    cr_assert_eq(eepi_judge_layer(problem, experts, &verdict, NULL, 0), EEP_OK);
    free(experts);
    eepi_placer_free(placer);
    return verdict;
}

/* Two ranks have 30 each of the first expert, and a copy of another. If they may have the same one
 * too, that is 4 at least. Else one has 4 and the other 6, and their average is 35. */
Test(placement_bounds, two_ranks_that_share_one_expert_need_different_ones_beside_it)
{
    static const uint32_t loads[] = {60, 20, 12, 8};
    bounds_layer layer = {4, 2, 4, loads, 2};

    cr_assert_float_eq(bounds_coverage(&layer), 34 / 25.0, 1e-9);
    layer.pair_limit = 1;
    cr_assert_float_eq(bounds_coverage(&layer), 35 / 25.0, 1e-9);
    layer.pair_limit = -1;
    cr_assert_float_eq(bounds_coverage(&layer), 34 / 25.0, 1e-9);
    layer.num_slots = 3;
    cr_assert_float_eq(bounds_coverage(&layer), 1, 1e-9, "numbers of copies are free");
}

Test(placement_bounds, slots_alone_leave_singles)
{
    static const uint32_t loads[] = {10, 10, 10};
    const bounds_layer layer = {2, 2, 3, loads, 2};
    const double bound = bounds_singles(&layer, 1.05);

    cr_assert(bound > 1 && bound <= 2 + 1e-9, "%f", bound);
}

Test(placement_bounds, no_placement_is_below_the_bound_for_two_copies)
{
    for (uint64_t seed = first_seed(), end = seed + 100; seed < end; seed++) {
        uint64_t random = seed;
        layer_case c;

        draw_case(&random, true, &c);
        if (c.slots < c.problem.shape.num_experts || c.ranks < 2) {
            continue;
        }
        c.problem.goal = EEPI_PLACE_COVERAGE;
        c.problem.loads = c.loads;
        const eepi_layer_verdict v = verdict_of(&c.problem);
        const bounds_layer layer = {c.ranks, c.problem.shape.num_slots, c.problem.shape.num_experts,
                                    c.loads, v.most_shared};
        const double bound = bounds_coverage(&layer);
        cr_assert(bound >= 1 && v.ratio / 1e6 > bound - 1e-5, "%f is below %f, " REPLAY,
                  v.ratio / 1e6, bound, SEED(seed));
    }
}

/* 32 ranks of 16 slots: within 1.03 of the bound, for Zipf's law and for lognormal loads of which
 * one is far above the rest. The ranks of the hottest expert need copies whose others are too near.
 */
Test(placement_bounds, coverage_is_near_the_bound)
{
    uint64_t random = first_seed();

    for (int i = 0; i < 16; i++) {
        uint32_t loads[256];
        const eepi_layer_problem problem = {
            .shape = {32, 1, 256, 16, 8, 0}, .goal = EEPI_PLACE_COVERAGE, .loads = loads};

        draw_loads(&random, 1 + i % 2, 256, loads);
        loads[i] *= i % 2 ? 11 : 1;
        const eepi_layer_verdict v = verdict_of(&problem);
        const bounds_layer layer = {32, 16, 256, loads, 2};
        cr_assert_leq(v.most_shared, 2);
        cr_assert_lt(v.ratio / 1e6, 1.03 * bounds_coverage(&layer), "layer %d: %u", i, v.ratio);
    }
}

/* 320 ranks of two slots, Zipf's law: 45 experts have one copy in any placement within 1.05. */
Test(placement_bounds, no_placement_has_fewer_singles_than_the_bound)
{
    uint64_t random = first_seed();
    uint32_t loads[256];
    const eepi_layer_problem problem = {.shape = {320, 1, 256, 2, 8, 0}, .loads = loads};
    const bounds_layer layer = {320, 2, 256, loads, 2};

    draw_loads(&random, 1, 256, loads);
    const eepi_layer_verdict v = verdict_of(&problem);
    const double bound = bounds_singles(&layer, EEPI_RATIO_MIXED / 1e6);
    cr_assert_leq(v.ratio, EEPI_RATIO_MIXED);
    cr_assert(bound > 40 && bound <= v.singles, "%f of %d", bound, v.singles);
}
