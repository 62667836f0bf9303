/* SPDX-License-Identifier: Apache-2.0 */
/* The repair executor over several sources, each of which may be corrupted, die, stall or have
 * nothing. The bulk copier is played here: a fetch ends when the test says so. */
#include "repair/checksum.h"
#include "repair/executor/executor.h"
#include "repair/executor/slot_fill.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SEATS = 5,
    SEGMENTS = 12,
    FIRST_BYTES = 5 * EEPI_SEGMENT_BYTES / 2, /* no tensor ends where a segment does */
    BYTES = (SEGMENTS - 1) * EEPI_SEGMENT_BYTES + 4321,
    POISON = 0x5a,
    MOST_FETCHES = 4096
};

typedef enum conduct { ABSENT, GOOD, CORRUPTED, MUTE, NOT_FOUND } conduct;

/* One source as a test wants it. */
typedef struct seat_play {
    conduct is;
    int dies_after; /* answers; 0: it does not */
    int answered;   /* segments */
    int asked;
} seat_play;

typedef struct played_fetch {
    int seat;
    bool over;
    eepi_blob blob;
    uint8_t *buffer;
    size_t bytes;
} played_fetch;

static struct play {
    eep_device *device;
    eepi_executor *executor;
    eepi_view *view;
    seat_play seats[SEATS];
    played_fetch fetches[MOST_FETCHES];
    int num_fetches, num_cancelled;
    uint64_t now_us;
    uint8_t *good, *slot, *own;
    eep_tensor slot_tensors[2], own_tensors[2];
    int checkpoint_reads, checkpoint_fails_after; /* -1: it never does */
    bool has_checkpoint, checkpoint_is_corrupted, any_expert, own_is_of_node;
    int done, notes;
    eep_status status;
    uint64_t bytes;
    char why[400], note[400];
} p;

/* ---------------------------------------------------------------- in the place of the copier */

eep_status eepi_bulk_fetch(eepi_bulk *bulk, const void *peer_address, size_t address_bytes,
                           const eepi_blob *blob, void *buffer, size_t bytes, uint64_t timeout_us,
                           uint64_t *transfer_out)
{
    (void)bulk;
    (void)timeout_us;
    cr_assert_eq(address_bytes, sizeof(int));
    cr_assert_lt(p.num_fetches, MOST_FETCHES);
    cr_assert(blob->total == BYTES && blob->offset + bytes <= BYTES);
    played_fetch *f = &p.fetches[p.num_fetches++];
    *f = (played_fetch){.blob = *blob, .buffer = buffer, .bytes = bytes};
    memcpy(&f->seat, peer_address, sizeof f->seat);
    p.seats[f->seat].asked++;
    *transfer_out = (uint64_t)p.num_fetches;
    return EEP_OK;
}

void eepi_bulk_cancel(eepi_bulk *bulk, uint64_t transfer)
{
    (void)bulk;
    p.fetches[transfer - 1].over = true;
    p.num_cancelled++;
}

/* The bytes of a fetch, by chunks where they land in the slot. */
static void arrive(int at, bool corrupted)
{
    const played_fetch *f = &p.fetches[at];
    uint8_t *bytes = f->buffer ? f->buffer : malloc(f->bytes);

    memcpy(bytes, p.good + f->blob.offset, f->bytes);
    bytes[f->bytes / 2] ^= corrupted;
    for (size_t done = 0; !f->buffer && done < f->bytes; done += EEPI_BULK_CHUNK_BYTES) {
        const size_t rest = f->bytes - done;
        eepi_executor_landed(p.executor, (uint64_t)at + 1, done, bytes + done,
                             rest < EEPI_BULK_CHUNK_BYTES ? rest : EEPI_BULK_CHUNK_BYTES);
    }
    if (!f->buffer) {
        free(bytes);
    }
}

static void answer(int at)
{
    played_fetch *f = &p.fetches[at];
    seat_play *s = &p.seats[f->seat];
    const bool is_dead = s->dies_after > 0 && s->answered >= s->dies_after;
    eep_status status = is_dead              ? EEP_ERR_UNREACHABLE
                        : s->is == NOT_FOUND ? EEP_ERR_NOT_FOUND
                                             : EEP_OK;
    f->over = true;
    if (status == EEP_OK) {
        arrive(at, s->is == CORRUPTED);
        s->answered++;
    }
    eepi_executor_fetched(p.executor, NULL, (uint64_t)at + 1, status);
}

