/* SPDX-License-Identifier: Apache-2.0 */
/* The store lost its memory: one core alone is fed by hand what the store would say. The simulator
 * found each of these histories; docs/PROTOCOL.md has the seeds. */
#include "membership/core/core_draft.h"
#include "repair/placement.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { SECOND = 1000000 };
static const eepi_core_config config = {
    .seat = 1,
    .generation = 2,
    .num_ranks = 3,
    .drain_bound_us = SECOND,
    .stage_bound_us = SECOND,
    .shape = {.max_ranks = 3, .num_layers = 1, .num_experts = 3, .num_slots = 2}};
static eepi_core *core;
static eepi_view *view;
static uint64_t proposed_epoch; /* of the newest CAS */

/* A view of three, each of generation 2. */
static void setup(void)
{
    cr_assert_eq(eepi_core_open(&config, &core), EEP_OK);
    view = eepi_view_new(&config.shape);
    for (int seat = 0; seat < 3; seat++) {
        *eepi_view_seat_at(view, seat) =
            (eepi_view_seat){.generation = 2, .state = EEP_SEAT_ACTIVE};
    }
    cr_assert_eq(eepi_plan_initial(view), EEP_OK);
    view->epoch = view->first_step = 1;
    view->phase = EEPI_VIEW_SERVING;
    view->cause = EEPI_VIEW_INITIAL;
    eepi_view_seal(view);
}

static void teardown(void)
{
    eepi_core_close(core);
    free(view);
}

TestSuite(core_forgets, .init = setup, .fini = teardown);

/* How many actions of that kind the input causes. Where the core asks to listen, the store has
 * nothing to tell yet; after a loss that is over when the register was read. */
static int causes(eepi_input input, eepi_action_kind kind)
{
    int n, found = 0;
    bool listens = input.kind == EEPI_INPUT_VIEW || input.kind == EEPI_INPUT_VIEW_MISSING;
    const eepi_action *actions;

    input.now_us = SECOND;
    actions = eepi_core_handle(core, &input, &n);
    for (int i = 0; i < n; i++) {
        listens |= actions[i].kind == EEPI_ACTION_LISTEN;
        found += actions[i].kind == kind;
        if (actions[i].kind == EEPI_ACTION_CAS) {
            proposed_epoch = actions[i].view->epoch;
        }
    }
    return found + (listens ? causes((eepi_input){.kind = EEPI_INPUT_LISTENS}, kind) : 0);
}

static int proposes_after(eepi_input_kind kind)
{
    return causes((eepi_input){.kind = kind}, EEPI_ACTION_CAS);
}

static int proposes_after_view(uint64_t revision)
{
    return causes((eepi_input){.kind = EEPI_INPUT_VIEW, .view = view, .revision = revision},
                  EEPI_ACTION_CAS);
}

static int member_causes(int seat, uint32_t generation, eepi_action_kind kind)
{
    const int32_t experts[2] = {seat, (seat + 1) % 3};
    const uint64_t checksums[2] = {11, 11}, backup = 0;
    const eepi_member member = {seat, generation, 1, 0, experts, checksums, &backup};

    return causes((eepi_input){.kind = EEPI_INPUT_MEMBER, .member = &member}, kind);
}

static int proposes_after_report_under(int seat, uint64_t epoch)
{
    const eepi_report report = {.seat = seat, .generation = 2, .epoch = epoch, .highest_step = 9};

    return causes((eepi_input){.kind = EEPI_INPUT_REPORT, .report = &report}, EEPI_ACTION_CAS);
}

static int proposes_after_report(int seat)
{
    return proposes_after_report_under(seat, view->epoch);
}

static int proposes_after_filled(int seat)
{
    const eepi_ack ack = {seat, 2, EEPI_ACK_FILLED, view->epoch, view->digest};

    return causes((eepi_input){.kind = EEPI_INPUT_ACK, .ack = &ack}, EEPI_ACTION_CAS);
}

