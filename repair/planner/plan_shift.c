/* SPDX-License-Identifier: Apache-2.0 */
/* Augmenting paths through the slots of one layer. */
#include "repair/planner/plan_shift.h"

#include <assert.h>
#include <string.h>

/* The first choice of that layer: choices are in order of layers. */
static int first_choice_of(const eepi_plan_table *t, int layer)
{
    int least = 0, most = t->num_choices;

    while (least < most) {
        const int middle = least + (most - least) / 2;
        if (t->choices[middle].layer < layer) {
            least = middle + 1;
        } else {
            most = middle;
        }
    }
    return least;
}

/* The fills that may take another slot, by seat. */
static void list_fills(eepi_plan_table *t, int layer)
{
    memset(t->fill_first, 0xff, (size_t)t->network.shape.max_ranks * sizeof *t->fill_first);
    for (int i = first_choice_of(t, layer); i < t->num_choices && t->choices[i].layer == layer;
         i++) {
        const eepi_plan_choice *fill = &t->choices[i];
        if (!fill->is_kept && !fill->is_settled && fill->before.state == EEPI_SLOT_HOLDS) {
            t->fill_next[i] = t->fill_first[fill->seat];
            t->fill_first[fill->seat] = i;
        }
    }
}

void eepi_plan_shift_forget(eepi_plan_layer *l)
{
    if (l->num_reached > 0) {
        memset(l->is_reached, 0, (size_t)l->view->shape.max_ranks * sizeof *l->is_reached);
        l->num_reached = 0;
    }
}

/* If that fill gave its slot back, the seat with the last replica of what the slot held could give
 * that one. */
static void reach_by(eepi_plan_table *t, eepi_plan_layer *l, int fill, int *num_queued_io)
{
    const int evicted = t->choices[fill].before.expert, num_slots = l->view->shape.num_slots;
    const int at = l->first[evicted], seat = at / num_slots;

    if (l->count[evicted] != 1 || eepi_plan_can_fill(l, seat) ||
        eepi_plan_is_kept_slot(l, seat, at % num_slots)) {
        return;
    }
    l->is_reached[seat] = true;
    l->num_reached++;
    t->reached_by[seat] = fill;
    t->queue[(*num_queued_io)++] = seat;
}

bool eepi_plan_shift_find(eepi_plan_table *t, eepi_plan_layer *l)
{
    int num_queued = 0;

    eepi_plan_shift_forget(l);
    for (int i = 0; i < t->num_members; i++) {
        if (eepi_plan_can_fill(l, t->members[i])) {
            t->queue[num_queued++] = t->members[i];
        }
    }
    if (num_queued == 0 || num_queued == t->num_members) {
        return false;
    }
    list_fills(t, l->layer);
    for (int i = 0; i < num_queued; i++) {
        for (int fill = t->fill_first[t->queue[i]]; fill >= 0; fill = t->fill_next[fill]) {
            reach_by(t, l, fill, &num_queued);
        }
    }
    return l->num_reached > 0;
}

/* That fill takes another slot of its seat, which has one. */
static void shift(eepi_plan_table *t, eepi_plan_layer *l, int fill)
{
    eepi_plan_choice *choice = &t->choices[fill];
    const int slot = eepi_plan_pick_slot(l, choice->seat);

    t->shifted[t->num_shifted++] = (eepi_plan_shifted){fill, choice->slot};
    eepi_plan_return_slot(l, choice);
    choice->slot = slot;
    eepi_plan_take_slot(l, choice);
}

void eepi_plan_shift_to(eepi_plan_table *t, eepi_plan_layer *l, int seat)
{
    int num = 0;

    assert(l->is_reached[seat]);
    for (; l->is_reached[seat]; seat = t->choices[t->queue[num - 1]].seat) {
        t->queue[num++] = t->reached_by[seat];
    }
    while (num > 0) {
        shift(t, l, t->queue[--num]);
    }
    eepi_plan_shift_forget(l);
}

void eepi_plan_shift_undo(eepi_plan_table *t, eepi_plan_layer *l, int32_t num_left)
{
    while (t->num_shifted > num_left) {
        const eepi_plan_shifted *last = &t->shifted[--t->num_shifted];
        eepi_plan_choice *choice = &t->choices[last->fill];
        eepi_plan_return_slot(l, choice);
        choice->slot = last->slot;
        eepi_plan_take_slot(l, choice);
    }
}
