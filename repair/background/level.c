/* SPDX-License-Identifier: Apache-2.0 */
/* Balance. The router splits an expert over its replicas unequally, and that costs no bytes. So
 * slots change hands only if no split leaves every seat under the target: one fill, or two that
 * exchange experts, that lower what is above it most for each byte that moves. */
#include "repair/background/level.h"

enum { MAX_STUCK = 4 }; /* seats that nothing relieves, before the search ends */

typedef struct move {
    int slot, expert; /* the slot goes to the expert; */
    int second;       /* this one, the expert's, to what had the slot. EEPI_NOTHING: one fill */
    int64_t relief;   /* of two fills: at least, by present splits */
} move;

static const eepi_outlook_change no_change = {0};

/* What changes hands may not harm protection, but for a replica that a hot expert lacks. */
static bool may_give(const eepi_outlook *o, int slot, int expert)
{
    const int seat = eepi_outlook_seat_of(o, slot);
    const eepi_view_slot *s = &o->slot[slot];

    return eepi_outlook_order(eepi_outlook_changes(o, expert, EEPI_NOTHING, seat),
                              s->state == EEPI_SLOT_EMPTY
                                  ? no_change
                                  : eepi_outlook_changes(o, s->expert, slot, EEPI_NOTHING)) <= 0;
}

/* What the slot carries goes to its expert's other replicas; what these have no room for counts
 * against the move. */
static void try_fill(const eepi_outlook *o, int slot, int expert, int64_t relief, move *best)
{
    const eepi_view_slot *s = &o->slot[slot];

    if (relief <= best->relief || !eepi_outlook_may_take(o, slot)) {
        return;
    }
    if (o->carried[slot] > 0) {
        const int64_t room = eepi_outlook_room(o, s->expert, slot);
        relief -= o->carried[slot] > room ? 2 * (o->carried[slot] - room) : 0;
    }
    if (relief > best->relief && may_give(o, slot, expert)) {
        *best = (move){slot, expert, EEPI_NOTHING, relief};
    }
}

/* What the other experts of a seat can hand on to their other replicas, which makes room there.
 * Each of these counts by itself, although they compete. */
static int64_t hands_on(const eepi_outlook *o, int seat)
{
    int64_t sum = 0;

    for (int k = 0; k < o->shape.num_slots; k++) {
        const int slot = seat * o->shape.num_slots + k;
        if (o->slot[slot].state != EEPI_SLOT_EMPTY && o->carried[slot] > 0) {
            const int64_t room = eepi_outlook_room(o, o->slot[slot].expert, slot);
            sum += room < o->carried[slot] ? room : o->carried[slot];
        }
    }
    return sum;
}

/* One replica more of an expert of the most loaded seat, where there is room for its load. */
static void add_elsewhere(const eepi_outlook *o, int expert, move *best)
{
    const eepi_outlook_expert *e = &o->expert[expert];
    int64_t most = 0; /* that the expert's seats can be relieved of */

    for (int s = e->first; s != EEPI_NOTHING; s = o->next[s]) {
        const int64_t above = eepi_outlook_above(o, o->seat[eepi_outlook_seat_of(o, s)].load);
        most += above < o->carried[s] ? above : o->carried[s];
    }
    if (2 * most <= best->relief) {
        return;
    }
    for (int seat = 0; seat < o->shape.max_ranks; seat++) {
        int64_t handed;
        if (!o->seat[seat].stays || eepi_outlook_has(o, seat, expert)) {
            continue;
        }
        handed = hands_on(o, seat);
        for (int k = 0; k < o->shape.num_slots; k++) {
            const int slot = seat * o->shape.num_slots + k;
            const int64_t room = o->target - o->seat[seat].load + o->carried[slot] + handed;
            try_fill(o, slot, expert, 2 * (room < most ? room : most), best);
        }
    }
}

