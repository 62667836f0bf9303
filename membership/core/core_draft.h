/* SPDX-License-Identifier: Apache-2.0 */
/* The document that this rank would commit next. */
#ifndef EEPI_CORE_DRAFT_H
#define EEPI_CORE_DRAFT_H

#include "membership/core/core_state.h"

/* A draft on top of the newest view: next epoch, its digest as base, quarantines that ended. */
eepi_view *eepi_core_draft(eepi_core *core, eepi_view_cause cause);
/* The epoch of a draft on top of the newest view that no other proposer gives; `left_alive`: it
 * leaves somebody out who may live on. */
uint64_t eepi_core_fresh_epoch(const eepi_core *core, bool left_alive);
/* A seat that is let go takes its checkpoint with it. */
void eepi_core_drop_checkpoint(eepi_view *draft, int seat);
/* Restore the draft's coverage with what is known of links and experts; how many slots are to be
 * filled. EEP_ERR_UNCOVERED: core->why names the experts, and the draft is in pieces. */
EEP_MUST_CHECK eep_status eepi_core_plan_coverage(eepi_core *core, eepi_view *draft,
                                                  int *num_fills_out);
/* Give each replica in the draft its share of its expert's tokens: so that the most loaded rank of
 * a layer has as little as can be by the loads that are known, or, without loads, all alike. */
void eepi_core_share_out(eepi_core *core, eepi_view *draft);
/* Loads came that shares were not made for yet, and shares made for them would make the most loaded
 * ranks, summed over the layers, lighter by enough that a view of their own pays. */
bool eepi_core_shares_are_stale(eepi_core *core, const eepi_view *draft);
/* Write the draft, sealed on top of the newest view, into the register. */
void eepi_core_commit(eepi_core *core);

/* Placements that engines order (rules R3, R4). */

/* EEP_ERR_NO_MEMORY. */
EEP_MUST_CHECK eep_status eepi_core_order_open(eepi_core *core);
void eepi_core_order_close(eepi_core *core);
/* Some rank has given one; `is_first`: this rank, before it asked to be let in. */
void eepi_core_on_order(eepi_core *core, const eepi_order *order, bool is_first);
/* The order that a first view has is this rank's. */
void eepi_core_begin_order(eepi_core *core, eepi_view *draft);
/* The process of the seat was given the same one as that of seat 0; false: core->why names both. */
bool eepi_core_has_same_order(eepi_core *core, int seat);
/* The newest order that counts, into the draft of a planned view. How many changes that is. */
int eepi_core_take_order(eepi_core *core, eepi_view *draft);
/* Wishes that are met, and those of slots that are alike. How many changes. */
int eepi_core_settle_order(eepi_core *core, eepi_view *draft, bool has_changed);
#endif
