/* SPDX-License-Identifier: Apache-2.0 */
/* Members on several hosts (rule P13), message by message: no context, no network. The test carries
 * what each says to each, when it likes, or loses it with the connection. */
#include "membership/collective/collective_round.h"
#include "membership/collective/collective_state.h"
#include "membership/collective/collective_words.h"
#include "membership/context/context.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 4, LONG_BYTES = 100000 };

TestSuite(collective_hosts, .timeout = 30);

typedef struct host { /* one rank on it */
    eep_context *context;
    bool is_anew[RANKS];
    uint8_t sent[LONG_BYTES], got[RANKS][LONG_BYTES];
    size_t bytes, sizes[RANKS];
    eep_collective_result result;
    eep_status status;
} host;

static host hosts[RANKS];

/* ------------------------------------------------------------------ views */

/* Of the members whose bits are set. */
static void follow(int seat, uint64_t epoch, eepi_view_cause cause, uint32_t members,
                   uint64_t collective)
{
    const eepi_view_shape shape = {RANKS, 1, 4, 4};
    eepi_view *view = eepi_view_new(&shape);

    cr_assert_not_null(view);
    view->epoch = epoch;
    view->cause = cause;
    view->collective = collective;
    for (int at = 0; at < RANKS; at++) {
        if (members >> at & 1u) {
            *eepi_view_seat_at(view, at) =
                (eepi_view_seat){.state = EEP_SEAT_ACTIVE, .generation = 1};
            if (at != seat) {
                cr_assert_eq(eepi_collectives_reach(hosts[seat].context, at, 1), EEP_OK);
            }
        }
    }
    eepi_collectives_follow(hosts[seat].context, view);
    free(view);
}

static void open_host(int seat)
{
    eep_context *context = calloc(1, sizeof *context);
    char why[200];
    int32_t fd;

    cr_assert_not_null(context);
    hosts[seat].context = context;
    context->config.rank = seat;
    context->config.max_ranks = RANKS;
    context->generation = 1;
    cr_assert_eq(eepi_collectives_open(context), EEP_OK);
    cr_assert_eq(eepi_collectives_make(context, why, sizeof why, &fd), EEP_OK, "%s", why);
    eepi_collectives_join(context);
    for (int to = 0; to < RANKS; to++) {
        hosts[seat].is_anew[to] = true;
    }
}

/* The members of the first view; the other seats come later. */
static void open_hosts(uint32_t members)
{
    memset(hosts, 0, sizeof hosts);
    for (int seat = 0; seat < RANKS; seat++) {
        open_host(seat);
    }
    for (int seat = 0; seat < RANKS; seat++) {
        if (members >> seat & 1u) {
            follow(seat, 1, EEPI_VIEW_INITIAL, members, 0);
        }
    }
}

static void close_hosts(void)
{
    for (int seat = 0; seat < RANKS; seat++) {
        eepi_collectives_close(hosts[seat].context);
        free(hosts[seat].context);
    }
}

/* ------------------------------------------------------------------ messages */

static size_t say(int from, int to, uint8_t *bytes)
{
    const bool is_anew = hosts[from].is_anew[to];

    hosts[from].is_anew[to] = false;
    return eepi_collective_say(hosts[from].context, (uint32_t)to, 1, is_anew, bytes);
}

/* All that one has to say to another one arrives, or, with `is_lost`, does not. Returns how many
 * messages it was. */
static int carry(int from, int to, bool is_lost)
{
    static uint8_t bytes[EEPI_TALK_BYTES];
    int num = 0;
    size_t size;

    while ((size = say(from, to, bytes)) > 0) {
        num++;
        if (!is_lost) {
            cr_assert(eepi_collective_hear(hosts[to].context, (uint32_t)from, 1, bytes, size));
        }
    }
    return num;
}

/* Among those whose bits are set, until nobody has anything to say. */
static void carry_all(uint32_t among)
{
    int num = 1;

    while (num > 0) {
        num = 0;
        for (int from = 0; from < RANKS; from++) {
            for (int to = 0; to < RANKS; to++) {
                if (from != to && among >> from & 1u && among >> to & 1u) {
                    num += carry(from, to, false);
                }
            }
        }
    }
}

/* ------------------------------------------------------------------ calls */

