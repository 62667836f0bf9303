/* SPDX-License-Identifier: Apache-2.0 */
/* The slots of one layer: counts, lists of holders, and what filling one of them changes. */
#include "repair/planner/plan_layer.h"

#include "membership/view/view_order.h"
#include "repair/spread.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool eepi_plan_layer_open(eepi_plan_layer *l, const eepi_view_shape *shape)
{
    const size_t seats = (size_t)shape->max_ranks, experts = (size_t)shape->num_experts;

    *l = (eepi_plan_layer){.layer = -1};
    l->count = calloc(experts, sizeof *l->count);
    l->first = calloc(experts, sizeof *l->first);
    l->next = calloc(seats * (size_t)shape->num_slots, sizeof *l->next);
    l->num_empty = calloc(seats, sizeof *l->num_empty);
    l->num_spare = calloc(seats, sizeof *l->num_spare);
    l->is_reached = calloc(seats, sizeof *l->is_reached);
    return l->count && l->first && l->next && l->num_empty && l->num_spare && l->is_reached;
}

void eepi_plan_layer_close(eepi_plan_layer *l)
{
    free(l->count);
    free(l->first);
    free(l->next);
    free(l->num_empty);
    free(l->num_spare);
    free(l->is_reached);
}

void eepi_plan_layer_count(eepi_plan_layer *l, eepi_view *view, int layer)
{
    const eepi_view_shape *s = &view->shape;

    l->view = view;
    l->layer = layer;
    l->num_filling = 0;
    l->has_pins = eepi_view_layer_has_pins(view, layer);
    l->pins_yield = false;
    memset(l->count, 0, (size_t)s->num_experts * sizeof *l->count);
    for (int seat = 0; seat < s->max_ranks; seat++) {
        const eepi_view_slot *slots = eepi_view_slot_at(view, layer, seat, 0);
        const bool is_member = eepi_view_is_member(view, seat);
        for (int slot = 0; slot < s->num_slots; slot++) {
            l->num_filling += slots[slot].state == EEPI_SLOT_FILLING;
            if (slots[slot].state == EEPI_SLOT_HOLDS && is_member) {
                l->count[slots[slot].expert]++;
            }
        }
    }
}

bool eepi_plan_is_kept_slot(const eepi_plan_layer *l, int seat, int slot)
{
    return l->has_pins && !l->pins_yield && eepi_view_is_pinned(l->view, l->layer, seat, slot);
}

/* One more slot, or one less, may be given up. */
static void count_spare(eepi_plan_layer *l, int at, int sign)
{
    const int num_slots = l->view->shape.num_slots;

    l->num_spare[at / num_slots] +=
        eepi_plan_is_kept_slot(l, at / num_slots, at % num_slots) ? 0 : sign;
}

void eepi_plan_layer_list(eepi_plan_layer *l)
{
    const eepi_view_shape *s = &l->view->shape;

    memset(l->first, 0xff, (size_t)s->num_experts * sizeof *l->first);
    for (int seat = 0; seat < s->max_ranks; seat++) {
        const eepi_view_slot *slots = eepi_view_slot_at(l->view, l->layer, seat, 0);
        l->num_empty[seat] = l->num_spare[seat] = 0;
        if (!eepi_view_is_member(l->view, seat)) {
            continue;
        }
        for (int slot = 0; slot < s->num_slots; slot++) {
            const int expert = slots[slot].expert, at = seat * s->num_slots + slot;
            l->num_empty[seat] +=
                slots[slot].state == EEPI_SLOT_EMPTY && !eepi_plan_is_kept_slot(l, seat, slot);
            if (slots[slot].state == EEPI_SLOT_HOLDS) {
                count_spare(l, at, l->count[expert] > 1);
                l->next[at] = l->first[expert];
                l->first[expert] = at;
            }
        }
    }
    memset(l->is_reached, 0, (size_t)s->max_ranks * sizeof *l->is_reached);
    l->num_reached = 0;
    l->distance = eepi_spread_distance(s, eepi_view_num_active(l->view));
}

static bool is_too_near(const eepi_plan_layer *l, int expert, int seat, int slot)
{
    const eepi_view_shape *s = &l->view->shape;

    for (int at = l->first[expert]; at >= 0; at = l->next[at]) {
        if (at != seat * s->num_slots + slot &&
            !eepi_spread_is_apart(s, l->distance, seat, at / s->num_slots)) {
            return true;
        }
    }
    return false;
}

int eepi_plan_pick_slot(const eepi_plan_layer *l, int seat)
{
    const eepi_view_slot *slots = eepi_view_slot_at(l->view, l->layer, seat, 0);
    uint32_t most = 1;
    int best = -1;
    bool is_best_near = false;

    for (int slot = 0; slot < l->view->shape.num_slots; slot++) {
        const eepi_view_slot *s = &slots[slot];
        if (eepi_plan_is_kept_slot(l, seat, slot)) {
            continue;
        }
        if (s->state == EEPI_SLOT_EMPTY) {
            return slot;
        }
        if (s->state != EEPI_SLOT_HOLDS || l->count[s->expert] < 2 || l->count[s->expert] < most ||
            (l->count[s->expert] == most && is_best_near)) {
            continue;
        }
        const bool is_near = is_too_near(l, s->expert, seat, slot);
        if (l->count[s->expert] > most || is_near) {
            most = l->count[s->expert];
            best = slot;
            is_best_near = is_near;
        }
    }
    assert(best >= 0);
    return best;
}

static void remove_holder(eepi_plan_layer *l, int expert, int at)
{
    int32_t *link = &l->first[expert];

    while (*link != at) {
        link = &l->next[*link];
    }
    *link = l->next[at];
}

void eepi_plan_take_slot(eepi_plan_layer *l, eepi_plan_choice *choice)
{
    const int num_slots = l->view->shape.num_slots, seat = choice->seat;
    eepi_view_slot *slot = eepi_view_slot_at(l->view, l->layer, seat, choice->slot);

    choice->before = *slot;
    if (slot->state == EEPI_SLOT_EMPTY) {
        l->num_empty[seat] -= !eepi_plan_is_kept_slot(l, seat, choice->slot);
    } else {
        const int evicted = slot->expert;
        assert(slot->state == EEPI_SLOT_HOLDS && l->count[evicted] > 1);
        count_spare(l, seat * num_slots + choice->slot, -1);
        remove_holder(l, evicted, seat * num_slots + choice->slot);
        if (--l->count[evicted] == 1) { /* the last one must stay */
            count_spare(l, l->first[evicted], -1);
        }
    }
    eepi_plan_set_slot(slot, EEPI_SLOT_FILLING, choice->expert, choice->source);
}

void eepi_plan_return_slot(eepi_plan_layer *l, const eepi_plan_choice *choice)
{
    const int num_slots = l->view->shape.num_slots, seat = choice->seat;
    const int at = seat * num_slots + choice->slot;

    *eepi_view_slot_at(l->view, l->layer, seat, choice->slot) = choice->before;
    if (choice->before.state == EEPI_SLOT_EMPTY) {
        l->num_empty[seat] += !eepi_plan_is_kept_slot(l, seat, choice->slot);
        return;
    }
    const int evicted = choice->before.expert;
    if (l->count[evicted]++ == 1) {
        count_spare(l, l->first[evicted], 1);
    }
    count_spare(l, at, 1);
    l->next[at] = l->first[evicted];
    l->first[evicted] = at;
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
