/* SPDX-License-Identifier: Apache-2.0 */
/* A host as its link's thread sees it. */
#include "experiments/hosts/host_link.h"

#include "experiments/base/monotonic.h"
#include "experiments/wire/send_queue.h"
#include "graphs/base/say.h"
#include "graphs/base/thread.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SOCKET_BUFFER_BYTES = 1 << 20,
    RETRY_MS = 300,
    END_TRIES = 10,
    END_MS = 8000,
    ORDERS_AT_ONCE = 64
};
static const uint64_t MS = 1000000;

/* From the caller's thread to the link's. */
typedef enum link_order_kind { LINK_START, LINK_PASS, LINK_DROP, LINK_CLOSE } link_order_kind;
typedef struct link_order {
    link_order_kind kind;
    host_message message;
    int fd, end_fd; /* START: the rank's, of the link's thread from here on */
} link_order;

typedef struct link_seat {
    int fd, end_fd; /* the far ends of what host_link_start gave out; -1: no rank */
    send_queue queue;
    uint32_t process;
    bool has_ended; /* its packets still have to be taken */
    bool is_shut;   /* the launcher says nothing more, and the worker was told so */
    int wait_status;
} link_seat;

struct host_link {
    host_connect connect;
    worker_stream stream;
    host_clock clock;
    pthread_t thread;
    int orders[2]; /* SEQPACKET: [0] the caller's, [1] the thread's */
    link_seat seat[EEP_MAX_RANKS];
    uint64_t end_ns; /* END was sent, and the connection may take until then; 0: not yet */
    bool closes, drops;
    uint64_t packet[WIRE_MAX_BYTES / 8];
    /* of the caller alone */
    uint32_t process[EEP_MAX_RANKS], num_processes;
    /* of both */
    uint32_t halted[EEP_MAX_RANKS]; /* atomic: the process that is stopped */
    pthread_mutex_t lock;
    host_link_state state;
    char why[HOST_NOTE_BYTES];
};

static void say(const host_link *self, const char *text)
{
    char line[HOST_NOTE_BYTES + 128];
    int bytes = snprintf(line, sizeof line, "eep-run: host %s: %s\n",
                         self->connect.config.host->name, text);
    eepi_say(STDERR_FILENO, line, (size_t)bytes < sizeof line ? (size_t)bytes : sizeof line - 1);
}

static void set_state(host_link *self, host_link_state state, const char *why)
{
    pthread_mutex_lock(&self->lock);
    self->state = state;
    snprintf(self->why, sizeof self->why, "%s", why);
    pthread_mutex_unlock(&self->lock);
}

/* ---------------------------------------------------------------- ranks */

/* The reader finds the end of the packets first, then that of the rank. */
static void end_seat(link_seat *seat)
{
    send_queue_destroy(&seat->queue);
    close(seat->fd);
    if (write(seat->end_fd, &seat->wait_status, sizeof seat->wait_status) < 0) {
        perror("eep-run: end of a rank"); /* the pipe's end says the same */
    }
    close(seat->end_fd);
    seat->fd = seat->end_fd = -1;
}

/* Those whose packets have all been taken. */
static void end_seats(host_link *self)
{
    for (int s = 0; s < EEP_MAX_RANKS; s++) {
        link_seat *seat = &self->seat[s];
        if (seat->fd >= 0) {
            send_queue_flush(&seat->queue);
        }
        if (seat->fd >= 0 && seat->has_ended && !send_queue_is_pending(&seat->queue)) {
            end_seat(seat);
        }
    }
}

/* The connection is lost: what the worker's ranks do now is nobody's any more. */
static void lose_seats(host_link *self)
{
    for (int s = 0; s < EEP_MAX_RANKS; s++) {
        link_seat *seat = &self->seat[s];
        if (seat->fd >= 0 && !seat->has_ended) {
            seat->has_ended = true;
            seat->wait_status = SIGKILL;
        }
    }
    end_seats(self);
}

static void occupy(link_seat *seat, const link_order *order)
{
    *seat =
        (link_seat){.fd = order->fd, .end_fd = order->end_fd, .process = order->message.process};
    send_queue_init(&seat->queue, seat->fd);
}

