/* SPDX-License-Identifier: Apache-2.0 */
/* Before a rank is expelled: one that said that it is busy is spared, the others are warned, then
 * killed. Service thread. */
#ifndef EEPI_FENCE_H
#define EEPI_FENCE_H

#include "membership/core/core.h"

#include <stdbool.h>

struct eepi_fence;

/* EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_fence_open(eep_context *context);
void eepi_fence_close(eep_context *context);
/* Take the busy ones of these seats out, by their own word. */
void eepi_spare_busy(const eep_context *context, uint64_t *seats);
/* Tell the core, through the inbox, if that member is busy by its own word. */
bool eepi_post_busy(eep_context *context, int seat);
/* Kill the process of a suspect. A process whose heart beats is warned first. It is killed as soon
 * as it has read the warning, or its time is up: eepi_kill_warned, to be called every
 * eepi_warned_poll_us. */
void eepi_kill_suspect(eep_context *context, const eepi_suspect *suspect);
void eepi_kill_warned(eep_context *context, int seat);
uint64_t eepi_warned_poll_us(const eep_context *context);
/* Rule N13: a committed view left out a process of another host, which is behind receivers' gates.
 * The rank that proposed the view has it killed by its own agent, and asks again every second until
 * its end is known, or another process has the seat: it may hang on a host that could not be
 * reached, and nobody else there may be left to kill it. */
void eepi_note_behind_gates(eep_context *context, const eepi_view *view,
                            const eepi_suspect *suspect);
void eepi_kill_behind_gates(eep_context *context);
/* It has ended. */
void eepi_forget_behind_gates(eep_context *context, int32_t seat, uint32_t generation);
/* How many are warned and not killed yet. */
int eepi_num_warned(const eep_context *context);
#endif
