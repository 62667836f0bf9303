/* SPDX-License-Identifier: Apache-2.0 */
/* The formulas of availability: known arithmetic, limits in which a regime becomes another one, and
 * sums against brute force. */
#include "tests/lib/avail_fixture.h"

#include <criterion/criterion.h>
#include <math.h>

enum { YEAR_H = 8760 };

static double figure(const avail_input *in, avail_regime regime, avail_figure which)
{
    avail_figures figures;
    avail_compute(in, regime, &figures);
    return figures.value[which];
}

static void near(double is, double wanted, double share, const char *what)
{
    cr_assert(fabs(is - wanted) <= share * fabs(wanted), "%s: %.12g, not %.12g", what, is, wanted);
}

/* U = rate * R / (1 + rate * R), with a full restart of 348 s at 15,000 h. */
Test(avail, downtime_of_96_against_32)
{
    const avail_input narrow = fleet(32, 15000), wide = fleet(96, 15000);
    const double restart_h = 348.0 / 3600, rate = 96.0 / 15000;
    const double down = figure(&wide, AVAIL_RESTART, AVAIL_DOWNTIME);

    near(down, YEAR_H * rate * restart_h / (1 + rate * restart_h), 1e-12, "downtime of 96");
    near(down, 5.4162, 1e-5, "downtime of 96 in hours a year");
    near(down / figure(&narrow, AVAIL_RESTART, AVAIL_DOWNTIME), 2.9988, 1e-4, "96 over 32");
    near(YEAR_H / rate, YEAR_H * 156.25, 1e-12, "a group of 96 fails every 156 h");
    /* Where all wait for the repair, the time that a group works is shorter too. */
    near(figure(&wide, AVAIL_FIXED, AVAIL_DOWNTIME) / figure(&narrow, AVAIL_FIXED, AVAIL_DOWNTIME),
         2.7681, 1e-4, "96 over 32, fixed");
}

/* U = rate * (detect + recovery + reintegration); GPU-hours per fault = W * pauses + k * T. */
Test(avail, an_elastic_instance_pays_pauses_and_the_missing_rank)
{
    avail_input in = fleet(32, 15000);
    const double rate = 32 / (15000 + 0.25), pauses_h = 19.0 / 3600;

    in.redundancy = 31;
    near(figure(&in, AVAIL_ELASTIC, AVAIL_FAULTS), rate * YEAR_H, 1e-12, "faults");
    near(figure(&in, AVAIL_ELASTIC, AVAIL_PAUSED), rate * pauses_h * YEAR_H, 1e-12, "paused");
    near(figure(&in, AVAIL_ELASTIC, AVAIL_LOST) / figure(&in, AVAIL_ELASTIC, AVAIL_FAULTS),
         32 * pauses_h + 0.25, 1e-9, "GPU-hours a fault");
    near(figure(&in, AVAIL_ELASTIC, AVAIL_SECOND_FAULT), 1 - exp(-31 * 0.25 / 15000), 1e-9,
         "second fault");
    /* A missing rank that costs three GPUs' worth. */
    const double lost = figure(&in, AVAIL_ELASTIC, AVAIL_LOST_DEGRADED);
    in.lost_per_rank = 3;
    near(figure(&in, AVAIL_ELASTIC, AVAIL_LOST_DEGRADED), 3 * lost, 1e-6, "three GPUs a rank");
}

/* The chance that more than `num` of `most` seats are empty, seat by seat. */
static double more_than(int num, int most, double empty)
{
    double chance[128] = {1}, sum = 0;

    for (int seat = 0; seat < most; seat++) {
        for (int i = seat + 1; i >= 0; i--) {
            chance[i] = chance[i] * (1 - empty) + (i ? chance[i - 1] * empty : 0);
        }
    }
    for (int i = num + 1; i <= most; i++) {
        sum += chance[i];
    }
    return sum;
}

Test(avail, redundancy_is_the_least_that_meets_the_target)
{
    for (int width = 8; width <= 96; width += 44) {
        avail_input in = fleet(width, 10000);
        in.has_spares = false;
        const double until_h = 20.4 + 0.25, empty = until_h / (10000 + until_h);
        for (double target = 1e-2; target > 1e-11; target /= 10) {
            const avail_redundancy found = avail_redundancy_for(&in, target, 256);
            const int k = found.ranks;
            near(found.beyond, more_than(k, width, empty), 1e-6, "time beyond");
            cr_assert_leq(found.beyond, target);
            cr_assert(k == 0 || more_than(k - 1, width, empty) > target,
                      "%d of %d: k less would do", k, width);
            cr_assert_geq(found.slots_hold * (width - k), 256);
            cr_assert_lt((found.slots_hold - 1) * (width - k), 256);
            cr_assert_geq(found.slots_apart * width, 256 * (k + 1));
        }
    }
}