static void wedge_without_seat_0(void)
{
    (void)member_causes(1, 2, EEPI_ACTION_READ);
    cr_assert(!proposes_after_view(5));
    cr_assert(causes((eepi_input){.kind = EEPI_INPUT_EVIDENCE, .suspect = {0, 2, EEP_FAULT_EXIT}},
                     EEPI_ACTION_WEDGE));
}

static int proposes_after_drain(void)
{
    return causes((eepi_input){.kind = EEPI_INPUT_DRAINED, .step = 9}, EEPI_ACTION_CAS);
}

/* It built epoch 2 on top of an old document and on reports from before, while the others ran the
 * real epoch 2 (seed 2664). */
Test(core_forgets, S2_nothing_is_decided_on_what_was_heard_before)
{
    wedge_without_seat_0();
    cr_assert(!proposes_after_report(2));
    cr_assert(!proposes_after(EEPI_INPUT_STORE_LOST));
    cr_assert(proposes_after(EEPI_INPUT_VIEW_MISSING), "it writes its document back");
    cr_assert(!causes((eepi_input){.kind = EEPI_INPUT_CAS_DONE, .won = 1, .revision = 9},
                      EEPI_ACTION_CAS));
    cr_assert(!proposes_after_drain(), "rank 2 may have gone on without us");
    cr_assert(proposes_after_report(2), "rank 2 knows nothing newer");
}

/* The same, where another rank had written the old document back before: the register seemed never
 * to have forgotten (seed 3000). */
Test(core_forgets, S2_nor_if_another_rank_made_the_register_anew)
{
    wedge_without_seat_0();
    cr_assert(!proposes_after_report(2));
    cr_assert(!proposes_after(EEPI_INPUT_STORE_LOST));
    cr_assert(!proposes_after_view(9));
    cr_assert(!proposes_after_drain(), "rank 2 may have gone on without us");
    cr_assert(proposes_after_report(2), "rank 2 knows nothing newer");
}

/* A rank that reports under epoch 2 has it, and is about to write it back: a second one followed
 * (seed 61044).
 */
Test(core_forgets, S2_nothing_is_decided_while_somebody_knows_a_newer_view)
{
    wedge_without_seat_0();
    cr_assert(!proposes_after_drain());
    cr_assert(!proposes_after_report_under(2, 2));
    cr_assert(!proposes_after(EEPI_INPUT_TICK));
}

/* A repair was published twice: by a rank that ran it, and again from acknowledgements heard before
 * (seed 25309). */
Test(core_forgets, S2_a_repair_is_not_published_on_what_was_heard_before)
{
    eepi_view_slot_at(view, 0, 2, 0)->state = EEPI_SLOT_FILLING;
    eepi_view_seat_at(view, 0)->state = EEP_SEAT_VACANT;
    view->epoch = 2;
    view->phase = EEPI_VIEW_REPAIRING;
    view->cause = EEPI_VIEW_FAULT;
    eepi_view_seal(view);
    (void)member_causes(1, 2, EEPI_ACTION_READ);
    cr_assert(!proposes_after_view(5));
    cr_assert(!proposes_after_drain());
    cr_assert(!proposes_after(EEPI_INPUT_TICK), "seat 2 has not filled its slot");
    cr_assert(!proposes_after_report(2));
    cr_assert(proposes_after_filled(2));
    cr_assert(!proposes_after(EEPI_INPUT_STORE_LOST));
    cr_assert(!proposes_after_view(9), "seat 2 may run the repaired view");
    cr_assert(!proposes_after_filled(2), "that its slots are filled shows nothing else");
    cr_assert(proposes_after_report(2), "it does not");
}

/* A rank that knew of no view began the instance a second time, on records that it had read in the
 * store before the store forgot them (seed 2992). */
Test(core_forgets, S2_no_instance_begins_on_records_read_before)
{
    (void)member_causes(1, 2, EEPI_ACTION_READ);
    (void)member_causes(2, 2, EEPI_ACTION_READ);
    cr_assert(!proposes_after(EEPI_INPUT_STORE_LOST));
    cr_assert(!proposes_after(EEPI_INPUT_VIEW_MISSING));
    cr_assert_eq(member_causes(0, 2, EEPI_ACTION_CAS), 0, "seat 2 says its view before its record");
    cr_assert_eq(member_causes(2, 2, EEPI_ACTION_CAS), 1);
}

