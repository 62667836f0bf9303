/* SPDX-License-Identifier: Apache-2.0 */
/* Whether ranks of other hosts live, judged from boards in virtual time (rule N11). */
#include "membership/process/host_watch.h"

#include <criterion/criterion.h>

enum {
    PERIOD_US = 10000,
    AGENT_SILENCE_US = 100000,
    HOST_SILENCE_US = 200000,
    EXPEL_US = 500000,
    HOST = 77,
    OTHER_HOST = 78,
    SEAT = 3,
    NEIGHBOUR = 4,
    GENERATION = 5
};

static eepi_board agents, own;
static eepi_host_watch *watch;
static uint64_t now_us;

static void put(eepi_board *board, int32_t seat, uint64_t beats, eepi_seat_state state,
                uint64_t busy_us)
{
    const eepi_board_seat said = {
        .who = eepi_board_who(GENERATION, 0, state), .beats = beats, .busy_us = busy_us};

    eepi_board_write(&board->seats[seat], &said);
}

static void set_up(void)
{
    const eepi_host_watch_config config = {.max_ranks = 8,
                                           .period_us = PERIOD_US,
                                           .agent_silence_us = AGENT_SILENCE_US,
                                           .host_silence_us = HOST_SILENCE_US};

    memset(&agents, 0, sizeof agents);
    memset(&own, 0, sizeof own);
    agents.hosts[0].host = own.hosts[0].host = HOST;
    watch = eepi_host_watch_open(&config);
    now_us = 1000000;
    cr_assert(watch);
    eepi_host_watch_set_boards(watch, &agents, NULL);
    for (int32_t seat = SEAT; seat <= NEIGHBOUR; seat++) {
        put(&agents, seat, 1, EEPI_SEAT_RUNS, 0);
        eepi_host_watch_seat(watch, seat, GENERATION, HOST, now_us);
    }
}

static void tear_down(void)
{
    eepi_host_watch_close(watch);
}

TestSuite(host_watch, .init = set_up, .fini = tear_down, .timeout = 20);

/* What happens in one period. */
typedef struct life {
    bool agent_runs, host_speaks, seat_beats, neighbour_beats;
} life;

static eepi_host_sign look(int32_t seat)
{
    uint32_t generation = 0;
    const eepi_host_sign sign = eepi_host_watch_sign(watch, seat, EXPEL_US, &generation);

    cr_assert(sign == EEPI_HOST_SIGN_NONE || generation == GENERATION);
    return sign;
}

/* Live so for `us`, or until a sign of SEAT; how long it took. */
static uint64_t live(life how, uint64_t us, eepi_host_sign *sign_out)
{
    const uint64_t begin_us = now_us;

    for (*sign_out = EEPI_HOST_SIGN_NONE;
         *sign_out == EEPI_HOST_SIGN_NONE && now_us - begin_us < us;) {
        now_us += PERIOD_US;
        agents.rounds += how.agent_runs;
        agents.hosts[0].signs += how.host_speaks;
        agents.seats[SEAT].beats += how.seat_beats;
        agents.seats[NEIGHBOUR].beats += how.neighbour_beats;
        eepi_host_watch_look(watch, now_us);
        *sign_out = look(SEAT);
        cr_assert(*sign_out != EEPI_HOST_SIGN_NONE || look(NEIGHBOUR) == EEPI_HOST_SIGN_NONE);
    }
    return now_us - begin_us;
}

static const life all_well = {true, true, true, true};

Test(host_watch, a_rank_that_hangs_is_told_from_its_neighbour)
{
    const life hangs = {true, true, false, true};
    eepi_host_sign sign;

    live(all_well, 300000, &sign);
    cr_assert_eq(sign, EEPI_HOST_SIGN_NONE);
    const uint64_t took_us = live(hangs, 2 * EXPEL_US, &sign);
    cr_assert_eq(sign, EEPI_HOST_SIGN_SILENT);
    cr_expect(took_us >= EXPEL_US && took_us <= EXPEL_US + 2 * PERIOD_US);
    cr_expect_eq(look(NEIGHBOUR), EEPI_HOST_SIGN_NONE);
    live(hangs, EXPEL_US, &sign);
    cr_expect_eq(sign, EEPI_HOST_SIGN_NONE, "it is told once");
    cr_expect_eq(live(all_well, EXPEL_US, &sign), PERIOD_US);
    cr_expect_eq(sign, EEPI_HOST_SIGN_ALIVE);
}

