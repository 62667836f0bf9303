/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of several ranks in one process, over real connections of the loopback interface. */
#include "tests/transport/network/network_fixture.h"
#include "tests/transport/network/relay.h"

#include "eep/eep.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

TestSuite(network, .timeout = 100);

/* ---------------------------------------------------------------- rows arrive */

Test(network, rows_and_tags_go_from_ring_to_window)
{
    rank a, b;
    uint32_t to_b, to_a;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to_b = connect_to(&a, &b);
    to_a = connect_to(&b, &a);
    for (uint64_t step = 1; step < 30; step++) {
        move_to(&a, step);
        move_to(&b, step);
        AWAIT(room(&a, to_b) > TOKENS && room(&b, to_a) > TOKENS);
        put_rows(&a, to_b, step, TOKENS);
        put_rows(&b, to_a, step, (uint32_t)step % TOKENS);
        AWAIT(has_tag(&a, &b, step) && has_tag(&b, &a, step));
        check_rows(&b, &a, step, TOKENS);
        check_rows(&a, &b, step, (uint32_t)step % TOKENS);
    }
    cr_expect(a.num_heard[1] > 0 && b.num_heard[0] > 0, "rows are a sign of life (N11)");
    cr_expect_eq(eepi_placer_count(b.placer, EEPI_PLACED_DOUBLED), 0);
    cr_expect_eq(eepi_placer_count(b.placer, EEPI_PLACED_MALFORMED), 0);
    close_rank(&a);
    close_rank(&b);
}

Test(network, a_begin_word_arrives)
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

/* ---------------------------------------------------------------- connections that break */

Test(network, N4_what_a_broken_connection_lost_is_sent_again)
{
    rank a, b;
    eepi_lane_address to, own;
    relay *r;
    uint32_t to_b;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to = eepi_network_address(b.network);
    r = relay_open(&to, &own);
    relay_cut_after(r, 24000); /* in the middle of rows, and of each third step or so */
    to_b = reach(&a, 1, &own);
    for (uint64_t step = 1; step < 12; step++) {
        move_to(&b, step);
        AWAIT(room(&a, to_b) > 5);
        put_rows(&a, to_b, step, 5);
        AWAIT(has_tag(&b, &a, step));
        check_rows(&b, &a, step, 5);
    }
    cr_expect_gt(relay_num_connections(r), 2);
    cr_expect_eq(lost(&a, 1), -1, "a connection that comes back is no fault");
    close_rank(&a);
    close_rank(&b);
    relay_close(r);
}

Test(network, N3_a_word_that_a_broken_connection_lost_is_sent_again)
{
    rank a, b;
    eepi_lane_address to, own;
    relay *r;
    uint32_t to_b;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to = eepi_network_address(b.network);
    r = relay_open(&to, &own);
    relay_cut_after(r, sizeof(eepi_lane_hello) + 20); /* in the middle of the word */
    to_b = reach(&a, 1, &own);
    eepi_ring_put_begin(a.ring[to_b], EPOCH, 9, 0, 8, members[0], members[1]);
    eepi_network_kick(a.network);
    AWAIT(relay_num_connections(r) > 2);
    relay_cut_after(r, 0);
    AWAIT(__atomic_load_n(&b.begun_step, __ATOMIC_ACQUIRE) == 9);
    close_rank(&a);
    close_rank(&b);
    relay_close(r);
}

Test(network, N5_a_slot_is_given_back_when_it_is_placed)
{
    rank a, b;
    eepi_lane_address to, own;
    relay *r;
    uint32_t to_b;
    uint64_t all;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to = eepi_network_address(b.network);
    r = relay_open(&to, &own);
    to_b = reach(&a, 1, &own);
    AWAIT(relay_num_connections(r) == 1);
    all = room(&a, to_b);
    relay_hold(r, 1);
    put_rows(&a, to_b, 1, 4);
    usleep(30000); /* it may be sent, into the buffers of the connection */
    cr_expect_eq(room(&a, to_b), all - 5, "who says that it has arrived?");
    relay_hold(r, 0);
    AWAIT(has_tag(&b, &a, 1));
    AWAIT(room(&a, to_b) == all);
    close_rank(&a);
    close_rank(&b);
    relay_close(r);
}

