/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank's log says of a life with a kill, a rejoin and a drain. */
#include "membership/context/log.h"
#include "tests/lib/context_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(context_log, .timeout = 100);

enum { KEPT_LINES = 2000, KEPT_BYTES = 400 };

typedef struct kept_line {
    int32_t seat;
    eep_log_level level;
    char text[KEPT_BYTES];
} kept_line;

static kept_line lines[KEPT_LINES]; /* one process per test; slots are given out atomically */
static int num_lines;

static void keep(void *user, eep_log_level level, const char *line)
{
    const rank *r = user;
    int at = __atomic_fetch_add(&num_lines, 1, __ATOMIC_SEQ_CST);

    if (at >= KEPT_LINES) {
        return;
    }
    lines[at].seat = r->seat;
    snprintf(lines[at].text, KEPT_BYTES, "%s", line);
    __atomic_store_n(&lines[at].level, level, __ATOMIC_RELEASE);
}

/* Lines of that rank at that level with all three texts in them; NULL: any. */
static int count(int32_t seat, eep_log_level level, const char *a, const char *b, const char *c)
{
    int n = 0, all = __atomic_load_n(&num_lines, __ATOMIC_SEQ_CST);

    for (int i = 0; i < all && i < KEPT_LINES; i++) {
        n += __atomic_load_n(&lines[i].level, __ATOMIC_ACQUIRE) == level && lines[i].seat == seat &&
             strstr(lines[i].text, a) && (!b || strstr(lines[i].text, b)) &&
             (!c || strstr(lines[i].text, c));
    }
    return n;
}

/* The one line at INFO that has the text, told by every rank from `first` to `last`. */
static void expect_told(int32_t first, int32_t last, const char *epoch, const char *what,
                        const char *more)
{
    for (int32_t seat = first; seat <= last; seat++) {
        cr_expect_eq(count(seat, EEP_LOG_INFO, what, NULL, NULL), 1, "rank %d: %d times: %s", seat,
                     count(seat, EEP_LOG_INFO, what, NULL, NULL), what);
        cr_expect_eq(count(seat, EEP_LOG_INFO, epoch, what, more), 1, "rank %d: %s .. %s .. %s",
                     seat, epoch, what, more ? more : "");
    }
}

static void expect_steps(int32_t seat, const char *const *steps)
{
    for (int i = 0; steps[i]; i++) {
        cr_expect_gt(count(seat, EEP_LOG_DEBUG, steps[i], NULL, NULL), 0, "rank %d: %s", seat,
                     steps[i]);
    }
}

static void expect_no_text_misleads(void)
{
    cr_assert_leq(num_lines, KEPT_LINES, "the log is flooded");
    for (int i = 0; i < num_lines; i++) {
        char old_name[16];
        snprintf(old_name, sizeof old_name, "rank %d.", lines[i].seat);
        cr_expect_not(strstr(lines[i].text, "epoch 0"), "%s", lines[i].text);
        cr_expect_not(strstr(lines[i].text, old_name), "%s", lines[i].text);
    }
}

static void kill_rejoin_and_drain(world *w)
{
    rank_close(&w->ranks[2]);
    WORLD_WAIT(w, w->ranks[0].last_active == 2 && w->ranks[1].last_active == 2);
    world_advance(w, 0, 1, 3);
    cr_assert_eq(rank_open(w, 2), EEP_OK, "%s", w->ranks[2].error);
    rank_set_mode(&w->ranks[2], RANK_WORK);
    rank_run(&w->ranks[2]);
    WORLD_WAIT(w, w->ranks[2].joined && w->ranks[0].last_active == 3);
    world_advance(w, 0, 2, 3);
    world_lock(w);
    w->ranks[2].drain = 1; /* it has no expert that the others lack */
    world_unlock(w);
    WORLD_WAIT(w, w->ranks[2].ended == EEP_ERR_DRAINED && w->ranks[0].last_active == 2);
    world_advance(w, 0, 1, 3);
}

/* Nothing more goes into it, until its reader reads. */
static void fill(int fd)
{
    char some[4096] = "";
    cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    for (size_t bytes = sizeof some; bytes > 0; bytes /= 2) {
        while (write(fd, some, bytes) > 0) {
        }
    }
    cr_assert_eq(fcntl(fd, F_SETFL, 0), 0);
}

