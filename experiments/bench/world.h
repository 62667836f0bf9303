/* SPDX-License-Identifier: Apache-2.0 */
/* The ranks of one measurement: threads of this process on one device, each with window, tables,
 * inputs, buffers, and graphs of the elastic step and of its fixed-membership baseline. Both graphs
 * of a rank use the same windows, tables, scratch and buffers (with tags of their own), so that
 * where memory happens to lie favours neither.
 *
 * There is no expert computation: with BF16 the combine sends back what dispatch delivered, with
 * FP8 rows of random values. Whatever fails ends the program with a text: a measurement of which a
 * part failed is none, and a rank without its peers may wait for ever. */
#ifndef BENCH_WORLD_H
#define BENCH_WORLD_H

#include "eep/shapes.h"
#include "experiments/bench/inputs.h"
#include "experiments/bench/native.h"
#include "graphs/device/tables.h"

#include <pthread.h>
#include <stdbool.h>

enum {
    BENCH_MAX_RANKS = 32,
    BENCH_STAMPS_PER_LAYER = 8, /* before route, then after each of the seven nodes */
    BENCH_AFTER_UNPACK = 4,
    BENCH_BEFORE_COMBINE = 5, /* where ranks meet between the phases; else the stamp before it */
    BENCH_AFTER_REDUCE = 7,
};

typedef enum bench_kind {
    BENCH_ELASTIC,
    BENCH_FIXED,
    BENCH_PADDED,  /* the elastic step with padded rows and counts (eep/forms.h) */
    BENCH_CHUNKED, /* the elastic step in chunks (eep/shapes.h), in windows for all of it */
    BENCH_NUM_KINDS
} bench_kind;
typedef enum bench_stamps {
    BENCH_NO_STAMPS,
    BENCH_STAMP_PHASES, /* before and after dispatch, after combine */
    BENCH_STAMP_NODES   /* after each node; each stamp is a node that the others wait for */
} bench_stamps;

typedef struct bench_rank bench_rank;
/* Where rows take a network, and not the peers' windows. Fatal on failure. */
typedef struct bench_network {
    void (*plan)(eepk_shape *shape);
    void *(*open)(bench_rank *rank); /* becomes rank->network; its tables are there */
    void (*name_peers)(const bench_rank *rank,
                       uint8_t *image);   /* in a bank: how they are reached */
    void (*begin_step)(bench_rank *rank); /* rank->step is about to be launched */
    void (*close)(bench_rank *rank);
} bench_network;

/* Where each rank is a process of its own (eep-bench-mpi): this one has rank `index`. */
typedef struct bench_peers {
    int index;
    pthread_barrier_t *barrier; /* of all processes */
    /* Make this rank's window; write all ranks' addresses here, [num_ranks]. Fatal on failure. */
    void (*open_windows)(void *user, size_t bytes, void **windows_out);
    void *user;
    const bench_network *network; /* NULL: rows go into these windows */
} bench_peers;

typedef struct bench_setup {
    int num_ranks, num_layers, num_experts, top_k, hidden, num_tokens, fp8;
    uint32_t num_blocks; /* of the grids that any number of blocks may do */
    bench_stamps stamps;
    uint64_t seed;
    bool pin;                 /* rank i and its stream's worker on the i-th core (host) */
    const bench_peers *peers; /* NULL: all ranks are threads of this process */
    int num_chunks;           /* of a chunked step; 0: there is none */
    bool pads;                /* there is room for padded rows (BF16) */
    bool meets;               /* ranks meet before a phase begins (peers, host): between stamps */
} bench_setup;

typedef struct bench_world bench_world;
struct bench_rank {
    bench_world *world;
    int index;
    eepk_shape shape, fixed_shape; /* the latter's tags lie behind the former's window */
    eepi_tables *tables;
    const uint8_t *image;  /* what was staged last, readable */
    eepk_world host_world; /* a copy of the device's */
    eep_stream *stream;
    eep_graph *graph[BENCH_NUM_KINDS];
    void *window;
    uint8_t *inputs;   /* device memory, as world->inputs says */
    uint16_t *staging; /* pinned, staging_bytes: on the way in and out */
    size_t staging_bytes;
    void *rows, *expert_rows, *out;
    float *row_scales;
    int32_t *slot_begin;
    void *padded_rows; /* with `pads`: [num_slots, num_ranks * tokens, hidden] */
    int32_t *slot_counts;
    eepk_fixed_state *state;
    uint64_t *stamps, *stamps_host; /* device, pinned: [num_layers][BENCH_STAMPS_PER_LAYER] */
    int32_t *topk_idx[BENCH_SETS];  /* host copies of the routing and its weights */
    float *topk_weights[BENCH_SETS];
    uint64_t step, epoch;               /* of the elastic graph; its last step */
    double *times[BENCH_NUM_KINDS + 1]; /* for the cases */
    void *network;                      /* bench_network.open's */
    pthread_t thread;
};

struct bench_world {
    eep_device *device;
    bool is_cuda;
    bench_setup setup;
    bench_inputs inputs;
    bench_traffic traffic;
    bench_bytes bytes;
    bench_rank rank[BENCH_MAX_RANKS];
    void *windows[BENCH_MAX_RANKS];
    pthread_barrier_t barrier, *meeting; /* the latter: this one, or the processes' */
    void (*body)(bench_rank *rank, void *user);
    void *user;
};

/* End the program with a text on stderr, and exit status 1; never returns. Any thread. */
__attribute__((format(printf, 1, 2), noreturn)) void bench_fatal(const char *format, ...);
/* Fatal unless EEP_OK; `what` was being done. */
void bench_ok(const bench_world *world, eep_status status, const char *what);

/* Allocate, fill inputs, go live under epoch 1. No graph is captured yet. With peers only their
 * `index` of rank[] is opened, by each process for itself. */
bench_world *bench_world_open(eep_device *device, bool is_cuda, const bench_setup *setup);
void bench_world_close(bench_world *world);

/* Run `body` on all ranks, each in its own thread, and wait for all. Main thread; not with peers.
 */
void bench_world_run(bench_world *world, void (*body)(bench_rank *rank, void *user), void *user);
/* All ranks meet here. In a body, or where each rank is a process. */
void bench_meet(bench_rank *rank);

/* Rows of a padded slot. */
uint32_t bench_slot_rows(const bench_rank *rank);

/* Stage a view of the next epoch, ready to be flipped to. In a body. */
void bench_stage_next(bench_rank *rank, eepi_view **view_out);
/* Put the flip into the stream: the next elastic step runs under the view, which is freed. */
void bench_flip(bench_rank *rank, eepi_view *view);

/* Begin the elastic graph's next step, or the baseline's; does not wait. */
void bench_replay(bench_rank *rank, bench_kind kind);
/* Wait for all that is in the stream; fatal after a minute. */
void bench_finish(bench_rank *rank);
/* Fatal unless the last elastic step ended so (EEPK_STEP_*); whether it did as two. */
void bench_expect(bench_rank *rank, uint32_t result, uint32_t or_result);
/* Replay, wait, look at the status; nanoseconds by the host's clock. */
uint64_t bench_step(bench_rank *rank, bench_kind kind);
/* An untimed step with poisoned outputs; the number of outputs that are not what they must be: with
 * BF16 the weighted sum of the inputs, to the bit; with FP8 anything that was written. */
uint64_t bench_check_step(bench_rank *rank, bench_kind kind);
/* Copy the stamps of the last replay to rank->stamps_host. */
void bench_fetch_stamps(bench_rank *rank);
/* A digest of the outputs of the last step. */
uint64_t bench_digest_out(bench_rank *rank);
#endif
