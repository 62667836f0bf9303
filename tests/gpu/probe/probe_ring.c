/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks as threads of one process whose kernels wait for each other on one GPU: a word goes round.
 *
 * As plain launches, all at once. As graphs, launched one after the other against the word's
 * direction: seven wait, and the eighth lets the word go. Were two step streams in one hardware
 * queue of the device, the later graph would not begin before the earlier one ends, which waits for
 * the later one's word. */
#include "tests/gpu/probe/probe_role.h"
#include "tests/lib/window_fixture.h"

#include <stdbool.h>
#include <sched.h>
#include <stdlib.h>

enum {
    RING_RANKS = 8,
    RING_ROUNDS = 1000,
    RING_REPLAYS = 50,
    RING_LIMIT_S = 10,
    BEGIN_US = 1000000, /* after which a graph that was launched stands behind another one */
    COPY_US = 200000,
};

typedef struct ring ring;
typedef struct ring_rank {
    ring *of;
    probe_role role;       /* a device and a stream of its own, as a rank has */
    eep_stream *auxiliary; /* and one for its service thread, whose copies must get on */
    eepi_window *own, *next;
    eep_graph *graph; /* NULL: plain launches */
    uint64_t *done, *began, *copy;
    probe_ring_args args;
    pthread_t thread;
    uint32_t index;
    eep_status status;
} ring_rank;

struct ring {
    ring_rank ranks[RING_RANKS];
    pthread_barrier_t all;
    uint32_t num_replays, is_of_graphs;
    int failed;
    uint32_t turn; /* whose graph is launched next */
    uint64_t least_waiting, least_copies, longest_launch_us, round_ns[RING_REPLAYS];
};

/* ------------------------------------------------------------------ what a rank has */

static eep_status ring_window(ring_rank *k)
{
    eepi_window_spec spec = probe_spec(k->index + 1);
    uint64_t *words = NULL;
    char why[300] = "";
    eep_status status = probe_open(&k->role);

    if (status == EEP_OK) {
        status = probe_words(&k->role, 3, &words);
    }
    if (status == EEP_OK) {
        status = probe_check(&k->role, eep_stream_open(k->role.device, &k->auxiliary),
                             "an auxiliary stream");
    }
    if (status != EEP_OK) {
        return status;
    }
    k->done = &words[0];
    k->began = &words[1];
    k->copy = &words[2];
    status = window_make(k->role.device, &spec, why, sizeof why, &k->own);
    return status == EEP_OK ? EEP_OK : probe_fail(&k->role, status, "a rank's window: %s", why);
}

static uint32_t *bell_of(const eepi_window *window)
{
    return &((eepk_window_header *)window_memory(window))->doorbell;
}

static eep_status ring_map(ring_rank *k)
{
    const ring_rank *next = &k->of->ranks[(k->index + 1) % RING_RANKS];
    eepi_window_spec spec = probe_spec(next->index + 1);
    eepi_window_descriptor descriptor;
    char why[300] = "";
    eep_status status;

    eepi_window_describe(next->own, &descriptor);
    status = window_map_whole(k->role.device, &descriptor, &spec, why, sizeof why, &k->next);
    if (status != EEP_OK) {
        return probe_fail(&k->role, status, "the next rank's window: %s", why);
    }
    k->args = (probe_ring_args){.own = probe_word(k->own, PROBE_WORD_AT),
                                .next = probe_word(k->next, PROBE_WORD_AT),
                                .own_bell = bell_of(k->own),
                                .next_bell = bell_of(k->next),
                                .done = k->done,
                                .began = k->began,
                                .num_rounds = RING_ROUNDS / k->of->num_replays,
                                .limit_ns = RING_LIMIT_S * 1000000000ull,
                                .is_first = k->index == 0};
    if (k->role.how->seconds < RING_LIMIT_S) {
        k->args.limit_ns = k->role.how->seconds * 1000000000ull;
    }
    return EEP_OK;
}

