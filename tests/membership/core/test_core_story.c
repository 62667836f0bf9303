/* SPDX-License-Identifier: Apache-2.0 */
/* One history, told in order: a rank dies, the others agree, repair and go on, and its seat is
 * taken again. Three cores, a register and exact times; each line is an event, and what the core
 * asks for. The rules are those of docs/PROTOCOL.md. EEP_TEST_STORY=1 prints the history. */
#include "membership/core/core.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 3, LAYERS = 1, EXPERTS = 3, SLOTS = 2, MOST_ACTIONS = 16 };

/* Ranks 0 and 1 hold experts 0 and 1; rank 2 alone holds expert 2, of which rank 0 has a backup. */
static const int32_t experts[RANKS][SLOTS] = {{0, 1}, {1, 0}, {2, 0}};
static const uint64_t checksums[EXPERTS] = {70, 71, 72};
static const uint64_t backups[RANKS] = {1u << 2, 0, 0};

static struct {
    eepi_core *core[RANKS];
    uint64_t now_us;
    eepi_action action[RANKS][MOST_ACTIONS]; /* what each was asked for last */
    int num_actions[RANKS];
    eepi_view *in_register;
    uint64_t revision;
} t;

__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
    va_list arguments;

    if (!getenv("EEP_TEST_STORY")) {
        return;
    }
    printf("%llu.%03llu s  ", (unsigned long long)t.now_us / 1000000,
           (unsigned long long)t.now_us / 1000 % 1000);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

static void at_ms(uint64_t now_ms)
{
    t.now_us = 1000 * now_ms;
}

static void feed(int rank, eepi_input input)
{
    const eepi_action *actions;

    input.now_us = t.now_us;
    actions = eepi_core_handle(t.core[rank], &input, &t.num_actions[rank]);
    cr_assert_leq(t.num_actions[rank], MOST_ACTIONS);
    memcpy(t.action[rank], actions, (size_t)t.num_actions[rank] * sizeof *actions);
}

/* The store has told the rank of all reports and acknowledgements that there are. */
static void listens(int rank)
{
    feed(rank, (eepi_input){.kind = EEPI_INPUT_LISTENS});
    tell("rank %d has the first turn, and hears reports and acknowledgements from now on", rank);
}

/* Rule N22: the others hear one word alone, of the first that stopped. */
static void hears_wedge(int to, int from)
{
    feed(to, (eepi_input){.kind = EEPI_INPUT_WEDGE,
                          .wedge = {from, 1, eepi_core_view(t.core[from])->epoch, {0, 0, -1}}});
    tell("rank %d hears that rank %d has stopped", to, from);
}

/* The rank was asked for that; NULL: it was not. */
static const eepi_action *asked(int rank, eepi_action_kind kind)
{
    for (int i = 0; i < t.num_actions[rank]; i++) {
        if (t.action[rank][i].kind == kind) {
            return &t.action[rank][i];
        }
    }
    return NULL;
}

static void is_asked(int rank, eepi_action_kind kind)
{
    char text[200];

    eepi_core_print(t.core[rank], text, sizeof text);
    cr_assert_not_null(asked(rank, kind), "action %d was not asked for: %s", kind, text);
}

/* ---- what happens to a rank */

static void starts(int rank, uint32_t generation)
{
    const eepi_core_config config = {.seat = rank,
                                     .generation = generation,
                                     .num_ranks = RANKS,
                                     .propose_delay_us = 10000,
                                     .drain_bound_us = 1000000,
                                     .stage_bound_us = 1000000,
                                     .missed_window_steps = 1000,
                                     .kill_fence = true,
                                     .shape = {RANKS, LAYERS, EXPERTS, SLOTS, 1}};

    eepi_core_close(t.core[rank]);
    cr_assert_eq(eepi_core_open(&config, &t.core[rank]), EEP_OK);
}

/* The store tells `to` that the process of the seat is ready. */
static void hears_ready(int to, int seat, uint32_t generation)
{
    const uint64_t sums[SLOTS] = {checksums[experts[seat][0]], checksums[experts[seat][1]]};
    const uint64_t claim = eepi_view_claim_digest(&backups[seat], checksums, EXPERTS);
    const eepi_member member = {seat,           generation,      1, 0, experts[seat], sums,
                                &backups[seat], .claims = &claim};

    feed(to, (eepi_input){.kind = EEPI_INPUT_MEMBER, .member = &member});
}

static void reads_register(int rank)
{
    feed(rank,
         t.in_register
             ? (eepi_input){.kind = EEPI_INPUT_VIEW, .view = t.in_register, .revision = t.revision}
             : (eepi_input){.kind = EEPI_INPUT_VIEW_MISSING});
}

