/* SPDX-License-Identifier: Apache-2.0 */
/* What is put into streams, and graphs of it: the public functions. */
#include "graphs/device/device_internal.h"
#include "graphs/base/public_call.h"

#include <stdio.h>
#include <stdlib.h>

/* While a stream is captured only the capturer may put something into it. */
static eep_status check_put(const char *call, const eep_stream *stream)
{
    const void *capturer;
    eep_status status = eepi_check_stream(call, stream);

    if (status == EEP_OK) {
        status = eepi_check_may_put(call);
    }
    if (status != EEP_OK) {
        return status;
    }
    capturer = eepi_capturer_of(stream);
    if (capturer && capturer != eepi_own_captures()) {
        return eepi_refuse(EEP_ERR_STATE,
                           "%s: another thread captures the stream: only that thread may put work "
                           "into it until it ends the capture",
                           call);
    }
    return EEP_OK;
}

/* Note why a node may not be in a graph, for the end of the capture and for the caller. */
static eep_status note_refusal(eep_stream *stream, eep_status status, const char *why)
{
    if (status != EEP_OK && why[0]) {
        (void)!eepi_refuse(status, "%s", why);
    }
    if (eepi_capturer_of(stream) && stream->refused == EEP_OK) {
        stream->refused = status;
    }
    return status;
}

/* Into a capture of the caller's own the arguments are checked as well; what its graph holds later
 * is its business. */
static eep_status record_launch(eep_stream *stream, const eep_kernel *kernel, uint32_t num_blocks,
                                const void *args, size_t args_bytes)
{
    eepi_captured passing = {0};
    eepi_captured *captured = eepi_capturer_of(stream) ? &stream->captured : &passing;
    char why[EEPI_ERROR_TEXT_BYTES] = "";
    eep_status status;

    if (!eep_stream_is_capturing(stream)) {
        return EEP_OK;
    }
    status = eepi_captured_add_launch(captured, stream->device->registered, kernel, num_blocks,
                                      args, args_bytes, why, sizeof why);
    eepi_captured_free(&passing);
    return note_refusal(stream, status, why);
}

eep_status eepi_capture_show(eep_stream *stream, const eep_kernel *kernel, uint32_t num_blocks,
                             const void *args, size_t args_bytes)
{
    return record_launch(stream, kernel, num_blocks, args, args_bytes);
}

static eep_status record_copy(eep_stream *stream, void *to, const void *from, size_t bytes)
{
    eepi_captured passing = {0};
    eepi_captured *captured = eepi_capturer_of(stream) ? &stream->captured : &passing;
    char why[EEPI_ERROR_TEXT_BYTES] = "";
    eep_status status;

    if (!eep_stream_is_capturing(stream)) {
        return EEP_OK;
    }
    status = eepi_captured_add_copy(captured, stream->device->registered, to, from, bytes, why,
                                    sizeof why);
    eepi_captured_free(&passing);
    return note_refusal(stream, status, why);
}

eep_status eep_copy_async(eep_stream *stream, void *to, const void *from, size_t bytes)
{
    eep_status status = check_put("eep_copy_async", stream);

    if (status != EEP_OK || bytes == 0) {
        return status;
    }
    status = eepi_check_given("eep_copy_async", "to", to);
    if (status == EEP_OK) {
        status = eepi_check_given("eep_copy_async", "from", from);
    }
    if (status == EEP_OK) {
        status = record_copy(stream, to, from, bytes);
    }
    if (status != EEP_OK) {
        return status;
    }
    return eepi_device_say("eep_copy_async", stream->device,
                           stream->device->ops->copy(stream->impl, to, from, bytes));
}

