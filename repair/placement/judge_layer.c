/* SPDX-License-Identifier: Apache-2.0 */
/* Judging a placement from its definition, apart from the code that makes placements. */
#include "repair/placement/judge_layer.h"
#include "repair/spread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is counted while the experts are looked at one after the other. */
typedef struct tally {
    const eepi_layer_problem *problem;
    const int32_t *experts;
    int ranks;
    int32_t *replicas; /* [num_experts] */
    double *load;      /* [max_ranks] */
    int32_t *on_seat;  /* [max_ranks]: replicas of the present expert */
    int32_t *lost_with,
        *lost_from;     /* [max_ranks]: with that rank; with the run that begins there */
    int32_t *lost_node; /* [max_ranks] */
    int32_t *shared;    /* [max_ranks][max_ranks] */
} tally;

static eep_status refuse(eep_status status, char *why_out, size_t why_bytes, const char *text,
                         int number)
{
    if (why_out) {
        snprintf(why_out, why_bytes, text, number);
    }
    return status;
}

static eep_status check(tally *t, char *why_out, size_t why_bytes)
{
    const eepi_view_shape *shape = &t->problem->shape;

    for (int i = 0; i < shape->max_ranks * shape->num_slots; i++) {
        const int32_t expert = t->experts[i], seat = i / shape->num_slots;
        if (expert < -1 || expert >= shape->num_experts) {
            return refuse(EEP_ERR_INVALID, why_out, why_bytes, "expert %d does not exist", expert);
        }
        if (expert >= 0 && !eepi_layer_has_rank(t->problem, seat)) {
            return refuse(EEP_ERR_INVALID, why_out, why_bytes, "seat %d has no rank", seat);
        }
        if (t->problem->pinned && t->problem->pinned[i] >= 0 && t->problem->pinned[i] != expert) {
            return refuse(EEP_ERR_INVALID, why_out, why_bytes,
                          "expert %d is not in the slot that it is pinned to",
                          t->problem->pinned[i]);
        }
        if (expert >= 0) {
            t->replicas[expert]++;
        }
    }
    for (int e = 0; e < shape->num_experts; e++) {
        if (t->replicas[e] == 0) {
            return refuse(EEP_ERR_UNCOVERED, why_out, why_bytes, "expert %d has no replica", e);
        }
    }
    return EEP_OK;
}

static double load_of(const eepi_layer_problem *problem, int expert)
{
    return problem->loads ? problem->loads[expert] : 1;
}

/* Replicas of the expert within `run` seats from `from`, round the ring. */
static int within(const tally *t, int from, int run)
{
    int count = 0;

    for (int i = 0; i < run; i++) {
        count += t->on_seat[(from + i) % t->problem->shape.max_ranks];
    }
    return count;
}

static void look_at(tally *t, int expert, eepi_layer_verdict *v)
{
    const eepi_view_shape *shape = &t->problem->shape;
    const int replicas = t->replicas[expert];
    const int nodes = eepi_view_num_nodes(shape);
    int seats = 0, first = -1, second = -1;
    bool risk = false;

    for (int seat = 0; seat < shape->max_ranks; seat++) {
        const bool has = t->on_seat[seat] > 0;
        seats += has;
        second = has && first >= 0 ? seat : second;
        first = has && first < 0 ? seat : first;
        t->load[seat] += load_of(t->problem, expert) * t->on_seat[seat] / replicas;
        const bool rank = t->on_seat[seat] == replicas;
        const bool run = within(t, seat, v->distance) == replicas;
        const bool node = nodes > 1 && seat % shape->ranks_per_node == 0 &&
                          within(t, seat,
                                 shape->ranks_per_node < shape->max_ranks - seat
                                     ? shape->ranks_per_node
                                     : shape->max_ranks - seat) == replicas;
        const bool group = shape->seats_per_group > 1 && seat % shape->seats_per_group == 0 &&
                           within(t, seat, shape->seats_per_group) == replicas;
        t->lost_with[seat] += rank;
        t->lost_from[seat] += run;
        t->lost_node[seat] += node;
        risk = risk || rank || run || node || group;
    }
    v->singles += replicas == 1;
    v->at_risk += replicas > 1 && risk;
    v->doubled += (replicas < t->ranks ? replicas : t->ranks) - seats;
    if (replicas == 2 && seats == 2) {
        t->shared[first * shape->max_ranks + second]++;
    }
}

static int32_t most_of(const int32_t *numbers, int count)
{
    int32_t most = 0;

    for (int i = 0; i < count; i++) {
        most = numbers[i] > most ? numbers[i] : most;
    }
    return most;
}

static void look_at_all(tally *t, eepi_layer_verdict *v)
{
    const eepi_view_shape *shape = &t->problem->shape;
    double most = 0, sum = 0;

    v->distance = eepi_spread_distance(shape, t->ranks);
    for (int e = 0; e < shape->num_experts; e++) {
        memset(t->on_seat, 0, (size_t)shape->max_ranks * sizeof *t->on_seat);
        for (int i = 0; i < shape->max_ranks * shape->num_slots; i++) {
            t->on_seat[i / shape->num_slots] += t->experts[i] == e;
        }
        look_at(t, e, v);
    }
    for (int seat = 0; seat < shape->max_ranks; seat++) {
        most = t->load[seat] > most ? t->load[seat] : most;
        sum += t->load[seat];
    }
    v->ratio = sum > 0 ? (uint32_t)(most * t->ranks / sum * EEPI_RATIO_ONE + 0.5) : EEPI_RATIO_ONE;
    v->lost_rank = most_of(t->lost_with, shape->max_ranks);
    v->lost_node = most_of(t->lost_node, shape->max_ranks);
    v->lost_run = most_of(t->lost_from, shape->max_ranks);
    v->most_shared = most_of(t->shared, shape->max_ranks * shape->max_ranks);
}

eep_status eepi_judge_layer(const eepi_layer_problem *problem, const int32_t *experts,
                            eepi_layer_verdict *verdict_out, char *why_out, size_t why_bytes)
{
    const size_t seats = (size_t)problem->shape.max_ranks;
    tally t = {.problem = problem, .experts = experts};
    eepi_layer_verdict v = {0};
    eep_status status = EEP_ERR_NO_MEMORY;

    for (int seat = 0; seat < problem->shape.max_ranks; seat++) {
        t.ranks += eepi_layer_has_rank(problem, seat);
    }
    t.replicas = calloc((size_t)problem->shape.num_experts, sizeof *t.replicas);
    t.load = calloc(seats, sizeof *t.load);
    t.on_seat = calloc(4 * seats + seats * seats, sizeof *t.on_seat);
    if (t.replicas && t.load && t.on_seat) {
        t.lost_with = t.on_seat + seats;
        t.lost_from = t.lost_with + seats;
        t.lost_node = t.lost_from + seats;
        t.shared = t.lost_node + seats;
        status = check(&t, why_out, why_bytes);
    }
    if (status == EEP_OK) {
        look_at_all(&t, &v);
        *verdict_out = v;
    }
    free(t.on_seat);
    free(t.load);
    free(t.replicas);
    return status;
}
