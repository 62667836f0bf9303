/* SPDX-License-Identifier: Apache-2.0 */
/* Results of the data plane on the host device, against the sequential reference: every bit of
 * dispatch and combine, over shapes, placements, steps, view changes and counter wraps. Bad input
 * is in test_kernel_input.c, faults are in test_kernel_faults.c. */
#include "tests/lib/world/kernel_check.h"

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/fp8.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(kernels, .timeout = 100);

/* Blocks of many threads take their time on a CPU. */
#ifdef EMULATED_BLOCKS
enum { NUM_SHAPES = 16, NUM_SWITCHES = 201, NUM_HISTORIES = 2 };
#else
enum { NUM_SHAPES = 60, NUM_SWITCHES = 1001, NUM_HISTORIES = 6 };
#endif

static uint64_t random_members(uint64_t *random, int max_ranks)
{
    uint64_t members = 0;

    for (int seat = 0; seat < max_ranks; seat++) {
        members |= (uint64_t)(kernel_below(random, 4) != 0) << seat;
    }
    return members ? members : 1u << kernel_below(random, max_ranks);
}

/* Shapes down to one of everything, odd sizes, fewer slots than experts per token. */
static moe_shape random_shape(uint64_t *random, uint64_t *members_out)
{
    moe_shape s = {.max_ranks = 1 + kernel_below(random, 9),
                   .num_layers = 1 + kernel_below(random, 4),
                   .num_slots = 1 + kernel_below(random, 6),
                   .hidden = 1 + kernel_below(random, 70),
                   .max_tokens = 1 + kernel_below(random, 20),
                   .dtype = (eep_dtype)kernel_below(random, 2),
                   .out_dtype = (eep_dtype)kernel_below(random, 2),
                   .fp8_dispatch = kernel_below(random, 3) == 0};
    int num_members;

    if (s.fp8_dispatch) { /* more than one group, and groups that are not full */
        s.hidden += kernel_below(random, 300);
    }

    *members_out = random_members(random, s.max_ranks);
    num_members = __builtin_popcountll(*members_out);
    s.num_experts = 1 + kernel_below(random, num_members * s.num_slots);
    s.top_k = 1 + kernel_below(random, s.num_experts > 8 ? 8 : s.num_experts);
    return s;
}

/* Every 37th binary32, all codes, and what lies around the middle of two. */
Test(kernels, e4m3_is_rounded_to_the_nearest_code)
{
    for (int code = 0; code < 256; code++) {
        const float value = moe_e4m3_value((uint8_t)code);
        const float above = moe_e4m3_value((uint8_t)(code + 1)), middle = (value + above) / 2;
        const float around[] = {value, middle, nextafterf(middle, 0), nextafterf(middle, above)};
        const float got = eepk_e4m3_to_float((uint8_t)code);
        cr_assert(memcmp(&got, &value, sizeof got) == 0 || (isnan(got) && isnan(value)));
        for (size_t i = 0; i < sizeof around / sizeof around[0]; i++) {
            cr_assert_eq(eepk_float_to_e4m3(around[i]), moe_nearest_e4m3(around[i]), "%a",
                         (double)around[i]);
        }
    }
    for (uint64_t bits = 0; bits < 1ull << 32; bits += 37 * 997) {
        union {
            uint32_t bits;
            float value;
        } u = {(uint32_t)bits};
        cr_assert_eq(eepk_float_to_e4m3(u.value), moe_nearest_e4m3(u.value), "%08x", u.bits);
    }
}

Test(kernels, results_match_the_reference)
{
    for (uint64_t seed = kernel_first_seed(), end = seed + NUM_SHAPES; seed < end; seed++) {
        uint64_t random = seed, members;
        moe_shape shape = random_shape(&random, &members);
        kernel_world *w = kernel_world_open(&shape, 1 + (uint32_t)kernel_below(&random, 4));
        kernel_world_switch(w, kernel_view(w, 1, members, 1, kernel_random(&random)));
        for (uint64_t step = 1; step <= 4; step++) {
            kernel_world_fill(w, kernel_random(&random));
            kernel_check_step(w, step, seed);
        }
        kernel_world_close(w);
    }
}

