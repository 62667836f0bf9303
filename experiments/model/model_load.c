/* SPDX-License-Identifier: Apache-2.0 */
/* The model's weights: generated from the seed on the host, or read from a checkpoint, copied to
 * the device, given to the context. Numbers pass through two halves of pinned memory, so that the
 * next ones are generated while the last ones are copied. */
#include "experiments/model/model.h"
#include "experiments/model/model_tensors.h"
#include "experiments/model/model_weights.h"
#include "graphs/device/device_ops.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN_BYTES = 128, HALVES = 2, HALF_BYTES = 1 << 20, COPY_BOUND_US = 10 * 1000 * 1000 };
enum { WHY_BYTES = 512 };

typedef struct upload {
    eep_device *device;
    eep_stream *stream;
    void *half[HALVES];
    eep_event *copied[HALVES]; /* the last copy from that half */
    int next;
} upload;

/* Ends the copies; what they read may go then. */
static eep_status upload_close(upload *u, eep_status status)
{
    if (u->stream != NULL && status == EEP_OK) {
        status = eep_stream_synchronize(u->stream, COPY_BOUND_US);
    }
    for (int i = 0; i < HALVES; i++) {
        eep_device_free(u->device, EEP_MEMORY_PINNED, u->half[i]);
        if (u->copied[i] != NULL) {
            eep_event_close(u->copied[i]);
        }
    }
    return status;
}

static eep_status upload_open(upload *u, eep_device *device)
{
    *u = (upload){.device = device};
    eep_status status = eepi_device_auxiliary(device, &u->stream);
    for (int i = 0; i < HALVES && status == EEP_OK; i++) {
        status = eep_device_alloc(device, EEP_MEMORY_PINNED, HALF_BYTES, &u->half[i]);
        if (status == EEP_OK) {
            status = eep_event_open(device, &u->copied[i]);
        }
    }
    return status;
}

/* The half that is free next, when it is: to be filled, then sent. */
static eep_status upload_room(upload *u, void **room_out)
{
    *room_out = u->half[u->next];
    return eep_event_synchronize(u->copied[u->next], COPY_BOUND_US);
}

static eep_status upload_send(upload *u, void *target, size_t bytes)
{
    eep_status status = eep_copy_async(u->stream, target, u->half[u->next], bytes);
    if (status == EEP_OK) {
        status = eep_event_record(u->copied[u->next], u->stream);
    }
    u->next = (u->next + 1) % HALVES;
    return status;
}

/* ---------------------------------------------------------------- dense weights */

/* Numbers `first` to `first + count - 1` of a tensor. */
static eep_status make_numbers(const model *m, weights_kind kind, int32_t layer, int32_t expert,
                               size_t first, size_t count, float *out)
{
    const model_config *c = &m->config;
    char name[MODEL_TENSOR_NAME_BYTES];
    eep_status status = EEP_OK;

    if (m->checkpoint) {
        model_tensor_name(kind, layer, expert, name);
        status = eep_checkpoint_read(m->checkpoint, name, first * sizeof(float),
                                     count * sizeof(float), out);
    } else {
        weights_generate_from(c->seed, kind, (uint32_t)layer, (uint32_t)expert, first, count, out);
    }
    if (status == EEP_OK && kind == WEIGHTS_ROUTER) {
        weights_skew((uint32_t)c->router_skew, (uint32_t)layer, (uint32_t)c->num_experts, first,
                     count, out);
    }
    return status;
}

static eep_status load_tensor(const model *m, upload *u, weights_kind kind, int32_t layer,
                              int32_t expert, size_t count, float *target)
{
    const size_t max_count = HALF_BYTES / sizeof(float);
    eep_status status = EEP_OK;
    for (size_t at = 0; at < count && status == EEP_OK; at += max_count) {
        size_t part = count - at < max_count ? count - at : max_count;
        void *room;
        status = upload_room(u, &room);
        if (status != EEP_OK) {
            return status;
        }
        status = make_numbers(m, kind, layer, expert, at, part, room);
        if (status == EEP_OK) {
            status = upload_send(u, target + at, part * sizeof(float));
        }
    }
    return status;
}

