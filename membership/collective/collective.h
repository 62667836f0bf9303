/* SPDX-License-Identifier: Apache-2.0 */
/* Small collectives of a context: what the other parts of it say to them. The calls of the program
 * are in collective_calls.c. */
#ifndef EEPI_COLLECTIVE_H
#define EEPI_COLLECTIVE_H

#include "eep/collectives.h"
#include "membership/context/outcome.h"
#include "membership/view/view.h"

#include <stdbool.h>

struct eepi_collectives;

/* Everything but this rank's memory, which needs its generation. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_collectives_open(eep_context *context);
/* Make this rank's memory; returns the descriptor that peers map it by, for the window's header. */
EEP_MUST_CHECK eep_status eepi_collectives_make(eep_context *context, char *why_out,
                                                size_t why_bytes, int32_t *fd_out);
/* Also where it was not opened. */
void eepi_collectives_close(eep_context *context);
/* eep_close: end the call that another thread is in, and let no other begin. False: that call did
 * not end in time, and the log names it. */
bool eepi_collectives_interrupt(eep_context *context);
/* eep_join has returned EEP_OK, or that all wait for experts: from now on they concern the others,
 * too. Any thread. */
void eepi_collectives_join(eep_context *context);

/* ---- service thread */

/* Map the memory of that process, unless it is mapped. */
EEP_MUST_CHECK eep_status eepi_collectives_map(eep_context *context, int seat, uint32_t generation,
                                               int32_t pid, int32_t fd, char *why_out,
                                               size_t why_bytes);
/* That process is of another host: it is told by messages, and has no memory to map.
 * EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_collectives_reach(eep_context *context, int seat,
                                                 uint32_t generation);
/* A committed view is in force for this rank, or is announced. A planned one takes over the number
 * that is under way; any other ends it. */
void eepi_collectives_follow(eep_context *context, const eepi_view *view);
/* Rule M2: no number ends under the present view any more, before this rank promises so. */
void eepi_collectives_stop(eep_context *context);
/* The newest number that has ended, of a rank that has stopped, and the newest to which it holds
 * all contributions: its report says so (rule P13). */
uint64_t eepi_collectives_last(eep_context *context, uint64_t *held_out);
/* This rank's service is over, for what its outcome says. */
void eepi_collectives_end(eep_context *context, const eepi_outcome *outcome);
#endif
