/* The roles that ask about time: ranks that wait for each other on one GPU, and what another
 * process on it costs. */
#include "graphs/cuda/probe_role.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RING_RANKS = 8,
    RING_ROUNDS = 1000,
    RING_LIMIT_S = 10,
    GAPS_MOST = 65536,
    GAP_THRESHOLD_NS = 50000, /* longer than any wait of a kernel that runs */
};

/* ------------------------------------------------------------------ the ring */

typedef struct ring ring;
typedef struct ring_rank {
    ring *of;
    probe_role role; /* a device and a stream of its own, as a rank has */
    eepi_window *own, *next;
    uint64_t *done;
    pthread_t thread;
    uint32_t index;
    eep_status status;
} ring_rank;

struct ring {
    ring_rank ranks[RING_RANKS];
    pthread_barrier_t all;
    int failed;
};

static eep_status ring_window(ring_rank *k)
{
    eepi_window_spec spec = probe_spec(k->index + 1);
    char why[300] = "";
    eep_status status = probe_open(&k->role);

    if (status == EEP_OK)
        status = probe_words(&k->role, 1, &k->done);
    if (status != EEP_OK)
        return status;
    status = eepi_window_create(k->role.device, &spec, why, sizeof(why), &k->own);
    return status == EEP_OK ? EEP_OK : probe_fail(&k->role, status, "a rank's window: %s", why);
}

static eep_status ring_map(ring_rank *k)
{
    const ring_rank *next = &k->of->ranks[(k->index + 1) % RING_RANKS];
    eepi_window_spec spec = probe_spec(next->index + 1);
    eepi_window_descriptor descriptor;
    char why[300] = "";
    eep_status status;

    eepi_window_describe(next->own, &descriptor);
    status = eepi_window_map(k->role.device, &descriptor, &spec, why, sizeof(why), &k->next);
    return status == EEP_OK ? EEP_OK
                            : probe_fail(&k->role, status, "the next rank's window: %s", why);
}

static uint32_t *bell_of(const eepi_window *window)
{
    return &((eepk_window_header *)eepi_window_device_address(window))->doorbell;
}

static eep_status ring_go(ring_rank *k)
{
    probe_ring_args args = {.own = probe_word(k->own, PROBE_WORD_AT),
                            .next = probe_word(k->next, PROBE_WORD_AT),
                            .own_bell = bell_of(k->own),
                            .next_bell = bell_of(k->next),
                            .done = k->done,
                            .num_rounds = RING_ROUNDS,
                            .limit_ns = RING_LIMIT_S * 1000000000ull,
                            .is_first = k->index == 0};
    eep_status status = probe_launch(&k->role, k->role.stream, PROBE_RING, &args, sizeof(args));

    if (status == EEP_OK)
        status = probe_check(
            &k->role,
            eep_stream_synchronize(k->role.stream, RING_LIMIT_S * 1000000ull + PROBE_SYNC_US),
            "the ring's kernel");
    return status;
}

/* Who failed before the barrier keeps everybody from waiting for it in a kernel. */
static int all_are_well(ring_rank *k)
{
    if (k->status != EEP_OK)
        __atomic_store_n(&k->of->failed, 1, __ATOMIC_RELEASE);
    pthread_barrier_wait(&k->of->all);
    return !__atomic_load_n(&k->of->failed, __ATOMIC_ACQUIRE);
}

static void *ring_thread(void *argument)
{
    ring_rank *k = argument;

    k->status = ring_window(k);
    if (!all_are_well(k))
        return NULL;
    k->status = ring_map(k);
    if (all_are_well(k))
        k->status = ring_go(k);
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
        if (pthread_create(&g->ranks[i].thread, NULL, ring_thread, &g->ranks[i]) != 0)
            return probe_fail(r, EEP_ERR_SYSTEM, "no thread for rank %u", i);
    }
    for (uint32_t i = 0; i < RING_RANKS; i++)
        pthread_join(g->ranks[i].thread, NULL);
    pthread_barrier_destroy(&g->all);
    for (uint32_t i = 0; i < RING_RANKS; i++) {
        if (g->ranks[i].status != EEP_OK)
            return probe_fail(r, g->ranks[i].status, "rank %u: %.350s", i,
                              g->ranks[i].role.say.text);
    }
    return EEP_OK;
}

/* Ranks as threads of one process: the word goes round RING_ROUNDS times. Says the rounds that the
 * slowest rank completed, those that there are, and the microseconds of the whole. */
eep_status probe_ring(probe_role *r)
{
    ring *g = calloc(1, sizeof(*g)); /* freed with the process: threads may still hold it */
    uint64_t begin_us = probe_now_us(), least = RING_ROUNDS;
    eep_status status = g ? ring_run(r, g) : probe_fail(r, EEP_ERR_NO_MEMORY, "out of memory");

    if (status != EEP_OK)
        return status;
    for (uint32_t i = 0; i < RING_RANKS; i++) {
        uint64_t done = eepk_load_acquire(g->ranks[i].done);
        least = done < least ? done : least;
    }
    r->say.values[0] = least;
    r->say.values[1] = RING_ROUNDS;
    r->say.values[2] = probe_now_us() - begin_us;
    return probe_say(r);
}

/* ------------------------------------------------------------------ time slices */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static uint64_t median(uint64_t *values, uint64_t count)
{
    qsort(values, count, sizeof(*values), compare_u64);
    return count ? values[count / 2] : 0;
}

/* Of the gaps (began, ended): how many, median and longest; of the times in between: the median. */
static void summarise(probe_role *r, const uint64_t *log, uint64_t count, uint64_t *room)
{
    uint64_t longest = 0, sum = 0, slices = 0;

    for (uint64_t i = 0; i < count; i++) {
        room[i] = log[2 * i + 1] - log[2 * i];
        sum += room[i];
        longest = room[i] > longest ? room[i] : longest;
    }
    r->say.values[0] = count;
    r->say.values[1] = median(room, count);
    r->say.values[2] = longest;
    for (uint64_t i = 0; i + 1 < count; i++)
        room[slices++] = log[2 * (i + 1)] - log[2 * i + 1];
    r->say.values[3] = median(room, slices);
    r->say.values[4] = sum;
}

/* Says that it is ready; spins when told to; says what it missed, in ns. */
eep_status probe_spin(probe_role *r)
{
    probe_gaps_args gaps = {.most = GAPS_MOST,
                            .threshold_ns = GAP_THRESHOLD_NS,
                            .limit_ns = r->how->seconds * 1000000000ull};
    uint64_t *room = malloc(GAPS_MOST * sizeof(*room));
    probe_message asked;
    eep_status status = room ? probe_words(r, 2 * GAPS_MOST, &gaps.log)
                             : probe_fail(r, EEP_ERR_NO_MEMORY, "memory");

    if (status == EEP_OK)
        status = probe_words(r, 1, &gaps.count);
    if (status == EEP_OK)
        status = probe_say(r);
    if (status == EEP_OK)
        status = probe_hear(r, &asked);
    if (status == EEP_OK)
        status = probe_launch(r, r->stream, PROBE_GAPS, &gaps, sizeof(gaps));
    if (status == EEP_OK)
        status = probe_check(
            r, eep_stream_synchronize(r->stream, r->how->seconds * 1000000ull + PROBE_SYNC_US),
            "the spinning kernel");
    if (status == EEP_OK) {
        summarise(r, gaps.log, eepk_load_acquire(gaps.count), room);
        status = probe_say(r);
    }
    free(room);
    return status;
}
