/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that can be done to a running instance. Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_VERBS_H
#define EEPX_LAUNCHER_VERBS_H

#include "experiments/launcher/launcher_state.h"
#include "experiments/script/script.h"

/* Start a process in the seat; the run fails if that is not possible. */
void launcher_start_rank(launcher *self, int seat, bool joiner);
/* Apply a verb now. False: it cannot be done any more (its process has just ended, or was killed
 * before). What fails is complained about. Call launcher_record_injected after the last of the
 * actions that are due: it looks at what the survivors do, which takes time that would come between
 * faults that are meant to be one. */
bool launcher_apply(launcher *self, const script_action *action);
void launcher_record_injected(launcher *self);
/* Record the stops of ranks that were told to freeze and did. True: another has yet to. */
bool launcher_record_freezes(launcher *self);
/* Commands of the file of --hosts that have ended: their faults are recorded. True: some run. */
bool launcher_record_commands(launcher *self);
#endif
