/* SPDX-License-Identifier: Apache-2.0 */
/* What the membership core knows, and how inputs change it. */
#ifndef EEPI_CORE_FACTS_H
#define EEPI_CORE_FACTS_H

#include "membership/core/core_state.h"

/* Take an input into account. */
void eepi_core_on_input(eepi_core *core, const eepi_input *input);
/* A store that keeps all, and has forgotten: it may have its data again (rule N19). */
void eepi_core_read_again(eepi_core *core);
#endif
