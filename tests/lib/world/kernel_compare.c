/* SPDX-License-Identifier: Apache-2.0 */
/* What the ranks of a kernel_world have written, against the reference. */
#include "tests/lib/world/kernel_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool all_poison(const void *from, size_t bytes)
{
    const uint8_t *at = from;

    for (size_t i = 0; i < bytes; i++) {
        if (at[i] != KERNEL_POISON) {
            return false;
        }
    }
    return true;
}

bool kernel_out_untouched(const kernel_world *w, int seat, int layer)
{
    return all_poison(w->rank[seat].layer[layer].out, kernel_out_bytes(w));
}

static const char *compare_out(const kernel_world *w, int seat, int layer)
{
    const moe_input input = kernel_rank_input(w, seat, layer);
    const size_t bytes = kernel_out_bytes(w), used = (size_t)input.num_tokens *
                                                     (size_t)w->shape.hidden *
                                                     eep_dtype_bytes(w->shape.out_dtype);
    const uint8_t *out = w->rank[seat].layer[layer].out;
    void *expected = kernel_buffer(bytes);
    bool same;

    moe_combine(&w->shape, kernel_view_layer(&w->shape, layer), &input, expected);
    same = memcmp(expected, out, used) == 0;
    free(expected);
    if (!same) {
        return "out";
    }
    return all_poison(out + used, bytes - used) ? NULL : "out past the tokens";
}

static const char *compare_dispatch(const kernel_world *w, int seat, int layer)
{
    const eepk_shape *s = &w->layout;
    const kernel_layer *l = &w->rank[seat].layer[layer];
    moe_input inputs[KERNEL_MAX_SEATS] = {{0}};
    uint8_t *rows = kernel_buffer((size_t)s->rows_capacity * s->row_bytes);
    float *scales = kernel_buffer(kernel_scales_bytes(w));
    int32_t *slot_begin = kernel_buffer((s->num_slots + 1) * sizeof(int32_t));
    moe_origin *origin = kernel_buffer(s->rows_capacity * sizeof *origin);
    const char *wrong = NULL;

    for (int source = 0; source < w->shape.max_ranks; source++) {
        if (kernel_is_member(w, source) && !eepi_tables_status(w->rank[source].tables)->bad_input) {
            inputs[source] = kernel_rank_input(w, source, layer);
        }
    }
    moe_dispatch(&w->shape, w->view, kernel_view_layer(&w->shape, layer), inputs, seat, rows,
                 scales, slot_begin, origin);
    if (memcmp(slot_begin, l->slot_begin, (s->num_slots + 1) * sizeof(int32_t)) != 0) {
        wrong = "slot_begin";
    } else if (memcmp(rows, l->rows, (size_t)s->rows_capacity * s->row_bytes) != 0) {
        wrong = "rows"; /* both are poison where nothing belongs */
    } else if (s->num_scales && memcmp(scales, l->row_scales, kernel_scales_bytes(w)) != 0) {
        wrong = "row_scales";
    }
    for (int i = 0; !wrong && i < slot_begin[s->num_slots]; i++) {
        if (l->origin[i].seat != origin[i].seat || (int)l->origin[i].token != origin[i].token ||
            l->origin[i].k != origin[i].k) {
            wrong = "origin";
        }
    }
    free(rows);
    free(scales);
    free(slot_begin);
    free(origin);
    return wrong;
}

int kernel_rank_compare(const kernel_world *w, int seat, bool own_out_only)
{
    for (int layer = 0; layer < w->shape.num_layers; layer++) {
        const char *wrong = own_out_only  ? NULL
                            : w->has_form ? kernel_form_compare(w, seat, layer)
                                          : compare_dispatch(w, seat, layer);
        if (!wrong) {
            wrong = compare_out(w, seat, layer);
        }
        if (!wrong) {
            continue;
        }
        fprintf(stderr, "seat %d, layer %d: %s differs from the reference\n", seat, layer, wrong);
        return layer;
    }
    return -1;
}
