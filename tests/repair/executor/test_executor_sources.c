/* SPDX-License-Identifier: Apache-2.0 */
/* The repair executor over several sources, each of which may be corrupted, die, stall or have
 * nothing. */
#include "tests/repair/executor/executor_play.h"

#include "repair/checksum.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(executor_sources, .init = open_play, .fini = close_play);

/* The view's own choice is the first that is asked, and alone where one fetch is enough. */
Test(executor_sources, several_sources_share_an_expert)
{
    play.seats[1].is = play.seats[3].is = play.seats[4].is = GOOD;
    play.per_source = EEPI_SEGMENTS_PER_SOURCE + 1;
    play_begin(3, EEPI_VIEW_REPAIRING);
    cr_expect_eq(play.fetches[0].seat, 3);
    cr_expect_eq(play.num_fetches, 3 * play.per_source);
    for (int seat = 1; seat < SEATS; seat++) {
        cr_expect_eq(play.seats[seat].asked, seat == 2 ? 0 : play.per_source, "rank %d", seat);
    }
    play_run();
    expect_filled();
    cr_expect_eq(play.bytes, BYTES);
    cr_expect_eq(play.notes, 0, "%s", play.note);
}

Test(executor_sources, one_source_is_asked_for_a_few_segments_at_a_time)
{
    play.seats[2].is = GOOD;
    play_begin(2, EEPI_VIEW_REPAIRING);
    cr_expect_eq(play.num_fetches, EEPI_SEGMENTS_PER_SOURCE);
    play_answer(1); /* in any order */
    cr_expect_eq(play_num_outstanding(2), EEPI_SEGMENTS_PER_SOURCE);
    play_run();
    expect_filled();
}

/* What has arrived is kept: no byte is fetched twice but what was under way. */
Test(executor_sources, a_dead_sources_segments_go_to_the_others)
{
    play.seats[1] = (seat_play){.is = GOOD, .dies_after = 1};
    play.seats[2].is = GOOD;
    play_begin(1, EEPI_VIEW_REPAIRING);
    const int under_way = play_num_outstanding(1);
    play_run();
    expect_filled();
    cr_expect_eq(play.bytes, BYTES, "each byte arrived once");
    cr_expect_leq(play.num_fetches, SEGMENTS + under_way);
    cr_expect_eq(play.seats[1].answered, 1);
    cr_expect_eq(play.seats[2].answered, SEGMENTS - 1);
}

static void all_are_dead(eepi_view_phase phase)
{
    play.seats[1] = (seat_play){.is = GOOD, .dies_after = 2};
    play.seats[2] = (seat_play){.is = NOT_FOUND};
    play.seats[4] = (seat_play){.is = GOOD, .dies_after = 1};
    play_begin(1, phase);
    play_run();
    expect_refused();
    cr_expect(strstr(play.why, "rank 1: ") && strstr(play.why, "rank 2: ") &&
                  strstr(play.why, "rank 4: "),
              "%s", play.why);
    cr_expect(strstr(play.why, eep_strerror(EEP_ERR_NOT_FOUND)), "%s", play.why);
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
        memset(play.seats, 0, sizeof play.seats);
        play.seats[1].is = play.seats[2].is = play.seats[3].is = GOOD;
        play.seats[bad].is = CORRUPTED;
        play_begin(1, EEPI_VIEW_REPAIRING);
        play_run();
        expect_filled();
        snprintf(name, sizeof name, "rank %d", bad);
        cr_expect(play.notes > 0 && strstr(play.note, name), "rank %d: \"%s\"", bad, play.note);
        close_play();
        open_play();
    }
}

