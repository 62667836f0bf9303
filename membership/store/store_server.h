/* SPDX-License-Identifier: Apache-2.0 */
/* The embedded store without what belongs to its host: eep_store_open adds the agent
 * (membership/embedded_store.c). */
#ifndef EEPI_STORE_SERVER_H
#define EEPI_STORE_SERVER_H

#include "membership/store/store_conn.h"

/* Serve at an address, as eep_store_open has it; `text`, of EEPI_ERROR_TEXT_BYTES, says why not. */
EEP_MUST_CHECK eep_status eepi_store_serve(const char *address, char *text,
                                           struct eep_store **store_out);
void eepi_store_serve_no_more(struct eep_store *store);
#endif
