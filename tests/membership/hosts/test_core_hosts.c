/* SPDX-License-Identifier: Apache-2.0 */
/* One core of several hosts, message by message: whom it waits for, whom it kills and whom it
 * leaves out (rules N7, N8, N10, N13, N14, N19). Seats 0 and 1 are on its host, 2 and 3 on another.
 */
#include "membership/core/core_common.h"
#include "repair/placement.h"
#include "tests/lib/core/one_core.h"

#include <stdlib.h>

enum { DRAIN_BOUND_US = 1000000, SHORT_BOUND_US = 100000, HOST = 11, OTHER = 22, THIRD = 33 };

static void tell_record(int seat, uint32_t generation, uint64_t host)
{
    static int32_t experts[] = {0, 1};
    static uint64_t sums[] = {7, 8}, backup;
    eepi_member record = {.seat = seat,
                          .generation = generation,
                          .ready = 1,
                          .experts = experts,
                          .checksums = sums,
                          .backup = &backup,
                          .host = host};
    feed((eepi_input){.kind = EEPI_INPUT_MEMBER, .member = &record});
}

static eepi_core_config config_of(bool store_keeps)
{
    return (eepi_core_config){.generation = 1,
                              .num_ranks = RANKS,
                              .drain_bound_us = DRAIN_BOUND_US,
                              .stage_bound_us = 1000000,
                              .end_is_proof = true,
                              .kill_fence = 1,
                              .host = HOST,
                              .store_keeps = store_keeps,
                              .shape = {RANKS, 1, 2, 2}};
}

/* Seats from `first_other` on are on the other host. */
static void open_hosts(int first_other)
{
    const eepi_core_config config = config_of(true);

    memset(&t, 0, sizeof t);
    open_empty(&config);
    for (int seat = 0; seat < RANKS; seat++) {
        tell_record(seat, 1, seat < first_other ? HOST : OTHER);
    }
    win();
}

static void see(eepi_input_kind kind, int seat, int fault)
{
    feed((eepi_input){.kind = kind, .suspect = {seat, 1, fault}});
}

static void drain(void)
{
    feed((eepi_input){.kind = EEPI_INPUT_DRAINED, .step = 7});
}

static void report(int seat, int num_suspects, const eepi_suspect *suspects)
{
    const eepi_report said = {seat, 1, eepi_core_view(t.core)->epoch, 7, num_suspects, suspects, 0};
    feed((eepi_input){.kind = EEPI_INPUT_REPORT, .report = &said});
}

static void tick_after(uint64_t us)
{
    t.now_us += us;
    feed((eepi_input){.kind = EEPI_INPUT_TICK});
}

static const eepi_view_seat *seat_at(int seat)
{
    return eepi_view_seat_at(eepi_core_view(t.core), seat);
}

static void lose_other_host(void)
{
    see(EEPI_INPUT_EVIDENCE, 2, EEP_FAULT_SILENT);
    see(EEPI_INPUT_EVIDENCE, 3, EEP_FAULT_SILENT);
    drain();
    report(1, 0, NULL);
}

/* H11: its ranks will never be seen to end. With two hosts it is the one that would stay if it
 * answered, were its seats the lower ones. */
Test(core_hosts, N7_a_host_that_is_gone_for_ever_holds_up_nobody)
{
    open_hosts(2);
    lose_other_host();
    cr_assert_neq(t.committed, 0, "no end, no kill and no drain bound is waited for");
    cr_expect_eq(t.num_active, 2);
    cr_expect_eq(t.kills, 0, "N13");
    win();
    for (int seat = 2; seat < RANKS; seat++) {
        cr_expect_eq(seat_at(seat)->state, EEP_SEAT_VACANT, "behind gates: the seat is free");
        cr_expect_eq(seat_at(seat)->reach, 0);
        cr_expect(eepi_view_is_fenced(eepi_core_view(t.core), seat));
        cr_expect(eepi_view_may_live_outside(eepi_core_view(t.core), seat, 1),
                  "N13: no mate is left there who would kill it");
        cr_expect_not(eepi_view_may_live_outside(eepi_core_view(t.core), seat, 2));
    }
    see(EEPI_INPUT_MEMORY_GONE, 1, EEP_FAULT_EXIT);
    drain();
    cr_assert_neq(t.committed, 0, "the second fault is no different");
    cr_expect_eq(t.num_active, 1);
    cr_expect_eq(t.serial[0], 1, "nobody who is out reaches colour 0");
    eepi_core_close(t.core);
}

