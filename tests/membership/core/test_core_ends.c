/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a process and the end of its stores (rule P8), in one core, message by message. */
#include "tests/lib/core/one_core.h"

#include <string.h>

enum { MARGIN_US = 50000, DRAIN_BOUND_US = 1000000 };

static void tell_member(int seat, uint32_t generation)
{
    static int32_t experts[] = {0, 1};
    static uint64_t sums[] = {7, 8}, backup;
    eepi_member record = {seat, generation, 1, 0, experts, sums, &backup};
    feed((eepi_input){.kind = EEPI_INPUT_MEMBER, .member = &record});
}

static void open_core(uint64_t margin_us)
{
    eepi_core_config config = {.generation = 1,
                               .num_ranks = RANKS,
                               .drain_bound_us = DRAIN_BOUND_US,
                               .stage_bound_us = DRAIN_BOUND_US,
                               .stores_margin_us = margin_us,
                               .kill_fence = 1,
                               .shape = {RANKS, 1, 2, 2}};
    open_empty(&config);
    for (int seat = 0; seat < RANKS; seat++) {
        tell_member(seat, 1);
    }
    win();
    cr_assert_eq(eepi_view_num_active(eepi_core_view(t.core)), RANKS);
}

static eepi_input about(eepi_input_kind kind, int seat)
{
    return (eepi_input){.kind = kind, .suspect = {seat, 1, EEP_FAULT_EXIT}};
}

/* That sign of a rank's end is seen; this rank drains, and the others up to `last` report. */
static void expel_by(eepi_input_kind sign, int seat, int last)
{
    feed(about(sign, seat));
    feed((eepi_input){.kind = EEPI_INPUT_DRAINED, .step = 7});
    for (int other = 1; other <= last; other++) {
        eepi_report report = {other, 1, eepi_core_view(t.core)->epoch, 7, 0, NULL};
        if (other != seat) {
            feed((eepi_input){.kind = EEPI_INPUT_REPORT, .report = &report});
        }
    }
}

static void expel(int seat, int last)
{
    expel_by(EEPI_INPUT_EVIDENCE, seat, last);
}

static void tick_at(uint64_t time_us)
{
    t.now_us = time_us;
    feed((eepi_input){.kind = EEPI_INPUT_TICK});
}

Test(core_ends, P8_a_first_sign_expels_at_once_and_frees_nothing)
{
    open_core(MARGIN_US);
    expel(3, 2);
    cr_expect_neq(t.committed, 0, "the pause waits for no end");
    cr_expect_eq(t.third, EEP_SEAT_QUARANTINED);
    cr_expect_eq(t.kills, 0);
}

Test(core_ends, P8_without_a_margin_lost_memory_is_all)
{
    open_core(0);
    expel_by(EEPI_INPUT_MEMORY_GONE, 3, 2);
    cr_expect_eq(t.third, EEP_SEAT_VACANT);
    win();
    expel(2, 1);
    cr_expect_neq(t.committed, 0);
}

/* Its other threads may still store: a bell expels, and the second fault waits for its memory. */
Test(core_ends, P8_a_bell_frees_nothing)
{
    open_core(0);
    expel(3, 2);
    cr_expect_eq(t.third, EEP_SEAT_QUARANTINED);
    win();
    expel(2, 1);
    cr_expect_eq(t.committed, 0);
    feed(about(EEPI_INPUT_MEMORY_GONE, 3));
    cr_expect_neq(t.committed, 0);
}

/* The combine copy of the view before: a second fault within the margin waits for it, no longer. */
Test(core_ends, P8_a_second_fault_waits_for_the_margin)
{
    uint64_t gone_us;
    open_core(MARGIN_US);
    expel(3, 2);
    win();
    t.now_us += 2000;
    expel(2, 1);
    cr_expect_eq(t.committed, 0);
    tick_at(t.now_us + 5000);
    cr_expect_eq(t.committed, 0, "its whole end was not seen yet");
    gone_us = t.now_us;
    feed(about(EEPI_INPUT_ENDED, 3));
    cr_expect_eq(t.committed, 0);
    cr_expect_eq(eepi_core_wake_us(t.core), gone_us + MARGIN_US);
    tick_at(gone_us + MARGIN_US - 1);
    cr_expect_eq(t.committed, 0);
    tick_at(gone_us + MARGIN_US);
    cr_expect_neq(t.committed, 0);
    cr_expect_eq(t.third, EEP_SEAT_VACANT);
    cr_expect_eq(t.kills + t.uncovered, 0);
}

/* A process whose end the kernel does not finish: a bound, a text, and no way round it (must 12).
 */
