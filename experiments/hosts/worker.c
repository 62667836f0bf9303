/* SPDX-License-Identifier: Apache-2.0 */
/* The worker of a host: it listens, takes one front, and ends in order. */
#include "experiments/hosts/worker.h"

#include "experiments/base/end_signals.h"
#include "experiments/base/monotonic.h"
#include "experiments/hosts/worker_front.h"
#include "experiments/setup/hosts_file.h"
#include "transport/secure/secure_waiting.h"
#include "transport/secure/tcp_socket.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_GUESTS = EEPI_SECURE_BEFORE_MAX + 1, WHY_BYTES = 512, WAIT_MS = 5, WAIT_IDLE_MS = 100 };
static const uint64_t ACCEPT_PAUSE_NS = 50000000;

typedef struct worker {
    int listen_fd, signal_fd;
    uint64_t accept_ns; /* nobody is accepted before: there was no descriptor left */
    eepi_secure_key key;
    worker_front front;
    worker_stream guest[MAX_GUESTS]; /* that have not proved the key yet */
    uint64_t guest_id[MAX_GUESTS];   /* what secure_waiting calls it */
    int num_guests;
    uint64_t next_id;
    eepi_secure_waiting waiting;
} worker;

/* ---------------------------------------------------------------- who wants to be the front */

static void drop_guest(worker *self, int at, bool closes)
{
    eepi_secure_waiting_remove(&self->waiting, (void *)(uintptr_t)self->guest_id[at]);
    if (closes) {
        worker_stream_close(&self->guest[at]);
    }
    self->num_guests--;
    self->guest[at] = self->guest[self->num_guests];
    self->guest_id[at] = self->guest_id[self->num_guests];
}

static void drop_owner(worker *self, const void *owner)
{
    for (int i = 0; owner && i < self->num_guests; i++) {
        if (self->guest_id[i] == (uintptr_t)owner) {
            drop_guest(self, i, true);
            return;
        }
    }
}

static void accept_guests(worker *self)
{
    while (self->num_guests < MAX_GUESTS) {
        const int fd = accept4(self->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            const bool is_out = errno != EAGAIN && errno != EINTR && errno != ECONNABORTED;
            self->accept_ns = is_out ? now_ns() + ACCEPT_PAUSE_NS : 0;
            break;
        }
        const uint64_t from = eepi_tcp_peer(fd);
        worker_stream *guest = &self->guest[self->num_guests];
        if (worker_stream_open(guest, fd, &self->key, 0) != EEP_OK) {
            continue;
        }
        uint64_t id = ++self->next_id;
        self->guest_id[self->num_guests++] = id;
        drop_owner(self, eepi_secure_waiting_add(&self->waiting, (void *)(uintptr_t)id, from,
                                                 eepi_now_us()));
    }
    uint64_t next_us = 0;
    void *late = NULL;
    while ((late = eepi_secure_waiting_expire(&self->waiting, eepi_now_us(), &next_us))) {
        drop_owner(self, late);
    }
}

static void refuse(worker_stream *stream, const char *why)
{
    const host_message message = {.kind = REMOTE_REFUSED, .value = 1}; /* later it may be taken */
    (void)!worker_stream_put(stream, &message, why, strlen(why));
    worker_stream_close(stream);
}

/* One that has proved the key. The same front may come again before its loss was seen here. */
static void promote(worker *self, int at)
{
    worker_stream stream = self->guest[at];
    worker_front *front = &self->front;
    drop_guest(self, at, false);
    const uint64_t id = stream.channel.peer.identity.generation;
    if (front->stream.fd >= 0 && front->stream.channel.peer.identity.generation == id) {
        worker_front_lose(front, "it connects anew");
    }
    if (front->phase == WORKER_IDLE) {
        worker_front_take(front, &stream);
    } else if (front->stream.fd >= 0) {
        refuse(&stream, "it serves another eep-run");
    } else {
        refuse(&stream, "it still ends the ranks of a front that is gone");
    }
}

