/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher and its plan. Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_PLAN_H
#define EEPX_LAUNCHER_PLAN_H

#include "experiments/launcher/launcher_state.h"

/* Apply what the plan says is due; a phase that was not as planned ends the run. Without a plan
 * nothing. */
void launcher_run_plan(launcher *self);
#endif