/* ---------------------------------------------------------------- peers that do not answer */

/* Its connection is there, takes little ahead, and is not given up by the kernel. */
static void narrow(rank *a, rank *b, uint32_t queue)
{
    const int few = 4096, never = 0;
    int fd;

    put_rows(a, queue, 1, 4);
    AWAIT(has_tag(b, a, 1));
    fd = a->network->lane[queue].fd;
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &few, sizeof few), 0);
    cr_assert_eq(setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &never, sizeof never), 0);
}

/* As much as the ring takes, which is more than the connection does. */
static void fill(rank *a, uint32_t queue)
{
    for (uint64_t step = 2; room(a, queue) > TOKENS; step++) {
        put_rows(a, queue, step, TOKENS);
    }
}

Test(network, N16_a_peer_that_takes_nothing_holds_up_no_other)
{
    rank a, b, c;
    eepi_lane_address to, own;
    relay *r;
    uint32_t to_b, to_c;

    open_rank(&a, 0);
    open_rank(&b, 1);
    open_rank(&c, 2);
    to = eepi_network_address(b.network);
    r = relay_open(&to, &own);
    to_b = reach(&a, 1, &own);
    to_c = connect_to(&a, &c);
    narrow(&a, &b, to_b);
    relay_hold(r, 1);
    fill(&a, to_b);
    for (uint64_t step = 1; step < 5; step++) {
        move_to(&c, step);
        AWAIT(room(&a, to_c) > TOKENS);
        put_rows(&a, to_c, step, TOKENS);
        AWAIT(has_tag(&c, &a, step));
    }
    cr_expect_lt(room(&a, to_b), a.shape.ring_slots / 2);
    close_rank(&a);
    close_rank(&b);
    close_rank(&c);
    relay_close(r);
}

Test(network, N6_a_lane_to_somebody_who_left_is_abandoned)
{
    const uint32_t without_b[RANKS] = {1, 0, 5};
    rank a, b;
    eepi_lane_address to, own;
    relay *r;
    uint32_t to_b;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to = eepi_network_address(b.network);
    r = relay_open(&to, &own);
    to_b = reach(&a, 1, &own);
    narrow(&a, &b, to_b);
    relay_hold(r, 1);
    fill(&a, to_b);
    eepi_network_keep(a.network, without_b);
    AWAIT(room(&a, to_b) == a.shape.ring_slots);
    close_rank(&a);
    close_rank(&b);
    relay_close(r);
}

Test(network, N6_closing_waits_for_no_peer)
{
    rank a, b;
    eepi_lane_address to, own;
    relay *r;
    uint32_t to_b;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to = eepi_network_address(b.network);
    r = relay_open(&to, &own);
    to_b = reach(&a, 1, &own);
    narrow(&a, &b, to_b);
    relay_hold(r, 1);
    fill(&a, to_b);
    close_rank(&a); /* the suite's bound of time is the test */
    close_rank(&b);
    relay_close(r);
}

Test(network, one_that_acknowledges_nothing_is_silent_until_it_does)
{
    rank a, b;
    eepi_lane_address to, own;
    relay *r;
    uint32_t to_b;
    int before;

    silent_us = 60000;
    open_rank(&a, 0);
    open_rank(&b, 1);
    to = eepi_network_address(b.network);
    r = relay_open(&to, &own);
    to_b = reach(&a, 1, &own);
    put_rows(&a, to_b, 1, 4);
    AWAIT(has_tag(&b, &a, 1));
    relay_hold(r, 1);
    put_rows(&a, to_b, 2, 4);
    AWAIT(lost(&a, 1) == EEP_FAULT_SILENT);
    usleep(2 * silent_us); /* nothing of it is under way any more */
    before = __atomic_load_n(&a.num_alive, __ATOMIC_ACQUIRE);
    relay_hold(r, 0);
    AWAIT(__atomic_load_n(&a.num_alive, __ATOMIC_ACQUIRE) > before);
    close_rank(&a);
    close_rank(&b);
    relay_close(r);
}

