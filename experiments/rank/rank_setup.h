/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers that a rank is told: its part of eep-run's command line. */
#ifndef EEPX_RANK_SETUP_H
#define EEPX_RANK_SETUP_H

#include "eep/eep.h"
#include "experiments/rank/engine.h"
#include "experiments/script/placement_file.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

enum { RANK_SETUP_TEXT_BYTES = 512 + PATH_MAX + PLACEMENT_MAX_FIRST * (VERB_FILE_BYTES + 16) };

/* Of the rows that are dispatched; what comes back is fp32 or, from bf16 and fp8, bf16. */
typedef enum rank_dtype { RANK_FP32, RANK_BF16, RANK_FP8 } rank_dtype;

/* Fields as in options (setup/options.h). */
typedef struct rank_setup {
    int64_t num_ranks, max_ranks;
    int64_t num_layers, hidden, inner, num_experts, num_slots, top_k, vocabulary;
    int64_t ranks_per_node, spread, backup_copies;
    int64_t num_max_tokens_per_rank, num_chains, prefill_chunk, num_max_requests;
    int64_t seed;
    int64_t background_mb_s, ballast_mb, background_latency, router_skew, expert_us;
    rank_dtype dtype;
    int corrupt; /* engine_corruption */
    eep_log_level log_level;
    const char *device; /* "host", "guarded" or "cuda" */
    bool no_kill_fence;
    int bulk; /* eep_bulk */
    double expel_ms, step_deadline_ms, drain_bound_ms;
    bool fixed_membership;  /* it serves in no other view than the one that it began with */
    const char *checkpoint; /* NULL: weights are generated from the seed */
    placement_first first_placement;
} rank_setup;

/* What it says about the engine and the context; both for one rank, without callbacks, device or
 * store. */
void rank_setup_fill_engine(const rank_setup *self, engine_config *config_out);
void rank_setup_fill_context(const rank_setup *self, eep_config *config_out);

/* As text for the environment of a rank's process, and back; the checkpoint's path then points into
 * the text. EEP_ERR_PROTOCOL: not such a text. */
void rank_setup_to_text(const rank_setup *self, char text_out[RANK_SETUP_TEXT_BYTES]);
EEP_MUST_CHECK eep_status rank_setup_from_text(const char *text, rank_setup *setup_out);
#endif
