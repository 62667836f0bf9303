/* SPDX-License-Identifier: Apache-2.0 */
/* A lane's connection over TCP: made, greeted, and what comes back on it. And what such lanes of
 * one rank share: its key, its port, and what wakes its threads. */
#include "transport/network/network_state.h"

#include "transport/secure/secure_socket.h"
#include "transport/secure/tcp_socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FULL_LOOK_US = 5000,
    LOOK_US = 1000, /* for acknowledgements, whether or not the receiver thread says so */
};

/* ------------------------------------------------------------------ connecting */

static void drop(eepi_network *network, eepi_lane *lane)
{
    (void)network;
    if (lane->fd >= 0) {
        close(lane->fd); /* which takes it out of the epoll, too */
    }
    lane->fd = -1;
    eepi_secure_end(&lane->channel);
    __atomic_store_n(&lane->events, 0, __ATOMIC_RELEASE);
}

static void fail_refused(eepi_network *network, eepi_lane *lane, int error, uint64_t now_us)
{
    if (eepi_lane_is_own_lack(error)) {
        eepi_lane_lack(network, lane, error, now_us);
    } else {
        eepi_lane_lack_ends(lane, now_us); /* the other one's fault this time */
        eepi_lane_fail_again(network, lane, strerror(error), error == ECONNREFUSED, now_us);
    }
}

static bool send_small(eepi_network *network, eepi_lane *lane, const void *bytes, size_t num)
{
    const struct iovec part = {(void *)(uintptr_t)bytes, num};

    if (network->has_key) {
        return eepi_secure_put(&lane->channel, &part, 1) == EEP_OK &&
               eepi_secure_flush(&lane->channel, lane->fd) == EEP_OK;
    }
    /* a new connection's buffer is empty: all of it or none */
    return send(lane->fd, bytes, num, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)num;
}

static void say_hello(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    const eepi_lane_hello hello = eepi_lane_hello_of(network, lane);

    if (!send_small(network, lane, &hello, sizeof hello)) {
        eepi_lane_fail(network, lane, now_us);
        return;
    }
    lane->state = EEPI_LANE_GREETING;
    lane->retry_at_us = now_us + EEPI_LANE_GREETING_US;
}

/* An answer that is signed says for certain that another process is there. Any other one may have
 * been changed on its way: that accuses nobody before it has lasted. */
static void fail_securing(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    const eepi_secure_fault fault = lane->channel.fault;
    const bool is_unproven = fault == EEPI_SECURE_GARBAGE || fault == EEPI_SECURE_OTHER_KEY;
    char why[EEPI_SECURE_WHY_BYTES];

    (void)eepi_secure_why(&lane->channel, why, sizeof why);
    if (fault == EEPI_SECURE_NO_MEMORY) {
        eepi_lane_lack(network, lane, ENOMEM, now_us);
    } else if (is_unproven) {
        eepi_lane_fail_again(network, lane, why, is_unproven, now_us);
    } else {
        eepi_lane_fail_foreign(network, lane, why, now_us);
    }
}

/* Both ends prove the key first. */
static void go_on_securing(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    switch (eepi_secure_open(&lane->channel, lane->fd, 0)) {
    case EEP_OK:
        say_hello(network, lane, now_us);
        return;
    case EEP_ERR_TIMEOUT:
        return;
    case EEP_ERR_PROTOCOL:
        fail_securing(network, lane, now_us);
        return;
    default:
        eepi_lane_fail(network, lane, now_us);
    }
}

static void begin(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    struct epoll_event events = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                 .data.u64 = EEPI_LANE_EPOLL_WRITES | lane->number};

    eepi_lane_rewind(lane);
    lane->fd = eepi_lane_connect(
        network->address.num_paths > 1 ? eepi_lane_own_path(network, lane) : NULL, &lane->to);
    if (lane->fd < 0) {
        fail_refused(network, lane, errno, now_us);
        return;
    }
    if (epoll_ctl(network->epoll, EPOLL_CTL_ADD, lane->fd, &events) != 0) {
        eepi_lane_lack(network, lane, errno, now_us);
        return;
    }
    eepi_lane_lack_ends(lane, now_us);
    lane->state = EEPI_LANE_CONNECTING;
    lane->retry_at_us = now_us + eepi_tcp_patience_us(lane->num_unanswered);
}

static void go_on_connecting(eepi_network *network, eepi_lane *lane, uint32_t events,
                             uint64_t now_us)
{
    socklen_t bytes = sizeof(int);
    int error = 0;

    /* the receiver thread may have passed on what happened to the connection before this one, or
     * may be late */
    if ((!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) && now_us < lane->retry_at_us) ||
        eepi_tcp_is_under_way(lane->fd)) {
        return;
    }
    lane->num_unanswered = 0;
    if (getsockopt(lane->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0 || error != 0) {
        fail_refused(network, lane, error, now_us);
        return;
    }
    if (!network->has_key) {
        say_hello(network, lane, now_us);
    } else if (eepi_lane_secure(network, lane, &lane->channel) == EEP_OK) {
        lane->state = EEPI_LANE_SECURING;
        go_on_securing(network, lane, now_us);
    } else {
        eepi_lane_lack(network, lane, ENOMEM, now_us);
    }
}

