/* SPDX-License-Identifier: Apache-2.0 */
/* The process around a context: its namespaces, the holder of a seat that was not heard, and its
 * limit of descriptors. The suite is that of test_context_refused.c. */
#include "graphs/base/descriptors.h"
#include "membership/process/process.h"
#include "membership/process/seat_file.h"
#include "tests/lib/context_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080 /* of Linux 5.6 */
#endif

/* For children: a clock of boot that is 100,000 s ahead, as /proc shows start times by. */
static int shift_clock(void)
{
    static const char ahead[] = "boottime 100000 0";
    int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
    int shifted = fd >= 0 && write(fd, ahead, sizeof ahead - 1) == (ssize_t)sizeof ahead - 1;

    if (fd >= 0) {
        close(fd);
    }
    return shifted;
}

/* In a namespace of its own: does eep_store_forget refuse, and eep_open both a held seat and a free
 * one? The answer is a byte in `say`: 'r' refused, 's' no such namespace can be made, or what went
 * wrong. */
static void try_from_namespace(const char *path, int kind, int say)
{
    char answer = 's', error[256] = "";
    eep_context *context;
    eep_device *device;

    if (unshare(kind == CLONE_NEWPID ? CLONE_NEWPID | CLONE_NEWNS : kind) == 0) {
        pid_t child = kind == CLONE_NEWTIME && !shift_clock() ? -1 : fork();
        if (child > 0) {
            waitpid(child, NULL, 0);
            return;
        }
        answer = child == 0 ? 'e' : 's';
        if (child == 0 && kind == CLONE_NEWPID &&
            (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
             mount("proc", "/proc", "proc", 0, NULL) != 0)) {
            answer = 's';
        }
    }
    if (answer == 'e' && (eep_store_forget(path, error, sizeof error) != EEP_ERR_STATE ||
                          !strstr(error, "of another pid or time namespace"))) {
        answer = 'f';
    }
    for (int32_t seat = 0; answer == 'e' && seat <= 2; seat += 2) {
        eep_config config;
        answer = 'd';
        if (eep_device_open("host", 0, &device) != EEP_OK) {
            break;
        }
        world_config(&config);
        config.num_ranks = 2;
        config.max_ranks = 3;
        config.rank = seat;
        config.device = device;
        config.store_path = path;
        answer = eep_open(&config, error, sizeof error, &context) != EEP_ERR_UNSUPPORTED ? 'o'
                 : !strstr(error, "pid namespace or time namespace")                     ? 't'
                 : seat == 2                                                             ? 'r'
                                                                                         : 'e';
        eep_device_close(device);
    }
    (void)!write(say, &answer, 1);
}

/* A joiner in a container that shares the store's folder. What it sees of pids is about others, or
 * has another start time: it must not take a held seat, nor tell anybody that a healthy rank has
 * ended, nor clear the store. */
static void check_namespace(int kind)
{
    world w;
    int go[2], say[2];
    char path[sizeof w.path] = "", answer = 0;
    cr_assert(pipe(go) == 0 && pipe(say) == 0);
    pid_t child = fork(); /* before there are threads */
    if (child == 0) {
        close(go[1]);
        if (read(go[0], path, sizeof path) == (ssize_t)sizeof path) {
            try_from_namespace(path, kind, say[1]);
        }
        _exit(0);
    }
    world_open(&w, 2, 3);
    world_start(&w);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 3);
    cr_assert_eq(write(go[1], w.path, sizeof w.path), (ssize_t)sizeof w.path);
    cr_assert_eq(waitpid(child, NULL, 0), child);
    cr_assert_eq(read(say[0], &answer, 1), 1);
    world_advance(&w, 0, 1, 20);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 1);
    cr_expect_eq(rank_sees(&w.ranks[0], 0, NULL).generation, 1);
    world_check_right(&w);
    world_close(&w);
    if (answer == 's') {
        cr_skip("no such namespace can be made here");
    }
    cr_expect_eq(answer, 'r', "answer '%c'", answer);
}

Test(context_refused, M5_a_process_of_another_pid_namespace_disturbs_nobody)
{
    check_namespace(CLONE_NEWPID);
}

Test(context_refused, M5_a_process_of_another_time_namespace_disturbs_nobody)
{
    check_namespace(CLONE_NEWTIME);
}

/* A process that holds a seat may know an instance that the store has forgotten: none begins before
 * it was heard, or has gone (M8). */
Test(context_refused, M8_no_instance_begins_beside_a_holder_that_was_not_heard)
{
    world w;
    eepi_seat_holder holder = {.pid = (int32_t)getpid(),
                               .pid_start = eepi_process_start((int32_t)getpid()),
                               .home = eepi_process_home()};
    eepi_seat_holder before;
    world_open(&w, 1, 2);
    w.config.num_experts = WORLD_SLOTS; /* what one rank can hold */
    w.config.join_timeout_us = 300000;
    rank *r = &w.ranks[0];
    cr_assert_eq(eepi_seat_take(w.path, 1, 0, &holder, &before), EEP_OK);
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_expect_eq(eep_join(r->context), EEP_ERR_TIMEOUT, "%s", eep_last_error(r->context));
    cr_assert_eq(eepi_seat_release(w.path, 1, &holder), EEP_OK);
    world_close(&w);
}

/* ------------------------------------------------------------------ descriptors */

static void leave_descriptors(uint64_t num)
{
    struct rlimit limit;

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = eepi_descriptors_look().open + num;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Descriptors run out at any point of the opening: the limit is named, never another cause. */
Test(context_refused, descriptors_that_run_out_are_named)
{
    world w;

    world_open(&w, 2, 8);
    for (uint64_t room = 0; room < 24; room += 3) {
        leave_descriptors(room);
        eep_status status = rank_open(&w, 0);
        if (status == EEP_OK) {
            rank_close(&w.ranks[0]);
            continue;
        }
        cr_expect_eq(status, EEP_ERR_SYSTEM, "room for %d: %d: %s", (int)room, (int)status,
                     w.ranks[0].error);
        cr_expect_not_null(strstr(w.ranks[0].error, "RLIMIT_NOFILE"), "room for %d: %s", (int)room,
                           w.ranks[0].error);
    }
    leave_descriptors(256);
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", w.ranks[0].error);
    rank_close(&w.ranks[0]);
    world_close(&w);
}

/* A limit below what is open makes poll refuse them all: the service goes on without a spin. */
Test(context_refused, a_limit_lowered_below_what_is_open_stops_nobody)
{
    world w;
    struct rlimit before, none;
    struct timespec used;
    double spent_ms;

    world_open(&w, 2, 2);
    world_start(&w);
    world_rest(&w);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 1;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    spent_ms = -(double)used.tv_sec * 1e3 - (double)used.tv_nsec / 1e6;
    poll(NULL, 0, 400); /* the time over which it is watched */
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    spent_ms += (double)used.tv_sec * 1e3 + (double)used.tv_nsec / 1e6;
    cr_expect_lt(spent_ms, 200);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 20);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    world_close(&w);
}
