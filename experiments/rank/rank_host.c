/* SPDX-License-Identifier: Apache-2.0 */
/* A process whose threads are ranks. */
#include "experiments/rank/rank_main.h"

#include "experiments/rank/rank.h"
#include "graphs/base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NUM_FDS = 2 }; /* with a HOST_START: control socket, end pipe */

typedef struct rank_thread {
    pthread_t thread;
    bool is_started;
    rank *rank; /* NULL: it has ended, or is about to tell */
    int control_fd, end_fd;
} rank_thread;

typedef struct rank_host {
    int fd;
    rank_config config; /* of every rank, but seat, socket and joiner */
    pthread_mutex_t lock;
    rank_thread seat[EEP_MAX_RANKS];
} rank_host;

static rank_host host;

/* ---------------------------------------------------------------- a rank's thread */

/* As waitpid would have it. */
static int wait_status_of(int code, bool killed)
{
    return killed ? SIGKILL : W_EXITCODE(code, 0);
}

static void tell_end(int end_fd, int wait_status)
{
    if (write(end_fd, &wait_status, sizeof wait_status) < 0) {
        perror("eep-run: end of a rank"); /* the launcher sees the pipe's end instead */
    }
    close(end_fd);
}

static void *run_rank(void *argument)
{
    rank_thread *self = argument;
    rank *own = self->rank;
    int code = rank_run(own);
    pthread_mutex_lock(&host.lock);
    self->rank = NULL; /* no signal reaches it any more */
    pthread_mutex_unlock(&host.lock);
    int wait_status = wait_status_of(code, rank_was_killed(own));
    rank_free(own);
    close(self->control_fd);
    tell_end(self->end_fd, wait_status);
    return NULL;
}

/* ---------------------------------------------------------------- orders */

static void fail_start(int seat, const int fds[NUM_FDS], const char *why)
{
    fprintf(stderr, "rank %d: its thread cannot be started: %s\n", seat, why);
    close(fds[0]);
    tell_end(fds[1], wait_status_of(RANK_EXIT_FAILED, false));
}

static void start_rank(const host_order *order, const int fds[NUM_FDS])
{
    rank_thread *entry = &host.seat[order->seat];
    rank_config config = host.config;
    if (entry->is_started) { /* the launcher has seen its end */
        pthread_join(entry->thread, NULL);
        entry->is_started = false;
    }
    config.seat = order->seat;
    config.control_fd = fds[0];
    config.joiner = order->value != 0;
    entry->control_fd = fds[0];
    entry->end_fd = fds[1];
    entry->rank = rank_new(&config);
    if (!entry->rank) {
        fail_start(order->seat, fds, "out of memory");
        return;
    }
    int failed = pthread_create(&entry->thread, NULL, run_rank, entry);
    entry->is_started = failed == 0;
    if (failed) {
        rank_free(entry->rank);
        entry->rank = NULL;
        char why[EEPI_THREAD_ERROR_BYTES];
        fail_start(order->seat, fds, eepi_thread_error(failed, why, sizeof why));
    }
}

static void apply_signal(const host_order *order)
{
    pthread_mutex_lock(&host.lock);
    rank *entry = host.seat[order->seat].rank;
    if (entry && (order->value == SIGSTOP || order->value == SIGCONT)) {
        rank_hold(entry, order->value == SIGSTOP);
    } else if (entry) {
        rank_kill(entry);
    }
    pthread_mutex_unlock(&host.lock);
}

/* One order and its descriptors; false: there will be none any more. */
static bool receive_order(host_order *order, int fds_out[NUM_FDS], int *num_fds_out)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(NUM_FDS * sizeof(int))];
    } control;
    struct iovec part = {order, sizeof *order};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t bytes = 0;
    do {
        bytes = recvmsg(host.fd, &message, MSG_CMSG_CLOEXEC);
    } while (bytes < 0 && errno == EINTR);
    *num_fds_out = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); bytes > 0 && c;
         c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            int num = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            *num_fds_out = num < NUM_FDS ? num : NUM_FDS; /* there is no room for more */
            memcpy(fds_out, CMSG_DATA(c), (size_t)*num_fds_out * sizeof(int));
        }
    }
    return bytes == (ssize_t)sizeof *order;
}

int rank_host_main(void)
{
    const char *control = getenv(RANK_ENV_CONTROL_FD), *text = getenv(RANK_ENV_OPTIONS);
    host_order order;
    int fds[NUM_FDS], num_fds = 0;
    if (!control || !text || rank_setup_from_text(text, &host.config.setup) != EEP_OK) {
        fprintf(stderr, "--rank-host is for eep-run's own use\n");
        return 2;
    }
    host.fd = atoi(control);
    fcntl(host.fd, F_SETFD, FD_CLOEXEC); /* it came through an exec */
    host.config.store_path = getenv("EEP_STORE");
    host.config.is_thread = true;
    pthread_mutex_init(&host.lock, NULL);
    while (receive_order(&order, fds, &num_fds)) {
        if (order.seat < 0 || order.seat >= EEP_MAX_RANKS) {
            break;
        }
        if (order.kind == HOST_START && num_fds == NUM_FDS) {
            start_rank(&order, fds);
            num_fds = 0; /* they are the rank's */
        } else if (order.kind == HOST_SIGNAL) {
            apply_signal(&order);
        }
        for (int i = 0; i < num_fds; i++) { /* no room for the other: the launcher sees the end */
            close(fds[i]);
        }
    }
    /* The launcher has hung up. As with rank processes, ranks that still live give nothing back. */
    for (int seat = 0; seat < EEP_MAX_RANKS; seat++) {
        rank_thread *entry = &host.seat[seat];
        pthread_mutex_lock(&host.lock);
        bool lives = entry->rank != NULL;
        pthread_mutex_unlock(&host.lock);
        if (lives) {
            _exit(0);
        }
        if (entry->is_started) {
            pthread_join(entry->thread, NULL);
        }
    }
    return 0;
}
