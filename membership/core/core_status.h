/* SPDX-License-Identifier: Apache-2.0 */
/* The status of this rank, and the transitions that the rules allow. */
#ifndef EEPI_CORE_STATUS_H
#define EEPI_CORE_STATUS_H

#include "membership/core/core_state.h"

/* The only place that assigns the status; a transition that no rule allows is our bug. */
void eepi_core_set_status(eepi_core *core, core_status next);
/* As "WEDGED". */
const char *eepi_core_status_name(core_status status);
#endif
