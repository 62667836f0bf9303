/* SPDX-License-Identifier: Apache-2.0 */
/* The receiver thread: takes connections, places what comes, and acknowledges it. It also hears of
 * what happens to the connections of the sender thread, and wakes that thread. */
#include "transport/network/incoming_state.h"

#include "graphs/base/clock.h"
#include "graphs/kernels/compiler_macros.h"
#include "transport/secure/secure_socket.h"
#include "transport/secure/tcp_socket.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LEAST_BUFFER = 256 << 10,
    EVENTS = 64,
    OWING_MS = 5,
    ROUND_MS = 500,
    NOTE_US = 1000000,
    YIELDS = 8, /* before it sleeps: rows come in many pieces, and to be woken costs more */
    ACKNOWLEDGED_OF_RING =
        16, /* rows alone: once this part of a ring is placed, or OWING_MS later */
    TAG_WAKE = INT32_MAX,
    TAG_LISTENER = TAG_WAKE - EEPI_MAX_PATHS, /* of the first interface */
};

struct eepi_incoming *eepi_incoming_open(const eepi_network *network)
{
    const int num = (int)network->shape.max_ranks + EEPI_SECURE_BEFORE_MAX;
    struct eepi_incoming *incoming =
        calloc(1, sizeof *incoming + (size_t)num * sizeof(eepi_connection));

    if (!incoming) {
        return NULL;
    }
    incoming->num = num;
    incoming->waiting.bound_us = EEPI_LANE_GREETING_US;
    incoming->buffer_bytes =
        LEAST_BUFFER > 4 * network->slot_bytes ? LEAST_BUFFER : 4 * network->slot_bytes;
    for (int i = 0; i < num; i++) {
        incoming->connection[i].fd = -1;
    }
    return incoming;
}

static void close_one(struct eepi_incoming *incoming, eepi_connection *c)
{
    if (c->fd >= 0) {
        close(c->fd);
    }
    eepi_secure_waiting_remove(&incoming->waiting, c);
    free(c->buffer);
    free(c->announced);
    eepi_secure_end(&c->channel);
    *c = (eepi_connection){.fd = -1};
}

void eepi_incoming_close(struct eepi_incoming *incoming)
{
    for (int i = 0; incoming && i < incoming->num; i++) {
        close_one(incoming, &incoming->connection[i]);
    }
    free(incoming);
}

/* ------------------------------------------------------------------ greeting */

/* Where there are too many strangers, the address that has most of them loses its oldest. So there
 * is always a place: the others have greeted, and are one per seat. */
static eepi_connection *place_for_stranger(struct eepi_incoming *incoming, int fd)
{
    eepi_connection *c = incoming->connection, *crowded;

    while (c->fd >= 0 && c < incoming->connection + incoming->num - 1) {
        c++;
    }
    crowded = eepi_secure_waiting_add(&incoming->waiting, c, eepi_tcp_peer(fd), eepi_now_us());
    if (crowded) {
        close_one(incoming, crowded);
    }
    return c;
}

static bool prepare(const eepi_network *network, eepi_connection *c)
{
    if (network->has_key) {
        return eepi_lane_secure(network, NULL, &c->channel) == EEP_OK;
    }
    c->buffer = malloc(network->incoming->buffer_bytes);
    c->announced = calloc(1, sizeof *c->announced);
    return c->buffer && c->announced;
}

static bool watch(const eepi_network *network, int fd, uint64_t tag)
{
    struct epoll_event events = {.events = EPOLLIN, .data.u64 = tag};

    return epoll_ctl(network->epoll, EPOLL_CTL_ADD, fd, &events) == 0;
}

static bool watch_listeners(const eepi_network *network)
{
    bool all = true;

    for (uint32_t i = 0; i < network->address.num_paths; i++) {
        all &= watch(network, network->path[i].listener, TAG_LISTENER + i) || errno == EEXIST;
    }
    return all;
}

