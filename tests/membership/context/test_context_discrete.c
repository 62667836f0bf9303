/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts whose windows have two sides, as on a GPU: kernels reach one, host threads the other.
 * A host thread learns of its peers over the host side alone. */
#include "tests/lib/context_fixture.h"

#include "graphs/device/device_share.h"
#include "membership/context/context.h"
#include "membership/service/peer.h"
#include "tests/lib/window_fixture.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
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

/* What the test and the storer share. */
typedef struct storer {
    int goes;
    pid_t pid;
} storer;
static storer *shared;

/* Over all that the rank's live bank has addresses of, again and again. */
static void store_all_over(const eepk_world *all, pid_t test)
{
    const eepk_shape *s = &all->shape;
    const uint8_t *bank = all->bank[all->control->live_bank];

    while (kill(test, 0) == 0) {
        for (uint32_t seat = 0; seat < s->max_ranks && shared->goes; seat++) {
            uint8_t *window = (uint8_t *)(uintptr_t)eepk_peers(s, bank)[seat].address;
            if (window && seat != s->self) {
                memset(window + s->off_dispatch_tag, 0x55, s->window_bytes - s->off_dispatch_tag);
            }
        }
        poll(NULL, 0, 1);
    }
    _exit(0);
}

/* Behind the word for it, a process of its own is what the rank's kernels are where they outlive
 * it: it has all mappings, and stores for ever, whatever becomes of the rank. */
static void split_off_storer(const rank *r, int from)
{
    const pid_t test = getppid();
    char word;

    if (read(from, &word, 1) != 1) {
        _exit(1);
    }
    const pid_t pid = fork();
    if (pid == 0) {
        store_all_over(eepi_tables_world(r->context->tables), test);
    }
    __atomic_store_n(&shared->pid, pid, __ATOMIC_RELEASE);
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
    split_off_storer(r, ends[0]);
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

/* ---------------------------------------------------------------- one that stores for ever */

enum {
    ZOMBIE = 3,
    VICTIM = 2,
    NUM_FAULTS = 20,
    /* the two ranks here map their own window, those of three seats and of a former process */
    MOST_MAPPINGS = 2 * 5 * (1 + EEPK_COLOURS * EEPK_MEMORIES_KEPT)
};

/* Memory of windows that this process has mapped. */
static int count_memory(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    int n = 0;
    cr_assert_not_null(maps);
    while (fgets(line, sizeof line, maps)) {
        n += strstr(line, "memfd:eep-window") != NULL;
    }
    fclose(maps);
    return n;
}

/* Rank 0 takes it for silent. It lives, and there is no kill fence. */
static void expel_alive(world *w)
{
    eep_context *context = w->ranks[0].context;
    const eepi_sign sign = {EEPI_INPUT_EVIDENCE, {ZOMBIE, 1, EEP_FAULT_SILENT}};
    eepi_evidence_post(context->evidence, &sign);
    eepi_service_wake(context);
    WORLD_WAIT(w, w->ranks[0].last_active == 3 && w->ranks[1].last_active == 3);
    cr_expect_eq(rank_sees(&w->ranks[0], ZOMBIE, NULL).state, EEP_SEAT_QUARANTINED);
}

static void zombie_through_faults(int is_discrete)
{
    static world w, fresh;
    process victims[NUM_FAULTS + 1];
    int most = 0;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq((void *)shared, MAP_FAILED);
    process zombie = fork_rank(&w, ZOMBIE);
    for (int i = 0; i <= NUM_FAULTS; i++) {
        victims[i] = fork_rank(&w, VICTIM);
    }
    open_discrete(&w, 4);
    w.windows_discrete = is_discrete;
    w.keep_backups = 1;
    w.config.kill_fence = 0;
    fresh = w;
    let_go(&zombie, &fresh);
    let_go(&victims[0], &fresh);
    for (int32_t seat = 0; seat < 2; seat++) {
        cr_assert_eq(rank_open(&w, seat), EEP_OK, "%s", w.ranks[seat].error);
        rank_set_mode(&w.ranks[seat], RANK_WORK);
        rank_run(&w.ranks[seat]);
    }
    world_advance(&w, 0, 1, FIRST);
    cr_assert_eq(write(zombie.to, "s", 1), 1);
    for (int i = 0; i < 10000 && __atomic_load_n(&shared->pid, __ATOMIC_ACQUIRE) == 0; i++) {
        poll(NULL, 0, 1);
    }
    cr_assert_eq(kill(zombie.pid, SIGSTOP), 0);
    expel_alive(&w);
    __atomic_store_n(&shared->goes, 1, __ATOMIC_RELEASE);
    world_advance(&w, 0, 1, MANY);
    for (int i = 0; i < NUM_FAULTS; i++) {
        if (is_discrete && i == NUM_FAULTS / 2) { /* nor is its end a proof */
            kill_process(&zombie);
        }
        kill_process(&victims[i]);
        WORLD_WAIT(&w, w.ranks[0].last_active == 2 && w.ranks[1].last_active == 2);
        world_advance(&w, 0, 1, FIRST);
        let_go(&victims[i + 1], &fresh);
        WORLD_WAIT(&w, w.ranks[0].last_active == 3 && w.ranks[1].last_active == 3);
        world_advance(&w, 0, 1, FIRST);
        most = count_memory() > most ? count_memory() : most;
    }
    cr_expect_leq(most, MOST_MAPPINGS);
    cr_expect_eq(kill(shared->pid, 0), 0, "it stores still");
    cr_expect_eq(w.ranks[0].closed + w.ranks[1].closed, 0, "nobody waited for it");
    kill_process(&victims[NUM_FAULTS]);
    WORLD_WAIT(&w, w.ranks[0].last_active == 2);
    world_rest(&w);
    cr_expect_eq(kill(shared->pid, SIGKILL), 0);
    if (!is_discrete) {
        kill_process(&zombie);
    }
    world_check_right(&w);
    world_close(&w);
}

Test(context_discrete, P7_a_zombie_stores_for_ever_through_twenty_faults)
{
    zombie_through_faults(1);
}

Test(context_discrete, P7_and_on_the_host)
{
    zombie_through_faults(0);
}
