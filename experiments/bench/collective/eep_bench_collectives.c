/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives of rank processes, timed one by one. A line "OPERATION BYTES COUNT" on standard input
 * is answered by a line of COUNT times in nanoseconds, those of rank 0; all results are compared
 * with what they should be. experiments/measure/beside_gloo.py drives it beside gloo. */
#include "eep/collectives.h"
#include "eep/store.h"
#include "experiments/base/args.h"
#include "experiments/base/monotonic.h"
#include "experiments/base/output.h"
#include "experiments/bench/collective/idle_engine.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_RANKS = 64, MAX_COUNT = 100000, DEADLINE_US = 20000000, LOOK_US = 20000 };

typedef struct bench_options {
    int ranks;
    args_given given;
} bench_options;

typedef enum operation { BARRIER, BROADCAST, ALLGATHER, ALLREDUCE, NUM_OPERATIONS } operation;
static const char *const names[NUM_OPERATIONS] = {"barrier", "broadcast", "allgather", "allreduce"};

typedef struct command {
    int32_t operation, count;
    uint64_t bytes;
} command;

static bench_options options = {.ranks = 8};
static char folder[80], store_path[100];

static void die(const char *what, const char *why)
{
    fprintf(stderr, "eep-bench-collectives: %s: %s\n", what, why);
    exit(1);
}

/* ------------------------------------------------------------------ a rank */

typedef struct bench_rank {
    idle_engine engine;
    int seat, from_fd, to_fd;
    uint8_t *send, *receive;
} bench_rank;

static void *follow(void *user)
{
    bench_rank *r = user;

    while (idle_engine_follow(&r->engine, LOOK_US) == EEP_OK) {
    }
    return NULL;
}

/* Byte i of what a seat sends in the round. */
static uint8_t sent(int seat, int round, uint64_t i)
{
    return (uint8_t)(seat * 7 + round * 13 + (int)(i % 251));
}

static eep_status call(bench_rank *r, const command *c)
{
    eep_context *context = r->engine.context;

    switch (c->operation) {
    case BARRIER:
        return eep_collective_barrier(context, DEADLINE_US, NULL);
    case BROADCAST:
        return eep_collective_broadcast(context, 0, r->seat == 0 ? r->send : r->receive, c->bytes,
                                        DEADLINE_US, NULL);
    case ALLGATHER:
        return eep_collective_allgather(context, r->send, c->bytes, r->receive, c->bytes, NULL,
                                        DEADLINE_US, NULL);
    default:
        return eep_collective_allreduce(context, r->send, r->receive, c->bytes / 4,
                                        EEP_REDUCE_INT32, EEP_REDUCE_MAX, DEADLINE_US, NULL);
    }
}

/* First and last bytes of all seats: the comparison is not to be what is measured. */
static void check(const bench_rank *r, const command *c, int round)
{
    const uint64_t last = c->bytes ? c->bytes - 1 : 0;

    if (c->operation == BROADCAST && r->seat != 0 &&
        (r->receive[0] != sent(0, round, 0) || r->receive[last] != sent(0, round, last))) {
        die("broadcast", "wrong bytes");
    }
    for (int seat = 0; c->operation == ALLGATHER && seat < options.ranks; seat++) {
        const uint8_t *row = r->receive + (uint64_t)seat * c->bytes;
        if (row[0] != sent(seat, round, 0) || row[last] != sent(seat, round, last)) {
            die("allgather", "wrong bytes");
        }
    }
}

static void run(bench_rank *r, const command *c)
{
    uint64_t *took_ns = calloc((size_t)c->count, sizeof *took_ns);

    for (int round = 0; took_ns && round < c->count; round++) {
        double begin;
        for (uint64_t i = 0; i < c->bytes; i++) {
            r->send[i] = sent(r->seat, round, i);
        }
        begin = now_s();
        if (call(r, c) != EEP_OK) {
            die(names[c->operation], eep_error_text());
        }
        took_ns[round] = (uint64_t)((now_s() - begin) * 1e9);
        check(r, c, round);
    }
    if (!took_ns || (r->seat == 0 && write(r->to_fd, took_ns, (size_t)c->count * sizeof *took_ns) !=
                                         (ssize_t)((size_t)c->count * sizeof *took_ns))) {
        die("times", "they cannot be told");
    }
    free(took_ns);
}