/* The slot of the most loaded seat and another one exchange experts. */
static void try_exchange(const eepi_outlook *o, int from, int slot, move *best)
{
    const int seat = eepi_outlook_seat_of(o, from), other = eepi_outlook_seat_of(o, slot);
    const int expert = o->slot[from].expert, back = o->slot[slot].expert;
    const int64_t change = o->carried[from] - o->carried[slot], load = o->seat[seat].load;
    const int64_t there = o->seat[other].load;
    const int64_t relief = eepi_outlook_above(o, load) - eepi_outlook_above(o, load - change) +
                           eepi_outlook_above(o, there) - eepi_outlook_above(o, there + change);

    if (relief > best->relief && eepi_outlook_may_take(o, slot) &&
        !eepi_outlook_has(o, other, expert) && !eepi_outlook_has(o, seat, back) &&
        eepi_outlook_protection(o, expert, from, other) >=
            (eepi_protection)o->expert[expert].protection &&
        eepi_outlook_protection(o, back, slot, seat) >=
            (eepi_protection)o->expert[back].protection) {
        *best = (move){slot, expert, from, relief};
    }
}

static void exchange(const eepi_outlook *o, int from, move *best)
{
    const int num_slots = o->shape.num_slots;

    if (!eepi_outlook_may_take(o, from) || o->num_fills + 2 > o->limits.max_fills) {
        return;
    }
    for (int other = 0; other < o->shape.max_ranks; other++) {
        if (!o->seat[other].stays || o->seat[other].load >= o->target ||
            2 * o->carried[from] <= best->relief) {
            continue;
        }
        for (int slot = other * num_slots; slot < (other + 1) * num_slots; slot++) {
            if (o->slot[slot].state == EEPI_SLOT_HOLDS) {
                try_exchange(o, from, slot, best);
            }
        }
    }
}

/* The most loaded seat above the target that comes behind seat `than` (EEPI_NOTHING: of all);
 * EEPI_NOTHING: none. */
static int most_loaded(const eepi_outlook *o, int than)
{
    int most = EEPI_NOTHING;

    for (int seat = 0; seat < o->shape.max_ranks; seat++) {
        const int64_t load = o->seat[seat].load;
        const bool behind = than == EEPI_NOTHING || load < o->seat[than].load ||
                            (load == o->seat[than].load && seat > than);
        if (o->seat[seat].stays && load > o->target && behind &&
            (most == EEPI_NOTHING || load > o->seat[most].load)) {
            most = seat;
        }
    }
    return most;
}

static move relieve(const eepi_outlook *o, int seat)
{
    const int64_t above = eepi_outlook_above(o, o->seat[seat].load);
    move best = {EEPI_NOTHING, EEPI_NOTHING, EEPI_NOTHING, 0};

    best.relief = 2 * (o->pay < above ? o->pay : above) - 1; /* less does not pay */
    for (int k = 0; k < o->shape.num_slots; k++) {
        const int slot = seat * o->shape.num_slots + k;
        if (o->slot[slot].state == EEPI_SLOT_EMPTY) {
            continue;
        }
        if (o->expert[o->slot[slot].expert].live > 0) {
            add_elsewhere(o, o->slot[slot].expert, &best);
        }
        exchange(o, slot, &best);
    }
    return best;
}

/* Do it, and split all anew. False, and undone, if that leaves no less above the target. */
static bool carry_out(eepi_outlook *o, const move *m)
{
    const int64_t before = eepi_outlook_all_above(o);
    const eepi_view_slot was = o->slot[m->slot];
    eepi_view_slot second = {0};

    eepi_outlook_fill(o, m->slot, m->expert);
    if (m->second != EEPI_NOTHING) {
        second = o->slot[m->second];
        eepi_outlook_fill(o, m->second, was.expert);
    }
    eepi_outlook_split_all(o);
    if (eepi_outlook_all_above(o) < before) {
        return true;
    }
    if (m->second != EEPI_NOTHING) {
        eepi_outlook_take_back(o, second);
    }
    eepi_outlook_take_back(o, was);
    return false;
}

void eepi_background_level(eepi_outlook *o)
{
    int seat, stuck = 0;

    eepi_outlook_split_all(o);
    seat = most_loaded(o, EEPI_NOTHING);
    if (seat == EEPI_NOTHING || o->seat[seat].load <= o->start) {
        return;
    }
    while (seat != EEPI_NOTHING && stuck < MAX_STUCK && o->num_fills < o->limits.max_fills) {
        const move best = relieve(o, seat);
        if (best.slot == EEPI_NOTHING || !carry_out(o, &best)) {
            stuck++;
            seat = most_loaded(o, seat);
            continue;
        }
        stuck = 0;
        seat = most_loaded(o, EEPI_NOTHING);
    }
}
