/* SPDX-License-Identifier: Apache-2.0 */
/* What each carrier of rows has to do, by EEP_NETWORK: the same tests run over TCP and over UCX. */
#include "tests/transport/network/network_fixture.h"

#include "eep/eep.h"

#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

TestSuite(lanes, .timeout = 100);

static int num_alive(rank *r)
{
    return __atomic_load_n(&r->num_alive, __ATOMIC_ACQUIRE);
}

/* All is acknowledged, so nobody is silent from here on until a test makes it so. On a busy machine
 * the peer may have been silent for a while before. How often it was told to be alive. */
static int begin_silence(rank *a, uint32_t queue)
{
    AWAIT(room(a, queue) == a->shape.ring_slots && num_alive(a) > 0);
    __atomic_store_n(&a->lost[1], 0, __ATOMIC_RELEASE);
    return num_alive(a);
}

static void step_to(rank *a, uint32_t queue, rank *b, uint64_t step, uint32_t num)
{
    move_to(b, step);
    AWAIT(room(a, queue) > num);
    put_rows(a, queue, step, num);
    AWAIT(has_tag(b, a, step));
    check_rows(b, a, step, num);
}

/* ---------------------------------------------------------------- rows arrive */

Test(lanes, rows_and_tags_go_from_ring_to_window)
{
    rank a, b;
    uint32_t to_b, to_a;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to_b = connect_to(&a, &b);
    to_a = connect_to(&b, &a);
    for (uint64_t step = 1; step < 30; step++) {
        step_to(&a, to_b, &b, step, TOKENS);
        step_to(&b, to_a, &a, step, (uint32_t)step % TOKENS);
    }
    cr_expect(a.num_heard[1] > 0 && b.num_heard[0] > 0, "rows are a sign of life (N11)");
    cr_expect(num_alive(&a) == 1 && num_alive(&b) == 1);
    cr_expect_eq(eepi_placer_count(b.placer, EEPI_PLACED_DOUBLED), 0);
    cr_expect_eq(eepi_placer_count(b.placer, EEPI_PLACED_MALFORMED), 0);
    close_rank(&a);
    close_rank(&b);
}

Test(lanes, a_begin_word_arrives)
{
    rank a, b;
    uint32_t to_b;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to_b = connect_to(&a, &b);
    eepi_ring_put_begin(a.ring[to_b], EPOCH, 9, 0, 8, members[0], members[1]);
    eepi_network_kick(a.network);
    AWAIT(__atomic_load_n(&b.begun_step, __ATOMIC_ACQUIRE) == 9);
    close_rank(&a);
    close_rank(&b);
}

/* Each is placed with what its claim says, and its slot comes back. */
Test(lanes, many_steps_at_once_arrive_in_any_pieces)
{
    rank a, b;
    uint32_t to_b;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to_b = connect_to(&a, &b);
    for (uint64_t step = 1; step < 400; step++) {
        move_to(&b, step);
        AWAIT(room(&a, to_b) > 7);
        put_rows(&a, to_b, step, 1 + (uint32_t)step % 7);
        if (step % 5 == 0) {
            AWAIT(has_tag(&b, &a, step));
            check_rows(&b, &a, step, 1 + (uint32_t)step % 7);
        }
    }
    AWAIT(room(&a, to_b) == a.shape.ring_slots);
    close_rank(&a);
    close_rank(&b);
}

/* ---------------------------------------------------------------- connections that break */

/* Each connection of this process ends, in both directions. */
static int cut_all(void)
{
    int num = 0;

    for (int fd = 3; fd < 400; fd++) {
        struct sockaddr_in peer;
        socklen_t bytes = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)&peer, &bytes) == 0 && peer.sin_family == AF_INET &&
            shutdown(fd, SHUT_RDWR) == 0) {
            num++;
        }
    }
    return num;
}

Test(lanes, N4_what_a_broken_connection_lost_is_sent_again)
{
    int num_cut = 0;
    rank a, b;
    uint32_t to_b;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to_b = connect_to(&a, &b);
    step_to(&a, to_b, &b, 1, 4);
    for (uint64_t step = 2; step < 20; step++) {
        move_to(&b, step);
        AWAIT(room(&a, to_b) > TOKENS);
        usleep(4000); /* it is there again */
        put_rows(&a, to_b, step, TOKENS);
        usleep(step % 4 * 50);
        num_cut += cut_all();
        AWAIT(has_tag(&b, &a, step));
        check_rows(&b, &a, step, TOKENS);
    }
    cr_expect_gt(num_cut, 10);
    cr_expect_eq(lost(&a, 1), -1, "a connection that comes back is no fault");
    AWAIT(room(&a, to_b) == a.shape.ring_slots);
    close_rank(&a);
    close_rank(&b);
}

/* ---------------------------------------------------------------- peers that do not answer */