/* Capture once; then members, placement and combine copy change between steps. */
Test(kernels, results_match_through_view_changes)
{
    for (uint64_t seed = kernel_first_seed(), end = seed + NUM_HISTORIES; seed < end; seed++) {
        const moe_shape shape = {6, 3, 8, 8, 4, 33, 9, EEP_BF16, EEP_FP32, 0};
        kernel_world *w = kernel_world_open(&shape, 3);
        uint64_t random = seed, step = 0;
        for (uint64_t epoch = 1; epoch <= 12; epoch++) {
            kernel_world_switch(
                w, kernel_view(w, epoch, random_members(&random, 6), 1, kernel_random(&random)));
            for (int i = kernel_below(&random, 4); i >= 0; i--) {
                kernel_world_fill(w, kernel_random(&random));
                kernel_check_step(w, ++step, seed);
            }
        }
        cr_assert_eq(eep_device_captures(w->device), 6);
        kernel_world_close(w);
    }
}

static bool rows_are_poison(const kernel_world *w, uint8_t *window)
{
    const eepk_shape *s = &w->layout;
    const uint8_t *at = window + s->off_header, *end = window + s->window_bytes;

    while (at < end && *at == KERNEL_POISON) {
        at++;
    }
    return at == end;
}

/* Rule P7: what an expelled rank still stores under the old view lands in the other colour's
 * windows, its dispatch rows and tags too. */
Test(kernels, a_view_uses_the_windows_of_its_colour)
{
    const moe_shape shape = {3, 2, 4, 3, 2, 5, 4, EEP_FP32, EEP_FP32, 0};
    kernel_world *w = kernel_world_open(&shape, 2);
    uint64_t random = kernel_first_seed();

    for (uint64_t epoch = 1; epoch <= 4; epoch++) {
        eepi_view *view = kernel_view(w, epoch, 7, 1, kernel_random(&random));
        view->colour = epoch & 1u;
        eepi_view_seal(view);
        kernel_world_switch(w, view);
        do {
            kernel_world_fill(w, kernel_random(&random));
        } while (w->rank[0].num_tokens < 4 || w->rank[1].num_tokens < 4 ||
                 w->rank[2].num_tokens < 4);
        kernel_check_step(w, epoch, kernel_first_seed());
        for (int seat = 0; seat < 3; seat++) {
            cr_assert(!rows_are_poison(w, w->rank[seat].window));
            cr_assert(rows_are_poison(w, w->rank[seat].coloured[1 - w->view->colour]));
        }
    }
    kernel_world_close(w);
}

/* Tokens per expert, of all steps; what the host reads is of the last step that it asked. */
Test(kernels, loads_are_counted_and_read_without_a_copy)
{
    const moe_shape shape = {3, 2, 5, 3, 2, 4, 9, EEP_FP32, EEP_FP32, 0};
    kernel_world *w = kernel_world_open(&shape, 2);
    uint64_t counts[3][2 * 5] = {{0}}, asked[3][2 * 5] = {{0}};

    kernel_world_switch(w, kernel_view(w, 1, 7, 1, kernel_first_seed()));
    for (uint64_t step = 1; step <= 6; step++) {
        kernel_world_fill(w, kernel_first_seed() + step);
        for (int seat = 0; seat < 3; seat++) {
            w->rank[seat].wants_loads = (step + (uint64_t)seat) % 3 == 0;
        }
        kernel_check_step(w, step, kernel_first_seed());
        for (int i = 0; i < 3 * 2; i++) {
            const moe_input in = kernel_rank_input(w, i / 2, i % 2);
            for (int pair = 0; pair < in.num_tokens * 2; pair++) {
                if (in.topk_idx[pair] >= 0) {
                    counts[i / 2][i % 2 * 5 + in.topk_idx[pair]]++;
                }
            }
        }
        for (int seat = 0; seat < 3; seat++) {
            if (w->rank[seat].wants_loads) {
                memcpy(asked[seat], counts[seat], sizeof asked[seat]);
            }
            cr_expect_arr_eq(eepi_tables_loads(w->rank[seat].tables), asked[seat],
                             sizeof asked[seat], "seat %d, step %llu", seat,
                             (unsigned long long)step);
        }
    }
    kernel_world_close(w);
}

