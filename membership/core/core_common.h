/* SPDX-License-Identifier: Apache-2.0 */
/* What all files of the membership core share: asking for actions, and the questions that they ask
 * about a seat. */
#ifndef EEPI_CORE_COMMON_H
#define EEPI_CORE_COMMON_H

#include "membership/core/core_state.h"

/* Append an action; never NULL: the capacity is asserted. */
eepi_action *eepi_core_act(eepi_core *core, eepi_action_kind kind);
/* There is room for one action per seat more: what a round must say fits behind. */
bool eepi_core_has_room(const eepi_core *core);
/* An action for observers, dropped when a round has more of them than fit. */
eepi_action *eepi_core_note(eepi_core *core, eepi_action_kind kind);
/* Say to all that this rank has staged, filled or flipped to the document. */
void eepi_core_acknowledge(eepi_core *core, eepi_ack_kind kind, const eepi_view *view);
/* This rank has proposed or staged a document of that epoch: in doubt, the epoch is not used again.
 */
void eepi_core_note_tried(eepi_core *core, uint64_t epoch);
/* Ask for a TICK at `time_us` at the latest. */
void eepi_core_wake_at(eepi_core *core, uint64_t time_us);

/* That generation of the seat, or a newer one, shows the first sign of its end: it proposes, steps
 * and acknowledges no more. What its kernels may still store into is not free yet. */
bool eepi_core_has_exited(const eepi_core *core, int seat, uint32_t generation);
/* That process, or a newer one in the seat, was seen to end wholly. */
bool eepi_core_process_has_ended(const eepi_core *core, int seat, uint32_t generation);
/* It is proved that this generation stores nothing any more, and that no older one does (P8). */
bool eepi_core_stores_have_ended(const eepi_core *core, int seat, uint32_t generation);
/* The same of this generation alone. */
bool eepi_core_stores_no_more(const eepi_core *core, int seat, uint32_t generation);
/* Loads of a layer's experts: [num_experts]. NULL: nothing is known of that layer, and its experts
 * count alike. */
const uint32_t *eepi_core_loads(const eepi_core *core, int layer);
/* Of one expert's weights; 0: unknown. */
uint64_t eepi_core_expert_bytes(const eepi_core *core);
/* The steps that this rank runs need the seat: it is in the newest view, or that view let it go by
 * plan and this rank has not switched to it yet. */
bool eepi_core_needs(const eepi_core *core, int seat);
/* Valid evidence against a seat that is needed (an eep_fault_kind), the strongest; or NO_EVIDENCE.
 */
int eepi_core_evidence(const eepi_core *core, int seat);
/* The same of what libeep sees for itself, and of what this rank's engine says. The latter may name
 * this rank, too. */
int eepi_core_seen(const eepi_core *core, int seat);
int eepi_core_own_word(const eepi_core *core, int seat);
/* A kind of evidence that engines and operators give. */
bool eepi_core_is_word(int kind);
/* Seats of a group, or 1: the group of seat s begins at a multiple. */
int eepi_core_group_seats(const eepi_core *core);
/* A member of its group has asked to leave, so all of them do: bits of eepi_leaving. */
uint8_t eepi_core_group_leaves(const eepi_core *core, const eepi_view *view, int seat);
/* It runs on this rank's host, as far as is known: this rank may look at its process and kill it.
 * Others are behind the gates of those that they store to (rules N7, N13). */
bool eepi_core_is_local(const eepi_core *core, int seat);
/* Two members run on different hosts: silence between them accuses the pair (rule N10). */
bool eepi_core_are_apart(const eepi_core *core, int seat, int other);
/* A kind of evidence that accuses a pair where that is so. */
bool eepi_core_is_of_pair(int kind);
/* Valid evidence that this rank does not hear the member, which runs on another host. */
bool eepi_core_is_unheard(const eepi_core *core, int seat);
/* The member has promised never to serve the newest view (rule M2): it has reported under it, or
 * under a newer one. */
bool eepi_core_has_reported(const eepi_core *core, int seat);
/* How many members accuse the seat of missed deadlines. A seat that itself accuses another one was
 * waiting, not stuck: it is no root of the wait-for graph (D3: an abort names who was waited for).
 * Two that accuse each other wait for each other: one does not take the other's rows, or the rows
 * do not come through (N16). Then who accuses whom says nothing, and how many do says who it is. */
int eepi_core_root_accusers(const eepi_core *core, int seat);
/* More members accuse this rank of missed deadlines than any other one: it waits for them to decide
 * without it. */
bool eepi_core_is_own_root(const eepi_core *core);
#endif
