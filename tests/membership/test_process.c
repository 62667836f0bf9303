/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at processes: only the kernel's word ends one. */
#include "membership/process/host.h"
#include "membership/process/process.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080 /* of Linux 5.6 */
#endif

TestSuite(process, .timeout = 20);

static pid_t child_that_waits(void)
{
    pid_t child = fork();

    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        for (;;) {
            pause();
        }
    }
    cr_assert_gt(child, 0);
    return child;
}

Test(process, a_zombie_has_ended_and_so_has_one_that_was_reaped)
{
    pid_t child = child_that_waits();
    uint64_t start = eepi_process_start(child);
    int fd = eepi_process_watch(child, start);
    struct pollfd set = {.fd = fd, .events = POLLIN};

    cr_assert_neq(start, 0);
    cr_assert_geq(fd, 0);
    cr_expect_eq(eepi_process_look(child, start), EEPI_PROCESS_RUNS);
    cr_expect_eq(eepi_process_look(child, start + 1), EEPI_PROCESS_GONE, "another process");
    eepi_process_kill(fd);
    cr_assert_eq(poll(&set, 1, 10000), 1);
    cr_expect_eq(eepi_process_look(child, start), EEPI_PROCESS_GONE);
    cr_expect_eq(eepi_process_watch(child, start), -1);
    waitpid(child, NULL, 0);
    cr_expect_eq(eepi_process_look(child, start), EEPI_PROCESS_GONE);
    close(fd);
}

static void *wait_for_ever(void *nothing)
{
    for (;;) {
        pause();
    }
    return nothing;
}

/* Its leader has ended alone, and its other thread may store: that is no sign of an end (P8). */
Test(process, P8_a_process_runs_as_long_as_any_thread_has_memory)
{
    int ready[2];
    char byte;
    cr_assert_eq(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        pthread_t other;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (pthread_create(&other, NULL, wait_for_ever, NULL) != 0 ||
            write(ready[1], "x", 1) != 1) {
            _exit(1);
        }
        pthread_exit(NULL);
    }
    uint64_t start = eepi_process_start(child);
    struct pollfd set = {.events = POLLIN};
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    for (int i = 0; i < 100; i++) { /* the leader ends meanwhile */
        cr_expect_eq(eepi_process_look(child, start), EEPI_PROCESS_RUNS);
        usleep(200);
    }
    set.fd = eepi_process_watch(child, start);
    cr_assert_geq(set.fd, 0, "it can be watched until it is gone");
    cr_expect_eq(poll(&set, 1, 0), 0, "it is not gone");
    eepi_process_kill(set.fd);
    cr_assert_eq(poll(&set, 1, 10000), 1);
    cr_expect_eq(eepi_process_look(child, start), EEPI_PROCESS_GONE);
    waitpid(child, NULL, 0);
    close(set.fd);
}

/* Rule N9: a name of the operator's stands for the host; else a pid namespace is a host. */
Test(process, N9_a_host_has_one_number_for_all_of_its_processes)
{
    int status = 0;
    uint64_t host;
    pid_t child;

    cr_assert_eq(unsetenv(EEPI_HOST_VARIABLE), 0);
    host = eepi_host_id();
    cr_expect_neq(host, 0);
    child = fork();
    if (child == 0) {
        _exit(eepi_host_id() != host);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);

    cr_assert_eq(setenv(EEPI_HOST_VARIABLE, "rack-7", 1), 0);
    cr_expect_neq(eepi_host_id(), host);
    host = eepi_host_id();
    cr_expect_eq(eepi_host_id(), host);
    cr_assert_eq(setenv(EEPI_HOST_VARIABLE, "rack-8", 1), 0);
    cr_expect_neq(eepi_host_id(), host);
}

/* There /proc shows another start time of the same process. */
Test(process, another_time_namespace_is_another_home)
{
    uint64_t home = eepi_process_home();
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        pid_t inside = unshare(CLONE_NEWTIME) == 0 ? fork() : -1;
        if (inside == 0) { /* it lives there, and its parent does not */
            _exit(eepi_process_home() == home);
        }
        if (inside > 0 && waitpid(inside, &status, 0) == inside) {
            _exit(eepi_process_home() == home ? WEXITSTATUS(status) : 3);
        }
        _exit(2);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status));
    if (WEXITSTATUS(status) == 2) {
        cr_skip("no time namespace can be made here");
    }
    cr_expect_eq(WEXITSTATUS(status), 0);
}

Test(process, one_that_cannot_be_looked_at_has_not_ended)
{
    pid_t child = child_that_waits();
    uint64_t start = eepi_process_start(child);
    struct rlimit limit, none;

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){0, limit.rlim_max};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    eepi_process_state state = eepi_process_look(child, start);
    int fd = eepi_process_watch(child, start);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    cr_expect_eq(state, EEPI_PROCESS_RUNS);
    cr_expect_eq(fd, -1);
}
