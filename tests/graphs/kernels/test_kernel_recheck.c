/* SPDX-License-Identifier: Apache-2.0 */
/* What was read of a source counts only if it still stands when the chain's next tag is stored
 * (rules D2, P1), and counts and lists that were torn stay in their bounds. */
#include "tests/lib/world/kernel_pair.h"

#include "graphs/kernels/compiler_macros.h"

#include <criterion/criterion.h>

#define REPLAY     "seed %llu (replay: EEP_TEST_SEED=%llu and this test)"
#define SEED(seed) (unsigned long long)(seed), (unsigned long long)(seed)

TestSuite(kernel_recheck, .timeout = 100);

enum { SHORT_NS = 3000000, STEP = 100, EPOCH = KERNEL_PAIR_EPOCH };

/* Seat 0 reads what seat 1 sent in a phase of a layer, to the end of its receive. */
static void read_phase(kernel_world *w, uint32_t layer, uint32_t phase)
{
    kernel_pair_peer_sends(w, STEP, 0); /* these rows serve for each layer */
    kernel_pair_begin(w, STEP, SHORT_NS);
    for (uint32_t i = 0; i <= layer; i++) {
        kernel_pair_publish(w, EPOCH, STEP, i, EEPK_PHASE_DISPATCH);
        kernel_rank_run_to(w, 0, EEPI_KERNEL_unpack, i);
        if (i == layer && phase == EEPK_PHASE_DISPATCH) {
            break;
        }
        kernel_pair_publish(w, EPOCH, STEP, i, EEPK_PHASE_COMBINE);
        for (int id = EEPI_KERNEL_combine_send; id <= (int)EEPI_KERNEL_reduce; id++) {
            kernel_rank_run(w, 0, (eepi_kernel_id)id, i);
        }
    }
    cr_assert_eq(kernel_pair_latch(w)->aborted, 0);
}

/* What stores the chain's next tag, and looks before: a send, or the finish. Returns whether seat 1
 * got that tag. */
static bool go_on(kernel_world *w, uint32_t layer, uint32_t phase)
{
    const uint32_t next = phase == EEPK_PHASE_DISPATCH ? EEPK_PHASE_COMBINE : EEPK_PHASE_DISPATCH;
    const bool is_last = phase == EEPK_PHASE_COMBINE && layer + 1 == w->layout.num_layers;
    const uint64_t tag = eepk_tag(EPOCH, STEP, layer + (next == EEPK_PHASE_DISPATCH), next);

    if (phase == EEPK_PHASE_DISPATCH) {
        kernel_rank_run(w, 0, EEPI_KERNEL_combine_send, layer);
    } else if (!is_last) {
        kernel_rank_run_to(w, 0, EEPI_KERNEL_dispatch_send, layer + 1);
    }
    return !is_last &&
           eepk_load_acquire(eepk_phase_tag(&w->layout, w->rank[1].window, next, 0, 0)) == tag;
}

/* A source that gave up the step writes its next one's rows under the old tag, after this rank has
 * seen the tag: the look before the chain's next tag finds the abort word (rules D2, P1). */
Test(kernel_recheck, P1_an_aborted_source_is_noticed_before_the_next_tag)
{
    for (int i = 0; i < 4; i++) {
        kernel_world *w = kernel_pair_open();
        const uint32_t layer = (uint32_t)i / 2, phase = 1 + (uint32_t)i % 2;
        read_phase(w, layer, phase);
        eepk_store_release(eepk_abort_word(&w->layout, w->rank[0].window, 1),
                           eepk_abort_word_of(EPOCH, STEP, 0));
        cr_assert(!go_on(w, layer, phase), "case %d: a tag speaks for what was read", i);
        cr_assert_eq(kernel_rank_finish(w, 0)->result, EEPK_STEP_PEER_ABORT, "case %d", i);
        kernel_world_close(w);
    }
}

