/* SPDX-License-Identifier: Apache-2.0 */
/* A play of several sources for the repair executor. */
#include "tests/repair/executor/executor_play.h"

#include "repair/checksum.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

executor_play play;

/* ---------------------------------------------------------------- in the place of the copier */

eep_status eepi_bulk_fetch(eepi_bulk *bulk, const void *peer_address, size_t address_bytes,
                           const eepi_blob *blob, void *buffer, size_t bytes, uint64_t timeout_us,
                           uint64_t *transfer_out)
{
    (void)bulk;
    (void)timeout_us;
    cr_assert_eq(address_bytes, sizeof(int));
    cr_assert_lt(play.num_fetches, MOST_FETCHES);
    cr_assert(blob->total == BYTES && blob->offset + bytes <= BYTES);
    played_fetch *f = &play.fetches[play.num_fetches++];
    *f = (played_fetch){.blob = *blob, .buffer = buffer, .bytes = bytes};
    memcpy(&f->seat, peer_address, sizeof f->seat);
    play.seats[f->seat].asked++;
    *transfer_out = (uint64_t)play.num_fetches;
    return EEP_OK;
}

void eepi_bulk_cancel(eepi_bulk *bulk, uint64_t transfer)
{
    (void)bulk;
    play.fetches[transfer - 1].over = true;
    play.num_cancelled++;
}

/* The bytes of a fetch, by chunks where they land in the slot. */
static void arrive(int at, bool corrupted)
{
    const played_fetch *f = &play.fetches[at];
    uint8_t *bytes = f->buffer ? f->buffer : malloc(f->bytes);

    memcpy(bytes, play.good + f->blob.offset, f->bytes);
    bytes[f->bytes / 2] ^= corrupted;
    for (size_t done = 0; !f->buffer && done < f->bytes; done += 3 * EEPI_BULK_GRAIN_BYTES) {
        const size_t rest = f->bytes - done;
        eepi_executor_landed(play.executor, (uint64_t)at + 1, done, bytes + done,
                             rest < 3 * EEPI_BULK_GRAIN_BYTES ? rest : 3 * EEPI_BULK_GRAIN_BYTES);
    }
    if (!f->buffer) {
        free(bytes);
    }
}

static conduct conduct_of(int seat)
{
    const seat_play *s = &play.seats[seat];

    return s->is == ABSENT ? s->file : s->is;
}

void play_answer(int at)
{
    played_fetch *f = &play.fetches[at];
    seat_play *s = &play.seats[f->seat];
    const conduct is = conduct_of(f->seat);
    const bool is_dead = s->dies_after > 0 && s->answered >= s->dies_after;
    eep_status status = is_dead           ? EEP_ERR_UNREACHABLE
                        : is == NOT_FOUND ? EEP_ERR_NOT_FOUND
                                          : EEP_OK;
    f->over = true;
    if (status == EEP_OK) {
        arrive(at, is == CORRUPTED);
        s->answered++;
    }
    eepi_executor_fetched(play.executor, NULL, (uint64_t)at + 1, status);
}

int play_num_outstanding(int seat)
{
    int num = 0;
    for (int i = 0; i < play.num_fetches; i++) {
        num += !play.fetches[i].over && (seat < 0 || play.fetches[i].seat == seat);
    }
    return num;
}

/* ---------------------------------------------------------------- what the executor asks */

static const eep_tensor *slot_of(void *user, int32_t layer, int32_t slot)
{
    (void)user;
    cr_assert(layer == 0 && slot == 1);
    return play.slot_tensors;
}

static const eep_tensor *backup_of(void *user, int32_t layer, int32_t expert)
{
    (void)user;
    cr_assert(layer == 0 && (expert == 1 || play.any_expert));
    return play.own ? play.own_tensors : NULL;
}

static bool owns_backup(void *user, int32_t layer, int32_t expert)
{
    (void)user;
    cr_assert(layer == 0 && expert == 1);
    return !play.own_is_of_node;
}

static size_t address_of(void *user, int32_t seat, const void **address_out)
{
    static const int numbers[SEATS] = {0, 1, 2, 3, 4};
    (void)user;
    *address_out = &numbers[seat];
    return sizeof(int);
}

static eep_status read_checkpoint(void *user, int32_t layer, int32_t expert, size_t offset,
                                  void *buffer, size_t bytes)
{
    (void)user;
    cr_assert(layer == 0 && expert == 1 && bytes <= EEPI_SEGMENT_BYTES);
    if (play.checkpoint_reads++ == play.checkpoint_fails_after) {
        return EEP_ERR_SYSTEM;
    }
    memcpy(buffer, play.good + offset, bytes);
    *(uint8_t *)buffer ^= play.checkpoint_is_corrupted;
    return EEP_OK;
}

static void note(void *user, const char *text)
{
    (void)user;
    play.notes++;
    snprintf(play.note, sizeof play.note, "%s", text);
}

