/* SPDX-License-Identifier: Apache-2.0 */
/* What is placed into a window, what waits, and what is dropped; messages are made by the test. */
#include "transport/proxy/placer.h"

#include "graphs/device/tables.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SELF = 1, SOURCE = 2, GENERATION = 5, OWN = 9, LONG_US = 5000000 };

static const uint32_t members[4] = {1, OWN, GENERATION, 3};

typedef struct placer_fixture {
    eepk_shape shape;
    uint8_t *window;
    eepi_placer *placer;
    uint64_t begun_step; /* of the last begin word */
    uint32_t begun_shape;
    int blocks; /* rows wait while it is 1; 2: somebody waits */
} placer_fixture;

static void rows(void *user, uint64_t offset, const void *bytes, uint32_t num_bytes)
{
    placer_fixture *f = user;
    int expected = 1;

    if (__atomic_compare_exchange_n(&f->blocks, &expected, 2, 0, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE)) {
        while (__atomic_load_n(&f->blocks, __ATOMIC_ACQUIRE) != 0) {
            usleep(100);
        }
    }
    eepi_placer_host_ops.rows(f->window, offset, bytes, num_bytes);
}

static void *where(void *user, uint64_t offset)
{
    return eepi_placer_host_ops.where(((placer_fixture *)user)->window, offset);
}

static void word(void *user, uint64_t offset, uint64_t value)
{
    eepi_placer_host_ops.word(((placer_fixture *)user)->window, offset, value);
}

static void begin(void *user, const eepk_put *put)
{
    cr_assert(put->source == SOURCE && put->epoch != 0 && put->completed < put->step);
    ((placer_fixture *)user)->begun_step = put->step;
    ((placer_fixture *)user)->begun_shape = put->shape;
}

static void move_to(placer_fixture *f, uint64_t epoch, uint64_t step, bool lets_in)
{
    const eepi_gate_stand to = {epoch, step, lets_in, OWN, members};

    cr_assert_eq(eepi_placer_move(f->placer, &to, LONG_US), EEP_OK);
}

static void open_placer_unmoved(placer_fixture *f)
{
    const eepi_placer_ops ops = {rows, word, begin, f, where, NULL};
    const eep_config config = {.struct_bytes = sizeof config,
                               .rank = SELF,
                               .num_ranks = 4,
                               .max_ranks = 4,
                               .num_layers = 3,
                               .num_experts = 8,
                               .num_slots = 3,
                               .top_k = 2,
                               .hidden = 16,
                               .num_max_tokens_per_rank = 4,
                               .dtype = EEP_FP32};
    const char *why;

    memset(f, 0, sizeof *f);
    cr_assert_eq(eepi_shape_make(&config, &f->shape, &why), EEP_OK, "%s", why);
    f->window = aligned_alloc(EEPK_LINE_BYTES, f->shape.window_bytes);
    cr_assert_not_null(f->window);
    memset(f->window, 0, f->shape.window_bytes);
    f->placer = eepi_placer_open(&f->shape, OWN, &ops, f);
    cr_assert_not_null(f->placer);
}

static void open_placer(placer_fixture *f)
{
    open_placer_unmoved(f);
    move_to(f, 3, 10, true);
}

static void close_placer(placer_fixture *f)
{
    eepi_placer_close(f->placer);
    free(f->window);
}

/* ---------------------------------------------------------------- messages */

static eepk_put message(uint64_t epoch, uint64_t step, uint16_t layer, uint8_t phase)
{
    return (eepk_put){.epoch = epoch,
                      .step = step,
                      .layer = layer,
                      .phase = phase,
                      .source = SOURCE,
                      .target = SELF,
                      .source_generation = GENERATION,
                      .target_generation = OWN};
}

static uint8_t *row_at(placer_fixture *f, const eepk_put *put, uint32_t token)
{
    return put->phase == EEPK_PHASE_DISPATCH
               ? eepk_dispatch_row(&f->shape, f->window, put->chain, SOURCE, token)
               : eepk_combine_row(&f->shape, f->window, put->chain, token, 0);
}

static uint64_t *tag_at(placer_fixture *f, const eepk_put *put)
{
    return eepk_phase_tag(&f->shape, f->window, put->phase, put->chain, SOURCE);
}

/* Piece and token are one number. */
static eepi_placed place_row(placer_fixture *f, eepk_put put, uint32_t token, int content)
{
    uint8_t row[64];

    memset(row, content, sizeof row);
    put.kind = EEPK_PUT_ROWS;
    put.pieces = token;
    put.bytes = sizeof row;
    put.offset = (uint64_t)(row_at(f, &put, token) - f->window);
    return eepi_placer_place(f->placer, &put, row, put.source_generation);
}

