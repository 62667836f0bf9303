/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks of two slots: a search over numbers of copies by the sums of the pairs that they allow. */
#include "repair/placement/pair_counts.h"
#include "repair/placement/replica_counts.h"

enum {
    MAX_LOOKS = 1500,
    UNIT = 4096
}; /* numbers tried; parts of the mean that excess is counted in */

/* Experts by share, largest first, and what folding them in the middle gives. */
typedef struct fold {
    int64_t cost;        /* sum of the squares of what the pairs carry beyond the mean */
    int64_t most;        /* largest sum */
    int larger, smaller; /* the experts of that pair */
} fold;

static const fold no_limit = {.cost = INT64_MAX, .most = INT64_MAX};

/* Pair the copies of experts in `order`, from both ends. Ends early where it comes to cost no less
 * than the limit, or its largest sum is larger. */
static fold fold_up(const eepi_packing *p, const eepi_ranked *order, const fold *limit)
{
    const int64_t mean = p->total / p->num_ranks, unit = mean / UNIT + 1;
    int i = 0, j = p->num_experts - 1;
    int left_i = p->copies[order[i].expert], left_j = p->copies[order[j].expert];
    fold f = {.larger = -1};

    while (i <= j && f.cost < limit->cost && f.most <= limit->most) {
        const int64_t sum = order[i].share + order[j].share;
        const int pairs = i == j ? left_i / 2 : left_i < left_j ? left_i : left_j;
        const int64_t excess = sum > mean ? (sum - mean) / unit : 0;
        f.cost += excess * excess * pairs;
        if (sum > f.most && pairs > 0) {
            f.most = sum;
            f.larger = order[i].expert;
            f.smaller = order[j].expert;
        }
        if (i == j) {
            break;
        }
        left_i -= pairs;
        left_j -= pairs;
        if (left_i == 0 && ++i <= j) {
            left_i = i == j ? left_j : p->copies[order[i].expert];
        }
        if (left_j == 0 && --j >= i) {
            left_j = i == j ? left_i : p->copies[order[j].expert];
        }
    }
    return f;
}

/* The search's state. */
typedef struct search {
    eepi_packing *p;
    eepi_ranked *order, *spare;
    int singles, max_singles, looks;
    int giver; /* where the next look for a giver begins */
    fold now;
} search;

static void move_copy(search *s, int from, int to, int change)
{
    s->p->copies[from] -= change;
    s->p->copies[to] += change;
}

/* A copy more for `to`, from the next expert that makes the cost less by it. */
static bool give(search *s, int to)
{
    eepi_packing *p = s->p;

    if (p->copies[to] >= p->num_ranks) {
        return false;
    }
    for (int i = 0; i < p->num_experts && s->looks < MAX_LOOKS; i++) {
        const int from = (s->giver + i) % p->num_experts;
        if (from == to || p->copies[from] <= 1 || p->copies[from] <= p->pins[from] ||
            (p->copies[from] == 2 && s->singles - (p->copies[to] == 1) >= s->max_singles)) {
            continue;
        }
        s->singles += (p->copies[from] == 2) - (p->copies[to] == 1);
        move_copy(s, from, to, 1);
        eepi_order_change(p, s->order, from, to, s->spare);
        s->looks++;
        const fold next = fold_up(p, s->spare, &s->now);
        if (next.cost < s->now.cost && next.most <= s->now.most) {
            eepi_ranked *const old = s->order;
            s->order = s->spare;
            s->spare = old;
            s->now = next;
            s->giver = from + 1;
            return true;
        }
        move_copy(s, from, to, -1);
        s->singles -= (p->copies[from] == 2) - (p->copies[to] == 1);
    }
    return false;
}

void eepi_pair_counts(eepi_packing *p, int max_singles, eepi_ranked *order, eepi_ranked *spare)
{
    search s = {.p = p, .order = order, .spare = spare, .max_singles = max_singles};

    s.singles = eepi_counts_singles(p);
    eepi_order_fill(p, order);
    s.now = fold_up(p, order, &no_limit);
    while (s.looks < MAX_LOOKS && s.now.cost > 0) {
        bool better = give(&s, s.now.larger) || give(&s, s.now.smaller);
        for (int i = 0; i < p->num_experts && !better; i++) {
            better = give(&s, s.order[i].expert);
        }
        if (!better) {
            break;
        }
    }
}

int64_t eepi_pair_counts_most(const eepi_packing *p, eepi_ranked *order)
{
    eepi_order_fill(p, order);
    return fold_up(p, order, &no_limit).most;
}
