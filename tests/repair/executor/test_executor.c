/* SPDX-License-Identifier: Apache-2.0 */
/* The repair executor: a slot is filled with bytes of the view's checksum, or refused. */
#include "graphs/device/device_ops.h"
#include "repair/checksum.h"
#include "repair/executor/executor.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOT_BYTES = 3000, OTHER_BYTES = 1000, POISON = 0x5a };

/* Rank 0 must fill a slot with expert 1, whose backups are its own and rank 1's. Rank 1 is played
 * by the same bulk: its address is ours, and `served` is what it hands out. */
typedef struct world {
    eep_device *device;
    eepi_bulk *bulk;
    eepi_executor *executor;
    eepi_view *view;
    uint8_t good[SLOT_BYTES + OTHER_BYTES], own[SLOT_BYTES + OTHER_BYTES];
    uint8_t served[SLOT_BYTES + OTHER_BYTES], slot[SLOT_BYTES + OTHER_BYTES];
    eep_tensor own_tensors[2], slot_tensors[2];
    int has_own, done, any_slot, is_away;
    char why[256];
    eep_status status;
    uint64_t bytes;
} world;

static int serve(void *user, const eepi_blob *blob, uint64_t bytes, eepi_bulk_part *parts_out)
{
    world *w = user;

    (void)bytes;
    if (blob->expert != 1) {
        return 0;
    }
    parts_out[0] = (eepi_bulk_part){w->served, SLOT_BYTES};
    parts_out[1] = (eepi_bulk_part){w->served + SLOT_BYTES, OTHER_BYTES};
    return 2;
}

static void landed(void *user, uint64_t transfer, uint64_t offset, const void *data, uint64_t bytes)
{
    world *w = user;

    eepi_executor_landed(w->executor, transfer, offset, data, bytes);
}

static void fetched(void *user, uint64_t transfer, eep_status status)
{
    world *w = user;

    eepi_executor_fetched(w->executor, w->bulk, transfer, status);
}

static const eep_tensor *slot_of(void *user, int32_t layer, int32_t slot)
{
    world *w = user;

    cr_assert(layer == 0 && (slot == 1 || w->any_slot));
    return w->slot_tensors;
}

static const eep_tensor *backup_of(void *user, int32_t layer, int32_t expert)
{
    world *w = user;

    cr_assert(layer == 0 && expert == 1);
    return w->has_own ? w->own_tensors : NULL;
}

static size_t address_of(void *user, int32_t seat, const void **address_out)
{
    world *w = user;
    size_t bytes;

    cr_assert_eq(seat, 1);
    if (w->is_away) {
        return 0;
    }
    eepi_bulk_address(w->bulk, address_out, &bytes);
    return bytes;
}

static void done(void *user, uint64_t digest, eep_status status, uint64_t bytes, const char *why)
{
    world *w = user;

    snprintf(w->why, sizeof w->why, "%s", why);
    cr_assert_eq(digest, w->view->digest);
    w->done++;
    w->status = status;
    w->bytes = bytes;
}

static void open_world(world *w, int has_own)
{
    eepi_view_shape shape = {2, 1, 2, 2};
    eepi_executor_config config = {.seat = 0,
                                   .num_tensors = 2,
                                   .num_layers = 1,
                                   .num_slots = 2,
                                   .background_bytes_per_s = 1000000,
                                   .tensor_bytes = {SLOT_BYTES, OTHER_BYTES},
                                   .fetch_timeout_us = 2000000,
                                   .slot = slot_of,
                                   .backup = backup_of,
                                   .address = address_of,
                                   .done = done,
                                   .user = w};

    memset(w, 0, sizeof *w);
    w->has_own = has_own;
    for (size_t i = 0; i < sizeof w->good; i++) {
        w->good[i] = (uint8_t)(i * 131 + 7);
    }
    memcpy(w->own, w->good, sizeof w->good);
    memcpy(w->served, w->good, sizeof w->good);
    memset(w->slot, POISON, sizeof w->slot);
    w->own_tensors[0] = (eep_tensor){w->own, SLOT_BYTES};
    w->own_tensors[1] = (eep_tensor){w->own + SLOT_BYTES, OTHER_BYTES};
    w->slot_tensors[0] = (eep_tensor){w->slot, SLOT_BYTES};
    w->slot_tensors[1] = (eep_tensor){w->slot + SLOT_BYTES, OTHER_BYTES};
    w->view = eepi_view_new(&shape);
    w->view->epoch = 2;
    w->view->phase = EEPI_VIEW_REPAIRING;
    w->view->cause = EEPI_VIEW_FAULT;
    for (int seat = 0; seat < 2; seat++) {
        *eepi_view_seat_at(w->view, seat) =
            (eepi_view_seat){.generation = 1, .state = EEP_SEAT_ACTIVE};
        eepi_view_set_backup(w->view, seat, 0, 1, seat == 1 || has_own);
    }
    *eepi_view_slot_at(w->view, 0, 0, 0) = (eepi_view_slot){0, EEPI_NO_SEAT, EEPI_SLOT_HOLDS};
    *eepi_view_slot_at(w->view, 0, 0, 1) = (eepi_view_slot){1, 1, EEPI_SLOT_FILLING};
    *eepi_view_checksum_at(w->view, 0, 1) = eepi_checksum_bytes(w->good, sizeof w->good);
    eepi_view_seal(w->view);
    cr_assert_eq(eep_device_open("host", 0, &w->device), EEP_OK);
    config.device = w->device;
    eepi_bulk_config bulk = {
        .carrier = EEP_BULK_UCX, .serve = serve, .land = landed, .done = fetched, .user = w};
    cr_assert_eq(eepi_bulk_open(&bulk, NULL, 0, &w->bulk), EEP_OK);
    cr_assert_eq(eepi_executor_open(&config, &w->executor), EEP_OK);
}

