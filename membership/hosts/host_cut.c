/* SPDX-License-Identifier: Apache-2.0 */
/* The smallest set of hosts that touches every accused pair: a vertex cover. Up to MOST_EXACT hosts
 * it is the least there is, found by trying both ends of an open pair in turn. Of more hosts that
 * fail at once it is the one with most pairs first. */
#include "membership/hosts/host_cut.h"

#include "graphs/kernels/table_layout.h"

#include <string.h>

enum { MOST_EXACT = 4, NOBODY = -1 };
#define UNKNOWN UINT64_MAX

/* A host goes by its first seat in question. */
typedef struct cut {
    const eepi_host_cut *given;
    int16_t host[EEP_MAX_RANKS]; /* of each seat; NOBODY: it is not in question */
    int chosen[EEP_MAX_RANKS], num_chosen;
    bool is_chosen[EEP_MAX_RANKS];
    /* the best so far */
    int best[MOST_EXACT], num_best;
    uint64_t best_lost; /* UNKNOWN: it was the only one */
    int best_ranks;
} cut;

static bool has(const uint64_t *bits, int seat)
{
    return bits[seat / 64] >> (seat % 64) & 1u;
}

static void set(uint64_t *bits, int seat)
{
    bits[seat / 64] |= 1ull << (seat % 64);
}

static int host_of(const cut *c, int seat, int last)
{
    const eepi_view_seat *seats = c->given->seats;

    if (last != NOBODY && seats[last].host == seats[seat].host) { /* mostly */
        return last;
    }
    for (int other = 0; other < seat; other++) {
        if (c->host[other] == other && seats[other].host == seats[seat].host) {
            return other;
        }
    }
    return seat;
}

static void find_hosts(cut *c)
{
    int last = NOBODY;

    for (int seat = 0; seat < c->given->max_ranks; seat++) {
        if (has(c->given->members, seat)) {
            last = host_of(c, seat, last);
            c->host[seat] = (int16_t)last;
        } else {
            c->host[seat] = NOBODY;
        }
    }
}

/* Whom the member accuses on other hosts, and who is in question; false: nobody. */
static bool accused_by(const cut *c, int by, uint64_t *accused)
{
    const uint64_t *named = c->host[by] == NOBODY ? NULL : c->given->accused(c->given->user, by);
    bool any = false;

    for (int word = 0; word < EEPK_SEAT_WORDS; word++) {
        accused[word] = named ? named[word] & c->given->members[word] : 0;
        any |= accused[word] != 0;
    }
    if (!any) {
        return false;
    }
    any = false;
    for (int seat = 0; seat < c->given->max_ranks; seat++) {
        if (has(accused, seat) && c->host[seat] == c->host[by]) {
            accused[seat / 64] &= ~(1ull << (seat % 64));
        }
        any |= has(accused, seat);
    }
    return any;
}

/* A pair that no chosen host touches; false: there is none. */
static bool find_open(const cut *c, int *a_out, int *b_out)
{
    uint64_t accused[EEPK_SEAT_WORDS];

    for (int by = 0; by < c->given->max_ranks; by++) {
        if (c->host[by] == NOBODY || c->is_chosen[c->host[by]] || !accused_by(c, by, accused)) {
            continue;
        }
        for (int seat = 0; seat < c->given->max_ranks; seat++) {
            if (has(accused, seat) && !c->is_chosen[c->host[seat]]) {
                *a_out = c->host[by];
                *b_out = c->host[seat];
                return true;
            }
        }
    }
    return false;
}

/* The host itself is in doubt: a rank of it accuses others, or another one accuses all of it. */
static bool goes_whole(const cut *c, int host)
{
    uint64_t accused[EEPK_SEAT_WORDS];

    for (int by = 0; by < c->given->max_ranks; by++) {
        bool all = true;
        if (!accused_by(c, by, accused)) {
            continue;
        }
        for (int seat = 0; seat < c->given->max_ranks; seat++) {
            all &= c->host[seat] != host || has(accused, seat);
        }
        if (all || c->host[by] == host) {
            return true;
        }
    }
    return false;
}

static void leave_out(const cut *c, const int *chosen, int num, const uint64_t *accused,
                      uint64_t *out)
{
    memset(out, 0, EEPK_SEAT_WORDS * sizeof *out);
    for (int i = 0; i < num; i++) {
        const bool whole = goes_whole(c, chosen[i]);
        for (int seat = 0; seat < c->given->max_ranks; seat++) {
            if (c->host[seat] == chosen[i] && (whole || has(accused, seat))) {
                set(out, seat);
            }
        }
    }
}

static int num_seats(const uint64_t *out)
{
    int num = 0;

    for (int word = 0; word < EEPK_SEAT_WORDS; word++) {
        num += __builtin_popcountll(out[word]);
    }
    return num;
}

