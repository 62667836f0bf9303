/* SPDX-License-Identifier: Apache-2.0 */
/* The first placement and the assignment of a seat that comes back, over many shapes. */
#include "tests/lib/planner_fixture.h"
#include "repair/placement.h"
#include "repair/spread.h"

#include <stdlib.h>

Test(placement, initial_placement_is_full_level_and_on_different_seats)
{
    for (int i = 0; i < NUM_SHAPES; i++) {
        const int ranks = shapes[i][0], experts = shapes[i][2], slots = shapes[i][3];
        eepi_view *view = placed(ranks, shapes[i][1], 2, experts, slots);
        for (int layer = 0; layer < 2; layer++) {
            int least = INT32_MAX, most = 0, total = 0;
            for (int expert = 0; expert < experts; expert++) {
                const int replicas = num_live(view, layer, expert);
                int seats = 0;
                for (int seat = 0; seat < view->shape.max_ranks; seat++) {
                    seats += num_on_seat(view, layer, seat, expert) > 0;
                }
                cr_assert_eq(seats, replicas < ranks ? replicas : ranks,
                             "shape %d expert %d: %d replicas on %d seats", i, expert, replicas,
                             seats);
                least = replicas < least ? replicas : least;
                most = replicas > most ? replicas : most;
                total += replicas;
            }
            cr_assert_eq(total, ranks * slots, "shape %d: no slot is left empty", i);
            cr_assert_geq(least, 1);
            cr_assert_leq(most - least, 1, "shape %d", i);
        }
        free(view);
    }
}

Test(placement, initial_placement_survives_the_loss_of_any_seat)
{
    for (int i = 0; i < NUM_SHAPES; i++) {
        eepi_view *view = placed(shapes[i][0], shapes[i][1], 1, shapes[i][2], shapes[i][3]);
        if (shapes[i][0] < 2 || shapes[i][0] * shapes[i][3] < 2 * shapes[i][2]) {
            free(view);
            continue;
        }
        for (int rank = 0; rank < shapes[i][0]; rank++) {
            eepi_view *after = copy_of(view);
            int num_fills = -1;
            kill_seat(after, rank * shapes[i][1]);
            cr_assert_eq(eepi_view_num_uncovered(after, -1), 0, "shape %d seat %d", i, rank);
            cr_assert_eq(plan_coverage(after, &num_fills, NULL, 0), EEP_OK);
            cr_assert_eq(num_fills, 0, "bytes would move");
            cr_assert(plan_can_leave(view, rank * shapes[i][1]));
            free(after);
        }
        free(view);
    }
}

/* The experts of a dead seat must be served by many others, not by one partner. */
Test(placement, initial_placement_spreads_the_partners_of_a_seat)
{
    static const int cases[][3] = {
        {8, 64, 16}, {16, 64, 8}, {32, 256, 16}, {8, 60, 15}, {5, 20, 8}};

    for (int i = 0; i < (int)(sizeof cases / sizeof cases[0]); i++) {
        const int ranks = cases[i][0], slots = cases[i][2];
        eepi_view *view = placed(ranks, 1, 1, cases[i][1], slots);
        const int distance = eepi_spread_distance(&view->shape, ranks);
        const int others = ranks - (2 * distance - 1); /* that are not near */
        const int fair = (slots + others - 1) / others + 1;
        for (int a = 0; a < ranks; a++) {
            int partners = 0, most = 0;
            for (int b = 0; b < ranks; b++) {
                int common = 0;
                for (int expert = 0; expert < cases[i][1] && b != a; expert++) {
                    common += num_on_seat(view, 0, a, expert) && num_on_seat(view, 0, b, expert);
                }
                partners += common > 0;
                most = common > most ? common : most;
            }
            /* a few pairs share two experts, so that a rank has a partner or two less */
            cr_assert_geq(partners, (slots < others ? slots : others) * 3 / 4,
                          "case %d seat %d: %d", i, a, partners);
            cr_assert_leq(most, fair, "case %d seat %d shares %d with one", i, a, most);
        }
        free(view);
    }
}

