/* SPDX-License-Identifier: Apache-2.0 */
/* Which hosts go where hosts do not hear each other (rule N10), against all sets of hosts. */
#include "experiments/base/random.h"
#include "graphs/kernels/table_layout.h"
#include "membership/hosts/host_cut.h"

#include <criterion/criterion.h>
#include <string.h>

enum { SEATS = 12, HOSTS = 6 };

static struct {
    eepi_view_seat seats[SEATS];
    uint64_t members[EEPK_SEAT_WORDS], accused[SEATS][EEPK_SEAT_WORDS];
    uint64_t precious; /* the expert of each such seat is lost with it */
} w;

static bool has(const uint64_t *bits, int seat)
{
    return bits[seat / 64] >> (seat % 64) & 1u;
}

static const uint64_t *accused_by(const void *user, int by)
{
    (void)user;
    return w.accused[by];
}

static uint64_t num_lost(const void *user, const uint64_t *out)
{
    (void)user;
    return (uint64_t)__builtin_popcountll(out[0] & w.precious);
}

static bool find(uint64_t *out)
{
    const eepi_host_cut given = {w.seats, SEATS, w.members, accused_by, num_lost, NULL};
    uint64_t cut[EEPK_SEAT_WORDS], accused[EEPK_SEAT_WORDS];
    const bool any = eepi_host_cut_find(&given, cut, accused);

    *out = cut[0];
    return any;
}

static void accuse(int by, int seat)
{
    w.accused[by][0] |= 1ull << seat;
}

/* Two seats on each host. */
static void begin(void)
{
    memset(&w, 0, sizeof w);
    for (int seat = 0; seat < SEATS; seat++) {
        w.seats[seat].host = 100 + (uint64_t)(seat / 2);
        w.members[0] |= 1ull << seat;
    }
}

static void cut_off(int host, int other)
{
    for (int i = 0; i < 4; i++) {
        accuse(2 * host + i / 2, 2 * other + i % 2);
    }
}

Test(host_cut, N10_a_host_that_nobody_hears_goes_alone)
{
    uint64_t out;

    begin();
    cr_expect(!find(&out), "nobody is accused");
    for (int host = 0; host < HOSTS; host++) {
        if (host != 2) {
            cut_off(host, 2);
        }
    }
    cr_expect(find(&out));
    cr_expect_eq(out, 3ull << 4);
}

Test(host_cut, N10_of_a_pair_one_goes)
{
    uint64_t out;

    begin();
    cut_off(1, 4);
    cut_off(4, 1);
    cr_expect(find(&out));
    cr_expect_eq(out, 3ull << 8, "the one with the higher seats");
    w.precious = 1ull << 9;
    cr_expect(find(&out));
    cr_expect_eq(out, 3ull << 2, "unless experts are lost with it");
    w.precious |= 1ull << 2;
    w.members[0] &= ~(1ull << 3);
    cr_expect(find(&out));
    cr_expect_eq(out, 1ull << 2, "as many are lost: fewer ranks go");
}

Test(host_cut, N10_one_way_is_enough)
{
    uint64_t out;

    begin();
    cut_off(4, 1);
    cr_expect(find(&out));
    cr_expect_eq(out, 3ull << 8);
}

/* Its host answers: it is stuck. */
Test(host_cut, N10_a_rank_that_is_stuck_goes_alone)
{
    uint64_t out;

    begin();
    for (int by = 4; by < SEATS; by++) {
        accuse(by, 1);
    }
    cr_expect(find(&out));
    cr_expect_eq(out, 1ull << 1);
}

Test(host_cut, N10_who_goes_anyway_accuses_nobody)
{
    uint64_t out;

    begin();
    cut_off(4, 1);
    w.members[0] &= ~(3ull << 2);
    cr_expect(!find(&out));
    cr_expect_eq(out, 0);
}

static bool touches_all(uint32_t hosts)
{
    for (int by = 0; by < SEATS; by++) {
        for (int seat = 0; seat < SEATS; seat++) {
            if (has(w.accused[by], seat) && has(w.members, by) && has(w.members, seat) &&
                by / 2 != seat / 2 && !(hosts >> by / 2 & 1u) && !(hosts >> seat / 2 & 1u)) {
                return false;
            }
        }
    }
    return true;
}

Test(host_cut, N10_no_smaller_set_touches_all_pairs)
{
    uint64_t random = 20;

    for (int history = 0; history < 3000; history++) {
        const int pairs = 1 + (int)(random_next(&random) % 7);
        uint64_t out;
        uint32_t hosts = 0, least = HOSTS;
        begin();
        w.precious = random_next(&random) & random_next(&random) & 0xfff;
        w.members[0] &= ~(random_next(&random) & random_next(&random) & random_next(&random));
        for (int i = 0; i < pairs; i++) {
            cut_off((int)(random_next(&random) % HOSTS), (int)(random_next(&random) % HOSTS));
        }
        for (uint32_t set = 0; set < 1u << HOSTS; set++) {
            const uint32_t size = (uint32_t)__builtin_popcount(set);
            least = touches_all(set) && size < least ? size : least;
        }
        cr_expect_eq(find(&out), least > 0);
        for (int seat = 0; seat < SEATS; seat++) {
            hosts |= has(&out, seat) ? 1u << seat / 2 : 0;
        }
        cr_assert_eq((uint32_t)__builtin_popcount(hosts), least, "history %d", history);
        cr_assert(touches_all(hosts), "history %d", history);
        cr_assert_eq(out & ~w.members[0], 0);
    }
}
