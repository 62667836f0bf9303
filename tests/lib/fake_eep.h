/* SPDX-License-Identifier: Apache-2.0 */
/* A stand-in for libeep in tests of the engine: one rank that holds every expert, and a device
 * whose streams run everything at once in the caller. Fakes the functions of eep.h and device.h
 * that the engine uses. */
#ifndef EEP_TESTS_FAKE_EEP_H
#define EEP_TESTS_FAKE_EEP_H

#include "eep/eep.h"

enum { FAKE_MAX_CHAINS = 2 };

typedef struct fake_shape {
    int32_t num_layers, num_experts, num_slots, top_k, hidden, num_max_tokens;
    int32_t rank, max_ranks;
    eep_dtype dtype;
} fake_shape;

typedef struct fake_backup {
    int32_t layer, expert;
    eep_tensor tensors[EEP_MAX_TENSORS];
} fake_backup;

/* What a test may look at or change between steps. */
struct eep_context {
    fake_shape shape;
    int abort;                  /* 1: steps end as rule D3 says: no rows, nothing combined */
    uint64_t running, given_up; /* eep_step_words: `running` is 1 higher in each step */
    uint32_t aborted;
    int num_slots_set; /* calls of eep_slot_set */
    int32_t *experts;  /* [num_layers, num_slots] */
    /* [num_max_tokens, top_k] of each chain: where dispatch put it, -1: nowhere */
    int32_t *row_of[FAKE_MAX_CHAINS];
    const int32_t *slot_begin;           /* of the last dispatch */
    int32_t num_halves[FAKE_MAX_CHAINS]; /* of the graph that is put: each comes in its turn */
    eep_dispatch_args dispatch[FAKE_MAX_CHAINS];
    eep_combine_args combine[FAKE_MAX_CHAINS];
    fake_backup *backups;
    int num_backups;
};

eep_context *fake_context_open(const fake_shape *shape);
void fake_context_close(eep_context *context);
eep_device *fake_device_open(void);
void fake_device_close(eep_device *device);
/* Allocations since fake_device_open. */
int fake_device_allocations(const eep_device *device);
/* Arguments of the graph's kernels that point into pinned memory, but for those whose names stand
 * in `except`; one of their names. Such an argument is read over the bus where there is one. */
int fake_graph_pinned(const eep_graph *graph, const eep_device *device, const char *except,
                      const char **name_out);
#endif
