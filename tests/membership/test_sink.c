/* SPDX-License-Identifier: Apache-2.0 */
/* The token sink: exact match of owner and position, against a brute-force log of what was
 * accepted. */
#include "eep/sink.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

Test(sink, accepts_positions_in_order_from_the_owner)
{
    eep_sink *sink = NULL;
    cr_assert_eq(eep_sink_open(2, &sink), EEP_OK);
    cr_assert_eq(eep_sink_offer(sink, 0, 0, 3, 1, 0), EEP_ERR_NOT_OWNER, "nobody owns it yet");
    cr_assert_eq(eep_sink_assign(sink, 0, 3, 1), EEP_OK);
    cr_assert_eq(eep_sink_offer(sink, 0, 0, 3, 1, 0), EEP_OK);
    cr_assert_eq(eep_sink_offer(sink, 0, 0, 3, 1, 0), EEP_ERR_DUPLICATE, "emitted twice");
    cr_assert_eq(eep_sink_offer(sink, 0, 0, 3, 1, 2), EEP_ERR_AHEAD, "a gap");
    cr_assert_eq(eep_sink_offer(sink, 0, 0, 3, 1, 1), EEP_OK);
    cr_assert_eq(eep_sink_next_position(sink, 0), 2);
    cr_assert_eq(eep_sink_next_position(sink, 1), 0);
    cr_assert_eq(eep_sink_refused(sink), 3);
    eep_sink_close(sink);
}

Test(sink, a_zombie_of_the_same_seat_is_refused)
{
    eep_sink *sink = NULL;
    cr_assert_eq(eep_sink_open(1, &sink), EEP_OK);
    cr_assert_eq(eep_sink_assign(sink, 0, 3, 1), EEP_OK);
    cr_assert_eq(eep_sink_offer(sink, 0, 0, 3, 1, 0), EEP_OK);
    cr_assert_eq(eep_sink_revoke(sink, 0), EEP_OK);
    cr_assert_eq(eep_sink_offer(sink, 0, 0, 3, 1, 1), EEP_ERR_NOT_OWNER);
    cr_assert_eq(eep_sink_assign(sink, 0, 3, 2), EEP_OK);
    cr_assert_eq(eep_sink_offer(sink, 0, 0, 3, 1, 1), EEP_ERR_NOT_OWNER, "the old generation");
    cr_assert_eq(eep_sink_offer(sink, 0, 0, 2, 2, 1), EEP_ERR_NOT_OWNER, "another seat");
    cr_assert_eq(eep_sink_offer(sink, 0, 0, 3, 2, 1), EEP_OK);
    eep_sink_close(sink);
}

/* A late token of an earlier use comes from the very rank that has the number again. */
Test(sink, a_number_can_be_used_again)
{
    eep_sink *sink = NULL;
    cr_assert_eq(eep_sink_open(1, &sink), EEP_OK);
    cr_assert_eq(eep_sink_assign(sink, 0, 3, 1), EEP_OK);
    cr_assert_eq(eep_sink_offer(sink, 0, 0, 3, 1, 0), EEP_OK);
    cr_assert_eq(eep_sink_release(sink, 0), EEP_OK);
    cr_assert_eq(eep_sink_incarnation(sink, 0), 1);
    cr_assert_eq(eep_sink_next_position(sink, 0), 0);
    cr_assert_eq(eep_sink_offer(sink, 0, 1, 3, 1, 0), EEP_ERR_NOT_OWNER, "nobody has it yet");
    cr_assert_eq(eep_sink_assign(sink, 0, 3, 1), EEP_OK);
    cr_assert_eq(eep_sink_offer(sink, 0, 0, 3, 1, 0), EEP_ERR_NOT_OWNER, "of the earlier use");
    cr_assert(strstr(eep_error_text(), "use 1"), "%s", eep_error_text());
    cr_assert_eq(eep_sink_offer(sink, 0, 1, 3, 1, 0), EEP_OK);
    cr_assert_eq(eep_sink_offer(sink, 0, 0, 3, 1, 1), EEP_ERR_NOT_OWNER);
    cr_assert_eq(eep_sink_offer(sink, 0, 1, 3, 1, 0), EEP_ERR_DUPLICATE);
    cr_assert(strstr(eep_error_text(), "the next one is 1"), "%s", eep_error_text());
    eep_sink_close(sink);
}

