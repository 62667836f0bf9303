/* SPDX-License-Identifier: Apache-2.0 */
/* Rank processes of a worker. */
#include "experiments/hosts/worker_ranks.h"

#include "experiments/base/machine.h"

#include "experiments/base/child.h"
#include "experiments/rank/rank_main.h"
#include "experiments/setup/hosts_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

extern char **environ;

enum { SOCKET_BUFFER_BYTES = 1 << 20, OWN_VARIABLES = 7, OWN_BYTES = HOST_BODY_BYTES + 64 };

/* ---------------------------------------------------------------- what it was told */

eep_status worker_begin_set(worker_begin *self, const void *body, size_t bytes)
{
    char *copy = malloc(bytes + 1);
    if (!copy) {
        return EEP_ERR_NO_MEMORY;
    }
    memcpy(copy, body, bytes);
    copy[bytes] = '\0';
    free(self->body);
    *self = (worker_begin){.body = copy};
    int num = 0;
    for (size_t at = 0; at < bytes; at += strlen(copy + at) + 1, num++) {
        const char *text = copy + at;
        if (num < HOST_BEGIN_TEXTS) {
            self->text[num] = text;
            continue;
        }
        if (self->num_variables == WORKER_MAX_VARIABLES || !strchr(text, '=') ||
            !hosts_variable_is_taken(text)) {
            return EEP_ERR_PROTOCOL;
        }
        self->variable[self->num_variables++] = text;
    }
    return num >= HOST_BEGIN_TEXTS ? EEP_OK : EEP_ERR_PROTOCOL;
}

/* The same name before the '='. */
static bool is_same(const char *left, const char *right)
{
    size_t bytes = strcspn(left, "=") + 1;
    return strncmp(left, right, bytes) == 0;
}

/* Put it in the place of one with its name, or behind all. */
static void put(char **variables, size_t *num, char *text)
{
    for (size_t i = 0; i < *num; i++) {
        if (is_same(variables[i], text)) {
            variables[i] = text;
            return;
        }
    }
    variables[(*num)++] = text;
}

char **worker_environment(const worker_begin *self, char *const *own, int num_own)
{
    size_t num = 0, most = 0;
    while (environ[most]) {
        most++;
    }
    char **variables =
        calloc(most + (size_t)self->num_variables + (size_t)num_own + 1, sizeof *variables);
    if (!variables) {
        return NULL;
    }
    for (num = 0; num < most; num++) {
        variables[num] = environ[num];
    }
    for (int i = 0; i < self->num_variables; i++) {
        put(variables, &num, (char *)(uintptr_t)self->variable[i]); /* exec takes them unchanged */
    }
    for (int i = 0; i < num_own; i++) {
        put(variables, &num, own[i]);
    }
    return variables;
}

/* ---------------------------------------------------------------- start */

void worker_ranks_init(worker_ranks *self)
{
    *self = (worker_ranks){.num = 0};
    for (int s = 0; s < EEP_MAX_RANKS; s++) {
        self->seat[s].pidfd = self->seat[s].fd = -1;
    }
}

static void enlarge(int fd)
{
    const int buffer = SOCKET_BUFFER_BYTES;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
}