static void look_at_guests(worker *self)
{
    for (int i = self->num_guests - 1; i >= 0; i--) {
        worker_stream *guest = &self->guest[i];
        eep_status status = eepi_secure_greet(&guest->channel);
        if (status == EEP_ERR_TIMEOUT) {
            (void)!eepi_secure_flush(&guest->channel, guest->fd);
            status = eepi_secure_receive(&guest->channel, guest->fd);
            status = status == EEP_OK ? eepi_secure_greet(&guest->channel) : status;
        }
        (void)!eepi_secure_flush(&guest->channel, guest->fd);
        if (status == EEP_OK) {
            promote(self, i);
        } else if (status != EEP_ERR_TIMEOUT) {
            drop_guest(self, i, true);
        }
    }
}

/* ---------------------------------------------------------------- the loop */

static void wait_for_input(const worker *self)
{
    static struct pollfd set[3 + MAX_GUESTS + 2 * EEP_MAX_RANKS];
    const worker_front *front = &self->front;
    nfds_t num = 0;
    set[num++] = (struct pollfd){.fd = self->signal_fd, .events = POLLIN};
    set[num++] =
        (struct pollfd){.fd = now_ns() < self->accept_ns ? -1 : self->listen_fd, .events = POLLIN};
    if (front->stream.fd >= 0) {
        set[num++] =
            (struct pollfd){.fd = front->stream.fd, .events = worker_stream_events(&front->stream)};
    }
    for (int i = 0; i < self->num_guests; i++) {
        set[num++] = (struct pollfd){.fd = self->guest[i].fd, .events = POLLIN};
    }
    for (int s = 0; s < EEP_MAX_RANKS; s++) {
        const worker_rank *rank = &front->ranks.seat[s];
        if (rank->pid) {
            set[num++] = (struct pollfd){.fd = rank->has_hung_up ? -1 : rank->fd, .events = POLLIN};
            set[num++] = (struct pollfd){.fd = rank->pidfd, .events = POLLIN};
        }
    }
    (void)poll(set, num, front->phase == WORKER_IDLE ? WAIT_IDLE_MS : WAIT_MS);
}

static void serve(worker *self)
{
    struct signalfd_siginfo signal;
    while (!self->front.is_over) {
        wait_for_input(self);
        if (read(self->signal_fd, &signal, sizeof signal) == (ssize_t)sizeof signal) {
            return;
        }
        accept_guests(self);
        look_at_guests(self);
        worker_front_step(&self->front);
    }
}

/* ---------------------------------------------------------------- begin and end */

static bool fail(const char *address, const char *why)
{
    fprintf(stderr, "eep-run: worker at %s: %s\n", address, why);
    return false;
}

/* False: told why. */
static bool open_worker(worker *self, const char *address, const char *ip, uint16_t port)
{
    char why[WHY_BYTES];
    sigset_t stop;
    eep_status status = eepi_secure_key_read(NULL, &self->key, why, sizeof why);
    if (status != EEP_OK) {
        return fail(address, status == EEP_ERR_NOT_FOUND
                                 ? "EEP_KEY_FILE names no file with the job's key"
                                 : why);
    }
    if (eepi_tcp_check_host(ip, true, why, sizeof why) != EEP_OK) {
        return fail(address, why);
    }
    if (end_signals_block(&stop, NULL) != 0 ||
        (self->signal_fd = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK)) < 0) {
        return fail(address, strerror(errno));
    }
    if (eepi_tcp_listen(ip, port, why, sizeof why, &self->listen_fd) != EEP_OK) {
        return fail(address, why);
    }
    return true;
}

int worker_main(const char *address)
{
    static worker self = {.listen_fd = -1, .signal_fd = -1};
    struct rlimit limit;
    char *ip = NULL;
    uint16_t port = 0;
    if (!hosts_split_address(address, &ip, &port)) {
        fprintf(stderr, "eep-run: --worker: '%s' is not of the form ADDRESS:PORT\n", address);
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) { /* for each rank two, and their own */
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    worker_front_init(&self.front);
    bool good = open_worker(&self, address, ip, port);
    if (good) {
        end_signals_cut_output(true);
        printf("eep-run: worker ready at %s\n", address);
        fflush(stdout);
        end_signals_cut_output(false);
        serve(&self);
        worker_front_close(&self.front);
    }
    while (self.num_guests > 0) {
        drop_guest(&self, 0, true);
    }
    close(self.listen_fd);
    close(self.signal_fd);
    eepi_secure_key_wipe(&self.key);
    free(ip);
    return good ? 0 : 1;
}
