/* Devices: the public functions. Arguments and states are checked here, once for all backends; the
 * rest is handed on to the backend's table. */
#include "graphs/device_internal.h"
#include "graphs/public_call.h"
#include "graphs/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct eep_event {
    eep_device *device;
    void *impl;
};
struct eep_graph {
    eep_device *device;
    void *impl;
    uint32_t num_nodes;
    eepi_held held;
};

/* Streams that this thread captures; its address stands for the thread. */
static _Thread_local uint32_t own_captures;

/* Is this a rank's thread, between its first step and the end of its context? */
static _Thread_local int serves;

static const void *capturer_of(const eep_stream *stream)
{
    return __atomic_load_n(&stream->capturer, __ATOMIC_ACQUIRE);
}

/* May this thread put something into the stream? While it is captured only the capturer may. */
static int may_put(const eep_stream *stream)
{
    const void *capturer = capturer_of(stream);

    return !capturer || capturer == &own_captures;
}

/* ------------------------------------------------------------------ devices */

const char *eep_device_error_text(void)
{
    return eepi_error_buffer();
}

int eep_device_count(const char *name)
{
    const eepi_device_backend *backend = NULL;
    int count;

    eepi_error_buffer()[0] = '\0';
    if (eepi_device_find_backend(name, &backend, eepi_error_buffer(), EEPI_ERROR_TEXT_BYTES) !=
        EEP_OK)
        return 0;
    count = backend->count ? backend->count() : 1;
    if (count == 0 && backend->error_text)
        snprintf(eepi_error_buffer(), EEPI_ERROR_TEXT_BYTES, "%s", backend->error_text());
    return count;
}

int eep_device_ordinal(const eep_device *device)
{
    return device->ordinal;
}

