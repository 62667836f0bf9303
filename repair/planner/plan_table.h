/* SPDX-License-Identifier: Apache-2.0 */
/* What placement and planning share: a table made once, and the slots of a view. */
#ifndef EEPI_PLAN_TABLE_H
#define EEPI_PLAN_TABLE_H

#include "membership/view/view.h"

/* What planning needs beside the document, made once, so that a fault is planned for even when
 * memory is short: a few words per expert. Of one layer at a time. Up to 0.3 MB, which no thread's
 * stack need have. */
typedef struct eepi_plan_table {
    uint32_t *count; /* [num_experts]: HOLDS slots of each expert on members */
    bool *kept;      /* [num_experts]: a fill of an earlier plan goes on */
} eepi_plan_table;

/* NULL: no memory. */
eepi_plan_table *eepi_plan_table_new(const eepi_view_shape *shape);
void eepi_plan_table_free(eepi_plan_table *table);

/* Count the replicas of a layer. The slots of seat `without` (-1: none) do not count, nor, if
 * `staying`, those of RETIRING seats. */
void eepi_plan_count_replicas(const eepi_view *view, int layer, int without, bool staying,
                              eepi_plan_table *replicas);
void eepi_plan_set_slot(eepi_view_slot *slot, eepi_slot_state state, int expert, int source);
void eepi_plan_clear_slot(eepi_view_slot *slot);
#endif
