/* SPDX-License-Identifier: Apache-2.0 */
/* A planned change of view: joins, leaves, background repair. */
#ifndef EEPI_CORE_PLAN_H
#define EEPI_CORE_PLAN_H

#include "membership/core/core_state.h"

/* Stage the plan that there is; the lowest member also makes plans and commits them. */
void eepi_core_advance_plan(eepi_core *core);
/* A plan to stage was heard. */
void eepi_core_on_plan(eepi_core *core, const eepi_view *plan);
#endif
