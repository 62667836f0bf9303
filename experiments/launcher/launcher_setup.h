/* SPDX-License-Identifier: Apache-2.0 */
/* How the launcher starts and ends. Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_SETUP_H
#define EEPX_LAUNCHER_SETUP_H

#include "experiments/launcher/launcher_state.h"

/* Check memory and output folder, read the load, start the store, connect to it. NULL: not
 * possible; standard error says why. SIGINT and SIGTERM are held back from here on. */
launcher *launcher_open(const options *given);
/* End all processes and the store, free all. */
void launcher_close(launcher *self);
#endif
