/* SPDX-License-Identifier: Apache-2.0 */
/* What the launcher hears from a rank, and of its end. Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_RANK_H
#define EEPX_LAUNCHER_RANK_H

#include "experiments/launcher/launcher_state.h"

/* Read everything that the seat's rank has sent. */
void launcher_read_rank(launcher *self, int seat);
/* If the seat's process has ended: record how. */
void launcher_reap(launcher *self, int seat);
#endif
