/* SPDX-License-Identifier: Apache-2.0 */
/* An ordered placement, slot by slot. A slot takes its expert as soon as what it holds is on
 * another slot too. Where all that is left waits for one another, each with an only replica, one of
 * them is copied to a slot in passing, and the ring comes open. No order that can be reached is
 * given up, and no step is undone: see docs/PROTOCOL.md, R3. */
#include "repair/background/arrange.h"

static bool has_wish(const eepi_outlook *o, int slot)
{
    return o->wish[slot] != EEPI_NO_EXPERT;
}

/* A slot of a seat that stays does not hold what it is to hold. */
static bool is_unmet(const eepi_outlook *o, int slot)
{
    return has_wish(o, slot) && o->seat[eepi_outlook_seat_of(o, slot)].stays &&
           (o->slot[slot].state == EEPI_SLOT_EMPTY || o->slot[slot].expert != o->wish[slot]);
}

/* The slot's expert has another replica that is routed to, and one on a seat that stays. */
static bool may_give(const eepi_outlook *o, int slot)
{
    return eepi_outlook_may_take(o, slot) &&
           (o->slot[slot].state == EEPI_SLOT_EMPTY || o->expert[o->slot[slot].expert].slots >= 2);
}

/* The only replica of what the slot wants lies in a slot that is unmet itself, or that has no wish:
 * that one can go on once this slot has it. */
static bool opens_another(const eepi_outlook *o, int slot)
{
    const eepi_outlook_expert *wanted = &o->expert[o->wish[slot]];

    return wanted->live == 1 && wanted->slots == 1 &&
           (is_unmet(o, wanted->first) || !has_wish(o, wanted->first));
}

/* Another slot that has the same expert opens a third one: the replica that is given up is that
 * one's. */
static bool is_needed_here(const eepi_outlook *o, int slot)
{
    const eepi_view_slot *s = &o->slot[slot];

    if (s->state != EEPI_SLOT_HOLDS) {
        return false;
    }
    for (int other = o->expert[s->expert].first; other != EEPI_NOTHING; other = o->next[other]) {
        if (other != slot && is_unmet(o, other) && opens_another(o, other)) {
            return true;
        }
    }
    return false;
}

/* Slots of one seat are alike: one without a wish that can be had; EEPI_NOTHING: none. */
static int find_sibling(const eepi_outlook *o, int slot)
{
    const int num_slots = o->shape.num_slots, first = slot / num_slots * num_slots;

    for (int at = first; at < first + num_slots; at++) {
        if (!has_wish(o, at) && may_give(o, at) && !is_needed_here(o, at)) {
            return at;
        }
    }
    return EEPI_NOTHING;
}

/* The slot that takes the expert that `slot` wants: this one or, with its wish, a sibling. */
static int choose_slot(eepi_outlook *o, int slot)
{
    const int num_slots = o->shape.num_slots;
    int sibling;

    if (may_give(o, slot)) {
        return slot;
    }
    sibling = find_sibling(o, slot);
    if (sibling != EEPI_NOTHING) {
        eepi_view_exchange_wishes(o->view, o->layer, slot / num_slots, slot % num_slots,
                                  sibling % num_slots);
    }
    return sibling;
}

/* Those that open another slot come before the others (`opening`), and these wait for them: else a
 * copy made in passing would be taken back before it was of use. Returns whether a limit alone kept
 * a slot from its expert. */
static bool fill_unmet(eepi_outlook *o, bool opening)
{
    const int all = o->shape.max_ranks * o->shape.num_slots;
    bool limited = false;

    for (int slot = 0; slot < all; slot++) {
        const int wanted = o->wish[slot];
        if (!is_unmet(o, slot) || o->slot[slot].state == EEPI_SLOT_FILLING ||
            o->expert[wanted].live == 0 || opens_another(o, slot) != opening) {
            continue;
        }
        if (o->num_fills == o->limits.max_fills) {
            return true;
        }
        const int chosen = choose_slot(o, slot);
        if (chosen != EEPI_NOTHING) {
            eepi_outlook_fill(o, chosen, wanted);
        } else {
            const eepi_view_slot *s = &o->slot[slot];
            limited |= s->state == EEPI_SLOT_EMPTY ||
                       (o->expert[s->expert].live >= 2 && o->expert[s->expert].slots >= 2);
        }
    }
    return limited;
}

/* ---------------------------------------------------------------- in passing */

/* For each expert the first unmet slot that wants it. */
static void list_wanted(const eepi_outlook *o, int32_t *wanted_by)
{
    for (int expert = 0; expert < o->shape.num_experts; expert++) {
        wanted_by[expert] = EEPI_NOTHING;
    }
    for (int slot = o->shape.max_ranks * o->shape.num_slots - 1; slot >= 0; slot--) {
        if (is_unmet(o, slot)) {
            wanted_by[o->wish[slot]] = slot;
        }
    }
}

