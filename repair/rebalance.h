/* SPDX-License-Identifier: Apache-2.0 */
/* Background repair, as pure functions on a view document. */
#ifndef EEPI_REBALANCE_H
#define EEPI_REBALANCE_H

#include "membership/view/view.h"

/* One layer of a covered document, behind live traffic. Marks up to `max_fills` slots
 * FILLING, each with a source (the target's own backup; else the member least asked that has the
 * expert in a slot or as a backup), and returns how many. In this order:
 *   experts on fewest staying seats first get one seat more, from EMPTY slots, then from slots
 * whose seat has the expert twice, then from experts with at least two seats more: so RETIRING
 * seats lose what only they have, and the numbers of seats of any two experts differ by one at most
 * in the end, where slots allow it (seats that have an expert already are no use to it); then the
 * most loaded seat is relieved (a replica carries 1/replicas of its expert's load) as long as that
 * lowers the sum of squared loads by at least one expert's load squared. The last live replica of
 * an expert is never taken. Each fill lowers a potential, so that a document at rest stays at rest
 * (0). Seats that retire keep what they hold. */
int eepi_plan_background(eepi_view *view, int layer, int max_fills);
#endif
