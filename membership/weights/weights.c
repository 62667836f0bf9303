/* SPDX-License-Identifier: Apache-2.0 */
/* Expert slots and host backups of a rank. Rank thread until eep_join. */
#include "membership/weights/weights.h"

#include "graphs/device/device_ops.h"
#include "membership/context/context.h"
#include "membership/step/capture.h"
#include "membership/weights/checkpoint_places.h"
#include "membership/weights/given_memory.h"
#include "membership/weights/weights_state.h"
#include "repair/checksum.h"

#include <stdlib.h>
#include <string.h>

enum { COPY_BOUND_US = 10000000 };

static size_t slot_index(const eep_context *context, int32_t layer, int32_t slot)
{
    return (size_t)layer * (size_t)context->config.num_slots + (size_t)slot;
}

eep_status eepi_weights_open(eep_context *context)
{
    const eep_config *c = &context->config;
    size_t slots = (size_t)c->num_layers * (size_t)c->num_slots;
    size_t experts = (size_t)c->num_layers * (size_t)c->num_experts;
    size_t words = (size_t)c->num_layers * (((size_t)c->num_experts + 63) / 64);
    struct eepi_weights *w = calloc(1, sizeof *w);
    void *device_map = NULL;
    eep_status status;

    context->weights = w;
    if (!w) {
        return EEP_ERR_NO_MEMORY;
    }
    w->slots = calloc(slots * EEP_MAX_TENSORS, sizeof *w->slots);
    w->backups = calloc(experts * EEP_MAX_TENSORS, sizeof *w->backups);
    w->experts = calloc(slots, sizeof *w->experts);
    w->checksums = calloc(slots, sizeof *w->checksums);
    w->backup_bits = calloc(words, sizeof *w->backup_bits);
    w->backup_wanted = calloc(words, sizeof *w->backup_wanted);
    w->backup_sums = calloc(experts, sizeof *w->backup_sums);
    w->backup_claims = calloc((size_t)c->num_layers, sizeof *w->backup_claims);
    w->owned = calloc(slots * EEP_MAX_TENSORS, sizeof *w->owned);
    if (!w->slots || !w->backups || !w->experts || !w->checksums || !w->backup_bits ||
        !w->backup_wanted || !w->backup_sums || !w->backup_claims || !w->owned) {
        return EEP_ERR_NO_MEMORY;
    }
    status = eep_device_alloc(c->device, EEP_MEMORY_PINNED, slots * sizeof(int32_t), &device_map);
    w->physical_to_logical = device_map;
    return status;
}

void eepi_weights_close(eep_context *context)
{
    struct eepi_weights *w = context->weights;

    if (!w) {
        return;
    }
    for (int i = 0; i < w->num_owned; i++) { /* the caller may have freed it, too */
        eep_device_free(context->config.device, EEP_MEMORY_DEVICE, w->owned[i]);
        eepi_memory_release(context->config.device, w->owned[i]);
    }
    eepi_memory_give_back(context);
    eepi_places_close(context);
    if (w->physical_to_logical) {
        eep_device_free(context->config.device, EEP_MEMORY_PINNED, w->physical_to_logical);
    }
    free(w->slots);
    free(w->backups);
    free(w->experts);
    free(w->checksums);
    free(w->backup_bits);
    free(w->backup_wanted);
    free(w->backup_sums);
    free(w->backup_claims);
    free(w->owned);
    free(w);
}

int32_t *eepi_weights_experts(const eep_context *context)
{
    return context->weights->experts;
}

int32_t eepi_weights_num_tensors(const eep_context *context)
{
    return context->weights->num_tensors;
}

const uint64_t *eepi_weights_tensor_bytes(const eep_context *context)
{
    return context->weights->tensor_bytes;
}

eepi_member eepi_weights_member(const eep_context *context, bool is_ready, int leaving)
{
    const struct eepi_weights *w = context->weights;

    eepi_member member = {context->config.rank,
                          context->generation,
                          is_ready,
                          (uint8_t)leaving,
                          w->experts,
                          w->checksums,
                          w->backup_bits,
                          is_ready ? w->tensor_bytes : NULL,
                          .has_checkpoint = is_ready && eepi_places_trusted(context),
                          .claims = w->backup_claims,
                          .host = context->process.host,
                          .follows_lapse = context->claim.lapsed != 0};

    for (int32_t shape = 0; is_ready && shape < (int32_t)context->shape.num_shapes; shape++) {
        member.sequence_digest[shape] = eepi_capture_order(context, shape);
    }
    return member;
}

int32_t eep_slot_expert(const eep_context *context, int32_t layer, int32_t slot)
{
    if (!context || layer < 0 || layer >= context->config.num_layers || slot < 0 ||
        slot >= context->config.num_slots) {
        return -1;
    }
    return context->weights->experts[slot_index(context, layer, slot)];
}

const int32_t *eep_physical_to_logical(const eep_context *context)
{
    return context ? context->weights->physical_to_logical : NULL;
}