static eepi_placed place_tag(placer_fixture *f, eepk_put put, uint32_t pieces)
{
    put.kind = EEPK_PUT_TAG;
    put.pieces = pieces;
    put.offset = (uint64_t)((uint8_t *)tag_at(f, &put) - f->window);
    put.value = eepk_tag(put.epoch, put.step, put.layer, put.phase);
    return eepi_placer_place(f->placer, &put, NULL, put.source_generation);
}

static bool has_tag(placer_fixture *f, const eepk_put *put)
{
    return *tag_at(f, put) == eepk_tag(put->epoch, put->step, put->layer, put->phase);
}

/* ---------------------------------------------------------------- tags */

Test(placer, N4_a_tag_waits_for_different_rows)
{
    placer_fixture f;
    const eepk_put put = message(3, 10, 0, EEPK_PHASE_DISPATCH);

    open_placer(&f);
    cr_expect_eq(place_row(&f, put, 0, 1), EEPI_PLACED);
    cr_expect_eq(place_tag(&f, put, 3), EEPI_PLACED);
    cr_expect_eq(place_row(&f, put, 0, 1), EEPI_PLACED_DOUBLED);
    cr_expect_eq(place_row(&f, put, 0, 1), EEPI_PLACED_DOUBLED);
    cr_expect(!has_tag(&f, &put), "three messages are not three rows");
    cr_expect_eq(place_row(&f, put, 2, 3), EEPI_PLACED);
    cr_expect_eq(place_tag(&f, put, 3), EEPI_PLACED_DOUBLED);
    cr_expect(!has_tag(&f, &put));
    cr_expect_eq(place_row(&f, put, 1, 2), EEPI_PLACED);
    cr_expect(has_tag(&f, &put));
    for (uint32_t token = 0; token < 3; token++) {
        cr_expect_eq(*row_at(&f, &put, token), token + 1);
    }
    close_placer(&f);
}

Test(placer, N2_nothing_is_placed_behind_the_tag)
{
    placer_fixture f;
    const eepk_put put = message(3, 10, 0, EEPK_PHASE_DISPATCH);
    const eepk_put next = message(3, 10, 1, EEPK_PHASE_DISPATCH);

    open_placer(&f);
    cr_expect_eq(place_row(&f, put, 0, 1), EEPI_PLACED);
    cr_expect_eq(place_tag(&f, put, 1), EEPI_PLACED);
    cr_expect_eq(place_row(&f, put, 0, 7), EEPI_PLACED_OLDER);
    cr_expect_eq(place_row(&f, put, 1, 7), EEPI_PLACED_OLDER);
    cr_expect_eq(place_row(&f, next, 0, 2), EEPI_PLACED);
    cr_expect_eq(place_row(&f, put, 0, 7), EEPI_PLACED_OLDER);
    cr_expect_eq(place_tag(&f, next, 1), EEPI_PLACED);
    cr_expect_eq(*row_at(&f, &next, 0), 2, "it is the same row");
    cr_expect_eq(*row_at(&f, &next, 1), 0);
    cr_expect_eq(eepi_placer_count(f.placer, EEPI_PLACED_OLDER), 3);
    close_placer(&f);
}

Test(placer, a_tag_without_rows_is_stored_at_once)
{
    placer_fixture f;
    const eepk_put put = message(3, 10, 0, EEPK_PHASE_COMBINE);

    open_placer(&f);
    cr_expect_eq(place_tag(&f, put, 0), EEPI_PLACED);
    cr_expect(has_tag(&f, &put));
    close_placer(&f);
}

/* ---------------------------------------------------------------- steps and views */

