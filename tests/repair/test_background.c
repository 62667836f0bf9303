/* SPDX-License-Identifier: Apache-2.0 */
/* Background repair as a planner: what it moves where redundancy, a leaver or a neighbour asks for
 * it. Properties of any document are in test_background_properties.c. */
#include "tests/lib/background_fixture.h"

#include <string.h>

static int staying_seats(const eepi_view *view, int expert)
{
    int seats = 0;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        seats += eepi_view_seat_at(view, seat)->state == EEP_SEAT_ACTIVE &&
                 num_on_seat(view, 0, seat, expert) > 0;
    }
    return seats;
}

static eepi_view *placed_on(int num_ranks, int max_ranks, int num_layers, int num_experts,
                            int num_slots)
{
    eepi_view *view = new_view(max_ranks, num_layers, num_experts, num_slots);

    for (int seat = 0; seat < num_ranks; seat++) {
        set_seat(view, seat, EEP_SEAT_ACTIVE);
    }
    cr_assert_eq(eepi_plan_initial(view), EEP_OK);
    return view;
}

/* Run rounds until a whole pass moves nothing. Returns the fills. */
static int run_to_rest(eepi_view *view, const uint32_t *loads, int max_fills)
{
    eepi_background *b = eepi_background_new(&view->shape);
    eepi_background_limits limits = eepi_background_defaults;
    int total = 0;

    cr_assert_not_null(b);
    limits.max_fills = max_fills;
    for (int layer = 0, rounds = 0; layer < view->shape.num_layers; rounds++) {
        int fills;
        eepi_background_begin(b, view, NULL, 0);
        fills = eepi_background_layer(b, layer, loads, &limits);
        (void)eepi_plan_filled(view, -1);
        total += fills;
        layer += fills == 0;
        cr_assert_lt(rounds, 1000, "it never comes to rest");
    }
    eepi_background_free(b);
    return total;
}

/* A placement of two replicas a quarter of the ring apart, `room` slots a seat. */
static eepi_view *two_apart(int ranks, int experts, int room)
{
    eepi_view *view = new_view_of((eepi_view_shape){ranks, 1, experts, room, 0, 0});

    for (int seat = 0; seat < ranks; seat++) {
        set_seat(view, seat, EEP_SEAT_ACTIVE);
    }
    for (int copy = 0, used[64] = {0}; copy < 2; copy++) {
        for (int expert = 0; expert < experts; expert++) {
            const int turn = 1 + expert / ranks % (ranks / 2);
            const int seat = (expert + copy * (turn < ranks / 4 ? ranks / 4 : turn)) % ranks;
            set_expert(view, 0, seat, used[seat]++, expert);
        }
    }
    return view;
}

Test(background, a_placement_that_is_apart_is_at_rest)
{
    eepi_view *view = two_apart(8, 64, 16);

    cr_assert_eq(run_to_rest(view, NULL, 16), 0);
    free(view);
}

/* Where slots are just enough, a death moves nothing: splits suffice (a joiner will come). */
Test(background, one_death_of_eight_moves_nothing)
{
    for (int dead = 0; dead < 8; dead++) {
        eepi_view *view = two_apart(8, 64, 16);
        kill_seat(view, dead);
        cr_assert_eq(run_to_rest(view, NULL, 16), 0, "seat %d", dead);
        free(view);
    }
}

/* A slot more a rank: what lost a replica gets one, and no more slots change hands. */
Test(background, redundancy_comes_back_where_there_are_slots)
{
    for (int dead = 0; dead < 8; dead++) {
        eepi_view *view = two_apart(8, 56, 17);
        int lost = 0;
        for (int slot = 0; slot < 17; slot++) {
            lost += eepi_view_slot_at(view, 0, dead, slot)->state == EEPI_SLOT_HOLDS;
        }
        kill_seat(view, dead);
        cr_assert_geq(run_to_rest(view, NULL, 5), lost, "seat %d", dead);
        for (int expert = 0; expert < 56; expert++) {
            cr_assert_geq(staying_seats(view, expert), 2, "seat %d", dead);
        }
        free(view);
    }
}

/* Experts on one seat, or on near ones only. */
static int unprotected(eepi_view *view)
{
    eepi_background *b = eepi_background_new(&view->shape);
    eepi_background_limits none = eepi_background_defaults;

    cr_assert_not_null(b);
    none.max_fills = 0;
    eepi_background_begin(b, view, NULL, 0);
    cr_assert_eq(eepi_background_layer(b, 0, NULL, &none), 0);
    const eepi_background_state state = eepi_background_state_of(b);
    eepi_background_free(b);
    return state.single + state.near;
}

/* 17 slots of 32 ranks, a rank is lost. A fill protects one expert. It takes no slot from an expert
 * that would then be on near seats and need a fill itself. */
