/* SPDX-License-Identifier: Apache-2.0 */
/* The worker of a host: it listens, takes one front, and ends in order. */
#include "experiments/hosts/worker.h"

#include "experiments/base/end_signals.h"
#include "experiments/base/monotonic.h"
#include "experiments/hosts/launched_notice.h"
#include "experiments/hosts/worker_front.h"
#include "experiments/setup/hosts_file.h"
#include "membership/process/host.h"
#include "transport/network/network_state.h"
#include "transport/secure/secure_waiting.h"
#include "transport/secure/tcp_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
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
enum { LAUNCHED_WAIT_S = 90, PLACE_BYTES = 128 };

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
    /* { of a launcher's job, until its front has come */
    launched_notice *notice;
    uint64_t since_ns;
    pid_t parent; /* 0: the launcher's */
    /* } */
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

/* One that has proved the key. The same front may come again, after a reset or before its loss was
 * seen here. */
static void promote(worker *self, int at)
{
    worker_stream stream = self->guest[at];
    worker_front *front = &self->front;
    drop_guest(self, at, false);
    if (worker_front_take_again(front, &stream)) {
        return;
    }
    if (front->stream.fd >= 0 && front->id == stream.channel.peer.identity.generation) {
        worker_front_lose(front, "it connects anew");
    }
    if (front->phase == WORKER_IDLE) {
        worker_front_take(front, &stream);
    } else if (front->phase == WORKER_SERVES || front->stream.fd >= 0) {
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

/* Why no front will come for this worker of a launcher's job; NULL: one has come, or may come. */
static const char *forsaken(worker *self)
{
    const char *why = NULL;
    if (!self->notice) {
        return NULL;
    }
    if (self->front.phase == WORKER_IDLE) {
        why = self->parent && getppid() != self->parent ? "the front has ended"
              : !launched_notice_look(self->notice)     ? "the front has given up"
              : now_ns() - self->since_ns > LAUNCHED_WAIT_S * UINT64_C(1000000000)
                  ? "no front has come: process 0 of the job is to be an eep-run --launched with "
                    "the same store"
                  : NULL;
    }
    if (why || self->front.phase != WORKER_IDLE) {
        launched_notice_close(self->notice);
        self->notice = NULL;
    }
    return why;
}

/* False: told why. */
static bool serve(worker *self, const char *address)
{
    struct signalfd_siginfo signal;
    const char *why = NULL;
    while (!self->front.is_over && !why) {
        wait_for_input(self);
        if (read(self->signal_fd, &signal, sizeof signal) == (ssize_t)sizeof signal) {
            return true;
        }
        accept_guests(self);
        look_at_guests(self);
        worker_front_step(&self->front);
        why = forsaken(self);
    }
    if (why) {
        fprintf(stderr, "eep-run: worker at %s: %s\n", address, why);
    }
    return !why;
}

/* ---------------------------------------------------------------- begin and end */

static bool fail(const char *address, const char *why)
{
    fprintf(stderr, "eep-run: worker at %s: %s\n", address, why);
    return false;
}

/* All but its port. False: told why. */
static bool open_worker(worker *self, const char *address)
{
    char why[WHY_BYTES];
    struct rlimit limit;
    sigset_t stop;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) { /* for each rank two, and their own */
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    worker_front_init(&self->front);
    eep_status status = eepi_secure_key_read(NULL, &self->key, why, sizeof why);
    if (status != EEP_OK) {
        return fail(address, status == EEP_ERR_NOT_FOUND
                                 ? "EEP_KEY_FILE names no file with the job's key"
                                 : why);
    }
    if (end_signals_block(&stop, NULL) != 0 ||
        (self->signal_fd = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK)) < 0) {
        return fail(address, strerror(errno));
    }
    return true;
}

static bool listen_at(worker *self, const char *address, const char *ip, uint16_t port)
{
    char why[WHY_BYTES];
    if (eepi_tcp_check_host(ip, true, why, sizeof why) != EEP_OK ||
        eepi_tcp_listen(ip, port, why, sizeof why, &self->listen_fd) != EEP_OK) {
        return fail(address, why);
    }
    return true;
}

/* `good`: it listens. The exit code. */
static int run_and_close(worker *self, const char *address, bool good)
{
    if (good) {
        end_signals_cut_output(true);
        printf("eep-run: worker ready at %s\n", address);
        fflush(stdout);
        end_signals_cut_output(false);
        good = serve(self, address);
        worker_front_close(&self->front);
    }
    while (self->num_guests > 0) {
        drop_guest(self, 0, true);
    }
    launched_notice_close(self->notice);
    close(self->listen_fd);
    close(self->signal_fd);
    eepi_secure_key_wipe(&self->key);
    return good ? 0 : 1;
}

int worker_main(const char *address)
{
    static worker self = {.listen_fd = -1, .signal_fd = -1};
    char *ip = NULL;
    uint16_t port = 0;
    if (!hosts_split_address(address, &ip, &port)) {
        fprintf(stderr, "eep-run: --worker: '%s' is not of the form ADDRESS:PORT\n", address);
        return 2;
    }
    bool good = open_worker(&self, address) && listen_at(&self, address, ip, port);
    int code = run_and_close(&self, address, good);
    free(ip);
    return code;
}

/* ---------------------------------------------------------------- of a launcher's job */

/* A free port of the first interface that EEP_NETWORK_INTERFACE names; where it is, as text. */
static bool listen_anywhere(int *fd_out, char text[LAUNCHED_ADDRESS_BYTES], const char *place)
{
    const char *names = getenv("EEP_NETWORK_INTERFACE");
    char interface[64], ip[INET6_ADDRSTRLEN], why[WHY_BYTES];
    eepi_lane_path path;
    snprintf(interface, sizeof interface, "%.*s", (int)strcspn(names ? names : "", ",@"),
             names ? names : "");
    if (eepi_lane_listen(interface, true, fd_out, &path, why, sizeof why) != EEP_OK) {
        return fail(place, why);
    }
    inet_ntop(path.ip_bytes == 4 ? AF_INET : AF_INET6, path.ip, ip, sizeof ip);
    snprintf(text, LAUNCHED_ADDRESS_BYTES, path.ip_bytes == 4 ? "%s:%u" : "[%s]:%u", ip,
             (unsigned)path.port);
    return true;
}

/* Launchers bind what they start, and this host's ranks are bound with it. */
static void tell_bound(const char *place, int num_ranks)
{
    cpu_set_t set;
    const long num = sysconf(_SC_NPROCESSORS_ONLN);
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) >= num) {
        return;
    }
    fprintf(stderr,
            "eep-run: worker at %s: the launcher lets its %d ranks use %d of %ld processors%s\n",
            place, num_ranks, CPU_COUNT(&set), num,
            CPU_COUNT(&set) >= num_ranks
                ? ""
                : ", fewer than one each, which makes them slow: mpirun --bind-to none, or srun "
                  "--cpu-bind=none --cpus-per-task=N, gives them more");
}

