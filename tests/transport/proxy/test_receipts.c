/* SPDX-License-Identifier: Apache-2.0 */
/* Receipts of a connection on which messages come in any order, and twice (rule N4). */
#include "transport/proxy/lane_receipts.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 100, BASE = 1000 };

typedef struct heard {
    int times[4 * SLOTS];
    int num;
} heard;

static void placed(void *user, uint64_t claim)
{
    heard *h = user;

    cr_assert(claim >= BASE && claim < BASE + 4 * SLOTS);
    h->times[claim - BASE]++;
    h->num++;
}

static eepi_lane_receipts opened(void)
{
    eepi_lane_receipts r;

    cr_assert(eepi_lane_receipts_open(&r, BASE, SLOTS));
    return r;
}

/* What the sender is told, if it knows of `base` and has sent `num`. */
static heard say(const eepi_lane_receipts *r, uint64_t base, uint64_t num)
{
    uint64_t words[2 + SLOTS / 64 + 1];
    const size_t num_words = eepi_lane_receipts_write(r, words);
    heard h = {0};

    cr_assert_leq(num_words, eepi_lane_receipts_most(SLOTS));
    cr_expect(eepi_lane_receipts_read(words, num_words, base, BASE + num, placed, &h));
    return h;
}

Test(receipts, N4_each_has_a_bit_in_any_order)
{
    eepi_lane_receipts r = opened();
    heard h;

    cr_expect(eepi_lane_receipts_add(&r, BASE + 2));
    cr_expect(eepi_lane_receipts_add(&r, BASE + 70));
    cr_expect(eepi_lane_receipts_add(&r, BASE + 70), "twice is once");
    h = say(&r, BASE, 90);
    cr_expect(h.num == 2 && h.times[2] == 1 && h.times[70] == 1);
    cr_expect(eepi_lane_receipts_add(&r, BASE + 1));
    cr_expect(eepi_lane_receipts_add(&r, BASE));
    h = say(&r, BASE, 90);
    cr_expect(h.num == 4 && h.times[0] == 1 && h.times[1] == 1 && h.times[2] == 1);
    cr_expect_eq(r.base, BASE + 3);
    h = say(&r, BASE + 3, 90);
    cr_expect(h.num == 1 && h.times[70] == 1);
    eepi_lane_receipts_close(&r);
}

Test(receipts, what_is_resent_may_have_been_placed)
{
    eepi_lane_receipts r = opened();

    cr_expect(eepi_lane_receipts_add(&r, BASE - 1), "before this connection");
    cr_expect_eq(say(&r, BASE, 1).num, 0);
    eepi_lane_receipts_close(&r);
}

Test(receipts, claims_go_round_the_ring)
{
    eepi_lane_receipts r = opened();
    uint64_t known = BASE;

    srand(7);
    for (uint64_t at = BASE; at < BASE + 3 * SLOTS; at += 10) {
        for (int tries = 0; tries < 200; tries++) {
            cr_expect(eepi_lane_receipts_add(&r, at + (uint64_t)rand() % 10));
        }
        for (uint64_t i = 0; i < 10; i++) {
            cr_expect(eepi_lane_receipts_add(&r, at + i));
        }
        cr_expect_eq(say(&r, known, 4 * SLOTS).num, (int)(at + 10 - known));
        known = at + 10;
    }
    eepi_lane_receipts_close(&r);
}

Test(receipts, what_no_rank_sends_is_refused)
{
    eepi_lane_receipts r = opened();
    const uint64_t ahead[] = {BASE + 5}, bit[] = {BASE, 1ull << 9};
    heard h = {0};

    cr_expect(!eepi_lane_receipts_add(&r, BASE + SLOTS), "more than the ring has");
    cr_expect(!eepi_lane_receipts_read(ahead, 1, BASE, BASE + 4, placed, &h));
    cr_expect(!eepi_lane_receipts_read(bit, 2, BASE, BASE + 9, placed, &h));
    cr_expect(!eepi_lane_receipts_read(bit, 0, BASE, BASE + 9, placed, &h));
    cr_expect_eq(h.num, 0);
    eepi_lane_receipts_close(&r);
}
