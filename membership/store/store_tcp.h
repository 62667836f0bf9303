/* SPDX-License-Identifier: Apache-2.0 */
/* TCP between the embedded store and its clients, on the loopback interface alone. Any thread. */
#ifndef EEPI_STORE_TCP_H
#define EEPI_STORE_TCP_H

#include "membership/store/store_url.h"

/* Connect, waiting at most 100 ms for an address that answers; the socket is non-blocking. As
 * eepi_store_socket_connect otherwise. EEP_ERR_INVALID: the host is no loopback address. */
EEP_MUST_CHECK eep_status eepi_store_tcp_connect(const eepi_store_endpoint *endpoint, int *fd_out);
/* Bind and listen. EEP_ERR_CONFLICT: somebody listens there. On failure the reason is written to
 * `error_out` if that is not NULL. */
EEP_MUST_CHECK eep_status eepi_store_tcp_listen(const eepi_store_endpoint *endpoint,
                                                char *error_out, size_t error_bytes, int *fd_out);
/* For each connection: small messages leave at once, and a silent end is noticed. */
void eepi_store_tcp_prepare(int fd);
#endif
