/* SPDX-License-Identifier: Apache-2.0 */
/* Streams and events of the host backend: order, launches, copies, bounds. */
#include "tests/lib/device_fixture.h"

#include "graphs/base/clock.h"
#include "graphs/device/device_ops.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#if !defined(__SANITIZE_ADDRESS__)
static unsigned long pages_mapped(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    cr_assert(file && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    return pages;
}
#endif

/* A thread's stack that finds no room, as where a limit on threads is reached. */
Test(device, a_stream_without_a_thread_says_which_call_and_which_limits)
{
#if !defined(__SANITIZE_ADDRESS__)
    /* the streams' threads may map an arena at this moment, of which malloc gives a half back; they
     * have begun before that is looked at */
    const struct timespec nap = {0, 5000000};
    pthread_t threads[2];
    OK(eepi_stream_run_on_worker(stream, note_thread, &threads[0]));
    OK(eepi_stream_run_on_worker(other, note_thread, &threads[1]));
    FINISH(stream);
    FINISH(other);
    unsigned long pages = pages_mapped(), before;
    do {
        before = pages;
        nanosleep(&nap, NULL);
        pages = pages_mapped();
    } while (pages != before);
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
    uint64_t from, waited;
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
    gate g = {0, 0}, begin = {0, 0};

    OK(eepi_stream_set_limit(other, SHORT_US));
    OK(eep_event_open(device, &event));
    gate_shut(&g, stream);
    gate_shut(&begin, other); /* so that the launch is in the stream before its wait begins */
    OK(eep_event_record(event, stream));
    OK(eep_stream_wait_event(other, event));
    LAUNCH(other, &add_kernel, 1, add);
    gate_open(&begin);
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
