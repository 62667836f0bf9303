/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank that comes back loads by the loads of experts, beside what it would load without. */
#include "tests/lib/background_fixture.h"
#include "repair/placement.h"

enum { RANKS = 32, EXPERTS = 256, SLOTS = 16, ROUNDS = 200 };

/* Zipf's law over the numbers of experts, by chance. */
static void choose_loads(uint64_t *random, uint32_t *loads_out)
{
    for (int expert = 0; expert < EXPERTS; expert++) {
        loads_out[expert] = (uint32_t)(1000000 / (1 + below(random, EXPERTS)));
    }
}

/* A placement for these loads that has lost one rank; NULL: and an expert with it. */
static eepi_view *without_a_rank(uint64_t *random, const uint32_t *loads, int *lost_out)
{
    const eepi_plan_wish wish = {.loads = loads};
    eepi_view *view = new_view_of((eepi_view_shape){RANKS, 1, EXPERTS, SLOTS, 0, 0});

    for (int seat = 0; seat < RANKS; seat++) {
        set_seat(view, seat, EEP_SEAT_ACTIVE);
    }
    cr_assert_eq(eepi_plan_fresh(view, &wish), EEP_OK);
    *lost_out = below(random, RANKS);
    set_seat(view, *lost_out, EEP_SEAT_VACANT);
    eepi_plan_empty_nonmembers(view);
    for (int expert = 0; expert < EXPERTS; expert++) {
        if (num_live(view, 0, expert) == 0) {
            free(view);
            return NULL;
        }
    }
    return view;
}

typedef struct comeback {
    int64_t permille; /* most loaded rank over the mean, with the best split */
    int moves;        /* behind it, until the layer is at rest */
} comeback;

static comeback come_back(const eepi_view *left, int seat, const uint32_t *known,
                          const uint32_t *loads)
{
    eepi_view *view = copy_of(left);
    eepi_plan_table *table = eepi_plan_table_new(&view->shape);
    eepi_background *background = eepi_background_new(&view->shape);
    int32_t experts[SLOTS];
    comeback c = {0, 0};

    eepi_plan_seat(view, table, known, seat, 0, experts);
    set_seat(view, seat, EEP_SEAT_ACTIVE);
    eepi_plan_apply_seat(view, seat, experts);
    (void)eepi_background_split(background, view, 0, loads, &eepi_background_defaults, true);
    c.permille = eepi_background_state_of(background).most_permille;
    for (int round = 0, fills = 1; fills > 0 && round < ROUNDS; round++) {
        eepi_background_begin(background, view, NULL, 0);
        fills = eepi_background_layer(background, 0, loads, &eepi_background_defaults);
        (void)eepi_plan_filled(view, -1);
        c.moves += fills;
    }
    eepi_background_free(background);
    eepi_plan_table_free(table);
    free(view);
    return c;
}

Test(background, who_comes_back_is_better_placed_by_loads)
{
    int judged = 0, better = 0;
    int64_t gained = 0;

    for (uint64_t seed = first_seed(), end = seed + 12; seed < end; seed++) {
        uint64_t random = seed;
        uint32_t loads[EXPERTS];
        int seat;
        choose_loads(&random, loads);
        eepi_view *left = without_a_rank(&random, loads, &seat);
        if (!left) {
            continue;
        }
        const comeback with = come_back(left, seat, loads, loads);
        const comeback without = come_back(left, seat, NULL, loads);
        cr_expect_leq(with.permille, without.permille, REPLAY, SEED(seed));
        cr_expect_leq(with.moves, without.moves, REPLAY, SEED(seed));
        judged++;
        better += with.permille < without.permille;
        gained += without.permille - with.permille;
        free(left);
    }
    cr_assert(judged > 6 && better > 0 && gained > 0, "%d of %d better, %lld permille", better,
              judged, (long long)gained);
}
