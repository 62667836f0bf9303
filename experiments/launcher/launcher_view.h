/* SPDX-License-Identifier: Apache-2.0 */
/* What the launcher hears from the store. Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_VIEW_H
#define EEPX_LAUNCHER_VIEW_H

#include "experiments/launcher/launcher_state.h"

/* Take every view that the store has sent; also connects to it again after a break. */
void launcher_read_store(launcher *self);
#endif