static void deliver(void *user, int seat, const void *bytes, size_t size)
{
    host *h = user;

    memcpy(h->got[seat], bytes, size);
    h->sizes[seat] = size;
}

/* An allgather without patience. */
static eep_status call(int seat)
{
    host *h = &hosts[seat];
    const eepi_collective_round round = {
        .call = "gather",
        .what = {.kind = EEPI_COLLECTIVE_ALLGATHER, .length = LONG_BYTES},
        .send = h->sent,
        .bytes = h->bytes,
        .deliver = deliver,
        .user = h};

    memset(&h->result, 0, sizeof h->result);
    h->result.struct_bytes = sizeof h->result;
    h->status = eepi_collective_run(h->context, &round, &h->result);
    return h->status;
}

static void fill(int seat, uint8_t value, size_t bytes)
{
    memset(hosts[seat].sent, value, bytes);
    hosts[seat].bytes = bytes;
}

static void give_all(uint32_t members, uint8_t salt, size_t bytes)
{
    for (int seat = 0; seat < RANKS; seat++) {
        if (members >> seat & 1u) {
            fill(seat, (uint8_t)(salt + seat), bytes + (size_t)seat);
            cr_assert_eq(call(seat), EEP_ERR_TIMEOUT);
        }
    }
}

static void expect_all(uint32_t members, uint32_t contributors, uint64_t number, uint64_t epoch)
{
    for (int seat = 0; seat < RANKS; seat++) {
        const host *h = &hosts[seat];
        if (!(members >> seat & 1u)) {
            continue;
        }
        cr_assert_eq(call(seat), EEP_OK, "rank %d: %s", seat, eep_strerror(h->status));
        cr_assert_eq(h->result.number, number);
        cr_assert_eq(h->result.epoch, epoch);
        cr_assert_eq(h->result.contributors[0], contributors);
        for (int of = 0; of < RANKS; of++) {
            if (contributors >> of & 1u) {
                cr_assert_eq(h->sizes[of], hosts[of].bytes);
                cr_assert_arr_eq(h->got[of], hosts[of].sent, hosts[of].bytes);
            }
        }
    }
}

/* ------------------------------------------------------------------ tests */

Test(collective_hosts, P13_all_get_the_same_in_pieces)
{
    open_hosts(7);
    carry_all(7);
    for (uint64_t number = 1; number < 6; number++) {
        give_all(7, (uint8_t)(10 * number), number == 3 ? 0 : LONG_BYTES - 10);
        carry_all(7);
        expect_all(7, 7, number, 1);
    }
    close_hosts();
}

Test(collective_hosts, P13_nobody_takes_a_result_before_all_hold_it)
{
    open_hosts(7);
    carry_all(7);
    give_all(7, 1, 40);
    carry(1, 0, false);
    carry(2, 0, false); /* rank 0 has all */
    cr_assert_eq(call(0), EEP_ERR_TIMEOUT, "rank 2 may never get what rank 1 gave");
    carry_all(3);
    cr_assert_eq(call(0), EEP_ERR_TIMEOUT);
    carry_all(7);
    expect_all(7, 7, 1, 1);
    close_hosts();
}

Test(collective_hosts, P13_what_a_connection_lost_is_said_on_the_next_one)
{
    open_hosts(3);
    carry_all(3);
    give_all(3, 1, 50000);
    cr_assert_gt(carry(0, 1, true), 2);
    carry_all(3);
    cr_assert_eq(call(1), EEP_ERR_TIMEOUT);
    hosts[0].is_anew[1] = true;
    carry_all(3);
    hosts[1].is_anew[0] = true; /* and what comes twice does no harm */
    carry_all(3);
    expect_all(3, 3, 1, 1);
    close_hosts();
}

/* Rank 0 has promised number 1. Rank 1 has not, and goes to the next view without. */
Test(collective_hosts, P13_a_doubt_ends_with_who_has_not_promised)
{
    open_hosts(7);
    carry_all(7);
    give_all(7, 1, 40);
    carry(1, 0, false);
    carry(2, 0, false);
    follow(0, 2, EEPI_VIEW_PLANNED, 3, 0); /* rank 2 leaves */
    cr_assert_not_null(hosts[0].context->calls.collectives->from, "rank 1 may have taken it");
    cr_assert_eq(call(0), EEP_ERR_TIMEOUT);
    follow(1, 2, EEPI_VIEW_PLANNED, 3, 0);
    cr_assert_null(hosts[1].context->calls.collectives->from, "it knows that nobody has");
    carry(2, 1, false); /* too late */
    carry_all(3);
    cr_assert_null(hosts[0].context->calls.collectives->from);
    expect_all(3, 3, 1, 2);
    close_hosts();
}

