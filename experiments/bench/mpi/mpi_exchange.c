/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch and combine over MPI_Alltoallv. */
#include "experiments/bench/mpi/mpi_exchange.h"

#include "graphs/kernels/routing.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LINE_BYTES = 64, HUGE_BYTES = 1 << 21 };

typedef struct pair { /* where a (token, k) goes, as the row's list says it */
    uint16_t slot, ordinal;
} pair;

/* What goes between this rank and each other one in one collective call. */
typedef struct parts {
    int send_bytes[BENCH_MAX_RANKS], send_at[BENCH_MAX_RANKS];
    int receive_bytes[BENCH_MAX_RANKS], receive_at[BENCH_MAX_RANKS];
} parts;

struct mpi_exchange {
    const bench_rank *r;
    int num_ranks;
    uint32_t top_k, num_tokens, num_slots, row_bytes;
    uint32_t sent_bytes;     /* a row and its list */
    uint16_t *seat;          /* [num_tokens, top_k] */
    pair *pairs;             /* [num_tokens, top_k] */
    uint32_t *came_from;     /* [num_tokens, top_k]: which row of `home` is the pair's */
    uint32_t *send_counts;   /* [num_ranks][num_slots + 1]: pairs of each slot, then rows */
    uint32_t *counts;        /* the same, received */
    uint32_t *base;          /* [num_ranks][num_slots]: first packed row */
    uint32_t *pairs_of;      /* [num_ranks]: pairs that came from it */
    uint8_t *send, *receive; /* rows on their way to experts */
    uint8_t *rows;           /* packed, by slot */
    uint8_t *back, *home;    /* rows on their way back, in order of (source, token, k) */
    uint16_t *out;
};

/* Zeroed: pages are there before anything is timed. */
static void *room(bool is_huge, size_t bytes)
{
    const size_t alignment = is_huge ? HUGE_BYTES : LINE_BYTES;
    void *memory = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);

    if (!memory) {
        bench_fatal("out of memory");
    }
    if (is_huge) {
        (void)madvise(memory, bytes, MADV_HUGEPAGE);
    }
    return memset(memory, 0, bytes);
}

mpi_exchange *mpi_exchange_open(const bench_rank *r, bool is_huge)
{
    mpi_exchange *e = room(false, sizeof *e);
    const eepk_shape *s = &r->shape;
    const size_t pairs = (size_t)s->num_max_tokens * s->top_k;
    const size_t cells = (size_t)s->max_ranks * (s->num_slots + 1);
    const size_t sent = (size_t)s->max_ranks * s->num_max_tokens;
    const size_t packed = r->world->traffic.max_packed_rows;

    e->r = r;
    e->num_ranks = (int)s->max_ranks;
    e->top_k = s->top_k;
    e->num_tokens = s->num_max_tokens;
    e->num_slots = s->num_slots;
    e->row_bytes = s->row_bytes;
    e->sent_bytes = s->row_bytes + (uint32_t)((s->top_k * sizeof(pair) + 63) / 64 * 64);
    e->seat = room(false, pairs * sizeof *e->seat);
    e->pairs = room(false, pairs * sizeof *e->pairs);
    e->came_from = room(false, pairs * sizeof *e->came_from);
    e->send_counts = room(false, cells * sizeof *e->send_counts);
    e->counts = room(false, cells * sizeof *e->counts);
    e->base = room(false, cells * sizeof *e->base);
    e->pairs_of = room(false, s->max_ranks * sizeof *e->pairs_of);
    e->send = room(is_huge, sent * e->sent_bytes);
    e->receive = room(is_huge, sent * e->sent_bytes);
    e->rows = room(is_huge, packed * e->row_bytes);
    e->back = room(is_huge, packed * e->row_bytes);
    e->home = room(is_huge, pairs * e->row_bytes);
    e->out = room(false, (size_t)s->num_max_tokens * s->row_bytes);
    return e;
}

void mpi_exchange_close(mpi_exchange *e)
{
    void *const all[] = {e->seat, e->pairs,   e->came_from, e->send_counts, e->counts,   e->base,
                         e->send, e->receive, e->rows,      e->back,        e->pairs_of, e->home,
                         e->out,  e};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        free(all[i]);
    }
}