static eep_status open_backend(eep_device *device, int ordinal)
{
    device->ops = device->backend->ops;
    device->ordinal = ordinal;
    device->is_apart = device->backend->is_apart;
    device->fixed = eepi_fixed_open();
    if (!device->fixed) {
        snprintf(eepi_error_buffer(), EEPI_ERROR_TEXT_BYTES, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    for (uint32_t id = 0; id < EEPI_NUM_KERNELS; id++) {
        device->kernels[id] = device->backend->kernels[id];
        device->kernels[id].struct_bytes = sizeof(eep_kernel);
        device->kernels[id].args = eepi_kernel_fields_of[id].args;
        device->kernels[id].num_args = eepi_kernel_fields_of[id].num_args;
    }
    return device->ops->open(ordinal, &device->impl, eepi_error_buffer(), EEPI_ERROR_TEXT_BYTES);
}

eep_status eep_device_open(const char *backend, int ordinal, eep_device **device_out)
{
    eep_device *device;
    eep_status status;
    sigset_t signals;

    eepi_error_buffer()[0] = '\0';
    if (own_captures) {
        snprintf(eepi_error_buffer(), EEPI_ERROR_TEXT_BYTES, "this thread is capturing a stream");
        return EEP_ERR_STATE;
    }
    device = calloc(1, sizeof(*device));
    if (!device) {
        snprintf(eepi_error_buffer(), EEPI_ERROR_TEXT_BYTES, "out of memory");
        return EEP_ERR_NO_MEMORY;
    }
    pthread_mutex_init(&device->lock, NULL);
    eepi_signals_block(&signals); /* threads that a plugin or its libraries start take none */
    status = eepi_device_find_backend(backend, &device->backend, eepi_error_buffer(),
                                      EEPI_ERROR_TEXT_BYTES);
    if (status == EEP_OK)
        status = open_backend(device, ordinal);
    eepi_signals_restore(&signals);
    if (status != EEP_OK) {
        eepi_fixed_close(device->fixed);
        pthread_mutex_destroy(&device->lock);
        free(device);
        return status;
    }
    eepi_error_buffer()[0] = '\0';
    *device_out = device;
    return EEP_OK;
}

void eep_device_close(eep_device *device)
{
    if (!device)
        return;
    if (device->auxiliary && !device->ops->auxiliary) /* else it goes with the device */
        device->ops->stream_close(device->auxiliary->impl);
    free(device->auxiliary);
    device->ops->close(device->impl);
    eepi_fixed_close(device->fixed);
    pthread_mutex_destroy(&device->lock);
    free(device);
}

const char *eep_device_backend(const eep_device *device)
{
    return device->backend->name;
}

uint64_t eep_device_captures(const eep_device *device)
{
    return __atomic_load_n(&device->captures, __ATOMIC_RELAXED);
}

const char *eepi_device_failure(const eep_device *device)
{
    return device->backend->error_text ? device->backend->error_text() : "";
}

eepi_device_facts eepi_device_facts_of(const eep_device *device)
{
    return device->ops->facts ? device->ops->facts(device->impl) : (eepi_device_facts){0};
}

eep_status eepi_device_thread_begin(eep_device *device)
{
    return device->ops->thread_begin ? device->ops->thread_begin(device->impl) : EEP_OK;
}

void eepi_thread_serves(int is_serving)
{
    serves = is_serving;
}

/* What may wait for the whole device waits for ranks that wait for this one. A backend puts off
 * what it can (set_waiters); memory, streams and graphs that it has to make anew it cannot. */
static int may_wait_for_device(const eep_device *device)
{
    if (!serves || !device->is_apart)
        return 1;
    snprintf(eepi_error_buffer(), EEPI_ERROR_TEXT_BYTES,
             "this call may wait for the whole device, where other ranks wait for this one: not in "
             "a rank's thread between its first step and eep_close");
    return 0;
}

int eepi_thread_is_capturing(void)
{
    return own_captures != 0;
}

void eepi_device_note_capture(eep_device *device, const eep_stream *stream)
{
    if (!capturer_of(stream) && eep_stream_is_capturing(stream))
        __atomic_fetch_add(&device->captures, 1, __ATOMIC_RELAXED);
}

const eep_kernel *eepi_device_kernel(const eep_device *device, uint32_t id)
{
    return id < EEPI_NUM_KERNELS ? &device->kernels[id] : NULL;
}

eep_status eep_device_alloc(eep_device *device, eep_memory kind, size_t bytes, void **memory_out)
{
    void *memory = NULL;
    eep_status status;

    if (own_captures || !may_wait_for_device(device))
        return EEP_ERR_STATE;
    if (bytes == 0 || (kind != EEP_MEMORY_DEVICE && kind != EEP_MEMORY_PINNED))
        return EEP_ERR_INVALID;
    status = device->ops->alloc(device->impl, kind, bytes, &memory);
    if (status == EEP_OK)
        status = eepi_fixed_add(device->fixed, memory, bytes);
    if (status != EEP_OK) {
        if (memory)
            device->ops->free(device->impl, kind, memory);
        return status;
    }
    *memory_out = memory;
    return EEP_OK;
}

void eep_device_free(eep_device *device, eep_memory kind, void *memory)
{
    if (!memory)
        return;
    (void)eepi_fixed_remove(device->fixed, memory);
    device->ops->free(device->impl, kind, memory);
}

eep_status eep_memory_register(eep_device *device, const void *memory, size_t bytes)
{
    return eepi_fixed_add(device->fixed, memory, bytes);
}

eep_status eep_memory_unregister(eep_device *device, const void *memory)
{
    return eepi_fixed_remove(device->fixed, memory);
}

/* ------------------------------------------------------------------ streams and events */

eep_status eep_stream_open(eep_device *device, eep_stream **stream_out)
{
    eep_stream *stream;
    eep_status status;

    if (!may_wait_for_device(device))
        return EEP_ERR_STATE;
    stream = calloc(1, sizeof(*stream));
    if (!stream)
        return EEP_ERR_NO_MEMORY;
    stream->device = device;
    status = device->ops->stream_open(device->impl, &stream->impl);
    if (status != EEP_OK) {
        free(stream);
        return status;
    }
    *stream_out = stream;
    return EEP_OK;
}

/* The backend has it ready (cuda), or it is the host's and waits for nobody: no call of a rank's
 * thread is refused here. */
static eep_status open_auxiliary(eep_device *device)
{
    eep_stream *stream = calloc(1, sizeof(*stream));
    eep_status status = EEP_OK;

    if (!stream)
        return EEP_ERR_NO_MEMORY;
    stream->device = device;
    if (device->ops->auxiliary)
        stream->impl = device->ops->auxiliary(device->impl);
    else
        status = device->ops->stream_open(device->impl, &stream->impl);
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
    if (status == EEP_OK)
        *stream_out = device->auxiliary;
    pthread_mutex_unlock(&device->lock);
    return status;
}

eep_status eep_stream_adopt(eep_device *device, void *native, eep_stream **stream_out)
{
    eep_stream *stream;
    eep_status status;

    if (!native)
        return EEP_ERR_INVALID;
    stream = calloc(1, sizeof(*stream));
    if (!stream)
        return EEP_ERR_NO_MEMORY;
    stream->device = device;
    stream->is_adopted = 1;
    status = device->ops->stream_adopt(device->impl, native, &stream->impl);
    if (status != EEP_OK) {
        free(stream);
        return status;
    }
    *stream_out = stream;
    return EEP_OK;
}

/* The caller's stream goes on; what this handle began to capture in it ends. */
static void leave_alone(eep_stream *stream)
{
    const eepi_device_ops *ops = stream->device->ops;
    uint32_t num_nodes;
    void *graph;

    if (capturer_of(stream) && ops->capture_end(stream->impl, &graph, &num_nodes) == EEP_OK)
        ops->graph_close(graph);
    ops->stream_disown(stream->impl);
}

void eep_stream_close(eep_stream *stream)
{
    if (!stream)
        return;
    if (stream->is_adopted)
        leave_alone(stream);
    else
        stream->device->ops->stream_close(stream->impl);
    if (capturer_of(stream) == &own_captures)
        own_captures--;
    eepi_held_free(&stream->held);
    free(stream);
}

eep_status eep_stream_synchronize(eep_stream *stream, uint64_t timeout_us)
{
    if (eep_stream_is_capturing(stream))
        return EEP_ERR_STATE;
    return stream->device->ops->stream_synchronize(stream->impl, timeout_us);
}

eep_status eepi_stream_await_word(eep_stream *stream, const uint64_t *word, uint64_t value,
                                  uint64_t timeout_us)
{
    if (!stream->device->ops->stream_await_word)
        return eep_stream_synchronize(stream, timeout_us);
    if (eep_stream_is_capturing(stream))
        return EEP_ERR_STATE;
    return stream->device->ops->stream_await_word(stream->impl, word, value, timeout_us);
}

void *eep_stream_native(eep_stream *stream)
{
    return stream->device->ops->stream_native(stream->impl);
}

eep_status eep_stream_wait_event(eep_stream *stream, eep_event *event)
{
    if (event->device != stream->device)
        return EEP_ERR_INVALID;
    if (eep_stream_is_capturing(stream))
        return EEP_ERR_UNSUPPORTED;
    return stream->device->ops->stream_wait_event(stream->impl, event->impl);
}

eep_status eep_event_open(eep_device *device, eep_event **event_out)
{
    eep_event *event = calloc(1, sizeof(*event));
    eep_status status;

    if (!event)
        return EEP_ERR_NO_MEMORY;
    event->device = device;
    status = device->ops->event_open(device->impl, &event->impl);
    if (status != EEP_OK) {
        free(event);
        return status;
    }
    *event_out = event;
    return EEP_OK;
}

void eep_event_close(eep_event *event)
{
    if (!event)
        return;
    event->device->ops->event_close(event->impl);
    free(event);
}

eep_status eep_event_record(eep_event *event, eep_stream *stream)
{
    if (event->device != stream->device)
        return EEP_ERR_INVALID;
    if (eep_stream_is_capturing(stream))
        return EEP_ERR_UNSUPPORTED;
    return event->device->ops->event_record(event->impl, stream->impl);
}

eep_status eep_event_synchronize(eep_event *event, uint64_t timeout_us)
{
    return event->device->ops->event_synchronize(event->impl, timeout_us);
}

/* ------------------------------------------------------------------ work */

/* Note why a node may not be in a graph, for the end of the capture and for the caller. */
static eep_status note_refusal(eep_stream *stream, eep_status status, const char *why)
{
    if (status != EEP_OK && why[0])
        snprintf(eepi_error_buffer(), EEPI_ERROR_TEXT_BYTES, "%s", why);
    if (capturer_of(stream) && stream->refused == EEP_OK)
        stream->refused = status;
    return status;
}

/* Into a capture of the caller's own the arguments are checked as well; what its graph holds later
 * is its business. */
static eep_status guard_launch(eep_stream *stream, const eep_kernel *kernel, uint32_t num_blocks,
                               const void *args, size_t args_bytes)
{
    eepi_held passing = {0};
    eepi_held *held = capturer_of(stream) ? &stream->held : &passing;
    char why[EEPI_ERROR_TEXT_BYTES] = "";
    eep_status status;

    eepi_error_buffer()[0] = '\0';
    if (!eep_stream_is_capturing(stream))
        return EEP_OK;
    status = eepi_held_take_launch(held, stream->device->fixed, kernel, num_blocks, args,
                                   args_bytes, why, sizeof(why));
    eepi_held_free(&passing);
    return note_refusal(stream, status, why);
}

eep_status eepi_capture_show(eep_stream *stream, const eep_kernel *kernel, uint32_t num_blocks,
                             const void *args, size_t args_bytes)
{
    return guard_launch(stream, kernel, num_blocks, args, args_bytes);
}

static eep_status guard_copy(eep_stream *stream, void *to, const void *from, size_t bytes)
{
    eepi_held passing = {0};
    eepi_held *held = capturer_of(stream) ? &stream->held : &passing;
    char why[EEPI_ERROR_TEXT_BYTES] = "";
    eep_status status;

    eepi_error_buffer()[0] = '\0';
    if (!eep_stream_is_capturing(stream))
        return EEP_OK;
    status = eepi_held_take_copy(held, stream->device->fixed, to, from, bytes, why, sizeof(why));
    eepi_held_free(&passing);
    return note_refusal(stream, status, why);
}

eep_status eep_copy_async(eep_stream *stream, void *to, const void *from, size_t bytes)
{
    eep_status status;

    if (bytes == 0)
        return EEP_OK;
    if (!to || !from)
        return EEP_ERR_INVALID;
    if (!may_put(stream))
        return EEP_ERR_STATE;
    status = guard_copy(stream, to, from, bytes);
    return status == EEP_OK ? stream->device->ops->copy(stream->impl, to, from, bytes) : status;
}

eep_status eep_launch(eep_stream *stream, const eep_kernel *kernel, uint32_t num_blocks,
                      uint32_t num_threads, const void *args, size_t args_bytes)
{
    eep_kernel full = {0};
    eep_status status = EEPI_STRUCT_TAKE(eep_kernel, &full, host, kernel);

    if (status != EEP_OK)
        return status;
    if (num_blocks == 0 || num_threads == 0 || args_bytes > EEP_KERNEL_ARGS_MAX_BYTES ||
        (args_bytes && !args))
        return EEP_ERR_INVALID;
    if (!may_put(stream))
        return EEP_ERR_STATE;
    status = guard_launch(stream, &full, num_blocks, args, args_bytes);
    if (status != EEP_OK)
        return status;
    return stream->device->ops->launch(stream->impl, &full, num_blocks, num_threads, args,
                                       args_bytes);
}

eep_status eepi_stream_run_on_worker(eep_stream *stream, void (*fn)(void *user), void *user)
{
    if (!stream->device->ops->stream_run_on_worker)
        return EEP_ERR_UNSUPPORTED;
    if (eep_stream_is_capturing(stream))
        return EEP_ERR_STATE;
    return stream->device->ops->stream_run_on_worker(stream->impl, fn, user);
}

eep_status eepi_stream_set_limit(eep_stream *stream, uint64_t limit_us)
{
    if (!stream->device->ops->stream_set_limit)
        return EEP_ERR_UNSUPPORTED;
    stream->device->ops->stream_set_limit(stream->impl, limit_us);
    return EEP_OK;
}

/* ------------------------------------------------------------------ graphs */

eep_status eep_capture_begin(eep_stream *stream)
{
    const void *nobody = NULL;
    eep_status status;

    if (stream->is_adopted && stream->device->ops->stream_is_captured(stream->impl))
        return EEP_ERR_STATE;
    if (!may_wait_for_device(stream->device)) /* the end of a capture allocates */
        return EEP_ERR_STATE;
    if (!__atomic_compare_exchange_n(&stream->capturer, &nobody, &own_captures, 0, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        return EEP_ERR_STATE;
    stream->refused = EEP_OK;
    stream->held.num = 0;
    stream->held.fingerprint = 0;
    status = stream->device->ops->capture_begin(stream->impl);
    stream->lacks[0] = '\0';
    stream->captures++;
    if (status == EEP_OK)
        own_captures++;
    else
        __atomic_store_n(&stream->capturer, NULL, __ATOMIC_RELEASE);
    return status;
}

eep_status eep_capture_end(eep_stream *stream, eep_graph **graph_out)
{
    const eepi_device_ops *ops = stream->device->ops;
    uint32_t num_nodes;
    eep_graph *graph;
    eep_status status;
    void *impl;

    if (capturer_of(stream) != &own_captures)
        return EEP_ERR_STATE;
    status = ops->capture_end(stream->impl, &impl, &num_nodes);
    own_captures--;
    __atomic_store_n(&stream->capturer, NULL, __ATOMIC_RELEASE);
    if (status != EEP_OK)
        return status;
    graph = malloc(sizeof(*graph));
    status = !graph ? EEP_ERR_NO_MEMORY : stream->refused;
    if (status == EEP_OK && stream->lacks[0]) {
        snprintf(eepi_error_buffer(), EEPI_ERROR_TEXT_BYTES, "eep_capture_end: %s", stream->lacks);
        status = EEP_ERR_INVALID;
    }
    if (status != EEP_OK) {
        ops->graph_close(impl);
        free(graph);
        return status;
    }
    *graph = (eep_graph){stream->device, impl, num_nodes, stream->held};
    stream->held = (eepi_held){0};
    __atomic_fetch_add(&stream->device->captures, 1, __ATOMIC_RELAXED);
    *graph_out = graph;
    return EEP_OK;
}

eep_status eep_graph_replay(eep_graph *graph, eep_stream *stream)
{
    eep_status status;

    if (graph->device != stream->device)
        return EEP_ERR_INVALID;
    if (eep_stream_is_capturing(stream))
        return EEP_ERR_STATE;
    status = eepi_held_check(&graph->held, graph->device->fixed, eepi_error_buffer(),
                             EEPI_ERROR_TEXT_BYTES);
    return status == EEP_OK ? graph->device->ops->graph_replay(graph->impl, stream->impl) : status;
}

uint32_t eep_graph_num_nodes(const eep_graph *graph)
{
    return graph->num_nodes;
}

uint64_t eepi_graph_fingerprint(const eep_graph *graph)
{
    return graph->held.fingerprint;
}

void eep_graph_close(eep_graph *graph)
{
    if (!graph)
        return;
    graph->device->ops->graph_close(graph->impl);
    eepi_held_free(&graph->held);
    free(graph);
}