Test(placer, N2_what_is_newer_waits_and_comes)
{
    placer_fixture f;
    const eepk_put next = message(3, 11, 0, EEPK_PHASE_DISPATCH);
    const eepk_put view = message(4, 12, 0, EEPK_PHASE_DISPATCH);

    open_placer(&f);
    cr_expect_eq(place_tag(&f, next, 2), EEPI_PLACED_PARKED);
    cr_expect_eq(place_row(&f, next, 0, 1), EEPI_PLACED_PARKED);
    cr_expect_eq(place_row(&f, next, 0, 1), EEPI_PLACED_DOUBLED);
    move_to(&f, 3, 10, false); /* step 10 was aborted */
    cr_expect_eq(*row_at(&f, &next, 0), 0);
    move_to(&f, 3, 11, true);
    cr_expect_eq(*row_at(&f, &next, 0), 1);
    cr_expect(!has_tag(&f, &next));
    cr_expect_eq(place_row(&f, next, 1, 2), EEPI_PLACED);
    cr_expect(has_tag(&f, &next));
    cr_expect_eq(place_row(&f, view, 0, 3), EEPI_PLACED_PARKED);
    cr_expect_eq(place_tag(&f, view, 1), EEPI_PLACED_PARKED);
    move_to(&f, 4, 12, true);
    cr_expect(has_tag(&f, &view));
    cr_expect_eq(*row_at(&f, &view, 0), 3);
    close_placer(&f);
}

/* A peer that has read the first view before this rank. */
Test(placer, N2_what_comes_before_the_first_view_waits)
{
    placer_fixture f;
    const eepk_put put = message(3, 10, 0, EEPK_PHASE_DISPATCH);
    eepk_put other = put;

    open_placer_unmoved(&f);
    other.target_generation--;
    cr_expect_eq(place_row(&f, other, 0, 7), EEPI_PLACED_FOREIGN);
    cr_expect_eq(place_row(&f, put, 0, 1), EEPI_PLACED_PARKED);
    cr_expect_eq(place_tag(&f, put, 1), EEPI_PLACED_PARKED);
    move_to(&f, 3, 10, true);
    cr_expect(has_tag(&f, &put));
    cr_expect_eq(*row_at(&f, &put, 0), 1);
    close_placer(&f);
}

Test(placer, N2_a_later_step_takes_the_place_of_one_that_waits)
{
    placer_fixture f;
    const eepk_put skipped = message(3, 11, 0, EEPK_PHASE_DISPATCH);
    const eepk_put next = message(3, 12, 0, EEPK_PHASE_DISPATCH);

    open_placer(&f);
    cr_expect_eq(place_row(&f, skipped, 0, 1), EEPI_PLACED_PARKED);
    cr_expect_eq(place_tag(&f, skipped, 1), EEPI_PLACED_PARKED);
    cr_expect_eq(place_row(&f, next, 1, 2), EEPI_PLACED_PARKED);
    cr_expect_eq(place_row(&f, skipped, 0, 1), EEPI_PLACED_OLDER);
    cr_expect_eq(eepi_placer_count(f.placer, EEPI_PLACED_OLDER), 3);
    move_to(&f, 3, 11, true);
    cr_expect(!has_tag(&f, &skipped));
    move_to(&f, 3, 12, true);
    cr_expect_eq(*row_at(&f, &next, 1), 2);
    cr_expect_eq(*row_at(&f, &next, 0), 0);
    close_placer(&f);
}

/* A process that the store forgot may have named epochs that its successor never reaches. */
Test(placer, N2_a_newer_process_takes_the_place_of_its_predecessor)
{
    const uint32_t let_in[4] = {1, OWN, GENERATION + 1, 3};
    const eepi_gate_stand to = {5, 20, true, OWN, let_in};
    eepk_put old = message(1000, 900, 0, EEPK_PHASE_DISPATCH),
             now = message(5, 20, 0, EEPK_PHASE_DISPATCH);
    placer_fixture f;

    open_placer(&f);
    now.source_generation = GENERATION + 1;
    cr_expect_eq(place_row(&f, old, 0, 1), EEPI_PLACED_PARKED);
    cr_expect_eq(place_row(&f, now, 0, 2), EEPI_PLACED_PARKED);
    cr_expect_eq(place_row(&f, old, 1, 1), EEPI_PLACED_OLDER);
    cr_expect_eq(place_tag(&f, now, 1), EEPI_PLACED_PARKED);
    old.kind = now.kind = EEPK_PUT_ABORT;
    old.offset = now.offset = eepk_abort_offset(&f.shape, SOURCE);
    old.value = 1;
    now.value = 2;
    cr_expect_eq(eepi_placer_place(f.placer, &old, NULL, GENERATION), EEPI_PLACED);
    cr_expect_eq(eepi_placer_place(f.placer, &now, NULL, GENERATION + 1), EEPI_PLACED);
    cr_expect_eq(*eepk_abort_word(&f.shape, f.window, SOURCE), 2);
    cr_assert_eq(eepi_placer_move(f.placer, &to, LONG_US), EEP_OK);
    cr_expect(has_tag(&f, &now));
    cr_expect_eq(*row_at(&f, &now, 0), 2);
    close_placer(&f);
}