static eep_status check_launch(const eep_kernel *kernel, uint32_t num_blocks, uint32_t num_threads,
                               const void *args, size_t args_bytes)
{
    eep_status status = eepi_check_given("eep_launch", "the kernel's name", kernel->name);

    if (status != EEP_OK) {
        return status;
    }
    if (num_blocks == 0 || num_threads == 0) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "eep_launch: kernel %s in %u blocks of %u threads: at least one each",
                           kernel->name, num_blocks, num_threads);
    }
    if (args_bytes > EEP_KERNEL_ARGS_MAX_BYTES) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "eep_launch: kernel %s has %zu bytes of arguments: at most %d are "
                           "possible; put the rest into memory",
                           kernel->name, args_bytes, EEP_KERNEL_ARGS_MAX_BYTES);
    }
    return args_bytes > 0 ? eepi_check_given("eep_launch", "args", args) : EEP_OK;
}

eep_status eep_launch(eep_stream *stream, const eep_kernel *kernel, uint32_t num_blocks,
                      uint32_t num_threads, const void *args, size_t args_bytes)
{
    eep_kernel full = {0};
    eep_status status = check_put("eep_launch", stream);

    if (status == EEP_OK) {
        status = EEPI_STRUCT_TAKE(eep_kernel, &full, kernel);
    }
    if (status == EEP_OK) {
        status = check_launch(&full, num_blocks, num_threads, args, args_bytes);
    }
    if (status != EEP_OK) {
        return status;
    }
    status = record_launch(stream, &full, num_blocks, args, args_bytes);
    if (status != EEP_OK) {
        return status;
    }
    status =
        stream->device->ops->launch(stream->impl, &full, num_blocks, num_threads, args, args_bytes);
    if (status == EEP_ERR_UNSUPPORTED) {
        return eepi_refuse(status, "eep_launch: kernel %s has no body for the backend %s",
                           full.name, stream->device->backend->name);
    }
    return eepi_device_say("eep_launch", stream->device, status);
}

eep_status eepi_stream_run_on_worker(eep_stream *stream, void (*fn)(void *user), void *user)
{
    if (!stream->device->ops->stream_run_on_worker) {
        return EEP_ERR_UNSUPPORTED;
    }
    if (eep_stream_is_capturing(stream)) {
        return EEP_ERR_STATE;
    }
    return stream->device->ops->stream_run_on_worker(stream->impl, fn, user);
}

eep_status eepi_stream_set_limit(eep_stream *stream, uint64_t limit_us)
{
    if (!stream->device->ops->stream_set_limit) {
        return EEP_ERR_UNSUPPORTED;
    }
    stream->device->ops->stream_set_limit(stream->impl, limit_us);
    return EEP_OK;
}

/* ------------------------------------------------------------------ graphs */

