/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the instance is settled, or which rank holds it up. Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_SETTLED_H
#define EEPX_LAUNCHER_SETTLED_H

#include "experiments/launcher/launcher_state.h"

/* Nothing is under way: every living rank has joined; every rank that ended, or was expelled while
 * stopped, is out of the view. */
bool launcher_is_settled(const launcher *self);
/* A command of --hosts runs, or waits for its turn. */
bool launcher_runs_commands(const launcher *self);
/* Which rank is not settled and why, for a person; false: none. Here a rank that is stopped, or was
 * told to die or to freeze, is not settled either: it is about to be expelled. */
bool launcher_unsettled_text(const launcher *self, char *text, size_t size);
#endif