Test(placer, N2_what_waited_too_long_is_dropped)
{
    placer_fixture f;
    const eepk_put next = message(3, 11, 0, EEPK_PHASE_DISPATCH);

    open_placer(&f);
    cr_expect_eq(place_row(&f, next, 0, 1), EEPI_PLACED_PARKED);
    cr_expect_eq(place_tag(&f, next, 1), EEPI_PLACED_PARKED);
    move_to(&f, 4, 12, true);
    cr_expect(!has_tag(&f, &next));
    cr_expect_eq(*row_at(&f, &next, 0), 0);
    cr_expect_eq(eepi_placer_count(f.placer, EEPI_PLACED_OLDER), 2);
    close_placer(&f);
}

Test(placer, N1_nothing_is_written_behind_the_move)
{
    placer_fixture f;
    const eepk_put put = message(3, 10, 0, EEPK_PHASE_DISPATCH);

    open_placer(&f);
    cr_expect_eq(place_row(&f, put, 0, 1), EEPI_PLACED);
    cr_expect_eq(place_tag(&f, put, 2), EEPI_PLACED);
    move_to(&f, 3, 10, false);
    cr_expect_eq(place_row(&f, put, 1, 2), EEPI_PLACED_OLDER);
    move_to(&f, 3, 12, true);
    cr_expect_eq(place_row(&f, put, 1, 2), EEPI_PLACED_OLDER);
    cr_expect_eq(*row_at(&f, &put, 1), 0);
    cr_expect(!has_tag(&f, &put));
    close_placer(&f);
}

static void *place_and_block(void *user)
{
    cr_assert_eq(place_row(user, message(3, 10, 0, EEPK_PHASE_DISPATCH), 0, 1), EEPI_PLACED);
    return NULL;
}

/* A thread that has passed the gate may write much later (H2). */
Test(placer, N1_the_move_waits_for_a_write_under_way)
{
    const eepi_gate_stand shut = {3, 10, false, OWN, members};
    placer_fixture f;
    pthread_t thread;

    open_placer(&f);
    __atomic_store_n(&f.blocks, 1, __ATOMIC_RELEASE);
    cr_assert_eq(pthread_create(&thread, NULL, place_and_block, &f), 0);
    while (__atomic_load_n(&f.blocks, __ATOMIC_ACQUIRE) != 2) {
        usleep(100);
    }
    cr_expect_eq(eepi_placer_move(f.placer, &shut, 2000), EEP_ERR_TIMEOUT);
    __atomic_store_n(&f.blocks, 0, __ATOMIC_RELEASE);
    cr_expect_eq(eepi_placer_move(f.placer, &shut, LONG_US), EEP_OK);
    pthread_join(thread, NULL);
    close_placer(&f);
}

/* ---------------------------------------------------------------- written by the caller itself */

static eepi_placed begin_row(placer_fixture *f, eepk_put *put, uint32_t token, void **to_out)
{
    put->kind = EEPK_PUT_ROWS;
    put->pieces = token;
    put->bytes = 64;
    put->offset = (uint64_t)(row_at(f, put, token) - f->window);
    return eepi_placer_begin(f->placer, put, put->source_generation, to_out);
}

Test(placer, N4_a_piece_that_came_in_part_is_not_placed)
{
    placer_fixture f;
    eepk_put put = message(3, 10, 0, EEPK_PHASE_DISPATCH);
    void *to;

    open_placer(&f);
    cr_expect_eq(place_tag(&f, put, 1), EEPI_PLACED);
    cr_assert_eq(begin_row(&f, &put, 0, &to), EEPI_PLACED);
    cr_expect_eq(to, row_at(&f, &put, 0));
    cr_expect_eq(place_row(&f, put, 0, 1), EEPI_PLACED_DOUBLED, "it is under way");
    eepi_placer_end(f.placer, &(const eepk_put *){&put}, 1, 0);
    cr_expect(!has_tag(&f, &put));
    cr_assert_eq(begin_row(&f, &put, 0, &to), EEPI_PLACED);
    eepi_placer_end(f.placer, &(const eepk_put *){&put}, 1, 1);
    cr_expect(has_tag(&f, &put));
    cr_expect_eq(begin_row(&f, &put, 0, &to), EEPI_PLACED_OLDER);
    cr_expect_eq(eepi_placer_count(f.placer, EEPI_PLACED), 2, "the tag and the row");
    close_placer(&f);
}

