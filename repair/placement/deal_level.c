/* SPDX-License-Identifier: Apache-2.0 */
/* Levelling: the most loaded rank exchanges a copy with another rank, or two copies at once where
 * single exchanges are stuck (they stall on ties). No exchange breaks a rule. */
#include "repair/placement/deal.h"

/* Go on as long as so many exchanges (and one per two ranks) lower the most loaded rank by such a
 * part of the mean. */
enum { PATIENCE = 8, WORTHWHILE = 1000 };

/* An exchange of up to two copies of rank `from` against as many of rank `to`. */
typedef struct exchange {
    int64_t height; /* load of the more loaded of the two afterwards */
    int to;
    int give[2], get[2]; /* experts; [1] is -1 for a single one */
} exchange;

static int64_t higher(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static bool may_swap(const eepi_packing *p, int give, int from, int get, int to)
{
    return give != get && eepi_packing_may_move(p, give, from, to) &&
           eepi_packing_may_move(p, get, to, from);
}

/* The best single exchange of `from` with `to`, if better than `best`. Both lists are sorted: for
 * each copy given, those near the one that halves the gap are tried. */
static void try_single(const eepi_packing *p, int from, int to, exchange *best)
{
    const int32_t *mine = eepi_packing_items(p, from), *theirs = eepi_packing_items(p, to);
    const int64_t gap = p->load[from] - p->load[to];
    int near = 0;

    for (int i = 0; i < p->used[from]; i++) {
        const int64_t share = p->share[mine[i]], wish = share - gap / 2;
        while (near < p->used[to] && p->share[theirs[near]] > wish) {
            near++;
        }
        for (int j = near > 2 ? near - 2 : 0; j < near + 2 && j < p->used[to]; j++) {
            const int64_t change = share - p->share[theirs[j]];
            const int64_t height = higher(p->load[from] - change, p->load[to] + change);
            if (change > 0 && height < best->height && may_swap(p, mine[i], from, theirs[j], to)) {
                *best = (exchange){
                    .height = height, .to = to, .give = {mine[i], -1}, .get = {theirs[j], -1}};
            }
        }
    }
}

/* The best exchange of two copies against two: for each pair given, one walk over the sorted list
 * from both ends meets the pairs whose sums are nearest. */
static void try_double(const eepi_packing *p, int from, int to, exchange *best)
{
    const int32_t *mine = eepi_packing_items(p, from), *theirs = eepi_packing_items(p, to);
    const int64_t gap = p->load[from] - p->load[to];

    for (int i = 1; i < p->used[from]; i++) {
        for (int k = 0; k < i; k++) {
            const int64_t given = p->share[mine[i]] + p->share[mine[k]];
            for (int j = 0, l = p->used[to] - 1; j < l;) {
                const int64_t change = given - p->share[theirs[j]] - p->share[theirs[l]];
                const int64_t height = higher(p->load[from] - change, p->load[to] + change);
                if (change > 0 && height < best->height &&
                    may_swap(p, mine[i], from, theirs[j], to) &&
                    may_swap(p, mine[k], from, theirs[l], to)) {
                    *best = (exchange){.height = height,
                                       .to = to,
                                       .give = {mine[i], mine[k]},
                                       .get = {theirs[j], theirs[l]}};
                }
                if (change > gap / 2) { /* more must come back */
                    l--;
                } else {
                    j++;
                }
            }
        }
    }
}

/* The best exchange of `from` with any rank. false: none lowers it without lifting another as high.
 */
static bool find_single(const eepi_packing *p, int from, int64_t enough, exchange *found)
{
    *found = (exchange){.height = p->load[from], .to = -1};
    for (int to = 0; to < p->num_ranks && found->height > enough; to++) {
        if (p->load[to] < p->load[from]) {
            try_single(p, from, to, found);
        }
    }
    return found->to >= 0;
}

/* The first rank with which an exchange of two copies helps: these cost more to look for. */
static bool find_double(const eepi_packing *p, int from, exchange *found)
{
    *found = (exchange){.height = p->load[from], .to = -1};
    for (int to = 0; to < p->num_ranks && found->to < 0; to++) {
        if (p->load[to] < p->load[from]) {
            try_double(p, from, to, found);
        }
    }
    return found->to >= 0;
}

/* false: the second exchange is against a rule once the first was made, and nothing was changed. */
static bool make(eepi_packing *p, int from, const exchange *e)
{
    eepi_packing_swap(p, e->give[0], from, e->get[0], e->to);
    if (e->give[1] < 0) {
        return true;
    }
    if (may_swap(p, e->give[1], from, e->get[1], e->to)) {
        eepi_packing_swap(p, e->give[1], from, e->get[1], e->to);
        return true;
    }
    eepi_packing_swap(p, e->get[0], from, e->give[0], e->to);
    return false;
}

int64_t eepi_deal_level(eepi_packing *p, int64_t target, int work, bool with_doubles)
{
    const int64_t enough = (int64_t)((__int128)p->total * target / p->num_ranks / EEPI_RATIO_ONE);
    int from = eepi_packing_most_loaded(p);

    int64_t before = p->load[from];
    for (int done = 1; done <= work && p->load[from] > enough; done++) {
        exchange e;
        if (!find_single(p, from, enough, &e) && !(with_doubles && find_double(p, from, &e))) {
            break;
        }
        if (!make(p, from, &e)) {
            break;
        }
        from = eepi_packing_most_loaded(p);
        if (done % (PATIENCE + p->num_ranks / 2) == 0) {
            if (before - p->load[from] < p->total / p->num_ranks / WORTHWHILE) {
                break;
            }
            before = p->load[from];
        }
    }
    return eepi_packing_ratio(p, p->load[from]);
}