/* All have promised it, and rank 2, which leaves, has taken it. */
Test(collective_hosts, P13_what_a_leaver_has_taken_ends_for_those_who_stay)
{
    open_hosts(7);
    carry_all(7);
    give_all(7, 1, 40);
    carry(0, 1, false);
    carry(2, 1, false);
    carry(1, 0, false);
    carry(2, 0, false);
    carry(0, 2, false);
    carry(1, 2, false);
    expect_all(4, 7, 1, 1);
    follow(0, 2, EEPI_VIEW_PLANNED, 3, 0);
    follow(1, 2, EEPI_VIEW_PLANNED, 3, 0);
    follow(2, 2, EEPI_VIEW_PLANNED, 3, 0);
    carry_all(3);
    expect_all(3, 7, 1, 1);
    give_all(3, 9, 40);
    carry_all(3);
    expect_all(3, 3, 2, 2);
    close_hosts();
}

/* Two planned views follow each other before the doubt has ended. */
Test(collective_hosts, P13_a_doubt_lasts_through_several_views)
{
    open_hosts(7);
    carry_all(7);
    give_all(7, 1, 40);
    carry(1, 0, false);
    carry(2, 0, false);
    follow(0, 2, EEPI_VIEW_PLANNED, 15, 0);
    follow(0, 3, EEPI_VIEW_PLANNED, 11, 0); /* rank 2 leaves, rank 3 has come */
    follow(1, 2, EEPI_VIEW_PLANNED, 15, 0);
    carry_all(3);
    cr_assert_not_null(hosts[0].context->calls.collectives->from);
    follow(1, 3, EEPI_VIEW_PLANNED, 11, 0);
    follow(3, 3, EEPI_VIEW_PLANNED, 11, 0);
    carry_all(11);
    cr_assert_null(hosts[0].context->calls.collectives->from);
    fill(3, 77, 20);
    cr_assert_eq(call(3), EEP_ERR_TIMEOUT);
    carry_all(11);
    expect_all(11, 11, 1, 3);
    close_hosts();
}

/* Rank 2 alone has taken it, and dies without a word. The others hold it, and say so. */
Test(collective_hosts, P13_reports_name_what_is_held)
{
    uint64_t held;

    open_hosts(7);
    carry_all(7);
    give_all(7, 1, 40);
    carry(0, 1, false);
    carry(2, 1, false);
    carry(1, 0, false);
    carry(2, 0, false);
    for (int seat = 0; seat < 2; seat++) {
        eepi_collectives_stop(hosts[seat].context);
        cr_assert_eq(eepi_collectives_last(hosts[seat].context, &held), 0);
        cr_assert_eq(held, 1);
    }
    carry_all(3);
    cr_assert_eq(call(0), EEP_ERR_TIMEOUT, "none ends behind the report");
    follow(0, 2, EEPI_VIEW_FAULT, 3, 1);
    follow(1, 2, EEPI_VIEW_FAULT, 3, 1);
    expect_all(3, 7, 1, 1);
    close_hosts();
}

/* It stops before it has promised: it promises nothing more. */
Test(collective_hosts, P13_a_rank_that_has_stopped_promises_nothing)
{
    uint64_t held;

    open_hosts(3);
    carry_all(3);
    give_all(3, 1, 40);
    eepi_collectives_stop(hosts[0].context);
    carry_all(3);
    cr_assert_eq(eepi_collectives_last(hosts[0].context, &held), 0);
    cr_assert_eq(held, 0);
    cr_assert_eq(call(1), EEP_ERR_TIMEOUT);
    follow(0, 2, EEPI_VIEW_FAULT, 3, 0);
    follow(1, 2, EEPI_VIEW_FAULT, 3, 0);
    cr_assert_eq(call(0), EEP_ERR_ABORTED);
    cr_assert_eq(call(1), EEP_ERR_ABORTED);
    give_all(3, 5, 30); /* the same number, with other and fewer bytes */
    carry_all(3);
    expect_all(3, 3, 1, 2);
    close_hosts();
}