static eep_status load_dense(model *m, upload *u)
{
    const model_config *c = &m->config;
    size_t hidden = (size_t)c->hidden, routes = hidden * (size_t)c->num_experts;
    size_t words = hidden * (size_t)c->vocabulary;
    eep_status status = load_tensor(m, u, WEIGHTS_EMBEDDING, 0, 0, words, m->embedding);
    if (status == EEP_OK) {
        status = load_tensor(m, u, WEIGHTS_UNEMBEDDING, 0, 0, words, m->unembedding);
    }
    for (int32_t l = 0; l < c->num_layers && status == EEP_OK; l++) {
        status = load_tensor(m, u, WEIGHTS_DECAY, l, 0, hidden, m->decay + (size_t)l * hidden);
        if (status == EEP_OK) {
            status =
                load_tensor(m, u, WEIGHTS_ROUTER, l, 0, routes, m->router + (size_t)l * routes);
        }
    }
    return status;
}

/* ---------------------------------------------------------------- experts */

static size_t padded_floats(size_t count)
{
    size_t step = ALIGN_BYTES / sizeof(float);
    return (count + step - 1) / step * step;
}

/* All three tensors have hidden * inner elements. */
size_t model_expert_floats(const model_config *c)
{
    return MODEL_TENSORS * padded_floats((size_t)c->hidden * (size_t)c->inner);
}

/* Where an expert's tensors lie in the model_expert_floats at `memory`. */
static void lay_out_expert(const model_config *c, float *memory, eep_tensor *tensors)
{
    size_t count = (size_t)c->hidden * (size_t)c->inner;
    for (size_t i = 0; i < MODEL_TENSORS; i++) {
        tensors[i] = (eep_tensor){memory + i * padded_floats(count), count * sizeof(float)};
    }
}

static eep_status fill_slot(model *m, upload *u, int32_t place)
{
    const model_config *c = &m->config;
    int32_t layer = place / c->num_slots, slot = place % c->num_slots;
    int32_t expert = eep_slot_expert(m->context, layer, slot);
    eep_tensor tensors[MODEL_TENSORS];
    eep_status status = EEP_OK;
    lay_out_expert(c, m->experts + (size_t)place * model_expert_floats(c), tensors);
    for (int i = 0; i < MODEL_TENSORS && expert >= 0 && status == EEP_OK; i++) {
        status = load_tensor(m, u, (weights_kind)(WEIGHTS_GATE + i), layer, expert,
                             tensors[i].bytes / sizeof(float), tensors[i].data);
    }
    return status == EEP_OK ? eep_slot_set(m->context, layer, slot, tensors, MODEL_TENSORS)
                            : status;
}

/* Where every slot's tensors are, for the kernels. */
static eep_status load_addresses(model *m, upload *u)
{
    const model_config *c = &m->config;
    const size_t max_count = HALF_BYTES / sizeof(float *);
    size_t count = (size_t)c->num_layers * (size_t)c->num_slots * MODEL_TENSORS;
    eep_status status = EEP_OK;
    for (size_t at = 0; at < count && status == EEP_OK; at += max_count) {
        size_t part = count - at < max_count ? count - at : max_count;
        void *room;
        status = upload_room(u, &room);
        for (size_t i = 0; i < part && status == EEP_OK; i++) {
            eep_tensor tensors[MODEL_TENSORS];
            size_t place = (at + i) / MODEL_TENSORS;
            lay_out_expert(c, m->experts + place * model_expert_floats(c), tensors);
            ((const float **)room)[i] = tensors[(at + i) % MODEL_TENSORS].data;
        }
        if (status == EEP_OK) {
            status = upload_send(u, m->weights + at, part * sizeof(float *));
        }
    }
    return status;
}

static eep_status fill_slots(model *m, upload *u)
{
    eep_status status = load_addresses(m, u);
    for (int32_t place = 0; place < m->config.num_layers * m->config.num_slots; place++) {
        if (status == EEP_OK) {
            status = fill_slot(m, u, place);
        }
    }
    return status;
}

/* ---------------------------------------------------------------- backups */

static eep_status make_expert(const model *m, int32_t layer, int32_t expert,
                              const eep_tensor *tensors)
{
    eep_status status = EEP_OK;

    for (uint32_t i = 0; i < MODEL_TENSORS && status == EEP_OK; i++) {
        status = make_numbers(m, (weights_kind)(WEIGHTS_GATE + i), layer, expert, 0,
                              tensors[i].bytes / sizeof(float), tensors[i].data);
    }
    return status;
}

