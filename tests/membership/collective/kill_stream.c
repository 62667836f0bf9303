/* SPDX-License-Identifier: Apache-2.0 */
/* kill_stream [KILLS [HOSTS]]: rank processes that call allgathers without a pause, and are killed
 * one after the other in the middle of it; a new process takes the seat each time. Every result
 * that any rank got is then compared with all others (rule P13). The machine plays that many hosts,
 * which share no memory. A plain program: ranks are processes. */
#include "eep/collectives.h"
#include "eep/store.h"
#include "experiments/base/monotonic.h"
#include "experiments/bench/collective/idle_engine.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    RANKS = 4,
    STRIDE = 1024,
    KEPT = 1 << 19,
    TIMEOUT_US = 300000,
    SLACK_US = 250000, /* beside the time for which the thread waits for a core */
    LOOK_US = 20000,
    WAIT_S = 20,
    UNTOUCHED = 0x5a,
    KILL_US = 60000 /* most between two kills */
};

/* What one call gave. */
typedef struct entry {
    int32_t seat, status;
    uint32_t generation; /* 0: the process was killed before all of this was there */
    uint32_t is_written; /* its buffer was, without EEP_OK */
    uint32_t us;         /* without what its thread waited for a core */
    uint64_t number, epoch, contributors, sum;
} entry;

/* In memory of all processes. */
typedef struct shared {
    uint32_t used;              /* atomic */
    uint64_t num_ok[RANKS];     /* of the seat's present process; atomic */
    uint32_t generation[RANKS]; /* atomic */
    entry entries[KEPT];
} shared;

static shared *all;
static char folder[80], store_path[100];
static int num_hosts = 1;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "kill_stream: %s: %s\n", what, why);
    exit(1);
}

/* ------------------------------------------------------------------ a rank */

static uint64_t sum_of(const uint8_t *rows, const uint64_t *sizes)
{
    uint64_t sum = 1;

    for (int seat = 0; seat < RANKS; seat++) {
        sum = sum * 31 + sizes[seat];
        for (uint64_t i = 0; i < sizes[seat]; i++) {
            sum = (sum ^ rows[seat * STRIDE + i]) * 0x100000001b3u;
        }
    }
    return sum;
}

static int is_untouched(const uint8_t *rows)
{
    for (size_t i = 0; i < RANKS * STRIDE; i++) {
        if (rows[i] != UNTOUCHED) {
            return 0;
        }
    }
    return 1;
}

/* For how long this thread has waited for a core, from `fd`; 0 where the kernel does not tell. */
static double waited_us(int fd)
{
    char text[100] = "";
    unsigned long long ran_ns, waited_ns = 0;

    if (fd < 0 || pread(fd, text, sizeof text - 1, 0) <= 0 ||
        sscanf(text, "%llu %llu", &ran_ns, &waited_ns) != 2) {
        return 0;
    }
    return (double)waited_ns * 1e-3;
}

static eep_status call_once(idle_engine *engine, int seat, const uint8_t *send, size_t bytes,
                            int waits_fd)
{
    static uint8_t rows[RANKS * STRIDE];
    uint64_t sizes[RANKS] = {0};
    eep_collective_result result;
    const uint32_t at = __atomic_fetch_add(&all->used, 1, __ATOMIC_RELAXED) % KEPT;
    const double begin = now_s(), waited = waited_us(waits_fd);
    eep_status status;
    double us;

    memset(rows, UNTOUCHED, sizeof rows);
    status = eep_collective_allgather(engine->context, send, bytes, rows, STRIDE, sizes, TIMEOUT_US,
                                      EEP_SIZED(&result));
    us = (now_s() - begin) * 1e6 - (waited_us(waits_fd) - waited);
    all->entries[at] = (entry){.seat = seat,
                               .status = status,
                               .is_written = status != EEP_OK && !is_untouched(rows),
                               .us = us > 0 ? (uint32_t)us : 0,
                               .number = result.number,
                               .epoch = result.epoch,
                               .contributors = result.contributors[0],
                               .sum = status == EEP_OK ? sum_of(rows, sizes) : 0};
    /* last: a process may be killed within all of this */
    __atomic_store_n(&all->entries[at].generation, eep_generation(engine->context),
                     __ATOMIC_RELEASE);
    return status;
}

