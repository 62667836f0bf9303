/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a process, the proof that it stores no more (rule P8), and the colours of windows
 * (P7), in one core, message by message. */
#include "tests/lib/core/one_core.h"

#include <string.h>

enum { DRAIN_BOUND_US = 1000000, RENEW_AFTER_US = 100000, STAGE_BOUND_US = 1000000 };

static void tell_member(int seat, uint32_t generation)
{
    static int32_t experts[] = {0, 1};
    static uint64_t sums[] = {7, 8}, backup;
    eepi_member record = {seat, generation, 1, 0, experts, sums, &backup};
    feed((eepi_input){.kind = EEPI_INPUT_MEMBER, .member = &record});
}

static void open_core(bool end_is_proof)
{
    eepi_core_config config = {.generation = 1,
                               .num_ranks = RANKS,
                               .drain_bound_us = DRAIN_BOUND_US,
                               .stage_bound_us = STAGE_BOUND_US,
                               .end_is_proof = end_is_proof,
                               .kill_fence = 1,
                               .shape = {RANKS, 1, 2, 2}};
    open_empty(&config);
    for (int seat = 0; seat < RANKS; seat++) {
        tell_member(seat, 1);
    }
    win();
    cr_assert_eq(eepi_view_num_active(eepi_core_view(t.core)), RANKS);
    cr_assert_eq(eepi_core_view(t.core)->colour, 0);
}

static eepi_input about(eepi_input_kind kind, int seat)
{
    return (eepi_input){.kind = kind, .suspect = {seat, 1, EEP_FAULT_EXIT}};
}

static void report(int last, int but)
{
    feed((eepi_input){.kind = EEPI_INPUT_DRAINED, .step = 7});
    for (int other = 1; other <= last; other++) {
        eepi_report said = {other, 1, eepi_core_view(t.core)->epoch, 7, 0, NULL};
        if (other != but) {
            feed((eepi_input){.kind = EEPI_INPUT_REPORT, .report = &said});
        }
    }
}

/* That sign of a rank's end is seen; this rank drains, and the others up to `last` report. */
static void expel_by(eepi_input_kind sign, int seat, int last)
{
    feed(about(sign, seat));
    report(last, seat);
}

static void expel(int seat, int last)
{
    expel_by(EEPI_INPUT_EVIDENCE, seat, last);
}

static void tick_after(uint64_t us)
{
    t.now_us += us;
    feed((eepi_input){.kind = EEPI_INPUT_TICK});
}

static void acknowledge(eepi_ack_kind kind, int last, uint64_t digest)
{
    const uint64_t epoch = eepi_core_view(t.core)->epoch + (kind == EEPI_ACK_STAGED);
    feed((eepi_input){.kind = EEPI_INPUT_STAGED, .digest = digest});
    for (int seat = 0; seat <= last; seat++) {
        eepi_ack ack = {seat, 1, kind, epoch, digest};
        feed((eepi_input){.kind = EEPI_INPUT_ACK, .ack = &ack});
    }
}

/* All up to `last` have staged the plan, and it is committed and live here. */
static void carry_out(int last)
{
    const uint64_t digest = t.plan_digest;
    acknowledge(EEPI_ACK_STAGED, last, digest);
    win();
    cr_assert_eq(eepi_core_view(t.core)->digest, digest);
    feed((eepi_input){.kind = EEPI_INPUT_FLIPPED, .digest = digest});
}

static const eepi_view_seat *seat_3(void)
{
    return eepi_view_seat_at(eepi_core_view(t.core), 3);
}

/* ------------------------------------------------------------------ proofs (P8) */

Test(core_ends, P8_a_first_sign_expels_at_once_and_frees_nothing)
{
    for (int proof = 0; proof < 2; proof++) {
        open_core(proof);
        expel(3, 2);
        cr_expect_neq(t.committed, 0, "the pause waits for no end");
        cr_expect_eq(t.third, EEP_SEAT_QUARANTINED);
        cr_expect_eq(t.colour, 1);
        win();
        cr_expect_eq(seat_3()->reach, 1, "its kernels store into colour 0");
        eepi_core_close(t.core);
    }
    cr_expect_eq(t.kills, 0);
}