Test(placer, N1_the_move_waits_for_a_piece_that_was_begun)
{
    const eepi_gate_stand shut = {3, 10, false, OWN, members};
    placer_fixture f;
    eepk_put put = message(3, 10, 0, EEPK_PHASE_COMBINE);
    void *to;

    open_placer(&f);
    cr_assert_eq(begin_row(&f, &put, 1, &to), EEPI_PLACED);
    cr_expect_eq(eepi_placer_move(f.placer, &shut, 2000), EEP_ERR_TIMEOUT);
    cr_expect_eq(begin_row(&f, &put, 0, &to), EEPI_PLACED_OLDER, "the gate is shut");
    put.pieces = 1;
    eepi_placer_end(f.placer, &(const eepk_put *){&put}, 1, 0);
    cr_expect_eq(eepi_placer_move(f.placer, &shut, LONG_US), EEP_OK);
    cr_expect_eq(begin_row(&f, &put, 1, &to), EEPI_PLACED_OLDER);
    close_placer(&f);
}

Test(placer, N2_what_may_not_be_written_is_not_begun)
{
    placer_fixture f;
    eepk_put put = message(3, 11, 0, EEPK_PHASE_DISPATCH);
    void *to;

    open_placer(&f);
    cr_expect_eq(begin_row(&f, &put, 0, &to), EEPI_PLACED_PARKED, "it is newer");
    put.step = 9;
    cr_expect_eq(begin_row(&f, &put, 0, &to), EEPI_PLACED_OLDER);
    put.step = 10;
    put.source_generation--;
    cr_expect_eq(begin_row(&f, &put, 0, &to), EEPI_PLACED_OLDER);
    put.source_generation += 2;
    cr_expect_eq(begin_row(&f, &put, 0, &to), EEPI_PLACED_FOREIGN);
    put.source_generation--;
    put.layer = 1;
    cr_expect_eq(begin_row(&f, &put, 0, &to), EEPI_PLACED_MALFORMED, "layer 0 is open");
    for (int how = 0; how < EEPI_NUM_PLACED; how++) {
        cr_expect_eq(eepi_placer_count(f.placer, how), 0, "nothing was counted");
    }
    move_to(&f, 3, 11, true); /* nobody is inside */
    close_placer(&f);
}

/* ---------------------------------------------------------------- words, and nonsense */

Test(placer, N3_words_are_never_parked)
{
    placer_fixture f;
    eepk_put put = message(4, 20, 0, EEPK_PHASE_DISPATCH);
    uint64_t *line;

    open_placer(&f);
    line = eepk_abort_word(&f.shape, f.window, SOURCE);
    put.kind = EEPK_PUT_ABORT;
    put.offset = (uint64_t)((uint8_t *)line - f.window);
    put.value = 77;
    cr_expect_eq(eepi_placer_place(f.placer, &put, NULL, GENERATION), EEPI_PLACED);
    cr_expect_eq(*line, 77);
    put.step = 19;
    put.value = 76;
    cr_expect_eq(eepi_placer_place(f.placer, &put, NULL, GENERATION), EEPI_PLACED_DOUBLED);
    cr_expect_eq(*line, 77, "an older word that comes later says nothing");
    put.kind = EEPK_PUT_BEGIN;
    cr_expect_eq(eepi_placer_place(f.placer, &put, NULL, GENERATION), EEPI_PLACED);
    cr_expect_eq(f.begun_step, 19);
    cr_expect_eq(f.begun_shape, 0);
    put.shape = 1;
    cr_expect_eq(eepi_placer_place(f.placer, &put, NULL, GENERATION), EEPI_PLACED_MALFORMED,
                 "there is one shape");
    close_placer(&f);
}

/* A source that has completed this rank's step gives up the next one, and its word overtakes its
 * tags: the step here goes on, and the word counts for the next one. */
Test(placer, N3_a_word_of_a_later_step_ends_no_step_that_its_sender_completed)
{
    placer_fixture f;
    eepk_put put = message(3, 11, 0, EEPK_PHASE_DISPATCH);
    uint64_t *line;

    open_placer(&f);
    line = eepk_abort_word(&f.shape, f.window, SOURCE);
    put.kind = EEPK_PUT_ABORT;
    put.offset = (uint64_t)((uint8_t *)line - f.window);
    put.value = 77;
    put.completed = 10;
    cr_expect_eq(eepi_placer_place(f.placer, &put, NULL, GENERATION), EEPI_PLACED_PARKED);
    cr_expect_eq(*line, 0);
    move_to(&f, 3, 11, true);
    cr_expect_eq(*line, 77);
    put.step = 12;
    put.value = 78; /* it gave up step 11 as well */
    cr_expect_eq(eepi_placer_place(f.placer, &put, NULL, GENERATION), EEPI_PLACED);
    cr_expect_eq(*line, 78);
    close_placer(&f);
}

