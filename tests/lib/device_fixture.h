/* SPDX-License-Identifier: Apache-2.0 */
/* A host device with two streams, and kernels whose effects a test can see: for the tests of the
 * device layer. */
#ifndef DEVICE_FIXTURE_H
#define DEVICE_FIXTURE_H

#include "eep/device.h"

#include <criterion/criterion.h>

enum { LONG_US = 20000000, SHORT_US = 20000 };

extern eep_device *device;
extern eep_stream *stream, *other;
void device_set_up(void);
void device_tear_down(void);

#define OK(call)            cr_assert_eq((call), EEP_OK)
#define FAILS(call, status) cr_assert_eq((call), (status))
#define LAUNCH(s, k, n, a)  OK(eep_launch((s), (k), (n), 1, &(a), sizeof(a)))
#define FINISH(s)           OK(eep_stream_synchronize((s), LONG_US))

typedef struct log_args { /* appends value to log */
    uint32_t *log, *length;
    uint32_t value;
} log_args;
extern const eep_kernel log_kernel;

typedef struct gate {
    uint32_t entered, open;
} gate;
/* Put a kernel into the stream that waits for gate_open, and wait until the worker is in it. */
void gate_shut(gate *g, eep_stream *s);
void gate_open(gate *g);

typedef struct add_args { /* sum += value + *pointer */
    int64_t *sum;
    const int64_t *pointer;
    int64_t value;
} add_args;
extern const eep_kernel add_kernel;

/* Write the calling thread to the pthread_t at `user`. */
void note_thread(void *user);
#endif