/* ------------------------------------------------------------------ dispatch */

/* One replica of each expert: nothing to choose. Counts what goes to each slot of each rank. */
static void route(mpi_exchange *e, uint32_t layer)
{
    const eepk_shape *s = &e->r->shape;
    const uint32_t *first = eepk_replica_first(s, e->r->image, layer);
    const eepk_replica *replicas = eepk_replicas(s, e->r->image, layer);
    const int32_t *topk_idx = e->r->topk_idx[layer % BENCH_SETS];

    memset(e->send_counts, 0, (size_t)e->num_ranks * (e->num_slots + 1) * sizeof *e->send_counts);
    for (uint32_t i = 0; i < e->num_tokens * e->top_k; i++) {
        const eepk_replica *to = &replicas[first[topk_idx[i]]];
        uint32_t *count = e->send_counts + to->seat * (e->num_slots + 1);
        bool is_first = true;
        e->seat[i] = to->seat;
        e->pairs[i] = (pair){to->slot, (uint16_t)count[to->slot]++};
        for (uint32_t j = i - i % e->top_k; j < i; j++) {
            is_first &= e->seat[j] != to->seat;
        }
        count[e->num_slots] += is_first;
    }
}

/* Rows to each rank one behind the other, each with its list. */
static void pack(mpi_exchange *e, uint32_t layer, const parts *p)
{
    const uint8_t *x = e->r->inputs + (layer % BENCH_SETS) * e->r->world->inputs.set_bytes;
    uint8_t *next[BENCH_MAX_RANKS];

    for (int seat = 0; seat < e->num_ranks; seat++) {
        next[seat] = e->send + p->send_at[seat];
    }
    for (uint32_t token = 0; token < e->num_tokens; token++) {
        const uint16_t *seats = e->seat + token * e->top_k;
        for (uint32_t k = 0; k < e->top_k; k++) {
            const uint16_t seat = seats[k];
            pair *list = (pair *)(void *)(next[seat] + e->row_bytes);
            uint32_t before = 0;
            while (seats[before] != seat) {
                before++;
            }
            if (before < k) {
                continue;
            }
            memcpy(next[seat], x + (size_t)token * e->row_bytes, e->row_bytes);
            for (uint32_t j = 0; j < e->top_k; j++) {
                list[j] =
                    seats[j] == seat ? e->pairs[token * e->top_k + j] : (pair){EEPK_NO_SLOT, 0};
            }
            next[seat] += e->sent_bytes;
        }
    }
}

/* Packed rows: by slot, in a slot by source. */
static void lay_out(mpi_exchange *e)
{
    uint32_t next = 0;

    memset(e->pairs_of, 0, (size_t)e->num_ranks * sizeof *e->pairs_of);
    for (uint32_t slot = 0; slot < e->num_slots; slot++) {
        for (int seat = 0; seat < e->num_ranks; seat++) {
            const uint32_t rows = e->counts[(uint32_t)seat * (e->num_slots + 1) + slot];
            e->base[(uint32_t)seat * e->num_slots + slot] = next;
            e->pairs_of[seat] += rows;
            next += rows;
        }
    }
}

/* Call `fn` for each pair of the rows that came, in order of (source, token, k). */
static void for_each_pair(mpi_exchange *e, const uint8_t *received,
                          void (*fn)(mpi_exchange *e, const uint8_t *row, uint32_t position,
                                     uint32_t number))
{
    uint32_t number = 0;

    for (int seat = 0; seat < e->num_ranks; seat++) {
        const uint32_t rows = e->counts[(uint32_t)seat * (e->num_slots + 1) + e->num_slots];
        for (uint32_t i = 0; i < rows; i++, received += e->sent_bytes) {
            const pair *list = (const pair *)(const void *)(received + e->row_bytes);
            for (uint32_t k = 0; k < e->top_k; k++) {
                if (list[k].slot != EEPK_NO_SLOT) {
                    fn(e, received,
                       e->base[(uint32_t)seat * e->num_slots + list[k].slot] + list[k].ordinal,
                       number++);
                }
            }
        }
    }
}

static void unpack_pair(mpi_exchange *e, const uint8_t *row, uint32_t position, uint32_t number)
{
    (void)number;
    memcpy(e->rows + (size_t)position * e->row_bytes, row, e->row_bytes);
}

