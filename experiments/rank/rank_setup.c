/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank is told: as configurations of engine and context, and as text. */
#include "experiments/rank/rank_setup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void rank_setup_fill_engine(const rank_setup *self, engine_config *config_out)
{
    *config_out = (engine_config){
        .seed = (uint64_t)self->seed,
        .num_layers = (int32_t)self->num_layers,
        .hidden = (int32_t)self->hidden,
        .inner = (int32_t)self->inner,
        .num_experts = (int32_t)self->num_experts,
        .top_k = (int32_t)self->top_k,
        .vocabulary = (int32_t)self->vocabulary,
        .num_slots = (int32_t)self->num_slots,
        .num_max_tokens_per_rank = (int32_t)self->num_max_tokens_per_rank,
        .num_max_requests = (int32_t)self->num_max_requests,
        .num_chains = (int32_t)self->num_chains,
        .prefill_chunk = (int32_t)self->prefill_chunk,
        .corrupt = self->corrupt,
        .corrupt_step = 20,
        .dtype = self->dtype == RANK_FP32 ? EEP_FP32 : EEP_BF16,
        .fp8 = self->dtype == RANK_FP8,
        .checkpoint = self->checkpoint,
        .no_backups = self->backup_copies == 0,
        .router_skew = (int32_t)self->router_skew,
        .expert_us = (int32_t)self->expert_us,
    };
}

void rank_setup_fill_context(const rank_setup *self, eep_config *config_out)
{
    (void)!eep_config_profile(config_out, EEP_PROFILE_QUICK);
    config_out->bind_threads = 1; /* a laboratory's figures want threads that stay where they are */
    config_out->num_ranks = (int32_t)self->num_ranks;
    config_out->max_ranks = (int32_t)self->max_ranks;
    config_out->num_layers = (int32_t)self->num_layers;
    config_out->num_experts = (int32_t)self->num_experts;
    config_out->num_slots = (int32_t)self->num_slots;
    config_out->ranks_per_node = (int32_t)self->ranks_per_node;
    config_out->spread_distance = (int32_t)self->spread;
    config_out->backup_copies = (int32_t)self->backup_copies;
    config_out->top_k = (int32_t)self->top_k;
    config_out->hidden = (int32_t)self->hidden;
    config_out->num_max_tokens_per_rank = (int32_t)self->num_max_tokens_per_rank;
    config_out->num_chains = (int32_t)self->num_chains;
    config_out->dtype = self->dtype == RANK_FP32 ? EEP_FP32 : EEP_BF16;
    config_out->fp8_dispatch = self->dtype == RANK_FP8;
    config_out->log_level = self->log_level;
    config_out->kill_fence = !self->no_kill_fence;
    config_out->expel_floor_us = (uint64_t)(self->expel_ms * 1e3);
    config_out->step_deadline_us = (uint64_t)(self->step_deadline_ms * 1e3);
    config_out->background_bytes_per_s = (uint64_t)self->background_mb_s * 1000000;
    config_out->background_latency_percent = (int32_t)self->background_latency;
    config_out->drain_bound_us = (uint64_t)(self->drain_bound_ms * 1e3);
    if (self->bulk != EEP_BULK_AUTO) {
        config_out->bulk = (eep_bulk)self->bulk;
    }
}

/* The integers of the text, in order. */
/* clang-format off */
#define RANK_FIELDS(X) \
    X(num_ranks) \
    X(max_ranks) \
    X(num_layers) \
    X(hidden) \
    X(inner) \
    X(num_experts) \
    X(num_slots) \
    X(ranks_per_node) \
    X(spread) \
    X(backup_copies) \
    X(top_k) \
    X(vocabulary) \
    X(num_max_tokens_per_rank) \
    X(num_chains) \
    X(prefill_chunk) \
    X(num_max_requests) \
    X(seed) \
    X(background_mb_s) \
    X(background_latency) \
    X(ballast_mb) \
    X(router_skew) \
    X(expert_us)
/* clang-format on */

static const char *const devices[] = {"host", "guarded", "cuda"};
enum { NUM_DEVICES = sizeof devices / sizeof devices[0] };

