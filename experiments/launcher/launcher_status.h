/* SPDX-License-Identifier: Apache-2.0 */
/* What the launcher answers to eep-ctl's questions. Private to the launcher's files. */
#ifndef EEPX_LAUNCHER_STATUS_H
#define EEPX_LAUNCHER_STATUS_H

#include "experiments/control/control_socket.h"
#include "experiments/launcher/launcher_state.h"

/* It serves, script and plan are done, and every rank is settled. False: `why`, if it is not NULL,
 * says what is waited for. */
bool launcher_status_is_settled(const launcher *self, char why[CONTROL_ERROR_BYTES]);
/* Add members to `answer`: the state of run, requests and seats; the events that are pending and
 * the ranks that are leaving. */
void launcher_status_tell(const launcher *self, double tokens_per_s, cJSON *answer);
void launcher_status_tell_pending(const launcher *self, cJSON *answer);
#endif
