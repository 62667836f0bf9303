/* SPDX-License-Identifier: Apache-2.0 */
/* Copies on ranks: what is allowed, and moves that keep the books. */
#include "repair/placement/packing.h"
#include "repair/spread.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

eepi_packing *eepi_packing_new(const eepi_view_shape *shape)
{
    const size_t ranks = (size_t)shape->max_ranks, experts = (size_t)shape->num_experts;
    const size_t slots = ranks * (size_t)shape->num_slots;
    eepi_packing *p = calloc(1, sizeof *p);

    if (!p) {
        return NULL;
    }
    p->words = (shape->max_ranks + 63) / 64;
    p->weight = calloc(experts, sizeof *p->weight);
    p->share = calloc(experts, sizeof *p->share);
    p->copies = calloc(experts, sizeof *p->copies);
    p->pins = calloc(experts, sizeof *p->pins);
    p->placed = calloc(experts, sizeof *p->placed);
    p->first = calloc(experts + 1, sizeof *p->first);
    p->holder = calloc(slots, sizeof *p->holder);
    p->seat = calloc(ranks, sizeof *p->seat);
    p->node = calloc(ranks, sizeof *p->node);
    p->room = calloc(ranks, sizeof *p->room);
    p->used = calloc(ranks, sizeof *p->used);
    p->mark = calloc(ranks, sizeof *p->mark);
    p->item = calloc(slots, sizeof *p->item);
    p->load = calloc(ranks, sizeof *p->load);
    p->apart = calloc(ranks * (size_t)p->words, sizeof *p->apart);
    p->shared = calloc(ranks * ranks, sizeof *p->shared);
    if (!p->weight || !p->share || !p->copies || !p->pins || !p->placed || !p->first ||
        !p->holder || !p->seat || !p->node || !p->room || !p->used || !p->mark || !p->item ||
        !p->load || !p->apart || !p->shared) {
        eepi_packing_free(p);
        return NULL;
    }
    return p;
}

void eepi_packing_free(eepi_packing *p)
{
    if (!p) {
        return;
    }
    free(p->weight);
    free(p->share);
    free(p->copies);
    free(p->pins);
    free(p->placed);
    free(p->first);
    free(p->holder);
    free(p->seat);
    free(p->node);
    free(p->room);
    free(p->used);
    free(p->mark);
    free(p->item);
    free(p->load);
    free(p->apart);
    free(p->shared);
    free(p);
}

/* ---------------------------------------------------------------- taking over a layer */

/* Bring the loads to a sum of about 2^44, so that quotients have many digits. */
static void scale_loads(eepi_packing *p, const uint32_t *loads)
{
    uint64_t total = 0;
    int up = 0, down = 0;

    for (int e = 0; e < p->num_experts; e++) {
        total += loads ? loads[e] : 0;
    }
    const bool alike = total == 0;
    total = alike ? (uint64_t)p->num_experts : total;
    while (total >> down >= (uint64_t)1 << 45) {
        down++;
    }
    while (down == 0 && total << up < (uint64_t)1 << 44) {
        up++;
    }
    p->total = 0;
    for (int e = 0; e < p->num_experts; e++) {
        p->weight[e] = (int64_t)((alike ? 1 : (uint64_t)loads[e]) << up >> down);
        p->total += p->weight[e];
    }
}

static void find_pairs_apart(eepi_packing *p)
{
    p->num_pairs = 0;
    memset(p->apart, 0, (size_t)p->num_ranks * (size_t)p->words * sizeof *p->apart);
    for (int a = 0; a < p->num_ranks; a++) {
        uint64_t *row = p->apart + (size_t)a * (size_t)p->words;
        for (int b = 0; b < p->num_ranks; b++) {
            if (eepi_spread_is_apart(&p->shape, p->distance, p->seat[a], p->seat[b])) {
                row[b >> 6] |= (uint64_t)1 << (b & 63);
                p->num_pairs += a < b;
            }
        }
    }
}

static const int32_t *pins_of(const eepi_packing *p, const eepi_layer_problem *problem, int rank)
{
    return problem->pinned + (size_t)p->seat[rank] * (size_t)p->num_slots;
}

