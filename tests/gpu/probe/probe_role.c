/* SPDX-License-Identifier: Apache-2.0 */
/* What the roles share: the device, its memory, the messages. */
#include "tests/gpu/probe/probe_role.h"
#include "tests/lib/window_fixture.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AWAIT_MS = 20000, HEAR_MS = 60000 };

eep_status probe_fail(probe_role *r, eep_status status, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(r->say.text, sizeof r->say.text, format, arguments);
    va_end(arguments);
    r->say.status = status;
    return status;
}

eep_status probe_check(probe_role *r, eep_status status, const char *what)
{
    if (status == EEP_OK) {
        return EEP_OK;
    }
    return probe_fail(r, status, "%s: %s %.250s", what, eep_strerror(status),
                      eepi_device_failure(r->device));
}

eep_status probe_open(probe_role *r)
{
    char name[128] = "host";
    const char *why = NULL;
    eep_status status = eep_device_open(r->how->device, 0, &r->device);

    if (status != EEP_OK) {
        return probe_fail(r, status, "%s: %.300s", eep_strerror(status), eep_device_error_text());
    }
    r->is_cuda = strcmp(r->how->device, "cuda") == 0;
    if (r->is_cuda) {
        why = probe_kernels_load(0, name, sizeof name);
    } else {
        eepi_device_set_discrete(r->device);
    }
    if (why) {
        return probe_fail(r, EEP_ERR_DEVICE, "the probes' kernels: %s", why);
    }
    snprintf(r->say.text, sizeof r->say.text, "%s", name);
    return probe_check(r, eep_stream_open(r->device, &r->stream), "eep_stream_open");
}

void probe_close(probe_role *r)
{
    if (r->stream) {
        eep_stream_close(r->stream);
    }
    eep_device_close(r->device);
}

#define PROBE_HOST_TWIN(name)                                                                      \
    static void name##_host(const void *args, eep_grid grid)                                       \
    {                                                                                              \
        probe_##name##_body(args, grid);                                                           \
    }
PROBE_HOST_TWIN(store)
PROBE_HOST_TWIN(fill)
PROBE_HOST_TWIN(count)
PROBE_HOST_TWIN(ring)
PROBE_HOST_TWIN(gaps)
PROBE_HOST_TWIN(fence)
PROBE_HOST_TWIN(load)
PROBE_HOST_TWIN(pass)
PROBE_HOST_TWIN(stamp)

static const eep_kernel host_twins[PROBE_NUM_KERNELS] = {
    EEP_KERNEL("store", store_host, NULL, NULL, 0), EEP_KERNEL("fill", fill_host, NULL, NULL, 0),
    EEP_KERNEL("count", count_host, NULL, NULL, 0), EEP_KERNEL("ring", ring_host, NULL, NULL, 0),
    EEP_KERNEL("gaps", gaps_host, NULL, NULL, 0),   EEP_KERNEL("fence", fence_host, NULL, NULL, 0),
    EEP_KERNEL("load", load_host, NULL, NULL, 0),   EEP_KERNEL("pass", pass_host, NULL, NULL, 0),
    EEP_KERNEL("stamp", stamp_host, NULL, NULL, 0)};

eep_status probe_launch(probe_role *r, eep_stream *stream, probe_kernel_id id, const void *args,
                        size_t args_bytes)
{
    const char *why;

    if (!r->is_cuda) {
        return probe_check(r, eep_launch(stream, &host_twins[id], 1, 1, args, args_bytes),
                           host_twins[id].name);
    }
    why = probe_kernel_launch(eep_stream_native(stream), id, PROBE_THREADS, args);
    return why ? probe_fail(r, EEP_ERR_DEVICE, "kernel %s: %s", host_twins[id].name, why) : EEP_OK;
}

eep_status probe_launch_early(probe_role *r, eep_stream *stream, const probe_stamp_args *args)
{
    const char *why = r->is_cuda
                          ? probe_stamp_launch_early(eep_stream_native(stream), PROBE_THREADS, args)
                          : "not on the host";

    return why ? probe_fail(r, EEP_ERR_UNSUPPORTED, "an early launch: %s", why) : EEP_OK;
}

eep_status probe_words(probe_role *r, size_t count, uint64_t **words_out)
{
    void *memory = NULL;
    eep_status status = probe_check(
        r, eep_device_alloc(r->device, EEP_MEMORY_PINNED, count * sizeof(uint64_t), &memory),
        "pinned memory");

    if (status == EEP_OK) {
        *words_out = memory;
    }
    return status;
}

eep_status probe_await(probe_role *r, const uint64_t *word, const char *what)
{
    uint64_t until_us = eepi_now_us() + AWAIT_MS * 1000u;

    while (eepk_load_acquire(word) == 0) {
        if (eepi_now_us() > until_us) {
            return probe_fail(r, EEP_ERR_TIMEOUT, "%s did not begin within %d ms", what, AWAIT_MS);
        }
        sched_yield();
    }
    return EEP_OK;
}

eep_status probe_say(probe_role *r)
{
    int sent = probe_send(r->socket, &r->say);

    memset(&r->say, 0, sizeof r->say);
    return sent == 0 ? EEP_OK : EEP_ERR_UNREACHABLE;
}

eep_status probe_say_row(probe_role *r, const char *check, double value, int ok)
{
    snprintf(r->say.text, sizeof r->say.text, "%s", check);
    r->say.number = value;
    r->say.ok = ok;
    r->say.is_row = 1;
    return probe_say(r);
}

eep_status probe_hear(probe_role *r, probe_message *message_out)
{
    return probe_receive(r->socket, HEAR_MS, message_out) == 0 ? EEP_OK : EEP_ERR_UNREACHABLE;
}

eepi_window_spec probe_spec(uint32_t generation)
{
    return (eepi_window_spec){PROBE_SEAT, generation, PROBE_WINDOW_BYTES, PROBE_HOST_BYTES};
}

uint64_t *probe_word(const eepi_window *window, size_t at)
{
    return (uint64_t *)((uint8_t *)window_memory(window) + at);
}

eep_status probe_map_window(probe_role *r, const probe_message *asked, eepi_window **window_out)
{
    eepi_window_spec spec = probe_spec(asked->generation);
    char why[300] = "";
    eep_status status =
        window_map_whole(r->device, &asked->window, &spec, why, sizeof why, window_out);

    return status == EEP_OK ? EEP_OK : probe_fail(r, status, "mapping a window: %s", why);
}
