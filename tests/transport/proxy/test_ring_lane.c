/* SPDX-License-Identifier: Apache-2.0 */
/* A ring between the kernels' primitives and a lane, without a network. */
#include "transport/proxy/ring_lane.h"

#include "graphs/kernels/peer_puts.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 6, SELF = 1, PEER = 2, ROW_BYTES = 100, THREADS = 4, ROWS_OF_A_THREAD = 40 };

typedef struct ring_fixture {
    eepk_world world;
    eepk_control control;
    eepk_queue queue;
    uint8_t *bank;
    eepi_ring_lane *lane;
    eepk_sender sender;
} ring_fixture;

static const eep_grid one = {0, 1, 0, 1};

static void open_ring(ring_fixture *f, uint32_t slots)
{
    eepk_shape *s = &f->world.shape;
    size_t bytes;

    memset(f, 0, sizeof *f);
    *s = (eepk_shape){.max_ranks = 4,
                      .self = SELF,
                      .row_bytes = ROW_BYTES,
                      .num_queues = 1,
                      .ring_slots = slots,
                      .bank_off_generation = 1024,
                      .bank_off_peer = 2048};
    f->bank = calloc(1, 4096);
    bytes = eepk_ring_bytes(slots, eepk_slot_bytes(s));
    f->queue.ring = aligned_alloc(EEPK_LINE_BYTES, bytes);
    cr_assert(f->bank && f->queue.ring);
    memset(f->queue.ring, 0, bytes);
    f->world.queue = &f->queue;
    f->world.control = &f->control;
    f->world.bank[0] = f->bank;
    f->control.latch.epoch = 7;
    f->control.latch.step = 1ull << 40;
    ((uint32_t *)(f->bank + 1024))[SELF] = 3;
    ((uint32_t *)(f->bank + 1024))[PEER] = 4;
    ((eepk_peer *)(f->bank + 2048))[PEER] = (eepk_peer){.kind = EEPK_PEER_PROXY, .queue = 0};
    f->lane = eepi_ring_lane_open(f->queue.ring, slots, eepk_slot_bytes(s), SELF, PEER);
    cr_assert_not_null(f->lane);
    f->sender = (eepk_sender){&f->world, &f->control.latch, f->bank, {5, 0, EEPK_PHASE_COMBINE}};
    eepk_rings_begin(&f->world);
}

static void close_ring(ring_fixture *f)
{
    eepi_ring_lane_close(f->lane);
    free(f->queue.ring);
    free(f->bank);
}

static void put_row(ring_fixture *f, int content)
{
    uint8_t row[ROW_BYTES];

    memset(row, content, sizeof row);
    eepk_put_rows(&f->world, f->sender.at, PEER, 1000 + (uint64_t)content, row, sizeof row, one);
}

static eepi_lane_message take(ring_fixture *f, uint32_t kind)
{
    eepi_lane_message message;

    cr_assert(eepi_ring_lane_take(f->lane, &message));
    cr_assert_eq(message.put.kind, kind, "kind %u", message.put.kind);
    return message;
}

static bool is_empty(ring_fixture *f)
{
    eepi_lane_message message;

    return !eepi_ring_lane_take(f->lane, &message);
}

Test(ring_lane, what_is_put_comes_out_with_its_names)
{
    ring_fixture f;
    eepi_lane_message message;

    open_ring(&f, SLOTS);
    cr_assert(is_empty(&f));
    cr_assert(eepk_reserve(&f.sender, PEER, 2));
    put_row(&f, 11);
    put_row(&f, 12);
    eepk_put_tag(&f.sender, PEER, 640, 99);
    for (uint32_t i = 0; i < 2; i++) {
        message = take(&f, EEPK_PUT_ROWS);
        cr_expect(message.put.epoch == 7 && message.put.step == 1ull << 40);
        cr_expect(message.put.layer == 5 && message.put.phase == EEPK_PHASE_COMBINE);
        cr_expect(message.put.source_generation == 3 && message.put.target_generation == 4);
        cr_expect(message.put.source == SELF && message.put.target == PEER);
        cr_expect(message.put.offset == 1011 + i && message.put.bytes == ROW_BYTES);
        cr_expect_eq(message.put.pieces, i);
        cr_expect_eq(((const uint8_t *)message.bytes)[ROW_BYTES - 1], 11 + i);
        eepi_ring_lane_complete(f.lane, message.claim);
    }
    message = take(&f, EEPK_PUT_TAG);
    cr_expect(message.put.value == 99 && message.put.offset == 640 && message.put.pieces == 2);
    cr_expect_null(message.bytes);
    cr_expect(!eepi_ring_lane_is_idle(f.lane));
    eepi_ring_lane_complete(f.lane, message.claim);
    cr_expect(eepi_ring_lane_is_idle(f.lane) && is_empty(&f));
    close_ring(&f);
}

