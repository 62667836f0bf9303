/* SPDX-License-Identifier: Apache-2.0 */
/* How long a slow rank pauses. */
#include "experiments/rank/slowdown.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { MS = 1000000 };

static slowdown learnt(uint64_t step_ns)
{
    slowdown p;
    slowdown_init(&p, 2000 * (uint64_t)MS);
    for (int i = 0; i < 100; i++) {
        slowdown_learn(&p, step_ns);
    }
    return p;
}

Test(slowdown, does_not_pause_unless_told)
{
    slowdown p = learnt(2 * MS);
    cr_expect_eq(slowdown_pause_ns(&p), 0);
    slowdown_set(&p, 3);
    cr_expect_eq(slowdown_pause_ns(&p), 4 * MS);
    slowdown_set(&p, 1);
    cr_expect_eq(slowdown_pause_ns(&p), 0);
    for (int i = 0; i < 3; i++) {
        const double factors[] = {0.5, -7, NAN};
        slowdown_set(&p, factors[i]);
        cr_expect_eq(slowdown_pause_ns(&p), 0, "factor %f", factors[i]);
    }
}

Test(slowdown, pauses_for_at_most_half_of_the_deadline)
{
    slowdown p = learnt(2 * MS);
    const double factors[] = {501, 502, 1e6, 1e300, INFINITY};
    for (int i = 0; i < 5; i++) {
        slowdown_set(&p, factors[i]);
        cr_expect_eq(slowdown_pause_ns(&p), 1000 * (uint64_t)MS, "factor %g", factors[i]);
    }
    char text[SLOWDOWN_TEXT_BYTES] = "";
    cr_expect(slowdown_tells_limit(&p, text, sizeof text), "what is not done is said");
    cr_expect(strstr(text, "501.0 times"), "%s", text);
    cr_expect_not(slowdown_tells_limit(&p, text, sizeof text), "once");
    slowdown_set(&p, 500);
    cr_expect_lt(slowdown_pause_ns(&p), 1000 * (uint64_t)MS);
    cr_expect_not(slowdown_tells_limit(&p, text, sizeof text));
}

Test(slowdown, knows_nothing_before_the_first_step)
{
    slowdown p;
    slowdown_init(&p, 2000 * (uint64_t)MS);
    slowdown_set(&p, 1e300);
    cr_expect_eq(slowdown_pause_ns(&p), 0);
    slowdown_learn(&p, 3 * MS);
    slowdown_set(&p, 2);
    cr_expect_eq(slowdown_pause_ns(&p), 3 * MS);
}

Test(slowdown, follows_the_load_while_it_is_not_slow)
{
    slowdown p = learnt(2 * MS);
    for (int i = 0; i < 100; i++) {
        slowdown_learn(&p, 6 * MS);
    }
    slowdown_set(&p, 2);
    cr_expect_gt(slowdown_pause_ns(&p), 6 * MS - MS / 100);
    cr_expect_leq(slowdown_pause_ns(&p), 6 * MS);
}

/* Two slow ranks wait for each other; what the one waits must not make it slower. */
Test(slowdown, does_not_learn_from_other_slow_ranks)
{
    slowdown a = learnt(2 * MS), b = learnt(3 * MS);
    slowdown_set(&a, 10);
    slowdown_set(&b, 10);
    for (int i = 0; i < 1000; i++) {
        uint64_t pause_a = slowdown_pause_ns(&a), pause_b = slowdown_pause_ns(&b);
        slowdown_learn(&a, 2 * MS + (pause_b > pause_a ? pause_b - pause_a : 0));
        slowdown_learn(&b, 3 * MS + (pause_a > pause_b ? pause_a - pause_b : 0));
    }
    cr_expect_eq(slowdown_pause_ns(&a), 18 * MS);
    cr_expect_eq(slowdown_pause_ns(&b), 27 * MS);
}
