/* SPDX-License-Identifier: Apache-2.0 */
/* The lease of a rank, at a store that several hosts reach (rule N21). Its key, of this seat and
 * generation, shows that the process is there. A host that is lost can tell nobody of the ends of
 * its processes. Their leases lapse, and that serves two cases (lapse.h). A rank without a lease
 * serves on: an outage of the store stops nobody (rule M8). */
#ifndef EEPI_LEASE_H
#define EEPI_LEASE_H

#include "membership/store/store_client.h"

#include "eep/eep.h"

/* How long nobody may have seen a lease before it counts as lapsed: as long as it lasts, and as
 * much again for an election of the store, which is over within the 2 s that each lease lasts at
 * least. */
uint64_t eepi_lease_lapse_us(void);
/* The value: where its holder runs. */
typedef struct eepi_lease_value {
    uint64_t host, home; /* eepi_host_id, eepi_process_home */
} eepi_lease_value;
/* The seat and generation that such a key names; false: it is none. */
bool eepi_lease_of(const char *key, int32_t max_ranks, int32_t *seat_out, uint32_t *generation_out);

/* Before this rank's record is put. Calling thread of eep_open. */
EEP_MUST_CHECK eep_status eepi_lease_take(eep_context *context);

/* The seat is another's: its key has no lease of this process any more. */
void eepi_lease_drop(eep_context *context);

/* Service thread. Begin to watch the own key. EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_lease_watch(eep_context *context);
/* Put it, behind a reconnection. */
void eepi_lease_put(eep_context *context);
/* A key below EEPI_KEY_LEASE, as the watch tells it: one that is gone is put again. */
void eepi_lease_hear(eep_context *context, const eepi_store_reply *reply);
/* Tell, once, that it lapses by this rank's own count, and that it lasts again. */
void eepi_lease_look(eep_context *context);
#endif
