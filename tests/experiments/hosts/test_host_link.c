/* SPDX-License-Identifier: Apache-2.0 */
/* The front's side of a host, with a worker that the test plays. */
#include "experiments/hosts/host_link.h"

#include "experiments/base/monotonic.h"
#include "transport/secure/secure_socket.h"
#include "transport/secure/tcp_socket.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LOOK_MS = 10, BOUND_MS = 20000, QUIET_MS = 200 };

typedef struct played {
    int listen_fd;
    uint16_t port;
    eepi_secure_key key;
    pthread_t thread;
    int stop, num_starts, num_shuts; /* atomic */
    int stalls;                      /* atomic: it does nothing until another connection comes */
    bool resets;                     /* the end of its connection is a reset */
} played;

static void say(worker_stream *stream, host_message_kind kind, const host_message *to)
{
    const host_message message = {
        .kind = kind, .time_ns = to ? to->time_ns : 0, .own_ns = now_ns()};
    cr_assert_eq(worker_stream_put(stream, &message, NULL, 0), EEP_OK);
}

static void hear(played *self, worker_stream *stream, const host_message *message)
{
    switch (message->kind) {
    case REMOTE_BEGIN:
        say(stream, REMOTE_READY, NULL);
        break;
    case REMOTE_PING:
        say(stream, REMOTE_PONG, message);
        break;
    case REMOTE_START:
        __atomic_fetch_add(&self->num_starts, 1, __ATOMIC_SEQ_CST);
        break;
    case REMOTE_SHUT:
        __atomic_fetch_add(&self->num_shuts, 1, __ATOMIC_SEQ_CST);
        break;
    case REMOTE_END:
        __atomic_store_n(&self->stop, 1, __ATOMIC_SEQ_CST);
        break;
    default:
        break;
    }
}

