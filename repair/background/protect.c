/* SPDX-License-Identifier: Apache-2.0 */
/* Redundancy and distance: which slot an expert gets that is on too few seats, or on seats that are
 * too near. */
#include "repair/background/protect.h"

enum { MAX_SPARE = 8 }; /* spare slots that a detour looks at */

/* The first of the slots that can be had. */
typedef struct spare_slots {
    int slot[MAX_SPARE], n;
} spare_slots;

/* A fill, or two: `slot` goes to the expert, and `second` to what had `slot`. */
typedef struct offer {
    int slot, second;
    bool apart;
    bool harm;      /* what had the slot is on near seats without it, and needs another fill */
    int filled;     /* of the target seat, in this round */
    int64_t excess; /* above the target, of what others must take over */
    int64_t load;   /* of the slot's seat, without what the slot carries */
} offer;

static const offer no_offer = {.slot = EEPI_NOTHING, .second = EEPI_NOTHING};

static bool is_better(const offer *a, const offer *b)
{
    if (b->slot == EEPI_NOTHING || a->apart != b->apart) {
        return b->slot == EEPI_NOTHING || a->apart;
    }
    if (a->excess != b->excess) {
        return a->excess < b->excess;
    }
    if (a->harm != b->harm) {
        return b->harm;
    }
    return a->filled != b->filled ? a->filled < b->filled : a->load < b->load;
}

static offer offer_of(const eepi_outlook *o, int slot, int second, bool apart)
{
    const eepi_outlook_seat *seat = &o->seat[eepi_outlook_seat_of(o, slot)];

    return (offer){slot, second, apart, false, seat->filled, 0, seat->load - o->carried[slot]};
}

/* The slot is lost to its expert, whose other replicas take over what it carries. */
static int64_t excess_without(const eepi_outlook *o, int slot)
{
    const eepi_view_slot *s = &o->slot[slot];
    int64_t room;

    if (s->state == EEPI_SLOT_EMPTY || o->carried[slot] == 0) {
        return 0;
    }
    room = eepi_outlook_room(o, s->expert, slot);
    return o->carried[slot] > room ? o->carried[slot] - room : 0;
}

/* Where loads are known, a second replica may not cost the balance. */
static bool is_tolerable(const eepi_outlook *o, int expert, const offer *this)
{
    return this->excess <= 0 || !o->has_loads || o->expert[expert].protection == EEPI_BARE;
}

/* The slot can be had without harm to its expert, and without cost to the balance. */
static bool is_spare(const eepi_outlook *o, int slot)
{
    static const eepi_outlook_change none = {0};
    const eepi_view_slot *s = &o->slot[slot];
    const eepi_outlook_expert *e;

    if (!eepi_outlook_may_take(o, slot)) {
        return false;
    }
    if (s->state == EEPI_SLOT_EMPTY) {
        return true;
    }
    e = &o->expert[s->expert];
    if (e->slots == 2 && e->seats == 2) {
        return false; /* most experts: exactly as many as they need */
    }
    return (!o->has_loads || excess_without(o, slot) <= 0) &&
           eepi_outlook_order(eepi_outlook_changes(o, s->expert, slot, EEPI_NOTHING), none) <= 0;
}

/* One fill: the best slot of a seat. */
static void offer_slots(const eepi_outlook *o, int expert, int seat, offer *best)
{
    const eepi_outlook_change gain = eepi_outlook_changes(o, expert, EEPI_NOTHING, seat);
    const bool bare = o->expert[expert].protection == EEPI_BARE;
    const eepi_protection then = eepi_outlook_protection(o, expert, EEPI_NOTHING, seat);

    for (int k = 0; k < o->shape.num_slots; k++) {
        const int slot = seat * o->shape.num_slots + k;
        const eepi_view_slot *s = &o->slot[slot];
        offer this = offer_of(o, slot, EEPI_NOTHING, then == EEPI_APART);
        eepi_outlook_change loss = {0};
        if (!eepi_outlook_may_take(o, slot)) {
            continue;
        }
        if (s->state != EEPI_SLOT_EMPTY) {
            const eepi_outlook_expert *e = &o->expert[s->expert];
            if (!bare && e->slots == 2 && e->seats == 2) {
                continue;
            }
            loss = eepi_outlook_changes(o, s->expert, slot, EEPI_NOTHING);
        }
        if (eepi_outlook_order(gain, loss) >= 0) {
            continue;
        }
        this.apart = bare ? loss.single + loss.near <= 0 : this.apart; /* no harm comes first */
        this.harm = loss.near > 0;
        this.excess = excess_without(o, slot);
        if (is_tolerable(o, expert, &this)) {
            *best = is_better(&this, best) ? this : *best;
        }
    }
}

