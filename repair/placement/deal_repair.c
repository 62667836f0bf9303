/* SPDX-License-Identifier: Apache-2.0 */
/* Making a dealt layer lawful: exchanges of two copies, and where none helps, chains of moves along
 * which each rank gives one copy and gets one (a shortest augmenting path). */
#include "repair/placement/deal.h"

#include <stdlib.h>

/* The copy of `expert` on `from` and that of `other` on `to` may change places: the two together
 * are less wrong then. */
static bool helps(const eepi_packing *p, int expert, int fault, int from, int other, int to)
{
    return other != expert &&
           eepi_packing_fault_if(p, expert, from, to) + eepi_packing_fault_if(p, other, to, from) <
               fault + eepi_packing_fault(p, other);
}

static int64_t distance_of(int64_t a, int64_t b)
{
    return a > b ? a - b : b - a;
}

/* Exchange one copy of the expert such that the loads change least. */
static bool exchange(eepi_packing *p, int expert)
{
    const int fault = eepi_packing_fault(p, expert);
    int64_t best_change = INT64_MAX;
    int best_from = -1, best_to = -1, best_other = -1;

    for (int i = 0; i < p->placed[expert]; i++) {
        const int from = p->holder[p->first[expert] + i];
        if (!eepi_packing_has_item(p, from, expert)) {
            continue; /* pinned */
        }
        for (int to = 0; to < p->num_ranks; to++) {
            if (to == from || eepi_packing_fault_if(p, expert, from, to) >= fault) {
                continue;
            }
            for (int k = 0; k < p->used[to]; k++) {
                const int other = eepi_packing_items(p, to)[k];
                const int64_t change = distance_of(p->share[expert], p->share[other]);
                if (change < best_change && helps(p, expert, fault, from, other, to)) {
                    best_change = change;
                    best_from = from;
                    best_to = to;
                    best_other = other;
                }
            }
        }
    }
    if (best_to >= 0) {
        eepi_packing_swap(p, expert, best_from, best_other, best_to);
    }
    return best_to >= 0;
}

/* An item of rank `from` that may go to `to` without fault; -1: none. */
static int item_for(const eepi_packing *p, int from, int to, int but)
{
    for (int k = 0; k < p->used[from]; k++) {
        const int item = eepi_packing_items(p, from)[k];
        if (item != but && eepi_packing_fault_if(p, item, from, to) == 0) {
            return item;
        }
    }
    return -1;
}

/* Search breadth first from the ranks that the expert may go to, for one that has an item for the
 * rank `home`. Writes before[rank] (the rank that hands it an item; `home`: the expert itself) and
 * returns the last rank; -1: none. */
static int find_chain(const eepi_packing *p, int expert, int home, int fault, int32_t *path)
{
    int32_t *before = path, *queue = path + p->num_ranks;
    int head = 0, tail = 0;

    for (int rank = 0; rank < p->num_ranks; rank++) {
        before[rank] = -1;
        if (rank != home && eepi_packing_fault_if(p, expert, home, rank) < fault) {
            before[rank] = home;
            queue[tail++] = rank;
        }
    }
    while (head < tail) {
        const int rank = queue[head++];
        if (item_for(p, rank, home, expert) >= 0) {
            return rank;
        }
        for (int next = 0; next < p->num_ranks; next++) {
            if (next != home && before[next] < 0 && item_for(p, rank, next, expert) >= 0) {
                before[next] = rank;
                queue[tail++] = next;
            }
        }
    }
    return -1;
}

/* Pass items along the chain from its end: the last rank's item goes to `home`, and each rank's
 * item to the next one on the chain, until the first one has a slot for the expert. */
static bool pass_along(eepi_packing *p, int expert, int home, int last, const int32_t *before)
{
    int rank = last, guest = item_for(p, last, home, expert);

    eepi_packing_take(p, expert, home);
    eepi_packing_take(p, guest, rank);
    eepi_packing_put(p, guest, home);
    while (before[rank] != home) {
        const int giver = before[rank], item = item_for(p, giver, rank, expert);
        if (item < 0) {
            eepi_packing_put(p, expert, rank); /* an item moved twice: leave it where it ends */
            return false;
        }
        eepi_packing_take(p, item, giver);
        eepi_packing_put(p, item, rank);
        rank = giver;
    }
    eepi_packing_put(p, expert, rank);
    return true;
}

