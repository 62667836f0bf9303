/* SPDX-License-Identifier: Apache-2.0 */
/* Rule D6: what arrives too late is ignored and counted, once; nothing else is. Counters stand near
 * their wraps (S13). */
#include "tests/lib/world/kernel_world.h"

#include "graphs/kernels/compiler_macros.h"
#include "graphs/kernels/exchange.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

TestSuite(kernel_stale, .timeout = 100);

/* An epoch later, and a few steps later, the fields of a tag have wrapped. */
static const uint64_t epoch = (1ull << 20) - 1, first_step = (1ull << EEPK_TAG_STEP_BITS) - 3;
static const moe_shape shape = {3, 2, 6, 3, 2, 8, 4, EEP_FP32, EEP_FP32, 0};

static uint64_t seed(void)
{
    const char *text = getenv("EEP_TEST_SEED");

    return text ? strtoull(text, NULL, 0) : 20261121;
}

/* As `source` would, into a rank's window. */
static void store_tag(kernel_world *w, int rank, uint32_t source, uint64_t of_epoch, uint64_t step,
                      uint32_t layer, uint32_t phase)
{
    eepk_store_release(eepk_phase_tag(&w->layout, w->rank[rank].window, phase, 0, source),
                       eepk_tag(of_epoch, step, layer, phase));
}

/* A step of all members, which must come out right; windows are left as they were found. Each
 * member counts that many stale arrivals. */
static void check_step(kernel_world *w, uint64_t step, uint64_t stale)
{
    kernel_world_fill(w, seed() + step);
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        if (kernel_is_member(w, seat)) {
            kernel_rank_launch(w, seat, step, kernel_long_ns);
        }
    }
    for (int seat = 0; seat < w->shape.max_ranks; seat++) {
        const eepk_status *status;
        if (!kernel_is_member(w, seat)) {
            continue;
        }
        status = kernel_rank_end(w, seat);
        cr_assert_eq(status->result, EEPK_STEP_OK, "seat %d: result %u", seat, status->result);
        cr_assert_eq(status->stale_dropped, stale, "seat %d: %d counted instead of %d", seat,
                     (int)status->stale_dropped, (int)stale);
        cr_assert_lt(kernel_rank_compare(w, seat, false), 0, "EEP_TEST_SEED=%llu",
                     (unsigned long long)seed());
    }
}

/* Seat 0 alone, without waiting: what does it count? */
static uint64_t counted_alone(kernel_world *w, uint64_t step)
{
    kernel_rank_prepare(w, 0, step, 0);
    kernel_rank_run(w, 0, EEPI_KERNEL_latch, 0);
    kernel_rank_run_to(w, 0, EEPI_KERNEL_unpack, 0);
    return kernel_rank_finish(w, 0)->stale_dropped;
}

/* Seat 1 is a member, seat 2 is not: both kinds of lines, all phases and layers. */
Test(kernel_stale, D6_only_tags_of_older_epochs_count)
{
    const struct {
        int64_t epoch, step;
        uint64_t counted;
    } cases[] = {{-1, 0, 1}, {-1, 4, 1},      {-1, -2, 1}, {-(1 << 19) + 1, 0, 1},
                 {0, -2, 0}, {0, 1 << 20, 0}, /* a member that aborted; one that is ahead */
                 {1, -2, 0}, {1, 0, 0},       {9, 2, 0}}; /* one that has flipped already */
    kernel_world *w = kernel_world_open(&shape, 1);
    uint64_t step = first_step;

    kernel_world_switch(w, kernel_view(w, epoch + 1, 3, 1, seed()));
    kernel_world_fill(w, seed());
    cr_assert_eq(counted_alone(w, step), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (uint32_t line = 0; line < 8; line++) {
            const uint32_t source = 1 + line / 4, layer = line / 2 % 2, phase = 1 + line % 2;
            step += 2;
            store_tag(w, 0, source, epoch + 1 + (uint64_t)cases[i].epoch,
                      step + (uint64_t)cases[i].step, layer, phase);
            eepk_store_release(eepk_abort_word(&w->layout, w->rank[0].window, source),
                               eepk_abort_word_of(epoch, step, 0)); /* never counts */
            cr_assert_eq(counted_alone(w, step), cases[i].counted, "case %zu, line %u", i, line);
            cr_assert_eq(counted_alone(w, step + 1), 0, "case %zu, line %u, again", i, line);
        }
    }
    kernel_world_close(w);
}

