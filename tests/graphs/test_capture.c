/* SPDX-License-Identifier: Apache-2.0 */
/* What a graph may hold (must 1), and captures that are the caller's own. */
#include "graphs/device/device_internal.h"
#include "tests/lib/world/kernel_world.h"

#include <criterion/criterion.h>
#include <stddef.h>
#include <string.h>

#define OK(call)            cr_assert_eq((call), EEP_OK)
#define FAILS(call, status) cr_assert_eq((call), (status))
#define LAUNCH(s, a)        eep_launch((s), &add_kernel, 1, 1, &(a), sizeof(a))

static eep_device *device;
static eep_stream *stream;
static int64_t *sum, *table; /* device memory */

static void set_up(void)
{
    OK(eep_device_open("host", 0, &device));
    OK(eep_stream_open(device, &stream));
    OK(eep_device_alloc(device, EEP_MEMORY_DEVICE, sizeof *sum, (void **)&sum));
    OK(eep_device_alloc(device, EEP_MEMORY_DEVICE, sizeof *table, (void **)&table));
}

static void tear_down(void)
{
    eep_stream_close(stream);
    eep_device_free(device, EEP_MEMORY_DEVICE, sum);
    eep_device_free(device, EEP_MEMORY_DEVICE, table);
    eep_device_close(device);
}

TestSuite(capture, .init = set_up, .fini = tear_down, .timeout = 60);

/* Adds *from + layer to *to. `epoch` is what must never be in a graph. */
typedef struct add_args {
    int64_t *to;
    const int64_t *from;
    int64_t layer;
} add_args;
typedef struct epoch_args {
    add_args add;
    uint64_t epoch;
} epoch_args;

static void add_body(const void *args, eep_grid grid)
{
    const add_args *a = args;

    (void)grid;
    *a->to += *a->from + a->layer;
}

static const eep_kernel_arg add_fields[] = {
    {"to", offsetof(add_args, to), sizeof(int64_t *), EEP_ARG_ADDRESS},
    {"from", offsetof(add_args, from), sizeof(int64_t *), EEP_ARG_ADDRESS},
    {"layer", offsetof(add_args, layer), sizeof(int64_t), EEP_ARG_CONSTANT},
};
static const eep_kernel add_kernel = EEP_KERNEL("add", add_body, NULL, add_fields, 3);

static eep_graph *captured(add_args args)
{
    eep_graph *graph;

    OK(eep_capture_begin(stream));
    OK(LAUNCH(stream, args));
    OK(eep_capture_end(stream, &graph));
    return graph;
}

static void cannot_be_captured(const eep_kernel *kernel, const void *args, size_t bytes,
                               const char *word)
{
    eep_graph *graph = NULL;

    OK(eep_capture_begin(stream));
    FAILS(eep_launch(stream, kernel, 1, 1, args, bytes), EEP_ERR_INVALID);
    cr_assert(strstr(eep_device_error_text(), word), "%s", eep_device_error_text());
    FAILS(eep_capture_end(stream, &graph), EEP_ERR_INVALID);
    cr_assert_null(graph);
    cr_assert_eq(eep_device_captures(device), 0);
}

/* ------------------------------------------------------------------ what a graph may hold */

Test(capture, an_address_that_may_go_away_is_refused_by_name)
{
    int64_t local = 0;

    cannot_be_captured(&add_kernel, &(add_args){sum, &local, 0}, sizeof(add_args), "from");
    cannot_be_captured(&add_kernel, &(add_args){sum + 100, table, 0}, sizeof(add_args), "to");
}

Test(capture, S11_a_value_that_is_not_declared_constant_is_refused)
{
    static const eep_kernel epoch_kernel = EEP_KERNEL("epoch", add_body, NULL, add_fields, 3);
    const epoch_args args = {{sum, table, 0}, 7};

    cannot_be_captured(&epoch_kernel, &args, sizeof args, "byte 24");
}

Test(capture, the_flip_is_never_captured)
{
    const eepk_flip_args flip = {(const eepk_world *)table, 2, 3, 1, 0};

    cannot_be_captured(eepi_device_kernel(device, EEPI_KERNEL_flip), &flip, sizeof flip, "flip");
}