static eepi_placed place_bad(placer_fixture *f, const eepk_put *put)
{
    static const uint8_t bytes[256];

    return eepi_placer_place(f->placer, put, bytes, GENERATION);
}

/* A source writes its own parts of the window, and combine rows. */
Test(placer, nobody_writes_where_it_has_nothing_to_write)
{
    placer_fixture f;
    eepk_put good, bad;

    open_placer(&f);
    good = message(3, 10, 0, EEPK_PHASE_DISPATCH);
    good.kind = EEPK_PUT_ROWS;
    good.bytes = 64;
    good.offset = (uint64_t)(row_at(&f, &good, 0) - f.window);
    for (int i = 0; i < 9; i++) {
        bad = good;
        switch (i) {
        case 0:
            bad.offset = 0; /* the window's header */
            break;
        case 1:
            bad.offset += 4 * 64; /* the next source's rows */
            break;
        case 2:
            bad.offset -= 1;
            break;
        case 3:
            bad.offset = f.shape.off_combine; /* in the phase of dispatch */
            break;
        case 4:
            bad.bytes = 0xffffffff;
            break;
        case 5:
            bad.offset = UINT64_MAX - 32;
            break;
        case 6:
            bad.source = SELF;
            break;
        case 7:
            bad.layer = 3;
            break;
        default:
            bad.pieces = 0xffffffff;
        }
        cr_expect_eq(place_bad(&f, &bad), EEPI_PLACED_MALFORMED, "case %d", i);
    }
    bad = good;
    bad.kind = EEPK_PUT_TAG;
    bad.bytes = 0;
    bad.value = eepk_tag(3, 10, 0, EEPK_PHASE_DISPATCH);
    bad.offset = (uint64_t)((uint8_t *)tag_at(&f, &good) - f.window) + EEPK_LINE_BYTES;
    cr_expect_eq(place_bad(&f, &bad), EEPI_PLACED_MALFORMED, "another source's line");
    bad = message(3, 10, 1, EEPK_PHASE_COMBINE);
    cr_expect_eq(place_tag(&f, bad, 0), EEPI_PLACED_MALFORMED, "layer 0 comes first");
    bad = message(3, 11, 0, EEPK_PHASE_COMBINE);
    cr_expect_eq(place_tag(&f, bad, 0), EEPI_PLACED_MALFORMED, "it wants this rank's tag");
    cr_expect_eq(place_bad(&f, &good), EEPI_PLACED);
    close_placer(&f);
}

/* ---------------------------------------------------------------- several threads */

typedef struct deliverer {
    placer_fixture *f;
    uint64_t seed;
} deliverer;

/* The messages of an exchange, again and again, in an order of its own. */
static void *deliver(void *user)
{
    const deliverer *d = user;
    const eepk_put put = message(3, 10, 0, EEPK_PHASE_DISPATCH);
    uint64_t random = d->seed;

    for (int round = 0; round < 200000 && !has_tag(d->f, &put); round++) {
        const uint32_t which = (uint32_t)((random = random * 6364136223846793005u + 1) >> 33);
        if (which % 5 == 4) {
            (void)!place_tag(d->f, put, 4);
        } else {
            (void)!place_row(d->f, put, which % 5, (int)(1 + which % 5));
        }
    }
    return NULL;
}

Test(placer, N4_lanes_that_deliver_together_place_each_piece_once)
{
    const eepk_put put = message(3, 10, 0, EEPK_PHASE_DISPATCH);
    deliverer d[3];
    pthread_t threads[3];
    placer_fixture f;

    open_placer(&f);
    for (uint64_t i = 0; i < 3; i++) {
        d[i] = (deliverer){&f, i + 1};
        cr_assert_eq(pthread_create(&threads[i], NULL, deliver, &d[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    cr_expect(has_tag(&f, &put));
    cr_expect_eq(eepi_placer_count(f.placer, EEPI_PLACED), 5);
    for (uint32_t token = 0; token < 4; token++) {
        cr_expect_eq(*row_at(&f, &put, token), 1 + token);
    }
    close_placer(&f);
}
