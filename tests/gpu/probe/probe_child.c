/* SPDX-License-Identifier: Apache-2.0 */
/* Start, talk to and kill the processes that probes consist of. */
#include "tests/gpu/probe/probe_child.h"
#include "experiments/base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KILL_BOUND_MS = 20000 };

void probe_pause_ms(uint32_t ms)
{
    (void)poll(NULL, 0, (int)ms);
}

/* The program's name is its path, beside which the plugin is looked for. */
int probe_child_start(const probe_how *how, probe_child *child_out)
{
    char path[4096] = "", seconds[16];
    ssize_t path_bytes = readlink("/proc/self/exe", path, sizeof path - 1);
    char *const arguments[] = {
        path,    "--role", (char *)how->role, "--device", (char *)how->device, "--seconds",
        seconds, NULL};
    child_setup setup = CHILD_SETUP;
    int ends[2];

    signal(SIGCHLD, SIG_DFL); /* ignored, as a parent may leave it, pids are not kept */
    snprintf(seconds, sizeof seconds, "%u", how->seconds);
    *child_out = (probe_child){0, -1, -1};
    if (path_bytes <= 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return -1;
    }
    setup.channel = ends[1];
    setup.life_s = PROBE_LIFE_S;
    pid_t pid = child_exec(&setup, path, arguments, NULL, &child_out->pidfd);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return -1;
    }
    child_out->pid = pid;
    child_out->socket = ends[0];
    return 0;
}

/* It has ended, or is given up: give back what there is of it. */
static void put_away(probe_child *child, int has_ended)
{
    if (has_ended) {
        (void)waitpid(child->pid, NULL, 0); /* returns at once */
    }
    close(child->pidfd);
    close(child->socket);
    child->pid = 0;
}

int64_t probe_child_kill(probe_child *child)
{
    struct pollfd ended = {.fd = child->pidfd, .events = POLLIN};
    uint64_t begin_us = eepi_now_us();
    int64_t us = -1;

    if (child->pid == 0) {
        return 0;
    }
    kill(child->pid, SIGKILL);
    if (poll(&ended, 1, KILL_BOUND_MS) == 1) {
        us = (int64_t)(eepi_now_us() - begin_us);
    }
    put_away(child, us >= 0);
    return us;
}

/* Note what /proc/<pid>/stat shows for the first time. The name in it may hold anything: what
 * counts stands behind its last bracket. */
static void look_at_stat(int stat_fd, probe_marks *marks)
{
    char text[1024], *at, state = '?';
    unsigned long long vsize = 1;
    ssize_t n = pread(stat_fd, text, sizeof text - 1, 0);
    uint64_t now_ns = eepi_now_ns();

    if (n <= 0) {
        return;
    }
    text[n] = '\0';
    at = strrchr(text, ')');
    if (!at || sscanf(at + 1,
                      " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
                      "%*d %*u %llu",
                      &state, &vsize) != 2) {
        return;
    }
    if (vsize == 0 && marks->vsize0_ns == 0) {
        marks->vsize0_ns = now_ns;
    }
    if ((state == 'Z' || state == 'X') && marks->zombie_ns == 0) {
        marks->zombie_ns = now_ns;
    }
}

/* Once more after the pidfd's word, since all signs are there by then if they ever are. */
int64_t probe_child_kill_marked(probe_child *child, probe_marks *marks_out)
{
    struct pollfd ended = {.fd = child->pidfd, .events = POLLIN};
    probe_marks marks = {0};
    char path[64];
    uint64_t until_ns;
    int stat_fd;

    if (child->pid == 0) {
        return 0;
    }
    snprintf(path, sizeof path, "/proc/%d/stat", (int)child->pid);
    stat_fd = open(path, O_RDONLY | O_CLOEXEC);
    marks.kill_ns = eepi_now_ns();
    until_ns = marks.kill_ns + KILL_BOUND_MS * 1000000ull;
    kill(child->pid, SIGKILL);
    while (marks.pidfd_ns == 0 && eepi_now_ns() < until_ns) {
        look_at_stat(stat_fd, &marks);
        if (poll(&ended, 1, 0) == 1) {
            marks.pidfd_ns = eepi_now_ns();
        }
    }
    look_at_stat(stat_fd, &marks);
    if (stat_fd >= 0) {
        close(stat_fd);
    }
    put_away(child, marks.pidfd_ns != 0);
    *marks_out = marks;
    return marks.pidfd_ns ? (int64_t)((marks.pidfd_ns - marks.kill_ns) / 1000u) : -1;
}

int probe_send(int socket, const probe_message *message)
{
    return send(socket, message, sizeof *message, MSG_NOSIGNAL) == (ssize_t)sizeof *message ? 0
                                                                                            : -1;
}

int probe_receive(int socket, uint64_t timeout_ms, probe_message *message_out)
{
    struct pollfd readable = {.fd = socket, .events = POLLIN};

    memset(message_out, 0, sizeof *message_out);
    if (poll(&readable, 1, (int)timeout_ms) != 1) {
        message_out->status = EEP_ERR_TIMEOUT;
        snprintf(message_out->text, sizeof message_out->text, "no answer within %llu ms",
                 (unsigned long long)timeout_ms);
        return -1;
    }
    if (recv(socket, message_out, sizeof *message_out, 0) == (ssize_t)sizeof *message_out) {
        return 0;
    }
    message_out->status = EEP_ERR_UNREACHABLE;
    snprintf(message_out->text, sizeof message_out->text, "the process has ended");
    return -1;
}