Test(capture, outside_of_captures_any_address_will_do)
{
    int64_t local = 5;
    add_args args = {sum, &local, 1};

    OK(LAUNCH(stream, args));
    OK(eep_stream_synchronize(stream, 1000000));
    cr_assert_eq(*sum, 6);
}

Test(capture, registered_memory_and_null_are_good_addresses)
{
    int64_t mine[2] = {1, 40};
    add_args args = {sum, &mine[1], 2};
    eep_graph *graph;

    OK(eep_memory_register(device, mine, sizeof mine));
    graph = captured(args);
    OK(eep_graph_replay(graph, stream));
    OK(eep_stream_synchronize(stream, 1000000));
    cr_assert_eq(*sum, 42);
    eep_graph_close(graph);
    graph = captured((add_args){NULL, &mine[0], 0});
    eep_graph_close(graph);
    OK(eep_memory_unregister(device, mine));
    FAILS(eep_memory_unregister(device, mine), EEP_ERR_NOT_FOUND);
    FAILS(eep_memory_register(device, NULL, 8), EEP_ERR_INVALID);
    FAILS(eep_memory_register(device, mine, 0), EEP_ERR_INVALID);
}

Test(capture, a_graph_with_freed_memory_is_not_replayed)
{
    int64_t *going, *other, other_value;
    eep_graph *graph;

    OK(eep_device_alloc(device, EEP_MEMORY_DEVICE, sizeof *going, (void **)&going));
    OK(eep_device_alloc(device, EEP_MEMORY_DEVICE, sizeof *other, (void **)&other));
    graph = captured((add_args){sum, going, 3});
    eep_device_free(device, EEP_MEMORY_DEVICE, other); /* not the graph's */
    OK(eep_graph_replay(graph, stream));
    OK(eep_stream_synchronize(stream, 1000000));
    eep_device_free(device, EEP_MEMORY_DEVICE, going);
    FAILS(eep_graph_replay(graph, stream), EEP_ERR_STATE);
    cr_assert(strstr(eep_device_error_text(), "freed"), "%s", eep_device_error_text());
    OK(eep_memory_register(device, &other_value, sizeof other_value));
    FAILS(eep_graph_replay(graph, stream), EEP_ERR_STATE);
    cr_assert_eq(*sum, 3);
    eep_graph_close(graph);
}

/* Other memory at the same address is other memory. */
Test(capture, an_address_that_was_given_again_is_not_the_graphs)
{
    int64_t mine = 0;
    eep_graph *graph;

    OK(eep_memory_register(device, &mine, sizeof mine));
    graph = captured((add_args){sum, &mine, 3});
    OK(eep_memory_unregister(device, &mine));
    OK(eep_memory_register(device, &mine, sizeof mine));
    FAILS(eep_graph_replay(graph, stream), EEP_ERR_STATE);
    eep_graph_close(graph);
}

Test(capture, copies_in_graphs_are_looked_at_too)
{
    int64_t local = 0;
    eep_graph *graph;

    OK(eep_capture_begin(stream));
    OK(eep_copy_async(stream, table, sum, sizeof *sum));
    FAILS(eep_copy_async(stream, &local, sum, sizeof *sum), EEP_ERR_INVALID);
    cr_assert(strstr(eep_device_error_text(), "target"), "%s", eep_device_error_text());
    FAILS(eep_copy_async(stream, sum, &local, sizeof *sum), EEP_ERR_INVALID);
    cr_assert(strstr(eep_device_error_text(), "source"), "%s", eep_device_error_text());
    FAILS(eep_capture_end(stream, &graph), EEP_ERR_INVALID);
    graph = captured((add_args){sum, table, 1}); /* the next capture starts clean */
    eep_graph_close(graph);
}

Test(capture, equal_captures_have_equal_fingerprints)
{
    eep_graph *one = captured((add_args){sum, table, 1});
    eep_graph *same = captured((add_args){sum, table, 1});
    eep_graph *other = captured((add_args){sum, table, 2});

    cr_assert_neq(eepi_graph_fingerprint(one), 0);
    cr_assert_eq(eepi_graph_fingerprint(one), eepi_graph_fingerprint(same));
    cr_assert_neq(eepi_graph_fingerprint(one), eepi_graph_fingerprint(other));
    eep_graph_close(one);
    eep_graph_close(same);
    eep_graph_close(other);
}

