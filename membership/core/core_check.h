/* SPDX-License-Identifier: Apache-2.0 */
/* What the rules forbid this rank to know, to propose or to ask for. A failed assertion is a bug of
 * libeep: nothing that another process or the store says may lead to one. */
#ifndef EEPI_CORE_CHECK_H
#define EEPI_CORE_CHECK_H

#include "membership/core/core_state.h"

/* The document that this rank is about to propose on top of the newest view. */
void eepi_core_check_draft(const eepi_core *core, const eepi_view *draft);
/* After an input: what is known, and the actions that were asked for. */
void eepi_core_check(const eepi_core *core);

/* The only place that assigns the status of this rank. A transition that no rule allows is our bug.
 */
void eepi_core_set_status(eepi_core *core, core_status next);
/* As "WEDGED". */
const char *eepi_core_status_name(core_status status);
#endif
