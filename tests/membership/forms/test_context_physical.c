/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that give physical ids: they ask for the live placement when the epoch changes, and their
 * ids name it (rule P12). */
#include "tests/lib/context_checks.h"

#include <string.h>

TestSuite(context_physical, .timeout = 60);

enum { NUM_IDS = WORLD_TOKENS * WORLD_TOPK };

typedef struct placed {
    int32_t *ids[WORLD_LAYERS]; /* pinned */
    uint64_t *word;             /* pinned */
    uint64_t epoch;             /* of what is below */
    int32_t experts[WORLD_LAYERS][WORLD_SEATS * WORLD_SLOTS];
    int is_stale; /* it does not ask again */
    int32_t num_asked;
} placed;

static placed seats[WORLD_SEATS];

static void *pinned(rank *r, size_t bytes)
{
    void *at = NULL;

    cr_assert_eq(eep_device_alloc(r->device, EEP_MEMORY_PINNED, bytes, &at), EEP_OK);
    r->buffers[r->num_buffers++] = (rank_buffer){EEP_MEMORY_PINNED, at};
    return at;
}

static void make_ids(rank *r)
{
    placed *p = &seats[r->seat];

    memset(p, 0, sizeof *p);
    for (int layer = 0; layer < WORLD_LAYERS; layer++) {
        p->ids[layer] = pinned(r, NUM_IDS * sizeof(int32_t));
    }
    p->word = pinned(r, sizeof *p->word);
}

static void take_ids(const rank *r, int32_t layer, eep_dispatch_args *args)
{
    args->ids = EEP_IDS_PHYSICAL;
    args->topk_idx = seats[r->seat].ids[layer];
    args->placement = seats[r->seat].word;
}

static void ask(rank *r)
{
    placed *p = &seats[r->seat];
    eep_live_placement live;
    int32_t experts[WORLD_LAYERS * WORLD_SEATS * WORLD_SLOTS];
    const int32_t num = r->world->config.max_ranks * WORLD_SLOTS;

    cr_assert_eq(eep_live_placement_get(r->context, EEP_SIZED(&live), experts), EEP_OK, "%s",
                 eep_last_error(r->context));
    for (int layer = 0; layer < WORLD_LAYERS; layer++) {
        memcpy(p->experts[layer], experts + layer * num, (size_t)num * sizeof(int32_t));
    }
    p->epoch = live.epoch;
    *p->word = live.placement;
    p->num_asked++;
}

/* The replica with the highest id: shares would choose others. */
static int32_t id_of(const rank *r, int layer, int32_t expert)
{
    const placed *p = &seats[r->seat];
    int32_t id = r->world->config.max_ranks * WORLD_SLOTS - 1;

    while (id >= 0 && p->experts[layer][id] != expert) {
        id--;
    }
    return id;
}

static void place_ids(rank *r)
{
    placed *p = &seats[r->seat];
    eep_live_placement live = {0};

    if (p->epoch == 0 || !p->is_stale) {
        cr_assert_eq(eep_live_placement_get(r->context, EEP_SIZED(&live), NULL), EEP_OK);
        if (live.epoch != p->epoch) {
            ask(r);
        }
    }
    for (int i = 0; i < WORLD_LAYERS * NUM_IDS; i++) {
        p->ids[i / NUM_IDS][i % NUM_IDS] = id_of(r, i / NUM_IDS, r->topk_idx[i % NUM_IDS]);
    }
}

static void open_placed(world *w, int32_t num_ranks, int32_t max_ranks)
{
    world_open(w, num_ranks, max_ranks);
    for (int32_t seat = 0; seat < max_ranks; seat++) {
        w->ranks[seat].opened = make_ids;
        w->ranks[seat].form = take_ids;
        w->ranks[seat].filled = place_ids;
    }
}

/* A rank that asks when the epoch changes gives no bad id, through faults, joins and repairs behind
 * traffic. */
Test(context_physical, P12_a_rank_that_asks_is_never_refused)
{
    world w;
    open_placed(&w, 4, 4);
    w.config.background_bytes_per_s = 100000000;
    world_start(&w);
    world_set_modes(&w, 0, 3, RANK_WORK);
    world_advance(&w, 0, 3, 5);
    for (int round = 0; round < 2; round++) {
        rank_close(&w.ranks[2]);
        world_advance(&w, 0, 1, 10);
        world_let_in(&w, 2, 0, 3, 10);
    }
    world_rest(&w);
    for (int32_t seat = 0; seat < 4; seat++) {
        cr_expect_eq(w.ranks[seat].steps_bad, 0, "seat %d: %s", seat, w.ranks[seat].text);
        cr_expect(seats[seat].num_asked >= 1);
    }
    cr_expect(seats[0].num_asked >= 5, "the placement changed, and it asked %d times",
              seats[0].num_asked);
    world_check_right(&w);
    world_close(&w);
}