static void *control(void *user)
{
    idle_engine *engine = user;
    const int seat = eep_rank(engine->context);
    const int waits_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    uint8_t send[STRIDE];
    size_t bytes = 1;
    eep_status status = EEP_OK;

    for (uint32_t round = 0;; round++) {
        if (status != EEP_ERR_TIMEOUT) {
            bytes = 1 + (round * 37 + (uint32_t)seat * 11) % STRIDE;
            memset(send, (int)(round + (uint32_t)seat), sizeof send);
        }
        status = call_once(engine, seat, send, bytes, waits_fd);
        if (status == EEP_OK) {
            __atomic_fetch_add(&all->num_ok[seat], 1, __ATOMIC_RELEASE);
        } else if (status != EEP_ERR_TIMEOUT && status != EEP_ERR_ABORTED) {
            die("a collective", eep_error_text());
        }
    }
    return NULL;
}

static void run_rank(int seat)
{
    idle_engine engine;
    pthread_t thread;
    eep_status status = EEP_OK;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (num_hosts > 1) {
        char host[40];
        snprintf(host, sizeof host, "played-%d", seat * num_hosts / RANKS);
        setenv("EEP_HOST_ID", host, 1);
    }
    if (idle_engine_open(&engine, seat, RANKS, store_path) != EEP_OK) {
        die("eep_open", engine.error);
    }
    if (eep_join(engine.context) != EEP_OK) {
        die("eep_join", eep_error_text());
    }
    __atomic_store_n(&all->generation[seat], eep_generation(engine.context), __ATOMIC_RELEASE);
    if (pthread_create(&thread, NULL, control, &engine) != 0) {
        die("a thread", "it cannot be started");
    }
    while (status == EEP_OK) {
        status = idle_engine_follow(&engine, LOOK_US);
    }
    die("a step", eep_error_text());
}

static pid_t start(int seat)
{
    pid_t pid;

    __atomic_store_n(&all->num_ok[seat], 0, __ATOMIC_RELEASE);
    pid = fork();
    if (pid == 0) {
        run_rank(seat);
    }
    return pid;
}

/* ------------------------------------------------------------------ the parent */

/* All processes get results. */
static void await_all(void)
{
    const double until = now_s() + WAIT_S;

    for (int seat = 0; seat < RANKS; seat++) {
        const uint64_t before = __atomic_load_n(&all->num_ok[seat], __ATOMIC_ACQUIRE);
        while (__atomic_load_n(&all->num_ok[seat], __ATOMIC_ACQUIRE) == before) {
            if (waitpid(-1, NULL, WNOHANG) > 0) {
                die("a process", "it has ended, and was not to");
            }
            if (now_s() > until) {
                die("a rank", "it gets no result any more");
            }
            usleep(1000);
        }
    }
}

static int before(const void *a, const void *b)
{
    const entry *x = a, *y = b;

    return x->number != y->number ? (x->number < y->number ? -1 : 1)
           : x->epoch != y->epoch ? (x->epoch < y->epoch ? -1 : 1)
           : x->seat != y->seat   ? (x->seat < y->seat ? -1 : 1)
                                  : 0;
}

static uint32_t wrong_of(const entry *e, const char *why)
{
    fprintf(stderr,
            "kill_stream: number %llu, epoch %llu, rank %d (generation %u), %s after %u us, from "
            "ranks %#llx, sum %llx: %s\n",
            (unsigned long long)e->number, (unsigned long long)e->epoch, e->seat, e->generation,
            eep_strerror((eep_status)e->status), e->us, (unsigned long long)e->contributors,
            (unsigned long long)e->sum, why);
    return 1;
}

/* Against another rank's of the same number. */
static uint32_t compare(const entry *e, const entry *last)
{
    if (last->epoch != e->epoch) {
        return wrong_of(e, "a number ended under two epochs");
    }
    if (last->seat == e->seat) {
        return wrong_of(e, "it ended twice");
    }
    if (last->sum == e->sum && last->contributors == e->contributors) {
        return 0;
    }
    (void)wrong_of(last, "it has one result, and the next rank another one");
    return wrong_of(e, "it has another result");
}

