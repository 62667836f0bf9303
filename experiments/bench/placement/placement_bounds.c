/* SPDX-License-Identifier: Apache-2.0 */
/* Two bounds with their proofs. They are in floating point: nothing is decided by them. */
#include "experiments/bench/placement/placement_bounds.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static double mean_of(const bounds_layer *layer)
{
    double sum = 0;

    for (int e = 0; e < layer->num_experts; e++) {
        sum += layer->loads[e];
    }
    return sum > 0 ? sum / layer->num_ranks : 1;
}

/* ---------------------------------------------------------------- two copies of each */

/* A copy's share, in means, and how many copies its expert has. */
typedef struct share {
    double size;
    int copies;
} share;

static int by_size(const void *left, const void *right)
{
    const share *a = left, *b = right;

    return (a->size < b->size) - (a->size > b->size);
}

static int by_load(const void *left, const void *right)
{
    const uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

    return (a > b) - (a < b);
}

/* The least load of `wanted` copies of the experts from `first` on, of which at most `most_second`
 * are an expert's second. < 0: there are not so many. */
static double cheapest(const share *shares, int first, int num, int wanted, int most_second)
{
    int one = num - 1, two = num - 1, second = 0;
    double sum = 0;

    for (int taken = 0; taken < wanted; taken++) {
        while (two >= first && shares[two].copies < 2) {
            two--;
        }
        const bool has_two = two >= first && second < most_second;
        if (has_two && (one < first || shares[two].size <= shares[one].size)) {
            sum += shares[two--].size;
            second++;
        } else if (one >= first) {
            sum += shares[one--].size;
        } else {
            return -1;
        }
    }
    return sum;
}

/* No rank has two copies of an expert. Take the `hot` experts of the largest shares, and the ranks
 * that have a copy of one. If there are
 * K of these ranks, they have all `copies` copies of them, and K x slots - copies others. An expert
 * whose two copies are both among the K ranks is shared by two of them. There are K (K - 1) / 2
 * pairs, and each shares pair_limit at most, so the number of these experts is limited; the hot
 * ones with two copies are some of them. The others add no less than the cheapest copies of which
 * so many are second ones. The most loaded of the K ranks has the average or more. K is unknown, so
 * the least of all averages counts. Each number of hot experts gives a bound. */
static double bound_with(const bounds_layer *layer, const share *shares, int hot, int copies,
                         double sum, int pairs)
{
    const int most = copies < layer->num_ranks ? copies : layer->num_ranks;
    double least = INFINITY;

    for (int k = 1; k <= most; k++) {
        const int others = k * layer->num_slots - copies;
        const int shared =
            layer->pair_limit < 0 ? others : layer->pair_limit * k * (k - 1) / 2 - pairs;
        if (others < 0 || shared < 0) {
            continue;
        }
        const double more = cheapest(shares, hot, layer->num_experts, others, shared);
        if (more >= 0 && (sum + more) / k < least) {
            least = (sum + more) / k;
        }
    }
    return least;
}

double bounds_coverage(const bounds_layer *layer)
{
    const int num = layer->num_experts, slots = layer->num_ranks * layer->num_slots;
    const double mean = mean_of(layer);
    share *shares = calloc((size_t)num, sizeof *shares);
    uint32_t *sorted = calloc((size_t)num, sizeof *sorted);
    double best = shares && sorted ? 1 : -1, sum = 0;
    int copies = 0, pairs = 0;

    if (best > 0 && slots <= 2 * num) { /* else the numbers of copies are free */
        memcpy(sorted, layer->loads, (size_t)num * sizeof *sorted);
        qsort(sorted, (size_t)num, sizeof *sorted, by_load);
        for (int i = 0; i < num; i++) {
            const int number = i < 2 * num - slots ? 1 : 2;
            shares[i] = (share){sorted[i] / mean / number, number};
        }
        qsort(shares, (size_t)num, sizeof *shares, by_size);
        for (int hot = 1; hot < num && copies < layer->num_ranks; hot++) {
            copies += shares[hot - 1].copies;
            pairs += shares[hot - 1].copies == 2;
            sum += shares[hot - 1].size * shares[hot - 1].copies;
            const double bound = bound_with(layer, shares, hot, copies, sum, pairs);
            best = isfinite(bound) && bound > best ? bound : best;
        }
    }
    free(shares);
    free(sorted);
    return best;
}

/* ---------------------------------------------------------------- pairs */

enum { STEPS = 48, ROUNDS = 1500 };