/* The rank's compare-and-swap wins; the register has its document. */
static void wins(int rank)
{
    is_asked(rank, EEPI_ACTION_CAS);
    cr_assert_eq(asked(rank, EEPI_ACTION_CAS)->revision, t.revision);
    free(t.in_register);
    t.in_register = eepi_view_copy(asked(rank, EEPI_ACTION_CAS)->view);
    t.revision++;
    tell("rank %d proposes; the register says epoch %llu, %s, %d ranks", rank,
         (unsigned long long)t.in_register->epoch,
         t.in_register->phase == EEPI_VIEW_SERVING ? "SERVING" : "REPAIRING",
         eepi_view_num_active(t.in_register));
    feed(rank, (eepi_input){.kind = EEPI_INPUT_CAS_DONE, .won = true, .revision = t.revision});
}

static void sees_end_of(int rank, int seat, uint32_t generation)
{
    tell("rank %d sees the end of rank %d", rank, seat);
    feed(rank,
         (eepi_input){.kind = EEPI_INPUT_EVIDENCE, .suspect = {seat, generation, EEP_FAULT_EXIT}});
}

static void has_ended_step(int rank, uint64_t step)
{
    tell("rank %d has ended step %llu, and promises to begin no other", rank,
         (unsigned long long)step);
    feed(rank, (eepi_input){.kind = EEPI_INPUT_DRAINED, .step = step});
}

static eepi_report report_of[RANKS]; /* what each has put last */

static void puts_report(int rank, uint64_t epoch)
{
    is_asked(rank, EEPI_ACTION_REPORT);
    report_of[rank] = asked(rank, EEPI_ACTION_REPORT)->report;
    cr_assert_eq(report_of[rank].epoch, epoch);
}

static void hears_report(int to, int from)
{
    tell("rank %d reads rank %d's report under epoch %llu", to, from,
         (unsigned long long)report_of[from].epoch);
    feed(to, (eepi_input){.kind = EEPI_INPUT_REPORT, .report = &report_of[from]});
}

/* The rank has done it, its core acknowledges, and rank 0 hears it. */
static void acknowledges(int rank, eepi_input_kind done, eepi_ack_kind kind, uint64_t digest)
{
    eepi_ack ack;

    feed(rank, (eepi_input){.kind = done, .digest = digest});
    is_asked(rank, EEPI_ACTION_ACK);
    ack = asked(rank, EEPI_ACTION_ACK)->ack;
    cr_assert_eq(ack.kind, kind);
    feed(0, (eepi_input){.kind = EEPI_INPUT_ACK, .ack = &ack});
}

static void serves(int rank, uint64_t epoch)
{
    cr_assert_eq(eepi_core_view(t.core[rank])->epoch, epoch);
    cr_assert(!eepi_core_is_wedged(t.core[rank]));
}

/* ---- the history */

static void three_ranks_form_the_first_view(void)
{
    at_ms(0);
    for (int rank = 0; rank < RANKS; rank++) {
        starts(rank, 1);
        reads_register(rank); /* M4: the register is empty, and was read */
        for (int seat = 0; seat < RANKS; seat++) {
            hears_ready(rank, seat, 1);
        }
    }
    wins(0);
    for (int rank = 0; rank < RANKS; rank++) {
        if (rank != 0) {
            reads_register(rank);
        }
        is_asked(rank, EEPI_ACTION_INSTALL);
        serves(rank, 1);
    }
    is_asked(0, EEPI_ACTION_LISTEN);
    cr_assert_null(asked(1, EEPI_ACTION_LISTEN), "N22: it is not its turn");
    listens(0);
}

/* Rules M2 and M4: a rank that learns of a fault stops and promises; then the lowest one proposes.
 */
static void rank_2_dies_and_the_others_agree(void)
{
    at_ms(1000);
    tell("rank 2 is killed in step 41");
    at_ms(1004);
    sees_end_of(0, 2, 1);
    is_asked(0, EEPI_ACTION_WEDGE);
    is_asked(0, EEPI_ACTION_TELL_WEDGE);
    cr_assert_null(asked(0, EEPI_ACTION_REPORT), "M2: step 41 is still in flight");
    at_ms(1005);
    has_ended_step(0, 41);
    puts_report(0, 1);
    at_ms(1006);
    hears_wedge(1, 0); /* rank 1 has seen nothing itself */
    is_asked(1, EEPI_ACTION_WEDGE);
    cr_assert_null(asked(1, EEPI_ACTION_TELL_WEDGE), "N22: once is enough");
    at_ms(1007);
    has_ended_step(1, 41);
    puts_report(1, 1);
    cr_assert_null(asked(0, EEPI_ACTION_CAS), "M4: rank 1 has not promised yet");
    at_ms(1008);
    hears_report(0, 1);
    wins(0);
    cr_assert_eq(t.in_register->epoch, 2);
    cr_assert_eq(t.in_register->phase, EEPI_VIEW_REPAIRING, "M1: nobody else holds expert 2");
    cr_assert_eq(t.in_register->first_step, 42, "M2: above every step that was started");
    cr_assert_eq(t.in_register->colour, 1, "P7: rank 2's kernels may have stored into 0");
    cr_assert(!eepi_view_is_member(t.in_register, 2));
}