eep_status eep_capture_begin(eep_stream *stream)
{
    const void *nobody = NULL;
    eep_status status;

    status = eepi_check_stream("eep_capture_begin", stream);
    if (status == EEP_OK) { /* the end of a capture allocates */
        status = eepi_may_wait_for_device("eep_capture_begin", stream->device);
    }
    if (status != EEP_OK) {
        return status;
    }
    if ((stream->is_adopted && stream->device->ops->stream_is_captured(stream->impl)) ||
        !__atomic_compare_exchange_n(&stream->capturer, &nobody, eepi_own_captures(), 0,
                                     __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        return eepi_refuse(EEP_ERR_STATE, "eep_capture_begin: the stream is captured already: end "
                                          "that capture first");
    }
    stream->refused = EEP_OK;
    stream->captured.num = 0;
    stream->captured.fingerprint = 0;
    status = stream->device->ops->capture_begin(stream->impl);
    stream->lacks[0] = '\0';
    eepi_owner_drop(stream->step_owner);
    stream->step_owner = NULL;
    stream->captures++;
    if (status == EEP_OK) {
        ++*eepi_own_captures();
    } else {
        __atomic_store_n(&stream->capturer, NULL, __ATOMIC_RELEASE);
    }
    return eepi_device_say("eep_capture_begin", stream->device, status);
}

eep_status eep_capture_end(eep_stream *stream, eep_graph **graph_out)
{
    const eepi_device_ops *ops;
    uint32_t num_nodes;
    eep_graph *graph;
    eep_status status = eepi_check_stream("eep_capture_end", stream);
    void *impl;

    if (status == EEP_OK) {
        status = eepi_check_given("eep_capture_end", "graph_out", graph_out);
    }
    if (status != EEP_OK) {
        return status;
    }
    if (eepi_capturer_of(stream) != eepi_own_captures()) {
        return eepi_refuse(EEP_ERR_STATE, "eep_capture_end: this thread does not capture the "
                                          "stream: see eep_capture_begin");
    }
    ops = stream->device->ops;
    status = ops->capture_end(stream->impl, &impl, &num_nodes);
    --*eepi_own_captures();
    __atomic_store_n(&stream->capturer, NULL, __ATOMIC_RELEASE);
    if (status != EEP_OK) {
        return eepi_device_say("eep_capture_end", stream->device, status);
    }
    graph = malloc(sizeof *graph);
    status = !graph ? EEP_ERR_NO_MEMORY : stream->refused;
    if (status == EEP_OK && stream->lacks[0]) {
        status = eepi_refuse(EEP_ERR_INVALID, "eep_capture_end: %s", stream->lacks);
    }
    if (status != EEP_OK) {
        ops->graph_close(impl);
        free(graph);
        return status;
    }
    *graph = (eep_graph){stream->device, impl, num_nodes, stream->captured, stream->step_owner};
    stream->captured = (eepi_captured){0};
    stream->step_owner = NULL;
    eepi_device_hold(stream->device);
    __atomic_fetch_add(&stream->device->captures, 1, __ATOMIC_RELAXED);
    *graph_out = graph;
    return EEP_OK;
}

eep_status eep_graph_replay(eep_graph *graph, eep_stream *stream)
{
    eep_status status = eepi_check_given("eep_graph_replay", "graph", graph);

    if (status == EEP_OK) {
        status = eepi_check_stream("eep_graph_replay", stream);
    }
    if (status == EEP_OK) {
        status = eepi_check_may_put("eep_graph_replay");
    }
    if (status != EEP_OK) {
        return status;
    }
    if (graph->device != stream->device) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "eep_graph_replay: graph and stream are of two devices");
    }
    if (eep_stream_is_capturing(stream)) {
        return eepi_refuse(EEP_ERR_STATE,
                           "eep_graph_replay: the stream is captured: end the capture first");
    }
    if (graph->step_owner && !eepi_stream_is_owned_by(stream, graph->step_owner)) {
        return eepi_refuse(EEP_ERR_STATE,
                           "eep_graph_replay: the graph holds a step of a context whose steps do "
                           "not run in this stream: name it with eep_step_stream before "
                           "eep_step_begin (a closed context has no stream)");
    }
    status = eepi_captured_check(&graph->captured, graph->device->registered, eepi_error_buffer(),
                                 EEPI_ERROR_TEXT_BYTES);
    if (status != EEP_OK) {
        return status;
    }
    return eepi_device_say("eep_graph_replay", graph->device,
                           graph->device->ops->graph_replay(graph->impl, stream->impl));
}

uint32_t eep_graph_num_nodes(const eep_graph *graph)
{
    return graph ? graph->num_nodes : 0;
}

uint64_t eepi_graph_fingerprint(const eep_graph *graph)
{
    return graph->captured.fingerprint;
}

void eep_graph_close(eep_graph *graph)
{
    eep_device *device;

    if (!graph ||
        eepi_check_process("eep_graph_close", "graph", graph->device->opened_by) != EEP_OK) {
        return;
    }
    device = graph->device;
    device->ops->graph_close(graph->impl);
    eepi_captured_free(&graph->captured);
    eepi_owner_drop(graph->step_owner);
    free(graph);
    eepi_device_drop(device);
}
