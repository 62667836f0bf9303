/* SPDX-License-Identifier: Apache-2.0 */
/* The memory that the caller gave for slots. No byte is given twice: a repair that writes one slot
 * must not change another one. The memory stays as long as a repair may use it, even if the caller
 * frees it earlier. Rank thread, until eep_join. */
#include "membership/weights/given_memory.h"

#include "graphs/device/device_ops.h"
#include "membership/context/context.h"
#include "membership/weights/weights_state.h"

#include <search.h>
#include <stdio.h>
#include <string.h>

enum { PLACE_BYTES = 80 };

/* By address. Tensors that share a byte compare as equal; the tree holds no two of those, so this
 * is an order. */
static int compare(const void *one, const void *two)
{
    const eep_tensor *a = one, *b = two;
    const uintptr_t begin_a = (uintptr_t)a->data, begin_b = (uintptr_t)b->data;

    return begin_a + a->bytes <= begin_b ? -1 : begin_b + b->bytes <= begin_a;
}

/* Whose tensor it is, where it lies in the context's own arrays. */
static const char *name_place(const eep_context *context, const eep_tensor *tensor,
                              char text[PLACE_BYTES])
{
    const size_t at = (size_t)(tensor - context->weights->slots);
    const size_t per_layer = (size_t)context->config.num_slots;

    snprintf(text, PLACE_BYTES, "tensor %zu of layer %zu slot %zu", at % EEP_MAX_TENSORS,
             at / EEP_MAX_TENSORS / per_layer, at / EEP_MAX_TENSORS % per_layer);
    return text;
}

static eep_status refuse(eep_context *context, const char *call, const eep_tensor *given,
                         const eep_tensor *other)
{
    char here[PLACE_BYTES], there[PLACE_BYTES];

    return eepi_fail(context, EEP_ERR_INVALID,
                     "%s: the %zu bytes at %p, %s, overlap the %zu bytes at %p, %s: give each "
                     "tensor its own memory",
                     call, given->bytes, given->data, name_place(context, given, here),
                     other->bytes, other->data, name_place(context, other, there));
}

static eep_status take(eep_context *context, const char *call, const eep_tensor *tensor)
{
    const void *const *found;

    if ((uintptr_t)tensor->data + tensor->bytes < (uintptr_t)tensor->data) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s: %zu bytes at %p do not fit into the address space", call,
                         tensor->bytes, tensor->data);
    }
    found = tsearch(tensor, &context->weights->given, compare);
    if (!found) {
        return eepi_fail(context, EEP_ERR_NO_MEMORY, "%s: no memory to note what was given", call);
    }
    return *found == tensor ? EEP_OK : refuse(context, call, tensor, *found);
}

static void forget(eep_context *context, const eep_tensor *place)
{
    for (int i = 0; i < EEP_MAX_TENSORS && place[i].data; i++) {
        (void)tdelete(&place[i], &context->weights->given, compare);
    }
}

/* Memory that the caller frees too early stays until its place has other memory, or is closed. */
static void hold(const eep_context *context, const eep_tensor *place)
{
    for (int i = 0; i < EEP_MAX_TENSORS && place[i].data; i++) {
        eepi_memory_hold(context->config.device, place[i].data);
    }
}

static void release(const eep_context *context, const eep_tensor *place)
{
    for (int i = 0; i < EEP_MAX_TENSORS && place[i].data; i++) {
        eepi_memory_release(context->config.device, place[i].data);
    }
}

eep_status eepi_memory_give(eep_context *context, const char *call, eep_tensor *place,
                            const eep_tensor *tensors, int32_t num_tensors)
{
    eep_tensor before[EEP_MAX_TENSORS];
    eep_status status = EEP_OK;

    memcpy(before, place, sizeof before);
    forget(context, place); /* it may be given again, with the same memory */
    memset(place, 0, sizeof before);
    for (int32_t i = 0; i < num_tensors && status == EEP_OK; i++) {
        place[i] = tensors[i];
        status = take(context, call, &place[i]);
        if (status != EEP_OK) {
            place[i] = (eep_tensor){NULL, 0};
        }
    }
    if (status == EEP_OK) {
        hold(context, place); /* first: it may be the same memory */
        release(context, before);
        return EEP_OK;
    }
    forget(context, place); /* as it was */
    memcpy(place, before, sizeof before);
    for (int32_t i = 0; i < EEP_MAX_TENSORS && place[i].data; i++) {
        (void)tsearch(&place[i], &context->weights->given, compare);
    }
    return status;
}

static void leave(void *tensor)
{
    (void)tensor;
}

void eepi_memory_forget(eep_context *context)
{
    if (!context->weights) {
        return;
    }
    tdestroy(context->weights->given, leave);
    context->weights->given = NULL;
}

void eepi_memory_give_back(eep_context *context)
{
    const eep_config *c = &context->config;
    const size_t slots = (size_t)c->num_layers * (size_t)c->num_slots;

    for (size_t i = 0; context->weights->slots && i < slots; i++) {
        release(context, context->weights->slots + i * EEP_MAX_TENSORS);
    }
    eepi_memory_forget(context);
}
