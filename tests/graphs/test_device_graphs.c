/* SPDX-License-Identifier: Apache-2.0 */
/* Captures and graphs of the host backend. */
#include "tests/lib/device_fixture.h"

#include "graphs/device/device_ops.h"

#include <pthread.h>
#include <string.h>

/* Must 1: what a kernel gets by value is frozen at capture; what it gets by pointer is not. */
Test(device, S11_captured_value_is_stale_captured_pointer_is_live)
{
    int64_t sum = 0, table = 100, value = 1;
    eep_graph *graph;

    OK(eep_capture_begin(stream));
    {
        add_args args = {&sum, &table, value};

        LAUNCH(stream, &add_kernel, 1, args);
        memset(&args, 0xee, sizeof args); /* the bytes were copied, not referred to */
    }
    OK(eep_capture_end(stream, &graph));
    cr_assert_eq(sum, 0); /* recorded, not run */

    OK(eep_graph_replay(graph, stream));
    FINISH(stream);
    cr_assert_eq(sum, 101);
    value = 2; /* a flip: both change */
    table = 200;
    OK(eep_graph_replay(graph, stream));
    FINISH(stream);
    cr_assert_eq(sum, 101 + 201, "the value must stay 1, the table must be read anew");
    cr_assert_neq(sum, 101 + table + value);
    eep_graph_close(graph);
}

Test(device, ten_thousand_replays_run_every_node_in_order)
{
    enum { NODES = 100, REPLAYS = 10000 };
    int64_t sum = 0, copy = 0, one = 1;
    eep_graph *graph;

    OK(eep_memory_register(device, &copy, sizeof copy));
    OK(eep_memory_register(device, &sum, sizeof sum));
    OK(eep_capture_begin(stream));
    for (int64_t i = 0; i < NODES - 1; i++) {
        add_args args = {&sum, &one, i};
        LAUNCH(stream, &add_kernel, 1, args);
    }
    OK(eep_copy_async(stream, &copy, &sum, sizeof sum));
    OK(eep_capture_end(stream, &graph));
    cr_assert_eq(eep_graph_num_nodes(graph), NODES);
    for (int i = 0; i < REPLAYS; i++) {
        OK(eep_graph_replay(graph, stream));
        if (i % 1000 == 0) {
            FINISH(stream);
            cr_assert_eq(copy, sum);
        }
    }
    FINISH(stream);
    cr_assert_eq(sum, (int64_t)REPLAYS * (NODES - 1) * NODES / 2);
    cr_assert_eq(copy, sum);
    cr_assert_eq(eep_device_captures(device), 1);
    eep_graph_close(graph);
}

Test(device, a_graph_runs_in_another_stream_too)
{
    int64_t sum = 0, zero = 0;
    add_args add = {&sum, &zero, 3};
    eep_device *foreign_device;
    eep_stream *foreign;
    eep_graph *graph;

    OK(eep_capture_begin(stream));
    LAUNCH(stream, &add_kernel, 1, add);
    OK(eep_capture_end(stream, &graph));
    OK(eep_graph_replay(graph, other));
    FINISH(other);
    cr_assert_eq(sum, 3);

    OK(eep_device_open("host", 0, &foreign_device));
    OK(eep_stream_open(foreign_device, &foreign));
    FAILS(eep_graph_replay(graph, foreign), EEP_ERR_INVALID);
    eep_stream_close(foreign);
    eep_device_close(foreign_device);
    eep_graph_close(graph);
}

Test(device, captures_are_counted_per_device)
{
    eep_device *second;
    eep_graph *graph;

    OK(eep_device_open("host", 0, &second));
    for (uint64_t i = 1; i <= 3; i++) {
        OK(eep_capture_begin(stream));
        cr_assert_eq(eep_device_captures(device), i - 1); /* counts the ended ones */
        OK(eep_capture_end(stream, &graph));
        cr_assert_eq(eep_graph_num_nodes(graph), 0);
        OK(eep_graph_replay(graph, stream)); /* an empty graph is a graph */
        FINISH(stream);
        eep_graph_close(graph);
        cr_assert_eq(eep_device_captures(device), i);
    }
    cr_assert_eq(eep_device_captures(second), 0);
    eep_graph_close(NULL);
    eep_device_close(second);
}