/* As much as the ring takes. */
static void fill(rank *a, uint32_t queue)
{
    for (uint64_t step = 2; room(a, queue) > TOKENS; step++) {
        put_rows(a, queue, step, TOKENS);
    }
}

static void hold_full(rank *a, uint32_t queue, rank *b)
{
    step_to(a, queue, b, 1, 4);
    move_to(b, 2);
    b->is_held = 1;
    put_rows(a, queue, 2, TOKENS);
    hold(b);
    fill(a, queue);
}

Test(lanes, N16_a_peer_that_takes_nothing_holds_up_no_other)
{
    rank a, b, c;
    uint32_t to_b, to_c;

    open_rank(&a, 0);
    open_rank(&b, 1);
    open_rank(&c, 2);
    to_b = connect_to(&a, &b);
    to_c = connect_to(&a, &c);
    b.is_held = 1;
    put_rows(&a, to_b, 1, TOKENS);
    hold(&b);
    fill(&a, to_b);
    for (uint64_t step = 1; step < 5; step++) {
        step_to(&a, to_c, &c, step, TOKENS);
    }
    cr_expect_lt(room(&a, to_b), a.shape.ring_slots / 2);
    let_go(&b);
    close_rank(&a);
    close_rank(&b);
    close_rank(&c);
}

Test(lanes, one_that_acknowledges_nothing_is_silent_until_it_does)
{
    rank a, b;
    uint32_t to_b;
    int before;

    silent_us = 200000;
    open_rank(&a, 0);
    open_rank(&b, 1);
    to_b = connect_to(&a, &b);
    step_to(&a, to_b, &b, 1, 4);
    before = begin_silence(&a, to_b);
    move_to(&b, 2);
    b.is_held = 1;
    put_rows(&a, to_b, 2, 4);
    hold(&b);
    AWAIT(lost(&a, 1) == EEP_FAULT_SILENT);
    cr_expect_geq(eepi_network_blocked_us(a.network, to_b), silent_us, "N16");
    let_go(&b);
    AWAIT(num_alive(&a) == before + 1);
    AWAIT(eepi_network_blocked_us(a.network, to_b) == 0);
    AWAIT(has_tag(&b, &a, 2));
    check_rows(&b, &a, 2, 4);
    close_rank(&a);
    close_rank(&b);
}

Test(lanes, N6_a_lane_to_somebody_who_left_is_abandoned)
{
    const uint32_t without_b[RANKS] = {1, 0, 5};
    rank a, b;
    uint32_t to_b;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to_b = connect_to(&a, &b);
    hold_full(&a, to_b, &b);
    eepi_network_keep(a.network, without_b);
    AWAIT(room(&a, to_b) == a.shape.ring_slots);
    let_go(&b);
    close_rank(&a);
    close_rank(&b);
}

Test(lanes, N6_closing_waits_for_no_peer)
{
    rank a, b;
    uint32_t to_b;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to_b = connect_to(&a, &b);
    hold_full(&a, to_b, &b);
    close_rank(&a); /* the suite's bound of time is the test */
    let_go(&b);
    close_rank(&b);
}

/* ---------------------------------------------------------------- who is there */

Test(lanes, one_whose_process_has_ended_is_reset)
{
    rank a, b;
    uint32_t to_b;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to_b = connect_to(&a, &b);
    step_to(&a, to_b, &b, 1, 4);
    close_rank(&b);
    AWAIT(lost(&a, 1) == EEP_FAULT_RESET);
    close_rank(&a);
}

/* Rule N2: its successor has the same address. */
Test(lanes, N2_another_process_at_that_address_is_not_taken_for_it)
{
    rank a, b;
    eepi_lane_address address;
    uint32_t queue;

    open_rank(&a, 0);
    open_rank(&b, 1);
    address = eepi_network_address(b.network);
    queue = eepi_network_reach(a.network, 1, members[1] + 2, &address, false);
    put_rows(&a, queue, 1, 4);
    AWAIT(lost(&a, 1) == EEP_FAULT_RESET);
    cr_expect(!has_tag(&b, &a, 1));
    close_rank(&a);
    close_rank(&b);
}

Test(lanes, another_instance_is_refused)
{
    rank a, b;

    open_rank(&a, 0);
    open_rank_as(&b, 1, INSTANCE + 1);
    put_rows(&a, connect_to(&a, &b), 1, 4);
    AWAIT(lost(&a, 1) == EEP_FAULT_RESET);
    cr_expect(!has_tag(&b, &a, 1));
    close_rank(&a);
    close_rank(&b);
}

Test(lanes, a_network_of_another_kind_is_not_reached)
{
    eepi_lane_address other;
    rank a;

    open_rank(&a, 0);
    other = eepi_network_address(a.network);
    other.kind = other.kind == EEPI_LANE_TCP ? EEPI_LANE_UCX : EEPI_LANE_TCP;
    cr_expect_eq(reach(&a, 1, &other), EEPI_NO_QUEUE);
    close_rank(&a);
}

