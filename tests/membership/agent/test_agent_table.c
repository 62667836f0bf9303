/* SPDX-License-Identifier: Apache-2.0 */
/* What agents tell each other, from one table's messages to another one's board. */
#include "membership/agent/agent_table.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static eepi_board boards[3];
static eepi_agent_table *here, *there;

static eepi_agent_table *open_table(int board, uint64_t host, uint64_t generation, int32_t speaker)
{
    const eepi_agent_table_config config = {host, generation, speaker, &boards[board]};
    eepi_agent_table *table = eepi_agent_table_open(&config);

    cr_assert(table);
    return table;
}

static void set_up(void)
{
    memset(boards, 0, sizeof boards);
    here = open_table(0, 1, 10, EEPI_AGENT_SPEAKER);
    there = open_table(1, 2, 20, EEPI_AGENT_SPEAKER);
}

static void tear_down(void)
{
    eepi_agent_table_close(here);
    eepi_agent_table_close(there);
}

TestSuite(agent_table, .init = set_up, .fini = tear_down, .timeout = 20);

/* All that one has to say; returns in how many messages. */
static int tell(const eepi_agent_table *from, eepi_agent_table *to, eep_status expected)
{
    eepi_agent_message message;
    int num = 0;

    for (int32_t at = 0; eepi_agent_tell(from, &at, &message); num++) {
        cr_assert_eq(eepi_agent_check(&message, eepi_agent_message_bytes(&message)), EEP_OK);
        cr_assert_eq(eepi_agent_hear(to, &message), expected);
    }
    return num;
}

static eepi_board_seat said(int board, int32_t seat)
{
    eepi_board_seat read = {0};

    return eepi_board_read(&boards[board].seats[seat], &read) ? read : (eepi_board_seat){0};
}

Test(agent_table, beats_and_ends_reach_the_other_board)
{
    cr_assert_eq(eepi_agent_attach(there, 7, 3), EEP_OK);
    eepi_agent_note_beats(there, 7, 3, 41, 2500);
    eepi_agent_note_beats(there, 7, 2, 99, 0); /* of a predecessor: void */
    cr_expect_eq(tell(there, here, EEP_OK), 1);
    cr_expect_eq(said(0, 7).who, eepi_board_who(3, 0, EEPI_SEAT_RUNS));
    cr_expect_eq(said(0, 7).beats, 41);
    cr_expect_eq(said(0, 7).busy_us, 3000);
    cr_expect_eq(eepi_agent_host_of(here, 7, 3), 2);
    cr_expect_eq(eepi_agent_host_of(here, 7, 2), 0);
    cr_expect_eq(boards[0].hosts[0].signs, 1);
    cr_expect(eepi_agent_note_end(there, 7, 3, EEPI_SEAT_ENDED));
    cr_expect(!eepi_agent_note_end(there, 7, 3, EEPI_SEAT_CLOSED), "an end is final");
    cr_expect_eq(eepi_agent_attach(there, 7, 3), EEP_ERR_CONFLICT);
    cr_expect_eq(eepi_agent_attach(there, 7, 2), EEP_ERR_STATE);
    tell(there, here, EEP_OK);
    cr_expect_eq(said(0, 7).who, eepi_board_who(3, 0, EEPI_SEAT_ENDED));
}

Test(agent_table, all_seats_go_in_several_messages)
{
    for (int32_t seat = 0; seat < EEP_MAX_RANKS; seat++) {
        cr_assert_eq(eepi_agent_attach(there, seat, 1), EEP_OK);
    }
    cr_expect_eq(tell(there, here, EEP_OK),
                 (EEP_MAX_RANKS + EEPI_AGENT_MAX_SEATS - 1) / EEPI_AGENT_MAX_SEATS);
    for (int32_t seat = 0; seat < EEP_MAX_RANKS; seat++) {
        cr_assert_eq(said(0, seat).who, eepi_board_who(1, 0, EEPI_SEAT_RUNS));
    }
    cr_expect_eq(eepi_agent_attach(there, EEP_MAX_RANKS, 1), EEP_ERR_INVALID);
}

/* Rule N12: an agent that was thought dead, and comes back beside its successor. */
Test(agent_table, an_older_agents_word_is_void)
{
    eepi_agent_table *older = open_table(2, 2, 19, EEPI_AGENT_SPEAKER);

    cr_assert_eq(eepi_agent_attach(older, 5, 1), EEP_OK);
    tell(older, here, EEP_OK);
    cr_expect_eq(said(0, 5).who, eepi_board_who(1, 0, EEPI_SEAT_RUNS));
    cr_assert_eq(eepi_agent_attach(there, 5, 1), EEP_OK);
    tell(there, here, EEP_OK);
    cr_expect_eq(boards[0].hosts[0].generation, 20);
    cr_expect(eepi_agent_note_end(older, 5, 1, EEPI_SEAT_ENDED));
    tell(older, here, EEP_ERR_STATE);
    cr_expect_eq(said(0, 5).who, eepi_board_who(1, 0, EEPI_SEAT_RUNS));
    eepi_agent_table_close(older);
}

