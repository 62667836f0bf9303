/* SPDX-License-Identifier: Apache-2.0 */
/* The forms of ids, rows and scales (eep/forms.h), against the sequential reference: every bit of
 * dispatch, also where nothing belongs, and of combine. */
#include "tests/lib/world/kernel_check.h"

#include "graphs/kernels/fp8.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(forms, .timeout = 100);

#ifdef EMULATED_BLOCKS
enum { NUM_SHAPES = 24 };
#else
enum { NUM_SHAPES = 60 };
#endif

static kernel_world *open_with(const moe_shape *shape, uint32_t num_blocks, const kernel_form *form)
{
    return kernel_world_open_with(shape, num_blocks, 0, 0, form);
}

static kernel_form random_form(uint64_t *random, const moe_shape *shape)
{
    const kernel_form form = {
        .layout = (eep_row_layout)kernel_below(random, 2),
        .slot_align = kernel_below(random, 3) == 0 ? 0 : 1 + kernel_below(random, 9),
        .scale_form = shape->fp8_dispatch == EEP_FP8_POWERS
                          ? (eep_scale_form)kernel_below(random, 4)
                          : (eep_scale_form)(shape->fp8_dispatch ? kernel_below(random, 2) : 0),
        .is_wide = kernel_below(random, 2),
        .is_physical = kernel_below(random, 2),
        .tells = kernel_below(random, 3) != 0};

    return form;
}

static moe_shape random_shape(uint64_t *random, uint64_t *members_out)
{
    moe_shape s = {.max_ranks = 1 + kernel_below(random, 6),
                   .num_layers = 1 + kernel_below(random, 3),
                   .num_slots = 1 + kernel_below(random, 6),
                   .hidden = 1 + kernel_below(random, 40),
                   .max_tokens = 1 + kernel_below(random, 14),
                   .dtype = (eep_dtype)kernel_below(random, 2),
                   .out_dtype = (eep_dtype)kernel_below(random, 2),
                   .fp8_dispatch = kernel_below(random, 3)};
    int num_members = 0;

    if (s.fp8_dispatch) { /* up to two words of UE8M0, and groups that are not full */
        s.hidden += kernel_below(random, 700);
        s.max_tokens = 1 + kernel_below(random, 3);
    }
    for (*members_out = 0; *members_out == 0;) {
        *members_out = kernel_random(random) & ((1u << s.max_ranks) - 1);
    }
    num_members = __builtin_popcountll(*members_out);
    s.num_experts = 1 + kernel_below(random, num_members * s.num_slots);
    s.top_k = 1 + kernel_below(random, s.num_experts > 6 ? 6 : s.num_experts);
    return s;
}

Test(forms, results_match_the_reference)
{
    for (uint64_t seed = kernel_first_seed(), end = seed + NUM_SHAPES; seed < end; seed++) {
        uint64_t random = seed, members;
        const moe_shape shape = random_shape(&random, &members);
        const kernel_form form = random_form(&random, &shape);
        kernel_world *w = open_with(&shape, 1 + (uint32_t)kernel_below(&random, 3), &form);
        for (uint64_t epoch = 1; epoch <= 2; epoch++) {
            kernel_world_switch(w, kernel_view(w, epoch, members, 1, kernel_random(&random)));
            for (uint64_t step = 1; step <= 2; step++) {
                kernel_world_fill(w, kernel_random(&random));
                kernel_check_step(w, 2 * epoch + step, seed);
            }
        }
        kernel_world_close(w);
    }
}

/* No token anywhere; every token of every rank to the same experts, so that slots are full; all
 * ids -1. */
