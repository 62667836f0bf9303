/* SPDX-License-Identifier: Apache-2.0 */
/* The data plane when peers fail: what was left in a window by the past is never consumed, every
 * wait ends, and whoever completes a step has the right result. In most tests seat 0 is real and
 * seat 1 is played by the test, which writes into seat 0's window what a peer would. */
#include "tests/lib/world/kernel_pair.h"

#include "graphs/kernels/compiler_macros.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(kernel_faults, .timeout = 100);

enum { SHORT_NS = 3000000, STEP = 100, EPOCH = KERNEL_PAIR_EPOCH };

/* Nothing of an ended step may be visible: no rows, no output. */
static void expect_nothing(kernel_world *w, uint32_t layer, uint32_t result)
{
    const int32_t *slot_begin = w->rank[0].layer[layer].slot_begin;
    const eepk_status *status;

    kernel_rank_run_to(w, 0, EEPI_KERNEL_unpack, layer);
    for (int slot = 0; slot <= w->shape.num_slots; slot++) {
        cr_assert_eq(slot_begin[slot], 0, "slot %d has rows", slot);
    }
    for (int id = EEPI_KERNEL_combine_send; id <= (int)EEPI_KERNEL_reduce; id++) {
        kernel_rank_run(w, 0, (eepi_kernel_id)id, layer);
    }
    status = kernel_rank_finish(w, 0);
    cr_assert_eq(status->result, result, "result %u instead of %u", status->result, result);
    cr_assert(kernel_out_untouched(w, 0, (int)layer));
}

static int num_suspects(const eepk_status *status)
{
    int n = 0;

    for (int i = 0; i < EEPK_SEAT_WORDS; i++) {
        n += __builtin_popcountll(status->suspects[i]);
    }
    return n;
}

/* ------------------------------------------------------------------ S5, S12 */

Test(kernel_faults, S5_no_stale_write_consumed)
{
    const struct {
        int64_t epoch, step;
        uint32_t layer, phase;
    } stale[] = {{0, -1, 0, EEPK_PHASE_DISPATCH},
                 {0, -2, 0, EEPK_PHASE_DISPATCH},
                 {-1, 0, 0, EEPK_PHASE_DISPATCH},
                 {-1, 1, 0, EEPK_PHASE_DISPATCH},
                 {-1, -1, 0, EEPK_PHASE_DISPATCH},
                 {0, 0, 1, EEPK_PHASE_DISPATCH},
                 {0, 0, 0, EEPK_PHASE_COMBINE},
                 {1, -1, 0, EEPK_PHASE_DISPATCH},
                 {-(1 << 19) + 1, 5, 0, EEPK_PHASE_DISPATCH},
                 {0, -(1ll << (EEPK_TAG_STEP_BITS - 1)) + 1, 0, EEPK_PHASE_DISPATCH}};
    kernel_world *w = kernel_pair_open();

    for (size_t i = 0; i < sizeof stale / sizeof stale[0]; i++) {
        const uint64_t tag =
            eepk_tag(EPOCH + (uint64_t)stale[i].epoch, STEP + (uint64_t)stale[i].step,
                     stale[i].layer, stale[i].phase);
        kernel_pair_peer_sends(w, STEP, 0); /* all is in place, under a tag of the past */
        memset(w->rank[0].window + w->layout.off_dispatch_tag, 0,
               w->layout.off_header - w->layout.off_dispatch_tag);
        eepk_store_release(kernel_pair_tag(w, EEPK_PHASE_DISPATCH), tag);
        kernel_pair_begin(w, STEP, SHORT_NS / 4);
        expect_nothing(w, 0, EEPK_STEP_DEADLINE);
        cr_assert_eq(eepi_tables_status(w->rank[0].tables)->suspects[0], 2, "case %zu", i);
    }
    kernel_world_close(w);
}

