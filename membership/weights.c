/* Expert slots and host backups of a rank. Rank thread until eep_join. */
#include "graphs/device_ops.h"
#include "membership/context.h"
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
    void *device_map = NULL;
    eep_status status;

    context->slots = calloc(slots * EEP_MAX_TENSORS, sizeof(*context->slots));
    context->backups = calloc(experts * EEP_MAX_TENSORS, sizeof(*context->backups));
    context->experts = calloc(slots, sizeof(*context->experts));
    context->checksums = calloc(slots, sizeof(*context->checksums));
    context->backup_bits = calloc(words, sizeof(*context->backup_bits));
    context->backup_wanted = calloc(words, sizeof(*context->backup_wanted));
    context->owned = calloc(slots * EEP_MAX_TENSORS, sizeof(*context->owned));
    if (!context->slots || !context->backups || !context->experts || !context->checksums ||
        !context->backup_bits || !context->backup_wanted || !context->owned)
        return EEP_ERR_NO_MEMORY;
    status = eep_device_alloc(c->device, EEP_MEMORY_PINNED, slots * sizeof(int32_t), &device_map);
    context->physical_to_logical = device_map;
    return status;
}

void eepi_weights_close(eep_context *context)
{
    for (int i = 0; i < context->num_owned; i++)
        eep_device_free(context->config.device, EEP_MEMORY_DEVICE, context->owned[i]);
    if (context->physical_to_logical)
        eep_device_free(context->config.device, EEP_MEMORY_PINNED, context->physical_to_logical);
    free(context->slots);
    free(context->backups);
    free(context->experts);
    free(context->checksums);
    free(context->backup_bits);
    free(context->backup_wanted);
    free(context->owned);
}

int32_t eep_slot_expert(const eep_context *context, int32_t layer, int32_t slot)
{
    if (!context || layer < 0 || layer >= context->config.num_layers || slot < 0 ||
        slot >= context->config.num_slots)
        return -1;
    return context->experts[slot_index(context, layer, slot)];
}

const int32_t *eep_physical_to_logical(const eep_context *context)
{
    return context ? context->physical_to_logical : NULL;
}

/* All slots and backups have the sizes of the first one that was given. */
static eep_status check_tensors(eep_context *context, const char *call, const eep_tensor *tensors,
                                int32_t n)
{
    eep_status status = eepi_check_argument(context, call, "tensors", tensors);

    if (status != EEP_OK)
        return status;
    if (context->joined_once)
        return eepi_fail(context, EEP_ERR_STATE, "%s: weights are given before eep_join", call);
    if (n < 1 || n > EEP_MAX_TENSORS)
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s: %d tensors per expert: 1 to %d are possible", call, n,
                         EEP_MAX_TENSORS);
    if (context->num_tensors == 0) {
        context->num_tensors = n;
        for (int i = 0; i < n; i++)
            context->tensor_bytes[i] = tensors[i].bytes;
    }
    for (int i = 0; i < n; i++) {
        if (n != context->num_tensors || tensors[i].bytes != context->tensor_bytes[i] ||
            tensors[i].bytes == 0)
            return eepi_fail(
                context, EEP_ERR_INVALID,
                "%s: tensor %d has %zu bytes, and %zu are needed: all experts have the "
                "%d tensors of the first one that was given",
                call, i, tensors[i].bytes, i < context->num_tensors ? context->tensor_bytes[i] : 0,
                context->num_tensors);
    }
    return EEP_OK;
}

static eep_status check_data(eep_context *context, const char *call, const eep_tensor *tensors,
                             int32_t n)
{
    for (int i = 0; i < n; i++) {
        if (!tensors[i].data)
            return eepi_fail(context, EEP_ERR_INVALID, "%s: the data of tensor %d is NULL", call,
                             i);
    }
    return EEP_OK;
}

static int overlap(const eep_tensor *a, const eep_tensor *b)
{
    const uint8_t *begin_a = a->data, *begin_b = b->data;

    return begin_a && begin_b && begin_a < begin_b + b->bytes && begin_b < begin_a + a->bytes;
}

