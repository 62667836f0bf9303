/* SPDX-License-Identifier: Apache-2.0 */
/* The host backend under ThreadSanitizer: a plain program, since it does not run under Criterion.
 * Threads put work into shared and own streams, order it by events, replay graphs and bound waits;
 * plain (not atomic) counters show whether the layer orders what it promises to order. Exits 0. */
#include "tests/lib/check_or_abort.h"
#include "eep/device.h"
#include "graphs/device/device_ops.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 4, ROUNDS = 300, LONG_US = 20000000 };

static eep_device *device;
static eep_stream *shared;
static uint64_t shared_count; /* written by the shared stream's worker only */

typedef struct count_args {
    uint64_t *counter;
} count_args;
static void count_body(const void *args, eep_grid grid)
{
    (void)grid;
    ++*((const count_args *)args)->counter;
}
static const eep_kernel count_kernel = EEP_KERNEL("count", count_body, NULL, NULL, 0);

static void count_call(void *user)
{
    ++*(uint64_t *)user;
}

static eep_graph *capture(eep_stream *stream, uint64_t *counter)
{
    count_args args = {counter};
    eep_graph *graph;

    OK(eep_capture_begin(stream));
    for (int i = 0; i < 8; i++) {
        OK(eep_launch(stream, &count_kernel, 1, 1, &args, sizeof args));
    }
    OK(eep_capture_end(stream, &graph));
    return graph;
}

/* Two own streams count one plain counter in turns, ordered by an event; the shared stream is fed
 * by all threads at once. */
static void *exercise(void *unused)
{
    eep_stream *streams[2];
    eep_event *event;
    eep_graph *graph;
    uint64_t own = 0, copied = 0;
    count_args to_own = {&own}, to_shared = {&shared_count};

    (void)unused;
    OK(eep_stream_open(device, &streams[0]));
    OK(eep_stream_open(device, &streams[1]));
    OK(eep_event_open(device, &event));
    graph = capture(streams[0], &own);
    for (int i = 0; i < ROUNDS; i++) {
        eep_stream *now = streams[i % 2], *next = streams[(i + 1) % 2];

        OK(eep_graph_replay(graph, now));
        OK(eep_launch(now, &count_kernel, 1, 1, &to_own, sizeof to_own));
        OK(eepi_stream_run_on_worker(now, count_call, &own));
        OK(eep_event_record(event, now));
        OK(eep_stream_wait_event(next, event));
        OK(eep_launch(shared, &count_kernel, 1, 1, &to_shared, sizeof to_shared));
        if (i % 10 == 0) {
            OK(eep_event_synchronize(event, LONG_US));
            CHECK(own == (uint64_t)(i + 1) * 10);
        }
        if (i % 50 == 0) { /* may end either way, but ends */
            eep_status status = eep_stream_synchronize(shared, 10);
            CHECK(status == EEP_OK || status == EEP_ERR_TIMEOUT);
        }
    }
    OK(eep_event_record(event, shared)); /* from one stream's place to another's */
    OK(eep_event_synchronize(event, LONG_US));
    OK(eep_copy_async(streams[ROUNDS % 2], &copied, &own, sizeof own));
    OK(eep_stream_synchronize(streams[ROUNDS % 2], LONG_US));
    CHECK(copied == (uint64_t)ROUNDS * 10);
    eep_stream_close(streams[0]);
    eep_stream_close(streams[1]);
    eep_event_close(event);
    eep_graph_close(graph);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];

    OK(eep_device_open("host", 0, &device));
    OK(eep_stream_open(device, &shared));
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, exercise, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    OK(eep_stream_synchronize(shared, LONG_US));
    CHECK(shared_count == (uint64_t)THREADS * ROUNDS);
    CHECK(eep_device_captures(device) == THREADS);
    eep_stream_close(shared);
    eep_device_close(device);
    return 0;
}