static int num_outstanding(int seat)
{
    int num = 0;
    for (int i = 0; i < p.num_fetches; i++) {
        num += !p.fetches[i].over && (seat < 0 || p.fetches[i].seat == seat);
    }
    return num;
}

/* ---------------------------------------------------------------- what the executor asks */

static const eep_tensor *slot_of(void *user, int32_t layer, int32_t slot)
{
    (void)user;
    cr_assert(layer == 0 && slot == 1);
    return p.slot_tensors;
}

static const eep_tensor *backup_of(void *user, int32_t layer, int32_t expert)
{
    (void)user;
    cr_assert(layer == 0 && (expert == 1 || p.any_expert));
    return p.own ? p.own_tensors : NULL;
}

static bool owns_backup(void *user, int32_t layer, int32_t expert)
{
    (void)user;
    cr_assert(layer == 0 && expert == 1);
    return !p.own_is_of_node;
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
    if (p.checkpoint_reads++ == p.checkpoint_fails_after) {
        return EEP_ERR_SYSTEM;
    }
    memcpy(buffer, p.good + offset, bytes);
    *(uint8_t *)buffer ^= p.checkpoint_is_corrupted;
    return EEP_OK;
}

static void note(void *user, const char *text)
{
    (void)user;
    p.notes++;
    snprintf(p.note, sizeof p.note, "%s", text);
}

static void done(void *user, uint64_t digest, eep_status status, uint64_t bytes, const char *why)
{
    (void)user;
    cr_assert_eq(digest, p.view->digest);
    p.done++;
    p.status = status;
    p.bytes = bytes;
    snprintf(p.why, sizeof p.why, "%s", why);
}

/* ---------------------------------------------------------------- the play */

static eep_tensor *split(eep_tensor *tensors, uint8_t *bytes)
{
    tensors[0] = (eep_tensor){bytes, FIRST_BYTES};
    tensors[1] = (eep_tensor){bytes + FIRST_BYTES, BYTES - FIRST_BYTES};
    return tensors;
}

static void open_play(void)
{
    p.good = malloc(BYTES);
    p.slot = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) {
        p.good[i] = (uint8_t)(i * 131 + (i >> 11) + 7);
    }
    memset(p.slot, POISON, BYTES);
    split(p.slot_tensors, p.slot);
    p.checkpoint_fails_after = -1;
    cr_assert_eq(eep_device_open("host", 0, &p.device), EEP_OK);
}

static void close_play(void)
{
    eepi_executor_close(p.executor);
    eep_device_close(p.device);
    free(p.view);
    free(p.good);
    free(p.slot);
    free(p.own);
    memset(&p, 0, sizeof p);
}

/* Rank 0 must fill its slot 1 with expert 1, which the view says comes from `source`; every seat
 * that is not ABSENT has it, odd ones in a slot and even ones as a backup. */
static void begin(int source, eepi_view_phase phase)
{
    const eepi_view_shape shape = {
        .max_ranks = SEATS, .num_layers = 1, .num_experts = 2, .num_slots = 2, .ranks_per_node = 1};
    eepi_executor_config config = {.device = p.device,
                                   .num_tensors = 2,
                                   .tensor_bytes = {FIRST_BYTES, BYTES - FIRST_BYTES},
                                   .num_layers = 1,
                                   .num_slots = 2,
                                   .background_bytes_per_s = 1000000000,
                                   .fetch_timeout_us = 2000000,
                                   .slot = slot_of,
                                   .backup = backup_of,
                                   .owns_backup = owns_backup,
                                   .address = address_of,
                                   .checkpoint = p.has_checkpoint ? read_checkpoint : NULL,
                                   .note = note,
                                   .done = done};
    p.view = eepi_view_new(&shape);
    p.view->epoch = 2;
    p.view->phase = phase;
    p.view->cause = EEPI_VIEW_FAULT;
    for (int seat = 0; seat < SEATS; seat++) {
        *eepi_view_seat_at(p.view, seat) = (eepi_view_seat){1, EEP_SEAT_ACTIVE, {0}};
        if (seat > 0 && p.seats[seat].is != ABSENT && seat % 2 == 0) {
            eepi_view_set_backup(p.view, seat, 0, 1, true);
        } else if (seat > 0 && p.seats[seat].is != ABSENT) {
            *eepi_view_slot_at(p.view, 0, seat, 0) =
                (eepi_view_slot){.expert = 1, .source = EEPI_NO_SEAT, .state = EEPI_SLOT_HOLDS};
        }
    }
    *eepi_view_slot_at(p.view, 0, 0, 1) =
        (eepi_view_slot){.expert = 1, .source = (uint16_t)source, .state = EEPI_SLOT_FILLING};
    *eepi_view_checksum_at(p.view, 0, 1) = eepi_checksum_bytes(p.good, BYTES);
    eepi_view_seal(p.view);
    cr_assert_eq(eepi_executor_open(&config, &p.executor), EEP_OK);
    eepi_executor_start(p.executor, NULL, p.view, p.now_us);
}