Test(sink, refuses_what_is_out_of_range)
{
    eep_sink *sink = NULL;
    cr_assert_eq(eep_sink_open(0, &sink), EEP_ERR_INVALID);
    cr_assert_null(sink);
    cr_assert_eq(eep_sink_open(1, &sink), EEP_OK);
    cr_assert_eq(eep_sink_assign(sink, 1, 0, 1), EEP_ERR_INVALID);
    cr_assert_eq(eep_sink_assign(sink, 0, -1, 1), EEP_ERR_INVALID);
    cr_assert_eq(eep_sink_assign(sink, 0, 0, 0), EEP_ERR_INVALID);
    cr_assert_eq(eep_sink_revoke(sink, 1), EEP_ERR_INVALID);
    cr_assert_eq(eep_sink_offer(sink, 1, 0, 0, 1, 0), EEP_ERR_INVALID);
    eep_sink_close(sink);
}

Test(sink, random_offers_emit_each_position_once)
{
    enum { REQUESTS = 7, ROUNDS = 20000 };
    const unsigned seed = 20260511;
    uint32_t emitted[REQUESTS] = {0}, uses[REQUESTS] = {0}, refused = 0;
    int32_t owner[REQUESTS];
    uint32_t generation[REQUESTS];
    eep_sink *sink = NULL;
    unsigned state = seed;
    cr_assert_eq(eep_sink_open(REQUESTS, &sink), EEP_OK);
    for (int r = 0; r < REQUESTS; r++) {
        owner[r] = -1;
    }
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t r = (uint32_t)rand_r(&state) % REQUESTS;
        int32_t seat = rand_r(&state) % 3;
        uint32_t gen = 1 + (uint32_t)rand_r(&state) % 2;
        switch (rand_r(&state) % 8) {
        case 0:
            cr_assert_eq(eep_sink_assign(sink, r, seat, gen), EEP_OK);
            owner[r] = seat;
            generation[r] = gen;
            break;
        case 1:
            cr_assert_eq(eep_sink_revoke(sink, r), EEP_OK);
            owner[r] = -1;
            break;
        case 2:
            if (rand_r(&state) % 16 == 0) {
                cr_assert_eq(eep_sink_release(sink, r), EEP_OK);
                uses[r]++;
                emitted[r] = 0;
                owner[r] = -1;
            }
            break;
        default: {
            uint32_t position = emitted[r] + (uint32_t)(rand_r(&state) % 3);
            uint32_t use = uses[r] - (uses[r] > 0 && rand_r(&state) % 4 == 0);
            position -= position > 0;
            bool owns = owner[r] == seat && generation[r] == gen && use == uses[r];
            bool right = owns && position == emitted[r];
            eep_status expected = !owns                   ? EEP_ERR_NOT_OWNER
                                  : position < emitted[r] ? EEP_ERR_DUPLICATE
                                  : position > emitted[r] ? EEP_ERR_AHEAD
                                                          : EEP_OK;
            eep_status status = eep_sink_offer(sink, r, use, seat, gen, position);
            cr_assert_eq(status, expected, "seed %u round %d", seed, round);
            emitted[r] += right;
            refused += !right;
        }
        }
        cr_assert_eq(eep_sink_next_position(sink, r), emitted[r]);
        cr_assert_eq(eep_sink_incarnation(sink, r), uses[r]);
    }
    cr_assert_eq(eep_sink_refused(sink), refused);
    eep_sink_close(sink);
}
