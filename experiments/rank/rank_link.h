/* SPDX-License-Identifier: Apache-2.0 */
/* The rank's side of its socket to the launcher. Private to the rank's files. */
#ifndef EEPX_RANK_LINK_H
#define EEPX_RANK_LINK_H

#include "experiments/rank/rank_state.h"

/* A line on standard error about what failed; `why` may be NULL or empty. */
void rank_complain(const rank *self, const char *what, eep_status status, const char *why);
bool rank_is_told_to_stop(const rank *self);
/* There is nobody to serve for: the launcher has hung up, or the rank was killed. */
bool rank_is_over(const rank *self);
/* To the launcher; a rank that was killed says nothing. Any thread. */
void rank_tell(rank *self, const void *message, size_t bytes);
/* The same: the context's counters; a request that the rank drops (WIRE_FAILED, WIRE_HANDBACK). */
void rank_tell_counters(rank *self);
void rank_tell_failed(rank *self, wire_kind kind, uint32_t request, eep_status status);
/* Take everything that the launcher has sent. */
void rank_read_control(rank *self);
/* The fault node has halted inside a step of one of several ranks in a process, whose thread waits
 * for that step (fault_node_on_halt). */
bool rank_on_halt(void *user, bool stops);
#endif