static void all_are_corrupted(eepi_view_phase phase)
{
    play.seats[1].is = play.seats[2].is = CORRUPTED;
    play.has_checkpoint = play.checkpoint_is_corrupted = true;
    play_begin(1, phase);
    play_run();
    expect_refused();
    cr_expect(strstr(play.why, "rank 1: ") && strstr(play.why, "rank 2: ") &&
                  strstr(play.why, "the checkpoint: ") &&
                  strstr(play.why, eep_strerror(EEP_ERR_CHECKSUM)),
              "%s", play.why);
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
    play.seats[1].is = play.seats[2].is = CORRUPTED;
    play_begin(1, EEPI_VIEW_REPAIRING);
    play_run();
    expect_refused();
    play.seats[1].is = GOOD;
    play.done = play.num_fetches = 0;
    eepi_executor_start(play.executor, NULL, play.view, play.now_us);
    play_run();
    expect_filled();
    cr_expect_geq(play.bytes, BYTES);
}

/* In between the slot had another expert in part, and then the one that it had before is wanted. */
Test(executor_sources, L3_a_slot_is_not_believed_once_something_else_has_landed)
{
    play.seats[1].is = GOOD;
    play_begin(1, EEPI_VIEW_REPAIRING);
    play_run();
    expect_filled();
    play.done = play.num_fetches = 0;
    play.any_expert = true;
    eepi_view_slot_at(play.view, 0, 0, 1)->expert = 0;
    *eepi_view_checksum_at(play.view, 0, 0) = 4711;
    eepi_view_slot_at(play.view, 0, 1, 0)->expert = 0;
    eepi_view_seal(play.view);
    eepi_executor_start(play.executor, NULL, play.view, play.now_us);
    play_answer(0); /* the same bytes */
    eepi_executor_cancel(play.executor);
    eepi_view_slot_at(play.view, 0, 0, 1)->expert = 1;
    eepi_view_slot_at(play.view, 0, 1, 0)->expert = 1;
    eepi_view_seal(play.view);
    play.num_fetches = 0;
    eepi_executor_start(play.executor, NULL, play.view, play.now_us);
    play_run();
    expect_filled();
    cr_expect_eq(play.bytes, BYTES, "all of it is fetched");
}

/* A source that no longer answers, and is not known to be gone. */
Test(executor_sources, a_stalled_segment_is_asked_of_an_idle_source)
{
    play.seats[1].is = MUTE;
    play.seats[2].is = GOOD;
    play.now_us = 1000;
    play_begin(1, EEPI_VIEW_REPAIRING);
    const int under_way = play_num_outstanding(1);
    cr_assert_gt(under_way, 0);
    play_run();
    expect_filled();
    cr_expect_eq(play.num_cancelled, under_way);
    cr_expect_eq(play.now_us, 1000 + EEPI_SEGMENT_STALL_US,
                 "it takes that long once, not per segment");
}

/* ---------------------------------------------------------------- the checkpoint */

Test(executor_sources, the_checkpoint_has_what_the_others_could_not_send)
{
    play.seats[1] = (seat_play){.is = GOOD, .dies_after = 2};
    play.has_checkpoint = true;
    play_begin(1, EEPI_VIEW_REPAIRING);
    play_run();
    expect_filled();
    cr_expect_eq(play.checkpoint_reads, SEGMENTS - 2, "what had arrived is kept");
    cr_expect_eq(play.bytes, BYTES);
}

Test(executor_sources, the_checkpoint_is_first_where_the_view_says_so)
{
    play.seats[1].is = GOOD;
    play.has_checkpoint = true;
    play_begin(EEPI_SOURCE_FILE, EEPI_VIEW_REPAIRING);
    play_run();
    expect_filled();
    cr_expect_eq(play.num_fetches, 0);
    cr_expect_eq(play.checkpoint_reads, SEGMENTS);
}

Test(executor_sources, a_checkpoint_that_cannot_be_read_leaves_the_rest_to_peers)
{
    play.seats[1].is = GOOD;
    play.has_checkpoint = true;
    play.checkpoint_fails_after = 2;
    play_begin(EEPI_SOURCE_FILE, EEPI_VIEW_REPAIRING);
    play_run();
    expect_filled();
    cr_expect_eq(play.num_fetches, SEGMENTS - 2);
}