/* Answer the oldest fetch of a source that is not mute, else let time pass; until it is done. */
static void run(void)
{
    for (int turn = 0; turn < 10 * MOST_FETCHES && !p.done; turn++) {
        int at = 0;
        while (at < p.num_fetches &&
               (p.fetches[at].over || p.seats[p.fetches[at].seat].is == MUTE)) {
            at++;
        }
        if (at < p.num_fetches) {
            answer(at);
        } else {
            const uint64_t wake_us = eepi_executor_wake_us(p.executor);
            cr_assert_neq(wake_us, UINT64_MAX, "it waits for nothing");
            p.now_us = wake_us > p.now_us ? wake_us : p.now_us;
        }
        eepi_executor_tick(p.executor, NULL, p.now_us);
    }
    cr_assert_eq(p.done, 1, "the executor says done exactly once");
}

static void expect_filled(void)
{
    cr_assert_eq(p.status, EEP_OK, "%s", p.why);
    cr_assert(memcmp(p.slot, p.good, BYTES) == 0);
}

/* Behind live traffic no byte reaches the slot without its checksum. */
static void expect_refused(void)
{
    cr_assert_eq(p.status, EEP_ERR_UNCOVERED);
    for (size_t i = 0; i < BYTES && p.view->phase == EEPI_VIEW_SERVING; i++) {
        cr_assert(p.slot[i] == POISON, "byte %zu", i);
    }
}

TestSuite(executor_sources, .init = open_play, .fini = close_play);

/* The view's own choice is the first that is asked, and alone where one fetch is enough. */
Test(executor_sources, several_sources_share_an_expert)
{
    p.seats[1].is = p.seats[3].is = p.seats[4].is = GOOD;
    begin(3, EEPI_VIEW_REPAIRING);
    cr_expect_eq(p.fetches[0].seat, 3);
    cr_expect_eq(p.num_fetches, 3 * EEPI_SEGMENTS_PER_SOURCE);
    for (int seat = 1; seat < SEATS; seat++) {
        cr_expect_eq(p.seats[seat].asked, seat == 2 ? 0 : EEPI_SEGMENTS_PER_SOURCE, "rank %d",
                     seat);
    }
    run();
    expect_filled();
    cr_expect_eq(p.bytes, BYTES);
    cr_expect_eq(p.notes, 0, "%s", p.note);
}

Test(executor_sources, one_source_is_asked_for_a_few_segments_at_a_time)
{
    p.seats[2].is = GOOD;
    begin(2, EEPI_VIEW_REPAIRING);
    cr_expect_eq(p.num_fetches, EEPI_SEGMENTS_PER_SOURCE);
    answer(1); /* in any order */
    cr_expect_eq(num_outstanding(2), EEPI_SEGMENTS_PER_SOURCE);
    run();
    expect_filled();
}

/* What has arrived is kept: no byte is fetched twice but what was under way. */
Test(executor_sources, a_dead_sources_segments_go_to_the_others)
{
    p.seats[1] = (seat_play){.is = GOOD, .dies_after = 1};
    p.seats[2].is = GOOD;
    begin(1, EEPI_VIEW_REPAIRING);
    const int under_way = num_outstanding(1);
    run();
    expect_filled();
    cr_expect_eq(p.bytes, BYTES, "each byte arrived once");
    cr_expect_leq(p.num_fetches, SEGMENTS + under_way);
    cr_expect_eq(p.seats[1].answered, 1);
    cr_expect_eq(p.seats[2].answered, SEGMENTS - 1);
}

static void all_are_dead(eepi_view_phase phase)
{
    p.seats[1] = (seat_play){.is = GOOD, .dies_after = 2};
    p.seats[2] = (seat_play){.is = NOT_FOUND};
    p.seats[4] = (seat_play){.is = GOOD, .dies_after = 1};
    begin(1, phase);
    run();
    expect_refused();
    cr_expect(strstr(p.why, "rank 1: ") && strstr(p.why, "rank 2: ") && strstr(p.why, "rank 4: "),
              "%s", p.why);
    cr_expect(strstr(p.why, eep_strerror(EEP_ERR_NOT_FOUND)), "%s", p.why);
}

