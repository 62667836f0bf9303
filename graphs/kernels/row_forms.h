/* SPDX-License-Identifier: Apache-2.0 */
/* The forms in which a dispatch gives rows and scales, beside packed ones (eep/forms.h).
 *
 * Rows have numbers and places. A number is what the row's place would be if slots lay one behind
 * the other without gaps (dense_begin): origins are kept by number, whatever the form. The place
 * is the number and what the row's slot is shifted by, since a slot's rows lie together in every
 * form. With gaps a place is never before its number: no slot begins earlier. */
#ifndef EEPK_ROW_FORMS_H
#define EEPK_ROW_FORMS_H

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/exchange.h"
#include "graphs/kernels/kernel_args.h"
#include "graphs/kernels/rows.h"

/* ------------------------------------------------------------------ dispatch: where rows lie */

/* A source has a token's row at most once in a slot, so a padded slot has room for all. A count
 * that says more is no count (D2). One block. */
EEPK_FN void eepk_check_cells(const eepk_dispatch_node_args *a, eepk_latch *latch, eep_grid g)
{
    const eepk_shape *s = &a->world->shape;
    const uint32_t *count = a->world->scratch[a->chain].receive_count;

    for (uint32_t i = g.thread; i < s->max_ranks * s->num_slots; i += g.num_threads) {
        if (count[i] > latch->status.max_tokens) {
            eepk_count_add(&latch->status.stale_dropped, 1);
            eepk_abort(latch, EEPK_STEP_STALE, eepk_dispatch_at(a));
        }
    }
}

/* slot_shift, slot_begin and slot_counts. Without `valid` counts no slot has rows. One block. */
EEPK_FN void eepk_shift_slots(const eepk_dispatch_node_args *a, int valid, eep_grid g)
{
    const uint32_t num_slots = a->world->shape.num_slots, align = a->slot_align;
    const eepk_scratch *own = &a->world->scratch[a->chain];

    for (uint32_t slot = g.thread; slot < num_slots; slot += g.num_threads) {
        const uint32_t rows =
            valid ? (uint32_t)(own->dense_begin[slot + 1] - own->dense_begin[slot]) : 0;
        own->slot_shift[slot] = a->slot_rows ? a->slot_rows : (rows + align - 1) / align * align;
        if (a->slot_counts) {
            a->slot_counts[slot] = (int32_t)rows;
        }
    }
    eepk_block_sync();
    if (g.thread == 0) { /* from the room that each slot takes to where it begins */
        uint32_t begin = 0;
        for (uint32_t slot = 0; slot < num_slots; slot++) {
            const uint32_t room = own->slot_shift[slot];
            if (a->slot_begin) {
                a->slot_begin[slot] = (int32_t)begin;
            }
            own->slot_shift[slot] = begin - (uint32_t)own->dense_begin[slot];
            begin += room;
        }
        if (a->slot_begin) {
            a->slot_begin[num_slots] = (int32_t)begin;
        }
    }
    eepk_block_sync();
}

/* What is told of each source's rows in each slot, and where this rank's own begin. One block. */
EEPK_FN void eepk_tell_sources(const eepk_dispatch_node_args *a, int valid, eep_grid g)
{
    const eepk_shape *s = &a->world->shape;
    const eepk_scratch *own = &a->world->scratch[a->chain];
    const uint32_t cells = s->max_ranks * s->num_slots;

    for (uint32_t slot = g.thread; slot < s->num_slots; slot += g.num_threads) {
        own->own_position[slot] =
            own->receive_base[(uint64_t)s->self * s->num_slots + slot] + own->slot_shift[slot];
    }
    for (uint32_t i = g.thread; i < cells && a->layout_range; i += g.num_threads) {
        const uint32_t seat = i / s->num_slots, slot = i % s->num_slots;
        const uint32_t begin = own->receive_base[i] - (uint32_t)own->dense_begin[slot];
        a->layout_range[(uint64_t)slot * s->max_ranks + seat] =
            valid ? (int64_t)((uint64_t)begin << 32 | own->receive_count[i]) : 0;
    }
}

