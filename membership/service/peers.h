/* SPDX-License-Identifier: Apache-2.0 */
/* The peers of a rank: their records, processes and windows. Service thread. */
#ifndef EEPI_PEERS_H
#define EEPI_PEERS_H

#include "graphs/kernels/table_layout.h"
#include "membership/context/records.h"

#include <poll.h>
#include <stdbool.h>

struct eepi_peer;

/* EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_peers_open(eep_context *context);
void eepi_peers_close(eep_context *context);
/* A record from the store. Returns it, to be told to the core behind what was posted; NULL: it is
 * no news. */
const eepi_member *eepi_peer_handle_record(eep_context *context, const void *bytes, size_t size);
/* The newest record; NULL: none came yet. */
const eepi_record *eepi_peer_record(const eep_context *context, int seat);
/* Where the copier of that seat's newest process is asked; 0 bytes: not known. */
size_t eepi_peer_copier(void *context, int32_t seat, const void **address_out);
/* A record of that generation, or of a newer one, came on this connection to the store; */
bool eepi_peer_is_heard(const eep_context *context, int seat, uint32_t generation);
/* which has broken. */
void eepi_peers_forget_heard(eep_context *context);
/* The mapped window's header, if it is that generation's; else NULL. */
eepk_window_header *eepi_peer_header(const eep_context *context, int seat, uint32_t generation);
/* Have own memory of each colour that the view names, for peers to map. EEP_ERR_NO_MEMORY, and what
 * eepi_window_renew returns. */
EEP_MUST_CHECK eep_status eepi_peers_renew(eep_context *context, const eepi_view *view);
/* Let go of what a committed view names no more, here and in mapped windows, but for what the live
 * bank may name. */
void eepi_peers_drop(eep_context *context, const eepi_view *view);
/* Map the windows of a view's members with the memory that it names, and listen to their hearts;
 * [max_ranks] how each is reached. Of a PROXY peer's window the host side alone is mapped. */
EEP_MUST_CHECK eep_status eepi_peers_map(eep_context *context, const eepi_view *view,
                                         eepk_peer *peers_out);
/* Listen to members, and to those in quarantine, whose processes live on other hosts: here they
 * have no heart to read. */
void eepi_peers_watch_remote(eep_context *context);
/* That process has a record, and lives on another host. */
bool eepi_peer_is_remote(const eep_context *context, int seat, uint32_t generation);
/* The descriptors of the watched processes, and their seats; returns how many. */
int eepi_peers_watched(const eep_context *context, struct pollfd *fds_out, int *seats_out);
/* A descriptor became readable: that generation of the seat has ended, and is watched no more.
 * False: another process is watched there by now. */
bool eepi_peer_exited(eep_context *context, int seat, int pidfd, uint32_t *generation_out);
/* Look at the process of a seat if the core knows the first sign of its end and awaits the rest:
 * its descriptor speaks late where it has much memory, and there may be none. False: it does not.
 * `end_out` is what the core should hear; a tick: it still has its memory. */
bool eepi_peer_look_for_end(const eep_context *context, int seat, eepi_input *end_out);
#endif
