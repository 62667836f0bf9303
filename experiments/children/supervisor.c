/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks as child processes, or as threads of one child process that is told by orders. */
#include "experiments/children/supervisor.h"

#include "experiments/base/machine.h"
#include "experiments/base/child.h"
#include "experiments/rank/joiner_nice.h"
#include "experiments/rank/rank.h"
#include "experiments/rank/rank_main.h"
#include "experiments/base/monotonic.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { SOCKET_BUFFER_BYTES = 1 << 20 };
enum { HOST_PAUSE_NS = 5000000, HOST_PAUSES = 200, HOST_END_PAUSES = 40 };

eep_status supervisor_open(const options *given, const char *store_path,
                           supervisor **supervisor_out)
{
    supervisor *self = calloc(1, sizeof *self);
    supervisor_seat *seats = calloc((size_t)given->max_ranks, sizeof *seats);
    if (self && given->engine) {
        self->trace = calloc((size_t)given->max_ranks, sizeof *self->trace);
    }
    if (!self || !seats || (given->engine && !self->trace)) {
        free(self);
        free(seats);
        return EEP_ERR_NO_MEMORY;
    }
    self->num_seats = (int)given->max_ranks;
    self->seat = seats;
    self->options = given;
    self->store_path = store_path;
    self->host.fd = -1;
    for (int s = 0; s < self->num_seats; s++) {
        seats[s].end_fd = seats[s].fd = -1;
    }
    *supervisor_out = self;
    return EEP_OK;
}

/* ---------------------------------------------------------------- start */

/* The environment of a process with ranks: this process's without the variables that are set here,
 * then those. It is made before the fork: the child of a threaded process may not allocate. */
enum {
    OWN_OF_HOST = 4,
    OWN_OF_RANK = 6,
    OWN_OF_ENGINE = 9, /* of a foreign engine's process */
    OWN_HOST = 9,      /* where hosts are played */
    OWN_VARIABLES,
    OWN_BYTES = RANK_SETUP_TEXT_BYTES + PATH_MAX,
    ENGINE_BYTES = 4096
};
typedef struct rank_environment {
    char **variables;
    char own[OWN_VARIABLES][OWN_BYTES];
} rank_environment;

