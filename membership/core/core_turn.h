/* SPDX-License-Identifier: Apache-2.0 */
/* Whose turn it is to decide, and who therefore hears what the others say (rules M4, N22). */
#ifndef EEPI_CORE_TURN_H
#define EEPI_CORE_TURN_H

#include "membership/core/core_state.h"

/* Position of this rank among the unsuspected members. Turns are dealt node by node, lowest seats
 * first, so that the loss of a node takes one of the first turns only. -1: it is no member. */
int eepi_core_order(const eepi_core *core);
/* How long a turn is. */
uint64_t eepi_core_turn_us(const eepi_core *core);
/* It may propose now: the turns before it have passed, and no proposal of its own is under way.
 * Asks for a TICK when that is to come. */
bool eepi_core_is_own_turn(eepi_core *core);
/* A member says that it has stopped, and why. */
void eepi_core_on_wedge(eepi_core *core, const eepi_wedge *wedge);
/* Why a view left that process out, as far as this rank knows (an eep_fault_kind). */
int eepi_core_cause(const eepi_core *core, int seat, uint32_t generation);
/* What the newest report of a rank says of itself. */
void eepi_core_take_report(core_peer *peer, const eepi_report *report);
/* The store has told all reports and acknowledgements that it has. */
void eepi_core_on_listens(eepi_core *core);
/* Some member has stopped under the newest view, by its own word: no step of that view can complete
 * any more. */
bool eepi_core_is_given_up(const eepi_core *core);
/* Tell all that this rank has stopped under the newest view, if they may not know. */
void eepi_core_tell_wedge(eepi_core *core);
/* Begin or cease to hear reports and acknowledgements. */
void eepi_core_advance_listening(eepi_core *core);
#endif