static void done(void *user, uint64_t digest, eep_status status, uint64_t bytes, const char *why)
{
    (void)user;
    cr_assert_eq(digest, play.view->digest);
    play.done++;
    play.status = status;
    play.bytes = bytes;
    snprintf(play.why, sizeof play.why, "%s", why);
}

/* ---------------------------------------------------------------- the play */

eep_tensor *play_split(eep_tensor *tensors, uint8_t *bytes)
{
    tensors[0] = (eep_tensor){bytes, FIRST_BYTES};
    tensors[1] = (eep_tensor){bytes + FIRST_BYTES, BYTES - FIRST_BYTES};
    return tensors;
}

void open_play(void)
{
    play.good = malloc(BYTES);
    play.slot = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) {
        play.good[i] = (uint8_t)(i * 131 + (i >> 11) + 7);
    }
    memset(play.slot, POISON, BYTES);
    play_split(play.slot_tensors, play.slot);
    play.checkpoint_fails_after = -1;
    cr_assert_eq(eep_device_open("host", 0, &play.device), EEP_OK);
}

void close_play(void)
{
    eepi_executor_close(play.executor);
    eep_device_close(play.device);
    free(play.view);
    free(play.good);
    free(play.slot);
    free(play.own);
    memset(&play, 0, sizeof play);
}

void play_begin(int source, eepi_view_phase phase)
{
    const eepi_view_shape shape = {
        .max_ranks = SEATS, .num_layers = 1, .num_experts = 2, .num_slots = 2, .ranks_per_node = 1};
    eepi_executor_config config = {.device = play.device,
                                   .num_tensors = 2,
                                   .tensor_bytes = {FIRST_BYTES, BYTES - FIRST_BYTES},
                                   .num_layers = 1,
                                   .num_slots = 2,
                                   .background_bytes_per_s = 1000000000,
                                   .fetch_timeout_us = 2000000,
                                   .segments_per_source = play.per_source,
                                   .slot = slot_of,
                                   .backup = backup_of,
                                   .owns_backup = owns_backup,
                                   .address = address_of,
                                   .checkpoint = play.has_checkpoint ? read_checkpoint : NULL,
                                   .note = note,
                                   .done = done};
    play.view = eepi_view_new(&shape);
    play.view->epoch = 2;
    play.view->phase = phase;
    play.view->cause = EEPI_VIEW_FAULT;
    for (int seat = 0; seat < SEATS; seat++) {
        *eepi_view_seat_at(play.view, seat) =
            (eepi_view_seat){.generation = 1,
                             .state = EEP_SEAT_ACTIVE,
                             .flags = play.seats[seat].file ? EEPI_SEAT_HAS_CHECKPOINT : 0};
        if (seat > 0 && play.seats[seat].is != ABSENT && seat % 2 == 0) {
            eepi_view_set_backup(play.view, seat, 0, 1, true);
        } else if (seat > 0 && play.seats[seat].is != ABSENT) {
            *eepi_view_slot_at(play.view, 0, seat, 0) =
                (eepi_view_slot){.expert = 1, .source = EEPI_NO_SEAT, .state = EEPI_SLOT_HOLDS};
        }
    }
    *eepi_view_slot_at(play.view, 0, 0, 1) =
        (eepi_view_slot){.expert = 1, .source = (uint16_t)source, .state = EEPI_SLOT_FILLING};
    *eepi_view_checksum_at(play.view, 0, 1) = eepi_checksum_bytes(play.good, BYTES);
    eepi_view_seal(play.view);
    cr_assert_eq(eepi_executor_open(&config, &play.executor), EEP_OK);
    eepi_executor_start(play.executor, NULL, play.view, play.now_us);
}

void play_run(void)
{
    for (int turn = 0; turn < 10 * MOST_FETCHES && !play.done; turn++) {
        int at = 0;
        while (at < play.num_fetches &&
               (play.fetches[at].over || conduct_of(play.fetches[at].seat) == MUTE)) {
            at++;
        }
        if (at < play.num_fetches) {
            play_answer(at);
        } else {
            const uint64_t wake_us = eepi_executor_wake_us(play.executor);
            cr_assert_neq(wake_us, UINT64_MAX, "it waits for nothing");
            play.now_us = wake_us > play.now_us ? wake_us : play.now_us;
        }
        eepi_executor_tick(play.executor, NULL, play.now_us);
    }
    cr_assert_eq(play.done, 1, "the executor says done exactly once");
}

void expect_filled(void)
{
    cr_assert_eq(play.status, EEP_OK, "%s", play.why);
    cr_assert(memcmp(play.slot, play.good, BYTES) == 0);
}

void expect_refused(void)
{
    cr_assert_eq(play.status, EEP_ERR_UNCOVERED);
    for (size_t i = 0; i < BYTES && play.view->phase == EEPI_VIEW_SERVING; i++) {
        cr_assert(play.slot[i] == POISON, "byte %zu", i);
    }
}