/* What lies in the lines at a flip is the past, whoever left it there, and counts no more. So it
 * is for a rank that was away for some epochs and comes back. */
Test(kernel_stale, D6_the_first_look_under_an_epoch_counts_nothing)
{
    kernel_world *w = kernel_world_open(&shape, 2);
    uint64_t step = first_step;

    for (uint64_t round = 0; round < 12; round++) {
        const uint64_t members = 7u & ~(round % 4 == 3 ? 0u : 1u << round % 4);
        kernel_world_switch(w, kernel_view(w, epoch - 1 + round, members, 1, seed() + round));
        for (uint32_t line = 0; line < 4; line++) {
            for (int rank = 0; rank < 3; rank++) {
                store_tag(w, rank, (uint32_t)round % 3, epoch - 2 - round, step, line / 2,
                          1 + line % 2);
            }
        }
        for (int i = 0; i < 3; i++) {
            check_step(w, step++, 0);
        }
    }
    kernel_world_close(w);
}

/* Seat 2 is stopped before its node `at` of layer 0, expelled without being killed, and goes on
 * when the others serve without it. Its dispatch publishes one more tag, which counts; then it sees
 * their abort words. */
static void check_zombie(eepi_kernel_id at, int concurrent, int stale)
{
    kernel_world *w = kernel_world_open(&shape, 2);
    uint64_t step = first_step, counted[2] = {0, 0};

    kernel_world_switch(w, kernel_view(w, epoch, 7, 1, seed()));
    check_step(w, step++, 0);
    kernel_world_fill(w, seed());
    kernel_rank_launch(w, 0, step, kernel_long_ns);
    kernel_rank_launch(w, 1, step, kernel_long_ns);
    kernel_rank_prepare(w, 2, step, kernel_long_ns);
    kernel_rank_run(w, 2, EEPI_KERNEL_latch, 0);
    kernel_rank_run_to(w, 2, (eepi_kernel_id)(at - 1), 0);
    for (int seat = 0; seat < 2; seat++) {
        eepk_store_release(eepi_tables_abort_step(w->rank[seat].tables), step);
        cr_assert_neq(kernel_rank_end(w, seat)->result, EEPK_STEP_OK);
    }

    kernel_world_switch(w, kernel_view(w, epoch + 1, 3, 1, seed() + 1));
    check_step(w, ++step, 0);
    if (concurrent) { /* whether this step's look or the next one's finds it */
        kernel_rank_launch(w, 0, ++step, kernel_long_ns);
        kernel_rank_launch(w, 1, step, kernel_long_ns);
    }
    for (int id = at; id <= (int)EEPI_KERNEL_reduce; id++) {
        kernel_rank_run(w, 2, (eepi_kernel_id)id, 0);
    }
    const uint32_t result = kernel_rank_finish(w, 2)->result;
    /* the peers' last tags may be there: then it gets on, and its layers are not all */
    cr_assert(result == EEPK_STEP_PEER_ABORT ||
                  (at == EEPI_KERNEL_combine_exchange && result == EEPK_STEP_PART),
              "node %d: result %u", (int)at, result);
    for (int seat = 0; seat < 2 && concurrent; seat++) {
        cr_assert_eq(kernel_rank_end(w, seat)->result, EEPK_STEP_OK);
        cr_assert_lt(kernel_rank_compare(w, seat, false), 0);
        counted[seat] = kernel_rank_end(w, seat)->stale_dropped;
    }
    step++;
    kernel_rank_launch(w, 0, step, kernel_long_ns);
    kernel_rank_launch(w, 1, step, kernel_long_ns);
    for (int seat = 0; seat < 2; seat++) {
        cr_assert_eq(kernel_rank_end(w, seat)->result, EEPK_STEP_OK);
        cr_assert_lt(kernel_rank_compare(w, seat, false), 0);
        counted[seat] += kernel_rank_end(w, seat)->stale_dropped;
        cr_assert_eq((int)counted[seat], stale, "node %d, seat %d: %d", (int)at, seat,
                     (int)counted[seat]);
    }
    check_step(w, ++step, 0);
    kernel_world_close(w);
}

