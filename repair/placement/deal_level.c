/* SPDX-License-Identifier: Apache-2.0 */
/* Levelling: the most loaded rank exchanges a copy with another rank, or two copies at once where
 * single exchanges are stuck (they stall on ties). No exchange breaks a rule. */
#include "repair/placement/deal.h"

/* Go on as long as so many exchanges (and one per two ranks) lower the most loaded rank by such a
 * part of the mean. */
enum { PATIENCE = 8, WORTHWHILE = 1000 };
/* Detours cost most to look for: only above the target by more than such a part of the mean. */
enum { FAR = 64 };

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

/* Exchanges of `from` with `to`. */
typedef struct barter {
    int from, to;
    /* What changes hands: within these limits the more loaded of the two is lower than with the
     * best exchange so far. */
    int64_t more_than, less_than;
    uint64_t asked, allowed; /* of the first 64 copies of `to`: may it go to `from`? */
} barter;

static void set_limits(const eepi_packing *p, barter *b, const exchange *best)
{
    b->more_than = p->load[b->from] - best->height;
    b->less_than = best->height - p->load[b->to];
}

static bool is_better(const barter *b, int64_t change)
{
    return change > b->more_than && change < b->less_than;
}

static void note(const eepi_packing *p, barter *b, exchange new, int64_t change, exchange *best)
{
    *best = new;
    best->height = higher(p->load[b->from] - change, p->load[b->to] + change);
    set_limits(p, b, best);
}

static bool may_come(const eepi_packing *p, barter *b, int at)
{
    const int expert = eepi_packing_items(p, b->to)[at];
    const uint64_t bit = at < 64 ? (uint64_t)1 << at : 0;

    if (b->asked & bit) {
        return b->allowed & bit;
    }
    const bool may = eepi_packing_may_move(p, expert, b->to, b->from);
    b->asked |= bit;
    b->allowed |= may ? bit : 0;
    return may;
}

/* The copy `give` against those of `to` from `at` on, in steps of `step`: the first that the rules
 * allow is the best of them. */
static void try_along(const eepi_packing *p, barter *b, int give, int at, int step, exchange *best)
{
    const int32_t *theirs = eepi_packing_items(p, b->to);

    if (!eepi_packing_may_move(p, give, b->from, b->to)) {
        return;
    }
    for (; at >= 0 && at < p->used[b->to]; at += step) {
        const int get = theirs[at];
        const int64_t change = p->share[give] - p->share[get];
        if (!is_better(b, change)) {
            return;
        }
        if (give != get && may_come(p, b, at)) {
            note(p, b, (exchange){.to = b->to, .give = {give, -1}, .get = {get, -1}}, change, best);
            return;
        }
    }
}

/* The best single exchange of `from` with `to`, if better than `best`. Both lists are sorted: for
 * each copy given, the search goes both ways from the one that halves the gap. */
static void try_single(const eepi_packing *p, int from, int to, exchange *best)
{
    const int32_t *mine = eepi_packing_items(p, from), *theirs = eepi_packing_items(p, to);
    const int64_t half = (p->load[from] - p->load[to]) / 2;
    const int used = p->used[to];
    barter b = {.from = from, .to = to};
    int near = 0;

    set_limits(p, &b, best);
    for (int i = 0; i < p->used[from]; i++) {
        const int64_t share = p->share[mine[i]];
        while (near < used && p->share[theirs[near]] > share - half) {
            near++;
        }
        if (near < used && is_better(&b, share - p->share[theirs[near]])) {
            try_along(p, &b, mine[i], near, 1, best);
        }
        if (near > 0 && is_better(&b, share - p->share[theirs[near - 1]])) {
            try_along(p, &b, mine[i], near - 1, -1, best);
        }
    }
}

/* The best exchange of two copies against two: for each pair given, one walk over the sorted list
 * from both ends meets the pairs whose sums are nearest. */
