/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts whose dispatches give rows and take ids in other forms (eep/forms.h): right through
 * faults and joins, sized as told, and refused where no form is. Physical ids are in
 * test_context_physical.c. */
#include "tests/lib/context_checks.h"

#include <stdio.h>
#include <string.h>

TestSuite(context_forms, .timeout = 60);

enum { NUM_FORMS = 4, NUM_IDS = WORLD_TOKENS * WORLD_TOPK };

/* Of each seat and chain: what the fixture has no buffer for. */
typedef struct form_buffers {
    int32_t *slot_counts[2], *source_tokens[2];
    int64_t *layout_range[2];
    int64_t *wide_idx; /* pinned */
    int32_t *mask[2];  /* pinned: of both polarities */
} form_buffers;

static form_buffers buffers[WORLD_SEATS];

static void *allocate(rank *r, eep_memory kind, size_t bytes)
{
    void *memory = NULL;

    cr_assert_eq(eep_device_alloc(r->device, kind, bytes, &memory), EEP_OK);
    r->buffers[r->num_buffers++] = (rank_buffer){kind, memory};
    return memory;
}

static void make_buffers(rank *r)
{
    form_buffers *b = &buffers[r->seat];
    const size_t seats = (size_t)r->world->config.max_ranks;

    for (int chain = 0; chain < 2; chain++) {
        b->slot_counts[chain] = allocate(r, EEP_MEMORY_DEVICE, WORLD_SLOTS * sizeof(int32_t));
        b->source_tokens[chain] = allocate(
            r, EEP_MEMORY_DEVICE, WORLD_SLOTS * (seats * WORLD_TOKENS + 8) * sizeof(int32_t));
        b->layout_range[chain] =
            allocate(r, EEP_MEMORY_DEVICE, WORLD_SLOTS * seats * sizeof(int64_t));
        b->mask[chain] = allocate(r, EEP_MEMORY_PINNED, seats * sizeof(int32_t));
    }
    b->wide_idx = allocate(r, EEP_MEMORY_PINNED, NUM_IDS * sizeof(int64_t));
}

/* Seats and chains have different forms: none of it crosses ranks. */
static void choose_form(const rank *r, int32_t layer, eep_dispatch_args *args)
{
    const form_buffers *b = &buffers[r->seat];
    const int form = (r->seat + args->chain + layer) % NUM_FORMS;

    args->slot_counts = b->slot_counts[args->chain];
    args->source_tokens = b->source_tokens[args->chain];
    args->layout_range = b->layout_range[args->chain];
    args->layout = form < 2 ? EEP_ROWS_PADDED : EEP_ROWS_PACKED;
    args->slot_align = form % 2 ? 8 : 0;
    if (form != 3) {
        args->topk_idx = NULL;
        args->topk_idx_int64 = b->wide_idx;
    }
}

static void widen_ids(rank *r)
{
    for (int i = 0; i < NUM_IDS; i++) {
        buffers[r->seat].wide_idx[i] = r->topk_idx[i];
    }
}

static void open_formed(world *w, int32_t num_ranks, int32_t max_ranks)
{
    world_open(w, num_ranks, max_ranks);
    for (int32_t seat = 0; seat < max_ranks; seat++) {
        w->ranks[seat].opened = make_buffers;
        w->ranks[seat].form = choose_form;
        w->ranks[seat].filled = widen_ids;
    }
}