Test(core_hosts, N7_who_shares_memory_with_a_member_is_waited_for)
{
    open_hosts(2);
    see(EEPI_INPUT_EVIDENCE, 3, EEP_FAULT_DEVICE);
    drain();
    report(1, 0, NULL);
    report(2, 1, &(eepi_suspect){3, 1, EEP_FAULT_SILENT});
    cr_assert_neq(t.committed, 0);
    cr_expect_eq(t.kills, 0, "N13: it is not of this host");
    win();
    cr_expect_eq(seat_at(3)->state, EEP_SEAT_QUARANTINED);
    cr_expect_eq(seat_at(3)->reach, 1, "it stores into the window of rank 2");
    eepi_core_close(t.core);
}

/* Its last mate goes: whoever is left reaches it by gates alone, and it holds back no colour. */
Test(core_hosts, N7_behind_gates_nobody_holds_a_colour)
{
    open_hosts(2);
    see(EEPI_INPUT_EVIDENCE, 3, EEP_FAULT_DEVICE);
    drain();
    report(1, 0, NULL);
    report(2, 1, &(eepi_suspect){3, 1, EEP_FAULT_SILENT});
    cr_assert_neq(t.committed, 0);
    win();
    cr_assert(eepi_view_is_tainted(eepi_core_view(t.core), 0), "rank 2 shares memory with it");
    see(EEPI_INPUT_EVIDENCE, 2, EEP_FAULT_SILENT);
    drain();
    report(1, 0, NULL);
    cr_assert_neq(t.committed, 0);
    cr_expect_eq(t.serial[0], 1, "no window needs new memory: the pause is no longer for it");
    win();
    cr_expect_eq(eepi_core_view(t.core)->colour, 0);
    cr_expect(eepi_view_is_fenced(eepi_core_view(t.core), 3));
    cr_expect_eq(seat_at(3)->reach, 0);
    eepi_core_close(t.core);
}

/* H13: the seat is taken on a third host while its former process is stopped beside rank 2. */
Test(core_hosts, N8_a_successor_elsewhere_shows_no_end)
{
    for (int same = 0; same < 2; same++) {
        open_hosts(2);
        see(EEPI_INPUT_EVIDENCE, 3, EEP_FAULT_DEVICE);
        drain();
        report(1, 0, NULL);
        report(2, 1, &(eepi_suspect){3, 1, EEP_FAULT_SILENT});
        win();
        tell_record(3, 2, same ? OTHER : THIRD);
        tick_after(1);
        cr_expect_eq(t.plans > 0, same, "it is let in only behind the end of its predecessor");
        eepi_core_close(t.core);
    }
}

Test(core_hosts, N8_a_seat_behind_gates_is_taken_elsewhere)
{
    open_hosts(2);
    lose_other_host();
    win();
    tell_record(3, 2, THIRD);
    tick_after(1);
    cr_expect_gt(t.plans, 0);
    eepi_core_close(t.core);
}

/* A process takes a seat, and its host is lost before a view has it. */
static void tell_claim(uint32_t generation, uint64_t host, bool ready, bool follows_lapse)
{
    static int32_t experts[] = {0, 1};
    static uint64_t sums[] = {7, 8}, backup;
    eepi_member record = {.seat = 3,
                          .generation = generation,
                          .ready = ready,
                          .experts = experts,
                          .checksums = sums,
                          .backup = &backup,
                          .host = host,
                          .follows_lapse = follows_lapse};
    feed((eepi_input){.kind = EEPI_INPUT_MEMBER, .member = &record});
}

static void lose_claim(void)
{
    open_hosts(2);
    lose_other_host();
    win();
    feed((eepi_input){.kind = EEPI_INPUT_FLIPPED, .digest = eepi_core_view(t.core)->digest});
    tell_claim(2, THIRD, false, false);
    cr_assert_eq(t.plans, 0);
}

/* H27: nobody will ever tell the end of a claim on a host that is lost. */
Test(core_hosts, N21_a_claim_follows_one_whose_lease_has_lapsed)
{
    lose_claim();
    tell_claim(3, HOST, true, true);
    tick_after(1000000);
    cr_expect_eq(t.plans, 1);
    eepi_core_close(t.core);
    lose_claim();
    tell_claim(3, HOST, true, false);
    tick_after(1000000);
    cr_expect_eq(t.plans, 0, "nothing shows what became of generation 2");
    eepi_core_close(t.core);
}

