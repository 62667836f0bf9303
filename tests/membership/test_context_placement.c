/* SPDX-License-Identifier: Apache-2.0 */
/* Placements through the public API: for a first view, behind live traffic, over a death, and what
 * is refused (rules R3, R4). */
#include "membership/context/context.h"
#include "membership/order/order.h"
#include "tests/lib/context_checks.h"

#include <string.h>

enum { SEATS = 3, ALL = WORLD_LAYERS * SEATS * WORLD_SLOTS, BACKGROUND = 1 << 24 };

/* Slot i of a layer holds (i * step + layer) modulo the experts; the last slot of each rank is
 * libeep's. The first two of a rank are pinned. */
typedef struct given {
    int32_t experts[ALL];
    uint8_t pinned[ALL];
    eep_placement placement;
} given;

static void make(given *g, uint64_t number, int step)
{
    memset(g, 0, sizeof *g);
    for (int i = 0; i < ALL; i++) {
        const int at = i % (SEATS * WORLD_SLOTS), slot = at % WORLD_SLOTS;
        const int layer = i / (SEATS * WORLD_SLOTS), nth = at / WORLD_SLOTS * 4 + slot;
        g->experts[i] = slot == 4 ? -1 : (nth * step + layer) % WORLD_EXPERTS;
        g->pinned[i] = slot < 2;
    }
    (void)EEP_SIZED(&g->placement);
    g->placement.number = number;
    g->placement.experts = g->experts;
    g->placement.pinned = g->pinned;
}

static void give_first(rank *r)
{
    given g;

    make(&g, 1, 1);
    cr_assert_eq(eep_placement_set(r->context, &g.placement), EEP_OK, "%s", eep_error_text());
}

static void give_another(rank *r)
{
    given g;

    make(&g, 1, r->seat == 1 ? 3 : 1);
    cr_assert_eq(eep_placement_set(r->context, &g.placement), EEP_OK, "%s", eep_error_text());
}

static eep_placement_info info_of(const rank *r, int32_t *experts_out, uint8_t *pinned_out)
{
    eep_placement_info info;

    cr_assert_eq(eep_placement_get(r->context, EEP_SIZED(&info), experts_out, pinned_out), EEP_OK);
    return info;
}

static bool rank_has(const int32_t *live, int at, int32_t expert)
{
    const int first = at / WORLD_SLOTS * WORLD_SLOTS;

    for (int slot = 0; slot < WORLD_SLOTS; slot++) {
        if (live[first + slot] == expert) {
            return true;
        }
    }
    return false;
}

/* Each rank but `without` has what it is given; of pinned slots alone, if `pinned`. */
static void expect_live(const rank *r, const given *g, bool pinned, int without)
{
    int32_t live[ALL];

    (void)info_of(r, live, NULL);
    for (int i = 0; i < ALL; i++) {
        if (g->experts[i] >= 0 && (!pinned || g->pinned[i]) && i / WORLD_SLOTS % SEATS != without) {
            cr_expect(rank_has(live, i, g->experts[i]), "slot %d lacks expert %d", i,
                      g->experts[i]);
        }
    }
}

static bool is_reached(const rank *r, uint64_t number)
{
    const eep_placement_info info = info_of(r, NULL, NULL);

    return info.number == number && info.num_unmet == 0;
}