Test(executor_sources, when_all_are_dead_each_is_named)
{
    all_are_dead(EEPI_VIEW_REPAIRING);
}

Test(executor_sources, M2_behind_live_traffic_when_all_are_dead_the_slot_is_untouched)
{
    all_are_dead(EEPI_VIEW_SERVING);
}

/* A copy that is corrupted is found, wherever it stands, and is named. */
Test(executor_sources, S6_a_corrupted_copy_among_several_is_named)
{
    for (int bad = 1; bad < SEATS; bad += 2) {
        char name[32];
        memset(p.seats, 0, sizeof p.seats);
        p.seats[1].is = p.seats[2].is = p.seats[3].is = GOOD;
        p.seats[bad].is = CORRUPTED;
        begin(1, EEPI_VIEW_REPAIRING);
        run();
        expect_filled();
        snprintf(name, sizeof name, "rank %d", bad);
        cr_expect(p.notes > 0 && strstr(p.note, name), "rank %d: \"%s\"", bad, p.note);
        close_play();
        open_play();
    }
}

static void all_are_corrupted(eepi_view_phase phase)
{
    p.seats[1].is = p.seats[2].is = CORRUPTED;
    p.has_checkpoint = p.checkpoint_is_corrupted = true;
    begin(1, phase);
    run();
    expect_refused();
    cr_expect(strstr(p.why, "rank 1: ") && strstr(p.why, "rank 2: ") &&
                  strstr(p.why, "the checkpoint: ") &&
                  strstr(p.why, eep_strerror(EEP_ERR_CHECKSUM)),
              "%s", p.why);
}

Test(executor_sources, S6_one_corrupted_copy_alone_is_refused)
{
    all_are_corrupted(EEPI_VIEW_REPAIRING);
}

Test(executor_sources, S6_behind_live_traffic_no_byte_reaches_a_slot_without_its_checksum)
{
    all_are_corrupted(EEPI_VIEW_SERVING);
}

/* In a pause bytes land in the slot before their checksum is known. Those that were wrong are not
 * believed later, and are all written over. */
Test(executor_sources, S6_what_was_refused_in_the_slot_is_fetched_again)
{
    p.seats[1].is = p.seats[2].is = CORRUPTED;
    begin(1, EEPI_VIEW_REPAIRING);
    run();
    expect_refused();
    p.seats[1].is = GOOD;
    p.done = p.num_fetches = 0;
    eepi_executor_start(p.executor, NULL, p.view, p.now_us);
    run();
    expect_filled();
    cr_expect_geq(p.bytes, BYTES);
}

/* In between the slot had another expert in part, and then the one that it had before is wanted. */
Test(executor_sources, L3_a_slot_is_not_believed_once_something_else_has_landed)
{
    p.seats[1].is = GOOD;
    begin(1, EEPI_VIEW_REPAIRING);
    run();
    expect_filled();
    p.done = p.num_fetches = 0;
    p.any_expert = true;
    eepi_view_slot_at(p.view, 0, 0, 1)->expert = 0;
    *eepi_view_checksum_at(p.view, 0, 0) = 4711;
    eepi_view_slot_at(p.view, 0, 1, 0)->expert = 0;
    eepi_view_seal(p.view);
    eepi_executor_start(p.executor, NULL, p.view, p.now_us);
    answer(0); /* the same bytes */
    eepi_executor_cancel(p.executor);
    eepi_view_slot_at(p.view, 0, 0, 1)->expert = 1;
    eepi_view_slot_at(p.view, 0, 1, 0)->expert = 1;
    eepi_view_seal(p.view);
    p.num_fetches = 0;
    eepi_executor_start(p.executor, NULL, p.view, p.now_us);
    run();
    expect_filled();
    cr_expect_eq(p.bytes, BYTES, "all of it is fetched");
}

/* A source that no longer answers, and is not known to be gone. */
Test(executor_sources, a_stalled_segment_is_asked_of_an_idle_source)
{
    p.seats[1].is = MUTE;
    p.seats[2].is = GOOD;
    p.now_us = 1000;
    begin(1, EEPI_VIEW_REPAIRING);
    const int under_way = num_outstanding(1);
    cr_assert_gt(under_way, 0);
    run();
    expect_filled();
    cr_expect_eq(p.num_cancelled, under_way);
    cr_expect_eq(p.now_us, 1000 + EEPI_SEGMENT_STALL_US,
                 "it takes that long once, not per segment");
}

