/* SPDX-License-Identifier: Apache-2.0 */
/* Loads of experts through the public API: what is counted, and what the engine sets. */
#include "tests/lib/context_checks.h"

#include <stdlib.h>
#include <string.h>

TestSuite(context_loads, .timeout = 100);

enum { NUM_LOADS = WORLD_LAYERS * WORLD_EXPERTS, PAIRS = WORLD_TOKENS * WORLD_TOPK };

static uint64_t sum_of(const uint64_t *loads, int layer)
{
    uint64_t sum = 0;

    for (int expert = 0; expert < WORLD_EXPERTS; expert++) {
        sum += loads[layer * WORLD_EXPERTS + expert];
    }
    return sum;
}

/* A call answers what the step after the last call has found. */
Test(context_loads, tokens_are_counted_per_layer_and_expert)
{
    uint64_t loads[NUM_LOADS], before[NUM_LOADS];
    world w;
    world_open(&w, 3, 3);
    world_start(&w);
    for (int round = 0; round < 3; round++) {
        cr_assert_eq(eep_loads_get(w.ranks[0].context, before), EEP_OK);
        rank_set_mode(&w.ranks[0], RANK_WORK);
        world_advance(&w, 0, 0, 5);
        world_rest(&w);
        cr_assert_eq(eep_loads_get(w.ranks[0].context, loads), EEP_OK);
        for (int layer = 0; layer < WORLD_LAYERS; layer++) {
            cr_expect_eq(sum_of(loads, layer) % PAIRS, 0);
            cr_expect_leq(sum_of(loads, layer), w.ranks[0].position * PAIRS);
            cr_expect_gt(sum_of(loads, layer), sum_of(before, layer));
            cr_expect_eq(sum_of(loads, layer), sum_of(loads, 0));
        }
        for (int i = 0; i < NUM_LOADS; i++) {
            cr_expect_geq(loads[i], before[i]);
        }
        cr_assert_eq(eep_loads_get(w.ranks[1].context, loads), EEP_OK);
        cr_expect_eq(sum_of(loads, 0), 0, "rank 1 had no token");
    }
    world_check_never_aborted(&w, 0, 2);
    world_check_right(&w);
    world_close(&w);
}

/* A view of new shares alone: all ranks flip to it, and no weight moves. */
Test(context_loads, loads_that_are_set_bring_a_view_with_other_shares)
{
    uint32_t loads[NUM_LOADS] = {0};
    world w;
    world_open(&w, 3, 3);
    w.config.background_bytes_per_s = 0; /* nothing else plans */
    world_start(&w);
    for (int i = 0; i < NUM_LOADS; i++) {
        loads[i] = i % WORLD_EXPERTS == 0 ? 1000 : 1 + (uint32_t)i % 5 * 200;
    }
    for (int32_t seat = 0; seat < 3; seat++) {
        cr_assert_eq(eep_loads_set(w.ranks[seat].context, loads), EEP_OK);
    }
    world_set_modes(&w, 0, 2, RANK_WORK);
    WORLD_WAIT(&w, w.ranks[0].last_epoch == 2 && w.ranks[1].last_epoch == 2 &&
                       w.ranks[2].last_epoch == 2);
    world_advance(&w, 0, 2, 20);
    world_rest(&w);
    world_check_never_aborted(&w, 0, 2);
    world_check_right(&w);
    for (int32_t seat = 0; seat < 3; seat++) {
        cr_expect_eq(rank_counters(&w.ranks[seat]).weights_bytes_background, 0);
        cr_expect_eq(w.ranks[seat].last_epoch, 2, "the same loads bring no other view");
    }
    world_close(&w);
}

static bool has_loaded(const rank *r, int layer, int expert)
{
    for (int slot = 0; slot < WORLD_SLOTS; slot++) {
        if (r->experts[layer][slot] == expert) {
            return true;
        }
    }
    return false;
}

/* Two ranks have one replica of most experts. The third has a slot less than there are such
 * experts, and leaves out the coldest. */
Test(context_loads, who_joins_loads_what_is_hot)
{
    uint32_t loads[NUM_LOADS];
    world w;
    world_open(&w, 2, 3);
    w.config.background_bytes_per_s = 0;
    world_start(&w);
    for (int i = 0; i < NUM_LOADS; i++) {
        const int expert = i % WORLD_EXPERTS;
        loads[i] = expert == 3 + i / WORLD_EXPERTS ? 1 : 1000 * (1 + (uint32_t)expert);
    }
    for (int32_t seat = 0; seat < 2; seat++) {
        cr_assert_eq(eep_loads_set(w.ranks[seat].context, loads), EEP_OK);
    }
    world_set_modes(&w, 0, 1, RANK_WORK);
    WORLD_WAIT(&w, w.ranks[0].last_epoch == 2 && w.ranks[1].last_epoch == 2);
    world_let_in(&w, 2, 0, 2, 5);
    for (int layer = 0; layer < WORLD_LAYERS; layer++) {
        cr_expect(!has_loaded(&w.ranks[2], layer, 3 + layer), "layer %d: the coldest", layer);
        cr_expect(has_loaded(&w.ranks[2], layer, WORLD_EXPERTS - 1), "layer %d: the hottest",
                  layer);
    }
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

Test(context_loads, what_is_refused)
{
    uint32_t loads[NUM_LOADS] = {1};
    world w;
    world_open(&w, 2, 2);
    world_start(&w);
    cr_expect_eq(eep_loads_get(w.ranks[0].context, NULL), EEP_ERR_INVALID);
    cr_expect(strstr(eep_error_text(), "loads_out"));
    cr_expect_eq(eep_loads_get(NULL, (uint64_t[NUM_LOADS]){0}), EEP_ERR_INVALID);
    cr_expect_eq(eep_loads_set(NULL, loads), EEP_ERR_INVALID);
    cr_expect_eq(eep_loads_set(w.ranks[0].context, loads), EEP_OK);
    cr_expect_eq(eep_loads_set(w.ranks[0].context, NULL), EEP_OK);
    world_close(&w);
}
