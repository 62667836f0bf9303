/* SPDX-License-Identifier: Apache-2.0 */
/* Histories of background repair: slots change hands behind live traffic. The cluster checks at
 * every step that no rank computes with a slot that is being overwritten (R1), at every commit that
 * coverage holds (S7), at every installed view that slots hold what it says (S6). */
#include "tests/lib/core/core_histories.h"

#include "repair/planner/planner.h"
#include "repair/background/background.h"

/* 8 experts, each on two or three of 5 seats. */
static const cluster_options roomy = {
    .num_ranks = 5, .max_ranks = 6, .num_experts = 8, .num_slots = 4, .background = 1};
/* One rank can hold all. */
static const cluster_options ample = {
    .num_ranks = 3, .max_ranks = 6, .num_experts = 6, .num_slots = 6, .background = 1};

static int num_fills(cluster *c)
{
    int n = 0;

    for (int i = 0; i < c->num_processes; i++) {
        n += (int)c->process[i].num_fills;
    }
    return n;
}

static int least_spread(const eepi_view *view)
{
    int least = EEP_MAX_RANKS;

    for (int expert = 0; expert < view->shape.num_experts; expert++) {
        int seats = 0;
        for (int seat = 0; seat < view->shape.max_ranks; seat++) {
            int has = 0;
            for (int slot = 0; slot < view->shape.num_slots && eepi_view_is_member(view, seat);
                 slot++) {
                const eepi_view_slot *s = eepi_view_slot_at(view, 0, seat, slot);
                has |= s->state == EEPI_SLOT_HOLDS && s->expert == expert;
            }
            seats += has;
        }
        least = seats < least ? seats : least;
    }
    return least;
}

static int is_at_rest(cluster *c)
{
    eepi_view *view = eepi_view_copy(c->view);
    eepi_background *background = eepi_background_new(&view->shape);
    int rest = cluster_is_serving(c) && eepi_plan_fills(view, -1, NULL, 0) == 0;

    eepi_background_begin(background, view, NULL, 0);
    rest = rest && eepi_background_layer(background, 0, NULL, &eepi_background_defaults) == 0;
    eepi_background_free(background);
    free(view);
    return rest;
}

static int is_filling(cluster *c)
{
    return c->view->phase == EEPI_VIEW_SERVING && eepi_plan_fills(c->view, -1, NULL, 0) > 0;
}

Test(core_background, an_instance_at_rest_stays_at_rest)
{
    FOR_SEEDS(&roomy, c)
    {
        cluster_run(c, 2 * SECOND);
        EXPECT(c, c->num_committed == 1);
    }
}

/* Shrunk to two ranks whose slots are all needed, then grown by three at once: each of them chose
 * the same experts. */
static void shrink_and_grow(cluster *c)
{
    for (int seat = 2; seat < 5; seat++) {
        cluster_leave(c, seat);
    }
    EXPECT(c, cluster_until(c, has_two, 5 * SECOND));
    expect_serving(c, 2);
    EXPECT(c, num_fills(c) > 0);
    for (int seat = 2; seat < 5; seat++) {
        cluster_start(c, seat);
    }
}

Test(core_background, redundancy_comes_back_and_nobody_stops_for_it)
{
    FOR_SEEDS(&roomy, c)
    {
        int fills;
        shrink_and_grow(c);
        fills = num_fills(c);
        EXPECT(c, cluster_until(c, has_five, 3 * SECOND));
        EXPECT(c, cluster_until(c, is_at_rest, 3 * SECOND));
        EXPECT(c, least_spread(c->view) >= 2);
        EXPECT(c, num_fills(c) > fills);
        EXPECT(c, num_wedges(c) == 0);
        expect_serving(c, 5);
    }
}

/* What only the leaver holds is moved first; then it goes. */
Test(core_background, M10_a_rank_that_nobody_could_spare_goes_once_others_hold_its_experts)
{
    FOR_SEEDS(&ample, c)
    {
        cluster_leave(c, 0);
        cluster_leave(c, 1);
        EXPECT(c, cluster_until(c, is_at_rest, 5 * SECOND));
        cluster_run(c, 2 * SECOND);
        EXPECT(c, eepi_view_num_active(c->view) == 1 && !cluster_at(c, 0)->alive &&
                      !cluster_at(c, 1)->alive);
        EXPECT(c, num_wedges(c) == 0);
        cluster_start(c, 0);
        cluster_start(c, 1);
        cluster_start(c, 4);
        EXPECT(c, cluster_until(c, has_four, 3 * SECOND));
        expect_serving(c, 4);
    }
}

