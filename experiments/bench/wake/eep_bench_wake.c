/* SPDX-License-Identifier: Apache-2.0 */
/* What no agreement can be faster than on this machine: processes that are all woken once, and of
 * which each answers once. */
#include "experiments/base/args.h"
#include "experiments/base/monotonic.h"
#include "experiments/base/output.h"
#include "experiments/bench/stats.h"

#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_RANKS = 1024, SETTLE_US = 2000 };

typedef struct wake_options {
    int ranks, rounds;
    args_given given;
} wake_options;

static wake_options options;
static uint32_t *word; /* shared: the number of the round */

static void serve(int fd)
{
    uint32_t seen = 0;

    for (;;) {
        uint32_t now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
        if (now == seen) {
            (void)syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
            continue;
        }
        seen = now;
        if (write(fd, "", 1) != 1) {
            _exit(1);
        }
    }
}

/* Processes begin to wait at their own pace: a round starts when all of them sleep again. */
static void settle(void)
{
    usleep((useconds_t)(SETTLE_US + 50 * options.ranks));
}

/* The seconds from the word until the last answer; < 0: an end closed. */
static double round_once(struct pollfd *fds)
{
    char byte;
    int left = options.ranks;
    const double begin = now_s();

    __atomic_fetch_add(word, 1, __ATOMIC_RELEASE);
    (void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    while (left > 0) {
        if (poll(fds, (nfds_t)options.ranks, -1) <= 0) {
            return -1;
        }
        for (int i = 0; i < options.ranks; i++) {
            if (fds[i].revents && read(fds[i].fd, &byte, 1) != 1) {
                return -1;
            }
            left -= fds[i].revents != 0;
        }
    }
    return now_s() - begin;
}

static bool start(pid_t *pids, struct pollfd *fds)
{
    for (int i = 0; i < options.ranks; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
            return false;
        }
        pids[i] = fork();
        if (pids[i] == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve(pair[1]);
        }
        close(pair[1]);
        fds[i] = (struct pollfd){.fd = pair[0], .events = POLLIN};
        if (pids[i] < 0) {
            return false;
        }
    }
    return true;
}

static int measure(void)
{
    static struct pollfd fds[MAX_RANKS];
    static pid_t pids[MAX_RANKS];
    double *values = calloc((size_t)options.rounds, sizeof *values);
    bool good = values && start(pids, fds);

    for (int round = 0; good && round < options.rounds; round++) {
        settle();
        values[round] = round_once(fds) * 1e3;
        good = values[round] >= 0;
    }
    for (int i = 0; i < options.ranks && pids[i] > 0; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    if (good) {
        const bench_stats s = bench_stats_of(values, (size_t)options.rounds);
        printf("%d processes woken once, each answers once: p50 %.3f p99 %.3f ms, n %zu\n",
               options.ranks, s.p50, s.p99, s.n);
    } else {
        perror("eep-bench-wake");
    }
    free(values);
    return good ? 0 : 1;
}

#define AT(field) ARGS_AT(wake_options, field)
static const args_row option_rows[] = {
    {"--ranks", ARGS_WHOLE, AT(ranks), 1, MAX_RANKS, NULL, "N", "64", "processes"},
    {"--rounds", ARGS_WHOLE, AT(rounds), 1, 100000, NULL, "N", "30", "rounds"},
};
static const args_table table = {
    .program = "eep-bench-wake",
    .synopsis = "[OPTION]...",
    .about = "How long it takes to wake processes once and to hear one answer of each.",
    .section = {ARGS_SECTION(NULL, option_rows)},
    .given = offsetof(wake_options, given),
};

int main(int argc, char **argv)
{
    int result = 0;

    output_begin();
    if (!args_begin(&table, &options, argc, argv, &result)) {
        return result;
    }
    word = mmap(NULL, sizeof *word, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (word == MAP_FAILED) {
        perror("eep-bench-wake");
        return 1;
    }
    return measure();
}
