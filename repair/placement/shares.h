/* SPDX-License-Identifier: Apache-2.0 */
/* Load shares: which part of an expert's tokens each of its replicas takes, so that the most loaded
 * rank of a layer is as light as possible. An equal split is one answer; an unequal one repairs
 * what a lost rank did to the balance, and moves no weights. Pure, integers only: the same input
 * gives the same shares everywhere. */
#ifndef EEPI_SHARES_H
#define EEPI_SHARES_H

#include <stdbool.h>
#include <stdint.h>

enum {
    EEPI_SHARE_WHOLE = 65535, /* the shares of an expert's replicas add up to it */
    EEPI_SHARES_SWEEPS = 32,  /* a limit of work that leaves little to gain */
};

/* Memory for any layer of one shape, made once. */
typedef struct eepi_shares eepi_shares;

/* NULL: no memory. */
eepi_shares *eepi_shares_new(int num_seats, int num_slots, int num_experts);
void eepi_shares_free(eepi_shares *shares);

/* Split each expert's load over its replicas. `experts` [num_seats][num_slots] is the expert of
 * each slot, or -1 for a slot without a live replica. `loads` [num_experts]; NULL, or all 0: all
 * alike. Writes shares_out [num_seats][num_slots]: 0 for -1, and sums to EEPI_SHARE_WHOLE over the
 * replicas of an expert; a replica may get 0. Equal shares (up to rounding) for an expert without
 * load. At most `max_sweeps` passes over all experts, each of which splits one expert after the
 * other as well as the others' present shares allow; the largest rank load never rises from one to
 * the next. Takes no memory. */
void eepi_shares_split(eepi_shares *shares, const int32_t *experts, const uint32_t *loads,
                       int max_sweeps, uint16_t *shares_out);

/* The largest load of a rank, in millionths of the mean over the ranks that hold anything, by the
 * given shares; NULL: equal shares. Loads without a replica count nowhere. */
uint32_t eepi_shares_peak(eepi_shares *shares, const int32_t *experts, const uint32_t *loads,
                          const uint16_t *given);
#endif
