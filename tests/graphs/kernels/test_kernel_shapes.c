/* SPDX-License-Identifier: Apache-2.0 */
/* Shapes of steps (rule P6): chunks give the bits of one exchange, a step has one shape, and all
 * who complete a step know the shape of the next one. */
#include "tests/lib/world/kernel_check.h"
#include "tests/lib/world/kernel_chunks.h"

#include "graphs/kernels/compiler_macros.h"

#include <criterion/criterion.h>
#include <string.h>

#ifdef EMULATED_BLOCKS
enum { NUM_WORLDS = 6 };
#else
enum { NUM_WORLDS = 24 };
#endif
enum { STEP = 7, SHORT_NS = 20000000 };

TestSuite(kernel_shapes, .timeout = 100);

static moe_shape random_shape(uint64_t *random)
{
    moe_shape s = {.max_ranks = 1 + kernel_below(random, 5),
                   .num_layers = 1 + kernel_below(random, 3),
                   .num_slots = 2 + kernel_below(random, 4),
                   .hidden = 1 + kernel_below(random, 70),
                   .max_tokens = 5 + kernel_below(random, 20),
                   .dtype = (eep_dtype)kernel_below(random, 2),
                   .out_dtype = (eep_dtype)kernel_below(random, 2),
                   .fp8_dispatch = kernel_below(random, 3) == 0};

    s.num_experts = 1 + kernel_below(random, s.max_ranks * s.num_slots);
    s.top_k = 1 + kernel_below(random, s.num_experts > 4 ? 4 : s.num_experts);
    return s;
}

static void fill(kernel_world *w, int most, uint64_t *random)
{
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        kernel_rank_fill(w, seat, most, kernel_random(random));
    }
}

static void check_outputs(kernel_world *w, uint64_t step, uint64_t seed)
{
    kernel_world_step(w, step);
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        const eepk_status *status = eepi_tables_status(w->rank[seat].tables);
        cr_assert_eq(status->result, EEPK_STEP_OK, "seat %d: %u, " KERNEL_REPLAY, seat,
                     status->result, KERNEL_SEED(seed));
        cr_assert_eq(status->stale_dropped, 0, KERNEL_REPLAY, KERNEL_SEED(seed));
        cr_assert_lt(kernel_rank_compare(w, seat, true), 0, "seat %d, step %llu, " KERNEL_REPLAY,
                     seat, (unsigned long long)step, KERNEL_SEED(seed));
    }
}

/* The reference computes a batch at once. Steps of both shapes follow each other in any order, and
 * views change between them. */
Test(kernel_shapes, P6_chunks_have_the_bits_of_one_exchange)
{
    for (uint64_t seed = kernel_first_seed(), end = seed + NUM_WORLDS; seed < end; seed++) {
        uint64_t random = seed;
        const moe_shape shape = random_shape(&random);
        kernel_world *w = kernel_world_open_chunks(&shape, 1 + (uint32_t)kernel_below(&random, 4),
                                                   2 + kernel_below(&random, 4));
        kernel_chunks_capture(w);
        for (uint64_t step = 1; step <= 8; step++) {
            const uint32_t chosen = (uint32_t)kernel_below(&random, 2);
            if (step % 4 == 1) {
                kernel_world_switch(w, kernel_view(w, step, (1u << shape.max_ranks) - 1u, 1,
                                                   kernel_random(&random)));
            }
            fill(w, chosen ? shape.max_tokens : (int)w->layout.shapes[0].chunk_tokens, &random);
            kernel_chunks_choose(w, chosen);
            check_outputs(w, step, seed);
        }
        cr_assert_eq(eep_device_captures(w->device), 2u * (uint64_t)shape.max_ranks);
        kernel_world_close(w);
    }
}

Test(kernel_shapes, P6_a_tag_names_one_exchange_of_one_shape)
{
    const eep_shape shapes[] = {{4096, 8}, {512, 4}, {90, 1}};
    const eep_config config = {.struct_bytes = sizeof config,
                               .num_ranks = 2,
                               .max_ranks = 2,
                               .num_layers = 61,
                               .num_experts = 288,
                               .num_slots = 9,
                               .top_k = 8,
                               .hidden = 16,
                               .num_max_tokens_per_rank = 128,
                               .num_chains = 2,
                               .shapes = shapes,
                               .num_shapes = 3};
    static bool is_taken[EEP_MAX_EXCHANGES + 1];
    uint32_t num = 0;
    eepk_shape s;
    const char *why;

    cr_assert_eq(eepi_shape_make(&config, &s, &why), EEP_OK, "%s", why);
    cr_expect_eq(s.num_max_tokens, 512);
    for (uint32_t shape = 0; shape < s.num_shapes; shape++) {
        const uint32_t each = s.num_layers * s.shapes[shape].num_chunks * s.num_chains;
        for (uint32_t i = 0; i < each; i++, num++) {
            const uint32_t turn = i / s.num_chains, chunks = s.shapes[shape].num_chunks;
            const eepk_exchange_at at = {turn / chunks, i % s.num_chains, EEPK_PHASE_COMBINE,
                                         turn % chunks};
            const uint64_t tag = eepk_tag_at(&s, 5, 6, shape, at);
            cr_assert(!is_taken[eepk_tag_exchange(tag)]);
            is_taken[eepk_tag_exchange(tag)] = true;
            cr_assert_eq(eepk_tag_shape(&s, tag), shape);
            cr_assert_eq(eepk_tag_step_after(tag, 6), 0);
        }
    }
    cr_expect_eq(num, eepk_num_exchanges(&s));
    cr_expect_eq(num, 61 * 2 * (1 + 8 + 4 + 1));
}

