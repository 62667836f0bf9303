/* SPDX-License-Identifier: Apache-2.0 */
/* The forms of a dispatch: their sizes, checks, and what they add to the arguments of nodes. Pure.
 */
#include "membership/step/dispatch_form.h"

#include "graphs/base/public_call.h"

enum {
    MOST_ALIGN = 65536,
    STRIDE_ROWS = 4, /* of columns: 16 bytes, as TMA wants it */
};

/* ------------------------------------------------------------------ sizes */

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static uint32_t align_of(const eep_dispatch_args *a)
{
    return a->slot_align > 1 ? (uint32_t)a->slot_align : 1;
}

static uint64_t slot_rows_of(const eepk_shape *s, const eep_dispatch_args *a)
{
    return a->layout == EEP_ROWS_PADDED
               ? round_up((uint64_t)s->max_ranks * s->num_max_tokens, align_of(a))
               : 0;
}

/* Packed: each slot with rows may waste what is left to its next multiple. */
static uint64_t rows_of(const eepk_shape *s, const eep_dispatch_args *a)
{
    const uint64_t align = align_of(a), most = s->rows_capacity;
    const uint64_t used = most < s->num_slots ? most : s->num_slots;

    return a->layout == EEP_ROWS_PADDED ? s->num_slots * slot_rows_of(s, a)
                                        : (most + used * (align - 1)) / align * align;
}

static bool is_packed_scales(const eep_dispatch_args *a)
{
    return a->scale_form == EEP_SCALES_UE8M0_ROWS || a->scale_form == EEP_SCALES_UE8M0_COLUMNS;
}

static bool is_columns(const eep_dispatch_args *a)
{
    return a->scale_form == EEP_SCALES_COLUMNS || a->scale_form == EEP_SCALES_UE8M0_COLUMNS;
}

eep_form_sizes eepi_form_sizes(const eepk_shape *s, const eep_dispatch_args *a)
{
    const uint64_t slot_rows = slot_rows_of(s, a), rows = rows_of(s, a);
    const uint64_t of_row = is_packed_scales(a) ? (s->num_scales + 3) / 4 : s->num_scales;
    eep_form_sizes sizes = {.struct_bytes = sizeof sizes,
                            .rows = rows,
                            .slot_rows = slot_rows,
                            .rows_bytes = rows * (s->num_scales ? s->hidden : s->row_bytes)};

    if (s->num_scales == 0) {
        return sizes;
    }
    sizes.scale_stride =
        is_columns(a) ? round_up(slot_rows ? slot_rows : rows, STRIDE_ROWS) : of_row;
    sizes.scales_bytes = sizeof(float) * (!is_columns(a) ? rows * of_row
                                          : slot_rows ? s->num_slots * of_row * sizes.scale_stride
                                                      : of_row * sizes.scale_stride);
    return sizes;
}

eep_status eepi_form_check_sizes(const char *call, const eepk_shape *s, const eep_dispatch_args *a)
{
    if (a->layout != EEP_ROWS_PACKED && a->layout != EEP_ROWS_PADDED) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "%s: layout is %d: EEP_ROWS_PACKED and EEP_ROWS_PADDED are possible",
                           call, (int)a->layout);
    }
    if (a->slot_align < 0 || a->slot_align > MOST_ALIGN) {
        return eepi_refuse(EEP_ERR_INVALID, "%s: slot_align is %d: 0 to %d rows are possible", call,
                           a->slot_align, MOST_ALIGN);
    }
    if ((uint32_t)a->scale_form > EEP_SCALES_UE8M0_COLUMNS) {
        return eepi_refuse(EEP_ERR_INVALID, "%s: scale_form is %d: 0 to %d are possible", call,
                           (int)a->scale_form, (int)EEP_SCALES_UE8M0_COLUMNS);
    }
    if (a->scale_form != EEP_SCALES_ROWS && s->num_scales == 0) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "%s: scale_form is %d without fp8_dispatch, so there are no scales",
                           call, (int)a->scale_form);
    }
    if (is_packed_scales(a) && !s->scale_powers) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "%s: scale_form is UE8M0, and scales are no powers of two: open all "
                           "ranks with fp8_dispatch EEP_FP8_POWERS",
                           call);
    }
    if (rows_of(s, a) > INT32_MAX) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "%s: the form has %llu rows, and at most %d can be counted", call,
                           (unsigned long long)rows_of(s, a), INT32_MAX);
    }
    return EEP_OK;
}

/* ------------------------------------------------------------------ buffers */

static eep_status check_ids(const char *call, const eep_dispatch_args *a)
{
    if (a->topk_idx && a->topk_idx_int64) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "%s: topk_idx and topk_idx_int64 are both given: give the one that the "
                           "ids are in",
                           call);
    }
    if (a->ids != EEP_IDS_LOGICAL && a->ids != EEP_IDS_PHYSICAL) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "%s: ids is %d: EEP_IDS_LOGICAL and EEP_IDS_PHYSICAL are possible", call,
                           (int)a->ids);
    }
    if ((a->placement != NULL) != (a->ids == EEP_IDS_PHYSICAL)) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "%s: placement is %s physical ids: give it exactly with these (the word "
                           "of eep_live_placement_get)",
                           call, a->placement ? "given without" : "NULL with");
    }
    return EEP_OK;
}

static eep_status check_scales(const char *call, const eepk_shape *s, const eep_dispatch_args *a)
{
    const bool is_packed = is_packed_scales(a), has_scales = s->num_scales > 0;

    if ((a->row_scales != NULL) != (has_scales && !is_packed)) {
        return eepi_refuse(EEP_ERR_INVALID, "%s: row_scales is %s: give it exactly with that", call,
                           !a->row_scales ? "NULL with fp8_dispatch"
                           : has_scales   ? "given without a float scale_form"
                                          : "given without fp8_dispatch");
    }
    if ((a->packed_scales != NULL) != is_packed) {
        return eepi_refuse(EEP_ERR_INVALID,
                           "%s: packed_scales is %s a UE8M0 scale_form: give it exactly with that",
                           call, a->packed_scales ? "given without" : "NULL with");
    }
    return EEP_OK;
}

eep_status eepi_form_check_buffers(const char *call, const eepk_shape *s,
                                   const eep_dispatch_args *a)
{
    eep_status status = check_ids(call, a);

    if (status == EEP_OK) {
        status = check_scales(call, s, a);
    }
    if (status == EEP_OK && !a->slot_counts &&
        (a->layout == EEP_ROWS_PADDED || a->slot_align > 1)) {
        status = eepi_refuse(EEP_ERR_INVALID,
                             "%s: slot_counts is NULL, and rows have gaps: nothing else tells how "
                             "many rows a slot has",
                             call);
    }
    return status;
}

void eepi_form_fill(const eepk_shape *s, const eep_dispatch_args *a, eepk_dispatch_node_args *node)
{
    const eep_form_sizes sizes = eepi_form_sizes(s, a);

    node->topk_idx_int64 = a->topk_idx_int64;
    node->placement = a->placement;
    node->packed_scales = a->packed_scales;
    node->slot_counts = a->slot_counts;
    node->source_tokens = a->source_tokens;
    node->layout_range = a->layout_range;
    node->is_physical = a->ids == EEP_IDS_PHYSICAL;
    node->scale_form = (uint32_t)a->scale_form;
    node->slot_align = align_of(a);
    node->slot_rows = (uint32_t)sizes.slot_rows;
    node->scale_stride = sizes.scale_stride;
}
