/* SPDX-License-Identifier: Apache-2.0 */
/* Worlds whose dispatches have a form (eep/forms.h), and what such a dispatch must deliver: written
 * from the definitions of the header, slot by slot and row by row. */
#include "tests/lib/world/kernel_world.h"

#include "membership/step/dispatch_form.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ arguments */

eep_dispatch_args kernel_form_args(const kernel_world *w, const kernel_rank *r, int layer)
{
    const kernel_form *f = &w->form;
    const kernel_layer *l = &r->layer[layer];
    const bool is_packed = f->scale_form >= EEP_SCALES_UE8M0_ROWS;
    const bool has_scales = w->shape.fp8_dispatch != 0;

    return (eep_dispatch_args){
        .struct_bytes = sizeof(eep_dispatch_args),
        .layout = f->layout,
        .slot_align = f->slot_align,
        .scale_form = f->scale_form,
        .ids = f->is_physical ? EEP_IDS_PHYSICAL : EEP_IDS_LOGICAL,
        .topk_idx = f->is_wide       ? NULL
                    : f->is_physical ? l->physical_idx
                                     : l->topk_idx,
        .topk_idx_int64 = f->is_wide ? l->wide_idx : NULL,
        .placement = f->is_physical ? &r->placement : NULL,
        .slot_begin = f->tells || f->layout == EEP_ROWS_PACKED ? l->slot_begin : NULL,
        .row_scales = has_scales && !is_packed ? l->row_scales : NULL,
        .packed_scales = is_packed ? (int32_t *)(void *)l->row_scales : NULL,
        .slot_counts = f->tells || kernel_form_has_gaps(f) ? l->slot_counts : NULL,
        .source_tokens = f->tells ? l->source_tokens : NULL,
        .layout_range = f->tells ? l->layout_range : NULL};
}

bool kernel_form_has_gaps(const kernel_form *form)
{
    return form->layout == EEP_ROWS_PADDED || form->slot_align > 1;
}

eep_form_sizes kernel_form_sizes(const kernel_world *w)
{
    const eep_dispatch_args args = kernel_form_args(w, &w->rank[0], 0);

    return eepi_form_sizes(&w->layout, &args);
}

void kernel_form_node(const kernel_world *w, const kernel_rank *r, uint32_t layer,
                      eepk_dispatch_node_args *node)
{
    const eep_dispatch_args args = kernel_form_args(w, r, (int)layer);

    node->topk_idx = args.topk_idx;
    node->slot_begin = args.slot_begin;
    node->row_scales = args.row_scales;
    eepi_form_fill(&w->layout, &args, node);
}

void kernel_form_poison(const kernel_world *w, kernel_layer *l)
{
    const eepk_shape *s = &w->layout;

    memset(l->slot_counts, KERNEL_POISON, s->num_slots * sizeof(int32_t));
    memset(l->source_tokens, KERNEL_POISON, kernel_rows(w) * sizeof(int32_t));
    memset(l->layout_range, KERNEL_POISON, (size_t)s->num_slots * s->max_ranks * sizeof(int64_t));
}

/* ------------------------------------------------------------------ what an engine finds */

int kernel_form_slot_rows(const kernel_world *w, const kernel_layer *l, int slot)
{
    return w->has_form && (w->form.tells || kernel_form_has_gaps(&w->form))
               ? l->slot_counts[slot]
               : l->slot_begin[slot + 1] - l->slot_begin[slot];
}

int kernel_form_num_rows(const kernel_world *w, const kernel_layer *l)
{
    int rows = 0;

    for (int slot = 0; slot < w->shape.num_slots; slot++) {
        rows += kernel_form_slot_rows(w, l, slot);
    }
    return rows;
}

/* A multiple of the alignment. */
static int round_up(const kernel_world *w, int rows)
{
    const int align = w->has_form && w->form.slot_align > 1 ? w->form.slot_align : 1;

    while (rows % align != 0) {
        rows++;
    }
    return rows;
}

size_t kernel_form_place(const kernel_world *w, const kernel_layer *l, int slot, int i)
{
    if (w->has_form && w->form.layout == EEP_ROWS_PADDED) {
        const int slot_rows = round_up(w, w->shape.max_ranks * w->shape.max_tokens);
        return (size_t)slot * (size_t)slot_rows + (size_t)i;
    }
    return (size_t)(l->slot_begin[slot] + i);
}

