/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts whose steps have two shapes: one graph of each, replayed in any order through faults,
 * leaves and joins; and what is refused (rules P5 and P6). */
#include "tests/lib/context_checks.h"

#include <string.h>

TestSuite(context_shapes, .timeout = 60);

/* Other ranks at other times, and sometimes all or none. */
static int32_t wants_by_turns(const rank *r)
{
    return (int32_t)((r->position / 3 + (uint64_t)r->seat) % 4 == 0);
}

static int32_t wants_its_seat(const rank *r)
{
    return r->seat % 2;
}

static void open_shapes(world *w, int32_t num_ranks, int32_t max_ranks,
                        int32_t (*wants)(const rank *r))
{
    world_open(w, num_ranks, max_ranks);
    world_add_chunks(w);
    for (int32_t seat = 0; seat < max_ranks; seat++) {
        w->ranks[seat].wants = wants;
    }
}

/* Every token right, and each rank captures twice, before it joins. */
static void check_both(world *w, int32_t first, int32_t last)
{
    world_check_right(w);
    for (int32_t seat = first; seat <= last; seat++) {
        const rank *r = &w->ranks[seat];
        cr_expect_gt(r->shape_ok[0], 0, "rank %d", seat);
        cr_expect_gt(r->shape_ok[1], 0, "rank %d", seat);
    }
}

Test(context_shapes, P6_both_shapes_are_right_through_a_close_and_a_join)
{
    for (int chains = 1; chains <= 2; chains++) {
        world w;
        open_shapes(&w, 4, 4, wants_by_turns);
        w.config.num_chains = chains;
        world_start(&w);
        world_set_modes(&w, 0, 3, RANK_WORK);
        world_advance(&w, 0, 3, 20);
        rank_close(&w.ranks[2]);
        world_advance(&w, 0, 1, 20);
        world_let_in(&w, 2, 0, 3, 20);
        world_rest(&w);
        check_both(&w, 0, 3);
        world_close(&w);
    }
}

/* They agree in each step on the next one: nothing is aborted but the first step, which no step
 * before could tell of. */
Test(context_shapes, P6_ranks_that_never_want_the_same_go_on)
{
    world w;
    open_shapes(&w, 3, 3, wants_its_seat);
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, 40);
    world_rest(&w);
    for (int32_t seat = 0; seat < 3; seat++) {
        cr_expect_leq(w.ranks[seat].steps_aborted, 1, "rank %d: %llu", seat,
                      (unsigned long long)w.ranks[seat].steps_aborted);
        cr_expect_gt(w.ranks[seat].shape_ok[1], 30);
    }
    world_check_right(&w);
    world_close(&w);
}

/* Ranks without work follow with the shape that a peer has begun. */
Test(context_shapes, P6_idle_ranks_take_the_shape_of_those_who_work)
{
    world w;
    open_shapes(&w, 3, 3, NULL);
    w.ranks[0].wants = wants_by_turns;
    world_start(&w);
    world_set_modes(&w, 0, 0, RANK_WORK);
    world_set_modes(&w, 1, 2, RANK_FOLLOW);
    world_advance(&w, 0, 0, 40);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 2);
    check_both(&w, 0, 2);
    world_close(&w);
}

static int32_t wants_chunks(const rank *r)
{
    (void)r;
    return 1;
}

Test(context_shapes, P6_the_same_where_hosts_do_not_see_what_kernels_store)
{
    world w;
    open_shapes(&w, 3, 4, wants_by_turns);
    w.windows_discrete = 1;
    world_start(&w);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_set_modes(&w, 2, 2, RANK_FOLLOW);
    world_advance(&w, 0, 1, 20);
    w.ranks[3].wants = wants_chunks;
    world_let_in(&w, 3, 0, 1, 20);
    world_rest(&w);
    check_both(&w, 0, 1);
    world_close(&w);
}

/* ---------------------------------------------------------------- what is refused */