Test(background, a_second_replica_costs_one_fill)
{
    for (int dead = 0; dead < 32; dead += 5) {
        eepi_view *view = new_view_of((eepi_view_shape){32, 1, 256, 17, 8, 0});
        for (int seat = 0; seat < 32; seat++) {
            set_seat(view, seat, EEP_SEAT_ACTIVE);
        }
        cr_assert_eq(eepi_plan_initial(view), EEP_OK);
        kill_seat(view, dead);
        const int lacking = unprotected(view);
        cr_assert_leq(run_to_rest(view, NULL, 256), lacking, "seat %d: %d lack one", dead, lacking);
        cr_assert_eq(unprotected(view), 0, "seat %d", dead);
        free(view);
    }
}

/* Replicas on neighbours do not count as protection: one of them changes places. */
Test(background, replicas_on_neighbours_are_moved_apart)
{
    eepi_view *view = two_apart(8, 32, 8);
    const int before = eepi_spread_distance(&view->shape, 8);

    cr_assert_eq(before, 2);
    for (int slot = 0; slot < 8; slot++) { /* seats 2 and 3 change all they have: 1 apart of 1, 4 */
        eepi_view_slot *a = eepi_view_slot_at(view, 0, 2, slot);
        eepi_view_slot *b = eepi_view_slot_at(view, 0, 6, slot), was = *a;
        *a = *b;
        *b = was;
    }
    (void)run_to_rest(view, NULL, 16);
    for (int expert = 0; expert < 32; expert++) {
        cr_assert_eq(protection_of(view, 0, expert), EEPI_APART, "expert %d", expert);
    }
    free(view);
}

/* Both replicas on one node are no protection against its loss. */
Test(background, replicas_on_one_node_are_moved_apart)
{
    eepi_view *view = new_view_of((eepi_view_shape){8, 1, 16, 4, 4, 0});

    for (int i = 0; i < 32; i++) { /* node 0 has experts 0-7 twice, node 1 the others */
        set_seat(view, i / 4, EEP_SEAT_ACTIVE);
        set_expert(view, 0, i / 4, i % 4, i / 16 * 8 + i % 8);
    }
    cr_assert_gt(run_to_rest(view, NULL, 16), 0);
    for (int expert = 0; expert < 16; expert++) {
        cr_assert_eq(protection_of(view, 0, expert), EEPI_APART, "expert %d", expert);
    }
    free(view);
}

/* What only a retiring seat holds goes elsewhere, where slots allow it; then it can leave. */
Test(background, M10_a_retiring_seat_loses_what_only_it_holds)
{
    for (uint64_t seed = first_seed(), end = seed + 300; seed < end; seed++) {
        uint64_t random = seed;
        const int ranks = 3 + below(&random, 5), experts = 4 + below(&random, 20);
        const int slots = (experts + ranks - 2) / (ranks - 1) + below(&random, 3);
        eepi_view *view = placed_on(ranks, 8, 2, experts, slots);
        const int seat = below(&random, ranks);
        eepi_view_seat_at(view, seat)->state = EEP_SEAT_RETIRING;
        run_to_rest(view, NULL, 4);
        cr_assert(plan_can_leave(view, seat), REPLAY, SEED(seed));
        free(view);
    }
}

/* A hot expert gets the replicas without which no split helps, and the coldest ones give them. */
Test(background, a_hot_expert_gets_replicas)
{
    eepi_view *view = two_apart(8, 64, 16);
    uint32_t loads[64];

    for (int expert = 0; expert < 64; expert++) {
        loads[expert] = expert == 5 ? 160 : 1 + (uint32_t)expert / 8;
    }
    cr_assert_gt(run_to_rest(view, loads, 16), 0);
    cr_assert_leq(peak_permille(view, 0, loads), 1080);
    for (int expert = 0; expert < 64; expert++) {
        cr_assert_geq(staying_seats(view, expert), 1);
        cr_assert(staying_seats(view, expert) == 2 || expert == 5 || expert < 32);
    }
    free(view);
}

/* Every expert on two seats first, whatever is known of loads: a second replica of a cold expert
 * takes none that a hot one needs (the trap of coverage before balance). */
Test(background, a_second_replica_is_not_taken_from_a_hot_expert)
{
    eepi_view *view = new_view(4, 1, 6, 2);
    const uint32_t loads[6] = {40, 1, 1, 1, 1, 1};
    static const int experts[4][2] = {{0, 1}, {0, 2}, {0, 3}, {0, 4}};

    for (int seat = 0; seat < 4; seat++) {
        set_seat(view, seat, EEP_SEAT_ACTIVE);
        set_expert(view, 0, seat, 0, experts[seat][0]);
        set_expert(view, 0, seat, 1, experts[seat][1]);
    }
    set_seat(view, 3, EEP_SEAT_ACTIVE);
    set_expert(view, 0, 3, 0, 5);
    (void)run_to_rest(view, loads, 16);
    cr_assert_geq(staying_seats(view, 0), 3);
    free(view);
}

