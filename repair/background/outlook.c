/* SPDX-License-Identifier: Apache-2.0 */
/* Counts of a layer, kept while slots change hands. */
#include "repair/background/outlook.h"

#include "repair/spread.h"

#include <assert.h>

enum {
    LOAD_BITS = 16,   /* loads are scaled so that a share of a small one is not rounded away */
    HOT_PERCENT = 70, /* of the target: most that a replica of a hot expert may carry */
    MAX_SWEEPS = 32
};

void eepi_outlook_begin(eepi_outlook *o, eepi_view *view, bool routed)
{
    o->view = view;
    o->routed = routed;
    o->num_staying = 0;
    o->num_nodes = eepi_view_num_nodes(&view->shape);
    for (int seat = 0; seat < o->shape.max_ranks; seat++) {
        eepi_outlook_seat *s = &o->seat[seat];
        s->node = eepi_view_node_of(&view->shape, seat);
        s->member = eepi_view_is_member(view, seat);
        s->stays =
            s->member && (routed || eepi_view_seat_at(view, seat)->state != EEP_SEAT_RETIRING);
        o->num_staying += s->stays;
    }
    o->distance = eepi_spread_distance(&view->shape, o->num_staying);
}

/* ---------------------------------------------------------------- counts */

static void count(eepi_outlook *o, const eepi_outlook_expert *e, int sign)
{
    o->bare += sign * (e->protection == EEPI_BARE);
    o->single += sign * (e->protection == EEPI_SINGLE);
    o->near += sign * (e->protection == EEPI_NEAR);
    o->lacking += e->seats < e->hot ? sign * (e->hot - e->seats) : 0;
}

/* Different seats of the list. Most lists are short. */
static int count_seats(const eepi_outlook *o, const eepi_outlook_expert *e)
{
    int seats = 0;

    for (int s = e->first; s != EEPI_NOTHING; s = o->next[s]) {
        bool again = false;
        for (int t = e->first; t != s && !again; t = o->next[t]) {
            again = eepi_outlook_seat_of(o, t) == eepi_outlook_seat_of(o, s);
        }
        seats += !again;
    }
    return seats;
}

/* The list is about to change (-1), or has changed (1). */
static void settle(eepi_outlook *o, int expert, int sign)
{
    eepi_outlook_expert *e = &o->expert[expert];

    if (sign > 0) {
        e->seats = count_seats(o, e);
        e->protection = (uint8_t)eepi_outlook_protection(o, expert, EEPI_NOTHING, EEPI_NOTHING);
    }
    count(o, e, sign);
}

static void link_slot(eepi_outlook *o, int slot, int expert)
{
    o->next[slot] = o->expert[expert].first;
    o->expert[expert].first = slot;
    o->expert[expert].slots++;
}

static void unlink_slot(eepi_outlook *o, int slot, int expert)
{
    int32_t *at = &o->expert[expert].first;

    while (*at != slot) {
        at = &o->next[*at];
    }
    *at = o->next[slot];
    o->expert[expert].slots--;
}

/* ---------------------------------------------------------------- a layer */

static void read_loads(eepi_outlook *o, const uint32_t *loads)
{
    const eepi_background_limits *limits = &o->limits;
    const int64_t staying = o->num_staying > 0 ? o->num_staying : 1;
    uint64_t sum = 0;

    for (int e = 0; e < o->shape.num_experts; e++) {
        sum += loads ? loads[e] : 0;
    }
    o->total = 0;
    for (int e = 0; e < o->shape.num_experts; e++) {
        const int64_t load = sum > 0 ? loads[e] : 1;
        o->expert[e] = (eepi_outlook_expert){.weight = load << LOAD_BITS, .first = EEPI_NOTHING};
        o->total += load << LOAD_BITS;
    }
    o->has_loads = sum > 0;
    o->mean = o->total / staying;
    o->target = o->mean / 1000 * limits->target_permille;
    o->start = o->mean / 1000 * limits->start_permille;
    o->pay = o->mean / 1000 * limits->pay_permille;
}

/* Seats that an expert needs under the target. One that is more than a seat's whole load needs so
 * many that other experts have room beside each of its replicas: with fewer, many small experts
 * would have to leave. */
