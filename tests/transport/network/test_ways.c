/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks with two interfaces: a lane whose interface goes down, or whose way is cut further on, goes
 * over to the other one, and comes back. Both interfaces are the loopback one; RDMA ports of the
 * test double stand for what is below them. By EEP_NETWORK, as test_lanes.c. */
#include "tests/transport/fake_verbs.h"
#include "tests/transport/network/network_fixture.h"
#include "tests/transport/network/relay.h"

#include "eep/eep.h"
#include "graphs/base/clock.h"

#include <stdlib.h>
#include <string.h>

static void begin_devices(void)
{
    fake_verbs_begin(4, 1);
}

static void end_devices(void)
{
    cr_expect_eq(fake_verbs_end(), 0, "left open");
}

TestSuite(ways, .timeout = 100, .init = begin_devices, .fini = end_devices);

const eepi_verbs *eepi_verbs_system(void)
{
    return fake_verbs();
}

/* Rank a has the devices fake_0 and fake_1, b fake_2 and fake_3. */
static void open_both(rank *a, rank *b)
{
    setenv("EEP_NETWORK_INTERFACE", "lo@fake_0,lo@fake_1", 1);
    open_rank(a, 0);
    setenv("EEP_NETWORK_INTERFACE", "lo@fake_2,lo@fake_3", 1);
    open_rank(b, 1);
}

static uint32_t way(const rank *r, uint32_t queue)
{
    return __atomic_load_n(&r->network->lane[queue].way, __ATOMIC_ACQUIRE);
}

static bool is_up(const rank *r, uint32_t queue)
{
    return __atomic_load_n(&r->network->lane[queue].state, __ATOMIC_ACQUIRE) == EEPI_LANE_UP;
}

static void step_to(rank *a, uint32_t queue, rank *b, uint64_t step)
{
    move_to(b, step);
    AWAIT(room(a, queue) > TOKENS);
    put_rows(a, queue, step, TOKENS);
    AWAIT(has_tag(b, a, step));
    check_rows(b, a, step, TOKENS);
}

Test(ways, both_interfaces_are_in_the_address)
{
    rank a, b;

    open_both(&a, &b);
    cr_expect_eq(eepi_network_address(a.network).num_paths, 2);
    cr_expect_neq(eepi_network_address(a.network).path[0].port,
                  eepi_network_address(a.network).path[1].port);
    close_rank(&a);
    close_rank(&b);
}

Test(ways, N4_a_lane_goes_over_when_its_port_goes_down_and_comes_back)
{
    uint64_t step = 1, began_us;
    rank a, b;
    uint32_t to_b;

    open_both(&a, &b);
    to_b = connect_to(&a, &b);
    step_to(&a, to_b, &b, step++);
    for (int flaps = 0; flaps < 3; flaps++) {
        cr_expect_eq(way(&a, to_b), 0);
        began_us = eepi_now_us();
        fake_verbs_port_down(0, 1);
        AWAIT(way(&a, to_b) == 1);
        cr_expect_lt(eepi_now_us() - began_us, 200000, "at once");
        for (int i = 0; i < 5; i++) {
            step_to(&a, to_b, &b, step++);
        }
        fake_verbs_port_up(0, 1);
        for (int i = 0; i < 5; i++) {
            step_to(&a, to_b, &b, step++);
        }
        AWAIT(way(&a, to_b) == 0 && is_up(&a, to_b));
        step_to(&a, to_b, &b, step++);
    }
    cr_expect_eq(lost(&a, 1), -1);
    AWAIT(room(&a, to_b) == a.shape.ring_slots);
    close_rank(&a);
    close_rank(&b);
}

/* Rows are put at any moment while ports of both ends go down and up. */
Test(ways, N4_no_row_is_lost_or_doubled_while_ports_flap)
{
    uint64_t last = 0;
    rank a, b;
    uint32_t to_b;

    open_both(&a, &b);
    to_b = connect_to(&a, &b);
    for (uint64_t step = 1; step < 120; step++) {
        const int port = (int)(step / 8 % 4);
        move_to(&b, step);
        AWAIT(room(&a, to_b) > TOKENS);
        put_rows(&a, to_b, step, TOKENS);
        if (step % 8 == 3) {
            fake_verbs_port_down(port, 1);
        } else if (step % 8 == 6) {
            fake_verbs_port_up(port, 1);
        }
        AWAIT(has_tag(&b, &a, step));
        check_rows(&b, &a, step, TOKENS);
        last = step;
    }
    cr_expect_eq(last, 119);
    cr_expect_eq(lost(&a, 1), -1);
    cr_expect_eq(eepi_placer_count(b.placer, EEPI_PLACED_MALFORMED), 0);
    AWAIT(room(&a, to_b) == a.shape.ring_slots);
    close_rank(&a);
    close_rank(&b);
}

Test(ways, all_ports_down_is_no_reason_to_stop)
{
    rank a, b;
    uint32_t to_b;

    open_both(&a, &b);
    to_b = connect_to(&a, &b);
    step_to(&a, to_b, &b, 1);
    for (int port = 0; port < 4; port++) {
        fake_verbs_port_down(port, 1);
    }
    usleep(50000);
    step_to(&a, to_b, &b, 2); /* what is said of ports is a hint */
    close_rank(&a);
    close_rank(&b);
}

/* Neither end sees that: a switch between them has failed. */
Test(ways, N4_a_lane_goes_over_when_nothing_is_acknowledged)
{
    eepi_lane_address to, own;
    uint64_t began_us;
    rank a, b;
    relay *r;
    uint32_t to_b;

    if (getenv("EEP_NETWORK") && strcmp(getenv("EEP_NETWORK"), "tcp") != 0) {
        cr_skip_test("a relay carries TCP alone");
    }
    silent_us = 3000000;
    open_both(&a, &b);
    to = eepi_network_address(b.network);
    r = relay_open(&to, &own);
    to_b = reach(&a, 1, &own);
    step_to(&a, to_b, &b, 1);
    cr_expect_eq(way(&a, to_b), 0);
    relay_hold(r, 1);
    began_us = eepi_now_us();
    step_to(&a, to_b, &b, 2);
    cr_expect_lt(eepi_now_us() - began_us, silent_us, "before it is silent");
    cr_expect_eq(way(&a, to_b), 1);
    step_to(&a, to_b, &b, 3);
    cr_expect_eq(lost(&a, 1), -1);
    relay_hold(r, 0);
    connect_to(&b, &a); /* the peer's greeting says that the first way is well */
    AWAIT(way(&a, to_b) == 0 && is_up(&a, to_b));
    step_to(&a, to_b, &b, 4);
    close_rank(&a);
    close_rank(&b);
    relay_close(r);
}

/* One of two is silent, or gone, whichever way is tried. */
Test(ways, one_that_is_gone_is_reset_on_all_ways)
{
    rank a, b;
    uint32_t to_b;

    open_both(&a, &b);
    to_b = connect_to(&a, &b);
    step_to(&a, to_b, &b, 1);
    close_rank(&b);
    AWAIT(lost(&a, 1) == EEP_FAULT_RESET);
    close_rank(&a);
}
