/* SPDX-License-Identifier: Apache-2.0 */
/* Which slot holds which expert at first, and what a process that takes a seat is to load. */
#include "repair/placement.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Members by position, with what the placement of one layer needs. */
typedef struct spread {
    int num_members;
    int seat[EEP_MAX_RANKS];
    int room[EEP_MAX_RANKS];    /* slots still to be filled */
    int overlap[EEP_MAX_RANKS]; /* experts shared with the seats chosen for the present expert */
    bool chosen[EEP_MAX_RANKS];
    uint32_t *shared; /* [num_members][num_members] experts that two members both hold */
} spread;

static int least_overlapping(const spread *sp)
{
    int best = -1;

    for (int m = 0; m < sp->num_members; m++) {
        if (sp->chosen[m]) {
            continue;
        }
        if (best < 0 || sp->room[m] > sp->room[best] ||
            (sp->room[m] == sp->room[best] && sp->overlap[m] < sp->overlap[best])) {
            best = m;
        }
    }
    return best;
}

/* Put `num_replicas` copies of an expert on as many members. Taking the members with most room
 * never runs into a dead end (the construction behind the Gale-Ryser theorem) and keeps the room
 * level; among equals, those that share least with the members taken so far. */
static void place_expert(eepi_view *view, spread *sp, int expert, int num_replicas)
{
    for (int m = 0; m < sp->num_members; m++) {
        sp->chosen[m] = false;
        sp->overlap[m] = 0;
    }
    for (int replica = 0; replica < num_replicas; replica++) {
        const int taken = least_overlapping(sp);
        const int slot = view->shape.num_slots - sp->room[taken];
        assert(sp->room[taken] > 0);
        eepi_plan_set_slot(eepi_view_slot_at(view, 0, sp->seat[taken], slot), EEPI_SLOT_HOLDS,
                           expert, EEPI_NO_SEAT);
        sp->room[taken]--;
        for (int m = 0; m < sp->num_members; m++) {
            uint32_t *row = sp->shared + (size_t)m * (size_t)sp->num_members;
            if (sp->chosen[m]) {
                row[taken]++;
                sp->shared[(size_t)taken * (size_t)sp->num_members + (size_t)m]++;
            }
            sp->overlap[m] += (int)row[taken];
        }
        sp->chosen[taken] = true;
    }
}

/* Layer 0: seats with more slots than experts first hold each expert equally often; the remaining
 * slots are dealt so that replica counts differ by at most one, the lower numbers having more
 * (what eepi_plan_seat relies on to find the same set again). */
static void place_first_layer(eepi_view *view, spread *sp)
{
    const int num_experts = view->shape.num_experts;
    const int rest = view->shape.num_slots % num_experts;
    const long to_deal = (long)sp->num_members * rest;

    for (int m = 0; m < sp->num_members; m++) {
        sp->room[m] = rest;
        for (int slot = 0; slot < view->shape.num_slots - rest; slot++) {
            eepi_plan_set_slot(eepi_view_slot_at(view, 0, sp->seat[m], slot), EEPI_SLOT_HOLDS,
                               slot % num_experts, EEPI_NO_SEAT);
        }
    }
    for (int expert = 0; expert < num_experts; expert++) {
        place_expert(view, sp, expert,
                     (int)(to_deal / num_experts) + (expert < to_deal % num_experts));
    }
}

eep_status eepi_plan_initial(eepi_view *view)
{
    spread sp = {0};

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        if (eepi_view_is_member(view, seat)) {
            sp.seat[sp.num_members++] = seat;
        }
    }
    if ((long)sp.num_members * view->shape.num_slots < view->shape.num_experts) {
        return EEP_ERR_UNCOVERED;
    }
    sp.shared = calloc((size_t)sp.num_members * (size_t)sp.num_members, sizeof *sp.shared);
    if (!sp.shared) {
        return EEP_ERR_NO_MEMORY;
    }
    place_first_layer(view, &sp);
    free(sp.shared);
    /* All layers alike: the fewer different sets of seats an expert of any layer depends on, the
     * fewer sets of simultaneous faults leave something uncovered. */
    for (int layer = 1; layer < view->shape.num_layers; layer++) {
        for (int m = 0; m < sp.num_members; m++) {
            for (int slot = 0; slot < view->shape.num_slots; slot++) {
                *eepi_view_slot_at(view, layer, sp.seat[m], slot) =
                    *eepi_view_slot_at(view, 0, sp.seat[m], slot);
            }
        }
    }
    return EEP_OK;
}

/* The `wanted` (< num_experts) least replicated experts, lower numbers first among equals, written
 * in order of number. */
static void least_replicated(const eepi_plan_table *replicas, int num_experts, int wanted,
                             int32_t *experts_out)
{
    uint32_t low = 0, high = UINT32_MAX; /* find the least limit that admits enough experts */
    int below = 0, written = 0;

    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        int admitted = 0;
        for (int expert = 0; expert < num_experts; expert++) {
            admitted += replicas->count[expert] <= middle;
        }
        if (admitted >= wanted) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    for (int expert = 0; expert < num_experts; expert++) {
        below += replicas->count[expert] < low;
    }
    int at_limit = wanted - below;
    for (int expert = 0; expert < num_experts && written < wanted; expert++) {
        if (replicas->count[expert] < low || (replicas->count[expert] == low && at_limit-- > 0)) {
            experts_out[written++] = expert;
        }
    }
}

void eepi_plan_seat(const eepi_view *view, eepi_plan_table *table, int seat, int32_t *experts_out)
{
    const int num_experts = view->shape.num_experts, num_slots = view->shape.num_slots;
    const int rest = num_slots % num_experts;

    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        int32_t *row = experts_out + (size_t)layer * (size_t)num_slots;
        eepi_plan_count_replicas(view, layer, seat, false, table);
        for (int slot = 0; slot < num_slots - rest; slot++) {
            row[slot] = slot % num_experts;
        }
        if (rest > 0) {
            least_replicated(table, num_experts, rest, row + (num_slots - rest));
        }
    }
}

void eepi_plan_apply_seat(eepi_view *view, int seat, const int32_t *experts)
{
    for (int layer = 0; layer < view->shape.num_layers; layer++) {
        for (int slot = 0; slot < view->shape.num_slots; slot++) {
            const int32_t expert = *experts++;
            eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
            assert(expert < view->shape.num_experts);
            if (expert >= 0) {
                eepi_plan_set_slot(s, EEPI_SLOT_HOLDS, expert, EEPI_NO_SEAT);
            } else {
                eepi_plan_clear_slot(s);
            }
        }
    }
}

void eepi_plan_empty_nonmembers(eepi_view *view)
{
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        if (eepi_view_is_member(view, seat)) {
            continue;
        }
        for (int layer = 0; layer < view->shape.num_layers; layer++) {
            for (int slot = 0; slot < view->shape.num_slots; slot++) {
                eepi_plan_clear_slot(eepi_view_slot_at(view, layer, seat, slot));
            }
        }
    }
}
