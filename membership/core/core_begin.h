/* SPDX-License-Identifier: Apache-2.0 */
/* The first view of an instance. */
#ifndef EEPI_CORE_BEGIN_H
#define EEPI_CORE_BEGIN_H

#include "membership/core/core_state.h"

/* Propose it as soon as an instance may begin and it is this rank's turn. */
void eepi_core_advance_initial(eepi_core *core);
#endif
