/* SPDX-License-Identifier: Apache-2.0 */
/* An instance to be repaired: made from options, or read from a dumped view document. */
#ifndef EEPX_PLAN_CASE_H
#define EEPX_PLAN_CASE_H

#include "repair/planner/planner.h"

enum { PLAN_CASE_ERROR_BYTES = 400 };

typedef struct plan_case_options {
    int32_t ranks, ranks_per_node, layers, experts, slots, spread;
    int32_t backups; /* nodes that keep a backup of an expert */
    int32_t failed;  /* so many ranks are lost, chosen as `how` says */
    uint64_t seed, expert_bytes;
    const char *how;             /* "random", "adjacent" or "nodes" */
    const char *lost;            /* "3,8-11", beside those; NULL: nobody */
    const char *loads;           /* a law of expert_loads.h; "even": all experts alike */
    const char *view;            /* a file; NULL: the instance is made from what stands above */
    const char *rates;           /* "default" or "random" */
    int32_t mbs[EEPI_NUM_RATES]; /* of every rank, 10^6 bytes per second; 0: as `rates` says */
    int32_t host_mbs;            /* reading the host memory of a node; 0: libeep's default */
    bool checkpoint;             /* every rank reads it */
} plan_case_options;

typedef struct plan_case {
    eepi_view *before; /* all ranks live; of a dumped document: as it was dumped */
    eepi_view *view;   /* the lost ranks left out: what the planner begins with */
    eepi_links *links;
    uint32_t *loads;     /* [num_layers][num_experts]; NULL: not known (a dumped document) */
    bool *can_read_file; /* [max_ranks] */
    bool *lost;          /* [max_ranks] */
    bool is_even;        /* all experts alike */
    eepi_plan_given given;
} plan_case;

/* The loads of a layer's experts; NULL: not known. */
const uint32_t *plan_case_loads(const plan_case *self, int layer);
/* A first placement for these loads: of the members of an otherwise empty view. */
EEP_MUST_CHECK eep_status plan_case_place(const plan_case *self, eepi_view *view);
/* Choose `num` members of `view`, or all if there are fewer, that are not in lost_io[max_ranks]
 * yet. "random": any. "adjacent": neighbours, the last seat being one of the first. "nodes": one
 * node after the other, in an order by chance; of the last one, any. */
void plan_case_choose(const eepi_view *view, const char *how, int num, uint64_t *random_io,
                      bool *lost_io);
/* Which ranks are in `view` no more, and what they alone kept. */
void plan_case_lose(eepi_view *view, const bool *lost);
/* EEP_ERR_INVALID, _NO_MEMORY or _UNCOVERED (fewer slots than experts), and why. */
EEP_MUST_CHECK eep_status plan_case_open(const plan_case_options *options, plan_case *case_out,
                                         char error[PLAN_CASE_ERROR_BYTES]);
void plan_case_close(plan_case *self);
#endif
