/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that reach some or all of their peers through rings and a network that is late, unordered
 * and says things twice: results are those of the reference, bit for bit, through aborts and views.
 */
#include "tests/lib/world/kernel_check.h"
#include "tests/lib/world/kernel_proxies.h"

#include <criterion/criterion.h>
#include <poll.h>

TestSuite(kernel_proxies, .timeout = 100);

#ifdef EMULATED_BLOCKS
enum { NUM_SHAPES = 8, NUM_HISTORIES = 2, NUM_STEPS = 12 };
#else
enum { NUM_SHAPES = 24, NUM_HISTORIES = 6, NUM_STEPS = 30 };
#endif
enum { LONG_US = 20000000 };
static const uint64_t short_ns = 3000000;

static moe_shape random_shape(uint64_t *random, int num_chains)
{
    moe_shape s = {.max_ranks = 2 + kernel_below(random, 4),
                   .num_layers = num_chains * (1 + kernel_below(random, 5 - num_chains)),
                   .num_slots = 1 + kernel_below(random, 6),
                   .hidden = 1 + kernel_below(random, 70),
                   .max_tokens = 1 + kernel_below(random, 20),
                   .dtype = (eep_dtype)kernel_below(random, 2),
                   .out_dtype = (eep_dtype)kernel_below(random, 2),
                   .fp8_dispatch = kernel_below(random, 3) == 0,
                   .num_chains = num_chains};

    s.hidden += s.fp8_dispatch ? kernel_below(random, 300) : 0;
    s.num_experts = 1 + kernel_below(random, s.max_ranks * s.num_slots);
    s.top_k = 1 + kernel_below(random, s.num_experts > 8 ? 8 : s.num_experts);
    return s;
}

static uint64_t all_of(const kernel_world *w)
{
    return (1ull << w->shape.max_ranks) - 1;
}

/* Nothing that a rank of this version sends is malformed, whatever the network does to it. */
static void check_counts(const kernel_proxies *p, uint64_t seed)
{
    cr_assert_eq(kernel_proxies_count(p, EEPI_PLACED_MALFORMED), 0, KERNEL_REPLAY,
                 KERNEL_SEED(seed));
}

static void check_shapes(int num_chains)
{
    const uint64_t num = (uint64_t)(NUM_SHAPES / (2 * num_chains - 1));

    for (uint64_t seed = kernel_first_seed(), end = seed + num; seed < end; seed++) {
        uint64_t random = seed;
        const moe_shape shape = random_shape(&random, num_chains);
        const int percent = kernel_below(&random, 3) == 0 ? 100 : 50;
        const kernel_form form = {.layout = (eep_row_layout)(seed / 2 % 2),
                                  .slot_align = kernel_below(&random, 5),
                                  .is_physical = kernel_below(&random, 2),
                                  .tells = true};
        kernel_proxies *p = kernel_proxies_open_with(
            &shape, 1 + (uint32_t)kernel_below(&random, 4), percent, 100, kernel_random(&random),
            seed % 2 ? &form : NULL); /* every second world */
        kernel_world *w = p->world;
        kernel_world_switch(w, kernel_view(w, 1, all_of(w), 1, kernel_random(&random)));
        for (uint64_t step = 1; step <= 4; step++) {
            kernel_world_fill(w, kernel_random(&random));
            kernel_check_step(w, step, seed);
            cr_assert(proxy_wire_drain(p->wire, LONG_US));
        }
        check_counts(p, seed);
        kernel_proxies_close(p);
    }
}

Test(kernel_proxies, results_match_the_reference)
{
    check_shapes(1);
}

Test(kernel_proxies, P4_two_chains_match_the_reference)
{
    check_shapes(2);
}

/* The network meets each of its freedoms. */
Test(kernel_proxies, the_double_is_no_friend)
{
    const moe_shape shape = {4, 3, 8, 3, 4, 33, 9, EEP_BF16, EEP_FP32, 0};
    const uint64_t seed = kernel_first_seed();
    kernel_proxies *p = kernel_proxies_open(&shape, 2, 100, 400, seed);
    kernel_world *w = p->world;
    proxy_wire_counts counts;

    kernel_world_switch(w, kernel_view(w, 1, 15, 1, seed));
    for (uint64_t step = 1; step <= 10; step++) {
        kernel_world_fill(w, seed + step);
        kernel_rank_launch(w, 0, step, kernel_long_ns);
        (void)poll(NULL, 0, 1); /* its rows arrive before the others begin */
        for (int seat = 1; seat < 4; seat++) {
            kernel_rank_launch(w, seat, step, kernel_long_ns);
        }
        for (int seat = 0; seat < 4; seat++) {
            cr_assert_eq(kernel_rank_end(w, seat)->result, EEPK_STEP_OK);
            cr_assert_eq(kernel_rank_compare(w, seat, true), -1);
        }
    }
    cr_assert(proxy_wire_drain(p->wire, LONG_US));
    counts = proxy_wire_counted(p->wire);
    cr_expect(counts.taken > 1000 && counts.doubled > 100 && counts.overtaken > 100);
    cr_expect_gt(kernel_proxies_count(p, EEPI_PLACED_DOUBLED), 0);
    cr_expect_gt(kernel_proxies_count(p, EEPI_PLACED_OLDER), 0);
    cr_expect_gt(kernel_proxies_count(p, EEPI_PLACED_PARKED), 0);
    check_counts(p, seed);
    kernel_proxies_close(p);
}