/* All slots and backups have the sizes of the first one that was given. */
eep_status eepi_weights_check_sizes(eep_context *context, const char *call,
                                    const eep_tensor *tensors, int32_t n)
{
    eep_status status = eepi_check_argument(context, call, "tensors", tensors);

    if (status != EEP_OK) {
        return status;
    }
    if (context->has_joined) {
        return eepi_fail(context, EEP_ERR_STATE, "%s: weights are given before eep_join", call);
    }
    if (n < 1 || n > EEP_MAX_TENSORS) {
        return eepi_fail(context, EEP_ERR_INVALID, "%s: num_tensors is %d: 1 to %d are possible",
                         call, n, EEP_MAX_TENSORS);
    }
    if (context->weights->num_tensors != 0 && n != context->weights->num_tensors) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s: %d tensors, and %d are needed: all experts have the tensors of the "
                         "first one that was given",
                         call, n, context->weights->num_tensors);
    }
    for (int i = 0; i < n; i++) {
        if (tensors[i].bytes == 0) {
            return eepi_fail(context, EEP_ERR_INVALID,
                             "%s: tensor %d has 0 bytes: leave it out, for all experts", call, i);
        }
        if (context->weights->num_tensors != 0 &&
            tensors[i].bytes != context->weights->tensor_bytes[i]) {
            return eepi_fail(context, EEP_ERR_INVALID,
                             "%s: tensor %d has %zu bytes, and %zu are needed: all experts have "
                             "the %d tensors of the first one that was given",
                             call, i, tensors[i].bytes, context->weights->tensor_bytes[i],
                             context->weights->num_tensors);
        }
    }
    return EEP_OK;
}

void eepi_weights_fix_sizes(eep_context *context, const eep_tensor *tensors, int32_t n)
{
    context->weights->num_tensors = n;
    for (int32_t i = 0; i < n; i++) {
        context->weights->tensor_bytes[i] = tensors[i].bytes;
    }
}

/* The first that was given fixes the sizes of all. */
static eep_status give(eep_context *context, const char *call, eep_tensor *place,
                       const eep_tensor *tensors, int32_t n)
{
    eep_status status = eepi_memory_give(context, call, place, tensors, n);

    if (status == EEP_OK) {
        eepi_weights_fix_sizes(context, tensors, n);
    }
    return status;
}

eep_status eepi_weights_check_data(eep_context *context, const char *call,
                                   const eep_tensor *tensors, int32_t n)
{
    for (int i = 0; i < n; i++) {
        if (!tensors[i].data) {
            return eepi_fail(context, EEP_ERR_INVALID, "%s: the data of tensor %d is NULL", call,
                             i);
        }
    }
    return EEP_OK;
}

static eep_status check_slot(eep_context *context, const char *call, int32_t layer, int32_t slot)
{
    if (layer < 0 || layer >= context->config.num_layers || slot < 0 ||
        slot >= context->config.num_slots) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s: layer %d slot %d: there are layers 0 to %d, of slots 0 to %d", call,
                         layer, slot, context->config.num_layers - 1,
                         context->config.num_slots - 1);
    }
    return EEP_OK;
}

eep_status eep_slot_set(eep_context *context, int32_t layer, int32_t slot,
                        const eep_tensor *tensors, int32_t num_tensors)
{
    eep_status status = eepi_check_own("eep_slot_set", context);

    if (status == EEP_OK) {
        status = check_slot(context, "eep_slot_set", layer, slot);
    }
    if (status == EEP_OK) {
        status = eepi_weights_check_sizes(context, "eep_slot_set", tensors, num_tensors);
    }
    if (status == EEP_OK) {
        status = eepi_weights_check_data(context, "eep_slot_set", tensors, num_tensors);
    }
    if (status != EEP_OK) {
        return status;
    }
    return give(context, "eep_slot_set",
                context->weights->slots + slot_index(context, layer, slot) * EEP_MAX_TENSORS,
                tensors, num_tensors);
}

static eep_status check_slot_alloc(eep_context *context, int32_t layer, int32_t slot,
                                   const eep_tensor *tensors, int32_t num_tensors)
{
    eep_status status = eepi_check_own("eep_slot_alloc", context);

    if (status == EEP_OK) {
        status = check_slot(context, "eep_slot_alloc", layer, slot);
    }
    if (status == EEP_OK) {
        status = eepi_weights_check_sizes(context, "eep_slot_alloc", tensors, num_tensors);
    }
    if (status == EEP_OK &&
        context->weights->slots[slot_index(context, layer, slot) * EEP_MAX_TENSORS].data) {
        status = eepi_fail(context, EEP_ERR_STATE,
                           "eep_slot_alloc: layer %d slot %d has memory already: fill that", layer,
                           slot);
    }
    return status;
}

