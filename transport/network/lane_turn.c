/* SPDX-License-Identifier: Apache-2.0 */
/* A lane's connection: made, greeted, lost, made again. */
#include "transport/network/network_state.h"

#include "eep/eep.h"
#include "transport/secure/secure_socket.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TOLD_NOTHING = -1,
    FIRST_RETRY_US = 1000,
    LONGEST_RETRY_US = 20000, /* a link that comes back is noticed before its host is silent */
    FOREIGN_RETRY_US = 200000,
    FAILURES_TO_TELL = 4, /* refused so often in a row, */
    REFUSED_US = 250000,  /* and for so long: nobody is there */
    FULL_LOOK_US = 5000,
};

static void by(uint64_t *next_us, uint64_t at_us)
{
    *next_us = at_us < *next_us ? at_us : *next_us;
}

/* ------------------------------------------------------------------ what the listener hears */

static void tell(const eepi_network *network, eepi_lane *lane, int kind)
{
    const eepi_network_listener *listener = &network->config.listener;

    if (lane->told == TOLD_NOTHING || (lane->told == EEP_FAULT_SILENT && kind != lane->told)) {
        lane->told = kind;
        listener->lost(listener->user, lane->seat, lane->generation, kind);
    }
}

/* The peer has said something, and perhaps owes more. */
static void hear(const eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    const eepi_network_listener *listener = &network->config.listener;

    lane->waits_since_us = lane->base < lane->sent ? now_us : 0;
    listener->heard(listener->user, lane->seat, lane->generation);
    if (lane->told == EEP_FAULT_SILENT) {
        lane->told = TOLD_NOTHING;
        listener->alive(listener->user, lane->seat, lane->generation);
    }
}

static void look_at_silence(const eepi_network *network, eepi_lane *lane, uint64_t now_us,
                            uint64_t *next_us)
{
    const uint64_t at_us = lane->waits_since_us + network->config.silent_us;

    if (lane->waits_since_us == 0) {
        return;
    }
    if (now_us >= at_us) {
        tell(network, lane, EEP_FAULT_SILENT);
    } else {
        by(next_us, at_us);
    }
}

__attribute__((format(printf, 3, 4))) static void
note(const eepi_network *network, const eepi_lane *lane, const char *format, ...)
{
    char text[240], where[EEPI_LANE_TEXT_BYTES], why[120];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    snprintf(text, sizeof text, "rows for rank %u (generation %u) at %s: %s", lane->seat,
             lane->generation, eepi_lane_address_text(&lane->to, where), why);
    network->config.listener.note(network->config.listener.user, text);
}

/* ------------------------------------------------------------------ connecting */

static void close_connection(eepi_lane *lane)
{
    if (lane->fd >= 0) {
        close(lane->fd); /* which takes it out of the epoll, too */
    }
    lane->fd = -1;
    eepi_secure_end(&lane->channel);
    __atomic_store_n(&lane->events, 0, __ATOMIC_RELEASE);
}

void eepi_lane_fail(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    const uint64_t wait_us = (uint64_t)FIRST_RETRY_US
                             << (lane->num_failures < 8 ? lane->num_failures : 8);

    if (lane->state == EEPI_LANE_UP) {
        note(network, lane, "the connection broke");
        lane->num_failures = 0;
    } else if (lane->state > EEPI_LANE_CONNECTING && lane->num_failures == FAILURES_TO_TELL) {
        note(network, lane, "it does not greet: have all ranks the same key (EEP_KEY_FILE)?");
    }
    close_connection(lane);
    lane->state = EEPI_LANE_DOWN;
    lane->retry_at_us = now_us + (wait_us < LONGEST_RETRY_US ? wait_us : LONGEST_RETRY_US);
    lane->num_failures++;
    if (lane->waits_since_us == 0) {
        lane->waits_since_us = now_us;
    }
}