static bool chain(eepi_packing *p, int expert, int32_t *path)
{
    const int fault = eepi_packing_fault(p, expert);

    for (int i = 0; i < p->placed[expert]; i++) {
        const int home = p->holder[p->first[expert] + i];
        if (!eepi_packing_has_item(p, home, expert)) {
            continue;
        }
        const int last = find_chain(p, expert, home, fault, path);
        if (last >= 0) {
            return pass_along(p, expert, home, last, path);
        }
    }
    return false;
}

static int num_wrong(const eepi_packing *p)
{
    int wrong = 0;

    for (int e = 0; e < p->num_experts; e++) {
        wrong += eepi_packing_fault(p, e) > 0;
    }
    return wrong;
}

int eepi_deal_repair(eepi_packing *p, int32_t *path)
{
    int wrong = num_wrong(p), before = wrong + 1;

    while (wrong > 0 && wrong < before) {
        before = wrong;
        for (int e = 0; e < p->num_experts; e++) {
            while (eepi_packing_fault(p, e) > 0 && (exchange(p, e) || chain(p, e, path))) {
            }
        }
        wrong = num_wrong(p);
    }
    return wrong;
}

/* ---------------------------------------------------------------- mirrored ranks */

/* Exchange the copy of `expert` on `from` such that the loads change least. */
static bool part_copy(eepi_packing *p, int expert, int from)
{
    int64_t best_change = INT64_MAX;
    int best_to = -1, best_other = -1;

    for (int to = 0; to < p->num_ranks; to++) {
        if (to == from || !eepi_packing_may_move(p, expert, from, to)) {
            continue;
        }
        for (int k = 0; k < p->used[to]; k++) {
            const int other = eepi_packing_items(p, to)[k];
            const int64_t change = distance_of(p->share[expert], p->share[other]);
            if (change < best_change && other != expert &&
                eepi_packing_may_move(p, other, to, from)) {
                best_change = change;
                best_to = to;
                best_other = other;
            }
        }
    }
    if (best_to >= 0) {
        eepi_packing_swap(p, expert, from, best_other, best_to);
    }
    return best_to >= 0;
}

void eepi_deal_part(eepi_packing *p)
{
    for (int e = 0; e < p->num_experts; e++) {
        const int a = p->holder[p->first[e]];
        if (p->copies[e] != 2 || p->placed[e] != 2) {
            continue;
        }
        const int b = p->holder[p->first[e] + 1];
        if (eepi_packing_shared(p, a, b) <= p->pair_limit) {
            continue;
        }
        if (!eepi_packing_has_item(p, a, e) || !part_copy(p, e, a)) {
            (void)(eepi_packing_has_item(p, b, e) && part_copy(p, e, b));
        }
    }
}

/* ---------------------------------------------------------------- ranks that change places */

static int fault_of_rank(const eepi_packing *p, int rank)
{
    int fault = 0;

    for (int k = 0; k < p->used[rank]; k++) {
        const int e = eepi_packing_items(p, rank)[k];
        const int32_t *holder = p->holder + p->first[e];
        fault += 2 * eepi_packing_fault(p, e);
        fault += p->copies[e] == 2 && holder[0] != holder[1] &&
                 eepi_packing_shared(p, holder[0], holder[1]) > p->pair_limit;
    }
    return fault;
}

/* Ranks of two slots. */
static void exchange_ranks(eepi_packing *p, int a, int b)
{
    const int32_t *of_a = eepi_packing_items(p, a), *of_b = eepi_packing_items(p, b);
    const int32_t from_a[] = {of_a[0], of_a[1]}, from_b[] = {of_b[0], of_b[1]};

    for (int k = 0; k < 2; k++) {
        eepi_packing_take(p, from_a[k], a);
        eepi_packing_take(p, from_b[k], b);
    }
    for (int k = 0; k < 2; k++) {
        eepi_packing_put(p, from_a[k], b);
        eepi_packing_put(p, from_b[k], a);
    }
}

void eepi_deal_place(eepi_packing *p)
{
    bool again = true;

    for (int round = 0; round < 4 && again; round++) {
        again = false;
        for (int a = 0; a < p->num_ranks; a++) {
            for (int b = 0; b < p->num_ranks && fault_of_rank(p, a) > 0; b++) {
                const int before = fault_of_rank(p, a) + fault_of_rank(p, b);
                if (b == a) {
                    continue;
                }
                exchange_ranks(p, a, b);
                if (fault_of_rank(p, a) + fault_of_rank(p, b) < before) {
                    again = true;
                } else {
                    exchange_ranks(p, a, b);
                }
            }
        }
    }
}
