/* The device layer on its host backend: order, concurrency, events, bounds, capture and replay. */
#include "eep/device.h"
#include "graphs/device/device_ops.h"
#include "graphs/kernels/kernels.h"
#include "graphs/base/clock.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { LONG_US = 20000000, SHORT_US = 20000 };

static eep_device *device;
static eep_stream *stream, *other;

#define OK(call)            cr_assert_eq((call), EEP_OK)
#define FAILS(call, status) cr_assert_eq((call), (status))
#define LAUNCH(s, k, n, a)  OK(eep_launch((s), (k), (n), 1, &(a), sizeof(a)))
#define FINISH(s)           OK(eep_stream_synchronize((s), LONG_US))

static void set_up(void)
{
    OK(eep_device_open("host", 0, &device));
    OK(eep_stream_open(device, &stream));
    OK(eep_stream_open(device, &other));
}

static void tear_down(void)
{
    eep_stream_close(stream);
    eep_stream_close(other);
    eep_device_close(device);
}

TestSuite(device, .init = set_up, .fini = tear_down, .timeout = 60);

/* A thread's stack that finds no room, as where a limit on threads is reached. */
Test(device, a_stream_without_a_thread_says_which_call_and_which_limits)
{
#if !defined(__SANITIZE_ADDRESS__)
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    cr_assert(file && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    rlim_t most = pages * 4096 + (2 << 20);
    eep_stream *third = NULL;
    cr_assert_eq(setrlimit(RLIMIT_AS, &(struct rlimit){most, most}), 0);
    FAILS(eep_stream_open(device, &third), EEP_ERR_SYSTEM);
    cr_expect(strstr(eep_error_text(), "pthread_create: Resource temporarily unavailable ("), "%s",
              eep_error_text());
    cr_expect(strstr(eep_error_text(), "ulimit -u: "), "%s", eep_error_text());
    cr_expect(strstr(eep_error_text(), "ulimit -v: limit "), "%s", eep_error_text());
#endif
}

/* ------------------------------------------------------------------ kernels of the tests */

typedef struct log_args { /* appends value to log */
    uint32_t *log, *length;
    uint32_t value;
} log_args;
static void log_body(const void *args, eep_grid grid)
{
    const log_args *a = args;

    (void)grid;
    a->log[(*a->length)++] = a->value;
}
static const eep_kernel log_kernel = EEP_KERNEL("log", log_body, NULL, NULL, 0);

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

typedef struct gate {
    uint32_t entered, open;
} gate;
/* Put a gate into the stream and wait until its worker stands before it. */
static void gate_shut(gate *g, eep_stream *s)
{
    gate_args args = {&g->entered, &g->open};

    LAUNCH(s, &gate_kernel, 1, args);
    while (!__atomic_load_n(&g->entered, __ATOMIC_ACQUIRE)) {
        sched_yield();
    }
}
static void gate_open(gate *g)
{
    __atomic_store_n(&g->open, 1, __ATOMIC_RELEASE);
}

typedef struct add_args { /* sum += value + *pointer */
    int64_t *sum;
    const int64_t *pointer;
    int64_t value;
} add_args;
static void add_body(const void *args, eep_grid grid)
{
    const add_args *a = args;

    (void)grid;
    *a->sum += a->value + *a->pointer;
}
static const eep_kernel add_kernel = EEP_KERNEL("add", add_body, NULL, NULL, 0);

/* ------------------------------------------------------------------ opening */

Test(device, unknown_backend_is_refused_with_a_text)
{
    eep_device *opened = NULL;

    FAILS(eep_device_open("abacus", 0, &opened), EEP_ERR_INVALID);
    cr_assert_null(opened);
    cr_assert(strstr(eep_device_error_text(), "\"abacus\""), "%s", eep_device_error_text());
    FAILS(eep_device_open(NULL, 0, &opened), EEP_ERR_INVALID);
    FAILS(eep_device_open("host", 1, &opened), EEP_ERR_UNSUPPORTED);
    cr_assert(strstr(eep_device_error_text(), "number 0, not 1"), "%s", eep_device_error_text());
    OK(eep_device_open("host", 0, &opened));
    cr_assert_str_empty(eep_device_error_text());
    cr_assert_str_eq(eep_device_backend(opened), "host");
    eep_device_close(opened);
    eep_device_close(NULL);
}

Test(device, missing_plugin_or_hardware_is_named)
{
    eep_device *opened = NULL;

    FAILS(eep_device_open("cuda", 100000, &opened), EEP_ERR_UNSUPPORTED);
    cr_assert_null(opened);
    cr_assert_str_not_empty(eep_device_error_text());
    cr_assert(strcasestr(eep_device_error_text(), "cuda"), "%s", eep_device_error_text());
}

static void *read_error_text(void *user)
{
    *(size_t *)user = strlen(eep_device_error_text());
    return NULL;
}

Test(device, error_text_belongs_to_the_thread)
{
    eep_device *opened = NULL;
    pthread_t thread;
    size_t length = 99;

    FAILS(eep_device_open("abacus", 0, &opened), EEP_ERR_INVALID);
    cr_assert_eq(pthread_create(&thread, NULL, read_error_text, &length), 0);
    pthread_join(thread, NULL);
    cr_assert_eq(length, 0);
    cr_assert_str_not_empty(eep_device_error_text());
}

Test(device, devices_are_counted)
{
    cr_assert_eq(eep_device_count("host"), 1);
    cr_assert_eq(eep_device_count("nothing"), 0);
    cr_assert_str_not_empty(eep_device_error_text());
    cr_assert_eq(eep_device_ordinal(device), 0);
}

Test(device, kernels_of_the_library_are_listed)
{
    for (uint32_t id = 0; id < EEPI_NUM_KERNELS; id++) {
        cr_assert_not_null(eepi_device_kernel(device, id)->host);
    }
    cr_assert_str_eq(eepi_device_kernel(device, EEPI_KERNEL_flip)->name, "flip");
    cr_assert_null(eepi_device_kernel(device, EEPI_NUM_KERNELS));
}

Test(device, memory_is_aligned_and_zeroed)
{
    static const size_t sizes[] = {1, 127, 128, 129, 100000};

    for (size_t i = 0; i < 2 * sizeof sizes / sizeof sizes[0]; i++) {
        eep_memory kind = i % 2 ? EEP_MEMORY_PINNED : EEP_MEMORY_DEVICE;
        void *memory = NULL;

        OK(eep_device_alloc(device, kind, sizes[i / 2], &memory));
        cr_assert_eq((uintptr_t)memory % 128, 0);
        for (size_t b = 0; b < sizes[i / 2]; b++) {
            cr_assert_eq(((uint8_t *)memory)[b], 0);
        }
        memset(memory, 0xa5, sizes[i / 2]); /* so that a reused block would show */
        eep_device_free(device, kind, memory);
    }
}

Test(device, impossible_memory_is_refused)
{
    void *memory = &device;

    FAILS(eep_device_alloc(device, EEP_MEMORY_DEVICE, 0, &memory), EEP_ERR_INVALID);
    FAILS(eep_device_alloc(device, (eep_memory)7, 8, &memory), EEP_ERR_INVALID);
    FAILS(eep_device_alloc(device, EEP_MEMORY_DEVICE, SIZE_MAX, &memory), EEP_ERR_NO_MEMORY);
    cr_assert_eq(memory, &device); /* outputs only on success */
    eep_device_free(device, EEP_MEMORY_DEVICE, NULL);
}

/* ------------------------------------------------------------------ streams */

Test(device, a_stream_keeps_its_order_through_a_full_ring)
{
    enum { N = 5000 }; /* several times the ring */
    uint32_t *log = calloc(N, sizeof *log), length = 0;

    for (uint32_t i = 0; i < N; i++) {
        log_args args = {log, &length, i};
        LAUNCH(stream, &log_kernel, 1, args);
    }
    FINISH(stream);
    cr_assert_eq(length, N);
    for (uint32_t i = 0; i < N; i++) {
        cr_assert_eq(log[i], i);
    }
    free(log);
}

Test(device, copies_keep_their_place_between_launches)
{
    int64_t sum = 0, zero = 0, copied = -1;
    add_args add = {&sum, &zero, 5};

    LAUNCH(stream, &add_kernel, 1, add);
    OK(eep_copy_async(stream, &copied, &sum, sizeof sum));
    LAUNCH(stream, &add_kernel, 1, add);
    OK(eep_copy_async(stream, NULL, NULL, 0));
    FINISH(stream);
    cr_assert_eq(copied, 5);
    cr_assert_eq(sum, 10);
}

Test(device, two_streams_run_beside_each_other)
{
    gate first = {0, 0}, second = {0, 0};

    gate_shut(&first, stream); /* returns only when both stand in their kernels at once */
    gate_shut(&second, other);
    gate_open(&second);
    FINISH(other); /* though the first stream still stands */
    FAILS(eep_stream_synchronize(stream, 1000), EEP_ERR_TIMEOUT);
    gate_open(&first);
    FINISH(stream);
}

typedef struct seen_args {
    uint32_t *seen;
} seen_args;
static void seen_body(const void *args, eep_grid grid)
{
    const seen_args *a = args;

    if (grid.num_blocks == 10000 && grid.thread == 0 && grid.num_threads == 1) {
        a->seen[grid.block]++;
    }
}

Test(device, every_block_runs_once)
{
    static const eep_kernel kernel = EEP_KERNEL("seen", seen_body, NULL, NULL, 0);
    uint32_t *seen = calloc(10000, sizeof *seen);
    seen_args args = {seen};

    OK(eep_launch(stream, &kernel, 10000, 256, &args, sizeof args));
    FINISH(stream);
    for (int i = 0; i < 10000; i++) {
        cr_assert_eq(seen[i], 1);
    }
    free(seen);
}

Test(device, bad_launches_are_refused)
{
    static const eep_kernel no_host = EEP_KERNEL("no_host", NULL, NULL, NULL, 0);
    uint8_t args[EEP_KERNEL_ARGS_MAX_BYTES + 1] = {0};

    FAILS(eep_launch(stream, &no_host, 1, 1, args, 8), EEP_ERR_UNSUPPORTED);
    FAILS(eep_launch(stream, NULL, 1, 1, args, 8), EEP_ERR_INVALID);
    FAILS(eep_launch(stream, &log_kernel, 0, 1, args, 8), EEP_ERR_INVALID);
    FAILS(eep_launch(stream, &log_kernel, 1, 0, args, 8), EEP_ERR_INVALID);
    FAILS(eep_launch(stream, &log_kernel, 1, 1, NULL, 8), EEP_ERR_INVALID);
    FAILS(eep_launch(stream, &log_kernel, 1, 1, args, sizeof args), EEP_ERR_INVALID);
    FAILS(eep_copy_async(stream, NULL, args, 8), EEP_ERR_INVALID);
    FINISH(stream);
}

typedef struct full_args {
    uint8_t bytes[EEP_KERNEL_ARGS_MAX_BYTES - 8];
    uint32_t *sum;
} full_args;
static void full_body(const void *args, eep_grid grid)
{
    const full_args *a = args;

    (void)grid;
    for (size_t i = 0; i < sizeof a->bytes; i++) {
        *a->sum += a->bytes[i];
    }
}

Test(device, the_largest_arguments_are_copied_at_launch)
{
    static const eep_kernel kernel = EEP_KERNEL("full", full_body, NULL, NULL, 0);
    uint32_t sum = 0;
    full_args args = {.sum = &sum};
    gate g = {0, 0};

    static_assert(sizeof args == EEP_KERNEL_ARGS_MAX_BYTES, "the largest");
    memset(args.bytes, 1, sizeof args.bytes);
    gate_shut(&g, stream);
    LAUNCH(stream, &kernel, 1, args);
    memset(args.bytes, 9, sizeof args.bytes); /* after the call, before the kernel */
    gate_open(&g);
    FINISH(stream);
    cr_assert_eq(sum, sizeof args.bytes);
}

static void note_thread(void *user)
{
    *(pthread_t *)user = pthread_self();
}

Test(device, a_function_runs_on_the_worker)
{
    pthread_t first = pthread_self(), second = pthread_self(), third = pthread_self();

    OK(eepi_stream_run_on_worker(stream, note_thread, &first));
    OK(eepi_stream_run_on_worker(stream, note_thread, &second));
    OK(eepi_stream_run_on_worker(other, note_thread, &third));
    FINISH(stream);
    FINISH(other);
    cr_assert(!pthread_equal(first, pthread_self()));
    cr_assert(pthread_equal(first, second));
    cr_assert(!pthread_equal(first, third));
}

Test(device, close_finishes_what_is_in_the_stream)
{
    int64_t sum = 0, zero = 0;
    add_args add = {&sum, &zero, 1};
    eep_stream *closed;

    OK(eep_stream_open(device, &closed));
    for (int i = 0; i < 500; i++) {
        LAUNCH(closed, &add_kernel, 1, add);
    }
    eep_stream_close(closed);
    eep_stream_close(NULL);
    cr_assert_eq(sum, 500);
}

/* ------------------------------------------------------------------ bounds */

Test(device, timeouts_are_bounded)
{
    uint64_t from = eepi_now_us(), waited;
    eep_event *event;
    gate g = {0, 0};

    OK(eep_event_open(device, &event));
    gate_shut(&g, stream);
    OK(eep_event_record(event, stream));
    FAILS(eep_stream_synchronize(stream, 0), EEP_ERR_TIMEOUT);
    from = eepi_now_us();
    FAILS(eep_stream_synchronize(stream, SHORT_US), EEP_ERR_TIMEOUT);
    FAILS(eep_event_synchronize(event, SHORT_US), EEP_ERR_TIMEOUT);
    waited = eepi_now_us() - from;
    cr_assert(waited >= 2 * SHORT_US && waited < LONG_US / 2, "%lu us", (unsigned long)waited);
    gate_open(&g);
    OK(eep_stream_synchronize(stream, UINT64_MAX));
    OK(eep_event_synchronize(event, 0));
    eep_event_close(event);
}

Test(device, a_full_stream_refuses_after_its_limit)
{
    int64_t sum = 0, zero = 0;
    add_args add = {&sum, &zero, 1};
    gate g = {0, 0};
    int64_t accepted = 0;
    eep_status status = EEP_OK;

    OK(eepi_stream_set_limit(stream, SHORT_US));
    gate_shut(&g, stream);
    while (status == EEP_OK && accepted < 100000) {
        status = eep_launch(stream, &add_kernel, 1, 1, &add, sizeof add);
        accepted += status == EEP_OK;
    }
    cr_assert_eq(status, EEP_ERR_TIMEOUT);
    gate_open(&g);
    FINISH(stream); /* the refused one is not in it, all others are, and it goes on */
    cr_assert_eq(sum, accepted);
    LAUNCH(stream, &add_kernel, 1, add);
    FINISH(stream);
    cr_assert_eq(sum, accepted + 1);
}

Test(device, a_stream_that_waits_too_long_for_an_event_fails)
{
    int64_t sum = 0, zero = 0;
    add_args add = {&sum, &zero, 1};
    eep_event *event;
    gate g = {0, 0};

    OK(eepi_stream_set_limit(other, SHORT_US));
    OK(eep_event_open(device, &event));
    gate_shut(&g, stream);
    OK(eep_event_record(event, stream));
    OK(eep_stream_wait_event(other, event));
    LAUNCH(other, &add_kernel, 1, add);
    FAILS(eep_stream_synchronize(other, LONG_US), EEP_ERR_DEVICE);
    FAILS(eep_launch(other, &add_kernel, 1, 1, &add, sizeof add), EEP_ERR_DEVICE);
    gate_open(&g);
    FINISH(stream); /* it was not at fault */
    cr_assert_eq(sum, 0);
    eep_event_close(event);
}

/* ------------------------------------------------------------------ events */

Test(device, an_event_orders_two_streams)
{
    uint32_t log[2] = {0, 0}, length = 0;
    log_args first = {log, &length, 1}, second = {log, &length, 2};
    eep_event *event;
    gate g = {0, 0};

    OK(eep_event_open(device, &event));
    OK(eep_stream_wait_event(other, event)); /* never recorded: at once */
    FINISH(other);
    OK(eep_event_synchronize(event, 0));

    gate_shut(&g, stream);
    LAUNCH(stream, &log_kernel, 1, first);
    OK(eep_event_record(event, stream));
    OK(eep_stream_wait_event(other, event));
    LAUNCH(other, &log_kernel, 1, second);
    FAILS(eep_stream_synchronize(other, SHORT_US), EEP_ERR_TIMEOUT);
    gate_open(&g);
    FINISH(other);
    cr_assert_eq(length, 2);
    cr_assert_eq(log[0], 1);
    cr_assert_eq(log[1], 2);
    eep_event_close(event);
}

Test(device, an_event_means_its_last_record_and_a_wait_the_record_it_saw)
{
    eep_stream *third;
    eep_event *event;
    gate first = {0, 0};

    OK(eep_stream_open(device, &third));
    OK(eep_event_open(device, &event));
    gate_shut(&first, stream);
    OK(eep_event_record(event, stream));
    OK(eep_stream_wait_event(third, event));
    OK(eep_event_record(event, other)); /* `other` is empty: this record is done */
    OK(eep_event_synchronize(event, LONG_US));
    FAILS(eep_stream_synchronize(third, SHORT_US), EEP_ERR_TIMEOUT); /* waits for the first */
    gate_open(&first);
    FINISH(third);
    eep_stream_close(third);
    eep_event_close(event);
}

Test(device, an_event_outlives_its_stream_and_a_wait_its_event)
{
    eep_stream *closed;
    eep_event *event;
    gate g = {0, 0};

    OK(eep_stream_open(device, &closed));
    OK(eep_event_open(device, &event));
    gate_shut(&g, closed);
    OK(eep_event_record(event, closed));
    OK(eep_stream_wait_event(stream, event));
    gate_open(&g);
    eep_stream_close(closed);
    OK(eep_event_synchronize(event, 0));
    eep_event_close(event);
    FINISH(stream);
    eep_event_close(NULL);
}

Test(device, a_ping_pong_of_events_keeps_order)
{
    enum { ROUNDS = 1000 };
    uint32_t log[2 * ROUNDS], length = 0;
    eep_event *event;

    OK(eep_event_open(device, &event));
    for (uint32_t i = 0; i < 2 * ROUNDS; i++) {
        eep_stream *now = i % 2 ? other : stream, *next = i % 2 ? stream : other;
        log_args args = {log, &length, i};

        LAUNCH(now, &log_kernel, 1, args);
        OK(eep_event_record(event, now));
        OK(eep_stream_wait_event(next, event));
    }
    OK(eep_event_synchronize(event, LONG_US));
    cr_assert_eq(length, 2 * ROUNDS);
    for (uint32_t i = 0; i < 2 * ROUNDS; i++) {
        cr_assert_eq(log[i], i);
    }
    eep_event_close(event);
}

Test(device, events_and_streams_of_different_devices_do_not_mix)
{
    eep_device *foreign;
    eep_event *event;

    OK(eep_device_open("host", 0, &foreign));
    OK(eep_event_open(foreign, &event));
    FAILS(eep_event_record(event, stream), EEP_ERR_INVALID);
    FAILS(eep_stream_wait_event(stream, event), EEP_ERR_INVALID);
    eep_event_close(event);
    eep_device_close(foreign);
}

/* ------------------------------------------------------------------ capture and replay */

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
