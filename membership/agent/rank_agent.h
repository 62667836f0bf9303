/* SPDX-License-Identifier: Apache-2.0 */
/* A rank's agent, as its threads use it. Service thread, but for open and close. */
#ifndef EEPI_RANK_AGENT_H
#define EEPI_RANK_AGENT_H

#include "eep/eep.h"
#include "membership/core/core.h"

#include <stdbool.h>
#include <stdint.h>

/* Attach to whichever agent serves; behind the detector, which gets the boards. EEP_ERR_SYSTEM,
 * EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_rank_agent_open(eep_context *context);
/* Nothing of this rank stores any more, if `has_ended`; behind the detector's end. */
void eepi_rank_agent_close(eep_context *context, bool has_ended);
/* To poll for reading; -1: none. */
int eepi_rank_agent_fd(const eep_context *context);
uint64_t eepi_rank_agent_wake_us(const eep_context *context);
/* Go on. True, every 20 ms: it is time to look which members live on other hosts
 * (eepi_detector_watch_remote). */
bool eepi_rank_agent_progress(eep_context *context);
/* Have a process of another host killed by its own agent (rule N13). False: no agent can be asked.
 */
bool eepi_rank_agent_kill(eep_context *context, const eepi_suspect *suspect);
#endif
