/* What a placement survives, against what its slots have room for. */
#include "experiments/cover.h"
#include "planner_fixture.h"

#include <string.h>

static eepi_view *started(int ranks, int slots)
{
    eepi_view *view = placed(ranks, 1, 2, 64, slots);
    for (int layer = 0; layer < 2; layer++) {
        for (int expert = 0; expert < 64; expert++) {
            for (int s = 0; s < ranks; s++) {
                eepi_view_set_backup(view, s, layer, expert,
                                     eepi_plan_backup(view, layer, expert, s));
            }
        }
    }
    return view;
}

Test(cover, one_copy_of_each_expert_survives_no_death)
{
    eepi_view *view = started(8, 8);
    char text[COVER_TEXT_BYTES];
    cover found;
    cr_assert(cover_of(view, &found));
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
        cr_assert(cover_of(view, &found));
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
        cr_expect(strstr(text, "may die at once; not so ranks"), "%s", text);
        free(view);
    }
}