static bool is_own(const options *given, const char *variable)
{
    static const char *const names[] = {
        "EEP_RANK=",          "EEP_SIZE=",         "EEP_STORE=", RANK_ENV_CONTROL_FD "=",
        RANK_ENV_OPTIONS "=", RANK_ENV_JOINER "=", "EEP_TRACE=", "EEP_TRACE_FAULTS=",
        "EEP_LAB_CONFIG=",    "EEP_LAUNCHER="};
    if (given->hosts_of > 0 && strncmp(variable, "EEP_HOST_ID=", 12) == 0) {
        return true;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strncmp(variable, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* What libeep in a foreign engine is told: where its rows go, that its steps may halt, and the
 * instance's times. */
static bool describe_lab(const options *given, char own[OWN_VARIABLES][OWN_BYTES])
{
    char folder[PATH_MAX];
    if (!realpath(given->out_dir, folder)) {
        return false;
    }
    snprintf(own[6], OWN_BYTES, "EEP_TRACE=%s/" SUPERVISOR_TRACES, folder);
    snprintf(own[7], OWN_BYTES, "EEP_TRACE_FAULTS=1");
    snprintf(own[8], OWN_BYTES,
             "EEP_LAB_CONFIG=max_ranks=%d,step_deadline_us=%.0f,expel_floor_us=%.0f,"
             "drain_bound_us=%.0f,kill_fence=%d",
             (int)given->max_ranks, given->step_deadline_ms * 1e3, given->expel_ms * 1e3,
             given->drain_bound_ms * 1e3, !given->no_kill_fence);
    return true;
}

/* `seat` -1: of a host of ranks. */
static eep_status make_environment(const supervisor *self, int seat, bool joiner,
                                   rank_environment *out)
{
    static char launcher[] = "EEP_LAUNCHER=eep"; /* eep-run may itself run under another one */
    char text[RANK_SETUP_TEXT_BYTES];
    rank_setup setup;
    size_t num = 0;
    while (environ[num]) {
        num++;
    }
    out->variables = calloc(num + OWN_VARIABLES + 2, sizeof *out->variables);
    if (!out->variables) {
        return EEP_ERR_NO_MEMORY;
    }
    options_fill_rank(self->options, &setup);
    rank_setup_to_text(&setup, text);
    snprintf(out->own[0], OWN_BYTES, "EEP_SIZE=%d", (int)self->options->num_ranks);
    snprintf(out->own[1], OWN_BYTES, "EEP_STORE=%s", self->store_path);
    snprintf(out->own[2], OWN_BYTES, RANK_ENV_CONTROL_FD "=%d", CHILD_CHANNEL);
    snprintf(out->own[3], OWN_BYTES, RANK_ENV_OPTIONS "=%s", text);
    snprintf(out->own[4], OWN_BYTES, "EEP_RANK=%d", seat);
    snprintf(out->own[5], OWN_BYTES, RANK_ENV_JOINER "=%d", joiner);
    if (self->options->engine && !describe_lab(self->options, out->own)) {
        free(out->variables);
        return EEP_ERR_SYSTEM;
    }
    size_t used = 0;
    for (size_t i = 0; i < num; i++) {
        if (!is_own(self->options, environ[i])) {
            out->variables[used++] = environ[i];
        }
    }
    out->variables[used++] = launcher;
    const int own = seat < 0 ? OWN_OF_HOST : self->options->engine ? OWN_OF_ENGINE : OWN_OF_RANK;
    for (int i = 0; i < own; i++) {
        out->variables[used++] = out->own[i];
    }
    if (seat >= 0 && self->options->hosts_of > 0) {
        snprintf(out->own[OWN_HOST], OWN_BYTES, "EEP_HOST_ID=host%d",
                 seat / (int)self->options->hosts_of);
        out->variables[used++] = out->own[OWN_HOST];
    }
    return EEP_OK;
}

/* A process with one end of a socket pair; the other end, and, unless NULL, its pidfd. `seat` -1:
 * a host of ranks. */
static eep_status start_process(const supervisor *self, int seat, bool joiner, pid_t *pid_out,
                                int *pidfd_out, int *fd_out)
{
    static char program[] = "eep-run", one[] = "--rank-process", all[] = "--rank-host";
    static char shell[] = "sh", command[] = "-c";
    char foreign[ENGINE_BYTES];
    char *const ours[] = {program, seat < 0 ? all : one, NULL};
    char *const theirs[] = {shell, command, foreign, NULL};
    const char *wanted = self->options->engine;
    snprintf(foreign, sizeof foreign, "exec %s", wanted ? wanted : "");
    rank_environment environment;
    int pair[2] = {-1, -1};
    eep_status status = make_environment(self, seat, joiner, &environment);
    if (status != EEP_OK) {
        return status;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        free(environment.variables);
        return EEP_ERR_SYSTEM;
    }
    child_setup setup = CHILD_SETUP;
    setup.channel = pair[1];
    pid_t pid = child_exec(&setup, wanted ? "/bin/sh" : "/proc/self/exe", wanted ? theirs : ours,
                           environment.variables, pidfd_out);
    int failure = errno;
    free(environment.variables);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        errno = failure;
        return EEP_ERR_SYSTEM;
    }
    *pid_out = pid;
    *fd_out = pair[0];
    return EEP_OK;
}

/* As large as the system allows; in a smaller buffer messages are only queued earlier. */
static void enlarge(int fd)
{
    const int buffer = SOCKET_BUFFER_BYTES;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
}

static void occupy(supervisor_seat *entry, pid_t pid, int end_fd, int fd)
{
    entry->lives = true;
    entry->is_held = entry->has_stopped = false;
    entry->pid = pid;
    entry->end_fd = end_fd;
    entry->fd = fd;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    send_queue_init(&entry->send_queue, fd);
}

static eep_status spawn_process(supervisor *self, int seat, bool joiner)
{
    pid_t pid = 0;
    int fd = -1, pidfd = -1;
    eep_status status = start_process(self, seat, joiner, &pid, &pidfd, &fd);
    if (status != EEP_OK) {
        return status;
    }
    enlarge(fd);
    occupy(&self->seat[seat], pid, pidfd, fd);
    return EEP_OK;
}

/* ---------------------------------------------------------------- threads */

/* An order with descriptors, or with none. */
static eep_status give_order(const supervisor *self, const host_order *order, const int *fds,
                             int num_fds)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(2 * sizeof(int))];
    } control = {.room = {0}};
    struct iovec part = {(void *)order, sizeof *order};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (num_fds > 0) {
        size_t bytes = (size_t)num_fds * sizeof(int);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(bytes);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(&control.header), fds, bytes);
    }
    ssize_t sent = 0;
    do {
        sent = sendmsg(self->host.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)sizeof *order ? EEP_OK : EEP_ERR_SYSTEM;
}

static void forget_host(supervisor *self)
{
    close(self->host.fd);
    self->host.pid = 0;
    self->host.fd = -1;
}

/* How a child has ended that was waited for elsewhere, is not known any more: it failed. */
static bool has_ended(pid_t pid, int *wait_status_out)
{
    *wait_status_out = W_EXITCODE(RANK_EXIT_FAILED, 0);
    return child_has_ended(pid, wait_status_out);
}

