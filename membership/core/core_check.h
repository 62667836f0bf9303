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
#endif