/* ---------------------------------------------------------------- two fills */

/* What has the slot moves to `second`, which its present expert can spare. It may be less well
 * protected there, if that is still the better for both. */
static void offer_detour(const eepi_outlook *o, int expert, int slot, int second, offer *best)
{
    const eepi_view_slot *s = &o->slot[slot];
    const int seat = eepi_outlook_seat_of(o, slot), other = eepi_outlook_seat_of(o, second);
    offer this = offer_of(o, slot, second, false);
    eepi_outlook_change gain, loss;

    if (s->state != EEPI_SLOT_HOLDS || !eepi_outlook_may_take(o, slot) ||
        (o->slot[second].state != EEPI_SLOT_EMPTY &&
         (o->slot[second].expert == s->expert || o->slot[second].expert == expert)) ||
        eepi_outlook_has(o, other, s->expert)) {
        return;
    }
    gain = eepi_outlook_changes(o, expert, EEPI_NOTHING, seat);
    loss = eepi_outlook_changes(o, s->expert, slot, other);
    if (eepi_outlook_order(gain, loss) >= 0) {
        return;
    }
    this.apart = gain.near + loss.near <= 0;
    this.excess =
        excess_without(o, second) +
        eepi_outlook_above(o, o->seat[other].load - o->carried[second] + o->carried[slot]);
    if (is_tolerable(o, expert, &this)) {
        *best = is_better(&this, best) ? this : *best;
    }
}

/* No spare slot is where the expert needs one. */
static offer find_detour(const eepi_outlook *o, int expert, const spare_slots *spare)
{
    const int num_slots = o->shape.num_slots;
    offer best = no_offer;

    for (int i = 0; i < spare->n && (!best.apart || best.excess > 0); i++) {
        const int second = spare->slot[i];
        for (int seat = 0; seat < o->shape.max_ranks; seat++) {
            if (!o->seat[seat].stays || seat == second / num_slots ||
                eepi_outlook_has(o, seat, expert)) {
                continue;
            }
            for (int k = 0; k < num_slots; k++) {
                offer_detour(o, expert, seat * num_slots + k, second, &best);
            }
        }
    }
    return best;
}

/* The expert's replica in `from` and what has `slot` change places. */
static void offer_swap(const eepi_outlook *o, int expert, int from, int slot, offer *best)
{
    const eepi_view_slot *s = &o->slot[slot];
    const int seat = eepi_outlook_seat_of(o, slot), back = eepi_outlook_seat_of(o, from);
    const int64_t change = o->carried[from] - o->carried[slot];
    offer this = offer_of(o, slot, from, true);

    if (s->state != EEPI_SLOT_HOLDS || !eepi_outlook_may_take(o, slot) ||
        eepi_outlook_has(o, back, s->expert) ||
        eepi_outlook_protection(o, s->expert, slot, back) <
            (eepi_protection)o->expert[s->expert].protection) {
        return;
    }
    this.excess = change > 0 ? eepi_outlook_above(o, o->seat[seat].load + change)
                             : eepi_outlook_above(o, o->seat[back].load - change);
    if (is_tolerable(o, expert, &this)) {
        *best = is_better(&this, best) ? this : *best;
    }
}

static offer find_swap(const eepi_outlook *o, int expert)
{
    offer best = no_offer;

    for (int from = o->expert[expert].first; from != EEPI_NOTHING; from = o->next[from]) {
        if (o->slot[from].state != EEPI_SLOT_HOLDS || !eepi_outlook_may_take(o, from)) {
            continue;
        }
        for (int seat = 0; seat < o->shape.max_ranks; seat++) {
            if (!o->seat[seat].stays || eepi_outlook_has(o, seat, expert) ||
                eepi_outlook_protection(o, expert, from, seat) != EEPI_APART) {
                continue;
            }
            for (int k = 0; k < o->shape.num_slots; k++) {
                offer_swap(o, expert, from, seat * o->shape.num_slots + k, &best);
            }
        }
    }
    return best;
}

/* ---------------------------------------------------------------- in order */

