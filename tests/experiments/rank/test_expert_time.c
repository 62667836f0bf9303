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

static uint64_t took_us(const int32_t *slot_begin)
{
    const model_words words = {&running, &given_up, &aborted};
    const uint64_t from_us = eepi_now_us();

    running = given_up + 1;
    OK(expert_time_put(stream, slot_begin, SLOTS, ROW_US, &words));
    FINISH(stream);
    return eepi_now_us() - from_us;
}

Test(expert_time, as_long_as_all_rows_of_the_rank)
{
    static const int32_t rows[SLOTS + 1] = {0, 4, 4, 10};

    cr_assert_geq(took_us(rows), 10 * ROW_US);
}

/* A node that took the shape of the batch for its rows would wait here. */
Test(expert_time, a_rank_without_rows_does_not_wait)
{
    static const int32_t none[SLOTS + 1] = {0, 0, 0, 0};
    uint64_t least_us = UINT64_MAX;

    for (int i = 0; i < 10; i++) {
        const uint64_t us = took_us(none);
        least_us = us < least_us ? us : least_us;
    }
    cr_assert_lt(least_us, ROW_US);
}

static void *give_up(void *unused)
{
    const struct timespec pause = {0, 5000000};

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

    running = 1;
    cr_assert_eq(pthread_create(&thread, NULL, give_up, NULL), 0);
    us = took_us(many);
    pthread_join(thread, NULL);
    cr_assert_lt(us, 5000 * ROW_US / 2);
}
