/* SPDX-License-Identifier: Apache-2.0 */
/* An instance in one process, through the public API alone: an embedded store, and per seat a
 * context, a host device (plain or guarded) and a thread that steps. Two layers of experts that
 * scale and shift rows by numbers from their slot's tensors, so a wrong weight, row or sum shows in
 * the result; all numbers are exact in binary32, and what a step should give is computed plainly.
 *
 * A rank thread does what its mode says; tests change modes and wait for what follows. */
#ifndef CONTEXT_FIXTURE_H
#define CONTEXT_FIXTURE_H

#include "eep/eep.h"
#include "eep/shapes.h"
#include "eep/store.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdint.h>
#include <time.h>

enum {
    WORLD_SEATS = 6, /* most ranks of a test */
    WORLD_LAYERS = 2,
    WORLD_EXPERTS = 8,
    WORLD_SLOTS = 5,
    WORLD_HIDDEN = 16,
    WORLD_TOKENS = 4,
    WORLD_TOPK = 2,
    WORLD_CHUNKS = 2,            /* of shape 1, where a world has shapes */
    WORLD_TENSORS = 2,           /* of an expert: scale [hidden], shift [hidden] */
    WORLD_BUFFERS = 64,          /* device allocations of a rank */
    WORLD_WAIT_MS = 30000,       /* longest wait for anything: no healthy run comes near */
    WORLD_PATIENT_US = 20000000, /* a deadline that is not to end a step */
};

typedef enum rank_mode {
    RANK_PARK,   /* call nothing */
    RANK_FOLLOW, /* no work: eep_step_wait, then steps with zero tokens */
    RANK_WORK,   /* step with WORLD_TOKENS tokens, one step after the other */
    RANK_QUIT,   /* end the thread */
} rank_mode;

/* What is wrong with the next input of a rank. */
typedef enum rank_bad {
    BAD_NONE,
    BAD_EXPERT_HIGH, /* token 1, k 1: expert WORLD_EXPERTS */
    BAD_EXPERT_LOW,  /* token 2, k 0: expert -7 */
    BAD_TWICE,       /* token 3: both k the same expert */
    BAD_TOO_MANY,    /* num_tokens WORLD_TOKENS + 1 */
    BAD_NEGATIVE,    /* num_tokens -1 */
} rank_bad;

typedef struct rank_buffer {
    eep_memory kind;
    void *memory;
} rank_buffer;

/* A micro-batch. All chains have the same inputs, and so the same results. */
typedef struct rank_chain {
    float *out;                     /* pinned */
    float *middle, *rows, *results; /* device memory: [tokens or capacity, hidden] */
    int32_t *slot_begin;
} rank_chain;

/* How two chains mix in a captured step. */
typedef enum rank_mix { MIX_HALVES, MIX_WHOLE_LAYERS } rank_mix;

struct world;
typedef struct rank {
    struct world *world;
    int32_t seat;
    eep_device *device;
    eep_context *context;
    eep_stream *stream;
    eep_graph *graph;
    eep_graph *sized[WORLD_TOKENS + 1];     /* for that many tokens; NULL: `graph` is */
    eep_graph *chunked;                     /* of shape 1; NULL: the world has one shape */
    int32_t (*wants)(const struct rank *r); /* which shape; NULL: 0. With its thread */
    int varies;                             /* 1: RANK_WORK has 1 to WORLD_TOKENS tokens, in turn */
    pthread_t thread;
    int has_thread;
    int32_t experts[WORLD_LAYERS][WORLD_SLOTS];   /* what eep_slot_expert asked for */
    char error[256];                              /* why rank_open failed */
    uint32_t events[EEP_EVENT_PORT_UP + 1];       /* seen so far, by kind; atomic */
    uint64_t event_epochs[EEP_EVENT_PORT_UP + 1]; /* of the last one of each kind; atomic */
    void (*ordered)(struct rank *r); /* called before weights are given; NULL: nothing */
    void (*opened)(struct rank *r);  /* called before rank_open captures; NULL: nothing */
    /* Put into the stream behind the experts of each layer, and behind the last combine with
     * WORLD_LAYERS; NULL: nothing. */
    eep_status (*behind)(struct rank *r, int32_t layer);
    /* Changes the arguments of a dispatch, whose `rows` and `results` have room for any form (slots
     * begin at most at multiples of 8 rows). NULL: rows are packed, ids are logical. */
    void (*form)(const struct rank *r, int32_t layer, eep_dispatch_args *args);
    void (*filled)(struct rank *r); /* called when inputs are there; NULL: nothing */
    size_t longer;                  /* bytes more of each tensor: 0 but for a test of other sizes */
    float heavier; /* added to the scale of layer 1 expert 3: 0 but for a test of other weights */

    rank_buffer buffers[WORLD_BUFFERS];
    int num_buffers;
    rank_mix mix, mix_of_chunks; /* where config.num_chains is 2: in shapes 0 and 1 */
    /* pinned: what the host writes and reads between steps */
    float *x, *out; /* [tokens, hidden]; out: of the first chain */
    int32_t *topk_idx, *num_tokens;
    int32_t *chunk_tokens; /* [WORLD_CHUNKS], of num_tokens */
    void *staging;         /* what is copied to device memory */
    /* device memory */
    rank_chain chain[2];
    float *topk_weights;
    const float **weights; /* [layers][slots][tensors] */

    /* { under the world's lock */
    rank_mode mode;
    rank_bad bad;      /* of the next step with tokens; then BAD_NONE again */
    int drain;         /* call eep_drain before the next step; then 0 again */
    int joined, busy;  /* busy: from deciding to step to the step's end */
    int in_step;       /* replayed */
    uint64_t position; /* next input: goes up with each good step that had tokens */
    uint64_t steps_ok, steps_aborted, steps_bad, wrong, idles, closed;
    /* closed: begins refused with EEP_ERR_UNCOVERED */
    uint64_t shape_ok[2];             /* of steps_ok, by shape */
    uint64_t most_in_a_row, in_a_row; /* steps that were aborted one after the other */
    uint64_t last_step, last_epoch;
    int32_t last_active; /* num_active of the last step begun */
    eep_status join_status, ended, bad_status;
    char text[512]; /* eep_last_error of the last step that failed, or of eep_join */
    /* } */
} rank;

