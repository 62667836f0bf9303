/* SPDX-License-Identifier: Apache-2.0 */
/* A greedy search by equal shares: from the most loaded seat, the change with the most gain a slot.
 */
#include "experiments/bench/moves/equal_moves.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_CHANGES = 200 };

typedef struct layout {
    int num_seats, num_slots, num_experts;
    const uint32_t *loads;
    int32_t *expert; /* [num_seats * num_slots]; -1: not held */
    int32_t *copies; /* [num_experts] */
    int32_t *holder; /* [num_experts][num_seats], the first `copies` of each */
    double *load;    /* [num_seats] */
    double target;
    double above; /* load above the target, of all seats */
} layout;

static bool has(const layout *l, int seat, int expert)
{
    for (int i = 0; i < l->copies[expert]; i++) {
        if (l->holder[expert * l->num_seats + i] == seat) {
            return true;
        }
    }
    return false;
}

/* Its replicas' load comes to their seats, or leaves them. */
static void carry(layout *l, int expert, int sign)
{
    const double share = l->copies[expert] > 0 ? (double)l->loads[expert] / l->copies[expert] : 0;

    for (int i = 0; i < l->copies[expert]; i++) {
        double *load = &l->load[l->holder[expert * l->num_seats + i]];
        l->above -= fmax(0, *load - l->target);
        *load += sign * share;
        l->above += fmax(0, *load - l->target);
    }
}

static void set(layout *l, int slot, int expert)
{
    const int seat = slot / l->num_slots, old = l->expert[slot];

    if (old >= 0) {
        int32_t *holder = l->holder + old * l->num_seats;
        carry(l, old, -1);
        for (int i = 0; i < l->copies[old]; i++) {
            if (holder[i] == seat) {
                holder[i] = holder[--l->copies[old]];
                break;
            }
        }
        carry(l, old, 1);
    }
    l->expert[slot] = expert;
    if (expert >= 0) {
        carry(l, expert, -1);
        l->holder[expert * l->num_seats + l->copies[expert]++] = seat;
        carry(l, expert, 1);
    }
}

/* `slot` goes to the expert of `from`, and that to what had `slot` if `back`. */
typedef struct change {
    int from, slot;
    bool back;
    double gain; /* a slot */
} change;

static void make(layout *l, const change *c)
{
    const int mine = l->expert[c->from], theirs = l->expert[c->slot];

    if (c->back) {
        set(l, c->from, -1);
        set(l, c->slot, mine);
        set(l, c->from, theirs);
    } else {
        set(l, c->slot, mine);
    }
}

static void try_change(layout *l, change c, double now, change *best)
{
    const int mine = l->expert[c.from], theirs = l->expert[c.slot];

    make(l, &c);
    c.gain = (now - l->above) / (c.back ? 2 : 1);
    if (c.back) {
        set(l, c.from, -1);
        set(l, c.slot, theirs);
        set(l, c.from, mine);
    } else {
        set(l, c.slot, theirs);
    }
    *best = c.gain > best->gain + l->target * 1e-6 ? c : *best;
}

static change find_change(layout *l, int seat)
{
    const int all = l->num_seats * l->num_slots;
    const double now = l->above;
    change best = {.slot = -1};

    for (int k = 0; k < l->num_slots; k++) {
        const int from = seat * l->num_slots + k, mine = l->expert[from];
        for (int slot = 0; slot < all && mine >= 0; slot++) {
            const int other = slot / l->num_slots, theirs = l->expert[slot];
            if (other == seat || theirs < 0 || theirs == mine || has(l, other, mine)) {
                continue;
            }
            if (l->copies[theirs] > 2 || (l->copies[theirs] == 2 && l->copies[mine] == 1)) {
                try_change(l, (change){.from = from, .slot = slot}, now, &best);
            }
            if (!has(l, seat, theirs)) {
                try_change(l, (change){.from = from, .slot = slot, .back = true}, now, &best);
            }
        }
    }
    return best;
}

static int search(layout *l, bool *stuck_out)
{
    int changes = 0;

    while (changes < MOST_CHANGES && l->above > l->target * 1e-6) {
        int most = 0;
        for (int seat = 1; seat < l->num_seats; seat++) {
            most = l->load[seat] > l->load[most] ? seat : most;
        }
        const change best = find_change(l, most);
        if (best.slot < 0) {
            break;
        }
        make(l, &best);
        changes += best.back ? 2 : 1;
    }
    *stuck_out = l->above > l->target * 1e-6;
    return changes;
}

int equal_moves(const eepi_view_shape *shape, const eepi_view_slot *slots, const uint32_t *loads,
                int target_permille, bool *stuck_out)
{
    const size_t seats = (size_t)shape->max_ranks, experts = (size_t)shape->num_experts;
    const int all = shape->max_ranks * shape->num_slots;
    layout l = {.num_seats = shape->max_ranks,
                .num_slots = shape->num_slots,
                .num_experts = shape->num_experts,
                .loads = loads,
                .expert = calloc((size_t)all, sizeof *l.expert),
                .copies = calloc(experts, sizeof *l.copies),
                .holder = calloc(experts * seats, sizeof *l.holder),
                .load = calloc(seats, sizeof *l.load)};
    double sum = 0;
    int members = 0, changes = 0;

    *stuck_out = true;

    if (l.expert && l.copies && l.holder && l.load) {
        for (int slot = 0; slot < all; slot++) {
            l.expert[slot] = -1;
        }
        for (int slot = 0; slot < all; slot++) {
            const bool held = slots[slot].state == EEPI_SLOT_HOLDS;
            if (held && !has(&l, slot / l.num_slots, slots[slot].expert)) {
                set(&l, slot, slots[slot].expert);
            }
        }
        for (int seat = 0; seat < l.num_seats; seat++) {
            sum += l.load[seat];
            members += l.load[seat] > 0;
        }
        l.target = sum / (members > 0 ? members : 1) / 1000 * target_permille;
        l.above = 0;
        for (int seat = 0; seat < l.num_seats; seat++) {
            l.above += fmax(0, l.load[seat] - l.target);
        }
        changes = search(&l, stuck_out);
    }
    free(l.expert);
    free(l.copies);
    free(l.holder);
    free(l.load);
    return changes;
}