Test(context_forms, results_are_right_through_a_close_and_a_join)
{
    for (int chains = 1; chains <= 2; chains++) {
        world w;
        open_formed(&w, 4, 4);
        w.config.num_chains = chains;
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

/* A rank that was compiled before the forms: what lies behind its struct is not looked at. */
static void be_old(const rank *r, int32_t layer, eep_dispatch_args *args)
{
    (void)r, (void)layer;
    memset(&args->layout, 0xee, sizeof *args - offsetof(eep_dispatch_args, layout));
    args->struct_bytes = offsetof(eep_dispatch_args, layout);
    args->slot_counts = NULL; /* for the fixture's experts */
}

Test(context_forms, an_old_callers_rows_are_packed)
{
    world w;
    world_open(&w, 2, 2);
    w.ranks[0].form = be_old;
    world_start(&w);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 5);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

/* ---------------------------------------------------------------- sizes */

/* With fields. */
#define ARGS(...) ((eep_dispatch_args){.struct_bytes = sizeof(eep_dispatch_args), __VA_ARGS__})

static eep_form_sizes sizes_of(rank *r, eep_dispatch_args args)
{
    eep_form_sizes sizes = {0};

    cr_assert_eq(eep_form_sizes_get(r->context, &args, EEP_SIZED(&sizes)), EEP_OK, "%s",
                 eep_error_text());
    return sizes;
}

static void expect_sizes(eep_form_sizes got, uint64_t rows, uint64_t slot_rows, uint64_t stride,
                         uint64_t scales_bytes)
{
    cr_expect_eq(got.rows, rows, "%llu rows", (unsigned long long)got.rows);
    cr_expect_eq(got.slot_rows, slot_rows);
    cr_expect_eq(got.scale_stride, stride, "stride %llu", (unsigned long long)got.scale_stride);
    cr_expect_eq(got.scales_bytes, scales_bytes, "%llu", (unsigned long long)got.scales_bytes);
}

/* 3 seats x 4 tokens, 5 slots, top-2, hidden 640: 5 groups, 2 words. */
static void ask_sizes(rank *r)
{
    const uint64_t packed = eep_rows_capacity(r->context);

    cr_assert_eq(packed, 24);
    expect_sizes(sizes_of(r, ARGS(.chain = 0)), packed, 0, 5, packed * 5 * 4);
    expect_sizes(sizes_of(r, ARGS(.slot_align = 8)), 56, 0, 5, 56 * 5 * 4);
    expect_sizes(sizes_of(r, ARGS(.layout = EEP_ROWS_PADDED)), 60, 12, 5, 60 * 5 * 4);
    expect_sizes(sizes_of(r, ARGS(.layout = EEP_ROWS_PADDED, .slot_align = 7)), 70, 14, 5,
                 70 * 5 * 4);
    expect_sizes(sizes_of(r, ARGS(.layout = EEP_ROWS_PADDED, .slot_align = 7,
                                  .scale_form = EEP_SCALES_COLUMNS)),
                 70, 14, 16, (uint64_t)5 * 5 * 16 * 4);
    expect_sizes(sizes_of(r, ARGS(.scale_form = EEP_SCALES_UE8M0_ROWS)), packed, 0, 2,
                 packed * 2 * 4);
    expect_sizes(sizes_of(r, ARGS(.slot_align = 3, .scale_form = EEP_SCALES_UE8M0_COLUMNS)), 33, 0,
                 36, (uint64_t)2 * 36 * 4);
    cr_expect_eq(sizes_of(r, ARGS(.chain = 0)).rows_bytes, packed * 640);
}

/* A context that is not stepped. */
static void with_fp8(int32_t fp8, int32_t hidden, void (*look)(rank *r))
{
    world w;
    rank *r;
    eep_config config;
    char error[256];

    world_open(&w, 3, 3);
    r = &w.ranks[0];
    config = w.config;
    config.rank = 0;
    config.hidden = hidden;
    config.fp8_dispatch = fp8;
    cr_assert_eq(eep_device_open("host", 0, &config.device), EEP_OK);
    cr_assert_eq(eep_open(&config, error, sizeof error, &r->context), EEP_OK, "%s", error);
    cr_assert_eq(eep_stream_open(config.device, &r->stream), EEP_OK);
    look(r);
    eep_close(r->context);
    eep_stream_close(r->stream);
    eep_device_close(config.device);
    r->context = NULL;
    r->stream = NULL;
    world_close(&w);
}

Test(context_forms, sizes_are_those_of_the_form)
{
    with_fp8(EEP_FP8_POWERS, 640, ask_sizes);
}

/* ---------------------------------------------------------------- refusals */

typedef struct no_form {
    eep_dispatch_args args; /* beside what every dispatch has */
    const char *text;
} no_form;

static float memory[4096];
#define HAS_SCALES .row_scales = memory
#define HAS_COUNTS .slot_counts = (int32_t *)(void *)memory
#define HAS_WORD   .placement = (const uint64_t *)(const void *)memory
#define HAS_WORDS  .packed_scales = (int32_t *)(void *)memory

static void expect_refused(rank *r, const no_form *wrong, size_t num)
{
    for (size_t i = 0; i < num; i++) {
        eep_dispatch_args args = wrong[i].args;
        args.struct_bytes = sizeof args;
        args.x = args.rows = memory;
        args.num_tokens = (const int32_t *)(const void *)memory;
        if (!strstr(wrong[i].text, "slot_begin")) {
            args.slot_begin = (int32_t *)(void *)memory;
        }
        if (!strstr(wrong[i].text, "topk_idx is NULL")) {
            args.topk_idx = (const int32_t *)(const void *)memory;
        }
        cr_expect_eq(eep_dispatch(r->context, 0, r->stream, &args), EEP_ERR_INVALID, "%zu", i);
        cr_expect(strstr(eep_last_error(r->context), wrong[i].text), "%zu: %s", i,
                  eep_last_error(r->context));
    }
}

static void refuse_without_fp8(rank *r)
{
    const no_form wrong[] = {
        {{.layout = (eep_row_layout)2}, "layout is 2"},
        {{.slot_align = -1}, "slot_align is -1: 0 to 65536 rows are possible"},
        {{.slot_align = 65537}, "slot_align is 65537"},
        {{.scale_form = EEP_SCALES_COLUMNS}, "scale_form is 1 without fp8_dispatch"},
        {{.scale_form = (eep_scale_form)4}, "scale_form is 4: 0 to 3"},
        {{HAS_SCALES}, "row_scales is given without fp8_dispatch"},
        {{HAS_WORDS}, "packed_scales is given without a UE8M0 scale_form"},
        {{.ids = (eep_id_kind)2, HAS_WORD}, "ids is 2"},
        {{.ids = EEP_IDS_PHYSICAL}, "placement is NULL with physical ids"},
        {{HAS_WORD}, "placement is given without physical ids"},
        {{.topk_idx_int64 = (const int64_t *)(const void *)memory}, "both given"},
        {{.layout = EEP_ROWS_PADDED}, "slot_counts is NULL, and rows have gaps"},
        {{.slot_align = 2}, "slot_counts is NULL, and rows have gaps"},
        {{.slot_align = 2, HAS_COUNTS}, "buffer slot_begin is NULL"},
    };

    expect_refused(r, wrong, sizeof wrong / sizeof wrong[0]);
}

static void refuse_with_float_scales(rank *r)
{
    const no_form wrong[] = {
        {{.scale_form = EEP_SCALES_UE8M0_ROWS, HAS_WORDS}, "scales are no powers of two"},
        {{.scale_form = EEP_SCALES_ROWS}, "row_scales is NULL with fp8_dispatch"},
    };

    expect_refused(r, wrong, sizeof wrong / sizeof wrong[0]);
}

static void refuse_with_powers(rank *r)
{
    const no_form wrong[] = {
        {{.scale_form = EEP_SCALES_UE8M0_ROWS}, "packed_scales is NULL with a UE8M0"},
        {{.scale_form = EEP_SCALES_UE8M0_ROWS, HAS_WORDS, HAS_SCALES},
         "without a float scale_form"},
        {{.scale_form = EEP_SCALES_COLUMNS, HAS_WORDS, HAS_SCALES}, "without a UE8M0 scale_form"},
        {{.scale_form = EEP_SCALES_UE8M0_ROWS, .packed_scales = (int32_t *)(void *)(memory + 1)},
         "packed_scales is at"},
    };

    expect_refused(r, wrong, sizeof wrong / sizeof wrong[0]);
}

Test(context_forms, what_is_no_form_is_refused_by_name)
{
    with_fp8(EEP_FP8_NONE, 16, refuse_without_fp8);
    with_fp8(EEP_FP8_SCALES, 256, refuse_with_float_scales);
    with_fp8(EEP_FP8_POWERS, 256, refuse_with_powers);
}

/* The rounding of scales crosses ranks: it is part of the instance's configuration. */
Test(context_forms, another_rounding_is_refused_at_the_open)
{
    world w;
    world_open(&w, 1, 2);
    w.config.num_experts = WORLD_SLOTS;
    world_start(&w);
    w.config.fp8_dispatch = EEP_FP8_POWERS;
    cr_expect_neq(rank_open(&w, 1), EEP_OK);
    cr_expect(strstr(w.ranks[1].error, "fp8_dispatch is 2 here and 0 in the instance"), "%s",
              w.ranks[1].error);
    world_close(&w);
}

/* ---------------------------------------------------------------- the mask */

static eep_status put_masks(rank *r, int32_t layer)
{
    eep_status status = EEP_OK;

    for (int kind = 0; kind < 2 && layer == 0 && status == EEP_OK; kind++) {
        status =
            eep_mask_put(r->context, r->stream, (eep_mask_kind)kind, buffers[r->seat].mask[kind]);
    }
    return status;
}

static void expect_mask(rank *r, uint64_t active, int32_t num_seats)
{
    for (int kind = 0; kind < 2; kind++) {
        int32_t mask[WORLD_SEATS];
        uint64_t epoch = 0;
        cr_assert_eq(eep_mask_get(r->context, (eep_mask_kind)kind, mask, &epoch), EEP_OK);
        cr_expect_eq(epoch, rank_epoch(r));
        for (int32_t seat = 0; seat < num_seats; seat++) {
            const int32_t want = (int32_t)(active >> seat & 1u) ^ kind;
            cr_expect_eq(mask[seat], want, "host, kind %d, seat %d", kind, seat);
            cr_expect_eq(buffers[r->seat].mask[kind][seat], want, "node, kind %d, seat %d", kind,
                         seat);
        }
    }
}

Test(context_forms, the_mask_follows_the_view)
{
    const int32_t *before;
    world w;
    open_formed(&w, 3, 4);
    for (int32_t seat = 0; seat < 4; seat++) {
        w.ranks[seat].behind = put_masks;
    }
    world_start(&w);
    before = eep_active_mask(w.ranks[0].context);
    cr_assert(before);
    cr_expect_null(eep_active_mask(NULL));
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, 3);
    world_rest(&w);
    expect_mask(&w.ranks[0], 0x7, 4);
    world_set_modes(&w, 0, 2, RANK_WORK);
    rank_close(&w.ranks[1]);
    WORLD_WAIT(&w, w.ranks[0].last_active == 2 && w.ranks[2].last_active == 2);
    world_advance(&w, 0, 0, 2);
    world_rest(&w);
    expect_mask(&w.ranks[0], 0x5, 4);
    cr_expect_eq(eep_active_mask(w.ranks[0].context), before, "a fixed address");
    cr_expect_eq(eep_mask_get(w.ranks[0].context, (eep_mask_kind)2, buffers[0].mask[0], NULL),
                 EEP_ERR_INVALID);
    cr_expect(strstr(eep_error_text(), "kind is 2"), "%s", eep_error_text());
    world_check_right(&w);
    world_close(&w);
}
