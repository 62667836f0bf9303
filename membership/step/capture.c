/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes of a step's graph. Every argument is an address that stays valid, or a constant. Rank
 * thread, at capture time. */
#include "membership/step/capture.h"

#include "graphs/base/public_call.h"
#include "graphs/device/device_ops.h"
#include "graphs/device/device_share.h"
#include "membership/context/context.h"
#include "membership/context/sequence.h"

#include <stdlib.h>

struct eepi_capture {
    eep_stream *stream;
    struct eepi_owner *owner; /* of that stream, and of graphs that hold our steps */
    eepi_sequence sequence;   /* what was put of a step */
    eepi_at_node at_node;     /* NULL: nobody watches */
    void *at_node_user;
    const int32_t *slot_begin[]; /* [num_layers], from dispatch to combine */
};

eep_status eepi_capture_open(eep_context *context)
{
    const size_t layers = (size_t)context->config.num_layers;
    struct eepi_capture *capture = calloc(1, sizeof *capture + layers * sizeof(int32_t *));

    context->capture = capture;
    if (!capture) {
        return EEP_ERR_NO_MEMORY;
    }
    capture->sequence.num_layers = context->config.num_layers;
    capture->owner = eepi_owner_open();
    return capture->owner ? EEP_OK : EEP_ERR_NO_MEMORY;
}

void eepi_capture_close(eep_context *context)
{
    if (!context->capture) {
        return;
    }
    (void)!eepi_set_stream(context, "eep_close", NULL);
    eepi_owner_drop(context->capture->owner);
    free(context->capture);
}

eep_stream *eepi_step_stream_of(const eep_context *context)
{
    return context->capture->stream;
}

bool eepi_step_is_loose(const eep_context *context)
{
    return eepi_sequence_is_loose(&context->capture->sequence, context->capture->stream,
                                  context->stepper.step);
}

bool eepi_step_is_by_others(const eep_context *context)
{
    return context->capture->sequence.by_others;
}

/* A guarded host device has a GPU's grid. */
static uint32_t num_blocks(const eep_context *context)
{
    if (context->config.num_blocks > 0) {
        return (uint32_t)context->config.num_blocks;
    }
    return eepi_device_is_discrete(context->config.device) ? EEPI_COPY_BLOCKS
                                                           : EEPI_COPY_BLOCKS_HOST;
}

static eep_status put(eep_context *context, eep_stream *stream, eepi_kernel_id id, uint32_t blocks,
                      uint32_t threads, const void *args, size_t bytes)
{
    const struct eepi_capture *c = context->capture;
    eep_status status = c->at_node ? c->at_node(c->at_node_user, stream, id, args, false) : EEP_OK;

    if (status == EEP_OK) {
        status = eep_launch(stream, eepi_tables_kernel(context->tables, id), blocks, threads, args,
                            bytes);
        if (status != EEP_OK) {
            status = eepi_fail(context, status, "node %s could not be launched: %s",
                               eepi_tables_kernel(context->tables, id)->name, eep_error_text());
        }
    }
    if (status == EEP_OK && c->at_node) {
        status = c->at_node(c->at_node_user, stream, id, args, true);
    }
    if (status != EEP_OK) {
        eepi_sequence_break(&context->capture->sequence);
    }
    return status;
}

/* ------------------------------------------------------------------ the order of a step's nodes */

static eepi_sequence_place place_of(const eep_context *context, eep_stream *stream)
{
    return (eepi_sequence_place){stream, eepi_stream_capture_number(stream),
                                 eep_stream_is_capturing(stream),
                                 context->stepper.in_step ? context->stepper.step : 0};
}

static eep_status check_order(eep_context *context, eepi_sequence_node node, int32_t layer,
                              eep_stream *stream)
{
    const eepi_sequence_place place = place_of(context, stream);
    char why[EEPI_ERROR_BYTES - 64];

    if (eepi_sequence_may(&context->capture->sequence, node, layer, &place, why, sizeof why)) {
        return EEP_OK;
    }
    return eepi_fail(context, EEP_ERR_STATE, "%s", why);
}

/* The end of a capture must know what its graph would lack. */
static void tell_stream(eep_context *context, eep_stream *stream)
{
    char lacks[EEPI_ERROR_BYTES / 2];
    const bool is_open = eepi_sequence_lacks(&context->capture->sequence, lacks, sizeof lacks);

    eepi_stream_note_lack(stream, is_open ? lacks : NULL);
}

