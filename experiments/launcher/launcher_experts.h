/* SPDX-License-Identifier: Apache-2.0 */
/* Which experts the members of the present view hold. Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_EXPERTS_H
#define EEPX_LAUNCHER_EXPERTS_H

#include "experiments/launcher/launcher_state.h"

/* How many experts no living rank of the present view holds (in the layer where they are most). */
int launcher_uncovered(const launcher *self);
/* The seat's process was asked to leave, and cannot: it alone holds some expert, and the slots of
 * those that stay are fewer than the experts. Why, into `text` (NULL: not said). */
bool launcher_lacks_room(const launcher *self, int seat, char *text, size_t size);
/* The present view has slots of the member to fill. */
bool launcher_is_filling(const launcher *self, int member);
/* Questions of the script, of which `user` is the launcher. By the present view a member (itself,
 * out of its host memory, as well) copies from the seat. */
bool launcher_seat_is_source(const void *user, int seat);
/* Without these seats, every expert is in a slot of another member. */
bool launcher_is_covered_without(const void *user, const bool *without);
/* Serving starts: tell a person, and record, which deaths the first view survives. */
void launcher_record_cover(launcher *self);
#endif