/* Without a descriptor for it the next one stays where it is, and would wake this thread again and
 * again: it is looked at later. */
static void leave_strangers(eepi_network *network)
{
    for (uint32_t i = 0; i < network->address.num_paths; i++) {
        network->incoming->is_full |=
            epoll_ctl(network->epoll, EPOLL_CTL_DEL, network->path[i].listener, NULL) == 0;
    }
}

static void accept_all(eepi_network *network, uint32_t path)
{
    for (;;) {
        const int fd =
            accept4(network->path[path].listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        struct epoll_event events = {.events = EPOLLIN};
        eepi_connection *c;
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                leave_strangers(network);
            }
            return;
        }
        c = place_for_stranger(network->incoming, fd);
        *c = (eepi_connection){.fd = fd, .path = path};
        events.data.u64 = (uint64_t)(c - network->incoming->connection);
        eepi_tcp_prepare(fd);
        if (!prepare(network, c) || epoll_ctl(network->epoll, EPOLL_CTL_ADD, fd, &events) != 0) {
            close_one(network->incoming, c);
        }
    }
}

/* What the same source sends on an older connection it sends again on the new one. An older process
 * does not take the place of a newer one. */
static bool replace(struct eepi_incoming *incoming, eepi_connection *c,
                    const eepi_lane_hello *hello)
{
    for (int i = 0; i < incoming->num; i++) {
        eepi_connection *other = &incoming->connection[i];
        if (other == c || other->fd < 0 || !other->is_greeted || other->source != hello->source) {
            continue;
        }
        if (other->source_generation > hello->source_generation) {
            return false;
        }
        close_one(incoming, other);
    }
    return true;
}

/* With a key, it is the one that has proven it. */
static bool is_proven(const eepi_network *network, const eepi_connection *c,
                      const eepi_lane_hello *hello)
{
    const eepi_secure_identity *peer = &c->channel.peer.identity;

    return !network->has_key ||
           (peer->seat == (int32_t)hello->source && peer->generation == hello->source_generation);
}

static bool send_small(const eepi_network *network, eepi_connection *c, const void *bytes,
                       size_t num)
{
    const struct iovec part = {(void *)(uintptr_t)bytes, num};

    if (network->has_key) {
        return eepi_secure_put(&c->channel, &part, 1) == EEP_OK &&
               eepi_secure_flush(&c->channel, c->fd) == EEP_OK;
    }
    return send(c->fd, bytes, num, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)num;
}

/* A hello has come. False: the connection is to be closed. */
static bool greet(eepi_network *network, eepi_connection *c, const void *bytes)
{
    eepi_lane_answer answer = {EEPI_LANE_MAGIC, EEPI_LANE_WELCOME};
    eepi_lane_hello hello;

    memcpy(&hello, bytes, sizeof hello);
    answer.verdict = eepi_lane_judge(network, &hello);
    if (answer.verdict == EEPI_LANE_WELCOME &&
        (!is_proven(network, c, &hello) || !replace(network->incoming, c, &hello))) {
        answer.verdict = EEPI_LANE_OTHER;
    }
    if (!send_small(network, c, &answer, sizeof answer) || answer.verdict != EEPI_LANE_WELCOME) {
        return false;
    }
    eepi_secure_waiting_remove(&network->incoming->waiting, c);
    c->is_greeted = true;
    eepi_ways_note_greeting(network, hello.source, c->path);
    c->source = hello.source;
    c->source_generation = hello.source_generation;
    return true;
}

/* ------------------------------------------------------------------ acknowledgements */

static void settle(eepi_connection *c)
{
    c->owes = c->is_due = false;
    c->num_told = c->num_placed;
}