Test(forms, extreme_batches)
{
    const moe_shape shape = {4, 2, 6, 2, 2, 130, 6, EEP_BF16, EEP_FP32, 0, EEP_FP8_POWERS};
    const kernel_form forms[] = {{EEP_ROWS_PADDED, 0, EEP_SCALES_UE8M0_COLUMNS, true, true, true},
                                 {EEP_ROWS_PADDED, 64, EEP_SCALES_COLUMNS, false, false, false},
                                 {EEP_ROWS_PACKED, 16, EEP_SCALES_UE8M0_ROWS, false, true, true},
                                 {EEP_ROWS_PACKED, 0, EEP_SCALES_COLUMNS, true, false, true}};

    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
        kernel_world *w = open_with(&shape, 2, &forms[f]);
        kernel_world_switch(w, kernel_view(w, 1, 0xf, 1, kernel_first_seed()));
        for (int kind = 0; kind < 3; kind++) {
            for (int seat = 0; seat < 4; seat++) {
                kernel_rank_fill(w, seat, shape.max_tokens, (uint64_t)seat);
                w->rank[seat].num_tokens = 0;
                for (int i = 0; kind > 0 && i < shape.num_layers * shape.max_tokens * 2; i++) {
                    kernel_layer *l = &w->rank[seat].layer[i % shape.num_layers];
                    const int pair = i / shape.num_layers;
                    w->rank[seat].num_tokens = shape.max_tokens;
                    l->topk_idx[pair] = kind == 1 ? 2 + pair % 2 : -1;
                    l->topk_weights[pair] = 0.25f;
                    memset((uint16_t *)l->x + (pair / 2) * shape.hidden, pair % 60,
                           (size_t)shape.hidden * 2);
                }
                kernel_form_ids(w, seat, (uint64_t)seat);
            }
            kernel_check_step(w, (uint64_t)kind + 1, kernel_first_seed());
        }
        kernel_world_close(w);
    }
}

/* Physical ids of one slot only, whatever the shares say: the caller places. */
Test(forms, physical_ids_choose_the_replica)
{
    const moe_shape shape = {2, 1, 1, 2, 1, 4, 3, EEP_FP32, EEP_FP32, 0, 0};
    const kernel_form form = {.is_physical = true};
    kernel_world *w = open_with(&shape, 1, &form);
    eepi_view *view = kernel_view(w, 1, 3, 1, 1);

    for (int id = 0; id < 4; id++) {
        *eepi_view_slot_at(view, 0, id / 2, id % 2) =
            (eepi_view_slot){.expert = 0, .state = EEPI_SLOT_HOLDS};
    }
    eepi_view_seal(view);
    kernel_world_switch(w, view);
    for (int id = 0; id < 4; id++) {
        kernel_world_fill(w, (uint64_t)id);
        for (int seat = 0; seat < 2; seat++) {
            kernel_layer *l = &w->rank[seat].layer[0];
            w->rank[seat].num_tokens = 3;
            for (int i = 0; i < 12; i++) {
                ((float *)l->x)[i] = (float)(i + seat);
            }
            for (int token = 0; token < 3; token++) {
                l->topk_idx[token] = 0;
                l->topk_weights[token] = 1.0f;
                l->physical_idx[token] = id;
            }
        }
        kernel_check_step(w, (uint64_t)id + 1, 1);
        cr_assert_eq(w->rank[id / 2].layer[0].slot_begin[id % 2 + 1] -
                         w->rank[id / 2].layer[0].slot_begin[id % 2],
                     6);
    }
    kernel_world_close(w);
}

/* Loads are those of logical experts, also where several slots have one. */
Test(forms, physical_ids_count_as_their_experts)
{
    const moe_shape shape = {3, 2, 3, 4, 2, 4, 9, EEP_FP32, EEP_FP32, 0, 0};
    const kernel_form form = {.is_physical = true, .is_wide = true};
    kernel_world *w = open_with(&shape, 1, &form);
    uint64_t counts[3][2 * 3] = {{0}};

    kernel_world_switch(w, kernel_view(w, 1, 7, 1, kernel_first_seed()));
    for (uint64_t step = 1; step <= 4; step++) {
        kernel_world_fill(w, kernel_first_seed() + step);
        for (int seat = 0; seat < 3; seat++) {
            w->rank[seat].wants_loads = 1;
        }
        kernel_check_step(w, step, kernel_first_seed());
        for (int i = 0; i < 6; i++) {
            const moe_input in = kernel_rank_input(w, i / 2, i % 2);
            for (int pair = 0; pair < in.num_tokens * 2; pair++) {
                if (in.topk_idx[pair] >= 0) {
                    counts[i / 2][i % 2 * 3 + in.topk_idx[pair]]++;
                }
            }
        }
    }
    for (int seat = 0; seat < 3; seat++) {
        cr_expect_arr_eq(eepi_tables_loads(w->rank[seat].tables), counts[seat],
                         sizeof counts[seat]);
    }
    kernel_world_close(w);
}