static void run_rank(int seat, int from_fd, int to_fd)
{
    bench_rank r = {.seat = seat, .from_fd = from_fd, .to_fd = to_fd};
    pthread_t thread;
    command c;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    r.send = calloc(1, EEP_COLLECTIVE_MAX_BYTES);
    r.receive = calloc((size_t)options.ranks, EEP_COLLECTIVE_MAX_BYTES);
    if (!r.send || !r.receive ||
        idle_engine_open(&r.engine, seat, options.ranks, store_path) != EEP_OK ||
        eep_join(r.engine.context) != EEP_OK || pthread_create(&thread, NULL, follow, &r) != 0) {
        die("a rank", r.engine.error[0] ? r.engine.error : eep_error_text());
    }
    while (read(from_fd, &c, sizeof c) == (ssize_t)sizeof c) {
        run(&r, &c);
    }
    _exit(0);
}

/* ------------------------------------------------------------------ the parent */

static bool read_command(const char *line, command *c)
{
    char name[16];
    unsigned long long bytes;

    if (sscanf(line, "%15s %llu %d", name, &bytes, &c->count) != 3 || c->count < 1 ||
        c->count > MAX_COUNT || bytes > EEP_COLLECTIVE_MAX_BYTES) {
        return false;
    }
    c->bytes = bytes;
    for (c->operation = 0; c->operation < NUM_OPERATIONS; c->operation++) {
        if (strcmp(names[c->operation], name) == 0) {
            return true;
        }
    }
    return false;
}

/* The times of rank 0, as they come. */
static void print_times(int fd, int count)
{
    for (int i = 0; i < count; i++) {
        uint64_t ns;
        if (read(fd, &ns, sizeof ns) != (ssize_t)sizeof ns) {
            die("a rank", "it has ended");
        }
        printf("%llu%c", (unsigned long long)ns, i + 1 < count ? ' ' : '\n');
    }
    fflush(stdout);
}

static void clean_up(void)
{
    char path[128];

    for (int seat = 0; seat < options.ranks; seat++) {
        snprintf(path, sizeof path, "%s.seat%d", store_path, seat);
        unlink(path);
    }
    rmdir(folder);
}

static void serve(eep_store *store, const int *to_ranks, int times_fd)
{
    char line[128];
    command c;

    while (fgets(line, sizeof line, stdin)) {
        if (!read_command(line, &c)) {
            die(line, "OPERATION BYTES COUNT is expected");
        }
        for (int seat = 0; seat < options.ranks; seat++) {
            if (write(to_ranks[seat], &c, sizeof c) != (ssize_t)sizeof c) {
                die("a rank", "it has ended");
            }
        }
        print_times(times_fd, c.count);
    }
    for (int seat = 0; seat < options.ranks; seat++) {
        close(to_ranks[seat]);
    }
    while (wait(NULL) > 0) {
    }
    eep_store_close(store);
    clean_up();
}

#define AT(field) ARGS_AT(bench_options, field)
static const args_row rows[] = {{"--ranks", ARGS_WHOLE, AT(ranks), 2, MAX_RANKS, NULL, "N", NULL,
                                 "rank processes; default: 8"}};
static const args_table table = {
    .program = "eep-bench-collectives",
    .synopsis = "[OPTION]...",
    .about = "Time collectives of rank processes: lines \"OPERATION BYTES COUNT\" on standard "
             "input,\nwith barrier, broadcast, allgather or allreduce; nanoseconds on standard "
             "output.",
    .section = {ARGS_SECTION(NULL, rows)},
    .given = offsetof(bench_options, given),
};

int main(int argc, char **argv)
{
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    int to_ranks[MAX_RANKS], times[2], result = 0;
    char text[256] = "";
    eep_store *store = NULL;

    output_begin();
    if (!args_begin(&table, &options, argc, argv, &result)) {
        return result;
    }
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    if (snprintf(folder, sizeof folder, "%s/eep-bench-XXXXXX", base) >= (int)sizeof folder ||
        !mkdtemp(folder) || pipe(times) != 0) {
        die(folder, "it cannot be made");
    }
    snprintf(store_path, sizeof store_path, "%s/store", folder);
    for (int seat = 0; seat < options.ranks; seat++) {
        int commands[2];
        if (pipe(commands) != 0) {
            die("pipe", "it cannot be made");
        }
        to_ranks[seat] = commands[1];
        if (fork() == 0) {
            for (int other = 0; other <= seat; other++) {
                close(to_ranks[other]);
            }
            run_rank(seat, commands[0], times[1]);
        }
        close(commands[0]);
    }
    if (eep_store_open(store_path, text, sizeof text, &store) != EEP_OK) {
        die("store", text);
    }
    serve(store, to_ranks, times[0]);
    return 0;
}