/* Improve the expert's protection if some slot is worth it. */
static void protect(eepi_outlook *o, int expert, const spare_slots *spare)
{
    const eepi_protection now = (eepi_protection)o->expert[expert].protection;
    const bool two = o->num_fills + 2 <= o->limits.max_fills && now != EEPI_BARE;
    offer best = no_offer;

    for (int seat = 0; seat < o->shape.max_ranks; seat++) {
        const bool useful = (spare->n > 0 || now == EEPI_BARE) && o->seat[seat].stays &&
                            !eepi_outlook_has(o, seat, expert) &&
                            (now != EEPI_NEAR ||
                             eepi_outlook_protection(o, expert, EEPI_NOTHING, seat) == EEPI_APART);
        if (useful) {
            offer_slots(o, expert, seat, &best);
        }
    }
    if (best.slot == EEPI_NOTHING && now == EEPI_BARE && o->wish) { /* rule R4 */
        o->order_moves = true;
        for (int seat = 0; seat < o->shape.max_ranks; seat++) {
            if (o->seat[seat].stays && !eepi_outlook_has(o, seat, expert)) {
                offer_slots(o, expert, seat, &best);
            }
        }
        o->order_moves = false;
    }
    if (two && !best.apart) {
        const offer detour = find_detour(o, expert, spare);
        best = detour.apart || best.slot == EEPI_NOTHING ? detour : best;
    }
    if (two && best.slot == EEPI_NOTHING && now == EEPI_NEAR) {
        best = find_swap(o, expert);
    }
    if (best.slot == EEPI_NOTHING) {
        return;
    }
    if (best.second != EEPI_NOTHING) {
        const int taken = o->slot[best.slot].expert;
        eepi_outlook_fill(o, best.slot, expert);
        eepi_outlook_fill(o, best.second, taken);
    } else {
        eepi_outlook_fill(o, best.slot, expert);
    }
}

static spare_slots find_spare(const eepi_outlook *o)
{
    const int all = o->shape.max_ranks * o->shape.num_slots;
    spare_slots spare = {.n = 0};

    for (int slot = 0; slot < all && spare.n < MAX_SPARE; slot++) {
        if (o->seat[eepi_outlook_seat_of(o, slot)].stays && is_spare(o, slot)) {
            spare.slot[spare.n++] = slot;
        }
    }
    return spare;
}

static bool comes_first(const eepi_outlook *o, int a, int b)
{
    const eepi_outlook_expert *first = &o->expert[a], *then = &o->expert[b];

    if (first->protection != then->protection) {
        return first->protection < then->protection;
    }
    return first->weight != then->weight ? first->weight > then->weight : a < b;
}

/* Shell's sort: no memory, and few of few experts need anything. */
static void sort(const eepi_outlook *o, int32_t *order, int n)
{
    for (int gap = n / 2; gap > 0; gap /= 2) {
        for (int i = gap; i < n; i++) {
            const int32_t expert = order[i];
            int at = i;
            for (; at >= gap && comes_first(o, expert, order[at - gap]); at -= gap) {
                order[at] = order[at - gap];
            }
            order[at] = expert;
        }
    }
}

void eepi_background_protect(eepi_outlook *o, int32_t *order)
{
    spare_slots spare;
    int n = 0;

    if (o->bare + o->single + o->near == 0 || o->num_staying < 2 - (o->bare > 0)) {
        return;
    }
    for (int expert = 0; expert < o->shape.num_experts; expert++) {
        if (o->expert[expert].protection < EEPI_APART) {
            order[n++] = expert;
        }
    }
    sort(o, order, n);
    spare = find_spare(o);
    for (int i = 0; i < n && o->num_fills < o->limits.max_fills; i++) {
        const int fills = o->num_fills;
        if (o->expert[order[i]].protection < EEPI_APART && o->expert[order[i]].live > 0) {
            protect(o, order[i], &spare);
        }
        if (o->num_fills != fills) {
            spare = find_spare(o);
        }
    }
}

/* The expert with the most load per replica that the seat lacks; EEPI_NOTHING: none. */
static int choose_for_empty(const eepi_outlook *o, int seat)
{
    int best = EEPI_NOTHING;
    int64_t most = -1;

    for (int expert = 0; expert < o->shape.num_experts; expert++) {
        const eepi_outlook_expert *e = &o->expert[expert];
        const int64_t each = e->slots > 0 ? e->weight / e->slots : e->weight;
        if (e->live > 0 && each > most && !eepi_outlook_has(o, seat, expert)) {
            best = expert;
            most = each;
        }
    }
    return best;
}

void eepi_background_use_empty(eepi_outlook *o)
{
    const int num_slots = o->shape.num_slots;

    for (int slot = 0; o->empty > 0 && slot < o->shape.max_ranks * num_slots; slot++) {
        int expert;
        if (o->num_fills == o->limits.max_fills) {
            return;
        }
        if (!o->seat[slot / num_slots].stays || o->slot[slot].state != EEPI_SLOT_EMPTY ||
            !eepi_outlook_may_take(o, slot)) {
            continue;
        }
        expert = choose_for_empty(o, slot / num_slots);
        if (expert != EEPI_NOTHING) {
            eepi_outlook_fill(o, slot, expert);
        }
    }
}
