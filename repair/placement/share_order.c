/* SPDX-License-Identifier: Apache-2.0 */
/* Experts in order of share, and the bound that their sums give. */
#include "repair/placement/share_order.h"

#include <stdlib.h>
#include <string.h>

static bool is_before(const eepi_ranked *a, const eepi_ranked *b)
{
    return a->share != b->share ? a->share > b->share : a->expert < b->expert;
}

static int by_share(const void *left, const void *right)
{
    return is_before(left, right) ? -1 : 1;
}

static eepi_ranked entry(const eepi_packing *p, int expert)
{
    return (eepi_ranked){.share = p->weight[expert] / p->copies[expert], .expert = expert};
}

void eepi_order_fill(const eepi_packing *p, eepi_ranked *order_out)
{
    for (int e = 0; e < p->num_experts; e++) {
        order_out[e] = entry(p, e);
    }
    qsort(order_out, (size_t)p->num_experts, sizeof *order_out, by_share);
}

/* Move the expert, whose share changed, to its place. The others are in order. */
static void reorder(const eepi_packing *p, eepi_ranked *order, int expert)
{
    const eepi_ranked new = entry(p, expert);
    int at = 0;

    while (order[at].expert != expert) {
        at++;
    }
    for (; at > 0 && is_before(&new, &order[at - 1]); at--) {
        order[at] = order[at - 1];
    }
    for (; at + 1 < p->num_experts && is_before(&order[at + 1], &new); at++) {
        order[at] = order[at + 1];
    }
    order[at] = new;
}

void eepi_order_change(const eepi_packing *p, const eepi_ranked *order, int a, int b,
                       eepi_ranked *order_out)
{
    memcpy(order_out, order, (size_t)p->num_experts * sizeof *order);
    reorder(p, order_out, a);
    reorder(p, order_out, b);
}

int64_t eepi_order_bound(const eepi_packing *p, const eepi_ranked *order)
{
    int64_t hot = 0, cold = 0, best = 0; /* the largest mean of so many ranks */
    int i = 0, j = p->num_experts - 1;
    int left_i = p->copies[order[i].expert], left_j = p->copies[order[j].expert];

    for (int ranks = 1; ranks <= p->num_ranks; ranks++) {
        while (left_i == 0) {
            left_i = p->copies[order[++i].expert];
        }
        left_i--;
        hot += order[i].share;
        for (int more = p->num_slots - 1; more > 0;) {
            while (left_j == 0) {
                left_j = p->copies[order[--j].expert];
            }
            const int some = left_j < more ? left_j : more;
            cold += some * order[j].share;
            left_j -= some;
            more -= some;
        }
        if (hot + cold >= (best + 1) * ranks) {
            best = (hot + cold) / ranks;
        }
    }
    const int64_t ratio = eepi_packing_ratio(p, best);
    return ratio > EEPI_RATIO_ONE ? ratio : EEPI_RATIO_ONE;
}