Test(host_watch, a_host_that_says_nothing_is_evidence_against_all_its_ranks)
{
    const life lost = {.agent_runs = true};
    eepi_host_sign sign;

    live(all_well, 300000, &sign);
    const uint64_t took_us = live(lost, EXPEL_US, &sign);
    cr_expect_eq(sign, EEPI_HOST_SIGN_SILENT);
    cr_expect(took_us >= HOST_SILENCE_US && took_us <= HOST_SILENCE_US + 2 * PERIOD_US);
    cr_expect_eq(look(NEIGHBOUR), EEPI_HOST_SIGN_SILENT);
}

/* History H15: the agent's death must not take its host's, or all other, ranks along. */
Test(host_watch, the_end_of_the_own_agent_suspects_nobody)
{
    eepi_host_sign sign;

    live(all_well, 300000, &sign);
    cr_expect(!eepi_host_watch_is_alone(watch));
    live((life){0}, 20 * EXPEL_US, &sign);
    cr_expect_eq(sign, EEPI_HOST_SIGN_NONE);
    cr_expect(eepi_host_watch_is_alone(watch));
    live(all_well, HOST_SILENCE_US, &sign); /* the next agent */
    cr_expect_eq(sign, EEPI_HOST_SIGN_NONE);
    cr_expect(!eepi_host_watch_is_alone(watch));
    eepi_host_watch_set_boards(watch, NULL, NULL);
    live((life){0}, 20 * EXPEL_US, &sign);
    cr_expect_eq(sign, EEPI_HOST_SIGN_NONE);
}

Test(host_watch, an_agent_that_has_met_nobody_yet_suspects_nobody)
{
    static eepi_board next;
    const life runs = {.agent_runs = true};
    eepi_host_sign sign;

    live(all_well, 300000, &sign);
    memset(&next, 0, sizeof next);
    eepi_host_watch_set_boards(watch, &next, NULL);
    for (int i = 0; i < 200; i++) {
        next.rounds++;
        live(runs, PERIOD_US, &sign);
        cr_assert_eq(sign, EEPI_HOST_SIGN_NONE);
    }
    next.hosts[0].host = HOST;
    put(&next, SEAT, 1, EEPI_SEAT_RUNS, 0);
    for (int i = 0; i < 100 && sign == EEPI_HOST_SIGN_NONE; i++) { /* now it has, and is silent */
        next.rounds++;
        live(runs, PERIOD_US, &sign);
    }
    cr_expect_eq(sign, EEPI_HOST_SIGN_SILENT);
}

/* History H16: an agent that was not scheduled says nothing of its ranks meanwhile. */
Test(host_watch, gaps_of_a_hosts_agent_are_not_its_ranks)
{
    const life hangs = {true, true, false, true}, pauses = {.agent_runs = true};
    uint64_t silent_us = 0;
    eepi_host_sign sign = EEPI_HOST_SIGN_NONE;

    live(all_well, 300000, &sign);
    while (sign == EEPI_HOST_SIGN_NONE && silent_us < 10 * EXPEL_US) {
        silent_us += live(hangs, PERIOD_US, &sign);
        if (sign == EEPI_HOST_SIGN_NONE) {
            silent_us += live(pauses, HOST_SILENCE_US - 2 * PERIOD_US, &sign);
        }
    }
    cr_expect_eq(sign, EEPI_HOST_SIGN_SILENT);
    cr_expect_geq(silent_us, 2 * EXPEL_US, "after %llu us", (unsigned long long)silent_us);
}

Test(host_watch, what_a_rank_hears_itself_counts)
{
    const life lost = {.agent_runs = true};
    eepi_host_sign sign;

    eepi_host_watch_set_boards(watch, &agents, &own);
    live(all_well, 300000, &sign);
    for (int i = 0; i < 100; i++) { /* its agent has died, and it speaks for itself */
        own.hosts[0].signs++;
        put(&own, SEAT, (uint64_t)i + 1, EEPI_SEAT_RUNS, 0);
        put(&own, NEIGHBOUR, (uint64_t)i + 1, EEPI_SEAT_RUNS, 0);
        live(lost, PERIOD_US, &sign);
        cr_assert_eq(sign, EEPI_HOST_SIGN_NONE);
    }
    for (int i = 0; i < 100; i++) { /* rows of a step come */
        eepi_host_watch_hear(watch, SEAT);
        eepi_host_watch_hear(watch, NEIGHBOUR);
        live(lost, PERIOD_US, &sign);
        cr_assert_eq(sign, EEPI_HOST_SIGN_NONE);
    }
}

