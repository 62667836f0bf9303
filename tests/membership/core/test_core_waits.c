/* SPDX-License-Identifier: Apache-2.0 */
/* What one core waits for, message by message: whom it spares, whom it names, and when it ends. */
#include "tests/lib/core/one_core.h"

#include <stdlib.h>
#include <string.h>

enum { DRAIN_BOUND_US = 4000000, SECOND_US = 1000000 };

/* Seat 3 alone holds expert 1. */
static void tell_member(int seat, uint32_t generation, int ready, int leaving)
{
    static int32_t experts[RANKS][2] = {{0, 0}, {0, 0}, {0, 0}, {0, 1}};
    static uint64_t sums[RANKS][2] = {{7, 7}, {7, 7}, {7, 7}, {7, 8}}, backup;
    eepi_member record = {seat,          generation, (uint8_t)ready, (uint8_t)leaving,
                          experts[seat], sums[seat], &backup};
    feed((eepi_input){.kind = EEPI_INPUT_MEMBER, .member = &record});
}

static void open_core(int kill_fence)
{
    eepi_core_config config = {.generation = 1,
                               .num_ranks = RANKS,
                               .drain_bound_us = DRAIN_BOUND_US,
                               .stage_bound_us = DRAIN_BOUND_US,
                               .kill_fence = kill_fence,
                               .shape = {RANKS, 1, 2, 2}};
    open_empty(&config);
    for (int seat = 0; seat < RANKS; seat++) {
        tell_member(seat, 1, 1, 0);
    }
    win();
    cr_assert_eq(eepi_view_num_active(eepi_core_view(t.core)), RANKS);
}

static void suspect(int seat, eep_fault_kind kind)
{
    feed((eepi_input){.kind = EEPI_INPUT_EVIDENCE, .suspect = {seat, 1, kind}});
}

static void drain_and_hear(int first, int last)
{
    feed((eepi_input){.kind = EEPI_INPUT_DRAINED, .step = 7});
    for (int seat = first; seat <= last; seat++) {
        eepi_report report = {seat, 1, eepi_core_view(t.core)->epoch, 7, 0, NULL};
        feed((eepi_input){.kind = EEPI_INPUT_REPORT, .report = &report});
    }
}

static void tick_after(uint64_t us)
{
    t.now_us += us;
    feed((eepi_input){.kind = EEPI_INPUT_TICK});
}

/* ------------------------------------------------------------------ nobody is killed */

/* One that was expelled alive may still store where it did: a second fault goes elsewhere, and
 * waits for nobody. */
Test(core_waits, P7_without_a_kill_fence_a_second_fault_waits_for_nobody)
{
    open_core(0);
    suspect(2, EEP_FAULT_SILENT);
    drain_and_hear(1, 3);
    win();
    suspect(1, EEP_FAULT_EXIT);
    drain_and_hear(3, 3);
    cr_expect_neq(t.committed, 0);
    cr_expect_eq(t.colour, 0);
    cr_expect_eq(t.serial[0], 2);
    cr_expect_eq(t.kills + t.uncovered, 0);
}

/* ------------------------------------------------------------------ nobody decides */

/* All others speak against this rank, which leaves the decision to them. They may have spared it
 * for the sake of experts, and leave it to this one (seed 357, `--discrete`). */
Test(core_waits, L1_who_leaves_it_to_others_in_vain_keeps_all)
{
    const eepi_suspect word = {0, 1, EEP_FAULT_EXPELLED};

    open_core(1);
    suspect(2, EEP_FAULT_RESET);
    feed((eepi_input){.kind = EEPI_INPUT_DRAINED, .step = 7});
    for (int seat = 1; seat < RANKS; seat++) {
        eepi_report report = {seat, 1, eepi_core_view(t.core)->epoch, 7, 1, &word};
        feed((eepi_input){.kind = EEPI_INPUT_REPORT, .report = &report});
    }
    tick_after(3 * DRAIN_BOUND_US - SECOND_US);
    cr_expect_eq(t.committed, 0, "others may decide yet");
    tick_after(SECOND_US);
    cr_assert_neq(t.committed, 0);
    cr_expect_eq(t.num_active, RANKS);
    cr_expect_eq(t.kills, 0);
}

/* ------------------------------------------------------------------ busy */

/* A rank that says it is busy is spared what was known before, and suspected again afterwards. */
Test(core_waits, M5_a_word_of_being_busy_takes_evidence_back)
{
    static const eep_fault_kind kinds[] = {EEP_FAULT_SILENT, EEP_FAULT_DEADLINE,
                                           EEP_FAULT_LEFT_OUT};
    for (int i = 0; i < 3; i++) {
        t.kills = 0;
        open_core(1);
        suspect(2, kinds[i]);
        feed((eepi_input){
            .kind = EEPI_INPUT_BUSY, .suspect = {2, 1, EEP_FAULT_SILENT}, .step = SECOND_US});
        drain_and_hear(1, 1);
        drain_and_hear(3, 3);
        cr_expect_eq(t.kills, 0, "%s", eep_fault_kind_name(kinds[i]));
        cr_expect_eq(t.committed, 0, "its promise is waited for");
        tick_after(DRAIN_BOUND_US + 2 * (uint64_t)SECOND_US);
        tick_after(0); /* left out, then killed */
        cr_expect_eq(t.kills, 1, "%s", eep_fault_kind_name(kinds[i]));
        eepi_core_close(t.core);
    }
}