Test(core_ends, P8_on_the_host_lost_memory_is_proof)
{
    open_core(true);
    expel_by(EEPI_INPUT_MEMORY_GONE, 3, 2);
    cr_expect_eq(t.third, EEP_SEAT_VACANT);
    win();
    cr_expect_eq(seat_3()->reach, 0);
    expel(2, 1);
    cr_expect_eq(t.colour, 0);
    cr_expect_eq(t.serial[0], 1, "nobody stores into it any more");
}

/* Its other threads may still store: a bell proves nothing, whatever the device. */
Test(core_ends, P8_a_bell_frees_nothing)
{
    open_core(true);
    expel(3, 2);
    win();
    expel(2, 1);
    cr_expect_eq(t.colour, 0);
    cr_expect_eq(t.serial[0], 2, "other memory");
}

/* On a device the end of a process is no proof, however long ago. */
Test(core_ends, P8_on_a_device_no_end_is_proof)
{
    open_core(false);
    expel_by(EEPI_INPUT_MEMORY_GONE, 3, 2);
    win();
    feed(about(EEPI_INPUT_ENDED, 3));
    cr_expect_eq(seat_3()->reach, 1);
    t.now_us += 60000000;
    expel(2, 1);
    cr_expect_neq(t.committed, 0, "and nobody waits for one");
    cr_expect_eq(t.colour, 0);
    cr_expect_eq(t.serial[0], 2);
    cr_expect_eq(t.kills + t.uncovered, 0);
}

/* Its graph has ended, though its process may live on. */
Test(core_ends, P8_a_rank_may_say_that_its_stores_have_ended)
{
    open_core(false);
    feed((eepi_input){.kind = EEPI_INPUT_EXIT, .end = {3, 1, EEPI_END_STORES}});
    expel(3, 2);
    cr_expect_eq(t.third, EEP_SEAT_VACANT);
    win();
    expel(2, 1);
    cr_expect_eq(t.serial[0], 1);
}

/* A successor that fails in eep_open says its own end. Its word is about itself. */
Test(core_ends, P8_a_successors_last_word_proves_nothing_of_its_predecessor)
{
    open_core(false);
    expel(3, 2);
    win();
    feed(about(EEPI_INPUT_ENDED, 3));
    feed((eepi_input){.kind = EEPI_INPUT_EXIT, .end = {3, 2, EEPI_END_STORES}});
    expel(2, 1);
    cr_expect_eq(t.serial[0], 2);
}

/* ------------------------------------------------------------------ seats (M7) */

/* It steps under another colour than its predecessor: nothing is waited for but the process's end.
 */
Test(core_ends, P7_a_seat_is_given_beside_its_predecessors_stores)
{
    open_core(false);
    expel(3, 2);
    win();
    tell_member(3, 2); /* it has the seat, so its predecessor's process is gone (M7) */
    cr_expect_eq(t.plans, 1);
    acknowledge(EEPI_ACK_STAGED, 2, t.plan_digest);
    eepi_ack ack = {3, 2, EEPI_ACK_STAGED, 3, t.plan_digest};
    feed((eepi_input){.kind = EEPI_INPUT_ACK, .ack = &ack});
    win();
    cr_expect_eq(seat_3()->generation, 2);
    cr_expect_eq(seat_3()->former, 1, "colour 0 is not clean for that");
    expel(2, 1);
    eepi_report said = {3, 2, eepi_core_view(t.core)->epoch, 7, 0, NULL};
    feed((eepi_input){.kind = EEPI_INPUT_REPORT, .report = &said});
    cr_expect_eq(t.serial[0], 2);
}

/* A plan let it go, and its process ended before it had flipped away: its kernels store into the
 * windows in use. Its seat is given behind the next fault view, which comes for that. */
