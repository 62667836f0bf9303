/* Everything that can be done to a running instance. Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_VERBS_H
#define EEPX_LAUNCHER_VERBS_H

#include "experiments/launcher_state.h"
#include "experiments/script.h"

/* Do it now. What cannot be done any more (its process has just ended) is passed over; what fails
 * is complained about. */
void launcher_do(launcher *self, const script_deed *deed);
#endif