static eep_status note_order(eep_context *context, eepi_sequence_node node, int32_t layer,
                             eep_stream *stream, eep_status status)
{
    const eepi_sequence_place place = place_of(context, stream);

    if (status == EEP_OK) {
        eepi_sequence_put(&context->capture->sequence, node, layer, &place);
    }
    tell_stream(context, stream);
    return status;
}

eep_status eepi_check_sequence(eep_context *context, const char *call)
{
    char lacks[EEPI_ERROR_BYTES / 2];

    if (!eepi_sequence_lacks(&context->capture->sequence, lacks, sizeof lacks)) {
        return EEP_OK;
    }
    eepi_sequence_drop(&context->capture->sequence);
    return eepi_fail(context, EEP_ERR_STATE,
                     "%s: %s: it is dropped; put a whole step, from eep_step_latch to "
                     "eep_step_finish",
                     call, lacks);
}

void eepi_capture_watch(eep_context *context, eepi_at_node at_node, void *user)
{
    context->capture->at_node = at_node;
    context->capture->at_node_user = user;
}

const eepk_world *eepi_capture_world(const eep_context *context)
{
    return eepi_tables_world(context->tables);
}

static eep_status put_world(eep_context *context, eep_stream *stream, eepi_kernel_id id)
{
    eepk_world_args args = {eepi_tables_world(context->tables)};

    return put(context, stream, id, 1, EEPI_EXCHANGE_THREADS, &args, sizeof args);
}

static eep_status check_stream(eep_context *context, const char *call, const eep_stream *stream)
{
    eep_status status = eepi_check_own(call, context);

    if (status == EEP_OK) {
        status = eepi_check_argument(context, call, "stream", stream);
    }
    if (status == EEP_OK && eepi_stream_is_closed(stream)) {
        status = eepi_fail(context, EEP_ERR_STATE,
                           "%s: the stream was closed: give one that is open", call);
    }
    return status;
}

eep_status eepi_set_stream(eep_context *context, const char *call, eep_stream *stream)
{
    if (stream && eepi_stream_own(stream, context->capture->owner) != EEP_OK) {
        return eepi_fail(context, EEP_ERR_STATE,
                         "%s: another context's steps run in this stream, and each would wait "
                         "behind the other's: open a stream per context",
                         call);
    }
    if (stream) {
        eepi_stream_hold(stream);
    }
    if (context->capture->stream && context->capture->stream != stream) {
        eepi_stream_disown(context->capture->stream, context->capture->owner);
    }
    eepi_stream_drop(context->capture->stream);
    context->capture->stream = stream;
    return EEP_OK;
}

eep_status eep_step_latch(eep_context *context, eep_stream *stream)
{
    eep_status status = check_stream(context, "eep_step_latch", stream);
    const bool is_first = status == EEP_OK && !context->capture->stream;

    if (status != EEP_OK) {
        return status;
    }
    if (context->stepper.in_step && stream != context->capture->stream) {
        return eepi_fail(context, EEP_ERR_STATE,
                         "eep_step_latch: step %llu runs in another stream: end it with "
                         "eep_step_end before another graph is captured",
                         (unsigned long long)context->stepper.step);
    }
    status = check_order(context, EEPI_NODE_LATCH, 0, stream);
    if (status == EEP_OK) {
        status = eepi_set_stream(context, "eep_step_latch", stream);
    }
    if (status == EEP_OK && is_first && !context->has_joined && !eep_stream_is_capturing(stream)) {
        (void)!eepi_set_stream(context, "eep_step_latch", NULL);
        status = eepi_fail(context, EEP_ERR_STATE,
                           "eep_step_latch before eep_join, and the stream is not captured, so no "
                           "graph follows: call eep_capture_begin first; to run steps without a "
                           "graph, name the stream with eep_step_stream");
    }
    if (status != EEP_OK) {
        return status;
    }
    status = put_world(context, stream, EEPI_KERNEL_latch);
    status = note_order(context, EEPI_NODE_LATCH, 0, stream, status);
    if (status != EEP_OK) {
        return status;
    }
    eepi_stream_note_step(stream, context->capture->owner);
    eepi_device_note_capture(context->config.device, stream);
    return EEP_OK;
}

