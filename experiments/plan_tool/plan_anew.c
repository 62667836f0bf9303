/* SPDX-License-Identifier: Apache-2.0 */
#include "experiments/plan_tool/plan_anew.h"

#include <stdlib.h>
#include <string.h>

/* A layer of what the survivors held. */
typedef struct anew_layer {
    const eepi_view *old;
    int layer;
    bool *held; /* [max_ranks][num_experts] */
} anew_layer;

static void read_layer(anew_layer *l)
{
    const eepi_view_shape *s = &l->old->shape;

    memset(l->held, 0, (size_t)s->max_ranks * (size_t)s->num_experts * sizeof *l->held);
    for (int i = 0; i < s->max_ranks * s->num_slots; i++) {
        const eepi_view_slot *slot =
            eepi_view_slot_at(l->old, l->layer, i / s->num_slots, i % s->num_slots);
        if (slot->state == EEPI_SLOT_HOLDS) {
            l->held[i / s->num_slots * s->num_experts + slot->expert] = true;
        }
    }
}

static bool held(const anew_layer *l, int seat, int expert)
{
    return l->held[seat * l->old->shape.num_experts + expert];
}

/* The seat that would give the expert to `target` soonest; -1: none can. */
static int best_source(const plan_outcomes *o, const anew_layer *l, int expert, int target,
                       int kind)
{
    const eepi_view *old = l->old;
    double least = 0;
    int best = -1;

    for (int seat = 0; seat < old->shape.max_ranks; seat++) {
        const bool has = kind == EEPI_LINK_SLOT ? held(l, seat, expert)
                                                : eepi_view_has_backup(old, seat, l->layer, expert);
        if (!has || !eepi_view_is_member(old, seat)) {
            continue;
        }
        const double s = plan_flows_with(o->flows, seat, target, kind);
        if (best < 0 || s < least) {
            best = seat;
            least = s;
        }
    }
    return best;
}

/* Where a slot of `target` gets the expert from, added to the loads of the links. */
static plan_source take(plan_outcomes *o, const anew_layer *l, int expert, int target)
{
    if (held(l, target, expert)) {
        return PLAN_UNCHANGED;
    }
    const int live = best_source(o, l, expert, target, EEPI_LINK_SLOT);
    if (live >= 0) {
        plan_flows_add(o->flows, live, target, EEPI_LINK_SLOT);
        return PLAN_LIVE_REPLICA;
    }
    if (eepi_view_has_backup(l->old, target, l->layer, expert)) {
        plan_flows_add(o->flows, target, target, EEPI_LINK_BACKUP);
        return PLAN_OWN_NODE_BACKUP;
    }
    const int backup = best_source(o, l, expert, target, EEPI_LINK_BACKUP);
    if (backup >= 0) {
        plan_flows_add(o->flows, backup, target, EEPI_LINK_BACKUP);
        return PLAN_OTHER_BACKUP;
    }
    if (o->self->can_read_file[target]) {
        plan_flows_add(o->flows, target, target, EEPI_LINK_FILE);
        return PLAN_CHECKPOINT;
    }
    return PLAN_NUM_SOURCES;
}

static bool take_all(plan_outcomes *o, anew_layer *l, const eepi_view *placed)
{
    const eepi_view_shape *s = &placed->shape;
    const int of_layer = s->max_ranks * s->num_slots;

    for (int i = 0; i < s->num_layers * of_layer; i++) {
        const int layer = i / of_layer, seat = i % of_layer / s->num_slots;
        const eepi_view_slot *slot = eepi_view_slot_at(placed, layer, seat, i % s->num_slots);
        if (i % of_layer == 0) {
            l->layer = layer;
            read_layer(l);
        }
        if (slot->state != EEPI_SLOT_HOLDS) {
            continue;
        }
        const plan_source source = take(o, l, slot->expert, seat);
        if (source == PLAN_NUM_SOURCES) {
            return false;
        }
        o->source[i] = (uint8_t)source;
    }
    return true;
}

/* The survivors of `old`, placed as if nobody held anything. */
static eep_status place_anew(const plan_outcomes *o, const eepi_view *old, eepi_view *placed)
{
    const eepi_view_shape *s = &old->shape;

    memcpy(placed, old, old->bytes);
    for (int i = 0; i < s->num_layers * s->max_ranks * s->num_slots; i++) {
        const int of_layer = s->max_ranks * s->num_slots;
        *eepi_view_slot_at(placed, i / of_layer, i % of_layer / s->num_slots, i % s->num_slots) =
            (eepi_view_slot){.expert = EEPI_NO_EXPERT, .source = EEPI_NO_SEAT};
    }
    return plan_case_place(o->self, placed);
}

eep_status plan_anew_of(plan_outcomes *o, const bool *lost, plan_anew *anew_out)
{
    eepi_view *old = eepi_view_copy(o->self->before);
    const eepi_view_shape *s = &o->self->before->shape;
    anew_layer l = {.old = old,
                    .held = calloc((size_t)s->max_ranks * (size_t)s->num_experts, sizeof *l.held)};
    plan_anew anew = {.is_covered = false};

    if (!old || !l.held) {
        free(old);
        free(l.held);
        return EEP_ERR_NO_MEMORY;
    }
    plan_case_lose(old, lost);
    plan_flows_reset(o->flows);
    const eep_status status = place_anew(o, old, o->view);
    if (status == EEP_OK && take_all(o, &l, o->view)) {
        anew.is_covered = true;
        anew.pause_s = plan_flows_link_s(o->flows);
        plan_slots_count(o, anew.slots);
        anew.balance = plan_balance_of(o->self, o->background, o->per_share, o->view);
    }
    free(old);
    free(l.held);
    *anew_out = anew;
    return status == EEP_ERR_NO_MEMORY ? status : EEP_OK;
}
