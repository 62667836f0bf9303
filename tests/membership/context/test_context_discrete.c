/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts whose windows have two sides, as on a GPU: kernels reach one, host threads the other.
 * A host thread learns of its peers over the host side alone. */
#include "tests/lib/context_fixture.h"

#include "graphs/device/device_share.h"
#include "membership/context/context.h"
#include "membership/service/peer.h"
#include "tests/lib/window_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(context_discrete, .timeout = 100);

enum { FIRST = 20, MANY = 50 };

static void open_discrete(world *w, int32_t num_ranks)
{
    world_open(w, num_ranks, num_ranks);
    w->windows_discrete = 1;
}

Test(context_discrete, ranks_step_together)
{
    world w;
    open_discrete(&w, 4);
    world_start(&w);
    for (int32_t seat = 0; seat < 4; seat++) {
        cr_assert(eepi_window_is_discrete(w.ranks[seat].context->window));
    }
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, MANY);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 3);
    world_check_right(&w);
    world_close(&w);
}

Test(context_discrete, idle_ranks_follow_the_one_with_work)
{
    world w;
    open_discrete(&w, 4);
    world_start(&w);
    rank_set_mode(&w.ranks[2], RANK_WORK);
    world_advance(&w, 2, 2, FIRST);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 3);
    world_check_right(&w);
    for (int32_t seat = 0; seat < 4; seat++) {
        cr_expect_eq(w.ranks[seat].steps_ok, w.ranks[2].steps_ok, "rank %d", seat);
    }
    world_close(&w);
}

static eepi_window *window_of(const rank *at, int32_t seat)
{
    return at->context->peers[seat].window;
}

/* Its successor's window is another one, while the old mapping is still there. */
Test(context_discrete, a_rank_ends_and_its_seat_is_taken_again)
{
    world w;
    const void *before;
    open_discrete(&w, 4);
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, FIRST);
    before = window_memory(window_of(&w.ranks[0], 1));
    rank_close(&w.ranks[1]);
    WORLD_WAIT(&w, w.ranks[0].last_active == 3 && w.ranks[2].last_active == 3 &&
                       w.ranks[3].last_active == 3);
    world_advance(&w, 2, 3, FIRST);
    cr_assert_eq(rank_open(&w, 1), EEP_OK, "%s", w.ranks[1].error);
    rank_set_mode(&w.ranks[1], RANK_WORK);
    rank_run(&w.ranks[1]);
    WORLD_WAIT(&w, w.ranks[1].joined);
    world_advance(&w, 0, 3, FIRST);
    world_rest(&w);
    world_check_right(&w);
    cr_expect_eq(eep_generation(w.ranks[1].context), 2);
    cr_expect_neq(window_memory(window_of(&w.ranks[0], 1)), before);
    cr_expect_gt(eepi_share_cost_of(w.ranks[0].device).calls, 4);
    world_close(&w);
}

/* ---------------------------------------------------------------- ranks of several processes */

typedef struct process {
    pid_t pid;
    int to; /* a pipe: the world comes over it, and with it the word to open a rank */
} process;

static void read_world(int from, world *w)
{
    size_t got = 0;
    while (got < sizeof *w) {
        ssize_t n = read(from, (uint8_t *)w + got, sizeof *w - got);
        if (n <= 0) {
            _exit(1);
        }
        got += (size_t)n;
    }
}

/* A process that will be rank `seat` until it is killed. Forked before anything here has begun, the
 * store's thread above all: what a thread holds at a fork (an allocator's lock) is held for ever.
 */
static process fork_rank(world *w, int32_t seat)
{
    rank *r = &w->ranks[seat];
    process p;
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    p = (process){fork(), ends[1]};
    cr_assert_geq(p.pid, 0);
    if (p.pid > 0) {
        close(ends[0]);
        return p;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    read_world(ends[0], w);
    if (rank_open(w, seat) != EEP_OK) {
        fprintf(stderr, "rank %d: %s\n", seat, r->error);
        _exit(1);
    }
    rank_set_mode(r, RANK_WORK);
    rank_run(r);
    for (;;) {
        pause();
    }
}

/* `fresh`: as world_open left it, when nobody held its lock; pointers in it are into `w` itself,
 * which lies at one address in both processes. */
static void let_go(const process *p, const world *fresh)
{
    cr_assert_eq(write(p->to, fresh, sizeof *fresh), (ssize_t)sizeof *fresh);
}

static void kill_process(const process *p)
{
    int status;
    cr_assert_eq(kill(p->pid, SIGKILL), 0);
    cr_assert_eq(waitpid(p->pid, &status, 0), p->pid);
    cr_assert(WIFSIGNALED(status), "it ended by itself: %d", status);
    close(p->to);
}

Test(context_discrete, a_process_is_killed_and_another_takes_its_seat)
{
    static world w, fresh;
    process first = fork_rank(&w, 3), second = fork_rank(&w, 3);
    open_discrete(&w, 4);
    fresh = w;
    let_go(&first, &fresh);
    for (int32_t seat = 0; seat < 3; seat++) {
        cr_assert_eq(rank_open(&w, seat), EEP_OK, "%s", w.ranks[seat].error);
        rank_set_mode(&w.ranks[seat], RANK_WORK);
        rank_run(&w.ranks[seat]);
    }
    world_advance(&w, 0, 2, FIRST);
    cr_expect_eq(w.ranks[0].last_active, 4);
    kill_process(&first);
    WORLD_WAIT(&w, w.ranks[0].last_active == 3 && w.ranks[1].last_active == 3 &&
                       w.ranks[2].last_active == 3);
    world_advance(&w, 0, 2, MANY);
    let_go(&second, &fresh);
    WORLD_WAIT(&w, w.ranks[0].last_active == 4 && w.ranks[1].last_active == 4 &&
                       w.ranks[2].last_active == 4);
    world_advance(&w, 0, 2, MANY);
    cr_expect_eq(rank_sees(&w.ranks[0], 3, NULL).generation, 2);
    kill_process(&second);
    WORLD_WAIT(&w, w.ranks[0].last_active == 3);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}