/* A repair that writes one slot must not change another one. */
static eep_status check_apart(eep_context *context, int32_t layer, int32_t slot,
                              const eep_tensor *tensors, int32_t n)
{
    const int32_t num_slots = context->config.num_slots;
    const size_t own = slot_index(context, layer, slot);

    for (size_t i = 0; i < (size_t)context->config.num_layers * (size_t)num_slots; i++) {
        const eep_tensor *other = context->slots + i * EEP_MAX_TENSORS;
        for (int k = 0; i != own && other->data && k < n * n; k++) {
            if (overlap(&tensors[k / n], &other[k % n]))
                return eepi_fail(
                    context, EEP_ERR_INVALID,
                    "eep_slot_set: the memory of layer %d slot %d, tensor %d, overlaps "
                    "that of layer %d slot %d, tensor %d: give each slot its own",
                    layer, slot, k / n, (int)(i / (size_t)num_slots), (int)(i % (size_t)num_slots),
                    k % n);
        }
    }
    return EEP_OK;
}

static eep_status check_slot(eep_context *context, int32_t layer, int32_t slot)
{
    if (layer < 0 || layer >= context->config.num_layers || slot < 0 ||
        slot >= context->config.num_slots)
        return eepi_fail(context, EEP_ERR_INVALID,
                         "there is no slot %d in layer %d (%d layers of %d slots)", slot, layer,
                         context->config.num_layers, context->config.num_slots);
    return EEP_OK;
}

eep_status eep_slot_set(eep_context *context, int32_t layer, int32_t slot,
                        const eep_tensor *tensors, int32_t num_tensors)
{
    eep_status status = eepi_check_own("eep_slot_set", context);

    if (status == EEP_OK)
        status = check_slot(context, layer, slot);
    if (status == EEP_OK)
        status = check_tensors(context, "eep_slot_set", tensors, num_tensors);
    if (status == EEP_OK)
        status = check_data(context, "eep_slot_set", tensors, num_tensors);
    if (status == EEP_OK)
        status = check_apart(context, layer, slot, tensors, num_tensors);
    if (status != EEP_OK)
        return status;
    memcpy(context->slots + slot_index(context, layer, slot) * EEP_MAX_TENSORS, tensors,
           (size_t)num_tensors * sizeof(*tensors));
    return EEP_OK;
}

eep_status eep_slot_alloc(eep_context *context, int32_t layer, int32_t slot, eep_tensor *tensors,
                          int32_t num_tensors)
{
    eep_status status = eepi_check_own("eep_slot_alloc", context);
    eep_tensor made[EEP_MAX_TENSORS];

    if (status == EEP_OK)
        status = check_slot(context, layer, slot);
    if (status == EEP_OK)
        status = check_tensors(context, "eep_slot_alloc", tensors, num_tensors);
    if (status == EEP_OK && context->slots[slot_index(context, layer, slot) * EEP_MAX_TENSORS].data)
        status =
            eepi_fail(context, EEP_ERR_STATE, "layer %d slot %d has memory already", layer, slot);
    if (status != EEP_OK)
        return status;
    for (int i = 0; i < num_tensors; i++) {
        made[i] = tensors[i];
        status = eep_device_alloc(context->config.device, EEP_MEMORY_DEVICE, made[i].bytes,
                                  &made[i].data);
        if (status != EEP_OK) /* what was made stays owned and goes with the context */
            return eepi_fail(context, status, "no device memory for layer %d slot %d: %s", layer,
                             slot, eep_error_text());
        context->owned[context->num_owned++] = made[i].data;
    }
    memcpy(tensors, made, (size_t)num_tensors * sizeof(*made));
    return eep_slot_set(context, layer, slot, made, num_tensors);
}

int eep_backup_wanted(const eep_context *context, int32_t layer, int32_t expert)
{
    size_t words;

    if (!context || layer < 0 || layer >= context->config.num_layers || expert < 0 ||
        expert >= context->config.num_experts)
        return 0;
    words = ((size_t)context->config.num_experts + 63) / 64;
    return (int)(context->backup_wanted[(size_t)layer * words + (size_t)expert / 64] >>
                     (expert % 64) &
                 1u);
}

