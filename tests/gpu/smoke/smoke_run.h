/* SPDX-License-Identifier: Apache-2.0 */
/* One run of the GPU check: ranks as threads of this process on one device, each with a step graph
 * captured once, replayed over several steps and bank flips. What every step left in a rank's
 * output buffers is kept, so that runs on two backends can be compared bit by bit. */
#ifndef SMOKE_RUN_H
#define SMOKE_RUN_H

#include "eep/eep.h"

#include <stdbool.h>

enum {
    SMOKE_MAX_RANKS = 8,
    SMOKE_MAX_LAYERS = 4,
    SMOKE_FLIP_EVERY = 3, /* steps between flips */
    SMOKE_WAIT_MS = 20,   /* deadline of the step that a rank runs alone */
    SMOKE_TOKENS = 48,    /* capacity per rank */
    SMOKE_TOPK = 4,
    SMOKE_SPARE_SLOTS = 2, /* per rank, beyond one replica of each expert */
    SMOKE_OUT_ONE_IN = 4,  /* epochs, with `changes`: the last rank is out */
};

/* Where a rank stops in a step: within its send, all rows sent and no tag; between its dispatch and
 * its combine; within its send home. */
enum { SMOKE_STOP_IN_DISPATCH, SMOKE_STOP_BETWEEN, SMOKE_STOP_IN_COMBINE, SMOKE_STOPS };

typedef struct smoke_case {
    const char *name;
    int num_ranks, num_layers, hidden;
    eep_dtype dtype;
    int num_steps;
    uint64_t seed;
    int fp8;     /* rows are quantised on the way */
    int changes; /* the last rank leaves and returns again and again */
} smoke_case;

/* Where a layer's outputs lie in a rank's output buffer. */
typedef struct smoke_layout {
    size_t rows[SMOKE_MAX_LAYERS], scales[SMOKE_MAX_LAYERS], slot_begin[SMOKE_MAX_LAYERS];
    size_t out[SMOKE_MAX_LAYERS];
    size_t rows_bytes, scales_bytes, slot_begin_bytes, out_bytes; /* of one layer */
    size_t bytes;                                                 /* of the whole buffer */
} smoke_layout;

typedef struct smoke_result {
    smoke_layout layout;
    uint8_t *outputs;  /* [num_steps + SMOKE_STOPS][num_ranks][layout.bytes]; zero: not a member */
    uint64_t *step_ns; /* the same cells: replay called .. stream empty */
    uint64_t captures; /* of the whole run */
    uint64_t captures_after_start;
    uint32_t num_nodes;   /* of rank 0's graph */
    int deadline_right;   /* the step that rank 0 ran alone: status DEADLINE, suspects all others */
    uint64_t deadline_ns; /* how long it took */
    int abort_right;      /* the second such step, ended by the abort word */
    uint64_t abort_ns;    /* from storing the word to the end of the graph */
    struct {              /* the steps in which a rank stopped, seen by all others */
        int num_right; /* ranks that ended it by deadline or a peer's word, and accused no other */
        int num_accused; /* that accused the one */
        uint64_t longest_us;
    } stops[SMOKE_STOPS];
    char why[512]; /* what failed */
} smoke_result;

/* Tokens of a rank in a step (both 0-based), of SMOKE_TOKENS. The step before a flip and the one
 * after it have the same inputs, so what differs between them is the placement's doing. */
uint32_t smoke_num_tokens(const smoke_case *test, int step, int rank);
int smoke_epoch_of(int step);
bool smoke_is_member(const smoke_case *test, int epoch, int rank);
/* The rank that stops in the steps for that. */
int smoke_stopper(const smoke_case *test);
/* The run; 0, or -1 with result_out->why. `is_cuda`: the device is not the host backend. Free the
 * result in both cases. Main thread. */
int smoke_run(eep_device *device, int is_cuda, const smoke_case *test, smoke_result *result_out);
void smoke_result_free(smoke_result *result);
#endif
