/* SPDX-License-Identifier: Apache-2.0 */
/* What this rank sends to repairs of others: its node's backups; the experts in its slots, since a
 * live replica is a source as well; and what it has nowhere else, out of its checkpoint file.
 * Service thread. */
#include "membership/service/serve.h"

#include "graphs/device/device_share.h"
#include "membership/context/context.h"
#include "membership/context/log.h"
#include "membership/loads/gather.h"
#include "membership/service/store_session.h"
#include "membership/weights/checkpoint_places.h"
#include "membership/weights/checkpoint_reads.h"
#include "membership/weights/weights.h"
#include "repair/executor/landing.h"

#include <stdlib.h>

enum { COPY_BOUND_US = 1000000, NUM_BUFFERS = EEPI_SERVED_AT_ONCE };

/* A pinned copy of one slot, of which ranges are sent. */
typedef struct staged {
    void *buffer;
    int32_t layer, expert; /* of whose weights it has ranges, while it has users */
    int users;             /* transfers under way */
} staged;

struct eepi_serving {
    eep_stream *stream; /* the device's auxiliary one; NULL: slots are sent as they are */
    staged staged[NUM_BUFFERS];
    eepi_reads *reads; /* from the checkpoint file */
};

/* The slot that holds the expert now; -1: none. The newest view says so, and not the one that this
 * rank runs: in a pause slots are filled under several views, none of which is installed. Who is in
 * no view has what it has loaded, or had last. Rule R1: a FILLING slot is no source. */
static int slot_of(const eep_context *context, int32_t layer, int32_t expert)
{
    const int32_t *experts =
        eepi_weights_experts(context) + (size_t)layer * (size_t)context->config.num_slots;
    const eepi_view *view = eepi_core_view(context->core);
    const bool is_in = view && eepi_view_has(view, context->config.rank, context->generation);

    for (int slot = 0; slot < context->config.num_slots; slot++) {
        const eepi_view_slot *at =
            is_in ? eepi_view_slot_at(view, layer, context->config.rank, slot) : NULL;
        if (at ? at->state == EEPI_SLOT_HOLDS && at->expert == expert : experts[slot] == expert) {
            return slot;
        }
    }
    return -1;
}

static int name_parts(const eep_context *context, const eep_tensor *tensors,
                      eepi_bulk_part *parts_out)
{
    for (int i = 0; i < eepi_weights_num_tensors(context); i++) {
        parts_out[i] = (eepi_bulk_part){tensors[i].data, tensors[i].bytes};
    }
    return eepi_weights_num_tensors(context);
}

/* The buffer that has ranges of that expert already, else a free one; NULL: all are in use. */
static staged *buffer_for(struct eepi_serving *serving, const eepi_blob *blob)
{
    staged *unused = NULL;

    for (int at = 0; at < NUM_BUFFERS; at++) {
        staged *s = &serving->staged[at];
        if (s->users > 0 && s->layer == blob->layer && s->expert == blob->expert) {
            return s;
        }
        if (s->buffer && s->users == 0) {
            unused = s;
        }
    }
    return unused;
}

/* Device memory is sent from a pinned copy of the range, which lies in its buffer where the whole
 * blob would have it. 0: all buffers are in use; the receiver asks another rank, or asks again. */
static int name_staged(eep_context *context, const eepi_blob *blob, uint64_t bytes,
                       const eep_tensor *tensors, eepi_bulk_part *parts_out)
{
    struct eepi_serving *serving = context->serving;
    staged *s = buffer_for(serving, blob);
    eep_status status = EEP_OK;
    const uint64_t end = blob->offset + bytes;
    uint64_t begin = 0; /* of the tensor in the blob */

    if (!s) {
        return 0;
    }
    for (int i = 0; i < eepi_weights_num_tensors(context) && status == EEP_OK; i++) {
        const uint64_t size = tensors[i].bytes;
        uint8_t *to = (uint8_t *)s->buffer + begin;
        const uint64_t from = blob->offset > begin ? blob->offset - begin : 0;
        const uint64_t until = end < begin + size ? (end > begin ? end - begin : 0) : size;
        parts_out[i] = (eepi_bulk_part){to, size};
        if (from < until) {
            status = eep_copy_async(serving->stream, to + from,
                                    (const uint8_t *)tensors[i].data + from, until - from);
        }
        begin += size;
    }
    if (status == EEP_OK) {
        status = eep_stream_synchronize(serving->stream, COPY_BOUND_US);
    }
    if (status != EEP_OK) {
        return 0;
    }
    s->layer = blob->layer;
    s->expert = blob->expert;
    s->users++;
    return eepi_weights_num_tensors(context);
}

/* Rule R2: a file that cannot be read, or that has other bytes than the instance, is no source. */
static void distrust(eep_context *context, const eepi_blob *blob, const char *why)
{
    eepi_log(context, EEP_LOG_WARN,
             "repair of another rank: layer %d expert %d: %s: the checkpoint is read no more",
             blob->layer, blob->expert, why);
    if (eepi_places_distrust(context)) {
        eepi_store_put_record(context);
    }
}