Test(network, one_whose_process_has_ended_is_reset)
{
    rank a, b;
    uint32_t to_b;

    open_rank(&a, 0);
    open_rank(&b, 1);
    to_b = connect_to(&a, &b);
    put_rows(&a, to_b, 1, 4);
    AWAIT(has_tag(&b, &a, 1));
    close_rank(&b);
    AWAIT(lost(&a, 1) == EEP_FAULT_RESET);
    close_rank(&a);
}

/* Rule N2: its successor has the same address. */
Test(network, N2_another_process_at_that_address_is_not_taken_for_it)
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

Test(network, another_instance_is_refused)
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

/* ---------------------------------------------------------------- with a key */

static void write_key(const char *path, char digit)
{
    char text[65];
    FILE *file;

    memset(text, digit, 64);
    text[64] = '\n';
    (void)unlink(path);
    file = fopen(path, "w");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(text, 1, sizeof text, file), sizeof text);
    cr_assert_eq(fclose(file), 0);
    cr_assert_eq(chmod(path, 0600), 0);
    setenv("EEP_KEY_FILE", path, 1);
}

static const char *key_path(char path[64])
{
    snprintf(path, 64, "/tmp/eep-test-network-key-%d", (int)getpid());
    return path;
}

/* Two ranks with one key, and a relay in front of the second one at *own_out. */
static relay *open_keyed(rank *a, rank *b, eepi_lane_address *own_out)
{
    eepi_lane_address to;
    char path[64];

    write_key(key_path(path), 'a');
    open_rank(a, 0);
    open_rank(b, 1);
    (void)unlink(path);
    to = eepi_network_address(b->network);
    return relay_open(&to, own_out);
}

Test(network, with_a_key_rows_arrive_through_connections_that_break)
{
    rank a, b;
    eepi_lane_address own;
    relay *r = open_keyed(&a, &b, &own);
    uint32_t to_b;

    relay_cut_after(r, 24000);
    to_b = reach(&a, 1, &own);
    for (uint64_t step = 1; step < 12; step++) {
        move_to(&b, step);
        AWAIT(room(&a, to_b) > 5);
        put_rows(&a, to_b, step, 5);
        AWAIT(has_tag(&b, &a, step));
        check_rows(&b, &a, step, 5);
    }
    relay_cut_after(r, 0);
    for (uint64_t step = 12; step < 24; step++) { /* several messages of the channel a step */
        move_to(&b, step);
        AWAIT(room(&a, to_b) > TOKENS);
        put_rows(&a, to_b, step, TOKENS);
        AWAIT(has_tag(&b, &a, step));
        check_rows(&b, &a, step, TOKENS);
    }
    cr_expect_gt(relay_num_connections(r), 2);
    cr_expect_eq(lost(&a, 1), -1);
    close_rank(&a);
    close_rank(&b);
    relay_close(r);
}

/* An attacker on the way gets no rank left out by one changed byte (SECURITY.md). */
Test(network, an_answer_that_was_changed_on_the_way_accuses_nobody)
{
    rank a, b;
    eepi_lane_address own;
    relay *r = open_keyed(&a, &b, &own);
    uint32_t to_b;

    relay_spoil(r, 1);
    to_b = reach(&a, 1, &own);
    put_rows(&a, to_b, 1, 4);
    AWAIT(has_tag(&b, &a, 1));
    cr_expect_eq(lost(&a, 1), -1);
    cr_expect_gt(relay_num_connections(r), 1);
    close_rank(&a);
    close_rank(&b);
    relay_close(r);
}

Test(network, another_key_is_refused)
{
    rank a, b;
    char path[64];

    write_key(key_path(path), 'a');
    open_rank(&a, 0);
    write_key(path, 'b');
    open_rank(&b, 1);
    (void)unlink(path);
    put_rows(&a, connect_to(&a, &b), 1, 4);
    AWAIT(lost(&a, 1) == EEP_FAULT_RESET);
    cr_expect(!has_tag(&b, &a, 1));
    close_rank(&a);
    close_rank(&b);
}