static void run_world(world *w)
{
    eepi_executor_start(w->executor, w->bulk, w->view, 0);
    for (int i = 0; i < 5000 && !w->done; i++) {
        struct pollfd fd = {eepi_bulk_fd(w->bulk), POLLIN, 0};
        while (eepi_bulk_progress(w->bulk)) {
            ;
        }
        eepi_executor_tick(w->executor, w->bulk, (uint64_t)i * 1000);
        if (!w->done && eepi_executor_wake_us(w->executor) > 0) {
            poll(&fd, 1, 1);
        }
    }
    cr_assert_eq(w->done, 1, "the executor says done exactly once");
}

static void close_world(world *w)
{
    eepi_bulk_close(w->bulk);
    eepi_executor_close(w->executor);
    eep_device_close(w->device);
    free(w->view);
}

static int slot_is(const world *w, const uint8_t *bytes)
{
    return memcmp(w->slot, bytes, sizeof w->slot) == 0;
}

static int slot_is_untouched(const world *w)
{
    for (size_t i = 0; i < sizeof w->slot; i++) {
        if (w->slot[i] != POISON) {
            return 0;
        }
    }
    return 1;
}

Test(executor, local_reuse_needs_no_transfer)
{
    world w;

    open_world(&w, 1);
    memset(w.served, 0, sizeof w.served);
    run_world(&w);
    cr_assert_eq(w.status, EEP_OK);
    cr_assert_eq(w.bytes, sizeof w.good);
    cr_assert(slot_is(&w, w.good));
    close_world(&w);
}

Test(executor, a_peers_backup_fills_the_slot)
{
    world w;

    open_world(&w, 0);
    run_world(&w);
    cr_assert_eq(w.status, EEP_OK);
    cr_assert(slot_is(&w, w.good));
    close_world(&w);
}

Test(executor, S6_a_corrupted_copy_is_replaced_by_another)
{
    world w;

    open_world(&w, 1);
    w.own[1234] ^= 1;
    run_world(&w);
    cr_assert_eq(w.status, EEP_OK);
    cr_assert(slot_is(&w, w.good), "the peer's bytes, not the corrupted ones");
    close_world(&w);
}

static void corrupt_both(world *w)
{
    w->own[0] ^= 0x80;
    w->served[sizeof w->served - 1] ^= 1;
}

Test(executor, S6_wrong_bytes_are_refused)
{
    world w;

    open_world(&w, 1);
    corrupt_both(&w);
    run_world(&w);
    cr_assert_eq(w.status, EEP_ERR_UNCOVERED);
    close_world(&w);
}

/* Behind live traffic, and on a device whose memory the CPU cannot write. */
Test(executor, S6_no_byte_reaches_a_slot_without_its_checksum)
{
    world w;

    open_world(&w, 1);
    corrupt_both(&w);
    w.view->phase = EEPI_VIEW_SERVING;
    w.view->cause = EEPI_VIEW_PLANNED;
    eepi_view_seal(w.view);
    run_world(&w);
    cr_assert_eq(w.status, EEP_ERR_UNCOVERED);
    cr_assert(slot_is_untouched(&w));
    close_world(&w);
}

