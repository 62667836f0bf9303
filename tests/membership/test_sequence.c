/* SPDX-License-Identifier: Apache-2.0 */
/* The order of a step's nodes with one chain and with two (rule P5). */
#include "experiments/base/random.h"
#include "membership/context/sequence.h"

#include <criterion/criterion.h>
#include <string.h>

enum { LAYERS = 3, HALVES = EEPK_NODES_PER_LAYER * LAYERS };

static const eepi_sequence_place place = {.stream = &place, .capture = 1, .is_captured = true};
static const eepi_sequence_part latch = {.node = EEPI_NODE_LATCH};
static const eepi_sequence_part finish = {.node = EEPI_NODE_FINISH};
static char why[512];

static bool put_at(eepi_sequence *s, const eepi_sequence_part *part, const eepi_sequence_place *at)
{
    if (!eepi_sequence_may(s, part, at, why, sizeof why)) {
        return false;
    }
    eepi_sequence_put(s, part, at);
    return true;
}

/* Half `number` of a chain. */
static bool put_half(eepi_sequence *s, int chain, int number, uint64_t capture)
{
    const eepi_sequence_part part = {EEPI_NODE_HALF,
                                     number / EEPK_NODES_PER_LAYER,
                                     chain,
                                     number % EEPK_NODES_PER_LAYER,
                                     false,
                                     0,
                                     0};
    eepi_sequence_place at = place;

    at.capture = capture;
    return put_at(s, &part, &at);
}

static bool put_end(eepi_sequence *s, const eepi_sequence_part *part, uint64_t capture)
{
    eepi_sequence_place at = place;

    at.capture = capture;
    return put_at(s, part, &at);
}

/* A step whose chains mix as a number says; false: a half was refused. */
static bool put_step(eepi_sequence *s, uint64_t mix, uint64_t capture)
{
    int done[2] = {0, 0};

    if (!put_end(s, &latch, capture)) {
        return false;
    }
    for (int i = 0; i < 2 * HALVES; i++) {
        int chain = (int)(random_next(&mix) % 2);
        chain = done[chain] < HALVES ? chain : 1 - chain;
        if (!put_half(s, chain, done[chain]++, capture)) {
            return false;
        }
    }
    return put_end(s, &finish, capture);
}

static eepi_sequence opened(int num_chains)
{
    eepi_sequence s;

    cr_assert_eq(eepi_sequence_open(&s, LAYERS, num_chains), EEP_OK);
    return s;
}

Test(sequence, one_chain_has_one_order)
{
    eepi_sequence s = opened(1), longer;
    const uint64_t digest = eepi_sequence_digest(&s, 0);

    cr_assert_eq(eepi_sequence_open(&longer, LAYERS + 1, 1), EEP_OK);
    cr_expect_neq(digest, 0);
    cr_expect_neq(digest, eepi_sequence_digest(&longer, 0));
    cr_expect(put_end(&s, &latch, 1));
    for (int i = 0; i < HALVES; i++) {
        for (int other = 0; other < HALVES; other++) {
            if (other != i) {
                cr_expect(!put_half(&s, 0, other, 1), "%d in the place of %d", other, i);
            }
        }
        cr_expect(!put_end(&s, &finish, 1));
        cr_expect(put_half(&s, 0, i, 1), "%s", why);
    }
    cr_expect(put_end(&s, &finish, 1), "%s", why);
    cr_expect_eq(eepi_sequence_digest(&s, 0), digest);
    eepi_sequence_close(&s);
    eepi_sequence_close(&longer);
}

Test(sequence, P5_the_first_whole_step_fixes_how_chains_mix)
{
    for (uint64_t mix = 1; mix < 60; mix++) {
        eepi_sequence s = opened(2), twin = opened(2);
        cr_expect_eq(eepi_sequence_digest(&s, 0), 0, "nothing was put yet");
        cr_expect(put_step(&s, mix, 1), "%s", why);
        cr_expect(put_step(&s, mix, 2), "again: %s", why);
        cr_expect(put_step(&twin, mix, 1), "%s", why);
        cr_expect_eq(eepi_sequence_digest(&s, 0), eepi_sequence_digest(&twin, 0));
        cr_expect(!put_step(&s, mix + 1000, 3));
        cr_expect(strstr(why, "chains mix as in the first whole step"), "%s", why);
        eepi_sequence_drop(&s);
        cr_expect(put_step(&s, mix, 4), "the order stays: %s", why);
        eepi_sequence_close(&twin);
        twin = opened(2);
        cr_expect(put_step(&twin, mix + 1000, 1), "%s", why);
        cr_expect_neq(eepi_sequence_digest(&s, 0), eepi_sequence_digest(&twin, 0));
        eepi_sequence_close(&s);
        eepi_sequence_close(&twin);
    }
}

/* What is not finished decides nothing. */
Test(sequence, P5_a_step_that_is_dropped_fixes_nothing)
{
    eepi_sequence s = opened(2);

    cr_expect(put_end(&s, &latch, 1));
    cr_expect(put_half(&s, 1, 0, 1), "%s", why);
    cr_expect(!put_half(&s, 1, 2, 1), "its receive is missing");
    eepi_sequence_drop(&s);
    cr_expect_eq(eepi_sequence_digest(&s, 0), 0);
    cr_expect(put_end(&s, &latch, 2), "%s", why);
    for (int i = 0; i < HALVES; i++) {
        cr_expect(put_half(&s, 0, i, 2), "%s", why);
    }
    cr_expect(!put_end(&s, &finish, 2), "the other chain lacks all");
    cr_expect(strstr(why, "eep_dispatch of layer 0, chain 1"), "%s", why);
    for (int i = 0; i < HALVES; i++) {
        cr_expect(put_half(&s, 1, i, 2), "%s", why);
    }
    cr_expect(put_end(&s, &finish, 2), "%s", why);
    cr_expect_neq(eepi_sequence_digest(&s, 0), 0);
    eepi_sequence_close(&s);
}