/* ------------------------------------------------------------------ what comes back */

/* As read_answer. */
static int take_answer(eepi_lane *lane, size_t bytes)
{
    const void *payload;
    size_t got;
    const eep_status status = eepi_secure_take(&lane->channel, lane->fd, &payload, &got);

    if (status == EEP_OK && got == bytes) {
        memcpy(lane->answer, payload, bytes);
        return 1;
    }
    return status == EEP_ERR_TIMEOUT ? 0 : -1;
}

/* Fill lane->answer up to `bytes`: 1: it is whole; 0: not yet; -1: the connection is broken. */
static int read_answer(const eepi_network *network, eepi_lane *lane, size_t bytes)
{
    if (network->has_key) {
        return take_answer(lane, bytes);
    }
    while (lane->answer_bytes < bytes) {
        const ssize_t got = recv(lane->fd, lane->answer + lane->answer_bytes,
                                 bytes - lane->answer_bytes, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0 && errno == EAGAIN) {
            return 0;
        }
        if (got <= 0) {
            return -1;
        }
        lane->answer_bytes += (size_t)got;
    }
    lane->answer_bytes = 0;
    return 1;
}

static void hear_answer(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    eepi_lane_answer answer;
    const int got = read_answer(network, lane, sizeof answer);

    if (got <= 0) {
        if (got < 0) {
            eepi_lane_fail(network, lane, now_us);
        }
        return;
    }
    memcpy(&answer, lane->answer, sizeof answer);
    if (answer.magic == EEPI_LANE_MAGIC && answer.verdict == EEPI_LANE_WELCOME) {
        lane->state = EEPI_LANE_UP;
        lane->connection_base = lane->base;
        eepi_lane_hear(network, lane, false, now_us);
        return;
    }
    eepi_lane_fail_foreign(network, lane, eepi_lane_answer_text(&answer), now_us);
}

/* All acknowledgements that have come; the last one counts. False: the connection is broken. */
static bool hear_placed(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    uint64_t placed;
    int got = 1;

    lane->looked_us = now_us;
    while ((got = read_answer(network, lane, sizeof placed)) > 0) {
        memcpy(&placed, lane->answer, sizeof placed);
        if (placed > lane->sent - lane->connection_base ||
            lane->connection_base + placed < lane->base) {
            eepi_lane_note(network, lane, "it acknowledges what was never sent");
            return false;
        }
        eepi_lane_complete_below(lane, lane->connection_base + placed);
        eepi_lane_hear(network, lane, true, now_us);
    }
    return got == 0;
}

/* ------------------------------------------------------------------ a turn */

static void go_on(eepi_network *network, eepi_lane *lane, uint32_t events, uint64_t now_us)
{
    if (lane->state == EEPI_LANE_CONNECTING) {
        go_on_connecting(network, lane, events, now_us);
    } else if (lane->state == EEPI_LANE_SECURING) {
        go_on_securing(network, lane, now_us);
    } else {
        hear_answer(network, lane, now_us);
    }
}

static bool carry(eepi_network *network, eepi_lane *lane, uint32_t events, uint64_t now_us,
                  uint64_t *next_us)
{
    bool any = false;

    if (events & EPOLLOUT) {
        lane->is_full = false;
    }
    if (((events & ~(uint32_t)EPOLLOUT || now_us - lane->looked_us >= LOOK_US) &&
         !hear_placed(network, lane, now_us)) ||
        !eepi_lane_send(network, lane, &any)) {
        eepi_lane_fail(network, lane, now_us);
        return true;
    }
    if (lane->is_full) {
        eepi_lane_by(next_us, now_us + FULL_LOOK_US);
    }
    return any;
}

/* ------------------------------------------------------------------ what lanes share */

static eep_status open_all(eepi_network *network, char *why, size_t why_bytes)
{
    eep_status status = eepi_secure_key_read(NULL, &network->key, why, why_bytes);

    network->has_key = status == EEP_OK;
    if (status != EEP_OK && status != EEP_ERR_NOT_FOUND) {
        return status;
    }
    network->incoming = eepi_incoming_open(network);
    if (!network->incoming) {
        snprintf(why, why_bytes, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    network->address.kind = EEPI_LANE_TCP;
    for (uint32_t i = 0; i < network->address.num_paths; i++) {
        status =
            eepi_lane_listen(network->path[i].interface.name, network->has_key,
                             &network->path[i].listener, &network->address.path[i], why, why_bytes);
        if (status != EEP_OK) {
            return status;
        }
    }
    return eepi_ways_open(network, EEPI_LANE_EPOLL_LINKS);
}

static void close_all(eepi_network *network)
{
    eepi_incoming_close(network->incoming);
    for (uint32_t i = 0; i < network->address.num_paths; i++) {
        if (network->path[i].listener >= 0) {
            close(network->path[i].listener);
        }
    }
}

const eepi_carrier eepi_tcp_carrier = {
    .open = open_all,
    .close = close_all,
    .begin = begin,
    .go_on = go_on,
    .carry = carry,
    .drop = drop,
    .receive = eepi_receiver_run,
};
