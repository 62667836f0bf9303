/* SPDX-License-Identifier: Apache-2.0 */
/* A healthy rank that does not step for a while: it says so, or it is told what comes. */
#include "tests/lib/context_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(context_pauses, .timeout = 100);

enum { DEADLINE_US = 60000, PAUSE_US = 400000 };

static void open_three(world *w)
{
    world_open(w, 3, 3);
    w->keep_backups = 1;
    w->config.step_deadline_us = DEADLINE_US;
    w->config.warmup_deadline_us = DEADLINE_US;
}

/* Peers wait past two deadlines and more; nobody is accused, and all goes on as before. */
Test(context_pauses, M5_a_rank_that_says_it_is_busy_is_not_expelled)
{
    world w;
    open_three(&w);
    world_start(&w);
    world_excuse(&w, 0, 2);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, 3);
    rank_set_mode(&w.ranks[1], RANK_PARK);
    WORLD_WAIT(&w, !w.ranks[1].busy);
    const uint64_t aborted = w.ranks[0].steps_aborted;
    WORLD_WAIT(&w, w.ranks[0].steps_aborted >= aborted + 3); /* by its deadline, as ever */
    usleep(PAUSE_US / 2);
    rank_set_mode(&w.ranks[1], RANK_WORK);
    world_advance(&w, 0, 2, 5);
    cr_expect_eq(rank_sees(&w.ranks[0], 1, NULL).state, EEP_SEAT_ACTIVE);
    cr_expect_eq(rank_events(&w.ranks[0], EEP_EVENT_SUSPECTED), 0);
    cr_assert_eq(eep_busy(w.ranks[1].context, 0), EEP_OK);
    cr_expect_eq(eep_busy(w.ranks[1].context, (uint64_t)EEP_BUSY_MAX_US + 1), EEP_ERR_INVALID);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

static int warned[3]; /* by seat; atomic */

static void note_log(void *user, eep_log_level level, const char *line)
{
    const rank *r = user;

    (void)level;
    if (strstr(line, "rank 0 is about to expel this rank") && strstr(line, "step_deadline_us")) {
        __atomic_fetch_add(&warned[r->seat], 1, __ATOMIC_SEQ_CST);
    }
}

/* One that says nothing is expelled, and its own log says by whom and why. */
Test(context_pauses, M5_a_victim_is_told_before_it_is_expelled)
{
    world w;
    open_three(&w);
    w.config.kill_fence = 1; /* a thread of this process: it is told, and cannot be killed */
    w.config.log = note_log;
    w.config.log_level = EEP_LOG_WARN;
    world_start(&w);
    world_excuse(&w, 0, 2);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, 3);
    rank_fall_silent(&w.ranks[1]);
    WORLD_WAIT(&w, rank_sees(&w.ranks[0], 1, NULL).state != EEP_SEAT_ACTIVE);
    WORLD_WAIT(&w, __atomic_load_n(&warned[1], __ATOMIC_SEQ_CST) > 0);
    cr_expect_eq(warned[0] + warned[2], 0);
    world_check_right(&w);
    world_close(&w);
}

/* ---------------------------------------------------------------- pauses within the defaults */

enum { HEALTHY_PAUSE_US = 4000000 };

/* The defaults of the library and a pause of 4 s, both divided: 20 by default, so that every check
 * has the time for it. tools/check-long.sh divides by 1. */
static uint64_t divide_defaults(eep_config *config)
{
    const char *asked = getenv("EEP_TEST_PAUSE_DIVISOR");
    uint64_t by = asked ? strtoull(asked, NULL, 10) : 20;

    cr_assert_eq(eep_config_profile(config, EEP_PROFILE_DEFAULT), EEP_OK);
    config->step_deadline_us /= by;
    config->warmup_deadline_us /= by;
    config->expel_floor_us /= by;
    config->drain_bound_us /= by;
    return HEALTHY_PAUSE_US / by;
}

static int rank_is_well(rank *r)
{
    return r->ended == EEP_OK && r->wrong == 0 && r->steps_aborted == 0 && r->steps_ok > 0 &&
           eep_generation(r->context) == 1;
}