eep_status eep_step_stream(eep_context *context, eep_stream *stream)
{
    eep_status status = check_stream(context, "eep_step_stream", stream);

    if (status != EEP_OK) {
        return status;
    }
    if (context->stepper.in_step) {
        return eepi_fail(context, EEP_ERR_STATE,
                         "eep_step_stream: step %llu has begun: end it with eep_step_end first",
                         (unsigned long long)context->stepper.step);
    }
    return eepi_set_stream(context, "eep_step_stream", stream);
}

eep_status eepi_refuse_in_capture(eep_context *context, const char *call)
{
    eep_status status = eepi_check_own(call, context);

    if (status != EEP_OK) {
        return status;
    }
    if (!eepi_thread_is_capturing() &&
        !(context->capture->stream && eep_stream_is_capturing(context->capture->stream))) {
        return EEP_OK;
    }
    return eepi_fail(context, EEP_ERR_STATE,
                     "%s while a stream is captured: what it does is no part of a graph; end the "
                     "capture first",
                     call);
}

eep_status eep_step_finish(eep_context *context, eep_stream *stream)
{
    eep_status status = check_stream(context, "eep_step_finish", stream);

    if (status == EEP_OK) {
        status = check_order(context, EEPI_NODE_FINISH, 0, stream);
    }
    if (status != EEP_OK) {
        return status;
    }
    status = put_world(context, stream, EEPI_KERNEL_finish);
    return note_order(context, EEPI_NODE_FINISH, 0, stream, status);
}

size_t eep_rows_capacity(const eep_context *context)
{
    return context ? context->shape.rows_capacity : 0;
}

static eep_status check_layer(eep_context *context, const char *call, int32_t layer)
{
    if (layer < 0 || layer >= context->config.num_layers) {
        return eepi_fail(context, EEP_ERR_INVALID, "%s: layer is %d: 0 to %d are possible", call,
                         layer, context->config.num_layers - 1);
    }
    return EEP_OK;
}

/* Buffers are named as the fields of the struct are. */
typedef struct named_buffer {
    const char *name;
    const void *buffer;
} named_buffer;

/* Kernels read and write 16 bytes at once. */
static eep_status check_aligned(eep_context *context, const char *call, const named_buffer *rows,
                                int num_rows)
{
    for (int i = 0; i < num_rows; i++) {
        if ((uintptr_t)rows[i].buffer % 16 != 0) {
            return eepi_fail(context, EEP_ERR_INVALID,
                             "%s: %s is at %p: rows begin at multiples of 16 bytes", call,
                             rows[i].name, rows[i].buffer);
        }
    }
    return EEP_OK;
}

static eep_status check_buffers(eep_context *context, const char *call, const named_buffer *buffers,
                                int num_buffers)
{
    for (int i = 0; i < num_buffers; i++) {
        if (!buffers[i].buffer) {
            return eepi_fail(context, EEP_ERR_INVALID,
                             "%s: the buffer %s is NULL: give memory that stays until eep_close",
                             call, buffers[i].name);
        }
    }
    return EEP_OK;
}

static eep_status check_dispatch(eep_context *context, const eep_dispatch_args *args)
{
    const named_buffer buffers[] = {{"x", args->x},
                                    {"topk_idx", args->topk_idx},
                                    {"num_tokens", args->num_tokens},
                                    {"rows", args->rows},
                                    {"slot_begin", args->slot_begin}};
    eep_status status = check_buffers(context, "eep_dispatch", buffers, 5);

    if (status == EEP_OK && (args->row_scales != NULL) != (context->shape.num_scales > 0)) {
        status = eepi_fail(context, EEP_ERR_INVALID,
                           "eep_dispatch: row_scales is %s fp8_dispatch: give it exactly with that",
                           args->row_scales ? "given without" : "NULL with");
    }
    if (status == EEP_OK) {
        status = check_aligned(context, "eep_dispatch",
                               (const named_buffer[]){{"x", args->x},
                                                      {"rows", args->rows},
                                                      {"row_scales", args->row_scales}},
                               3);
    }
    return status;
}

