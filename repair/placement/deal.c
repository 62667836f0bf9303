/* SPDX-License-Identifier: Apache-2.0 */
/* Dealing copies out: longest processing time first, with rules. */
#include "repair/placement/deal.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

/* How wrong a rank is for a copy; 0: it keeps all rules. */
enum { OVER_PAIR_LIMIT = 1, NOT_APART = 2, SECOND_COPY = 4 };

/* The ranks with room, the least loaded first, the higher number first among equals. */
typedef struct line {
    int32_t *rank;
    int length;
} line;

static int first_not_before(const eepi_packing *p, const line *l, int rank)
{
    int low = 0, high = l->length;

    while (low < high) {
        const int middle = (low + high) / 2, other = l->rank[middle];
        if (p->load[other] < p->load[rank] || (p->load[other] == p->load[rank] && other > rank)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void leave_line(const eepi_packing *p, line *l, int rank)
{
    const int at = first_not_before(p, l, rank);

    assert(l->rank[at] == rank);
    memmove(l->rank + at, l->rank + at + 1, (size_t)(--l->length - at) * sizeof *l->rank);
}

static void join_line(const eepi_packing *p, line *l, int rank)
{
    const int at = first_not_before(p, l, rank);

    memmove(l->rank + at + 1, l->rank + at, (size_t)(l->length++ - at) * sizeof *l->rank);
    l->rank[at] = rank;
}

/* What is asked of the rank for the next copy of an expert. */
typedef struct want {
    int expert;
    bool pair;          /* apart from a copy that is placed */
    bool new_node;      /* a node without a copy, if the rules leave a choice */
    bool any_rank;      /* rules but one are left to whole ranks' changing places */
    int experts_left;   /* that have copies to come, with this one */
    bool somebody_must; /* a rank has as much room as experts are left: it has to take each */
} want;

static int wrong_at(const eepi_packing *p, const want *w, int rank)
{
    const int32_t *holder = p->holder + p->first[w->expert];
    const int placed = p->placed[w->expert];
    int wrong = p->mark[rank] > placed / p->num_ranks ? SECOND_COPY : 0;

    if (w->any_rank) {
        return wrong;
    }
    if (w->pair && placed > 0) {
        bool apart = false;
        for (int i = 0; i < placed && !apart; i++) {
            apart = eepi_packing_is_apart(p, holder[i], rank);
        }
        wrong += apart ? 0 : NOT_APART;
    }
    if (p->copies[w->expert] == 2 && placed == 1 &&
        eepi_packing_shared(p, holder[0], rank) >= p->pair_limit) {
        wrong += OVER_PAIR_LIMIT;
    }
    return wrong;
}

static bool node_has_copy(const eepi_packing *p, int expert, int node)
{
    const int32_t *holder = p->holder + p->first[expert];

    for (int i = 0; i < p->placed[expert]; i++) {
        if (p->node[holder[i]] == node) {
            return true;
        }
    }
    return false;
}

/* Along the line, the best rank: rules first, then ranks that must take a copy, then new nodes,
 * then load; among equal loads the one that shares least with the first copy's rank. */
static int choose_rank(const eepi_packing *p, const want *w, const line *l)
{
    const int first = p->copies[w->expert] == 2 && p->placed[w->expert] == 1
                          ? p->holder[p->first[w->expert]]
                          : -1;
    const int least = w->somebody_must ? 0 : 4;
    int best = INT_MAX, best_shared = 0, chosen = -1;

    for (int i = 0; i < l->length; i++) {
        const int rank = l->rank[i];
        if (best == least && p->load[rank] != p->load[chosen]) {
            break;
        }
        const int wrong = wrong_at(p, w, rank);
        const int key =
            wrong / NOT_APART * 8 + (p->room[rank] - p->used[rank] < w->experts_left ? 4 : 0) +
            wrong % NOT_APART * 2 + (w->new_node && node_has_copy(p, w->expert, p->node[rank]));
        const int shared = first >= 0 ? eepi_packing_shared(p, first, rank) : 0;
        if (key < best ||
            (key == best && p->load[rank] == p->load[chosen] && shared < best_shared)) {
            best = key;
            best_shared = shared;
            chosen = rank;
        }
    }
    assert(chosen >= 0);
    return chosen;
}

/* Pinned copies have a rank already. */
static bool lacks_pair(const eepi_packing *p, int expert)
{
    const int32_t *holder = p->holder + p->first[expert];

    for (int i = 0; i < p->placed[expert]; i++) {
        for (int j = 0; j < i; j++) {
            if (eepi_packing_is_apart(p, holder[i], holder[j])) {
                return false;
            }
        }
    }
    return p->num_pairs > 0 && p->copies[expert] > 1;
}

static void deal_expert(eepi_packing *p, int expert, int experts_left, bool any_rank, line *l)
{
    const int32_t *holder = p->holder + p->first[expert];
    want w = {.expert = expert,
              .experts_left = experts_left,
              .any_rank = any_rank,
              .pair = lacks_pair(p, expert),
              .new_node = !any_rank && p->copies[expert] > 2 && p->copies[expert] <= p->num_nodes};

    for (int i = 0; i < p->placed[expert]; i++) {
        p->mark[holder[i]]++;
    }
    for (int i = 0; i < l->length && !w.somebody_must; i++) {
        w.somebody_must = p->room[l->rank[i]] - p->used[l->rank[i]] >= experts_left;
    }
    while (p->placed[expert] < p->copies[expert]) {
        const int rank = choose_rank(p, &w, l);
        for (int i = 0; i < p->placed[expert] && w.pair; i++) {
            w.pair = !eepi_packing_is_apart(p, holder[i], rank);
        }
        leave_line(p, l, rank);
        eepi_packing_put(p, expert, rank);
        if (p->used[rank] < p->room[rank]) {
            join_line(p, l, rank);
        }
        p->mark[rank]++;
    }
    for (int i = 0; i < p->placed[expert]; i++) {
        p->mark[holder[i]] = 0;
    }
}

void eepi_deal(eepi_packing *p, eepi_ranked *order, bool any_rank, int32_t *memory)
{
    line l = {.rank = memory};
    int left = 0;

    eepi_order_fill(p, order);
    for (int e = 0; e < p->num_experts; e++) {
        left += p->placed[e] < p->copies[e];
    }
    for (int rank = 0; rank < p->num_ranks; rank++) {
        if (p->used[rank] < p->room[rank]) {
            join_line(p, &l, rank);
        }
    }
    for (int i = 0; i < p->num_experts; i++) {
        const int e = order[i].expert;
        if (p->placed[e] < p->copies[e]) {
            deal_expert(p, e, left--, any_rank, &l);
        }
    }
}
