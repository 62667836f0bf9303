/* SPDX-License-Identifier: Apache-2.0 */
/* Wishes: the part of a view document that says which expert an engine's order gives a slot, and
 * which of these are pinned (rules R3, R4). An order is such a part by itself, with a number.
 *
 *   uint64_t   pinned[words]                                  bit (layer, seat, slot)
 *   uint16_t   wish[num_layers][max_ranks][num_slots]         EEPI_NO_EXPERT: none
 *   padding    zero, up to a multiple of 8
 *
 * What becomes of a slot leaves its wish alone. An expert is wished for once per seat and layer.
 * Pure data. */
#ifndef EEPI_WISHES_H
#define EEPI_WISHES_H

#include "membership/view/shape.h"

#include <stdbool.h>
#include <stddef.h>

/* An engine's placement, as some process gave it. */
typedef struct eepi_order {
    uint64_t number; /* 1 or more; the highest counts */
    uint64_t digest; /* eepi_wishes_digest */
    int32_t seat;    /* of who gave it, */
    uint32_t generation;
    const void *wishes; /* [eepi_wishes_bytes], 8-byte aligned */
} eepi_order;

size_t eepi_wishes_bytes(const eepi_view_shape *shape);
/* No wish. */
void eepi_wishes_clear(void *wishes, const eepi_view_shape *shape);
/* The index of a slot, and what is wished for and pinned there. */
size_t eepi_wishes_index(const eepi_view_shape *shape, int layer, int seat, int slot);
uint16_t *eepi_wishes_list(const void *wishes, const eepi_view_shape *shape);
bool eepi_wishes_is_pinned(const void *wishes, size_t at);
/* `expert` -1: none. */
void eepi_wishes_set(void *wishes, const eepi_view_shape *shape, int layer, int seat, int slot,
                     int expert, bool pinned);
/* NULL: they are sound; else the reason. */
const char *eepi_wishes_check(const void *wishes, const eepi_view_shape *shape);
uint64_t eepi_wishes_digest(const void *wishes, const eepi_view_shape *shape);
#endif
