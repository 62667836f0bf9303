/* SPDX-License-Identifier: Apache-2.0 */
/* The fault side of the membership core. */
#ifndef EEPI_CORE_FAULT_H
#define EEPI_CORE_FAULT_H

#include "membership/core/core_state.h"

/* Wedge, report, propose, repair, install: whatever the newest view and the evidence ask for. */
void eepi_core_advance_fault(eepi_core *core);
#endif