static int hot_seats(const eepi_outlook *o, int64_t weight)
{
    const int64_t most = o->target / 100 * HOT_PERCENT;
    int64_t seats = 1;

    if (weight > most && most > 0) {
        seats = (weight + most - 1) / most;
    }
    return seats < o->num_staying ? (int)seats : o->num_staying;
}

/* part / whole of a load, without overflow. */
static int64_t part_of(int64_t load, int64_t part, int64_t whole)
{
    return load < (INT64_C(1) << 40) ? load * part / whole : load / whole * part;
}

/* The document's own split, or an equal one: a slot that is to be filled has no share yet. */
static void read_split(eepi_outlook *o, int expert)
{
    const eepi_outlook_expert *e = &o->expert[expert];
    int64_t whole = 0, left = e->weight;

    for (int s = e->first; s != EEPI_NOTHING; s = o->next[s]) {
        whole += o->slot[s].share;
    }
    for (int s = e->first; s != EEPI_NOTHING; s = o->next[s]) {
        o->carried[s] =
            whole > 0 ? part_of(e->weight, o->slot[s].share, whole) : e->weight / e->slots;
        o->carried[s] = o->next[s] == EEPI_NOTHING ? left : o->carried[s];
        left -= o->carried[s];
        o->seat[eepi_outlook_seat_of(o, s)].load += o->carried[s];
    }
}

void eepi_outlook_read(eepi_outlook *o, int layer, const uint32_t *loads,
                       const eepi_background_limits *limits)
{
    const int num_slots = o->shape.num_slots;

    o->layer = layer;
    o->limits = *limits;
    o->slot = eepi_view_slot_at(o->view, layer, 0, 0);
    o->wish = eepi_view_layer_wishes(o->view, layer);
    o->num_fills = o->num_exposed = 0;
    o->bare = o->lacking = o->single = o->near = o->empty = 0;
    read_loads(o, loads);
    for (int seat = 0; seat < o->shape.max_ranks; seat++) {
        o->seat[seat].load = 0;
        for (int k = 0; k < num_slots && o->seat[seat].member; k++) {
            const int slot = seat * num_slots + k;
            const eepi_view_slot *s = &o->slot[slot];
            o->carried[slot] = 0;
            if (s->state == EEPI_SLOT_EMPTY || (o->routed && s->state != EEPI_SLOT_HOLDS)) {
                o->empty += o->seat[seat].stays;
                continue;
            }
            o->expert[s->expert].live += s->state == EEPI_SLOT_HOLDS;
            if (o->seat[seat].stays) {
                link_slot(o, slot, s->expert);
            }
        }
    }
    for (int expert = 0; expert < o->shape.num_experts; expert++) {
        o->expert[expert].hot = hot_seats(o, o->expert[expert].weight);
        settle(o, expert, 1);
        read_split(o, expert);
    }
}

/* The slot has an expert less, or one more. */
static void drop(eepi_outlook *o, int slot)
{
    const int expert = o->slot[slot].expert;

    settle(o, expert, -1);
    unlink_slot(o, slot, expert);
    o->seat[eepi_outlook_seat_of(o, slot)].load -= o->carried[slot];
    o->carried[slot] = 0;
    settle(o, expert, 1);
    eepi_outlook_split(o, expert);
}

static void add(eepi_outlook *o, int slot)
{
    const int expert = o->slot[slot].expert;

    settle(o, expert, -1);
    link_slot(o, slot, expert);
    o->carried[slot] = 0;
    settle(o, expert, 1);
    eepi_outlook_split(o, expert);
}

void eepi_outlook_fill(eepi_outlook *o, int slot, int expert)
{
    eepi_view_slot *s = &o->slot[slot];

    assert(s->state != EEPI_SLOT_FILLING);
    if (s->state == EEPI_SLOT_HOLDS) {
        o->expert[s->expert].live--;
        o->num_exposed += o->expert[s->expert].live == 1;
        drop(o, slot);
    } else {
        o->empty--;
    }
    *s = (eepi_view_slot){
        .expert = (uint16_t)expert, .source = EEPI_NO_SEAT, .state = EEPI_SLOT_FILLING};
    add(o, slot);
    o->seat[eepi_outlook_seat_of(o, slot)].filled++;
    o->fills[o->num_fills++] = slot;
}

