/* SPDX-License-Identifier: Apache-2.0 */
/* The split of an expert's tokens: shares first, then own rank, own node, the others. */
#include "repair/split.h"

#include <string.h>

enum { WHOLE = 65536 }; /* of eepk_replica.from */

/* Replicas of one expert on one node, and what its ranks send. The unit is what one rank has for
 * the expert. */
typedef struct node_split {
    int node;
    uint32_t end;     /* of its replicas in the list */
    double own;       /* that its ranks keep to themselves */
    double wants;     /* that its replicas are to get beyond that, */
    double from_node; /* of which so much comes from its own ranks */
    double has;       /* that its ranks have beyond their own */
} node_split;

typedef struct expert_split {
    const eepi_split_sources *sources;
    const eepk_replica *replicas;
    uint32_t num;
    double per_weight; /* tokens for each unit of share */
    bool is_even;
} expert_split;

static int node_of(const eepi_split_sources *sources, int seat)
{
    return sources->ranks_per_node > 0 ? seat / sources->ranks_per_node : 0;
}

void eepi_split_sources_fill(const eepi_view *view, int source, eepi_split_sources *sources_out)
{
    memset(sources_out, 0, sizeof *sources_out);
    sources_out->source = source;
    sources_out->ranks_per_node = view->shape.ranks_per_node;
    for (int seat = 0; seat < view->shape.max_ranks; seat++) {
        if (eepi_view_is_member(view, seat)) {
            sources_out->num_active++;
            sources_out->in_node[node_of(sources_out, seat)]++;
        }
    }
}

/* What the replica is to get in all. */
static double wanted(const expert_split *e, uint32_t i)
{
    return e->per_weight * (e->is_even ? 1.0 : (double)e->replicas[i].from);
}

/* What the seat of replica i is to get in all; `end_out` is behind its replicas. */
static double wanted_of_seat(const expert_split *e, uint32_t i, uint32_t *end_out)
{
    const uint16_t seat = e->replicas[i].seat;
    double sum = 0.0;

    while (i < e->num && e->replicas[i].seat == seat) {
        sum += wanted(e, i++);
    }
    *end_out = i;
    return sum;
}

static double at_most_one(double value)
{
    return value < 1.0 ? value : 1.0;
}

static double at_least_zero(double value)
{
    return value > 0.0 ? value : 0.0;
}

/* The node whose first replica is i. */
static node_split node_at(const expert_split *e, uint32_t i)
{
    node_split n = {.node = node_of(e->sources, e->replicas[i].seat), .end = i};

    while (n.end < e->num && node_of(e->sources, e->replicas[n.end].seat) == n.node) {
        double seat = wanted_of_seat(e, n.end, &n.end);
        n.own += at_most_one(seat);
        n.wants += seat - at_most_one(seat);
    }
    n.has = at_least_zero((double)e->sources->in_node[n.node] - n.own);
    n.from_node = n.has < n.wants ? n.has : n.wants;
    return n;
}

/* How the source's own tokens divide: 1 in all. */
typedef struct source_split {
    double own, to_node, to_rest;
    double rest; /* that all replicas get from beyond their nodes, of all sources */
} source_split;

static source_split split_source(const expert_split *e)
{
    const int seat = e->sources->source, node = node_of(e->sources, seat);
    source_split s = {0};
    double to_node = 0.0; /* of what a rank has left, the part that its node takes */

    for (uint32_t i = 0; i < e->num;) {
        const node_split n = node_at(e, i);
        s.rest += n.wants - n.from_node;
        if (n.node == node && n.has > 0.0) {
            to_node = n.from_node / n.has;
        }
        for (uint32_t end; n.node == node && i < n.end; i = end) {
            double all = wanted_of_seat(e, i, &end);
            if (e->replicas[i].seat == seat) {
                s.own = at_most_one(all);
            }
        }
        i = n.end;
    }
    s.to_node = (1.0 - s.own) * to_node;
    s.to_rest = (1.0 - s.own) - s.to_node;
    return s;
}

/* What the source sends to replica i of node `n`, whose seat is to get `seat` in all. */
static double part_of(const expert_split *e, const source_split *s, const node_split *n, uint32_t i,
                      double seat)
{
    const double of_seat = seat > 0.0 ? wanted(e, i) / seat : 0.0;
    const double left = of_seat * (seat - at_most_one(seat));
    double part = 0.0;

    if (e->replicas[i].seat == e->sources->source) {
        part += s->own * of_seat;
    }
    if (n->wants <= 0.0) {
        return part;
    }
    if (n->node == node_of(e->sources, e->sources->source)) {
        part += s->to_node * left / n->wants;
    }
    if (s->rest > 0.0) {
        part += s->to_rest * left * (1.0 - n->from_node / n->wants) / s->rest;
    }
    return part;
}

static expert_split open_split(const eepi_split_sources *sources, const eepk_replica *replicas,
                               uint32_t num)
{
    expert_split e = {.sources = sources, .replicas = replicas, .num = num};
    double sum = 0.0;

    for (uint32_t i = 0; i < num; i++) {
        sum += (double)replicas[i].from;
    }
    e.is_even = sum == 0.0;
    e.per_weight = (double)sources->num_active / (e.is_even ? (double)num : sum);
    return e;
}

/* List replica `from` as number `to`, if it gets any of the WHOLE; `sum` is what it and those
 * before it get. What is listed was read before. */
static uint32_t list_part(eepk_replica *replicas, uint32_t from, uint32_t to, uint32_t before,
                          uint32_t end)
{
    if (end <= before) {
        return to;
    }
    replicas[to] = replicas[from];
    replicas[to].from = (uint16_t)before;
    replicas[to].pad = 0;
    return to + 1;
}

uint32_t eepi_split_expert(const eepi_split_sources *sources, eepk_replica *replicas, uint32_t num)
{
    const expert_split e = open_split(sources, replicas, num);
    const source_split s = split_source(&e);
    double sum = 0.0;
    uint32_t listed = 0, before = 0;

    for (uint32_t i = 0; i < num;) {
        const node_split n = node_at(&e, i);
        while (i < n.end) {
            uint32_t end_of_seat;
            const double seat = wanted_of_seat(&e, i, &end_of_seat);
            for (; i < end_of_seat; i++) {
                uint32_t end;
                sum += part_of(&e, &s, &n, i, seat);
                end = i + 1 == num ? WHOLE : (uint32_t)(at_most_one(sum) * WHOLE + 0.5);
                listed = list_part(replicas, i, listed, before, end);
                before = end > before ? end : before;
            }
        }
    }
    return listed;
}