Test(executor_sources, without_peers_and_checkpoint_nobody_has_it)
{
    play_begin(EEPI_SOURCE_FILE, EEPI_VIEW_REPAIRING);
    play_run();
    expect_refused();
    cr_expect(strstr(play.why, "no rank has a copy"), "%s", play.why);
}

/* ---------------------------------------------------------------- files of others */

/* Nobody reads a file while a rank has the expert in memory. */
Test(executor_sources, files_of_others_come_last_and_one_after_the_other)
{
    play.seats[1] = (seat_play){.is = GOOD, .dies_after = 2};
    play.seats[2] = (seat_play){.file = GOOD, .dies_after = 3};
    play.seats[3].file = play.seats[4].file = GOOD;
    play_begin(1, EEPI_VIEW_REPAIRING);
    cr_expect_eq(play.seats[2].asked, 0);
    play_run();
    expect_filled();
    cr_expect_eq(play.seats[1].answered, 2);
    cr_expect_eq(play.seats[2].answered, 3, "what had arrived is kept");
    cr_expect_eq(play.seats[3].answered, SEGMENTS - 5);
    cr_expect_eq(play.seats[4].asked, 0);
    cr_expect_eq(eepi_executor_mix(play.executor)->bytes[EEPI_ORIGIN_CHECKPOINT],
                 BYTES - 2 * EEPI_SEGMENT_BYTES);
    cr_expect_not(eepi_executor_file_is_bad(play.executor));
}

/* R2: the own file is bad, and so is that of the rank which the view names. */
Test(executor_sources, R2_a_bad_file_leaves_the_expert_to_another_file)
{
    play.has_checkpoint = play.checkpoint_is_corrupted = true;
    play.seats[2].file = GOOD;
    play.seats[3].file = CORRUPTED;
    play_begin(EEPI_SOURCE_FILE_OF + 3, EEPI_VIEW_REPAIRING);
    play_run();
    expect_filled();
    cr_expect_eq(play.checkpoint_reads, SEGMENTS, "the own file is nearest");
    cr_expect(eepi_executor_file_is_bad(play.executor));
    cr_expect_eq(play.seats[3].answered, SEGMENTS, "the view's reader is the next");
    cr_expect_eq(play.seats[2].answered, SEGMENTS);
    cr_expect(strstr(play.note, "rank 3's checkpoint"), "%s", play.note);
}

Test(executor_sources, where_no_file_has_it_each_is_named)
{
    play.has_checkpoint = true;
    play.checkpoint_fails_after = 0;
    play.seats[1].file = NOT_FOUND;
    play.seats[4].file = CORRUPTED;
    play_begin(EEPI_SOURCE_FILE, EEPI_VIEW_REPAIRING);
    play_run();
    expect_refused();
    cr_expect(strstr(play.why, "the checkpoint: ") && strstr(play.why, "rank 1's checkpoint: ") &&
                  strstr(play.why, "rank 4's checkpoint: "),
              "%s", play.why);
    cr_expect(eepi_executor_file_is_bad(play.executor));
}

/* ---------------------------------------------------------------- calls */

/* The service thread hears its peers meanwhile. */
Test(executor_sources, a_call_does_a_bounded_piece_of_work)
{
    int calls = 1;
    play.own = malloc(BYTES);
    memcpy(play.own, play.good, BYTES);
    play_split(play.own_tensors, play.own);
    play_begin(0, EEPI_VIEW_REPAIRING);
    for (; !play.done; calls++) {
        cr_assert_eq(eepi_executor_wake_us(play.executor), 0, "there is work");
        eepi_executor_tick(play.executor, NULL, 0);
    }
    expect_filled();
    cr_expect_geq(calls, 3, "%d calls for %d bytes read, summed and written", calls, BYTES);
}

