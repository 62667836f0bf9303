/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a run of the GPU check share: its ranks, and how one captures and steps. */
#ifndef SMOKE_RANK_H
#define SMOKE_RANK_H

#include "tests/gpu/smoke/smoke_inputs.h"
#include "tests/gpu/smoke/smoke_run.h"
#include "graphs/device/device_ops.h"
#include "graphs/kernels/kernels.h"
#include "graphs/device/tables.h"

#include <stdbool.h>
#include <pthread.h>

typedef struct smoke_group smoke_group;
typedef struct smoke_rank {
    smoke_group *run;
    int index, seat, epoch; /* epoch: of the bank that is live */
    eepk_shape shape;
    eepi_tables *tables;
    eep_stream *stream;
    eep_graph *graph, *until[SMOKE_STOPS]; /* the whole step; its beginning, up to a stop */
    void *window;
    uint8_t *inputs, *outputs, *expert_out;       /* device memory */
    uint8_t *inputs_host, *poison, *outputs_host; /* pinned: sources and target of copies */
    uint32_t *never_last; /* pinned: a count of blocks that no send comes to */
    pthread_t thread;
    char why[256];
} smoke_rank;

struct smoke_group {
    eep_device *device;
    const smoke_case *test;
    smoke_result *result;
    int is_cuda, max_ranks, num_slots;
    smoke_inputs in;
    eepi_view **views; /* [num_flips], of epochs 1, 2, ... */
    int num_flips;
    void *windows[SMOKE_MAX_RANKS + 1];
    smoke_rank ranks[SMOKE_MAX_RANKS];
    pthread_barrier_t barrier;
    pthread_mutex_t lock; /* of result->stops */
    int failed;
};

/* Note why the run failed, for good; -1. Any of its threads. */
__attribute__((format(printf, 2, 3))) int smoke_fail(smoke_rank *r, const char *format, ...);
/* 0, or -1 with what failed. */
int smoke_check(smoke_rank *r, eep_status status, const char *what);
bool smoke_is_failed(const smoke_group *run);

/* smoke_capture.c: the rank's graphs. */
int smoke_capture(smoke_rank *r);
/* smoke_steps.c: all that a rank does once everybody has captured. */
void smoke_steps(smoke_rank *r);
#endif