/* Rank 2, a process of its own: it serves until it reads a byte, looks for work of others until it
 * reads another one, and exits with 0 if nothing was wrong. */
static void be_rank_2(int from, int to)
{
    world w;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* of a test that fails */
    char byte;
    rank *r = &w.ranks[2];
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
    world_prepare(&w, 3, 3);
    (void)divide_defaults(&w.config);
    if (read(from, w.path, sizeof w.path) != sizeof w.path || rank_open(&w, 2) != EEP_OK) {
        _exit(2);
    }
    rank_run(r);
    WORLD_WAIT(&w, r->joined);
    rank_set_mode(r, RANK_WORK);
    if (write(to, "", 1) != 1 || read(from, &byte, 1) != 1) {
        _exit(3);
    }
    rank_set_mode(r, RANK_FOLLOW);
    if (read(from, &byte, 1) != 1) {
        _exit(4);
    }
    world_lock(&w);
    if (!rank_is_well(r)) {
        fprintf(stderr, "rank 2: ok %llu aborted %llu wrong %llu: %s\n",
                (unsigned long long)r->steps_ok, (unsigned long long)r->steps_aborted,
                (unsigned long long)r->wrong, r->text);
    }
    _exit(rank_is_well(r) ? 0 : 1);
}

/* Ranks 0 and 1, threads of this process, begin to serve beside rank 2. */
static void start_beside(world *w, int to, int from, char *byte)
{
    for (int32_t seat = 0; seat < 2; seat++) {
        cr_assert_eq(rank_open(w, seat), EEP_OK, "%s", w->ranks[seat].error);
    }
    for (int32_t seat = 0; seat < 2; seat++) {
        rank_run(&w->ranks[seat]);
    }
    cr_assert_eq(write(to, w->path, sizeof w->path), (ssize_t)sizeof w->path);
    cr_assert_eq(read(from, byte, 1), 1);
    world_set_modes(w, 0, 1, RANK_WORK);
    world_advance(w, 0, 1, 3);
}

/* Two of three ranks pause at once for 4 s between two steps: rank 1 sleeps, and the process of
 * rank 2 is stopped. Both survive: nobody is suspected, killed or expelled, no step is aborted. */
Test(context_pauses, M5_pauses_of_four_seconds_are_survived_by_default)
{
    int there[2], back[2], status = 0;
    char byte;
    world w;
    cr_assert(pipe(there) == 0 && pipe(back) == 0);
    pid_t pid = fork(); /* before there are threads */
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        be_rank_2(there[0], back[1]);
    }
    world_open(&w, 3, 3);
    const useconds_t pause_us = (useconds_t)divide_defaults(&w.config);
    start_beside(&w, there[1], back[0], &byte);
    rank_set_mode(&w.ranks[1], RANK_PARK);
    cr_assert_eq(kill(pid, SIGSTOP), 0);
    usleep(pause_us);
    cr_assert_eq(kill(pid, SIGCONT), 0);
    rank_set_mode(&w.ranks[1], RANK_WORK);
    world_advance(&w, 0, 1, 3);
    cr_assert_eq(write(there[1], "", 1), 1);
    world_rest(&w);
    for (int32_t seat = 0; seat < 3; seat++) {
        cr_expect_eq(rank_sees(&w.ranks[0], seat, NULL).state, EEP_SEAT_ACTIVE);
        cr_expect_eq(rank_sees(&w.ranks[0], seat, NULL).generation, 1);
    }
    for (int32_t seat = 0; seat < 2; seat++) {
        cr_expect(rank_is_well(&w.ranks[seat]), "%s", w.ranks[seat].text);
        cr_expect_eq(rank_events(&w.ranks[seat], EEP_EVENT_SUSPECTED), 0);
    }
    world_check_right(&w);
    cr_assert_eq(write(there[1], "", 1), 1);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "rank 2 ended with %x", status);
    world_close(&w);
}

enum { PROMISED_PAUSE_US = 30000000 }; /* a quarter less than the bound */

/* Another rank ends just when a process begins to pause for half a minute, all divided by 10: the
 * survivor waits for it, and it is neither left out nor killed. */
