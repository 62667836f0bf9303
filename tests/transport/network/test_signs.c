/* SPDX-License-Identifier: Apache-2.0 */
/* What a lane tells of its peer, and what it does not take for the peer's fault. */
#include "tests/transport/network/network_fixture.h"
#include "tests/transport/network/relay.h"

#include "eep/eep.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>

TestSuite(signs, .timeout = 100);

/* Ranks a and b, and a relay in front of b. */
typedef struct pair {
    rank a, b;
    relay *relay;
    uint32_t to_b;
} pair;

static void open_pair(pair *p)
{
    eepi_lane_address to, own;

    open_rank(&p->a, 0);
    open_rank(&p->b, 1);
    to = eepi_network_address(p->b.network);
    p->relay = relay_open(&to, &own);
    p->to_b = reach(&p->a, 1, &own);
}

static void close_pair(pair *p)
{
    close_rank(&p->a);
    close_rank(&p->b);
    relay_close(p->relay);
}

static int num_alive(rank *r)
{
    return __atomic_load_n(&r->num_alive, __ATOMIC_ACQUIRE);
}

static void forget(rank *r, int seat)
{
    __atomic_store_n(&r->lost[seat], 0, __ATOMIC_RELEASE);
}

Test(signs, the_first_sign_of_life_is_told_once)
{
    pair p;

    open_pair(&p);
    AWAIT(num_alive(&p.a) == 1);
    for (uint64_t step = 1; step < 5; step++) {
        move_to(&p.b, step);
        put_rows(&p.a, p.to_b, step, 4);
        AWAIT(has_tag(&p.b, &p.a, step));
    }
    cr_expect_eq(num_alive(&p.a), 1);
    close_pair(&p);
}

/* The kernel of a stopped host takes connections: that is nobody's word. */
Test(signs, a_connection_without_a_greeting_is_no_sign_of_life)
{
    pair p;
    eepi_lane_address to, own;

    open_rank(&p.a, 0);
    open_rank(&p.b, 1);
    to = eepi_network_address(p.b.network);
    p.relay = relay_open(&to, &own);
    relay_hold(p.relay, 1);
    p.to_b = reach(&p.a, 1, &own);
    usleep(200000);
    cr_expect_eq(num_alive(&p.a), 0);
    relay_hold(p.relay, 0);
    AWAIT(num_alive(&p.a) == 1);
    close_pair(&p);
}

/* It greets, and takes no row: nothing arrives, and its greetings take nothing back. */
Test(signs, one_whose_connection_breaks_after_each_greeting_is_silent)
{
    int before, connections;
    pair p;

    silent_us = 300000;
    open_pair(&p);
    put_rows(&p.a, p.to_b, 1, 4);
    AWAIT(has_tag(&p.b, &p.a, 1) && room(&p.a, p.to_b) == p.a.shape.ring_slots);
    forget(&p.a, 1);
    before = num_alive(&p.a);
    connections = relay_num_connections(p.relay);
    move_to(&p.b, 2);
    relay_cut_each(p.relay, sizeof(eepi_lane_hello) + 200);
    put_rows(&p.a, p.to_b, 2, 4);
    AWAIT(lost(&p.a, 1) == EEP_FAULT_SILENT);
    AWAIT(relay_num_connections(p.relay) > connections); /* it is tried again, */
    cr_expect_lt(relay_num_connections(p.relay), connections + 100, "and not as often as can be");
    cr_expect_eq(num_alive(&p.a), before);
    relay_cut_each(p.relay, 0);
    AWAIT(has_tag(&p.b, &p.a, 2));
    AWAIT(num_alive(&p.a) == before + 1);
    check_rows(&p.b, &p.a, 2, 4);
    close_pair(&p);
}

/* A view may keep a rank in spite of a reset. */
Test(signs, one_that_was_reset_is_heard_again_and_may_be_lost_again)
{
    int before;
    pair p;

    silent_us = 1000000;
    open_pair(&p);
    put_rows(&p.a, p.to_b, 1, 4);
    AWAIT(has_tag(&p.b, &p.a, 1) && room(&p.a, p.to_b) == p.a.shape.ring_slots);
    before = num_alive(&p.a);
    relay_refuse(p.relay, 1);
    AWAIT(lost(&p.a, 1) == EEP_FAULT_RESET);
    forget(&p.a, 1);
    AWAIT(lost(&p.a, 1) == EEP_FAULT_RESET); /* it lasts */
    relay_refuse(p.relay, 0);
    AWAIT(num_alive(&p.a) > before);
    forget(&p.a, 1);
    move_to(&p.b, 2);
    put_rows(&p.a, p.to_b, 2, 4);
    AWAIT(has_tag(&p.b, &p.a, 2));
    cr_expect_eq(lost(&p.a, 1), -1);
    relay_hold(p.relay, 1);
    put_rows(&p.a, p.to_b, 3, 4);
    AWAIT(lost(&p.a, 1) == EEP_FAULT_SILENT);
    close_pair(&p);
}

/* Below FEW. */
enum { FEW = 80, QUIET_MS = 50, ENDS = 5 };
static int num_free(void)
{
    int num = 0;

    for (int fd = 0; fd < FEW; fd++) {
        num += fcntl(fd, F_GETFD) < 0;
    }
    return num;
}

/* Take each descriptor that is left, into fds; their number. Those of the connection that was cut
 * are among them: the lane's, the peer's, two of the relay, and its listener. One that is in use
 * for a moment, for a connection that is refused, is taken when it is free. */
static int take_all(const pair *p, int num_before, int fds[FEW])
{
    const int *lanes = &p->a.network->lane[p->to_b].fd;
    int num = 0, quiet_ms = 0;

    for (int ms = 0; ms < 20000 && quiet_ms < QUIET_MS; ms++) {
        const int before = num;
        while (num < FEW && (fds[num] = dup(STDOUT_FILENO)) >= 0) {
            num++;
        }
        cr_assert_lt(num, FEW);
        quiet_ms = num == before && num >= num_before + ENDS &&
                           __atomic_load_n(lanes, __ATOMIC_ACQUIRE) < 0
                       ? quiet_ms + 1
                       : 0;
        usleep(1000);
    }
    cr_assert_eq(quiet_ms, QUIET_MS, "%d of %d", num, num_before + ENDS);
    return num;
}

/* A rank without a descriptor for a connection blames nobody for it. */
Test(signs, own_want_of_descriptors_is_no_silence_of_the_peer)
{
    struct rlimit all, few;
    int fds[FEW], num;
    pair p;

    silent_us = 500000;
    open_pair(&p);
    put_rows(&p.a, p.to_b, 1, 4);
    AWAIT(has_tag(&p.b, &p.a, 1));
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &all), 0);
    few = (struct rlimit){FEW, all.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    num = num_free();
    relay_refuse(p.relay, 1);     /* its connection ends, */
    num = take_all(&p, num, fds); /* and no other one can be made */
    forget(&p.a, 1);
    put_rows(&p.a, p.to_b, 2, 4);
    usleep(3 * (unsigned)silent_us);
    cr_expect_eq(lost(&p.a, 1), -1);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &all), 0);
    while (num > 0) {
        close(fds[--num]);
    }
    move_to(&p.b, 2);
    relay_refuse(p.relay, 0);
    AWAIT(has_tag(&p.b, &p.a, 2));
    check_rows(&p.b, &p.a, 2, 4);
    cr_expect_eq(lost(&p.a, 1), -1);
    close_pair(&p);
}
