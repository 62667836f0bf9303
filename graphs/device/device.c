/* SPDX-License-Identifier: Apache-2.0 */
/* Devices: the public functions. Arguments and states are checked here, once for all backends; the
 * rest is handed on to the backend's table. */
#include "graphs/device/device_internal.h"
#include "graphs/base/public_call.h"
#include "graphs/base/thread.h"

#include <stdbool.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Streams that this thread captures; its address stands for the thread. */
static _Thread_local uint32_t own_captures;

/* Is this a rank's thread, between its first step and the end of its context? */
static _Thread_local int serves;

uint32_t *eepi_own_captures(void)
{
    return &own_captures;
}

eep_status eepi_check_device(const char *call, const eep_device *device)
{
    eep_status status = eepi_check_given(call, "device", device);

    return status == EEP_OK ? eepi_check_process(call, "device", device->opened_by) : status;
}

eep_status eepi_device_say(const char *call, const eep_device *device, eep_status status)
{
    const int error = errno;
    const char *why = status == EEP_ERR_TIMEOUT ? "" : eepi_device_failure(device);
    char text[EEPI_THREAD_ERROR_BYTES];

    if (status == EEP_OK) {
        return status;
    }
    if (!why[0] && status == EEP_ERR_SYSTEM) { /* of the host, a thread that could not be started */
        why = eepi_thread_error(error, text, sizeof text);
    }
    return eepi_refuse(status, "%s: %s%s%s", call, eep_strerror(status), why[0] ? ": " : "", why);
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

    if (eepi_check_given("eep_device_count", "backend", name) != EEP_OK) {
        return 0;
    }
    if (eepi_device_find_backend(name, &backend, eepi_error_buffer(), EEPI_ERROR_TEXT_BYTES) !=
        EEP_OK) {
        return 0;
    }
    count = backend->count ? backend->count() : 1;
    if (count == 0 && backend->error_text) {
        snprintf(eepi_error_buffer(), EEPI_ERROR_TEXT_BYTES, "%s", backend->error_text());
    }
    return count;
}

int eep_device_ordinal(const eep_device *device)
{
    return device ? device->ordinal : -1;
}

static eep_status open_backend(eep_device *device, int ordinal)
{
    device->ops = device->backend->ops;
    device->ordinal = ordinal;
    device->is_discrete = device->backend->is_discrete;
    device->registered = eepi_registered_open();
    if (!device->registered) {
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

    status = eepi_check_given("eep_device_open", "backend", backend);
    if (status == EEP_OK) {
        status = eepi_check_given("eep_device_open", "device_out", device_out);
    }
    if (status != EEP_OK) {
        return status;
    }
    status = eepi_check_may_wait("eep_device_open");
    if (status != EEP_OK) {
        return status;
    }
    if (own_captures) {
        return eepi_refuse(EEP_ERR_STATE, "eep_device_open: this thread is capturing a stream: end "
                                          "the capture first");
    }
    device = calloc(1, sizeof *device);
    if (!device) {
        return eepi_refuse(EEP_ERR_NO_MEMORY, "eep_device_open: out of memory");
    }
    device->opened_by = (int32_t)getpid();
    device->users = 1;
    pthread_mutex_init(&device->lock, NULL);
    eepi_signals_block(&signals); /* threads that a plugin or its libraries start take none */
    status = eepi_device_find_backend(backend, &device->backend, eepi_error_buffer(),
                                      EEPI_ERROR_TEXT_BYTES);
    if (status == EEP_OK) {
        status = open_backend(device, ordinal);
    }
    eepi_signals_restore(&signals);
    if (status != EEP_OK) {
        eepi_registered_close(device->registered);
        pthread_mutex_destroy(&device->lock);
        free(device);
        return status;
    }
    eepi_error_buffer()[0] = '\0';
    *device_out = device;
    return EEP_OK;
}

void eepi_device_hold(eep_device *device)
{
    __atomic_fetch_add(&device->users, 1, __ATOMIC_RELAXED);
}

void eepi_device_drop(eep_device *device)
{
    if (__atomic_sub_fetch(&device->users, 1, __ATOMIC_ACQ_REL) != 0) {
        return;
    }
    if (device->auxiliary && !device->ops->auxiliary) { /* else it goes with the device */
        device->ops->stream_close(device->auxiliary->impl);
    }
    free(device->auxiliary);
    device->ops->close(device->impl);
    eepi_registered_close(device->registered);
    pthread_mutex_destroy(&device->lock);
    free(device);
}

/* What was opened or allocated with it, and contexts, use it until they are closed themselves. */
void eep_device_close(eep_device *device)
{
    if (device && eepi_check_device("eep_device_close", device) == EEP_OK) {
        eepi_device_drop(device);
    }
}

const char *eep_device_backend(const eep_device *device)
{
    return device ? device->backend->name : "";
}

uint64_t eep_device_captures(const eep_device *device)
{
    return device ? __atomic_load_n(&device->captures, __ATOMIC_RELAXED) : 0;
}

const char *eepi_device_failure(const eep_device *device)
{
    return device->backend->error_text ? device->backend->error_text() : "";
}

eepi_device_facts eepi_device_facts_of(const eep_device *device)
{
    return device->ops->facts ? device->ops->facts(device->impl) : (eepi_device_facts){0};
}

eep_status eepi_device_thread_begin(eep_device *device, int *before_out)
{
    *before_out = 0;
    return device->ops->thread_begin ? device->ops->thread_begin(device->impl, before_out) : EEP_OK;
}

void eepi_device_thread_end(eep_device *device, int before)
{
    if (device->ops->thread_end) {
        device->ops->thread_end(device->impl, before);
    }
}

void eepi_thread_serves(int is_serving)
{
    serves = is_serving;
}

/* What may wait for the whole device waits for ranks that wait for this one. A backend puts off
 * what it can (set_waiters); memory, streams and graphs that it has to make anew it cannot. */
eep_status eepi_may_wait_for_device(const char *call, const eep_device *device)
{
    eep_status status = eepi_check_may_wait(call);

    if (status != EEP_OK || !serves || !device->is_discrete) {
        return status;
    }
    return eepi_refuse(EEP_ERR_STATE,
                       "%s may wait for the whole device, where other ranks wait for this one: not "
                       "in a rank's thread between its first step and eep_close",
                       call);
}

bool eepi_thread_is_capturing(void)
{
    return own_captures != 0;
}

const eep_kernel *eepi_device_kernel(const eep_device *device, uint32_t id)
{
    return id < EEPI_NUM_KERNELS ? &device->kernels[id] : NULL;
}

static eep_status check_alloc(const eep_device *device, eep_memory kind, size_t bytes,
                              void **memory_out)
{
    eep_status status = eepi_check_device("eep_device_alloc", device);

    if (status == EEP_OK) {
        status = eepi_check_given("eep_device_alloc", "memory_out", memory_out);
    }
    if (status != EEP_OK) {
        return status;
    }
    if (own_captures) {
        return eepi_refuse(EEP_ERR_STATE, "eep_device_alloc: this thread is capturing a stream: "
                                          "allocate before eep_capture_begin");
    }
    if (bytes == 0) {
        return eepi_refuse(EEP_ERR_INVALID, "eep_device_alloc: bytes is 0");
    }
    if (kind != EEP_MEMORY_DEVICE && kind != EEP_MEMORY_PINNED) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "eep_device_alloc: kind is %d: EEP_MEMORY_DEVICE and EEP_MEMORY_PINNED "
                           "are possible",
                           (int)kind);
    }
    return eepi_may_wait_for_device("eep_device_alloc", device);
}