/* ---------------------------------------------------------------- aborts and views */

/* A step of all members; those that end it well agree with the reference. Returns how many do. */
static int step_of_all(kernel_world *w, uint64_t step, uint64_t wait_ns, uint64_t seed)
{
    int num_ok = 0;

    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        if (kernel_is_member(w, seat)) {
            kernel_rank_launch(w, seat, step, wait_ns);
        }
    }
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        if (kernel_is_member(w, seat) && kernel_rank_end(w, seat)->result == EEPK_STEP_OK) {
            num_ok++;
            cr_assert_eq(kernel_rank_compare(w, seat, true), -1,
                         "seat %d, step %llu, " KERNEL_REPLAY, seat, (unsigned long long)step,
                         KERNEL_SEED(seed));
        }
    }
    return num_ok;
}

static uint64_t random_members(uint64_t *random, int max_ranks)
{
    return 3u << kernel_below(random, max_ranks - 1) |
           (kernel_random(random) & ((1ull << max_ranks) - 1));
}

/* One direction stands still over a step or two, and what it held comes later. */
static void run_history(uint64_t seed, int num_chains)
{
    uint64_t random = seed, epoch = 1, step = 0;
    const moe_shape shape = {.max_ranks = 4,
                             .num_layers = num_chains * (1 + kernel_below(&random, 3)),
                             .num_experts = 8,
                             .num_slots = 8,
                             .top_k = 4,
                             .hidden = 33,
                             .max_tokens = 9,
                             .dtype = EEP_BF16,
                             .out_dtype = EEP_FP32,
                             .num_chains = num_chains};
    kernel_proxies *p = kernel_proxies_open(&shape, 1 + (uint32_t)kernel_below(&random, 3), 80, 300,
                                            kernel_random(&random));
    kernel_world *w = p->world;
    int from = -1, to = -1;

    kernel_world_switch(w, kernel_view(w, epoch, 15, 1, kernel_random(&random)));
    for (int i = 0; i < NUM_STEPS; i++) {
        if (from < 0 && kernel_below(&random, 3) == 0) {
            from = kernel_below(&random, 4);
            to = (from + 1 + kernel_below(&random, 3)) % 4;
            if (p->is_proxy[from][to]) {
                kernel_proxies_hold(p, from, to, true, kernel_below(&random, 2));
            } else {
                from = -1;
            }
        } else if (from >= 0 && kernel_below(&random, 2) == 0) {
            kernel_proxies_hold(p, from, to, false, false);
            from = -1;
        }
        if (kernel_below(&random, 5) == 0) {
            epoch++;
            kernel_world_switch(w, kernel_view(w, epoch, random_members(&random, 4),
                                               (uint32_t)(1 + epoch / 4), kernel_random(&random)));
        }
        kernel_world_fill(w, kernel_random(&random));
        (void)step_of_all(w, ++step, short_ns, seed);
    }
    if (from >= 0) {
        kernel_proxies_hold(p, from, to, false, false);
    }
    cr_assert(proxy_wire_drain(p->wire, LONG_US));
    kernel_world_fill(w, kernel_random(&random));
    kernel_check_step(w, ++step, seed);
    check_counts(p, seed);
    kernel_proxies_close(p);
}

Test(kernel_proxies, N2_results_are_right_through_aborts_and_views)
{
    for (uint64_t seed = kernel_first_seed(), end = seed + NUM_HISTORIES; seed < end; seed++) {
        run_history(seed, 1);
    }
}

Test(kernel_proxies, P4_two_chains_are_right_through_aborts_and_views)
{
    for (uint64_t seed = kernel_first_seed(), end = seed + NUM_HISTORIES; seed < end; seed++) {
        run_history(seed, 2);
    }
}

