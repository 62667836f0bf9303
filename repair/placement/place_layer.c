/* SPDX-License-Identifier: Apache-2.0 */
/* Placement of one layer: numbers of copies, dealing, repair of rules, levelling; and again with
 * other numbers where the goal asks for it. */
#include "repair/placement/place_layer.h"
#include "repair/placement/deal.h"
#include "repair/placement/pair_counts.h"
#include "repair/placement/replica_counts.h"

#include <stdlib.h>
#include <string.h>

struct eepi_placer {
    eepi_packing *packing;
    eepi_ranked *order, *spare; /* [num_experts] */
    int32_t *path;              /* [2 * max_ranks] */
    int32_t *best_copies;       /* [num_experts] */
};

eepi_placer *eepi_placer_new(const eepi_view_shape *shape)
{
    eepi_placer *placer = calloc(1, sizeof *placer);

    if (!placer) {
        return NULL;
    }
    placer->packing = eepi_packing_new(shape);
    placer->order = calloc((size_t)shape->num_experts, sizeof *placer->order);
    placer->spare = calloc((size_t)shape->num_experts, sizeof *placer->spare);
    placer->path = calloc(2 * (size_t)shape->max_ranks, sizeof *placer->path);
    placer->best_copies = calloc((size_t)shape->num_experts, sizeof *placer->best_copies);
    if (!placer->packing || !placer->order || !placer->spare || !placer->path ||
        !placer->best_copies) {
        eepi_placer_free(placer);
        return NULL;
    }
    return placer;
}

void eepi_placer_free(eepi_placer *placer)
{
    if (!placer) {
        return;
    }
    eepi_packing_free(placer->packing);
    free(placer->order);
    free(placer->spare);
    free(placer->path);
    free(placer->best_copies);
    free(placer);
}

enum {
    LEVEL = 1000,      /* millionths above the bound: to get nearer is not worth the work */
    SPARE_SINGLES = 4, /* beyond the floor, before more work is spent to avoid one */
    MAX_TRIALS = 24,
    BOUND_MIXED = 1032000, /* what the ratio comes down to needs some room */
    ENOUGH = 1005000,      /* to look at other numbers of copies is not worth the work */
    MAX_SHIFTS = 6,
};

static int max_exchanges(const eepi_packing *p)
{
    return 4 * p->num_ranks + 64;
}

/* Place p->copies so that no rank carries more than `target`, if single exchanges suffice for it.
 * The ratio. */
static int64_t place_copies(eepi_placer *placer, const eepi_layer_problem *problem, int64_t target)
{
    eepi_packing *p = placer->packing;

    eepi_packing_clear(p, problem);
    const bool by_pairs = p->num_slots == 2 && !problem->pinned;
    eepi_deal(p, placer->order, by_pairs, placer->path);
    if (by_pairs) {
        eepi_deal_place(p);
    }
    eepi_deal_repair(p, placer->path);
    eepi_deal_part(p);
    return eepi_deal_level(p, target, max_exchanges(p), false);
}

static void write_slots(const eepi_packing *p, const eepi_layer_problem *problem,
                        int32_t *experts_out)
{
    for (int i = 0; i < problem->shape.max_ranks * p->num_slots; i++) {
        experts_out[i] = -1;
    }
    for (int rank = 0; rank < p->num_ranks; rank++) {
        const size_t at = (size_t)p->seat[rank] * (size_t)p->num_slots;
        const int32_t *items = eepi_packing_items(p, rank);
        int next = 0;
        for (int slot = 0; slot < p->num_slots; slot++) {
            const int32_t pin = problem->pinned ? problem->pinned[at + (size_t)slot] : -1;
            experts_out[at + (size_t)slot] = pin >= 0 ? pin : items[next++];
        }
    }
}

/* Copies for the hottest experts, as long as the bound tells that the present numbers of copies
 * cannot be placed level enough on any ranks. */
static void relieve_by_bound(eepi_placer *placer)
{
    eepi_packing *p = placer->packing;

    eepi_order_fill(p, placer->order);
    for (int i = 0; i < p->num_experts; i++) {
        eepi_ranked *const spare = placer->spare;
        const int to = placer->order[0].expert, from = eepi_counts_giver(p, to);
        if (from < 0 || eepi_order_bound(p, placer->order) <= BOUND_MIXED) {
            return;
        }
        p->copies[from]--;
        p->copies[to]++;
        eepi_order_change(p, placer->order, from, to, spare);
        placer->spare = placer->order;
        placer->order = spare;
    }
}

/* The expert with the largest share on the most loaded rank; -1: all its slots are pinned. */
static int heaviest(const eepi_packing *p)
{
    const int rank = eepi_packing_most_loaded(p);

    return p->used[rank] > 0 ? eepi_packing_items(p, rank)[0] : -1;
}

/* A copy of one expert becomes one of another. false: there is none. */
static bool shift(eepi_packing *p, int from, int to)
{
    if (from >= 0) {
        p->copies[from]--;
        p->copies[to]++;
    }
    return from >= 0;
}

/* A copy more for what is too large on the most loaded rank. false: nobody has one to spare. */
static bool relieve(eepi_packing *p)
{
    const int to = heaviest(p);

    return to >= 0 && shift(p, eepi_counts_giver(p, to), to);
}