/* ------------------------------------------------------------------ bad input */

typedef struct bad_id {
    int64_t id;
    uint32_t kind;
    int32_t value;
} bad_id;

/* Seats 0 and 1 of three; expert e is in slot e of both, slot 2 of seat 0 is empty, that of seat 1
 * is being filled. */
static kernel_world *open_physical(bool is_wide)
{
    const moe_shape shape = {3, 2, 2, 3, 2, 8, 5, EEP_FP32, EEP_FP32, 0, 0};
    const kernel_form form = {.layout = EEP_ROWS_PADDED, .is_physical = true, .is_wide = is_wide};
    kernel_world *w = open_with(&shape, 2, &form);
    eepi_view *view = kernel_view(w, 1, 3, 1, 1);

    for (int i = 0; i < 2 * 9; i++) {
        const int seat = i / 3 % 3, slot = i % 3;
        *eepi_view_slot_at(view, i / 9, seat, slot) =
            slot < 2    ? (eepi_view_slot){.expert = (uint16_t)slot, .state = EEPI_SLOT_HOLDS}
            : seat == 1 ? (eepi_view_slot){.expert = 1, .state = EEPI_SLOT_FILLING}
                        : (eepi_view_slot){0};
    }
    eepi_view_seal(view);
    kernel_world_switch(w, view);
    return w;
}

static void fill_physical(kernel_world *w, uint64_t seed)
{
    do {
        kernel_world_fill(w, seed++);
    } while (w->rank[0].num_tokens != 5 || w->rank[1].num_tokens == 0);
}

/* The offender is named, it alone has no result, and its peer's is that without its tokens. */
static void check_named(kernel_world *w, uint64_t step, const bad_id *bad)
{
    const eepk_status *status = eepi_tables_status(w->rank[0].tables);

    kernel_world_step(w, step);
    cr_assert_eq(status->bad_input, bad->kind, "%lld: %u", (long long)bad->id, status->bad_input);
    cr_assert_eq(status->bad_value, bad->value, "%lld", (long long)bad->id);
    cr_assert_eq(status->result, EEPK_STEP_OK);
    cr_assert(kernel_out_untouched(w, 0, 0) && kernel_out_untouched(w, 0, 1));
    cr_assert(!eepi_tables_status(w->rank[1].tables)->bad_input);
    cr_assert_lt(kernel_rank_compare(w, 1, false), 0);
}

Test(forms, bad_ids_are_named)
{
    const bad_id ids[] = {
        {9, EEPK_INPUT_TOPK, 9},
        {-2, EEPK_INPUT_TOPK, -2},
        {1ll << 32, EEPK_INPUT_TOPK, INT32_MAX}, /* 0, if its upper half were lost */
        {-(1ll << 40), EEPK_INPUT_TOPK, INT32_MIN},
        {INT64_MAX, EEPK_INPUT_TOPK, INT32_MAX},
        {6, EEPK_INPUT_NO_SEAT, 6}, /* a slot that holds an expert, of a seat without a rank */
        {2, EEPK_INPUT_NO_EXPERT, 2},
        {5, EEPK_INPUT_NO_EXPERT, 5},
        {1, EEPK_INPUT_TWICE, 1},
        {4, EEPK_INPUT_TWICE, 4}, /* another replica of what k 0 names */
    };
    kernel_world *w = open_physical(true);

    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        const eepk_status *status = eepi_tables_status(w->rank[0].tables);
        fill_physical(w, 10 * i);
        w->rank[0].layer[0].wide_idx[6] = 1; /* (token 3, k 0) */
        w->rank[0].layer[0].wide_idx[7] = ids[i].id;
        check_named(w, i + 1, &ids[i]);
        cr_assert(status->bad_token == 3 && status->bad_k == 1 && status->num_bad == 1);
    }
    for (int tokens = -1; tokens <= 6; tokens += 7) {
        fill_physical(w, 1);
        w->rank[0].num_tokens = tokens;
        check_named(w, 100 + (uint64_t)tokens, &(bad_id){0, EEPK_INPUT_TOKENS, tokens});
    }
    fill_physical(w, 2); /* the next good step is good */
    kernel_check_step(w, 200, 2);
    kernel_world_close(w);
}

