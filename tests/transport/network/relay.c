/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/transport/network/relay.h"

#include "tests/lib/check_or_abort.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_PAIRS = 16, CHUNK = 3000 };

typedef struct pair {
    int fd[2]; /* of the one that connected, and towards the other end; -1: free */
    uint64_t passed;
    int number; /* of the connections, from 1 */
} pair;

struct relay {
    pthread_t thread;
    int listener;
    struct sockaddr_in to;
    struct sockaddr_in own;
    int stop, is_held, is_holding, is_refusing, refuses, num, spoilt; /* atomic */
    uint64_t cut_after, cut_each;                                     /* atomic */
    pair pairs[MAX_PAIRS];
};

static void reset(pair *p)
{
    const struct linger at_once = {1, 0};

    for (int side = 0; side < 2; side++) {
        (void)setsockopt(p->fd[side], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(p->fd[side]);
        p->fd[side] = -1;
    }
    p->passed = 0;
}

static void take_connection(relay *r)
{
    const int from = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
    const int to = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pair *free_pair = NULL;

    CHECK(from >= 0 && to >= 0);
    for (int i = 0; i < MAX_PAIRS && !free_pair; i++) {
        free_pair = r->pairs[i].fd[0] < 0 ? &r->pairs[i] : NULL;
    }
    if (!free_pair || connect(to, (const struct sockaddr *)&r->to, sizeof r->to) != 0) {
        close(from);
        close(to);
        return;
    }
    *free_pair = (pair){{from, to}, 0, __atomic_add_fetch(&r->num, 1, __ATOMIC_RELEASE)};
}

static bool pass_on(relay *r, pair *p, int side)
{
    const uint64_t each = __atomic_load_n(&r->cut_each, __ATOMIC_ACQUIRE);
    const uint64_t cut =
        each ? each : __atomic_load_n(&r->cut_after, __ATOMIC_ACQUIRE) * (uint64_t)p->number;
    char bytes[CHUNK];
    ssize_t got = recv(p->fd[side], bytes, sizeof bytes, MSG_DONTWAIT);

    if (got < 0 && errno == EAGAIN) {
        return true;
    }
    if (got <= 0) {
        return false;
    }
    if (side == 0 && cut != 0 && p->passed + (uint64_t)got > cut) {
        got = cut > p->passed ? (ssize_t)(cut - p->passed) : 0;
        (void)!send(p->fd[1], bytes, (size_t)got, MSG_NOSIGNAL);
        return false;
    }
    bytes[0] ^= side == 1 && p->number <= __atomic_load_n(&r->spoilt, __ATOMIC_ACQUIRE);
    p->passed += side == 0 ? (uint64_t)got : 0;
    return send(p->fd[!side], bytes, (size_t)got, MSG_NOSIGNAL) == got;
}

static void listen_at(relay *r)
{
    const int few = 8192, again = 1;

    r->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(setsockopt(r->listener, SOL_SOCKET, SO_RCVBUF, &few, sizeof few) == 0);
    CHECK(setsockopt(r->listener, SOL_SOCKET, SO_REUSEADDR, &again, sizeof again) == 0);
    CHECK(bind(r->listener, (struct sockaddr *)&r->own, sizeof r->own) == 0);
    CHECK(listen(r->listener, MAX_PAIRS) == 0);
}

static void reset_all(relay *r)
{
    for (int i = 0; i < MAX_PAIRS; i++) {
        if (r->pairs[i].fd[0] >= 0) {
            reset(&r->pairs[i]);
        }
    }
}

static void refuse_as_told(relay *r)
{
    const int is_refusing = __atomic_load_n(&r->is_refusing, __ATOMIC_ACQUIRE);

    if (is_refusing && !r->refuses) {
        close(r->listener);
        r->listener = -1;
        reset_all(r);
    } else if (!is_refusing && r->refuses) {
        listen_at(r);
    }
    __atomic_store_n(&r->refuses, is_refusing, __ATOMIC_RELEASE);
}

static void *run(void *argument)
{
    relay *r = argument;

    while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
        struct pollfd fds[1 + 2 * MAX_PAIRS];
        const int is_held = __atomic_load_n(&r->is_held, __ATOMIC_ACQUIRE);
        __atomic_store_n(&r->is_holding, is_held, __ATOMIC_RELEASE);
        refuse_as_told(r);
        fds[0] = (struct pollfd){is_held ? -1 : r->listener, POLLIN, 0};
        for (int i = 0; i < 2 * MAX_PAIRS; i++) {
            const int fd = r->pairs[i / 2].fd[i % 2];
            fds[1 + i] = (struct pollfd){is_held ? -1 : fd, POLLIN, 0};
        }
        CHECK(poll(fds, 1 + 2 * MAX_PAIRS, 2) >= 0);
        if (fds[0].revents) {
            take_connection(r);
        }
        for (int i = 0; i < 2 * MAX_PAIRS; i++) {
            pair *p = &r->pairs[i / 2];
            if (fds[1 + i].revents && p->fd[0] >= 0 && !pass_on(r, p, i % 2)) {
                reset(p);
            }
        }
    }
    return NULL;
}

relay *relay_open(const eepi_lane_address *to, eepi_lane_address *own_out)
{
    relay *r = calloc(1, sizeof *r);
    socklen_t bytes = sizeof r->own;

    CHECK(r && to->path[0].ip_bytes == 4);
    r->to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(to->path[0].port)};
    memcpy(&r->to.sin_addr, to->path[0].ip, 4);
    for (int i = 0; i < MAX_PAIRS; i++) {
        r->pairs[i].fd[0] = r->pairs[i].fd[1] = -1;
    }
    r->own = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listen_at(r);
    CHECK(getsockname(r->listener, (struct sockaddr *)&r->own, &bytes) == 0);
    *own_out = *to;
    own_out->path[0].port = ntohs(r->own.sin_port);
    CHECK(pthread_create(&r->thread, NULL, run, r) == 0);
    return r;
}

void relay_close(relay *r)
{
    __atomic_store_n(&r->stop, 1, __ATOMIC_RELEASE);
    pthread_join(r->thread, NULL);
    reset_all(r);
    if (r->listener >= 0) {
        close(r->listener);
    }
    free(r);
}

void relay_spoil(relay *r, int num)
{
    __atomic_store_n(&r->spoilt, num, __ATOMIC_RELEASE);
}

void relay_hold(relay *r, int is_held)
{
    __atomic_store_n(&r->is_held, is_held, __ATOMIC_RELEASE);
    while (__atomic_load_n(&r->is_holding, __ATOMIC_ACQUIRE) != is_held) {
        usleep(100);
    }
}

void relay_cut_after(relay *r, uint64_t bytes)
{
    __atomic_store_n(&r->cut_after, bytes, __ATOMIC_RELEASE);
}

void relay_cut_each(relay *r, uint64_t bytes)
{
    __atomic_store_n(&r->cut_each, bytes, __ATOMIC_RELEASE);
}

void relay_refuse(relay *r, int is_refusing)
{
    __atomic_store_n(&r->is_refusing, is_refusing, __ATOMIC_RELEASE);
    while (__atomic_load_n(&r->refuses, __ATOMIC_ACQUIRE) != is_refusing) {
        usleep(100);
    }
}

int relay_num_connections(relay *r)
{
    return __atomic_load_n(&r->num, __ATOMIC_ACQUIRE);
}