/* In memory of the host, where repairs read them. */
static eep_status fill_backups(model *m)
{
    const model_config *c = &m->config;
    size_t kept = 0, each = model_expert_floats(c);

    for (int32_t place = 0; place < c->num_layers * c->num_experts; place++) {
        kept +=
            (size_t)eep_backup_wanted(m->context, place / c->num_experts, place % c->num_experts);
    }
    if (kept == 0) {
        return EEP_OK;
    }
    m->backups = malloc(kept * each * sizeof(float));
    if (m->backups == NULL) {
        return EEP_ERR_NO_MEMORY;
    }

    float *memory = m->backups;
    for (int32_t place = 0; place < c->num_layers * c->num_experts; place++) {
        int32_t layer = place / c->num_experts, expert = place % c->num_experts;
        eep_tensor tensors[MODEL_TENSORS];
        if (!eep_backup_wanted(m->context, layer, expert)) {
            continue;
        }
        lay_out_expert(c, memory, tensors);
        eep_status status = make_expert(m, layer, expert, tensors);
        if (status == EEP_OK) {
            status = eep_backup_set(m->context, layer, expert, tensors, MODEL_TENSORS);
        }
        if (status != EEP_OK) {
            return status;
        }
        memory += each;
    }
    return EEP_OK;
}

/* ---------------------------------------------------------------- the checkpoint */

static eep_status place_expert(void *user, int32_t layer, int32_t expert, int32_t tensor,
                               eep_checkpoint_place *place_out)
{
    static_assert((int)MODEL_TENSOR_NAME_BYTES <= (int)EEP_CHECKPOINT_NAME_BYTES, "a name fits");
    (void)user;
    model_tensor_name((weights_kind)(WEIGHTS_GATE + tensor), layer, expert, place_out->name);
    snprintf(place_out->dtype, sizeof place_out->dtype, "F32");
    return EEP_OK;
}

/* Of the shapes that this model's kernels read. */
static eep_status check_shapes(const model *m, char *why, size_t why_bytes)
{
    for (int64_t i = 0; i < model_tensors_num(&m->config); i++) {
        const model_tensor t = model_tensor_at(&m->config, i);
        eep_checkpoint_tensor there;
        eep_status status = eep_checkpoint_find(m->checkpoint, t.name, EEP_SIZED(&there));
        if (status != EEP_OK) {
            snprintf(why, why_bytes, "%s: %s", m->config.checkpoint, eep_error_text());
            return status;
        }
        if (strcmp(there.dtype, "F32") != 0 || there.num_dims != t.num_dims ||
            there.shape[0] != (uint64_t)t.shape[0] ||
            (t.num_dims == 2 && there.shape[1] != (uint64_t)t.shape[1])) {
            snprintf(why, why_bytes,
                     "%s: tensor %s is %s [%" PRIu64 ", %" PRIu64 "], and this run's options want "
                     "F32 [%d, %d]",
                     m->config.checkpoint, t.name, there.dtype, there.shape[0], there.shape[1],
                     t.shape[0], t.shape[1]);
            return EEP_ERR_INVALID;
        }
    }
    return EEP_OK;
}

/* Where there is one: open it, and let repairs read it. */
static eep_status open_checkpoint(model *m, const char **why_out)
{
    static _Thread_local char why[WHY_BYTES];
    eep_status status;

    if (!m->config.checkpoint) {
        return EEP_OK;
    }
    status = eep_checkpoint_open(m->config.checkpoint, why, sizeof why, &m->checkpoint);
    if (status == EEP_OK) {
        status = check_shapes(m, why, sizeof why);
    }
    if (status == EEP_OK) {
        status = eep_checkpoint_set(m->context, m->checkpoint, MODEL_TENSORS, place_expert, NULL);
        snprintf(why, sizeof why, "%s", eep_last_error(m->context));
    }
    *why_out = why;
    return status;
}

/* Why the weights did not come: the checkpoint's text, or the context's. */
static const char *why_not_loaded(const model *m)
{
    const char *why = m->checkpoint ? eep_error_text() : eep_last_error(m->context);

    return *why ? why : "the weights could not be copied to the device";
}

eep_status model_load(model *m, const char **why_out)
{
    upload u;
    eep_status status = open_checkpoint(m, why_out);
    if (status != EEP_OK) {
        return status;
    }
    status = upload_open(&u, m->device);
    if (status == EEP_OK) {
        status = load_dense(m, &u);
    }
    if (status == EEP_OK) {
        status = fill_slots(m, &u);
    }
    status = upload_close(&u, status);
    if (status == EEP_OK && !m->config.no_backups) {
        status = fill_backups(m);
    }
    if (status != EEP_OK) {
        *why_out = why_not_loaded(m);
    }
    return status;
}
