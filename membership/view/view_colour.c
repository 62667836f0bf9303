/* SPDX-License-Identifier: Apache-2.0 */
/* The colour of a view's windows, and who may still store into those of each colour (rule P7). */
#include "membership/view/view.h"

bool eepi_view_is_tainted(const eepi_view *view, int colour)
{
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const eepi_view_seat *s = eepi_view_seat_at(view, seat);
        if (s->reach == colour + 1 || s->former >> colour & 1u) {
            return true;
        }
    }
    return false;
}

void eepi_view_renew_colour(eepi_view *view, int colour)
{
    view->serial[colour]++;
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        eepi_view_seat *s = eepi_view_seat_at(view, seat);
        s->former &= (uint8_t) ~(1u << colour);
        s->reach = s->reach == colour + 1 ? 0 : s->reach;
    }
}

const char *eepi_view_check_colours(const eepi_view *view)
{
    if (view->colour >= EEPK_COLOURS) {
        return "the view's colour is out of range";
    }
    for (int colour = 0; colour < EEPK_COLOURS; colour++) {
        if (view->serial[colour] == 0) {
            return "the view names no memory for a colour";
        }
    }
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        const eepi_view_seat *s = eepi_view_seat_at(view, seat);
        if (s->reach > EEPK_COLOURS || s->former >> EEPK_COLOURS != 0) {
            return "a seat's former processes reach a colour that there is not";
        }
        if (s->reach != 0 && (s->generation == 0 || eepi_view_is_member(view, seat))) {
            return "a seat's process is a member, or none, and reaches windows as one that is out";
        }
    }
    return NULL;
}
