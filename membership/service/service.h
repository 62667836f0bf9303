/* SPDX-License-Identifier: Apache-2.0 */
/* The service thread of a context. */
#ifndef EEPI_SERVICE_H
#define EEPI_SERVICE_H

#include "eep/eep.h"

struct eepi_service;

EEP_MUST_CHECK eep_status eepi_service_start(eep_context *context);
/* Also where it was not started. */
void eepi_service_stop(eep_context *context);
#endif
