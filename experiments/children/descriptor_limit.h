/* SPDX-License-Identifier: Apache-2.0 */
/* The limit of open descriptors, which the programs raise for themselves and what they start. */
#ifndef EEPX_DESCRIPTOR_LIMIT_H
#define EEPX_DESCRIPTOR_LIMIT_H

#include "experiments/setup/options.h"

#include <stdbool.h>

enum { DESCRIPTOR_LIMIT_ERROR_BYTES = 512 };

/* Raise the soft limit to the hard one. */
void descriptor_limit_raise(void);
/* Whether a run as configured fits into the limit, by what its processes open at least. False:
 * `error` names the limit and the need. */
bool descriptor_limit_fits(const options *given, char error[DESCRIPTOR_LIMIT_ERROR_BYTES]);
#endif