/* Rule N2: what it claims is what it has proven. */
Test(network, N2_one_without_the_key_is_refused)
{
    rank a, b;
    char path[64];

    silent_us = 60000;
    open_rank(&a, 0);
    write_key(key_path(path), 'a');
    open_rank(&b, 1);
    (void)unlink(path);
    put_rows(&a, connect_to(&a, &b), 1, 4);
    AWAIT(lost(&a, 1) != -1);
    cr_expect(!has_tag(&b, &a, 1));
    close_rank(&a);
    close_rank(&b);
}

/* ---------------------------------------------------------------- the choice */

Test(network, the_environment_chooses)
{
    eepk_shape shape;
    char why[200] = "";

    make_shape(0, &shape);
    cr_expect(eepi_network_plan(false, &shape, why, sizeof why) == EEP_OK && shape.num_queues == 0);
    cr_expect(eepi_network_plan(true, &shape, why, sizeof why) == EEP_OK && shape.num_queues != 0);
    setenv("EEP_HOST_ID", "a", 1);
    cr_expect(eepi_network_plan(false, &shape, why, sizeof why) == EEP_OK && shape.num_queues != 0);
    setenv("EEP_NETWORK", "off", 1);
    cr_expect(eepi_network_plan(true, &shape, why, sizeof why) == EEP_OK && shape.num_queues == 0);
    setenv("EEP_NETWORK", "pigeons", 1);
    cr_expect_eq(eepi_network_plan(true, &shape, why, sizeof why), EEP_ERR_INVALID);
    cr_expect(strstr(why, "pigeons"), "%s", why);
    setenv("EEP_NETWORK", "tcp", 1);
    setenv("EEP_NETWORK_PEERS", "some", 1);
    cr_expect_eq(eepi_network_plan(true, &shape, why, sizeof why), EEP_ERR_INVALID);
}

Test(network, near_peers_are_local_unless_all_take_the_network)
{
    const eepi_lane_address nowhere = {
        .kind = EEPI_LANE_TCP, .num_paths = 1, .path = {{.ip_bytes = 4, .port = 9}}};
    const eepi_lane_address none = {0};
    rank a;

    open_rank(&a, 0);
    cr_expect_eq(eepi_network_reach(a.network, 1, 4, &nowhere, true), EEPI_NO_QUEUE);
    cr_expect_eq(eepi_network_reach(a.network, 1, 4, &nowhere, false), 1);
    cr_expect_eq(eepi_network_reach(a.network, 1, 5, &nowhere, false), 1 + RANKS);
    close_rank(&a);
    setenv("EEP_NETWORK_PEERS", "all", 1);
    open_rank(&a, 0);
    cr_expect_eq(eepi_network_reach(a.network, 1, 4, &nowhere, true), 1);
    cr_expect_eq(eepi_network_reach(a.network, 2, 5, &none, true), EEPI_NO_QUEUE,
                 "it has no network: its memory can be mapped");
    close_rank(&a);
}

Test(network, other_hosts_reach_nobody_without_a_key)
{
    rank a = {0};
    const eepi_lane_path loopback = {.ip_bytes = 4, .ip = {127, 0, 0, 1}};
    const eepi_lane_path other = {.ip_bytes = 4, .ip = {10, 0, 0, 1}};

    cr_expect(eepi_lane_path_is_loopback(&loopback));
    cr_expect(!eepi_lane_path_is_loopback(&other));
    setenv("EEP_NETWORK_INTERFACE", "0.0.0.0", 1);
    make_shape(0, &a.shape);
    for (uint32_t i = 0; i < a.shape.num_queues; i++) {
        a.ring[i] = zeroed(eepk_ring_bytes(a.shape.ring_slots, eepk_slot_bytes(&a.shape)));
    }
    a.placer = eepi_placer_open(&a.shape, 1, &eepi_placer_host_ops, NULL);
    cr_expect_eq(try_open(&a, 1, INSTANCE), EEP_ERR_INVALID);
    setenv("EEP_NETWORK_INTERFACE", "no-such-interface", 1);
    cr_expect_eq(try_open(&a, 1, INSTANCE), EEP_ERR_INVALID);
    a.network = NULL;
    close_rank(&a);
}