static int singles_allowed(const eepi_packing *p, eepi_placement_goal goal)
{
    const int now = eepi_counts_singles(p), more = eepi_counts_floor(p) + SPARE_SINGLES;

    if (goal == EEPI_PLACE_COVERAGE) {
        return 0; /* none more: second copies stay where they are */
    }
    return goal == EEPI_PLACE_BALANCE ? p->num_experts : now > more ? now : more;
}

/* Numbers of copies by the goal. */
static bool choose_counts(eepi_placer *placer, eepi_placement_goal goal, int quarters)
{
    if (!eepi_counts_choose(placer->packing, goal, quarters)) {
        return false;
    }
    if (goal == EEPI_PLACE_MIXED) {
        relieve_by_bound(placer);
    }
    return true;
}

/* The same for ranks of two slots, where some divisor fits best and a search follows. */
static void choose_pairs(eepi_placer *placer, eepi_placement_goal goal)
{
    eepi_packing *p = placer->packing;
    int64_t best = INT64_MAX;
    int best_quarters = 0;

    for (int quarters = 0; quarters <= 4; quarters++) {
        if (choose_counts(placer, goal, quarters)) {
            const int64_t most = eepi_pair_counts_most(p, placer->order);
            best_quarters = most < best ? quarters : best_quarters;
            best = most < best ? most : best;
        }
    }
    if (choose_counts(placer, goal, best_quarters)) {
        eepi_pair_counts(p, singles_allowed(p, goal), placer->order, placer->spare);
    }
}

static void place_mixed(eepi_placer *placer, const eepi_layer_problem *problem, int64_t ratio)
{
    eepi_packing *p = placer->packing;

    for (int trial = 0; trial < MAX_TRIALS && ratio > EEPI_RATIO_MIXED; trial++) {
        if (eepi_counts_singles(p) >= eepi_counts_floor(p) + SPARE_SINGLES) {
            ratio = eepi_deal_level(p, EEPI_RATIO_MIXED, max_exchanges(p), true);
        }
        if (ratio <= EEPI_RATIO_MIXED || !relieve(p)) {
            break;
        }
        if (p->num_slots == 2) {
            eepi_pair_counts(p, eepi_counts_singles(p) + 1, placer->order, placer->spare);
        }
        ratio = place_copies(placer, problem, EEPI_RATIO_MIXED);
    }
}

/* As near to the bound for these numbers of copies as exchanges come. The ratio. */
static int64_t level(eepi_placer *placer)
{
    eepi_packing *p = placer->packing;

    return eepi_deal_level(p, eepi_order_bound(p, placer->order) + LEVEL, max_exchanges(p), true);
}

/* Some numbers of copies do not pack well, although the largest share is as small as can be: where
 * more copies are large than there are ranks, two of them must share one. So a copy more for what
 * is too large, one at a time, as long as each expert has two. The best stays. */
static void place_others(eepi_placer *placer, const eepi_layer_problem *problem, int64_t ratio)
{
    eepi_packing *p = placer->packing;
    const size_t bytes = (size_t)p->num_experts * sizeof *p->copies;
    int64_t best = ratio;

    memcpy(placer->best_copies, p->copies, bytes);
    for (int trial = 0; trial < MAX_SHIFTS && ratio > ENOUGH; trial++) {
        const int to = heaviest(p);
        if (to < 0 || p->copies[to] >= p->num_ranks || !shift(p, eepi_counts_spare(p, 2, to), to)) {
            break;
        }
        place_copies(placer, problem, EEPI_RATIO_MIXED);
        ratio = level(placer);
        if (ratio < best) {
            best = ratio;
            memcpy(placer->best_copies, p->copies, bytes);
        }
    }
    if (best < ratio) {
        memcpy(p->copies, placer->best_copies, bytes);
        place_copies(placer, problem, EEPI_RATIO_MIXED);
        level(placer);
    }
}

/* false: all alike. Then numbers of copies differ by one at most. */
static bool has_loads(const eepi_packing *p)
{
    for (int e = 1; e < p->num_experts; e++) {
        if (p->weight[e] != p->weight[0]) {
            return true;
        }
    }
    return false;
}

eep_status eepi_place_layer(eepi_placer *placer, const eepi_layer_problem *problem,
                            int32_t *experts_out)
{
    eepi_packing *p = placer->packing;

    eepi_packing_begin(p, problem);
    if (!choose_counts(placer, problem->goal, 0)) {
        return EEP_ERR_UNCOVERED;
    }
    if (p->num_slots == 2) {
        choose_pairs(placer, problem->goal);
    }
    int64_t ratio = place_copies(placer, problem, EEPI_RATIO_MIXED);
    if (problem->goal == EEPI_PLACE_MIXED) {
        place_mixed(placer, problem, ratio);
    }
    ratio = level(placer);
    if (p->num_slots > 2 && has_loads(p) &&
        (problem->goal == EEPI_PLACE_COVERAGE ||
         (problem->goal == EEPI_PLACE_MIXED && eepi_counts_singles(p) == 0))) {
        place_others(placer, problem, ratio);
    }
    write_slots(p, problem, experts_out);
    return EEP_OK;
}
