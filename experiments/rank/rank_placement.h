/* SPDX-License-Identifier: Apache-2.0 */
/* The placements that a rank orders, and what it tells of the one in force. Private to the rank's
 * files; the rank's thread. */
#ifndef EEPX_RANK_PLACEMENT_H
#define EEPX_RANK_PLACEMENT_H

#include "experiments/rank/rank_state.h"

/* What the rank begins with, before its weights: EEP_OK where that is nothing. What fails is
 * complained about. */
EEP_MUST_CHECK eep_status rank_order_first(rank *self);
/* What the launcher has told it to order since. What is refused is told. */
void rank_order_placements(rank *self);
/* Tell the launcher how far the placement in force has come, if that has changed. */
void rank_tell_placement(rank *self);
#endif