/* So the network sends rows while others are still put. */
Test(ring_lane, rows_wake_the_network_before_their_tag)
{
    ring_fixture f;
    const uint32_t *doorbell;

    open_ring(&f, 2 * EEPK_ROWS_TO_WAKE);
    doorbell = &((const eepk_ring_limit *)f.queue.ring)->doorbell;
    cr_assert(eepk_reserve(&f.sender, PEER, 2 * EEPK_ROWS_TO_WAKE - 1));
    for (int i = 1; i < 2 * EEPK_ROWS_TO_WAKE; i++) {
        put_row(&f, i);
        cr_expect_eq(*doorbell, (uint32_t)i / EEPK_ROWS_TO_WAKE, "row %d", i);
    }
    close_ring(&f);
}

Test(ring_lane, N5_a_slot_is_its_lanes_until_it_is_completed)
{
    ring_fixture f;
    eepi_lane_message message[SLOTS];

    open_ring(&f, SLOTS);
    cr_assert(eepk_reserve(&f.sender, PEER, SLOTS - 1));
    for (int i = 0; i < SLOTS - 1; i++) {
        put_row(&f, i);
    }
    eepk_put_tag(&f.sender, PEER, 640, 99);
    for (int i = 0; i < SLOTS; i++) {
        message[i] = take(&f, i < SLOTS - 1 ? EEPK_PUT_ROWS : EEPK_PUT_TAG);
    }
    cr_assert(!eepk_reserve(&f.sender, PEER, 1), "taken is not completed");
    for (int i = SLOTS - 1; i > 0; i--) {
        eepi_ring_lane_complete(f.lane, message[i].claim);
        cr_assert(!eepk_reserve(&f.sender, PEER, 1), "the oldest is read still");
    }
    for (int i = 0; i < SLOTS - 1; i++) {
        cr_expect_eq(((const uint8_t *)message[i].bytes)[0], i);
    }
    eepi_ring_lane_complete(f.lane, message[0].claim);
    cr_assert(eepk_reserve(&f.sender, PEER, SLOTS - 1));
    close_ring(&f);
}

/* No row of an exchange is put that could not be ended. */
Test(ring_lane, N5_room_is_taken_for_a_whole_exchange)
{
    ring_fixture f;

    open_ring(&f, SLOTS);
    cr_assert(!eepk_reserve(&f.sender, PEER, SLOTS), "the tag wants a slot, too");
    cr_assert(eepk_reserve(&f.sender, PEER, SLOTS - 1));
    put_row(&f, 1);
    eepk_put_tag(&f.sender, PEER, 640, 99);
    cr_expect_eq(f.queue.reserved, f.queue.claimed, "what was not used is given back");
    cr_assert(eepk_reserve(&f.sender, PEER, SLOTS - 3));
    put_row(&f, 2);
    cr_assert(!eepk_reserve(&f.sender, PEER, SLOTS));
    eepk_rings_begin(&f.world); /* that step was aborted */
    cr_expect_eq(f.queue.reserved, 3);
    cr_assert(eepk_reserve(&f.sender, PEER, SLOTS - 4));
    cr_assert_eq(f.queue.pieces[0], 0);
    close_ring(&f);
}

