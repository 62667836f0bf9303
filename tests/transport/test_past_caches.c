/* SPDX-License-Identifier: Apache-2.0 */
/* Copies past the caches, against memcpy. */
#include "graphs/base/past_caches.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

enum { LINE = 64, MOST = 5 * LINE, ROOM = MOST + 2 * LINE };

static void fill(unsigned char *bytes, size_t size, int seed)
{
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (unsigned char)(i * 131 + (size_t)seed);
    }
}

/* Every place in a line at either end, and every size up to some lines. */
Test(past_caches, a_copy_is_that_of_memcpy_and_touches_nothing_else)
{
    _Alignas(LINE) static unsigned char from[ROOM], to[ROOM], expected[ROOM];

    fill(from, sizeof from, 7);
    for (size_t at = 0; at < LINE; at++) {
        for (size_t size = 0; size <= MOST; size++) {
            const size_t source = (at * 5 + size) % LINE;
            fill(to, sizeof to, 100);
            fill(expected, sizeof expected, 100);
            memcpy(expected + at, from + source, size);
            eepi_past_caches_copy(to + at, from + source, size);
            cr_assert_eq(memcmp(to, expected, sizeof to), 0, "%zu bytes at byte %zu of a line",
                         size, at);
        }
    }
}

enum { PASSES = 200, BYTES = 16 * LINE };
static _Alignas(LINE) unsigned char shared[BYTES];
static unsigned long passed, answered;

static void *copy_again_and_again(void *unused)
{
    unsigned char bytes[BYTES];

    for (unsigned long pass = 1; pass <= PASSES; pass++) {
        memset(bytes, (int)(pass % 251), sizeof bytes);
        eepi_past_caches_copy(shared, bytes, sizeof bytes);
        eepi_past_caches_order();
        __atomic_store_n(&passed, pass, __ATOMIC_RELEASE);
        while (__atomic_load_n(&answered, __ATOMIC_ACQUIRE) != pass) {
            sched_yield();
        }
    }
    return unused;
}

Test(past_caches, who_sees_the_store_behind_the_order_sees_the_copy)
{
    pthread_t thread;
    unsigned long wrong = 0;

    cr_assert_eq(pthread_create(&thread, NULL, copy_again_and_again, NULL), 0);
    for (unsigned long pass = 1; pass <= PASSES; pass++) {
        while (__atomic_load_n(&passed, __ATOMIC_ACQUIRE) != pass) {
            sched_yield();
        }
        for (size_t i = 0; i < BYTES; i++) {
            wrong += shared[i] != pass % 251;
        }
        __atomic_store_n(&answered, pass, __ATOMIC_RELEASE);
    }
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(wrong, 0, "%lu bytes were of an earlier pass", wrong);
}

typedef struct world {
    uint64_t plain_ns, past_ns;
    int interrupted; /* each such copy takes a millisecond more; 0: none */
} world;

/* How many of `num` copies go past the caches. */
static int copies_past(eepi_copy_times *times, const world *at, int num)
{
    int past = 0;

    for (int i = 1; i <= num; i++) {
        const bool goes_past = eepi_copy_goes_past(times);
        const uint64_t more_ns = at->interrupted > 0 && i % at->interrupted == 0 ? 1000000 : 0;
        past += goes_past;
        eepi_copy_took(times, goes_past, (goes_past ? at->past_ns : at->plain_ns) + more_ns);
    }
    return past;
}

static const world near = {30000, 26000, 0}, far = {215000, 30000, 0},
                   near_busy = {30000, 26000, 9}, far_busy = {215000, 30000, 9};

Test(past_caches, the_quicker_copy_is_made_and_the_other_tried_now_and_then)
{
    eepi_copy_times times = {0};

    cr_expect_leq(copies_past(&times, &near, 1000), 10);
    cr_expect_geq(copies_past(&times, &near, 1000), 1);
    times = (eepi_copy_times){0};
    cr_expect_geq(copies_past(&times, &far, 1000), 990);
    cr_expect_lt(copies_past(&times, &far, 1000), 1000);
}

Test(past_caches, who_moves_is_followed)
{
    eepi_copy_times times = {0};

    (void)copies_past(&times, &near, 5000);
    (void)copies_past(&times, &far, 50);
    cr_expect_geq(copies_past(&times, &far, 1000), 990);
    (void)copies_past(&times, &near, 300);
    cr_expect_leq(copies_past(&times, &near, 1000), 10);
}

Test(past_caches, interrupted_copies_count_little)
{
    eepi_copy_times times = {0};

    (void)copies_past(&times, &near_busy, 1000);
    cr_expect_leq(copies_past(&times, &near_busy, 10000), 500);
    times = (eepi_copy_times){0};
    (void)copies_past(&times, &far_busy, 1000);
    cr_expect_geq(copies_past(&times, &far_busy, 10000), 9900);
}

Test(past_caches, a_clock_that_stands_still_does_no_harm)
{
    const world still = {0, 0, 0};
    eepi_copy_times times = {0};

    cr_expect_lt(copies_past(&times, &still, 1000), 1000);
}
