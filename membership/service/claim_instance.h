/* SPDX-License-Identifier: Apache-2.0 */
/* The instance that the store names: is it ours, or may ours take its place? Calling thread of
 * eep_open. */
#ifndef EEPI_CLAIM_INSTANCE_H
#define EEPI_CLAIM_INSTANCE_H

#include "membership/context/records.h"

/* What all ranks have, as the store says. */
EEP_MUST_CHECK eep_status eepi_check_instance(eep_context *context, eepi_instance *instance_out);
/* Are the numbers in the store still ours? */
EEP_MUST_CHECK eep_status eepi_check_numbers(eep_context *context);
/* EEP_ERR_INVALID, with a text. */
eep_status eepi_begins_just_now(eep_context *context);
#endif