/* Where the scale (or word of scales) `group` of the row lies. */
static size_t scale_index(const kernel_world *w, int num_words, int slot, size_t place, int i,
                          int group)
{
    const kernel_form *f = &w->form;
    const size_t word = (size_t)group, words = (size_t)num_words;
    size_t stride;

    if (!w->has_form || f->scale_form == EEP_SCALES_ROWS ||
        f->scale_form == EEP_SCALES_UE8M0_ROWS) {
        return place * words + word;
    }
    if (f->layout == EEP_ROWS_PADDED) { /* [slot][word][row] */
        stride = (size_t)round_up(w, w->shape.max_ranks * w->shape.max_tokens);
        stride = (stride + 3) / 4 * 4;
        return ((size_t)slot * words + word) * stride + (size_t)i;
    }
    return word * ((kernel_rows(w) + 3) / 4 * 4) + place; /* [word][row] */
}

static bool is_packed(const kernel_world *w)
{
    return w->has_form && w->form.scale_form >= EEP_SCALES_UE8M0_ROWS;
}

void kernel_form_scales(const kernel_world *w, const kernel_layer *l, int slot, int i,
                        float *scales_out)
{
    const int num = (int)w->layout.num_scales, words = is_packed(w) ? (num + 3) / 4 : num;
    const size_t place = kernel_form_place(w, l, slot, i);

    for (int group = 0; group < num; group++) {
        const int word = is_packed(w) ? group / 4 : group;
        const size_t at = scale_index(w, words, slot, place, i, word);
        scales_out[group] =
            is_packed(w)
                ? ldexpf(1.0f, ((const uint8_t *)l->row_scales)[4 * at + (size_t)group % 4] - 127)
                : l->row_scales[at];
    }
}

/* ------------------------------------------------------------------ ids */

static int32_t some_replica(const kernel_world *w, int layer, int expert, uint64_t *random)
{
    int32_t id = -1;
    int num = 0;

    for (int at = 0; at < w->shape.max_ranks * w->shape.num_slots; at++) {
        const int seat = at / w->shape.num_slots, slot = at % w->shape.num_slots;
        const eepi_view_slot *s =
            eepi_view_slot_at(w->view, kernel_view_layer(&w->shape, layer), seat, slot);
        if (eepi_view_is_member(w->view, seat) && s->state == EEPI_SLOT_HOLDS &&
            s->expert == expert && kernel_below(random, ++num) == 0) {
            id = at;
        }
    }
    return id;
}

void kernel_form_ids(kernel_world *w, int seat, uint64_t seed)
{
    kernel_rank *r = &w->rank[seat];

    r->placement = eepi_tables_slot_map(r->tables)->placement;
    for (int layer = 0; layer < w->shape.num_layers; layer++) {
        kernel_layer *l = &r->layer[layer];
        for (int i = 0; i < r->num_tokens * w->shape.top_k; i++) {
            const int32_t expert = l->topk_idx[i];
            l->physical_idx[i] = expert < 0 ? -1 : some_replica(w, layer, expert, &seed);
            l->wide_idx[i] = w->form.is_physical ? l->physical_idx[i] : expert;
        }
    }
}

/* ------------------------------------------------------------------ the reference */

typedef struct expected {
    int32_t *slot_begin, *slot_counts, *source_tokens;
    int64_t *layout_range;
    uint8_t *rows;
    float *scales;
} expected;

/* Does pair `i` of the source's batch go to that slot of that seat? */
static bool goes_to(const kernel_world *w, int source, int layer, int i, int seat, int slot)
{
    const kernel_layer *l = &w->rank[source].layer[layer];
    moe_pair pair = {source, l->topk_idx[i], 0, 0};
    int to_seat = -1, to_slot = -1;

    if (l->topk_idx[i] < 0) {
        return false;
    }
    if (w->form.is_physical) {
        return l->physical_idx[i] == seat * w->shape.num_slots + slot;
    }
    for (int j = 0; j < w->rank[source].num_tokens * w->shape.top_k; j++) {
        pair.number += j < i && l->topk_idx[j] == pair.expert;
        pair.num += l->topk_idx[j] == pair.expert;
    }
    moe_replica(w->view, kernel_view_layer(&w->shape, layer), &pair, &to_seat, &to_slot);
    return to_seat == seat && to_slot == slot;
}