Test(core_ends, P7_a_seat_that_is_blocked_gets_another_colour)
{
    static int32_t experts[] = {0, 1};
    static uint64_t sums[] = {7, 8}, backup;
    eepi_member leaver = {3, 1, 1, EEPI_LEAVES, experts, sums, &backup};
    open_core(false);
    feed((eepi_input){.kind = EEPI_INPUT_MEMBER, .member = &leaver});
    carry_out(3);
    cr_assert_eq(seat_3()->reach, 1);
    t.plans = 0;
    tell_member(3, 2);
    tick_after(1);
    cr_expect_eq(t.plans, 0);
    tick_after(RENEW_AFTER_US);
    tick_after(0);
    report(2, 3);
    cr_assert_neq(t.committed, 0);
    cr_expect_eq(t.num_active, 3, "nobody is expelled");
    win();
    tick_after(1);
    cr_expect_eq(t.plans, 1, "and now it may come in");
}

/* It has flipped away, so nothing of it is in flight. */
Test(core_ends, P8_a_leaver_that_has_flipped_is_done)
{
    static int32_t experts[] = {0, 1};
    static uint64_t sums[] = {7, 8}, backup;
    eepi_member leaver = {3, 1, 1, EEPI_LEAVES, experts, sums, &backup};
    open_core(false);
    feed((eepi_input){.kind = EEPI_INPUT_MEMBER, .member = &leaver});
    carry_out(3);
    eepi_ack ack = {3, 1, EEPI_ACK_FLIPPED, eepi_core_view(t.core)->epoch,
                    eepi_core_view(t.core)->digest};
    feed((eepi_input){.kind = EEPI_INPUT_ACK, .ack = &ack});
    t.plans = 0;
    tell_member(3, 2);
    cr_expect_eq(t.plans, 1);
}

/* ------------------------------------------------------------------ other memory (P7) */

/* Behind traffic the colour of the next fault view gets other memory, once, and is clean then. */
Test(core_ends, P7_a_colour_is_renewed_behind_traffic)
{
    open_core(false);
    expel(3, 2);
    win();
    feed(about(EEPI_INPUT_ENDED, 3));
    tick_after(RENEW_AFTER_US - 1);
    cr_expect_eq(t.plans, 0, "on the host a proof may come");
    tick_after(RENEW_AFTER_US);
    cr_assert_eq(t.plans, 1);
    cr_expect_eq(t.plan_serial[0], 2);
    cr_expect_eq(t.plan_serial[1], 1, "the windows in use stay");
    carry_out(2);
    cr_expect_eq(seat_3()->reach, 0);
    cr_expect_eq(seat_3()->state, EEP_SEAT_VACANT);
    tick_after(10 * RENEW_AFTER_US);
    cr_expect_eq(t.plans, 1);
    expel(2, 1);
    cr_expect_eq(t.colour, 0);
    cr_expect_eq(t.serial[0], 2, "it is there: the pause makes none");
}

Test(core_ends, P7_a_proof_that_comes_in_time_spares_the_memory)
{
    open_core(true);
    expel(3, 2);
    win();
    tick_after(1000);
    feed(about(EEPI_INPUT_MEMORY_GONE, 3));
    tick_after(5 * RENEW_AFTER_US);
    cr_expect_eq(t.plans, 0);
}

/* A rank that lacks memory, and so acknowledges none, holds up nobody for long: it is tried again
 * ever later, and what else is planned goes first. */
Test(core_ends, P7_a_renewal_that_lapses_is_tried_again_later)
{
    uint64_t pause_us = 1000000;
    open_core(false);
    expel(3, 2);
    win();
    tick_after(1);
    tick_after(RENEW_AFTER_US);
    cr_assert_eq(t.plans, 1);
    for (int i = 2; i < 5; i++) {
        tick_after(STAGE_BOUND_US); /* it lapses */
        tick_after(pause_us - 1);
        cr_expect_eq(t.plans, i - 1, "too soon");
        tick_after(1);
        cr_expect_eq(t.plans, i);
        cr_expect_eq(t.plan_serial[0], 2, "memory that nobody was shown is as good as new");
        pause_us *= 2;
    }
}

