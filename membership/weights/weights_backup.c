/* SPDX-License-Identifier: Apache-2.0 */
/* The backups of a rank's node: what this rank puts there, and what it finds. Rank thread until
 * eep_join; then the service thread. */
#include "membership/backup/backups.h"
#include "membership/context/context.h"
#include "membership/context/log.h"
#include "membership/weights/weights.h"
#include "membership/weights/weights_state.h"
#include "transport/holder/holder.h"

#include <string.h>

static size_t words_of(const eep_context *context)
{
    return (size_t)eepi_view_backup_words(&context->view_shape);
}

static uint64_t *sum_at(const eep_context *context, int32_t layer, int32_t expert)
{
    return context->weights->backup_sums + (size_t)layer * (size_t)context->config.num_experts +
           (size_t)expert;
}

static void set_bit(const eep_context *context, uint64_t *bits, int32_t layer, int32_t expert,
                    bool is_set)
{
    uint64_t *word = &bits[(size_t)layer * words_of(context) + (size_t)expert / 64];
    const uint64_t bit = UINT64_C(1) << (expert % 64);

    *word = is_set ? *word | bit : *word & ~bit;
}

static bool has_bit(const eep_context *context, const uint64_t *bits, int32_t layer, int32_t expert)
{
    return bits[(size_t)layer * words_of(context) + (size_t)expert / 64] >> (expert % 64) & 1u;
}

static bool is_expert(const eep_context *context, int32_t layer, int32_t expert)
{
    return layer >= 0 && layer < context->config.num_layers && expert >= 0 &&
           expert < context->config.num_experts;
}

/* ---------------------------------------------------------------- what is wanted */

uint64_t *eepi_weights_wanted(const eep_context *context)
{
    return context->weights->backup_wanted;
}

void eepi_weights_know(eep_context *context, const eepi_view *view)
{
    const eep_config *c = &context->config;
    const size_t experts = (size_t)c->num_layers * (size_t)c->num_experts;

    memcpy(context->weights->backup_sums, eepi_view_checksum_at(view, 0, 0),
           experts * sizeof *context->weights->backup_sums);
}

static void look_for_backups(eep_context *context)
{
    const eep_config *c = &context->config;
    int num_found = 0;

    for (int i = 0; i < c->num_layers * c->num_experts; i++) {
        const int layer = i / c->num_experts, expert = i % c->num_experts;
        eep_tensor tensors[EEP_MAX_TENSORS];
        if (eepi_backups_find(context->weights->node, layer, expert,
                              *sum_at(context, layer, expert), tensors) > 0) {
            set_bit(context, context->weights->backup_bits, layer, expert, true);
            set_bit(context, context->weights->backup_wanted, layer, expert, false);
            num_found++;
        }
    }
    if (num_found > 0) {
        eepi_log(context, EEP_LOG_INFO,
                 "this node has %d backups of experts: they need not be loaded again", num_found);
    }
}

static void note_backups(void *user, const char *text)
{
    eepi_log(user, EEP_LOG_WARN, "%s", text);
}

eep_status eepi_weights_meet_node(eep_context *context)
{
    char holder_path[EEPI_HOLDER_PATH_BYTES];
    const eepi_backups_config backups = {.holder_path = holder_path,
                                         .instance = context->claim.instance,
                                         .seat = context->config.rank,
                                         .generation = context->generation,
                                         .shape = &context->view_shape,
                                         .note = note_backups,
                                         .user = context};
    eep_status status;

    if (context->config.backup_copies == 0) {
        return EEP_OK;
    }
    eepi_holder_path(context->store_path, holder_path);
    status = eepi_backups_open(&backups, &context->weights->node);
    if (status == EEP_OK) {
        look_for_backups(context);
    }
    return status;
}

struct eepi_backups *eepi_weights_node(const eep_context *context)
{
    return context->weights->node;
}

void eepi_weights_leave_node(eep_context *context)
{
    if (context->weights) {
        eepi_backups_close(context->weights->node);
        context->weights->node = NULL;
    }
}

int eep_backup_wanted(const eep_context *context, int32_t layer, int32_t expert)
{
    if (!context || !is_expert(context, layer, expert)) {
        return 0;
    }
    return has_bit(context, context->weights->backup_wanted, layer, expert);
}

/* ---------------------------------------------------------------- what is put there */

static eep_status check_backup(eep_context *context, const char *call, int32_t layer,
                               int32_t expert, const eep_tensor *tensors, int32_t num_tensors)
{
    eep_status status = eepi_check_own(call, context);

    if (status != EEP_OK) {
        return status;
    }
    if (!is_expert(context, layer, expert)) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s: layer %d expert %d: there are layers 0 to %d, of experts 0 to %d",
                         call, layer, expert, context->config.num_layers - 1,
                         context->config.num_experts - 1);
    }
    if (!context->weights->node) {
        return eepi_fail(context, EEP_ERR_STATE,
                         "%s: backup_copies is 0: this instance keeps no backups, and "
                         "eep_backup_wanted asks for none",
                         call);
    }
    return eepi_weights_check_sizes(context, call, tensors, num_tensors);
}

static eep_status give_backup(eep_context *context, const char *call, int32_t layer, int32_t expert,
                              eep_tensor *tensors, int32_t num_tensors)
{
    char why[EEPI_BACKUP_WHY_BYTES] = "";
    const eep_status status =
        eepi_backups_give(context->weights->node, layer, expert, tensors, num_tensors, why);

    if (status != EEP_OK) {
        return eepi_fail(context, status, "%s: layer %d expert %d: %s", call, layer, expert, why);
    }
    eepi_weights_fix_sizes(context, tensors, num_tensors);
    return EEP_OK;
}