eep_status eep_device_alloc(eep_device *device, eep_memory kind, size_t bytes, void **memory_out)
{
    void *memory = NULL;
    eep_status status = check_alloc(device, kind, bytes, memory_out);

    if (status != EEP_OK) {
        return status;
    }
    status = device->ops->alloc(device->impl, kind, bytes, &memory);
    if (status == EEP_OK) {
        status = eepi_registered_add(device->registered, memory, bytes, 1);
    }
    if (status != EEP_OK) {
        if (memory) {
            device->ops->free(device->impl, kind, memory);
        }
        return eepi_device_say("eep_device_alloc", device, status);
    }
    eepi_device_hold(device);
    *memory_out = memory;
    return EEP_OK;
}

static void free_now(eep_device *device, eep_memory kind, void *memory)
{
    device->ops->free(device->impl, kind, memory);
    eepi_device_drop(device);
}

void eep_device_free(eep_device *device, eep_memory kind, void *memory)
{
    eep_status status;

    if (!memory || eepi_check_device("eep_device_free", device) != EEP_OK) {
        return;
    }
    status = eepi_registered_give_up(device->registered, memory, kind);
    if (status == EEP_OK) {
        free_now(device, kind, memory);
    } else if (status == EEP_ERR_NOT_FOUND) {
        (void)eepi_refuse(EEP_ERR_INVALID,
                          "eep_device_free: nothing of this device begins at %p: it was freed "
                          "already, or is another device's",
                          memory);
    }
}

void eepi_memory_hold(eep_device *device, const void *address)
{
    eepi_registered_hold(device->registered, address);
}

void eepi_memory_release(eep_device *device, const void *address)
{
    eep_memory kind = EEP_MEMORY_DEVICE;
    void *memory = eepi_registered_release(device->registered, address, &kind);

    if (memory) {
        free_now(device, kind, memory);
    }
}

eep_status eep_memory_register(eep_device *device, const void *memory, size_t bytes)
{
    eep_status status = eepi_check_device("eep_memory_register", device);

    if (status == EEP_OK) {
        status = eepi_check_given("eep_memory_register", "memory", memory);
    }
    if (status == EEP_OK && bytes == 0) {
        status = eepi_refuse(EEP_ERR_INVALID, "eep_memory_register: bytes is 0");
    }
    if (status != EEP_OK) {
        return status;
    }
    return eepi_device_say("eep_memory_register", device,
                           eepi_registered_add(device->registered, memory, bytes, 0));
}

eep_status eep_memory_unregister(eep_device *device, const void *memory)
{
    eep_status status = eepi_check_device("eep_memory_unregister", device);

    if (status == EEP_OK) {
        status = eepi_check_given("eep_memory_unregister", "memory", memory);
    }
    if (status == EEP_OK && eepi_registered_remove(device->registered, memory) != EEP_OK) {
        status =
            eepi_refuse(EEP_ERR_NOT_FOUND,
                        "eep_memory_unregister: nothing that begins at %p is registered", memory);
    }
    return status;
}