/* One node: the kernel that waits. */
static eep_status ring_capture(ring_rank *k)
{
    eep_stream *stream = k->role.stream;
    eep_status status = probe_check(&k->role, eep_capture_begin(stream), "eep_capture_begin");

    if (status == EEP_OK) {
        status = probe_launch(&k->role, stream, PROBE_RING, &k->args, sizeof k->args);
    }
    if (status == EEP_OK) {
        status = probe_check(&k->role, eep_capture_end(stream, &k->graph), "eep_capture_end");
    }
    return status;
}

/* ------------------------------------------------------------------ launches */

/* Ranks whose kernel began for the `replay`th time, the first one left out; waits for all of them,
 * but not for long. */
static uint64_t count_waiting(ring *g, uint64_t replay)
{
    uint64_t until_us = eepi_now_us() + BEGIN_US, count;

    do {
        count = 0;
        for (uint32_t i = 1; i < RING_RANKS; i++) {
            count += eepk_load_acquire(g->ranks[i].began) >= replay;
        }
        sched_yield();
    } while (count < RING_RANKS - 1 && eepi_now_us() < until_us);
    return count;
}

/* Copies in the ranks' auxiliary streams that end while the graphs wait. */
static uint64_t count_copies(ring *g)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < RING_RANKS; i++) {
        ring_rank *k = &g->ranks[i];
        const uint64_t *from = probe_word(k->own, PROBE_ROWS_AT);
        count += eep_copy_async(k->auxiliary, k->copy, from, sizeof *from) == EEP_OK &&
                 eep_stream_synchronize(k->auxiliary, COPY_US) == EEP_OK;
    }
    return count;
}

static void keep_least(uint64_t *least, uint64_t value)
{
    *least = value < *least ? value : *least;
}

static eep_status ring_launch(ring_rank *k)
{
    if (!k->graph) {
        return probe_launch(&k->role, k->role.stream, PROBE_RING, &k->args, sizeof k->args);
    }
    return probe_check(&k->role, eep_graph_replay(k->graph, k->role.stream), "eep_graph_replay");
}

/* Graphs are launched from the last rank to the first; the first one looks at the others before. */
static eep_status ring_launch_in_turn(ring_rank *k, uint64_t replay)
{
    ring *g = k->of;
    uint64_t begin_us;
    eep_status status;

    while (__atomic_load_n(&g->turn, __ATOMIC_ACQUIRE) != k->index) {
        sched_yield();
    }
    if (k->index == 0) {
        keep_least(&g->least_waiting, count_waiting(g, replay));
        keep_least(&g->least_copies, count_copies(g));
    }
    begin_us = eepi_now_us();
    status = ring_launch(k);
    if (eepi_now_us() - begin_us > g->longest_launch_us) {
        g->longest_launch_us = eepi_now_us() - begin_us;
    }
    __atomic_store_n(&g->turn, (k->index + RING_RANKS - 1) % RING_RANKS, __ATOMIC_RELEASE);
    return status;
}

/* Once: launch, and wait for the end. The rank that lets the word go tells how long a round is. */
static eep_status ring_go(ring_rank *k, uint64_t replay)
{
    ring *g = k->of;
    uint64_t begin_ns;
    eep_status status = g->is_of_graphs ? ring_launch_in_turn(k, replay) : ring_launch(k);

    begin_ns = eepi_now_ns();
    if (status == EEP_OK) {
        status = probe_check(
            &k->role,
            eep_stream_synchronize(k->role.stream, RING_LIMIT_S * 1000000ull + PROBE_SYNC_US),
            "the ring's kernel");
    }
    if (k->index == 0) {
        g->round_ns[replay - 1] = (eepi_now_ns() - begin_ns) / k->args.num_rounds;
    }
    return status;
}

/* ------------------------------------------------------------------ the ring */

/* A rank that failed before the barrier keeps the others from waiting for it in a kernel. */
static bool all_are_well(ring_rank *k)
{
    if (k->status != EEP_OK) {
        __atomic_store_n(&k->of->failed, 1, __ATOMIC_RELEASE);
    }
    pthread_barrier_wait(&k->of->all);
    return !__atomic_load_n(&k->of->failed, __ATOMIC_ACQUIRE);
}