/* The same for combine: rows and tags of an earlier step lie there. */
Test(kernel_faults, S5_no_stale_combine_consumed)
{
    kernel_world *w = kernel_pair_open();

    kernel_pair_peer_sends(w, STEP, 0);
    kernel_pair_publish(w, EPOCH, STEP, 0, EEPK_PHASE_DISPATCH);
    kernel_pair_publish(w, EPOCH, STEP - 1, 0, EEPK_PHASE_COMBINE);
    eepk_store_release(kernel_pair_tag(w, EEPK_PHASE_COMBINE),
                       eepk_tag(EPOCH - 1, STEP, 0, EEPK_PHASE_COMBINE));
    kernel_pair_begin(w, STEP, SHORT_NS);
    kernel_rank_run_to(w, 0, EEPI_KERNEL_reduce, 0);
    cr_assert_eq(kernel_rank_finish(w, 0)->result, EEPK_STEP_DEADLINE);
    cr_assert_eq(kernel_rank_finish(w, 0)->phase, EEPK_PHASE_COMBINE);
    cr_assert_eq(kernel_rank_finish(w, 0)->suspects[0], 2);
    cr_assert(kernel_out_untouched(w, 0, 0));
    kernel_world_close(w);
}

/* A new process in a seat, under the next epoch: what its predecessor left in that seat's lines,
 * for the very step that runs now, satisfies nobody. */
Test(kernel_faults, S12_generations)
{
    kernel_world *w = kernel_pair_open();
    eepi_view *view;

    kernel_pair_peer_sends(w, STEP, 0);
    view = kernel_view(w, EPOCH + 1, 3, 2, kernel_pair_seed());
    for (uint32_t layer = 0; layer < 2; layer++) {
        kernel_pair_publish(w, EPOCH, STEP, layer, EEPK_PHASE_DISPATCH);
        kernel_pair_publish(w, EPOCH, STEP, layer, EEPK_PHASE_COMBINE);
    }
    eepk_store_release(eepk_abort_word(&w->layout, w->rank[0].window, 1),
                       eepk_tag(EPOCH, STEP, 0, EEPK_PHASE_DISPATCH));
    kernel_world_switch(w, view);
    kernel_pair_begin(w, STEP, SHORT_NS);
    expect_nothing(w, 0, EEPK_STEP_DEADLINE); /* the predecessor's abort ends nothing, either */
    for (uint64_t step = STEP + 1; step < STEP + 4; step++) {
        kernel_world_fill(w, step);
        kernel_world_step(w, step);
        for (int seat = 0; seat < 2; seat++) {
            cr_assert_eq(eepi_tables_status(w->rank[seat].tables)->result, EEPK_STEP_OK);
            cr_assert_lt(kernel_rank_compare(w, seat, false), 0);
        }
    }
    kernel_world_close(w);
}

/* ------------------------------------------------------------------ S8 */

/* Seat 2 has flipped, the others have not: nobody completes the step, so no token mixes epochs. */
Test(kernel_faults, S8_single_epoch_token)
{
    const moe_shape shape = {3, 3, 6, 4, 3, 8, 6, EEP_FP32, EEP_FP32, 0};
    kernel_world *w = kernel_world_open(&shape, 2);
    uint64_t random = kernel_pair_seed(), step = 1;

    kernel_world_switch(w, kernel_view(w, 1, 7, 1, kernel_pair_seed()));
    for (uint64_t epoch = 2; epoch < 40; epoch++) {
        eepi_view *next = kernel_view(w, epoch, 7, 1, kernel_random(&random));
        int early = kernel_below(&random, 3), late = (early + 1) % 3, third = (early + 2) % 3;
        kernel_world_fill(w, kernel_random(&random));
        kernel_rank_switch(w, early, next);
        for (int seat = 0; seat < 3; seat++) {
            kernel_rank_launch(w, seat, step, kernel_long_ns);
        }
        for (int seat = 0; seat < 3; seat++) {
            const eepk_status *status;
            if (seat == early) {
                continue; /* its wait ends when it sees the others at a higher step */
            }
            status = kernel_rank_end(w, seat);
            cr_assert(status->result == EEPK_STEP_NEWER_EPOCH ||
                      status->result == EEPK_STEP_PEER_ABORT);
            cr_assert_eq(num_suspects(status), 0);
            for (int layer = 0; layer < 3; layer++) {
                cr_assert(kernel_out_untouched(w, seat, layer));
            }
        }
        kernel_rank_switch(w, late, next);
        kernel_rank_switch(w, third, next);
        free(w->view);
        w->view = next;
        kernel_rank_launch(w, late, step + 1, kernel_long_ns);
        kernel_rank_launch(w, third, step + 1, kernel_long_ns);
        cr_assert_eq(kernel_rank_end(w, early)->result, EEPK_STEP_JUMP);
        cr_assert_eq(kernel_rank_end(w, early)->jump_step, step + 1);
        cr_assert(kernel_out_untouched(w, early, 0));
        kernel_rank_launch(w, early, step + 1, kernel_long_ns);
        for (int seat = 0; seat < 3; seat++) {
            cr_assert_eq(kernel_rank_end(w, seat)->result, EEPK_STEP_OK);
            cr_assert_lt(kernel_rank_compare(w, seat, false), 0);
        }
        step += 2;
    }
    kernel_world_close(w);
}