/* ---------------------------------------------------------------- the checkpoint */

Test(executor_sources, the_checkpoint_has_what_the_others_could_not_send)
{
    p.seats[1] = (seat_play){.is = GOOD, .dies_after = 2};
    p.has_checkpoint = true;
    begin(1, EEPI_VIEW_REPAIRING);
    run();
    expect_filled();
    cr_expect_eq(p.checkpoint_reads, SEGMENTS - 2, "what had arrived is kept");
    cr_expect_eq(p.bytes, BYTES);
}

Test(executor_sources, the_checkpoint_is_first_where_the_view_says_so)
{
    p.seats[1].is = GOOD;
    p.has_checkpoint = true;
    begin(EEPI_SOURCE_FILE, EEPI_VIEW_REPAIRING);
    run();
    expect_filled();
    cr_expect_eq(p.num_fetches, 0);
    cr_expect_eq(p.checkpoint_reads, SEGMENTS);
}

Test(executor_sources, a_checkpoint_that_cannot_be_read_leaves_the_rest_to_peers)
{
    p.seats[1].is = GOOD;
    p.has_checkpoint = true;
    p.checkpoint_fails_after = 2;
    begin(EEPI_SOURCE_FILE, EEPI_VIEW_REPAIRING);
    run();
    expect_filled();
    cr_expect_eq(p.num_fetches, SEGMENTS - 2);
}

Test(executor_sources, without_peers_and_checkpoint_nobody_has_it)
{
    begin(EEPI_SOURCE_FILE, EEPI_VIEW_REPAIRING);
    run();
    expect_refused();
    cr_expect(strstr(p.why, "no rank has a copy"), "%s", p.why);
}

/* ---------------------------------------------------------------- calls */

/* The service thread hears its peers meanwhile. */
Test(executor_sources, a_call_does_a_bounded_piece_of_work)
{
    int calls = 1;
    p.own = malloc(BYTES);
    memcpy(p.own, p.good, BYTES);
    split(p.own_tensors, p.own);
    begin(0, EEPI_VIEW_REPAIRING);
    for (; !p.done; calls++) {
        cr_assert_eq(eepi_executor_wake_us(p.executor), 0, "there is work");
        eepi_executor_tick(p.executor, NULL, 0);
    }
    expect_filled();
    cr_expect_geq(calls, 3, "%d calls for %d bytes read, summed and written", calls, BYTES);
}

Test(executor_sources, behind_live_traffic_one_segment_is_under_way)
{
    p.seats[1].is = p.seats[2].is = GOOD;
    begin(1, EEPI_VIEW_SERVING);
    for (int i = 0; !p.done; i++) {
        cr_assert_leq(num_outstanding(-1), 1);
        if (num_outstanding(-1) == 1) {
            answer(p.num_fetches - 1);
            cr_assert_eq(eepi_executor_wake_us(p.executor), 0, "a tick adds it to the checksum");
        }
        p.now_us += 150; /* a segment takes 524 us at that rate */
        eepi_executor_tick(p.executor, NULL, p.now_us);
    }
    expect_filled();
    cr_expect_geq(p.now_us, (uint64_t)BYTES / 1000);
}

Test(executor_sources, what_ends_after_a_cancel_is_ignored)
{
    p.seats[1].is = GOOD;
    begin(1, EEPI_VIEW_REPAIRING);
    answer(0);
    cr_expect_eq(p.slot[0], p.good[0], "it lands in the slot");
    cr_expect_eq(p.fetches[1].blob.offset, EEPI_SEGMENT_BYTES);
    cr_expect_eq(p.slot[EEPI_SEGMENT_BYTES], POISON);
    eepi_executor_cancel(p.executor);
    answer(1);
    cr_expect_eq(p.done, 0);
    cr_expect_eq(eepi_executor_wake_us(p.executor), UINT64_MAX);
    cr_expect_eq(p.slot[EEPI_SEGMENT_BYTES], POISON);
}

/* ---------------------------------------------------------------- at random */

static uint64_t draw(uint64_t *state, uint64_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % below;
}

/* Any mixture of sources: the slot gets the right bytes if one source alone, or what is left of
 * several, has them; else it is refused. EEP_TEST_SEED replays a case. */
