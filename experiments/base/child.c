/* SPDX-License-Identifier: Apache-2.0 */
/* Start, wait for and end child processes. */
#include "experiments/base/child.h"

#include "experiments/base/monotonic.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---------------------------------------------------------------- in the child */

/* Nothing but what is async-signal-safe: other threads of the parent may have held any lock. */

static void write_text(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0) {
        return; /* nobody is there to be told */
    }
}

static _Noreturn void give_up(const char *file, int failure)
{
    const char *why = strerrordesc_np(failure);
    write_text(program_invocation_short_name);
    write_text(": cannot start ");
    write_text(file);
    write_text(": ");
    write_text(why ? why : "unknown error");
    write_text(strncmp(file, "/proc/", 6) == 0 ? ": is /proc mounted?\n" : "\n");
    _exit(CHILD_NOT_STARTED);
}

static bool move(int fd, int target)
{
    if (fd == target) {
        return fcntl(fd, F_SETFD, 0) == 0; /* dup2 onto itself would keep close-on-exec */
    }
    return fd < 0 || dup2(fd, target) >= 0;
}

/* `parent` may have ended before the death signal was asked for. */
static bool begin(const child_setup *setup, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, setup->mask ? setup->mask : &none, NULL);
    if (prctl(PR_SET_PDEATHSIG, setup->death_signal) != 0 || getppid() != parent) {
        return false;
    }
    if (setup->has_own_group) {
        setpgid(0, 0);
    }
    if (setup->life_s) {
        alarm(setup->life_s); /* it outlives an exec */
    }
    if (!move(setup->channel, CHILD_CHANNEL) || !move(setup->output, STDOUT_FILENO) ||
        !move(setup->errors, STDERR_FILENO)) {
        return false;
    }
    if (setup->closes_rest) {
        closefrom(setup->channel >= 0 ? CHILD_CHANNEL + 1 : STDERR_FILENO + 1);
    }
    return true;
}

/* ---------------------------------------------------------------- in the parent */

/* Its pid, 0 in the child, or -1 with errno, all reaped. */
static pid_t watch(pid_t pid, int *pidfd_out)
{
    if (pid <= 0 || !pidfd_out) {
        return pid;
    }
    *pidfd_out = (int)syscall(SYS_pidfd_open, pid, 0); /* with close-on-exec */
    if (*pidfd_out < 0) {
        child_kill(pid, NULL);
        return -1;
    }
    return pid;
}

pid_t child_fork(const child_setup *setup, int *pidfd_out)
{
    pid_t parent = getpid(), pid = fork();
    if (pid == 0 && !begin(setup, parent)) {
        _exit(CHILD_NOT_STARTED);
    }
    return watch(pid, pidfd_out);
}

pid_t child_exec(const child_setup *setup, const char *file, char *const arguments[],
                 char *const variables[], int *pidfd_out)
{
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        if (!begin(setup, parent)) {
            _exit(CHILD_NOT_STARTED);
        }
        execve(file, arguments, variables ? variables : environ);
        give_up(file, errno);
    }
    return watch(pid, pidfd_out);
}

bool child_has_ended(pid_t pid, int *status_out)
{
    return waitpid(pid, status_out, WNOHANG) != 0;
}

void child_kill(pid_t pid, int *status_out)
{
    int failure = errno;
    if (pid > 0) { /* not waited for yet, hence its pid cannot be another's */
        kill(pid, SIGKILL);
        while (waitpid(pid, status_out, 0) < 0 && errno == EINTR) {
        }
    }
    errno = failure;
}

child_event child_wait(int pidfd, int signal_fd, int bound_ms)
{
    struct pollfd set[] = {{.fd = pidfd, .events = POLLIN}, {.fd = signal_fd, .events = POLLIN}};
    double until_ms = now_ms() + bound_ms;
    int left_ms = bound_ms;
    while (poll(set, 2, left_ms) < 0 && errno == EINTR) {
        double left = until_ms - now_ms();
        left_ms = bound_ms < 0 ? -1 : left > 0 ? (int)left + 1 : 0;
    }
    return set[0].revents ? CHILD_ENDED : set[1].revents ? CHILD_SIGNALLED : CHILD_LATE;
}
