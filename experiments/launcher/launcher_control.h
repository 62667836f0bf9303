/* The launcher's side of the control socket: what commands do, and what status and events say.
 * Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_CONTROL_H
#define EEPX_LAUNCHER_CONTROL_H

#include "experiments/control/control.h"

#include <stdbool.h>

struct launcher;
typedef struct launcher_control launcher_control;

/* Listen as the options say; false: not possible, standard error says why. */
bool launcher_control_open(struct launcher *self);
/* The three are for each round of the loop: fill CONTROL_MAX_FDS entries, then take what came in;
 * tell what happened since the last round. */
void launcher_control_fds(const struct launcher *self, struct pollfd *set_out);
void launcher_control_take(struct launcher *self, const struct pollfd *set);
void launcher_control_tell(struct launcher *self);
/* --serve, and nobody has said `finish`: the run stays up, whatever it has to do. */
bool launcher_control_serves(const struct launcher *self);
/* `finish` was said: nothing new begins. */
bool launcher_control_is_finishing(const struct launcher *self);
/* The run is over. Nothing happens if it was never open. */
void launcher_control_close(struct launcher *self, bool good);
#endif
