/* SPDX-License-Identifier: Apache-2.0 */
/* Local reuse: experts of which a fault took a replica, and which another rank still has in a slot.
 * They are covered without a byte. */
#ifndef EEPI_VIEW_REUSE_H
#define EEPI_VIEW_REUSE_H

#include "membership/view/view.h"

/* Experts, of all layers, of which a process that is in `before` and no more in `after` held a
 * replica, and of which `seat` is the lowest member of `after` that holds one. So the sum over all
 * seats counts each expert once. Costs a pass over the slots of both. */
uint64_t eepi_view_num_reused(const eepi_view *before, const eepi_view *after, int seat);
#endif