Test(placement, initial_placement_refuses_too_few_slots)
{
    eepi_view *view = new_view(4, 1, 9, 4);

    cr_assert_eq(eepi_plan_initial(view), EEP_ERR_UNCOVERED, "no member");
    set_seat(view, 1, EEP_SEAT_ACTIVE);
    set_seat(view, 2, EEP_SEAT_QUARANTINED);
    set_seat(view, 3, EEP_SEAT_RETIRING);
    cr_assert_eq(eepi_plan_initial(view), EEP_ERR_UNCOVERED, "8 slots for 9 experts");
    set_seat(view, 0, EEP_SEAT_ACTIVE);
    cr_assert_eq(eepi_plan_initial(view), EEP_OK);
    cr_assert_eq(eepi_view_slot_at(view, 0, 2, 0)->state, EEPI_SLOT_EMPTY, "not a member");
    free(view);
}

/* ---------------------------------------------------------------- a seat's assignment */

static int by_number(const void *left, const void *right)
{
    return *(const int32_t *)left - *(const int32_t *)right;
}

/* The seat, once missing, is given the set of experts that it had. */
static void expect_same_set(const eepi_view *view, int seat)
{
    const int layers = view->shape.num_layers, slots = view->shape.num_slots;
    int32_t *plan = calloc((size_t)(layers * slots), sizeof *plan);
    int32_t *had = calloc((size_t)slots, sizeof *had);
    eepi_view *after = copy_of(view);

    cr_assert(plan && had);
    kill_seat(after, seat);
    plan_seat(after, seat, plan);
    for (int layer = 0; layer < layers; layer++) {
        int32_t *row = plan + layer * slots;
        for (int slot = 0; slot < slots; slot++) {
            had[slot] = eepi_view_slot_at(view, layer, seat, slot)->expert;
        }
        qsort(had, (size_t)slots, sizeof *had, by_number);
        qsort(row, (size_t)slots, sizeof *row, by_number);
        cr_assert_arr_eq(row, had, (size_t)slots * sizeof *had, "seat %d layer %d", seat, layer);
    }
    /* what the seat still holds does not count: the answer is the same with it in */
    int32_t *again = calloc((size_t)(layers * slots), sizeof *again);
    cr_assert_not_null(again);
    plan_seat(view, seat, again);
    plan_seat(after, seat, plan);
    cr_assert_arr_eq(plan, again, (size_t)(layers * slots) * sizeof *plan);
    free(again);
    free(after);
    free(had);
    free(plan);
}

Test(placement, a_seat_that_comes_back_gets_its_initial_experts)
{
    for (int i = 0; i < NUM_SHAPES; i++) {
        eepi_view *view = placed(shapes[i][0], shapes[i][1], 2, shapes[i][2], shapes[i][3]);
        for (int rank = 0; rank < shapes[i][0]; rank++) {
            expect_same_set(view, rank * shapes[i][1]);
        }
        free(view);
    }
}

Test(placement, a_seat_comes_back_among_31_of_32_seats_that_divide_nothing)
{
    for (int slots = 10; slots <= 20; slots++) {
        eepi_view *view = new_view(32, 1, 288, slots);
        for (int seat = 0; seat < 32; seat++) {
            if (seat != 13) {
                set_seat(view, seat, EEP_SEAT_ACTIVE);
            }
        }
        cr_assert_eq(eepi_plan_initial(view), EEP_OK);
        for (int seat = 0; seat < 32; seat++) {
            if (seat != 13) {
                expect_same_set(view, seat);
            }
        }
        free(view);
    }
}

