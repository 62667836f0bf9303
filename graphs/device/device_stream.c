/* SPDX-License-Identifier: Apache-2.0 */
/* Streams and events: the public functions. Handles stay valid for those who hold them: a closed
 * stream, for a context that replays in it. */
#include "graphs/device/device_internal.h"
#include "graphs/base/public_call.h"
#include "graphs/base/thread.h"

#include <stdbool.h>
#include <stdlib.h>

eep_status eepi_check_stream(const char *call, const eep_stream *stream)
{
    eep_status status = eepi_check_given(call, "stream", stream);

    if (status == EEP_OK && stream->is_closed) {
        return eepi_refuse(EEP_ERR_STATE, "%s: the stream was closed: see eep_step_stream", call);
    }
    return status == EEP_OK ? eepi_check_process(call, "stream", stream->device->opened_by)
                            : status;
}

static eep_status check_event(const char *call, const eep_event *event)
{
    eep_status status = eepi_check_given(call, "event", event);

    return status == EEP_OK ? eepi_check_process(call, "event", event->device->opened_by) : status;
}

static eep_status refuse_captured(const char *call)
{
    return eepi_refuse(EEP_ERR_STATE, "%s: the stream is captured: end the capture first", call);
}

void eepi_stream_hold(eep_stream *stream)
{
    __atomic_fetch_add(&stream->holders, 1, __ATOMIC_RELAXED);
}

void eepi_stream_drop(eep_stream *stream)
{
    eep_device *device;

    if (!stream || __atomic_sub_fetch(&stream->holders, 1, __ATOMIC_ACQ_REL) != 0) {
        return;
    }
    device = stream->device;
    eepi_captured_free(&stream->captured);
    eepi_owner_drop(stream->owner);
    eepi_owner_drop(stream->step_owner);
    free(stream);
    eepi_device_drop(device);
}

bool eepi_stream_is_closed(const eep_stream *stream)
{
    return stream->is_closed;
}

static eep_status make(const char *call, eep_device *device, eep_stream **stream_out)
{
    *stream_out = calloc(1, sizeof **stream_out);
    if (!*stream_out) {
        return eepi_refuse(EEP_ERR_NO_MEMORY, "%s: out of memory", call);
    }
    (*stream_out)->device = device;
    (*stream_out)->holders = 1;
    return EEP_OK;
}

eep_status eep_stream_open(eep_device *device, eep_stream **stream_out)
{
    eep_stream *stream;
    sigset_t signals;
    eep_status status = eepi_check_device("eep_stream_open", device);

    if (status == EEP_OK) {
        status = eepi_check_given("eep_stream_open", "stream_out", stream_out);
    }
    if (status == EEP_OK) {
        status = eepi_may_wait_for_device("eep_stream_open", device);
    }
    if (status == EEP_OK) {
        status = make("eep_stream_open", device, &stream);
    }
    if (status != EEP_OK) {
        return status;
    }
    eepi_signals_block(&signals);
    status = device->ops->stream_open(device->impl, &stream->impl);
    eepi_signals_restore(&signals);
    if (status != EEP_OK) {
        free(stream);
        return eepi_device_say("eep_stream_open", device, status);
    }
    eepi_stream_list(stream);
    eepi_device_hold(device);
    *stream_out = stream;
    return EEP_OK;
}

/* The backend has it ready (cuda), or it is the host's and waits for nobody: no call of a rank's
 * thread is refused here. */
static eep_status open_auxiliary(eep_device *device)
{
    eep_stream *stream = calloc(1, sizeof *stream);
    eep_status status = EEP_OK;

    if (!stream) {
        return EEP_ERR_NO_MEMORY;
    }
    stream->device = device;
    stream->holders = 1;
    if (device->ops->auxiliary) {
        stream->impl = device->ops->auxiliary(device->impl);
    } else {
        status = device->ops->stream_open(device->impl, &stream->impl);
    }
    if (status != EEP_OK) {
        free(stream);
        return status;
    }
    device->auxiliary = stream;
    return EEP_OK;
}

eep_status eepi_device_auxiliary(eep_device *device, eep_stream **stream_out)
{
    eep_status status;

    pthread_mutex_lock(&device->lock);
    status = device->auxiliary ? EEP_OK : open_auxiliary(device);
    if (status == EEP_OK) {
        *stream_out = device->auxiliary;
    }
    pthread_mutex_unlock(&device->lock);
    return status;
}

eep_status eep_stream_adopt(eep_device *device, void *native, eep_stream **stream_out)
{
    eep_stream *stream;
    eep_status status = eepi_check_device("eep_stream_adopt", device);

    if (status == EEP_OK) {
        status = eepi_check_given("eep_stream_adopt", "native", native);
    }
    if (status == EEP_OK) {
        status = eepi_check_given("eep_stream_adopt", "stream_out", stream_out);
    }
    if (status == EEP_OK) {
        status = make("eep_stream_adopt", device, &stream);
    }
    if (status != EEP_OK) {
        return status;
    }
    stream->is_adopted = true;
    status = device->ops->stream_adopt(device->impl, native, &stream->impl);
    if (status != EEP_OK) {
        free(stream);
        return eepi_device_say("eep_stream_adopt", device, status);
    }
    eepi_stream_list(stream);
    eepi_device_hold(device);
    *stream_out = stream;
    return EEP_OK;
}

