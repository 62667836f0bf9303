/* SPDX-License-Identifier: Apache-2.0 */
/* What the sizes of a shape and the memory of its tables have in common. */
#ifndef EEPI_TABLE_SIZES_H
#define EEPI_TABLE_SIZES_H

#include "graphs/kernels/table_layout.h"

/* Slots of all seats in all layers. */
static inline uint64_t eepi_all_slots(const eepk_shape *shape)
{
    return (uint64_t)shape->num_layers * shape->max_ranks * shape->num_slots;
}

static inline uint64_t eepi_line_up(uint64_t offset)
{
    return (offset + EEPK_LINE_BYTES - 1) / EEPK_LINE_BYTES * EEPK_LINE_BYTES;
}
#endif