Test(forms, wide_logical_ids_keep_all_their_bits)
{
    const moe_shape shape = {2, 1, 3, 2, 1, 8, 5, EEP_FP32, EEP_FP32, 0, 0};
    const kernel_form form = {.is_wide = true};
    kernel_world *w = open_with(&shape, 1, &form);

    kernel_world_switch(w, kernel_view(w, 1, 3, 1, 1));
    kernel_world_fill(w, 1);
    kernel_rank_fill(w, 0, 5, 4);
    w->rank[0].num_tokens = 5;
    for (int i = 0; i < 5; i++) {
        w->rank[0].layer[0].wide_idx[i] = i == 2 ? (1ll << 32) + 1 : -1;
    }
    kernel_world_step(w, 1);
    cr_assert_eq(eepi_tables_status(w->rank[0].tables)->bad_input, EEPK_INPUT_TOPK);
    cr_assert_eq(eepi_tables_status(w->rank[0].tables)->bad_value, INT32_MAX);
    kernel_world_close(w);
}

/* Rule P12: ids of another placement are refused, whatever they are; a view that changes no slot
 * takes them, since they mean the same. */
Test(forms, P12_ids_name_their_placement)
{
    kernel_world *w = open_physical(false);
    eepi_view *alike = eepi_view_copy(w->view), *moved;
    const eepk_status *status = eepi_tables_status(w->rank[0].tables);
    const uint64_t first = eepi_tables_slot_map(w->rank[0].tables)->placement;
    uint64_t second;

    fill_physical(w, 1);
    kernel_check_step(w, 1, 1);
    alike->epoch = 2;
    eepi_view_slot_at(alike, 0, 0, 0)->share = 7;
    eepi_view_seat_at(alike, 1)->generation++;
    eepi_view_seal(alike);
    kernel_world_switch(w, alike);
    cr_assert_eq(eepi_tables_slot_map(w->rank[0].tables)->placement, first);
    kernel_check_step(w, 2, 1);

    moved = eepi_view_copy(w->view); /* a slot of another layer than most ids' */
    moved->epoch = 3;
    *eepi_view_slot_at(moved, 1, 0, 2) = (eepi_view_slot){.expert = 1, .state = EEPI_SLOT_HOLDS};
    eepi_view_seal(moved);
    kernel_world_switch(w, moved);
    second = eepi_tables_slot_map(w->rank[0].tables)->placement;
    cr_assert_neq(second, first);
    cr_assert_eq(eepi_tables_slot_map(w->rank[1].tables)->placement, second, "on all ranks");
    w->rank[1].placement = second; /* seat 1 has followed, seat 0 has not */
    check_named(w, 3, &(bad_id){0, EEPK_INPUT_PLACEMENT, 0});
    cr_assert(status->bad_placement == first && status->bad_layer == 0 && status->num_bad == 0);
    w->rank[0].placement = 0; /* no word at all */
    check_named(w, 4, &(bad_id){0, EEPK_INPUT_PLACEMENT, 0});
    w->rank[0].placement = second; /* read at replay: the same graph */
    kernel_check_step(w, 5, 1);
    kernel_world_close(w);
}

/* ------------------------------------------------------------------ counts that lie */

/* D2: with padded rows a source has room for num_max_tokens in a slot. A count that says more would
 * run into the next slot: the step is aborted, and no slot has rows. */
