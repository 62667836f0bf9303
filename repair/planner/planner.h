/* SPDX-License-Identifier: Apache-2.0 */
/* The repair planner: which slots are to be filled from where, as pure functions on a view
 * document. No clock, no I/O, no random numbers, no memory taken: the same document and links give
 * the same plan on every rank. */
#ifndef EEPI_PLANNER_H
#define EEPI_PLANNER_H

#include "repair/planner/plan_table.h"

typedef struct eepi_fill {
    int32_t layer, seat, slot, expert;
    /* The seat whose node has it in host memory (the target's own seat: its own node), or a
     * file: EEPI_SOURCE_FILE, EEPI_SOURCE_FILE_OF. */
    int32_t source;
} eepi_fill;

/* What is known beside the document. All zero: nothing. */
typedef struct eepi_plan_given {
    const eepi_links *links;   /* what links carry; NULL: the same everywhere */
    uint64_t expert_bytes;     /* of one expert's weights; 0: unknown */
    const bool *can_read_file; /* [max_ranks]: this rank reads any expert from a checkpoint file,
                                * for others, too; NULL: none does */
} eepi_plan_given;

/* What a plan moves, and how long its most loaded link takes for that. */
typedef struct eepi_plan_cost {
    int32_t num_own;     /* fills from the target's own backup, */
    int32_t num_remote;  /* from another seat's, */
    int32_t num_file;    /* from a file, whoever reads it */
    int32_t num_evicted; /* fills that give up a replica of another expert */
    uint64_t makespan_ns;
    uint64_t bound_ns; /* no plan of as many fills takes less */
} eepi_plan_cost;

/* Restore coverage after eepi_plan_empty_nonmembers: for every expert without a HOLDS slot on a
 * member, choose a slot of a member and a living source, and mark the slot FILLING in the view.
 * RETIRING seats are filled only where no other has a slot. Otherwise the plan's makespan is made
 * small: the most loaded link of all ends as early as can be. Where that makes no difference, an
 * EMPTY slot is taken, else one whose expert has most replicas, never the last one. A pinned slot
 * is taken only if an expert has no other (rule R4). A target's own
 * backup is its source where it has one; else the least loaded backup of another member; else, or
 * where links are slower than that, its own file; else the file of another member. Each expert gets
 * one fill. FILLING slots that the
 * view already has (a fault during REPAIRING) go on where they restore coverage, with the same
 * source if it lives. So a second plan on a planned document changes nothing.
 * EEP_ERR_UNCOVERED if an expert has no living source or no slot is free (view unspecified then,
 * cost_out untouched); `why_out` (may be NULL) then names the experts, e.g. "layer 3: experts 5 17
 * have no live copy or backup", cut with "..." where it does not fit. Moves nothing when coverage
 * holds. `given` and `cost_out` may be NULL. */
EEP_MUST_CHECK eep_status eepi_plan_coverage(eepi_view *view, eepi_plan_table *table,
                                             const eepi_plan_given *given, eepi_plan_cost *cost_out,
                                             char *why_out, size_t why_bytes);

/* What the FILLING slots of a document move, and for how long. The bound and num_evicted, which the
 * document does not tell, are 0. */
void eepi_plan_measure(const eepi_view *view, eepi_plan_table *table, const eepi_plan_given *given,
                       eepi_plan_cost *cost_out);

static inline int eepi_plan_num_fills(const eepi_plan_cost *cost)
{
    return cost->num_own + cost->num_remote + cost->num_file;
}

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
