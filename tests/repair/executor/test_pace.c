/* SPDX-License-Identifier: Apache-2.0 */
/* The rate of copies behind live traffic, against steps that take longer the more is copied. */
#include "repair/executor/pace.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { CEILING = 1000000000, BASE_US = 10000, PERCENT = 25, SECOND = 1000000 };

typedef struct traffic {
    eepi_pace pace;
    uint64_t now_us, copied, paused_us;
    uint64_t harm; /* bytes per second that make a step take twice as long; 0: none do */
    uint64_t state;
    int noise_percent;
    int num_over, num_steps; /* with copies: longer than the budget */
} traffic;

static uint64_t draw(traffic *t, uint64_t below)
{
    t->state ^= t->state << 13;
    t->state ^= t->state >> 7;
    t->state ^= t->state << 17;
    return t->state % below;
}

/* One step, with copies or without. */
static void step(traffic *t, bool copies)
{
    uint64_t wake_us = 0, took_us;
    const bool may = copies && eepi_pace_may(&t->pace, t->now_us, &wake_us);
    const uint64_t rate = may ? eepi_pace_rate(&t->pace, t->now_us) : 0;

    took_us = BASE_US + BASE_US * draw(t, (uint64_t)t->noise_percent + 1) / 100;
    if (draw(t, 50) == 0) {
        took_us *= 2; /* a step now and then takes longer anyway */
    }
    if (t->harm) {
        took_us += BASE_US * rate / t->harm;
    }
    t->now_us += took_us;
    t->copied += rate * took_us / SECOND;
    t->paused_us += copies && !may ? took_us : 0;
    if (may) {
        t->num_steps++;
        t->num_over += took_us * 100 >
                       (uint64_t)(BASE_US + BASE_US * t->noise_percent / 100) * (100 + PERCENT);
    }
    eepi_pace_step(&t->pace, copies, (uint32_t)took_us, t->now_us);
}

static traffic begin(uint64_t harm, int noise_percent, uint64_t seed)
{
    traffic t = {.now_us = 5 * SECOND,
                 .harm = harm,
                 .noise_percent = noise_percent,
                 .state = seed * 0x9e3779b97f4a7c15u};

    eepi_pace_open(&t.pace, CEILING, PERCENT);
    for (int i = 0; i < 100; i++) {
        step(&t, false);
    }
    eepi_pace_begin(&t.pace, t.now_us);
    return t;
}

static void run_for(traffic *t, uint64_t us)
{
    for (const uint64_t until_us = t->now_us + us; t->now_us < until_us;) {
        step(t, true);
    }
}

Test(pace, copies_that_harm_nobody_get_the_whole_rate)
{
    traffic t = begin(0, 20, 1);

    run_for(&t, 20 * SECOND);
    cr_expect_eq(eepi_pace_rate(&t.pace, t.now_us), CEILING);
    cr_expect_lt(t.paused_us, 2 * SECOND, "a twentieth of the time is listened");
}

/* The rate settles where steps have their budget: a quarter of what doubles them, give or take. */
Test(pace, the_rate_settles_at_the_budget)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        traffic t = begin(200000000, 10, seed);
        uint64_t rate;
        run_for(&t, 30 * SECOND);
        t.num_over = t.num_steps = 0;
        t.copied = 0;
        run_for(&t, 60 * SECOND);
        rate = t.copied / 60;
        cr_expect(rate > 20000000 && rate < 65000000, "seed %llu: %llu bytes per second",
                  (unsigned long long)seed, (unsigned long long)rate);
        cr_expect_lt(t.num_over * 100, 12 * t.num_steps, "seed %llu: %d of %d steps over",
                     (unsigned long long)seed, t.num_over, t.num_steps);
    }
}

/* Once settled, it does not go up and down by more than a halving now and then. */
Test(pace, it_does_not_flap)
{
    traffic t = begin(200000000, 10, 3);
    uint64_t last;
    int turns = 0;

    run_for(&t, 30 * SECOND);
    last = t.pace.rate;
    for (int i = 0; i < 60; i++) {
        run_for(&t, SECOND);
        turns += t.pace.rate * 3 < last * 2;
        last = t.pace.rate;
    }
    cr_expect_leq(turns, 12, "%d halvings in a minute", turns);
}

/* Copies end, however slow steps are. */
Test(pace, it_never_starves_for_ever)
{
    traffic t = begin(1000, 10, 4);

    run_for(&t, 200 * SECOND);
    cr_expect_geq(t.pace.rate, CEILING / EEPI_PACE_FLOOR_SHARE);
    cr_expect_gt(t.copied, 0);
}

Test(pace, when_what_disturbed_has_gone_it_recovers)
{
    traffic t = begin(20000000, 10, 5);

    run_for(&t, 20 * SECOND);
    cr_expect_lt(t.pace.rate, CEILING / 50);
    t.harm = 0;
    run_for(&t, 60 * SECOND);
    cr_expect_gt(t.pace.rate, CEILING / 2);
}

/* A measure is taken first; without steps nobody waits long, and nobody is spared. */
Test(pace, without_steps_copies_begin_after_a_moment_at_the_whole_rate)
{
    eepi_pace pace;
    uint64_t wake_us = 0;

    eepi_pace_open(&pace, CEILING, PERCENT);
    eepi_pace_begin(&pace, 1000);
    cr_expect_not(eepi_pace_may(&pace, 1000, &wake_us));
    cr_expect_gt(wake_us, 1000);
    cr_expect(eepi_pace_may(&pace, wake_us, &wake_us));
    cr_expect_eq(eepi_pace_rate(&pace, wake_us), CEILING);
    cr_expect(eepi_pace_may(&pace, 100u * SECOND, &wake_us));
}

Test(pace, without_a_budget_the_rate_is_the_ceiling)
{
    eepi_pace pace;
    uint64_t wake_us = 0;

    eepi_pace_open(&pace, CEILING, 0);
    eepi_pace_begin(&pace, 0);
    for (uint64_t i = 1; i < 200; i++) {
        cr_expect(eepi_pace_may(&pace, i * SECOND / 10, &wake_us));
        eepi_pace_step(&pace, true, (uint32_t)(i * 100000), i * SECOND / 10);
    }
    cr_expect_eq(eepi_pace_rate(&pace, 20 * SECOND), CEILING);
    eepi_pace_open(&pace, 0, 0);
    cr_expect_eq(eepi_pace_rate(&pace, 0), 1, "it is divided by");
}