/* The text that an operator reads names what happened, not what happens most often. */
Test(executor, says_of_which_rank_no_copy_could_be_had_and_why)
{
    world w;

    open_world(&w, 0);
    w.is_away = 1;
    run_world(&w);
    cr_assert_eq(w.status, EEP_ERR_UNCOVERED);
    cr_expect(strstr(w.why, "rank 1") && strstr(w.why, eep_strerror(EEP_ERR_UNREACHABLE)), "%s",
              w.why);
    cr_expect(!strstr(w.why, "checksum"), "%s", w.why);
    w.is_away = w.done = 0;
    w.served[0] ^= 1;
    run_world(&w);
    cr_expect(strstr(w.why, "rank 1") && strstr(w.why, eep_strerror(EEP_ERR_CHECKSUM)), "%s",
              w.why);
    close_world(&w);
}

Test(executor, cancelled_work_never_says_done)
{
    world w;

    open_world(&w, 0);
    eepi_executor_start(w.executor, w.bulk, w.view, 0);
    eepi_executor_cancel(w.executor);
    eepi_bulk_cancel_before(w.bulk, 3);
    for (int i = 0; i < 100; i++) {
        eepi_bulk_progress(w.bulk);
    }
    cr_assert_eq(w.done, 0);
    cr_assert(slot_is_untouched(&w));
    close_world(&w);
}

/* A voided plan that is made again finds what the slot holds already (L3). */
Test(executor, L3_what_was_filled_before_is_not_copied_again)
{
    world w;

    open_world(&w, 0);
    run_world(&w);
    cr_assert_eq(w.bytes, sizeof w.good);
    memset(w.served, 0, sizeof w.served); /* nobody has it any more */
    w.done = 0;
    run_world(&w);
    cr_assert_eq(w.status, EEP_OK);
    cr_assert_eq(w.bytes, 0);
    w.slot[17] ^= 1; /* not what it was: it is looked at, not trusted */
    w.done = 0;
    run_world(&w);
    cr_assert_eq(w.status, EEP_ERR_UNCOVERED);
    close_world(&w);
}

/* A live replica is a source as good as a backup. */
Test(executor, a_peers_slot_fills_the_slot)
{
    world w;

    open_world(&w, 0);
    eepi_view_set_backup(w.view, 1, 0, 1, false);
    *eepi_view_slot_at(w.view, 0, 1, 0) = (eepi_view_slot){1, EEPI_NO_SEAT, EEPI_SLOT_HOLDS};
    eepi_view_seal(w.view);
    run_world(&w);
    cr_assert_eq(w.status, EEP_OK);
    cr_assert(slot_is(&w, w.good));
    close_world(&w);
}

/* The copy into a slot may take its time. */
static void tick_at(world *w, uint64_t now_us)
{
    eepi_executor_tick(w->executor, w->bulk, now_us);
    while (eepi_executor_wake_us(w->executor) == 0) {
        eepi_executor_tick(w->executor, w->bulk, now_us);
    }
}

/* Behind live traffic the next slot waits until the bytes of the last one are paid for. */
Test(executor, behind_live_traffic_the_rate_is_kept)
{
    world w;
    const uint64_t cost_us = sizeof w.good; /* at 1,000,000 bytes per second */

    open_world(&w, 1);
    w.view->phase = EEPI_VIEW_SERVING;
    w.view->cause = EEPI_VIEW_PLANNED;
    *eepi_view_slot_at(w.view, 0, 0, 0) = (eepi_view_slot){1, 0, EEPI_SLOT_FILLING};
    w.any_slot = 1;
    eepi_view_seal(w.view);
    eepi_executor_start(w.executor, w.bulk, w.view, 5);
    cr_assert_eq(w.done, 0, "one of two");
    cr_assert_eq(eepi_executor_wake_us(w.executor), 5 + cost_us, "read, not placed yet");
    tick_at(&w, 5 + cost_us - 1);
    cr_assert_eq(eepi_executor_wake_us(w.executor), 5 + cost_us);
    tick_at(&w, 5 + cost_us);
    cr_assert_eq(eepi_executor_wake_us(w.executor), 5 + cost_us + cost_us / 4,
                 "the first is there");
    tick_at(&w, 5 + cost_us + cost_us / 4);
    cr_assert_eq(eepi_executor_wake_us(w.executor), 5 + 2 * cost_us + cost_us / 4);
    cr_assert_eq(w.done, 0);
    tick_at(&w, 5 + 2 * cost_us + cost_us / 4);
    cr_assert_eq(w.done, 1);
    cr_assert_eq(w.bytes, 2 * sizeof w.good);
    cr_assert_eq(eepi_executor_wake_us(w.executor), UINT64_MAX);
    close_world(&w);
}