/* One front, until it says END. */
static void *play(void *argument)
{
    played *self = argument;
    struct pollfd set = {.fd = self->listen_fd, .events = POLLIN};
    worker_stream stream = WORKER_STREAM_CLOSED;
    host_message message;
    void *body = NULL;
    size_t bytes = 0;
    cr_assert_eq(poll(&set, 1, BOUND_MS), 1);
    int fd = accept4(self->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    cr_assert_eq(worker_stream_open(&stream, fd, &self->key, 0), EEP_OK);
    cr_assert_eq(eepi_secure_open(&stream.channel, stream.fd, BOUND_MS * 1000), EEP_OK);
    say(&stream, REMOTE_WELCOME, NULL);
    while (!__atomic_load_n(&self->stop, __ATOMIC_SEQ_CST)) {
        if (__atomic_exchange_n(&self->stalls, 0, __ATOMIC_SEQ_CST)) {
            set = (struct pollfd){.fd = self->listen_fd, .events = POLLIN};
            cr_assert_eq(poll(&set, 1, BOUND_MS), 1);
        }
        eep_status status = worker_stream_next(&stream, &message, &body, &bytes);
        if (status == EEP_OK) {
            hear(self, &stream, &message);
            continue;
        }
        cr_assert_eq(status, EEP_ERR_TIMEOUT);
        set = (struct pollfd){.fd = stream.fd, .events = worker_stream_events(&stream)};
        (void)poll(&set, 1, LOOK_MS);
    }
    const struct linger at_once = {.l_onoff = self->resets};
    cr_assert_eq(setsockopt(stream.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    worker_stream_close(&stream);
    return NULL;
}

static void begin_play(played *self, bool resets)
{
    struct sockaddr_in at;
    socklen_t bytes = sizeof at;
    char why[256];
    *self = (played){.key = {.bytes = {1, 2, 3}}, .resets = resets};
    cr_assert_eq(eepi_tcp_listen("127.0.0.1", 0, why, sizeof why, &self->listen_fd), EEP_OK);
    cr_assert_eq(getsockname(self->listen_fd, (struct sockaddr *)&at, &bytes), 0);
    self->port = ntohs(at.sin_port);
    cr_assert_eq(pthread_create(&self->thread, NULL, play, self), 0);
}

static void await(const int *number, int wanted)
{
    for (int i = 0; i < BOUND_MS / LOOK_MS; i++) {
        if (__atomic_load_n(number, __ATOMIC_SEQ_CST) >= wanted) {
            return;
        }
        (void)poll(NULL, 0, LOOK_MS);
    }
    cr_assert_fail("%d of %d", *number, wanted);
}

static void await_state(host_link *link, host_link_state wanted)
{
    for (int i = 0; i < BOUND_MS / LOOK_MS && host_link_state_of(link, NULL) != wanted; i++) {
        (void)poll(NULL, 0, LOOK_MS);
    }
    cr_assert_eq(host_link_state_of(link, NULL), wanted);
}

/* A link to the worker, which is up. */
static host_link *open_link(const played *worker)
{
    static char ip[] = "127.0.0.1", address[32];
    static hosts_entry host;
    host_link *link = NULL;
    snprintf(address, sizeof address, "%s:%u", ip, worker->port);
    host = (hosts_entry){.name = ip, .ip = ip, .port = worker->port, .address = address};
    const host_connect_config config = {
        .host = &host, .key = worker->key, .front = 77, .begin = "x", .begin_bytes = 2};
    cr_assert_eq(host_link_open(&config, &link), EEP_OK);
    await_state(link, HOST_LINK_UP);
    return link;
}

/* A rank whose launcher has shut its socket may go on for a second: the worker hears of that once.
 */
Test(host_link, a_socket_that_was_shut_is_told_once, .timeout = 50)
{
    int fd = -1, end_fd = -1;
    played worker;
    begin_play(&worker, false);
    host_link *link = open_link(&worker);
    cr_assert_eq(host_link_start(link, 3, false, &fd, &end_fd), EEP_OK);
    await(&worker.num_starts, 1);
    cr_assert_eq(shutdown(fd, SHUT_WR), 0);
    await(&worker.num_shuts, 1);
    (void)poll(NULL, 0, QUIET_MS); /* in which many more would come */
    cr_expect_eq(__atomic_load_n(&worker.num_shuts, __ATOMIC_SEQ_CST), 1);
    host_link_close(link);
    cr_assert_eq(pthread_join(worker.thread, NULL), 0);
    close(worker.listen_fd);
    close(fd);
    close(end_fd);
}

/* A worker that ends with pings unread resets the connection. It was told to end, and has no rank:
 * nobody looks for it. */
Test(host_link, a_reset_behind_the_end_is_the_end, .timeout = 50)
{
    played worker;
    begin_play(&worker, true);
    host_link_close(open_link(&worker));
    cr_assert_eq(pthread_join(worker.thread, NULL), 0);
    struct pollfd again = {.fd = worker.listen_fd, .events = POLLIN};
    cr_expect_eq(poll(&again, 1, 0), 0, "the front has connected again");
    close(worker.listen_fd);
}

/* A worker that had no processor for some seconds is asked on another connection, and answers on
 * the old one: its ranks are kept, and what was ordered meanwhile is done once. */
Test(host_link, a_worker_that_is_late_is_kept, .timeout = 50)
{
    int fd[2], end_fd[2];
    played worker;
    begin_play(&worker, false);
    host_link *link = open_link(&worker);
    cr_assert_eq(host_link_start(link, 3, false, &fd[0], &end_fd[0]), EEP_OK);
    await(&worker.num_starts, 1);
    __atomic_store_n(&worker.stalls, 1, __ATOMIC_SEQ_CST);
    await_state(link, HOST_LINK_RESUMES);
    cr_assert_eq(host_link_start(link, 4, false, &fd[1], &end_fd[1]), EEP_OK);
    await_state(link, HOST_LINK_UP);
    await(&worker.num_starts, 2);
    struct pollfd ends[] = {{.fd = end_fd[0], .events = POLLIN},
                            {.fd = end_fd[1], .events = POLLIN}};
    cr_expect_eq(poll(ends, 2, QUIET_MS), 0, "a rank counts as ended");
    cr_expect_eq(__atomic_load_n(&worker.num_starts, __ATOMIC_SEQ_CST), 2);
    host_link_close(link);
    cr_assert_eq(pthread_join(worker.thread, NULL), 0);
    close(worker.listen_fd);
    for (int i = 0; i < 2; i++) {
        close(fd[i]);
        close(end_fd[i]);
    }
}
