/* SPDX-License-Identifier: Apache-2.0 */
/* Taking a seat. */
#ifndef EEPI_CLAIM_H
#define EEPI_CLAIM_H

#include "eep/eep.h"

/* Take the seat with a new generation, and learn what to load; in eep_open, before the service
 * thread. */
EEP_MUST_CHECK eep_status eepi_claim_seat(eep_context *context);
#endif