static bool give_notice(worker *self, const char *store, int number, launched_answer *answer,
                        const char *place)
{
    int agent_fd = -1;
    if (!listen_anywhere(&self->listen_fd, answer->address, place) ||
        !listen_anywhere(&agent_fd, answer->agent, place)) {
        return false;
    }
    close(agent_fd); /* the agent's, once a front has said what to begin with */
    answer->host = eepi_host_id();
    if (gethostname(answer->name, sizeof answer->name) != 0) {
        snprintf(answer->name, sizeof answer->name, "?");
    }
    answer->name[sizeof answer->name - 1] = '\0';
    self->since_ns = now_ns();
    eep_status status = launched_notice_open(store, number, answer, &self->notice);
    return status == EEP_OK ||
           fail(place,
                status == EEP_ERR_UNREACHABLE ? "the store does not answer" : eep_strerror(status));
}

int worker_launched(const char *store, int number, int num_ranks, pid_t parent)
{
    static worker self = {.listen_fd = -1, .signal_fd = -1};
    launched_answer answer = {.to = 0};
    char place[PLACE_BYTES];
    snprintf(place, sizeof place, "process %d of the launcher's job", number);
    bool good = open_worker(&self, place) && give_notice(&self, store, number, &answer, place);
    self.front.is_launched = true;
    self.parent = parent;
    if (good) {
        snprintf(place, sizeof place, "%s, host%d of the launcher's job", answer.address, number);
        tell_bound(place, num_ranks);
    }
    return run_and_close(&self, place, good);
}
