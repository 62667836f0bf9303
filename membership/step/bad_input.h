/* SPDX-License-Identifier: Apache-2.0 */
/* What was wrong with a step's input. */
#ifndef EEPI_BAD_INPUT_H
#define EEPI_BAD_INPUT_H

#include "eep/eep.h"
#include "graphs/kernels/table_layout.h"

/* Keep it for eep_bad_input_get, and say it: EEP_ERR_BAD_STEP_INPUT. Rank thread. */
eep_status eepi_step_say_bad_input(eep_context *context, const eepk_status *status);
#endif