Test(kernel_shapes, shapes_that_are_not_possible_are_named)
{
    const struct {
        eep_shape shapes[3];
        int num, layers;
        const char *text;
    } bad[] = {{{{8, 0}}, 1, 4, "num_chunks of shape 1 is 0"},
               {{{99, 2}, {8, 17}}, 2, 4, "num_chunks of shape 2 is 17"},
               {{{3, 4}}, 1, 4, "max_tokens of shape 1 is 3"},
               {{{65536, 1}}, 1, 4, "max_tokens of shape 1 is 65536"},
               {{{64, 16}}, 1, 255, "have 17 chunks, which are 4335 exchanges"},
               {{{8, 2}}, 4, 4, "num_shapes is 4: 0 to 3 are possible"}};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const eep_config config = {.struct_bytes = sizeof config,
                                   .num_ranks = 1,
                                   .max_ranks = 1,
                                   .num_layers = bad[i].layers,
                                   .num_experts = 2,
                                   .num_slots = 2,
                                   .top_k = 1,
                                   .hidden = 4,
                                   .num_max_tokens_per_rank = 8,
                                   .shapes = bad[i].shapes,
                                   .num_shapes = bad[i].num};
        const char *why = "";
        eepk_shape s;
        cr_expect_eq(eepi_shape_make(&config, &s, &why), EEP_ERR_INVALID, "case %zu", i);
        cr_expect(strstr(why, bad[i].text), "case %zu: %s", i, why);
    }
}

/* ------------------------------------------------------------------ one shape a step */

static kernel_world *open_ranks(int num)
{
    const moe_shape shape = {num, 2, 6, 4, 2, 16, 12, EEP_FP32, EEP_FP32, 0};
    kernel_world *w = kernel_world_open_chunks(&shape, 2, 3);
    uint64_t random = kernel_first_seed();

    kernel_chunks_capture(w);
    kernel_world_switch(w, kernel_view(w, 1, (1u << num) - 1u, 1, 3));
    fill(w, 4, &random);
    return w;
}

static void expect_no_suspects(const kernel_world *w, int seat)
{
    const eepk_status *status = eepi_tables_status(w->rank[seat].tables);

    cr_expect_eq(status->suspects[0], 0, "seat %d accuses somebody", seat);
    for (int layer = 0; layer < w->shape.num_layers; layer++) {
        cr_expect(kernel_out_untouched(w, seat, layer));
    }
}

/* Nobody reads a row, nobody is accused, and all know the larger shape. */
Test(kernel_shapes, P6_ranks_with_different_shapes_end_the_step)
{
    for (int larger = 0; larger < 3; larger++) {
        kernel_world *w = open_ranks(3);
        for (int seat = 0; seat < 3; seat++) {
            kernel_rank_choose(w, seat, seat == larger);
            kernel_rank_launch(w, seat, STEP, kernel_long_ns);
        }
        for (int seat = 0; seat < 3; seat++) {
            const eepk_status *status = kernel_rank_end(w, seat);
            cr_expect(status->result == EEPK_STEP_SHAPE || status->result == EEPK_STEP_PEER_ABORT,
                      "seat %d: %u", seat, status->result);
            cr_expect_eq(status->seen_shape, 1, "seat %d does not know", seat);
            expect_no_suspects(w, seat);
        }
        kernel_chunks_choose(w, 1);
        check_outputs(w, STEP + 1, kernel_first_seed());
        kernel_world_close(w);
    }
}

/* By its abort word alone: the tag of the one with the larger shape is not there yet. */
Test(kernel_shapes, P6_an_abort_word_names_the_shape)
{
    kernel_world *w = open_ranks(2);
    const eepk_status *status;

    eepk_store_release(eepk_abort_word(&w->layout, w->rank[0].window, 1),
                       eepk_abort_word_of(1, STEP, 1));
    kernel_rank_launch(w, 0, STEP, kernel_long_ns);
    status = kernel_rank_end(w, 0);
    cr_expect_eq(status->result, EEPK_STEP_PEER_ABORT);
    cr_expect_eq(status->seen_shape, 1);
    cr_expect_eq(eepk_abort_shape(*eepk_abort_word(&w->layout, w->rank[1].window, 0)), 1,
                 "it is passed on");
    /* a shape that there is not is no shape */
    eepk_store_release(eepk_abort_word(&w->layout, w->rank[0].window, 1),
                       eepk_abort_word_of(1, STEP + 1, 5));
    kernel_rank_launch(w, 0, STEP + 1, kernel_long_ns);
    cr_expect_eq(kernel_rank_end(w, 0)->seen_shape, 0);
    kernel_world_close(w);
}

