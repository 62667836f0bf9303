/* SPDX-License-Identifier: Apache-2.0 */
/* The device, the streams and the kernels of the device layer's tests. */
#include "tests/lib/device_fixture.h"

#include "graphs/base/clock.h"

#include <pthread.h>
#include <sched.h>

eep_device *device;
eep_stream *stream, *other;

void device_set_up(void)
{
    OK(eep_device_open("host", 0, &device));
    OK(eep_stream_open(device, &stream));
    OK(eep_stream_open(device, &other));
}

void device_tear_down(void)
{
    eep_stream_close(stream);
    eep_stream_close(other);
    eep_device_close(device);
}

static void log_body(const void *args, eep_grid grid)
{
    const log_args *a = args;

    (void)grid;
    a->log[(*a->length)++] = a->value;
}
const eep_kernel log_kernel = EEP_KERNEL("log", log_body, NULL, NULL, 0);

typedef struct gate_args { /* raises `entered`, returns when `open` is set */
    uint32_t *entered, *open;
} gate_args;
static void gate_body(const void *args, eep_grid grid)
{
    const gate_args *a = args;
    uint64_t until = eepi_now_us() + LONG_US;

    (void)grid;
    __atomic_store_n(a->entered, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(a->open, __ATOMIC_ACQUIRE) && eepi_now_us() < until) {
        sched_yield();
    }
}
static const eep_kernel gate_kernel = EEP_KERNEL("gate", gate_body, NULL, NULL, 0);

void gate_shut(gate *g, eep_stream *s)
{
    gate_args args = {&g->entered, &g->open};

    LAUNCH(s, &gate_kernel, 1, args);
    while (!__atomic_load_n(&g->entered, __ATOMIC_ACQUIRE)) {
        sched_yield();
    }
}

void gate_open(gate *g)
{
    __atomic_store_n(&g->open, 1, __ATOMIC_RELEASE);
}

static void add_body(const void *args, eep_grid grid)
{
    const add_args *a = args;

    (void)grid;
    *a->sum += a->value + *a->pointer;
}
const eep_kernel add_kernel = EEP_KERNEL("add", add_body, NULL, NULL, 0);

void note_thread(void *user)
{
    *(pthread_t *)user = pthread_self();
}