Test(kernel_recheck, P1_a_tag_that_changes_is_noticed_before_the_next_tag)
{
    for (int i = 0; i < 4; i++) {
        kernel_world *w = kernel_pair_open();
        const uint32_t layer = (uint32_t)i / 2, phase = 1 + (uint32_t)i % 2;
        read_phase(w, layer, phase);
        kernel_pair_publish(w, EPOCH, STEP + 2, 0, phase);
        cr_assert(!go_on(w, layer, phase), "case %d: a tag speaks for what was read", i);
        cr_assert_eq(kernel_rank_finish(w, 0)->result, EEPK_STEP_STALE, "case %d", i);
        cr_assert_geq(kernel_rank_finish(w, 0)->stale_dropped, 1);
        kernel_world_close(w);
    }
}

/* The step's host gave it up after the rows were read: no tag may speak for what engines made of
 * them, since their kernels may have left rows out. */
Test(kernel_recheck, P1_a_step_that_its_host_gave_up_stores_no_tag)
{
    for (uint32_t phase = EEPK_PHASE_DISPATCH; phase <= (uint32_t)EEPK_PHASE_COMBINE; phase++) {
        kernel_world *w = kernel_pair_open();
        read_phase(w, 0, phase);
        eepk_store_release(eepi_tables_abort_step(w->rank[0].tables), STEP);
        cr_assert(!go_on(w, 0, phase));
        cr_assert_eq(kernel_rank_finish(w, 0)->result, EEPK_STEP_HOST_ABORT);
        cr_assert_neq(*eepk_abort_word(&w->layout, w->rank[1].window, 0), 0, "nobody is told");
        kernel_world_close(w);
    }
}

/* A step that is put node by node may end behind its last tags, without a finish. The next latch
 * tells the peers that read what was sent in it, before a row of the next step lies there. */
Test(kernel_recheck, P1_a_step_without_an_end_is_given_up_by_the_next_latch)
{
    kernel_world *w = kernel_pair_open();

    read_phase(w, 1, EEPK_PHASE_DISPATCH);
    (void)go_on(w, 1, EEPK_PHASE_DISPATCH); /* its last tag, and no more */
    cr_assert_eq(*eepk_abort_word(&w->layout, w->rank[1].window, 0), 0);
    eepi_tables_launch(w->rank[0].tables)->step = STEP + 1;
    kernel_rank_run(w, 0, EEPI_KERNEL_latch, 0);
    cr_assert_eq(eepk_abort_step_after(*eepk_abort_word(&w->layout, w->rank[1].window, 0), STEP),
                 0);
    kernel_world_close(w);
}

/* A peer that completed the step may have given up the next one since: that condemns what a later
 * tag would speak for, and not the step's end. */
Test(kernel_recheck, P1_a_peer_that_gave_up_the_next_step_spoils_no_finish)
{
    kernel_world *w = kernel_pair_open();

    read_phase(w, 1, EEPK_PHASE_COMBINE);
    eepk_store_release(eepk_abort_word(&w->layout, w->rank[0].window, 1),
                       eepk_abort_word_of(EPOCH, STEP + 1, 0));
    cr_assert_eq(kernel_rank_finish(w, 0)->result, EEPK_STEP_OK);
    kernel_world_close(w);
    w = kernel_pair_open();
    read_phase(w, 0, EEPK_PHASE_DISPATCH);
    eepk_store_release(eepk_abort_word(&w->layout, w->rank[0].window, 1),
                       eepk_abort_word_of(EPOCH, STEP + 1, 0));
    cr_assert(!go_on(w, 0, EEPK_PHASE_DISPATCH));
    cr_assert_eq(kernel_rank_finish(w, 0)->result, EEPK_STEP_PEER_ABORT);
    kernel_world_close(w);
}