/* Rules M1 and R1: the receiver fills its slot and acknowledges; only then is the view served. */
static void rank_0_fills_expert_2_and_both_serve(void)
{
    is_asked(0, EEPI_ACTION_FILL);
    puts_report(0, 2);
    at_ms(1009);
    reads_register(1);
    puts_report(1, 2);
    at_ms(1010);
    hears_report(0, 1);
    cr_assert_null(asked(0, EEPI_ACTION_CAS), "M1: expert 2 is not there yet");
    at_ms(1040);
    tell("rank 0 has copied expert 2 from its backup, and checked it");
    acknowledges(0, EEPI_INPUT_FILLED, EEPI_ACK_FILLED, t.in_register->digest);
    wins(0);
    cr_assert_eq(t.in_register->cause, EEPI_VIEW_REPAIRED);
    cr_assert_eq(eepi_view_num_uncovered(t.in_register, -1), 0, "S7");
    is_asked(0, EEPI_ACTION_INSTALL);
    at_ms(1041);
    reads_register(1);
    is_asked(1, EEPI_ACTION_INSTALL);
    serves(0, 3);
    serves(1, 3);
    tell("both serve from step 42 on: a pause of 41 ms");
}

/* Rules M3 and M7: a new process takes the seat, and comes in while the others serve. */
static void another_process_takes_seat_2(void)
{
    uint64_t digest;

    at_ms(2000);
    tell("a new process takes seat 2, as generation 2");
    starts(2, 2);
    reads_register(2);
    for (int rank = 0; rank < RANKS; rank++) {
        hears_ready(rank, 2, 2);
    }
    for (int seat = 0; seat < 2; seat++) {
        hears_ready(2, seat, 1);
    }
    at_ms(2001);
    is_asked(0, EEPI_ACTION_PLAN);
    is_asked(0, EEPI_ACTION_STAGE);
    const eepi_view *plan = asked(0, EEPI_ACTION_PLAN)->view;
    digest = plan->digest;
    tell("rank 0 plans epoch %llu; all put it into their idle banks",
         (unsigned long long)plan->epoch);
    for (int rank = 1; rank < RANKS; rank++) {
        feed(rank, (eepi_input){.kind = EEPI_INPUT_PLAN, .view = plan});
        is_asked(rank, EEPI_ACTION_STAGE);
    }
    for (int rank = RANKS - 1; rank >= 0; rank--) {
        cr_assert_null(asked(0, EEPI_ACTION_CAS), "M3: rank %d has not staged it", rank);
        acknowledges(rank, EEPI_INPUT_STAGED, EEPI_ACK_STAGED, digest);
    }
    at_ms(2003);
    wins(0);
    cr_assert_eq(t.in_register->digest, digest);
    is_asked(0, EEPI_ACTION_ANNOUNCE);
    for (int rank = 1; rank < RANKS; rank++) {
        reads_register(rank);
    }
    is_asked(1, EEPI_ACTION_ANNOUNCE);
    is_asked(2, EEPI_ACTION_INSTALL);
    at_ms(2004);
    tell("a step carries the announcement; ranks 0 and 1 switch behind it, and rank 2 joins the "
         "next");
    for (int rank = 0; rank < 2; rank++) {
        acknowledges(rank, EEPI_INPUT_FLIPPED, EEPI_ACK_FLIPPED, digest);
    }
    for (int rank = 0; rank < RANKS; rank++) {
        serves(rank, 4);
    }
}

Test(core_a_story, a_rank_dies_the_others_repair_and_its_seat_is_taken_again)
{
    three_ranks_form_the_first_view();
    rank_2_dies_and_the_others_agree();
    rank_0_fills_expert_2_and_both_serve();
    another_process_takes_seat_2();
    for (int rank = 0; rank < RANKS; rank++) {
        eepi_core_close(t.core[rank]);
    }
    free(t.in_register);
}