/* ------------------------------------------------------------------ ends of waits */

/* Seat 3 never comes: all others end in time, and whoever accuses accuses seat 3 only. */
Test(kernel_faults, a_missing_peer_is_named_alone)
{
    const moe_shape shape = {5, 2, 6, 4, 3, 8, 6, EEP_FP32, EEP_FP32, 0};
    const uint64_t wait_ns = 1000000000;
    kernel_world *w = kernel_world_open(&shape, 2);
    uint64_t begin_ns;
    int accusers = 0;

    kernel_world_switch(w, kernel_view(w, 1, 0x1b, 1, kernel_pair_seed()));
    kernel_world_fill(w, kernel_pair_seed());
    begin_ns = kernel_now_ns();
    for (int seat = 0; seat < 5; seat++) {
        if (kernel_is_member(w, seat) && seat != 3) {
            kernel_rank_launch(w, seat, 1, wait_ns);
        }
    }
    for (int seat = 0; seat < 5; seat++) {
        const eepk_status *status;
        if (!kernel_is_member(w, seat) || seat == 3) {
            continue;
        }
        status = kernel_rank_end(w, seat);
        cr_assert(status->result == EEPK_STEP_DEADLINE || status->result == EEPK_STEP_PEER_ABORT);
        cr_assert_eq(num_suspects(status), status->result == EEPK_STEP_DEADLINE);
        cr_assert_eq(status->suspects[0], status->result == EEPK_STEP_DEADLINE ? 8 : 0);
        accusers += status->result == EEPK_STEP_DEADLINE;
        cr_assert(kernel_out_untouched(w, seat, 0) && kernel_out_untouched(w, seat, 1));
    }
    cr_assert_geq(accusers, 1);
    cr_assert_geq(kernel_now_ns() - begin_ns, wait_ns);
    cr_assert_lt(kernel_now_ns() - begin_ns, 2 * wait_ns, "somebody has waited twice");
    kernel_world_close(w);
}

/* Two are missing at the deadline, but one of them has aborted: nobody is accused. */
Test(kernel_faults, a_peers_abort_accuses_nobody)
{
    kernel_world *w = kernel_world_open(&kernel_pair_shape, 1);

    kernel_world_switch(w, kernel_view(w, EPOCH, 7, 1, kernel_pair_seed()));
    w->rank[0].num_tokens = 0;
    for (uint64_t later = 0; later < 3; later++) {
        eepk_store_release(eepk_abort_word(&w->layout, w->rank[0].window, 2),
                           eepk_abort_word_of(EPOCH, STEP + later, 0));
        kernel_pair_begin(w, STEP, later == 2 ? 0 : kernel_long_ns);
        expect_nothing(w, 0, EEPK_STEP_PEER_ABORT);
        cr_assert_eq(num_suspects(eepi_tables_status(w->rank[0].tables)), 0);
        /* and the peers hear of it */
        cr_assert_eq(*eepk_abort_word(&w->layout, w->rank[1].window, 0),
                     eepk_abort_word_of(EPOCH, STEP, 0));
    }
    kernel_world_close(w);
}

