/* SPDX-License-Identifier: Apache-2.0 */
/* What the membership core knows of ends (rule P8). */
#ifndef EEPI_CORE_ENDS_H
#define EEPI_CORE_ENDS_H

#include "membership/core/core_state.h"

/* A process's first sign of its end, whoever saw it. */
void eepi_core_on_first_sign(eepi_core *core, const eepi_suspect *suspect);
/* Its whole end, as `by` said (a seat, or NOBODY: the store). */
void eepi_core_on_end(eepi_core *core, const eepi_end *end, int by);
/* The whole end of that generation and all older ones, known without being told; true: it is new.
 */
bool eepi_core_note_ended(eepi_core *core, int seat, uint32_t generation);
/* Say the newest end of the seat again, to a store that may have lost it. */
void eepi_core_republish_end(eepi_core *core, int seat);
/* The margins that have passed by now. */
void eepi_core_pass_margins(eepi_core *core);
/* Tell of ends that are due to be told. */
void eepi_core_tell_ends(eepi_core *core);
#endif