Test(placement, a_seat_takes_the_least_replicated_experts)
{
    for (uint64_t seed = first_seed(), end = seed + 3000; seed < end; seed++) {
        uint64_t random = seed;
        eepi_view *view = random_view(&random);
        const eepi_view_shape *s = &view->shape;
        const int seat = below(&random, s->max_ranks);
        int32_t *plan = calloc((size_t)(s->num_layers * s->num_slots), sizeof *plan);
        cr_assert_not_null(plan);
        plan_seat(view, seat, plan);
        for (int layer = 0; layer < s->num_layers; layer++) {
            int picked[20] = {0}, elsewhere[20];
            for (int slot = 0; slot < s->num_slots; slot++) {
                const int32_t expert = plan[layer * s->num_slots + slot];
                cr_assert(expert >= 0 && expert < s->num_experts, REPLAY, SEED(seed));
                picked[expert]++;
            }
            for (int e = 0; e < s->num_experts; e++) {
                elsewhere[e] =
                    num_live(view, layer, e) -
                    (eepi_view_is_member(view, seat) ? num_on_seat(view, layer, seat, e) : 0);
            }
            /* no exchange of a picked expert for one picked less often would be better */
            for (int a = 0; a < s->num_experts; a++) {
                for (int b = 0; b < s->num_experts; b++) {
                    if (picked[a] > picked[b]) {
                        cr_assert(picked[a] == picked[b] + 1 && (elsewhere[a] < elsewhere[b] ||
                                                                 (elsewhere[a] == elsewhere[b] &&
                                                                  (a < b || elsewhere[a] == 0))),
                                  REPLAY, SEED(seed));
                    }
                }
            }
        }
        eepi_plan_apply_seat(view, seat, plan);
        for (int i = 0; i < s->num_layers * s->num_slots; i++) {
            const eepi_view_slot *slot =
                eepi_view_slot_at(view, i / s->num_slots, seat, i % s->num_slots);
            cr_assert(slot->state == EEPI_SLOT_HOLDS && slot->expert == plan[i], REPLAY,
                      SEED(seed));
        }
        free(plan);
        free(view);
    }
}

/* More experts are lost than a seat has slots: as many seats as it takes, each with the next turn,
 * load all of them, and begin again with the first. A live expert is loaded by none meanwhile. */
Test(placement, seats_with_different_turns_load_different_lost_experts)
{
    enum { NUM_EXPERTS = 11, NUM_SLOTS = 3, NUM_LIVE = 2 };
    eepi_view *view = new_view(6, 1, NUM_EXPERTS, NUM_SLOTS);
    int loaded[NUM_EXPERTS] = {0};

    eepi_view_seat_at(view, 5)->state = EEP_SEAT_ACTIVE;
    set_expert(view, 0, 5, 0, 4);
    set_expert(view, 0, 5, 1, 9);
    for (int turn = 7; turn < 7 + NUM_EXPERTS - NUM_LIVE; turn++) {
        int32_t experts[NUM_SLOTS];
        eepi_plan_table *table = eepi_plan_table_new(&view->shape);
        eepi_plan_seat(view, table, NULL, turn % 5, turn, experts);
        eepi_plan_table_free(table);
        for (int slot = 0; slot < NUM_SLOTS; slot++) {
            loaded[experts[slot]]++;
        }
    }
    for (int expert = 0; expert < NUM_EXPERTS; expert++) {
        cr_assert_eq(loaded[expert], expert == 4 || expert == 9 ? 0 : NUM_SLOTS, "expert %d: %d",
                     expert, loaded[expert]);
    }
    free(view);
}

Test(placement, an_assignment_may_leave_slots_empty)
{
    static const int32_t experts[] = {2, -1, -1, 0};
    eepi_view *view = new_view(2, 2, 3, 2);

    set_expert(view, 0, 1, 1, 1);
    eepi_plan_apply_seat(view, 1, experts);
    cr_assert_eq(eepi_view_slot_at(view, 0, 1, 0)->expert, 2);
    cr_assert_eq(eepi_view_slot_at(view, 0, 1, 1)->state, EEPI_SLOT_EMPTY);
    cr_assert_eq(eepi_view_slot_at(view, 0, 1, 1)->expert, EEPI_NO_EXPERT);
    cr_assert_eq(eepi_view_slot_at(view, 1, 1, 1)->state, EEPI_SLOT_HOLDS);
    cr_assert_eq(eepi_view_slot_at(view, 0, 0, 0)->state, EEPI_SLOT_EMPTY, "another seat");
    free(view);
}
