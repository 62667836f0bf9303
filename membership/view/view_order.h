/* SPDX-License-Identifier: Apache-2.0 */
/* The wishes of a view document: taken over from an order, and how far the view has come with them.
 */
#ifndef EEPI_VIEW_ORDER_H
#define EEPI_VIEW_ORDER_H

#include "membership/view/view.h"
#include "membership/view/wishes.h"

/* Take the order into the document, or (NULL) leave none there. */
void eepi_view_take_order(eepi_view *view, const eepi_order *order);
/* Of a layer, [max_ranks][num_slots]; NULL: it has none. */
const uint16_t *eepi_view_layer_wishes(const eepi_view *view, int layer);
bool eepi_view_is_pinned(const eepi_view *view, int layer, int seat, int slot);
bool eepi_view_layer_has_pins(const eepi_view *view, int layer);
/* Slots of members (of those that stay, if `staying`) that do not hold what they are to hold. */
int eepi_view_num_unmet(const eepi_view *view, int layer, bool staying);
/* Whether the members that stay can come to what a layer is to hold. */
typedef enum eepi_reach {
    EEPI_REACHABLE, /* they can, or have it; or somebody leaves or is filled, and it will show */
    EEPI_NO_SPARE,  /* each expert has one replica and no slot is empty: nothing can move */
    EEPI_NO_ROOM, /* an expert is given to none of them, and the slots that are left are too few */
} eepi_reach;
eepi_reach eepi_view_reach(const eepi_view *view, int layer);
/* Slots that are unmet in layers that are not reachable; the first such layer in *layer_out, unless
 * NULL or there is none. */
int eepi_view_num_unreachable(const eepi_view *view, int *layer_out);
/* Slots of one seat are alike: two of them exchange wishes. */
void eepi_view_exchange_wishes(eepi_view *view, int layer, int seat, int slot, int other);
/* Slots of one seat are alike: a wish goes to the slot of its seat where its expert lies already.
 * Then, in layers where no staying member's wish is unmet, what is not pinned is wished for no
 * more. How many wishes changed. */
int eepi_view_settle_wishes(eepi_view *view);
#endif