/* The host has ended, within that many pauses. */
static bool host_ends(supervisor *self, int num_pauses)
{
    const struct timespec pause = {0, HOST_PAUSE_NS};
    for (int i = 0; i < num_pauses; i++) {
        if (has_ended(self->host.pid, &self->host.wait_status)) {
            forget_host(self);
            return true;
        }
        nanosleep(&pause, NULL);
    }
    return false;
}

void supervisor_kill_host(supervisor *self)
{
    if (self->host.pid) { /* not waited for yet, hence its pid cannot be another's */
        kill(self->host.pid, SIGKILL);
    }
}

/* The host ends by itself once the launcher hangs up, unless a rank of it does not end. */
static void end_host(supervisor *self)
{
    if (!self->host.pid) {
        return;
    }
    shutdown(self->host.fd, SHUT_RDWR);
    if (!host_ends(self, HOST_PAUSES)) {
        child_kill(self->host.pid, &self->host.wait_status);
        forget_host(self);
    }
}

static eep_status spawn_thread(supervisor *self, int seat, bool joiner)
{
    host_order order = {HOST_START, seat, joiner};
    int pair[2] = {-1, -1}, ends[2] = {-1, -1};
    eep_status status = EEP_OK;
    if (!self->host.pid) {
        status = start_process(self, -1, false, &self->host.pid, NULL, &self->host.fd);
    }
    if (status != EEP_OK) {
        return status;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return EEP_ERR_SYSTEM;
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        status = EEP_ERR_SYSTEM;
    } else {
        enlarge(pair[0]);
        enlarge(pair[1]);
        status = give_order(self, &order, (int[]){pair[1], ends[1]}, 2);
    }
    int failure = errno;
    close(pair[1]);
    if (ends[1] >= 0) {
        close(ends[1]);
    }
    if (status == EEP_OK) {
        occupy(&self->seat[seat], self->host.pid, ends[0], pair[0]);
        return EEP_OK;
    }
    close(pair[0]);
    if (ends[0] >= 0) {
        close(ends[0]);
    }
    errno = failure;
    return status;
}

/* ---------------------------------------------------------------- hosts */

void supervisor_use_hosts(supervisor *self, host_links *links)
{
    self->links = links;
}

static eep_status spawn_remote(supervisor *self, int seat, bool joiner)
{
    int fd = -1, end_fd = -1;
    eep_status status =
        host_link_start(host_links_of_seat(self->links, seat), seat, joiner, &fd, &end_fd);
    if (status == EEP_OK) {
        occupy(&self->seat[seat], 0, end_fd, fd);
    }
    return status;
}

/* What its worker, or the loss of it, has written. */
static bool reap_remote(const supervisor_seat *entry, int *wait_status_out)
{
    struct pollfd end = {.fd = entry->end_fd, .events = POLLIN};
    if (poll(&end, 1, 0) != 1) {
        return false;
    }
    if (read(entry->end_fd, wait_status_out, sizeof *wait_status_out) !=
        (ssize_t)sizeof *wait_status_out) {
        *wait_status_out = SIGKILL;
    }
    return true;
}

eep_status supervisor_spawn(supervisor *self, int seat, bool joiner)
{
    if (self->seat[seat].lives || self->seat[seat].fd >= 0) {
        return EEP_ERR_STATE;
    }
    if (self->links) {
        return spawn_remote(self, seat, joiner);
    }
    return self->options->threads ? spawn_thread(self, seat, joiner)
                                  : spawn_process(self, seat, joiner);
}

/* ---------------------------------------------------------------- signals and states */

uint64_t supervisor_signal(supervisor *self, int seat, int signal_number)
{
    supervisor_seat *entry = &self->seat[seat];
    uint64_t time_ns = now_ns();
    if (!entry->lives) {
        return 0;
    }
    if (self->links) {
        return host_link_order(host_links_of_seat(self->links, seat), REMOTE_SIGNAL, seat,
                               signal_number) == EEP_OK
                   ? time_ns
                   : 0;
    }
    if (!self->options->threads) {
        return pidfd_send_signal(entry->end_fd, signal_number, NULL, 0) == 0 ? time_ns : 0;
    }
    host_order order = {HOST_SIGNAL, seat, signal_number};
    entry->is_held = signal_number == SIGSTOP;
    entry->has_stopped |= signal_number == SIGKILL; /* it says nothing any more */
    return give_order(self, &order, NULL, 0) == EEP_OK ? time_ns : 0;
}

void supervisor_on_frozen(supervisor *self, int seat)
{
    self->seat[seat].is_held = true;
}