/* Its holder may live, cut from the store. A record that came too late to be seen says nothing. */
Test(core_hosts, N21_a_lapsed_lease_is_no_end)
{
    for (int lapsed = 0; lapsed < 2; lapsed++) {
        open_hosts(2);
        lose_other_host();
        win();
        tell_claim(3, HOST, true, lapsed);
        cr_expect_eq(eepi_core_process_has_ended(t.core, 3, 2), !lapsed);
        eepi_core_close(t.core);
    }
}

/* A lease frees a claim, and no seat that a view had. */
Test(core_hosts, N21_a_lease_takes_no_seat_from_the_view)
{
    int plans[2];

    for (int claims = 0; claims < 2; claims++) {
        open_hosts(2);
        see(EEPI_INPUT_EVIDENCE, 3, EEP_FAULT_DEVICE);
        drain();
        report(1, 0, NULL);
        report(2, 1, &(eepi_suspect){3, 1, EEP_FAULT_SILENT});
        win();
        cr_assert_eq(seat_at(3)->state, EEP_SEAT_QUARANTINED);
        if (claims) {
            tell_claim(2, THIRD, true, true);
        }
        tick_after(1);
        plans[claims] = t.plans;
        eepi_core_close(t.core);
    }
    cr_expect_eq(plans[1], plans[0], "generation 1 may live beside its host-mate");
}

/* All leases had lapsed, and somebody ended the instance: it did not end in order for a rank that
 * lives. */
Test(core_hosts, N21_a_rank_whose_instance_has_lapsed_is_out)
{
    eepi_view *end;

    open_hosts(2);
    end = eepi_view_copy(eepi_core_view(t.core));
    end->base_digest = end->digest;
    end->epoch++;
    end->cause = EEPI_VIEW_PLANNED;
    for (int seat = 0; seat < RANKS; seat++) {
        eepi_view_seat_at(end, seat)->state = EEP_SEAT_VACANT;
        eepi_view_seat_at(end, seat)->flags = EEPI_SEAT_IS_FENCED;
    }
    eepi_plan_empty_nonmembers(end);
    eepi_view_seal(end);
    feed((eepi_input){.kind = EEPI_INPUT_VIEW, .view = end, .revision = ++t.revision});
    cr_expect_eq(t.drained, 0);
    cr_expect_eq(t.evicted, 1);
    eepi_core_close(t.core);
    free(end);
}

/* H14: of two hosts that do not hear each other one goes, whoever decides. */
Test(core_hosts, N10_of_two_hosts_one_goes)
{
    const eepi_suspect low[] = {{0, 1, EEP_FAULT_SILENT}, {1, 1, EEP_FAULT_SILENT}};

    open_hosts(2);
    see(EEPI_INPUT_EVIDENCE, 2, EEP_FAULT_SILENT);
    see(EEPI_INPUT_EVIDENCE, 3, EEP_FAULT_SILENT);
    drain();
    report(2, 2, low);
    report(3, 2, low);
    cr_expect_eq(t.committed, 0, "rank 1 has not promised yet");
    report(1, 0, NULL);
    cr_assert_neq(t.committed, 0);
    cr_expect_eq(t.num_active, 2, "and not four");
    win();
    cr_expect(eepi_view_is_member(eepi_core_view(t.core), 0));
    eepi_core_close(t.core);
}

/* A third host hears both; it decides, and keeps the lower one. */
Test(core_hosts, N10_one_who_hears_both_leaves_out_one)
{
    const eepi_suspect one = {1, 1, EEP_FAULT_SILENT}, other = {2, 1, EEP_FAULT_SILENT};
    const eepi_core_config config = config_of(true);

    memset(&t, 0, sizeof t);
    open_empty(&config);
    for (int seat = 0; seat < RANKS; seat++) {
        tell_record(seat, 1, seat == 1 ? OTHER : seat == 2 ? THIRD : HOST);
    }
    win();
    feed((eepi_input){.kind = EEPI_INPUT_WEDGE,
                      .wedge = {1, 1, eepi_core_view(t.core)->epoch, other}});
    drain();
    report(1, 1, &other);
    report(2, 1, &one);
    report(3, 0, NULL);
    cr_assert_neq(t.committed, 0);
    cr_expect_eq(t.num_active, 3);
    win();
    cr_expect(!eepi_view_is_member(eepi_core_view(t.core), 2));
    eepi_core_close(t.core);
}