/* All that ended OK under one number and epoch is equal, and each number under one epoch only. */
static int judge(uint32_t num)
{
    uint32_t num_ok = 0, num_aborted = 0, num_late = 0, wrong = 0;
    const entry *last = NULL;

    qsort(all->entries, num, sizeof all->entries[0], before);
    for (uint32_t i = 0; i < num; i++) {
        const entry *e = &all->entries[i];
        if (e->generation == 0) {
            continue;
        }
        wrong += e->is_written ? wrong_of(e, "its buffer was written") : 0;
        wrong += e->us > TIMEOUT_US + SLACK_US ? wrong_of(e, "it took too long") : 0;
        num_aborted += e->status == EEP_ERR_ABORTED;
        num_late += e->status == EEP_ERR_TIMEOUT;
        if (e->status != EEP_OK) {
            continue;
        }
        num_ok++;
        wrong += last && last->number == e->number ? compare(e, last) : 0;
        wrong += e->contributors >> e->seat & 1u ? 0 : wrong_of(e, "it has not contributed");
        last = e;
    }
    printf("kill_stream: %u calls: %u OK, %u aborted, %u timed out; wrong: %u\n", num, num_ok,
           num_aborted, num_late, wrong);
    return wrong > 0 || num_ok == 0;
}

static void make_folder(void)
{
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";

    if (snprintf(folder, sizeof folder, "%s/eep-kill-XXXXXX", base) >= (int)sizeof folder ||
        !mkdtemp(folder)) {
        die(folder, "it cannot be made");
    }
    snprintf(store_path, sizeof store_path, "%s/store", folder);
}

/* In a process of its own, until `*end_out` is closed: this one forks ranks all the time and has no
 * thread, since a lock that a thread holds at a fork is held for ever in the child. */
static pid_t start_store(int *end_out)
{
    int end[2], ready[2];
    char byte, text[256] = "";
    eep_store *store = NULL;
    pid_t pid;

    if (pipe(end) != 0 || pipe(ready) != 0 || (pid = fork()) < 0) {
        die("store", "no process can be made for it");
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(end[1]);
        if (eep_store_open(store_path, text, sizeof text, &store) != EEP_OK) {
            die("store", text);
        }
        (void)!write(ready[1], "r", 1);
        (void)!read(end[0], &byte, 1);
        eep_store_close(store);
        _exit(0);
    }
    close(end[0]);
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1) {
        die("store", "it does not serve");
    }
    close(ready[0]);
    *end_out = end[1];
    return pid;
}

static void clean_up(const pid_t *pids, pid_t store, int store_end)
{
    char path[128];

    for (int seat = 0; seat < RANKS; seat++) {
        kill(pids[seat], SIGKILL);
        waitpid(pids[seat], NULL, 0);
        snprintf(path, sizeof path, "%s.seat%d", store_path, seat);
        unlink(path);
    }
    close(store_end);
    waitpid(store, NULL, 0);
    rmdir(folder);
}

int main(int argc, char **argv)
{
    const int kills = argc > 1 ? atoi(argv[1]) : 20;
    pid_t pids[RANKS], store;
    int store_end;
    uint32_t num;

    num_hosts = argc > 2 ? atoi(argv[2]) : 1;
    signal(SIGCHLD, SIG_DFL);
    make_folder();
    all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) {
        die("memory", "there is none");
    }
    store = start_store(&store_end);
    for (int seat = 0; seat < RANKS; seat++) {
        pids[seat] = start(seat);
    }
    for (int i = 0; i < kills; i++) {
        const int seat = i * 3 % RANKS;
        await_all();
        usleep((useconds_t)(i * 7919 % KILL_US));
        kill(pids[seat], SIGKILL);
        waitpid(pids[seat], NULL, 0);
        pids[seat] = start(seat);
    }
    await_all();
    num = __atomic_load_n(&all->used, __ATOMIC_ACQUIRE);
    clean_up(pids, store, store_end);
    return judge(num < KEPT ? num : KEPT);
}
