/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher and its fault script. Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_SCRIPT_H
#define EEPX_LAUNCHER_SCRIPT_H

#include "experiments/launcher/launcher_state.h"

/* Apply what the script says is due. */
void launcher_run_script(launcher *self);
/* What came of all its events, at the end of the run: into self->run. */
void launcher_record_script(launcher *self);
#endif