Test(core_ends, P8_who_waits_for_an_end_that_does_not_come_says_so)
{
    open_core(MARGIN_US);
    expel(3, 2);
    win();
    expel(2, 1);
    tick_at(t.now_us + DRAIN_BOUND_US);
    cr_expect_eq(t.committed, 0);
    cr_expect_eq(t.uncovered, 1);
    cr_expect(strstr(t.why, "rank 3 (generation 1) has ended, but its process is not wholly gone"),
              "%s", t.why);
    cr_expect_eq(t.kills, 0, "no kill ends it sooner");
    feed(about(EEPI_INPUT_ENDED, 3));
    tick_at(t.now_us + MARGIN_US);
    cr_expect_neq(t.committed, 0, "and it goes on");
}

/* Its own last word needs no margin: its graph has ended, though its process may live on. */
Test(core_ends, P8_a_rank_may_say_that_its_stores_have_ended)
{
    open_core(MARGIN_US);
    feed((eepi_input){.kind = EEPI_INPUT_EXIT, .end = {3, 1, EEPI_END_STORES}});
    expel(3, 2);
    cr_expect_eq(t.third, EEP_SEAT_VACANT);
    win();
    expel(2, 1);
    cr_expect_neq(t.committed, 0);
}

Test(core_ends, P8_a_seat_is_given_behind_the_margin)
{
    uint64_t told_us;
    open_core(MARGIN_US);
    expel(3, 2);
    win();
    t.now_us += 1000;
    tell_member(3, 2); /* it has the seat, so its predecessor's process is gone (M7) */
    told_us = t.now_us;
    tick_at(told_us + MARGIN_US - 1);
    cr_expect_eq(t.plans, 0, "let in beside stores of its predecessor");
    tick_at(told_us + MARGIN_US);
    cr_expect_eq(t.plans, 1);
}

/* A successor that fails in eep_open says its own end. Its word is about itself: kernels of its
 * predecessor may still store. */
Test(core_ends, P8_a_successors_last_word_frees_no_predecessor)
{
    uint64_t gone_us;
    open_core(MARGIN_US);
    expel(3, 2);
    win();
    gone_us = t.now_us;
    feed(about(EEPI_INPUT_ENDED, 3));
    t.now_us += 3000;
    feed((eepi_input){.kind = EEPI_INPUT_EXIT, .end = {3, 2, EEPI_END_STORES}});
    expel(2, 1);
    cr_expect_eq(t.committed, 0, "the copy is used 3 ms after the end");
    tick_at(gone_us + MARGIN_US);
    cr_expect_neq(t.committed, 0, "its own margin is enough");
}

/* Processes that end in the seat again and again, faster than the margin, hold nothing up. */
Test(core_ends, P8_a_crash_loop_does_not_begin_the_margin_again)
{
    uint64_t gone_us;
    open_core(MARGIN_US);
    expel(3, 2);
    win();
    expel(2, 1);
    gone_us = t.now_us;
    feed(about(EEPI_INPUT_ENDED, 3));
    for (uint32_t generation = 2; t.now_us < gone_us + MARGIN_US - 10000; generation++) {
        t.now_us += 10000;
        feed((eepi_input){.kind = EEPI_INPUT_EXIT, .end = {3, generation, EEPI_END_PROCESS}});
        cr_expect_eq(t.committed, 0);
    }
    tick_at(gone_us + MARGIN_US);
    cr_expect_neq(t.committed, 0);
}

/* A margin longer than the drain bound is waited for, and nobody is told that a process is there.
 */
Test(core_ends, P8_a_long_margin_is_no_failure)
{
    open_core(3 * DRAIN_BOUND_US);
    expel(3, 2);
    win();
    feed(about(EEPI_INPUT_ENDED, 3));
    expel(2, 1);
    tick_at(t.now_us + 2 * DRAIN_BOUND_US);
    cr_expect_eq(t.uncovered + (int)t.committed, 0);
    tick_at(t.now_us + DRAIN_BOUND_US);
    cr_expect_neq(t.committed, 0);
}

/* A view that the store forgot had let generation 2 in; the one that is known names generation 1.
 */
Test(core_ends, P8_a_seat_waits_for_all_that_held_it)
{
    uint64_t told_us;
    open_core(MARGIN_US);
    expel(3, 2);
    win();
    feed(about(EEPI_INPUT_ENDED, 3));
    tick_at(t.now_us + MARGIN_US);
    told_us = t.now_us + 1000;
    t.now_us = told_us;
    tell_member(3, 3); /* so generation 2 has ended, and nobody knows what it launched */
    cr_expect_eq(t.plans, 0);
    tick_at(told_us + MARGIN_US - 1);
    cr_expect_eq(t.plans, 0);
    tick_at(told_us + MARGIN_US);
    cr_expect_eq(t.plans, 1);
}
