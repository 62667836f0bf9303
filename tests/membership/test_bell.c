/* SPDX-License-Identifier: Apache-2.0 */
/* Death bells between real processes: what rings them, and what does not. */
#include "membership/process/bell.h"

#include "graphs/base/clock.h"

#include <criterion/criterion.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    SEATS = 3,
    LISTENER = 0,
    DYING = 2,
    GENERATION = 7,
    SOON_US = 20000000, /* before the look that comes without a bell */
    AHEAD_S = 60,
    QUIET_US = 60000
};

/* The clock is ahead of the kernel's, by which a bell looks once a second though nobody rings: that
 * look comes a minute later, and who is heard before has rung. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    const long failed = syscall(SYS_clock_gettime, clock, now);

    now->tv_sec += clock == CLOCK_MONOTONIC ? AHEAD_S : 0;
    return (int)failed;
}

typedef enum action { NOTHING, FORK, END_A_THREAD, CLOSE_AND_RING, CLOSE_IN_SILENCE } action;

static eepk_window_header *headers; /* [SEATS], shared with the children */
static int ready[2];                /* a child writes a byte once it has done its action */
static int heard, heard_seat;
static uint32_t heard_generation;

static void hear(void *user, int32_t seat, uint32_t generation, eepi_bell_word said)
{
    cr_expect_neq(said, EEPI_BELL_HANGS);
    (void)user;
    heard_seat = seat;
    heard_generation = generation;
    __atomic_add_fetch(&heard, 1, __ATOMIC_RELEASE);
}

static eepi_bell *open_bell(int32_t seat)
{
    const eepi_bell_config config = {.seat = seat, .max_ranks = SEATS, .rang = hear};
    eepi_bell *bell = NULL;

    return eepi_bell_open(&config, &headers[seat], &bell) == EEP_OK ? bell : NULL;
}

static void *end_at_once(void *argument)
{
    return argument;
}

/* In the child; it never returns. */
static void live(action does)
{
    eepi_bell *bell = open_bell(DYING);
    pthread_t thread;
    pid_t child;

    if (does == FORK && (child = fork()) == 0) {
        _exit(0);
    } else if (does == FORK) {
        (void)waitpid(child, NULL, 0);
    } else if (does == END_A_THREAD && pthread_create(&thread, NULL, end_at_once, NULL) == 0) {
        (void)pthread_join(thread, NULL);
    } else if (does == CLOSE_AND_RING || does == CLOSE_IN_SILENCE) {
        eepi_bell_close(bell, does == CLOSE_AND_RING);
    }
    if (!bell || write(ready[1], "", 1) != 1) {
        _exit(1);
    }
    for (;;) {
        (void)pause();
    }
}

