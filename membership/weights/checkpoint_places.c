/* SPDX-License-Identifier: Apache-2.0 */
/* The places of all experts in a checkpoint: asked for once, before eep_join, so that no callback
 * of the engine runs while a repair waits. */
#include "membership/weights/checkpoint_places.h"

#include "eep/checkpoint.h"
#include "graphs/base/public_call.h"
#include "membership/context/context.h"
#include "membership/weights/weights_state.h"
#include "transport/checkpoint/checkpoint_files.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct file_place {
    uint32_t shard;
    uint64_t offset; /* in that file */
} file_place;

struct eepi_places {
    eep_checkpoint *checkpoint;
    bool is_distrusted;
    int32_t num_tensors;
    uint64_t bytes[EEP_MAX_TENSORS]; /* the same for all experts */
    file_place at[];                 /* [num_layers][num_experts][num_tensors] */
};

static const file_place *place_of(const eep_context *context, int32_t layer, int32_t expert)
{
    const eepi_places *p = context->weights->places;

    return p->at + ((size_t)layer * (size_t)context->config.num_experts + (size_t)expert) *
                       (size_t)p->num_tensors;
}

bool eepi_places_known(const eep_context *context)
{
    return context->weights->places != NULL;
}

bool eepi_places_trusted(const eep_context *context)
{
    return context->weights->places && !context->weights->places->is_distrusted;
}

bool eepi_places_distrust(eep_context *context)
{
    const bool was_trusted = eepi_places_trusted(context);

    if (was_trusted) {
        context->weights->places->is_distrusted = true;
    }
    return was_trusted;
}

static void free_places(eepi_places *p)
{
    if (p) {
        eepi_checkpoint_leave(p->checkpoint);
        free(p);
    }
}

void eepi_places_close(eep_context *context)
{
    free_places(context->weights->places);
    context->weights->places = NULL;
}

/* ------------------------------------------------------------------ asking for them */

/* Which expert's tensor a text is about. */
typedef struct subject {
    const char *call;
    int32_t layer, expert, tensor;
} subject;

/* Find what the engine named, and check it. `bytes_inout`: 0, or what the first expert had. */
static eep_status look_up(eep_context *context, const eep_checkpoint *checkpoint, subject s,
                          const eep_checkpoint_place *named, file_place *place_out,
                          uint64_t *bytes_inout)
{
    const eepi_tensor *tensor = eepi_tensor_list_find(&checkpoint->tensors, named->name);
    uint64_t bytes;

    if (!tensor) {
        return eepi_fail(context, EEP_ERR_NOT_FOUND,
                         "%s: layer %d expert %d: the checkpoint has no tensor %.250s", s.call,
                         s.layer, s.expert, named->name);
    }
    if (named->dtype[0] != '\0' && strcmp(named->dtype, tensor->dtype) != 0) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s: layer %d expert %d: tensor %.200s is %s, and %s is needed", s.call,
                         s.layer, s.expert, named->name, tensor->dtype, named->dtype);
    }
    if (named->offset > tensor->bytes || named->bytes > tensor->bytes - named->offset) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s: layer %d expert %d: tensor %.200s has %" PRIu64 " bytes: not %" PRIu64
                         " from byte %" PRIu64 " on",
                         s.call, s.layer, s.expert, named->name, tensor->bytes, named->bytes,
                         named->offset);
    }
    bytes = named->bytes ? named->bytes : tensor->bytes - named->offset;
    if (bytes == 0 || (*bytes_inout != 0 && bytes != *bytes_inout)) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s: layer %d expert %d: tensor %d has %" PRIu64 " bytes in %.200s, and "
                         "%" PRIu64 " in the first expert",
                         s.call, s.layer, s.expert, s.tensor, bytes, named->name, *bytes_inout);
    }
    *bytes_inout = bytes;
    *place_out = (file_place){tensor->shard, tensor->offset + named->offset};
    return EEP_OK;
}

