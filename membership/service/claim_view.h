/* SPDX-License-Identifier: Apache-2.0 */
/* The view that a process finds when it opens: what to load, and which process had its seat.
 * Calling thread of eep_open. */
#ifndef EEPI_CLAIM_VIEW_H
#define EEPI_CLAIM_VIEW_H

#include "membership/context/records.h"
#include "membership/process/seat_file.h"

/* What to load if this is the first view, and which backups to keep in any case: that follows from
 * the configuration alone. With an order: what to load by that one. EEP_ERR_INVALID. */
EEP_MUST_CHECK eep_status eepi_plan_first_view(eep_context *context, const eepi_order *order);
/* The instance's present view, if there is one: which process has this seat in it, and what to
 * load. */
EEP_MUST_CHECK eep_status eepi_claim_view(eep_context *context, const eepi_instance *instance,
                                          eepi_view_seat *seat_out);
eepi_seat_holder eepi_holder_of(const eepi_record *record);
/* A seat's file is its host's (rule N8). Of a process of another host, as a record names it, it
 * says something only if it names that very process, or pids mean the same there: a process here
 * may have taken the same generation, or a higher one, that no record ever named. */
bool eepi_file_speaks_for(const eep_context *context, const eepi_seat_holder *in_file,
                          const eepi_seat_holder *in_record, uint64_t host);
#endif