static void expect_no_rank_waits_for(int fd)
{
    world w;
    int own = dup(STDERR_FILENO);
    cr_assert_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    world_open(&w, 2, 2);
    w.config.log = NULL;
    w.config.log_level = EEP_LOG_DEBUG;
    world_start(&w);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 3);
    world_rest(&w);
    world_check_right(&w);
    for (int i = 0; i < 200; i++) {
        eepi_log(w.ranks[0].context, EEP_LOG_DEBUG, "line %d of many", i);
    }
    world_close(&w);
    dup2(own, STDERR_FILENO);
    close(own);
}

/* A pipe that is full, as behind a pager that nobody looks at. */
Test(context_log, that_nobody_reads_holds_up_no_rank)
{
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    fill(ends[1]);
    expect_no_rank_waits_for(ends[1]);
}

/* A terminal whose reader stops in the midst: it can be written to, it says, and has no room for a
 * line. */
Test(context_log, that_a_terminal_has_no_room_for_holds_up_no_rank)
{
    char some[4096];
    int reader = posix_openpt(O_RDWR | O_NOCTTY);
    cr_assert_geq(reader, 0);
    cr_assert_eq(grantpt(reader) | unlockpt(reader), 0);
    int terminal = open(ptsname(reader), O_RDWR | O_NOCTTY);
    cr_assert_geq(terminal, 0);
    fill(terminal);
    cr_assert_gt(read(reader, some, sizeof some), 0);
    usleep(50000); /* the kernel passes on that there is room */
    expect_no_rank_waits_for(terminal);
    close(reader);
}

/* Experts of one replica go with rank 2, so that the fault has a repair. */
Test(context_log, every_change_of_view_is_told_once)
{
    static const char *const proposer[] = {
        "suspects rank 2 (generation 1): exit",
        "wedged: promises not to serve epoch 1 again",
        "hears the report of rank 1 (generation 1) on epoch 1",
        "proposes epoch 2 (repairing)",
        "committed epoch 2 (repairing)",
        "proposes epoch 3 (serving)",
        "committed epoch 3 (serving)",
        "installed epoch 3",
        "staged epoch 4",
        "acknowledges epoch 4: staged",
        "acknowledges epoch 4: flipped",
        "hears that rank 2 (generation 2) acknowledges epoch 4: staged",
        "flipped: a step under epoch 4",
        NULL};
    static const char *const other[] = {"wedged: promises not to serve epoch 1 again",
                                        "installed epoch 3", "staged epoch 4", NULL};
    world w;
    world_open(&w, 3, 3);
    w.keep_backups = 1;
    w.config.propose_delay_us = WORLD_PATIENT_US; /* rank 0 proposes, however long it takes */
    w.config.log = keep;
    w.config.log_level = EEP_LOG_DEBUG;
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, 3);
    cr_expect_eq(num_lines > 0, 1);
    kill_rejoin_and_drain(&w);
    world_rest(&w);
    world_check_right(&w);
    /* the last line of each: its service thread may be behind the steps */
    for (int32_t seat = 0; seat <= 2; seat++) {
        WORLD_WAIT(&w, count(seat, EEP_LOG_INFO, "(generation 2: retired)", NULL, NULL) > 0);
    }
    WORLD_WAIT(&w, count(2, EEP_LOG_INFO, "this rank has left the view", NULL, NULL) > 0);
    expect_told(0, 1, "epoch 1: serving with 3 ranks", "the first view", "was let in after");
    expect_told(0, 1, "epoch 2: repairing with 2 ranks",
                "left: rank 2 (generation 1: process ended)", "slots to fill: ");
    expect_told(0, 1, "epoch 2:", "after a fault", "proposed by rank 0");
    expect_told(0, 1, "epoch 3: serving with 2 ranks", "after repair", "was without a view for");
    cr_expect_geq(count(0, EEP_LOG_INFO, "epoch 3:", "weights copied here", NULL) +
                      count(1, EEP_LOG_INFO, "epoch 3:", "weights copied here", NULL),
                  1);
    expect_told(0, 2, "epoch 4: serving with 3 ranks, as planned", "joined: rank 2 (generation 2)",
                "proposed by rank ");
    for (int32_t seat = 0; seat <= 2; seat++) {
        cr_expect_eq(count(seat, EEP_LOG_INFO, "left: rank 2 (generation 2: retired)",
                           "serving with 2 ranks, as planned", "epoch "),
                     1, "rank %d", seat);
    }
    cr_expect_eq(
        count(2, EEP_LOG_INFO, "this rank has left the view as it asked (epoch ", NULL, NULL), 1);
    expect_steps(0, proposer);
    expect_steps(1, other);
    expect_no_text_misleads();
    cr_expect_eq(w.ranks[0].event_epochs[EEP_EVENT_SUSPECTED], 1);
    cr_expect_eq(w.ranks[0].event_epochs[EEP_EVENT_REPAIRED], 2);
    world_close(&w);
}

