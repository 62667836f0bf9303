/* SPDX-License-Identifier: Apache-2.0 */
/* Random views for the ranks of a kernel_world. */
#include "tests/lib/world/kernel_world.h"

#include "tests/lib/check_or_abort.h"

#include <stdio.h>
#include <stdlib.h>

static void place_layer(const kernel_world *w, eepi_view *view, int layer, uint64_t *random)
{
    const moe_shape *s = &w->shape;
    eepi_view_slot *slots[KERNEL_MAX_SEATS * 64];
    int n = 0;

    CHECK(s->num_slots <= 64);
    for (int seat = 0; seat < s->max_ranks; seat++) {
        for (int slot = 0; slot < s->num_slots && eepi_view_is_member(view, seat); slot++) {
            slots[n++] = eepi_view_slot_at(view, layer, seat, slot);
        }
    }
    CHECK(n >= s->num_experts);
    for (int i = 0; i < n; i++) {
        int with = i + kernel_below(random, n - i), expert = i;
        eepi_view_slot *slot = slots[with];
        slots[with] = slots[i];
        if (i >= s->num_experts) {
            expert = kernel_below(random, s->num_experts);
            slot->state = (uint8_t)kernel_below(random, 4); /* half of them HOLD */
            if (slot->state == EEPI_SLOT_EMPTY) {
                continue;
            }
            if (slot->state != EEPI_SLOT_FILLING) {
                slot->state = EEPI_SLOT_HOLDS;
            }
        } else {
            slot->state = EEPI_SLOT_HOLDS;
        }
        slot->expert = (uint16_t)expert;
    }
}

/* All alike, none, any: of each a third of the layers. */
static void share_layer(const eepi_view *view, int layer, uint64_t *random)
{
    const int kind = kernel_below(random, 3);

    for (int i = 0; i < view->shape.max_ranks * view->shape.num_slots; i++) {
        eepi_view_slot *slot =
            eepi_view_slot_at(view, layer, i / view->shape.num_slots, i % view->shape.num_slots);
        slot->share = kind == 0   ? 0
                      : kind == 1 ? (uint16_t)kernel_below(random, 65536)
                                  : (uint16_t)(kernel_below(random, 3) * 7);
    }
}

eepi_view *kernel_view(const kernel_world *w, uint64_t epoch, uint64_t members, uint32_t generation,
                       uint64_t seed)
{
    const moe_shape *s = &w->shape;
    const eepi_view_shape shape = {
        s->max_ranks, kernel_view_layer(s, s->num_layers),        s->num_experts,
        s->num_slots, (int)(seed % (uint64_t)(s->max_ranks + 1)), 0};
    eepi_view *view = eepi_view_new(&shape);

    CHECK(view);
    view->epoch = epoch;
    for (int seat = 0; seat < s->max_ranks; seat++) {
        const bool in = members >> seat & 1u;
        *eepi_view_seat_at(view, seat) = (eepi_view_seat){
            .generation = in ? generation : 0, .state = in ? EEP_SEAT_ACTIVE : EEP_SEAT_VACANT};
    }
    for (int layer = 0; layer < shape.num_layers; layer++) {
        place_layer(w, view, layer, &seed);
        share_layer(view, layer, &seed);
    }
    eepi_view_seal(view);
    return view;
}