eep_status eep_backup_alloc(eep_context *context, int32_t layer, int32_t expert,
                            eep_tensor *tensors, int32_t num_tensors)
{
    static const char call[] = "eep_backup_alloc";
    eep_tensor made[EEP_MAX_TENSORS];
    eep_status status = check_backup(context, call, layer, expert, tensors, num_tensors);

    if (status != EEP_OK) {
        return status;
    }
    memcpy(made, tensors, (size_t)num_tensors * sizeof *made);
    status = give_backup(context, call, layer, expert, made, num_tensors);
    if (status == EEP_OK) {
        memcpy(tensors, made, (size_t)num_tensors * sizeof *made);
    }
    return status;
}

eep_status eep_backup_set(eep_context *context, int32_t layer, int32_t expert,
                          const eep_tensor *tensors, int32_t num_tensors)
{
    static const char call[] = "eep_backup_set";
    eep_tensor made[EEP_MAX_TENSORS];
    eep_status status = check_backup(context, call, layer, expert, tensors, num_tensors);

    if (status == EEP_OK) {
        status = eepi_weights_check_data(context, call, tensors, num_tensors);
    }
    if (status != EEP_OK) {
        return status;
    }
    memcpy(made, tensors, (size_t)num_tensors * sizeof *made);
    status = give_backup(context, call, layer, expert, made, num_tensors);
    for (int32_t i = 0; i < num_tensors && status == EEP_OK; i++) {
        memcpy(made[i].data, tensors[i].data, tensors[i].bytes);
    }
    return status;
}

/* ---------------------------------------------------------------- sealed, and claimed */

/* A backup with other weights than the instance's is none (rule N24). */
static void claim_own(eep_context *context, int32_t layer, int32_t expert)
{
    const uint64_t sum = eepi_backups_own(context->weights->node, layer, expert);
    uint64_t *known = sum_at(context, layer, expert);

    if (sum == 0) {
        return;
    }
    if (*known != 0 && *known != sum) {
        eepi_log(context, EEP_LOG_ERROR,
                 "the backup of layer %d expert %d has other weights than the instance (checksum "
                 "%016llx, not %016llx): it does not count",
                 layer, expert, (unsigned long long)sum, (unsigned long long)*known);
        return;
    }
    *known = sum;
    set_bit(context, context->weights->backup_bits, layer, expert, true);
}

static void sum_claims(const eep_context *context)
{
    const struct eepi_weights *w = context->weights;

    for (int layer = 0; layer < context->config.num_layers; layer++) {
        w->backup_claims[layer] =
            eepi_view_claim_digest(w->backup_bits + (size_t)layer * words_of(context),
                                   sum_at(context, layer, 0), context->config.num_experts);
    }
}

bool eepi_weights_claim_backups(eep_context *context, const eepi_view *view)
{
    const eep_config *c = &context->config;
    bool is_more = false;

    for (int i = 0; i < c->num_layers * c->num_experts; i++) {
        const int layer = i / c->num_experts, expert = i % c->num_experts;
        const uint64_t sum = *eepi_view_checksum_at(view, layer, expert);
        eep_tensor tensors[EEP_MAX_TENSORS];
        if (!has_bit(context, context->weights->backup_bits, layer, expert) &&
            eepi_backups_find(context->weights->node, layer, expert, sum, tensors) > 0) {
            set_bit(context, context->weights->backup_bits, layer, expert, true);
            *sum_at(context, layer, expert) = sum;
            is_more = true;
        }
    }
    if (is_more) {
        const eepi_backups_facts facts = eepi_backups_facts_of(context->weights->node, view);
        sum_claims(context);
        eepi_log(
            context, EEP_LOG_INFO,
            "this rank reads %u regions of backups, %llu bytes; %u of them, %llu bytes, are of "
            "processes that have ended",
            facts.num_regions, (unsigned long long)facts.node_bytes, facts.num_retained,
            (unsigned long long)facts.retained_bytes);
    }
    return is_more;
}

eep_status eepi_weights_seal_backups(eep_context *context)
{
    const eep_config *c = &context->config;
    char why[EEPI_BACKUP_WHY_BYTES] = "";
    eep_status status;

    if (!context->weights->node) {
        return EEP_OK;
    }
    status = eepi_backups_seal(context->weights->node, why);
    if (status != EEP_OK) {
        return eepi_fail(context, status, "eep_join: %s", why);
    }
    for (int i = 0; i < c->num_layers * c->num_experts; i++) {
        claim_own(context, i / c->num_experts, i % c->num_experts);
    }
    sum_claims(context);
    return EEP_OK;
}

const eep_tensor *eepi_weights_backup(void *user, int32_t layer, int32_t expert)
{
    eep_context *context = user;
    struct eepi_weights *w = context->weights;
    const eepi_view *view = eepi_core_view(context->core);
    eep_tensor *found =
        w->backups +
        ((size_t)layer * (size_t)context->config.num_experts + (size_t)expert) * EEP_MAX_TENSORS;
    eep_tensor tensors[EEP_MAX_TENSORS];

    if (!context->weights->node || !view ||
        eepi_backups_find(context->weights->node, layer, expert,
                          *eepi_view_checksum_at(view, layer, expert), tensors) != w->num_tensors) {
        return NULL;
    }
    for (int i = 0; i < w->num_tensors; i++) {
        if (tensors[i].bytes != w->tensor_bytes[i]) {
            return NULL;
        }
        found[i] = tensors[i];
    }
    return found;
}

bool eepi_weights_owns_backup(void *user, int32_t layer, int32_t expert)
{
    const eepi_backups *node = ((eep_context *)user)->weights->node;

    return node && eepi_backups_own(node, layer, expert) != 0;
}
