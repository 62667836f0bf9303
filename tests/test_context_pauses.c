/* A healthy rank that does not step for a while: it says so, or it is told what comes. */
#include "tests/context_fixture.h"

#include <string.h>
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
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, 3);
    rank_set_mode(&w.ranks[1], RANK_PARK);
    cr_assert_eq(eep_busy(w.ranks[1].context, 2 * PAUSE_US), EEP_OK);
    WORLD_WAIT(&w, w.ranks[0].steps_aborted >= 3); /* by its deadline, as ever */
    usleep(PAUSE_US / 2);
    rank_set_mode(&w.ranks[1], RANK_WORK);
    cr_assert_eq(eep_busy(w.ranks[1].context, 0), EEP_OK);
    world_advance(&w, 0, 2, 5);
    cr_expect_eq(rank_sees(&w.ranks[0], 1, NULL).state, EEP_SEAT_ACTIVE);
    cr_expect_eq(rank_events(&w.ranks[0], EEP_EVENT_SUSPECTED), 0);
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
    if (strstr(line, "rank 0 is about to expel this rank") && strstr(line, "step_deadline_us"))
        __atomic_fetch_add(&warned[r->seat], 1, __ATOMIC_SEQ_CST);
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
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, 3);
    rank_set_mode(&w.ranks[1], RANK_PARK);
    WORLD_WAIT(&w, rank_sees(&w.ranks[0], 1, NULL).state != EEP_SEAT_ACTIVE);
    WORLD_WAIT(&w, __atomic_load_n(&warned[1], __ATOMIC_SEQ_CST) > 0);
    cr_expect_eq(warned[0] + warned[2], 0);
    world_check_right(&w);
    world_close(&w);
}