/* The caller's stream goes on; what this handle began to capture in it ends. */
static void leave_alone(eep_stream *stream)
{
    const eepi_device_ops *ops = stream->device->ops;
    uint32_t num_nodes;
    void *graph;

    if (eepi_capturer_of(stream) && ops->capture_end(stream->impl, &graph, &num_nodes) == EEP_OK) {
        ops->graph_close(graph);
    }
    ops->stream_disown(stream->impl);
}

void eep_stream_close(eep_stream *stream)
{
    if (!stream || eepi_check_stream("eep_stream_close", stream) != EEP_OK ||
        eepi_check_may_wait("eep_stream_close") != EEP_OK) {
        return;
    }
    eepi_stream_unlist(stream);
    if (stream->is_adopted) {
        leave_alone(stream);
    } else {
        stream->device->ops->stream_close(stream->impl);
    }
    if (eepi_capturer_of(stream) == eepi_own_captures()) {
        --*eepi_own_captures();
    }
    stream->is_closed = true;
    stream->capturer = NULL;
    eepi_stream_drop(stream);
}

eep_status eep_stream_synchronize(eep_stream *stream, uint64_t timeout_us)
{
    eep_status status = eepi_check_stream("eep_stream_synchronize", stream);

    if (status == EEP_OK) {
        status = eepi_check_may_wait("eep_stream_synchronize");
    }
    if (status != EEP_OK) {
        return status;
    }
    if (eep_stream_is_capturing(stream)) {
        return refuse_captured("eep_stream_synchronize");
    }
    return eepi_device_say("eep_stream_synchronize", stream->device,
                           stream->device->ops->stream_synchronize(stream->impl, timeout_us));
}

eep_status eepi_stream_await_word(eep_stream *stream, const uint64_t *word, uint64_t value,
                                  uint64_t timeout_us)
{
    eep_status status = eepi_check_stream("eep_step_end", stream);

    if (status != EEP_OK) {
        return status;
    }
    if (!stream->device->ops->stream_await_word) {
        return eep_stream_synchronize(stream, timeout_us);
    }
    if (eep_stream_is_capturing(stream)) {
        return refuse_captured("eep_step_end");
    }
    return stream->device->ops->stream_await_word(stream->impl, word, value, timeout_us);
}

void *eep_stream_native(eep_stream *stream)
{
    if (eepi_check_stream("eep_stream_native", stream) != EEP_OK) {
        return NULL;
    }
    return stream->device->ops->stream_native(stream->impl);
}

/* Both, of one device, and the stream not captured. */
static eep_status check_pair(const char *call, const eep_event *event, const eep_stream *stream)
{
    eep_status status = check_event(call, event);

    if (status == EEP_OK) {
        status = eepi_check_stream(call, stream);
    }
    if (status == EEP_OK) {
        status = eepi_check_may_put(call);
    }
    if (status != EEP_OK) {
        return status;
    }
    if (event->device != stream->device) {
        return eepi_refuse(EEP_ERR_INVALID, "%s: event and stream are of two devices", call);
    }
    if (eep_stream_is_capturing(stream)) {
        return eepi_refuse(EEP_ERR_UNSUPPORTED,
                           "%s: the stream is captured, and an event is no node of a graph: end "
                           "the capture first",
                           call);
    }
    return EEP_OK;
}

eep_status eep_stream_wait_event(eep_stream *stream, eep_event *event)
{
    eep_status status = check_pair("eep_stream_wait_event", event, stream);

    if (status != EEP_OK) {
        return status;
    }
    return eepi_device_say("eep_stream_wait_event", stream->device,
                           stream->device->ops->stream_wait_event(stream->impl, event->impl));
}

eep_status eep_event_open(eep_device *device, eep_event **event_out)
{
    eep_event *event;
    eep_status status = eepi_check_device("eep_event_open", device);

    if (status == EEP_OK) {
        status = eepi_check_given("eep_event_open", "event_out", event_out);
    }
    if (status != EEP_OK) {
        return status;
    }
    event = calloc(1, sizeof *event);
    if (!event) {
        return eepi_refuse(EEP_ERR_NO_MEMORY, "eep_event_open: out of memory");
    }
    event->device = device;
    status = device->ops->event_open(device->impl, &event->impl);
    if (status != EEP_OK) {
        free(event);
        return eepi_device_say("eep_event_open", device, status);
    }
    eepi_device_hold(device);
    *event_out = event;
    return EEP_OK;
}

void eep_event_close(eep_event *event)
{
    eep_device *device;

    if (!event || check_event("eep_event_close", event) != EEP_OK) {
        return;
    }
    device = event->device;
    device->ops->event_close(event->impl);
    free(event);
    eepi_device_drop(device);
}

eep_status eep_event_record(eep_event *event, eep_stream *stream)
{
    eep_status status = check_pair("eep_event_record", event, stream);

    if (status != EEP_OK) {
        return status;
    }
    return eepi_device_say("eep_event_record", event->device,
                           event->device->ops->event_record(event->impl, stream->impl));
}

eep_status eep_event_synchronize(eep_event *event, uint64_t timeout_us)
{
    eep_status status = check_event("eep_event_synchronize", event);

    if (status == EEP_OK) {
        status = eepi_check_may_wait("eep_event_synchronize");
    }
    if (status != EEP_OK) {
        return status;
    }
    return eepi_device_say("eep_event_synchronize", event->device,
                           event->device->ops->event_synchronize(event->impl, timeout_us));
}
