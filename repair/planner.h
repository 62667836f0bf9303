/* The repair planner: which slot holds which expert, as pure functions on a view document.
 * No clock, no I/O, no random numbers: the same document gives the same plan on every rank. */
#ifndef EEPI_PLANNER_H
#define EEPI_PLANNER_H

#include "membership/view/view.h"

/* What planning needs beside the document, made once, so that a fault is planned for even when
 * memory is short: a few words per expert and seat. NULL: no memory. */
typedef struct eepi_plan_table eepi_plan_table;
eepi_plan_table *eepi_plan_table_new(const eepi_view_shape *shape);
void eepi_plan_table_free(eepi_plan_table *table);

/* Fill the slots of the members of an otherwise empty view so that every expert has a replica and
 * the spare slots hold second, third ... replicas, each on another seat than the earlier ones where
 * that is possible, and spread so that the partners of one seat's experts are many seats. All
 * HOLDS. EEP_ERR_UNCOVERED if the members' slots are fewer than the experts. No divisibility is
 * required. */
EEP_MUST_CHECK eep_status eepi_plan_initial(eepi_view *view);

/* Which ranks keep host backups, of the first view's members: two per expert (one if there is only
 * one member), such that few hold the expert in a slot as well, and that the load is even.
 * Returns 1 if `seat` is one of them. `initial` is what eepi_plan_initial filled. */
int eepi_plan_backup(const eepi_view *initial, int layer, int expert, int seat);

/* Which experts a process that takes `seat` should load: for each layer and slot an expert or -1,
 * written to experts_out[num_layers][num_slots]. Fewest live replicas first (the seat's own present
 * slots do not count), then the lowest number; never the same expert twice in a layer while others
 * are less replicated. With the initial placement and only this seat missing it gives back the
 * seat's initial experts (as a set). */
void eepi_plan_seat(const eepi_view *view, eepi_plan_table *table, int seat, int32_t *experts_out);

/* Put that assignment into the view as HOLDS slots of the seat. */
void eepi_plan_apply_seat(eepi_view *view, int seat, const int32_t *experts);

/* Empty the slots of all seats that are not members. */
void eepi_plan_empty_nonmembers(eepi_view *view);

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

/* rebalance.c: one layer of a covered document, behind live traffic. Marks up to `max_fills` slots
 * FILLING, each with a source (the target's own backup; else the member least asked that has the
 * expert in a slot or as a backup), and returns how many. In this order:
 *   experts on fewest staying seats first get one seat more, from EMPTY slots, then from slots
 * whose seat has the expert twice, then from experts with at least two seats more: so RETIRING
 * seats lose what only they have, and the numbers of seats of any two experts differ by one at most
 * in the end, where slots allow it (seats that have an expert already are no use to it); then the
 * most loaded seat is relieved (a replica carries 1/replicas of its expert's load) as long as that
 * lowers the sum of squared loads by at least one expert's load squared. The last live replica of
 * an expert is never taken. Each fill lowers a potential, so that a document at rest stays at rest
 * (0). Seats that retire keep what they hold. */
int eepi_plan_background(eepi_view *view, int layer, int max_fills);
#endif