void eepi_packing_begin(eepi_packing *p, const eepi_layer_problem *problem)
{
    const int before = p->num_ranks, distance = p->distance;
    bool same = p->shape.ranks_per_node == problem->shape.ranks_per_node &&
                p->shape.seats_per_group == problem->shape.seats_per_group;

    p->shape = problem->shape;
    p->num_experts = problem->shape.num_experts;
    p->num_slots = problem->shape.num_slots;
    p->num_nodes = eepi_view_num_nodes(&problem->shape);
    p->num_ranks = 0;
    for (int seat = 0; seat < problem->shape.max_ranks; seat++) {
        if (eepi_layer_has_rank(problem, seat)) {
            same = same && p->num_ranks < before && p->seat[p->num_ranks] == seat;
            p->node[p->num_ranks] = eepi_view_node_of(&problem->shape, seat);
            p->seat[p->num_ranks++] = seat;
        }
    }
    p->distance = eepi_spread_distance(&p->shape, p->num_ranks);
    if (!same || p->num_ranks != before || p->distance != distance) { /* alike for many layers */
        find_pairs_apart(p);
    }
    memset(p->pins, 0, (size_t)p->num_experts * sizeof *p->pins);
    for (int rank = 0; rank < p->num_ranks; rank++) {
        p->room[rank] = p->num_slots;
        for (int slot = 0; problem->pinned && slot < p->num_slots; slot++) {
            const int32_t expert = pins_of(p, problem, rank)[slot];
            if (expert >= 0) {
                p->pins[expert]++;
                p->room[rank]--;
            }
        }
    }
    scale_loads(p, problem->loads);
}

void eepi_packing_clear(eepi_packing *p, const eepi_layer_problem *problem)
{
    int doubles = 0;

    p->first[0] = 0;
    for (int e = 0; e < p->num_experts; e++) {
        assert(p->copies[e] >= p->pins[e] && p->copies[e] >= 1);
        p->first[e + 1] = p->first[e] + p->copies[e];
        p->share[e] = p->weight[e] / p->copies[e];
        p->placed[e] = 0;
        doubles += p->copies[e] == 2;
    }
    /* Two if that leaves room to choose, else the mean and one. */
    p->pair_limit = 2;
    if (p->num_pairs > 0 && 4 * doubles > 5 * p->num_pairs) {
        p->pair_limit = (doubles + p->num_pairs - 1) / p->num_pairs + 1;
    }
    memset(p->shared, 0, (size_t)p->num_ranks * (size_t)p->num_ranks * sizeof *p->shared);
    for (int rank = 0; rank < p->num_ranks; rank++) {
        p->used[rank] = 0;
        p->load[rank] = 0;
    }
    for (int rank = 0; problem->pinned && rank < p->num_ranks; rank++) {
        for (int slot = 0; slot < p->num_slots; slot++) {
            const int32_t expert = pins_of(p, problem, rank)[slot];
            if (expert >= 0) {
                eepi_packing_hold(p, expert, rank);
            }
        }
    }
}

/* ---------------------------------------------------------------- the books */

static uint16_t *shared_by(eepi_packing *p, int a, int b)
{
    return &p->shared[(size_t)a * (size_t)p->num_ranks + (size_t)b];
}

/* Count a pair of ranks that together have both copies of an expert. */
static void note_pair(eepi_packing *p, int expert, int change)
{
    const int32_t *holder = p->holder + p->first[expert];

    if (p->copies[expert] == 2 && p->placed[expert] == 2 && holder[0] != holder[1]) {
        *shared_by(p, holder[0], holder[1]) += (uint16_t)change;
        *shared_by(p, holder[1], holder[0]) += (uint16_t)change;
    }
}

void eepi_packing_hold(eepi_packing *p, int expert, int rank)
{
    assert(p->placed[expert] < p->copies[expert]);
    p->holder[p->first[expert] + p->placed[expert]++] = rank;
    p->load[rank] += p->share[expert];
    note_pair(p, expert, 1);
}

static int copy_at(const eepi_packing *p, int expert, int rank)
{
    for (int i = p->first[expert] + p->placed[expert] - 1; i >= p->first[expert]; i--) {
        if (p->holder[i] == rank) {
            return i;
        }
    }
    assert(!"a copy that is not there");
    return -1;
}