/* A member dies before it has acknowledged, the other ones after: the plan is void, and the fault
 * view takes the memory that was being made. */
Test(core_ends, P7_deaths_while_memory_is_made)
{
    for (int acknowledged = 0; acknowledged < 3; acknowledged++) {
        open_core(false);
        t.plans = 0;
        expel(3, 2);
        win();
        tick_after(1);
        tick_after(RENEW_AFTER_US);
        cr_assert_eq(t.plans, 1);
        for (int seat = 1; seat <= acknowledged; seat++) {
            eepi_ack ack = {seat, 1, EEPI_ACK_STAGED, 3, t.plan_digest};
            feed((eepi_input){.kind = EEPI_INPUT_ACK, .ack = &ack});
        }
        expel(2, 1);
        cr_assert_neq(t.committed, 0);
        cr_expect_eq(t.colour, 0);
        cr_expect_eq(t.serial[0], 2);
        cr_expect_eq(t.serial[1], 1);
        win();
        tick_after(1);
        tick_after(RENEW_AFTER_US);
        cr_expect_eq(t.plan_serial[1], 2, "what rank 2 may store into");
        eepi_core_close(t.core);
    }
}

/* A joiner comes while memory is made: it goes first, and has the same serials. */
Test(core_ends, P7_a_joiner_goes_before_a_renewal)
{
    open_core(false);
    expel(3, 2);
    win();
    tick_after(1);
    tell_member(3, 2);
    cr_assert_eq(t.plans, 1);
    cr_expect_eq(t.plan_serial[0], 1);
    tick_after(RENEW_AFTER_US);
    cr_expect_eq(t.plans, 1, "one plan after the other");
}

/* One that lives on for ever, unkilled, through twenty more faults of processes that come and go.
 */
Test(core_ends, P7_a_zombie_holds_up_no_fault)
{
    for (int renews = 0; renews < 2; renews++) {
        open_core(false);
        t.kills = t.uncovered = 0;
        expel(3, 2);
        win();
        for (uint32_t generation = 1; generation <= 20; generation++) {
            const eepi_view *view = eepi_core_view(t.core);
            uint32_t serial[EEPI_VIEW_COLOURS];
            int colour = view->colour;
            memcpy(serial, view->serial, sizeof serial);
            feed((eepi_input){.kind = EEPI_INPUT_EVIDENCE,
                              .suspect = {2, generation, EEP_FAULT_EXIT}});
            report(1, -1);
            cr_assert_neq(t.committed, 0, "fault %u", generation);
            cr_expect_eq(t.colour, 1 - colour);
            cr_expect_eq(t.serial[1 - colour], serial[1 - colour] + 1u - (renews && generation > 1),
                         "fault %u", generation);
            win();
            tell_member(2, generation + 1);
            acknowledge(EEPI_ACK_STAGED, 1, t.plan_digest);
            eepi_ack ack = {2, generation + 1, EEPI_ACK_STAGED, 0, t.plan_digest};
            feed((eepi_input){.kind = EEPI_INPUT_ACK, .ack = &ack});
            win();
            feed(
                (eepi_input){.kind = EEPI_INPUT_FLIPPED, .digest = eepi_core_view(t.core)->digest});
            if (renews) {
                tick_after(1);
                tick_after(2 * RENEW_AFTER_US);
                acknowledge(EEPI_ACK_STAGED, 1, t.plan_digest);
                ack.digest = t.plan_digest;
                feed((eepi_input){.kind = EEPI_INPUT_ACK, .ack = &ack});
                win();
                feed((eepi_input){.kind = EEPI_INPUT_FLIPPED,
                                  .digest = eepi_core_view(t.core)->digest});
            }
        }
        cr_expect_eq(t.kills + t.uncovered, 0);
        eepi_core_close(t.core);
    }
}