/* It is tried again, and told once it has lasted: that nobody is there, if that is what it says. */
static void fail_again(eepi_network *network, eepi_lane *lane, const char *why, bool is_nobody,
                       uint64_t now_us)
{
    eepi_lane_fail(network, lane, now_us);
    if (lane->num_failures == FAILURES_TO_TELL) {
        note(network, lane, "%s", why);
    }
    if (is_nobody && lane->num_failures >= FAILURES_TO_TELL &&
        now_us - lane->waits_since_us >= REFUSED_US) {
        tell(network, lane, EEP_FAULT_RESET);
    }
}

static void fail_refused(eepi_network *network, eepi_lane *lane, int error, uint64_t now_us)
{
    fail_again(network, lane, strerror(error), error == ECONNREFUSED, now_us);
}

/* Somebody answers who is not the one that is wanted. */
static void fail_foreign(eepi_network *network, eepi_lane *lane, const char *why, uint64_t now_us)
{
    eepi_lane_fail(network, lane, now_us);
    lane->retry_at_us = now_us + FOREIGN_RETRY_US;
    if (lane->told != EEP_FAULT_RESET) {
        note(network, lane, "%s", why);
    }
    tell(network, lane, EEP_FAULT_RESET);
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
    const eepi_lane_hello hello = {.magic = EEPI_LANE_MAGIC,
                                   .version = EEPI_LANE_VERSION,
                                   .instance = network->config.instance,
                                   .source = network->shape.self,
                                   .source_generation = network->config.generation,
                                   .target = lane->seat,
                                   .target_generation = lane->generation,
                                   .slot_bytes = network->slot_bytes};

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
    if (is_unproven || fault == EEPI_SECURE_NO_MEMORY) {
        fail_again(network, lane, why, is_unproven, now_us);
    } else {
        fail_foreign(network, lane, why, now_us);
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

static void begin_connection(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    struct epoll_event events = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                 .data.u64 = EEPI_LANE_EPOLL_WRITES | lane->number};

    pthread_mutex_lock(&network->lock);
    lane->to = lane->address;
    pthread_mutex_unlock(&network->lock);
    eepi_lane_rewind(lane);
    lane->fd = eepi_lane_connect(&lane->to);
    if (lane->fd < 0) {
        fail_refused(network, lane, errno, now_us);
        return;
    }
    lane->state = EEPI_LANE_CONNECTING;
    lane->retry_at_us = now_us + EEPI_LANE_GREETING_US;
    if (epoll_ctl(network->epoll, EPOLL_CTL_ADD, lane->fd, &events) != 0) {
        eepi_lane_fail(network, lane, now_us);
    }
}

static void go_on_connecting(eepi_network *network, eepi_lane *lane, uint32_t events,
                             uint64_t now_us)
{
    socklen_t bytes = sizeof(int);
    int error = 0;

    if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        return;
    }
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
        eepi_lane_fail(network, lane, now_us);
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
        lane->num_failures = 0;
        lane->connection_base = lane->base;
        hear(network, lane, now_us);
        return;
    }
    fail_foreign(network, lane,
                 answer.magic == EEPI_LANE_MAGIC && answer.verdict == EEPI_LANE_REFUSED
                     ? "it has another version of libeep, or other shapes"
                     : "somebody else answers there",
                 now_us);
}

static void complete_below(eepi_lane *lane, uint64_t claim)
{
    for (; lane->base < claim; lane->base++) {
        eepi_ring_lane_complete(lane->ring_lane, lane->base);
    }
}

/* All acknowledgements that have come; the last one counts. False: the connection is broken. */
static bool hear_placed(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    uint64_t placed;
    int got = 1;

    while ((got = read_answer(network, lane, sizeof placed)) > 0) {
        memcpy(&placed, lane->answer, sizeof placed);
        if (placed > lane->sent - lane->connection_base ||
            lane->connection_base + placed < lane->base) {
            note(network, lane, "it acknowledges what was never sent");
            return false;
        }
        complete_below(lane, lane->connection_base + placed);
        hear(network, lane, now_us);
    }
    return got == 0;
}

/* ------------------------------------------------------------------ a turn */