static pid_t start_process(const worker_begin *begin, const host_message *order, int channel,
                           int *pidfd_out)
{
    static char program[] = "eep-run", flag[] = "--rank-process";
    static char text[OWN_VARIABLES][OWN_BYTES];
    char *const words[] = {program, flag, NULL};
    char *own[OWN_VARIABLES];
    snprintf(text[0], OWN_BYTES, "EEP_SIZE=%s", begin->text[HOST_BEGIN_SIZE]);
    snprintf(text[1], OWN_BYTES, "EEP_STORE=%s", begin->text[HOST_BEGIN_STORE]);
    snprintf(text[2], OWN_BYTES, RANK_ENV_CONTROL_FD "=%d", CHILD_CHANNEL);
    snprintf(text[3], OWN_BYTES, RANK_ENV_OPTIONS "=%s", begin->text[HOST_BEGIN_OPTIONS]);
    snprintf(text[4], OWN_BYTES, "EEP_RANK=%d", order->seat);
    snprintf(text[5], OWN_BYTES, RANK_ENV_JOINER "=%d", order->value != 0);
    snprintf(text[6], OWN_BYTES, "EEP_LAUNCHER=eep"); /* a launcher's variables are the worker's */
    for (int i = 0; i < OWN_VARIABLES; i++) {
        own[i] = text[i];
    }
    char **variables = worker_environment(begin, own, OWN_VARIABLES);
    if (!variables) {
        errno = ENOMEM;
        return -1;
    }
    child_setup setup = CHILD_SETUP;
    setup.channel = channel;
    pid_t pid = child_exec(&setup, "/proc/self/exe", words, variables, pidfd_out);
    int failure = errno;
    free(variables);
    errno = failure;
    return pid;
}

eep_status worker_ranks_start(worker_ranks *self, const worker_begin *begin,
                              const host_message *order)
{
    worker_rank *rank = &self->seat[order->seat];
    int pair[2] = {-1, -1}, pidfd = -1;
    if (rank->pid) {
        return EEP_ERR_STATE;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return EEP_ERR_SYSTEM;
    }
    pid_t pid = start_process(begin, order, pair[1], &pidfd);
    int failure = errno;
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        errno = failure;
        return EEP_ERR_SYSTEM;
    }
    enlarge(pair[0]);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    *rank = (worker_rank){.pid = pid, .pidfd = pidfd, .fd = pair[0], .process = order->process};
    send_queue_init(&rank->queue, rank->fd);
    self->num++;
    return EEP_OK;
}

/* ---------------------------------------------------------------- signals and states */

void worker_ranks_signal(worker_ranks *self, int seat, uint32_t process, int signal_number)
{
    worker_rank *rank = &self->seat[seat];
    if (rank->pid && rank->process == process) {
        (void)pidfd_send_signal(rank->pidfd, signal_number, NULL, 0);
    }
}

void worker_ranks_signal_all(worker_ranks *self, int signal_number)
{
    for (int s = 0; s < EEP_MAX_RANKS; s++) {
        worker_ranks_signal(self, s, self->seat[s].process, signal_number);
    }
}

bool worker_ranks_halted(worker_ranks *self, int seat, bool *is_halted_out)
{
    worker_rank *rank = &self->seat[seat];
    bool before = rank->is_halted;
    rank->is_halted = rank->pid && machine_process_state(rank->pid) == 'T';
    *is_halted_out = rank->is_halted;
    return rank->pid && rank->is_halted != before;
}

/* ---------------------------------------------------------------- end */

bool worker_ranks_ended(worker_ranks *self, int seat, int *wait_status_out)
{
    worker_rank *rank = &self->seat[seat];
    if (!rank->pid || !child_has_ended(rank->pid, wait_status_out)) {
        return false;
    }
    rank->pid = 0;
    self->num--;
    return true;
}

void worker_ranks_forget(worker_ranks *self, int seat)
{
    worker_rank *rank = &self->seat[seat];
    send_queue_destroy(&rank->queue);
    close(rank->fd);
    close(rank->pidfd);
    rank->fd = rank->pidfd = -1;
}

void worker_ranks_stop(worker_ranks *self)
{
    const wire_header message = {WIRE_STOP, sizeof message};
    for (int s = 0; s < EEP_MAX_RANKS; s++) {
        if (self->seat[s].pid) {
            (void)!send_queue_send(&self->seat[s].queue, &message, sizeof message);
        }
    }
}

void worker_ranks_shut(worker_ranks *self)
{
    for (int s = 0; s < EEP_MAX_RANKS; s++) {
        if (self->seat[s].pid) {
            shutdown(self->seat[s].fd, SHUT_WR);
        }
    }
}
