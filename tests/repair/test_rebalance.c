/* SPDX-License-Identifier: Apache-2.0 */
/* Background repair as a planner: what it moves, what it never touches, and that it comes to rest.
 */
#include "tests/lib/planner_fixture.h"
#include "repair/placement.h"
#include "repair/planner/planner.h"
#include "repair/rebalance.h"

#include <string.h>

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

static int stays(const eepi_view *view, int seat)
{
    return eepi_view_seat_at(view, seat)->state == EEP_SEAT_ACTIVE;
}

/* Seats that stay and have the expert, by brute force. */
static int spread_of(const eepi_view *view, int layer, int expert)
{
    int seats = 0;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        int has = 0;
        for (int slot = 0; slot < view->shape.num_slots && stays(view, seat); slot++) {
            const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
            has |= s->state == EEPI_SLOT_HOLDS && s->expert == expert;
        }
        seats += has;
    }
    return seats;
}

/* Run rounds until a whole pass moves nothing; every round is judged. Returns the fills. */
static int run_to_rest(eepi_view *view, int max_fills, uint64_t seed)
{
    int total = 0, rounds = 0;

    for (int layer = 0; layer < view->shape.num_layers;) {
        eepi_view *before = copy_of(view);
        const int fills = eepi_plan_background(view, layer, max_fills);
        int seen = 0;
        cr_assert_leq(fills, max_fills);
        cr_assert_eq(eepi_view_num_uncovered(view, -1), 0, REPLAY, SEED(seed));
        for (int i = 0; i < view->shape.max_ranks * view->shape.num_slots; i++) {
            const int seat = i / view->shape.num_slots, slot = i % view->shape.num_slots;
            const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
            const eepi_view_slot *was = eepi_view_slot_at(before, layer, seat, slot);
            if (s->state != EEPI_SLOT_FILLING) {
                cr_assert(s->state == was->state && s->expert == was->expert, REPLAY, SEED(seed));
                continue;
            }
            seen++;
            cr_assert(stays(view, seat), "a seat that goes gets nothing; " REPLAY, SEED(seed));
            cr_assert(eepi_view_is_member(view, s->source), REPLAY, SEED(seed));
            int has = eepi_view_has_backup(view, s->source, layer, s->expert);
            for (int k = 0; k < view->shape.num_slots; k++) {
                const eepi_view_slot *from = eepi_view_slot_at(view, layer, s->source, k);
                has |= from->state == EEPI_SLOT_HOLDS && from->expert == s->expert;
            }
            cr_assert(has, "R1: the source does not have it; " REPLAY, SEED(seed));
        }
        cr_assert_eq(seen, fills, REPLAY, SEED(seed));
        free(before);
        (void)eepi_plan_filled(view, -1);
        eepi_view_seal(view);
        cr_assert_eq(eepi_view_check(view, view->bytes, NULL), EEP_OK);
        total += fills;
        layer += fills == 0;
        cr_assert_lt(rounds++, 4000, "it never comes to rest; " REPLAY, SEED(seed));
    }
    return total;
}

Test(background, the_first_placement_is_at_rest)
{
    static const int cases[][3] = {{8, 64, 16}, {4, 8, 4},  {5, 8, 4}, {7, 20, 6},   {3, 5, 5},
                                   {1, 4, 9},   {6, 31, 9}, {2, 3, 7}, {16, 128, 16}};

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        eepi_view *view = placed_on(cases[i][0], cases[i][0], 2, cases[i][1], cases[i][2]);
        cr_assert_eq(run_to_rest(view, 4, i), 0, "shape %zu", i);
        free(view);
    }
}

/* One death of eight moves nothing: the load is spread well enough (a joiner will come). */
Test(background, one_death_of_eight_moves_nothing)
{
    for (int dead = 0; dead < 8; dead++) {
        eepi_view *view = placed_on(8, 8, 1, 64, 16);
        kill_seat(view, dead);
        cr_assert_eq(run_to_rest(view, 4, (uint64_t)dead), 0, "seat %d", dead);
        free(view);
    }
}

/* Any history of deaths and joins: at rest numbers of seats differ by one at most, unless the seats
 * with room have the expert already. */
Test(background, S7_redundancy_is_even_at_rest_after_any_history)
{
    int moved = 0;

    for (uint64_t seed = first_seed(), end = seed + 400; seed < end; seed++) {
        uint64_t random = seed;
        const int ranks = 3 + below(&random, 6), experts = 4 + below(&random, 28);
        const int slots = (2 * experts + ranks - 1) / ranks + below(&random, 4);
        eepi_view *view = placed_on(ranks, 9, 1 + below(&random, 2), experts, slots);
        for (int change = below(&random, 6); change >= 0; change--) {
            const int seat = below(&random, ranks);
            int32_t *assigned = calloc((size_t)(view->shape.num_layers * slots), sizeof *assigned);
            int num_fills = 0;
            if (eepi_view_is_member(view, seat)) {
                eepi_view *before = copy_of(view);
                kill_seat(view, seat);
                if (eepi_view_num_uncovered(view, -1) > 0) {
                    memcpy(view, before, before->bytes);
                }
                free(before);
            } else {
                plan_seat(view, seat, assigned);
                set_seat(view, seat, EEP_SEAT_ACTIVE);
                eepi_plan_apply_seat(view, seat, assigned);
            }
            cr_assert_eq(plan_coverage(view, &num_fills, NULL, 0), EEP_OK);
            free(assigned);
        }
        moved += run_to_rest(view, 1 + below(&random, 8), seed);
        for (int layer = 0; layer < view->shape.num_layers; layer++) {
            int least = EEP_MAX_RANKS, most = 0;
            for (int expert = 0; expert < experts; expert++) {
                const int spread = spread_of(view, layer, expert);
                least = spread < least ? spread : least;
                most = spread > most ? spread : most;
            }
            cr_assert(most - least <= 1, "%d..%d seats; " REPLAY, least, most, SEED(seed));
        }
        free(view);
    }
    cr_assert(moved > 100, "%d fills", moved);
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
        run_to_rest(view, 4, seed);
        cr_assert(plan_can_leave(view, seat), REPLAY, SEED(seed));
        free(view);
    }
}

/* The most loaded seat is relieved, and the sum of replicas stays. */
Test(background, load_is_levelled)
{
    eepi_view *view = new_view(4, 1, 8, 4);
    /* seats 0 and 1 alone hold experts 0..3 and 4..7; seats 2 and 3 repeat 4..7 twice */
    for (int seat = 0; seat < 4; seat++) {
        set_seat(view, seat, EEP_SEAT_ACTIVE);
        for (int slot = 0; slot < 4; slot++) {
            *eepi_view_slot_at(view, 0, seat, slot) = (eepi_view_slot){
                (uint16_t)(slot + (seat == 0 ? 0 : 4)), EEPI_NO_SEAT, EEPI_SLOT_HOLDS};
        }
    }
    cr_assert_gt(run_to_rest(view, 2, 0), 0);
    for (int expert = 0; expert < 8; expert++) {
        cr_assert_eq(spread_of(view, 0, expert), 2, "expert %d", expert);
    }
    free(view);
}
