/* SPDX-License-Identifier: Apache-2.0 */
/* Which seats a script's event is done to. Private to the script's files. */
#ifndef EEPX_SCRIPT_TARGET_H
#define EEPX_SCRIPT_TARGET_H

#include "experiments/script/script.h"

/* Choose the event's seats now. True: seat[] and num_seats are set, and `resolved`. */
bool script_resolve(const script *self, script_event *event, const script_world *world);
#endif