/* Ids of a placement that is gone are refused by name on the rank that gives them; its peers go
 * on. */
Test(context_physical, P12_ids_of_another_placement_are_refused_by_name)
{
    eep_bad_input bad;
    world w;
    open_placed(&w, 3, 3);
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, 3);
    seats[0].is_stale = 1;
    rank_close(&w.ranks[1]);
    WORLD_WAIT(&w, w.ranks[0].steps_bad > 2);
    world_advance(&w, 2, 2, 3);
    world_rest(&w);
    cr_expect_eq(w.ranks[2].steps_bad, 0);
    cr_expect(strstr(w.ranks[0].text, "the physical ids were made under placement"), "%s",
              w.ranks[0].text);
    cr_assert_eq(eep_bad_input_get(w.ranks[0].context, EEP_SIZED(&bad)), EEP_OK);
    cr_expect_eq(bad.kind, EEP_BAD_PLACEMENT);
    cr_expect_str_eq(eep_bad_kind_name(bad.kind), "another placement");
    cr_expect(bad.layer == 0 && bad.token == -1 && bad.k == -1 && bad.num_bad_tokens == 0);
    seats[0].is_stale = 0;
    world_set_modes(&w, 0, 0, RANK_WORK);
    world_set_modes(&w, 2, 2, RANK_WORK);
    world_advance(&w, 0, 0, 3);
    world_rest(&w);
    cr_expect_eq(w.ranks[0].wrong + w.ranks[2].wrong, 0);
    world_close(&w);
}

/* ---------------------------------------------------------------- bad ids */

static int32_t bad_id;

static void place_one_bad(rank *r)
{
    place_ids(r);
    if (bad_id != -1) {
        seats[r->seat].ids[1][3] = bad_id;
    }
}

static void expect_bad(rank *r, int32_t id, eep_bad_kind kind, const char *name, const char *text)
{
    eep_bad_input bad;

    bad_id = id;
    cr_assert_eq(rank_step(r, WORLD_TOKENS), EEP_ERR_BAD_STEP_INPUT, "id %d: %s", id, r->text);
    cr_assert_eq(eep_bad_input_get(r->context, EEP_SIZED(&bad)), EEP_OK);
    cr_expect(bad.kind == kind && bad.layer == 1 && bad.token == 1 && bad.k == 1 &&
                  bad.value == id && bad.num_bad_tokens == 1,
              "id %d: kind %d", id, (int)bad.kind);
    cr_expect_str_eq(eep_bad_kind_name(bad.kind), name);
    cr_expect(strstr(r->text, text), "%s", r->text);
    bad_id = -1;
    cr_expect_eq(rank_step(r, WORLD_TOKENS), EEP_OK, "the next one: %s", r->text);
}

Test(context_physical, bad_ids_are_named)
{
    eep_live_placement live;
    world w;
    rank *r;
    int32_t empty = WORLD_SLOTS - 1;

    bad_id = -1;
    open_placed(&w, 1, 2);
    w.config.num_experts = WORLD_SLOTS - 1;
    w.config.top_k = WORLD_TOPK;
    r = &w.ranks[0];
    r->filled = NULL;
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", r->error);
    cr_expect_eq(eep_live_placement_get(r->context, EEP_SIZED(&live), NULL), EEP_ERR_NOT_FOUND);
    cr_expect(strstr(eep_last_error(r->context), "no view is live yet"), "%s",
              eep_last_error(r->context));
    cr_assert_eq(eep_join(r->context), EEP_OK, "%s", eep_last_error(r->context));
    cr_assert_eq(rank_step(r, 0), EEP_ERR_BAD_STEP_INPUT, "no word was given");
    r->filled = place_one_bad;
    ask(r);
    while (empty > 0 && seats[0].experts[1][empty] >= 0) {
        empty--;
    }
    if (seats[0].experts[1][empty] < 0) {
        expect_bad(r, empty, EEP_BAD_SLOT_EMPTY, "empty slot", "is of a slot that is empty");
    }
    expect_bad(r, WORLD_SLOTS, EEP_BAD_SEAT_INACTIVE, "inactive seat", "seat that is not active");
    expect_bad(r, 2 * WORLD_SLOTS, EEP_BAD_EXPERT_RANGE, "out of range", "ids 0 to 9");
    expect_bad(r, -5, EEP_BAD_EXPERT_RANGE, "out of range", "-1 for none");
    world_close(&w);
}
