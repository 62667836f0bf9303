/* SPDX-License-Identifier: Apache-2.0 */
/* What a placement survives, against what its slots have room for. */
#include "experiments/rows/cover.h"
#include "tests/lib/planner_fixture.h"
#include "repair/backup_plan.h"
#include "repair/placement.h"

#include <string.h>

static bool goes_on_for_ever(void *looks)
{
    ++*(uint64_t *)looks;
    return true;
}

static bool goes_on_for_ten(void *looks)
{
    return ++*(uint64_t *)looks <= 10;
}

static eepi_view *started(int ranks, int slots)
{
    eepi_view *view = placed(ranks, 1, 2, 64, slots);
    for (int s = 0; s < ranks; s++) {
        uint64_t wanted[2]; /* [layers][words] */
        cr_assert_eq(eepi_plan_backups(view, 2, s, wanted), EEP_OK);
        for (int i = 0; i < 2 * 64; i++) {
            eepi_view_set_backup(view, s, i / 64, i % 64, wanted[i / 64] >> (i % 64) & 1u);
        }
    }
    return view;
}

Test(cover, one_copy_of_each_expert_survives_no_death)
{
    eepi_view *view = started(8, 8);
    char text[COVER_TEXT_BYTES];
    cover found;
    cr_assert_eq(cover_of(view, NULL, NULL, &found), COVER_KNOWN);
    cr_assert_eq(found.num_ranks, 8);
    cr_assert_eq(found.num_single, 0);
    cr_assert_eq(found.adjacent, 0);
    cover_describe(&found, 8, text);
    cr_assert(strstr(text, "every death stops the instance"), "%s", text);
    free(view);
}

/* What it says of neighbours holds for every set of them, and it names one that is too large. */
Test(cover, what_is_said_of_neighbours_is_so)
{
    for (int slots = 10; slots <= 64; slots += 9) {
        eepi_view *view = started(8, slots);
        cover found;
        char text[COVER_TEXT_BYTES];
        cr_assert_eq(cover_of(view, NULL, NULL, &found), COVER_KNOWN);
        cr_expect_eq(found.num_single, 8, "%d slots", slots);
        cr_expect_geq(found.adjacent, 1);
        for (int first = 0; first + found.adjacent <= 8; first++) {
            eepi_view *left = copy_of(view);
            int fills = 0;
            for (int s = first; s < first + found.adjacent; s++) {
                kill_seat(left, s);
            }
            cr_expect_eq(plan_coverage(left, &fills, NULL, 0), EEP_OK, "%d slots, %d from %d",
                         slots, found.adjacent, first);
            free(left);
        }
        cr_expect(found.adjacent < 8 && found.last - found.first == found.adjacent);
        cover_describe(&found, slots, text);
        cr_expect(strstr(text, "may die at once, but not all of ranks"), "%s", text);
        free(view);
    }
}

/* Whether members first .. last, by their places, may die, looked at by itself. */
static bool may_die(const eepi_view *view, const int *seats, int first, int last)
{
    eepi_view *left = copy_of(view);
    int fills = 0, staying = 0;
    for (int i = first; i <= last; i++) {
        kill_seat(left, seats[i]);
    }
    for (int s = 0; s < left->shape.max_ranks; s++) {
        staying += eepi_view_is_member(left, s);
    }
    bool good = staying > 0 && plan_coverage(left, &fills, NULL, 0) == EEP_OK;
    free(left);
    return good;
}

/* Every set of neighbours is looked at here, smaller ones first. */
static cover by_every_set(const eepi_view *view)
{
    int seats[EEP_MAX_RANKS], num = 0;
    for (int s = 0; s < view->shape.max_ranks; s++) {
        if (eepi_view_is_member(view, s)) {
            seats[num++] = s;
        }
    }
    cover out = {.num_ranks = num, .first = -1, .last = -1};
    for (int size = 1; size <= num && out.first < 0; size++) {
        for (int i = 0; i + size <= num; i++) {
            bool good = may_die(view, seats, i, i + size - 1);
            out.num_single += size == 1 && good;
            if (!good && out.first < 0) {
                out.first = seats[i];
                out.last = seats[i + size - 1];
            }
        }
        out.adjacent = out.first < 0 ? size : out.adjacent;
    }
    return out;
}

Test(cover, is_what_looking_at_every_set_finds)
{
    uint64_t state = first_seed();
    for (int round = 0; round < 60; round++) {
        eepi_view *view = started(12, 6 + below(&state, 12));
        for (int gone = below(&state, 6); gone > 0; gone--) {
            kill_seat(view, below(&state, 12)); /* members are no longer neighbours by number */
        }
        for (int lost = below(&state, 40); lost > 0; lost--) { /* and not all hold backups */
            int seat = below(&state, 12), expert = below(&state, 64);
            for (int layer = 0; layer < 2; layer++) {
                eepi_view_set_backup(view, seat, layer, expert, false);
            }
        }
        cover found, wanted = by_every_set(view);
        cr_assert_eq(cover_of(view, NULL, NULL, &found), COVER_KNOWN);
        cr_assert(found.num_ranks == wanted.num_ranks && found.num_single == wanted.num_single &&
                      found.adjacent == wanted.adjacent && found.first == wanted.first &&
                      found.last == wanted.last,
                  "round %d, " REPLAY ": %d alone, %d adjacent, %d to %d; by every set %d, %d, %d "
                  "to %d",
                  round, SEED(first_seed()), found.num_single, found.adjacent, found.first,
                  found.last, wanted.num_single, wanted.adjacent, wanted.first, wanted.last);
        free(view);
    }
}

/* More than 64 of them may die: it took a look at every set of up to so many. */
Test(cover, of_many_ranks_takes_two_looks_at_each)
{
    eepi_view *view = started(200, 32);
    cover found, none;
    uint64_t looks = 0;
    cr_assert_eq(cover_of(view, goes_on_for_ever, &looks, &found), COVER_KNOWN);
    cr_expect_eq(found.num_single, 200);
    cr_expect_gt(found.adjacent, 64, "%d", found.adjacent);
    cr_expect_leq(looks, 400);
    looks = 0;
    cr_assert_eq(cover_of(view, goes_on_for_ten, &looks, &none), COVER_GIVEN_UP);
    cr_expect_eq(none.num_ranks, 0);
    cr_expect_eq(looks, 11);
    free(view);
}
