/* SPDX-License-Identifier: Apache-2.0 */
/* Experts in order of share, and the bound that their sums give. */
#include "repair/placement/share_order.h"

#include <stdlib.h>

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

void eepi_order_change(const eepi_packing *p, const eepi_ranked *order, int a, int b,
                       eepi_ranked *order_out)
{
    eepi_ranked in[2] = {entry(p, a), entry(p, b)};
    int next = 0, num = 0;

    if (is_before(&in[1], &in[0])) {
        const eepi_ranked first = in[1];
        in[1] = in[0];
        in[0] = first;
    }
    for (int i = 0; i < p->num_experts; i++) {
        if (order[i].expert == a || order[i].expert == b) {
            continue;
        }
        while (next < 2 && is_before(&in[next], &order[i])) {
            order_out[num++] = in[next++];
        }
        order_out[num++] = order[i];
    }
    while (next < 2) {
        order_out[num++] = in[next++];
    }
}

int64_t eepi_order_bound(const eepi_packing *p, const eepi_ranked *order)
{
    int64_t hot = 0, cold = 0, best = EEPI_RATIO_ONE;
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
        const int64_t ratio = eepi_packing_ratio(p, (hot + cold) / ranks);
        best = ratio > best ? ratio : best;
    }
    return best;
}
