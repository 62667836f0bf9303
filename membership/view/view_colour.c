/* SPDX-License-Identifier: Apache-2.0 */
/* The colour of a view's windows, and who may still store into those of each colour (rule P7): is
 * what a document says of them sane? */
#include "membership/view/view.h"

const char *eepi_view_check_colours(const eepi_view *view, const eepi_view_seat *seats)
{
    if (view->colour >= EEPI_VIEW_COLOURS) {
        return "the view's colour is out of range";
    }
    for (int colour = 0; colour < EEPI_VIEW_COLOURS; colour++) {
        if (view->serial[colour] == 0) {
            return "the view names no memory for a colour";
        }
    }
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const eepi_view_seat *s = &seats[seat];
        const bool is_member = s->state == EEP_SEAT_ACTIVE || s->state == EEP_SEAT_RETIRING;
        if (s->reach > EEPI_VIEW_COLOURS || s->former >> EEPI_VIEW_COLOURS != 0) {
            return "a seat's former processes reach a colour that there is not";
        }
        if (s->reach != 0 && (s->generation == 0 || is_member)) {
            return "a seat's process is a member, or none, and reaches windows as one that is out";
        }
    }
    return NULL;
}