/* What the launcher has sent to the rank. */
static eep_status pass_packets(host_link *self, int s)
{
    link_seat *seat = &self->seat[s];
    while (seat->fd >= 0 && !seat->has_ended && !seat->is_shut) {
        ssize_t bytes = recv(seat->fd, self->packet, sizeof self->packet, MSG_DONTWAIT);
        if (bytes < 0) {
            return EEP_OK; /* EAGAIN, most likely */
        }
        const host_message message = {
            .kind = bytes ? REMOTE_PACKET : REMOTE_SHUT, .seat = s, .process = seat->process};
        eep_status status = worker_stream_put(&self->stream, &message, self->packet, (size_t)bytes);
        seat->is_shut = bytes == 0;
        if (status != EEP_OK) {
            return status;
        }
    }
    return EEP_OK;
}

/* ---------------------------------------------------------------- orders */

static eep_status take_order(host_link *self, const link_order *order, bool is_up)
{
    eep_status status = EEP_OK;
    switch (order->kind) {
    case LINK_START:
        occupy(&self->seat[order->message.seat], order);
        if (!is_up) {
            lose_seats(self); /* it was lost meanwhile */
            return EEP_OK;
        }
        return worker_stream_put(&self->stream, &order->message, NULL, 0);
    case LINK_PASS:
        return is_up ? worker_stream_put(&self->stream, &order->message, NULL, 0) : EEP_OK;
    case LINK_DROP:
        self->drops = is_up;
        return EEP_OK;
    case LINK_CLOSE:
        self->closes = true;
        if (is_up) {
            const host_message end = {.kind = REMOTE_END};
            self->end_ns = now_ns() + (uint64_t)END_MS * MS;
            status = worker_stream_put(&self->stream, &end, NULL, 0);
        }
        return status;
    }
    return status;
}

static eep_status take_orders(host_link *self, bool is_up)
{
    link_order order;
    eep_status status = EEP_OK;
    for (int i = 0; i < ORDERS_AT_ONCE && status == EEP_OK; i++) {
        if (recv(self->orders[1], &order, sizeof order, MSG_DONTWAIT) != (ssize_t)sizeof order) {
            break;
        }
        status = take_order(self, &order, is_up);
    }
    return status;
}

/* ---------------------------------------------------------------- the worker */

static void on_message(host_link *self, const host_message *message, void *body, size_t bytes)
{
    const bool has_seat = message->seat >= 0 && message->seat < EEP_MAX_RANKS;
    link_seat *seat = has_seat ? &self->seat[message->seat] : NULL;
    const bool is_rank = seat && seat->fd >= 0 && seat->process == message->process;
    if (message->kind == REMOTE_PONG) {
        host_clock_add(&self->clock, message->time_ns, now_ns(), message->own_ns);
    } else if (message->kind == REMOTE_NOTE) {
        char text[HOST_NOTE_BYTES];
        snprintf(text, sizeof text, "%.*s", (int)bytes, (char *)body);
        say(self, text);
    } else if (message->kind == REMOTE_PACKET && is_rank && bytes >= sizeof(wire_header)) {
        host_clock_translate(&self->clock, body, bytes);
        (void)!send_queue_send(&seat->queue, body, bytes); /* a reader that is gone reads nothing */
    } else if (message->kind == REMOTE_HALTED && is_rank) {
        __atomic_store_n(&self->halted[message->seat], message->value ? message->process : 0,
                         __ATOMIC_RELAXED);
    } else if (message->kind == REMOTE_ENDED && is_rank) {
        seat->has_ended = true;
        seat->wait_status = message->value;
    }
}

static eep_status take_messages(host_link *self)
{
    host_message message;
    void *body = NULL;
    size_t bytes = 0;
    eep_status status = EEP_OK;
    while ((status = worker_stream_next(&self->stream, &message, &body, &bytes)) == EEP_OK) {
        on_message(self, &message, body, bytes);
    }
    return status == EEP_ERR_TIMEOUT ? EEP_OK : status;
}