void eepi_outlook_take_back(eepi_outlook *o, eepi_view_slot was)
{
    const int slot = o->fills[--o->num_fills];

    drop(o, slot);
    o->seat[eepi_outlook_seat_of(o, slot)].filled--;
    o->slot[slot] = was;
    if (was.state == EEPI_SLOT_EMPTY) {
        o->empty++;
        return;
    }
    o->num_exposed -= o->expert[was.expert].live == 1;
    o->expert[was.expert].live++;
    add(o, slot);
}

/* ---------------------------------------------------------------- splits */

/* Slots of the expert, one a seat, least loaded by other experts first; returns how many. A second
 * slot of a seat carries nothing. */
static int sort_slots(eepi_outlook *o, int expert)
{
    int n = 0;

    for (int s = o->expert[expert].first; s != EEPI_NOTHING; s = o->next[s]) {
        const int seat = eepi_outlook_seat_of(o, s);
        bool again = false;
        o->seat[seat].load -= o->carried[s];
        o->carried[s] = 0;
        for (int i = 0; i < n && !again; i++) {
            again = eepi_outlook_seat_of(o, o->sorted[i]) == seat;
        }
        if (!again) {
            o->sorted[n++] = s;
        }
    }
    for (int i = 1; i < n; i++) {
        const int slot = o->sorted[i];
        const int64_t load = o->seat[eepi_outlook_seat_of(o, slot)].load;
        int at = i;
        for (; at > 0 && o->seat[eepi_outlook_seat_of(o, o->sorted[at - 1])].load > load; at--) {
            o->sorted[at] = o->sorted[at - 1];
        }
        o->sorted[at] = slot;
    }
    return n;
}

void eepi_outlook_split(eepi_outlook *o, int expert)
{
    const int64_t weight = o->expert[expert].weight;
    const int n = sort_slots(o, expert);
    int64_t sum = weight, level = 0, left = weight;
    int used = 0;

    while (used < n) { /* as water fills: the least loaded seats up to one level */
        const int64_t load = o->seat[eepi_outlook_seat_of(o, o->sorted[used])].load;
        if (used > 0 && load >= level) {
            break;
        }
        sum += load;
        level = sum / ++used;
    }
    for (int i = used - 1; i >= 0; i--) {
        eepi_outlook_seat *seat = &o->seat[eepi_outlook_seat_of(o, o->sorted[i])];
        const int64_t takes = i == 0 ? left : level - seat->load;
        o->carried[o->sorted[i]] = takes;
        seat->load += takes;
        left -= takes;
    }
}

int64_t eepi_outlook_most(const eepi_outlook *o)
{
    int64_t most = 0;

    for (int seat = 0; seat < o->shape.max_ranks; seat++) {
        most = o->seat[seat].load > most ? o->seat[seat].load : most;
    }
    return most;
}

int64_t eepi_outlook_all_above(const eepi_outlook *o)
{
    int64_t above = 0;

    for (int seat = 0; seat < o->shape.max_ranks; seat++) {
        above += eepi_outlook_above(o, o->seat[seat].load);
    }
    return above;
}

void eepi_outlook_split_all(eepi_outlook *o)
{
    int64_t above = eepi_outlook_all_above(o);

    for (int sweep = 0; sweep < MAX_SWEEPS && above > 0; sweep++) {
        const int64_t before = above;
        for (int expert = 0; expert < o->shape.num_experts; expert++) {
            if (o->expert[expert].seats > 1) {
                eepi_outlook_split(o, expert);
            }
        }
        above = eepi_outlook_all_above(o);
        if (before - above <= before / 64) {
            return;
        }
    }
}

/* The shares of an expert's slots: all 0, so equal, where there is nothing to split. */
bool eepi_outlook_write_split(eepi_outlook *o)
{
    bool changed = false;

    for (int expert = 0; expert < o->shape.num_experts; expert++) {
        const eepi_outlook_expert *e = &o->expert[expert];
        const int shift = e->weight < (INT64_C(1) << 40) ? 0 : 16;
        for (int s = e->first; s != EEPI_NOTHING; s = o->next[s]) {
            const bool splits = o->has_loads && e->slots > 1 && e->weight > 0;
            const uint16_t share =
                splits ? (uint16_t)((o->carried[s] >> shift) * UINT16_MAX / (e->weight >> shift))
                       : 0;
            changed = changed || o->slot[s].share != share;
            o->slot[s].share = share;
        }
    }
    return changed;
}