Test(executor_sources, any_mixture_of_sources_fills_the_slot_or_is_refused)
{
    enum { CASES = 24 };
    const char *given = getenv("EEP_TEST_SEED");
    const uint64_t first = given ? strtoull(given, NULL, 10) : 1;

    for (uint64_t seed = first; seed < first + (given ? 1 : CASES); seed++) {
        uint64_t state = seed * 0x9e3779b97f4a7c15u;
        bool any_whole = false;
        for (int seat = 1; seat < SEATS; seat++) {
            p.seats[seat] =
                (seat_play){.is = (conduct)draw(&state, 5),
                            .dies_after = draw(&state, 3) ? 0 : 1 + (int)draw(&state, 7)};
            any_whole = any_whole || (p.seats[seat].is == GOOD && p.seats[seat].dies_after == 0);
            p.seats[seat].is = p.seats[seat].is == MUTE && !any_whole ? ABSENT : p.seats[seat].is;
        }
        p.has_checkpoint = draw(&state, 4) == 0;
        p.checkpoint_is_corrupted = draw(&state, 2) != 0;
        any_whole = any_whole || (p.has_checkpoint && !p.checkpoint_is_corrupted);
        begin(draw(&state, 2) ? 1 + (int)draw(&state, SEATS - 1) : EEPI_SOURCE_FILE,
              draw(&state, 2) ? EEPI_VIEW_REPAIRING : EEPI_VIEW_SERVING);
        run();
        cr_assert(p.status == EEP_OK || !any_whole, "EEP_TEST_SEED=%llu: %s",
                  (unsigned long long)seed, p.why);
        if (p.status == EEP_OK) {
            cr_assert(memcmp(p.slot, p.good, BYTES) == 0, "EEP_TEST_SEED=%llu",
                      (unsigned long long)seed);
        } else {
            expect_refused();
        }
        close_play();
        open_play();
    }
}

/* One slot was filled, mostly from there; and all bytes came from the origins named. */
static void expect_mix(eepi_origin most, uint64_t of_most, eepi_origin other)
{
    const eepi_mix *mix = eepi_executor_mix(p.executor);
    for (int i = 0; i < EEPI_NUM_ORIGINS; i++) {
        cr_expect_eq(mix->fills[i], (uint64_t)(i == (int)most), "origin %d", i);
        cr_expect_eq(mix->bytes[i],
                     i == (int)most    ? of_most
                     : i == (int)other ? BYTES - of_most
                                       : 0,
                     "origin %d: %llu", i, (unsigned long long)mix->bytes[i]);
    }
    cr_expect_eq(mix->fills_kept, 0);
}

Test(executor_sources, a_fill_counts_as_what_most_of_it_came_from)
{
    p.seats[1] = (seat_play){.is = GOOD, .dies_after = 1}; /* a slot */
    p.seats[2].is = GOOD;                                  /* a backup */
    begin(1, EEPI_VIEW_REPAIRING);
    run();
    expect_filled();
    expect_mix(EEPI_ORIGIN_OTHER_BACKUP, BYTES - EEPI_SEGMENT_BYTES, EEPI_ORIGIN_LIVE_REPLICA);
}

Test(executor_sources, slots_backups_and_the_file_are_told_apart)
{
    static const eepi_origin origins[] = {EEPI_ORIGIN_LIVE_REPLICA, EEPI_ORIGIN_OTHER_BACKUP,
                                          EEPI_ORIGIN_OWN_BACKUP, EEPI_ORIGIN_NODE_BACKUP,
                                          EEPI_ORIGIN_CHECKPOINT};
    for (size_t i = 0; i < sizeof origins / sizeof origins[0]; i++) {
        const bool own =
            origins[i] == EEPI_ORIGIN_OWN_BACKUP || origins[i] == EEPI_ORIGIN_NODE_BACKUP;
        close_play();
        open_play();
        p.seats[1].is = origins[i] == EEPI_ORIGIN_LIVE_REPLICA ? GOOD : ABSENT;
        p.seats[2].is = origins[i] == EEPI_ORIGIN_OTHER_BACKUP ? GOOD : ABSENT;
        p.has_checkpoint = origins[i] == EEPI_ORIGIN_CHECKPOINT;
        p.own_is_of_node = origins[i] == EEPI_ORIGIN_NODE_BACKUP;
        if (own) {
            p.own = malloc(BYTES);
            memcpy(p.own, p.good, BYTES);
            split(p.own_tensors, p.own);
        }
        begin(1, EEPI_VIEW_REPAIRING);
        run();
        expect_filled();
        expect_mix(origins[i], BYTES, origins[i]);
    }
}
