#include "experiments/cover.h"

#include "repair/planner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The view is left without members first .. last, by their places in `seats`. */
static bool survives(const eepi_view *view, eepi_plan_table *table, const int *seats, int first,
                     int last, bool *failed)
{
    eepi_view *left = eepi_view_copy(view);
    int fills = 0;
    if (!left) {
        *failed = true;
        return false;
    }
    for (int i = first; i <= last; i++) {
        eepi_view_seat_at(left, seats[i])->state = EEP_SEAT_VACANT;
    }
    eepi_plan_drop_gone(left);
    bool good = eepi_view_num_active(left) > 0 &&
                eepi_plan_coverage(left, table, &fills, NULL, 0) == EEP_OK;
    free(left);
    return good;
}

bool cover_of(const eepi_view *view, cover *cover_out)
{
    int seats[EEP_MAX_RANKS], num = 0;
    eepi_plan_table *table = eepi_plan_table_new(&view->shape);
    bool failed = !table;
    for (int s = 0; s < view->shape.max_ranks; s++) {
        if (eepi_view_is_member(view, s)) {
            seats[num++] = s;
        }
    }
    cover out = {.num_ranks = num, .first = -1, .last = -1};
    for (int i = 0; i < num && !failed; i++) {
        out.num_single += survives(view, table, seats, i, i, &failed);
    }
    /* A set that is survived has only such subsets: one more each time, until one is not. */
    for (int size = 1; size <= num && size <= COVER_MOST_ADJACENT && out.first < 0 && !failed;
         size++) {
        for (int i = 0; i + size <= num && out.first < 0 && !failed; i++) {
            if (!survives(view, table, seats, i, i + size - 1, &failed)) {
                out.first = seats[i];
                out.last = seats[i + size - 1];
            }
        }
        out.adjacent = out.first < 0 ? size : out.adjacent;
    }
    eepi_plan_table_free(table);
    *cover_out = out;
    return !failed;
}

void cover_describe(const cover *self, int num_slots, char text_out[COVER_TEXT_BYTES])
{
    if (self->num_single == 0) {
        snprintf(text_out, COVER_TEXT_BYTES,
                 "placement: every death stops the instance, until a rank brings the experts back: "
                 "of %d ranks with %d slots those that are left cannot hold all experts; give more "
                 "--slots",
                 self->num_ranks, num_slots);
    } else if (self->adjacent == 0) {
        snprintf(text_out, COVER_TEXT_BYTES,
                 "placement: the death of %d of %d ranks stops the instance (rank %d is one); give "
                 "more --slots",
                 self->num_ranks - self->num_single, self->num_ranks, self->first);
    } else if (self->first < 0) {
        snprintf(text_out, COVER_TEXT_BYTES, "placement: any %d adjacent ranks may die at once",
                 self->adjacent);
    } else {
        snprintf(text_out, COVER_TEXT_BYTES,
                 "placement: any %d adjacent rank%s may die at once; not so ranks %d to %d",
                 self->adjacent, self->adjacent > 1 ? "s" : "", self->first, self->last);
    }
}
