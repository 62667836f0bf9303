#include "experiments/supervisor.h"

#include "experiments/rank_main.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* The descriptor at which a rank finds its socket: above the standard three. */
enum { CHILD_CONTROL_FD = 3, SOCKET_BUFFER_BYTES = 1 << 20 };

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

eep_status supervisor_open(const options *how, const char *store_path, supervisor **supervisor_out)
{
    supervisor *self = calloc(1, sizeof *self);
    supervisor_seat *seats = calloc((size_t)how->max_ranks, sizeof *seats);
    if (!self || !seats) {
        free(self);
        free(seats);
        return EEP_ERR_NO_MEMORY;
    }
    self->num_seats = (int)how->max_ranks;
    self->seat = seats;
    self->options = how;
    self->store_path = store_path;
    for (int s = 0; s < self->num_seats; s++) {
        seats[s].pidfd = seats[s].fd = -1;
    }
    *supervisor_out = self;
    return EEP_OK;
}

/* ---------------------------------------------------------------- start */

/* The environment of a rank: ours without what is set here, then that. Strings and array are one
 * allocation each, made before the fork: the child of a threaded process may not allocate. */
enum { OWN_VARIABLES = 6, OWN_BYTES = 768 };
typedef struct rank_environment {
    char **variables;
    char own[OWN_VARIABLES][OWN_BYTES];
} rank_environment;

static bool is_own(const char *variable)
{
    static const char *const names[] = {
        "EEP_RANK=",          "EEP_SIZE=",        "EEP_STORE=", RANK_ENV_CONTROL_FD "=",
        RANK_ENV_OPTIONS "=", RANK_ENV_JOINER "="};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strncmp(variable, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return false;
}

static eep_status make_environment(const supervisor *self, int seat, bool joiner,
                                   rank_environment *out)
{
    char text[OPTIONS_RANK_TEXT_BYTES];
    size_t num = 0;
    while (environ[num]) {
        num++;
    }
    out->variables = calloc(num + OWN_VARIABLES + 1, sizeof *out->variables);
    if (!out->variables) {
        return EEP_ERR_NO_MEMORY;
    }
    options_to_rank_text(self->options, text);
    snprintf(out->own[0], OWN_BYTES, "EEP_RANK=%d", seat);
    snprintf(out->own[1], OWN_BYTES, "EEP_SIZE=%d", (int)self->options->num_ranks);
    snprintf(out->own[2], OWN_BYTES, "EEP_STORE=%s", self->store_path);
    snprintf(out->own[3], OWN_BYTES, RANK_ENV_CONTROL_FD "=%d", CHILD_CONTROL_FD);
    snprintf(out->own[4], OWN_BYTES, RANK_ENV_OPTIONS "=%s", text);
    snprintf(out->own[5], OWN_BYTES, RANK_ENV_JOINER "=%d", joiner);
    size_t used = 0;
    for (size_t i = 0; i < num; i++) {
        if (!is_own(environ[i])) {
            out->variables[used++] = environ[i];
        }
    }
    for (int i = 0; i < OWN_VARIABLES; i++) {
        out->variables[used++] = out->own[i];
    }
    return EEP_OK;
}

/* Between fork and exec: only what is async-signal-safe. The child dies with the launcher, has the
 * default signal handling, and inherits its socket and the standard descriptors only. */
static void run_child(int fd, pid_t parent, char **variables)
{
    static char program[] = "eep-run", argument[] = "--rank-process";
    char *const arguments[] = {program, argument, NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    bool good = getppid() == parent;
    if (fd == CHILD_CONTROL_FD) {
        good = good && fcntl(fd, F_SETFD, 0) == 0; /* dup2 onto itself would keep close-on-exec */
    } else {
        good = good && dup2(fd, CHILD_CONTROL_FD) >= 0;
    }
    if (good) {
        execve("/proc/self/exe", arguments, variables);
    }
    _exit(127);
}

eep_status supervisor_spawn(supervisor *self, int seat, bool joiner)
{
    supervisor_seat *to = &self->seat[seat];
    rank_environment environment;
    int pair[2] = {-1, -1};
    const int buffer = SOCKET_BUFFER_BYTES;
    if (to->pid || to->fd >= 0) {
        return EEP_ERR_STATE;
    }
    eep_status status = make_environment(self, seat, joiner, &environment);
    if (status != EEP_OK) {
        return status;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        free(environment.variables);
        return EEP_ERR_SYSTEM;
    }
    /* As large as the system lets us have; smaller only means that queues are used earlier. */
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        run_child(pair[1], parent, environment.variables);
    }
    int failure = errno;
    free(environment.variables);
    close(pair[1]);
    int pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
    if (pidfd < 0) {
        failure = pid > 0 ? errno : failure;
        if (pid > 0) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
        }
        close(pair[0]);
        errno = failure;
        return EEP_ERR_SYSTEM;
    }
    fcntl(pidfd, F_SETFD, FD_CLOEXEC);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    to->pid = pid;
    to->pidfd = pidfd;
    to->fd = pair[0];
    outbox_init(&to->outbox, to->fd);
    return EEP_OK;
}

/* ---------------------------------------------------------------- end */

uint64_t supervisor_signal(supervisor *self, int seat, int signal_number)
{
    supervisor_seat *of = &self->seat[seat];
    uint64_t time_ns = now_ns();
    return of->pid && pidfd_send_signal(of->pidfd, signal_number, NULL, 0) == 0 ? time_ns : 0;
}

bool supervisor_reap(supervisor *self, int seat, int *wait_status_out)
{
    supervisor_seat *of = &self->seat[seat];
    if (!of->pid || waitpid(of->pid, wait_status_out, WNOHANG) != of->pid) {
        return false;
    }
    close(of->pidfd);
    of->pidfd = -1;
    of->pid = 0;
    return true;
}

void supervisor_hang_up(supervisor *self, int seat)
{
    supervisor_seat *of = &self->seat[seat];
    if (of->fd >= 0) {
        outbox_destroy(&of->outbox);
        close(of->fd);
        of->fd = -1;
    }
}

/* ---------------------------------------------------------------- burning */

static void burn(double seconds, pid_t parent)
{
    volatile uint64_t sum = 0;
    uint64_t end_ns = now_ns() + (uint64_t)(seconds * 1e9);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpriority(PRIO_PROCESS, 0, RANK_JOINER_NICE);
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
    pid_t parent = getpid(), pid = fork();
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
    for (int s = 0; s < self->num_seats; s++) {
        supervisor_seat *of = &self->seat[s];
        if (of->pid) {
            pidfd_send_signal(of->pidfd, SIGKILL, NULL, 0);
            waitpid(of->pid, NULL, 0);
            close(of->pidfd);
        }
        supervisor_hang_up(self, s);
    }
    for (int i = 0; i < self->num_burners; i++) {
        kill(self->burners[i], SIGKILL);
        waitpid(self->burners[i], NULL, 0);
    }
    free(self->burners);
    free(self->seat);
    free(self);
}