/* Rules N11 and N12: a rank speaks for itself, and for nobody else. */
Test(agent_table, a_rank_speaks_for_itself_alone)
{
    eepi_agent_table *rank = open_table(2, 2, 6, 9);
    eepi_agent_message message;
    int32_t at = 0;

    cr_assert_eq(eepi_agent_attach(rank, 9, 6), EEP_OK);
    eepi_agent_note_beats(rank, 9, 6, 12, 0);
    tell(there, here, EEP_OK);
    tell(rank, here, EEP_OK);
    cr_expect_eq(said(0, 9).beats, 12);
    cr_expect_eq(boards[0].hosts[0].generation, 20, "it is no agent");
    cr_assert(eepi_agent_tell(rank, &at, &message));
    message.entries[0].seat = 8;
    cr_expect_eq(eepi_agent_check(&message, eepi_agent_message_bytes(&message)), EEP_ERR_PROTOCOL);
    eepi_agent_table_close(rank);
}

/* Rule N12: a process of a third host took the same generation, and ended before the store knew. */
Test(agent_table, an_end_elsewhere_does_not_hide_who_runs)
{
    eepi_agent_table *elsewhere = open_table(2, 3, 30, EEPI_AGENT_SPEAKER);

    cr_assert_eq(eepi_agent_attach(elsewhere, 7, 2), EEP_OK);
    cr_assert(eepi_agent_note_end(elsewhere, 7, 2, EEPI_SEAT_ENDED));
    cr_assert_eq(eepi_agent_attach(there, 7, 2), EEP_OK);
    tell(elsewhere, here, EEP_OK);
    cr_expect_eq(said(0, 7).who, eepi_board_who(2, 0, EEPI_SEAT_ENDED));
    tell(there, here, EEP_OK);
    cr_expect_eq(said(0, 7).who, eepi_board_who(2, 1, EEPI_SEAT_RUNS));
    tell(elsewhere, here, EEP_OK);
    cr_expect_eq(said(0, 7).who, eepi_board_who(2, 1, EEPI_SEAT_RUNS), "it runs");
    cr_assert(eepi_agent_note_end(there, 7, 2, EEPI_SEAT_ENDED));
    tell(there, here, EEP_OK);
    cr_expect_eq(said(0, 7).who, eepi_board_who(2, 1, EEPI_SEAT_ENDED));
    eepi_agent_table_close(elsewhere);
}

/* History H17: two agents under one name. */
Test(agent_table, nobody_else_speaks_for_this_host)
{
    eepi_agent_table *doubled = open_table(2, 1, 11, EEPI_AGENT_SPEAKER);

    cr_assert_eq(eepi_agent_attach(doubled, 2, 1), EEP_OK);
    tell(doubled, here, EEP_ERR_CONFLICT);
    cr_expect_eq(said(0, 2).who, 0);
    eepi_agent_table_close(doubled);
}

Test(agent_table, a_board_has_room_for_so_many_hosts)
{
    eepi_agent_message message = {.head = {EEPI_AGENT_MAGIC, EEPI_AGENT_VERSION, EEPI_AGENT_BEAT, 2,
                                           1, 1, EEPI_AGENT_SPEAKER, 0}};

    for (; message.head.host < EEPI_BOARD_HOSTS + 2; message.head.host++) {
        cr_assert_eq(eepi_agent_hear(here, &message), EEP_OK);
    }
    cr_expect_eq(eepi_agent_hear(here, &message), EEP_ERR_NO_MEMORY);
}

Test(agent_table, what_no_agent_sends_is_refused)
{
    eepi_agent_message good;
    int32_t at = 0;

    cr_assert_eq(eepi_agent_attach(there, 4, 1), EEP_OK);
    cr_assert(eepi_agent_tell(there, &at, &good));
    const size_t bytes = eepi_agent_message_bytes(&good);
    for (size_t cut = 0; cut < bytes; cut++) {
        cr_expect_neq(eepi_agent_check(&good, cut), EEP_OK);
    }
    eepi_agent_message bad[9];
    for (int i = 0; i < 9; i++) {
        bad[i] = good;
    }
    bad[0].head.magic++;
    bad[1].head.version++;
    bad[2].head.kind = 9;
    bad[3].head.host = 0;
    bad[4].head.speaker = EEP_MAX_RANKS;
    bad[5].entries[0].seat = -1;
    bad[6].entries[0].state = 9;
    bad[7].entries[0].generation = 0;
    bad[8].head.num_seats = UINT32_MAX;
    for (int i = 0; i < 9; i++) {
        cr_expect_eq(eepi_agent_check(&bad[i], bytes),
                     i == 1 ? EEP_ERR_UNSUPPORTED : EEP_ERR_PROTOCOL, "case %d", i);
    }
}