Test(collective_hosts, P13_a_joiner_goes_on_with_the_number_of_the_others)
{
    open_hosts(3);
    carry_all(3);
    give_all(3, 1, 40);
    carry_all(3);
    expect_all(3, 3, 1, 1);
    follow(2, 2, EEPI_VIEW_PLANNED, 7, 0); /* it comes first, */
    carry_all(7);
    follow(0, 2, EEPI_VIEW_PLANNED, 7, 0);
    follow(1, 2, EEPI_VIEW_PLANNED, 7, 0);
    carry_all(7);
    give_all(7, 2, 40);
    carry_all(7);
    expect_all(7, 7, 2, 2);
    follow(2, 3, EEPI_VIEW_PLANNED, 12, 0); /* and those before it are gone at once, */
    follow(3, 3, EEPI_VIEW_PLANNED, 12, 0);
    carry_all(12);
    give_all(12, 3, 40);
    carry_all(12);
    expect_all(12, 12, 3, 3);
    close_hosts();
}

/* Rank 1 was let in, has not heard of any number, and is alone by now. */
Test(collective_hosts, P13_where_all_are_new_the_view_says_where_to_begin)
{
    open_hosts(1);
    follow(1, 2, EEPI_VIEW_PLANNED, 3, 5);
    follow(1, 3, EEPI_VIEW_PLANNED, 6, 5);
    follow(2, 3, EEPI_VIEW_PLANNED, 6, 5);
    carry_all(6);
    give_all(6, 1, 40);
    carry_all(6);
    expect_all(6, 6, 6, 3);
    close_hosts();
}

Test(collective_hosts, what_no_rank_says_is_refused)
{
    static uint8_t bytes[EEPI_TALK_BYTES];
    eep_context *to;
    size_t size;

    open_hosts(3);
    to = hosts[1].context;
    fill(0, 1, 40);
    cr_assert_eq(call(0), EEP_ERR_TIMEOUT);
    size = say(0, 1, bytes);
    cr_assert_gt(size, 200);
    cr_assert(eepi_collective_hear(to, 0, 1, bytes, size));
    cr_assert_not(eepi_collective_hear(to, 0, 1, bytes, size - 1));
    cr_assert_not(eepi_collective_hear(to, 0, 1, bytes, 3));
    bytes[size - 100] ^= 1; /* in a head */
    cr_assert_not(eepi_collective_hear(to, 0, 1, bytes, size));
    size = say(0, 1, bytes);
    cr_assert_eq(size, 64, "a piece");
    cr_assert_not(eepi_collective_hear(to, 0, 1, bytes, size - 1));
    bytes[size - 1] ^= 1; /* in the bytes: not what the head says */
    cr_assert_not(eepi_collective_hear(to, 0, 1, bytes, size));
    bytes[0] = 9;
    cr_assert_not(eepi_collective_hear(to, 0, 1, bytes, size));
    for (uint32_t seed = 1; seed < 20000; seed++) { /* whatever comes, nothing else is written */
        for (size_t i = 0; i < 320; i++) {
            bytes[i] = (uint8_t)((seed * 2654435761u + i * 40503u) >> (i % 13));
        }
        bytes[0] = 1 + seed % 2;
        bytes[1] = bytes[2] = bytes[3] = 0;
        (void)eepi_collective_hear(to, 0, 1, bytes, seed % 2 ? 320 : 24 + seed % 296);
    }
    close_hosts();
}

/* A process that was in the seat before is not heard, nor told anything. */
Test(collective_hosts, N2_another_generation_is_not_heard)
{
    static uint8_t bytes[EEPI_TALK_BYTES];
    size_t size;

    open_hosts(3);
    carry_all(3);
    give_all(3, 1, 40);
    cr_assert_eq(eepi_collective_say(hosts[0].context, 1, 2, true, bytes), 0);
    size = say(0, 1, bytes);
    cr_assert(eepi_collective_hear(hosts[1].context, 0, 0, bytes, size));
    size = say(0, 1, bytes);
    cr_assert(eepi_collective_hear(hosts[1].context, 0, 0, bytes, size));
    cr_assert_eq(hosts[1].context->calls.collectives->peers[0]->memory->contribution[1].number, 0);
    close_hosts();
}
