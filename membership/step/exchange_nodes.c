/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes of dispatches and combines: each has a send half and a receive half, which are put by
 * one call or by two. Rank thread, at capture time. */
#include "graphs/base/public_call.h"
#include "graphs/device/device_ops.h"
#include "membership/context/context.h"
#include "membership/step/capture_state.h"
#include "membership/step/dispatch_form.h"

size_t eep_rows_capacity(const eep_context *context)
{
    return context ? context->shape.rows_capacity : 0;
}

/* ------------------------------------------------------------------ arguments */

/* What all calls check first. */
static eep_status check_place(eep_context *context, const char *call, const eep_stream *stream,
                              int32_t layer)
{
    eep_status status = eepi_capture_check_stream(context, call, stream);

    if (status == EEP_OK && (layer < 0 || layer >= context->config.num_layers)) {
        status = eepi_fail(context, EEP_ERR_INVALID, "%s: layer is %d: 0 to %d are possible", call,
                           layer, context->config.num_layers - 1);
    }
    return status;
}

static eep_status check_chain(eep_context *context, const char *call, int32_t chain)
{
    if (chain < 0 || chain >= context->config.num_chains) {
        return eepi_fail(context, EEP_ERR_INVALID,
                         "%s: chain is %d: 0 to %d are possible (num_chains of eep_config)", call,
                         chain, context->config.num_chains - 1);
    }
    return EEP_OK;
}

