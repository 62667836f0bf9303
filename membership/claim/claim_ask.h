/* SPDX-License-Identifier: Apache-2.0 */
/* One request to the store and its answer, in eep_open. Calling thread. */
#ifndef EEPI_CLAIM_ASK_H
#define EEPI_CLAIM_ASK_H

#include "eep/eep.h"

enum { EEPI_STORE_BOUND_US = 5000000 };

/* The last error says why the store does not answer; returns the status. */
eep_status eepi_store_is_silent(eep_context *context, eep_status status);
/* The answer to that request. Its bytes are copied, 8-byte aligned, and the caller frees them,
 * whatever comes; NULL: there are none. */
EEP_MUST_CHECK eep_status eepi_ask_store(eep_context *context, uint64_t id, void **value_out,
                                         size_t *size_out, uint64_t *revision_out);
/* The newest generation of the seat whose end somebody has told; 0: none. */
EEP_MUST_CHECK eep_status eepi_ask_end(eep_context *context, int seat, uint32_t *generation_out);
#endif