static void expect_row(const kernel_world *w, const uint8_t *x, const expected *e, int slot,
                       size_t place, int i)
{
    const moe_shape *s = &w->shape;
    const int num = (int)w->layout.num_scales, words = is_packed(w) ? (num + 3) / 4 : num;
    float scales[num + 4];

    if (!s->fp8_dispatch) {
        memcpy(e->rows + place * w->layout.row_bytes, x, w->layout.row_bytes);
        return;
    }
    moe_quantise(s, x, e->rows + place * (size_t)s->hidden, scales);
    for (int word = 0; word < words; word++) {
        const size_t at = scale_index(w, words, slot, place, i, word);
        uint8_t *bytes = (uint8_t *)&e->scales[at];
        if (!is_packed(w)) {
            e->scales[at] = scales[word];
            continue;
        }
        for (int k = 0; k < 4; k++) {
            const int group = 4 * word + k;
            bytes[k] = group < num ? (uint8_t)(ilogbf(scales[group]) + 127) : 0;
        }
    }
}

static void expect_slot(const kernel_world *w, int seat, int layer, int slot, const expected *e)
{
    const bool is_padded = w->form.layout == EEP_ROWS_PADDED;
    int rows = 0, begin = e->slot_begin[slot];

    for (int source = 0; source < w->shape.max_ranks; source++) {
        const kernel_rank *r = &w->rank[source];
        const int first = rows;
        const bool sends = kernel_is_member(w, source) && !eepi_tables_status(r->tables)->bad_input;
        for (int i = 0; sends && i < r->num_tokens * w->shape.top_k; i++) {
            const int token = i / w->shape.top_k;
            if (goes_to(w, source, layer, i, seat, slot)) {
                const size_t place = (size_t)(begin + rows);
                e->source_tokens[place] = token;
                expect_row(w,
                           (const uint8_t *)r->layer[layer].x + (size_t)token * w->layout.row_bytes,
                           e, slot, place, rows++);
            }
        }
        e->layout_range[slot * w->shape.max_ranks + source] =
            (int64_t)first * 4294967296 + (rows - first);
    }
    e->slot_counts[slot] = rows;
    e->slot_begin[slot + 1] =
        begin + round_up(w, is_padded ? w->shape.max_ranks * w->shape.max_tokens : rows);
}

static const char *compare_with(const kernel_world *w, const kernel_layer *l, const expected *e)
{
    const eepk_shape *s = &w->layout;
    const eep_dispatch_args given = kernel_form_args(w, &w->rank[0], 0);
    const struct {
        const char *name;
        const void *want, *got;
        size_t bytes;
        bool is_given;
    } parts[] = {
        {"slot_begin", e->slot_begin, l->slot_begin, (s->num_slots + 1) * sizeof(int32_t),
         given.slot_begin},
        {"slot_counts", e->slot_counts, l->slot_counts, s->num_slots * sizeof(int32_t),
         given.slot_counts},
        {"rows", e->rows, l->rows, kernel_rows(w) * s->row_bytes, true},
        {"scales", e->scales, l->row_scales, kernel_scales_bytes(w), s->num_scales},
        {"source_tokens", e->source_tokens, l->source_tokens, kernel_rows(w) * sizeof(int32_t),
         given.source_tokens},
        {"layout_range", e->layout_range, l->layout_range,
         (size_t)s->num_slots * s->max_ranks * sizeof(int64_t), given.layout_range},
    };

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].is_given && memcmp(parts[i].want, parts[i].got, parts[i].bytes) != 0) {
            return parts[i].name; /* both are poison where nothing belongs */
        }
    }
    return NULL;
}

const char *kernel_form_compare(const kernel_world *w, int seat, int layer)
{
    const eepk_shape *s = &w->layout;
    const expected e = {
        .slot_begin = kernel_buffer((s->num_slots + 1) * sizeof(int32_t)),
        .slot_counts = kernel_buffer(s->num_slots * sizeof(int32_t)),
        .source_tokens = kernel_buffer(kernel_rows(w) * sizeof(int32_t)),
        .layout_range = kernel_buffer((size_t)s->num_slots * s->max_ranks * sizeof(int64_t)),
        .rows = kernel_buffer(kernel_rows(w) * s->row_bytes),
        .scales = kernel_buffer(kernel_scales_bytes(w)),
    };
    const char *wrong;

    e.slot_begin[0] = 0;
    for (int slot = 0; slot < w->shape.num_slots; slot++) {
        expect_slot(w, seat, layer, slot, &e);
    }
    wrong = compare_with(w, &w->rank[seat].layer[layer], &e);
    free(e.slot_begin);
    free(e.slot_counts);
    free(e.source_tokens);
    free(e.layout_range);
    free(e.rows);
    free(e.scales);
    return wrong;
}
