/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of copies for ranks of two slots. Only for the files of this folder. */
#ifndef EEPI_PAIR_COUNTS_H
#define EEPI_PAIR_COUNTS_H

#include "repair/placement/share_order.h"

/* With two slots the best pairs are known before anything is placed: the largest share with the
 * smallest, the second largest with the second smallest, and so on. Their largest sum is the ratio,
 * and depends on the numbers of copies alone. Change p->copies (filled by eepi_counts_choose) such
 * that it becomes as small as a bounded search finds, with at most `max_singles` experts of one
 * copy more than... `order` and `spare` are memory for num_experts entries each. */
void eepi_pair_counts(eepi_packing *p, int max_singles, eepi_ranked *order, eepi_ranked *spare);
/* The largest sum of a pair for the present numbers of copies. */
int64_t eepi_pair_counts_most(const eepi_packing *p, eepi_ranked *order);
#endif
