/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that a program starts: what they begin with, how they end, and how they are waited
 * for. */
#include "experiments/base/child.h"
#include "experiments/base/monotonic.h"
#include "experiments/base/random.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BOUND_MS = 10000 };

/* What comes out of a descriptor until nobody writes to it any more. */
static void read_all(int fd, char *text, size_t bytes)
{
    size_t used = 0;
    ssize_t got = 1;
    while (got > 0 && used + 1 < bytes) {
        got = read(fd, text + used, bytes - 1 - used);
        used += got > 0 ? (size_t)got : 0;
    }
    text[used] = '\0';
    close(fd);
}

static int exit_status(pid_t pid)
{
    int status = 0;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* A shell that runs this; its exit status. Its output and errors are in `text`. */
static int run_shell(child_setup setup, const char *script, char *text, size_t bytes)
{
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    setup.output = setup.errors = ends[1];
    char *const arguments[] = {(char *)"sh", (char *)"-c", (char *)script, NULL};
    pid_t pid = child_exec(&setup, "/bin/sh", arguments, NULL, NULL);
    cr_assert_gt(pid, 0);
    close(ends[1]);
    read_all(ends[0], text, bytes);
    return exit_status(pid);
}

Test(child, has_its_descriptors_and_not_ours)
{
    char text[256], script[160];
    int channel[2], stray = open("/dev/null", O_RDONLY | O_CLOEXEC);
    cr_assert_eq(pipe2(channel, O_CLOEXEC), 0);
    child_setup setup = CHILD_SETUP;
    setup.channel = channel[1];
    snprintf(script, sizeof script,
             "echo out; echo err >&2; echo channel >&3; [ ! -e /proc/$$/fd/%d ] && exit 5",
             fcntl(stray, F_DUPFD_CLOEXEC, 100));
    cr_expect_eq(run_shell(setup, script, text, sizeof text), 5);
    cr_expect_str_eq(text, "out\nerr\n");
    close(channel[1]);
    read_all(channel[0], text, sizeof text);
    cr_expect_str_eq(text, "channel\n");
}

Test(child, a_copy_can_close_the_rest)
{
    int stray = open("/dev/null", O_RDONLY | O_CLOEXEC), channel[2];
    cr_assert_eq(pipe2(channel, O_CLOEXEC), 0);
    int high = fcntl(stray, F_DUPFD_CLOEXEC, 100);
    child_setup setup = CHILD_SETUP;
    setup.channel = channel[1];
    setup.closes_rest = true;
    pid_t pid = child_fork(&setup, NULL);
    if (pid == 0) {
        bool good = fcntl(CHILD_CHANNEL, F_GETFD) == 0 && fcntl(high, F_GETFD) < 0 &&
                    fcntl(CHILD_CHANNEL + 1, F_GETFD) < 0;
        _exit(good ? 0 : 1);
    }
    cr_expect_eq(exit_status(pid), 0);
}

Test(child, blocks_what_it_is_told_to)
{
    char text[256];
    sigset_t some, before;
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    sigprocmask(SIG_BLOCK, &some, &before);
    child_setup setup = CHILD_SETUP;
    cr_expect_eq(run_shell(setup, "kill -TERM $$; echo lives", text, sizeof text), -SIGTERM);
    cr_expect_str_eq(text, "");
    setup.mask = &some;
    cr_expect_eq(run_shell(setup, "kill -TERM $$; echo lives", text, sizeof text), 0);
    cr_expect_str_eq(text, "lives\n");
    sigprocmask(SIG_SETMASK, &before, NULL);
}

Test(child, a_program_that_is_not_there_is_told)
{
    int ends[2];
    char text[256];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    child_setup setup = CHILD_SETUP;
    setup.errors = ends[1];
    char *const arguments[] = {(char *)"none", NULL};
    pid_t pid = child_exec(&setup, "/nowhere/none", arguments, NULL, NULL);
    close(ends[1]);
    read_all(ends[0], text, sizeof text);
    cr_expect(strstr(text, ": cannot start /nowhere/none: No such file or directory\n"), "%s",
              text);
    cr_expect_eq(exit_status(pid), CHILD_NOT_STARTED);
}

Test(child, ends_with_its_parent)
{
    int ends[2];
    char text[8];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    pid_t parent = fork();
    if (parent == 0) {
        if (child_fork(&CHILD_SETUP, NULL) == 0) {
            for (;;) {
                pause(); /* it holds the pipe open for as long as it lives */
            }
        }
        _exit(0);
    }
    cr_expect_eq(exit_status(parent), 0);
    close(ends[1]);
    read_all(ends[0], text, sizeof text); /* for ever, if the child stays */
}

Test(child, waits_have_a_bound, .timeout = 60)
{
    int pidfd = -1, status = 0, signal_like[2];
    pid_t pid = child_fork(&CHILD_SETUP, &pidfd);
    if (pid == 0) {
        for (;;) {
            pause();
        }
    }
    cr_assert(pid > 0 && fcntl(pidfd, F_GETFD) == FD_CLOEXEC);
    double begin_ms = now_ms();
    cr_expect_eq(child_wait(pidfd, -1, 20), CHILD_LATE);
    cr_expect_geq(now_ms() - begin_ms, 19);
    cr_assert_eq(pipe2(signal_like, O_CLOEXEC), 0);
    cr_assert_eq(write(signal_like[1], "x", 1), 1);
    cr_expect_eq(child_wait(pidfd, signal_like[0], BOUND_MS), CHILD_SIGNALLED);
    cr_expect_not(child_has_ended(pid, &status));
    kill(pid, SIGKILL);
    cr_expect_eq(child_wait(pidfd, -1, BOUND_MS), CHILD_ENDED);
    cr_expect_eq(child_wait(pidfd, signal_like[0], BOUND_MS), CHILD_ENDED, "the end goes first");
    errno = 7;
    child_kill(pid, &status);
    cr_expect(errno == 7 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    status = 9;
    cr_expect(child_has_ended(pid, &status) && status == 9, "reaped: nobody knows how");
    child_kill(0, NULL);
}

/* The numbers of the splitmix64 that everybody has: seed 1234567. */
Test(random, is_splitmix64)
{
    uint64_t state = 1234567;
    cr_expect_eq(random_next(&state), 6457827717110365317u);
    cr_expect_eq(random_next(&state), 3203168211198807973u);
    cr_expect_eq(random_next(&state), 9817491932198370423u);
}