Test(kernel_stale, D6_a_zombies_dispatch_is_counted_once)
{
    for (int concurrent = 0; concurrent < 2; concurrent++) {
        check_zombie(EEPI_KERNEL_dispatch_send, concurrent, 1); /* rows, then the tag */
        check_zombie(EEPI_KERNEL_dispatch_exchange, concurrent, 0);
    }
}

/* Before it stores a combine tag it looks at the others' abort words, and stores none. */
Test(kernel_stale, P1_a_zombie_stores_no_combine_tag)
{
    for (int concurrent = 0; concurrent < 2; concurrent++) {
        check_zombie(EEPI_KERNEL_combine_send, concurrent, 0);
        check_zombie(EEPI_KERNEL_combine_exchange, concurrent, 0);
    }
}

/* Should a predecessor's stores reach a seat where a new generation serves (rule M7 forbids it),
 * between steps, nothing of them is read: its rows, list and counts are all of ones, and the
 * outputs are what they are without it. A tag counts once, if the successor's does not replace it
 * before this rank looks. */
Test(kernel_stale, D6_a_predecessor_in_an_occupied_seat_is_counted_at_most_once)
{
    kernel_world *w = kernel_world_open(&shape, 2);
    const eepk_shape *s = &w->layout;
    const uint32_t phases[] = {1, 2, 3, 0};
    uint64_t step = first_step;

    kernel_world_switch(w, kernel_view(w, epoch, 7, 1, seed()));
    check_step(w, step++, 0);
    kernel_world_switch(w, kernel_view(w, epoch + 1, 7, 2, seed() + 1));
    check_step(w, step++, 0);
    for (int i = 0; i < 4; i++) { /* dispatch, combine, both, only rows */
        for (int rank = 0; rank < 2; rank++) {
            uint8_t *window = w->rank[rank].window;
            memset(eepk_dispatch_row(s, window, 0, 2, 0), 1,
                   (size_t)s->num_max_tokens * s->row_bytes);
            memset(eepk_list(s, window, 0, 2, 0), 1,
                   sizeof(eepk_list_entry) * s->num_max_tokens * s->top_k);
            memset(eepk_header(s, window, 0, 2), 1, s->header_bytes);
            for (uint32_t phase = 1; phase <= 2; phase++) {
                if (phases[i] & phase) {
                    store_tag(w, rank, 2, epoch, step + 2 * (uint64_t)i, 1, phase);
                }
            }
        }
        /* seat 2's own window is untouched: it counts nothing */
        kernel_world_fill(w, seed() + step);
        for (int seat = 0; seat < 3; seat++) {
            kernel_rank_launch(w, seat, step, kernel_long_ns);
        }
        for (int seat = 0; seat < 3; seat++) {
            const eepk_status *status = kernel_rank_end(w, seat);
            const int stale = seat == 2 ? 0 : __builtin_popcount(phases[i]);
            cr_assert_eq(status->result, EEPK_STEP_OK);
            cr_assert_leq((int)status->stale_dropped, stale, "case %d, seat %d: %d", i, seat,
                          (int)status->stale_dropped);
            cr_assert_lt(kernel_rank_compare(w, seat, false), 0);
        }
        check_step(w, ++step, 0);
        step++;
    }
    kernel_world_close(w);
}
