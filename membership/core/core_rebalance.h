/* SPDX-License-Identifier: Apache-2.0 */
/* Background repair. */
#ifndef EEPI_CORE_REBALANCE_H
#define EEPI_CORE_REBALANCE_H

#include "membership/core/core_state.h"

enum { EEPI_ROUND_FILLS = 256 }; /* slots per round of all layers, at most */

/* This rank's part: fill its FILLING slots of the view that it serves. */
void eepi_core_advance_fills(eepi_core *core);
/* The planner's part, on a draft of the next view: slots that are filled hold their experts.
 * Returns how many. */
int eepi_core_promote_fills(eepi_core *core, eepi_view *draft);
/* The fills that are left are overdue; then nothing is moved for a while. */
bool eepi_core_fills_are_late(eepi_core *core);
/* Something has changed that background repair goes by: look at all layers again. */
void eepi_core_examine_layers(eepi_core *core);
/* Loads that the next plans go by; NULL: nothing is known, and all experts count alike. */
void eepi_core_take_loads(eepi_core *core, const uint32_t *loads);
/* The draft's changed layers: the router's shares of their replicas. */
void eepi_core_split_loads(eepi_core *core, eepi_view *draft);
/* One round more, if it is time for one: how many slots the draft fills, and layers it splits. */
int eepi_core_plan_round(eepi_core *core, eepi_view *draft);
#endif
