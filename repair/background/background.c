/* SPDX-License-Identifier: Apache-2.0 */
/* A round of background repair, layer by layer (routing stabilisation of DESIGN.md; the paper moves
 * all of it inside the pause). */
#include "repair/background/background.h"

#include "repair/background/arrange.h"
#include "repair/background/level.h"
#include "repair/background/protect.h"
#include "repair/planner/plan_choose.h"

#include <stdlib.h>

struct eepi_background {
    eepi_outlook outlook;
    eepi_plan_table *table; /* of one layer: links and sources */
    int32_t *order;         /* [num_experts] */
    int32_t num_protecting; /* fills of the layer planned last */
};

const eepi_background_limits eepi_background_defaults = {.max_fills = 16,
                                                         .max_of_seat = 16,
                                                         .max_exposed = 8,
                                                         .target_permille = 1050,
                                                         .start_permille = 1080,
                                                         .pay_permille = 5};

eepi_background *eepi_background_new(const eepi_view_shape *shape)
{
    const size_t seats = (size_t)shape->max_ranks, experts = (size_t)shape->num_experts;
    const size_t slots = seats * (size_t)shape->num_slots;
    eepi_background *b = calloc(1, sizeof *b);
    eepi_outlook *o;

    if (!b) {
        return NULL;
    }
    o = &b->outlook;
    o->shape = *shape;
    o->seat = calloc(seats, sizeof *o->seat);
    o->expert = calloc(experts, sizeof *o->expert);
    o->next = calloc(slots, sizeof *o->next);
    o->carried = calloc(slots, sizeof *o->carried);
    o->sorted = calloc(slots, sizeof *o->sorted);
    o->fills = calloc(slots, sizeof *o->fills);
    b->order = calloc(experts, sizeof *b->order);
    eepi_view_shape one_layer = *shape;
    one_layer.num_layers = 1;
    b->table = eepi_plan_table_new(&one_layer);
    if (!b->table || !o->seat || !o->expert || !o->next || !o->carried || !o->sorted || !o->fills ||
        !b->order) {
        eepi_background_free(b);
        return NULL;
    }
    return b;
}

void eepi_background_free(eepi_background *background)
{
    if (!background) {
        return;
    }
    free(background->outlook.seat);
    free(background->outlook.expert);
    free(background->outlook.next);
    free(background->outlook.carried);
    free(background->outlook.sorted);
    free(background->outlook.fills);
    free(background->order);
    eepi_plan_table_free(background->table);
    free(background);
}

void eepi_background_begin(eepi_background *background, eepi_view *view, const eepi_links *links,
                           uint64_t expert_bytes)
{
    eepi_outlook *o = &background->outlook;

    eepi_outlook_begin(o, view, false);
    eepi_plan_table_begin(background->table, view, links, expert_bytes);
    for (int seat = 0; seat < o->shape.max_ranks; seat++) {
        o->seat[seat].filled = 0;
    }
}

/* After all slots are decided: what is a source then, stays one. */
static void choose_sources(eepi_background *background)
{
    eepi_outlook *o = &background->outlook;
    eepi_plan_table *t = background->table;

    for (int i = 0; i < o->num_fills; i++) {
        eepi_view_slot *s = &o->slot[o->fills[i]];
        const int target = eepi_outlook_seat_of(o, o->fills[i]);
        eepi_plan_weight weight;
        eepi_plan_find_copies(t, o->view, o->layer, s->expert);
        eepi_plan_weigh_sources(t);
        const int source = eepi_plan_source_for(t, target, &weight);
        s->source = (uint16_t)source;
        eepi_plan_load_copy(t, source, target);
    }
}

int eepi_background_layer(eepi_background *background, int layer, const uint32_t *loads,
                          const eepi_background_limits *limits)
{
    eepi_outlook *o = &background->outlook;

    if (o->routed) {
        eepi_outlook_begin(o, o->view, false);
    }
    eepi_outlook_read(o, layer, loads, limits);
    eepi_background_arrange(o, background->order);
    background->num_protecting = 0;
    if (o->num_fills == 0) { /* what is ordered comes first */
        eepi_background_protect(o, background->order);
        background->num_protecting = o->num_fills;
        eepi_background_level(o);
        eepi_background_use_empty(o);
    }
    choose_sources(background);
    return o->num_fills;
}

bool eepi_background_split(eepi_background *background, eepi_view *view, int layer,
                           const uint32_t *loads, const eepi_background_limits *limits, bool anew)
{
    eepi_outlook *o = &background->outlook;
    int64_t most;

    eepi_outlook_begin(o, view, true);
    eepi_outlook_read(o, layer, loads, limits);
    most = eepi_outlook_most(o);
    if (!anew && (!o->has_loads || most <= o->target)) {
        return false;
    }
    o->target = o->mean; /* as even as it gets, so that it lasts */
    eepi_outlook_split_all(o);
    if (!anew && most - eepi_outlook_most(o) < 2 * o->pay) {
        return false;
    }
    return eepi_outlook_write_split(o);
}

eepi_background_state eepi_background_state_of(const eepi_background *background)
{
    const eepi_outlook *o = &background->outlook;
    const int64_t mean = o->num_staying > 0 ? o->total / o->num_staying : 0;
    eepi_background_state state = {.bare = o->bare,
                                   .single = o->single,
                                   .near = o->near,
                                   .lacking = o->lacking,
                                   .empty = o->empty,
                                   .protecting = background->num_protecting};

    for (int seat = 0; seat < o->shape.max_ranks && mean > 0; seat++) {
        const int64_t permille = o->seat[seat].stays ? o->seat[seat].load * 1000 / mean : 0;
        state.most_permille = permille > state.most_permille ? permille : state.most_permille;
    }
    return state;
}
