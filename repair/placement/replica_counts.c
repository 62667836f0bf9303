/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of copies. What is left after the goal's own demands goes, one by one, to the expert with
 * the largest share (as EPLB does), which makes the largest share as small as can be; or by another
 * divisor, where other shares fit better. */
#include "repair/placement/replica_counts.h"

#include <assert.h>

/* `a` needs a copy more than `b`: experts that are on every rank already come last; the larger
 * share; the lower number. */
static bool comes_before(const eepi_packing *p, int a, int b)
{
    const int rounds_a = p->copies[a] / p->num_ranks, rounds_b = p->copies[b] / p->num_ranks;

    if (rounds_a != rounds_b) {
        return rounds_a < rounds_b;
    }
    if (p->share[a] != p->share[b]) {
        return p->share[a] > p->share[b];
    }
    return p->copies[a] != p->copies[b] ? p->copies[a] < p->copies[b] : a < b;
}

static void sift(const eepi_packing *p, int32_t *heap, int size, int at)
{
    for (int child = 2 * at + 1; child < size; child = 2 * at + 1) {
        child += child + 1 < size && comes_before(p, heap[child + 1], heap[child]);
        if (comes_before(p, heap[at], heap[child])) {
            return;
        }
        const int32_t expert = heap[at];
        heap[at] = heap[child];
        heap[child] = expert;
        at = child;
    }
}

/* What decides who is next: the load over the copies and `quarters` of one more. */
static int64_t claim(const eepi_packing *p, int e, int quarters)
{
    return 4 * p->weight[e] / (4 * p->copies[e] + quarters);
}

/* Hand out `left` copies. p->placed is the heap's memory: nothing is placed yet. */
static void hand_out(eepi_packing *p, long left, int quarters)
{
    int32_t *heap = p->placed;

    for (int e = 0; e < p->num_experts; e++) {
        heap[e] = e;
        p->share[e] = claim(p, e, quarters);
    }
    for (int at = p->num_experts / 2 - 1; at >= 0; at--) {
        sift(p, heap, p->num_experts, at);
    }
    for (; left > 0; left--) {
        const int e = heap[0];
        p->copies[e]++;
        p->share[e] = claim(p, e, quarters);
        sift(p, heap, p->num_experts, 0);
    }
}

/* Copies that an expert needs for its share to be tolerable, and two if there are two ranks. */
static int need_of(const eepi_packing *p, int e)
{
    const __int128 all = (__int128)p->weight[e] * p->num_ranks * EEPI_RATIO_ONE;
    const __int128 each = (__int128)p->total * EEPI_RATIO_MIXED;
    __int128 need = (all + each - 1) / each;

    need = need < 2 ? 2 : need;
    need = need > p->num_ranks ? p->num_ranks : need;
    return need < p->pins[e] ? p->pins[e] : (int)need;
}

static int least_of(const eepi_packing *p, int e)
{
    return p->pins[e] > 1 ? p->pins[e] : 1;
}

static long sum_of_copies(const eepi_packing *p)
{
    long sum = 0;

    for (int e = 0; e < p->num_experts; e++) {
        sum += p->copies[e];
    }
    return sum;
}

int eepi_counts_spare(const eepi_packing *p, int least, int but)
{
    int64_t best_share = INT64_MAX;
    int best = -1;

    for (int e = p->num_experts - 1; e >= 0; e--) {
        if (e == but || p->copies[e] <= least || p->copies[e] <= least_of(p, e)) {
            continue;
        }
        const int64_t share = p->weight[e] / (p->copies[e] - 1);
        if (share < best_share) {
            best_share = share;
            best = e;
        }
    }
    return best;
}

bool eepi_counts_choose(eepi_packing *p, eepi_placement_goal goal, int quarters)
{
    const long slots = (long)p->num_ranks * p->num_slots;
    long left;

    for (int e = 0; e < p->num_experts; e++) {
        p->copies[e] = least_of(p, e);
    }
    left = slots - sum_of_copies(p);
    if (left < 0 || p->num_ranks == 0) {
        return false;
    }
    if (goal == EEPI_PLACE_MIXED) {
        for (int e = 0; e < p->num_experts; e++) {
            p->copies[e] = need_of(p, e);
        }
    } else if (goal == EEPI_PLACE_COVERAGE) {
        for (int e = 0; e < p->num_experts && p->num_ranks > 1; e++) {
            p->copies[e] += p->copies[e] == 1;
        }
    }
    left = slots - sum_of_copies(p);
    for (; left < 0; left++) { /* second copies of the coldest go first */
        int e = eepi_counts_spare(p, 1, -1);
        assert(e >= 0);
        p->copies[e]--;
    }
    hand_out(p, left, quarters);
    return true;
}

int eepi_counts_floor(const eepi_packing *p)
{
    long need = 0;
    const long slots = (long)p->num_ranks * p->num_slots;

    for (int e = 0; e < p->num_experts; e++) {
        need += need_of(p, e);
    }
    return need > slots ? (int)(need - slots) : 0;
}

int eepi_counts_singles(const eepi_packing *p)
{
    int singles = 0;

    for (int e = 0; e < p->num_experts; e++) {
        singles += p->copies[e] == 1;
    }
    return singles;
}

int eepi_counts_giver(const eepi_packing *p, int to)
{
    const int from = eepi_counts_spare(p, 1, to);

    /* It may not become hotter than `to` is. */
    return from >= 0 && p->copies[to] < p->num_ranks &&
                   p->weight[from] / (p->copies[from] - 1) < p->weight[to] / p->copies[to]
               ? from
               : -1;
}