/* ------------------------------------------------------------------ the end of the instance */

Test(core_waits, M8_an_instance_without_coverage_ends_when_it_is_asked_to)
{
    open_core(1);
    suspect(3, EEP_FAULT_EXIT);
    drain_and_hear(1, 2);
    cr_assert_eq(t.uncovered, 1, "only seat 3 had expert 1");
    tell_member(1, 1, 1, EEPI_LEAVES | EEPI_LEAVES_AS_LAST);
    cr_expect_eq(t.num_active, 0);
    win();
    cr_expect_eq(t.drained, 1);
    cr_expect(eepi_core_instance_has_ended(t.core));
}

Test(core_waits, M8_and_when_all_want_out)
{
    open_core(1);
    suspect(3, EEP_FAULT_EXIT);
    drain_and_hear(1, 2);
    tell_member(0, 1, 1, EEPI_LEAVES);
    tell_member(1, 1, 1, EEPI_LEAVES);
    cr_expect_eq(t.committed, 0, "seat 2 stays");
    tell_member(2, 1, 1, EEPI_LEAVES);
    cr_expect_neq(t.committed, 0);
    cr_expect_eq(t.num_active, 0);
}

/* Nobody has formed a view yet, and maybe nobody can. */
Test(core_waits, who_asks_to_leave_before_the_first_view_has_left)
{
    eepi_core_config config = {.generation = 1, .num_ranks = 2, .shape = {2, 1, 2, 2}};
    t.now_us = 1000;
    cr_assert_eq(eepi_core_open(&config, &t.core), EEP_OK);
    feed((eepi_input){.kind = EEPI_INPUT_LEAVE, .step = EEPI_LEAVES_AS_LAST});
    cr_expect_eq(t.drained, 0, "the register may have one");
    feed((eepi_input){.kind = EEPI_INPUT_VIEW_MISSING});
    cr_expect_eq(t.drained, 1);
}

/* ------------------------------------------------------------------ in words */

Test(core_waits, the_core_says_whom_it_waits_for)
{
    char text[EEPI_CORE_WHY_BYTES];
    open_core(1);
    eepi_core_say_wait(t.core, text, sizeof text);
    cr_expect_str_eq(text, "");
    suspect(3, EEP_FAULT_EXIT);
    drain_and_hear(1, 1);
    eepi_core_say_wait(t.core, text, sizeof text);
    cr_expect(strstr(text, "not heard yet from rank 2 (generation 1)"), "%s", text);
    cr_expect_eq(eepi_core_awaited_joiner(t.core), -1);
    tell_member(3, 2, 0, 0);
    cr_expect_eq(eepi_core_awaited_joiner(t.core), 3);
}

/* The process in a seat of a running instance, whose predecessor was expelled alive. */
Test(core_waits, a_joiner_says_what_keeps_it_out)
{
    char text[EEPI_CORE_WHY_BYTES];
    eepi_core_config config = {
        .seat = 2, .generation = 2, .num_ranks = RANKS, .shape = {RANKS, 1, 2, 2}};
    eepi_view *view;
    open_core(0);
    suspect(2, EEP_FAULT_SILENT);
    drain_and_hear(1, 3);
    win();
    view = eepi_view_copy(eepi_core_view(t.core));
    eepi_core_close(t.core);
    cr_assert_eq(eepi_core_open(&config, &t.core), EEP_OK);
    feed((eepi_input){.kind = EEPI_INPUT_VIEW, .view = view, .revision = 2});
    eepi_core_say_wait(t.core, text, sizeof text);
    cr_expect(strstr(text, "(generation 1) has not been seen"), "%s", text);
    feed((eepi_input){.kind = EEPI_INPUT_EXIT, .end = {2, 1, EEPI_END_PROCESS}});
    eepi_core_say_wait(t.core, text, sizeof text);
    cr_expect(strstr(text, "not planned a view"), "%s", text);
    free(view);
}

/* Those who leave by plan listen to those who stay. Where all leave, a list of all for each would
 * be as many messages as the square of their number. */
