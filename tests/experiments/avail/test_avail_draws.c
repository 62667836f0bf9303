/* SPDX-License-Identifier: Apache-2.0 */
/* Draws by chance against the formulas, within 3 standard errors. Seeds are fixed, so a failure is
 * one of the code. */
#include "experiments/avail/avail_draws.h"
#include "tests/lib/avail_fixture.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { DRAWS = 10000 };

static const avail_shares alone = {.node = 0, .rack = 0, .node_gpus = 8, .rack_gpus = 32};

/* How many figures could be compared. */
static int compare(const avail_input *in, avail_regime regime, uint64_t seed)
{
    avail_drawn_figures drawn;
    avail_figures figures;
    int num = 0;

    avail_compute(in, regime, &figures);
    cr_assert_eq(avail_draw(in, regime, &alone, DRAWS, seed, 1e-6, &drawn), EEP_OK);
    for (avail_figure f = 0; f < AVAIL_NUM_FIGURES; f++) {
        const double off = avail_drawn_distance(&drawn, f, &figures);
        num += isfinite(off);
        cr_assert_not(off > 3, "%s, %s: drawn %.6g +- %.2g, formula %.6g",
                      avail_regime_name(regime), avail_figure_name(f), drawn.figure[f].mean,
                      drawn.figure[f].error, figures.value[f]);
    }
    return num;
}

Test(avail_draws, a_fixed_membership)
{
    const avail_input in = small_fleet(32, 15000);
    cr_assert_geq(compare(&in, AVAIL_FIXED, 1), 6);
}

Test(avail_draws, a_full_restart)
{
    const avail_input in = small_fleet(32, 15000);
    cr_assert_geq(compare(&in, AVAIL_RESTART, 1), 6);
}

Test(avail_draws, an_elastic_instance)
{
    const avail_input in = small_fleet(32, 15000);
    cr_assert_geq(compare(&in, AVAIL_ELASTIC, 1), 6);
}

Test(avail_draws, standby_groups)
{
    avail_input in = small_fleet(32, 15000);

    for (in.standby = 0; in.standby < 3; in.standby++) {
        cr_assert_geq(compare(&in, AVAIL_FAILOVER, 2), in.standby == 1 ? 7 : 5);
    }
}

/* Long repairs by chance: here a formula that forgets who is missing already would be seen. */
static int compare_long(avail_regime regime, int32_t redundancy, uint64_t seed)
{
    avail_input in = small_fleet(32, 10000);

    in.has_spares = false;
    in.repair = (time_law){.has_trace = true};
    in.lost_per_rank = 3;
    in.redundancy = redundancy;
    return compare(&in, regime, seed);
}

Test(avail_draws, a_fixed_membership_without_spares)
{
    cr_assert_geq(compare_long(AVAIL_FIXED, 0, 3), 6);
}

Test(avail_draws, elastic_without_spares_or_redundancy)
{
    cr_assert_geq(compare_long(AVAIL_ELASTIC, 0, 3), 9);
}

Test(avail_draws, elastic_without_spares)
{
    cr_assert_geq(compare_long(AVAIL_ELASTIC, 2, 5), 9);
}

/* A fleet of 4 groups, of which two are sometimes down. */
Test(avail_draws, standby_groups_without_spares)
{
    avail_input in = small_fleet(100, 50000);

    in.gpus = 400;
    in.has_spares = false;
    cr_assert_geq(compare(&in, AVAIL_FAILOVER, 4), 7);
}

/* If every fault takes a node, nodes are what fails: 4 of them, 8 times as often as a GPU. */
Test(avail_draws, faults_of_nodes_alone)
{
    avail_input in = small_fleet(32, 15000);
    const avail_shares nodes = {.node = 1, .node_gpus = 8, .rack_gpus = 32};
    const double rate = 1 / (15000 / 8.0 + 0.25), empty = 0.25 * rate;
    avail_drawn_figures drawn;

    in.redundancy = 8;
    cr_assert_eq(avail_draw(&in, AVAIL_ELASTIC, &nodes, DRAWS, 5, 1e-4, &drawn), EEP_OK);
    const double wanted[][2] = {{AVAIL_FAULTS, 4 * rate * 8760},
                                {AVAIL_MISSING, 32 * empty},
                                {AVAIL_STOPPED, 8760 * 6 * empty * empty}};
    for (int i = 0; i < 3; i++) {
        const avail_drawn *one = &drawn.figure[(int)wanted[i][0]];
        cr_assert_leq(fabs(one->mean - wanted[i][1]), 3 * one->error, "%d: %g +- %g, not %g", i,
                      one->mean, one->error, wanted[i][1]);
        cr_assert_gt(one->error, 0);
    }
    cr_assert_eq(drawn.redundancy, 8); /* fewer than a node would stop at every fault */
}

/* Half of a rack is another instance's: its faults come along. */
Test(avail_draws, a_rack_is_shared)
{
    avail_input in = small_fleet(16, 15000);
    const avail_shares racks = {.rack = 1, .node_gpus = 8, .rack_gpus = 32};
    avail_drawn_figures drawn;

    cr_assert_eq(avail_draw(&in, AVAIL_RESTART, &racks, DRAWS, 6, 1e-6, &drawn), EEP_OK);
    const avail_drawn *faults = &drawn.figure[AVAIL_FAULTS];
    const double outage_h = 348.0 / 3600, rate = 32.0 / 15000;
    cr_assert_leq(fabs(faults->mean - 8760 * rate / (1 + rate * outage_h)), 3 * faults->error);
}

Test(avail_draws, a_seed_repeats_its_draws)
{
    const avail_input in = small_fleet(32, 15000);
    avail_drawn_figures drawn[3];

    for (int i = 0; i < 3; i++) {
        memset(&drawn[i], 0, sizeof drawn[i]);
        cr_assert_eq(avail_draw(&in, AVAIL_ELASTIC, &alone, 100, i < 2 ? 9 : 10, 1e-6, &drawn[i]),
                     EEP_OK);
    }
    cr_assert_eq(memcmp(&drawn[0], &drawn[1], sizeof drawn[0]), 0);
    cr_assert_neq(drawn[0].figure[AVAIL_FAULTS].mean, drawn[2].figure[AVAIL_FAULTS].mean);
}

/* Too few events have no distance, whatever the sum that they are part of. */
Test(avail_draws, few_events_are_not_compared)
{
    avail_input in = small_fleet(32, 15000);
    avail_drawn_figures drawn;
    avail_figures figures;

    in.detect_s = in.recovery_s = in.reintegration_s = 1e-4;
    avail_compute(&in, AVAIL_ELASTIC, &figures);
    cr_assert_eq(avail_draw(&in, AVAIL_ELASTIC, &alone, DRAWS, 7, 1e-6, &drawn), EEP_OK);
    cr_assert_lt(drawn.figure[AVAIL_STOPPED].events, DRAWS);
    drawn.figure[AVAIL_STOPPED].events = AVAIL_LEAST_EVENTS - 1;
    cr_assert(isnan(avail_drawn_distance(&drawn, AVAIL_DOWNTIME, &figures)));
    cr_assert(isnan(avail_drawn_distance(&drawn, AVAIL_STOPPED, &figures)));
    cr_assert(isfinite(avail_drawn_distance(&drawn, AVAIL_PAUSED, &figures)));
}