Test(kernel_shapes, P6_who_completes_a_step_knows_the_largest_shape_that_is_wanted)
{
    for (int wants = 0; wants < 4; wants++) { /* 3: nobody */
        kernel_world *w = open_ranks(3);
        for (uint64_t step = STEP; step < STEP + 2; step++) {
            for (int seat = 0; seat < 3; seat++) {
                w->rank[seat].wanted_shape = seat == wants && step == STEP;
            }
            kernel_chunks_choose(w, step == STEP + 1 && wants < 3);
            check_outputs(w, step, kernel_first_seed());
            for (int seat = 0; seat < 3; seat++) {
                cr_expect_eq(eepi_tables_status(w->rank[seat].tables)->wanted_shape,
                             wants < 3 && step == STEP, "seat %d", seat);
            }
        }
        kernel_world_close(w);
    }
}

Test(kernel_shapes, P6_a_graph_of_another_shape_is_no_step)
{
    kernel_world *w = open_ranks(2);

    for (int seat = 0; seat < 2; seat++) {
        kernel_rank_prepare(w, seat, STEP, kernel_long_ns);
        eepi_tables_launch(w->rank[seat].tables)->shape = seat == 0;
        cr_assert_eq(eep_graph_replay(w->rank[seat].graph, w->rank[seat].stream), EEP_OK);
    }
    cr_expect_eq(kernel_rank_end(w, 0)->result, EEPK_STEP_OTHER_GRAPH);
    cr_expect_eq(kernel_rank_end(w, 1)->result, EEPK_STEP_PEER_ABORT, "its peer is told");
    expect_no_suspects(w, 0);
    expect_no_suspects(w, 1);
    kernel_world_close(w);
}

/* Buffers of a shape with few tokens may be smaller than the window: its own bound counts. */
Test(kernel_shapes, a_chunk_has_the_tokens_of_its_shape)
{
    kernel_world *w = open_ranks(2);
    const int most = (int)w->layout.shapes[1].chunk_tokens;

    kernel_chunks_choose(w, 1);
    w->rank[0].chunk_tokens[2] = most + 1;
    for (int seat = 0; seat < 2; seat++) {
        kernel_rank_launch(w, seat, STEP, kernel_long_ns);
    }
    for (int seat = 0; seat < 2; seat++) {
        const eepk_status *status = kernel_rank_end(w, seat);
        cr_expect_eq(status->result, EEPK_STEP_OK);
        cr_expect_eq(status->bad_input, seat == 0 ? EEPK_INPUT_TOKENS : EEPK_INPUT_OK);
        cr_expect(seat == 1 || (status->bad_chunk == 2 && status->bad_layer == 0));
        cr_expect_eq(status->max_tokens, most);
    }
    kernel_world_close(w);
}

/* A source whose header says what no rank of this shape can say. */
Test(kernel_shapes, a_torn_header_ends_the_step)
{
    for (int torn = 0; torn < 3; torn++) {
        kernel_world *w = open_ranks(2);
        eepk_source_header *header = eepk_header(&w->layout, w->rank[0].window, 0, 1);
        kernel_rank_prepare(w, 1, STEP, kernel_long_ns);
        kernel_rank_run(w, 1, EEPI_KERNEL_latch, 0);
        kernel_rank_run(w, 1, EEPI_KERNEL_route, 0);
        kernel_rank_run(w, 1, EEPI_KERNEL_dispatch_send, 0);
        header->wanted_shape = torn == 1 ? 2 : 0;
        header->num_tokens = torn == 2 ? w->layout.shapes[0].chunk_tokens + 1 : 1;
        kernel_rank_prepare(w, 0, STEP, kernel_long_ns);
        kernel_rank_run(w, 0, EEPI_KERNEL_latch, 0);
        kernel_rank_run(w, 0, EEPI_KERNEL_route, 0);
        kernel_rank_run(w, 0, EEPI_KERNEL_dispatch_send, 0);
        kernel_rank_run(w, 0, EEPI_KERNEL_dispatch_exchange, 0);
        cr_expect_eq(w->rank[0].world->control->latch.status.result,
                     torn ? EEPK_STEP_STALE : EEPK_STEP_OK, "case %d", torn);
        kernel_world_close(w);
    }
}

/* A peer is ahead: its tag is all that is left to see of what it began. */
Test(kernel_shapes, P6_who_jumps_knows_the_shape_that_it_jumps_to)
{
    kernel_world *w = open_ranks(2);
    const eepk_exchange_at first = {0, 0, EEPK_PHASE_DISPATCH, 0};
    const eepk_status *status;

    eepk_store_release(eepk_dispatch_tag(&w->layout, w->rank[0].window, 0, 1),
                       eepk_tag_at(&w->layout, 1, STEP + 1, 1, first));
    kernel_rank_launch(w, 0, STEP, kernel_long_ns);
    status = kernel_rank_end(w, 0);
    cr_expect_eq(status->result, EEPK_STEP_JUMP);
    cr_expect_eq(status->jump_step, STEP + 1);
    cr_expect_eq(status->seen_shape, 1);
    kernel_world_close(w);
}
