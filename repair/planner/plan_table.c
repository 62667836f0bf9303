/* SPDX-License-Identifier: Apache-2.0 */
/* The planner's table, and what placement and planning do with slots. */
#include "repair/planner/plan_table.h"

#include <stdlib.h>

eepi_plan_table *eepi_plan_table_new(const eepi_view_shape *shape)
{
    eepi_plan_table *table = calloc(1, sizeof *table);

    if (!table) {
        return NULL;
    }
    table->count = calloc((size_t)shape->num_experts, sizeof *table->count);
    table->kept = calloc((size_t)shape->num_experts, sizeof *table->kept);
    if (!table->count || !table->kept) {
        eepi_plan_table_free(table);
        return NULL;
    }
    return table;
}

void eepi_plan_table_free(eepi_plan_table *table)
{
    if (!table) {
        return;
    }
    free(table->count);
    free(table->kept);
    free(table);
}

void eepi_plan_count_replicas(const eepi_view *view, int layer, int without, bool staying,
                              eepi_plan_table *replicas)
{
    for (int expert = 0; expert < view->shape.num_experts; expert++) {
        replicas->count[expert] = 0;
    }
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        if (seat == without || !eepi_view_is_member(view, seat) ||
            (staying && eepi_view_seat_at(view, seat)->state == EEP_SEAT_RETIRING)) {
            continue;
        }
        for (int slot = 0; slot < view->shape.num_slots; slot++) {
            const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
            if (s->state == EEPI_SLOT_HOLDS) {
                replicas->count[s->expert]++;
            }
        }
    }
}

void eepi_plan_set_slot(eepi_view_slot *slot, eepi_slot_state state, int expert, int source)
{
    *slot = (eepi_view_slot){
        .expert = (uint16_t)expert, .source = (uint16_t)source, .state = (uint8_t)state};
}

void eepi_plan_clear_slot(eepi_view_slot *slot)
{
    eepi_plan_set_slot(slot, EEPI_SLOT_EMPTY, EEPI_NO_EXPERT, EEPI_NO_SEAT);
}
