/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated expert time: a rank waits for its rows, and for no others. */
#include "experiments/model/expert_time.h"
#include "graphs/base/clock.h"
#include "tests/lib/device_fixture.h"

#include <pthread.h>
#include <time.h>

enum { SLOTS = 3, ROW_US = 2000 };

TestSuite(expert_time, .init = device_set_up, .fini = device_tear_down);

static uint64_t running, given_up;
static uint32_t aborted;

static uint64_t took_us(const int32_t *slot_begin, int32_t row_us)
{
    const model_words words = {&running, &given_up, &aborted};
    const uint64_t from_us = eepi_now_us();

    __atomic_store_n(&running, given_up + 1, __ATOMIC_RELEASE);
    OK(expert_time_put(stream, slot_begin, SLOTS, row_us, &words));
    FINISH(stream);
    return eepi_now_us() - from_us;
}

Test(expert_time, as_long_as_all_rows_of_the_rank)
{
    static const int32_t rows[SLOTS + 1] = {0, 4, 4, 10};

    cr_assert_geq(took_us(rows, ROW_US), 10 * ROW_US);
}

/* A node that took the shape of the batch for its rows would wait here: for two seconds, which a
 * busy machine does not take for nothing. */
Test(expert_time, a_rank_without_rows_does_not_wait)
{
    static const int32_t none[SLOTS + 1] = {0, 0, 0, 0};
    const int32_t row_us = 1000 * ROW_US;

    for (int i = 0; i < 10; i++) {
        cr_assert_lt(took_us(none, row_us), (uint64_t)row_us);
    }
}

/* A while after the step has begun: what was given up before that is an older step. */
static void *give_up(void *unused)
{
    const struct timespec pause = {0, 5000000};

    while (__atomic_load_n(&running, __ATOMIC_ACQUIRE) == 0) {
        nanosleep(&pause, NULL);
    }
    nanosleep(&pause, NULL);
    __atomic_store_n(&given_up, running, __ATOMIC_RELEASE);
    return unused;
}

/* Ten seconds, cut off. */
Test(expert_time, no_longer_than_until_the_step_is_given_up)
{
    static const int32_t many[SLOTS + 1] = {0, 5000, 5000, 5000};
    pthread_t thread;
    uint64_t us;

    cr_assert_eq(pthread_create(&thread, NULL, give_up, NULL), 0);
    us = took_us(many, ROW_US);
    pthread_join(thread, NULL);
    cr_assert_lt(us, 5000 * ROW_US / 2);
}