Test(context_pauses, M2_a_pause_beside_a_fault_is_survived_by_default)
{
    int there[2], back[2], status = 0;
    char byte;
    world w;
    setenv("EEP_TEST_PAUSE_DIVISOR", "10", 1);
    cr_assert(pipe(there) == 0 && pipe(back) == 0);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        be_rank_2(there[0], back[1]);
    }
    world_open(&w, 3, 3);
    w.keep_backups = 1;
    (void)divide_defaults(&w.config);
    start_beside(&w, there[1], back[0], &byte);
    cr_assert_eq(write(there[1], "", 1), 1);
    world_rest(&w);
    cr_assert_eq(kill(pid, SIGSTOP), 0);
    rank_close(&w.ranks[1]);
    usleep(PROMISED_PAUSE_US / 10);
    cr_assert_eq(kill(pid, SIGCONT), 0);
    WORLD_WAIT(&w, rank_sees(&w.ranks[0], 1, NULL).state != EEP_SEAT_ACTIVE);
    cr_expect_eq(rank_sees(&w.ranks[0], 2, NULL).state, EEP_SEAT_ACTIVE);
    rank_set_mode(&w.ranks[0], RANK_WORK);
    world_advance(&w, 0, 0, 3);
    cr_expect_eq(w.ranks[0].last_active, 2);
    cr_expect_eq(waitpid(pid, &status, WNOHANG), 0, "rank 2 ended with %x", status);
    world_rest(&w);
    world_check_right(&w);
    rank_stop(&w.ranks[0]); /* alone it would lack experts */
    kill(pid, SIGKILL);
    world_close(&w);
}

static unsigned silent_ms[3];     /* by seat of the log, of a change that says so; atomic */
static char left_because[3][160]; /* what the log says of the end of rank 2 */

static void note_silence(void *user, eep_log_level level, const char *line)
{
    static const char *const said[] = {
        "left: rank 2 (generation 1: silent for ",
        "left: rank 2 (generation 1: missed deadlines, last heartbeat "};
    const char *left = strstr(line, "left: rank 2");

    if (left) {
        snprintf(left_because[((const rank *)user)->seat], sizeof left_because[0], "%s", left);
    }
    for (int i = 0; left && level == EEP_LOG_INFO && i < 2; i++) {
        if (strncmp(left, said[i], strlen(said[i])) == 0) {
            __atomic_store_n(&silent_ms[((const rank *)user)->seat],
                             (unsigned)strtoul(left + strlen(said[i]), NULL, 10), __ATOMIC_SEQ_CST);
        }
    }
}

/* One that is stopped for longer than that is killed and expelled, and the logs of the others say
 * for how long its heart had not beaten. A step's deadline is as long as the floor of silence: one
 * that hears of the missed deadline first names that. */
Test(context_pauses, M5_a_process_that_stays_stopped_is_told_as_silent)
{
    int there[2], back[2], status = 0;
    char byte;
    world w;
    setenv("EEP_TEST_PAUSE_DIVISOR", "30", 1); /* expel_floor_us 1.3 s */
    cr_assert(pipe(there) == 0 && pipe(back) == 0);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        be_rank_2(there[0], back[1]);
    }
    world_open(&w, 3, 3);
    w.keep_backups = 1;
    w.config.log = note_silence;
    w.config.log_level = EEP_LOG_INFO;
    (void)divide_defaults(&w.config);
    start_beside(&w, there[1], back[0], &byte);
    cr_assert_eq(kill(pid, SIGSTOP), 0);
    WORLD_WAIT(&w, w.ranks[0].last_active == 2 && w.ranks[1].last_active == 2);
    world_advance(&w, 0, 1, 3);
    for (int32_t seat = 0; seat < 2; seat++) {
        unsigned ms = __atomic_load_n(&silent_ms[seat], __ATOMIC_SEQ_CST);
        cr_expect(ms >= 1000 && ms < WORLD_WAIT_MS, "rank %d: silent for %u ms: %s", seat, ms,
                  left_because[seat]);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "rank 2 ended with %x", status);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}