/* Slots without an expert are used, by the most loaded ones, and each seat has an expert once. */
Test(background, empty_slots_are_used)
{
    eepi_view *view = two_apart(8, 16, 6);
    uint32_t loads[16] = {9};

    for (int expert = 1; expert < 16; expert++) {
        loads[expert] = 1;
    }
    cr_assert_geq(run_to_rest(view, loads, 16), 16);
    cr_assert_eq(staying_seats(view, 0), 8);
    for (int seat = 0; seat < 8; seat++) {
        for (int expert = 0; expert < 16; expert++) {
            cr_assert_leq(num_on_seat(view, 0, seat, expert), 1);
        }
    }
    free(view);
}

/* Sources even out, and among equals one of the target's node is asked. */
Test(background, sources_even_out_and_near_ones_come_first)
{
    eepi_view *view = new_view_of((eepi_view_shape){8, 1, 4, 4, 4, 0});
    eepi_background *b = eepi_background_new(&view->shape);
    int asked[8] = {0};

    for (int seat = 0; seat < 8; seat++) { /* seats 0, 1 and 4, 5 have all, the others nothing */
        set_seat(view, seat, EEP_SEAT_ACTIVE);
        for (int slot = 0; slot < 4 && seat % 4 < 2; slot++) {
            set_expert(view, 0, seat, slot, slot);
        }
    }
    eepi_background_begin(b, view, NULL, 0);
    cr_assert_eq(eepi_background_layer(b, 0, NULL, &eepi_background_defaults), 16);
    for (int seat = 0; seat < 8; seat++) {
        for (int slot = 0; slot < 4 && seat % 4 >= 2; slot++) {
            asked[eepi_view_slot_at(view, 0, seat, slot)->source]++;
        }
    }
    for (int seat = 0; seat < 8; seat++) {
        cr_assert_eq(asked[seat], seat % 4 < 2 ? 4 : 0, "seat %d: %d", seat, asked[seat]);
    }
    eepi_background_free(b);
    free(view);
}

static int64_t peak_of_shares(const eepi_view *view, const uint32_t *loads)
{
    int64_t most = 0;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        int64_t load = 0;
        for (int slot = 0; slot < view->shape.num_slots; slot++) {
            const eepi_view_slot *s = eepi_view_slot_at(view, 0, seat, slot);
            int64_t whole = 0;
            for (int i = 0; i < view->shape.max_ranks * view->shape.num_slots; i++) {
                const eepi_view_slot *t = eepi_view_slot_at(view, 0, i / view->shape.num_slots,
                                                            i % view->shape.num_slots);
                whole += t->state == EEPI_SLOT_HOLDS && t->expert == s->expert ? t->share : 0;
            }
            if (s->state == EEPI_SLOT_HOLDS) {
                load += whole > 0 ? (int64_t)loads[s->expert] * 1000 * s->share / whole
                                  : (int64_t)loads[s->expert] * 1000 / num_live(view, 0, s->expert);
            }
        }
        most = load > most ? load : most;
    }
    return most;
}

/* The router's shares repair what a loss did to the balance, and move no bytes. */
Test(background, shares_even_out_loads)
{
    eepi_view *view = two_apart(8, 64, 16);
    eepi_background *b = eepi_background_new(&view->shape);
    const eepi_background_limits *limits = &eepi_background_defaults;
    uint32_t loads[64];
    int64_t total = 0;

    for (int expert = 0; expert < 64; expert++) {
        loads[expert] = 100 + (uint32_t)(expert * 37 % 64) * 10;
        total += (int64_t)loads[expert] * 1000;
    }
    kill_seat(view, 3);
    cr_assert_gt(peak_of_shares(view, loads), total / 7 * 105 / 100);
    cr_assert(eepi_background_split(b, view, 0, loads, limits, false));
    cr_assert_leq(peak_of_shares(view, loads), total / 7 * 101 / 100);
    cr_assert_not(eepi_background_split(b, view, 0, loads, limits, false), "it is even already");
    eepi_view_seal(view);
    cr_assert_eq(eepi_view_check(view, view->bytes, NULL), EEP_OK);
    cr_assert(eepi_background_split(b, view, 0, NULL, limits, true));
    cr_assert_not(eepi_background_split(b, view, 0, NULL, limits, true), "all alike, all 0");
    eepi_background_free(b);
    free(view);
}
