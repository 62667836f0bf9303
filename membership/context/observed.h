/* SPDX-License-Identifier: Apache-2.0 */
/* What eep_snapshot_get, eep_fault_next, eep_loads_get, eep_placement_get and the calls of
 * eep/control.h tell. */
#ifndef EEPI_OBSERVED_H
#define EEPI_OBSERVED_H

#include "eep/eep.h"

enum { EEPI_FAULT_QUEUE = 256 };

/* Under the context's lock. */
typedef struct eepi_observed {
    eep_counters counters;
    eep_fault faults[EEPI_FAULT_QUEUE]; /* that nobody has asked for yet */
    int num_faults;
    eep_seat *seats; /* [max_ranks] of the newest view */
    uint64_t seats_epoch;
    uint64_t captures_at_join;
    uint64_t late_calls_at_open; /* eepi_device_late_calls */
    struct eepi_loads *loads;
    struct eepi_ordered *ordered;
    struct eepi_words *words;           /* what this rank's engine says of others */
    struct eepi_step_watch *step_watch; /* NULL: nobody asked for it */
    struct eepi_trace *trace;           /* NULL: EEP_TRACE is not set */
} eepi_observed;
#endif