/* Every input the engine can hand in at its limits: no tokens anywhere, all -1, all the same. */
Test(kernels, extreme_batches)
{
    const moe_shape shape = {4, 2, 6, 2, 3, 16, 12, EEP_FP32, EEP_BF16, 0};
    kernel_world *w = kernel_world_open(&shape, 2);

    kernel_world_switch(w, kernel_view(w, 1, 0xf, 1, kernel_first_seed()));
    for (int kind = 0; kind < 3; kind++) {
        kernel_world_fill(w, kernel_first_seed() + (uint64_t)kind);
        for (int seat = 0; seat < 4; seat++) {
            kernel_rank_fill(w, seat, shape.max_tokens, 1);
            w->rank[seat].num_tokens = kind == 0 ? 0 : shape.max_tokens;
            for (int i = 0; i < shape.num_layers * shape.max_tokens * shape.top_k; i++) {
                kernel_layer *l = &w->rank[seat].layer[i % shape.num_layers];
                l->topk_idx[i / shape.num_layers] = kind == 1 ? -1 : i / shape.num_layers % 3;
                l->topk_weights[i / shape.num_layers] = 0.5f;
            }
            for (int layer = 0; layer < shape.num_layers; layer++) {
                for (int i = 0; i < shape.max_tokens * shape.hidden; i++) {
                    ((float *)w->rank[seat].layer[layer].x)[i] = (float)(i - 40);
                }
            }
        }
        kernel_check_step(w, (uint64_t)kind + 1, kernel_first_seed());
    }
    kernel_world_close(w);
}

/* The shapes of models: one number per row, a row that no vector width divides, 2880 and 1. */
Test(kernels, results_match_for_the_narrowest_and_the_widest_rows)
{
    static const int hidden[] = {1, 2, 127, 2880};

    for (int i = 0; i < 4 * 3; i++) {
        const eep_dtype dtype = i % 3 == 0 ? EEP_FP32 : EEP_BF16;
        const moe_shape shape = {2, 1, 3, 2, 2, hidden[i / 3], 3, dtype, dtype, 0, i % 3 == 2};
        kernel_world *w = kernel_world_open(&shape, 2);
        kernel_world_switch(w, kernel_view(w, 1, 3, 1, kernel_first_seed()));
        kernel_world_fill(w, kernel_first_seed() + (uint64_t)i);
        kernel_check_step(w, 1, kernel_first_seed());
        kernel_world_close(w);
    }
}

/* A token whose row is broken, and one whose weights are odd, harm no other token. */
Test(kernels, nan_infinity_and_odd_weights_stay_in_their_tokens)
{
    const moe_shape shape = {2, 1, 4, 2, 2, 6, 5, EEP_FP32, EEP_FP32, 0};
    const float weights[] = {-1.5f, 0.0f, 1e30f, -0.0f, 0.25f};
    kernel_world *w = kernel_world_open(&shape, 2);
    float expected[5 * 6];

    kernel_world_switch(w, kernel_view(w, 1, 3, 1, kernel_first_seed()));
    kernel_world_fill(w, kernel_first_seed());
    for (int seat = 0; seat < 2; seat++) {
        kernel_layer *l = &w->rank[seat].layer[0];
        float *x = l->x;
        w->rank[seat].num_tokens = 5;
        for (int i = 0; i < 5 * 2; i++) {
            l->topk_idx[i] = i == 5 ? -1 : i % 2 + seat;
            l->topk_weights[i] = weights[i / 2];
        }
        for (int i = 0; i < 6; i++) {
            x[i] = NAN;
            x[6 + i] = i % 2 ? INFINITY : -INFINITY;
            x[12 + i] = x[18 + i] = x[24 + i] = 0.5f * (float)(i + seat);
        }
    }
    kernel_world_step(w, 1);
    for (int seat = 0; seat < 2; seat++) {
        const moe_input input = kernel_rank_input(w, seat, 0);
        const float *out = w->rank[seat].layer[0].out;
        const eepk_status *status = eepi_tables_status(w->rank[seat].tables);
        cr_assert(status->result == EEPK_STEP_OK && !status->bad_input);
        moe_combine(&shape, 0, &input, expected);
        for (int i = 0; i < 5 * 6; i++) {
            bool same = memcmp(&out[i], &expected[i], sizeof(float)) == 0;
            cr_assert(same || (i < 12 && isnan(out[i]) && isnan(expected[i])),
                      "seat %d, token %d: %a, not %a", seat, i / 6, (double)out[i],
                      (double)expected[i]);
            cr_assert(i < 12 || isfinite(out[i]));
        }
        cr_assert(isnan(out[0]));
    }
    kernel_world_close(w);
}

