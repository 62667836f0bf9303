/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated expert time: a rank waits for its rows, and for no others. */
#include "experiments/model/expert_time.h"
#include "graphs/base/clock.h"
#include "tests/lib/device_fixture.h"

enum { SLOTS = 3, ROW_US = 2000 };

TestSuite(expert_time, .init = device_set_up, .fini = device_tear_down);

static uint64_t took_us(const int32_t *slot_begin)
{
    const uint64_t from_us = eepi_now_us();

    OK(expert_time_put(stream, slot_begin, SLOTS, ROW_US));
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
