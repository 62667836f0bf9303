/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the planner share: documents by chance and by shape, and counting by brute
 * force. */
#ifndef PLANNER_FIXTURE_H
#define PLANNER_FIXTURE_H

#include "repair/placement.h"
#include "repair/planner/planner.h"
#include "experiments/base/random.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define REPLAY     "seed %llu (replay: EEP_TEST_SEED=%llu and this test)"
#define SEED(seed) (unsigned long long)(seed), (unsigned long long)(seed)

static inline int below(uint64_t *state, int limit)
{
    return (int)(random_next(state) % (uint64_t)limit);
}

static inline uint64_t first_seed(void)
{
    const char *text = getenv("EEP_TEST_SEED");

    return text ? strtoull(text, NULL, 0) : 20260511;
}

static inline eepi_view *new_view(int max_ranks, int num_layers, int num_experts, int num_slots)
{
    /* each seat is a node of its own, so that each has backups of its own */
    const eepi_view_shape shape = {.max_ranks = max_ranks,
                                   .num_layers = num_layers,
                                   .num_experts = num_experts,
                                   .num_slots = num_slots,
                                   .ranks_per_node = 1};
    eepi_view *view = eepi_view_new(&shape);

    cr_assert_not_null(view);
    return view;
}

static inline eepi_view *copy_of(const eepi_view *view)
{
    eepi_view *copy = eepi_view_copy(view);

    cr_assert_not_null(copy);
    return copy;
}

static inline void set_seat(eepi_view *view, int seat, eep_seat_state state)
{
    *eepi_view_seat_at(view, seat) = (eepi_view_seat){.generation = 1, .state = (uint8_t)state};
}

static inline void kill_seat(eepi_view *view, int seat)
{
    set_seat(view, seat, EEP_SEAT_VACANT);
    eepi_view_drop_gone_backups(view);
    eepi_plan_empty_nonmembers(view);
}

static inline void set_expert(eepi_view *view, int layer, int seat, int slot, int expert)
{
    *eepi_view_slot_at(view, layer, seat, slot) = (eepi_view_slot){
        .expert = (uint16_t)expert, .source = EEPI_NO_SEAT, .state = EEPI_SLOT_HOLDS};
}

/* The initial placement on seats 0, stride, 2 * stride, ... */
static inline eepi_view *placed(int num_ranks, int stride, int num_layers, int num_experts,
                                int num_slots)
{
    eepi_view *view = new_view(num_ranks * stride, num_layers, num_experts, num_slots);

    for (int rank = 0; rank < num_ranks; rank++) {
        set_seat(view, rank * stride, EEP_SEAT_ACTIVE);
    }
    cr_assert_eq(eepi_plan_initial(view), EEP_OK);
    return view;
}

/* The planner's functions with a table of their own. */
static inline eep_status plan_coverage(eepi_view *view, int *num_fills_out, char *why_out,
                                       size_t why_bytes)
{
    eepi_plan_table *table = eepi_plan_table_new(&view->shape);
    eepi_plan_cost cost;
    const eep_status status = eepi_plan_coverage(view, table, NULL, &cost, why_out, why_bytes);

    eepi_plan_table_free(table);
    if (status == EEP_OK) {
        *num_fills_out = eepi_plan_num_fills(&cost);
    }
    return status;
}

static inline void plan_seat(const eepi_view *view, int seat, int32_t *experts_out)
{
    eepi_plan_table *table = eepi_plan_table_new(&view->shape);

    eepi_plan_seat(view, table, NULL, seat, 0, experts_out);
    eepi_plan_table_free(table);
}

static inline int plan_can_leave(const eepi_view *view, int seat)
{
    eepi_plan_table *table = eepi_plan_table_new(&view->shape);
    const int can = eepi_plan_can_leave(view, table, seat);

    eepi_plan_table_free(table);
    return can;
}

static inline int num_on_seat(const eepi_view *view, int layer, int seat, int expert)
{
    int count = 0;

    for (int slot = 0; slot < view->shape.num_slots; slot++) {
        const eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
        count += s->state == EEPI_SLOT_HOLDS && s->expert == expert;
    }
    return count;
}

static inline int num_live(const eepi_view *view, int layer, int expert)
{
    int count = 0;

    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        if (eepi_view_is_member(view, seat)) {
            count += num_on_seat(view, layer, seat, expert);
        }
    }
    return count;
}

static const int shapes[][4] = {
    /* ranks, stride, experts, slots */
    {2, 1, 4, 4},   {8, 1, 64, 16},   {8, 3, 64, 16},  {32, 1, 288, 9},  {31, 1, 288, 19},
    {5, 2, 7, 3},   {3, 1, 10, 9},    {1, 1, 6, 6},    {1, 1, 6, 20},    {4, 1, 5, 13},
    {7, 1, 30, 11}, {16, 1, 256, 32}, {3, 1, 2, 2},    {64, 1, 288, 5},  {6, 1, 64, 11},
    {9, 1, 1, 1},   {2, 5, 64, 64},   {10, 1, 64, 16}, {32, 2, 100, 10}, {12, 1, 65, 13},
};
enum { NUM_SHAPES = sizeof shapes / sizeof shapes[0] };

/* A random document of an instance in trouble: any seat state, slots by chance. */
static inline eepi_view *random_view(uint64_t *random)
{
    static const uint8_t states[] = {EEP_SEAT_VACANT, EEP_SEAT_ACTIVE,   EEP_SEAT_ACTIVE,
                                     EEP_SEAT_ACTIVE, EEP_SEAT_RETIRING, EEP_SEAT_QUARANTINED};
    const int ranks = 1 + below(random, 7), layers = 1 + below(random, 3);
    const int experts = 1 + below(random, 20), slots = 1 + below(random, 9);
    const int backups_of_8 = below(random, 9), empty_of_8 = below(random, 9);
    eepi_view *view = new_view(ranks, layers, experts, slots);

    for (int seat = 0; seat < ranks; seat++) {
        set_seat(view, seat, states[below(random, 6)]);
        for (int layer = 0; layer < layers; layer++) {
            for (int expert = 0; expert < experts; expert++) {
                eepi_view_set_backup(view, seat, layer, expert, below(random, 8) < backups_of_8);
            }
            for (int slot = 0; slot < slots; slot++) {
                eepi_view_slot *s = eepi_view_slot_at(view, layer, seat, slot);
                if (below(random, 8) < empty_of_8) {
                    continue;
                }
                set_expert(view, layer, seat, slot, below(random, experts));
                if (below(random, 8) == 0) {
                    s->state = EEPI_SLOT_FILLING;
                    s->source = (uint16_t)below(random, ranks);
                }
            }
        }
    }
    return view;
}
#endif
