/* SPDX-License-Identifier: Apache-2.0 */
/* The fixed-membership baseline does the elastic step's work: the same bits, from the same inputs,
 * on the host device. */
#include "experiments/bench/fixed/fixed.h"
#include "tests/lib/world/kernel_world.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { LONG_US = 60000000 };

/* Blocks of many threads take their time on a CPU. */
#ifdef EMULATED_BLOCKS
enum { NUM_SHAPES = 8 };
#else
enum { NUM_SHAPES = 40 };
#endif

TestSuite(fixed, .timeout = 100);

#define OK(call) cr_assert_eq((call), EEP_OK)

typedef struct frozen_rank { /* beside a kernel_rank, whose buffers and scratch it uses */
    void *window;
    eepk_fixed_state state;
    eep_graph *graph;
} frozen_rank;

typedef struct frozen_world {
    kernel_world *w;
    void *windows[KERNEL_MAX_SEATS];
    frozen_rank rank[KERNEL_MAX_SEATS];
} frozen_world;

static void put(frozen_world *f, int seat, eepi_fixed_kernel_id id, const void *args, size_t bytes)
{
    const int wide = id == EEPI_KERNEL_fixed_dispatch_send || id == EEPI_KERNEL_fixed_unpack ||
                     id == EEPI_KERNEL_fixed_combine_send || id == EEPI_KERNEL_fixed_reduce;

    OK(eep_launch(f->w->rank[seat].stream, &eepi_fixed_host_kernels[id],
                  wide ? f->w->num_blocks : 1, 32, args, bytes));
}

static void put_layer(frozen_world *f, int seat, uint32_t layer)
{
    kernel_rank *r = &f->w->rank[seat];
    const kernel_layer *l = &r->layer[layer];
    eepk_fixed_dispatch_args d = {.x = l->x,
                                  .topk_idx = l->topk_idx,
                                  .num_tokens = &r->num_tokens,
                                  .rows = l->rows,
                                  .slot_begin = l->slot_begin,
                                  .row_scales = l->row_scales,
                                  .layer = layer};
    eepk_fixed_combine_args c = {.rows = l->expert_rows,
                                 .topk_weights = l->topk_weights,
                                 .num_tokens = &r->num_tokens,
                                 .slot_begin = l->slot_begin,
                                 .out = l->out,
                                 .layer = layer,
                                 .out_dtype = (uint32_t)f->w->shape.out_dtype};

    OK(eepi_fixed_tables_make(r->world, r->world->bank[r->world->control->live_bank], layer,
                              f->windows, &f->rank[seat].state, &d.tables));
    c.tables = d.tables;
    for (int id = EEPI_KERNEL_fixed_route; id <= (int)EEPI_KERNEL_fixed_unpack; id++) {
        put(f, seat, (eepi_fixed_kernel_id)id, &d, sizeof d);
    }
    kernel_rank_put_experts(f->w, seat, layer);
    for (int id = EEPI_KERNEL_fixed_combine_send; id <= (int)EEPI_KERNEL_fixed_reduce; id++) {
        put(f, seat, (eepi_fixed_kernel_id)id, &c, sizeof c);
    }
}

/* Freezes what is live now. */
static frozen_world *freeze(kernel_world *w)
{
    frozen_world *f = calloc(1, sizeof *f);

    f->w = w;
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        f->windows[seat] = aligned_alloc(EEPK_LINE_BYTES, w->layout.window_bytes);
        memset(f->windows[seat], 0, w->layout.window_bytes);
    }
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        OK(eep_capture_begin(w->rank[seat].stream));
        for (uint32_t layer = 0; layer < (uint32_t)w->shape.num_layers; layer++) {
            put_layer(f, seat, layer);
        }
        OK(eep_capture_end(w->rank[seat].stream, &f->rank[seat].graph));
    }
    return f;
}

static void frozen_close(frozen_world *f)
{
    for (int seat = 0; seat < f->w->shape.max_ranks; seat++) {
        eep_graph_close(f->rank[seat].graph);
        free(f->windows[seat]);
    }
    free(f);
}

