/* SPDX-License-Identifier: Apache-2.0 */
/* What the host hands to the `place` kernel: rows that came over a network, which lie in pinned
 * memory, and where they belong in a window that the host cannot write. In pinned memory itself.
 * One thing is placed at a time, and the host changes nothing here until it is done. */
#ifndef EEPK_PLACING_LAYOUT_H
#define EEPK_PLACING_LAYOUT_H

#include "graphs/kernels/table_layout.h"

enum { EEPK_PLACE_AT_ONCE = 64 };

typedef struct eepk_stretch { /* of a window */
    uint64_t offset;
    uint32_t bytes, pad;
} eepk_stretch;

typedef struct eepk_placing {
    uint64_t
        done; /* `number`, once all of it is placed; stored last, by the kernel, with release */
    uint64_t pad0[15];
    uint64_t number;      /* counted from 1 */
    const uint8_t *bytes; /* as a window: a stretch comes from its own offset */
    uint8_t *window;
    uint64_t word_offset, word; /* stored behind all stretches, with release */
    uint32_t num, has_word;
    uint64_t pad1[10];
    eepk_stretch stretch[EEPK_PLACE_AT_ONCE];
} eepk_placing;
static_assert(offsetof(eepk_placing, number) == EEPK_LINE_BYTES, "the kernel's word has its line");
static_assert(offsetof(eepk_placing, stretch) == 2 * EEPK_LINE_BYTES, "whole lines");
#endif
