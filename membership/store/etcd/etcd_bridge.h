/* SPDX-License-Identifier: Apache-2.0 */
/* A store client's way to etcd: a thread that speaks the embedded store's messages to the client,
 * over a socket pair, and HTTP to etcd. So the client never blocks, and knows one protocol.
 *
 * The thread serves one request after the other, which keeps their answers in order. When nobody
 * knows what became of a request, when an endpoint fails or the history that a watch needs is
 * compacted, it closes its end: the client is told DISCONNECTED, connects again, and its watches
 * begin with all that is there. Definite refusals are answered. */
#ifndef EEPI_ETCD_BRIDGE_H
#define EEPI_ETCD_BRIDGE_H

#include "membership/store/store_url.h"

#include <stdint.h>

typedef struct eepi_etcd eepi_etcd;

/* Starts the thread. EEP_ERR_SYSTEM: no libcurl, or no thread. `url` is copied. */
EEP_MUST_CHECK eep_status eepi_etcd_open(const eepi_store_url *url, eepi_etcd **etcd_out);
/* After the client has closed its end. What it had asked for is done first, for two seconds at
 * most. NULL is allowed. */
void eepi_etcd_close(eepi_etcd *etcd);
/* A new connection, in the place of the former one: the client's end, non-blocking.
 * EEP_ERR_UNREACHABLE: no endpoint answers now. EEP_ERR_STATE: it may not be used. */
EEP_MUST_CHECK eep_status eepi_etcd_connect(eepi_etcd *etcd, int *fd_out);
/* When the last grant or keep-alive of the lease that etcd has acknowledged was sent; 0: none was.
 */
uint64_t eepi_etcd_lease_sent_us(const eepi_etcd *etcd);
/* Why the last eepi_etcd_connect of this thread failed. */
const char *eepi_etcd_why(void);
#endif