static void wait_for_input(host_link *self)
{
    struct pollfd set[2 + EEP_MAX_RANKS];
    nfds_t num = 0;
    set[num++] = (struct pollfd){.fd = self->orders[1], .events = POLLIN};
    set[num++] =
        (struct pollfd){.fd = self->stream.fd, .events = worker_stream_events(&self->stream)};
    for (int s = 0; s < EEP_MAX_RANKS; s++) {
        link_seat *seat = &self->seat[s];
        if (seat->fd >= 0) {
            short in = seat->has_ended || seat->is_shut ? 0 : POLLIN;
            short out = send_queue_is_pending(&seat->queue) ? POLLOUT : 0;
            /* a hang-up alone would end each poll at once */
            set[num++] =
                (struct pollfd){.fd = in | out ? seat->fd : -1, .events = (short)(in | out)};
        }
    }
    (void)poll(set, num, HOST_PING_MS / 2);
}

/* Until the connection ends. Why it did; EEP_ERR_TIMEOUT: the other end has been silent for
 * HOST_DOUBT_MS, or does not end its ranks in time. */
static eep_status serve(host_link *self)
{
    uint64_t ping_ns = 0;
    for (;;) {
        uint64_t time_ns = now_ns();
        eep_status status = EEP_OK;
        if (time_ns >= ping_ns) {
            const host_message ping = {.kind = REMOTE_PING, .time_ns = time_ns};
            ping_ns = time_ns + (uint64_t)HOST_PING_MS * MS;
            status = worker_stream_put(&self->stream, &ping, NULL, 0);
        }
        if (status == EEP_OK) {
            wait_for_input(self);
            status = take_orders(self, true);
        }
        for (int s = 0; s < EEP_MAX_RANKS && status == EEP_OK; s++) {
            status = pass_packets(self, s);
        }
        const eep_status heard = take_messages(self); /* what came before an end counts */
        status = status == EEP_OK ? heard : status;
        end_seats(self);
        if (status != EEP_OK || self->drops) {
            return status;
        }
        time_ns = now_ns();
        if (self->end_ns ? time_ns > self->end_ns
                         : worker_stream_is_silent(&self->stream, time_ns, HOST_DOUBT_MS)) {
            return EEP_ERR_TIMEOUT;
        }
    }
}

/* ---------------------------------------------------------------- the thread */

static void pause_link(host_link *self)
{
    struct pollfd set = {.fd = self->orders[1], .events = POLLIN};
    (void)poll(&set, 1, RETRY_MS);
}

/* The run ends before the worker that was started here was reached: it would wait for ever. */
static void end_started(host_link *self)
{
    const host_message end = {.kind = REMOTE_END};
    char why[HOST_NOTE_BYTES];
    for (int i = 0; i < END_TRIES && self->connect.starter; i++) {
        eep_status status = host_connect_try(&self->connect, &self->stream, &self->clock, why);
        if (status == EEP_OK) {
            self->end_ns = now_ns() + (uint64_t)END_MS * MS;
            if (worker_stream_put(&self->stream, &end, NULL, 0) == EEP_OK) {
                (void)!serve(self);
            }
            worker_stream_close(&self->stream);
            return;
        }
        if (self->connect.is_fatal) {
            return;
        }
        (void)poll(NULL, 0, RETRY_MS);
    }
}

/* Is the connection in doubt heard again? One that has ended is closed. */
static bool is_heard_again(host_link *self)
{
    if (self->stream.fd >= 0 && take_messages(self) != EEP_OK) {
        worker_stream_close(&self->stream);
    }
    return self->stream.fd >= 0 && !worker_stream_is_silent(&self->stream, now_ns(), HOST_DOUBT_MS);
}

/* After a reset, or in doubt about a connection that is silent: on a network that is there again a
 * new one is up at once, and the old one when TCP sends again. A worker that had no processor
 * answers on the old one, which is kept therefore. False: the worker did not come back in time, or
 * has forgotten its ranks. */