/* From an unmet slot on: a slot on a ring of slots that wait for one another, or one whose expert
 * nobody waits for. */
static int find_stuck(const eepi_outlook *o, const int32_t *wanted_by, int slot, bool *ring_out)
{
    *ring_out = false;
    for (int i = 0; i < o->shape.num_experts; i++) { /* by then it goes round */
        if (o->slot[slot].state == EEPI_SLOT_EMPTY ||
            wanted_by[o->slot[slot].expert] == EEPI_NOTHING) {
            return slot;
        }
        slot = wanted_by[o->slot[slot].expert];
    }
    *ring_out = true;
    return slot;
}

/* Once the slot has what it wants, what it holds, which nobody waits for, can go to a slot without
 * a wish: that one's expert is what the slot waits for, or what the slot waits for waits for. */
static bool frees_a_slot(const eepi_outlook *o, int slot)
{
    for (int i = 0; i < o->shape.num_experts && is_unmet(o, slot); i++) {
        if (!opens_another(o, slot)) {
            return false;
        }
        slot = o->expert[o->wish[slot]].first;
    }
    return !has_wish(o, slot);
}

/* The expert has a replica elsewhere that is not about to be given up. */
static bool is_safe_elsewhere(const eepi_outlook *o, int slot)
{
    const eepi_view_slot *s = &o->slot[slot];

    if (!has_wish(o, slot) || s->state == EEPI_SLOT_EMPTY || o->expert[s->expert].live > 2) {
        return true;
    }
    for (int other = o->expert[s->expert].first; other != EEPI_NOTHING; other = o->next[other]) {
        if (other != slot && has_wish(o, other) && !is_unmet(o, other)) {
            return true;
        }
    }
    return false;
}

/* 0: the slot has no wish; 1: it has, and gets its expert back; 2: it is pinned, too. */
static int cost_of(const eepi_outlook *o, int slot)
{
    const int num_slots = o->shape.num_slots;

    return !has_wish(o, slot)                                                           ? 0
           : eepi_view_is_pinned(o->view, o->layer, slot / num_slots, slot % num_slots) ? 2
                                                                                        : 1;
}

/* A second replica of what `from` holds could lie here: for a while, or else for good. */
static bool is_passage(const eepi_outlook *o, int slot, bool for_a_while)
{
    return o->seat[eepi_outlook_seat_of(o, slot)].stays && (for_a_while || !has_wish(o, slot)) &&
           !is_unmet(o, slot) && may_give(o, slot) && is_safe_elsewhere(o, slot);
}

static int find_passage(const eepi_outlook *o, int from, bool for_a_while)
{
    const int all = o->shape.max_ranks * o->shape.num_slots;
    int best = EEPI_NOTHING;

    for (int slot = 0; slot < all; slot++) {
        if (is_passage(o, slot, for_a_while) &&
            !eepi_outlook_has(o, eepi_outlook_seat_of(o, slot), o->slot[from].expert) &&
            (best == EEPI_NOTHING || cost_of(o, slot) < cost_of(o, best))) {
            best = slot;
        }
    }
    return best;
}

static bool any_passage(const eepi_outlook *o, bool for_a_while)
{
    for (int slot = 0; slot < o->shape.max_ranks * o->shape.num_slots; slot++) {
        if (is_passage(o, slot, for_a_while)) {
            return true;
        }
    }
    return false;
}

static void open_ring(eepi_outlook *o, int32_t *wanted_by)
{
    const bool any_for[] = {any_passage(o, false), any_passage(o, true)};

    list_wanted(o, wanted_by);
    for (int slot = 0; any_for[1] && slot < o->shape.max_ranks * o->shape.num_slots; slot++) {
        int stuck, passage;
        bool ring;
        if (!is_unmet(o, slot)) {
            continue;
        }
        stuck = find_stuck(o, wanted_by, slot, &ring);
        ring = ring || frees_a_slot(o, stuck);
        if (!any_for[ring] || o->slot[stuck].state != EEPI_SLOT_HOLDS) {
            continue;
        }
        passage = find_passage(o, stuck, ring);
        if (passage != EEPI_NOTHING) {
            eepi_outlook_fill(o, passage, o->slot[stuck].expert);
            return;
        }
    }
}

void eepi_background_arrange(eepi_outlook *o, int32_t *wanted_by)
{
    bool limited;

    if (!o->wish) {
        return;
    }
    o->order_moves = true;
    limited = fill_unmet(o, true);
    if (!limited) {
        limited = fill_unmet(o, false);
    }
    if (o->num_fills == 0 && !limited) {
        open_ring(o, wanted_by);
    }
    o->order_moves = false;
}
