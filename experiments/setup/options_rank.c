/* SPDX-License-Identifier: Apache-2.0 */
/* What of the options a rank is told, and the memory that ranks need. */
#include "experiments/setup/options.h"

void options_fill_rank(const options *self, rank_setup *setup_out)
{
    *setup_out = (rank_setup){
        .num_ranks = self->num_ranks,
        .max_ranks = self->max_ranks,
        .num_layers = self->num_layers,
        .hidden = self->hidden,
        .inner = self->inner,
        .num_experts = self->num_experts,
        .num_slots = self->num_slots,
        .ranks_per_node = self->ranks_per_node,
        .spread = self->spread,
        .backup_copies = self->backup_copies,
        .top_k = self->top_k,
        .vocabulary = self->vocabulary,
        .num_max_tokens_per_rank = self->num_max_tokens_per_rank,
        .num_chains = self->num_chains,
        .prefill_chunk = self->prefill_chunk,
        .num_max_requests = self->num_max_requests,
        .seed = self->seed,
        .background_mb_s = self->background_mb_s,
        .background_latency = self->background_latency,
        .ballast_mb = self->ballast_mb,
        .router_skew = self->router_skew,
        .expert_us = self->expert_us,
        .dtype = self->dtype,
        .corrupt = self->corrupt,
        .log_level = self->log_level,
        .device = self->device,
        .no_kill_fence = self->no_kill_fence,
        .bulk = self->bulk,
        .expel_ms = self->expel_ms,
        .step_deadline_ms = self->step_deadline_ms,
        .drain_bound_ms = self->drain_bound_ms,
        .checkpoint = self->checkpoint,
        .first_placement = self->first_placement,
        .fixed_membership = self->baseline == OPTIONS_RESTART,
    };
}

bool options_has_place(const options *self, const script_event *event)
{
    const bool is_placed = event->verb == VERB_DIE || event->verb == VERB_FREEZE;
    return !is_placed || (int64_t)event->value.place < self->num_chains * NUM_PLACES_OF_CHAIN;
}

uint64_t options_expert_bytes(const options *self)
{
    return (uint64_t)(3 * self->hidden * self->inner) * sizeof(float);
}

uint64_t options_memory_bytes(const options *self, uint64_t window_bytes)
{
    const uint64_t fixed_bytes = 24u << 20; /* program, stacks, tables, step buffers */
    uint64_t expert = options_expert_bytes(self) * (uint64_t)self->num_layers;
    uint64_t slots = (uint64_t)self->num_slots * expert;
    uint64_t dense =
        (uint64_t)(self->hidden * (2 * self->vocabulary + self->num_layers * self->num_experts)) *
        sizeof(float);
    uint64_t rank = slots + dense + window_bytes + fixed_bytes;
    rank += (uint64_t)self->ballast_mb << 20;
    return (uint64_t)self->num_ranks * rank + 2 * (uint64_t)self->num_experts * expert;
}