static bool resume(host_link *self, const char *broke)
{
    const bool was_reset = self->stream.was_reset;
    const uint64_t left_ms = was_reset ? HOST_RESUME_MS : HOST_SILENCE_MS - HOST_DOUBT_MS;
    const uint64_t end_ns = now_ns() + left_ms * MS;
    worker_stream next = WORKER_STREAM_CLOSED;
    char why[HOST_NOTE_BYTES];
    eep_status status = EEP_ERR_TIMEOUT;
    snprintf(why, sizeof why, "the connection to its worker broke (%s): tries for %d s to go on",
             broke, (int)(left_ms / 1000));
    set_state(self, HOST_LINK_RESUMES, why);
    say(self, why);
    if (was_reset) {
        worker_stream_close(&self->stream);
    }
    self->stream.journal = &self->connect.journal; /* which keeps what is ordered meanwhile */
    self->connect.resumes = true;
    while (status != EEP_OK && status != EEP_ERR_STATE && !self->drops && now_ns() < end_ns) {
        status = host_connect_try(&self->connect, &next, &self->clock, why);
        if (status == EEP_OK) {
            worker_stream_break(&self->stream);
            self->stream = next;
        } else if (status != EEP_ERR_STATE && is_heard_again(self)) {
            status = EEP_OK;
        } else {
            pause_link(self);
            (void)!take_orders(self, true);
        }
    }
    self->connect.resumes = false;
    if (status == EEP_OK) {
        set_state(self, HOST_LINK_UP, "");
        say(self, "the connection to its worker is back");
    }
    return status == EEP_OK;
}

static bool has_ranks(const host_link *self)
{
    for (int s = 0; s < EEP_MAX_RANKS; s++) {
        if (self->seat[s].fd >= 0 && !self->seat[s].has_ended) {
            return true;
        }
    }
    return false;
}

/* A worker that was told to end, and has no rank left, leaves our last pings unread: its close is a
 * reset. */
static bool may_come_back(const host_link *self, eep_status status)
{
    const bool is_silent = status == EEP_ERR_TIMEOUT && !self->end_ns;
    const bool was_reset = status == EEP_ERR_UNREACHABLE && self->stream.was_reset &&
                           (!self->end_ns || has_ranks(self));
    return (is_silent || was_reset) && !self->drops;
}

/* Until the connection has ended, and does not come back. */
static void serve_on(host_link *self)
{
    char why[HOST_NOTE_BYTES], text[EEPI_SECURE_WHY_BYTES];
    eep_status status = EEP_OK;
    do {
        set_state(self, HOST_LINK_UP, "");
        status = serve(self);
        worker_stream_why(&self->stream, status, text, sizeof text);
    } while (may_come_back(self, status) && resume(self, text));
    if (!self->closes) {
        snprintf(why, sizeof why, "the connection to its worker is lost: %s",
                 self->drops ? "the host was killed" : text);
        set_state(self, HOST_LINK_TRIES, why);
        say(self, why);
    } else if (status == EEP_ERR_TIMEOUT) {
        say(self, "its worker did not end its ranks in time");
    }
    worker_stream_close(&self->stream);
    self->clock = (host_clock){.num = 0};
    self->drops = false;
}

static void *run(void *argument)
{
    host_link *self = argument;
    char why[HOST_NOTE_BYTES];
    while (!self->closes) {
        eep_status status = host_connect_try(&self->connect, &self->stream, &self->clock, why);
        if (status != EEP_OK) {
            set_state(self, self->connect.is_fatal ? HOST_LINK_FAILED : HOST_LINK_TRIES, why);
        } else {
            serve_on(self);
        }
        lose_seats(self);
        if (!self->closes) {
            pause_link(self);
            (void)take_orders(self, false);
            end_seats(self);
        }
    }
    lose_seats(self);
    if (!self->end_ns) {
        end_started(self);
    }
    for (int s = 0; s < EEP_MAX_RANKS; s++) {
        if (self->seat[s].fd >= 0) {
            end_seat(&self->seat[s]); /* nobody reads it any more */
        }
    }
    host_connect_close(&self->connect);
    return NULL;
}

/* ---------------------------------------------------------------- the caller */