/* Whether the step's shape has that chunk, and whose turn it is, the sequence knows. */
static eep_status check_chunk(eep_context *context, const char *call, int32_t chunk,
                              int32_t reserved)
{
    if (chunk < 0) {
        return eepi_fail(context, EEP_ERR_INVALID, "%s: chunk is %d: they count from 0", call,
                         chunk);
    }
    if (reserved != 0) {
        return eepi_fail(context, EEP_ERR_INVALID, "%s: reserved is %d: it must be 0", call,
                         reserved);
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

static eep_status check_dispatch(eep_context *context, const char *call,
                                 const eep_dispatch_args *args)
{
    const named_buffer buffers[] = {
        {"x", args->x},
        {"topk_idx", args->topk_idx_int64 ? (const void *)args->topk_idx_int64 : args->topk_idx},
        {"num_tokens", args->num_tokens},
        {"rows", args->rows},
        {"slot_begin", args->slot_begin}};
    /* the last one tells nothing where slots have fixed places */
    const int num_buffers = args->layout == EEP_ROWS_PADDED ? 4 : 5;
    eep_status status = check_buffers(context, call, buffers, num_buffers);

    if (status == EEP_OK && (eepi_form_check_sizes(call, &context->shape, args) != EEP_OK ||
                             eepi_form_check_buffers(call, &context->shape, args) != EEP_OK)) {
        status = eepi_fail(context, EEP_ERR_INVALID, "%s", eep_error_text());
    }
    if (status == EEP_OK) {
        status = check_aligned(context, call,
                               (const named_buffer[]){{"x", args->x},
                                                      {"rows", args->rows},
                                                      {"row_scales", args->row_scales},
                                                      {"packed_scales", args->packed_scales}},
                               4);
    }
    return status;
}

static eep_status check_combine(eep_context *context, const char *call,
                                const eep_combine_args *args)
{
    const named_buffer buffers[] = {{"rows", args->rows},
                                    {"topk_weights", args->topk_weights},
                                    {"num_tokens", args->num_tokens},
                                    {"out", args->out}};
    eep_status status = check_buffers(context, call, buffers, 4);

    if (status == EEP_OK && eep_dtype_bytes(args->out_dtype) == 0) {
        status = eepi_fail(context, EEP_ERR_INVALID,
                           "%s: out_dtype is %d: EEP_FP32 and EEP_BF16 are possible", call,
                           (int)args->out_dtype);
    }
    if (status == EEP_OK) {
        status = check_aligned(context, "eep_combine",
                               (const named_buffer[]){{"rows", args->rows}, {"out", args->out}}, 2);
    }
    return status;
}

/* The nodes of a receive: one waits, the other copies or sums. */
static eep_status put_receive(eep_context *context, eep_stream *stream, eepi_kernel_id exchange,
                              eepi_kernel_id behind, const void *node, size_t bytes)
{
    eep_status status =
        eepi_capture_put(context, stream, exchange, 1, EEPI_EXCHANGE_THREADS, node, bytes);

    return status == EEP_OK
               ? eepi_capture_put(context, stream, behind, eepi_capture_blocks(context),
                                  EEPI_COPY_THREADS, node, bytes)
               : status;
}

static eep_status put_dispatch_receive(eep_context *context, eep_stream *stream,
                                       const eepk_dispatch_node_args *node)
{
    const bool is_formed = eepi_form_has_rows(node);

    return put_receive(
        context, stream,
        is_formed ? EEPI_KERNEL_dispatch_exchange_formed : EEPI_KERNEL_dispatch_exchange,
        is_formed ? EEPI_KERNEL_unpack_formed : EEPI_KERNEL_unpack, node, sizeof *node);
}

static eep_status put_combine_receive(eep_context *context, eep_stream *stream,
                                      const eepk_combine_node_args *node)
{
    return put_receive(context, stream, EEPI_KERNEL_combine_exchange, EEPI_KERNEL_reduce, node,
                       sizeof *node);
}

/* ------------------------------------------------------------------ dispatch */

static eep_status put_dispatch_send(eep_context *context, eep_stream *stream,
                                    const eepk_dispatch_node_args *node)
{
    const eepi_kernel_id route =
        eepi_form_has_ids(node) ? EEPI_KERNEL_route_formed : EEPI_KERNEL_route;
    eep_status status =
        eepi_capture_put(context, stream, route, 1, EEPI_ROUTE_THREADS, node, sizeof *node);

    return status == EEP_OK ? eepi_capture_put(context, stream, EEPI_KERNEL_dispatch_send,
                                               eepi_capture_blocks(context), EEPI_COPY_THREADS,
                                               node, sizeof *node)
                            : status;
}

static bool is_same(const void *one, const void *other)
{
    return one && one == other;
}

/* A chain whose rows are on their way to the experts, or from them, keeps its outputs (rule P4). */
static eep_status check_apart(eep_context *context, const char *call, const eep_dispatch_args *args)
{
    for (int32_t chain = 0; chain < context->config.num_chains; chain++) {
        const eepk_dispatch_node_args *other = &context->capture->dispatch[chain];
        if (chain != args->chain &&
            context->capture->sequence.done[chain] % EEPK_NODES_PER_LAYER != 0 &&
            (is_same(other->rows, args->rows) || is_same(other->slot_begin, args->slot_begin) ||
             is_same(other->slot_counts, args->slot_counts))) {
            return eepi_fail(context, EEP_ERR_INVALID,
                             "%s: chain %d has the same %s as chain %d, which is between its "
                             "dispatch and its combine: give each chain its own",
                             call, args->chain,
                             is_same(other->rows, args->rows)               ? "rows"
                             : is_same(other->slot_begin, args->slot_begin) ? "slot_begin"
                                                                            : "slot_counts",
                             chain);
        }
    }
    return EEP_OK;
}

/* The send, and with `is_both` the receive. */
static eep_status dispatch(eep_context *context, const char *call, int32_t layer,
                           eep_stream *stream, const eep_dispatch_args *args, bool is_both)
{
    eep_dispatch_args a = {0};
    eepi_sequence_part part = {EEPI_NODE_HALF, layer, 0, EEPK_NODE_DISPATCH_SEND, is_both, 0, 0};
    eepk_dispatch_node_args *node;
    eep_status status = check_place(context, call, stream, layer);

    if (status == EEP_OK && EEPI_STRUCT_TAKE_IN(call, eep_dispatch_args, &a, args) != EEP_OK) {
        status = eepi_fail(context, EEP_ERR_INVALID, "%s", eep_error_text());
    }
    if (status == EEP_OK) {
        status = check_chain(context, call, a.chain);
    }
    if (status == EEP_OK) {
        status = check_chunk(context, call, a.chunk, a.reserved);
    }
    if (status == EEP_OK) {
        status = check_dispatch(context, call, &a);
    }
    part.chain = a.chain;
    part.chunk = a.chunk;
    if (status == EEP_OK) {
        status = eepi_capture_check_order(context, &part, stream);
    }
    if (status == EEP_OK) {
        status = check_apart(context, call, &a);
    }
    if (status != EEP_OK) {
        return status;
    }
    node = &context->capture->dispatch[a.chain];
    *node = (eepk_dispatch_node_args){.world = eepi_tables_world(context->tables),
                                      .x = a.x,
                                      .topk_idx = a.topk_idx,
                                      .num_tokens = a.num_tokens,
                                      .rows = a.rows,
                                      .slot_begin = a.slot_begin,
                                      .row_scales = a.row_scales,
                                      .layer = (uint32_t)layer,
                                      .chain = (uint32_t)a.chain,
                                      .chunk = (uint32_t)a.chunk};
    eepi_form_fill(&context->shape, &a, node);
    status = put_dispatch_send(context, stream, node);
    if (status == EEP_OK && is_both) {
        status = put_dispatch_receive(context, stream, node);
    }
    return eepi_capture_note_order(context, &part, stream, status);
}

eep_status eep_dispatch(eep_context *context, int32_t layer, eep_stream *stream,
                        const eep_dispatch_args *args)
{
    return dispatch(context, "eep_dispatch", layer, stream, args, true);
}

eep_status eep_dispatch_send(eep_context *context, int32_t layer, eep_stream *stream,
                             const eep_dispatch_args *args)
{
    return dispatch(context, "eep_dispatch_send", layer, stream, args, false);
}

bool eepi_capture_has_physical_ids(const eep_context *context, int32_t chain)
{
    return context->capture->dispatch[chain].is_physical != 0;
}

/* What both receives check. They are of the chunk that their chain is in. */
static eep_status check_receive(eep_context *context, const char *call, eepi_sequence_part *part,
                                eep_stream *stream)
{
    eep_status status = check_place(context, call, stream, part->layer);

    if (status == EEP_OK) {
        status = check_chain(context, call, part->chain);
    }
    if (status == EEP_OK) {
        part->chunk = eepi_sequence_chunk(&context->capture->sequence, part->chain);
        status = eepi_capture_check_order(context, part, stream);
    }
    return status;
}

eep_status eep_dispatch_receive(eep_context *context, int32_t layer, int32_t chain,
                                eep_stream *stream)
{
    eepi_sequence_part part = {EEPI_NODE_HALF, layer, chain, EEPK_NODE_DISPATCH_RECEIVE,
                               false,          0,     0};
    eep_status status = check_receive(context, "eep_dispatch_receive", &part, stream);

    if (status != EEP_OK) {
        return status;
    }
    status = put_dispatch_receive(context, stream, &context->capture->dispatch[chain]);
    return eepi_capture_note_order(context, &part, stream, status);
}

/* ------------------------------------------------------------------ combine */

static eep_status combine(eep_context *context, const char *call, int32_t layer, eep_stream *stream,
                          const eep_combine_args *args, bool is_both)
{
    eep_combine_args a = {0};
    eepi_sequence_part part = {EEPI_NODE_HALF, layer, 0, EEPK_NODE_COMBINE_SEND, is_both, 0, 0};
    eepk_combine_node_args *node;
    eep_status status = check_place(context, call, stream, layer);

    if (status == EEP_OK && EEPI_STRUCT_TAKE_IN(call, eep_combine_args, &a, args) != EEP_OK) {
        status = eepi_fail(context, EEP_ERR_INVALID, "%s", eep_error_text());
    }
    if (status == EEP_OK) {
        status = check_chain(context, call, a.chain);
    }
    if (status == EEP_OK) {
        status = check_chunk(context, call, a.chunk, 0);
    }
    if (status == EEP_OK) {
        status = check_combine(context, call, &a);
    }
    part.chain = a.chain;
    part.chunk = a.chunk;
    if (status == EEP_OK) {
        status = eepi_capture_check_order(context, &part, stream);
    }
    if (status != EEP_OK) {
        return status;
    }
    node = &context->capture->combine[a.chain];
    *node = (eepk_combine_node_args){.world = eepi_tables_world(context->tables),
                                     .rows = a.rows,
                                     .topk_weights = a.topk_weights,
                                     .num_tokens = a.num_tokens,
                                     .slot_begin = context->capture->dispatch[a.chain].slot_begin,
                                     .out = a.out,
                                     .layer = (uint32_t)layer,
                                     .out_dtype = (uint32_t)a.out_dtype,
                                     .chain = (uint32_t)a.chain,
                                     .chunk = (uint32_t)a.chunk,
                                     .has_gaps =
                                         eepi_form_has_gaps(&context->capture->dispatch[a.chain])};
    status = eepi_capture_put(context, stream,
                              node->has_gaps ? EEPI_KERNEL_combine_send_formed
                                             : EEPI_KERNEL_combine_send,
                              eepi_capture_blocks(context), EEPI_COPY_THREADS, node, sizeof *node);
    if (status == EEP_OK && is_both) {
        status = put_combine_receive(context, stream, node);
    }
    return eepi_capture_note_order(context, &part, stream, status);
}

eep_status eep_combine(eep_context *context, int32_t layer, eep_stream *stream,
                       const eep_combine_args *args)
{
    return combine(context, "eep_combine", layer, stream, args, true);
}

eep_status eep_combine_send(eep_context *context, int32_t layer, eep_stream *stream,
                            const eep_combine_args *args)
{
    return combine(context, "eep_combine_send", layer, stream, args, false);
}

eep_status eep_combine_receive(eep_context *context, int32_t layer, int32_t chain,
                               eep_stream *stream)
{
    eepi_sequence_part part = {EEPI_NODE_HALF, layer, chain, EEPK_NODE_COMBINE_RECEIVE,
                               false,          0,     0};
    eep_status status = check_receive(context, "eep_combine_receive", &part, stream);

    if (status != EEP_OK) {
        return status;
    }
    status = put_combine_receive(context, stream, &context->capture->combine[chain]);
    return eepi_capture_note_order(context, &part, stream, status);
}
