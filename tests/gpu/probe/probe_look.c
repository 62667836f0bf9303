/* SPDX-License-Identifier: Apache-2.0 */
/* The roles that ask what sharing and allocating cost, on an idle and on a busy device. */
#include "tests/gpu/probe/probe_role.h"

#include <stdio.h>

enum {
    LOOK_BYTES = 128 << 20, /* as large as a window of a real model */
    BUSY_MS = 1000,         /* how long the device is kept busy while something is mapped */
};

typedef struct look_times {
    uint64_t first_us, second_us, third_us; /* sharing: make, map, close; allocating: device memory,
                                             * pinned memory, a stream, each with its end */
} look_times;
typedef eep_status (*look_fn)(probe_role *r, look_times *out);

static eep_status look_at_sharing(probe_role *r, look_times *out)
{
    eepi_share made = {0}, mapped = {0};
    char why[300] = "";
    uint64_t begin_us = eepi_now_us(), made_us, mapped_us = 0;
    eep_status status = eepi_share_make(r->device, LOOK_BYTES, &made, why, sizeof why);

    made_us = eepi_now_us();
    if (status == EEP_OK) {
        status = eepi_share_map(r->device, made.fd, made.mapped_bytes, &mapped, why, sizeof why);
    }
    mapped_us = eepi_now_us();
    r->say.values[0] = made.mapped_bytes;
    eepi_share_close(r->device, &mapped);
    *out = (look_times){made_us - begin_us, mapped_us - made_us, eepi_now_us() - mapped_us};
    eepi_share_close(r->device, &made);
    return status == EEP_OK ? EEP_OK : probe_fail(r, status, "sharing memory: %s", why);
}

/* What a joining rank of this process does at eep_open and eep_close. */
static eep_status look_at_allocating(probe_role *r, look_times *out)
{
    uint64_t begin_us = eepi_now_us(), at_us[2] = {0, 0};
    eep_stream *stream = NULL;
    eep_status status = EEP_OK;

    for (int kind = 0; kind < 2 && status == EEP_OK; kind++) {
        eep_memory memory = kind == 0 ? EEP_MEMORY_DEVICE : EEP_MEMORY_PINNED;
        void *bytes = NULL;
        status =
            probe_check(r, eep_device_alloc(r->device, memory, LOOK_BYTES, &bytes), "allocating");
        eep_device_free(r->device, memory, bytes);
        at_us[kind] = eepi_now_us();
    }
    if (status == EEP_OK) {
        status = probe_check(r, eep_stream_open(r->device, &stream), "a third stream");
    }
    eep_stream_close(stream);
    *out = (look_times){at_us[0] - begin_us, at_us[1] - at_us[0], eepi_now_us() - at_us[1]};
    return status;
}

/* The same while a kernel runs, and short ones are launched by another thread, as a rank's steps go
 * on while its service thread maps a window: does it wait for the one, do the others wait for it?
 * Values from `first` on: the times, did the kernel still run, the longest launch. */
static eep_status look_while_busy(probe_role *r, look_fn look_at, int first)
{
    look_times times = {0};
    probe_busy busy;
    probe_stepper stepper;
    eep_status status = probe_stepper_open(r, &stepper), ended;

    if (status == EEP_OK) {
        status = probe_busy_open(r, &busy);
    }
    if (status == EEP_OK) {
        status = probe_busy_begin(r, BUSY_MS, &busy);
    }
    if (status == EEP_OK) {
        status = probe_stepper_begin(r, &stepper);
    }
    if (status != EEP_OK) {
        return status;
    }
    status = look_at(r, &times);
    ended = probe_stepper_end(r, &stepper);
    status = status == EEP_OK ? ended : status;
    r->say.values[first] = times.first_us;
    r->say.values[first + 1] = times.second_us;
    r->say.values[first + 2] = times.third_us;
    r->say.values[first + 3] = (uint64_t)probe_busy_goes_on(r);
    r->say.values[first + 4] = stepper.longest_us[0];
    return status == EEP_OK ? probe_busy_end(r, &busy) : status;
}

/* Values: bytes mapped; make, map, close in us; the same on a busy device, did it stay busy, the
 * longest short kernel meanwhile in us. */
eep_status probe_look(probe_role *r)
{
    look_times idle = {0};
    eep_status status = look_at_sharing(r, &idle);

    if (status == EEP_OK) {
        status = look_while_busy(r, look_at_sharing, 4);
    }
    if (status != EEP_OK) {
        return status;
    }
    r->say.values[1] = idle.first_us;
    r->say.values[2] = idle.second_us;
    r->say.values[3] = idle.third_us;
    return probe_say(r);
}

/* Values: device memory, pinned memory, a stream in us; the same on a busy device, did it stay
 * busy, the longest short kernel meanwhile in us. */
eep_status probe_allocating(probe_role *r)
{
    look_times idle = {0};
    eep_status status = look_at_allocating(r, &idle);

    if (status == EEP_OK) {
        status = look_while_busy(r, look_at_allocating, 3);
    }
    if (status != EEP_OK) {
        return status;
    }
    r->say.values[0] = idle.first_us;
    r->say.values[1] = idle.second_us;
    r->say.values[2] = idle.third_us;
    return probe_say(r);
}