eep_status eep_slot_alloc(eep_context *context, int32_t layer, int32_t slot, eep_tensor *tensors,
                          int32_t num_tensors)
{
    eep_tensor made[EEP_MAX_TENSORS];
    eep_status status = check_slot_alloc(context, layer, slot, tensors, num_tensors);
    int32_t num_made = 0;

    if (status != EEP_OK) {
        return status;
    }
    for (; num_made < num_tensors && status == EEP_OK; num_made += status == EEP_OK) {
        eep_tensor *tensor = &made[num_made];
        *tensor = tensors[num_made];
        status = eep_device_alloc(context->config.device, EEP_MEMORY_DEVICE, tensor->bytes,
                                  &tensor->data);
    }
    if (status != EEP_OK) {
        status = eepi_fail(context, status,
                           "eep_slot_alloc: no device memory of %zu bytes for layer %d slot %d: %s",
                           tensors[num_made].bytes, layer, slot, eep_error_text());
    }
    if (status == EEP_OK) {
        status = eep_slot_set(context, layer, slot, made, num_tensors);
    }
    for (int32_t i = 0; i < num_made; i++) {
        if (status != EEP_OK) {
            eep_device_free(context->config.device, EEP_MEMORY_DEVICE, made[i].data);
            continue;
        }
        /* held, whatever its slot has later: freed by the caller, the address is nobody else's */
        eepi_memory_hold(context->config.device, made[i].data);
        context->weights->owned[context->weights->num_owned++] = made[i].data;
    }
    if (status == EEP_OK) {
        memcpy(tensors, made, (size_t)num_tensors * sizeof *made);
    }
    return status;
}

static eep_status checksum_slot(eep_context *context, eep_stream *stream, uint8_t *bounce,
                                size_t bytes, size_t index)
{
    const eep_tensor *slot = context->weights->slots + index * EEP_MAX_TENSORS;
    uint8_t *next = bounce;
    eep_status status = EEP_OK;

    for (int i = 0; i < context->weights->num_tensors && status == EEP_OK; i++) {
        status = eep_copy_async(stream, next, slot[i].data, slot[i].bytes);
        next += slot[i].bytes;
    }
    if (status == EEP_OK) {
        status = eep_stream_synchronize(stream, COPY_BOUND_US);
    }
    if (status == EEP_OK) {
        context->weights->checksums[index] = eepi_checksum_bytes(bounce, bytes);
    }
    return status;
}

eep_status eepi_weights_seal(eep_context *context)
{
    const eep_config *c = &context->config;
    size_t slots = (size_t)c->num_layers * (size_t)c->num_slots, bytes = 0;
    eep_stream *stream = NULL;
    void *bounce = NULL;
    eep_status status;

    for (size_t i = 0; i < slots; i++) {
        /* an empty slot needs memory too: a repair may fill it */
        if (!context->weights->slots[i * EEP_MAX_TENSORS].data) {
            return eepi_fail(context, EEP_ERR_STATE,
                             "eep_join: layer %zu slot %zu has no memory: give it with "
                             "eep_slot_set or eep_slot_alloc, also where eep_slot_expert is -1",
                             i / (size_t)c->num_slots, i % (size_t)c->num_slots);
        }
    }
    status = eepi_places_check(context);
    if (status != EEP_OK) {
        return status;
    }
    for (int i = 0; i < context->weights->num_tensors; i++) {
        bytes += context->weights->tensor_bytes[i];
    }
    status = eepi_device_auxiliary(c->device, &stream);
    if (status == EEP_OK) {
        status = eep_device_alloc(c->device, EEP_MEMORY_PINNED, bytes, &bounce);
    }
    for (size_t i = 0; i < slots && status == EEP_OK; i++) {
        if (context->weights->experts[i] >= 0) {
            status = checksum_slot(context, stream, bounce, bytes, i);
        }
    }
    eep_device_free(c->device, EEP_MEMORY_PINNED, bounce);
    if (status != EEP_OK) {
        return eepi_fail(context, status,
                         "eep_join: the weights could not be read for their checksums, %zu bytes "
                         "per expert: %s",
                         bytes, eep_strerror(status));
    }
    return EEP_OK;
}

const eep_tensor *eepi_weights_slot(void *user, int32_t layer, int32_t slot)
{
    eep_context *context = user;

    return context->weights->slots + slot_index(context, layer, slot) * EEP_MAX_TENSORS;
}

void eepi_weights_follow(eep_context *context, const eepi_view *view)
{
    const eep_config *c = &context->config;

    for (int layer = 0; layer < c->num_layers; layer++) {
        for (int slot = 0; slot < c->num_slots; slot++) {
            const eepi_view_slot *at = eepi_view_slot_at(view, layer, c->rank, slot);
            size_t i = slot_index(context, layer, slot);
            int32_t expert = at->state == EEPI_SLOT_HOLDS ? at->expert : -1;
            __atomic_store_n(&context->weights->physical_to_logical[i], expert, __ATOMIC_RELAXED);
            context->weights->experts[i] = expert;
            context->weights->checksums[i] =
                expert >= 0 ? *eepi_view_checksum_at(view, layer, expert) : 0;
        }
    }
}