int64_t eepi_outlook_room(const eepi_outlook *o, int expert, int without)
{
    int64_t room = 0;

    for (int s = o->expert[expert].first; s != EEPI_NOTHING; s = o->next[s]) {
        const int64_t load = o->seat[eepi_outlook_seat_of(o, s)].load;
        room += s != without && load < o->target ? o->target - load : 0;
    }
    return room;
}

/* ---------------------------------------------------------------- what if */

eepi_protection eepi_outlook_protection(const eepi_outlook *o, int expert, int without, int with)
{
    eepi_protection best = with == EEPI_NOTHING ? EEPI_BARE : EEPI_SINGLE;

    for (int s = o->expert[expert].first; s != EEPI_NOTHING; s = o->next[s]) {
        const int seat = eepi_outlook_seat_of(o, s);
        if (s == without) {
            continue;
        }
        best = best == EEPI_BARE ? EEPI_SINGLE : best;
        if (with != EEPI_NOTHING && seat != with) {
            best = EEPI_NEAR;
            if (eepi_outlook_apart(o, seat, with)) {
                return EEPI_APART;
            }
        }
        for (int t = o->next[s]; t != EEPI_NOTHING; t = o->next[t]) {
            const int other = eepi_outlook_seat_of(o, t);
            if (t == without || other == seat) {
                continue;
            }
            best = EEPI_NEAR;
            if (eepi_outlook_apart(o, seat, other)) {
                return EEPI_APART;
            }
        }
    }
    return best;
}

/* Does another slot of the slot's seat have its expert? */
static bool is_doubled(const eepi_outlook *o, int slot)
{
    const int expert = o->slot[slot].expert;

    for (int s = o->expert[expert].first; s != EEPI_NOTHING; s = o->next[s]) {
        if (s != slot && eepi_outlook_seat_of(o, s) == eepi_outlook_seat_of(o, slot)) {
            return true;
        }
    }
    return false;
}

eepi_outlook_change eepi_outlook_changes(const eepi_outlook *o, int expert, int without, int with)
{
    const eepi_outlook_expert *e = &o->expert[expert];
    const eepi_protection now = (eepi_protection)e->protection;
    const eepi_protection then = eepi_outlook_protection(o, expert, without, with);
    const int lacks = e->hot > e->seats ? e->hot - e->seats : 0;
    int seats = e->seats;

    seats += with != EEPI_NOTHING && !eepi_outlook_has(o, with, expert);
    seats -= without != EEPI_NOTHING && !is_doubled(o, without);
    return (eepi_outlook_change){
        .bare = (then == EEPI_BARE) - (now == EEPI_BARE),
        .lacking = (e->hot > seats ? e->hot - seats : 0) - lacks,
        .single = (then == EEPI_SINGLE) - (now == EEPI_SINGLE),
        .near = (then == EEPI_NEAR) - (now == EEPI_NEAR),
    };
}

int eepi_outlook_order(eepi_outlook_change a, eepi_outlook_change b)
{
    const int32_t sums[] = {a.bare + b.bare, a.lacking + b.lacking, a.single + b.single,
                            a.near + b.near};

    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++) {
        if (sums[i] != 0) {
            return sums[i];
        }
    }
    return 0;
}

bool eepi_outlook_may_take(const eepi_outlook *o, int slot)
{
    const eepi_view_slot *s = &o->slot[slot];

    if (o->seat[eepi_outlook_seat_of(o, slot)].filled >= o->limits.max_of_seat ||
        (o->wish && !o->order_moves && o->wish[slot] != EEPI_NO_EXPERT)) {
        return false;
    }
    if (s->state == EEPI_SLOT_EMPTY) {
        return true;
    }
    return s->state == EEPI_SLOT_HOLDS && o->expert[s->expert].live >= 2 &&
           (o->expert[s->expert].live > 2 || o->num_exposed < o->limits.max_exposed);
}
