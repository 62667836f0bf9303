/* SPDX-License-Identifier: Apache-2.0 */
/* Which deaths a placement survives, window by window along its members. */
#include "experiments/rows/cover.h"

#include "repair/placement.h"
#include "repair/planner/planner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct looker {
    const eepi_view *view;
    eepi_plan_table *table;
    int seats[EEP_MAX_RANKS]; /* of the members */
    bool (*goes_on)(void *user);
    void *user;
    cover_status status; /* once it is not KNOWN, no set is looked at */
} looker;

/* The view is left without members first .. last, by their places in `seats`. */
static bool survives(looker *self, int first, int last)
{
    if (self->status == COVER_KNOWN && self->goes_on && !self->goes_on(self->user)) {
        self->status = COVER_GIVEN_UP;
    }
    eepi_view *left = self->status == COVER_KNOWN ? eepi_view_copy(self->view) : NULL;
    if (!left) {
        self->status = self->status == COVER_KNOWN ? COVER_NO_MEMORY : self->status;
        return false;
    }
    for (int i = first; i <= last; i++) {
        eepi_view_seat_at(left, self->seats[i])->state = EEP_SEAT_VACANT;
    }
    eepi_plan_empty_nonmembers(left);
    bool can_read_file[EEP_MAX_RANKS];
    const eepi_plan_given given = {.can_read_file = can_read_file};
    for (int seat = 0; seat < left->shape.max_ranks; seat++) {
        can_read_file[seat] = eepi_view_has_checkpoint(left, seat);
    }
    bool good = eepi_view_num_active(left) > 0 &&
                eepi_plan_coverage(left, self->table, &given, NULL, NULL, 0) == EEP_OK;
    free(left);
    return good;
}

/* Window by window along the members: a set that is survived has only such subsets, so a window
 * ends no earlier than the one before, and twice as many looks as there are members do. */
static cover look(looker *self, int num)
{
    cover out = {.num_ranks = num, .adjacent = num, .first = -1, .last = -1};
    int end = 0; /* members first .. end - 1 are survived */
    for (int first = 0; first < num; first++) {
        bool alone = end > first || survives(self, first, first);
        out.num_single += alone;
        end = end > first ? end : first + alone;
        while (alone && end < num && survives(self, first, end)) {
            end++;
        }
        if (end < num && end - first < out.adjacent) {
            out.adjacent = end - first;
            out.first = self->seats[first];
            out.last = self->seats[end];
        }
    }
    return out;
}

cover_status cover_of(const eepi_view *view, bool (*goes_on)(void *user), void *user,
                      cover *cover_out)
{
    looker self = {.view = view, .goes_on = goes_on, .user = user};
    int num = 0;
    for (int s = 0; s < view->shape.max_ranks; s++) {
        if (eepi_view_is_member(view, s)) {
            self.seats[num++] = s;
        }
    }
    self.table = eepi_plan_table_new(&view->shape);
    self.status = self.table ? COVER_KNOWN : COVER_NO_MEMORY;
    cover found = look(&self, num);
    eepi_plan_table_free(self.table);
    *cover_out = self.status == COVER_KNOWN ? found : (cover){.first = -1, .last = -1};
    return self.status;
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
                 "placement: any %d adjacent rank%s may die at once, but not all of ranks %d to %d",
                 self->adjacent, self->adjacent > 1 ? "s" : "", self->first, self->last);
    }
}
