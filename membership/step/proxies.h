/* SPDX-License-Identifier: Apache-2.0 */
/* The peers of a context that are reached over a network (kind PROXY), and what they may write into
 * this rank's window. Without a network there are none: then all of this does nothing.
 *
 * The gate of the own window follows the rank (rules N1 and M2): it stands at the live view with
 * nothing let in, is opened for a step before its graph is launched, and shut behind the graph,
 * before anybody can promise or begin the next step. The placer writes into the memory of the live
 * view's colour (rule P7). */
#ifndef EEPI_PROXIES_H
#define EEPI_PROXIES_H

#include "graphs/kernels/table_layout.h"
#include "transport/proxy/network.h"

#include "eep/eep.h"

#include <stdbool.h>

struct eepi_proxies;

/* Rings and their slots go into the context's shape; before the tables are made. EEP_ERR_INVALID:
 * the environment asks for what cannot be. */
EEP_MUST_CHECK eep_status eepi_proxies_plan(eep_context *context);
/* A placer for the own window, and the network; behind the tables. EEP_ERR_NO_MEMORY, and what
 * eepi_network_open returns. */
EEP_MUST_CHECK eep_status eepi_proxies_open(eep_context *context, char *why, size_t why_bytes);
/* Nothing is placed any more; before the tables and the window go. */
void eepi_proxies_close(eep_context *context);

/* Mark the seats of the live view that have taken nothing of what this rank has put for them for so
 * long (rule N16). Returns whether there is one. Service thread. */
bool eepi_proxies_blocked(eep_context *context, uint64_t for_us, uint64_t *seats);

/* Where peers reach this rank's network; all zero: it has none. */
eepi_lane_address eepi_proxies_address(const eep_context *context);
/* How the process in a seat is reached, at that address: the one place that chooses (rule N9).
 * `is_near`: its memory can be mapped. A PROXY peer's entry is filled in, and its memory needs no
 * mapping; false: it is LOCAL, or, if it is not near, not reached at all. Service thread. */
bool eepi_proxies_reach(const eep_context *context, uint32_t seat, uint32_t generation,
                        const eepi_lane_address *address, bool is_near, eepk_peer *peer_out);

/* This rank's host has something to say to that process (eepi_network_speak). Any thread. */
void eepi_proxies_speak(const eep_context *context, uint32_t seat, uint32_t generation);

/* Rank thread, without the lock. A thread of the network that stays inside the gate for longer than
 * a second ends this rank's service: it could neither step nor promise.
 *
 * The staged view has become live. EEP_ERR_TIMEOUT: see above; the caller ends the service. */
EEP_MUST_CHECK eep_status eepi_proxies_flip(eep_context *context);
/* That step is begun: tell the PROXY peers, and let its rows in. EEP_ERR_DEVICE: see above; the
 * step has ended. */
EEP_MUST_CHECK eep_status eepi_proxies_begin(eep_context *context, const eepk_launch *launch);
/* Its graph has ended: let nothing in. */
void eepi_proxies_end(eep_context *context);

/* Note which steps PROXY peers have begun, by their hosts' words. A running step that cannot
 * complete since a peer is ahead of it is aborted. Returns the newest step under the live view; 0:
 * none newer than the own one. The lock is held. */
uint64_t eepi_proxies_note_begun(eep_context *context);
/* The same, and wake the rank thread, if there is news. True: the gate has met a newer epoch
 * than is known here, and this is the first call since (rule N18). A rank that was let in and has
 * not heard of its view hears of it so, from whom it does not know yet. Service thread. */
bool eepi_proxies_hear(eep_context *context);
#endif
