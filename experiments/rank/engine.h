/* SPDX-License-Identifier: Apache-2.0 */
/* The serving engine of one rank: requests, continuous batching with chunked prefill, and the
 * contract of docs/INTEGRATION.md: state that a step computes goes to a shadow and becomes current
 * only when the step ended OK. Knows the model (model.h), nothing of sockets or launchers. */
#ifndef EEPX_ENGINE_H
#define EEPX_ENGINE_H

#include "eep/eep.h"
#include "experiments/wire/wire.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct engine_config {
    uint64_t seed;
    int32_t num_layers, hidden, inner, num_experts, top_k, vocabulary; /* docs/MODEL.md */
    int32_t num_slots;               /* expert slots of this rank per layer */
    int32_t num_max_tokens_per_rank; /* positions per step, of all chains */
    int32_t num_chains;              /* micro-batches of a step; 0: 1 */
    int32_t num_max_requests;        /* at once on this rank */
    int32_t prefill_chunk;           /* most prompt positions of one request in one step */
    int32_t corrupt;                 /* 0 none, else a seeded corruption: see engine_corruption */
    uint64_t corrupt_step;           /* from this step on */
    eep_dtype dtype;
    int32_t fp8;            /* rows are quantised on their way to the experts */
    const char *checkpoint; /* weights are read from it; NULL: generated from the seed */
    bool no_backups;
    int32_t router_skew, expert_us; /* docs/MODEL.md */
} engine_config;

/* Faults of the product that the oracle must catch, and a bad input. */
typedef enum engine_corruption {
    ENGINE_CORRUPT_NONE,
    ENGINE_CORRUPT_SLOT,  /* once: an expert slot computes with another slot's weights */
    ENGINE_CORRUPT_STALE, /* once: a row of the step before is used again */
    ENGINE_CORRUPT_DROP,  /* once: one of the k contributions to a token is left out */
    /* Not a fault of the product: one request names an expert that there is not, in each of its
     * steps until it is dropped. */
    ENGINE_CORRUPT_EXPERT,
} engine_corruption;

typedef struct engine engine;

/* Allocate all buffers on the device, generate embedding, router and unembedding from the seed,
 * give the context its slots' and backups' weights (every expert for which eep_backup_wanted is
 * true), and capture the step graph on a stream of the engine's own. After it only eep_join is
 * missing. */
EEP_MUST_CHECK eep_status engine_open(const engine_config *config, eep_context *context,
                                      eep_device *device, engine **engine_out);
/* CLOCK_MONOTONIC, when engine_open had loaded the weights; behind that it captured the graph. */
uint64_t engine_loaded_ns(const engine *engine);
/* Wait for a step in flight (at most 10 s) and free everything: after eep_close of the context,
 * which borrows the weights, and before eep_device_close. False: the step has not ended, and what
 * it uses was left alone, as the device must be. NULL is ignored. */
bool engine_close(engine *engine);
/* Why the last call failed; with NULL, why this thread's last engine_open did. */
const char *engine_error(const engine *engine);

/* Take a request. EEP_ERR_NO_MEMORY: all request slots are taken; EEP_ERR_INVALID: lengths out of
 * range. `emitted` holds its num_emitted tokens. */
EEP_MUST_CHECK eep_status engine_admit(engine *engine, const wire_assign *request,
                                       const uint32_t *emitted);
int engine_num_requests(const engine *engine);
/* Put the next positions of the requests into the step's inputs: decode positions first, then
 * prompt chunks in order of admission; returns how many (0: nothing to do). Whole requests are
 * dealt to the chains, so that they have about equally many positions; one may have none. Between
 * eep_step_begin and engine_run. */
int engine_fill(engine *engine);
/* Replay the graph for the step that began. */
EEP_MUST_CHECK eep_status engine_run(engine *engine, const eep_step *step);
/* The step ended OK: make its state current and hand out its tokens (at most capacity, which is at
 * least num_max_tokens_per_rank). Requests that reached output_length are dropped. `report` gets
 * num_positions, num_reprefill and num_tokens. */
void engine_commit(engine *engine, wire_step *report, wire_token *tokens_out, int capacity);
/* The step aborted: the same positions are computed again by the next fill and run. */
void engine_rollback(engine *engine);
/* Drop a request (cancel, hand back). */
void engine_drop(engine *engine, uint32_t request);
/* The id of one request it has, or -1: for handing all back. */
int64_t engine_any_request(const engine *engine);
/* The request whose position is row `token` of a chain's batch that ran last; -1: there is none. */
int64_t engine_request_at(const engine *engine, int32_t chain, int32_t token);
#endif
