/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of a context. */
#ifndef EEPI_CONFIG_H
#define EEPI_CONFIG_H

#include "eep/eep.h"

/* Copy and check the caller's; the shapes follow from it. On a failure config.device is NULL. */
EEP_MUST_CHECK eep_status eepi_config_take(eep_context *context, const eep_config *config);
/* Of EEP_LAB_CONFIG: how long other hosts may be silent; 0: as long as the detector says. */
uint64_t eepi_config_host_silence_us(void);
#endif
