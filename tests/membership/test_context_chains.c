/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts whose steps have two chains: right through faults and joins, however the chains mix, and
 * refused where they mix otherwise than the instance's (rules P3 to P5). */
#include "tests/lib/context_checks.h"

#include <string.h>

TestSuite(context_chains, .timeout = 60);

static void open_two(world *w, int32_t num_ranks, int32_t max_ranks, rank_mix mix)
{
    world_open(w, num_ranks, max_ranks);
    w->config.num_chains = 2;
    for (int32_t seat = 0; seat < max_ranks; seat++) {
        w->ranks[seat].mix = mix;
    }
}

/* Both chains have the same inputs, and so equal counts: what one keeps in the other's place would
 * be taken for its own. */
Test(context_chains, P4_both_results_are_right_through_a_close_and_a_join)
{
    for (int mix = MIX_HALVES; mix <= (int)MIX_WHOLE_LAYERS; mix++) {
        world w;
        open_two(&w, 4, 4, (rank_mix)mix);
        world_start(&w);
        world_set_modes(&w, 0, 3, RANK_WORK);
        world_advance(&w, 0, 3, 10);
        rank_close(&w.ranks[2]);
        world_advance(&w, 0, 1, 10);
        world_let_in(&w, 2, 0, 3, 10);
        world_rest(&w);
        world_check_right(&w);
        world_close(&w);
    }
}

Test(context_chains, P5_a_joiner_that_mixes_otherwise_is_refused_by_name)
{
    world w;
    rank *late;
    open_two(&w, 2, 3, MIX_HALVES);
    world_start(&w);
    world_set_modes(&w, 0, 1, RANK_WORK);
    late = &w.ranks[2];
    late->mix = MIX_WHOLE_LAYERS;
    cr_assert_eq(rank_open(&w, 2), EEP_OK, "%s", late->error);
    rank_run(late);
    WORLD_WAIT(&w, late->join_status != EEP_OK);
    cr_expect_eq(late->join_status, EEP_ERR_CHECKSUM, "%s", eep_strerror(late->join_status));
    cr_expect(
        strstr(late->text, "rank 2 puts the sends and receives of its chains in another order"),
        "%s", late->text);
    world_advance(&w, 0, 1, 5);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 1);
    world_check_right(&w);
    world_close(&w);
}

Test(context_chains, P5_ranks_of_a_first_view_that_mix_differently_are_named)
{
    world w;
    open_two(&w, 2, 2, MIX_HALVES);
    w.ranks[1].mix = MIX_WHOLE_LAYERS;
    for (int32_t seat = 0; seat < 2; seat++) {
        cr_assert_eq(rank_open(&w, seat), EEP_OK, "%s", w.ranks[seat].error);
        rank_run(&w.ranks[seat]);
    }
    for (int32_t seat = 0; seat < 2; seat++) {
        const rank *r = &w.ranks[seat];
        WORLD_WAIT(&w, r->join_status != EEP_OK);
        cr_expect(strstr(r->text, "rank 1 puts the sends and receives of its chains"), "%s",
                  r->text);
    }
    world_close(&w);
}

static void expect_text(const rank *r, eep_status came, eep_status status, const char *text)
{
    cr_expect_eq(came, status, "%s", eep_strerror(came));
    cr_expect(strstr(eep_last_error(r->context), text), "%s", eep_last_error(r->context));
}

/* What one chain has unpacked is not the other's to write (rule P4). */
static void refuse_shared_outputs(rank *r)
{
    eep_dispatch_args d = {.struct_bytes = sizeof d,
                           .x = r->x,
                           .topk_idx = r->topk_idx,
                           .num_tokens = r->num_tokens,
                           .rows = r->chain[0].rows,
                           .slot_begin = r->chain[0].slot_begin};
    eep_graph *graph = NULL;
    cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
    cr_assert_eq(eep_step_latch(r->context, r->stream), EEP_OK);
    cr_assert_eq(eep_dispatch_send(r->context, 0, r->stream, &d), EEP_OK);
    d.chain = 1;
    expect_text(r, eep_dispatch_send(r->context, 0, r->stream, &d), EEP_ERR_INVALID,
                "chain 1 has the same rows as chain 0");
    cr_expect_neq(eep_capture_end(r->stream, &graph), EEP_OK, "it lacks the rest");
}

static void join_without_a_capture(rank *r)
{
    expect_text(r, eep_join(r->context), EEP_ERR_STATE, "capture the step before");
    expect_text(r, eep_dispatch_receive(r->context, 0, 2, r->stream), EEP_ERR_INVALID,
                "eep_dispatch_receive: chain is 2: 0 to 1 are possible");
    expect_text(r, eep_combine_receive(r->context, 9, 0, r->stream), EEP_ERR_INVALID,
                "eep_combine_receive: layer is 9");
    refuse_shared_outputs(r);
}

Test(context_chains, P5_the_order_is_known_before_the_join)
{
    world w;
    open_two(&w, 1, 1, MIX_HALVES);
    w.config.num_experts = WORLD_SLOTS;
    w.ranks[0].opened = join_without_a_capture;
    world_start(&w);
    world_close(&w);
}

Test(context_chains, another_number_of_chains_is_refused_at_the_open)
{
    world w;
    open_two(&w, 1, 2, MIX_HALVES);
    w.config.num_experts = WORLD_SLOTS;
    world_start(&w);
    w.config.num_chains = 1;
    cr_expect_neq(rank_open(&w, 1), EEP_OK);
    cr_expect(strstr(w.ranks[1].error, "num_chains is 1 here and 2 in the instance"), "%s",
              w.ranks[1].error);
    w.config.num_chains = 0; /* as 1 */
    cr_expect_neq(rank_open(&w, 1), EEP_OK);
    cr_expect(strstr(w.ranks[1].error, "num_chains is 1 here and 2 in the instance"), "%s",
              w.ranks[1].error);
    w.config.num_chains = 3;
    cr_expect_eq(rank_open(&w, 1), EEP_ERR_INVALID);
    cr_expect(strstr(w.ranks[1].error, "num_chains is 3"), "%s", w.ranks[1].error);
    w.config.num_chains = 2;
    world_close(&w);
}

/* The kernels count whom a receive waits for. */
Test(context_chains, waits_are_counted_for_each_seat)
{
    uint64_t waited_ns[2] = {0, 0};
    world w;
    open_two(&w, 2, 2, MIX_HALVES);
    world_start(&w);
    cr_expect_eq(eep_waits_get(w.ranks[0].context, NULL), EEP_ERR_INVALID);
    rank_set_mode(&w.ranks[0], RANK_WORK);
    WORLD_WAIT(&w, w.ranks[0].in_step); /* it waits for rank 1 */
    rank_set_mode(&w.ranks[1], RANK_WORK);
    world_advance(&w, 0, 1, 200);
    world_rest(&w);
    cr_expect_eq(eep_waits_get(w.ranks[0].context, waited_ns), EEP_OK);
    cr_expect_eq(waited_ns[0], 0, "nobody waits for himself");
    cr_expect_gt(waited_ns[1], 0);
    world_check_right(&w);
    world_close(&w);
}
