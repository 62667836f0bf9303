/* SPDX-License-Identifier: Apache-2.0 */
/* Local reuse, against its definition, on random documents. */
#include "membership/view/view_reuse.h"

#include "experiments/base/random.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { SEATS = 6, LAYERS = 3, EXPERTS = 70, SLOTS = 16, CASES = 200 };

static eepi_view *random_view(uint64_t *seed)
{
    const eepi_view_shape shape = {
        .max_ranks = SEATS, .num_layers = LAYERS, .num_experts = EXPERTS, .num_slots = SLOTS};
    eepi_view *view = eepi_view_new(&shape);
    cr_assert_not_null(view);
    for (int seat = 0; seat < SEATS; seat++) {
        *eepi_view_seat_at(view, seat) = (eepi_view_seat){
            .generation = 1 + (uint32_t)(random_next(seed) % 2),
            .state = random_next(seed) % 4 ? EEP_SEAT_ACTIVE : EEP_SEAT_QUARANTINED};
        for (int i = 0; i < LAYERS * SLOTS; i++) {
            *eepi_view_slot_at(view, i / SLOTS, seat, i % SLOTS) =
                (eepi_view_slot){.expert = (uint16_t)(random_next(seed) % EXPERTS),
                                 .state = (uint8_t)(random_next(seed) % 3)};
        }
    }
    return view;
}

/* The expert was held by a process that is gone, and `seat` is the first that holds it now. */
static bool is_reused(const eepi_view *before, const eepi_view *after, int layer, int expert,
                      int seat)
{
    bool was_lost = false;
    int first = SEATS;
    for (int s = SEATS - 1; s >= 0; s--) {
        was_lost |= eepi_view_is_member(before, s) &&
                    !eepi_view_has(after, s, eepi_view_seat_at(before, s)->generation) &&
                    eepi_view_holds(before, layer, s, expert);
        first =
            eepi_view_is_member(after, s) && eepi_view_holds(after, layer, s, expert) ? s : first;
    }
    return was_lost && first == seat;
}

Test(view, local_reuse_counts_each_expert_at_one_rank)
{
    uint64_t seed = 5, all = 0;
    for (int i = 0; i < CASES; i++) {
        eepi_view *before = random_view(&seed), *after = random_view(&seed);
        for (int seat = 0; seat < SEATS; seat++) {
            uint64_t expected = 0;
            for (int e = 0; e < LAYERS * EXPERTS; e++) {
                expected += is_reused(before, after, e / EXPERTS, e % EXPERTS, seat);
            }
            cr_assert_eq(eepi_view_num_reused(before, after, seat), expected, "case %d rank %d", i,
                         seat);
            all += expected;
        }
        free(before);
        free(after);
    }
    cr_assert_gt(all, CASES);
}

Test(view, nothing_is_reused_where_nobody_left)
{
    uint64_t seed = 6;
    eepi_view *view = random_view(&seed);
    for (int seat = 0; seat < SEATS; seat++) {
        cr_assert_eq(eepi_view_num_reused(view, view, seat), 0);
    }
    free(view);
}