static eep_status check_combine(eep_context *context, const eep_combine_args *args)
{
    const named_buffer buffers[] = {{"rows", args->rows},
                                    {"topk_weights", args->topk_weights},
                                    {"num_tokens", args->num_tokens},
                                    {"out", args->out}};
    eep_status status = check_buffers(context, "eep_combine", buffers, 4);

    if (status == EEP_OK && eep_dtype_bytes(args->out_dtype) == 0) {
        status = eepi_fail(context, EEP_ERR_INVALID,
                           "eep_combine: out_dtype is %d: EEP_FP32 and EEP_BF16 are possible",
                           (int)args->out_dtype);
    }
    if (status == EEP_OK) {
        status = check_aligned(context, "eep_combine",
                               (const named_buffer[]){{"rows", args->rows}, {"out", args->out}}, 2);
    }
    return status;
}

eep_status eep_dispatch(eep_context *context, int32_t layer, eep_stream *stream,
                        const eep_dispatch_args *args)
{
    eep_dispatch_args a = {0};
    eepk_dispatch_node_args node;
    uint32_t blocks;
    eep_status status = check_stream(context, "eep_dispatch", stream);

    if (status == EEP_OK) {
        status = check_layer(context, "eep_dispatch", layer);
    }
    if (status == EEP_OK && EEPI_STRUCT_TAKE(eep_dispatch_args, &a, args) != EEP_OK) {
        status = eepi_fail(context, EEP_ERR_INVALID, "%s", eep_error_text());
    }
    if (status == EEP_OK) {
        status = check_dispatch(context, &a);
    }
    if (status == EEP_OK) {
        status = check_order(context, EEPI_NODE_DISPATCH, layer, stream);
    }
    if (status != EEP_OK) {
        return status;
    }
    blocks = num_blocks(context);
    node = (eepk_dispatch_node_args){eepi_tables_world(context->tables),
                                     a.x,
                                     a.topk_idx,
                                     a.num_tokens,
                                     a.rows,
                                     a.slot_begin,
                                     a.row_scales,
                                     (uint32_t)layer,
                                     0};
    context->capture->slot_begin[layer] = a.slot_begin;
    status = put(context, stream, EEPI_KERNEL_route, 1, EEPI_ROUTE_THREADS, &node, sizeof node);
    if (status == EEP_OK) {
        status = put(context, stream, EEPI_KERNEL_dispatch_send, blocks, EEPI_COPY_THREADS, &node,
                     sizeof node);
    }
    if (status == EEP_OK) {
        status = put(context, stream, EEPI_KERNEL_dispatch_exchange, 1, EEPI_EXCHANGE_THREADS,
                     &node, sizeof node);
    }
    if (status == EEP_OK) {
        status =
            put(context, stream, EEPI_KERNEL_unpack, blocks, EEPI_COPY_THREADS, &node, sizeof node);
    }
    return note_order(context, EEPI_NODE_DISPATCH, layer, stream, status);
}

eep_status eep_combine(eep_context *context, int32_t layer, eep_stream *stream,
                       const eep_combine_args *args)
{
    eep_combine_args a = {0};
    eepk_combine_node_args node;
    uint32_t blocks;
    eep_status status = check_stream(context, "eep_combine", stream);

    if (status == EEP_OK) {
        status = check_layer(context, "eep_combine", layer);
    }
    if (status == EEP_OK && EEPI_STRUCT_TAKE(eep_combine_args, &a, args) != EEP_OK) {
        status = eepi_fail(context, EEP_ERR_INVALID, "%s", eep_error_text());
    }
    if (status == EEP_OK) {
        status = check_combine(context, &a);
    }
    if (status == EEP_OK) {
        status = check_order(context, EEPI_NODE_COMBINE, layer, stream);
    }
    if (status != EEP_OK) {
        return status;
    }
    blocks = num_blocks(context);
    node = (eepk_combine_node_args){eepi_tables_world(context->tables),
                                    a.rows,
                                    a.topk_weights,
                                    a.num_tokens,
                                    context->capture->slot_begin[layer],
                                    a.out,
                                    (uint32_t)layer,
                                    (uint32_t)a.out_dtype,
                                    0,
                                    0};
    status = put(context, stream, EEPI_KERNEL_combine_send, blocks, EEPI_COPY_THREADS, &node,
                 sizeof node);
    if (status == EEP_OK) {
        status = put(context, stream, EEPI_KERNEL_combine_exchange, 1, EEPI_EXCHANGE_THREADS, &node,
                     sizeof node);
    }
    if (status == EEP_OK) {
        status =
            put(context, stream, EEPI_KERNEL_reduce, blocks, EEPI_COPY_THREADS, &node, sizeof node);
    }
    return note_order(context, EEPI_NODE_COMBINE, layer, stream, status);
}