Test(host_watch, a_busy_rank_is_not_silent)
{
    const life hangs = {true, true, false, true};
    eepi_host_sign sign;

    live(all_well, 300000, &sign);
    cr_expect_eq(eepi_host_watch_busy_until(watch, SEAT, GENERATION), 0);
    put(&agents, SEAT, agents.seats[SEAT].beats, EEPI_SEAT_RUNS, 70000);
    live(hangs, 4 * EXPEL_US, &sign);
    cr_expect_eq(sign, EEPI_HOST_SIGN_NONE);
    cr_expect_eq(eepi_host_watch_busy_until(watch, SEAT, GENERATION), now_us + 70000);
    cr_expect_eq(eepi_host_watch_busy_until(watch, SEAT, GENERATION + 1), 0);
    cr_expect_eq(eepi_host_watch_busy_until(watch, NEIGHBOUR, GENERATION), 0);
    put(&agents, SEAT, agents.seats[SEAT].beats, EEPI_SEAT_RUNS, 0);
    live(all_well, PERIOD_US, &sign);
    cr_expect_eq(eepi_host_watch_busy_until(watch, SEAT, GENERATION), 0, "it takes it back");
}

Test(host_watch, ends_are_told_once_and_only_of_that_generation)
{
    const eepi_board_seat newer = {.who = eepi_board_who(GENERATION + 1, 0, EEPI_SEAT_ENDED)};
    eepi_host_sign sign;

    live(all_well, 300000, &sign);
    eepi_board_write(&agents.seats[NEIGHBOUR], &newer); /* rule N8 */
    live(all_well, 100000, &sign);
    cr_expect_eq(sign, EEPI_HOST_SIGN_NONE);
    eepi_host_watch_forget(watch, NEIGHBOUR); /* of whom nothing more is heard */
    put(&agents, SEAT, 9, EEPI_SEAT_CLOSED, 0);
    live(all_well, 100000, &sign);
    cr_expect_eq(sign, EEPI_HOST_SIGN_CLOSED);
    put(&agents, SEAT, 9, EEPI_SEAT_ENDED, 0);
    live(all_well, 100000, &sign);
    cr_expect_eq(sign, EEPI_HOST_SIGN_ENDED);
    live(all_well, 2 * EXPEL_US, &sign);
    cr_expect_eq(sign, EEPI_HOST_SIGN_NONE);
}

/* Rule M6: who was away itself says nothing. */
Test(host_watch, a_reader_that_was_away_suspects_nobody)
{
    eepi_host_sign sign;

    live(all_well, 300000, &sign);
    for (int i = 0; i < 20; i++) {
        now_us += 10 * HOST_SILENCE_US;
        live((life){.agent_runs = true}, PERIOD_US, &sign);
        cr_assert_eq(sign, EEPI_HOST_SIGN_NONE);
    }
}

/* The first look behind that covers time from before. */
Test(host_watch, who_is_watched_between_two_looks_is_not_silent_at_once)
{
    const life speaks = {true, true, false, true}, pauses = {.agent_runs = true};
    eepi_host_sign sign;

    live(all_well, 300000, &sign);
    eepi_host_watch_forget(watch, SEAT);
    agents.seats[SEAT] = (eepi_board_seat){0};
    now_us += 20 * PERIOD_US; /* the next look is late */
    eepi_host_watch_seat(watch, SEAT, GENERATION, HOST, now_us);
    live(speaks, PERIOD_US, &sign);
    cr_assert_eq(sign, EEPI_HOST_SIGN_NONE, "nobody has named it yet");
    put(&agents, SEAT, 0, EEPI_SEAT_RUNS, 0); /* it has not beaten yet */
    live(pauses, PERIOD_US, &sign);
    cr_expect_eq(sign, EEPI_HOST_SIGN_NONE);
}

/* A process of another host took the same generation, and ended before the store knew of it. */
Test(host_watch, N12_another_hosts_word_on_that_generation_is_void)
{
    const eepi_board_seat ended = {.who = eepi_board_who(GENERATION, 1, EEPI_SEAT_ENDED)};
    eepi_host_sign sign;

    agents.hosts[1].host = OTHER_HOST;
    live(all_well, 300000, &sign);
    eepi_board_write(&agents.seats[SEAT], &ended);
    live((life){true, true, false, true}, PERIOD_US, &sign);
    cr_expect_eq(sign, EEPI_HOST_SIGN_NONE, "it is a member on the first host");
    put(&agents, SEAT, 0, EEPI_SEAT_RUNS, 0);
    live(all_well, 300000, &sign);
    cr_expect_eq(sign, EEPI_HOST_SIGN_NONE);
    put(&agents, SEAT, 0, EEPI_SEAT_ENDED, 0);
    live((life){true, true, false, true}, PERIOD_US, &sign);
    cr_expect_eq(sign, EEPI_HOST_SIGN_ENDED);
}
