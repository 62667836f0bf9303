/* SPDX-License-Identifier: Apache-2.0 */
/* A waiting rank reads several words of a peer, one after the other. Here the peer goes on between
 * any two of these reads: it publishes the tag that is waited for, completes the step, and begins
 * the next one, flips and begins it, or begins it and gives it up. A healthy step never ends by
 * that. The kernel's own body runs; each of its loads is a place where the peer may go on. */
#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/table_layout.h"

#include <criterion/criterion.h>
#include <string.h>

enum { STEP = 41, EPOCH = 7, PEER = 1, WINDOW_BYTES = 16 * EEPK_LINE_BYTES };

static const eepk_exchange_at combine = {0, 0, EEPK_PHASE_COMBINE};

typedef enum peer_move { NEXT_STEP, NEXT_VIEW, NEXT_STEP_GIVEN_UP, NUM_MOVES } peer_move;

static struct race {
    eepk_world world;
    eepk_latch latch;
    _Alignas(EEPK_LINE_BYTES) uint8_t window[WINDOW_BYTES];
    peer_move move;
    int loads, goes_on_after; /* so many loads */
} race;

static void peer_goes_on(void)
{
    const eepk_shape *s = &race.world.shape;
    uint64_t epoch = EPOCH + (race.move == NEXT_VIEW);

    eepk_store_release(eepk_combine_tag(s, race.window, 0, PEER),
                       eepk_tag(EPOCH, STEP, 0, EEPK_PHASE_COMBINE));
    eepk_store_release(eepk_dispatch_tag(s, race.window, 0, PEER),
                       eepk_tag(epoch, STEP + 1, 0, EEPK_PHASE_DISPATCH));
    if (race.move == NEXT_STEP_GIVEN_UP) {
        eepk_store_release(eepk_abort_word(s, race.window, PEER),
                           eepk_abort_word_of(epoch, STEP + 1, 0));
    }
}

static uint64_t load_and_let_go_on(const uint64_t *word)
{
    uint64_t value = eepk_load_acquire(word);

    if (++race.loads == race.goes_on_after) {
        peer_goes_on();
    }
    return value;
}

#define eepk_load_acquire load_and_let_go_on
#include "graphs/kernels/exchange.h"

static void begin(peer_move move, int goes_on_after)
{
    eepk_shape *s = &race.world.shape;

    memset(&race, 0, sizeof(race));
    *s = (eepk_shape){.max_ranks = 2, .num_layers = 1, .num_chains = 1, .num_shapes = 1};
    s->shapes[0].num_chunks = 1;
    s->off_combine_tag = 4 * EEPK_LINE_BYTES;
    s->off_abort = 8 * EEPK_LINE_BYTES;
    race.world.window = race.window;
    race.latch.step = STEP;
    race.latch.epoch = EPOCH;
    race.move = move;
    race.goes_on_after = goes_on_after;
    eepk_store_release(eepk_dispatch_tag(s, race.window, 0, PEER),
                       eepk_tag(EPOCH, STEP, 0, EEPK_PHASE_DISPATCH));
}

/* How many loads a look takes while nothing happens. */
static int loads_of_a_look(void)
{
    begin(NEXT_STEP, 0);
    cr_assert_eq(eepk_seat_look(&race.world, &race.latch, combine, PEER), EEPK_SEAT_PENDING);
    return race.loads;
}

Test(kernel_race, D5_a_peer_that_goes_on_between_two_reads_ends_no_step)
{
    int loads = loads_of_a_look();

    cr_assert_geq(loads, 3);
    for (int move = 0; move < NUM_MOVES; move++) {
        for (int after = 1; after <= loads; after++) {
            begin((peer_move)move, after);
            int look = eepk_seat_look(&race.world, &race.latch, combine, PEER);
            cr_expect_neq(look, EEPK_SEAT_ENDED, "move %d after load %d: result %u", move, after,
                          race.latch.status.result);
            look = eepk_seat_look(&race.world, &race.latch, combine, PEER);
            cr_expect_eq(look, EEPK_SEAT_ARRIVED, "move %d after load %d", move, after);
        }
    }
}

/* A peer that is ahead and has not been in this step ends it as before. */
Test(kernel_race, D5_a_peer_that_is_ahead_ends_the_step)
{
    for (int move = 0; move < NUM_MOVES; move++) {
        const eepk_shape *s = &race.world.shape;
        begin((peer_move)move, 0);
        peer_goes_on();
        eepk_store_release(eepk_combine_tag(s, race.window, 0, PEER), 0);
        cr_expect_eq(eepk_seat_look(&race.world, &race.latch, combine, PEER), EEPK_SEAT_ENDED,
                     "move %d", move);
    }
}
