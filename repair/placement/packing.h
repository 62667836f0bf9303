/* SPDX-License-Identifier: Apache-2.0 */
/* A layer while it is being placed: copies on ranks, what is allowed, and moves of copies. Only for
 * the files of this folder. */
#ifndef EEPI_PACKING_H
#define EEPI_PACKING_H

#include "repair/placement/layer_problem.h"

/* Ranks are numbered 0 .. num_ranks - 1 here, in order of seat. */
typedef struct eepi_packing {
    eepi_view_shape shape;
    int num_ranks, num_nodes, num_experts, num_slots;
    int distance;         /* that replicas are apart */
    int words;            /* of 64 bits per row of `apart` */
    int num_pairs;        /* pairs of ranks that are apart */
    int pair_limit;       /* experts with two copies that a pair of ranks may share */
    int64_t total;        /* load of the layer */
    int64_t *weight;      /* [num_experts]: load, scaled to a sum of about 2^44 */
    int64_t *share;       /* [num_experts]: of one copy */
    int32_t *copies;      /* [num_experts]: copies wanted */
    int32_t *pins;        /* [num_experts]: of these, pinned */
    int32_t *placed;      /* [num_experts]: copies that have a rank */
    int32_t *first;       /* [num_experts + 1]: its part of `holder` */
    int32_t *holder;      /* [all slots]: rank of each copy; the pinned ones first */
    int32_t *seat, *node; /* [num_ranks] */
    int32_t *room, *used; /* [num_ranks]: slots without a pin, and how many of them are taken */
    int32_t *item;        /* [num_ranks][num_slots]: experts in them, largest share first */
    int64_t *load;        /* [num_ranks] */
    int32_t *mark;        /* [num_ranks]: 0 between calls */
    uint64_t *apart;      /* [num_ranks][words]: bit set of the ranks that are apart from it */
    uint16_t *shared;     /* [num_ranks][num_ranks]: experts whose two copies they hold */
} eepi_packing;

/* Memory for any layer of that shape. NULL: no memory. */
eepi_packing *eepi_packing_new(const eepi_view_shape *shape);
void eepi_packing_free(eepi_packing *p);

/* Take over a layer: ranks, weights, pins, what is apart. No copy has a rank yet. */
void eepi_packing_begin(eepi_packing *p, const eepi_layer_problem *problem);
/* After `copies` was set (its sum is the number of slots, none less than its pins): shares, and
 * empty ranks but for the pins. */
void eepi_packing_clear(eepi_packing *p, const eepi_layer_problem *problem);

static inline bool eepi_packing_is_apart(const eepi_packing *p, int a, int b)
{
    return p->apart[(size_t)a * (size_t)p->words + (size_t)(b >> 6)] >> (b & 63) & 1;
}
static inline int eepi_packing_shared(const eepi_packing *p, int a, int b)
{
    return p->shared[(size_t)a * (size_t)p->num_ranks + (size_t)b];
}
static inline int32_t *eepi_packing_items(const eepi_packing *p, int rank)
{
    return p->item + (size_t)rank * (size_t)p->num_slots;
}

/* A copy in a pinned slot. */
void eepi_packing_hold(eepi_packing *p, int expert, int rank);
/* Put a copy on a rank that has room, or take it away again. */
void eepi_packing_put(eepi_packing *p, int expert, int rank);
void eepi_packing_take(eepi_packing *p, int expert, int rank);

/* In a slot that is not pinned. */
bool eepi_packing_has_item(const eepi_packing *p, int rank, int expert);

/* How far an expert's copies are from what is asked: copies too many or too few on one rank count
 * most, then that all of them may be lost with one node or one run of `distance` seats. 0: as
 * asked. */
int eepi_packing_fault(const eepi_packing *p, int expert);
/* The same if its copy on `from` were on `to`. */
int eepi_packing_fault_if(const eepi_packing *p, int expert, int from, int to);
/* The copy on `from` may go to `to`: then nothing is wrong with the expert, and no pair of ranks
 * shares more than pair_limit experts. */
bool eepi_packing_may_move(const eepi_packing *p, int expert, int from, int to);
/* Copy on `a` of one expert and on `b` of another change places. */
void eepi_packing_swap(eepi_packing *p, int expert_a, int a, int expert_b, int b);
int eepi_packing_most_loaded(const eepi_packing *p);
/* Load in millionths of the mean. */
int64_t eepi_packing_ratio(const eepi_packing *p, int64_t load);
#endif
