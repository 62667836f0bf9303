/* SPDX-License-Identifier: Apache-2.0 */
/* How even the loads of a document's ranks are. */
#ifndef EEPX_PLAN_BALANCE_H
#define EEPX_PLAN_BALANCE_H

#include "experiments/plan_tool/plan_case.h"
#include "repair/background/background.h"

/* Most loaded rank over the mean of the ranks that are there, each expert split over its replicas
 * as well as can be: the worst layer, and the mean of all layers. */
typedef struct plan_balance {
    double worst, mean;
} plan_balance;

/* Sets the shares of the view's replicas to the best split. `per_share` [num_experts] is memory. */
plan_balance plan_balance_of(const plan_case *self, eepi_background *background, double *per_share,
                             eepi_view *view);
#endif