/* An abort of an earlier step, or of another epoch, does not end this one. */
Test(kernel_faults, an_old_abort_word_is_void)
{
    kernel_world *w = kernel_pair_open();
    const uint64_t words[] = {
        eepk_abort_word_of(EPOCH, STEP - 1, 0), eepk_abort_word_of(EPOCH - 1, STEP, 0),
        eepk_abort_word_of(EPOCH + 1, STEP, 0),
        eepk_abort_word_of(EPOCH, STEP - (1ull << (EEPK_ABORT_STEP_BITS - 1)) + 1, 0)};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        kernel_pair_peer_sends(w, STEP, 0);
        eepk_store_release(eepk_abort_word(&w->layout, w->rank[0].window, 1), words[i]);
        kernel_pair_publish(w, EPOCH, STEP, 0, EEPK_PHASE_DISPATCH);
        kernel_pair_begin(w, STEP, SHORT_NS);
        kernel_rank_run_to(w, 0, EEPI_KERNEL_unpack, 0);
        cr_assert_eq(kernel_pair_latch(w)->aborted, 0, "case %zu", i);
    }
    kernel_world_close(w);
}

Test(kernel_faults, the_host_ends_a_waiting_step_at_once)
{
    kernel_world *w = kernel_pair_open();
    uint64_t *abort_step = eepi_tables_abort_step(w->rank[0].tables);
    uint64_t since;

    kernel_rank_launch(w, 0, STEP, kernel_long_ns);
    while (eepk_load_acquire(eepk_dispatch_tag(&w->layout, w->rank[1].window, 0, 0)) == 0) {
        sched_yield(); /* until it waits for seat 1 */
    }
    since = kernel_now_ns();
    eepk_store_release(abort_step, STEP);
    cr_assert_eq(kernel_rank_end(w, 0)->result, EEPK_STEP_HOST_ABORT);
    cr_assert_lt(kernel_now_ns() - since, kernel_long_ns / 10);
    cr_assert_eq(num_suspects(eepi_tables_status(w->rank[0].tables)), 0);
    cr_assert(kernel_out_untouched(w, 0, 0));
    /* it holds for that step and older ones; at the latch, too */
    kernel_pair_begin(w, STEP, kernel_long_ns);
    expect_nothing(w, 0, EEPK_STEP_HOST_ABORT);
    for (int seat = 0; seat < 2; seat++) {
        kernel_rank_launch(w, seat, STEP + 1, kernel_long_ns);
    }
    for (int seat = 0; seat < 2; seat++) {
        cr_assert_eq(kernel_rank_end(w, seat)->result, EEPK_STEP_OK);
    }
    kernel_world_close(w);
}

/* Rules D5, M3. */
Test(kernel_faults, peers_ahead_end_a_step)
{
    const struct {
        int64_t epoch, step;
        uint32_t result;
    } cases[] = {
        {0, 1, EEPK_STEP_JUMP},        {0, 2, EEPK_STEP_JUMP},        {0, 1000000, EEPK_STEP_JUMP},
        {1, 0, EEPK_STEP_NEWER_EPOCH}, {1, 1, EEPK_STEP_NEWER_EPOCH}, {3, 7, EEPK_STEP_NEWER_EPOCH},
        {1, -1, EEPK_STEP_DEADLINE},   {5, -3, EEPK_STEP_DEADLINE},   {-1, 5, EEPK_STEP_DEADLINE}};
    kernel_world *w = kernel_pair_open();

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const eepk_status *status = eepi_tables_status(w->rank[0].tables);
        const int meets = cases[i].result != EEPK_STEP_DEADLINE;
        memset(w->rank[0].window + w->layout.off_dispatch_tag, 0,
               w->layout.off_abort - w->layout.off_dispatch_tag);
        kernel_pair_publish(w, EPOCH + (uint64_t)cases[i].epoch, STEP + (uint64_t)cases[i].step, 1,
                            EEPK_PHASE_DISPATCH);
        kernel_pair_begin(w, STEP, meets ? kernel_long_ns : SHORT_NS);
        expect_nothing(w, 0, cases[i].result);
        cr_assert_eq(status->jump_step, meets ? STEP + (uint64_t)cases[i].step : 0, "case %zu", i);
        cr_assert_eq(num_suspects(status), !meets);
    }
    kernel_world_close(w);
}