/* Outputs and what lies in windows from the step before are poison when it begins. */
static void frozen_step(frozen_world *f)
{
    const eepk_shape *s = &f->w->layout;

    for (int seat = 0; seat < f->w->shape.max_ranks; seat++) {
        memset((uint8_t *)f->windows[seat] + s->off_header, KERNEL_POISON,
               s->window_bytes - s->off_header);
        kernel_rank_prepare(f->w, seat, 0, 0);
    }
    for (int seat = 0; seat < f->w->shape.max_ranks; seat++) {
        OK(eep_graph_replay(f->rank[seat].graph, f->w->rank[seat].stream));
    }
    for (int seat = 0; seat < f->w->shape.max_ranks; seat++) {
        OK(eep_stream_synchronize(f->w->rank[seat].stream, LONG_US));
    }
}

/* One elastic step, then the same inputs through the baseline: against each other and against the
 * reference, rows and outputs. */
static void check_step(frozen_world *f, uint64_t step, uint64_t seed)
{
    kernel_world *w = f->w;
    const moe_shape *shape = &w->shape;
    const size_t bytes =
        (size_t)shape->max_tokens * (size_t)shape->hidden * eep_dtype_bytes(shape->out_dtype);
    const size_t cells = (size_t)shape->max_ranks * (size_t)shape->num_layers;
    const uint64_t steps_before = f->rank[0].state.step;
    uint8_t *elastic = malloc(cells * bytes);

    kernel_world_step(w, step);
    for (size_t i = 0; i < cells; i++) {
        memcpy(elastic + i * bytes,
               w->rank[i / (size_t)shape->num_layers].layer[i % (size_t)shape->num_layers].out,
               bytes);
    }
    frozen_step(f);
    for (int seat = 0; seat < shape->max_ranks; seat++) {
        cr_assert_eq(f->rank[seat].state.step, steps_before + 1);
        cr_assert_eq(f->rank[seat].state.status.bad_input, EEPK_INPUT_OK);
        cr_assert_lt(kernel_rank_compare(w, seat, false), 0, "seat %d, step %llu, seed %llu", seat,
                     (unsigned long long)step, (unsigned long long)seed);
    }
    for (size_t i = 0; i < cells; i++) {
        const size_t seat = i / (size_t)shape->num_layers, layer = i % (size_t)shape->num_layers;
        cr_assert_eq(memcmp(elastic + i * bytes, w->rank[seat].layer[layer].out, bytes), 0,
                     "seat %zu, layer %zu, seed %llu", seat, layer, (unsigned long long)seed);
    }
    free(elastic);
}

static void check_world(const moe_shape *shape, uint32_t num_blocks, uint64_t seed)
{
    kernel_world *w = kernel_world_open(shape, num_blocks);
    uint64_t random = seed;
    frozen_world *f;

    kernel_world_switch(
        w, kernel_view(w, 1, (1ull << shape->max_ranks) - 1, 1, kernel_random(&random)));
    f = freeze(w);
    for (uint64_t step = 1; step <= 4; step++) {
        kernel_world_fill(w, kernel_random(&random));
        check_step(f, step, seed);
    }
    frozen_close(f);
    kernel_world_close(w);
}

Test(fixed, fp32_bf16_and_fp8_have_the_elastic_bits)
{
    moe_shape fp32 = {3, 2, 8, 5, 4, 77, 11, EEP_FP32, EEP_FP32, 0};
    moe_shape bf16 = {4, 3, 12, 5, 3, 64, 9, EEP_BF16, EEP_BF16, 0};
    moe_shape fp8 = {3, 3, 8, 4, 4, 333, 7, EEP_BF16, EEP_FP32, .fp8_dispatch = 1};

    for (uint64_t seed = 1; seed <= 3; seed++) {
        check_world(&fp32, (uint32_t)seed, seed);
        check_world(&bf16, (uint32_t)seed, seed);
        check_world(&fp8, (uint32_t)seed, seed);
    }
}