static eep_status ask_for_all(eep_context *context, const char *call, eepi_places *p,
                              eep_checkpoint_place_fn name_place, void *user)
{
    const int64_t experts = context->config.num_experts;
    const int64_t num = context->config.num_layers * experts * p->num_tensors;
    eep_status status = EEP_OK;

    for (int64_t i = 0; i < num && status == EEP_OK; i++) {
        subject s = {call, (int32_t)(i / (experts * p->num_tensors)),
                     (int32_t)(i / p->num_tensors % experts), (int32_t)(i % p->num_tensors)};
        eep_checkpoint_place named = {.struct_bytes = sizeof named};
        status = name_place(user, s.layer, s.expert, s.tensor, &named);
        if (status != EEP_OK) {
            return eepi_fail(context, status,
                             "%s: layer %d expert %d tensor %d: the engine's function says: %s",
                             call, s.layer, s.expert, s.tensor, eep_strerror(status));
        }
        named.name[sizeof named.name - 1] = named.dtype[sizeof named.dtype - 1] = '\0';
        status = look_up(context, p->checkpoint, s, &named, &p->at[i], &p->bytes[s.tensor]);
    }
    return status;
}

static eep_status check_call(eep_context *context, const char *call, eep_checkpoint *checkpoint,
                             int32_t num_tensors, const char *argument, bool given)
{
    eep_status status = eepi_check_own(call, context);

    if (status == EEP_OK) {
        status = eepi_check_argument(context, call, "checkpoint", checkpoint);
    }
    if (status == EEP_OK) {
        status = eepi_check_argument(context, call, argument, given ? context : NULL);
    }
    if (status != EEP_OK) {
        return status;
    }
    if (context->has_joined) {
        return eepi_fail(context, EEP_ERR_STATE, "%s: a checkpoint is named before eep_join", call);
    }
    if (num_tensors < 1 || num_tensors > EEP_MAX_TENSORS) {
        return eepi_fail(context, EEP_ERR_INVALID, "%s: num_tensors is %d: 1 to %d are possible",
                         call, num_tensors, EEP_MAX_TENSORS);
    }
    return EEP_OK;
}

static eep_status set(eep_context *context, const char *call, eep_checkpoint *checkpoint,
                      int32_t num_tensors, eep_checkpoint_place_fn name_place, void *user)
{
    const size_t num = (size_t)context->config.num_layers * (size_t)context->config.num_experts *
                       (size_t)num_tensors;
    eepi_places *p = calloc(1, sizeof *p + num * sizeof p->at[0]);
    eep_status status;

    if (!p) {
        return eepi_fail(context, EEP_ERR_NO_MEMORY, "%s: no memory for %zu places", call, num);
    }
    p->checkpoint = checkpoint;
    p->num_tensors = num_tensors;
    eepi_checkpoint_use(checkpoint);
    status = ask_for_all(context, call, p, name_place, user);
    if (status != EEP_OK) {
        free_places(p);
        return status;
    }
    eepi_places_close(context);
    context->weights->places = p;
    return EEP_OK;
}

eep_status eep_checkpoint_set(eep_context *context, eep_checkpoint *checkpoint, int32_t num_tensors,
                              eep_checkpoint_place_fn place, void *user)
{
    const char *call = "eep_checkpoint_set";
    eep_status status = check_call(context, call, checkpoint, num_tensors, "place", place != NULL);

    return status == EEP_OK ? set(context, call, checkpoint, num_tensors, place, user) : status;
}

/* ------------------------------------------------------------------ names with braces */

typedef struct patterns {
    const char *const *names;
    int32_t first_layer, num_experts;
    const eep_checkpoint *checkpoint;
} patterns;

/* `name` with numbers in the place of {layer} and {expert}. False: it is too long. */
static bool expand(const char *name, int32_t layer, int32_t expert, char *to, size_t to_bytes)
{
    static const char layer_mark[] = "{layer}", expert_mark[] = "{expert}";
    size_t used = 0;

    while (*name != '\0' && used < to_bytes) {
        if (strncmp(name, layer_mark, sizeof layer_mark - 1) == 0) {
            used += (size_t)snprintf(to + used, to_bytes - used, "%d", layer);
            name += sizeof layer_mark - 1;
        } else if (strncmp(name, expert_mark, sizeof expert_mark - 1) == 0) {
            used += (size_t)snprintf(to + used, to_bytes - used, "%d", expert);
            name += sizeof expert_mark - 1;
        } else {
            to[used++] = *name++;
        }
    }
    if (used >= to_bytes) {
        return false;
    }
    to[used] = '\0';
    return true;
}

