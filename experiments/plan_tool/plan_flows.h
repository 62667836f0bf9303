/* SPDX-License-Identifier: Apache-2.0 */
/* Experts that are moved, added up over the links of their paths. */
#ifndef EEPX_PLAN_FLOWS_H
#define EEPX_PLAN_FLOWS_H

#include "experiments/plan_tool/plan_case.h"

typedef struct plan_flows plan_flows;

/* NULL: no memory. */
plan_flows *plan_flows_new(const plan_case *self);
void plan_flows_free(plan_flows *flows); /* NULL is ignored */
void plan_flows_reset(plan_flows *flows);
/* One expert more; `kind` of eepi_link_kind. */
void plan_flows_add(plan_flows *flows, int source, int target, int kind);
/* How long the most loaded link of that path would take with one expert more. */
double plan_flows_with(const plan_flows *flows, int source, int target, int kind);
/* How long the most loaded link takes. */
double plan_flows_link_s(const plan_flows *flows);
/* Bytes into the rank that takes most. */
double plan_flows_most_into(const plan_flows *flows);
#endif
