/* SPDX-License-Identifier: Apache-2.0 */
/* Does a bell ring without an end? Processes whose bells hang fork, end threads, are stopped and
 * are traced as by a debugger, for so many seconds. Now and then one of them is killed, and all
 * others must hear that.
 *
 *     bell-soak SECONDS [SEED]      exit status 0: no false bell, and no missed one */
#include "membership/process/bell.h"

#include "experiments/base/random.h"
#include "graphs/base/clock.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEATS = 8, TURN_US = 20000, KILL_EVERY = 100, HEAR_US = 20000000, MOST_STOP_US = 400000 };

typedef struct shared {
    eepk_window_header headers[SEATS];
    uint32_t generation[SEATS];   /* of the process in that seat */
    uint32_t heard[SEATS][SEATS]; /* by whom, of whom: the newest generation */
    uint32_t open[SEATS];         /* its bell hangs, and it watches */
    uint64_t forks[SEATS], threads[SEATS];
} shared;

static shared *all;

static void hear(void *user, int32_t seat, uint32_t generation, eepi_bell_word said)
{
    const int self = *(const int *)user;

    (void)said;
    __atomic_store_n(&all->heard[self][seat], generation, __ATOMIC_SEQ_CST);
}

static void *end_at_once(void *argument)
{
    return argument;
}

static void act(int self, uint64_t *random)
{
    pthread_t thread;

    if (random_next(random) % 2 == 0) {
        const pid_t child = fork();
        if (child == 0) {
            _exit(0);
        }
        all->forks[self] += child > 0 && waitpid(child, NULL, 0) == child;
    } else if (pthread_create(&thread, NULL, end_at_once, NULL) == 0) {
        (void)pthread_join(thread, NULL);
        all->threads[self]++;
    }
}

static void watch_all(eepi_bell *bell, int self, uint32_t *watched)
{
    for (int seat = 0; seat < SEATS; seat++) {
        const uint32_t generation = __atomic_load_n(&all->generation[seat], __ATOMIC_SEQ_CST);
        if (seat == self || generation == watched[seat] ||
            !__atomic_load_n(&all->open[seat], __ATOMIC_SEQ_CST)) {
            continue;
        }
        eepi_bell_unwatch(bell, seat);
        eepi_bell_watch(bell, seat, generation, &all->headers[seat]);
        watched[seat] = generation;
    }
}

/* In a process of its own; it never returns. */
static void live(int self, uint64_t seed)
{
    const eepi_bell_config config = {.seat = self, .max_ranks = SEATS, .rang = hear, .user = &self};
    uint64_t random = seed + (uint64_t)self;
    uint32_t watched[SEATS] = {0};
    eepi_bell *bell = NULL;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (eepi_bell_open(&config, &all->headers[self], &bell) != EEP_OK) {
        _exit(1);
    }
    __atomic_store_n(&all->open[self], 1, __ATOMIC_SEQ_CST);
    for (;;) {
        watch_all(bell, self, watched);
        act(self, &random);
        usleep(TURN_US);
    }
}

static pid_t start(int seat, uint64_t seed)
{
    __atomic_store_n(&all->open[seat], 0, __ATOMIC_SEQ_CST);
    memset(&all->headers[seat], 0, sizeof all->headers[seat]);
    const pid_t child = fork();
    if (child == 0) {
        live(seat, seed);
    }
    while (child > 0 && !__atomic_load_n(&all->open[seat], __ATOMIC_SEQ_CST)) {
        usleep(1000);
    }
    __atomic_add_fetch(&all->generation[seat], 1, __ATOMIC_SEQ_CST);
    return child;
}

/* As a debugger that attaches, looks and goes. */
static void trace(pid_t pid)
{
    int status;

    if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) == 0) {
        (void)waitpid(pid, &status, 0);
        usleep(TURN_US);
        (void)ptrace(PTRACE_DETACH, pid, NULL, NULL);
    }
}

/* What anybody has heard of a process that lives. */
static int num_false(void)
{
    int num = 0;

    for (int self = 0; self < SEATS; self++) {
        for (int seat = 0; seat < SEATS; seat++) {
            num += self != seat && all->heard[self][seat] == all->generation[seat];
        }
    }
    return num;
}

static int num_missed(int dead)
{
    int num = 0;

    for (int self = 0; self < SEATS; self++) {
        num += self != dead &&
               __atomic_load_n(&all->heard[self][dead], __ATOMIC_SEQ_CST) != all->generation[dead];
    }
    return num;
}

/* The others hear it; a new process takes the seat. Returns how many did not. */
static int kill_one(pid_t *pids, int seat, uint64_t seed, uint64_t *longest_us)
{
    int missed;

    usleep(2 * TURN_US + MOST_STOP_US); /* all watch it */
    (void)kill(pids[seat], SIGKILL);
    const uint64_t killed_us = eepi_now_us();
    while ((missed = num_missed(seat)) > 0 && eepi_now_us() < killed_us + HEAR_US) {
        usleep(100);
    }
    if (eepi_now_us() - killed_us > *longest_us) {
        *longest_us = eepi_now_us() - killed_us;
    }
    (void)waitpid(pids[seat], NULL, 0);
    pids[seat] = start(seat, seed);
    return missed;
}

int main(int argc, char **argv)
{
    const double seconds = argc > 1 ? strtod(argv[1], NULL) : 0;
    uint64_t random = argc > 2 ? strtoull(argv[2], NULL, 0) : 1, turns = 0, longest_us = 0;
    uint64_t stops = 0, traces = 0, kills = 0, forks = 0, threads = 0;
    int missed = 0, wrong = 0;
    pid_t pids[SEATS];

    if (seconds <= 0) {
        fprintf(stderr, "usage: bell-soak SECONDS [SEED]\n");
        return 2;
    }
    all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) {
        perror("bell-soak");
        return 2;
    }
    for (int seat = 0; seat < SEATS; seat++) {
        pids[seat] = start(seat, random_next(&random));
    }
    const uint64_t end_us = eepi_now_us() + (uint64_t)(seconds * 1e6);
    while (eepi_now_us() < end_us && wrong == 0 && missed == 0) {
        const int seat = (int)(random_next(&random) % SEATS);
        usleep(TURN_US);
        if (++turns % KILL_EVERY == 10) {
            missed += kill_one(pids, seat, random_next(&random), &longest_us);
            kills++;
        } else if (random_next(&random) % 2 == 0) {
            (void)kill(pids[seat], SIGSTOP);
            usleep((useconds_t)(random_next(&random) % MOST_STOP_US));
            (void)kill(pids[seat], SIGCONT);
            stops++;
        } else {
            trace(pids[seat]);
            traces++;
        }
        wrong = num_false();
    }
    for (int seat = 0; seat < SEATS; seat++) {
        forks += all->forks[seat];
        threads += all->threads[seat];
        (void)kill(pids[seat], SIGKILL);
    }
    printf("bell-soak: %.0f s, %d processes: %llu forks, %llu ends of threads, %llu stops, %llu "
           "times traced: %d false bells; %llu kills: %d not heard, all others within %.1f ms\n",
           seconds, SEATS, (unsigned long long)forks, (unsigned long long)threads,
           (unsigned long long)stops, (unsigned long long)traces, wrong, (unsigned long long)kills,
           missed, (double)longest_us * 1e-3);
    return wrong != 0 || missed != 0;
}