static eep_status by_pattern(void *user, int32_t layer, int32_t expert, int32_t tensor,
                             eep_checkpoint_place *place_out)
{
    const patterns *p = user;
    const char *name = p->names[tensor];
    const eepi_tensor *all;

    if (!expand(name, p->first_layer + layer, expert, place_out->name, sizeof place_out->name)) {
        return EEP_ERR_INVALID;
    }
    if (strstr(name, "{expert}")) {
        return EEP_OK;
    }
    all = eepi_tensor_list_find(&p->checkpoint->tensors, place_out->name);
    if (!all) {
        return EEP_OK; /* the caller says so */
    }
    if (all->num_dims < 1 || all->shape[0] != (uint64_t)p->num_experts) {
        return EEP_ERR_UNSUPPORTED;
    }
    place_out->bytes = all->bytes / (uint64_t)p->num_experts;
    place_out->offset = place_out->bytes * (uint64_t)expert;
    return EEP_OK;
}

/* Reasons that a status alone would not tell. */
static eep_status check_names(eep_context *context, const char *call, const patterns *p,
                              int32_t num_tensors)
{
    const int32_t layers = context->config.num_layers;
    eep_checkpoint_place at;

    if (p->first_layer < 0 || p->first_layer > INT32_MAX - layers) {
        return eepi_fail(context, EEP_ERR_INVALID, "%s: first_layer is %d", call, p->first_layer);
    }
    for (int32_t i = 0; i < num_tensors; i++) {
        eep_status status = eepi_check_argument(context, call, "names", p->names[i]);
        if (status != EEP_OK) {
            return status;
        }
        for (int32_t layer = 0; layer < layers; layer++) {
            memset(&at, 0, sizeof at);
            status = by_pattern((void *)p, layer, p->num_experts - 1, i, &at);
            if (status == EEP_ERR_INVALID) {
                return eepi_fail(context, status, "%s: the name %.100s... is longer than %d bytes",
                                 call, p->names[i], EEP_CHECKPOINT_NAME_BYTES - 1);
            }
            if (status != EEP_OK) {
                return eepi_fail(context, EEP_ERR_INVALID,
                                 "%s: tensor %.200s has no first dimension of %d experts: give a "
                                 "name with {expert}, or eep_checkpoint_set a function",
                                 call, at.name, p->num_experts);
            }
        }
    }
    return EEP_OK;
}

eep_status eep_checkpoint_set_names(eep_context *context, eep_checkpoint *checkpoint,
                                    int32_t num_tensors, const char *const *names,
                                    int32_t first_layer)
{
    const char *call = "eep_checkpoint_set_names";
    eep_status status = check_call(context, call, checkpoint, num_tensors, "names", names != NULL);
    patterns p = {names, first_layer, 0, checkpoint};

    if (status == EEP_OK) {
        p.num_experts = context->config.num_experts;
        status = check_names(context, call, &p, num_tensors);
    }
    return status == EEP_OK ? set(context, call, checkpoint, num_tensors, by_pattern, &p) : status;
}

/* ------------------------------------------------------------------ use */

eep_status eepi_places_check(eep_context *context)
{
    const eepi_places *p = context->weights->places;

    if (!p) {
        return EEP_OK;
    }
    if (p->num_tensors != context->weights->num_tensors) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "eep_join: an expert has %d tensors in the checkpoint, and %d in a slot",
                         p->num_tensors, context->weights->num_tensors);
    }
    for (int32_t i = 0; i < p->num_tensors; i++) {
        if (p->bytes[i] != context->weights->tensor_bytes[i]) {
            return eepi_fail(context, EEP_ERR_INVALID,
                             "eep_join: tensor %d of an expert has %" PRIu64
                             " bytes in the checkpoint, and %" PRIu64 " in a slot",
                             i, p->bytes[i], context->weights->tensor_bytes[i]);
        }
    }
    return EEP_OK;
}

