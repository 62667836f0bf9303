/* SPDX-License-Identifier: Apache-2.0 */
/* The baseline without elasticity (--baseline restart): membership is fixed, so after a fault all
 * ranks are killed and started again. Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_RESTART_H
#define EEPX_LAUNCHER_RESTART_H

#include "experiments/launcher/launcher_state.h"

/* Each round while the run serves: begin a restart where a rank has ended or was expelled, start
 * all ranks once the last one has ended, and see when they serve. Nothing without the option. */
void launcher_run_restart(launcher *self);
/* Take the checkpoint out of the page cache, as --cold-checkpoint asks: no rank loads now. */
void launcher_cool(launcher *self);
/* A full restart is under way: ranks will start, though none is left now. */
bool launcher_restarts_now(const launcher *self);
#endif
