/* SPDX-License-Identifier: Apache-2.0 */
/* How a step ended, in words, and with its status. Rank thread; the context's lock is held. */
#ifndef EEPI_STEP_TEXTS_H
#define EEPI_STEP_TEXTS_H

#include "eep/eep.h"
#include "graphs/kernels/table_layout.h"

/* Dispatches of the running step, of all chains. */
uint32_t eepi_step_num_exchanges(const eep_context *context);
/* It is to be run again. */
eep_status eepi_step_say_aborted(eep_context *context, const eepk_status *status);
/* What was replayed in it was no whole step. */
eep_status eepi_step_say_no_step(eep_context *context, const eepk_status *status);
/* The stream is empty, and the last node of `step` was not among what ran in it. */
eep_status eepi_step_say_unfinished(eep_context *context, uint64_t step);
#endif
