/* SPDX-License-Identifier: Apache-2.0 */
/* A step's stream, and the nodes around it. Every argument is an address that stays valid, or a
 * constant. Rank thread, at capture time. */
#include "membership/step/capture.h"

#include "eep/words.h"
#include "graphs/base/public_call.h"
#include "graphs/device/device_ops.h"
#include "graphs/device/device_share.h"
#include "membership/context/context.h"
#include "membership/step/capture_state.h"

#include <stdlib.h>

static eep_status open_sequence(eep_context *context)
{
    eepi_sequence *sequence = &context->capture->sequence;
    eep_status status =
        eepi_sequence_open(sequence, context->config.num_layers, context->config.num_chains);

    for (uint32_t i = 1; i < context->shape.num_shapes && status == EEP_OK; i++) {
        status = eepi_sequence_add_shape(sequence, (int32_t)context->shape.shapes[i].num_chunks);
    }
    return status;
}

eep_status eepi_capture_open(eep_context *context)
{
    struct eepi_capture *capture = calloc(1, sizeof *capture);

    context->capture = capture;
    if (!capture) {
        return EEP_ERR_NO_MEMORY;
    }
    capture->owner = eepi_owner_open();
    return capture->owner ? open_sequence(context) : EEP_ERR_NO_MEMORY;
}

void eepi_capture_close(eep_context *context)
{
    if (!context->capture) {
        return;
    }
    (void)!eepi_set_stream(context, "eep_close", NULL);
    eepi_owner_drop(context->capture->owner);
    eepi_sequence_close(&context->capture->sequence);
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
uint32_t eepi_capture_blocks(const eep_context *context)
{
    if (context->config.num_blocks > 0) {
        return (uint32_t)context->config.num_blocks;
    }
    return eepi_device_is_discrete(context->config.device) ? EEPI_COPY_BLOCKS
                                                           : EEPI_COPY_BLOCKS_HOST;
}

eep_status eepi_capture_put(eep_context *context, eep_stream *stream, eepi_kernel_id id,
                            uint32_t blocks, uint32_t threads, const void *args, size_t bytes)
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

eep_status eepi_capture_check_order(eep_context *context, const eepi_sequence_part *part,
                                    eep_stream *stream)
{
    const eepi_sequence_place place = place_of(context, stream);
    char why[EEPI_ERROR_BYTES - 64];

    if (eepi_sequence_may(&context->capture->sequence, part, &place, why, sizeof why)) {
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

eep_status eepi_capture_note_order(eep_context *context, const eepi_sequence_part *part,
                                   eep_stream *stream, eep_status status)
{
    const eepi_sequence_place place = place_of(context, stream);

    if (status == EEP_OK) {
        eepi_sequence_put(&context->capture->sequence, part, &place);
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

uint64_t eepi_capture_order(const eep_context *context, int32_t shape)
{
    return eepi_sequence_digest(&context->capture->sequence, shape);
}

const eepk_world *eepi_capture_world(const eep_context *context)
{
    return eepi_tables_world(context->tables);
}

eep_status eepi_capture_check_stream(eep_context *context, const char *call,
                                     const eep_stream *stream)
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

eep_status eepi_capture_latch(eep_context *context, const char *call, int32_t shape,
                              eep_stream *stream)
{
    const eepi_sequence_part part = {.node = EEPI_NODE_LATCH, .shape = shape};
    const eepk_latch_args args = {.world = eepi_tables_world(context->tables),
                                  .shape = (uint32_t)shape};
    const bool is_first = !context->capture->stream;
    eep_status status;

    if (context->stepper.in_step && stream != context->capture->stream) {
        return eepi_fail(context, EEP_ERR_STATE,
                         "%s: step %llu runs in another stream: end it with "
                         "eep_step_end before another graph is captured",
                         call, (unsigned long long)context->stepper.step);
    }
    status = eepi_capture_check_order(context, &part, stream);
    if (status == EEP_OK) {
        status = eepi_set_stream(context, call, stream);
    }
    if (status == EEP_OK && is_first && !context->has_joined && !eep_stream_is_capturing(stream)) {
        (void)!eepi_set_stream(context, call, NULL);
        status = eepi_fail(context, EEP_ERR_STATE,
                           "%s before eep_join, and the stream is not captured, so no "
                           "graph follows: call eep_capture_begin first; to run steps without a "
                           "graph, name the stream with eep_step_stream",
                           call);
    }
    if (status != EEP_OK) {
        return status;
    }
    status = eepi_capture_put(context, stream, EEPI_KERNEL_latch, 1, EEPI_EXCHANGE_THREADS, &args,
                              sizeof args);
    status = eepi_capture_note_order(context, &part, stream, status);
    if (status != EEP_OK) {
        return status;
    }
    eepi_stream_note_step(stream, context->capture->owner);
    eepi_device_note_capture(context->config.device, stream);
    return EEP_OK;
}

eep_status eep_step_latch(eep_context *context, eep_stream *stream)
{
    eep_status status = eepi_capture_check_stream(context, "eep_step_latch", stream);

    return status == EEP_OK ? eepi_capture_latch(context, "eep_step_latch", 0, stream) : status;
}

eep_status eep_step_stream(eep_context *context, eep_stream *stream)
{
    eep_status status = eepi_capture_check_stream(context, "eep_step_stream", stream);

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

bool eepi_capture_is_by_this_thread(const eep_context *context)
{
    /* another thread may be about to change the stream */
    const bool is_rank_thread =
        pthread_equal(__atomic_load_n(&context->calls.caller, __ATOMIC_RELAXED), pthread_self());

    return eepi_thread_is_capturing() || (is_rank_thread && context->capture->stream &&
                                          eep_stream_is_capturing(context->capture->stream));
}

eep_status eep_step_finish(eep_context *context, eep_stream *stream)
{
    const eepi_sequence_part part = {.node = EEPI_NODE_FINISH};
    eepk_world_args args;
    eep_status status = eepi_capture_check_stream(context, "eep_step_finish", stream);

    if (status == EEP_OK) {
        status = eepi_capture_check_order(context, &part, stream);
    }
    if (status != EEP_OK) {
        return status;
    }
    args = (eepk_world_args){eepi_tables_world(context->tables)};
    status = eepi_capture_put(context, stream, EEPI_KERNEL_finish, 1, EEPI_EXCHANGE_THREADS, &args,
                              sizeof args);
    return eepi_capture_note_order(context, &part, stream, status);
}

/* The engine's kernels look at what libeep's own go by: a word that one of them has seen raised is
 * raised for every node behind it in the stream, so the next exchange publishes no tag. */
eep_status eep_step_words_get(eep_context *context, eep_step_words *words_out)
{
    eep_status status = eepi_check_own("eep_step_words_get", context);
    const eepk_latch *latch;

    if (status == EEP_OK && EEPI_STRUCT_CHECK(eep_step_words, words_out) != EEP_OK) {
        status = eepi_fail(context, EEP_ERR_INVALID, "%s", eep_error_text());
    }
    if (status != EEP_OK) {
        return status;
    }
    latch = eepi_tables_latch(context->tables);
    EEPI_STRUCT_GIVE(eep_step_words, words_out,
                     (&(eep_step_words){.running = &latch->step,
                                        .given_up = eepi_tables_abort_step(context->tables),
                                        .aborted = &latch->aborted}));
    return EEP_OK;
}