/* Down to one of everything, and with fewer slots than experts per token. */
Test(fixed, any_shape_has_the_elastic_bits)
{
    for (uint64_t seed = 20260511, end = seed + NUM_SHAPES; seed < end; seed++) {
        uint64_t random = seed;
        moe_shape s = {.max_ranks = 1 + kernel_below(&random, 8),
                       .num_layers = 1 + kernel_below(&random, 4),
                       .num_slots = 1 + kernel_below(&random, 6),
                       .hidden = 1 + kernel_below(&random, 300),
                       .max_tokens = 1 + kernel_below(&random, 20),
                       .dtype = (eep_dtype)kernel_below(&random, 2),
                       .out_dtype = (eep_dtype)kernel_below(&random, 2),
                       .fp8_dispatch = kernel_below(&random, 3) == 0};

        s.num_experts = 1 + kernel_below(&random, s.max_ranks * s.num_slots);
        s.top_k = 1 + kernel_below(&random, s.num_experts > 8 ? 8 : s.num_experts);
        check_world(&s, 1 + (uint32_t)kernel_below(&random, 4), seed);
    }
}

/* A rank with a bad batch sends nothing; its next good batch counts again. */
Test(fixed, a_bad_batch_is_named_and_not_sent)
{
    const moe_shape shape = {2, 2, 4, 2, 2, 8, 5, EEP_FP32, EEP_FP32, 0};
    kernel_world *w = kernel_world_open(&shape, 2);
    frozen_world *f;

    kernel_world_switch(w, kernel_view(w, 1, 3, 1, 7));
    f = freeze(w);
    kernel_world_fill(w, 11);
    w->rank[1].num_tokens = shape.max_tokens + 1;
    frozen_step(f);
    cr_assert_eq(f->rank[1].state.status.bad_input, EEPK_INPUT_TOKENS);
    cr_assert_eq(f->rank[1].state.status.bad_value, shape.max_tokens + 1);
    cr_assert(kernel_out_untouched(w, 1, 0) && kernel_out_untouched(w, 1, 1));
    kernel_world_fill(w, 12);
    check_step(f, 1, 12);
    frozen_close(f);
    kernel_world_close(w);
}

/* Must 12: a rank that never sends keeps nobody for ever. Its graph is not replayed; the others'
 * run to their end, say in which step they gave up, and wait no more. */
Test(fixed, a_wait_for_a_rank_that_never_sends_ends)
{
    enum { LIMIT_NS = 200000000, RANKS = 3, LAYERS = 4, BOUND_US = 20000000 };
    const moe_shape shape = {RANKS, LAYERS, 8, 4, 2, 16, 5, EEP_BF16, EEP_BF16, 0};
    kernel_world *w = kernel_world_open(&shape, 2);
    uint64_t begin_ns, took_ns;
    frozen_world *f;

    kernel_world_switch(w, kernel_view(w, 1, 7, 1, 7));
    f = freeze(w);
    kernel_world_fill(w, 11);
    for (int seat = 0; seat < RANKS; seat++) {
        f->rank[seat].state.limit_ns = LIMIT_NS;
        memset((uint8_t *)f->windows[seat] + w->layout.off_header, KERNEL_POISON,
               w->layout.window_bytes - w->layout.off_header);
        kernel_rank_prepare(w, seat, 0, 0);
    }
    begin_ns = eepk_now_ns();
    for (int seat = 0; seat < RANKS - 1; seat++) {
        OK(eep_graph_replay(f->rank[seat].graph, w->rank[seat].stream));
    }
    for (int seat = 0; seat < RANKS - 1; seat++) {
        OK(eep_stream_synchronize(w->rank[seat].stream, BOUND_US));
        cr_expect_eq(f->rank[seat].state.gave_up, 1);
    }
    took_ns = eepk_now_ns() - begin_ns;
    cr_expect(took_ns >= LIMIT_NS && took_ns < 8ull * LIMIT_NS, "%llu ms for %d exchanges",
              (unsigned long long)(took_ns / 1000000), 2 * LAYERS);
    cr_expect_eq(f->rank[RANKS - 1].state.gave_up, 0);
    frozen_close(f);
    kernel_world_close(w);
}

Test(fixed, windows_of_more_seats_do_not_fit)
{
    eepk_world world = {.shape = {.max_ranks = EEPK_FIXED_MAX_RANKS + 1}};
    void *windows[EEPK_FIXED_MAX_RANKS + 1] = {NULL};
    eepk_fixed_state state;
    eepk_fixed_tables tables;

    cr_assert_eq(eepi_fixed_tables_make(&world, NULL, 0, windows, &state, &tables),
                 EEP_ERR_INVALID);
}