typedef struct world {
    eep_config config;    /* what all ranks get, but for rank, device and callbacks */
    const char *device;   /* EEP_TEST_DEVICE, or "host" */
    int keep_backups;     /* ranks keep the host copies that eep_backup_wanted asks for */
    int windows_discrete; /* as on a device whose memory host threads cannot touch */
    eep_event_fn event;   /* of all ranks, and of their log; NULL: the fixture's, with the rank */
    void *user;           /* for both */
    char directory[64], path[96];
    char address[256];  /* what ranks are given; EEP_TEST_STORE */
    const char *served; /* where the store serves: one of the two */
    eep_store *store;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    rank ranks[WORLD_SEATS];
} world;

/* The shape and the times of a world, without seats and store. */
void world_config(eep_config *config);
/* All but the store, which another process has; its path goes into `path`. */
void world_prepare(world *w, int32_t num_ranks, int32_t max_ranks);
/* Before the ranks open: steps of WORLD_TOKENS / WORLD_CHUNKS tokens, or of WORLD_TOKENS in chunks.
 */
void world_add_chunks(world *w);
/* The store comes back empty, at its address. */
void world_serve(world *w);
/* A store, and a configuration of ranks that wait patiently; nothing runs yet. */
void world_open(world *w, int32_t num_ranks, int32_t max_ranks);
/* Open, capture and start ranks 0 .. num_ranks-1, and wait until all have joined. */
void world_start(world *w);
/* Let all ranks come to rest, end their threads, close everything. */
void world_close(world *w);

/* eep_open, weights, capture. On failure nothing is open and `error` of the rank says why. */
eep_status rank_open(world *w, int32_t seat);
/* The step of an open rank without a thread, captured (again). */
eep_graph *rank_capture(rank *r);
/* The same for one batch size, whatever rank_fill says: a node of its own sets it. */
eep_graph *rank_capture_for(rank *r, int32_t num_tokens);
/* Start the thread of an open rank: eep_join, then its mode. */
void rank_run(rank *r);
/* End the thread; the context stays open. */
void rank_stop(rank *r);
/* rank_stop, then close the context as a process that ends would, and all else. */
void rank_close(rank *r);
void rank_set_mode(rank *r, rank_mode mode);
/* The same for ranks first .. last. */
void world_set_modes(world *w, int32_t first, int32_t last, rank_mode mode);

/* One step by hand, for a rank without a thread: begin, replay, end. */
eep_status rank_step(rank *r, int32_t num_tokens);
uint64_t rank_events(const rank *r, eep_event_kind kind);
eep_counters rank_counters(const rank *r);
/* A seat as the rank sees it, and the epoch that this belongs to. */
eep_seat rank_sees(const rank *r, int32_t seat, uint64_t *epoch_out);
/* 1 if no rank with a thread is in a step and each has looked for one in vain since it follows. */
int world_is_quiet(const world *w);
/* What every rank did, to stderr. */
void world_print(world *w);

/* Wait until the ranks first .. last have each ended `more` further steps OK. */
void world_advance(world *w, int32_t first, int32_t last, uint64_t more);
/* Nobody has work any more; wait until all are quiet. */
void world_rest(world *w);
/* No wrong number and no capture since the join, on all ranks that are open. */
void world_check_right(world *w);
void world_expect_epoch(uint64_t epoch, uint64_t expected);
void world_check_never_aborted(world *w, int32_t first, int32_t last);
/* They say that they are busy, for longer than any test: where a deadline is so short that a busy
 * machine makes anybody miss it, only those whom the test means are accused. */
void world_excuse(world *w, int32_t first, int32_t last);
/* The rank stops stepping, and has no excuse. */
void rank_fall_silent(rank *r);

/* The weights of an expert: scale [WORLD_HIDDEN], shift [WORLD_HIDDEN]. */
void world_expert(int32_t layer, int32_t expert, float *scale, float *shift);

/* The next input of the rank, made bad as asked; and how many numbers of its `out` are not what
 * they should be. Rank thread. */
void rank_fill(rank *r, int32_t num_tokens, rank_bad bad);
uint64_t rank_count_wrong(const rank *r, int32_t num_tokens);

void world_lock(world *w);
void world_unlock(world *w);
/* With the lock held: sleep until something changed, a little while at most. */
void world_nap(world *w);
uint64_t world_now_ms(void);

/* Wait until the condition, looked at under the lock, holds; the test fails if it never does. */
#define WORLD_WAIT(w, condition)                                                                   \
    do {                                                                                           \
        uint64_t until_ms = world_now_ms() + WORLD_WAIT_MS;                                        \
        int holds;                                                                                 \
        world_lock(w);                                                                             \
        while (!(holds = (condition)) && world_now_ms() < until_ms)                                \
            world_nap(w);                                                                          \
        world_unlock(w);                                                                           \
        if (!holds)                                                                                \
            world_print(w);                                                                        \
        cr_assert(holds, "not within %d ms: %s", WORLD_WAIT_MS, #condition);                       \
    } while (0)
#endif