/* In the channel; what was said before and has not left yet comes first. */
static bool acknowledge_sealed(eepi_connection *c)
{
    const struct iovec part = {&c->num_placed, sizeof c->num_placed};
    size_t unsent;

    if (eepi_secure_flush(&c->channel, c->fd) != EEP_OK) {
        return false;
    }
    (void)eepi_secure_unsent(&c->channel, &unsent);
    if (unsent > 0 || eepi_secure_put(&c->channel, &part, 1) != EEP_OK) {
        return true;
    }
    settle(c);
    return eepi_secure_flush(&c->channel, c->fd) == EEP_OK;
}

/* False: the connection is broken. */
static bool acknowledge(const eepi_network *network, eepi_connection *c)
{
    ssize_t sent;

    if (network->has_key) {
        return acknowledge_sealed(c);
    }
    sent = send(c->fd, &c->num_placed, sizeof c->num_placed, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent == sizeof c->num_placed) {
        settle(c);
        return true;
    }
    return sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == EINTR);
}

/* A stranger can cause such a line with each connection: one a second does not fill the log. */
static void note(eepi_network *network, const char *what)
{
    const eepi_network_listener *listener = &network->config.listener;
    struct eepi_incoming *incoming = network->incoming;
    const uint64_t now_us = eepi_now_us();
    char text[EEPI_SECURE_WHY_BYTES + 60];

    if (incoming->noted_us != 0 && now_us - incoming->noted_us < NOTE_US) {
        incoming->num_unnoted++;
        return;
    }
    snprintf(text, sizeof text, "rows: a connection was closed: %s (%llu more since the last line)",
             what, (unsigned long long)incoming->num_unnoted);
    incoming->noted_us = now_us;
    incoming->num_unnoted = 0;
    listener->note(listener->user, text);
}

static void complain(eepi_network *network, const eepi_connection *c)
{
    char text[120];

    snprintf(text, sizeof text, "rank %u (generation %u) has sent what no rank sends", c->source,
             c->source_generation);
    note(network, text);
}

static bool take_sealed(eepi_network *network, eepi_connection *c, const void *payload,
                        size_t bytes)
{
    size_t done = 0;

    if (!c->is_greeted) {
        return bytes == sizeof(eepi_lane_hello) && greet(network, c, payload);
    }
    if (eepi_incoming_place_all(network, c, payload, bytes, &done) && done != bytes) {
        c->is_bad = true;
    }
    return !c->is_bad;
}

/* One read, and the whole messages that are there then. */
static bool read_sealed(eepi_network *network, eepi_connection *c)
{
    eep_status status = eepi_secure_receive(&c->channel, c->fd);
    char why[EEPI_SECURE_WHY_BYTES];
    const void *payload;
    size_t bytes;

    if (status != EEP_OK) {
        return status == EEP_ERR_TIMEOUT;
    }
    while ((status = eepi_secure_next(&c->channel, &payload, &bytes)) == EEP_OK) {
        if (!take_sealed(network, c, payload, bytes)) {
            return false;
        }
    }
    if (eepi_secure_flush(&c->channel, c->fd) != EEP_OK) {
        return false;
    }
    if (status != EEP_ERR_TIMEOUT) {
        note(network, eepi_secure_why(&c->channel, why, sizeof why));
    }
    return status == EEP_ERR_TIMEOUT;
}

/* Without a key, the first bytes. False: the connection is to be closed. */
static bool read_hello(eepi_network *network, eepi_connection *c)
{
    const ssize_t got =
        recv(c->fd, c->buffer + c->filled, sizeof(eepi_lane_hello) - c->filled, MSG_DONTWAIT);

    if (got <= 0) {
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    }
    c->filled += (size_t)got;
    if (c->filled < sizeof(eepi_lane_hello)) {
        return true;
    }
    c->filled = 0;
    return greet(network, c, c->buffer);
}

static bool read_any(eepi_network *network, eepi_connection *c)
{
    if (network->has_key) {
        return read_sealed(network, c);
    }
    return c->is_greeted ? eepi_incoming_read_plain(network, c) : read_hello(network, c);
}