/* Rule T3: a bank of another epoch than the host's runs nothing and touches no peer. */
Test(kernel_faults, the_wrong_bank_runs_nothing)
{
    kernel_world *w = kernel_pair_open();

    w->rank[0].epoch = EPOCH + 1;
    kernel_pair_begin(w, STEP, kernel_long_ns);
    expect_nothing(w, 0, EEPK_STEP_WRONG_BANK);
    cr_assert_eq(*eepk_dispatch_tag(&w->layout, w->rank[1].window, 0, 0), 0);
    cr_assert_eq(*eepk_abort_word(&w->layout, w->rank[1].window, 0), 0);
    kernel_world_close(w);
}

/* ------------------------------------------------------------------ parts of a step */

/* A caller's own graph may hold a part of a step. It ends with an error and not OK, and the others
 * are told at once. */
Test(kernel_faults, a_part_of_a_step_does_not_end_ok)
{
    kernel_world *w = kernel_pair_open();
    const eepk_status *status;

    kernel_pair_peer_sends(w, STEP, 0);
    kernel_pair_publish(w, EPOCH, STEP, 0, EEPK_PHASE_DISPATCH);
    kernel_pair_publish(w, EPOCH, STEP, 0, EEPK_PHASE_COMBINE);
    kernel_pair_begin(w, STEP, kernel_long_ns);
    kernel_rank_run_to(w, 0, EEPI_KERNEL_unpack, 0);
    for (int id = EEPI_KERNEL_combine_send; id <= (int)EEPI_KERNEL_reduce; id++) {
        kernel_rank_run(w, 0, (eepi_kernel_id)id, 0);
    }
    status = kernel_rank_finish(w, 0);
    cr_assert_eq(status->result, EEPK_STEP_PART, "result %u", status->result);
    cr_assert_eq(status->num_nodes, EEPK_NODES_PER_LAYER);
    cr_assert_eq(eepk_load_acquire(eepk_abort_word(&w->layout, w->rank[1].window, 0)),
                 eepk_abort_word_of(EPOCH, STEP, 0), "its peer was not told");
    kernel_world_close(w);
}

/* A layer out of its turn publishes nothing, since no peer could meet it, and stores no row: what
 * it would overwrite may be a live result (rule P4). */
Test(kernel_faults, a_layer_out_of_turn_ends_the_step)
{
    kernel_world *w = kernel_pair_open();
    const eepk_status *status;

    kernel_pair_begin(w, STEP, kernel_long_ns);
    kernel_rank_run_to(w, 0, EEPI_KERNEL_unpack, 1);
    status = kernel_rank_finish(w, 0);
    cr_assert_eq(status->result, EEPK_STEP_PART, "result %u", status->result);
    cr_assert_eq(eepk_load_acquire(eepk_dispatch_tag(&w->layout, w->rank[1].window, 0, 0)), 0);
    const uint32_t num_tokens = eepk_header(&w->layout, w->rank[1].window, 0, 0)->num_tokens;
    cr_assert_neq(num_tokens, w->rank[0].num_tokens, "%u", num_tokens);
    kernel_world_close(w);
}

/* A graph that is replayed twice, or outside a step: the number was used (D5), nobody is told. */
Test(kernel_faults, a_step_number_runs_once)
{
    kernel_world *w = kernel_pair_open();
    const eepk_status *status;

    kernel_pair_begin(w, STEP, SHORT_NS / 4);
    expect_nothing(w, 0, EEPK_STEP_DEADLINE);
    memset(w->rank[1].window + w->layout.off_abort, 0, EEPK_LINE_BYTES);
    kernel_rank_run(w, 0, EEPI_KERNEL_latch, 0);
    kernel_rank_run_to(w, 0, EEPI_KERNEL_unpack, 0);
    status = kernel_rank_finish(w, 0);
    cr_assert_eq(status->result, EEPK_STEP_AGAIN, "result %u", status->result);
    cr_assert_eq(eepk_load_acquire(eepk_abort_word(&w->layout, w->rank[1].window, 0)), 0);
    kernel_world_close(w);
}
