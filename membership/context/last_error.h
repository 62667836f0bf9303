/* SPDX-License-Identifier: Apache-2.0 */
/* The text that says why a call failed: of which rank, under which epoch, and what to do. */
#ifndef EEPI_LAST_ERROR_H
#define EEPI_LAST_ERROR_H

#include "eep/eep.h"

enum { EEPI_ERROR_BYTES = 512 };

/* Set the last error (rank thread) and return the status. */
eep_status eepi_fail(eep_context *context, eep_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#endif