static void *try_foreign_capture(void *user)
{
    eep_graph *graph = NULL;
    int64_t sum = 0, zero = 0;
    add_args add = {&sum, &zero, 3};
    void *memory = NULL;
    eep_status *status = user;

    status[0] = eep_launch(stream, &add_kernel, 1, 1, &add, sizeof add);
    status[1] = eep_capture_begin(stream);
    status[2] = eep_capture_end(stream, &graph);
    status[3] = eep_device_alloc(device, EEP_MEMORY_DEVICE, 64, &memory); /* its own business */
    eep_device_free(device, EEP_MEMORY_DEVICE, memory);
    return NULL;
}

Test(device, what_capture_forbids_is_refused_and_leaves_it_whole)
{
    int64_t sum = 0, zero = 0;
    add_args add = {&sum, &zero, 3};
    eep_status foreign[4];
    eep_device *opened = NULL;
    eep_graph *graph = NULL;
    eep_event *event;
    pthread_t thread;
    void *memory = NULL;

    OK(eep_event_open(device, &event));
    FAILS(eep_capture_end(stream, &graph), EEP_ERR_STATE);
    cr_assert_null(graph);
    cr_assert(!eep_stream_is_capturing(stream));
    OK(eep_capture_begin(stream));
    cr_assert(eep_stream_is_capturing(stream));
    FAILS(eep_capture_begin(stream), EEP_ERR_STATE);
    FAILS(eep_stream_synchronize(stream, 1000), EEP_ERR_STATE);
    FAILS(eep_device_alloc(device, EEP_MEMORY_DEVICE, 64, &memory), EEP_ERR_STATE);
    FAILS(eep_device_open("host", 0, &opened), EEP_ERR_STATE);
    FAILS(eep_event_record(event, stream), EEP_ERR_UNSUPPORTED);
    FAILS(eep_stream_wait_event(stream, event), EEP_ERR_UNSUPPORTED);
    FAILS(eepi_stream_run_on_worker(stream, note_thread, &thread), EEP_ERR_STATE);
    LAUNCH(other, &add_kernel, 1, add); /* another stream is not concerned */
    FINISH(other);
    cr_assert_eq(pthread_create(&thread, NULL, try_foreign_capture, foreign), 0);
    pthread_join(thread, NULL);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(foreign[i], EEP_ERR_STATE);
    }
    cr_assert_eq(foreign[3], EEP_OK);
    LAUNCH(stream, &add_kernel, 1, add);
    OK(eep_capture_end(stream, &graph));
    cr_assert_eq(eep_graph_num_nodes(graph), 1);
    OK(eep_device_alloc(device, EEP_MEMORY_DEVICE, 64, &memory));
    eep_device_free(device, EEP_MEMORY_DEVICE, memory);
    OK(eep_graph_replay(graph, stream));
    FINISH(stream);
    cr_assert_eq(sum, 6);
    eep_graph_close(graph);
    eep_event_close(event);
}

Test(device, closing_a_stream_drops_its_capture)
{
    eep_stream *closed;
    void *memory = NULL;
    int64_t sum = 0, zero = 0;
    add_args add = {&sum, &zero, 3};

    OK(eep_stream_open(device, &closed));
    OK(eep_capture_begin(closed));
    LAUNCH(closed, &add_kernel, 1, add);
    eep_stream_close(closed);
    cr_assert_eq(sum, 0);
    cr_assert_eq(eep_device_captures(device), 0);
    OK(eep_device_alloc(device, EEP_MEMORY_DEVICE, 64, &memory)); /* captures no longer */
    eep_device_free(device, EEP_MEMORY_DEVICE, memory);
}

Test(device, a_graph_may_be_closed_under_its_replay)
{
    gate g = {0, 0};
    int64_t *sum;
    eep_graph *graph;

    OK(eep_device_alloc(device, EEP_MEMORY_PINNED, 2 * sizeof *sum, (void **)&sum));
    add_args args = {&sum[0], &sum[1], 3};
    OK(eep_capture_begin(stream));
    LAUNCH(stream, &add_kernel, 1, args);
    OK(eep_capture_end(stream, &graph));
    gate_shut(&g, stream);
    OK(eep_graph_replay(graph, stream));
    OK(eep_graph_replay(graph, stream));
    eep_graph_close(graph);
    gate_open(&g);
    OK(eep_stream_synchronize(stream, LONG_US));
    cr_expect_eq(sum[0], 6);
    eep_device_free(device, EEP_MEMORY_PINNED, sum);
}
