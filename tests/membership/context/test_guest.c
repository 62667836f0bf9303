/* SPDX-License-Identifier: Apache-2.0 */
/* libeep as a guest: in an engine's process, whose signals stay the engine's, and in a front, which
 * is no rank and follows the views. */
#include "tests/lib/context_fixture.h"

#include "eep/watch.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <unistd.h>

/* The signals that a thread of this process blocks, and its name. */
static uint64_t blocked_by(const char *task, char name_out[32])
{
    char path[300], line[200];
    uint64_t blocked = 0;
    FILE *status;

    snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
    status = fopen(path, "r");
    if (!status) {
        return UINT64_MAX; /* it ended */
    }
    while (fgets(line, sizeof line, status)) {
        sscanf(line, "Name: %31s", name_out);
        if (sscanf(line, "SigBlk: %lx", &blocked) == 1) {
            break;
        }
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

        if (entry->d_name[0] == '.' || atoi(entry->d_name) == (int)getpid()) {
            continue;
        }
        blocked = blocked_by(entry->d_name, name);
        if (blocked == UINT64_MAX) {
            continue;
        }
        cr_expect_eq(blocked & wanted, wanted, "thread %s blocks %lx only", name, blocked);
        if (strncmp(name, "eep-", 4) == 0) { /* other libraries may do as they like */
            cr_expect_eq(blocked & faults, 0, "thread %s blocks its own faults: %lx", name,
                         blocked);
        }
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

/* A front sees each committed view once, and goes on when the store was away. */
Test(guest, a_front_watches_the_views)
{
    eep_watch *watch = NULL;
    eep_view_info view;
    eep_seat seats[WORLD_SEATS];
    char error[256] = "";
    world w;

    cr_expect_eq(eep_watch_open("/nonexistent/store", 1000, error, sizeof error, &watch),
                 EEP_ERR_UNREACHABLE);
    cr_expect(strstr(error, "/nonexistent/store"), "%s", error);
    world_open(&w, 2, 3);
    w.config.num_experts = WORLD_SLOTS;
    cr_assert_eq(eep_watch_open(w.path, WORLD_PATIENT_US, error, sizeof error, &watch), EEP_OK,
                 "%s", error);
    cr_expect_geq(eep_watch_fd(watch), 0);
    cr_expect_eq(eep_watch_next(watch, 1000, EEP_SIZED(&view), NULL, 0), EEP_ERR_TIMEOUT);
    world_start(&w);
    cr_assert_eq(eep_watch_next(watch, 10000000, EEP_SIZED(&view), seats, WORLD_SEATS), EEP_OK);
    cr_expect(view.epoch == 1 && view.num_active == 2 && view.max_ranks == 3 && view.is_serving);
    cr_expect(seats[1].state == EEP_SEAT_ACTIVE && seats[1].generation == 1);
    cr_expect_eq(seats[2].state, EEP_SEAT_VACANT);
    cr_expect_eq(eep_watch_next(watch, 0, EEP_SIZED(&view), NULL, 0), EEP_ERR_TIMEOUT);
    rank_close(&w.ranks[1]);
    do {
        cr_assert_eq(eep_watch_next(watch, 10000000, EEP_SIZED(&view), seats, 2), EEP_OK);
    } while (!view.is_serving);
    cr_expect(view.epoch >= 2 && view.num_active == 1);
    cr_expect_neq(seats[1].state, EEP_SEAT_ACTIVE);
    eep_store_close(w.store);
    cr_expect_eq(eep_watch_next(watch, 30000, EEP_SIZED(&view), NULL, 0), EEP_ERR_TIMEOUT);
    cr_expect_eq(eep_watch_fd(watch), -1);
    world_serve(&w);
    const uint64_t end_ms = world_now_ms() + WORLD_WAIT_MS;
    while (eep_watch_fd(watch) < 0 && world_now_ms() < end_ms) {
        cr_assert_eq(eep_watch_next(watch, 20000, EEP_SIZED(&view), NULL, 0), EEP_ERR_TIMEOUT);
    }
    cr_expect_geq(eep_watch_fd(watch), 0);
    cr_expect_eq(eep_watch_next(watch, 200000, EEP_SIZED(&view), NULL, 0), EEP_ERR_TIMEOUT,
                 "the same view again");
    cr_expect_eq(eep_watch_next(watch, 0, EEP_SIZED(&view), seats, -1), EEP_ERR_INVALID);
    cr_expect(strstr(eep_error_text(), "num_seats is -1"), "%s", eep_error_text());
    eep_watch_close(watch);
    world_close(&w);
}

/* Nobody is left to serve, whatever the phase of the last view. */
Test(guest, a_front_sees_the_end_of_an_instance)
{
    eep_watch *watch = NULL;
    eep_view_info view;
    eep_status status = EEP_OK;
    world w;

    world_open(&w, 1, 1);
    w.config.num_experts = WORLD_SLOTS;
    rank *r = &w.ranks[0];
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_assert_eq(eep_watch_open(w.path, WORLD_PATIENT_US, NULL, 0, &watch), EEP_OK);
    cr_assert_eq(eep_watch_next(watch, 10000000, EEP_SIZED(&view), NULL, 0), EEP_OK);
    cr_expect(view.is_serving && view.num_active == 1);
    cr_assert_eq(eep_instance_end(r->context), EEP_OK);
    while (status == EEP_OK || status == EEP_ERR_ABORTED) {
        status = rank_step(r, 0);
    }
    cr_expect_eq(status, EEP_ERR_DRAINED, "%s", eep_last_error(r->context));
    do {
        cr_assert_eq(eep_watch_next(watch, 10000000, EEP_SIZED(&view), NULL, 0), EEP_OK);
    } while (view.num_active > 0);
    cr_expect_not(view.is_serving);
    eep_watch_close(watch);
    world_close(&w);
}

/* A server that opens a device before it forks its workers. */
Test(guest, a_child_is_told_that_the_device_is_its_parents)
{
    eep_config config;
    eep_device *device;
    pid_t child;
    int end;

    cr_assert_eq(eep_device_open("host", 0, &device), EEP_OK);
    child = fork();
    if (child == 0) {
        char error[256] = "";
        eep_context *context;
        eep_config_init(&config);
        config.device = device;
        config.store_path = "/nonexistent/store";
        end = eep_open(&config, error, sizeof error, &context) == EEP_ERR_STATE &&
              strstr(error, "opened this device") != NULL;
        fprintf(stderr, "%s\n", error);
        _exit(end ? 0 : 1);
    }
    cr_assert_gt(child, 0);
    cr_assert_eq(waitpid(child, &end, 0), child);
    cr_expect(WIFEXITED(end) && WEXITSTATUS(end) == 0);
    eep_device_close(device);
}

/* A refusal says which variable or field, its value, and what is possible. */
Test(guest, a_refusal_names_the_variable_and_its_value)
{
    static const struct {
        const char *name, *value, *said;
    } cases[] = {{"EEP_RANK", "abc", "EEP_RANK is \"abc\""},
                 {"EEP_SIZE", "12x", "EEP_SIZE is \"12x\""},
                 {"EEP_SIZE", "5000", "from 1 to 1024"},
                 {"EEP_RANK", "-3", "EEP_RANK is \"-3\""}};
    char error[256] = "", path[400];
    eep_context *context;
    eep_window_sizes sizes;
    world w;

    world_open(&w, 2, 2);
    cr_assert_eq(eep_device_open("host", 0, &w.ranks[0].device), EEP_OK);
    w.config.device = w.ranks[0].device;
    w.config.rank = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        eep_config config, from;
        setenv(cases[i].name, cases[i].value, 1);
        eep_config_init(&from);
        config = w.config;
        config.rank = strcmp(cases[i].name, "EEP_RANK") == 0 ? from.rank : 0;
        config.num_ranks = strcmp(cases[i].name, "EEP_SIZE") == 0 ? from.num_ranks : 2;
        cr_expect_eq(eep_open(&config, error, sizeof error, &context), EEP_ERR_INVALID);
        cr_expect(strstr(error, cases[i].said), "case %zu: %s", i, error);
        unsetenv(cases[i].name);
    }
    eep_config config = w.config;
    config.top_k = WORLD_EXPERTS + 1;
    cr_expect_eq(eep_open(&config, error, sizeof error, &context), EEP_ERR_INVALID);
    cr_expect(strstr(error, "top_k is 9: 1 to 8 are possible"), "%s", error);
    cr_expect_eq(eep_window_sizes_get(&config, EEP_SIZED(&sizes)), EEP_ERR_INVALID);
    cr_expect(strstr(eep_error_text(), "top_k is 9"), "%s", eep_error_text());
    config = w.config;
    config.max_ranks = 0;
    cr_expect_eq(eep_window_sizes_get(&config, EEP_SIZED(&sizes)), EEP_OK);
    memset(path, 'p', sizeof path);
    path[0] = '/';
    path[290] = '\0';
    config.store_path = path;
    cr_expect_eq(eep_open(&config, error, sizeof error, &context), EEP_ERR_INVALID);
    cr_expect(strstr(error, "290 bytes") && strstr(error, "at most 107"), "%s", error);
    cr_assert_eq(eep_capture_begin(NULL), EEP_ERR_INVALID);
    eep_device_close(w.ranks[0].device);
    w.ranks[0].device = NULL;
    world_close(&w);
}