/* Without a view there is no epoch; with one, texts name it even where this rank serves none. */
Test(context_log, texts_name_the_epoch_that_is_known)
{
    world w;
    world_open(&w, 2, 3);
    world_start(&w);
    cr_assert_eq(rank_open(&w, 2), EEP_OK, "%s", w.ranks[2].error);
    WORLD_WAIT(&w, rank_sees(&w.ranks[0], 2, NULL).state == EEP_SEAT_JOINING);
    cr_expect_eq(eep_drain(w.ranks[2].context), EEP_ERR_STATE);
    const char *text = eep_last_error(w.ranks[2].context);
    cr_expect(strstr(text, "rank 2 (generation 1)"), "%s", text);
    cr_expect_not(strstr(text, "epoch 0"), "%s", text);
    world_close(&w);
}

/* The store goes and comes back: both are told. */
Test(context_log, a_store_that_is_lost_is_told)
{
    world w;
    world_open(&w, 2, 2);
    w.config.log = keep;
    w.config.log_level = EEP_LOG_INFO;
    world_start(&w);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 3);
    eep_store_close(w.store);
    WORLD_WAIT(&w, rank_events(&w.ranks[0], EEP_EVENT_STORE_LOST) == 1);
    world_serve(&w);
    WORLD_WAIT(&w, rank_events(&w.ranks[0], EEP_EVENT_STORE_BACK) == 1);
    world_advance(&w, 0, 1, 3);
    cr_expect_eq(count(0, EEP_LOG_INFO, "the store does not answer", NULL, NULL), 1);
    cr_expect_eq(count(0, EEP_LOG_INFO, "the store is back", NULL, NULL), 1);
    cr_expect_eq(count(0, EEP_LOG_INFO, "epoch 1:", NULL, NULL), 1, "the view is told again");
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

/* A rank that holds up steps: the others say so, and its own log says that it was expelled. */
Test(context_log, a_missed_deadline_is_told_as_the_cause)
{
    world w;
    world_open(&w, 3, 3);
    w.keep_backups = 1;
    w.config.step_deadline_us = 60000;
    w.config.warmup_deadline_us = 60000;
    w.config.log = keep;
    w.config.log_level = EEP_LOG_INFO;
    world_start(&w);
    world_excuse(&w, 0, 2);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, 3);
    rank_fall_silent(&w.ranks[1]);
    WORLD_WAIT(&w, w.ranks[0].last_active == 2 && w.ranks[2].last_active == 2);
    /* a rank may step under a view before its service thread has told the log of it */
    WORLD_WAIT(&w, count(0, EEP_LOG_INFO, "left: rank 1", NULL, NULL) > 0 &&
                       count(2, EEP_LOG_INFO, "left: rank 1", NULL, NULL) > 0);
    for (int32_t seat = 0; seat <= 2; seat += 2) {
        cr_expect_eq(count(seat, EEP_LOG_INFO, "left: rank 1 (generation 1: missed deadlines",
                           "after a fault", NULL),
                     1, "rank %d", seat);
    }
    WORLD_WAIT(&w, rank_events(&w.ranks[1], EEP_EVENT_EVICTED) == 1);
    world_check_right(&w);
    expect_no_text_misleads();
    world_close(&w);
    cr_expect_eq(
        count(1, EEP_LOG_WARN, "this process was expelled from the view (epoch ", NULL, NULL), 1);
}