/* Each declared field covers its struct: a byte of libeep's own arguments that is nobody's is found
 * here before a graph is refused. */
Test(capture, the_arguments_of_all_kernels_are_declared)
{
    static const size_t bytes[] = {
#define ARGS_BYTES(name, args) sizeof(args),
        EEPK_KERNEL_LIST(ARGS_BYTES)
#undef ARGS_BYTES
    };

    for (uint32_t id = EEPI_KERNEL_latch; id < EEPI_NUM_KERNELS; id++) {
        const eep_kernel *kernel = eepi_device_kernel(device, id);
        size_t covered = 0;
        for (uint32_t i = 0; i < kernel->num_args; i++) {
            cr_assert_eq(kernel->args[i].offset, covered, "%s", kernel->name);
            cr_assert(kernel->args[i].kind != EEP_ARG_ADDRESS || kernel->args[i].bytes == 8);
            covered += kernel->args[i].bytes;
        }
        cr_assert_eq(covered, bytes[id], "%s", kernel->name);
    }
}

/* S11: what a rank captures under one view is to the byte what it captures under the next. */
Test(capture, S11_a_graph_holds_nothing_of_the_view)
{
    const moe_shape shape = {.max_ranks = 3,
                             .num_layers = 2,
                             .num_experts = 6,
                             .num_slots = 4,
                             .top_k = 2,
                             .hidden = 16,
                             .max_tokens = 4,
                             .dtype = EEP_FP32,
                             .out_dtype = EEP_FP32};
    kernel_world *w = kernel_world_open(&shape, 2);
    uint64_t before;

    kernel_world_switch(w, kernel_view(w, 1, 7, 1, 11));
    before = eepi_graph_fingerprint(w->rank[1].graph);
    kernel_world_fill(w, 1);
    kernel_world_step(w, 1);
    kernel_world_switch(w, kernel_view(w, 2, 6, 1, 12));
    kernel_rank_capture(w, 1);
    cr_assert_eq(eepi_graph_fingerprint(w->rank[1].graph), before);
    kernel_world_close(w);
}

/* ------------------------------------------------------------------ room for those that wait */

static eepi_device_facts eleven_multiprocessors(const void *impl)
{
    (void)impl;
    return (eepi_device_facts){11, 32};
}

Test(capture, ranks_that_wait_take_a_quarter_of_a_device_at_most)
{
    const eepi_device_ops *own = device->ops;
    eepi_device_ops small = *own;

    for (int i = 0; i < 100; i++) {
        OK(eepi_device_take_waiter(device)); /* the host has no such limit */
    }
    for (int i = 0; i < 100; i++) {
        eepi_device_release_waiter(device);
    }
    small.facts = eleven_multiprocessors;
    device->ops = &small;
    OK(eepi_device_take_waiter(device));
    OK(eepi_device_take_waiter(device));
    FAILS(eepi_device_take_waiter(device), EEP_ERR_UNSUPPORTED);
    eepi_device_release_waiter(device);
    OK(eepi_device_take_waiter(device));
    device->ops = own;
}

static eepi_device_facts five_queues(const void *impl)
{
    (void)impl;
    return (eepi_device_facts){.num_multiprocessors = 100, .num_queues = 5};
}

/* Two of each rank, and one more of a rank that places what comes over a network. */
Test(capture, streams_that_ranks_wait_for_have_a_queue_each)
{
    const eepi_device_ops *own = device->ops;
    eepi_device_ops small = *own;

    small.facts = five_queues;
    device->ops = &small;
    OK(eepi_device_take_waiter(device));
    OK(eepi_device_take_stream(device));
    OK(eepi_device_take_waiter(device));
    FAILS(eepi_device_take_stream(device), EEP_ERR_UNSUPPORTED);
    eepi_device_release_waiter(device);
    OK(eepi_device_take_stream(device));
    FAILS(eepi_device_take_waiter(device), EEP_ERR_UNSUPPORTED);
    eepi_device_release_stream(device);
    OK(eepi_device_take_waiter(device));
    eepi_device_release_stream(device);
    device->ops = own;
}

/* ------------------------------------------------------------------ the caller's own capture */