/* The host that would stay does not answer: it is gone, and soon taken for it. */
Test(core_hosts, N10_the_side_that_answers_goes_on)
{
    const eepi_core_config config = config_of(true);

    memset(&t, 0, sizeof t);
    open_empty(&config);
    for (int seat = 0; seat < RANKS; seat++) { /* this rank has seat 0, so its host would stay */
        tell_record(seat, 1, seat == 0 ? HOST : OTHER);
    }
    win();
    for (int seat = 1; seat < RANKS; seat++) {
        see(EEPI_INPUT_EVIDENCE, seat, EEP_FAULT_SILENT);
    }
    drain();
    /* three ranks are more than one: this host would go */
    cr_expect_eq(t.committed, 0);
    tick_after(SHORT_BOUND_US + 1000);
    tick_after(1);
    cr_assert_neq(t.committed, 0, "the others do not answer");
    cr_expect_eq(t.num_active, 1);
    eepi_core_close(t.core);
}

Test(core_hosts, N10_silence_that_ends_accuses_nobody)
{
    open_hosts(2);
    see(EEPI_INPUT_EVIDENCE, 2, EEP_FAULT_SILENT);
    see(EEPI_INPUT_ALIVE, 2, EEP_FAULT_SILENT);
    drain();
    for (int seat = 1; seat < RANKS; seat++) {
        report(seat, 0, NULL);
    }
    cr_assert_neq(t.committed, 0);
    cr_expect_eq(t.num_active, RANKS);
    eepi_core_close(t.core);
}

/* H20: of two that propose each has read what the other knows before it kills. */
Test(core_hosts, N13_a_kill_waits_for_the_own_report)
{
    open_hosts(RANKS);
    t.takes_no_report = true;
    see(EEPI_INPUT_EVIDENCE, 3, EEP_FAULT_SILENT);
    drain();
    report(1, 0, NULL);
    report(2, 0, NULL);
    tick_after(2 * DRAIN_BOUND_US);
    cr_expect_eq(t.kills, 0, "the store has not taken its report");
    t.takes_no_report = false;
    feed((eepi_input){.kind = EEPI_INPUT_REPORTED, .step = eepi_core_view(t.core)->epoch});
    cr_expect_eq(t.kills, 1);
    eepi_core_close(t.core);
}

/* The next view, which a rank of another host proposed: without rank 1, which may live on. */
static eepi_view *view_without_1(eepi_view_cause cause)
{
    eepi_view *view = eepi_view_copy(eepi_core_view(t.core));

    view->base_digest = view->digest;
    view->epoch++;
    view->cause = (uint8_t)cause;
    view->colour ^= cause == EEPI_VIEW_FAULT;
    view->proposer = 2;
    view->first_step = 9;
    eepi_view_seat_at(view, 1)->state = EEP_SEAT_QUARANTINED;
    eepi_view_seat_at(view, 1)->reach = 1;
    for (int slot = 0; slot < 2; slot++) {
        *eepi_view_slot_at(view, 0, 1, slot) =
            (eepi_view_slot){.expert = EEPI_NO_EXPERT, .source = EEPI_NO_SEAT};
    }
    eepi_view_seal(view);
    return view;
}

/* A rank of another host has left out one that this rank shares memory with. */
Test(core_hosts, N13_whom_another_host_expels_is_killed_here)
{
    eepi_view *view;

    open_hosts(2);
    see(EEPI_INPUT_EVIDENCE, 1, EEP_FAULT_SILENT);
    drain();
    view = view_without_1(EEPI_VIEW_FAULT);
    cr_expect_eq(t.kills, 0);
    feed((eepi_input){.kind = EEPI_INPUT_VIEW, .view = view, .revision = t.revision + 1});
    cr_expect_eq(t.kills, 1);
    free(view);
    eepi_core_close(t.core);
}

/* Its process may go on with other work. */
Test(core_hosts, N13_who_has_left_as_it_asked_is_not_killed)
{
    eepi_view *view;

    open_hosts(2);
    view = view_without_1(EEPI_VIEW_PLANNED);
    feed((eepi_input){.kind = EEPI_INPUT_VIEW, .view = view, .revision = t.revision + 1});
    tick_after(DRAIN_BOUND_US);
    cr_expect_eq(eepi_core_view(t.core)->epoch, view->epoch);
    cr_expect_eq(t.kills, 0);
    free(view);
    eepi_core_close(t.core);
}