/* The word did not go round in time, or copies did not get on: once is enough. */
static bool is_stuck(const ring_rank *k, uint64_t replay)
{
    const ring *g = k->of;

    return eepk_load_acquire(k->done) < replay * k->args.num_rounds ||
           g->least_waiting < RING_RANKS - 1 || g->least_copies < RING_RANKS;
}

static void *ring_thread(void *argument)
{
    ring_rank *k = argument;
    int well;

    k->status = ring_window(k);
    if (!all_are_well(k)) {
        return NULL;
    }
    k->status = ring_map(k);
    if (k->status == EEP_OK && k->of->is_of_graphs) {
        k->status = ring_capture(k);
    }
    well = all_are_well(k);
    for (uint64_t replay = 1; well && replay <= k->of->num_replays; replay++) {
        k->status = ring_go(k, replay);
        if (is_stuck(k, replay)) {
            __atomic_store_n(&k->of->failed, 1, __ATOMIC_RELEASE);
        }
        well = all_are_well(k);
    }
    return NULL;
}

static eep_status ring_run(probe_role *r, ring *g)
{
    pthread_barrier_init(&g->all, NULL, RING_RANKS);
    for (uint32_t i = 0; i < RING_RANKS; i++) {
        g->ranks[i] = (ring_rank){.of = g, .role = *r, .index = i};
        g->ranks[i].role.device = NULL;
        g->ranks[i].role.stream = NULL;
        /* the others would stand at the barrier: the process's end is all that is left */
        if (pthread_create(&g->ranks[i].thread, NULL, ring_thread, &g->ranks[i]) != 0) {
            return probe_fail(r, EEP_ERR_SYSTEM, "no thread for rank %u", i);
        }
    }
    for (uint32_t i = 0; i < RING_RANKS; i++) {
        pthread_join(g->ranks[i].thread, NULL);
    }
    pthread_barrier_destroy(&g->all);
    for (uint32_t i = 0; i < RING_RANKS; i++) {
        if (g->ranks[i].status != EEP_OK) {
            return probe_fail(r, g->ranks[i].status, "rank %u: %.350s", i,
                              g->ranks[i].role.say.text);
        }
    }
    return EEP_OK;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Says: the rounds that the slowest rank completed, those that there are, the microseconds of the
 * whole; of graphs also the least that waited at once of how many, the least copies that ended
 * beside them of how many, and the longest launch; last a round's nanoseconds. */
static eep_status ring_of(probe_role *r, uint32_t num_replays, uint32_t is_of_graphs)
{
    ring *g = calloc(1, sizeof *g); /* freed with the process: threads may still hold it */
    uint64_t begin_us = eepi_now_us(), least = RING_ROUNDS;
    eep_status status;

    if (!g) {
        return probe_fail(r, EEP_ERR_NO_MEMORY, "out of memory");
    }
    g->num_replays = num_replays;
    g->is_of_graphs = is_of_graphs;
    g->turn = RING_RANKS - 1;
    g->least_waiting = RING_RANKS - 1;
    g->least_copies = RING_RANKS;
    status = ring_run(r, g);
    if (status != EEP_OK) {
        return status;
    }
    for (uint32_t i = 0; i < RING_RANKS; i++) {
        keep_least(&least, eepk_load_acquire(g->ranks[i].done));
    }
    qsort(g->round_ns, num_replays, sizeof g->round_ns[0], compare_u64);
    r->say.values[0] = least;
    r->say.values[1] = RING_ROUNDS;
    r->say.values[2] = eepi_now_us() - begin_us;
    r->say.values[3] = g->least_waiting;
    r->say.values[4] = is_of_graphs ? RING_RANKS - 1 : 0;
    r->say.values[5] = g->least_copies;
    r->say.values[6] = RING_RANKS;
    r->say.values[7] = g->longest_launch_us;
    r->say.values[8] = g->round_ns[num_replays / 2];
    return probe_say(r);
}

eep_status probe_ring(probe_role *r)
{
    return ring_of(r, 1, 0);
}

eep_status probe_ring_of_graphs(probe_role *r)
{
    return ring_of(r, RING_REPLAYS, 1);
}