/* Prices. Let `up` be any numbers >= 0 of STEPS thresholds from ratio / 2 to `ratio`. A copy of
 * size s > ratio / 2 pays the sum of those that are below s. One of size s <= ratio / 2 earns the
 * sum of those that are not above ratio - s. Of two copies on a rank one at most is larger than
 * ratio / 2, and then the other is not above ratio less that size, so it earns no less than that
 * one pays. So over all copies of a placement within `ratio`, earnings less payments are 0 or more.
 * All copies together are 2 x ranks. So for any `slot`, singles >= singles - (earnings - payments)
 * + slot x (copies - 2 x ranks)
 *             >= sum over experts of the least, over numbers of copies k, of
 *                (k is 1) + k x (price of a copy of size w / k + slot)  -  slot x 2 x ranks,
 * where the price is the payment, or the earning with a minus. Any prices prove a bound, and an
 * ascent finds good ones. */
typedef struct prices {
    double ratio;
    double up[STEPS], sum[STEPS + 1]; /* sum[i]: of the first i */
    double slot;
    double surplus[STEPS]; /* copies above each threshold less copies that suit them */
    double copies;
} prices;

static double threshold(const prices *p, int i)
{
    return p->ratio / 2 * (1 + (double)i / STEPS);
}

/* How many thresholds are below `size`, or, with `or_at`, not above it. */
static int steps_to(const prices *p, double size, bool or_at)
{
    int i = (int)((size / (p->ratio / 2) - 1) * STEPS);

    i = i < 0 ? 0 : i > STEPS ? STEPS : i;
    while (i > 0 && (or_at ? threshold(p, i - 1) > size : threshold(p, i - 1) >= size)) {
        i--;
    }
    while (i < STEPS && (or_at ? threshold(p, i) <= size : threshold(p, i) < size)) {
        i++;
    }
    return i;
}

static double price(const prices *p, double size)
{
    return size > p->ratio / 2 ? p->sum[steps_to(p, size, false)]
                               : -p->sum[steps_to(p, p->ratio - size, true)];
}

/* The number of copies that costs the expert least. Beyond `far` copies all of them earn the whole
 * sum, so the cost is linear in their number, and least at one of the ends. */
static int best_copies(const prices *p, double load, int num_ranks, bool all, double *least_out)
{
    const int least = (int)ceil(load / p->ratio - 1e-9), first = least < 1 ? 1 : least;
    const double far = load / (p->ratio - threshold(p, STEPS - 1)) + 1;
    int best = first;

    *least_out = INFINITY;
    for (int k = first; k <= num_ranks; k++) {
        const double cost = (k == 1) + k * (price(p, load / k) + p->slot);
        if (cost < *least_out) {
            *least_out = cost;
            best = k;
        }
        if (k > far || (!all && k > first + 6 && load / k < 0.25)) {
            k = k < num_ranks - 1 ? num_ranks - 1 : k;
        }
    }
    return best;
}

/* The bound that the prices prove. With `all` every number of copies is looked at; without, the
 * likely ones, which is enough to ascend by. */
static double proved(prices *p, const bounds_layer *layer, double mean, bool all)
{
    double bound = -p->slot * 2 * layer->num_ranks;

    p->sum[0] = 0;
    for (int i = 0; i < STEPS; i++) {
        p->sum[i + 1] = p->sum[i] + p->up[i];
        p->surplus[i] = 0;
    }
    p->copies = -2.0 * layer->num_ranks;
    for (int e = 0; e < layer->num_experts; e++) {
        double least;
        const int k = best_copies(p, layer->loads[e] / mean, layer->num_ranks, all, &least);
        const double size = layer->loads[e] / mean / k;
        const bool large = size > p->ratio / 2;
        const int steps = large ? steps_to(p, size, false) : steps_to(p, p->ratio - size, true);
        for (int i = 0; i < steps; i++) {
            p->surplus[i] += large ? k : -k;
        }
        p->copies += k;
        bound += least;
    }
    return bound;
}

/* One step uphill, as far as a bound of `aim` would be away on a straight line. */
static void ascend(prices *p, double bound, double aim)
{
    double steepness = p->copies * p->copies;

    for (int i = 0; i < STEPS; i++) {
        steepness += p->surplus[i] * p->surplus[i];
    }
    const double step = steepness > 0 ? (aim - bound) / steepness : 0;
    for (int i = 0; i < STEPS; i++) {
        p->up[i] = fmax(0, p->up[i] + step * p->surplus[i]);
    }
    p->slot += step * p->copies;
}

double bounds_singles(const bounds_layer *layer, double ratio)
{
    const double mean = mean_of(layer);
    prices now = {.ratio = ratio}, best = now;
    double most = 0, gap = 16;

    for (int round = 0, since = 0; round < ROUNDS; round++) {
        double bound = proved(&now, layer, mean, false);
        if (bound > most + 0.05) {
            bound = proved(&now, layer, mean, true);
        }
        if (bound > most + 0.05) {
            most = bound;
            best = now;
            gap = fmin(16, 1.25 * gap);
            since = 0;
        } else if (++since == 40) {
            now = best;
            gap /= 2;
            since = 0;
            bound = proved(&now, layer, mean, false);
        }
        ascend(&now, bound, most + gap);
    }
    return most;
}
