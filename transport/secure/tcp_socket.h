/* SPDX-License-Identifier: Apache-2.0 */
/* TCP sockets between libeep's processes: which addresses are taken, connecting and listening
 * without a wait that has no bound. Any thread. */
#ifndef EEPI_TCP_SOCKET_H
#define EEPI_TCP_SOCKET_H

#include "eep/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The host is this machine's own, by its loopback interface: 127.0.0.0/8, ::1, localhost. */
bool eepi_tcp_is_loopback(const char *host);
/* Which hosts are taken: without a key those of the loopback interface alone, with one each
 * address. Names are not looked up, since that takes as long as it likes; and 0.0.0.0 and :: are
 * every interface, which nobody has named. EEP_ERR_INVALID, with the reason in `why`. */
EEP_MUST_CHECK eep_status eepi_tcp_check_host(const char *host, bool has_key, char *why,
                                              size_t why_bytes);
/* Connect, waiting at most `wait_ms` for the other end; with 0 the connection may still be under
 * way, and the first bytes that are sent or received show how it went. The socket does not block
 * and is closed by exec. EEP_ERR_UNREACHABLE, EEP_ERR_SYSTEM: errno. EEP_ERR_INVALID: no
 * address. */
EEP_MUST_CHECK eep_status eepi_tcp_connect(const char *host, uint16_t port, int wait_ms,
                                           int *fd_out);
/* The same, from that address of this host; NULL: from one that the system chooses. */
EEP_MUST_CHECK eep_status eepi_tcp_connect_from(const char *from, const char *host, uint16_t port,
                                                int wait_ms, int *fd_out);
/* How long a connection may be under way before another one is begun in its place; `num_before` in
 * a row were so. The kernel repeats its first packet after a second and then ever later: a network
 * that was cut for a tenth of that would be away for all of it. 100 ms, doubled each time, at most
 * 2 s, for networks that are slow. */
uint64_t eepi_tcp_patience_us(uint32_t num_before);
/* The connection is under way: the other end has neither taken nor refused it. */
bool eepi_tcp_is_under_way(int fd);
/* Bind and listen on that one address. EEP_ERR_CONFLICT: somebody listens there. On failure the
 * reason is written to `error_out` if that is not NULL. */
EEP_MUST_CHECK eep_status eepi_tcp_listen(const char *host, uint16_t port, char *error_out,
                                          size_t error_bytes, int *fd_out);
/* For each connection: small messages leave at once, and a silent end is noticed within 5 s. */
void eepi_tcp_prepare(int fd);
/* A number for the address at the other end, without its port: equal ones are one host (of IPv6:
 * one network of 64 bits). */
uint64_t eepi_tcp_peer(int fd);
#endif