char supervisor_state(const supervisor *self, int seat)
{
    const supervisor_seat *entry = &self->seat[seat];
    if (!entry->lives) {
        return 'Z';
    }
    if (!self->options->threads && !self->links) {
        return machine_process_state(entry->pid);
    }
    struct pollfd end = {.fd = entry->end_fd, .events = POLLIN};
    bool is_held = self->links ? host_link_is_halted(host_links_of_seat(self->links, seat), seat)
                               : entry->is_held;
    return poll(&end, 1, 0) == 1 ? 'Z' : is_held ? 'T' : 'S';
}

/* ---------------------------------------------------------------- end */

/* The wait status that the thread wrote last; if its process ended with it, the process's. */
static bool reap_thread(supervisor *self, const supervisor_seat *entry, int *wait_status_out)
{
    struct pollfd end = {.fd = entry->end_fd, .events = POLLIN};
    if (poll(&end, 1, 0) != 1) {
        return false;
    }
    ssize_t bytes = read(entry->end_fd, wait_status_out, sizeof *wait_status_out);
    if (bytes == (ssize_t)sizeof *wait_status_out) {
        return true;
    }
    /* An end that says nothing was the host's, most likely: the descriptors of a process go just
     * before its end can be waited for. */
    if (entry->pid == self->host.pid && !host_ends(self, HOST_END_PAUSES)) {
        *wait_status_out = W_EXITCODE(RANK_EXIT_FAILED, 0); /* this one was never started */
        return true;
    }
    *wait_status_out = self->host.wait_status;
    return true;
}

bool supervisor_reap(supervisor *self, int seat, int *wait_status_out)
{
    supervisor_seat *entry = &self->seat[seat];
    if (!entry->lives || !(self->links              ? reap_remote(entry, wait_status_out)
                           : self->options->threads ? reap_thread(self, entry, wait_status_out)
                                                    : has_ended(entry->pid, wait_status_out))) {
        return false;
    }
    close(entry->end_fd);
    entry->end_fd = -1;
    entry->pid = 0;
    entry->lives = false;
    return true;
}

bool supervisor_all_have_stopped(const supervisor *self)
{
    for (int s = 0; s < self->num_seats; s++) {
        const supervisor_seat *entry = &self->seat[s];
        if (entry->lives && entry->fd >= 0 && !entry->has_stopped) {
            return false;
        }
    }
    return true;
}

void supervisor_shut_all(supervisor *self)
{
    for (int s = 0; s < self->num_seats; s++) {
        if (self->seat[s].fd >= 0) {
            shutdown(self->seat[s].fd, SHUT_WR);
        }
    }
}

void supervisor_hang_up(supervisor *self, int seat)
{
    supervisor_seat *entry = &self->seat[seat];
    if (entry->fd >= 0) {
        send_queue_destroy(&entry->send_queue);
        shutdown(entry->fd, SHUT_RDWR); /* a child that has not exec'ed yet may hold a copy */
        close(entry->fd);
        entry->fd = -1;
    }
}

/* ---------------------------------------------------------------- burning */

static _Noreturn void burn(double seconds, pid_t parent)
{
    volatile uint64_t sum = 0;
    uint64_t end_ns = now_ns() + (uint64_t)(seconds * 1e9);
    setpriority(PRIO_PROCESS, 0, JOINER_NICE);
    while (now_ns() < end_ns && getppid() == parent) {
        for (int i = 0; i < 100000; i++) {
            sum = sum * 3 + 1;
        }
    }
    _exit(0);
}

eep_status supervisor_burn(supervisor *self, double seconds)
{
    pid_t *bigger = realloc(self->burners, ((size_t)self->num_burners + 1) * sizeof *self->burners);
    if (!bigger) {
        return EEP_ERR_NO_MEMORY;
    }
    self->burners = bigger;
    child_setup setup = CHILD_SETUP;
    setup.closes_rest = true; /* it runs no program: its copies would keep sockets open */
    pid_t parent = getpid(), pid = child_fork(&setup, NULL);
    if (pid == 0) {
        burn(seconds, parent);
    }
    if (pid < 0) {
        return EEP_ERR_SYSTEM;
    }
    self->burners[self->num_burners++] = pid;
    return EEP_OK;
}

void supervisor_close(supervisor *self)
{
    if (!self) {
        return;
    }
    host_links_close(self->links);
    for (int s = 0; s < self->num_seats; s++) {
        supervisor_seat *entry = &self->seat[s];
        if (entry->lives && !self->options->threads && !self->links) {
            child_kill(entry->pid, NULL);
        }
        if (entry->lives) {
            close(entry->end_fd);
        }
        supervisor_hang_up(self, s);
        if (self->trace) {
            trace_reader_close(&self->trace[s]);
        }
    }
    free(self->trace);
    end_host(self);
    for (int i = 0; i < self->num_burners; i++) {
        child_kill(self->burners[i], NULL);
    }
    free(self->burners);
    free(self->seat);
    free(self);
}