/* No slots for what only it holds: it stays, as RETIRING, and serves. */
Test(core_background, a_rank_without_which_there_is_no_room_stays)
{
    static const cluster_options full = {
        .num_ranks = 2, .max_ranks = 6, .num_experts = 8, .num_slots = 4, .background = 1};

    FOR_SEEDS(&full, c)
    {
        cluster_leave(c, 1);
        cluster_run(c, 2 * SECOND);
        expect_serving(c, 2);
        EXPECT(c, eepi_view_seat_at(c->view, 1)->state == EEP_SEAT_RETIRING);
        cluster_start(c, 2); /* brings room */
        EXPECT(c, cluster_until(c, has_three, 2 * SECOND));
        EXPECT(c, cluster_until(c, has_two, 5 * SECOND));
        expect_serving(c, 2);
        EXPECT(c, !cluster_at(c, 1)->alive);
    }
}

/* A fault in the middle of a round, at a random moment, of a random seat. */
Test(core_background, L3_a_fault_while_slots_are_filled)
{
    cluster_options backed = roomy;
    int hit = 0;

    backed.backups = 1; /* some experts have one replica then */
    FOR_SEEDS(&backed, c)
    {
        shrink_and_grow(c);
        EXPECT(c, cluster_until(c, has_five, 3 * SECOND));
        for (int seat = 0; seat < 5; seat++) {
            cluster_at(c, seat)->fill_delay_us = 100000;
        }
        if (!cluster_until(c, is_filling, 3 * SECOND)) {
            continue;
        }
        hit++;
        cluster_run(c, cluster_random(c, 150000));
        cluster_crash(c, (int)cluster_random(c, 5));
        EXPECT(c, cluster_until(c, cluster_is_serving, 3 * SECOND));
        EXPECT(c, cluster_until(c, is_at_rest, 5 * SECOND));
    }
    cr_assert(hit > 0 || getenv("EEP_TEST_SEED"));
}

/* A joiner does not wait for slots that are being filled. */
Test(core_background, L4_a_joiner_does_not_wait_for_a_round)
{
    FOR_SEEDS(&ample, c)
    {
        cluster_at(c, 0)->fill_delay_us = cluster_at(c, 1)->fill_delay_us =
            cluster_at(c, 2)->fill_delay_us = 20 * SECOND;
        cluster_leave(c, 0);
        cluster_leave(c, 1);
        if (!cluster_until(c, is_filling, SECOND)) {
            continue;
        }
        cluster_start(c, 4);
        EXPECT(c, cluster_until(c, has_joined_4, SECOND));
    }
}

/* Switched off: nothing moves. */
Test(core_background, it_can_be_switched_off)
{
    cluster_options off = roomy;

    off.background = 0;
    FOR_SEEDS(&off, c)
    {
        cluster_crash(c, 3);
        expect_serving(c, 4);
        cluster_crash(c, 1); /* no expert is on these two alone */
        expect_serving(c, 3);
        cluster_run(c, 2 * SECOND);
        EXPECT(c, num_fills(c) == 0 && c->num_committed == 3);
    }
}

static void feed_loads(cluster *c, const uint32_t *loads)
{
    for (int seat = 0; seat < 5; seat++) {
        if (cluster_at(c, seat)->alive) {
            cluster_feed(c, seat, (eepi_input){.kind = EEPI_INPUT_LOADS, .loads = loads});
        }
    }
}

static int has_shares(cluster *c)
{
    for (int i = 0; i < c->view->shape.max_ranks * c->view->shape.num_slots; i++) {
        const int num_slots = c->view->shape.num_slots;
        if (eepi_view_slot_at(c->view, 0, i / num_slots, i % num_slots)->share > 0) {
            return cluster_is_serving(c);
        }
    }
    return 0;
}

/* Loads that differ are split over replicas first: one flip, and no slot changes hands for it. Then
 * nothing happens, until loads change. */
Test(core_background, uneven_loads_are_split_and_then_there_is_rest)
{
    static const uint32_t uneven[8] = {30, 10, 10, 20, 10, 10, 10, 20};

    FOR_SEEDS(&roomy, c)
    {
        int committed;
        feed_loads(c, uneven);
        EXPECT(c, cluster_until(c, has_shares, 3 * SECOND));
        cluster_run(c, 2 * SECOND);
        committed = c->num_committed;
        feed_loads(c, uneven);
        cluster_run(c, 2 * SECOND);
        EXPECT(c, c->num_committed == committed);
        EXPECT(c, num_wedges(c) == 0);
        cluster_crash(c, 3); /* the others' shares do for what it leaves */
        expect_serving(c, 4);
    }
}
