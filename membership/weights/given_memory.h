/* SPDX-License-Identifier: Apache-2.0 */
/* The memory that the caller gave for slots. Rank thread, until eep_join. */
#ifndef EEPI_GIVEN_MEMORY_H
#define EEPI_GIVEN_MEMORY_H

#include "eep/eep.h"

/* Put the caller's tensors into their place in the slots, which has room for
 * EEP_MAX_TENSORS. EEP_ERR_INVALID, with a text: a byte of them was given already. A place that is
 * given again forgets its former tensors. A refusal changes nothing. */
EEP_MUST_CHECK eep_status eepi_memory_give(eep_context *context, const char *call,
                                           eep_tensor *place, const eep_tensor *tensors,
                                           int32_t num_tensors);
void eepi_memory_give_back(eep_context *context);
/* The part of it that needs no device: what was given is not noted any more. */
void eepi_memory_forget(eep_context *context);
#endif