uint64_t eepi_places_bytes(const eep_context *context)
{
    const eepi_places *p = context->weights->places;
    uint64_t bytes = 0;

    for (int32_t i = 0; i < p->num_tensors; i++) {
        bytes += p->bytes[i];
    }
    return bytes;
}

eep_status eepi_places_read(const eep_context *context, int32_t layer, int32_t expert,
                            uint64_t offset, size_t bytes, void *to,
                            char why[EEPI_TENSOR_WHY_BYTES])
{
    const eepi_places *p = context->weights->places;
    const file_place *at = place_of(context, layer, expert);
    uint8_t *next = to;
    eep_status status = EEP_OK;

    for (int32_t i = 0; i < p->num_tensors && offset == 0; i++) { /* the first of many pieces */
        eepi_tensor_shard_expect(&p->checkpoint->shards[at[i].shard], at[i].offset, p->bytes[i]);
    }
    for (int32_t i = 0; i < p->num_tensors && bytes > 0 && status == EEP_OK; i++) {
        size_t part;
        if (offset >= p->bytes[i]) {
            offset -= p->bytes[i];
            continue;
        }
        part = p->bytes[i] - offset < bytes ? (size_t)(p->bytes[i] - offset) : bytes;
        status = eepi_tensor_shard_read(&p->checkpoint->shards[at[i].shard], at[i].offset + offset,
                                        next, part, why);
        next += part;
        bytes -= part;
        offset = 0;
    }
    if (status == EEP_OK && bytes > 0) {
        status = eepi_tensor_fail(EEP_ERR_INVALID, why, "%zu bytes more than an expert has", bytes);
    }
    return status;
}

static eep_status check_load(eep_context *context, const char *call, int32_t layer, int32_t expert,
                             const eep_tensor *tensors, int32_t num_tensors)
{
    const eepi_places *p = context->weights->places;

    if (!p) {
        return eepi_fail(context, EEP_ERR_STATE, "%s: eep_checkpoint_set names a checkpoint first",
                         call);
    }
    if (layer < 0 || layer >= context->config.num_layers || expert < 0 ||
        expert >= context->config.num_experts) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s: layer %d expert %d: there are layers 0 to %d, of experts 0 to %d",
                         call, layer, expert, context->config.num_layers - 1,
                         context->config.num_experts - 1);
    }
    if (num_tensors != p->num_tensors) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s: num_tensors is %d, and the checkpoint has %d per expert", call,
                         num_tensors, p->num_tensors);
    }
    for (int32_t i = 0; i < num_tensors; i++) {
        if (!tensors[i].data || tensors[i].bytes != p->bytes[i]) {
            return eepi_fail(context, EEP_ERR_INVALID,
                             "%s: tensor %d has %zu bytes%s, and %" PRIu64 " in the checkpoint",
                             call, i, tensors[i].bytes, tensors[i].data ? "" : ", and no memory",
                             p->bytes[i]);
        }
    }
    return EEP_OK;
}

eep_status eep_checkpoint_load(eep_context *context, int32_t layer, int32_t expert,
                               const eep_tensor *tensors, int32_t num_tensors)
{
    const char *call = "eep_checkpoint_load";
    char why[EEPI_TENSOR_WHY_BYTES];
    uint64_t offset = 0;
    eep_status status = eepi_check_own(call, context);

    if (status == EEP_OK) {
        status = eepi_check_argument(context, call, "tensors", tensors);
    }
    if (status == EEP_OK) {
        status = check_load(context, call, layer, expert, tensors, num_tensors);
    }
    for (int32_t i = 0; i < num_tensors && status == EEP_OK; i++) {
        status = eepi_places_read(context, layer, expert, offset, tensors[i].bytes, tensors[i].data,
                                  why);
        if (status != EEP_OK) {
            return eepi_fail(context, status, "%s: layer %d expert %d: %s", call, layer, expert,
                             why);
        }
        offset += tensors[i].bytes;
    }
    return status;
}
