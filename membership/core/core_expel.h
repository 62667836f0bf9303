/* SPDX-License-Identifier: Apache-2.0 */
/* Whom a fault view leaves out, and the kills that come before it. */
#ifndef EEPI_CORE_EXPEL_H
#define EEPI_CORE_EXPEL_H

#include "membership/core/core_state.h"

/* The next fault view leaves the member out. */
bool eepi_core_is_expelled(const eepi_core *core, int seat);
/* Kill those who are expelled; true once none of their ends is to be waited for any more. */
bool eepi_core_all_killed(eepi_core *core);
/* Nobody wants those killed any more who are not expelled any more. */
void eepi_core_retract_kills(eepi_core *core);
#endif