static bool carry(eepi_network *network, eepi_lane *lane, uint32_t events, uint64_t now_us,
                  uint64_t *next_us)
{
    bool any = false;

    if (events & EPOLLOUT) {
        lane->is_full = false;
    }
    if (!hear_placed(network, lane, now_us)) {
        eepi_lane_fail(network, lane, now_us);
        return true;
    }
    if (!eepi_lane_send(network, lane, &any)) {
        eepi_lane_fail(network, lane, now_us);
        return true;
    }
    if (lane->waits_since_us == 0 && lane->base < lane->sent) {
        lane->waits_since_us = now_us;
    }
    if (lane->is_full) {
        by(next_us, now_us + FULL_LOOK_US);
    }
    return any;
}

/* Nobody is to have it. */
static bool throw_away(eepi_lane *lane)
{
    eepi_lane_message message;
    bool any = false;

    while (eepi_ring_lane_take(lane->ring_lane, &message)) {
        if (message.claim != EEPI_LANE_NO_CLAIM) {
            lane->base = lane->sent = lane->taken = message.claim + 1;
            eepi_ring_lane_complete(lane->ring_lane, message.claim);
        }
        any = true;
    }
    return any;
}

void eepi_lane_abandon(eepi_network *network, eepi_lane *lane)
{
    (void)network;
    close_connection(lane);
    complete_below(lane, lane->taken);
    lane->sent = lane->taken;
    memset(lane->word, 0, sizeof lane->word);
    eepi_lane_rewind(lane);
    lane->generation = 0;
    lane->state = EEPI_LANE_TO_NOBODY;
    lane->num_failures = 0;
    lane->waits_since_us = 0;
    lane->told = TOLD_NOTHING;
}

/* What it is to do, as the context wants it now. */
static void follow(eepi_network *network, eepi_lane *lane, uint64_t now_us)
{
    const uint32_t wanted = __atomic_load_n(&lane->wanted, __ATOMIC_ACQUIRE);

    if (wanted == lane->generation) {
        return;
    }
    eepi_lane_abandon(network, lane);
    if (wanted != 0) {
        lane->generation = wanted;
        lane->state = EEPI_LANE_DOWN;
        lane->retry_at_us = now_us;
        lane->waits_since_us = now_us;
    }
}

/* Most acknowledgements can wait until there is more to send. True: what was to be heard of came
 * meanwhile. */
static bool wait_for_events(const eepi_network *network, eepi_lane *lane)
{
    const bool wants = lane->state != EEPI_LANE_UP || lane->is_full ||
                       lane->sent - lane->base > network->shape.ring_slots / 2;

    __atomic_store_n(&lane->wants_wake, wants, __ATOMIC_SEQ_CST);
    return wants && __atomic_load_n(&lane->events, __ATOMIC_SEQ_CST) != 0;
}

bool eepi_lane_turn(eepi_network *network, eepi_lane *lane, uint64_t now_us, uint64_t *next_us)
{
    const uint32_t events = __atomic_exchange_n(&lane->events, 0, __ATOMIC_ACQ_REL);
    bool any = false;

    follow(network, lane, now_us);
    switch (lane->state) {
    case EEPI_LANE_TO_NOBODY:
        return throw_away(lane);
    case EEPI_LANE_DOWN:
        if (now_us >= lane->retry_at_us) {
            begin_connection(network, lane, now_us);
        }
        break;
    case EEPI_LANE_CONNECTING:
        go_on_connecting(network, lane, events, now_us);
        break;
    case EEPI_LANE_SECURING:
        go_on_securing(network, lane, now_us);
        break;
    case EEPI_LANE_GREETING:
        hear_answer(network, lane, now_us);
        break;
    case EEPI_LANE_UP:
        any = carry(network, lane, events, now_us, next_us);
        break;
    }
    if (lane->state >= EEPI_LANE_CONNECTING && lane->state < EEPI_LANE_UP &&
        now_us >= lane->retry_at_us) {
        fail_refused(network, lane, ETIMEDOUT, now_us);
    }
    if (lane->state != EEPI_LANE_UP) {
        by(next_us, lane->retry_at_us);
    }
    look_at_silence(network, lane, now_us, next_us);
    return wait_for_events(network, lane) || any;
}