/* A joiner that had read the records, and not yet the view behind them, found that the experts had
 * no slots in a first view, and gave up (seed 7868). */
Test(core_forgets, L1_nobody_begins_before_the_register_was_read)
{
    for (int seat = 0; seat < 3; seat++) {
        cr_assert_eq(member_causes(seat, 2, EEPI_ACTION_CAS), 0);
    }
    cr_assert_eq(proposes_after(EEPI_INPUT_TICK), 0);
    cr_assert_eq(proposes_after(EEPI_INPUT_VIEW_MISSING), 1);
}

/* It waited for ever to be let in and out again (seed 7868). */
Test(core_forgets, M10_who_leaves_before_it_is_let_in_has_left)
{
    eepi_view_seat_at(view, 1)->state = EEP_SEAT_VACANT;
    eepi_view_seat_at(view, 1)->generation = 1;
    eepi_view_seal(view);
    (void)member_causes(1, 2, EEPI_ACTION_READ);
    cr_assert(!proposes_after_view(5));
    cr_assert(causes((eepi_input){.kind = EEPI_INPUT_LEAVE}, EEPI_ACTION_DRAINED));
}

/* Two proposers that doubt, or leave somebody out alive, never give the same epoch, whatever each
 * of them knows. */
Test(core_forgets, S2_each_proposer_has_epochs_of_its_own_in_doubt)
{
    enum { SEATS = 5, BASES = 60, DOUBTS = 4, EPOCHS = 4000 };
    static int giver[EPOCHS];
    eepi_view base = {.epoch = 0};
    eepi_core one = {.config = {.shape = {.max_ranks = SEATS}}, .view = &base};
    for (int i = 0; i < 2 * SEATS * BASES * DOUBTS; i++) {
        int left_alive = i % 2;
        one.config.seat = i / 2 % SEATS;
        base.epoch = (uint64_t)(i / 2 / SEATS % BASES);
        one.in_doubt = i / 2 / SEATS / BASES;
        if (!left_alive && !one.in_doubt) {
            continue;
        }
        uint64_t epoch = eepi_core_fresh_epoch(&one, left_alive);
        cr_assert(epoch > base.epoch && epoch < EPOCHS);
        cr_assert(giver[epoch] == 0 || giver[epoch] == one.config.seat + 1,
                  "epoch %llu by %d and %d", (unsigned long long)epoch, giver[epoch] - 1,
                  one.config.seat);
        giver[epoch] = one.config.seat + 1;
    }
}

/* After our promise for epoch 1 a proposer may have committed 2, told it to a joiner alone, and
 * died with the store. */
Test(core_forgets, S2_an_epoch_that_somebody_may_know_is_leapt_over)
{
    wedge_without_seat_0();
    cr_assert(!proposes_after_drain());
    cr_assert(!proposes_after(EEPI_INPUT_STORE_LOST));
    cr_assert(!proposes_after_view(9));
    cr_assert(proposes_after_report(2));
    cr_assert_eq(proposed_epoch, 17); /* above 1 + 1 + 8, and 1 modulo 8: seat 1 of 3 */
    cr_assert(!proposes_after(EEPI_INPUT_STORE_LOST)); /* and now that one may be known */
    cr_assert(!proposes_after_view(12));
    cr_assert(proposes_after_report(2));
    cr_assert_gt(proposed_epoch, 18);
}

/* It would have killed all others for not reporting under its own. */
Test(core_forgets, S2_who_has_another_document_of_the_epoch_ends)
{
    (void)member_causes(1, 2, EEPI_ACTION_READ);
    cr_assert(!proposes_after_view(5));
    view->first_step++;
    eepi_view_seal(view);
    cr_assert(causes((eepi_input){.kind = EEPI_INPUT_VIEW, .view = view, .revision = 9},
                     EEPI_ACTION_EVICTED));
}