/* Of two sets of as many hosts the one with the higher seats. */
static bool is_higher(const int *a, const int *b, int num)
{
    int highest_a = NOBODY, highest_b = NOBODY, sum_a = 0, sum_b = 0;

    for (int i = 0; i < num; i++) {
        highest_a = a[i] > highest_a ? a[i] : highest_a;
        highest_b = b[i] > highest_b ? b[i] : highest_b;
        sum_a += a[i];
        sum_b += b[i];
    }
    return highest_a != highest_b ? highest_a > highest_b : sum_a > sum_b;
}

static bool is_better(const cut *c, uint64_t lost, int ranks)
{
    if (lost != c->best_lost) {
        return lost < c->best_lost;
    }
    if (ranks != c->best_ranks) {
        return ranks < c->best_ranks;
    }
    return is_higher(c->chosen, c->best, c->num_chosen);
}

/* What is lost takes a while to count, and matters where there is a choice. */
static void weigh(cut *c, const uint64_t *accused)
{
    uint64_t out[EEPK_SEAT_WORDS], best[EEPK_SEAT_WORDS], lost = UNKNOWN;
    int ranks;

    leave_out(c, c->chosen, c->num_chosen, accused, out);
    ranks = num_seats(out);
    if (c->num_best != 0) {
        leave_out(c, c->best, c->num_best, accused, best);
        c->best_lost =
            c->best_lost == UNKNOWN ? c->given->num_lost(c->given->user, best) : c->best_lost;
        lost = c->given->num_lost(c->given->user, out);
        if (!is_better(c, lost, ranks)) {
            return;
        }
    }
    memcpy(c->best, c->chosen, (size_t)c->num_chosen * sizeof *c->best);
    c->num_best = c->num_chosen;
    c->best_lost = lost;
    c->best_ranks = ranks;
}

static void choose(cut *c, int host)
{
    c->is_chosen[host] = true;
    c->chosen[c->num_chosen++] = host;
}

static void unchoose(cut *c)
{
    c->is_chosen[c->chosen[--c->num_chosen]] = false;
}

/* All sets of at most so many hosts more. */
static void search(cut *c, int most, const uint64_t *accused)
{
    int a, b;

    if (!find_open(c, &a, &b)) {
        weigh(c, accused);
        return;
    }
    for (int i = 0; i < 2 && most > 0; i++) {
        choose(c, i ? b : a);
        search(c, most - 1, accused);
        unchoose(c);
    }
}

/* How many seats of other hosts are in an open pair with the host. */
static int num_pairs(const cut *c, int host)
{
    uint64_t accused[EEPK_SEAT_WORDS], others[EEPK_SEAT_WORDS] = {0};

    for (int by = 0; by < c->given->max_ranks; by++) {
        if (c->host[by] == NOBODY || c->is_chosen[c->host[by]] || !accused_by(c, by, accused)) {
            continue;
        }
        for (int seat = 0; seat < c->given->max_ranks; seat++) {
            if (!has(accused, seat) || c->is_chosen[c->host[seat]]) {
                continue;
            }
            if (c->host[by] == host) {
                set(others, c->host[seat]);
            } else if (c->host[seat] == host) {
                set(others, c->host[by]);
            }
        }
    }
    return num_seats(others);
}

static void choose_greedily(cut *c)
{
    int a, b;

    while (find_open(c, &a, &b)) {
        int most = 0, host = a;
        for (int seat = 0; seat < c->given->max_ranks; seat++) {
            const int pairs = c->host[seat] == seat && !c->is_chosen[seat] ? num_pairs(c, seat) : 0;
            if (pairs > 0 && pairs >= most) {
                most = pairs;
                host = seat;
            }
        }
        choose(c, host);
    }
}

bool eepi_host_cut_find(const eepi_host_cut *given, uint64_t *out, uint64_t *accused_out)
{
    uint64_t accused[EEPK_SEAT_WORDS];
    cut c = {.given = given};
    bool any = false;

    memset(out, 0, EEPK_SEAT_WORDS * sizeof *out);
    memset(accused_out, 0, EEPK_SEAT_WORDS * sizeof *accused_out);
    find_hosts(&c);
    for (int by = 0; by < given->max_ranks; by++) {
        const bool does = accused_by(&c, by, accused);
        for (int word = 0; does && word < EEPK_SEAT_WORDS; word++) {
            accused_out[word] |= accused[word];
        }
        any |= does;
    }
    if (!any) {
        return false;
    }
    for (int most = 1; most <= MOST_EXACT && c.num_best == 0; most++) {
        search(&c, most, accused_out);
    }
    if (c.num_best == 0) {
        choose_greedily(&c);
        leave_out(&c, c.chosen, c.num_chosen, accused_out, out);
        return true;
    }
    leave_out(&c, c.best, c.num_best, accused_out, out);
    return true;
}