/* ------------------------------------------------------------------ bf16 */

Test(kernels, bf16_rounds_to_nearest_even)
{
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 4099) {
        const uint32_t word = (uint32_t)bits;
        uint16_t expected;
        float value;
        memcpy(&value, &word, sizeof value);
        moe_store(EEP_BF16, &expected, 0, value);
        cr_assert_eq(eepk_float_to_bf16(value), expected, "bits %x", word);
    }
    for (uint32_t half = 0; half <= 0xffff; half++) {
        const uint16_t word = (uint16_t)half;
        const float value = moe_load(EEP_BF16, &word, 0), ours = eepk_bf16_to_float(word);
        cr_assert_eq(memcmp(&value, &ours, sizeof value), 0);
    }
}

/* ------------------------------------------------------------------ S9 */

/* Column 0 of a token's sum is a bit per expert that contributed, column 1 its own number times
 * their count, column 2 layer + 1 times their count: any lost, doubled or foreign contribution
 * shows. */
static void check_marks(const kernel_world *w, int seat, int layer, const char *when)
{
    const moe_input in = kernel_rank_input(w, seat, layer);
    const float *out = w->rank[seat].layer[layer].out;

    for (int token = 0; token < in.num_tokens; token++) {
        const float *row = out + (size_t)token * (size_t)w->shape.hidden;
        uint32_t bits = 0, count = 0, number = (uint32_t)(seat * 100 + token + 1);
        for (int k = 0; k < w->shape.top_k; k++) {
            int expert = in.topk_idx[token * w->shape.top_k + k];
            if (expert < 0) {
                continue;
            }
            bits |= 1u << expert;
            count++;
        }
        cr_assert_eq((uint32_t)row[0], bits, "seat %d, token %d, layer %d, %s", seat, token, layer,
                     when);
        cr_assert_eq((uint32_t)row[1], number * count, "%s", when);
        cr_assert_eq((uint32_t)row[2], (uint32_t)(layer + 1) * count, "%s", when);
    }
}

static void number_tokens(kernel_world *w)
{
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        for (int layer = 0; layer < w->shape.num_layers; layer++) {
            kernel_layer *l = &w->rank[seat].layer[layer];
            for (int token = 0; token < w->rank[seat].num_tokens; token++) {
                ((float *)l->x)[token * w->shape.hidden + 1] = (float)(seat * 100 + token + 1);
                for (int k = 0; k < w->shape.top_k; k++) {
                    l->topk_weights[token * w->shape.top_k + k] = 1.0f;
                }
            }
        }
    }
}

Test(kernels, S9_exactly_once)
{
    const moe_shape shape = {5, 3, 16, 7, 6, 3, 24, EEP_FP32, EEP_FP32, 1};
    kernel_world *w = kernel_world_open(&shape, 3);
    uint64_t random = kernel_first_seed(), step = 0, epoch = 0;

    for (int round = 0; round < 20; round++) {
        uint64_t members = round % 3 == 0 ? 0x1f : 0x1f & ~(1u << kernel_below(&random, 5));
        int failing = kernel_below(&random, 5);
        kernel_world_switch(w, kernel_view(w, ++epoch, members, 1, kernel_random(&random)));
        kernel_world_fill(w, kernel_random(&random));
        number_tokens(w);
        if (kernel_is_member(w, failing)) { /* a first try that one rank gives up: repeated */
            *eepi_tables_abort_step(w->rank[failing].tables) = ++step;
            for (int seat = 0; seat < 5; seat++) {
                if (kernel_is_member(w, seat)) {
                    kernel_rank_launch(w, seat, step, kernel_long_ns);
                }
            }
            for (int seat = 0; seat < 5; seat++) {
                if (kernel_is_member(w, seat)) {
                    cr_assert_neq(kernel_rank_end(w, seat)->result, EEPK_STEP_OK);
                }
            }
        }
        kernel_world_step(w, ++step);
        for (int seat = 0; seat < 5; seat++) {
            for (int layer = 0; layer < shape.num_layers && kernel_is_member(w, seat); layer++) {
                check_marks(w, seat, layer, "after a repeated step");
            }
        }
    }
    kernel_world_close(w);
}