/* The others had committed it, or nobody would have agreed in-band to switch to it. */
Test(core_forgets, S2_what_was_switched_to_was_committed)
{
    const uint64_t digest = view->digest;

    (void)member_causes(1, 2, EEPI_ACTION_READ);
    cr_assert(!proposes_after_view(5));
    view->epoch = 2;
    view->base_digest = digest;
    view->cause = EEPI_VIEW_PLANNED;
    eepi_view_seal(view);
    cr_assert(causes((eepi_input){.kind = EEPI_INPUT_PLAN, .view = view}, EEPI_ACTION_STAGE));
    cr_assert(!proposes_after(EEPI_INPUT_STORE_LOST));
    (void)causes((eepi_input){.kind = EEPI_INPUT_FLIPPED, .digest = view->digest}, EEPI_ACTION_CAS);
    cr_assert_eq(eepi_core_view(core)->epoch, 2);
    cr_assert_eq(proposes_after(EEPI_INPUT_VIEW_MISSING), 1, "and writes it back");
}

/* The register was found with the older document before this rank switched: it lags all the same,
 * and nothing of ours may stand beside it (seed 9417). Where the store was not lost, it has the
 * document. */
Test(core_forgets, M4_who_switches_after_a_loss_writes_the_document_back)
{
    eepi_input input = {.kind = EEPI_INPUT_FLIPPED};

    for (int lost = 0; lost < 2; lost++) {
        eepi_view *old = eepi_view_copy(view), *own = view;
        (void)member_causes(1, 2, EEPI_ACTION_READ);
        cr_assert(!proposes_after_view(5));
        view->base_digest = old->digest;
        view->epoch = old->epoch + 1;
        view->cause = EEPI_VIEW_PLANNED;
        eepi_view_seal(view);
        cr_assert(causes((eepi_input){.kind = EEPI_INPUT_PLAN, .view = view}, EEPI_ACTION_STAGE));
        if (lost) {
            cr_assert(!proposes_after(EEPI_INPUT_STORE_LOST));
            view = old;
            cr_assert(!proposes_after_view(9));
            view = own;
        }
        input.digest = view->digest;
        cr_assert_eq(causes(input, EEPI_ACTION_CAS), lost);
        cr_assert_eq(eepi_core_view(core)->epoch, view->epoch);
        free(old);
    }
}

static void see_view(uint64_t epoch, eepi_view_cause cause, uint64_t revision)
{
    view->epoch = epoch;
    view->cause = (uint8_t)cause;
    eepi_view_seal(view);
    cr_assert(!proposes_after_view(revision));
}

/* A joiner had read that seat 2 left with epoch 6. The store forgot that, and the next epoch 6 had
 * the joiner in it: it took the end of a process that was in neither for a fault of its view, and
 * proposed one with a seat that nobody had had (kinds all but unkillable, seed 2677). */
Test(core_forgets, S1_who_left_a_forgotten_view_has_not_left_its_namesake)
{
    (void)member_causes(1, 2, EEPI_ACTION_READ);
    for (int seat = 0; seat < 3; seat++) {
        eepi_view_seat_at(view, seat)->generation = 1;
    }
    see_view(5, EEPI_VIEW_INITIAL, 5);
    eepi_view_seat_at(view, 2)->state = EEP_SEAT_VACANT;
    eepi_plan_empty_nonmembers(view);
    see_view(6, EEPI_VIEW_PLANNED, 6);
    (void)proposes_after(EEPI_INPUT_STORE_LOST);
    eepi_view_seat_at(view, 1)->generation = 2;
    see_view(5, EEPI_VIEW_INITIAL, 9);
    see_view(6, EEPI_VIEW_PLANNED, 10);
    cr_assert(!causes((eepi_input){.kind = EEPI_INPUT_EVIDENCE, .suspect = {2, 1, EEP_FAULT_EXIT}},
                      EEPI_ACTION_WEDGE));
}
