/* SPDX-License-Identifier: Apache-2.0 */
/* Load shares against the bound that every split obeys, found by trying all sets of seats. */
#include "tests/lib/planner_fixture.h"
#include "repair/placement/shares.h"

enum { MAX_SEATS = 6, MAX_SLOTS = 5, MAX_EXPERTS = 9 };

typedef struct layer {
    int seats, slots, experts;
    int32_t expert[MAX_SEATS * MAX_SLOTS];
    uint32_t loads[MAX_EXPERTS];
} layer;

static layer random_layer(uint64_t *random)
{
    layer l = {.seats = 1 + below(random, MAX_SEATS),
               .slots = 1 + below(random, MAX_SLOTS),
               .experts = 1 + below(random, MAX_EXPERTS)};

    for (int i = 0; i < l.seats * l.slots; i++) {
        l.expert[i] = below(random, 5) ? below(random, l.experts) : -1;
    }
    for (int e = 0; e < l.experts; e++) {
        l.loads[e] = below(random, 6) ? (uint32_t)below(random, 1000) : 0;
    }
    return l;
}

/* The largest mean load that a set of seats must carry: of the experts that only they hold. */
static double bound_of(const layer *l)
{
    double bound = 0;

    for (int set = 1; set < 1 << l->seats; set++) {
        double load = 0;
        int size = 0;
        for (int seat = 0; seat < l->seats; seat++) {
            size += set >> seat & 1;
        }
        for (int e = 0; e < l->experts; e++) {
            bool inside = false, outside = false;
            for (int i = 0; i < l->seats * l->slots; i++) {
                inside = inside || (l->expert[i] == e && set >> i / l->slots & 1);
                outside = outside || (l->expert[i] == e && !(set >> i / l->slots & 1));
            }
            load += inside && !outside ? l->loads[e] : 0;
        }
        bound = load / size > bound ? load / size : bound;
    }
    return bound;
}

static double peak_of(const layer *l, const uint16_t *shares)
{
    double most = 0;

    for (int seat = 0; seat < l->seats; seat++) {
        double load = 0;
        for (int i = seat * l->slots; i < (seat + 1) * l->slots; i++) {
            load += l->expert[i] >= 0 ? (double)l->loads[l->expert[i]] * shares[i] / 65535 : 0;
        }
        most = load > most ? load : most;
    }
    return most;
}

static void expect_whole(const layer *l, const uint16_t *shares, uint64_t seed)
{
    uint32_t sum[MAX_EXPERTS] = {0};
    bool has[MAX_EXPERTS] = {0};

    for (int i = 0; i < l->seats * l->slots; i++) {
        if (l->expert[i] >= 0) {
            sum[l->expert[i]] += shares[i];
            has[l->expert[i]] = true;
        } else {
            cr_assert_eq(shares[i], 0);
        }
    }
    for (int e = 0; e < l->experts; e++) {
        cr_assert_eq(sum[e], has[e] ? EEPI_SHARE_WHOLE : 0, "expert %d: %u, " REPLAY, e, sum[e],
                     SEED(seed));
    }
}

Test(shares, reach_the_bound_that_holds_for_every_split)
{
    for (uint64_t seed = first_seed(), end = seed + 1000; seed < end; seed++) {
        uint64_t random = seed;
        const layer l = random_layer(&random);
        uint16_t shares[MAX_SEATS * MAX_SLOTS], again[MAX_SEATS * MAX_SLOTS];
        eepi_shares *work = eepi_shares_new(l.seats, l.slots, l.experts);

        cr_assert_not_null(work);
        eepi_shares_split(work, l.expert, l.loads, 1000, shares);
        expect_whole(&l, shares, seed);
        uint64_t total = 0;
        for (int e = 0; e < l.experts; e++) {
            total += l.loads[e];
        }
        if (total > 0) {
            const double bound = bound_of(&l);
            cr_assert_leq(peak_of(&l, shares), bound + 0.001 * (double)total, "bound %f, " REPLAY,
                          bound, SEED(seed));
        }
        /* what the memory saw before does not matter */
        eepi_shares_split(work, l.expert, NULL, 3, again);
        expect_whole(&l, again, seed);
        eepi_shares_split(work, l.expert, l.loads, 1000, again);
        cr_assert_arr_eq(shares, again, sizeof *shares * (size_t)(l.seats * l.slots));
        eepi_shares_free(work);
    }
}

/* Ranks 0 and 1 share expert 0, ranks 1 and 2 expert 1: the middle one gives load away. */
Test(shares, an_unequal_split_relieves_the_rank_that_holds_both)
{
    static const int32_t experts[] = {0, 2, 0, 1, 1, 3};
    static const uint32_t loads[] = {400, 400, 50, 50};
    uint16_t shares[6];
    eepi_shares *work = eepi_shares_new(3, 2, 4);

    cr_assert_not_null(work);
    cr_assert_eq(eepi_shares_peak(work, experts, loads, NULL), 1333333);
    eepi_shares_split(work, experts, loads, EEPI_SHARES_SWEEPS, shares);
    cr_assert_eq(shares[1], EEPI_SHARE_WHOLE, "the only replica");
    cr_assert(shares[0] > 40800 && shares[0] < 41100, "%u of 65535 are 250 of 400", shares[0]);
    cr_assert_leq(eepi_shares_peak(work, experts, loads, shares), 1000100);
    eepi_shares_free(work);
}

Test(shares, without_loads_a_symmetric_layer_is_split_equally)
{
    static const int32_t experts[] = {0, 1, 1, 2, 2, 0, -1, -1};
    uint16_t shares[8];
    eepi_shares *work = eepi_shares_new(4, 2, 3);

    cr_assert_not_null(work);
    eepi_shares_split(work, experts, NULL, EEPI_SHARES_SWEEPS, shares);
    for (int i = 0; i < 6; i++) {
        cr_assert(shares[i] == 32767 || shares[i] == 32768, "slot %d: %u", i, shares[i]);
    }
    eepi_shares_free(work);
}

/* 32 ranks of 16 slots, one of them lost: the equal split of what is left is 1.1 to 1.3 times the
 * mean, the unequal one near 1. */
Test(shares, a_lost_rank_is_balanced_without_a_move)
{
    enum { SEATS = 32, SLOTS = 16, EXPERTS = 256 };
    static int32_t experts[SEATS * SLOTS];
    static uint16_t shares[SEATS * SLOTS];
    static uint32_t loads[EXPERTS];
    uint64_t random = first_seed();
    eepi_shares *work = eepi_shares_new(SEATS, SLOTS, EXPERTS);

    cr_assert_not_null(work);
    for (int e = 0; e < EXPERTS; e++) {
        loads[e] = 500 + (uint32_t)below(&random, 1000);
        experts[e] = e;
        experts[EXPERTS + e] = (e * 37 + 11) % EXPERTS;
    }
    for (int slot = 0; slot < SLOTS; slot++) {
        experts[5 * SLOTS + slot] = -1;
    }
    const uint32_t before = eepi_shares_peak(work, experts, loads, NULL);
    eepi_shares_split(work, experts, loads, EEPI_SHARES_SWEEPS, shares);
    const uint32_t after = eepi_shares_peak(work, experts, loads, shares);
    cr_assert_gt(before, 1100000, "%u", before);
    cr_assert_lt(after, 1005000, "%u of %u", after, before);
    eepi_shares_free(work);
}
