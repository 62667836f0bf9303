/* SPDX-License-Identifier: Apache-2.0 */
/* What the own window tells of the peers' steps, and a thread that tells an event loop of it. */
#ifndef EEPI_STEP_WATCH_H
#define EEPI_STEP_WATCH_H

#include "eep/eep.h"
#include "graphs/kernels/table_layout.h"

/* The own window as host threads see it: what kernels store into under the live view, and the host
 * side where they cannot see that. The lock is held; it stays while this view is live. */
eepk_window_header *eepi_own_window(const eep_context *context);
/* The newest step that a peer has begun under the live view; 0: none newer than this rank's.
 * Kernels store the tags; where the window is discrete, the hosts of the peers do; PROXY peers
 * tell. With the lock. */
uint64_t eepi_peer_step(eep_context *context);

/* The descriptor of eep_event_fd, and the thread behind EEP_READY_STEP, made if they are not there;
 * -1, and the text, if they cannot be had. Any thread. */
int eepi_step_watch_start(eep_context *context);
/* End it; no other thread uses the context. */
void eepi_step_watch_stop(eep_context *context);
#endif