/* ------------------------------------------------------------------ S11 */

typedef struct probe_args { /* what a graph sees by pointer, and what it froze */
    const eepk_world *world;
    const uint8_t *bank;
    uint64_t *seen;
} probe_args;
static void probe_body(const void *args, eep_grid grid)
{
    const probe_args *a = args;
    const eepk_control *control = a->world->control;

    (void)grid;
    a->seen[0] = ((const eepk_bank_header *)a->world->bank[control->latch.bank])->epoch;
    a->seen[1] = ((const eepk_bank_header *)a->bank)->epoch;
}
static const eep_kernel probe_kernel = EEP_KERNEL("probe", probe_body, NULL, NULL, 0);

/* Capture at e, replay at e + 1, 1,000 times: the graph follows every flip; a mutant that captured
 * the address of the live bank, a value read from a table, sees the epoch before. */
Test(kernels, S11_one_table_version_per_replay)
{
    const moe_shape shape = {3, 2, 5, 4, 2, 5, 4, EEP_FP32, EEP_FP32, 0};
    kernel_world *w = kernel_world_open(&shape, 2);
    kernel_rank *r = &w->rank[0];
    uint64_t random = kernel_first_seed(), seen[2];
    eep_graph *mutant = NULL;

    for (uint64_t epoch = 1; epoch <= NUM_SWITCHES; epoch++) {
        kernel_world_switch(w, kernel_view(w, epoch, 7, 1, kernel_random(&random)));
        if (epoch == 1) {
            const probe_args args = {r->world, r->world->bank[r->world->control->live_bank], seen};
            cr_assert_eq(eep_capture_begin(r->stream), EEP_OK);
            cr_assert_eq(eep_launch(r->stream, &probe_kernel, 1, 1, &args, sizeof args), EEP_OK);
            cr_assert_eq(eep_capture_end(r->stream, &mutant), EEP_OK);
        }
        kernel_world_fill(w, kernel_random(&random));
        kernel_check_step(w, epoch, kernel_first_seed());
        cr_assert_eq(eep_graph_replay(mutant, r->stream), EEP_OK);
        cr_assert_eq(eep_stream_synchronize(r->stream, 10000000), EEP_OK);
        cr_assert_eq(seen[0], epoch);
        if (epoch % 2 == 0) { /* the other bank is live: the frozen address holds the past */
            cr_assert_eq(seen[1], epoch - 1);
        }
    }
    eep_graph_close(mutant);
    kernel_world_close(w);
}

/* ------------------------------------------------------------------ S13 */

static const uint64_t tag_steps = 1ull << EEPK_TAG_STEP_BITS;

/* Steps across 2^30 and epochs across 2^20: the fields of a tag wrap, nothing else does. */
Test(kernels, S13_counters_wrap)
{
    const moe_shape shape = {4, 3, 6, 3, 3, 8, 6, EEP_FP32, EEP_FP32, 0};
    kernel_world *w = kernel_world_open(&shape, 2);
    uint64_t random = kernel_first_seed(), step = tag_steps - 6, epoch = (1ull << 20) - 3;

    for (int round = 0; round < 6; round++) {
        kernel_world_switch(
            w, kernel_view(w, epoch + (uint64_t)round, 0xf, 1, kernel_random(&random)));
        for (int i = 0; i < 2; i++) {
            kernel_world_fill(w, kernel_random(&random));
            kernel_check_step(w, step++, kernel_first_seed());
        }
    }
    /* seat 3 is ahead, on the other side of the next wrap of the step field: all jump there. On the
     * way no two steps are further apart than tags can tell. */
    for (step = tag_steps + tag_steps / 4; step < 2 * tag_steps; step += tag_steps / 4) {
        kernel_check_step(w, step, kernel_first_seed());
    }
    step = 2 * tag_steps - 1;
    for (int seat = 0; seat < 4; seat++) {
        kernel_rank_launch(w, seat, seat == 3 ? step + 2 : step, kernel_long_ns);
    }
    for (int seat = 0; seat < 3; seat++) {
        const eepk_status *status = kernel_rank_end(w, seat);
        cr_assert(status->result == EEPK_STEP_JUMP || status->result == EEPK_STEP_PEER_ABORT);
        cr_assert(status->result != EEPK_STEP_JUMP || status->jump_step == step + 2);
        kernel_rank_launch(w, seat, step + 2, kernel_long_ns);
    }
    for (int seat = 0; seat < 4; seat++) {
        cr_assert_eq(kernel_rank_end(w, seat)->result, EEPK_STEP_OK);
        cr_assert_lt(kernel_rank_compare(w, seat, false), 0);
    }
    kernel_world_close(w);
}