Test(context_placement, a_first_view_has_what_all_ranks_were_given)
{
    int32_t live[ALL];
    uint8_t pinned[ALL];
    given g;
    world w;
    world_open(&w, SEATS, SEATS);
    for (int seat = 0; seat < SEATS; seat++) {
        w.ranks[seat].ordered = give_first;
    }
    world_start(&w);
    make(&g, 1, 1);
    const eep_placement_info info = info_of(&w.ranks[1], live, pinned);
    cr_expect_eq(info.number, 1);
    cr_expect_eq(info.num_unmet, 0);
    cr_expect_eq(info.own_state, EEP_ORDER_IN_FORCE);
    for (int i = 0; i < ALL; i++) {
        cr_expect_eq(pinned[i], g.pinned[i]);
        cr_expect(g.experts[i] < 0 || live[i] == g.experts[i], "slot %d: %d", i, live[i]);
    }
    world_set_modes(&w, 0, 2, RANK_WORK);
    world_advance(&w, 0, 2, 10);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

Test(context_placement, ranks_with_other_placements_are_refused_by_name)
{
    world w;
    rank *first, *second;
    world_open(&w, 2, SEATS);
    first = &w.ranks[0];
    second = &w.ranks[1];
    first->ordered = second->ordered = give_another;
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", first->error);
    cr_assert_eq(rank_open(&w, 1), EEP_OK, "%s", second->error);
    rank_run(first);
    rank_run(second);
    WORLD_WAIT(&w, first->join_status != EEP_OK && second->join_status != EEP_OK);
    cr_expect_eq(first->join_status, EEP_ERR_UNCOVERED, "%s", eep_strerror(first->join_status));
    cr_expect(second->join_status == EEP_ERR_CHECKSUM || second->join_status == EEP_ERR_UNCOVERED,
              "%s", eep_strerror(second->join_status));
    cr_expect(strstr(first->text, "rank 1 was given another placement (number 1"), "%s",
              first->text);
    world_close(&w);
}

/* A rank orders while all serve; its placement outlives it, and its next process loads its pins. */
Test(context_placement, an_order_is_carried_out_behind_live_traffic_and_outlives_its_giver)
{
    given g;
    world w;
    world_open(&w, SEATS, SEATS);
    w.config.background_bytes_per_s = BACKGROUND;
    w.keep_backups = 1;
    world_start(&w);
    world_set_modes(&w, 0, 2, RANK_WORK);
    make(&g, 7, 3);
    cr_assert_eq(eep_placement_set(w.ranks[2].context, &g.placement), EEP_OK, "%s",
                 eep_error_text());
    WORLD_WAIT(&w, is_reached(&w.ranks[0], 7) && is_reached(&w.ranks[2], 7));
    cr_expect_eq(info_of(&w.ranks[2], NULL, NULL).own_state, EEP_ORDER_IN_FORCE);
    expect_live(&w.ranks[0], &g, true, -1);
    world_check_never_aborted(&w, 0, 2);
    world_rest(&w);
    rank_close(&w.ranks[2]);
    world_set_modes(&w, 0, 1, RANK_WORK);
    world_advance(&w, 0, 1, 10);
    expect_live(&w.ranks[0], &g, true, 2);
    world_let_in(&w, 2, 0, 2, 5);
    /* rank 0 may step under the view with rank 2 before the store has told it of that view */
    WORLD_WAIT(&w,
               info_of(&w.ranks[0], NULL, NULL).epoch >= info_of(&w.ranks[2], NULL, NULL).epoch &&
                   is_reached(&w.ranks[0], 7));
    expect_live(&w.ranks[0], &g, true, -1);
    world_rest(&w);
    world_check_right(&w);
    world_close(&w);
}

/* What all give with one number is one order; the same number for another one is a conflict, and
 * an empty one lifts all pins. */
Test(context_placement, the_highest_number_counts)
{
    uint8_t pinned[ALL];
    given low, high;
    world w;
    world_open(&w, SEATS, SEATS);
    w.config.background_bytes_per_s = BACKGROUND;
    world_start(&w);
    make(&low, 3, 3);
    make(&high, 4, 5);
    /* the low one first: as soon as the high one is in force, no other rank may give it */
    cr_expect_eq(eep_placement_set(w.ranks[0].context, &low.placement), EEP_OK);
    cr_expect_eq(eep_placement_set(w.ranks[2].context, &low.placement), EEP_OK);
    cr_expect_eq(eep_placement_set(w.ranks[1].context, &high.placement), EEP_OK);
    WORLD_WAIT(&w, is_reached(&w.ranks[0], 4) && is_reached(&w.ranks[2], 4));
    expect_live(&w.ranks[0], &high, true, -1);
    cr_expect_eq(info_of(&w.ranks[2], NULL, NULL).own_state, EEP_ORDER_REPLACED);
    cr_expect_eq(eep_placement_set(w.ranks[0].context, &low.placement), EEP_ERR_CONFLICT);
    cr_expect(strstr(eep_error_text(), "number 3"), "%s", eep_error_text());
    /* what is in force may be given again, and the rank that did is told so */
    cr_expect_eq(eep_placement_set(w.ranks[0].context, &high.placement), EEP_OK);
    cr_expect_eq(info_of(&w.ranks[0], NULL, NULL).own_number, 4);
    cr_expect_eq(info_of(&w.ranks[0], NULL, NULL).own_state, EEP_ORDER_IN_FORCE);
    low.placement.number = 4;
    cr_expect_eq(eep_placement_set(w.ranks[1].context, &low.placement), EEP_ERR_CONFLICT);
    low.placement = (eep_placement){.struct_bytes = sizeof low.placement, .number = 5};
    cr_expect_eq(eep_placement_set(w.ranks[0].context, &low.placement), EEP_OK);
    WORLD_WAIT(&w, is_reached(&w.ranks[2], 5));
    (void)info_of(&w.ranks[2], NULL, pinned);
    for (int i = 0; i < ALL; i++) {
        cr_expect_eq(pinned[i], 0);
    }
    world_check_right(&w);
    world_close(&w);
}

/* The engine orders again before the service thread has told anybody of this rank: a first view
 * goes by what the rank was given before eep_join all the same. */
Test(context_placement, R3_an_order_right_behind_eep_join_keeps_the_one_before)
{
    const eepi_order *order;
    bool is_first = false;
    given g;
    world w;
    world_open(&w, SEATS, SEATS);
    w.config.background_bytes_per_s = BACKGROUND;
    w.ranks[0].ordered = give_first;
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", w.ranks[0].error);
    make(&g, 2, 3);
    w.ranks[0].context->has_joined = true; /* as if eep_join had just begun */
    cr_expect_eq(eep_placement_set(w.ranks[0].context, &g.placement), EEP_OK);
    w.ranks[0].context->has_joined = false;
    order = eepi_ordered_next(w.ranks[0].context, true, &is_first);
    cr_expect(is_first && order && order->number == 1);
    cr_expect_eq(info_of(&w.ranks[0], NULL, NULL).own_number, 2);
    world_close(&w);
}

static void expect_refused(rank *r, given *g, eep_status status, const char *text)
{
    cr_expect_eq(eep_placement_set(r->context, &g->placement), status, "%s", text);
    cr_expect(strstr(eep_error_text(), text), "%s", eep_error_text());
}

Test(context_placement, what_is_refused)
{
    given g;
    world w;
    rank *r;
    world_open(&w, SEATS, SEATS);
    w.config.background_bytes_per_s = BACKGROUND;
    world_start(&w);
    r = &w.ranks[0];
    make(&g, 0, 1);
    expect_refused(r, &g, EEP_ERR_INVALID, "number is 0");
    make(&g, 1, 1);
    g.experts[WORLD_SLOTS + 2] = WORLD_EXPERTS;
    expect_refused(r, &g, EEP_ERR_INVALID, "layer 0, rank 1, slot 2: expert 8");
    make(&g, 1, 1);
    g.pinned[4] = 1;
    expect_refused(r, &g, EEP_ERR_INVALID, "expert -1 is pinned");
    make(&g, 1, 1);
    for (int i = 0; i < ALL; i++) {
        g.experts[i] = i % WORLD_SLOTS;
    }
    expect_refused(r, &g, EEP_ERR_INVALID, "layer 0: 3 experts are given no slot, and 0 slots");
    cr_expect_eq(eep_placement_set(r->context, NULL), EEP_ERR_INVALID);
    cr_expect_eq(eep_placement_set(NULL, &g.placement), EEP_ERR_INVALID);
    cr_expect_eq(eep_placement_get(r->context, NULL, NULL, NULL), EEP_ERR_INVALID);
    world_close(&w);
}

Test(context_placement, nothing_is_ordered_where_nothing_may_move)
{
    given g;
    world w;
    world_open(&w, SEATS, SEATS);
    make(&g, 1, 1);
    cr_assert_eq(rank_open(&w, 0), EEP_OK, "%s", w.ranks[0].error);
    expect_refused(&w.ranks[0], &g, EEP_ERR_STATE, "weights were given already");
    rank_close(&w.ranks[0]);
    world_start(&w);
    expect_refused(&w.ranks[0], &g, EEP_ERR_STATE, "background_bytes_per_s is 0");
    world_close(&w);
}