/* The whole expert was read and is what the view says, or not all of it was read by now. */
static bool is_right(eep_context *context, const eepi_blob *blob)
{
    const eepi_view *view = eepi_core_view(context->core);
    const uint64_t sum = view ? *eepi_view_checksum_at(view, blob->layer, blob->expert) : 0;

    return sum == 0 || !eepi_reads_are_wrong(context->serving->reads, blob, sum);
}

/* Nobody has it in memory. */
static int name_read(eep_context *context, const eepi_blob *blob, uint64_t bytes,
                     eepi_bulk_part *parts_out)
{
    char why[EEPI_TENSOR_WHY_BYTES];
    const uint64_t from_ns = eepi_now_ns();
    int num = 0;

    switch (eepi_reads_begin(context, context->serving->reads, blob, bytes, parts_out, &num, why)) {
    case EEPI_READ_REFUSED:
        return 0;
    case EEPI_READ_FAILED:
        distrust(context, blob, why);
        return 0;
    case EEPI_READ_DONE:
        break;
    }
    eepi_own_links_piece(eepi_store_own_links(context), EEPI_RATE_FILE, bytes,
                         eepi_now_ns() - from_ns);
    if (!is_right(context, blob)) {
        distrust(context, blob, "its bytes have not the checksum of the view");
    }
    return num; /* the receiver checks them */
}

int eepi_serve(void *user, const eepi_blob *blob, uint64_t bytes, eepi_bulk_part *parts_out)
{
    eep_context *context = user;
    const eep_tensor *tensors;
    int slot;

    if (blob->layer == EEPI_LOADS_LAYER) {
        return eepi_gather_serve(context, parts_out);
    }
    if (blob->layer < 0 || blob->layer >= context->config.num_layers || blob->expert < 0 ||
        blob->expert >= context->config.num_experts) {
        return 0;
    }
    if (!__atomic_load_n(&context->executor, __ATOMIC_ACQUIRE)) {
        return 0; /* its weights are not in yet */
    }
    tensors = eepi_weights_backup(context, blob->layer, blob->expert);
    if (tensors) {
        return name_parts(context, tensors, parts_out);
    }
    slot = slot_of(context, blob->layer, blob->expert);
    if (slot < 0) {
        return eepi_places_trusted(context) ? name_read(context, blob, bytes, parts_out) : 0;
    }
    tensors = eepi_weights_slot(context, blob->layer, slot);
    return context->serving->stream ? name_staged(context, blob, bytes, tensors, parts_out)
                                    : name_parts(context, tensors, parts_out);
}

void eepi_served(void *user, const eepi_bulk_part *parts, int num_parts)
{
    struct eepi_serving *serving = ((eep_context *)user)->serving;

    eepi_gather_served(user, parts, num_parts);
    eepi_reads_end(serving->reads, parts, num_parts);
    for (int at = 0; num_parts > 0 && at < NUM_BUFFERS; at++) {
        staged *s = &serving->staged[at];
        if (s->users > 0 && s->buffer == parts[0].data) {
            s->users--;
        }
    }
}

static eepi_lane lane_of(const eep_context *context)
{
    const eepi_bulk_facts facts = eepi_bulk_facts_of(context->bulk);

    return eepi_lane_of(
        &(eepi_lane_facts){.memory = eepi_memory_place_of(context->config.device),
                           .carrier = facts.carrier,
                           .ucx_version = EEPI_UCX_VERSION(facts.ucx_major, facts.ucx_minor),
                           .ucx_has_cuda = facts.sends_cuda});
}

eep_status eepi_serving_open(eep_context *context)
{
    struct eepi_serving *serving = context->serving;
    eep_device *device = context->config.device;
    size_t bytes = 0;
    eep_status status = EEP_OK;

    if (lane_of(context) != EEPI_LANE_STAGED) {
        return EEP_OK; /* its memory can be sent as it is */
    }
    for (int i = 0; i < eepi_weights_num_tensors(context); i++) {
        bytes += eepi_weights_tensor_bytes(context)[i];
    }
    for (int at = 0; at < NUM_BUFFERS && status == EEP_OK; at++) {
        status = eep_device_alloc(device, EEP_MEMORY_PINNED, bytes, &serving->staged[at].buffer);
    }
    return status == EEP_OK ? eepi_device_auxiliary(device, &serving->stream) : status;
}

void eepi_serving_close(eep_context *context)
{
    for (int at = 0; context->serving && at < NUM_BUFFERS; at++) {
        eep_device_free(context->config.device, EEP_MEMORY_PINNED,
                        context->serving->staged[at].buffer);
    }
    if (context->serving) {
        eepi_reads_free(context->serving->reads);
    }
    free(context->serving);
}

eep_status eepi_serving_new(eep_context *context)
{
    context->serving = calloc(1, sizeof *context->serving);
    if (context->serving) {
        context->serving->reads = eepi_reads_new();
    }
    return context->serving && context->serving->reads ? EEP_OK : EEP_ERR_NO_MEMORY;
}