/* A second handle plays the framework that owns the stream and captures it by its own means. */
Test(capture, nodes_go_into_a_capture_of_the_callers_own)
{
    eep_stream *ours;
    eep_graph *graph;
    uint64_t captures;
    int64_t local = 0;
    add_args good = {sum, table, 5}, bad = {sum, &local, 5};

    FAILS(eep_stream_adopt(device, NULL, &ours), EEP_ERR_INVALID);
    OK(eep_stream_adopt(device, eep_stream_native(stream), &ours));
    cr_assert(!eep_stream_is_capturing(ours));
    OK(eep_capture_begin(stream));
    cr_assert(eep_stream_is_capturing(ours));
    FAILS(eep_capture_begin(ours), EEP_ERR_STATE);
    FAILS(eep_stream_synchronize(ours, 1000), EEP_ERR_STATE);
    captures = eep_device_captures(device);
    eepi_device_note_capture(device, ours);
    cr_assert_eq(eep_device_captures(device), captures + 1);
    FAILS(LAUNCH(ours, bad), EEP_ERR_INVALID);
    OK(LAUNCH(ours, good));
    OK(eep_capture_end(stream, &graph));
    cr_assert_eq(eep_graph_num_nodes(graph), 1);
    cr_assert(!eep_stream_is_capturing(ours));
    eepi_device_note_capture(device, ours); /* not captured: nothing to count */
    cr_assert_eq(eep_device_captures(device), captures + 2);
    eep_stream_close(ours);
    OK(eep_graph_replay(graph, stream)); /* the stream is still the caller's */
    OK(eep_stream_synchronize(stream, 1000000));
    cr_assert_eq(*sum, 5);
    eep_graph_close(graph);
}

/* An owner that comes after one that has ended is never taken for it: not even by its address. */
Test(capture, a_graph_remembers_its_owner)
{
    eepi_owner *first = eepi_owner_open(), *second;
    eep_graph *graph;
    add_args args = {sum, table, 5};

    OK(eepi_stream_own(stream, first));
    OK(eep_capture_begin(stream));
    eepi_stream_note_step(stream, first);
    OK(LAUNCH(stream, args));
    OK(eep_capture_end(stream, &graph));
    OK(eep_graph_replay(graph, stream));
    eepi_stream_disown(stream, first);
    eepi_owner_drop(first);
    second = eepi_owner_open();
    OK(eepi_stream_own(stream, second));
    FAILS(eep_graph_replay(graph, stream), EEP_ERR_STATE);
    eepi_stream_disown(stream, second);
    eepi_owner_drop(second);
    eep_graph_close(graph);
}

Test(capture, an_adopted_stream_that_is_closed_ends_only_its_own_capture)
{
    eep_stream *ours;
    add_args args = {sum, table, 5};

    OK(eep_stream_adopt(device, eep_stream_native(stream), &ours));
    OK(eep_capture_begin(ours));
    OK(LAUNCH(ours, args));
    eep_stream_close(ours);
    cr_assert(!eepi_thread_is_capturing());
    OK(LAUNCH(stream, args));
    OK(eep_stream_synchronize(stream, 1000000));
    cr_assert_eq(*sum, 5);
}

/* ---------------------------------------------------------------- the stream of each thread */

static void *native_of_thread(void *impl)
{
    (void)impl;
    return (void *)(uintptr_t)2; /* cudaStreamPerThread */
}

static void *list_stream(void *of)
{
    eepi_stream_list(of);
    return NULL;
}

/* Two rank threads that adopt it have a stream each; two handles of one thread are one stream. */
Test(capture, the_stream_of_each_thread_is_another_one)
{
    const eepi_device_ops ops = {.stream_native = native_of_thread};
    eep_device of = {.ops = &ops, .lock = PTHREAD_MUTEX_INITIALIZER};
    eep_stream here = {.device = &of}, again = {.device = &of}, there = {.device = &of};
    eepi_owner one = {1}, other = {1};
    pthread_t thread;

    eepi_stream_list(&here);
    eepi_stream_list(&again);
    cr_assert_eq(pthread_create(&thread, NULL, list_stream, &there), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    OK(eepi_stream_own(&here, &one));
    OK(eepi_stream_own(&there, &other));
    FAILS(eepi_stream_own(&again, &other), EEP_ERR_STATE);
}
