/* SPDX-License-Identifier: Apache-2.0 */
#include "membership/store/etcd/etcd_session.h"

#include "graphs/base/clock.h"
#include "graphs/base/thread.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    IDLE_US = 1000 * 1000,
    RETRY_US = 100 * 1000, /* between attempts at endpoints that do not answer */
    CLOSE_S = 2,
};

static _Thread_local char last_why[EEPI_ETCD_WHY_BYTES];

const char *eepi_etcd_why(void)
{
    return last_why;
}

/* ---------------------------------------------------------------- the client's connection */

static void drop_client(eepi_etcd *self)
{
    if (self->fd >= 0) {
        shutdown(self->fd, SHUT_RDWR); /* a forked child may hold a copy */
        close(self->fd);
        self->fd = -1;
    }
    eepi_store_inbox_free(&self->inbox);
    self->lease = self->ttl_s = 0;
    eepi_etcd_forget_watches(self);
}

/* A client that has come in the place of the former one. */
static void take_client(eepi_etcd *self)
{
    uint64_t count;
    int fd;
    (void)!read(self->wake_fd, &count, sizeof count);
    pthread_mutex_lock(&self->lock);
    fd = self->offered_fd;
    self->offered_fd = -1;
    pthread_mutex_unlock(&self->lock);
    if (fd >= 0) {
        drop_client(self);
        self->fd = fd;
        self->broken = self->moves = false;
    }
}

/* All that has arrived. */
static void serve_client(eepi_etcd *self)
{
    while (self->fd >= 0 && !self->broken) {
        eepi_store_message message;
        size_t space = 0;
        void *bytes;
        ssize_t got;
        eep_status status = eepi_store_inbox_next(&self->inbox, &message);
        if (status == EEP_OK) {
            eepi_etcd_request(self, &message);
            eepi_etcd_follow(self);
            continue;
        }
        bytes = status == EEP_ERR_TIMEOUT ? eepi_store_inbox_space(&self->inbox, &space) : NULL;
        got = bytes ? recv(self->fd, bytes, space, MSG_DONTWAIT) : 0;
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (got <= 0) {
            eepi_etcd_break(self, false); /* it has closed its end, or sends nonsense */
            return;
        }
        eepi_store_inbox_filled(&self->inbox, (size_t)got);
    }
}

/* ---------------------------------------------------------------- the thread */

static void set_health(eepi_etcd *self, bool healthy, eep_status refusal)
{
    pthread_mutex_lock(&self->lock);
    self->healthy = healthy;
    self->refusal = refusal;
    snprintf(self->why, sizeof self->why, "%s", healthy ? "" : self->api.why);
    pthread_mutex_unlock(&self->lock);
}

/* Ask the endpoints in turn until one answers. */
static void find_endpoint(eepi_etcd *self)
{
    eep_status status = EEP_ERR_UNREACHABLE;
    for (int i = 0; i < self->url.num_endpoints && status != EEP_OK; i++) {
        status = eepi_etcd_api_probe(&self->api);
        if (status != EEP_OK) {
            eepi_etcd_http_move(self->api.http);
        }
    }
    set_health(self, status == EEP_OK, status == EEP_ERR_STATE ? status : EEP_OK);
}

static void give_up(eepi_etcd *self)
{
    drop_client(self);
    if (self->moves) {
        eepi_etcd_http_move(self->api.http);
        set_health(self, false, EEP_OK);
    }
    self->broken = self->moves = false;
}

static uint64_t until_look(const eepi_etcd *self)
{
    uint64_t now_us = eepi_now_us();
    if (self->num_watches == 0) {
        return IDLE_US;
    }
    return self->tick_us > now_us ? self->tick_us - now_us : 0;
}