EEPK_FN void eepk_dispatch_exchange_formed_body(const eepk_dispatch_node_args *a, eep_grid g)
{
    eepk_latch *latch = &a->world->control->latch;
    eepk_dispatch_node_args dense = *a;
    int valid;

    if (g.block != 0) {
        return;
    }
    dense.slot_begin = a->world->scratch[a->chain].dense_begin;
    eepk_receive(a->world, eepk_dispatch_at(a), g);
    eepk_layout_rows(&dense, latch, g);
    eepk_block_sync();
    valid = !latch->aborted;
    eepk_block_sync(); /* all have read it before one may raise it */
    if (valid) {
        eepk_check_cells(a, latch, g);
    }
    eepk_block_sync();
    valid = !latch->aborted;
    eepk_shift_slots(a, valid, g);
    eepk_tell_sources(a, valid, g);
}

/* ------------------------------------------------------------------ dispatch: unpack */

/* The scales of a row, in its form. `place` is the row's. */
EEPK_FN void eepk_unpack_scales(const eepk_dispatch_node_args *a, const float *scales,
                                uint32_t slot, uint32_t place, eep_grid g)
{
    const uint32_t num_scales = a->world->shape.num_scales;
    const int is_packed = a->scale_form >= EEP_SCALES_UE8M0_ROWS;
    const int is_columns = (a->scale_form & 1u) != 0;
    const uint32_t num = is_packed ? (num_scales + 3) / 4 : num_scales;
    const uint64_t first_of_slot = is_columns ? (uint64_t)slot * num * a->scale_stride : 0;
    const uint32_t row = is_columns && a->slot_rows ? place - slot * a->slot_rows : place;
    const uint64_t base =
        is_columns ? (a->slot_rows ? first_of_slot : 0) + row : (uint64_t)place * a->scale_stride;
    const uint64_t step = is_columns ? a->scale_stride : 1;

    for (uint32_t i = g.thread; i < num; i += g.num_threads) {
        uint32_t word = 0;
        if (!is_packed) {
            a->row_scales[base + i * step] = scales[i];
            continue;
        }
        for (uint32_t byte = 0; byte < 4 && 4 * i + byte < num_scales; byte++) {
            word |= eepk_scale_exponent(scales[4 * i + byte]) << (8 * byte);
        }
        a->packed_scales[base + i * step] = (int32_t)word;
    }
}

/* One row that has come, of that number, to its place. */
EEPK_FN void eepk_unpack_formed_row(const eepk_dispatch_node_args *a, eepk_copies *copies,
                                    const uint8_t *row, uint32_t slot, uint32_t number,
                                    uint32_t token, eep_grid g)
{
    const eepk_shape *s = &a->world->shape;
    const uint32_t bytes = s->num_scales == 0 ? s->row_bytes : s->hidden;
    const uint32_t place = number + a->world->scratch[a->chain].slot_shift[slot];

    eepk_copies_add(copies, (uint8_t *)a->rows + (uint64_t)place * bytes, row, bytes, g);
    if (s->num_scales) {
        eepk_unpack_scales(a, (const float *)(row + eepk_scales_at(s)), slot, place, g);
    }
    if (g.thread == 0 && a->source_tokens) {
        a->source_tokens[place] = (int32_t)token;
    }
}

/* ------------------------------------------------------------------ combine */

/* The place of a row; *slot is that of the row before, whose number was lower, or 0. */
EEPK_FN uint32_t eepk_place_of(const eepk_scratch *own, uint32_t number, uint32_t *slot)
{
    while (number >= (uint32_t)own->dense_begin[*slot + 1]) {
        (*slot)++;
    }
    return number + own->slot_shift[*slot];
}

/* ------------------------------------------------------------------ the mask */

EEPK_FN void eepk_mask_body(const eepk_mask_args *a, eep_grid g)
{
    const eepk_world *w = a->world;

    if (g.block != 0) {
        return;
    }
    for (uint32_t seat = g.thread; seat < w->shape.max_ranks; seat += g.num_threads) {
        a->out[seat] = w->active_mask[seat] ^ (int32_t)a->is_masked;
    }
}
#endif