void eepi_packing_put(eepi_packing *p, int expert, int rank)
{
    int32_t *items = eepi_packing_items(p, rank);
    int at = p->used[rank]++;

    assert(p->used[rank] <= p->room[rank]);
    for (; at > 0 && p->share[items[at - 1]] < p->share[expert]; at--) {
        items[at] = items[at - 1];
    }
    items[at] = expert;
    eepi_packing_hold(p, expert, rank);
}

void eepi_packing_take(eepi_packing *p, int expert, int rank)
{
    int32_t *items = eepi_packing_items(p, rank);
    const int copy = copy_at(p, expert, rank);
    int at = 0;

    note_pair(p, expert, -1);
    p->holder[copy] = p->holder[p->first[expert] + --p->placed[expert]];
    p->load[rank] -= p->share[expert];
    while (items[at] != expert) {
        at++;
        assert(at < p->used[rank]);
    }
    p->used[rank]--;
    for (; at < p->used[rank]; at++) {
        items[at] = items[at + 1];
    }
}

bool eepi_packing_has_item(const eepi_packing *p, int rank, int expert)
{
    const int32_t *items = eepi_packing_items(p, rank);

    for (int k = 0; k < p->used[rank]; k++) {
        if (items[k] == expert) {
            return true;
        }
    }
    return false;
}

void eepi_packing_swap(eepi_packing *p, int expert_a, int a, int expert_b, int b)
{
    eepi_packing_take(p, expert_a, a);
    eepi_packing_take(p, expert_b, b);
    eepi_packing_put(p, expert_a, b);
    eepi_packing_put(p, expert_b, a);
}

/* ---------------------------------------------------------------- what is allowed */

static bool has_pair_apart(const eepi_packing *p, int expert)
{
    const int32_t *holder = p->holder + p->first[expert];
    const int num = p->placed[expert];

    for (int i = 0; i < num; i++) {
        for (int j = i + 1; j < num; j++) {
            if (eepi_packing_is_apart(p, holder[i], holder[j])) {
                return true;
            }
        }
    }
    return false;
}

int eepi_packing_fault(const eepi_packing *p, int expert)
{
    const int32_t *holder = p->holder + p->first[expert];
    const int num = p->placed[expert];
    const int least = p->copies[expert] / p->num_ranks; /* on each rank; and one more at most */
    const int most = least + (p->copies[expert] % p->num_ranks > 0);
    int fault = 0;

    if (num < 2) {
        return 0;
    }
    for (int i = 0; i < num; i++) {
        fault += p->mark[holder[i]]++ >= most;
    }
    for (int rank = 0; least > 0 && rank < p->num_ranks; rank++) {
        fault += p->mark[rank] < least ? least - p->mark[rank] : 0;
    }
    for (int i = 0; i < num; i++) {
        p->mark[holder[i]] = 0;
    }
    return 2 * fault + (p->num_pairs > 0 && !has_pair_apart(p, expert));
}

int eepi_packing_fault_if(const eepi_packing *p, int expert, int from, int to)
{
    const int copy = copy_at(p, expert, from);
    int fault;

    p->holder[copy] = to;
    fault = eepi_packing_fault(p, expert);
    p->holder[copy] = from;
    return fault;
}

bool eepi_packing_may_move(const eepi_packing *p, int expert, int from, int to)
{
    const int32_t *holder = p->holder + p->first[expert];

    if (p->copies[expert] == 1) {
        return true;
    }
    if (p->copies[expert] == 2) {
        const int other = holder[holder[0] == from];
        return eepi_packing_is_apart(p, other, to) &&
               eepi_packing_shared(p, other, to) < p->pair_limit;
    }
    return eepi_packing_fault_if(p, expert, from, to) == 0;
}

int eepi_packing_most_loaded(const eepi_packing *p)
{
    int most = 0;

    for (int rank = 1; rank < p->num_ranks; rank++) {
        if (p->load[rank] > p->load[most]) {
            most = rank;
        }
    }
    return most;
}

int64_t eepi_packing_ratio(const eepi_packing *p, int64_t load)
{
    return (int64_t)((__int128)load * EEPI_RATIO_ONE * p->num_ranks / p->total);
}
