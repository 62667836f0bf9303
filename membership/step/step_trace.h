/* SPDX-License-Identifier: Apache-2.0 */
/* A rank under a laboratory: rows of its trace, and what it is told there (EEP_TRACE). Without a
 * trace nothing of it happens. */
#ifndef EEPI_STEP_TRACE_H
#define EEPI_STEP_TRACE_H

#include "eep/eep.h"
#include "membership/trace/trace_rows.h"

/* In eep_open, once the rank has its generation; with EEP_TRACE_FAULTS=1 the step's graphs get
 * nodes that can halt, on a device of the host. */
void eepi_step_trace_open(eep_context *context);
void eepi_step_trace_close(eep_context *context);
void eepi_step_trace_joined(eep_context *context);
/* Between two steps: leave, if a laboratory asks for it. Rank thread. */
void eepi_step_trace_begin(eep_context *context);
/* A step has ended like that; it takes longer, if that is asked for. Rank thread, without the lock.
 */
void eepi_step_trace_end(eep_context *context, eep_status status);
#endif