/* H22: a store that reads and does not write lets no bound run out. */
Test(core_hosts, N14_nobody_is_left_out_while_the_own_report_is_not_in)
{
    open_hosts(RANKS);
    t.takes_no_report = true;
    see(EEPI_INPUT_MEMORY_GONE, 3, EEP_FAULT_EXIT);
    drain();
    tick_after(10 * DRAIN_BOUND_US);
    tick_after(1);
    cr_expect_eq(t.committed, 0);
    t.takes_no_report = false;
    feed((eepi_input){.kind = EEPI_INPUT_REPORTED, .step = eepi_core_view(t.core)->epoch});
    tick_after(DRAIN_BOUND_US / 2);
    cr_expect_eq(t.kills, 0, "the bound begins with the answer");
    report(1, 0, NULL);
    report(2, 0, NULL);
    cr_expect_neq(t.committed, 0);
    cr_expect_eq(t.num_active, 3);
    eepi_core_close(t.core);
}

/* H26: a reconnection is no doubt where the store keeps all. */
Test(core_hosts, N19_a_store_that_keeps_all_makes_no_doubt)
{
    for (int keeps = 0; keeps < 2; keeps++) {
        const eepi_core_config config = config_of(keeps);
        uint64_t epoch;
        memset(&t, 0, sizeof t);
        open_empty(&config);
        for (int seat = 0; seat < RANKS; seat++) {
            tell_record(seat, 1, HOST);
        }
        win();
        epoch = eepi_core_view(t.core)->epoch;
        see(EEPI_INPUT_MEMORY_GONE, 3, EEP_FAULT_EXIT);
        drain();
        report(1, 0, NULL);
        for (int i = 0; i < 5; i++) {
            feed((eepi_input){.kind = EEPI_INPUT_STORE_LOST});
            feed((eepi_input){
                .kind = EEPI_INPUT_VIEW, .view = eepi_core_view(t.core), .revision = t.revision});
            feed((eepi_input){.kind = EEPI_INPUT_LISTENS});
        }
        report(2, 0, NULL);
        cr_expect_eq(t.committed, keeps ? epoch + 1 : 0, "rank 1 has said it before");
        report(1, 0, NULL);
        cr_expect(keeps || t.committed > epoch + 1, "epochs leap");
        eepi_core_close(t.core);
    }
}

/* A snapshot was restored: serving goes on, and nothing is committed on top of it. */
Test(core_hosts, N19_a_store_that_shows_less_commits_nothing)
{
    eepi_view *old;

    open_hosts(RANKS);
    old = eepi_view_copy(eepi_core_view(t.core));
    see(EEPI_INPUT_MEMORY_GONE, 3, EEP_FAULT_EXIT);
    drain();
    report(1, 0, NULL);
    report(2, 0, NULL);
    win();
    feed((eepi_input){.kind = EEPI_INPUT_VIEW, .view = old, .revision = t.revision - 1});
    see(EEPI_INPUT_MEMORY_GONE, 2, EEP_FAULT_EXIT);
    drain();
    report(1, 0, NULL);
    cr_expect_neq(t.committed, 0, "an event that was late says nothing");
    win();
    for (int i = 0; i < 2; i++) { /* the first answer may be older than the commit */
        feed((eepi_input){.kind = EEPI_INPUT_VIEW, .view = old, .revision = t.revision + 100});
    }
    see(EEPI_INPUT_MEMORY_GONE, 1, EEP_FAULT_EXIT);
    drain();
    cr_expect_eq(t.committed, 0);
    tick_after(1);
    cr_expect_eq(t.committed, 0);
    feed((eepi_input){
        .kind = EEPI_INPUT_VIEW, .view = eepi_core_view(t.core), .revision = t.revision + 200});
    cr_expect_neq(t.committed, 0, "it has its data again");
    free(old);
    eepi_core_close(t.core);
}

/* H25: a watch is open and says nothing, and a report shows what it has missed. */
Test(core_hosts, N18_a_report_under_a_newer_view_makes_it_read)
{
    eepi_report newer = {.seat = 1, .generation = 1, .highest_step = 7};
    int reads;

    open_hosts(2);
    reads = t.reads;
    report(1, 0, NULL);
    cr_expect_eq(t.reads, reads, "nothing is new");
    newer.epoch = eepi_core_view(t.core)->epoch + 1;
    feed((eepi_input){.kind = EEPI_INPUT_REPORT, .report = &newer});
    cr_expect_eq(t.reads, reads + 1);
    eepi_core_close(t.core);
}
