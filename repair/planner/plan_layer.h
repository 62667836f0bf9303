/* SPDX-License-Identifier: Apache-2.0 */
/* The slots of one layer as a plan sees them: who holds which expert, and which slots may be
 * filled. Lists are made once for a layer and kept up while slots change, so that no question scans
 * all seats and slots. Pure. */
#ifndef EEPI_PLAN_LAYER_H
#define EEPI_PLAN_LAYER_H

#include "membership/view/view.h"

/* One slot of a member is filled; what it held before comes back if the choice is changed. */
typedef struct eepi_plan_choice {
    int32_t layer, expert, seat, slot;
    int32_t source;        /* a seat, or a file (membership/view/view.h) */
    uint64_t source_parts; /* eepi_plan_note_sources: the first word */
    bool is_kept;          /* an earlier plan's: it stays where it is */
    bool is_settled;       /* while choices are exchanged: it is one of those at hand */
    eepi_view_slot before; /* EMPTY; or HOLDS a replica, which is given up */
} eepi_plan_choice;

typedef struct eepi_plan_layer {
    eepi_view *view;
    int32_t layer;
    int32_t distance;    /* of replicas (repair/spread.h), preferred */
    int32_t num_filling; /* FILLING slots when it was counted */
    bool has_pins;       /* and pinned slots, which are not to be filled (rule R4) */
    bool pins_yield;     /* but here they may be: no other slot is left */
    uint32_t *count;     /* [num_experts]: HOLDS slots on members */
    int32_t *first;      /* [num_experts]: one of them as seat * num_slots + slot, -1: none */
    int32_t *next;       /* [max_ranks * num_slots]: the next one of the same expert, -1: none */
    /* [max_ranks], of slots that may be filled: */
    int32_t *num_empty; /* EMPTY slots of a member */
    int32_t *num_spare; /* HOLDS slots of a member whose expert has other replicas */
    bool *is_reached;   /* it has neither, but another fill can make room on it (plan_shift.h) */
    int32_t num_reached;
} eepi_plan_layer;

EEP_MUST_CHECK bool eepi_plan_layer_open(eepi_plan_layer *l, const eepi_view_shape *shape);
void eepi_plan_layer_close(eepi_plan_layer *l);
/* Count replicas; then, only where something is to be filled, make the lists. Pins do not yield. */
void eepi_plan_layer_count(eepi_plan_layer *l, eepi_view *view, int layer);
void eepi_plan_layer_list(eepi_plan_layer *l);

static inline bool eepi_plan_can_fill(const eepi_plan_layer *l, int seat)
{
    return l->num_empty[seat] + l->num_spare[seat] > 0 || l->is_reached[seat];
}

/* A pinned slot that is not to be filled (rule R4). */
bool eepi_plan_is_kept_slot(const eepi_plan_layer *l, int seat, int slot);
/* The slot of that seat that costs least: an EMPTY one; else that of the expert with most replicas,
 * first one that is too near another replica. It must have an EMPTY or a spare slot. */
int eepi_plan_pick_slot(const eepi_plan_layer *l, int seat);
/* Fill the choice's slot (FILLING in the view), and give it back. Sets and uses `before`. */
void eepi_plan_take_slot(eepi_plan_layer *l, eepi_plan_choice *choice);
void eepi_plan_return_slot(eepi_plan_layer *l, const eepi_plan_choice *choice);

void eepi_plan_set_slot(eepi_view_slot *slot, eepi_slot_state state, int expert, int source);
void eepi_plan_clear_slot(eepi_view_slot *slot);
#endif
