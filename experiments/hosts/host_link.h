/* SPDX-License-Identifier: Apache-2.0 */
/* The front's side of one host: a thread that connects to its worker, carries packets between the
 * ranks there and local sockets, and says when ranks end. A rank of another host looks like one of
 * this one to whoever reads its socket: times in packets are of this host's clock.
 *
 * A connection that is reset, or silent for HOST_DOUBT_MS, is made again within a bound, and no
 * message is lost or taken twice (host_journal.h). When it is lost otherwise, or not back by then,
 * its ranks count as killed: the worker ends them within its bound. The link then tries to connect
 * again. Calls are of one thread; none blocks but host_link_close.
 */
#ifndef EEPX_HOST_LINK_H
#define EEPX_HOST_LINK_H

#include "experiments/hosts/host_connect.h"

typedef struct host_link host_link;

typedef enum host_link_state {
    HOST_LINK_TRIES,   /* to connect */
    HOST_LINK_FAILED,  /* the same, and the reason is one that stays */
    HOST_LINK_RESUMES, /* the connection was reset, and is made again; ranks count as alive */
    HOST_LINK_UP,
} host_link_state;

/* `config`: what it points to is borrowed. */
EEP_MUST_CHECK eep_status host_link_open(const host_connect_config *config, host_link **link_out);
/* Its ranks are ended, and its worker, if it was started from here. Takes up to 8 s, behind an
 * attempt to connect that is under way. */
void host_link_close(host_link *self);
/* `why` (HOST_NOTE_BYTES): of a link that is not up. */
host_link_state host_link_state_of(host_link *self, char *why);
/* Start a rank. A socket to it as in wire.h, and a descriptor that is readable once it has ended,
 * and then has its wait status, an int. EEP_ERR_UNREACHABLE: the link is neither up nor resumed.
 * EEP_ERR_SYSTEM.
 */
EEP_MUST_CHECK eep_status host_link_start(host_link *self, int seat, bool joiner, int *fd_out,
                                          int *end_fd_out);
/* The seat's rank is stopped, as far as is known. */
bool host_link_is_halted(const host_link *self, int seat);
/* REMOTE_SIGNAL to the seat's rank; REMOTE_ALL; REMOTE_AGENT. EEP_ERR_UNREACHABLE: not sent. */
EEP_MUST_CHECK eep_status host_link_order(host_link *self, host_message_kind kind, int seat,
                                          int value);
/* The host is gone for a reason that is known: do not wait for its silence. */
void host_link_drop(host_link *self);
#endif
