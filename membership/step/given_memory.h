/* The memory that the caller gave for slots and backups. Rank thread, until eep_join. */
#ifndef EEPI_GIVEN_MEMORY_H
#define EEPI_GIVEN_MEMORY_H

#include "eep/eep.h"

/* Put the caller's tensors into their place in slots or backups, EEP_MAX_TENSORS there;
 * EEP_ERR_INVALID, with a text, if a byte of them was given already. A place that is given again
 * forgets what it had; a refusal changes nothing. */
EEP_MUST_CHECK eep_status eepi_memory_give(eep_context *context, const char *call,
                                           eep_tensor *place, const eep_tensor *tensors,
                                           int32_t num_tensors);
void eepi_memory_give_back(eep_context *context);
/* The part of it that needs no device: what was given is not noted any more. */
void eepi_memory_forget(eep_context *context);
#endif