eep_status eep_backup_set(eep_context *context, int32_t layer, int32_t expert,
                          const eep_tensor *tensors, int32_t num_tensors)
{
    eep_status status = eepi_check_own("eep_backup_set", context);
    size_t words;

    if (status != EEP_OK)
        return status;
    if (layer < 0 || layer >= context->config.num_layers || expert < 0 ||
        expert >= context->config.num_experts)
        return eepi_fail(context, EEP_ERR_INVALID, "no expert %d in layer %d", expert, layer);
    status = check_tensors(context, "eep_backup_set", tensors, num_tensors);
    if (status == EEP_OK)
        status = check_data(context, "eep_backup_set", tensors, num_tensors);
    if (status != EEP_OK)
        return status;
    words = ((size_t)context->config.num_experts + 63) / 64;
    memcpy(context->backups +
               ((size_t)layer * (size_t)context->config.num_experts + (size_t)expert) *
                   EEP_MAX_TENSORS,
           tensors, (size_t)num_tensors * sizeof(*tensors));
    context->backup_bits[(size_t)layer * words + (size_t)expert / 64] |= 1ull << (expert % 64);
    return EEP_OK;
}

static eep_status checksum_slot(eep_context *context, eep_stream *stream, uint8_t *bounce,
                                size_t bytes, size_t index)
{
    const eep_tensor *slot = context->slots + index * EEP_MAX_TENSORS;
    uint8_t *to = bounce;
    eep_status status = EEP_OK;

    for (int i = 0; i < context->num_tensors && status == EEP_OK; i++) {
        status = eep_copy_async(stream, to, slot[i].data, slot[i].bytes);
        to += slot[i].bytes;
    }
    if (status == EEP_OK)
        status = eep_stream_synchronize(stream, COPY_BOUND_US);
    if (status == EEP_OK)
        context->checksums[index] = eepi_checksum_bytes(bounce, bytes);
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
        if (!context->slots[i * EEP_MAX_TENSORS].data)
            return eepi_fail(context, EEP_ERR_STATE,
                             "layer %zu slot %zu has no memory: see "
                             "eep_slot_set",
                             i / (size_t)c->num_slots, i % (size_t)c->num_slots);
    }
    for (int i = 0; i < context->num_tensors; i++)
        bytes += context->tensor_bytes[i];
    status = eepi_device_auxiliary(c->device, &stream);
    if (status == EEP_OK)
        status = eep_device_alloc(c->device, EEP_MEMORY_PINNED, bytes, &bounce);
    for (size_t i = 0; i < slots && status == EEP_OK; i++) {
        if (context->experts[i] >= 0)
            status = checksum_slot(context, stream, bounce, bytes, i);
    }
    eep_device_free(c->device, EEP_MEMORY_PINNED, bounce);
    if (status != EEP_OK)
        return eepi_fail(context, status, "weights could not be read for their checksums");
    return EEP_OK;
}

const eep_tensor *eepi_weights_slot(void *user, int32_t layer, int32_t slot)
{
    eep_context *context = user;

    return context->slots + slot_index(context, layer, slot) * EEP_MAX_TENSORS;
}

const eep_tensor *eepi_weights_backup(void *user, int32_t layer, int32_t expert)
{
    eep_context *context = user;
    const eep_tensor *tensors =
        context->backups +
        ((size_t)layer * (size_t)context->config.num_experts + (size_t)expert) * EEP_MAX_TENSORS;

    return tensors[0].data ? tensors : NULL;
}

void eepi_weights_follow(eep_context *context, const eepi_view *view)
{
    const eep_config *c = &context->config;

    for (int layer = 0; layer < c->num_layers; layer++) {
        for (int slot = 0; slot < c->num_slots; slot++) {
            const eepi_view_slot *at = eepi_view_slot_at(view, layer, c->rank, slot);
            size_t i = slot_index(context, layer, slot);
            int32_t expert = at->state == EEPI_SLOT_HOLDS ? at->expert : -1;
            __atomic_store_n(&context->physical_to_logical[i], expert, __ATOMIC_RELAXED);
            context->experts[i] = expert;
            context->checksums[i] = expert >= 0 ? *eepi_view_checksum_at(view, layer, expert) : 0;
        }
    }
}