Test(forms, a_count_beyond_the_room_of_a_slot_aborts)
{
    const moe_shape shape = {2, 1, 4, 2, 2, 6, 4, EEP_FP32, EEP_FP32, 0, 0};
    const kernel_form form = {.layout = EEP_ROWS_PADDED, .tells = true};
    kernel_world *w = open_with(&shape, 1, &form);
    const kernel_layer *l = &w->rank[0].layer[0];
    uint32_t *counts;

    kernel_world_switch(w, kernel_view(w, 1, 3, 1, 1));
    kernel_world_fill(w, 3);
    for (int seat = 1; seat >= 0; seat--) {
        kernel_rank_prepare(w, seat, 1, kernel_long_ns);
        kernel_rank_run(w, seat, EEPI_KERNEL_latch, 0);
        kernel_rank_run_to(w, seat, EEPI_KERNEL_dispatch_send, 0);
    }
    counts = (uint32_t *)(eepk_header(&w->layout, w->rank[0].window, 0, 1) + 1);
    counts[0] = 5;
    counts[1] = 0;
    kernel_rank_run(w, 0, EEPI_KERNEL_dispatch_exchange, 0);
    kernel_rank_run(w, 0, EEPI_KERNEL_unpack, 0);
    cr_assert_eq(kernel_rank_finish(w, 0)->result, EEPK_STEP_STALE);
    for (int i = 0; i < 4; i++) {
        cr_assert(l->slot_counts[i / 2] == 0 && l->layout_range[i] == 0);
    }
    cr_assert_eq(l->slot_begin[2], 16);
    kernel_world_close(w);
}

/* ------------------------------------------------------------------ scales */

Test(forms, scales_are_rounded_up_to_powers_of_two)
{
    const float largest[] = {1e-4f, 448.0f, 447.9f, 448.1f, 1.0f, 3.0f, 1e30f, 3.4e38f, INFINITY};

    for (size_t i = 0; i < sizeof largest / sizeof largest[0]; i++) {
        const eepk_group_scale got = eepk_scale_group(largest[i], 1);
        int exponent;
        cr_assert_eq(frexpf(got.scale, &exponent), 0.5f, "a power of two");
        cr_assert_eq(got.scale * got.inverse, 1.0f);
        cr_assert_eq(eepk_scale_exponent(got.scale), (uint32_t)(exponent - 1 + 127));
        cr_assert(isinf(largest[i]) || largest[i] * got.inverse <= 448.001f);
        cr_assert(largest[i] * got.inverse > 223.9f || isinf(largest[i]));
    }
    cr_assert_eq(eepk_scale_group(448.0f, 1).scale, 1.0f);
    cr_assert_eq(eepk_scale_group(INFINITY, 1).scale, ldexpf(1.0f, 126));
}

/* ------------------------------------------------------------------ the mask */

/* The mask is of the bank that the step latched: a flip alone does not change it, and a graph that
 * was captured before the flip reads the new one. */
Test(forms, the_mask_is_of_the_latched_bank)
{
    const moe_shape shape = {5, 1, 2, 2, 1, 4, 2, EEP_FP32, EEP_FP32, 0, 0};
    const uint64_t members[] = {0x1f, 0x0b, 0x0b, 0x1d, 0x01};
    kernel_world *w = kernel_world_open(&shape, 1);
    const kernel_rank *r = &w->rank[0];
    int32_t out[2][5];

    for (int seat = 0; seat < 5; seat++) {
        cr_assert_eq(r->world->active_mask[seat], 0, "before the first step");
    }
    for (uint64_t epoch = 1; epoch <= 5; epoch++) { /* from the third on two flips a step */
        const uint64_t now = members[epoch - 1], before = epoch > 1 ? members[epoch - 2] : 0;
        if (epoch > 2) {
            kernel_world_switch(w, kernel_view(w, 10 * epoch, 0x1f, 1, epoch));
        }
        kernel_world_switch(w, kernel_view(w, 10 * epoch + 1, now, 1, epoch));
        for (int seat = 0; seat < 5; seat++) {
            cr_assert_eq(r->world->active_mask[seat], (int32_t)(before >> seat & 1),
                         "flipped only");
        }
        kernel_world_fill(w, epoch);
        kernel_check_step(w, epoch, 1);
        for (uint32_t kind = 0; kind < 2; kind++) {
            const eepk_mask_args args = {r->world, out[kind], kind, 0};
            eepi_host_kernels[EEPI_KERNEL_mask].host(&args, (eep_grid){0, 1, 0, 1});
        }
        for (int seat = 0; seat < 5; seat++) {
            cr_assert_eq(r->world->active_mask[seat], (int32_t)(now >> seat & 1));
            cr_assert(out[0][seat] == (int32_t)(now >> seat & 1) && out[1][seat] == !out[0][seat]);
        }
    }
    kernel_world_close(w);
}
