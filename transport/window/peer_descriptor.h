/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors of another process, as copies of our own: how memory that is known by nothing
 * but a descriptor comes over without a connection between the two. */
#ifndef EEPI_PEER_DESCRIPTOR_H
#define EEPI_PEER_DESCRIPTOR_H

#include "eep/status.h"

#include <stddef.h>
#include <stdint.h>

/* Let every process of this user copy descriptors of this one, where the kernel asks who may
 * (Yama). The same right lets them trace it, that is, read all of its memory: what Yama is there to
 * prevent is given up for this process until it ends. Who the peers will be is not known yet, so it
 * cannot be given to them alone. Any thread. */
void eepi_peer_descriptors_allow(void);

/* Copy descriptors `fds[0 .. count)` of a process (ours: its own), in that order, all from one and
 * the same process even if its number is given away meanwhile; close-on-exec, the caller closes
 * them. EEP_ERR_UNREACHABLE: there is no such process or descriptor. EEP_ERR_UNSUPPORTED: the
 * kernel forbids it; why_out names the remedy. Nothing is open after a failure. Any thread. */
EEP_MUST_CHECK eep_status eepi_peer_descriptors_copy(int32_t pid, const int32_t *fds, int count,
                                                     int *copies_out, char *why_out,
                                                     size_t why_bytes);
#endif
