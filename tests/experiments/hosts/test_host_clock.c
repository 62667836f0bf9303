/* SPDX-License-Identifier: Apache-2.0 */
/* Times of another host by our clock. */
#include "experiments/hosts/host_clock.h"

#include "experiments/wire/wire.h"

#include <criterion/criterion.h>

static const uint64_t AHEAD_NS = 864000000000000; /* ten days */

/* A question that takes `there` ns there and `back` ns back. */
static void ask(host_clock *clock, uint64_t at_ns, uint64_t there_ns, uint64_t back_ns)
{
    host_clock_add(clock, at_ns, at_ns + there_ns + back_ns, at_ns + there_ns + AHEAD_NS);
}

Test(host_clock, the_quickest_answer_counts)
{
    host_clock clock = {.num = 0};
    cr_assert_eq(host_clock_ours(&clock, 77), 77, "nothing is known yet");
    ask(&clock, 1000000, 900000, 100000);
    cr_assert_eq(host_clock_ours(&clock, AHEAD_NS + 5000000), 5000000 - 400000, "half of 0.8 ms");
    ask(&clock, 3000000, 20000, 20000);
    cr_assert_eq(host_clock_ours(&clock, AHEAD_NS + 5000000), 5000000);
    cr_assert_eq(clock.took_ns, 40000);
    ask(&clock, 5000000, 10000, 500000);
    cr_assert_eq(host_clock_ours(&clock, AHEAD_NS + 5000000), 5000000,
                 "a slow one changes nothing");
    cr_assert_eq(host_clock_ours(&clock, 0), 0, "0 means never");
}

Test(host_clock, old_answers_are_forgotten)
{
    host_clock clock = {.num = 0};
    ask(&clock, 1000000, 20000, 20000);
    for (uint64_t i = 1; i <= HOST_CLOCK_SAMPLES; i++) { /* their clock runs faster meanwhile */
        host_clock_add(&clock, i * 2000000, i * 2000000 + 100000,
                       i * 2000000 + 50000 + AHEAD_NS + 7000);
    }
    cr_assert_eq(host_clock_ours(&clock, AHEAD_NS + 5007000), 5000000);
}

Test(host_clock, a_clock_that_is_behind_is_no_other_case)
{
    host_clock clock = {.num = 0};
    host_clock_add(&clock, AHEAD_NS, AHEAD_NS + 10, 5);
    cr_assert_eq(host_clock_ours(&clock, 1000), AHEAD_NS + 1000);
}

Test(host_clock, all_times_of_a_packet_are_translated)
{
    host_clock clock = {.num = 0};
    ask(&clock, 1000, 10, 10);
    wire_step step = {.header = {WIRE_STEP, sizeof step},
                      .step = AHEAD_NS + 1,
                      .begin_ns = AHEAD_NS + 1,
                      .end_ns = AHEAD_NS + 2};
    host_clock_translate(&clock, &step, sizeof step);
    cr_assert(step.begin_ns == 1 && step.end_ns == 2 && step.step == AHEAD_NS + 1);
    wire_startup startup = {.header = {WIRE_STARTUP, sizeof startup},
                            .main_ns = AHEAD_NS + 3,
                            .captured_ns = AHEAD_NS + 4};
    host_clock_translate(&clock, &startup, sizeof startup);
    cr_assert(startup.main_ns == 3 && startup.captured_ns == 4 && startup.open_ns == 0);
    wire_event event = {.header = {WIRE_EVENT, sizeof event}, .record.time_ns = AHEAD_NS + 5};
    host_clock_translate(&clock, &event, sizeof event);
    cr_assert_eq(event.record.time_ns, 5);
    wire_joined joined = {.header = {WIRE_JOINED, sizeof joined}, .time_ns = AHEAD_NS + 6};
    host_clock_translate(&clock, &joined, sizeof joined - 1);
    cr_assert_eq(joined.time_ns, AHEAD_NS + 6, "a packet that is too short is left alone");
    host_clock_translate(&clock, &joined, sizeof joined);
    cr_assert_eq(joined.time_ns, 6);
}