eep_status host_link_open(const host_connect_config *config, host_link **link_out)
{
    host_link *self = calloc(1, sizeof *self);
    const int buffer = SOCKET_BUFFER_BYTES;
    char why[EEPI_THREAD_ERROR_BYTES];
    if (!self) {
        return EEP_ERR_NO_MEMORY;
    }
    self->connect.config = *config;
    self->stream = WORKER_STREAM_CLOSED;
    for (int s = 0; s < EEP_MAX_RANKS; s++) {
        self->seat[s].fd = self->seat[s].end_fd = -1;
    }
    snprintf(self->why, sizeof self->why, "it was not reached yet");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, self->orders) != 0) {
        eepi_secure_key_wipe(&self->connect.config.key);
        free(self);
        return EEP_ERR_SYSTEM;
    }
    /* all ranks of a host may be started at once */
    setsockopt(self->orders[0], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    pthread_mutex_init(&self->lock, NULL);
    if (eepi_thread_start(&self->thread, "eep-host-link", EEPI_STACK_BYTES, run, self) != EEP_OK) {
        say(self, eepi_thread_error(errno, why, sizeof why));
        close(self->orders[0]);
        close(self->orders[1]);
        pthread_mutex_destroy(&self->lock);
        eepi_secure_key_wipe(&self->connect.config.key);
        free(self);
        return EEP_ERR_SYSTEM;
    }
    *link_out = self;
    return EEP_OK;
}

static eep_status give_order(host_link *self, const link_order *order)
{
    ssize_t sent = send(self->orders[0], order, sizeof *order, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent == (ssize_t)sizeof *order ? EEP_OK : EEP_ERR_UNREACHABLE;
}

void host_link_close(host_link *self)
{
    const link_order order = {.kind = LINK_CLOSE};
    if (!self) {
        return;
    }
    while (give_order(self, &order) != EEP_OK) { /* full of orders that are being taken */
        (void)poll(NULL, 0, 1);
    }
    pthread_join(self->thread, NULL);
    close(self->orders[0]);
    close(self->orders[1]);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

host_link_state host_link_state_of(host_link *self, char *why)
{
    pthread_mutex_lock(&self->lock);
    host_link_state state = self->state;
    if (why) {
        memcpy(why, self->why, HOST_NOTE_BYTES);
    }
    pthread_mutex_unlock(&self->lock);
    return state;
}

eep_status host_link_start(host_link *self, int seat, bool joiner, int *fd_out, int *end_fd_out)
{
    int pair[2] = {-1, -1}, ends[2] = {-1, -1};
    const int buffer = SOCKET_BUFFER_BYTES;
    if (host_link_state_of(self, NULL) < HOST_LINK_RESUMES) {
        return EEP_ERR_UNREACHABLE;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return EEP_ERR_SYSTEM;
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        int failure = errno;
        close(pair[0]);
        close(pair[1]);
        errno = failure;
        return EEP_ERR_SYSTEM;
    }
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    self->process[seat] = ++self->num_processes;
    const link_order order = {.kind = LINK_START,
                              .message = {.kind = REMOTE_START,
                                          .seat = seat,
                                          .process = self->process[seat],
                                          .value = joiner},
                              .fd = pair[1],
                              .end_fd = ends[1]};
    if (give_order(self, &order) != EEP_OK) {
        close(pair[0]);
        close(pair[1]);
        close(ends[0]);
        close(ends[1]);
        return EEP_ERR_UNREACHABLE;
    }
    *fd_out = pair[0];
    *end_fd_out = ends[0];
    return EEP_OK;
}

bool host_link_is_halted(const host_link *self, int seat)
{
    return __atomic_load_n(&self->halted[seat], __ATOMIC_RELAXED) == self->process[seat];
}

eep_status host_link_order(host_link *self, host_message_kind kind, int seat, int value)
{
    const link_order order = {.kind = LINK_PASS,
                              .message = {.kind = kind,
                                          .seat = seat,
                                          .process = seat < 0 ? 0 : self->process[seat],
                                          .value = value}};
    return host_link_state_of(self, NULL) >= HOST_LINK_RESUMES ? give_order(self, &order)
                                                               : EEP_ERR_UNREACHABLE;
}

void host_link_drop(host_link *self)
{
    const link_order order = {.kind = LINK_DROP};
    (void)!give_order(self, &order);
}
