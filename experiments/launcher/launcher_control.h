/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher's side of the control socket. Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_CONTROL_H
#define EEPX_LAUNCHER_CONTROL_H

#include "experiments/control/control_socket.h"
#include "experiments/launcher/launcher_state.h"

#include <stdbool.h>

/* Listen as the options say; false: not possible, standard error says why. */
bool launcher_control_open(launcher *self);
/* The three are for each round of the loop: fill CONTROL_MAX_FDS entries, then take what came in;
 * tell what happened since the last round. */
void launcher_control_fds(const launcher *self, struct pollfd *set_out);
void launcher_control_handle(launcher *self, const struct pollfd *set);
void launcher_control_tell(launcher *self);
/* The run is over. Nothing happens if it was never open. */
void launcher_control_close(launcher *self, bool good);
#endif
