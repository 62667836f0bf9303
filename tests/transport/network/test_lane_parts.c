/* SPDX-License-Identifier: Apache-2.0 */
/* A lane alone, without the threads of its network: what they may do to each other at a bad moment.
 */
#include "transport/network/network_state.h"
#include "transport/secure/tcp_socket.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { QUEUED = 8, NOW_US = 5000000 };

static int num_drops;

static void drop(eepi_network *network, eepi_lane *lane)
{
    (void)network, (void)lane;
    num_drops++;
}

static void on_lost(void *user, uint32_t seat, uint32_t generation, int kind)
{
    (void)user, (void)seat, (void)generation, (void)kind;
}

static void on_note(void *user, const char *text)
{
    (void)user, (void)text;
}

/* Two interfaces, and one lane that is up on the second. */
static eepi_network *make(void)
{
    static const eepi_carrier carrier = {.drop = drop};
    eepi_network *network = calloc(1, sizeof *network + sizeof(eepi_lane));
    cr_assert_not_null(network);
    network->carrier = &carrier;
    network->config.silent_us = 1000000;
    network->config.listener.lost = on_lost;
    network->config.listener.note = on_note;
    network->address.num_paths = 2;
    network->greeted = calloc(1, sizeof *network->greeted);
    cr_assert_not_null(network->greeted);
    network->lane[0] = (eepi_lane){.generation = 1,
                                   .way = 1,
                                   .num_ways = 2,
                                   .way_since_us = NOW_US - 1000,
                                   .state = EEPI_LANE_UP,
                                   .fd = -1};
    num_drops = 0;
    return network;
}

static void release(eepi_network *network)
{
    free(network->greeted);
    free(network);
}

/* The sender thread has looked at the clock, and then the receiver thread sees the interface. */
Test(lane_parts, an_interface_that_comes_up_in_this_turn_is_not_settled)
{
    eepi_network *network = make();
    uint64_t next_us = UINT64_MAX;
    network->path[0].up_since_us = NOW_US + 3;
    cr_expect_not(eepi_lane_look_at_way(network, &network->lane[0], NOW_US, &next_us));
    cr_expect_eq(num_drops, 0);
    cr_expect_gt(next_us, NOW_US + 100000);
    cr_expect(eepi_lane_look_at_way(network, &network->lane[0], NOW_US + 400000, &next_us));
    cr_expect_eq(network->lane[0].way, 0);
    release(network);
}

/* A peer that is waited for only since this rank lacked a descriptor. */
Test(lane_parts, a_lack_of_ones_own_moves_no_wait_into_the_future)
{
    eepi_lane lane = {.lacks_since_us = NOW_US - 1000, .waits_since_us = NOW_US - 400};
    eepi_lane_lack_ends(&lane, NOW_US);
    cr_expect_eq(lane.waits_since_us, NOW_US);
    cr_expect_eq(lane.lacks_since_us, 0);
    lane = (eepi_lane){.lacks_since_us = NOW_US - 400, .waits_since_us = NOW_US - 1000};
    eepi_lane_lack_ends(&lane, NOW_US);
    cr_expect_eq(lane.waits_since_us, NOW_US - 600, "what was waited for before counts");
}

/* A socket whose connection is under way for as long as the test wants: nobody accepts, and there
 * is no room for more. */
static int connect_to_full(int *listen_fd_out, int others[QUEUED])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t bytes = sizeof at;
    int fd = -1;
    *listen_fd_out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(*listen_fd_out, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(listen(*listen_fd_out, 0), 0);
    cr_assert_eq(getsockname(*listen_fd_out, (struct sockaddr *)&at, &bytes), 0);
    for (int i = 0; i < QUEUED; i++) {
        cr_assert_eq(eepi_tcp_connect("127.0.0.1", ntohs(at.sin_port), 0, &others[i]), EEP_OK);
    }
    cr_assert_eq(eepi_tcp_connect("127.0.0.1", ntohs(at.sin_port), 0, &fd), EEP_OK);
    return fd;
}

/* Its first packet was lost, and the kernel repeats it after a second. */
Test(lane_parts, a_connection_that_nobody_answers_is_begun_anew)
{
    eepi_network *network = make();
    eepi_lane *lane = &network->lane[0];
    uint64_t next_us = UINT64_MAX, now_us = NOW_US;
    int listen_fd = -1, others[QUEUED];
    struct sockaddr_in at;
    socklen_t bytes = sizeof at;
    close(connect_to_full(&listen_fd, others));
    cr_assert_eq(getsockname(listen_fd, (struct sockaddr *)&at, &bytes), 0);
    network->carrier = &eepi_tcp_carrier;
    network->epoll = epoll_create1(EPOLL_CLOEXEC);
    network->address.num_paths = 1;
    *lane = (eepi_lane){.generation = 1, .wanted = 1, .num_ways = 1, .fd = -1};
    lane->address.num_paths = 1;
    lane->address.path[0] = (eepi_lane_path){.ip_bytes = 4, .port = ntohs(at.sin_port)};
    memcpy(lane->address.path[0].ip, &at.sin_addr, 4);
    lane->state = EEPI_LANE_DOWN;
    for (uint32_t num = 1; num <= 4; num++) {
        eepi_lane_turn(network, lane, now_us, &next_us);
        cr_assert_eq(lane->state, EEPI_LANE_CONNECTING, "attempt %u", num);
        cr_expect_eq(lane->retry_at_us - now_us, 100000u << (num - 1), "attempt %u", num);
        now_us = lane->retry_at_us;
        eepi_lane_turn(network, lane, now_us, &next_us);
        cr_assert_eq(lane->state, EEPI_LANE_DOWN, "attempt %u", num);
        cr_expect_leq(lane->retry_at_us - now_us, 20000);
        now_us = lane->retry_at_us;
    }
    for (int i = 0; i < QUEUED; i++) {
        close(others[i]);
    }
    close(listen_fd);
    close(network->epoll);
    release(network);
}

/* Its predecessor was closed while the receiver thread had an event of it in its hands. */
Test(lane_parts, an_event_of_the_connection_before_ends_no_connection)
{
    eepi_network *network = make();
    eepi_lane *lane = &network->lane[0];
    int listen_fd = -1, others[QUEUED];
    lane->state = EEPI_LANE_CONNECTING;
    lane->fd = connect_to_full(&listen_fd, others);
    eepi_tcp_carrier.go_on(network, lane, EPOLLOUT | EPOLLRDHUP | EPOLLHUP, NOW_US);
    cr_expect_eq(lane->state, EEPI_LANE_CONNECTING);
    cr_expect_eq(lane->num_failures, 0);
    close(lane->fd);
    for (int i = 0; i < QUEUED; i++) {
        close(others[i]);
    }
    close(listen_fd);
    release(network);
}