static void read_from(eepi_network *network, eepi_connection *c)
{
    const bool is_well = read_any(network, c);

    if (c->is_bad) {
        complain(network, c);
    }
    if (c->is_greeted && is_well) {
        network->config.listener.heard(network->config.listener.user, c->source,
                                       c->source_generation);
    }
    c->is_due |= c->num_placed - c->num_told >= network->shape.ring_slots / ACKNOWLEDGED_OF_RING;
    if (c->fd >= 0 && (!is_well || (c->owes && c->is_due && !acknowledge(network, c)))) {
        close_one(network->incoming, c);
    }
    network->incoming->owes |= c->owes;
}

/* ------------------------------------------------------------------ the thread */

static void pass_on(eepi_network *network, uint32_t number, uint32_t events)
{
    eepi_lane *lane = &network->lane[number];

    __atomic_fetch_or(&lane->events, events, __ATOMIC_SEQ_CST);
    if (events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP) ||
        __atomic_load_n(&lane->wants_wake, __ATOMIC_SEQ_CST)) {
        eepk_doorbell_ring(network->doorbell);
    }
}

static void handle(eepi_network *network, const struct epoll_event *event)
{
    const uint64_t tag = event->data.u64;

    if (tag & EEPI_LANE_EPOLL_WRITES) {
        pass_on(network, (uint32_t)tag & ~EEPI_LANE_EPOLL_WRITES, event->events);
    } else if (tag >= TAG_LISTENER && tag < TAG_WAKE) {
        accept_all(network, (uint32_t)(tag - TAG_LISTENER));
    } else if (tag == EEPI_LANE_EPOLL_LINKS) {
        eepi_ways_look(network);
    } else if (tag != TAG_WAKE && network->incoming->connection[tag].fd >= 0) {
        read_from(network, &network->incoming->connection[tag]);
    }
}

/* Acknowledgements that found no room, strangers that say nothing or had no descriptor. */
static void tidy_up(eepi_network *network, uint64_t now_us)
{
    struct eepi_incoming *incoming = network->incoming;
    eepi_connection *late;
    uint64_t next_us;

    eepi_ways_look(network); /* whatever was told */
    while ((late = eepi_secure_waiting_expire(&incoming->waiting, now_us, &next_us))) {
        close_one(incoming, late);
    }
    incoming->owes = false;
    for (int i = 0; i < incoming->num; i++) {
        eepi_connection *c = &incoming->connection[i];
        if (c->fd >= 0 && c->owes && !acknowledge(network, c)) {
            close_one(incoming, c);
        }
        incoming->owes |= c->owes;
    }
    if (incoming->is_full) {
        incoming->is_full = !watch_listeners(network);
    }
}

void *eepi_receiver_run(void *user)
{
    eepi_network *network = user;
    struct epoll_event events[EVENTS];
    const struct eepi_incoming *incoming = network->incoming;
    uint64_t tidied_us = eepi_now_us();
    uint32_t yields = 0;

    if (!watch_listeners(network) || !watch(network, network->wake_fd, TAG_WAKE)) {
        network->config.listener.note(network->config.listener.user,
                                      "rows: epoll_ctl failed: nothing is received");
        return NULL;
    }
    while (!__atomic_load_n(&network->stop, __ATOMIC_ACQUIRE)) {
        const bool is_soon = incoming->owes || incoming->is_full;
        const int round_ms = is_soon ? OWING_MS : ROUND_MS;
        const int num = epoll_wait(network->epoll, events, EVENTS, yields < YIELDS ? 0 : round_ms);
        const uint64_t now_us = eepi_now_us();
        for (int i = 0; i < num; i++) {
            handle(network, &events[i]);
        }
        yields = num > 0 ? 0 : yields + 1;
        if (num == 0 && yields < YIELDS) {
            sched_yield();
        }
        if (now_us - tidied_us > (uint64_t)round_ms * 1000u) {
            tidy_up(network, now_us);
            tidied_us = now_us;
        }
    }
    return NULL;
}