Test(executor_sources, behind_live_traffic_one_segment_is_under_way)
{
    play.seats[1].is = play.seats[2].is = GOOD;
    play_begin(1, EEPI_VIEW_SERVING);
    for (int i = 0; !play.done; i++) {
        cr_assert_leq(play_num_outstanding(-1), 1);
        if (play_num_outstanding(-1) == 1) {
            play_answer(play.num_fetches - 1);
            cr_assert_eq(eepi_executor_wake_us(play.executor), 0, "a tick adds it to the checksum");
        }
        play.now_us += 150; /* a segment takes 524 us at that rate */
        eepi_executor_tick(play.executor, NULL, play.now_us);
    }
    expect_filled();
    cr_expect_geq(play.now_us, (uint64_t)BYTES / 1000);
}

Test(executor_sources, what_ends_after_a_cancel_is_ignored)
{
    play.seats[1].is = GOOD;
    play_begin(1, EEPI_VIEW_REPAIRING);
    play_answer(0);
    cr_expect_eq(play.slot[0], play.good[0], "it lands in the slot");
    cr_expect_eq(play.fetches[1].blob.offset, EEPI_SEGMENT_BYTES);
    cr_expect_eq(play.slot[EEPI_SEGMENT_BYTES], POISON);
    eepi_executor_cancel(play.executor);
    play_answer(1);
    cr_expect_eq(play.done, 0);
    cr_expect_eq(eepi_executor_wake_us(play.executor), UINT64_MAX);
    cr_expect_eq(play.slot[EEPI_SEGMENT_BYTES], POISON);
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
        bool any_peer = false, any_whole = false;
        for (int seat = 1; seat < SEATS; seat++) {
            seat_play *s = &play.seats[seat];
            *s = (seat_play){.is = (conduct)draw(&state, 5),
                             .dies_after = draw(&state, 3) ? 0 : 1 + (int)draw(&state, 7)};
            any_peer = any_peer || (s->is == GOOD && s->dies_after == 0);
            s->is = s->is == MUTE && !any_peer ? ABSENT : s->is;
            s->file = (conduct[]){ABSENT, GOOD, CORRUPTED, NOT_FOUND}[draw(&state, 4)];
            any_whole =
                any_whole || any_peer || (s->is == ABSENT && s->file == GOOD && s->dies_after == 0);
        }
        play.has_checkpoint = draw(&state, 4) == 0;
        play.checkpoint_is_corrupted = draw(&state, 2) != 0;
        any_whole = any_whole || (play.has_checkpoint && !play.checkpoint_is_corrupted);
        play_begin(draw(&state, 2) ? 1 + (int)draw(&state, SEATS - 1) : EEPI_SOURCE_FILE,
                   draw(&state, 2) ? EEPI_VIEW_REPAIRING : EEPI_VIEW_SERVING);
        play_run();
        cr_assert(play.status == EEP_OK || !any_whole, "EEP_TEST_SEED=%llu: %s",
                  (unsigned long long)seed, play.why);
        if (play.status == EEP_OK) {
            cr_assert(memcmp(play.slot, play.good, BYTES) == 0, "EEP_TEST_SEED=%llu",
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
    const eepi_mix *mix = eepi_executor_mix(play.executor);
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
    play.seats[1] = (seat_play){.is = GOOD, .dies_after = 1}; /* a slot */
    play.seats[2].is = GOOD;                                  /* a backup */
    play_begin(1, EEPI_VIEW_REPAIRING);
    play_run();
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
        play.seats[1].is = origins[i] == EEPI_ORIGIN_LIVE_REPLICA ? GOOD : ABSENT;
        play.seats[2].is = origins[i] == EEPI_ORIGIN_OTHER_BACKUP ? GOOD : ABSENT;
        play.has_checkpoint = origins[i] == EEPI_ORIGIN_CHECKPOINT;
        play.own_is_of_node = origins[i] == EEPI_ORIGIN_NODE_BACKUP;
        if (own) {
            play.own = malloc(BYTES);
            memcpy(play.own, play.good, BYTES);
            play_split(play.own_tensors, play.own);
        }
        play_begin(1, EEPI_VIEW_REPAIRING);
        play_run();
        expect_filled();
        expect_mix(origins[i], BYTES, origins[i]);
    }
}