/* H1: rank 0's rows of a step that all gave up come while the next step runs. */
Test(kernel_proxies, N2_rows_of_an_aborted_step_come_late_and_do_nothing)
{
    const moe_shape shape = {3, 2, 6, 4, 4, 20, 8, EEP_FP32, EEP_FP32, 0};
    const uint64_t seed = kernel_first_seed();
    kernel_proxies *p = kernel_proxies_open(&shape, 2, 100, 400, seed);
    kernel_world *w = p->world;
    uint64_t before;

    kernel_world_switch(w, kernel_view(w, 1, 7, 1, seed));
    for (uint64_t step = 1; step <= 12; step += 2) {
        kernel_world_fill(w, seed + step);
        kernel_proxies_hold(p, 0, 1, true, step % 4 == 1);
        cr_assert_eq(step_of_all(w, step, short_ns, seed), 0);
        before = kernel_proxies_count(p, EEPI_PLACED_OLDER);
        kernel_world_fill(w, seed + step + 1);
        for (int seat = 0; seat < 3; seat++) {
            kernel_rank_launch(w, seat, step + 1, kernel_long_ns);
        }
        kernel_proxies_hold(p, 0, 1, false, false);
        for (int seat = 0; seat < 3; seat++) {
            cr_assert_eq(kernel_rank_end(w, seat)->result, EEPK_STEP_OK);
            cr_assert_eq(kernel_rank_compare(w, seat, true), -1);
        }
        cr_expect_gt(kernel_proxies_count(p, EEPI_PLACED_OLDER), before);
    }
    check_counts(p, seed);
    kernel_proxies_close(p);
}

/* ---------------------------------------------------------------- room */

/* A lane that gives nothing back fills its ring: the step aborts with a result of its own, the
 * others hear of it, and steps go on when the lane does. */
Test(kernel_proxies, N5_without_room_the_step_aborts)
{
    const moe_shape shape = {3, 2, 6, 4, 4, 20, 8, EEP_FP32, EEP_FP32, 0};
    const uint64_t seed = kernel_first_seed();
    kernel_proxies *p = kernel_proxies_open(&shape, 2, 100, 0, seed);
    kernel_world *w = p->world;
    bool was_full = false;
    uint64_t step = 0;

    kernel_world_switch(w, kernel_view(w, 1, 7, 1, seed));
    kernel_proxies_hold(p, 0, 1, true, false);
    while (!was_full && step < 20) {
        for (int seat = 0; seat < 3; seat++) {
            kernel_rank_fill(w, seat, shape.max_tokens, seed + step);
            w->rank[seat].num_tokens = shape.max_tokens;
        }
        cr_assert_eq(step_of_all(w, ++step, short_ns, seed), 0);
        /* a busy machine may be late in other lanes, too: only the held one is to fill it */
        cr_assert(proxy_wire_drain(p->wire, LONG_US));
        was_full = eepi_tables_status(w->rank[0].tables)->result == EEPK_STEP_NO_ROOM;
    }
    cr_expect(was_full);
    cr_assert_eq(step_of_all(w, ++step, kernel_long_ns, seed), 0, "nobody waits for the deadline");
    cr_expect_eq(eepi_tables_status(w->rank[0].tables)->result, EEPK_STEP_NO_ROOM);
    cr_expect_eq(eepi_tables_status(w->rank[1].tables)->result, EEPK_STEP_PEER_ABORT);
    kernel_proxies_hold(p, 0, 1, false, false);
    cr_assert(proxy_wire_drain(p->wire, LONG_US));
    for (int i = 0; i < 4; i++) {
        kernel_world_fill(w, seed + (uint64_t)i);
        cr_assert(proxy_wire_drain(p->wire, LONG_US));
        (void)step_of_all(w, ++step, kernel_long_ns, seed);
    }
    check_counts(p, seed);
    kernel_proxies_close(p);
}

/* ---------------------------------------------------------------- who is no member any more */

static void step_beside_an_expelled_one(bool forbids)
{
    const moe_shape shape = {4, 2, 6, 4, 4, 20, 8, EEP_FP32, EEP_FP32, 0};
    const uint64_t seed = kernel_first_seed();
    kernel_proxies *p = kernel_proxies_open(&shape, 2, 100, 400, seed);
    kernel_world *w = p->world;
    eepi_view *next;

    kernel_world_switch(w, kernel_view(w, 1, 15, 1, seed));
    kernel_world_fill(w, seed);
    kernel_check_step(w, 1, seed);
    next = kernel_view(w, 2, 7, 1, seed + 1);
    kernel_world_switch(w, next); /* seat 3 stays in the first view */
    proxy_wire_forbid(p->wire, 3, forbids);
    for (uint64_t step = 2; step < 6; step++) {
        kernel_world_fill(w, seed + step);
        kernel_rank_launch(w, 3, step, short_ns);
        cr_assert_eq(step_of_all(w, step, kernel_long_ns, seed), 3);
        cr_assert_neq(kernel_rank_end(w, 3)->result, EEPK_STEP_OK);
    }
    cr_assert(proxy_wire_drain(p->wire, LONG_US));
    cr_expect_eq(proxy_wire_counted(p->wire).forbidden != 0, forbids);
    check_counts(p, seed);
    kernel_proxies_close(p);
}

Test(kernel_proxies, N2_an_expelled_ranks_rows_are_dropped)
{
    step_beside_an_expelled_one(false);
}

Test(kernel_proxies, a_view_forbids_a_sender)
{
    step_beside_an_expelled_one(true);
}