Test(kernels, tags_compare_serially)
{
    const uint64_t top_step = tag_steps - 1, top_epoch = (1ull << 20) - 1;
    uint64_t random = kernel_first_seed();

    for (int i = 0; i < 20000; i++) {
        const uint64_t step = kernel_random(&random) >> kernel_below(&random, 60);
        const uint64_t epoch = kernel_random(&random) >> kernel_below(&random, 60);
        const int64_t ahead = (int64_t)(kernel_random(&random) >> 35) - (1ll << 28);
        const int64_t newer = (int64_t)(kernel_random(&random) >> 45) - (1ll << 18);
        const uint32_t layer = (uint32_t)kernel_below(&random, EEP_MAX_EXCHANGES);
        const uint64_t tag =
            eepk_tag(epoch + (uint64_t)newer, step + (uint64_t)ahead, layer, EEPK_PHASE_COMBINE);
        cr_assert_eq(eepk_tag_step_after(tag, step), ahead);
        cr_assert_eq(eepk_tag_epoch_after(tag, epoch), newer);
        cr_assert_eq(eepk_tag_step_near(tag, step), step + (uint64_t)ahead);
        cr_assert_neq(tag, eepk_tag(epoch + (uint64_t)newer, step + (uint64_t)ahead, layer,
                                    EEPK_PHASE_DISPATCH));
        cr_assert_neq(tag, 0);
    }
    cr_assert_eq(eepk_tag_step_after(eepk_tag(7, 0, 0, 1), top_step), 1);
    cr_assert_eq(eepk_tag_step_after(eepk_tag(7, top_step, 0, 1), 0), -1);
    cr_assert_eq(eepk_tag_epoch_after(eepk_tag(0, 5, 0, 1), top_epoch), 1);
    cr_assert_eq(eepk_tag_epoch_after(eepk_tag(top_epoch, 5, 0, 1), 0), -1);
    /* neighbours in one field differ in nothing but that field */
    cr_assert_eq(eepk_tag(1, 2, 254, 2) ^ eepk_tag(1, 2, 0, 2), (uint64_t)254 << 2);
    cr_assert_eq(eepk_tag(1, top_step, 0, 2) >> 44, 1);
}

/* ------------------------------------------------------------------ in-band announcement */

/* Rule M3: who completes a step has seen what any member announced in it. */
Test(kernels, announcements_reach_every_member)
{
    const moe_shape shape = {4, 2, 4, 2, 2, 4, 3, EEP_FP32, EEP_FP32, 0};
    kernel_world *w = kernel_world_open(&shape, 1);

    kernel_world_switch(w, kernel_view(w, 1, 0xb, 1, kernel_first_seed()));
    for (uint64_t step = 1; step <= 3; step++) {
        w->rank[1].announce = step == 2 ? 0xabcdef0123456789u : 0;
        w->rank[3].announce = w->rank[1].announce;
        kernel_world_fill(w, step);
        kernel_check_step(w, step, kernel_first_seed());
        for (int seat = 0; seat < 4; seat++) {
            if (kernel_is_member(w, seat)) {
                cr_assert_eq(eepi_tables_status(w->rank[seat].tables)->flip_digest,
                             w->rank[1].announce);
            }
        }
    }
    kernel_world_close(w);
}
