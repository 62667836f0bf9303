/* SPDX-License-Identifier: Apache-2.0 */
/* Load shares by coordinate descent: one expert after the other is split over its holders as water
 * finds its level on the loads that the others leave there. Each step is the exact optimum of the
 * sum of squared rank loads in that expert's shares, and the split that minimises this sum has the
 * lightest most loaded rank too (both belong to the one lexicographically fairest split). */
#include "repair/placement/shares.h"

#include <assert.h>
#include <stdlib.h>

/* One seat that has an expert, in `copies` slots. */
typedef struct holder {
    int32_t seat;
    int32_t copies;
    int64_t part; /* of the expert's load */
} holder;

struct eepi_shares {
    int num_seats, num_slots, num_experts;
    int64_t *load;   /* [num_seats] */
    int64_t *weight; /* [num_experts]: load of an expert, scaled */
    int32_t *first;  /* [num_experts + 1]: its holders */
    int32_t *next;   /* [num_experts]: end of its holders; at last a cursor over them */
    holder *holders; /* [num_seats * num_slots] */
};

eepi_shares *eepi_shares_new(int num_seats, int num_slots, int num_experts)
{
    eepi_shares *s = calloc(1, sizeof *s);

    if (!s) {
        return NULL;
    }
    s->num_seats = num_seats;
    s->num_slots = num_slots;
    s->num_experts = num_experts;
    s->load = calloc((size_t)num_seats, sizeof *s->load);
    s->weight = calloc((size_t)num_experts, sizeof *s->weight);
    s->first = calloc((size_t)num_experts + 1, sizeof *s->first);
    s->next = calloc((size_t)num_experts, sizeof *s->next);
    s->holders = calloc((size_t)num_seats * (size_t)num_slots, sizeof *s->holders);
    if (!s->load || !s->weight || !s->first || !s->next || !s->holders) {
        eepi_shares_free(s);
        return NULL;
    }
    return s;
}

void eepi_shares_free(eepi_shares *s)
{
    if (!s) {
        return;
    }
    free(s->load);
    free(s->weight);
    free(s->first);
    free(s->next);
    free(s->holders);
    free(s);
}

/* Bring the loads to a sum of about 2^44, so that quotients have many digits and a load times a
 * share still fits. */
static void scale_loads(eepi_shares *s, const uint32_t *loads)
{
    uint64_t total = 0;
    int up = 0, down = 0;

    for (int e = 0; e < s->num_experts; e++) {
        total += loads ? loads[e] : 0;
    }
    const bool alike = total == 0;
    total = alike ? (uint64_t)s->num_experts : total;
    while (total >> down >= (uint64_t)1 << 45) {
        down++;
    }
    while (total << up < (uint64_t)1 << 44 && down == 0) {
        up++;
    }
    for (int e = 0; e < s->num_experts; e++) {
        s->weight[e] = (int64_t)((alike ? 1 : (uint64_t)loads[e]) << up >> down);
    }
}

/* List each expert's holders in order of seat. */
static void list_holders(eepi_shares *s, const int32_t *experts)
{
    const int per_seat = s->num_slots, total = s->num_seats * s->num_slots;

    for (int e = 0; e <= s->num_experts; e++) {
        s->first[e] = 0;
    }
    for (int i = 0; i < total; i++) {
        assert(experts[i] < s->num_experts);
        if (experts[i] >= 0) {
            s->first[experts[i] + 1]++;
        }
    }
    for (int e = 0; e < s->num_experts; e++) {
        s->first[e + 1] += s->first[e];
        s->next[e] = s->first[e];
    }
    for (int i = 0; i < total; i++) {
        const int e = experts[i];
        if (e < 0) {
            continue;
        }
        if (s->next[e] > s->first[e] && s->holders[s->next[e] - 1].seat == i / per_seat) {
            s->holders[s->next[e] - 1].copies++;
        } else {
            s->holders[s->next[e]++] = (holder){.seat = i / per_seat, .copies = 1};
        }
    }
}

/* Begin with equal shares of each replica. */
static void split_equally(eepi_shares *s)
{
    for (int seat = 0; seat < s->num_seats; seat++) {
        s->load[seat] = 0;
    }
    for (int e = 0; e < s->num_experts; e++) {
        int64_t replicas = s->first[e + 1] - s->first[e];
        int64_t left = s->weight[e];
        for (int h = s->first[e]; h < s->next[e]; h++) {
            s->holders[h].part = left * s->holders[h].copies / replicas;
            left -= s->holders[h].part;
            replicas -= s->holders[h].copies;
            s->load[s->holders[h].seat] += s->holders[h].part;
        }
    }
}

/* Split expert `e` anew: its load fills the holders up to one level; holders that the others load
 * above it get nothing. Returns how much load moved. */
