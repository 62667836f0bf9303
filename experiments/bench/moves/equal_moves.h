/* SPDX-License-Identifier: Apache-2.0 */
/* How many slots would change hands if each expert's load were split equally over its replicas. */
#ifndef EQUAL_MOVES_H
#define EQUAL_MOVES_H

#include "membership/view/view.h"

/* Slots of a layer that a greedy search gives to other experts until no member carries more than
 * target_permille of the mean. An exchange counts twice. Nobody's replicas become fewer than two by
 * it. `stuck`: nothing helps any more, above the target. libeep's router splits unequally, so this
 * is no figure of its planner: it is what moves alone can do. */
int equal_moves(const eepi_view_shape *shape, const eepi_view_slot *slots, const uint32_t *loads,
                int target_permille, bool *stuck_out);
#endif