Test(avail, no_redundancy_helps_where_all_ranks_are_missing)
{
    avail_input in = fleet(2, 10);
    in.has_spares = false;
    cr_assert_eq(avail_redundancy_for(&in, 1e-6, 256).ranks, -1);
}

Test(avail, more_missing_ranks_than_redundancy_stop_the_instance)
{
    avail_input in = fleet(32, 10000);
    const double empty = 0.25 / 10000.25;

    for (in.redundancy = 0; in.redundancy < 4; in.redundancy++) {
        const double beyond = more_than(in.redundancy, 32, empty);
        near(figure(&in, AVAIL_ELASTIC, AVAIL_STOPPED), beyond * YEAR_H, 1e-6, "stopped");
        near(figure(&in, AVAIL_ELASTIC, AVAIL_LOST_STOPPED), 32 * beyond * YEAR_H, 1e-6, "lost");
    }
    near(figure(&in, AVAIL_ELASTIC, AVAIL_MISSING), 32 * empty, 1e-12, "missing");
}

Test(avail, without_standby_groups_failover_is_a_restart)
{
    avail_input in = fleet(96, 15000);

    in.standby = 0;
    for (avail_figure f = 0; f < AVAIL_NUM_FIGURES; f++) {
        const double restart = figure(&in, AVAIL_RESTART, f);
        cr_assert(fabs(figure(&in, AVAIL_FAILOVER, f) - restart) <= 1e-9 * restart, "%s",
                  avail_figure_name(f));
    }
    /* With many, each fault costs the failover alone. */
    in.standby = 50;
    near(figure(&in, AVAIL_FAILOVER, AVAIL_DOWNTIME), 96.0 / 15000 * 30 / 3600 * YEAR_H, 1e-9,
         "failover alone");
    near(figure(&in, AVAIL_FAILOVER, AVAIL_LOST), figure(&in, AVAIL_RESTART, AVAIL_LOST), 1e-9,
         "the group is down for as long as with a restart");
    /* A fleet of one group has nowhere to go. */
    in.gpus = 100;
    cr_assert_eq(avail_standby(&in), 0);
}

Test(avail, without_spares_all_wait_for_the_repair)
{
    avail_input in = fleet(32, 15000);

    in.has_spares = false;
    for (avail_figure f = 0; f < AVAIL_NUM_FIGURES; f++) {
        cr_assert_float_eq(figure(&in, AVAIL_RESTART, f), figure(&in, AVAIL_FIXED, f), 1e-12, "%s",
                           avail_figure_name(f));
    }
    in.repair.has_trace = true;
    in.repair.fixed_h = 0;
    const time_law whole = avail_until_whole(&in, AVAIL_FIXED);
    cr_assert(whole.has_trace);
    near(whole.fixed_h, 348.0 / 3600, 1e-12, "the restart comes behind the repair");
    near(avail_reserve(&in, AVAIL_RESTART), 0, 0, "no spares");
}

Test(avail, a_law_agrees_with_its_own_draws)
{
    const time_law laws[] = {{.fixed_h = 20.4}, {.has_trace = true}, {true, 5}};
    uint64_t random = 7;

    for (int i = 0; i < 3; i++) {
        const int num = 100000;
        double sum = 0, squares = 0, none = 0;
        for (int draw = 0; draw < num; draw++) {
            const double time_h = time_law_draw(&laws[i], &random);
            sum += time_h;
            squares += time_h * time_h;
            none += exp(-0.01 * time_h);
        }
        const double mean = sum / num, error = sqrt((squares / num - mean * mean) / num);
        cr_assert_leq(fabs(mean - time_law_mean(&laws[i])), 3 * error + 1e-9, "law %d", i);
        near(none / num, time_law_none_within(&laws[i], 0.01), 0.01, "nothing within");
        near(time_law_none_within(&laws[i], 0), 1, 1e-12, "a rate of 0");
    }
}