static int device_index(const char *name)
{
    int i = NUM_DEVICES - 1;
    while (i > 0 && strcmp(devices[i], name) != 0) {
        i--;
    }
    return i;
}

/* " NUMBER", then for each file " SEAT BYTES:NAME". */
static void first_to_text(const placement_first *first, char *text, int *used)
{
    *used += snprintf(text + *used, (size_t)(RANK_SETUP_TEXT_BYTES - *used), " %d", first->num);
    for (int i = 0; i < first->num; i++) {
        *used += snprintf(text + *used, (size_t)(RANK_SETUP_TEXT_BYTES - *used), " %d %d:%s",
                          first->of[i].seat, (int)strlen(first->of[i].file), first->of[i].file);
    }
}

void rank_setup_to_text(const rank_setup *self, char text_out[RANK_SETUP_TEXT_BYTES])
{
    int used = 0;
#define PRINT(field)                                                                               \
    used += snprintf(text_out + used, (size_t)(RANK_SETUP_TEXT_BYTES - used), "%" PRId64 " ",      \
                     self->field);
    RANK_FIELDS(PRINT)
#undef PRINT
    used += snprintf(text_out + used, (size_t)(RANK_SETUP_TEXT_BYTES - used),
                     "%d %d %d %d %d %d %d %.3f %.3f %.3f", (int)self->dtype, self->corrupt,
                     (int)self->log_level, device_index(self->device), self->no_kill_fence,
                     self->fixed_membership, self->bulk, self->expel_ms, self->step_deadline_ms,
                     self->drain_bound_ms);
    first_to_text(&self->first_placement, text_out, &used);
    snprintf(text_out + used, (size_t)(RANK_SETUP_TEXT_BYTES - used), " %s",
             self->checkpoint ? self->checkpoint : "");
}

/* The other way; NULL: not such a text, else what comes behind. */
static const char *first_from_text(placement_first *first, const char *text)
{
    int used = 0, bytes = 0;
    if (sscanf(text, "%d%n", &first->num, &used) != 1 || first->num < 0 ||
        first->num > PLACEMENT_MAX_FIRST) {
        return NULL;
    }
    text += used;
    for (int i = 0; i < first->num; i++) {
        if (sscanf(text, "%d %d:%n", &first->of[i].seat, &bytes, &used) != 2 || bytes < 0 ||
            bytes >= VERB_FILE_BYTES || strlen(text + used) < (size_t)bytes) {
            return NULL;
        }
        memcpy(first->of[i].file, text + used, (size_t)bytes);
        text += used + bytes;
    }
    return text;
}

eep_status rank_setup_from_text(const char *text, rank_setup *setup_out)
{
    int dtype = 0, log_level = 0, device = 0, no_fence = 0, fixed = 0, used = 0;
    *setup_out = (rank_setup){0};
#define SCAN(field)                                                                                \
    if (sscanf(text, "%" SCNd64 "%n", &setup_out->field, &used) != 1) {                            \
        return EEP_ERR_PROTOCOL;                                                                   \
    }                                                                                              \
    text += used;
    RANK_FIELDS(SCAN)
#undef SCAN
    if (sscanf(text, "%d %d %d %d %d %d %d %lf %lf %lf%n", &dtype, &setup_out->corrupt, &log_level,
               &device, &no_fence, &fixed, &setup_out->bulk, &setup_out->expel_ms,
               &setup_out->step_deadline_ms, &setup_out->drain_bound_ms, &used) != 10 ||
        device < 0 || device >= NUM_DEVICES) {
        return EEP_ERR_PROTOCOL;
    }
    setup_out->no_kill_fence = no_fence != 0;
    setup_out->fixed_membership = fixed != 0;
    setup_out->dtype = (rank_dtype)dtype;
    setup_out->log_level = (eep_log_level)log_level;
    setup_out->device = devices[device];
    text = first_from_text(&setup_out->first_placement, text + used);
    if (!text) {
        return EEP_ERR_PROTOCOL;
    }
    /* a space, and the path */
    setup_out->checkpoint = text[0] == ' ' && text[1] != '\0' ? text + 1 : NULL;
    return EEP_OK;
}