static int64_t settle(eepi_shares *s, int e)
{
    const int begin = s->first[e], end = s->next[e];
    int64_t level = INT64_MAX, rest = 0, moved = 0;
    int count = 0, before = -1;

    for (int h = begin; h < end; h++) {
        s->load[s->holders[h].seat] -= s->holders[h].part;
    }
    while (count != before) { /* each round leaves out holders above the level, which lowers it */
        int64_t sum = s->weight[e];
        const int64_t limit = level;
        before = count;
        count = 0;
        for (int h = begin; h < end; h++) {
            if (s->load[s->holders[h].seat] <= limit) {
                sum += s->load[s->holders[h].seat];
                count++;
            }
        }
        level = sum / count; /* the least of them is not above their mean: one stays */
        rest = sum % count;
    }
    for (int h = begin; h < end; h++) {
        holder *at = &s->holders[h];
        int64_t part = 0;
        if (s->load[at->seat] <= level) {
            part = level - s->load[at->seat] + (rest > 0);
            rest -= rest > 0;
        }
        moved += part > at->part ? part - at->part : 0;
        at->part = part;
        s->load[at->seat] += part;
    }
    return moved;
}

/* Parts to shares; what rounding leaves goes to the first replicas that have a part. */
static void write_shares(eepi_shares *s, const int32_t *experts, uint16_t *shares_out)
{
    const int total = s->num_seats * s->num_slots;

    for (int e = 0; e < s->num_experts; e++) {
        int64_t left = EEPI_SHARE_WHOLE;
        for (int h = s->first[e]; h < s->next[e]; h++) {
            holder *at = &s->holders[h];
            at->part = at->part / at->copies * EEPI_SHARE_WHOLE / s->weight[e];
            left -= at->part * at->copies;
        }
        s->weight[e] = left;
    }
    for (int e = 0; e < s->num_experts; e++) {
        s->next[e] = s->first[e];
    }
    for (int i = 0; i < total; i++) {
        const int e = experts[i];
        if (e < 0) {
            shares_out[i] = 0;
            continue;
        }
        while (s->holders[s->next[e]].seat != i / s->num_slots) {
            s->next[e]++;
        }
        const holder *at = &s->holders[s->next[e]];
        const int64_t more = at->part > 0 && s->weight[e] > 0;
        shares_out[i] = (uint16_t)(at->part + more);
        s->weight[e] -= more;
    }
}

/* Experts without load are split equally, as if they had some. */
static void share_idle_experts(eepi_shares *s)
{
    for (int e = 0; e < s->num_experts; e++) {
        if (s->weight[e] != 0) {
            continue;
        }
        s->weight[e] = s->first[e + 1] - s->first[e];
        for (int h = s->first[e]; h < s->next[e]; h++) {
            s->holders[h].part = s->holders[h].copies;
        }
    }
}

void eepi_shares_split(eepi_shares *s, const int32_t *experts, const uint32_t *loads,
                       int max_sweeps, uint16_t *shares_out)
{
    int64_t total = 0, moved = INT64_MAX;

    scale_loads(s, loads);
    list_holders(s, experts);
    split_equally(s);
    for (int e = 0; e < s->num_experts; e++) {
        total += s->weight[e];
    }
    /* Below a 65,536th of the load no share would change by much. */
    for (int sweep = 0; sweep < max_sweeps && moved > total >> 16; sweep++) {
        moved = 0;
        for (int e = 0; e < s->num_experts; e++) {
            if (s->weight[e] > 0 && s->next[e] > s->first[e] + 1) {
                moved += settle(s, e);
            }
        }
    }
    share_idle_experts(s);
    write_shares(s, experts, shares_out);
}

uint32_t eepi_shares_peak(eepi_shares *s, const int32_t *experts, const uint32_t *loads,
                          const uint16_t *given)
{
    int64_t most = 0, sum = 0, ranks = 0;

    scale_loads(s, loads);
    list_holders(s, experts);
    split_equally(s);
    for (int seat = 0; seat < s->num_seats; seat++) {
        const int32_t *row = experts + (size_t)seat * (size_t)s->num_slots;
        int64_t load = given ? 0 : s->load[seat];
        bool holds = false;
        for (int slot = 0; slot < s->num_slots; slot++) {
            holds = holds || row[slot] >= 0;
            if (given && row[slot] >= 0) {
                load += s->weight[row[slot]] * given[seat * s->num_slots + slot] / EEPI_SHARE_WHOLE;
            }
        }
        most = load > most ? load : most;
        sum += load;
        ranks += holds;
    }
    return sum == 0
               ? 0
               : (uint32_t)((unsigned __int128)most * 1000000u * (uint64_t)ranks / (uint64_t)sum);
}
