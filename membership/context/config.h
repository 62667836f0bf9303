/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of a context. */
#ifndef EEPI_CONFIG_H
#define EEPI_CONFIG_H

#include "eep/eep.h"

/* Copy and check the caller's; the shapes follow from it. On a failure config.device is NULL. */
EEP_MUST_CHECK eep_status eepi_config_take(eep_context *context, const eep_config *config);
/* Limits between hosts. They are no fields: all processes of a host have them from the environment.
 * A value that eepi_config_take refuses counts for nothing here.
 *
 * How long another host, and the own agent, may be silent. */
uint64_t eepi_config_host_silence_us(void);
uint64_t eepi_config_agent_silence_us(void);
/* How long a lease lasts (rule N21). */
uint64_t eepi_config_lease_us(void);
#endif
