/* libeep as a guest in an engine's process: the process's signals stay the engine's. */
#include "context_fixture.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The signals that a thread of this process blocks, and its name. */
static uint64_t blocked_by(const char *task, char name_out[32])
{
    char path[300], line[200];
    uint64_t blocked = 0;
    FILE *status;

    snprintf(path, sizeof(path), "/proc/self/task/%s/status", task);
    status = fopen(path, "r");
    if (!status)
        return UINT64_MAX; /* it ended */
    while (fgets(line, sizeof(line), status)) {
        sscanf(line, "Name: %31s", name_out);
        if (sscanf(line, "SigBlk: %lx", &blocked) == 1)
            break;
    }
    fclose(status);
    return blocked;
}

#define BIT(signal) (1ull << ((signal)-1))
static void check_threads(int *num_out)
{
    const uint64_t wanted = BIT(SIGTERM) | BIT(SIGINT) | BIT(SIGHUP) | BIT(SIGUSR1) | BIT(SIGCHLD);
    const uint64_t faults = BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGFPE) | BIT(SIGILL);
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;

    cr_assert_not_null(tasks);
    while ((entry = readdir(tasks))) {
        char name[32] = "?";
        uint64_t blocked;

        if (entry->d_name[0] == '.' || atoi(entry->d_name) == (int)getpid())
            continue;
        blocked = blocked_by(entry->d_name, name);
        if (blocked == UINT64_MAX)
            continue;
        cr_expect_eq(blocked & wanted, wanted, "thread %s blocks %lx only", name, blocked);
        if (strncmp(name, "eep-", 4) == 0) /* other libraries may do as they like */
            cr_expect_eq(blocked & faults, 0, "thread %s blocks its own faults: %lx", name,
                         blocked);
        ++*num_out;
    }
    closedir(tasks);
}

/* An engine that blocks SIGTERM after it opened everything, and takes it by sigwait, gets it. */
Test(guest, signals_of_the_process_reach_the_engine)
{
    const struct timespec patience = {10, 0};
    int num_threads = 0;
    sigset_t term;
    world w;

    world_open(&w, 1, 1);
    w.config.num_experts = WORLD_SLOTS;
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_expect_eq(rank_step(r, 1), EEP_OK, "%s", r->text);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    check_threads(&num_threads);
    cr_expect_geq(num_threads, 4, "store, stream, service and heartbeat have threads");
    cr_assert_eq(kill(getpid(), SIGTERM), 0);
    cr_expect_eq(sigtimedwait(&term, NULL, &patience), SIGTERM);
    world_close(&w);
}