Test(core_waits, N22_nobody_listens_when_the_instance_ends)
{
    static const struct {
        bool all_leave, listens;
    } cases[] = {{false, true}, {true, false}};
    const eepi_core_config config = {
        .seat = 1, .generation = 1, .num_ranks = RANKS, .shape = {RANKS, 1, 2, 2}};
    const eepi_view *first;
    open_core(1);
    first = eepi_core_view(t.core);
    for (int i = 0; i < 2; i++) {
        eepi_view *last = eepi_view_copy(first);
        eepi_core *leaver = NULL;
        bool listens = false;
        int n;
        cr_assert_eq(eepi_core_open(&config, &leaver), EEP_OK);
        last->epoch++;
        last->cause = EEPI_VIEW_PLANNED;
        for (int seat = 0; seat < RANKS; seat++) {
            if (seat == 1 || cases[i].all_leave) {
                eepi_view_seat_at(last, seat)->state = EEP_SEAT_QUARANTINED;
            }
        }
        eepi_view_seal(last);
        const eepi_input inputs[] = {
            {.kind = EEPI_INPUT_VIEW, .now_us = 1, .view = first, .revision = 1},
            {.kind = EEPI_INPUT_LEAVE, .now_us = 2},
            {.kind = EEPI_INPUT_VIEW, .now_us = 3, .view = last, .revision = 2},
            {.kind = EEPI_INPUT_TICK, .now_us = 4}};
        for (int at = 0; at < 4; at++) {
            const eepi_action *actions = eepi_core_handle(leaver, &inputs[at], &n);
            for (int j = 0; j < n; j++) {
                listens |= actions[j].kind == EEPI_ACTION_LISTEN;
            }
        }
        cr_expect_eq(listens, cases[i].listens, "all leave: %d", cases[i].all_leave);
        eepi_core_close(leaver);
        free(last);
    }
}

/* The seat is expelled in the next view; what others are told as the reason. */
static int expelled_for(int seat)
{
    eepi_view *next = eepi_view_copy(eepi_core_view(t.core));
    const eepi_action *actions;
    int n, kind = -1;
    next->epoch++;
    next->cause = EEPI_VIEW_FAULT;
    next->colour ^= 1u;
    if (seat >= 0) {
        eepi_view_seat_at(next, seat)->state = EEP_SEAT_QUARANTINED;
    }
    eepi_view_seal(next);
    actions = eepi_core_handle(
        t.core,
        &(eepi_input){
            .kind = EEPI_INPUT_VIEW, .now_us = t.now_us, .view = next, .revision = ++t.revision},
        &n);
    for (int i = 0; i < n; i++) {
        if (actions[i].kind == EEPI_ACTION_EXPELLED && actions[i].suspect.seat == seat) {
            kind = actions[i].suspect.kind;
        }
    }
    free(next);
    return kind;
}

/* Most ranks know the reason for a fault from the wedge word alone. */
Test(core_waits, N22_a_cause_counts_for_one_fault)
{
    const eepi_wedge word = {1, 1, 1, {2, 1, EEP_FAULT_SILENT}};
    for (int i = 0; i < 2; i++) {
        open_core(1);
        feed((eepi_input){.kind = EEPI_INPUT_WEDGE, .wedge = word});
        feed((eepi_input){.kind = EEPI_INPUT_DRAINED, .step = 7});
        if (i == 1) {
            cr_expect_eq(expelled_for(-1), -1, "seat 2 has spoken, and stays");
        }
        cr_expect_eq(expelled_for(2), i == 0 ? EEP_FAULT_SILENT : EEP_FAULT_LEFT_OUT);
        eepi_core_close(t.core);
    }
}

/* A planned view is committed while this rank has stopped for something that it has taken back. It
 * keeps out of that view, too, and nobody else would learn why. */
Test(core_waits, N22_who_promises_without_a_suspicion_tells)
{
    const eepi_input told[] = {
        {.kind = EEPI_INPUT_EVIDENCE, .suspect = {2, 1, EEP_FAULT_SILENT}},
        {.kind = EEPI_INPUT_ALIVE, .suspect = {2, 1, EEP_FAULT_SILENT}},
        {.kind = EEPI_INPUT_VIEW, .revision = 2},
        {.kind = EEPI_INPUT_DRAINED, .step = 7},
    };
    uint64_t wedged_in = 0;
    eepi_view *planned;
    open_core(1);
    planned = eepi_view_copy(eepi_core_view(t.core));
    planned->epoch++;
    planned->cause = EEPI_VIEW_PLANNED;
    eepi_view_seal(planned);
    for (int i = 0; i < 4; i++) {
        eepi_input input = told[i];
        const eepi_action *actions;
        int n;
        input.now_us = t.now_us;
        input.view = planned;
        actions = eepi_core_handle(t.core, &input, &n);
        for (int j = 0; j < n; j++) {
            if (actions[j].kind == EEPI_ACTION_TELL_WEDGE) {
                wedged_in = actions[j].wedge.epoch;
            }
        }
    }
    cr_expect_eq(wedged_in, planned->epoch);
    free(planned);
}
