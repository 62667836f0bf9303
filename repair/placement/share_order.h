/* SPDX-License-Identifier: Apache-2.0 */
/* Experts in order of their copies' shares, the largest first, lower numbers first among equals.
 * Only for the files of this folder. */
#ifndef EEPI_SHARE_ORDER_H
#define EEPI_SHARE_ORDER_H

#include "repair/placement/packing.h"

typedef struct eepi_ranked {
    int64_t share; /* weight / copies */
    int32_t expert;
} eepi_ranked;

/* All experts, by p->weight and p->copies. */
void eepi_order_fill(const eepi_packing *p, eepi_ranked *order_out);
/* The same after the copies of experts `a` and `b` changed. */
void eepi_order_change(const eepi_packing *p, const eepi_ranked *order, int a, int b,
                       eepi_ranked *order_out);
/* A ratio that no placement of these copies is below, in millionths: for any K, the K largest
 * shares with the smallest shares that fill up as many ranks, on average. */
int64_t eepi_order_bound(const eepi_packing *p, const eepi_ranked *order);
#endif