/* Change one or more words of what seat 1 sent, before seat 0 reads it or between its two reads. */
static void tear(kernel_world *w, uint64_t *random)
{
    const eepk_shape *s = &w->layout;
    eepk_source_header *header = eepk_header(s, w->rank[0].window, 0, 1);
    const int big = kernel_below(random, 2);

    for (int n = 1 + kernel_below(random, 3); n > 0; n--) {
        const uint32_t value =
            big ? (uint32_t)kernel_random(random) : (uint32_t)kernel_below(random, 6);
        eepk_list_entry *entry = eepk_list(s, w->rank[0].window, 0, 1,
                                           (uint32_t)kernel_below(random, (int)s->num_max_tokens)) +
                                 kernel_below(random, (int)s->top_k);
        switch (kernel_below(random, 4)) {
        case 0:
            header->num_tokens = value;
            break;
        case 1:
            ((uint32_t *)(header + 1))[kernel_below(random, (int)s->num_slots)] = value;
            break;
        case 2:
            entry->slot = (uint16_t)value;
            break;
        default:
            entry->ordinal = (uint16_t)value;
        }
    }
}

/* Who packed rows came from, by (seat, token, k) of kernel_pair_shape: each at most once? */
static int each_claimed_once(kernel_world *w, int num_rows)
{
    int claims[2][4][2] = {{{0}}};

    for (int i = 0; i < num_rows; i++) {
        const eepk_origin *o = &w->rank[0].world->scratch[0].origin[i];
        if (o->seat > 1 || o->token > 3 || o->k > 1 || ++claims[o->seat][o->token][o->k] > 1) {
            return 0;
        }
    }
    return 1;
}

/* A step of seat 0 with a torn source; returns how it ended. */
static uint32_t run_torn(kernel_world *w, uint64_t *random)
{
    const int late = kernel_below(random, 2);
    int once, n;

    for (uint32_t i = 0; i < w->layout.rows_capacity; i++) { /* left there long ago */
        w->rank[0].world->scratch[0].origin[i] = (eepk_origin){.seat = 2};
    }
    kernel_rank_fill(w, 1, 4, kernel_random(random));
    kernel_pair_peer_sends(w, STEP, 0);
    if (!late) {
        tear(w, random);
    }
    kernel_pair_publish(w, EPOCH, STEP, 0, EEPK_PHASE_DISPATCH);
    kernel_pair_publish(w, EPOCH, STEP, 0, EEPK_PHASE_COMBINE);
    kernel_pair_begin(w, STEP, kernel_long_ns);
    kernel_rank_run_to(w, 0, EEPI_KERNEL_dispatch_exchange, 0);
    if (late) {
        tear(w, random);
    }
    kernel_rank_run(w, 0, EEPI_KERNEL_unpack, 0);
    n = w->rank[0].layer[0].slot_begin[w->shape.num_slots];
    cr_assert(n >= 0 && n <= (int)w->layout.rows_capacity);
    once = each_claimed_once(w, n);
    for (int id = EEPI_KERNEL_combine_send; id <= (int)EEPI_KERNEL_reduce; id++) {
        kernel_rank_run(w, 0, (eepi_kernel_id)id, 0);
    }
    kernel_pair_latch(w)->chain[0].num_nodes = /* as if the other layers had run */
        EEPK_NODES_PER_LAYER * w->layout.num_layers;
    kernel_pair_publish(w, EPOCH, STEP, w->layout.num_layers - 1, EEPK_PHASE_COMBINE);
    cr_assert(kernel_rank_finish(w, 0)->result != EEPK_STEP_OK || once);
    return kernel_rank_finish(w, 0)->result;
}

/* With any counts and lists of a source, reads and writes stay in bounds (AddressSanitizer), and
 * unless every packed row is claimed exactly once the step ends STALE before a tag vouches for it.
 * Seat 2 is vacant: nothing may be sent there. */
Test(kernel_recheck, torn_counts_and_lists_are_bounded)
{
    const uint64_t seed = kernel_pair_seed();
    uint64_t random = seed;
    int torn = 0, harmless = 0;
    kernel_world *w = kernel_pair_open();

    for (int round = 0; round < 3000; round++) {
        const uint32_t result = run_torn(w, &random);
        cr_assert(result == EEPK_STEP_STALE || result == EEPK_STEP_OK, "result %u, " REPLAY, result,
                  SEED(seed));
        torn += result == EEPK_STEP_STALE;
        harmless += result == EEPK_STEP_OK;
    }
    cr_assert(torn > 1000 && harmless > 100, "%d torn, %d harmless", torn, harmless);
    kernel_world_close(w);
}