static pid_t start(action does)
{
    char byte;
    pid_t child;

    headers = mmap(NULL, SEATS * sizeof *headers, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(headers, MAP_FAILED);
    cr_assert_eq(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        live(does);
    }
    cr_assert_gt(child, 0);
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    return child;
}

static eepi_bell *listen_to(void)
{
    eepi_bell *bell = open_bell(LISTENER);

    cr_assert_not_null(bell);
    eepi_bell_watch(bell, DYING, GENERATION, &headers[DYING]);
    return bell;
}

static int wait_to_hear(uint64_t most_us)
{
    const uint64_t until_us = eepi_now_us() + most_us;
    const struct timespec nap = {0, 100000};

    while (__atomic_load_n(&heard, __ATOMIC_ACQUIRE) == 0 && eepi_now_us() < until_us) {
        nanosleep(&nap, NULL);
    }
    return __atomic_load_n(&heard, __ATOMIC_ACQUIRE);
}

static void finish(pid_t child, eepi_bell *bell)
{
    (void)kill(child, SIGKILL);
    cr_assert_eq(waitpid(child, NULL, 0), child);
    eepi_bell_close(bell, false);
    (void)munmap(headers, SEATS * sizeof *headers);
    (void)close(ready[0]);
    (void)close(ready[1]);
}

Test(bell, P8_a_killed_process_rings_once)
{
    const pid_t child = start(NOTHING);
    eepi_bell *bell = listen_to();

    cr_expect_eq(wait_to_hear(QUIET_US), 0);
    cr_expect_eq(eepi_bell_says(&headers[DYING]), EEPI_BELL_HANGS);
    (void)kill(child, SIGKILL);
    cr_expect_eq(wait_to_hear(SOON_US), 1);
    cr_expect_eq(heard_seat, DYING);
    cr_expect_eq(heard_generation, GENERATION);
    cr_expect_eq(eepi_bell_says(&headers[DYING]), EEPI_BELL_ENDS);
    finish(child, bell);
    cr_expect_eq(heard, 1);
}

Test(bell, what_rang_before_is_heard_when_it_is_watched)
{
    const pid_t child = start(NOTHING);
    eepi_bell *bell;

    (void)kill(child, SIGKILL);
    for (uint64_t until_us = eepi_now_us() + SOON_US;
         eepi_bell_says(&headers[DYING]) == EEPI_BELL_HANGS && eepi_now_us() < until_us;) {
        sched_yield();
    }
    bell = listen_to();
    cr_expect_eq(wait_to_hear(SOON_US), 1);
    finish(child, bell);
}

static void expect_silence(action does, int sig)
{
    const pid_t child = start(does);
    eepi_bell *bell = listen_to();

    if (sig) {
        (void)kill(child, sig);
    }
    cr_expect_eq(wait_to_hear(QUIET_US), 0);
    cr_expect_eq(eepi_bell_says(&headers[DYING]), EEPI_BELL_HANGS);
    finish(child, bell);
}

Test(bell, a_process_that_stops_does_not_ring)
{
    expect_silence(NOTHING, SIGSTOP);
}

Test(bell, a_child_that_ends_does_not_ring)
{
    expect_silence(FORK, 0);
}

Test(bell, a_thread_that_ends_does_not_ring)
{
    expect_silence(END_A_THREAD, 0);
}

Test(bell, a_bell_that_is_taken_down_does_not_ring)
{
    expect_silence(CLOSE_IN_SILENCE, 0);
}

Test(bell, an_orderly_close_rings_though_the_process_lives)
{
    const pid_t child = start(CLOSE_AND_RING);
    eepi_bell *bell = listen_to();

    cr_expect_eq(wait_to_hear(SOON_US), 1);
    cr_expect_eq(kill(child, 0), 0);
    cr_expect_eq(eepi_bell_says(&headers[DYING]), EEPI_BELL_CLOSED);
    finish(child, bell);
}

Test(bell, whoever_is_not_watched_is_not_heard)
{
    const pid_t child = start(NOTHING);
    eepi_bell *bell = listen_to();

    eepi_bell_unwatch(bell, DYING);
    (void)kill(child, SIGKILL);
    cr_expect_eq(wait_to_hear(QUIET_US), 0);
    finish(child, bell);
}

/* Places in the list of waits are few: ranks that have closed take none. */
Test(bell, ranks_that_have_closed_do_not_keep_others_from_being_heard)
{
    enum { NUM = 140, LAST = NUM - 1 };
    const eepi_bell_config config = {.seat = LISTENER, .max_ranks = NUM, .rang = hear};
    const pid_t child = start(NOTHING);
    eepk_window_header closed = {.magic = 0};
    eepi_bell *bell = NULL;

    for (int i = 0; i < EEPK_BELL_WORDS; i++) {
        closed.bell[i].futex = FUTEX_OWNER_DIED | 1u;
    }
    cr_assert_eq(eepi_bell_open(&config, &headers[LISTENER], &bell), EEP_OK);
    for (int seat = 1; seat < LAST; seat++) {
        eepi_bell_watch(bell, seat, GENERATION, &closed);
    }
    eepi_bell_watch(bell, LAST, GENERATION, &headers[DYING]);
    for (uint64_t until_us = eepi_now_us() + SOON_US;
         __atomic_load_n(&heard, __ATOMIC_ACQUIRE) < LAST - 1 && eepi_now_us() < until_us;) {
        sched_yield();
    }
    cr_assert_eq(heard, LAST - 1, "those that have closed");
    (void)kill(child, SIGKILL);
    for (uint64_t until_us = eepi_now_us() + SOON_US;
         __atomic_load_n(&heard, __ATOMIC_ACQUIRE) < LAST && eepi_now_us() < until_us;) {
        sched_yield();
    }
    cr_expect_eq(heard, LAST, "without the bell it takes a minute");
    cr_expect_eq(heard_seat, LAST);
    finish(child, bell);
}