static void exchange(const uint8_t *send, uint8_t *receive, const parts *p)
{
    MPI_Alltoallv(send, p->send_bytes, p->send_at, MPI_BYTE, receive, p->receive_bytes,
                  p->receive_at, MPI_BYTE, MPI_COMM_WORLD);
}

/* One part behind the other. */
static void place(parts *p, int num_ranks)
{
    for (int seat = 1; seat < num_ranks; seat++) {
        p->send_at[seat] = p->send_at[seat - 1] + p->send_bytes[seat - 1];
        p->receive_at[seat] = p->receive_at[seat - 1] + p->receive_bytes[seat - 1];
    }
}

void mpi_exchange_dispatch(mpi_exchange *e, uint32_t layer)
{
    const int cells = (int)e->num_slots + 1;
    parts p = {{0}, {0}, {0}, {0}};

    route(e, layer);
    MPI_Alltoall(e->send_counts, cells, MPI_UINT32_T, e->counts, cells, MPI_UINT32_T,
                 MPI_COMM_WORLD);
    for (int seat = 0; seat < e->num_ranks; seat++) {
        const int rows_at = seat * cells + (int)e->num_slots;
        p.send_bytes[seat] = (int)(e->send_counts[rows_at] * e->sent_bytes);
        p.receive_bytes[seat] = (int)(e->counts[rows_at] * e->sent_bytes);
    }
    place(&p, e->num_ranks);
    pack(e, layer, &p);
    exchange(e->send, e->receive, &p);
    lay_out(e);
    for_each_pair(e, e->receive, unpack_pair);
}

/* ------------------------------------------------------------------ combine */

static void pack_back(mpi_exchange *e, const uint8_t *row, uint32_t position, uint32_t number)
{
    (void)row;
    memcpy(e->back + (size_t)number * e->row_bytes, e->rows + (size_t)position * e->row_bytes,
           e->row_bytes);
}

/* Each rank gives back this one's pairs in order of (token, k). */
static void find_home(mpi_exchange *e, const parts *p)
{
    uint32_t next[BENCH_MAX_RANKS];

    for (int seat = 0; seat < e->num_ranks; seat++) {
        next[seat] = (uint32_t)p->receive_at[seat] / e->row_bytes;
    }
    for (uint32_t i = 0; i < e->num_tokens * e->top_k; i++) {
        e->came_from[i] = next[e->seat[i]]++;
    }
}

static void reduce(mpi_exchange *e, uint32_t layer)
{
    const float *weights = e->r->topk_weights[layer % BENCH_SETS];

    for (uint32_t token = 0; token < e->num_tokens; token++) {
        const void *rows[EEP_MAX_TOPK];
        const eepk_rows_sum_args sum = {.rows = rows,
                                        .weights = weights + (size_t)token * e->top_k,
                                        .out = e->out + (size_t)token * e->r->shape.hidden,
                                        .num_rows = e->top_k,
                                        .hidden = e->r->shape.hidden,
                                        .dtype = EEP_BF16,
                                        .out_dtype = EEP_BF16};
        for (uint32_t k = 0; k < e->top_k; k++) {
            rows[k] = e->home + (size_t)e->came_from[token * e->top_k + k] * e->row_bytes;
        }
        eepk_rows_sum(&sum);
    }
}

void mpi_exchange_combine(mpi_exchange *e, uint32_t layer)
{
    parts p = {{0}, {0}, {0}, {0}};

    for (int seat = 0; seat < e->num_ranks; seat++) {
        const uint32_t *sent = e->send_counts + (uint32_t)seat * (e->num_slots + 1);
        uint32_t pairs = 0;
        for (uint32_t slot = 0; slot < e->num_slots; slot++) {
            pairs += sent[slot];
        }
        p.send_bytes[seat] = (int)(e->pairs_of[seat] * e->row_bytes);
        p.receive_bytes[seat] = (int)(pairs * e->row_bytes);
    }
    place(&p, e->num_ranks);
    for_each_pair(e, e->receive, pack_back);
    exchange(e->back, e->home, &p);
    find_home(e, &p);
    reduce(e, layer);
}

const uint16_t *mpi_exchange_out(const mpi_exchange *e)
{
    return e->out;
}
