/* SPDX-License-Identifier: Apache-2.0 */
/* The repair planner: which slots are to be filled from where, as pure functions on a view
 * document. No clock, no I/O, no random numbers: the same document gives the same plan on every
 * rank. */
#ifndef EEPI_PLANNER_H
#define EEPI_PLANNER_H

#include "repair/planner/plan_table.h"

typedef struct eepi_fill {
    int32_t layer, seat, slot, expert;
    int32_t source; /* seat whose host backup has it; the target's own seat: local reuse */
} eepi_fill;

/* Restore coverage after eepi_plan_empty_nonmembers: for every expert without a HOLDS slot on a
 * member, choose a slot of a member and a living source, and mark the slot FILLING in the view.
 * Slots are compared by, in this order: a seat that stays before a RETIRING one; a seat that has
 * the expert in its own backup (local reuse: no weight crosses a link); an EMPTY slot, else one
 * whose expert has further replicas, most replicated first; the least filled seat; the lowest
 * number. The source is the target's own backup, else the least used one. Each expert gets one
 * fill; `num_fills_out` counts them. FILLING slots that the view already has (a fault during
 * REPAIRING) are planned anew. EEP_ERR_UNCOVERED if an expert has no living backup or no slot is
 * free (view unspecified then, num_fills_out untouched); `why_out` (may be NULL) then names the
 * experts, e.g. "layer 3: experts 5 17 have no live copy or backup", cut with "..." where it does
 * not fit. Moves nothing when coverage holds. Takes no memory. */
EEP_MUST_CHECK eep_status eepi_plan_coverage(eepi_view *view, eepi_plan_table *table,
                                             int *num_fills_out, char *why_out, size_t why_bytes);

/* The FILLING slots of a seat (seat -1: of all), in order of layer and slot; returns their number,
 * writes up to `capacity`. */
int eepi_plan_fills(const eepi_view *view, int seat, eepi_fill *fills_out, int capacity);

/* The FILLING slots of a seat (seat -1: of all) become HOLDS; returns how many. */
int eepi_plan_filled(eepi_view *view, int seat);
/* All FILLING slots become EMPTY; returns how many. */
int eepi_plan_void(eepi_view *view);

/* 1 if the members that stay (ACTIVE, and not `seat`) cover all experts. */
int eepi_plan_can_leave(const eepi_view *view, eepi_plan_table *table, int seat);
#endif
