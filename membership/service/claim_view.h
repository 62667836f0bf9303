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
#endif