/* ---------------------------------------------------------------- processes */

/* Rank 1 in a process of its own, opened when it is told to. */
typedef struct child {
    pid_t pid;
    int orders, answers;
} child;

/* Steps for ever, with whatever comes: its gate follows what it is told. */
static void serve(int orders, int answers)
{
    eepi_lane_address address;
    uint64_t step;
    rank b;

    while (read(orders, &step, sizeof step) == sizeof step) {
        if (step == 0) {
            open_rank(&b, 1);
            address = eepi_network_address(b.network);
            (void)!write(answers, &address, sizeof address);
        } else {
            move_to(&b, step);
            (void)!write(answers, &step, sizeof step);
        }
    }
    _exit(0);
}

/* Before this process has used any carrier. */
static child start(void)
{
    int orders[2], answers[2];
    child c;

    cr_assert(pipe(orders) == 0 && pipe(answers) == 0);
    c = (child){fork(), orders[1], answers[0]};
    cr_assert_geq(c.pid, 0);
    if (c.pid == 0) {
        close(orders[1]);
        serve(orders[0], answers[1]);
    }
    return c;
}

static eepi_lane_address open_in(const child *c)
{
    const uint64_t none = 0;
    eepi_lane_address address;

    cr_assert_eq(write(c->orders, &none, sizeof none), sizeof none);
    cr_assert_eq(read(c->answers, &address, sizeof address), sizeof address);
    return address;
}

static void step_in(const child *c, uint64_t step)
{
    cr_assert_eq(write(c->orders, &step, sizeof step), sizeof step);
    cr_assert_eq(read(c->answers, &step, sizeof step), sizeof step);
}

static void end(child *c)
{
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
}

Test(lanes, one_that_is_killed_is_reset_and_its_successor_is_reached)
{
    child first = start(), second = start();
    eepi_lane_address address;
    uint32_t to_b;
    rank a;

    address = open_in(&first);
    open_rank(&a, 0);
    to_b = reach(&a, 1, &address);
    step_in(&first, 1);
    put_rows(&a, to_b, 1, TOKENS);
    AWAIT(room(&a, to_b) == a.shape.ring_slots);
    put_rows(&a, to_b, 2, TOKENS);
    end(&first);
    AWAIT(lost(&a, 1) == EEP_FAULT_RESET);
    address = open_in(&second); /* in the same seat; a newer one would have the other queue */
    eepi_network_keep(a.network, (uint32_t[RANKS]){1, 0, 5});
    AWAIT(room(&a, to_b) == a.shape.ring_slots);
    cr_assert_eq(reach(&a, 1, &address), to_b);
    step_in(&second, 3);
    put_rows(&a, to_b, 3, TOKENS);
    AWAIT(room(&a, to_b) == a.shape.ring_slots);
    cr_expect_geq(num_alive(&a), 2);
    end(&second);
    close_rank(&a);
}

Test(lanes, one_that_is_stopped_is_silent_and_goes_on_where_it_stood)
{
    child peer = start();
    eepi_lane_address address;
    uint32_t to_b;
    int before;
    rank a;

    silent_us = 300000;
    address = open_in(&peer);
    open_rank(&a, 0);
    to_b = reach(&a, 1, &address);
    step_in(&peer, 1);
    put_rows(&a, to_b, 1, TOKENS);
    before = begin_silence(&a, to_b);
    kill(peer.pid, SIGSTOP);
    for (uint64_t step = 2; room(&a, to_b) > TOKENS; step++) {
        put_rows(&a, to_b, step, TOKENS);
    }
    AWAIT(lost(&a, 1) == EEP_FAULT_SILENT);
    usleep(500000);
    kill(peer.pid, SIGCONT);
    AWAIT(num_alive(&a) == before + 1);
    AWAIT(room(&a, to_b) == a.shape.ring_slots);
    end(&peer);
    close_rank(&a);
}

/* It is stopped, left out and killed: nobody waits for it, and it harms nobody. */
Test(lanes, N6_one_that_is_stopped_and_then_killed_is_abandoned)
{
    child peer = start();
    eepi_lane_address address;
    uint32_t to_b;
    rank a;

    address = open_in(&peer);
    open_rank(&a, 0);
    to_b = reach(&a, 1, &address);
    step_in(&peer, 1);
    put_rows(&a, to_b, 1, TOKENS);
    AWAIT(room(&a, to_b) == a.shape.ring_slots);
    kill(peer.pid, SIGSTOP);
    for (uint64_t step = 2; room(&a, to_b) > TOKENS; step++) {
        put_rows(&a, to_b, step, TOKENS);
    }
    eepi_network_keep(a.network, (uint32_t[RANKS]){1, 0, 5});
    AWAIT(room(&a, to_b) == a.shape.ring_slots);
    end(&peer);
    usleep(200000);
    close_rank(&a);
}
