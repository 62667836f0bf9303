/* SPDX-License-Identifier: Apache-2.0 */
/* The verdicts of a gate, and that its mover waits for those who write. */
#include "transport/proxy/window_gate.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <unistd.h>

enum { RANKS = 4, SOURCE = 2, SOURCE_GENERATION = 5, OWN = 9, LONG_US = 5000000 };

static const uint32_t members[RANKS] = {1, 0, SOURCE_GENERATION, 0};

static eepi_gate_stand stand_at(uint64_t epoch, uint64_t step, bool lets_in)
{
    return (eepi_gate_stand){epoch, step, lets_in, OWN, members};
}

static eepi_window_gate *gate_at(uint64_t epoch, uint64_t step, bool lets_in)
{
    eepi_window_gate *gate = eepi_window_gate_open(RANKS, OWN);
    const eepi_gate_stand stand = stand_at(epoch, step, lets_in);

    cr_assert_not_null(gate);
    cr_assert_eq(eepi_window_gate_move(gate, &stand, 0), EEP_OK);
    return gate;
}

static eepk_put row_of(uint64_t epoch, uint64_t step)
{
    return (eepk_put){.epoch = epoch,
                      .step = step,
                      .kind = EEPK_PUT_ROWS,
                      .source = SOURCE,
                      .source_generation = SOURCE_GENERATION,
                      .target_generation = OWN};
}

static eepi_gate_verdict look(eepi_window_gate *gate, const eepk_put *put)
{
    const eepi_gate_verdict verdict = eepi_window_gate_enter(gate, put, put->source_generation);

    if (verdict == EEPI_GATE_ENTERED) {
        eepi_window_gate_leave(gate);
    }
    return verdict;
}

Test(window_gate, N2_epoch_and_step_are_whole_numbers)
{
    const uint64_t far = 1ull << 40; /* tags have 20 bits of an epoch and 34 of a step */
    eepi_window_gate *gate = gate_at(far, far, true);
    eepk_put put = row_of(far, far);

    cr_expect_eq(look(gate, &put), EEPI_GATE_ENTERED);
    put = row_of(far, far - 1);
    cr_expect_eq(look(gate, &put), EEPI_GATE_OLDER);
    put = row_of(far, far + 1);
    cr_expect_eq(look(gate, &put), EEPI_GATE_NEWER);
    put = row_of(far, far - (1ull << 34));
    cr_expect_eq(look(gate, &put), EEPI_GATE_OLDER);
    put = row_of(far - (1u << 20), far);
    cr_expect_eq(look(gate, &put), EEPI_GATE_OLDER);
    put = row_of(far - 1, far + 1);
    cr_expect_eq(look(gate, &put), EEPI_GATE_OLDER);
    put = row_of(far + 1, 1);
    cr_expect_eq(look(gate, &put), EEPI_GATE_NEWER);
    cr_expect_eq(eepi_window_gate_newest_epoch(gate), far + 1);
    eepi_window_gate_close(gate);
}

Test(window_gate, N2_generations_of_both_sides_are_looked_at)
{
    eepi_window_gate *gate = gate_at(3, 10, true);
    eepk_put put = row_of(3, 10);

    put.target_generation = OWN - 1; /* meant for the process that had this seat before */
    cr_expect_eq(look(gate, &put), EEPI_GATE_FOREIGN);
    put = row_of(3, 10);
    cr_expect_eq(eepi_window_gate_enter(gate, &put, SOURCE_GENERATION + 1), EEPI_GATE_FOREIGN,
                 "a message cannot claim another generation than its connection has");
    put.source_generation--;
    cr_expect_eq(look(gate, &put), EEPI_GATE_OLDER);
    put.source_generation += 2;
    cr_expect_eq(look(gate, &put), EEPI_GATE_FOREIGN, "an epoch has one generation in a seat");
    put.epoch++;
    cr_expect_eq(look(gate, &put), EEPI_GATE_NEWER, "a joiner of the next view");
    put = row_of(3, 10);
    put.source = 1;
    cr_expect_eq(look(gate, &put), EEPI_GATE_FOREIGN, "no member");
    put.source = RANKS;
    cr_expect_eq(look(gate, &put), EEPI_GATE_FOREIGN);
    eepi_window_gate_close(gate);
}

Test(window_gate, N3_words_enter_whatever_the_step)
{
    eepi_window_gate *gate = gate_at(3, 10, false);
    eepk_put put = row_of(3, 10);

    cr_expect_eq(look(gate, &put), EEPI_GATE_OLDER, "that step was aborted here");
    put.kind = EEPK_PUT_ABORT;
    cr_expect_eq(look(gate, &put), EEPI_GATE_ENTERED);
    put.step = 11;
    cr_expect_eq(look(gate, &put), EEPI_GATE_ENTERED);
    put.epoch = 4;
    cr_expect_eq(look(gate, &put), EEPI_GATE_ENTERED);
    put.epoch = 2;
    cr_expect_eq(look(gate, &put), EEPI_GATE_OLDER);
    eepi_window_gate_close(gate);
}

Test(window_gate, N1_who_stays_inside_is_not_passed)
{
    const eepi_gate_stand next = stand_at(3, 11, true);
    eepi_window_gate *gate = gate_at(3, 10, true);
    const eepk_put put = row_of(3, 10), later = row_of(3, 11);

    cr_assert_eq(eepi_window_gate_enter(gate, &put, SOURCE_GENERATION), EEPI_GATE_ENTERED);
    cr_expect_eq(eepi_window_gate_move(gate, &next, 1000), EEP_ERR_TIMEOUT);
    cr_expect_eq(look(gate, &put), EEPI_GATE_OLDER, "it is shut");
    cr_expect_eq(look(gate, &later), EEPI_GATE_NEWER, "and stands where it was");
    eepi_window_gate_leave(gate);
    cr_assert_eq(eepi_window_gate_move(gate, &next, 1000), EEP_OK);
    cr_expect_eq(look(gate, &later), EEPI_GATE_ENTERED);
    eepi_window_gate_close(gate);
}

typedef struct mover {
    eepi_window_gate *gate;
    int has_left; /* set by the one inside before it leaves */
    int saw_left;
} mover;

static void *move_on(void *argument)
{
    const eepi_gate_stand next = stand_at(4, 11, true);
    mover *m = argument;

    cr_assert_eq(eepi_window_gate_move(m->gate, &next, LONG_US), EEP_OK);
    m->saw_left = __atomic_load_n(&m->has_left, __ATOMIC_RELAXED);
    return NULL;
}

Test(window_gate, N1_the_mover_waits_until_nobody_is_inside)
{
    const eepk_put put = row_of(3, 10);
    mover m = {.gate = gate_at(3, 10, true)};
    pthread_t thread;

    cr_assert_eq(eepi_window_gate_enter(m.gate, &put, SOURCE_GENERATION), EEPI_GATE_ENTERED);
    cr_assert_eq(pthread_create(&thread, NULL, move_on, &m), 0);
    while (look(m.gate, &put) == EEPI_GATE_ENTERED) {
        usleep(100); /* until it is shut */
    }
    __atomic_store_n(&m.has_left, 1, __ATOMIC_RELAXED);
    eepi_window_gate_leave(m.gate);
    pthread_join(thread, NULL);
    cr_expect(m.saw_left);
    cr_expect_eq(look(m.gate, &put), EEPI_GATE_OLDER);
    eepi_window_gate_close(m.gate);
}
