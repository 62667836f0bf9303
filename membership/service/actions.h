/* SPDX-License-Identifier: Apache-2.0 */
/* What the core asks for, carried out. Service thread. */
#ifndef EEPI_ACTIONS_H
#define EEPI_ACTIONS_H

#include "eep/eep.h"
#include "membership/core/core.h"

void eepi_perform(eep_context *context, const eepi_action *action);
#endif