Test(context_shapes, P5_a_joiner_that_mixes_chunks_otherwise_is_refused_by_shape)
{
    world w;
    rank *late;
    open_shapes(&w, 2, 3, wants_by_turns);
    w.config.num_chains = 2;
    world_start(&w);
    world_set_modes(&w, 0, 1, RANK_WORK);
    late = &w.ranks[2];
    late->mix_of_chunks = MIX_WHOLE_LAYERS;
    cr_assert_eq(rank_open(&w, 2), EEP_OK, "%s", late->error);
    rank_run(late);
    WORLD_WAIT(&w, late->join_status != EEP_OK);
    cr_expect_eq(late->join_status, EEP_ERR_CHECKSUM, "%s", eep_strerror(late->join_status));
    cr_expect(strstr(late->text, "rank 2 puts the sends and receives of its chains in another "
                                 "order than rank 0, in steps of shape 1"),
              "%s", late->text);
    world_advance(&w, 0, 1, 5);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

static void expect_text(const rank *r, eep_status came, eep_status status, const char *text)
{
    cr_expect_eq(came, status, "%s: %s", text, eep_strerror(came));
    cr_expect(strstr(eep_last_error(r->context), text), "%s", eep_last_error(r->context));
}

static eep_dispatch_args args_of_chunk(const rank *r, int32_t chunk)
{
    return (eep_dispatch_args){.struct_bytes = sizeof(eep_dispatch_args),
                               .x = r->x,
                               .topk_idx = r->topk_idx,
                               .num_tokens = r->chunk_tokens,
                               .rows = r->chain[0].rows,
                               .slot_begin = r->chain[0].slot_begin,
                               .chunk = chunk};
}

static void refuse_in_capture(rank *r)
{
    eep_graph *graph = NULL;
    eep_dispatch_args d = args_of_chunk(r, 1);

    expect_text(r, eep_step_latch_shape(r->context, 2, r->stream), EEP_ERR_INVALID,
                "eep_step_latch_shape: shape is 2: 0 to 1 are possible");
    cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
    cr_assert_eq(eep_step_latch_shape(r->context, 1, r->stream), EEP_OK);
    expect_text(r, eep_dispatch(r->context, 0, r->stream, &d), EEP_ERR_STATE,
                "eep_dispatch of layer 0, chunk 1 came where eep_dispatch of layer 0, chunk 0 was "
                "expected");
    cr_expect(strstr(eep_last_error(r->context), "per layer 0 to 1, chunk 0 to 1"), "%s",
              eep_last_error(r->context));
    d.chunk = -1;
    expect_text(r, eep_dispatch(r->context, 0, r->stream, &d), EEP_ERR_INVALID, "chunk is -1");
    d = args_of_chunk(r, 0);
    d.reserved = 3;
    expect_text(r, eep_dispatch(r->context, 0, r->stream, &d), EEP_ERR_INVALID, "reserved is 3");
    cr_expect_neq(eep_capture_end(r->stream, &graph), EEP_OK, "it lacks the rest");
    cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
    cr_assert_eq(eep_step_latch(r->context, r->stream), EEP_OK);
    d = args_of_chunk(r, 1);
    expect_text(r, eep_dispatch(r->context, 0, r->stream, &d), EEP_ERR_STATE, "eep_dispatch of");
    cr_expect_neq(eep_capture_end(r->stream, &graph), EEP_OK, "it lacks the rest");
}

Test(context_shapes, shapes_are_told_and_wrong_ones_refused)
{
    const struct {
        int32_t max_tokens, num_chunks, chunk_tokens;
    } expected[] = {{2, 1, 2}, {4, 2, 2}};
    eep_shape_info info;
    eep_step step;
    int32_t shape = 7;
    world w;
    rank *r = &w.ranks[0];

    open_shapes(&w, 1, 1, NULL);
    w.config.num_experts = WORLD_SLOTS;
    r->opened = refuse_in_capture;
    world_start(&w);
    rank_stop(r);
    cr_expect_eq(eep_num_shapes(r->context), 2);
    for (int32_t i = 0; i < 2; i++) {
        cr_assert_eq(eep_shape_get(r->context, i, EEP_SIZED(&info)), EEP_OK);
        cr_expect_eq(info.max_tokens, expected[i].max_tokens);
        cr_expect_eq(info.num_chunks, expected[i].num_chunks);
        cr_expect_eq(info.chunk_tokens, expected[i].chunk_tokens);
        cr_expect_eq(info.rows_capacity, eep_rows_capacity(r->context));
    }
    cr_expect_eq(eep_shape_get(r->context, 2, EEP_SIZED(&info)), EEP_ERR_INVALID);
    expect_text(r, eep_step_begin(r->context, 0, EEP_SIZED(&step)), EEP_ERR_STATE,
                "this context has 2 shapes: eep_step_begin_shape");
    expect_text(r, eep_step_begin_shape(r->context, 0, 2, EEP_SIZED(&step), &shape),
                EEP_ERR_INVALID, "eep_step_begin_shape: shape is 2: 0 to 1 are possible");
    cr_expect_eq(shape, 7, "an output is written on success alone");
    cr_assert_eq(eep_step_begin_shape(r->context, 5000000, 1, EEP_SIZED(&step), &shape), EEP_OK);
    cr_expect_eq(shape, 1, "nobody has begun otherwise");
    cr_assert_eq(eep_graph_replay(r->graph, r->stream), EEP_OK);
    expect_text(r, eep_step_end(r->context), EEP_ERR_STATE,
                "has shape 1, and a graph of another shape was replayed");
    world_close(&w);
}

Test(context_shapes, other_shapes_are_refused_at_the_open)
{
    const eep_shape other = {WORLD_TOKENS, 1};
    world w;

    open_shapes(&w, 1, 2, NULL);
    w.config.num_experts = WORLD_SLOTS;
    world_start(&w);
    w.config.shapes = &other;
    cr_expect_neq(rank_open(&w, 1), EEP_OK);
    cr_expect(strstr(w.ranks[1].error, "num_chunks of shape 1 is 1 here and 2 in the instance"),
              "%s", w.ranks[1].error);
    w.config.num_shapes = 0;
    cr_expect_neq(rank_open(&w, 1), EEP_OK);
    cr_expect(strstr(w.ranks[1].error, "max_tokens of shape 1 is 0 here and 4 in the instance"),
              "%s", w.ranks[1].error);
    w.config.num_shapes = 1;
    w.config.reserved_shapes = 1;
    cr_expect_eq(rank_open(&w, 1), EEP_ERR_INVALID);
    w.config.reserved_shapes = 0;
    w.config.shapes = NULL;
    cr_expect_eq(rank_open(&w, 1), EEP_ERR_INVALID);
    cr_expect(strstr(w.ranks[1].error, "num_shapes is 1"), "%s", w.ranks[1].error);
    world_close(&w);
}