static void *run(void *argument)
{
    eepi_etcd *self = argument;
    while (!__atomic_load_n(&self->stop, __ATOMIC_ACQUIRE)) {
        const int fds[2] = {self->wake_fd, self->fd};
        if (!self->healthy) { /* only this thread writes it */
            find_endpoint(self);
        }
        take_client(self);
        if (__atomic_load_n(&self->closing, __ATOMIC_ACQUIRE) && self->fd < 0) {
            break;
        }
        if (self->fd >= 0 || self->healthy) {
            eepi_etcd_http_wait(self->api.http, fds, self->fd >= 0 ? 2 : 1, until_look(self));
        } else {
            eepi_etcd_http_wait(self->api.http, fds, 1, RETRY_US);
        }
        take_client(self);
        serve_client(self);
        eepi_etcd_follow(self);
        eepi_etcd_look(self, eepi_now_us());
        eepi_etcd_follow(self); /* the look has taken in what the stream brought meanwhile */
        if (self->broken) {
            give_up(self);
        }
    }
    drop_client(self);
    return NULL;
}

/* ---------------------------------------------------------------- open, connect, close */

static void release(eepi_etcd *self)
{
    eepi_etcd_api_close(&self->api);
    if (self->wake_fd >= 0) {
        close(self->wake_fd);
    }
    if (self->offered_fd >= 0) {
        close(self->offered_fd);
    }
    eepi_store_inbox_free(&self->inbox);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

eep_status eepi_etcd_open(const eepi_store_url *url, eepi_etcd **etcd_out)
{
    eepi_etcd *self = calloc(1, sizeof *self);
    eep_status status;
    if (!self) {
        return EEP_ERR_NO_MEMORY;
    }
    self->url = *url;
    self->pid = getpid();
    self->fd = self->offered_fd = -1;
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&self->lock, NULL);
    status = eepi_etcd_api_open(&self->url, &self->stop, &self->api);
    if (status == EEP_OK && self->wake_fd < 0) {
        status = EEP_ERR_SYSTEM;
    }
    if (status == EEP_OK) {
        status = eepi_thread_start(&self->thread, "eep-etcd", EEPI_STACK_BYTES, run, self);
    } else {
        snprintf(last_why, sizeof last_why,
                 "libcurl.so.4 cannot be opened, or libeep was built "
                 "without it");
    }
    if (status != EEP_OK) {
        int error = errno;
        release(self);
        errno = error;
        return status;
    }
    *etcd_out = self;
    return EEP_OK;
}

uint64_t eepi_etcd_lease_sent_us(const eepi_etcd *self)
{
    return __atomic_load_n(&self->lease_sent_us, __ATOMIC_RELAXED);
}

static void wake(eepi_etcd *self)
{
    const uint64_t one = 1;
    (void)!write(self->wake_fd, &one, sizeof one);
}

eep_status eepi_etcd_connect(eepi_etcd *self, int *fd_out)
{
    eep_status status = EEP_ERR_UNREACHABLE;
    int pair[2] = {-1, -1};
    pthread_mutex_lock(&self->lock);
    if (!self->healthy) {
        status = self->refusal == EEP_OK ? EEP_ERR_UNREACHABLE : self->refusal;
        snprintf(last_why, sizeof last_why, "%s",
                 self->why[0] ? self->why : "it was not asked yet");
        errno = ECONNREFUSED;
    } else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        snprintf(last_why, sizeof last_why, "no socket: %s", strerror(errno));
        status = EEP_ERR_SYSTEM;
    } else {
        if (self->offered_fd >= 0) {
            close(self->offered_fd);
        }
        self->offered_fd = pair[1];
        *fd_out = pair[0]; /* the client reads and writes it without waiting */
        status = EEP_OK;
    }
    pthread_mutex_unlock(&self->lock);
    if (status == EEP_OK) {
        wake(self);
    }
    return status;
}

void eepi_etcd_close(eepi_etcd *self)
{
    struct timespec end;
    if (!self || getpid() != self->pid) { /* a forked child has no such thread */
        return;
    }
    __atomic_store_n(&self->closing, 1, __ATOMIC_RELEASE);
    wake(self);
    clock_gettime(CLOCK_MONOTONIC, &end); /* a calendar that is set back would make it wait */
    end.tv_sec += CLOSE_S;
    if (pthread_clockjoin_np(self->thread, NULL, CLOCK_MONOTONIC, &end) != 0) {
        __atomic_store_n(&self->stop, 1, __ATOMIC_RELEASE);
        wake(self);
        pthread_join(self->thread, NULL);
    }
    release(self);
}