static void try_double(const eepi_packing *p, int from, int to, exchange *best)
{
    const int32_t *mine = eepi_packing_items(p, from), *theirs = eepi_packing_items(p, to);
    const int64_t half = (p->load[from] - p->load[to]) / 2;
    barter b = {.from = from, .to = to};

    set_limits(p, &b, best);
    for (int i = 1; i < p->used[from]; i++) {
        for (int k = 0; k < i; k++) {
            const int64_t given = p->share[mine[i]] + p->share[mine[k]];
            for (int j = 0, l = p->used[to] - 1; j < l;) {
                const int64_t change = given - p->share[theirs[j]] - p->share[theirs[l]];
                if (is_better(&b, change) && may_swap(p, mine[i], from, theirs[j], to) &&
                    may_swap(p, mine[k], from, theirs[l], to)) {
                    const exchange new = {
                        .to = to, .give = {mine[i], mine[k]}, .get = {theirs[j], theirs[l]}};
                    note(p, &b, new, change, best);
                }
                if (change > half) { /* more must come back */
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
        if ((p->load[from] + p->load[to]) / 2 < found->height) { /* the best that can come of it */
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

/* ---------------------------------------------------------------- detours */

/* A copy that may not come to `from`, because of where its expert's other copy is: first the other
 * copy goes elsewhere, in an exchange with a copy of nearly the same share. */
typedef struct detour {
    int64_t gain;
    int come, to;   /* it comes from `to`, */
    int give;       /* for this one of `from` */
    int other, via; /* its other copy goes from `other` to `via`, */
    int back;       /* for this one of `via` */
} detour;

/* The largest copy of `from` that may go to `to` for one of that share, without lifting it as high.
 */
static int copy_to_give(const eepi_packing *p, int from, int to, int64_t share)
{
    const int32_t *mine = eepi_packing_items(p, from);

    for (int i = 0; i < p->used[from]; i++) {
        if (p->load[to] + p->share[mine[i]] - share < p->load[from] &&
            eepi_packing_may_move(p, mine[i], from, to)) {
            return mine[i];
        }
    }
    return -1;
}

/* Where the other copy of d->come may go, such that d->come may come. */
static bool find_via(const eepi_packing *p, int from, detour *d)
{
    const int64_t share = p->share[d->come];

    for (int via = 0; via < p->num_ranks; via++) {
        if (via == from || via == d->to || !eepi_packing_is_apart(p, via, from) ||
            eepi_packing_shared(p, via, from) >= p->pair_limit ||
            !eepi_packing_may_move(p, d->come, d->other, via)) {
            continue;
        }
        for (int k = 0; k < p->used[via]; k++) {
            const int back = eepi_packing_items(p, via)[k];
            const int64_t change = p->share[back] - share;
            if (back != d->give && p->load[d->other] + change < p->load[from] &&
                p->load[via] - change < p->load[from] &&
                may_swap(p, d->come, d->other, back, via)) {
                d->via = via;
                d->back = back;
                return true;
            }
        }
    }
    return false;
}

/* The detour that lowers `from` most, if it is worth while. */
static bool find_detour(const eepi_packing *p, int from, detour *found)
{
    *found = (detour){.gain = p->total / p->num_ranks / WORTHWHILE, .come = -1};
    for (int to = 0; to < p->num_ranks; to++) {
        for (int k = p->used[to] - 1; k >= 0 && to != from; k--) {
            const int come = eepi_packing_items(p, to)[k];
            const int32_t *holder = p->holder + p->first[come];
            if (p->copies[come] != 2 || eepi_packing_has_item(p, from, come)) {
                continue;
            }
            detour d = {.come = come, .to = to, .other = holder[holder[0] == to]};
            d.give = copy_to_give(p, from, to, p->share[come]);
            d.gain = d.give < 0 ? 0 : p->share[d.give] - p->share[come];
            if (d.gain <= found->gain) {
                continue;
            }
            if (d.other != from && d.give != come && eepi_packing_has_item(p, d.other, come) &&
                find_via(p, from, &d)) {
                *found = d;
            }
        }
    }
    return found->come >= 0;
}

/* false: against a rule after all, and nothing was changed. */
static bool make_detour(eepi_packing *p, int from, const detour *d)
{
    eepi_packing_swap(p, d->come, d->other, d->back, d->via);
    if (may_swap(p, d->give, from, d->come, d->to)) {
        eepi_packing_swap(p, d->give, from, d->come, d->to);
        return true;
    }
    eepi_packing_swap(p, d->come, d->via, d->back, d->other);
    return false;
}

/* ---------------------------------------------------------------- in order */

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

/* One exchange that lowers `from`. */
static bool relieve(eepi_packing *p, int from, int64_t enough, bool with_doubles)
{
    const int64_t far = enough + p->total / p->num_ranks / FAR;
    exchange e;
    detour d;

    if (find_single(p, from, enough, &e)) {
        return make(p, from, &e);
    }
    if (with_doubles && find_double(p, from, &e) && make(p, from, &e)) {
        return true;
    }
    return with_doubles && p->num_slots > 2 && p->load[from] > far && find_detour(p, from, &d) &&
           make_detour(p, from, &d);
}

int64_t eepi_deal_level(eepi_packing *p, int64_t target, int work, bool with_doubles)
{
    const int64_t enough = (int64_t)((__int128)p->total * target / p->num_ranks / EEPI_RATIO_ONE);
    int from = eepi_packing_most_loaded(p);

    int64_t before = p->load[from];
    for (int done = 1; done <= work && p->load[from] > enough; done++) {
        if (!relieve(p, from, enough, with_doubles)) {
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