/* Two chains have their own pieces, and share the room. */
Test(ring_lane, P4_chains_count_their_own_pieces)
{
    ring_fixture f;
    eepk_sender other;

    open_ring(&f, SLOTS);
    other = f.sender;
    other.at.chain = 1;
    cr_assert(eepk_reserve(&f.sender, PEER, 2));
    cr_assert(!eepk_reserve(&other, PEER, 3));
    cr_assert(eepk_reserve(&other, PEER, 2));
    put_row(&f, 1);
    f.sender.at.chain = 1;
    put_row(&f, 2);
    eepk_put_tag(&f.sender, PEER, 640, 99);
    cr_expect_eq(take(&f, EEPK_PUT_ROWS).put.pieces, 0);
    cr_expect_eq(take(&f, EEPK_PUT_ROWS).put.pieces, 0);
    cr_expect_eq(take(&f, EEPK_PUT_TAG).put.pieces, 1);
    close_ring(&f);
}

Test(ring_lane, N3_an_abort_word_overtakes_and_is_not_overtaken)
{
    ring_fixture f;
    eepi_lane_message message;

    open_ring(&f, SLOTS);
    cr_assert(eepk_reserve(&f.sender, PEER, 3));
    put_row(&f, 1);
    eepk_put_abort(&f.sender, PEER, 320, 77);
    put_row(&f, 2);
    message = take(&f, EEPK_PUT_ABORT);
    cr_expect(message.put.value == 77 && message.put.offset == 320);
    cr_expect(message.put.epoch == 7 && message.put.step == 1ull << 40);
    cr_expect(message.put.source_generation == 3 && message.put.target_generation == 4);
    cr_expect_eq(message.claim, EEPI_LANE_NO_CLAIM);
    cr_expect_eq(take(&f, EEPK_PUT_ROWS).put.offset, 1001);
    eepk_put_abort(&f.sender, PEER, 320, 78);
    cr_expect_eq(take(&f, EEPK_PUT_ABORT).put.value, 78);
    cr_expect_eq(take(&f, EEPK_PUT_ROWS).put.offset, 1002);
    cr_expect(is_empty(&f), "a word is told once");
    close_ring(&f);
}

Test(ring_lane, N3_a_begin_word_overtakes_a_full_ring)
{
    ring_fixture f;
    eepi_lane_message message;

    open_ring(&f, SLOTS);
    cr_assert(eepk_reserve(&f.sender, PEER, SLOTS - 1));
    for (int i = 0; i < SLOTS - 1; i++) {
        put_row(&f, i);
    }
    eepi_ring_put_begin(f.queue.ring, 8, 1000, 2, 999, 3, 4);
    message = take(&f, EEPK_PUT_BEGIN);
    cr_expect(message.put.epoch == 8 && message.put.step == 1000 && message.put.completed == 999);
    cr_expect_eq(message.put.shape, 2, "rule P6");
    cr_expect(message.put.source_generation == 3 && message.put.target_generation == 4);
    close_ring(&f);
}

/* ---------------------------------------------------------------- many warps */

typedef struct putter {
    ring_fixture *f;
    int first;
} putter;

static void *put_rows_of_a_thread(void *argument)
{
    const putter *p = argument;

    for (int i = 0; i < ROWS_OF_A_THREAD; i++) {
        put_row(p->f, (p->first + i) % 256);
    }
    return NULL;
}

Test(ring_lane, each_claim_is_one_warps)
{
    const int all = THREADS * ROWS_OF_A_THREAD;
    bool seen[THREADS * ROWS_OF_A_THREAD] = {false};
    putter putters[THREADS];
    pthread_t threads[THREADS];
    ring_fixture f;

    open_ring(&f, THREADS * ROWS_OF_A_THREAD + 1);
    cr_assert(eepk_reserve(&f.sender, PEER, (uint64_t)all));
    for (int i = 0; i < THREADS; i++) {
        putters[i] = (putter){&f, i * ROWS_OF_A_THREAD};
        cr_assert_eq(pthread_create(&threads[i], NULL, put_rows_of_a_thread, &putters[i]), 0);
    }
    for (int n = 0; n < all;) {
        eepi_lane_message message;
        if (!eepi_ring_lane_take(f.lane, &message)) {
            continue;
        }
        const uint8_t *row = message.bytes;
        for (int i = 0; i < ROW_BYTES; i++) {
            cr_assert_eq(row[i], (uint8_t)(message.put.offset - 1000), "torn");
        }
        cr_assert(!seen[message.put.pieces]);
        seen[message.put.pieces] = true;
        eepi_ring_lane_complete(f.lane, message.claim);
        n++;
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    close_ring(&f);
}
