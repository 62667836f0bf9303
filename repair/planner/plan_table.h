/* SPDX-License-Identifier: Apache-2.0 */
/* What planning needs beside the document, made once, so that a fault is planned for even when
 * memory is short, and the counting that placement and planning share. */
#ifndef EEPI_PLAN_TABLE_H
#define EEPI_PLAN_TABLE_H

#include "repair/planner/plan_layer.h"
#include "repair/planner/plan_network.h"

/* So many fills make room for another one at most, one after the other. */
enum { EEPI_PLAN_CHAIN = 3 };
/* Sets of links whose loads bound a plan (plan_bound.c). */
enum { EEPI_PLAN_SETS = 5 };

/* Members of one node that follow one another: those that stay, or those that retire. Backups are
 * of a node, so the members of a part have the same ones. */
typedef struct eepi_plan_part {
    int32_t node, from, end;                                    /* members[from .. end - 1] */
    uint8_t own_hits[EEPI_PLAN_SETS], out_hits[EEPI_PLAN_SETS]; /* of plan_bound.c */
    uint64_t out_unit_ns; /* the fastest way of a backup to another node, of an expert alone */
    /* The seat whose way there is loaded least, and how it would be loaded, after so many changes.
     */
    int32_t cross_seat;
    uint32_t changes;
    eepi_plan_weight cross;
} eepi_plan_part;

/* The sources of an expert on one node: how the best of them would be loaded for a target on the
 * same node, and for one elsewhere. All are backups, or all are slots. */
typedef struct eepi_plan_group {
    int32_t node, near_seat, cross_seat;
    bool is_slot;
    eepi_plan_weight near, cross;
} eepi_plan_group;

/* Experts whose backups are on the same nodes (bits), and how many fills these are. */
enum { EEPI_PLAN_CUTS = 128 };
typedef struct eepi_plan_cut {
    uint64_t nodes;
    int32_t num;
    bool may_read_file;
} eepi_plan_cut;

/* A fill that took another slot of its seat, and which it had. */
typedef struct eepi_plan_shifted {
    int32_t fill, slot;
} eepi_plan_shifted;

/* Of one layer at a time, but for the links and the choices. No thread's stack need have it. */
typedef struct eepi_plan_table {
    uint32_t *count;        /* [num_experts]: eepi_plan_count_replicas writes it */
    bool *kept;             /* [num_experts]: a fill of an earlier plan goes on */
    bool *unplaced;         /* [num_experts]: no slot was left */
    int32_t *holes;         /* [num_experts]: experts to place, */
    int32_t *order;         /* [num_experts]: those with fewest sources first, */
    int32_t *num_sources;   /* [num_experts]: how many these are */
    uint64_t *hole_sources; /* [num_experts][words of max_ranks]: which parts these are */
    int32_t *bucket;        /* [max_ranks + 2] */
    /* Seats that are in the view: those that stay, then the RETIRING ones. */
    int32_t *members; /* [max_ranks] */
    int32_t num_staying, num_members;
    eepi_plan_part *parts; /* [max_ranks] */
    int32_t num_parts;
    /* Of the expert at hand: members with a backup, then those with it in a slot alone. */
    int32_t *sources; /* [max_ranks] */
    int32_t num_backups, num_of_sources, num_groups, num_found;
    int32_t reader; /* where nobody has it: the member that reads the file for others; -1: none */
    int32_t *found; /* [max_ranks]: the parts with a backup */
    uint32_t *node_stamp; /* [max_ranks]: `stamp` if the node has a backup of it */
    uint32_t stamp;
    int64_t num_weighed;
    eepi_plan_group *groups;   /* [max_ranks] */
    uint64_t out_unit_ns;      /* the fastest way of one of them to another node */
    const bool *can_read_file; /* [max_ranks] of whoever asked for the plan; NULL: nobody can */
    int64_t *capacity; /* [max_ranks]: fills that a seat could take at most, over all layers */
    uint32_t *outside; /* [num_experts]: replicas outside a set of seats */
    int64_t *fixed;    /* [max_ranks]: fills that an earlier plan began there */
    eepi_plan_choice *choices; /* [num_layers * num_experts], a layer after the other */
    int32_t num_choices;
    /* Of plan_shift.c: */
    int32_t *fill_first;        /* [max_ranks]: a fill of the layer at hand there, -1: none */
    int32_t *fill_next;         /* [num_layers * num_experts]: the next one of the same seat */
    int32_t *reached_by;        /* [max_ranks]: the fill that makes room there */
    int32_t *queue;             /* [max_ranks] */
    eepi_plan_shifted *shifted; /* [max_ranks * (EEPI_PLAN_CHAIN + 1)], in the order of time */
    int32_t num_shifted;
    eepi_plan_cut cuts[EEPI_PLAN_CUTS];          /* of plan_cuts.c */
    eepi_plan_layer layers[EEPI_PLAN_CHAIN + 1]; /* at hand: one, but while choices are exchanged */
    eepi_plan_network network;
    eepi_links *links; /* of an instance of which nothing is known */
} eepi_plan_table;

/* Not worth any more work: within 1/64. */
static inline bool eepi_plan_is_close(uint64_t makespan_ns, uint64_t bound_ns)
{
    return makespan_ns <= bound_ns + bound_ns / 64;
}

/* NULL: no memory. */
eepi_plan_table *eepi_plan_table_new(const eepi_view_shape *shape);
void eepi_plan_table_free(eepi_plan_table *table);

/* Begin a plan on that document: its members, and links without load. `links` NULL: nothing is
 * known of them. */
void eepi_plan_table_begin(eepi_plan_table *table, const eepi_view *view, const eepi_links *links,
                           uint64_t expert_bytes);

/* Count the replicas of a layer. The slots of seat `without` (-1: none) do not count, nor, if
 * `staying`, those of RETIRING seats. */
void eepi_plan_count_replicas(const eepi_view *view, int layer, int without, bool staying,
                              eepi_plan_table *replicas);

/* Its node has a backup of the expert whose sources were found. */
static inline bool eepi_plan_has_own(const eepi_plan_table *table, int seat)
{
    return table->num_of_sources &&
           table->node_stamp[table->network.seats[seat].node] == table->stamp;
}
#endif
